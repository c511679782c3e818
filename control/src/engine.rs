//! What runs services on a host: Docker Engine with Compose, or a Swarm. Stands alone so that a deployment is the same
//! for both.

// Docker Engine with Compose, on one host.
mod compose;
// A Swarm.
mod swarm;
// What an engine prints, as values.
pub mod parse;
// Images: there or not, pulled, sent.
mod images;
// What both do in the same way.
mod docker;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sovereign_config::stack::model;

use crate::desired::Image;
use crate::observe::{Container, EngineState, Slot};
use crate::ssh::{Each, Input, Output, Remote};

pub use compose::Compose;
pub use images::is_here;
pub use swarm::Swarm;

/// The project of a proxy that runs in a container: no service's project has this form.
const PROXY: &str = "sovereign_proxy";

/// What runs services on a host.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Whether the engine answers, and its version; the version of Compose, where it is there.
    async fn version(&self) -> Result<(EngineState, Option<String>), Error>;

    /// The containers of all services and of the proxy on this host.
    async fn containers(&self) -> Result<Vec<Found>, Error>;

    /// Starts a project from its Compose file, or changes what runs to it, and waits until it is healthy. What cannot
    /// get healthy is an error with its last words; nothing is undone.
    async fn up(&self, project: &Project, file: &str, patience: Duration) -> Result<(), Error>;

    /// Removes the containers and networks of a project; volumes stay.
    async fn remove(&self, project: &Project) -> Result<(), Error>;

    /// Destroys volumes, by name, and what is in them.
    async fn purge(&self, volumes: &[String]) -> Result<(), Error>;

    /// The ids, names and pinned references of all images that lie there.
    async fn images(&self) -> Result<BTreeSet<String>, Error>;

    /// Pulls an image by its digest.
    async fn pull(&self, pinned: &str) -> Result<(), Error>;

    /// Sends an image from the engine of this machine, and names it there as it is pinned. `progress` hears how many
    /// bytes went, and of how many.
    async fn send(
        &self,
        image: &Image,
        progress: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<(), Error>;

    /// Hands on what a project logs, line by line.
    async fn logs(&self, project: &Project, which: &Logs<'_>, each: Each<'_>) -> Result<(), Error>;

    /// Runs a command in a container of a project. A code other than 0 is in the answer.
    async fn exec(
        &self,
        project: &Project,
        part: &str,
        argv: &[&str],
        input: Input<'_>,
        deadline: Duration,
    ) -> Result<Output, Error>;

    /// The arguments that run a command in a container, for a terminal.
    async fn exec_argv(
        &self,
        project: &Project,
        part: &str,
        argv: &[&str],
        terminal: bool,
    ) -> Result<Vec<String>, Error>;

    /// Restarts the containers of a project, or one of them.
    async fn restart(&self, project: &Project, part: Option<&str>) -> Result<(), Error>;
}

/// The engine of this kind, at the other end of this connection.
pub fn of(kind: model::Engine, remote: Arc<dyn Remote>) -> Box<dyn Engine> {
    match kind {
        model::Engine::Docker => Box::new(Compose::new(remote)),
        model::Engine::Swarm => Box::new(Swarm::new(remote)),
    }
}

/// What belongs together on an engine: a project of Compose, a stack of a Swarm.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Project {
    name: String,
    /// The port on 127.0.0.1 where it listens, where that is another than its Compose file says.
    port: Option<u16>,
}

impl Project {
    /// A service in a slot.
    pub fn service(name: &str, slot: Slot) -> Self {
        let name = match slot {
            Slot::A => format!("sovereign-{name}"),
            Slot::B => format!("sovereign-{name}-b"),
        };
        Self { name, port: None }
    }

    /// The proxy, where it runs in a container. No service can be called so.
    pub fn proxy() -> Self {
        Self {
            name: PROXY.to_owned(),
            port: None,
        }
    }

    /// The same, listening at this port of 127.0.0.1.
    pub fn at(self, port: Option<u16>) -> Self {
        Self { port, ..self }
    }

    /// Before a command that reads its Compose file: what that asks for by name, the revision, which is the folder
    /// that it lies in, and where to listen.
    fn environment(&self, file: &str) -> Vec<String> {
        let revision = file.rsplit('/').nth(1).unwrap_or_default();
        let port = self.port.map(|port| format!("SOVEREIGN_PORT={port}"));
        ["env".to_owned(), format!("SOVEREIGN_REVISION={revision}")]
            .into_iter()
            .chain(port)
            .collect()
    }

    /// Whether it is the proxy.
    fn is_proxy(&self) -> bool {
        self.name == PROXY
    }

