//! Whether a stack has become what it was told to be. Pure; stands alone because a Swarm says so in several places, none
//! of which is enough.

use serde::Deserialize;

use super::super::Unwell;

/// What a look at a stack shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Everything runs, healthy, as it was told to.
    Settled,
    /// Not yet: what is missing.
    Moving(Vec<Unwell>),
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

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Member {
    #[serde(default)]
    local_node_state: String,
    #[serde(default)]
    control_available: bool,
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
    let (mut moving, mut failed) = (Vec::new(), Vec::new());
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
        let update = service.update_status.as_ref();
        match update
            .map(|update| update.state.as_str())
            .unwrap_or_default()
        {
            "rollback_completed" | "rollback_paused" | "paused" => {
                failed.push(unwell(format!(
                    "was changed back: {}",
                    update
                        .map(|update| update.message.trim())
                        .unwrap_or_default()
                )));
            }
            "updating" | "rollback_started" => moving.push(unwell("is being changed".to_owned())),
            _ => moving.extend(missing(service, &tasks).map(unwell)),
        }
    }
    Ok(match (failed.is_empty(), moving.is_empty()) {
        (false, _) => Look::Failed(failed),
        (true, false) => Look::Moving(moving),
        (true, true) => Look::Settled,
    })
}

/// What of a service does not run, where something does not.
fn missing(service: &Service, tasks: &[Task]) -> Option<String> {
    let own = |task: &&Task| {
        task.name
            .strip_prefix(&service.spec.name)
            .is_some_and(|rest| rest.starts_with('.'))
    };
    let mine: Vec<&Task> = tasks.iter().filter(own).collect();
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
    let why = mine
        .iter()
        .map(|task| task.error.trim())
        .find(|error| !error.is_empty());
    let state = wanted
        .first()
        .map_or("no task", |task| task.current_state.as_str());
    Some(match why {
        Some(why) => format!("does not run ({state}): {why}"),
        None => format!("does not run ({state})"),
    })
}

/// Why a host cannot be told what a Swarm shall run, from what `docker info --format '{{json .Swarm}}'` prints.
pub fn member(json: &str) -> Option<String> {
    match serde_json::from_str(json.trim()) {
        Ok(Member {
            control_available: true,
            ..
        }) => None,
        Ok(Member {
            local_node_state, ..
        }) if local_node_state == "active" => {
            Some("it is a worker of its Swarm; name a manager as the host".to_owned())
        }
        Ok(_) => {
            Some("it is in no Swarm: `docker swarm init` or `docker swarm join` first".to_owned())
        }
        Err(error) => Some(format!("its Swarm cannot be made out: {error}")),
    }
}

#[cfg(test)]
mod tests;
