//! The proxy of a host: started, reloaded, upgraded. Stands alone because of its order: a configuration is tried by
//! the program that will read it before anything moves, the links that a restart goes by move with what runs, and what
//! is refused leaves everything as it was.

use std::time::Duration;

use sovereign_config::stack::model::ProxyAs;

use super::{Ground, StepError};
use crate::desired::Revision;
use crate::desired::run::{NAME, Place, place, takes};
use crate::engine::Project;
use crate::host::Whose;
use crate::observe::DeployedProxy;
use crate::plan::ProxyChange;
use crate::ssh::{Error, Input, LOOK, Output};

/// How long starting it may take.
const START: Duration = Duration::from_secs(150);
/// How long ending it may take: requests under way are answered first.
const END: Duration = Duration::from_secs(120);
/// How long it may take to read a configuration, or to hand over to its successor.
const CHANGE: Duration = Duration::from_secs(90);
/// Where the system's own manager looks for units.
const UNITS: &str = "/etc/systemd/system/";
/// What a failure is told by.
const WHAT: &str = "the proxy";

/// Starts it, in the way that it should run; the other way is ended first, and goes on where this one does not come up.
pub(super) async fn start(ground: &Ground, change: &ProxyChange) -> Result<(), StepError> {
    let proxy = Proxy {
        ground,
        change,
        place: place(change.runs),
    };
    proxy.check().await?;
    let Err(error) = proxy.takes_over().await else {
        return proxy.is_in_force().await;
    };
    if error.is_cut_off() {
        return Err(error);
    }
    let (what, source) = (WHAT.to_owned(), Box::new(error));
    let Some(before) = &change.before else {
        return Err(StepError::First { what, source });
    };
    let back = ProxyChange {
        now: before.clone(),
        runs: change.was.unwrap_or(change.runs),
        before: None,
        was: change.was.map(|_| change.runs),
    };
    let back = Proxy {
        ground,
        change: &back,
        place: place(back.runs),
    };
    Err(match back.takes_over().await {
        Ok(()) => StepError::PutBack { what, source },
        Err(again) => StepError::Down {
            what,
            again: again.to_string(),
            source,
        },
    })
}

/// Has the running one read a new configuration.
pub(super) async fn reload(ground: &Ground, change: &ProxyChange) -> Result<(), StepError> {
    let proxy = Proxy {
        ground,
        change,
        place: place(change.runs),
    };
    proxy.check().await?;
    let admin = proxy.place.admin;
    let program = proxy.program(&change.now);
    proxy.told(&[&program, "reload", "--admin", admin]).await?;
    proxy.units(&change.now.revision).await?;
    proxy.is_in_force().await
}

/// Has the running one replaced by a new program.
pub(super) async fn upgrade(ground: &Ground, change: &ProxyChange) -> Result<(), StepError> {
    let proxy = Proxy {
        ground,
        change,
        place: place(change.runs),
    };
    proxy.check().await?;
    let (admin, program) = (proxy.place.admin, proxy.program(&change.now));
    let as_it_sees = format!("{}/{NAME}-{}", proxy.place.programs, change.now.program);
    proxy
        .told(&[
            &program,
            "upgrade",
            "--admin",
            admin,
            "--program",
            &as_it_sees,
        ])
        .await?;
    proxy.points_to(&change.now).await?;
    proxy.units(&change.now.revision).await?;
    proxy.is_in_force().await
}

struct Proxy<'a> {
    ground: &'a Ground,
    change: &'a ProxyChange,
    place: Place,
}

