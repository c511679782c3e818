//! A Docker Swarm that the host is a member of. Stands alone beside Compose, from whose file its stack is made: the
//! same templates serve both.

// A Compose file as a stack.
mod stack;
// Whether a stack has become what it was told to be.
mod settled;

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::docker::{Docker, ENDING};
use super::{Engine, Error, Found, Logs, Project, Unwell, parse};
use crate::desired::Image;
use crate::observe::EngineState;
use crate::ssh::{self, Each, Input, LOOK, Output, Remote};

/// How often it is looked whether a stack has settled.
const LOOKS: Duration = Duration::from_secs(1);
/// How many looks in a row have to find it settled: at the first one, a Swarm may not have begun yet.
const STEADY: u32 = 3;

/// A Docker Swarm.
pub struct Swarm {
    docker: Docker,
}

impl Swarm {
    /// At the other end of this connection, which has to lead to a manager.
    pub fn new(remote: Arc<dyn Remote>) -> Self {
        Self {
            docker: Docker {
                remote,
                labels: parse::STACK,
            },
        }
    }

    /// The stack of a Compose file, as Compose reads that.
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
        let revision = file.rsplit('/').nth(1).unwrap_or_default();
        stack::of(&output.stdout, project.name(), revision).map_err(|why| Error::Unfit {
            host: self.docker.remote.name().to_owned(),
            project: project.to_string(),
            why,
        })
    }

    /// Waits until all services of a stack run as they should, or cannot.
    async fn settle(&self, project: &Project, patience: Duration) -> Result<(), Error> {
        let until = Instant::now() + patience;
        let mut steady = 0;
        loop {
            let wrong = match self.look(project).await? {
                settled::Look::Settled => {
                    steady += 1;
                    None
                }
                settled::Look::Moving(wrong) => {
                    steady = 0;
                    Some(wrong).filter(|_| Instant::now() >= until)
                }
                settled::Look::Failed(wrong) => Some(wrong),
            };
            if let Some(wrong) = wrong {
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
        let mut argv = vec!["docker", "service", "inspect"];
        argv.extend(names.iter().map(String::as_str));
        let services = self.docker.run(&argv, LOOK).await?;
        let tasks = [
            "docker",
            "stack",
            "ps",
            "--no-trunc",
            "--format",
            "{{json .}}",
            project.name(),
        ];
        let tasks = self.docker.run(&tasks, LOOK).await?;
        let look = settled::look(&services.stdout, &tasks.text(), project.name());
        Ok(look
            .map_err(|error| ssh::Error::garbled(self.docker.remote.name(), &argv[..3], error))?)
    }

    async fn unhealthy(&self, project: &Project, patience: Duration, wrong: Vec<Unwell>) -> Error {
        let mut parts = self.docker.unwell(project).await.unwrap_or_default();
        parts.retain(|part| !part.last.is_empty());
        for one in wrong {
            match parts.iter_mut().find(|part| part.part == one.part) {
                Some(part) => part.state = one.state,
                None => parts.push(one),
            }
        }
        let said = ssh::Error::Late {
            host: self.docker.remote.name().to_owned(),
            command: format!("docker stack deploy {project}"),
            after: patience,
        };
        let host = self.docker.remote.name().to_owned();
        Error::Unhealthy {
            host,
            project: project.to_string(),
            patience,
            parts,
            source: Box::new(said),
        }
    }

    /// The names of a stack's services.
    async fn services(&self, project: &Project) -> Result<Vec<String>, Error> {
        let of = format!("label={}={project}", self.docker.labels.project);
        let argv = [
            "docker",
            "service",
            "ls",
            "--filter",
            &of,
            "--format",
            "{{.Name}}",
        ];
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

    /// Waits until no container of a project is left on this host.
    async fn gone(&self, project: &Project, ended: bool) -> Result<(), Error> {
        let until = Instant::now() + ENDING;
        while !self
            .docker
            .ids(Some(project), None, ended)
            .await?
            .is_empty()
        {
            if Instant::now() >= until {
                let host = self.docker.remote.name().to_owned();
                return Err(ssh::Error::Late {
                    host,
                    command: format!("ending {project}"),
                    after: ENDING,
                }
                .into());
            }
            sleep(LOOKS).await;
        }
        Ok(())
    }
}

#[async_trait]
impl Engine for Swarm {
    async fn version(&self) -> Result<(EngineState, Option<String>), Error> {
        let compose = self.docker.compose().await?;
        let EngineState::Up(version) = self.docker.version().await? else {
            return Ok((self.docker.version().await?, compose));
        };
        let output = self
            .docker
            .output(&["docker", "info", "--format", "{{json .Swarm}}"])
            .await?;
        let state =
            settled::member(&output.text()).map_or(EngineState::Up(version), EngineState::Down);
        Ok((state, compose))
    }

    async fn containers(&self) -> Result<Vec<Found>, Error> {
        Ok(parse::last_of_each(self.docker.containers(None).await?))
    }

    async fn up(&self, project: &Project, file: &str, patience: Duration) -> Result<(), Error> {
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
            .run(
                &argv,
                Input::bytes(&stack),
                LOOK.max(Duration::from_secs(60)),
            )
            .await?;
        self.settle(project, patience).await
    }

    async fn stop(&self, project: &Project) -> Result<(), Error> {
        let none: Vec<String> = self
            .services(project)
            .await?
            .iter()
            .map(|name| format!("{name}=0"))
            .collect();
        if none.is_empty() {
            return Ok(());
        }
        let mut argv = vec!["docker", "service", "scale", "--detach"];
        argv.extend(none.iter().map(String::as_str));
        self.docker.run(&argv, ENDING).await?;
        self.gone(project, false).await
    }

    async fn remove(&self, project: &Project) -> Result<(), Error> {
        self.docker
            .run(&["docker", "stack", "rm", project.name()], ENDING)
            .await?;
        self.gone(project, true).await
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
