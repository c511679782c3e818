//! A host for tests of applying: its files are real ones in a folder of this machine, placed by the real commands; its
//! engine and its running proxy are values. A fuse makes any one of all operations the last one, in several ways.

// Its engine.
mod engine;

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{At, Ground, Tools, Watch};
use crate::desired::Revision;
use crate::host::{Host, Layout};
use crate::observe::{
    Container, EngineState, Health, ObservedHost, ObservedProxy, ObservedService, Slot,
};
use crate::plan::Step;
use crate::ssh::double::Here;
use crate::ssh::{Connect, Each, Error, Held, Input, Output, Remote};

/// How an operation goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blow {
    /// The host says no.
    Fails,
    /// The connection is lost before it is done.
    Cut,
    /// This program is killed before it is done.
    KilledBefore,
    /// This program is killed after it is done.
    KilledAfter,
}

/// What a host is, beside its files.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// What runs, by project: from which file, at which port, and whether it is well.
    pub(super) projects: BTreeMap<String, Running>,
    /// Images that lie there.
    pub(super) images: BTreeSet<String>,
    /// Revisions that never get healthy.
    pub(super) sick: BTreeSet<Revision>,
    /// The configuration that the running proxy has read.
    pub(super) proxy: Option<String>,
    /// The program that it runs.
    pub(super) program: String,
    /// What its configuration must not have.
    pub(super) refuses: Option<String>,
    /// Everything that was done, but for files.
    pub(super) done: Vec<String>,
    /// After how many more operations something goes wrong, and how.
    fuse: Option<(usize, Blow)>,
    /// How many operations there were.
    pub(super) count: usize,
    /// The passwords that databases keep, by service.
    pub(super) passwords: BTreeMap<String, String>,
    /// What a Bitcoin node says of its chain.
    pub(super) chain: String,
    /// Each must be there while everything is applied: a service that visitors must reach, by its usual port.
    pub(super) must_serve: Vec<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) revision: Revision,
    pub(super) port: Option<u16>,
    pub(super) well: bool,
}

/// A host.
#[derive(Clone)]
pub(super) struct World {
    state: Arc<Mutex<State>>,
    layout: Layout,
    /// This program was killed.
    pub(super) killed: Arc<Notify>,
}

