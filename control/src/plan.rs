//! What has to be done so that the hosts are as they should be: a value, made without I/O from what should be and
//! what is. Stands alone so that it can be shown, kept as text and tested without a host.

// How files change.
mod diff;
// Why, in the operator's words.
mod why;
// A service: kept, changed in place, or beside the old one.
mod service;
// The proxy: placed, started, reloaded, upgraded.
mod proxy;
// What waits for a Bitcoin node.
mod node;
// A host: everything in its order.
mod host;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sovereign_config::stack::catalogue::Rotation;
use sovereign_config::stack::model::ProxyAs;

use crate::desired::{Desired, DesiredHost, DesiredService, File, Files, Image, Program, Revision};
use crate::observe::{DeployedProxy, Observed, Slot};

pub(crate) use why::pins;

/// What has to be done so that the hosts are as they should be.
pub fn plan(desired: &Desired, observed: &Observed, filter: &Filter) -> Plan {
    let hosts = desired.hosts.iter().filter(|host| filter.takes_host(host));
    let hosts = hosts.map(|host| host::plan(host, desired, observed, filter));
    Plan {
        hosts: hosts.collect(),
    }
}

/// What of the stack is looked at; an empty set leaves nothing out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Hosts, by name.
    pub hosts: BTreeSet<String>,
    /// Services, by name.
    pub services: BTreeSet<String>,
    /// Sites, by the first of their names.
    pub sites: BTreeSet<String>,
}

impl Step {
    /// A step that needs no explanation.
    fn of(subject: Subject, action: Action) -> Self {
        Self {
            subject,
            action,
            why: Vec::new(),
            diff: Vec::new(),
            destroys: None,
        }
    }
}

impl Filter {
    /// Whether everything on a host is meant.
    pub fn is_whole_host(&self) -> bool {
        self.services.is_empty() && self.sites.is_empty()
    }

    /// Whether anything on this host is meant.
    fn takes_host(&self, host: &DesiredHost) -> bool {
        let named = self.hosts.is_empty() || self.hosts.contains(&host.name);
        named && (self.is_whole_host() || self.takes_proxy(host))
    }

    /// Whether this service is meant.
    fn takes(&self, service: &DesiredService) -> bool {
        self.is_whole_host()
            || self.services.contains(&service.name)
            || self.sites.contains(&service.site)
    }

    /// Whether the proxy of this host is meant: visitors of a service or of a site that is meant come through it.
    fn takes_proxy(&self, host: &DesiredHost) -> bool {
        self.is_whole_host()
            || host.services.iter().any(|service| self.takes(service))
            || proxy::sites(&host.proxy)
                .iter()
                .any(|name| self.sites.contains(name))
    }
}

/// What has to be done, host by host; hosts do not wait for each other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// In the order of `stack.toml`.
    pub hosts: Vec<HostPlan>,
}

/// What has to be done on a host, in this order.
#[derive(Debug, Clone, PartialEq)]
pub struct HostPlan {
    /// The name of the host.
    pub host: String,
    /// The steps; none where nothing has to be done.
    pub steps: Vec<Step>,
    /// Why nothing can be planned for it, and the way out.
    pub blocked: Option<(String, Option<String>)>,
    /// How many services and proxies are as they should be.
    pub unchanged: usize,
    /// Who else deploys to it at this moment, and since when: then this may be out of date when it is read.
    pub locked_by: Option<String>,
}

impl Plan {
    /// Whether nothing has to be done and nothing stands in the way.
    pub fn is_done(&self) -> bool {
        self.hosts
            .iter()
            .all(|host| host.steps.is_empty() && host.blocked.is_none())
    }

    /// Whether there is anything that can be done.
    pub fn has_steps(&self) -> bool {
        self.hosts.iter().any(|host| !host.steps.is_empty())
    }

