//! Docker Engine with Compose, on one host. Stands alone beside a Swarm, which is told the same in other words.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::docker::{Docker, ENDING};
use super::{Engine, Error, Found, Logs, Project, parse};
use crate::desired::Image;
use crate::observe::EngineState;
use crate::ssh::{self, Each, Input, Output, Remote};

/// Compose looks for a file in the folder where it is run; in this one there is none.
const NOWHERE: [&str; 7] = ["env", "-C", "/", "docker", "compose", "--ansi", "never"];

/// Docker Engine with Compose.
pub struct Compose {
    docker: Docker,
}

impl Compose {
    /// At the other end of this connection.
    pub fn new(remote: Arc<dyn Remote>) -> Self {
        Self {
            docker: Docker {
                remote,
                labels: parse::COMPOSE,
            },
        }
    }

    /// A command on what runs of a project, without its file.
    async fn compose(&self, project: &Project, rest: &[&str]) -> Result<(), Error> {
        let argv = [&NOWHERE, &["--project-name", project.name()][..], rest].concat();
        self.docker.run(&argv, ENDING).await.map(drop)
    }
}

#[async_trait]
impl Engine for Compose {
    async fn version(&self) -> Result<(EngineState, Option<String>), Error> {
        Ok((self.docker.version().await?, self.docker.compose().await?))
    }

    async fn containers(&self) -> Result<Vec<Found>, Error> {
        self.docker.containers(None).await
    }

    async fn up(&self, project: &Project, file: &str, patience: Duration) -> Result<(), Error> {
        let seconds = patience.as_secs().max(1).to_string();
        let environment = project.environment(file);
        let command = [
            "docker",
            "compose",
            "--ansi",
            "never",
            "--project-name",
            project.name(),
            "--file",
            file,
            "up",
            "--detach",
            "--wait",
            "--wait-timeout",
            &seconds,
            "--remove-orphans",
            "--no-build",
            "--pull",
            "never",
        ];
        let argv: Vec<&str> = environment
            .iter()
            .map(String::as_str)
            .chain(command)
            .collect();
        // What ran before may take its time to end, before the time of the new one begins.
        match self.docker.run(&argv, patience + ENDING).await {
            Err(Error::Remote(failed @ ssh::Error::Failed { .. })) => {
                Err(self.why(project, patience, failed).await)
            }
            done => done.map(drop),
        }
    }

    async fn remove(&self, project: &Project) -> Result<(), Error> {
        self.compose(project, &["down", "--remove-orphans"]).await
    }

    async fn purge(&self, volumes: &[String]) -> Result<(), Error> {
        self.docker.purge(volumes).await
    }

    async fn images(&self) -> Result<BTreeSet<String>, Error> {
        self.docker.images().await
    }

    async fn pull(&self, pinned: &str) -> Result<(), Error> {
        self.docker.pull(pinned).await
    }

    async fn send(
        &self,
        image: &Image,
        progress: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<(), Error> {
        self.docker.send(image, progress).await
    }

    async fn logs(&self, project: &Project, which: &Logs<'_>, each: Each<'_>) -> Result<(), Error> {
        let options = which.options();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let head = [
            &NOWHERE,
            &["--project-name", project.name(), "logs", "--no-color"][..],
            &options,
        ]
        .concat();
        let argv = [&head, which.part.as_slice()].concat();
        super::streamed(self.docker.remote.as_ref(), &argv, each).await
    }

    async fn exec(
        &self,
        project: &Project,
        part: &str,
        argv: &[&str],
        input: Input<'_>,
        deadline: Duration,
    ) -> Result<Output, Error> {
        self.docker.exec(project, part, argv, input, deadline).await
    }

    async fn exec_argv(
        &self,
        project: &Project,
        part: &str,
        argv: &[&str],
        terminal: bool,
    ) -> Result<Vec<String>, Error> {
        self.docker.exec_argv(project, part, argv, terminal).await
    }

    async fn restart(&self, project: &Project, part: Option<&str>) -> Result<(), Error> {
        self.compose(project, &[&["restart"], part.as_slice()].concat())
            .await
    }
}

impl Compose {
    /// Why a project did not come up: what of it is not well, or else what Compose said.
    async fn why(&self, project: &Project, patience: Duration, failed: ssh::Error) -> Error {
        match self.docker.unwell(project).await {
            Ok(parts) if !parts.is_empty() => Error::Unhealthy {
                host: self.docker.remote.name().to_owned(),
                project: project.to_string(),
                patience,
                parts,
                source: Some(Box::new(failed)),
            },
            _ => failed.into(),
        }
    }
}

#[cfg(test)]
mod tests;
