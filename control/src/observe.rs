//! What is on each host, as a value. Stands alone so that a plan is made of values only.

// The looking itself.
mod look;

use std::collections::{BTreeMap, BTreeSet};

use crate::desired::{Files, Image, Revision};

pub use look::{look, observe};

/// What a host looks like.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// By host, in the order of `stack.toml`; why it could not be looked at, where it could not.
    pub hosts: Vec<(String, Result<ObservedHost, Unseen>)>,
}

/// Why a host could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unseen {
    /// What went wrong, with its causes.
    pub why: String,
    /// The way out.
    pub hint: Option<String>,
}

/// What is on a host that answers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ObservedHost {
    /// The engine's version, or why it does not answer.
    pub engine: EngineState,
    /// The version of Compose, where it is there.
    pub compose: Option<String>,
    /// Services by name, also those that no stack knows any more.
    pub services: BTreeMap<String, ObservedService>,
    /// The proxy, where one was placed.
    pub proxy: Option<ObservedProxy>,
    /// The ids and pinned references of all images that lie there.
    pub images: BTreeSet<String>,
    /// Digests of the proxy's programs that lie there, 12 digits.
    pub programs: BTreeSet<String>,
    /// The disk of `/var/lib/sovereign`.
    pub disk: Disk,
    /// Deployments of before, oldest first.
    pub deployments: Vec<Deployment>,
    /// Who holds the lock, where somebody does.
    pub locked_by: Option<String>,
}

impl ObservedHost {
    /// Whether its engine has this image.
    pub fn has(&self, image: &Image) -> bool {
        self.images.contains(&image.pinned)
    }
}

/// Whether the engine answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum EngineState {
    /// It is there, in this version.
    Up(String),
    /// It is installed and does not answer: why.
    Down(String),
    /// It answers, and cannot be told what its Swarm shall run.
    NoManager {
        /// Why.
        why: String,
        /// The way out.
        hint: String,
    },
    /// It is not installed.
    #[default]
    Missing,
}

/// A service that was placed on a host.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ObservedService {
    /// Which revision should run, by what was written last; none where a deployment was cut off before.
    pub current: Option<Current>,
    /// The files of that revision, as they lie there.
    pub files: Files,
    /// Revisions that lie there whole.
    pub revisions: BTreeSet<Revision>,
    /// Its containers, by slot.
    pub running: BTreeMap<Slot, Vec<Container>>,
}

/// What `current` says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Current {
    /// Which revision.
    pub revision: Revision,
    /// Where it runs.
    pub slot: Slot,
}

/// One of two places where a service may run, so that a new one can stand beside the old.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The usual one.
    A,
    /// The other one.
    B,
}

impl Slot {
    /// The one that this is not.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// A container of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The name of its service in the Compose file.
    pub part: String,
    /// The id of its image.
    pub image: String,
    /// The revision it was started from, by its label `sovereign.revision`.
    pub revision: Option<Revision>,
    /// How it is.
    pub health: Health,
    /// How often the engine has restarted it.
    pub restarts: u64,
    /// Since when it runs, RFC 3339.
    pub since: String,
}

/// How a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It says that it is well.
    Healthy,
    /// It runs, and nobody asks it.
    Running,
    /// It starts.
    Starting,
    /// It runs and says that it is not well: its last words.
    Unhealthy(String),
    /// It has ended, with this code.
    Exited(i64),
}

/// The proxy of a host.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedProxy {
    /// Which configuration it was given last.
    pub revision: Revision,
    /// Which program it was given last, 12 digits.
    pub program: String,
    /// Its files of that revision, as they lie there.
    pub files: Files,
    /// What it says itself over its admin API (`status --json`), or why it does not answer.
    pub status: Result<serde_json::Value, String>,
}

impl ObservedProxy {
    /// What of it is in force.
    pub fn deployed(&self) -> DeployedProxy {
        DeployedProxy {
            revision: self.revision.clone(),
            program: self.program.clone(),
        }
    }
}

/// A disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Disk {
    /// Its size, in bytes.
    pub size: u64,
    /// What is free, in bytes.
    pub free: u64,
}

/// A deployment of before.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Deployment {
    /// Counts from 1 on each host.
    pub number: u64,
    /// When it ended, RFC 3339.
    pub at: String,
    /// Who: `user@machine`.
    pub by: String,
    /// The revision of each service.
    pub services: BTreeMap<String, Revision>,
    /// The options of each service, as the operator reads them, so that a plan can say which one changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, BTreeMap<String, String>>,
    /// The proxy's.
    pub proxy: Option<DeployedProxy>,
}

/// A proxy of a deployment of before.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeployedProxy {
    /// Its configuration.
    pub revision: Revision,
    /// Its program, 12 digits.
    pub program: String,
}