impl World {
    /// In this folder.
    pub(super) fn new(folder: &Path) -> Self {
        let layout = Layout::at(&folder.display().to_string());
        Self {
            state: Arc::default(),
            layout,
            killed: Arc::default(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the operation after so many others go wrong.
    pub(super) fn lay_fuse(&self, after: usize, blow: Blow) {
        self.state().fuse = Some((after, blow));
    }

    pub(super) fn without_fuse(&self) {
        self.state().fuse = None;
    }

    /// What is applied to.
    pub(super) fn ground(&self) -> Ground {
        Ground {
            host: self.host(),
            engine: Box::new(self.clone()),
        }
    }

    fn host(&self) -> Host {
        Host::new(Arc::new(self.clone())).at(self.layout.clone())
    }

    /// What applying is done with.
    pub(super) fn tools(&self) -> Tools {
        let stop = tokio::sync::watch::channel(false).1;
        Tools {
            connect: Arc::new(self.clone()),
            by: "ann@laptop".to_owned(),
            watch: Arc::new(Deaf),
            stop,
        }
    }

    /// Looks at it as `observe` does.
    pub(super) async fn look(&self) -> ObservedHost {
        let lying = self.host().read().await.expect("it is read");
        let mut services: BTreeMap<String, ObservedService> = BTreeMap::new();
        for (name, one) in lying.services {
            let (current, files, revisions) = (one.current, one.files, one.revisions);
            services.insert(
                name,
                ObservedService {
                    current,
                    files,
                    revisions,
                    running: BTreeMap::new(),
                },
            );
        }
        for (project, running) in &self.state().projects {
            let Some(name) = project.strip_prefix("sovereign-") else {
                continue;
            };
            let (name, slot) = name
                .strip_suffix("-b")
                .map_or((name, Slot::A), |name| (name, Slot::B));
            services
                .entry(name.to_owned())
                .or_default()
                .running
                .insert(slot, vec![container(running)]);
        }
        let state = self.state();
        let status = match state.proxy {
            Some(_) => Ok(serde_json::json!({})),
            None => Err("connection refused".to_owned()),
        };
        let files = lying.proxy_files;
        ObservedHost {
            engine: EngineState::Up("27.0.0".to_owned()),
            compose: Some("2.29.0".to_owned()),
            services,
            proxy: lying.proxy.map(|now| ObservedProxy {
                revision: now.revision,
                program: now.program,
                files,
                status,
            }),
            images: state.images.clone(),
            programs: lying.programs,
            deployments: lying.deployments,
            ..ObservedHost::default()
        }
    }

    /// One operation: counted, and perhaps the last.
    async fn one(&self) -> Result<Option<Blow>, Blow> {
        let blow = {
            let mut state = self.state();
            state.count += 1;
            self.serves(&state);
            match state.fuse {
                Some((0, blow)) => {
                    state.fuse = None;
                    Some(blow)
                }
                Some((left, blow)) => {
                    state.fuse = Some((left - 1, blow));
                    None
                }
                None => None,
            }
        };
        match blow {
            Some(Blow::KilledBefore) => {
                self.dies().await;
                Ok(None)
            }
            Some(blow @ (Blow::Fails | Blow::Cut)) => Err(blow),
            other => Ok(other),
        }
    }

    async fn after(&self, blow: Option<Blow>) {
        if blow == Some(Blow::KilledAfter) {
            self.dies().await;
        }
    }

    /// Goes no further: whoever waits for it drops it.
    async fn dies(&self) {
        self.killed.notify_one();
        pending::<()>().await;
    }

    /// What must be reached is: the port that the running proxy sends its visitors to has something well behind it.
    fn serves(&self, state: &State) {
        let Some(proxy) = &state.proxy else { return };
        for usual in &state.must_serve {
            let ports = [*usual, *usual + crate::desired::SLOT_B];
            let sent = ports
                .into_iter()
                .find(|port| proxy.contains(&format!("127.0.0.1:{port}")));
            let Some(sent) = sent else { continue };
            let mut behind = state
                .projects
                .values()
                .filter(|running| running.port == Some(sent));
            assert!(
                behind.any(|running| running.well),
                "nothing serves port {sent}: {:?}",
                state.projects
            );
        }
    }

    /// What the program of the proxy does.
    fn proxy(&self, argv: &[&str]) -> Output {
        let live = format!("{}/proxy/live/proxy.toml", self.layout.root());
        let mut state = self.state();
        state.done.push(format!("proxy {}", argv[1]));
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let text = if argv[1] == "check" {
            read(argv[3])
        } else {
            read(&live)
        };
        if text.is_empty()
            || state
                .refuses
                .as_ref()
                .is_some_and(|word| text.contains(word))
        {
            return Output {
                code: 1,
                stderr: "it is refused".to_owned(),
                ..Output::default()
            };
        }
        if argv[1] != "check" {
            state.proxy = Some(text);
        }
        if argv[1] == "upgrade" {
            state.program = argv[5].to_owned();
        }
        Output::default()
    }

    fn done(&self, what: String) {
        self.state().done.push(what);
    }

    fn failed(&self, argv: &[&str], blow: Blow) -> Error {
        match blow {
            Blow::Cut => Error::Lost {
                host: "h1".to_owned(),
                command: argv.join(" "),
                source: None,
            },
            _ => {
                let stderr = "No space left on device".to_owned();
                Error::failed(
                    "h1",
                    argv,
                    &Output {
                        code: 1,
                        stderr,
                        ..Output::default()
                    },
                )
            }
        }
    }
}

fn container(running: &Running) -> Container {
    Container {
        part: "app".to_owned(),
        image: String::new(),
        revision: Some(running.revision.clone()),
        health: if running.well {
            Health::Healthy
        } else {
            Health::Unhealthy(String::new())
        },
        restarts: 0,
        since: String::new(),
    }
}

/// Hears nothing.
struct Deaf;

impl Watch for Deaf {
    fn begins(&self, _: &str, _: At, _: &Step) {}
    fn moved(&self, _: &str, _: u64, _: u64) {}
    fn waits(&self, _: &str, _: Option<(u64, u64)>, _: &str) {}
    fn ends(&self, _: &str, _: &Step, _: bool) {}
}

#[async_trait]
impl Connect for World {
    async fn connect(
        &self,
        _: &sovereign_config::stack::model::Host,
    ) -> Result<Arc<dyn Remote>, Error> {
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Remote for World {
    fn name(&self) -> &str {
        "h1"
    }

    async fn output(
        &self,
        argv: &[&str],
        input: Input<'_>,
        deadline: Duration,
    ) -> Result<Output, Error> {
        let blow = self.one().await.map_err(|blow| self.failed(argv, blow))?;
        let output = match argv[0] {
            program if program.contains("/bin/sovereign-proxy-") => self.proxy(argv),
            "sync" => Output::default(),
            _ => Here.output(argv, input, deadline).await?,
        };
        self.after(blow).await;
        Ok(output)
    }

    async fn lines(&self, argv: &[&str], each: Each<'_>) -> Result<i32, Error> {
        Here.lines(argv, each).await
    }

    async fn hold(&self, argv: &[&str], line: &str, busy: i32) -> Result<Option<Held>, Error> {
        Here.hold(argv, line, busy).await
    }
}
