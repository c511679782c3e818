//! A Docker Swarm that the host is a manager of. Stands alone beside Compose, from whose file its stack is made: the
//! same templates serve both.
//!
//! What is placed on a host runs on that host: its volumes and files lie there, so every task is bound to the node that
//! is asked. A proxy in a container belongs to its host alone, and is left to Compose.

// A Compose file as a stack.
mod stack;
// Whether a stack has become what it was told to be.
mod settled;

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::docker::{Docker, ENDING};
use super::{Compose, Engine, Error, Found, Logs, Project, Unwell, parse};
use crate::desired::Image;
use crate::observe::{EngineState, Health};
use crate::ssh::{self, Each, Input, LOOK, Output, Remote};

/// How long a Swarm may take to write down what it shall run.
const TOLD: Duration = Duration::from_secs(60);
/// How often it is looked whether a stack has settled.
const LOOKS: Duration = Duration::from_secs(1);
/// How many looks in a row have to find it settled: at the first one, a Swarm may not have begun yet.
const STEADY: u32 = 3;

/// A Docker Swarm.
pub struct Swarm {
    docker: Docker,
    /// What runs the proxy.
    compose: Compose,
}

impl Swarm {
    /// At the other end of this connection, which has to lead to a manager.
    pub fn new(remote: Arc<dyn Remote>) -> Self {
        Self {
            compose: Compose::new(Arc::clone(&remote)),
            docker: Docker {
                remote,
                labels: parse::STACK,
            },
        }
    }

    /// What the host is in its Swarm.
    async fn member(&self) -> Result<settled::Member, Error> {
        let argv = ["docker", "info", "--format", "{{json .Swarm}}"];
        let output = self.docker.run(&argv, LOOK).await?;
        let member = serde_json::from_slice(&output.stdout);
        Ok(member.map_err(|error| ssh::Error::garbled(self.name(), &argv, error))?)
    }

    /// The stack of a Compose file, as Compose reads that, on this host's node.
    async fn stack(&self, project: &Project, file: &str) -> Result<Vec<u8>, Error> {
        let environment = project.environment(file);
        let command = [
            "docker",
            "compose",
            "--project-name",
            project.name(),
            "--file",
            file,
            "config",
            "--format",
            "json",
        ];
        let argv: Vec<&str> = environment
            .iter()
            .map(String::as_str)
            .chain(command)
            .collect();
        let output = self.docker.run(&argv, LOOK).await?;
        let unfit = |why| Error::Unfit {
            host: self.name().to_owned(),
            project: project.to_string(),
            why,
        };
        let compose = stack::read(&output.stdout).map_err(unfit)?;
        let (member, images) =
            tokio::try_join!(self.member(), self.ids_of(stack::images(&compose)))?;
        let placed = stack::Placed {
            project: project.name(),
            revision: revision(file),
            node: &member.node_id,
            images: &images,
        };
        stack::of(&compose, &placed).map_err(unfit)
    }

    /// The ids of images. What a Swarm is told by its id it takes from the host, and asks no registry.
    async fn ids_of(&self, images: BTreeSet<String>) -> Result<BTreeMap<String, String>, Error> {
        let mut argv = vec!["docker", "image", "inspect", "--format", "{{.Id}}", "--"];
        argv.extend(images.iter().map(String::as_str));
        let output = self.docker.run(&argv, LOOK).await?;
        let ids = output.text();
        Ok(images
            .iter()
            .cloned()
            .zip(ids.lines().map(str::to_owned))
            .collect())
    }

    /// Waits until all services of a stack run as they should, or cannot.
    async fn settle(&self, project: &Project, patience: Duration) -> Result<(), Error> {
        let begun = Instant::now();
        let mut steady = 0;
        loop {
            let look = self.look(project).await?;
            steady = match look {
                settled::Look::Settled => steady + 1,
                _ => 0,
            };
            if let Some(wrong) = look.given_up(begun.elapsed(), patience) {
                return Err(self.unhealthy(project, patience, wrong).await);
            }
            if steady >= STEADY {
                return Ok(());
            }
            sleep(LOOKS).await;
        }
    }

    async fn look(&self, project: &Project) -> Result<settled::Look, Error> {
        let names = self.services(project).await?;
        if names.is_empty() {
            return Ok(settled::Look::Moving(Vec::new()));
        }
        let names = || names.iter().map(String::as_str);
        let inspect = ["docker", "service", "inspect"];
        let inspect: Vec<&str> = inspect.into_iter().chain(names()).collect();
        let tasks = ["docker", "service", "ps", "--no-trunc", "--format"];
        let tasks = tasks.into_iter().chain(["{{json .}}"]).chain(names());
        let tasks: Vec<&str> = tasks.collect();
        let services = self.docker.run(&inspect, LOOK).await?;
        let tasks = self.docker.run(&tasks, LOOK).await?;
        let look = settled::look(&services.stdout, &tasks.text(), project.name());
        Ok(look.map_err(|error| ssh::Error::garbled(self.name(), &inspect[..3], error))?)
    }

    /// What is wrong, with the last words of the container that came to nothing: it may be gone, and another run in
    /// its place.
    async fn unhealthy(
        &self,
        project: &Project,
        patience: Duration,
        mut wrong: Vec<Unwell>,
    ) -> Error {
        let mut found = self
            .docker
            .containers(Some(project))
            .await
            .unwrap_or_default();
        found.retain(|one| !matches!(one.container.health, Health::Healthy | Health::Running));
        found.sort_by(|a, b| b.container.since.cmp(&a.container.since));
        for part in &mut wrong {
            if let Some(last) = found.iter().find(|one| one.container.part == part.part) {
                part.last = self.docker.last_lines(&last.id).await;
            }
        }
        Error::Unhealthy {
            host: self.name().to_owned(),
            project: project.to_string(),
            patience,
            parts: wrong,
            source: None,
        }
    }