    /// The port where it listens, where it was told one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// What the engine calls it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Project {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A container that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Of which service, by its label `sovereign.service`; `None`: of the proxy.
    pub service: Option<String>,
    /// Where it runs.
    pub slot: Slot,
    /// Its id.
    pub id: String,
    /// How it is.
    pub container: Container,
}

/// Which lines of a log.
#[derive(Debug, Clone, Copy, Default)]
pub struct Logs<'a> {
    /// Of one container only.
    pub part: Option<&'a str>,
    /// What comes, too, until this is dropped.
    pub follow: bool,
    /// How many of the last ones; all where it is not given.
    pub tail: Option<u32>,
    /// Since when, as Docker writes it: `10m`, or RFC 3339.
    pub since: Option<&'a str>,
    /// With the time of each.
    pub times: bool,
}

/// What went wrong with an engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host, the connection, or a command on it.
    #[error(transparent)]
    Remote(#[from] crate::ssh::Error),
    /// Something that was started did not get healthy.
    #[error("{host}: {project} did not get healthy, for which it has {}: {}", crate::ssh::seconds(.patience), told(.parts))]
    Unhealthy {
        /// The host.
        host: String,
        /// Of what.
        project: String,
        /// How long it was waited for.
        patience: Duration,
        /// What is not well.
        parts: Vec<Unwell>,
        /// What the engine said, where it said more.
        #[source]
        source: Option<Box<crate::ssh::Error>>,
    },
    /// No such container runs.
    #[error("{host}: no container `{part}` of {project} runs")]
    NotRunning {
        /// The host.
        host: String,
        /// Of what.
        project: String,
        /// The name of its service in the Compose file.
        part: String,
    },
    /// The image is not on this machine.
    #[error("the engine of this machine has no image `{image}`: {said}")]
    NoImage {
        /// What was asked for.
        image: String,
        /// What the engine said.
        said: String,
    },
    /// Another image came than the one that was sent.
    #[error("{host}: what was loaded of {image} is {found}, and not {wanted}")]
    OtherImage {
        /// The host.
        host: String,
        /// What was sent, as the stack names it.
        image: String,
        /// Its id, as the lock file has it.
        wanted: String,
        /// The id of what came.
        found: String,
    },
    /// The Compose file cannot be run by this engine.
    #[error("{host}: {project} cannot be run by a Swarm: {why}")]
    Unfit {
        /// The host.
        host: String,
        /// Of what.
        project: String,
        /// What does not fit.
        why: String,
    },
}

/// A container that is not well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwell {
    /// The name of its service in the Compose file.
    pub part: String,
    /// How it is, in words.
    pub state: String,
    /// What it logged last.
    pub last: Vec<String>,
}

/// The state of each, and its last words under it.
fn told(parts: &[Unwell]) -> String {
    let mut text = Vec::new();
    for part in parts {
        text.push(format!("{} {}", part.part, part.state));
        text.extend(
            part.last
                .iter()
                .map(|line| format!("  {} | {line}", part.part)),
        );
    }
    text.join("\n")
}

impl Error {
    /// The way out.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Remote(error) => error.hint(),
            Self::Unhealthy { .. } => Some("what ran before still does, or is put back; the lines above are its last words".to_owned()),
            Self::NotRunning { host, .. } => Some(format!("`sovereign status --host {host}` shows what runs")),
            Self::NoImage { .. } => Some("build or pull it on this machine first, or set images = \"registry\" in stack.toml".to_owned()),
            Self::OtherImage { image, .. } => Some(format!(
                "both engines have to keep images in the same way (`docker info`, Storage Driver); `sovereign lock --update {image}` takes the one that this machine has now"
            )),
            Self::Unfit { .. } => Some("run it on a host with engine = \"docker\"".to_owned()),
        }
    }
}

impl Logs<'_> {
    /// As options of `docker logs`, of Compose's, and of a Swarm's services alike.
    fn options(&self) -> Vec<String> {
        let mut options = Vec::new();
        options.extend(self.follow.then(|| "--follow".to_owned()));
        options.extend(self.tail.map(|lines| format!("--tail={lines}")));
        options.extend(self.since.map(|since| format!("--since={since}")));
        options.extend(self.times.then(|| "--timestamps".to_owned()));
        options
    }
}

/// Hands on what a command prints; a code other than 0 is an error, and its words were handed on already.
async fn streamed(remote: &dyn Remote, argv: &[&str], each: Each<'_>) -> Result<(), Error> {
    match remote.lines(argv, each).await? {
        0 => Ok(()),
        code => Err(crate::ssh::Error::failed(
            remote.name(),
            argv,
            &Output {
                code,
                ..Output::default()
            },
        )
        .into()),
    }
}