impl Proxy<'_> {
    /// Whether the new program takes the new configuration.
    async fn check(&self) -> Result<(), StepError> {
        let program = self.program(&self.change.now);
        let config = format!("{}/proxy.toml", self.folder(&self.change.now.revision));
        let checked = self
            .run(&[&program, "check", "--config", &config], LOOK)
            .await;
        match (checked, &self.change.before) {
            (Err(error), Some(_)) if !error.is_cut_off() => Err(kept(error)),
            (checked, _) => checked,
        }
    }

    /// Tells the running one of the new configuration; where it refuses, the one before stays.
    async fn told(&self, argv: &[&str]) -> Result<(), StepError> {
        self.reads(&self.change.now.revision).await?;
        let Err(error) = self.run(argv, CHANGE).await else {
            return Ok(());
        };
        if error.is_cut_off() {
            return Err(error);
        }
        if let Some(before) = &self.change.before {
            self.reads(&before.revision).await?;
        }
        Err(kept(error))
    }

    /// Has everything that starts it by its links go by these.
    async fn points_to(&self, to: &DeployedProxy) -> Result<(), StepError> {
        let layout = self.ground.host.layout();
        let link = format!("{}/{NAME}", layout.programs());
        self.link(&format!("{NAME}-{}", to.program), &link).await?;
        let live = format!("{}/live", layout.home(&Whose::Proxy));
        self.link(&to.revision.0, &live).await
    }

    /// Puts a configuration in the place where the running one reads it.
    async fn reads(&self, revision: &Revision) -> Result<(), StepError> {
        let live = format!("{}/live", self.ground.host.layout().home(&Whose::Proxy));
        self.link(&revision.0, &live).await?;
        match self.change.runs {
            ProxyAs::Container => Ok(()),
            ProxyAs::Systemd => {
                for argv in takes(&self.ground.host.layout().home(&Whose::Proxy)) {
                    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
                    self.run(&argv, LOOK).await?;
                }
                Ok(())
            }
        }
    }

    /// A link is replaced as a whole: there is no moment without it.
    async fn link(&self, to: &str, at: &str) -> Result<(), StepError> {
        let new = format!("{at}.new");
        self.run(&["ln", "-sfn", "--", to, &new], LOOK).await?;
        self.run(&["mv", "-T", "--", &new, at], LOOK).await
    }

    /// Starts it by its links, in place of what runs.
    async fn takes_over(&self) -> Result<(), StepError> {
        let now = &self.change.now;
        self.end_the_other().await?;
        self.points_to(now).await?;
        match self.change.runs {
            ProxyAs::Systemd => self.begin_unit(&now.revision).await,
            ProxyAs::Container => self.begin_container(&now.revision).await,
        }
    }

    async fn begin_unit(&self, revision: &Revision) -> Result<(), StepError> {
        let (service, socket) = (format!("{NAME}.service"), format!("{NAME}.socket"));
        self.units(revision).await?;
        self.run(&["systemctl", "stop", &service, &socket], END)
            .await?;
        self.run(&["systemctl", "enable", "--quiet", &service, &socket], LOOK)
            .await?;
        match self
            .run(&["systemctl", "start", &socket, &service], START)
            .await
        {
            Err(StepError::Host(Error::Failed {
                host,
                command,
                code,
                said,
            })) => {
                let said = self.last_words(&service).await.unwrap_or(said);
                Err(Error::Failed {
                    host,
                    command,
                    code,
                    said,
                }
                .into())
            }
            started => started,
        }
    }

    /// What the unit logged last, which says more than `systemctl`.
    async fn last_words(&self, service: &str) -> Option<String> {
        let argv = [
            "journalctl",
            "--unit",
            service,
            "--lines",
            "8",
            "--no-pager",
            "--output",
            "cat",
        ];
        let output: Output = self
            .ground
            .host
            .remote()
            .run(&argv, Input::nothing(), LOOK)
            .await
            .ok()?;
        Some(output.text()).filter(|text| !text.trim().is_empty())
    }

    async fn begin_container(&self, revision: &Revision) -> Result<(), StepError> {
        let home = self.ground.host.layout().home(&Whose::Proxy);
        let (state, run) = (format!("{home}/state"), format!("{home}/run"));
        self.run(&["install", "-d", "-m", "0700", "--", &state, &run], LOOK)
            .await?;
        let file = self.ground.host.layout().compose(&Whose::Proxy, revision);
        // One that does not answer would be left as it is.
        self.ground.engine.remove(&Project::proxy()).await?;
        Ok(self
            .ground
            .engine
            .up(&Project::proxy(), &file, START)
            .await?)
    }

    /// Lays down the units of a revision, for the next start.
    async fn units(&self, revision: &Revision) -> Result<(), StepError> {
        if self.change.runs == ProxyAs::Container {
            return Ok(());
        }
        let unit = |kind: &str| format!("{}/{NAME}.{kind}", self.folder(revision));
        let (service, socket) = (unit("service"), unit("socket"));
        self.run(
            &["install", "-m", "0644", "--", &service, &socket, UNITS],
            LOOK,
        )
        .await?;
        self.run(&["systemctl", "daemon-reload"], LOOK).await
    }

    async fn end_the_other(&self) -> Result<(), StepError> {
        match self.change.was {
            None => Ok(()),
            Some(ProxyAs::Container) => Ok(self.ground.engine.remove(&Project::proxy()).await?),
            Some(ProxyAs::Systemd) => {
                let (service, socket) = (format!("{NAME}.service"), format!("{NAME}.socket"));
                self.run(
                    &[
                        "systemctl",
                        "disable",
                        "--quiet",
                        "--now",
                        &service,
                        &socket,
                    ],
                    END,
                )
                .await
            }
        }
    }

    async fn is_in_force(&self) -> Result<(), StepError> {
        Ok(self.ground.host.set_proxy(&self.change.now).await?)
    }

    fn program(&self, of: &DeployedProxy) -> String {
        self.ground.host.layout().program(&of.program)
    }

    fn folder(&self, revision: &Revision) -> String {
        self.ground.host.layout().revision(&Whose::Proxy, revision)
    }

    async fn run(&self, argv: &[&str], deadline: Duration) -> Result<(), StepError> {
        self.ground
            .host
            .remote()
            .run(argv, Input::nothing(), deadline)
            .await?;
        Ok(())
    }
}

/// The running one was not touched.
fn kept(error: StepError) -> StepError {
    StepError::Kept {
        what: WHAT.to_owned(),
        source: Box::new(error),
    }
}
