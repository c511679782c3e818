//! What Docker does in the same way with Compose and in a Swarm. Stands alone so that both differ only in what differs.

use std::sync::Arc;
use std::time::Duration;

use super::parse::{self, Labels};
use super::{Error, Found, Project, Unwell};
use crate::observe::{EngineState, Health};
use crate::ssh::{self, Input, LOOK, Output, Remote};

/// How long a command may take that waits for containers to end: some take their time to write everything down.
pub const ENDING: Duration = Duration::from_secs(20 * 60);
/// How many of its last lines a container is quoted with.
const QUOTED: &str = "20";
/// Of how many containers.
const QUOTED_OF: usize = 4;

/// The Docker at the other end of a connection.
#[derive(Clone)]
pub struct Docker {
    /// The way there.
    pub remote: Arc<dyn Remote>,
    /// How what belongs together is labelled.
    pub labels: Labels,
}

impl Docker {
    /// Whether the engine answers, and its version.
    pub async fn version(&self) -> Result<EngineState, Error> {
        let output = match self
            .output(&["docker", "version", "--format", "{{json .}}"])
            .await
        {
            Err(Error::Remote(ssh::Error::Missing { .. })) => return Ok(EngineState::Missing),
            output => output?,
        };
        Ok(match parse::version(&output.text()) {
            Some(version) => EngineState::Up(version),
            None if output.stderr.trim().is_empty() => EngineState::Down(output.text()),
            None => EngineState::Down(output.stderr.trim().to_owned()),
        })
    }

    /// The version of Compose.
    pub async fn compose(&self) -> Result<Option<String>, Error> {
        match self
            .output(&["docker", "compose", "version", "--short"])
            .await
        {
            Ok(output) if output.code == 0 => Ok(parse::compose_version(&output.text())),
            Ok(_) | Err(Error::Remote(ssh::Error::Missing { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Our containers on this host, of all projects or of one.
    pub async fn containers(&self, project: Option<&Project>) -> Result<Vec<Found>, Error> {
        let ids = self.ids(project, None, true).await?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut argv = vec!["docker", "inspect", "--type", "container", "--"];
        argv.extend(ids.iter().map(String::as_str));
        let output = self.output(&argv).await?;
        // One that went in between is left out of the answer, and makes it a failure.
        if output.code != 0 && !output.stderr.contains("No such") {
            return Err(ssh::Error::failed(self.remote.name(), &argv, &output).into());
        }
        let found = parse::containers(&output.stdout, self.labels);
        Ok(found.map_err(|error| ssh::Error::garbled(self.remote.name(), &argv[..2], error))?)
    }

    /// The ids of containers.
    pub async fn ids(
        &self,
        project: Option<&Project>,
        part: Option<&str>,
        ended: bool,
    ) -> Result<Vec<String>, Error> {
        let of = match project {
            Some(project) => format!("label={}={project}", self.labels.project),
            None => format!("label={}", self.labels.project),
        };
        let mut argv = vec!["docker", "ps", "--quiet", "--no-trunc", "--filter", &of];
        let part = part.map(|part| match (self.labels == parse::STACK, project) {
            (true, Some(project)) => format!("label={}={project}_{part}", self.labels.part),
            _ => format!("label={}={part}", self.labels.part),
        });
        if let Some(part) = &part {
            argv.extend(["--filter", part]);
        }
        if ended {
            argv.push("--all");
        }
        let output = self.run(&argv, LOOK).await?;
        Ok(output.text().lines().map(str::to_owned).collect())
    }

    /// The arguments that run a command in a running container.
    pub async fn exec_argv(
        &self,
        project: &Project,
        part: &str,
        argv: &[&str],
        terminal: bool,
    ) -> Result<Vec<String>, Error> {
        let ids = self.ids(Some(project), Some(part), false).await?;
        let id = ids.into_iter().next().ok_or_else(|| Error::NotRunning {
            host: self.remote.name().to_owned(),
            project: project.to_string(),
            part: part.to_owned(),
        })?;
        let how = if terminal {
            "--interactive --tty"
        } else {
            "--interactive"
        };
        let head = ["docker", "exec"]
            .into_iter()
            .chain(how.split(' '))
            .chain([id.as_str()]);
        Ok(head
            .chain(argv.iter().copied())
            .map(str::to_owned)
            .collect())
    }

    /// Runs a command in a running container.
    pub async fn exec(
        &self,
        project: &Project,
        part: &str,
        argv: &[&str],
        input: Input<'_>,
        deadline: Duration,
    ) -> Result<Output, Error> {
        let whole = self.exec_argv(project, part, argv, false).await?;
        let whole: Vec<&str> = whole.iter().map(String::as_str).collect();
        Ok(self.remote.output(&whole, input, deadline).await?)
    }

    /// Destroys volumes.
    pub async fn purge(&self, volumes: &[String]) -> Result<(), Error> {
        if volumes.is_empty() {
            return Ok(());
        }
        let mut argv = vec!["docker", "volume", "rm", "--force", "--"];
        argv.extend(volumes.iter().map(String::as_str));
        self.run(&argv, ENDING).await.map(drop)
    }

    /// The containers of a project that are not well, with what they logged last.
    pub async fn unwell(&self, project: &Project) -> Result<Vec<Unwell>, Error> {
        let mut unwell = Vec::new();
        for found in parse::last_of_each(self.containers(Some(project)).await?) {
            let Some(state) = ill(&found.container.health) else {
                continue;
            };
            if unwell.len() == QUOTED_OF {
                break;
            }
            let last = self.last_lines(&found.id).await;
            unwell.push(Unwell {
                part: found.container.part,
                state,
                last,
            });
        }
        Ok(unwell)
    }

    /// What a container logged last; nothing where that cannot be had, for it only goes along with another failure.
    pub async fn last_lines(&self, id: &str) -> Vec<String> {
        let output = self
            .output(&["docker", "logs", "--tail", QUOTED, id])
            .await
            .unwrap_or_default();
        let both = [output.text(), output.stderr];
        let lines: Vec<String> = both
            .iter()
            .flat_map(|text| text.lines())
            .map(str::to_owned)
            .collect();
        let most = QUOTED.parse().unwrap_or(lines.len());
        lines[lines.len().saturating_sub(most)..].to_vec()
    }

    /// A command, whatever its code.
    pub async fn output(&self, argv: &[&str]) -> Result<Output, Error> {
        Ok(self.remote.output(argv, Input::nothing(), LOOK).await?)
    }

    /// A command that has to succeed.
    pub async fn run(&self, argv: &[&str], deadline: Duration) -> Result<Output, Error> {
        Ok(self.remote.run(argv, Input::nothing(), deadline).await?)
    }
}

/// In words, where it is not well. What ended with 0 has done its work.
fn ill(health: &Health) -> Option<String> {
    match health {
        Health::Healthy | Health::Running | Health::Exited(0) => None,
        Health::Starting => Some("is still starting".to_owned()),
        Health::Unhealthy(words) if words.is_empty() => Some("is not healthy".to_owned()),
        Health::Unhealthy(words) => Some(format!("is not healthy: {words}")),
        Health::Exited(code) => Some(format!("ended with exit code {code}")),
    }
}
