//! How everything is: all hosts, their services and proxies, and what of it needs attention. A value, made from what
//! was seen; stands alone so that a table, JSON, a screen and a feed all show the same.
//!
//! # As JSON
//! `sovereign status --json` prints this value. Members are added to it, and not taken away or renamed.
//!
//! ```text
//! stack, at                the name of the stack; when it was looked, RFC 3339
//! hosts[]                  name, datacentre, state ("up", "unreachable"), why, hint, engine { state ("up", "down",
//!                          "no manager", "missing"), version, compose, why }, disk { size, free }, proxy, locked_by, deployment
//! hosts[].proxy            state ("serving", "draining", "silent", "missing"), why, version, program, revision, sites,
//!                          certificates[] { names, days_left, not_after, state, trouble }, the soonest to lapse first
//! hosts[].deployment       number, at, by: the last one
//! services[]               name, kind, host, site, state, said, since, restarts, revision, slot, images, parts[], node
//! services[].state         "healthy", "running", "starting", "unhealthy", "ended", "down", "absent", "unknown"
//! hosts[].updates          security[], packages whose update is late; restart: it has to be started anew. null: not known
//! services[].looked_up     when the oldest of its tags was looked up, RFC 3339
//! services[].images        "locked": those of sovereign.lock; "other"; "unlocked": not in it; null: not known
//! services[].parts[]       part, state, said, since, restarts
//! services[].node          of a Bitcoin node: state ("answers", "starting", "silent"), chain, blocks, headers,
//!                          progress, synced, pruned, size, peers, version, warnings[], left_seconds
//! attention[]              id (stays while it is the same trouble), kind, host, service, what, hint, due
//! ```

// Looking: the hosts, and the nodes on them.
mod gather;
// What was seen, judged service by service.
mod service;
// What a proxy says.
mod proxy;
// Updates that a host waits for.
mod updates;
// What needs attention.
mod attention;
// The value as text.
mod show;
// What is looked at, and looking at all of it.
mod survey;
// Lengths of time and sizes, in words.
pub mod words;

use serde::Serialize;
use sovereign_config::stack::model;
use time::OffsetDateTime;

use crate::bitcoin;
use crate::context::Loaded;
use crate::lock::Lock;
use crate::observe::{EngineState, ObservedHost};

pub use attention::{Attention, Kind};
pub use gather::{Asked, Look, NodeLook, Pace, look, nodes};
pub use proxy::{CertificateStatus, ProxyState, ProxyStatus};
pub use service::{Images, PartStatus, ServiceState, ServiceStatus};
pub use show::{render, screen, tables};
pub use survey::Survey;
pub use updates::Updates;

/// How everything is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The name of the stack.
    pub stack: String,
    /// When it was looked, RFC 3339.
    pub at: String,
    /// Hosts, in the order of `stack.toml`.
    pub hosts: Vec<HostStatus>,
    /// Services, in the order of `stack.toml`; those that it does not know at the end.
    pub services: Vec<ServiceStatus>,
    /// What needs attention, the gravest first.
    pub attention: Vec<Attention>,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HostStatus {
    /// Its name.
    pub name: String,
    /// Its data centre.
    pub datacentre: String,
    /// Whether it answers.
    pub state: HostState,
    /// Why it does not.
    pub why: Option<String>,
    /// The way out.
    pub hint: Option<String>,
    /// What runs its services.
    pub engine: Option<EngineStatus>,
    /// The disk that everything lies on.
    pub disk: Option<DiskStatus>,
    /// Updates that it waits for; none where that is not known.
    pub updates: Option<Updates>,
    /// Its proxy.
    pub proxy: Option<ProxyStatus>,
    /// Who is deploying to it now.
    pub locked_by: Option<String>,
    /// The last deployment to it.
    pub deployment: Option<DeploymentStatus>,
}

/// Whether a host answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HostState {
    /// It does.
    Up,
    /// It does not.
    Unreachable,
}

