//! Whether a stack has become what it was told to be. Pure; stands alone because a Swarm says so in several places, none
//! of which is enough.

use std::time::Duration;

use serde::Deserialize;

use super::super::Unwell;
use super::super::docker::ENDING;

/// What a look at a stack shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Everything runs, healthy, as it was told to.
    Settled,
    /// Not yet: what is missing.
    Moving(Vec<Unwell>),
    /// The Swarm is putting something in place of what ran, and will say by itself whether that has become well.
    Changing(Vec<Unwell>),
    /// The Swarm has given up, or gone back to what was before.
    Failed(Vec<Unwell>),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    spec: Spec,
    update_status: Option<Update>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    name: String,
    #[serde(default)]
    mode: Mode,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Mode {
    replicated: Option<Replicated>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Replicated {
    replicas: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Update {
    #[serde(default)]
    state: String,
    #[serde(default)]
    message: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Task {
    name: String,
    current_state: String,
    desired_state: String,
    #[serde(default)]
    error: String,
}

/// What a host is in its Swarm, as `docker info --format '{{json .Swarm}}'` prints it.
#[derive(Debug, Deserialize)]
pub struct Member {
    /// The id of its node.
    #[serde(rename = "NodeID", default)]
    pub node_id: String,
    #[serde(rename = "LocalNodeState", default)]
    state: String,
    #[serde(rename = "ControlAvailable", default)]
    control: bool,
}

/// From what `docker service inspect` and `docker stack ps --format '{{json .}}'` print.
pub fn look(services: &[u8], tasks: &str, project: &str) -> Result<Look, serde_json::Error> {
    let services: Vec<Service> = serde_json::from_slice(services)?;
    let tasks: Result<Vec<Task>, _> = tasks
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(serde_json::from_str)
        .collect();
    let tasks = tasks?;
    let (mut moving, mut changing, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for service in &services {
        let part = service
            .spec
            .name
            .strip_prefix(&format!("{project}_"))
            .unwrap_or(&service.spec.name);
        let unwell = |state: String| Unwell {
            part: part.to_owned(),
            state,
            last: Vec::new(),
        };
        let (state, message) = match &service.update_status {
            Some(update) => (update.state.as_str(), update.message.trim()),
            None => ("", ""),
        };
        match state {
            "rollback_completed" | "rollback_paused" | "paused" => {
                let why = said(&of(service, &tasks)).unwrap_or(message);
                failed.push(unwell(format!("was changed back: {why}")));
            }
            "updating" | "rollback_started" => changing.push(unwell("is being changed".to_owned())),
            _ => moving.extend(missing(service, &tasks).map(unwell)),
        }
    }
    Ok(
        match (failed.is_empty(), changing.is_empty(), moving.is_empty()) {
            (false, ..) => Look::Failed(failed),
            (true, false, _) => Look::Changing(changing),
            (true, true, false) => Look::Moving(moving),
            (true, true, true) => Look::Settled,
        },
    )
}

impl Look {
    /// What is wrong, where nothing better is to be waited for: `patience` is for what starts; what is being changed
    /// has to end first.
    pub fn given_up(self, after: Duration, patience: Duration) -> Option<Vec<Unwell>> {
        match self {
            Self::Settled => None,
            Self::Moving(wrong) => (after >= patience).then_some(wrong),
            Self::Changing(wrong) => (after >= patience + ENDING).then_some(wrong),
            Self::Failed(wrong) => Some(wrong),
        }
    }
}

/// The tasks of a service, the newest first.
fn of<'t>(service: &Service, tasks: &'t [Task]) -> Vec<&'t Task> {
    let own = |task: &&Task| {
        let rest = task.name.strip_prefix(&service.spec.name);
        rest.is_some_and(|rest| rest.starts_with('.'))
    };
    tasks.iter().filter(own).collect()
}

/// What the Swarm said last of a task that failed.
fn said<'t>(tasks: &[&'t Task]) -> Option<&'t str> {
    let mut errors = tasks.iter().map(|task| task.error.trim());
    errors.find(|error| !error.is_empty())
}

/// What of a service does not run, where something does not.
fn missing(service: &Service, tasks: &[Task]) -> Option<String> {
    let mine = of(service, tasks);
    let wanted: Vec<&&Task> = mine
        .iter()
        .filter(|task| task.desired_state == "Running")
        .collect();
    let running = wanted
        .iter()
        .filter(|task| task.current_state.starts_with("Running"))
        .count() as u64;
    let replicas = service
        .spec
        .mode
        .replicated
        .as_ref()
        .map(|mode| mode.replicas.unwrap_or(1));
    if running == replicas.unwrap_or(wanted.len() as u64) {
        return None;
    }
    let state = wanted
        .first()
        .map_or("no task", |task| task.current_state.as_str());
    Some(match said(&mine) {
        Some(why) => format!("does not run ({state}): {why}"),
        None => format!("does not run ({state})"),
    })
}

impl Member {
    /// Why the host cannot be told what its Swarm shall run, and the way out; nothing where it can.
    pub fn is_told_nothing(&self) -> Option<(String, String)> {
        let (why, hint) = match (self.control, self.state.as_str()) {
            (true, _) => return None,
            (false, "inactive" | "") => (
                "it is in no Swarm",
                "`docker swarm init` on the first host, on the others what `docker swarm join-token manager` there prints",
            ),
            (false, "active") => (
                "it is a worker of its Swarm, and only a manager can be told what to run",
                "`docker node promote` with its name, on a host that is a manager",
            ),
            (false, _) => (
                "its Swarm cannot be told anything: it is locked, or too few of its managers answer",
                "`docker info` and `docker node ls` there say more; `docker swarm unlock` opens one that is locked",
            ),
        };
        Some((why.to_owned(), hint.to_owned()))
    }
}

#[cfg(test)]
mod tests;
