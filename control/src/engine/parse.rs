//! What an engine prints, as values. Pure, so that each version's words are tried without an engine.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{Found, PROXY};
use crate::desired::Revision;
use crate::observe::{Container, Health, Slot};

/// The label of a service's name, in every template.
pub const SERVICE: &str = "sovereign.service";
/// The label of the revision that a container was started from.
pub const REVISION: &str = "sovereign.revision";
/// What projects of this program are called.
const OURS: &str = "sovereign-";
/// What the project of the second slot ends with.
const SECOND: &str = "-b";
/// How much of what a health check said is shown.
const WORDS: usize = 300;

/// How an engine labels what belongs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Labels {
    /// The project of a container.
    pub project: &'static str,
    /// Its service in the Compose file.
    pub part: &'static str,
}

/// A Compose project.
pub const COMPOSE: Labels = Labels {
    project: "com.docker.compose.project",
    part: "com.docker.compose.service",
};
/// A stack of a Swarm; there the service's name has the stack's before it.
pub const STACK: Labels = Labels {
    project: "com.docker.stack.namespace",
    part: "com.docker.swarm.service.name",
};

/// What `docker inspect` says of a container.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    image: String,
    #[serde(default)]
    restart_count: u64,
    state: State,
    config: Config,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: String,
    #[serde(default)]
    exit_code: i64,
    #[serde(default)]
    started_at: String,
    health: Option<Checked>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Checked {
    status: String,
    #[serde(default)]
    log: Option<Vec<Check>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    #[serde(default)]
    output: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    labels: Option<BTreeMap<String, String>>,
}

/// The version of the engine in what `docker version --format '{{json .}}'` prints; none where it does not answer.
pub fn version(json: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(json.trim()).ok()?;
    value
        .get("Server")?
        .get("Version")?
        .as_str()
        .map(str::to_owned)
}

/// The version in what `docker compose version --short` prints.
pub fn compose_version(text: &str) -> Option<String> {
    let version = text.trim().trim_start_matches('v');
    version
        .starts_with(|first: char| first.is_ascii_digit())
        .then(|| version.to_owned())
}

/// Our containers in what `docker inspect` prints.
pub fn containers(json: &[u8], labels: Labels) -> Result<Vec<Found>, serde_json::Error> {
    let all: Vec<Inspected> = serde_json::from_slice(json)?;
    let mut found: Vec<Found> = all
        .into_iter()
        .filter_map(|one| found(one, labels))
        .collect();
    found.sort_by(|a, b| {
        (&a.service, a.slot, &a.container.part, &a.id).cmp(&(
            &b.service,
            b.slot,
            &b.container.part,
            &b.id,
        ))
    });
    Ok(found)
}

/// A Swarm keeps containers of before: of each part only those that live count, or the last one.
pub fn last_of_each(found: Vec<Found>) -> Vec<Found> {
    let key = |found: &Found| {
        (
            found.service.clone(),
            found.slot,
            found.container.part.clone(),
        )
    };
    let dead = |found: &Found| matches!(found.container.health, Health::Exited(_));
    let mut last: BTreeMap<_, String> = BTreeMap::new();
    for one in found.iter().filter(|one| dead(one)) {
        let since = last.entry(key(one)).or_default();
        *since = since.clone().max(one.container.since.clone());
    }
    let alive: BTreeSet<_> = found.iter().filter(|one| !dead(one)).map(key).collect();
    let counts = |one: &Found| {
        !dead(one)
            || (!alive.contains(&key(one)) && last.get(&key(one)) == Some(&one.container.since))
    };
    found.into_iter().filter(counts).collect()
}

fn found(one: Inspected, labels: Labels) -> Option<Found> {
    let told = one.config.labels.unwrap_or_default();
    let project = told.get(labels.project)?;
    let part = told
        .get(labels.part)
        .map(String::as_str)
        .unwrap_or_default();
    let part = part
        .strip_prefix(&format!("{project}_"))
        .unwrap_or(part)
        .to_owned();
    let (service, slot) = whose(project, told.get(SERVICE))?;
    let container = Container {
        part,
        image: one.image,
        revision: told.get(REVISION).cloned().map(Revision),
        health: health(&one.state),
        restarts: one.restart_count,
        since: one.state.started_at,
    };
    Some(Found {
        service,
        slot,
        id: one.id,
        container,
    })
}

