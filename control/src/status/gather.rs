//! Looking: a host, and the Bitcoin nodes on it. Stands alone so that what is made of it is pure, and so that each host
//! can be looked at by itself, in its own time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use sovereign_config::stack::model;
use tokio::time::{Instant, sleep, timeout};

use super::updates::{self, Updates};
use super::{NodeSeen, NodeStatus};
use crate::bitcoin::{self, Seen, Trail};
use crate::context::Loaded;
use crate::engine::{self, Engine, Project};
use crate::failure;
use crate::observe::{ObservedHost, ObservedService, Slot, Unseen, observe};
use crate::ssh::{Connect, Remote};

/// How far the two looks are apart from which an estimate is made.
const APART: Duration = Duration::from_secs(4);
/// How often a host is asked for updates.
const UPDATES: Duration = Duration::from_secs(600);
/// How long asking a node may take.
const NODE: Duration = Duration::from_secs(25);

/// What was seen of a host.
#[derive(Debug, Clone)]
pub struct Look {
    /// Its name.
    pub host: String,
    /// What is on it, or why it was not seen.
    pub seen: Result<ObservedHost, Unseen>,
    /// Its Bitcoin nodes, by the name of their service.
    pub nodes: BTreeMap<String, NodeLook>,
    /// Updates that it waits for, where that is known.
    pub updates: Option<Updates>,
}

/// What was seen of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeLook {
    /// What it says, or why it says nothing.
    pub seen: Result<Seen, String>,
    /// How long it takes until it has the whole chain.
    pub left: Option<Duration>,
}

/// Who is asked on a host.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The host.
    pub host: model::Host,
    /// Services on it that are Bitcoin nodes.
    pub nodes: Vec<String>,
}

/// How fast nodes are, from one look to the next.
#[derive(Debug)]
pub struct Pace {
    since: Instant,
    trails: HashMap<String, Trail>,
    /// What updates there were at the last look at them.
    updates: Option<(Instant, Option<Updates>)>,
    /// It was looked only once: a second look is taken at once where an estimate needs one.
    twice: bool,
}

impl Pace {
    /// For a single look, which takes another one where an estimate needs it.
    pub fn once() -> Self {
        Self {
            since: Instant::now(),
            trails: HashMap::new(),
            updates: None,
            twice: true,
        }
    }

    /// For one look after the other.
    pub fn again_and_again() -> Self {
        Self {
            twice: false,
            ..Self::once()
        }
    }
}

/// The services of a stack on a host that are Bitcoin nodes.
pub fn nodes(loaded: &Loaded, host: &str) -> Vec<String> {
    let on_host = loaded
        .stack
        .services
        .iter()
        .filter(|service| service.host == host);
    let nodes = on_host.filter(|service| service.kind == bitcoin::KIND);
    nodes.map(|service| service.name.clone()).collect()
}

/// Looks at a host, and asks its nodes.
pub async fn look(connect: Arc<dyn Connect>, asked: &Asked, pace: &mut Pace) -> Look {
    let host = asked.host.name.clone();
    let mut observed = observe(std::slice::from_ref(&asked.host), Arc::clone(&connect)).await;
    let broken = || {
        Err(Unseen {
            why: "looking at it ended early".to_owned(),
            hint: None,
        })
    };
    let seen = observed.hosts.pop().map_or_else(broken, |(_, seen)| seen);
    let mut look = Look {
        host,
        seen,
        nodes: BTreeMap::new(),
        updates: None,
    };
    if look.seen.is_ok()
        && let Ok(Ok(remote)) = timeout(NODE, connect.connect(&asked.host)).await
    {
        look.updates = waiting(remote.as_ref(), pace).await;
        look.nodes = ask_nodes(&look, remote, asked, pace).await;
    }
    look
}

/// Updates change once a day, and are asked for now and then.
async fn waiting(remote: &dyn Remote, pace: &mut Pace) -> Option<Updates> {
    match &pace.updates {
        Some((at, known)) if at.elapsed() < UPDATES => known.clone(),
        _ => {
            let found = updates::look(remote).await;
            pace.updates = Some((Instant::now(), found.clone()));
            found
        }
    }
}

async fn ask_nodes(
    look: &Look,
    remote: Arc<dyn Remote>,
    asked: &Asked,
    pace: &mut Pace,
) -> BTreeMap<String, NodeLook> {
    let engine = engine::of(asked.host.engine, remote);
    let mut nodes = BTreeMap::new();
    for name in &asked.nodes {
        let service = look
            .seen
            .as_ref()
            .ok()
            .and_then(|seen| seen.services.get(name));
        if let Some(slot) = service.and_then(runs_in) {
            let project = Project::service(name, slot);
            nodes.insert(name.clone(), node(engine.as_ref(), &project, pace).await);
        }
    }
    nodes
}

/// Where something of a service runs.
fn runs_in(service: &ObservedService) -> Option<Slot> {
    let current = service.current.as_ref().map(|current| current.slot);
    let runs = |slot: &Slot| {
        service
            .running
            .get(slot)
            .is_some_and(|containers| !containers.is_empty())
    };
    current
        .filter(runs)
        .or_else(|| service.running.keys().copied().find(|slot| runs(slot)))
}

async fn node(engine: &dyn Engine, project: &Project, pace: &mut Pace) -> NodeLook {
    let mut seen = ask(engine, project).await;
    let twice = pace.twice;
    let since = pace.since;
    let trail = pace.trails.entry(project.name().to_owned()).or_default();
    if note(&seen, since, trail) && twice {
        sleep(APART).await;
        seen = ask(engine, project).await;
        note(&seen, since, trail);
    }
    let behind = matches!(&seen, Ok(Seen::Answers(node)) if !node.synced);
    NodeLook {
        left: trail.left().filter(|_| behind),
        seen,
    }
}

/// Takes a look into account; whether the node is still on its way.
fn note(seen: &Result<Seen, String>, since: Instant, trail: &mut Trail) -> bool {
    let Ok(Seen::Answers(node)) = seen else {
        return false;
    };
    trail.add(since.elapsed(), node);
    !node.synced
}

async fn ask(engine: &dyn Engine, project: &Project) -> Result<Seen, String> {
    match timeout(NODE, bitcoin::look(engine, project)).await {
        Ok(seen) => seen.map_err(|error| failure::chain(&error)),
        Err(_) => Err(format!("it did not answer within {} s", NODE.as_secs())),
    }
}

impl NodeLook {
    /// As a status has it.
    pub(super) fn status(&self) -> NodeStatus {
        let seen = match &self.seen {
            Ok(seen) => NodeSeen::Said(seen.clone()),
            Err(why) => NodeSeen::Silent {
                state: "silent",
                why: super::words::line(why),
            },
        };
        NodeStatus {
            seen,
            left_seconds: self.left.map(|left| left.as_secs()),
        }
    }
}
