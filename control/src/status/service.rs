//! Services, judged: what `stack.toml` wants, what lies on the host, and what runs. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Look, NodeStatus, Scope};
use crate::lock::Lock;
use crate::observe::{Container, Health, ObservedService, Slot};

/// A service.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// What it is; none where `stack.toml` does not know it.
    pub kind: Option<String>,
    /// Where it is.
    pub host: String,
    /// Its site, by its first name.
    pub site: Option<String>,
    /// How it is.
    pub state: ServiceState,
    /// More of that, in words.
    pub said: Option<String>,
    /// Since when the last of its containers runs, RFC 3339.
    pub since: Option<String>,
    /// How often the engine has restarted its containers.
    pub restarts: u64,
    /// Which revision is in force.
    pub revision: Option<String>,
    /// Where it runs.
    pub slot: Option<Slot>,
    /// Whether it runs the images that the lock names.
    pub images: Option<Images>,
    /// When the oldest of its tags was looked up, RFC 3339.
    pub looked_up: Option<String>,
    /// Its containers.
    pub parts: Vec<PartStatus>,
    /// Of a Bitcoin node: how far it is.
    pub node: Option<NodeStatus>,
}

/// How a service is: as its least well container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    /// It says that it is well.
    Healthy,
    /// It runs, and nobody asks it.
    Running,
    /// It starts.
    Starting,
    /// Its host was not seen.
    Unknown,
    /// It was never deployed there.
    Absent,
    /// It was deployed there, and nothing of it runs.
    Down,
    /// One of its containers has ended.
    Ended,
    /// It says that it is not well.
    Unhealthy,
}

/// Whether the images that run are those that the lock names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Images {
    /// They are.
    Locked,
    /// The lock names another one.
    Other,
    /// The lock does not know one of its tags.
    Unlocked,
}

/// A container of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartStatus {
    /// As its Compose file calls it.
    pub part: String,
    /// How it is.
    pub state: ServiceState,
    /// More of that, in words.
    pub said: Option<String>,
    /// Since when it runs, RFC 3339.
    pub since: String,
    /// How often the engine has restarted it.
    pub restarts: u64,
}

impl ServiceState {
    /// In a word, or a few.
    pub fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Running => "running",
            Self::Starting => "starting",
            Self::Unknown => "unknown",
            Self::Absent => "not deployed",
            Self::Down => "down",
            Self::Ended => "ended",
            Self::Unhealthy => "not healthy",
        }
    }
}

/// All services of the scope, and those on its hosts that no stack knows.
pub(super) fn all(scope: Scope<'_>, looks: &[Look]) -> Vec<ServiceStatus> {
    let by_host: BTreeMap<&str, &Look> = looks
        .iter()
        .map(|look| (look.host.as_str(), look))
        .collect();
    let meant = |name: &str| scope.only.is_none_or(|only| only.contains(name));
    let stack = &scope.loaded.stack;
    let mut services = Vec::new();
    for service in stack.services.iter().filter(|service| meant(&service.name)) {
        let Some(look) = by_host.get(service.host.as_str()) else {
            continue;
        };
        let site = service
            .site
            .and_then(|site| stack.sites.get(site)?.names.first().cloned());
        services.push(ServiceStatus {
            kind: Some(service.kind.clone()),
            site,
            images: images(scope, &service.name, look),
            looked_up: looked_up(scope, &service.name),
            ..found(&service.name, look)
        });
    }
    if scope.only.is_none() {
        services.extend(looks.iter().flat_map(|look| strangers(scope, look)));
    }
    services
}

/// Services that run on a host and that the stack has nowhere, or elsewhere.
fn strangers(scope: Scope<'_>, look: &Look) -> Vec<ServiceStatus> {
    let Ok(seen) = &look.seen else {
        return Vec::new();
    };
    let is_here = |name: &str| {
        scope
            .loaded
            .stack
            .services
            .iter()
            .any(|one| one.name == name && one.host == look.host)
    };
    let runs = |service: &ObservedService| {
        service
            .running
            .values()
            .any(|containers| !containers.is_empty())
    };
    let strange = seen
        .services
        .iter()
        .filter(|(name, service)| !is_here(name) && runs(service));
    strange.map(|(name, _)| found(name, look)).collect()
}

/// A service as it was found on its host.
fn found(name: &str, look: &Look) -> ServiceStatus {
    let empty = ServiceStatus {
        name: name.to_owned(),
        kind: None,
        host: look.host.clone(),
        site: None,
        state: ServiceState::Unknown,
        said: None,
        since: None,
        restarts: 0,
        revision: None,
        slot: None,
        images: None,
        looked_up: None,
        parts: Vec::new(),
        node: look.nodes.get(name).map(super::NodeLook::status),
    };
    let Ok(seen) = &look.seen else {
        return ServiceStatus {
            said: Some(format!("{} was not seen", look.host)),
            ..empty
        };
    };
    let Some(service) = seen.services.get(name) else {
        return ServiceStatus {
            state: ServiceState::Absent,
            ..empty
        };
    };
    let slot = slot(service);
    let containers = slot
        .and_then(|slot| service.running.get(&slot))
        .map_or(&[][..], Vec::as_slice);
    let parts: Vec<PartStatus> = containers.iter().map(part).collect();
    let (state, said) = judged(service, containers, &parts);
    let running = parts
        .iter()
        .filter(|part| !matches!(part.state, ServiceState::Ended));
    ServiceStatus {
        state,
        said,
        since: running.map(|part| part.since.clone()).max(),
        restarts: parts.iter().map(|part| part.restarts).sum(),
        revision: service
            .current
            .as_ref()
            .map(|current| current.revision.to_string()),
        slot,
        parts,
        ..empty
    }
}

