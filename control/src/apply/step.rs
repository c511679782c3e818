//! One step on a host. Stands alone so that what a step does, and in which order it becomes true, can be read at once:
//! what is in force is written down only after it is well.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Ground, StepError, Tools, node, proxy};
use crate::desired::{Image, Revision};
use crate::engine::Project;
use crate::host::Whose;
use crate::observe::{Current, Deployment, Slot};
use crate::plan::{Action, NewSecret, Run, Step, Subject};
use crate::ssh::{self, Input, Output};

/// How long it may take to change a secret in a part.
const ROTATE: Duration = Duration::from_secs(60);

/// Does a step.
pub(super) async fn run(
    ground: &Ground,
    step: &Step,
    before: &[Deployment],
    tools: &Tools,
) -> Result<(), StepError> {
    let Ground { host, engine } = ground;
    let whose = whose(&step.subject);
    match &step.action {
        Action::Archive => Ok(()),
        Action::Image(image) => bring(ground, image, tools).await,
        Action::Place { revision, files } => Ok(host.place(&whose, revision, files).await?),
        Action::PlaceProgram(program) => {
            let size = tokio::fs::metadata(&program.path)
                .await
                .map_or(0, |file| file.len());
            let name = host.remote().name();
            let moved = |done| tools.watch.moved(name, done, size);
            Ok(host
                .place_program(&program.path, &program.digest, &moved)
                .await?)
        }
        Action::AwaitBitcoin { slot, patience } => {
            let node = name(&step.subject);
            let project = Project::service(node, *slot);
            node::wait(ground, node, &project, *patience, tools).await
        }
        Action::Rotate { slot, to } => {
            let service = name(&step.subject);
            rotate(ground, service, &Project::service(service, *slot), to).await
        }
        Action::Start {
            revision,
            slot,
            before,
            back,
            run,
        } => {
            let service = Service {
                ground,
                name: name(&step.subject),
                slot: *slot,
                run,
            };
            service.start(revision, before.as_ref(), back).await
        }
        Action::StartBeside {
            revision,
            slot,
            run,
        } => {
            let service = Service {
                ground,
                name: name(&step.subject),
                slot: *slot,
                run,
            };
            service.start_beside(revision).await
        }
        Action::StopBeside { slot } => Ok(engine
            .remove(&Project::service(name(&step.subject), *slot))
            .await?),
        Action::Remove => remove(ground, name(&step.subject)).await,
        Action::StartProxy(change) => proxy::start(ground, change).await,
        Action::ReloadProxy(change) => proxy::reload(ground, change).await,
        Action::UpgradeProxy(change) => proxy::upgrade(ground, change).await,
        Action::Record {
            services,
            options,
            proxy,
        } => {
            let (services, options, proxy) = (services.clone(), options.clone(), proxy.clone());
            // The number is given by the host's own record.
            let deployment = Deployment {
                number: 0,
                at: now(),
                by: tools.by.clone(),
                services,
                options,
                proxy,
            };
            host.record(before, deployment).await?;
            host.prune().await?;
            Ok(())
        }
    }
}

fn whose(subject: &Subject) -> Whose {
    match subject {
        Subject::Service(name) => Whose::Service(name.clone()),
        Subject::Proxy | Subject::Host => Whose::Proxy,
    }
}

fn name(subject: &Subject) -> &str {
    match subject {
        Subject::Service(name) => name,
        Subject::Proxy => "the proxy",
        Subject::Host => "the host",
    }
}

async fn bring(ground: &Ground, image: &Image, tools: &Tools) -> Result<(), StepError> {
    let host = ground.host.remote().name();
    if !image.sent {
        return Ok(ground.engine.pull(&image.pinned).await?);
    }
    let moved = |done, of| tools.watch.moved(host, done, of);
    Ok(ground.engine.send(image, &moved).await?)
}