    /// What would be destroyed, by name.
    pub fn destroys(&self) -> Vec<&str> {
        let steps = self.hosts.iter().flat_map(|host| &host.steps);
        steps.filter_map(|step| step.destroys.as_deref()).collect()
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// On what.
    pub subject: Subject,
    /// What.
    pub action: Action,
    /// Why, in the operator's words; one reason a line.
    pub why: Vec<String>,
    /// How files change, for people; secrets are not in it.
    pub diff: Vec<FileDiff>,
    /// The data that it destroys, where it does; then the operator types the name.
    pub destroys: Option<String>,
}

/// What a step is done on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The host itself.
    Host,
    /// A service, by name.
    Service(String),
    /// The proxy.
    Proxy,
}

/// What is done. Everything that doing it needs is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// An archive is taken before anything changes. Not set up yet: says so, does nothing.
    Archive,
    /// An image is pulled, or sent over SSH.
    Image(Image),
    /// Files of a revision are placed beside the current ones.
    Place {
        /// Which.
        revision: Revision,
        /// What lies there then.
        files: Files,
    },
    /// A Bitcoin node is waited for until it has the whole chain: what comes after this needs that.
    AwaitBitcoin {
        /// Where it runs.
        slot: Slot,
        /// How long it is waited for.
        patience: Duration,
    },
    /// A secret is changed in a running part that keeps it by itself.
    Rotate {
        /// Where the service runs.
        slot: Slot,
        /// In what.
        to: NewSecret,
    },
    /// A service is started or changed where it is: down for as long as it takes.
    Start {
        /// Which revision.
        revision: Revision,
        /// Where.
        slot: Slot,
        /// What goes back in force where it does not get healthy.
        before: Option<Revision>,
        /// Secrets that go back with it.
        back: Vec<NewSecret>,
        /// How it is run.
        run: Run,
    },
    /// A new one is started in the other slot and waited for; the old one goes on.
    StartBeside {
        /// Which revision.
        revision: Revision,
        /// Where.
        slot: Slot,
        /// How it is run.
        run: Run,
    },
    /// The old one in this slot is stopped, once the proxy has moved.
    StopBeside {
        /// Where.
        slot: Slot,
    },
    /// A service that the stack no longer has is stopped and its files go; volumes stay.
    Remove,
    /// The program of the proxy is placed beside the running one.
    PlaceProgram(Program),
    /// The proxy is started for the first time, or again where it does not run.
    StartProxy(ProxyChange),
    /// The running proxy reads a new configuration.
    ReloadProxy(ProxyChange),
    /// The running proxy is replaced by a new program; no request fails.
    UpgradeProxy(ProxyChange),
    /// The deployment is written down on the host, and generations too old to keep go.
    Record {
        /// The revision of each service that is then in force.
        services: BTreeMap<String, Revision>,
        /// The options of each service, as the operator reads them.
        options: BTreeMap<String, BTreeMap<String, String>>,
        /// The proxy that is then in force.
        proxy: Option<DeployedProxy>,
    },
}

/// A secret for a part that keeps it by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSecret {
    /// How it is changed there.
    pub rotation: Rotation,
    /// The file that holds it.
    pub file: File,
}

/// How a service is run, beside what its files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The port on 127.0.0.1 where it listens.
    pub port: Option<u16>,
    /// How long it may take until it is healthy.
    pub patience: Duration,
}

/// What is put in force of a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyChange {
    /// What should run.
    pub now: DeployedProxy,
    /// How.
    pub runs: ProxyAs,
    /// What goes back in force where the new one is refused.
    pub before: Option<DeployedProxy>,
    /// How it ran before, where that was another way.
    pub was: Option<ProxyAs>,
}

/// How a file changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDiff {
    /// Its path in the revision's folder.
    pub path: String,
    /// The change as lines with `+`, `-` or a space before each; one line of words for a secret.
    pub lines: Vec<String>,
}

#[cfg(test)]
pub(crate) mod stage;
#[cfg(test)]
mod tests;