/// An engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EngineStatus {
    /// `up`, `down`, `missing`.
    pub state: &'static str,
    /// Its version.
    pub version: Option<String>,
    /// The version of Compose.
    pub compose: Option<String>,
    /// Why it does not answer.
    pub why: Option<String>,
}

/// A disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DiskStatus {
    /// Its size.
    pub size: u64,
    /// What is free.
    pub free: u64,
}

/// A deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeploymentStatus {
    /// Counts from 1 on each host.
    pub number: u64,
    /// When it ended.
    pub at: String,
    /// Who: `user@machine`.
    pub by: String,
}

/// A Bitcoin node: what it says, and what is left.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeStatus {
    /// What it says.
    #[serde(flatten)]
    pub seen: NodeSeen,
    /// How long it takes until it has the whole chain, where two looks could tell.
    pub left_seconds: Option<u64>,
}

/// What a node says.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum NodeSeen {
    /// Something.
    Said(bitcoin::Seen),
    /// Nothing.
    Silent {
        /// `silent`.
        state: &'static str,
        /// Why.
        why: String,
    },
}

/// What is looked at: a stack or a part of it, and its lock.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'s> {
    /// The stack.
    pub loaded: &'s Loaded,
    /// What the tags mean.
    pub lock: &'s Lock,
    /// The images of each service, by tag.
    pub images: &'s std::collections::BTreeMap<String, std::collections::BTreeSet<String>>,
    /// Only these services, where not all are meant.
    pub only: Option<&'s std::collections::BTreeSet<String>>,
}

impl Status {
    /// Puts together what was seen.
    pub fn of(scope: Scope<'_>, looks: &[Look], now: OffsetDateTime) -> Self {
        let stack = &scope.loaded.stack;
        let hosts = looks.iter().filter_map(|look| {
            let host = stack.hosts.iter().find(|host| host.name == look.host)?;
            Some(host_status(host, look))
        });
        let mut status = Self {
            stack: stack.name.clone(),
            at: words::rfc3339(now),
            hosts: hosts.collect(),
            services: service::all(scope, looks),
            attention: Vec::new(),
        };
        status.attention = attention::of(&status, looks, now);
        status
    }
}

fn host_status(host: &model::Host, look: &Look) -> HostStatus {
    let empty = HostStatus {
        name: host.name.clone(),
        datacentre: host.datacentre.clone(),
        state: HostState::Up,
        why: None,
        hint: None,
        engine: None,
        disk: None,
        updates: look.updates.clone(),
        proxy: None,
        locked_by: None,
        deployment: None,
    };
    match &look.seen {
        Err(unseen) => HostStatus {
            state: HostState::Unreachable,
            why: Some(words::without_host(&unseen.why, &host.name)),
            hint: unseen.hint.clone(),
            ..empty
        },
        Ok(seen) => HostStatus {
            engine: Some(engine(seen)),
            disk: Some(DiskStatus {
                size: seen.disk.size,
                free: seen.disk.free,
            }),
            proxy: Some(proxy::status(&host.name, seen.proxy.as_ref())),
            locked_by: seen.locked_by.clone(),
            deployment: seen.deployments.last().map(|last| DeploymentStatus {
                number: last.number,
                at: last.at.clone(),
                by: last.by.clone(),
            }),
            ..empty
        },
    }
}

fn engine(seen: &ObservedHost) -> EngineStatus {
    let (state, version, why) = match &seen.engine {
        EngineState::Up(version) => ("up", Some(version.clone()), None),
        EngineState::Down(why) => ("down", None, Some(why.clone())),
        EngineState::NoManager { why, hint } => {
            ("no manager", None, Some(format!("{why}: {hint}")))
        }
        EngineState::Missing => ("missing", None, None),
    };
    EngineStatus {
        state,
        version,
        compose: seen.compose.clone(),
        why,
    }
}

#[cfg(test)]
mod tests;