    /// Removes the secrets and configurations of revisions before: their names end with the revision, for they never
    /// change. Those that are still in use stay.
    async fn forget(&self, project: &Project, file: &str) -> Result<(), Error> {
        let end = format!("-{}", revision(file));
        for kind in ["secret", "config"] {
            let all = self.listed(&[kind, "ls"], project).await?;
            let old = all.iter().map(String::as_str);
            let mut argv = vec!["docker", kind, "rm"];
            argv.extend(old.filter(|name| !name.ends_with(&end)));
            if argv.len() > 3 {
                self.docker.output(&argv).await?;
            }
        }
        Ok(())
    }

    fn name(&self) -> &str {
        self.docker.remote.name()
    }

    /// The names of a stack's services.
    async fn services(&self, project: &Project) -> Result<Vec<String>, Error> {
        self.listed(&["service", "ls"], project).await
    }

    /// The names of what is a project's.
    async fn listed(&self, list: &[&str], project: &Project) -> Result<Vec<String>, Error> {
        let of = format!("label={}={project}", self.docker.labels.project);
        let end = ["--filter", &of, "--format", "{{.Name}}"];
        let argv = [&["docker"], list, &end].concat();
        let output = self.docker.run(&argv, LOOK).await?;
        Ok(output.text().lines().map(str::to_owned).collect())
    }

    /// A stack's services, or one of them.
    async fn chosen(&self, project: &Project, part: Option<&str>) -> Result<Vec<String>, Error> {
        match part {
            Some(part) => Ok(vec![format!("{project}_{part}")]),
            None => self.services(project).await,
        }
    }

    /// Waits until nothing of a project is left on this host: a network that is still being taken down would be missed
    /// by what comes next under its name.
    async fn gone(&self, project: &Project) -> Result<(), Error> {
        let until = Instant::now() + ENDING;
        while !self.docker.ids(Some(project), None, true).await?.is_empty()
            || !self.listed(&["network", "ls"], project).await?.is_empty()
        {
            if Instant::now() >= until {
                return Err(ssh::Error::Late {
                    host: self.name().to_owned(),
                    command: format!("docker stack rm {project}"),
                    after: ENDING,
                }
                .into());
            }
            sleep(LOOKS).await;
        }
        Ok(())
    }
}

/// The revision whose folder a Compose file lies in.
fn revision(file: &str) -> &str {
    file.rsplit('/').nth(1).unwrap_or_default()
}

#[async_trait]
impl Engine for Swarm {
    async fn version(&self) -> Result<(EngineState, Option<String>), Error> {
        let (state, compose) = self.compose.version().await?;
        let state = match state {
            EngineState::Up(version) => match self.member().await?.is_told_nothing() {
                Some((why, hint)) => EngineState::NoManager { why, hint },
                None => EngineState::Up(version),
            },
            other => other,
        };
        Ok((state, compose))
    }

    async fn containers(&self) -> Result<Vec<Found>, Error> {
        let mut found = parse::last_of_each(self.docker.containers(None).await?);
        found.extend(self.compose.containers().await?);
        Ok(found)
    }

    async fn up(&self, project: &Project, file: &str, patience: Duration) -> Result<(), Error> {
        if project.is_proxy() {
            return self.compose.up(project, file, patience).await;
        }
        let stack = self.stack(project, file).await?;
        let argv = [
            "docker",
            "stack",
            "deploy",
            "--resolve-image",
            "never",
            "--prune",
            "--compose-file",
            "-",
            project.name(),
        ];
        self.docker
            .remote
            .run(&argv, Input::bytes(&stack), TOLD)
            .await?;
        self.settle(project, patience).await?;
        self.forget(project, file).await
    }

    async fn remove(&self, project: &Project) -> Result<(), Error> {
        if project.is_proxy() {
            return self.compose.remove(project).await;
        }
        self.docker
            .run(&["docker", "stack", "rm", project.name()], ENDING)
            .await?;
        self.gone(project).await
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
        let each = Mutex::new(each);
        let options = which.options();
        let names = self.chosen(project, which.part).await?;
        let logs = names.iter().map(|name| {
            let (each, options) = (&each, &options);
            async move {
                let argv = ["docker", "service", "logs"]
                    .into_iter()
                    .chain(options.iter().map(String::as_str));
                let argv: Vec<&str> = argv.chain([name.as_str()]).collect();
                let mut tell =
                    |line: &str| (each.lock().unwrap_or_else(PoisonError::into_inner))(line);
                super::streamed(self.docker.remote.as_ref(), &argv, &mut tell).await
            }
        });
        all(logs.map(|log| Box::pin(log) as Following<'_>).collect()).await
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
        for name in self.chosen(project, part).await? {
            self.docker
                .run(
                    &[
                        "docker", "service", "update", "--detach", "--force", "--quiet", &name,
                    ],
                    ENDING,
                )
                .await?;
        }
        self.settle(project, ENDING).await
    }
}

/// A log that is being handed on.
type Following<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// Drives all at once until the last is done, or one fails.
async fn all(mut futures: Vec<Following<'_>>) -> Result<(), Error> {
    poll_fn(|context| {
        let mut failed = None;
        futures.retain_mut(|future| match future.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(Ok(())) => false,
            Poll::Ready(Err(error)) => {
                failed = Some(error);
                false
            }
        });
        match (failed, futures.is_empty()) {
            (Some(error), _) => Poll::Ready(Err(error)),
            (None, true) => Poll::Ready(Ok(())),
            (None, false) => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests;