/// Changes a secret in a part that keeps it by itself. The part reads it: it is in no argument, and in nothing said.
async fn rotate(
    ground: &Ground,
    service: &str,
    project: &Project,
    to: &NewSecret,
) -> Result<(), StepError> {
    let NewSecret { rotation, file } = to;
    let secret = String::from_utf8_lossy(&file.content);
    let secret = secret.trim_end_matches(['\r', '\n']);
    let argv: Vec<&str> = rotation.command.iter().map(String::as_str).collect();
    let line = format!("{secret}\n");
    let input = Input::bytes(line.as_bytes());
    let failed = |source| StepError::NotRotated {
        service: service.to_owned(),
        secret: rotation.secret.clone(),
        part: rotation.service.clone(),
        source: Box::new(source),
    };
    let engine = &ground.engine;
    let ran = engine
        .exec(project, &rotation.service, &argv, input, ROTATE)
        .await
        .map_err(|error| failed(error.into()))?;
    if ran.code == 0 {
        return Ok(());
    }
    // What it runs is long, and what it says may quote what it was given.
    let clean = |text: &str| match secret {
        "" => text.to_owned(),
        secret => text.replace(secret, "***"),
    };
    let (stdout, stderr) = (clean(&ran.text()), clean(&ran.stderr));
    let said = Output {
        code: ran.code,
        stdout: stdout.into(),
        stderr,
    };
    let what = format!("changing {}", rotation.secret);
    let host = ground.host.remote().name();
    Err(failed(ssh::Error::failed(host, &[&what], &said).into()))
}

async fn remove(ground: &Ground, service: &str) -> Result<(), StepError> {
    for slot in [Slot::A, Slot::B] {
        ground
            .engine
            .remove(&Project::service(service, slot))
            .await?;
    }
    Ok(ground.host.remove_service(service).await?)
}

fn now() -> String {
    let now = OffsetDateTime::now_utc()
        .replace_nanosecond(0)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    now.format(&Rfc3339).unwrap_or_default()
}

/// A service that is started in a slot.
struct Service<'a> {
    ground: &'a Ground,
    name: &'a str,
    slot: Slot,
    run: &'a Run,
}

impl Service<'_> {
    /// In place: where it does not get healthy, what was before is started again, with its secrets.
    async fn start(
        &self,
        revision: &Revision,
        before: Option<&Revision>,
        back: &[NewSecret],
    ) -> Result<(), StepError> {
        let Err(error) = self.up(revision).await else {
            return self.is_in_force(revision).await;
        };
        if error.is_cut_off() {
            return Err(error);
        }
        let (what, source) = (self.name.to_owned(), Box::new(error));
        let Some(before) = before else {
            return Err(StepError::First { what, source });
        };
        Err(match self.put_back(before, back).await {
            Ok(()) => StepError::PutBack { what, source },
            Err(again) => StepError::Down {
                what,
                again: again.to_string(),
                source,
            },
        })
    }

    async fn put_back(&self, before: &Revision, back: &[NewSecret]) -> Result<(), StepError> {
        if self.rotate(back).await.is_err() {
            // The parts of the new one do not run; those of the one before do, though not all are well yet.
            let _ = self.up(before).await;
            self.rotate(back).await?;
        }
        self.up(before).await
    }

    async fn rotate(&self, back: &[NewSecret]) -> Result<(), StepError> {
        for to in back {
            rotate(self.ground, self.name, &self.project(), to).await?;
        }
        Ok(())
    }

    /// Beside the old one, which is not touched.
    async fn start_beside(&self, revision: &Revision) -> Result<(), StepError> {
        let Err(error) = self.up(revision).await else {
            return self.is_in_force(revision).await;
        };
        if error.is_cut_off() {
            return Err(error);
        }
        // What is left of it is found by the next plan; the failure is what counts.
        let _ = self.ground.engine.remove(&self.project()).await;
        Err(StepError::Kept {
            what: self.name.to_owned(),
            source: Box::new(error),
        })
    }

    async fn up(&self, revision: &Revision) -> Result<(), StepError> {
        let whose = Whose::Service(self.name.to_owned());
        let file = self.ground.host.layout().compose(&whose, revision);
        Ok(self
            .ground
            .engine
            .up(&self.project(), &file, self.run.patience)
            .await?)
    }

    fn project(&self) -> Project {
        Project::service(self.name, self.slot).at(self.run.port)
    }

    async fn is_in_force(&self, revision: &Revision) -> Result<(), StepError> {
        let current = Current {
            revision: revision.clone(),
            slot: self.slot,
        };
        Ok(self.ground.host.set_current(self.name, &current).await?)
    }
}
