//! The engine of the host: what runs is a value, healthy unless it was said to be sick or has a wrong password.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;

use super::{Blow, Running, World};
use crate::desired::{Image, Revision};
use crate::engine::{Engine, Error as EngineError, Found, Logs, Project, Unwell};
use crate::observe::EngineState;
use crate::ssh::double::bytes;
use crate::ssh::{Each, Input, Output};

#[async_trait]
impl Engine for World {
    async fn version(&self) -> Result<(EngineState, Option<String>), EngineError> {
        Ok((
            EngineState::Up("27.0.0".to_owned()),
            Some("2.29.0".to_owned()),
        ))
    }

    async fn containers(&self) -> Result<Vec<Found>, EngineError> {
        Ok(Vec::new())
    }

    async fn up(
        &self,
        project: &Project,
        file: &str,
        patience: Duration,
    ) -> Result<(), EngineError> {
        let blow = self
            .one()
            .await
            .map_err(|blow| self.failed(&["docker", "compose", "up"], blow))?;
        assert!(Path::new(file).exists(), "{file} is not there");
        let revision = Revision(file.rsplit('/').nth(1).unwrap_or_default().to_owned());
        self.done(format!("up {project} {revision}"));
        let well = !self.state().sick.contains(&revision) && self.knows_password(project, file);
        if project.name() == Project::proxy().name() {
            let live = format!("{}/proxy/live/proxy.toml", self.layout.root());
            self.state().proxy = std::fs::read_to_string(live).ok().filter(|_| well);
        }
        let running = Running {
            revision,
            port: project.port(),
            well,
        };
        self.state()
            .projects
            .insert(project.name().to_owned(), running);
        self.after(blow).await;
        if well {
            return Ok(());
        }
        let said = self.failed(&["docker", "compose", "up"], Blow::Fails);
        Err(EngineError::Unhealthy {
            host: "h1".to_owned(),
            project: project.to_string(),
            patience,
            parts: vec![Unwell {
                part: "app".to_owned(),
                state: "is unhealthy".to_owned(),
                last: vec!["no database".to_owned()],
            }],
            source: Some(Box::new(said)),
        })
    }

    async fn remove(&self, project: &Project) -> Result<(), EngineError> {
        let blow = self
            .one()
            .await
            .map_err(|blow| self.failed(&["docker", "compose", "down"], blow))?;
        self.done(format!("remove {project}"));
        self.state().projects.remove(project.name());
        self.after(blow).await;
        Ok(())
    }

    async fn purge(&self, _: &[String]) -> Result<(), EngineError> {
        unreachable!("no data is destroyed")
    }

    async fn images(&self) -> Result<BTreeSet<String>, EngineError> {
        Ok(self.state().images.clone())
    }

    async fn pull(&self, pinned: &str) -> Result<(), EngineError> {
        let blow = self
            .one()
            .await
            .map_err(|blow| self.failed(&["docker", "pull"], blow))?;
        self.done(format!("pull {pinned}"));
        self.state().images.insert(pinned.to_owned());
        self.after(blow).await;
        Ok(())
    }

    async fn send(
        &self,
        image: &Image,
        _: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<(), EngineError> {
        self.pull(&image.pinned).await
    }

    async fn logs(&self, _: &Project, _: &Logs<'_>, _: Each<'_>) -> Result<(), EngineError> {
        unreachable!("nobody reads logs")
    }

    async fn exec(
        &self,
        project: &Project,
        part: &str,
        argv: &[&str],
        input: Input<'_>,
        _: Duration,
    ) -> Result<Output, EngineError> {
        let blow = self
            .one()
            .await
            .map_err(|blow| self.failed(&["docker", "exec"], blow))?;
        if !self.state().projects.contains_key(project.name()) {
            return Err(EngineError::NotRunning {
                host: "h1".to_owned(),
                project: project.to_string(),
                part: part.to_owned(),
            });
        }
        let mut stdout = Vec::new();
        match argv {
            ["set-password"] => {
                let line = String::from_utf8_lossy(&bytes(input).await).into_owned();
                let password = line.strip_suffix('\n').expect("a line").to_owned();
                self.done(format!("set the password in {part} of {project}"));
                self.state().passwords.insert(service(project), password);
            }
            [.., "getblockchaininfo"] => stdout = self.state().chain.clone().into(),
            [.., "getnetworkinfo"] => stdout = b"{}".to_vec(),
            _ => unreachable!("{argv:?}"),
        }
        self.after(blow).await;
        Ok(Output {
            stdout,
            ..Output::default()
        })
    }

    async fn exec_argv(
        &self,
        _: &Project,
        _: &str,
        _: &[&str],
        _: bool,
    ) -> Result<Vec<String>, EngineError> {
        unreachable!("nothing is run in a container")
    }

    async fn restart(&self, _: &Project, _: Option<&str>) -> Result<(), EngineError> {
        unreachable!("nothing is restarted")
    }
}

impl World {
    /// Whether what is started has the password that its database keeps; where there is no database yet, it makes one.
    fn knows_password(&self, project: &Project, file: &str) -> bool {
        let secret = Path::new(file).with_file_name("secrets").join("password");
        let Ok(password) = std::fs::read_to_string(secret) else {
            return true;
        };
        let mut state = self.state();
        let kept = state.passwords.entry(service(project));
        *kept.or_insert_with(|| password.clone()) == password
    }
}

/// The service of a project, whichever slot it runs in.
fn service(project: &Project) -> String {
    project.name().trim_end_matches("-b").to_owned()
}
