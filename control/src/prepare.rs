//! What a host needs before anything can be deployed to it: an engine with Compose, a firewall, and security updates
//! that install themselves. What is there already stays as it is, so that this can be run again at any time. Stands
//! alone because it is the one thing that is done to a host as such, and not for a deployment.
//!
//! ```text
//! facts (looks) -> plan (pure) -> shown -> apply (does what the plan says)
//! ```
//!
//! Everything comes from the distribution, or from this machine: no other package source is added, and nobody else is
//! asked. The firewall is a table of its own beside the engine's rules, which stay as they are; where somebody else's
//! is in force already, none is set up.

// What is there.
mod facts;
// A firewall that is not ours.
mod foreign;
// Compose of this machine.
mod plugin;
// The rules.
mod firewall;
// What has to be done: pure.
mod steps;
// Doing it.
mod apply;

use std::time::Duration;

use sovereign_config::stack::catalogue;
use sovereign_config::stack::model;

use crate::catalogue::{ExpressionError, public_ports};
use crate::context::Loaded;
use crate::desired::Sources;

pub use apply::{Error, apply};
pub use facts::{Facts, Listener, Release, look};
pub use firewall::Open;
pub use plugin::{Plugin, find};
pub use steps::{lacks_compose, plan};

/// Where the rules lie.
pub const RULES: &str = "/etc/sovereign/firewall.nft";
/// What loads them when the host starts.
pub const UNIT: &str = "/etc/systemd/system/sovereign-firewall.service";
/// What switches updates on.
pub const UPDATES: &str = "/etc/apt/apt.conf.d/52sovereign-updates";

/// What is wanted of a host.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Its name.
    pub host: String,
    /// What runs its services.
    pub engine: model::Engine,
    /// Ports that services are reached at, past the proxy, each with whose it is.
    pub public: Vec<(u16, String)>,
    /// The addresses of the other hosts of its Swarm.
    pub swarm: Vec<std::net::IpAddr>,
    /// Hosts of it whose address is no IP address: no rule can name them.
    pub nameless: Vec<String>,
    /// Compose of this machine, for a host that lacks one.
    pub compose: Option<Plugin>,
}

/// What has to be done to a host.
#[derive(Debug, Clone, PartialEq)]
pub struct Preparation {
    /// Its name.
    pub host: String,
    /// What it is: `Debian GNU/Linux 13 (trixie)`.
    pub system: String,
    /// The steps, in this order; none where it has what it needs.
    pub steps: Vec<Step>,
    /// What an operator should know.
    pub notes: Vec<String>,
    /// Why it cannot be prepared, and the way out.
    pub blocked: Option<(String, String)>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What, in a few words.
    pub what: String,
    /// More of that, a line each.
    pub more: Vec<String>,
    /// How.
    pub act: Act,
}

/// How something is done.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// A command.
    Run {
        /// Its arguments.
        argv: Vec<String>,
        /// How long it may take.
        deadline: Duration,
    },
    /// A file is written, all or nothing.
    Write {
        /// Where.
        path: String,
        /// What it holds.
        text: String,
    },
    /// A program of this machine is placed.
    Send {
        /// Where it lies here.
        from: std::path::PathBuf,
        /// SHA-256.
        digest: String,
        /// Where it goes.
        path: &'static str,
    },
    /// The rules of the firewall come into force; they are taken back where no new connection comes through them.
    Guard {
        /// What loads them, as `nft -f -` reads it.
        rules: String,
        /// What takes them back.
        undo: Vec<String>,
    },
}

impl Preparation {
    /// The plan, for people.
    pub fn text(&self) -> String {
        let mut lines = vec![format!("{}: {}", self.host, self.system)];
        if let Some((why, hint)) = &self.blocked {
            lines.push(format!("  cannot be prepared: {why}"));
            lines.push(format!("  hint: {hint}"));
        } else if self.steps.is_empty() {
            lines.push("  has what it needs".to_owned());
        }
        for step in &self.steps {
            lines.push(format!("  + {}", step.what));
            lines.extend(step.more.iter().map(|more| format!("      {more}")));
            if let Some(command) = step.act.command() {
                lines.push(format!("      $ {command}"));
            }
        }
        lines.extend(self.notes.iter().map(|note| format!("  note: {note}")));
        lines.join("\n")
    }
}

impl Act {
    /// As it would be typed, or where it writes.
    fn command(&self) -> Option<String> {
        match self {
            Self::Run { argv, .. } => Some(argv.join(" ")),
            Self::Write { .. } | Self::Send { .. } => None,
            Self::Guard { .. } => Some("nft -f -".to_owned()),
        }
    }
}

impl Wanted {
    /// Of a host of this stack.
    pub fn of(
        loaded: &Loaded,
        sources: &Sources,
        host: &model::Host,
    ) -> Result<Self, ExpressionError> {
        let stack = &loaded.stack;
        let mut public = Vec::new();
        for service in stack
            .services
            .iter()
            .filter(|service| service.host == host.name)
        {
            let ports = match loaded.catalogue.get(&service.kind) {
                Some(kind) => public_ports(kind, service)?,
                None if service.kind == catalogue::CUSTOM => sources.published(&service.name),
                None => Vec::new(),
            };
            public.extend(ports.into_iter().map(|port| (port, service.name.clone())));
        }
        public.sort();
        let is_swarm = |other: &model::Host| other.engine == model::Engine::Swarm;
        let mut wanted = Self {
            host: host.name.clone(),
            engine: host.engine,
            public,
            swarm: Vec::new(),
            nameless: Vec::new(),
            compose: None,
        };
        let others = stack
            .hosts
            .iter()
            .filter(|other| other.name != host.name && is_swarm(other) && is_swarm(host));
        for other in others {
            match other.address.parse() {
                Ok(address) => wanted.swarm.push(address),
                Err(_) => wanted.nameless.push(other.name.clone()),
            }
        }
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests;