/// Where it runs: where it should, or else where something of it does.
fn slot(service: &ObservedService) -> Option<Slot> {
    let runs = |slot: &Slot| {
        service
            .running
            .get(slot)
            .is_some_and(|containers| !containers.is_empty())
    };
    let current = service.current.as_ref().map(|current| current.slot);
    let other = || service.running.keys().copied().find(|slot| runs(slot));
    current.filter(runs).or_else(other).or(current)
}

fn part(container: &Container) -> PartStatus {
    let (state, said) = match &container.health {
        Health::Healthy => (ServiceState::Healthy, None),
        Health::Running => (ServiceState::Running, None),
        Health::Starting => (ServiceState::Starting, None),
        // What has ended with 0 has done its work: a task that runs once.
        Health::Exited(0) => (ServiceState::Healthy, Some("done".to_owned())),
        Health::Exited(code) => (ServiceState::Ended, Some(format!("with exit code {code}"))),
        Health::Unhealthy(words) => {
            let words = super::words::line(words);
            (
                ServiceState::Unhealthy,
                Some(words).filter(|words| !words.is_empty()),
            )
        }
    };
    PartStatus {
        part: container.part.clone(),
        state,
        said,
        since: container.since.clone(),
        restarts: container.restarts,
    }
}

/// How the whole is, as its least well part, and which that is.
fn judged(
    service: &ObservedService,
    containers: &[Container],
    parts: &[PartStatus],
) -> (ServiceState, Option<String>) {
    let all_ended = containers
        .iter()
        .all(|one| matches!(one.health, Health::Exited(_)));
    let Some(worst) = parts
        .iter()
        .max_by_key(|part| part.state)
        .filter(|_| !all_ended)
    else {
        let said = match (&service.current, service.revisions.is_empty()) {
            (None, true) => return (ServiceState::Absent, None),
            (None, false) => "taken down, or cut off before it was healthy",
            (Some(_), _) => "nothing of it runs",
        };
        return (ServiceState::Down, Some(said.to_owned()));
    };
    let said = match (worst.state, &worst.said) {
        (ServiceState::Healthy | ServiceState::Running, _) => revision(service, containers),
        (_, Some(said)) => Some(format!("{}: {said}", worst.part)),
        (_, None) => Some(worst.part.clone()).filter(|_| parts.len() > 1),
    };
    (worst.state, said)
}

/// Says so where what runs is not what was written down last.
fn revision(service: &ObservedService, containers: &[Container]) -> Option<String> {
    let Some(current) = &service.current else {
        return Some("was started by a deployment that was cut off".to_owned());
    };
    let other = containers
        .iter()
        .filter_map(|one| one.revision.as_ref())
        .find(|one| **one != current.revision)?;
    Some(format!(
        "runs revision {other} instead of {}",
        current.revision
    ))
}

/// Whether what runs are the images that the lock names.
fn images(scope: Scope<'_>, name: &str, look: &Look) -> Option<Images> {
    let wanted = scope.images.get(name).filter(|wanted| !wanted.is_empty())?;
    let service = look.seen.as_ref().ok()?.services.get(name)?;
    let containers = service.running.get(&slot(service)?)?;
    let running: BTreeSet<&str> = containers.iter().map(|one| one.image.as_str()).collect();
    let Some(locked) = locked(scope.lock, wanted) else {
        return Some(Images::Unlocked);
    };
    if running.is_empty() {
        return None;
    }
    Some(if running.iter().all(|id| locked.contains(id)) {
        Images::Locked
    } else {
        Images::Other
    })
}

/// When the oldest of its tags was looked up.
fn looked_up(scope: Scope<'_>, name: &str) -> Option<String> {
    let wanted = scope.images.get(name)?.iter();
    let locked = wanted.filter_map(|reference| scope.lock.images.get(reference));
    locked
        .map(|locked| locked.resolved.clone())
        .filter(|resolved| !resolved.is_empty())
        .min()
}

/// What an engine may call these images: by the id of the configuration, or that of the manifest.
fn locked<'l>(lock: &'l Lock, wanted: &BTreeSet<String>) -> Option<BTreeSet<&'l str>> {
    let mut ids = BTreeSet::new();
    for reference in wanted {
        let locked = lock.images.get(reference)?;
        ids.insert(locked.id.as_str());
        ids.extend(locked.digest.as_deref());
    }
    Some(ids)
}