/// Whose a project is. Its label says it; without one (an operator's own Compose file) the project's name does.
fn whose(project: &str, label: Option<&String>) -> Option<(Option<String>, Slot)> {
    if project == PROXY {
        return Some((None, Slot::A));
    }
    let name = project.strip_prefix(OURS)?;
    let second = name.strip_suffix(SECOND);
    Some(match (label, second) {
        (Some(label), Some(first)) if label == first => (Some(label.clone()), Slot::B),
        (Some(label), _) => (Some(label.clone()), Slot::A),
        (None, Some(first)) => (Some(first.to_owned()), Slot::B),
        (None, None) => (Some(name.to_owned()), Slot::A),
    })
}

fn health(state: &State) -> Health {
    match (state.status.as_str(), &state.health) {
        ("running", Some(checked)) => match checked.status.as_str() {
            "healthy" => Health::Healthy,
            "starting" => Health::Starting,
            "unhealthy" => Health::Unhealthy(last_words(checked)),
            _ => Health::Running,
        },
        ("running", None) => Health::Running,
        ("restarting", _) => Health::Unhealthy(format!(
            "it ended with code {} and is started again",
            state.exit_code
        )),
        ("created", _) => Health::Unhealthy("it was made and never started".to_owned()),
        ("paused", _) => Health::Unhealthy("it is paused".to_owned()),
        _ => Health::Exited(state.exit_code),
    }
}

fn last_words(checked: &Checked) -> String {
    let last = checked
        .log
        .iter()
        .flatten()
        .last()
        .map(|check| check.output.trim())
        .unwrap_or_default();
    last.chars().take(WORDS).collect()
}

/// What an image is called: each in its own line of `docker image ls --digests --format '{{json .}}'`.
#[derive(Debug, Deserialize)]
struct Listed {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Repository")]
    repository: String,
    #[serde(rename = "Tag", default)]
    tag: String,
    #[serde(rename = "Digest", default)]
    digest: String,
}

/// The ids of all images, and all that they may be called: with and without Docker's own registry, by tag, by digest.
pub fn images(lines: &str) -> Result<BTreeSet<String>, serde_json::Error> {
    let mut all = BTreeSet::new();
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let image: Listed = serde_json::from_str(line)?;
        let named = |part: &str| !part.is_empty() && part != "<none>";
        for repository in spellings(&image.repository)
            .iter()
            .filter(|name| named(name))
        {
            if named(&image.tag) {
                all.insert(format!("{repository}:{}", image.tag));
            }
            if named(&image.digest) {
                all.insert(format!("{repository}@{}", image.digest));
            }
            if named(&image.tag) && named(&image.digest) {
                all.insert(format!("{repository}:{}@{}", image.tag, image.digest));
            }
        }
        all.insert(image.id);
    }
    Ok(all)
}

/// A repository of Docker's own registry may be written in four ways.
fn spellings(repository: &str) -> Vec<String> {
    let short = repository
        .trim_start_matches("docker.io/")
        .trim_start_matches("library/");
    match short.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => {
            vec![repository.to_owned()]
        }
        Some(_) => vec![short.to_owned(), format!("docker.io/{short}")],
        None => vec![
            short.to_owned(),
            format!("docker.io/{short}"),
            format!("library/{short}"),
            format!("docker.io/library/{short}"),
        ],
    }
}

/// What `docker load` says the image is: its id, or its name.
pub fn loaded(text: &str) -> Option<String> {
    let lines = text.lines().rev();
    let mut named = lines.filter_map(|line| {
        line.strip_prefix("Loaded image ID: ")
            .or_else(|| line.strip_prefix("Loaded image: "))
    });
    named.next().map(|name| name.trim().to_owned())
}

#[cfg(test)]
mod tests;
