//! What should be on each host: the stack, with the catalogue, the secrets and the locked images, rendered to
//! files. A pure function; stands alone so that a plan can compare it with what is there.

// Ports on 127.0.0.1.
mod ports;
// What templates can ask for, beside values.
mod functions;
// Names of people on Nostr (NIP-05).
mod nip05;
// What templates see.
mod context;
// What is read from this machine beforehand.
pub mod sources;
// The files of a service.
mod service;
// The operator's own Compose file.
mod custom;
// The rules of a service for the proxy, at its place under a site.
mod rules;
// A site in `proxy.toml`.
mod site;
// `proxy.toml` of a host.
mod proxy;
// The files that it names.
mod named;
// How a proxy is run: a unit, or a Compose file.
pub mod run;
// Digests over files.
mod revision;
// What can be wrong.
mod error;
// A rendering that only finds what is wrong.
mod rehearsal;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use sovereign_config::stack::catalogue::{Catalogue, Rotation};
use sovereign_config::stack::model::{Engine, ProxyAs, Stack};

pub use error::RenderError;
pub use ports::SLOT_B;
pub use proxy::check as check_proxy;
pub use rehearsal::rehearse;
pub use run::IMAGE as PROXY_IMAGE;
pub use sources::Sources;

/// What is rendered from. Everything is a value that was read before.
#[derive(Clone, Copy)]
pub struct Inputs<'i> {
    /// The stack.
    pub stack: &'i Stack,
    /// The kinds of service there are.
    pub catalogue: &'i Catalogue,
    /// What the secrets file holds, by name.
    pub secrets: &'i BTreeMap<String, String>,
    /// What the tags mean, by reference.
    pub lock: &'i BTreeMap<String, Image>,
    /// The program of the proxy.
    pub program: &'i Program,
    /// Files of this machine that services bring along.
    pub sources: &'i Sources,
}

/// Renders everything that should be on the hosts.
pub fn render(inputs: Inputs<'_>) -> Result<Desired, RenderError> {
    let mut hosts = Vec::new();
    for host in &inputs.stack.hosts {
        let ports = ports::of_host(inputs.stack, &host.name)?;
        let mut services = Vec::new();
        for service in service::in_order(inputs, &host.name)? {
            services.push(service::render(inputs, service, &ports)?);
        }
        hosts.push(DesiredHost {
            name: host.name.clone(),
            engine: host.engine,
            services,
            proxy: proxy::render(inputs, host, &ports)?,
        });
    }
    Ok(Desired { hosts })
}

impl DesiredHost {
    /// The proxy where these services, by name, run in slot b: their upstreams are the ports of that slot.
    pub fn proxy_with(&self, beside: &BTreeSet<String>) -> DesiredProxy {
        let mut proxy = self.proxy.clone();
        let moved = self.services.iter().filter(|service| service.two);
        for service in moved.filter(|service| beside.contains(&service.name)) {
            if let Some(port) = service.port {
                proxy.move_upstream(port, port + SLOT_B);
            }
        }
        proxy.revision = revision::of(&proxy.files, proxy.image.iter());
        proxy
    }
}

/// What should be on all hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    /// By host, in the order of `stack.toml`.
    pub hosts: Vec<DesiredHost>,
}

/// What should be on a host.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredHost {
    /// The name of the host.
    pub name: String,
    /// What runs its services.
    pub engine: Engine,
    /// Its services, those that others need first.
    pub services: Vec<DesiredService>,
    /// Its proxy.
    pub proxy: DesiredProxy,
}

/// A service as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredService {
    /// Its name, unique in the stack.
    pub name: String,
    /// Its kind, a folder of the catalogue.
    pub kind: String,
    /// Of which site, for people; empty where it has none.
    pub site: String,
    /// Everything that is placed on the host, by relative path.
    pub files: Files,
    /// What `files` come to.
    pub revision: Revision,
    /// Its options as the operator reads them; of a secret only its name. They are for reasons: `files` follow from
    /// them.
    pub options: BTreeMap<String, String>,
    /// The images it runs.
    pub images: Vec<Image>,
    /// The port on 127.0.0.1 where the proxy reaches it in slot a; slot b is 10,000 higher.
    pub port: Option<u16>,
    /// Two of it may run at once on the same data.
    pub two: bool,
    /// How long it may take until it is healthy.
    pub patience: Duration,
    /// Names of the volumes that hold its data on the host.
    pub volumes: Vec<String>,
    /// What is archived of it, in words, for the plan.
    pub archives: Vec<String>,
    /// Services on the same host that it needs, by name; they stand before it among those of its host.
    pub needs: Vec<String>,
    /// How its secrets are changed in what keeps them by itself, in this order; each lies in `secrets/NAME`.
    pub rotations: Vec<Rotation>,
}

/// A proxy as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredProxy {
    /// How it is run.
    pub runs: ProxyAs,
    /// The program.
    pub program: Program,
    /// `proxy.toml`, and the unit or the Compose file.
    pub files: Files,
    /// What `files` come to.
    pub revision: Revision,
    /// The image it runs in, where it runs in a container.
    pub image: Option<Image>,
}

/// A program that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Where it lies on this machine.
    pub path: PathBuf,
    /// Its version, as it says itself.
    pub version: String,
    /// SHA-256, 64 hexadecimal digits.
    pub digest: String,
}

/// Files by their path relative to the folder of their revision; no path has `..` or begins with `/`.
pub type Files = BTreeMap<String, File>;

/// A file to be placed.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Its mode.
    pub mode: u32,
    /// What it holds.
    pub content: Vec<u8>,
    /// What it holds is shown to nobody.
    pub secret: bool,
}

impl File {
    /// One that everybody may read.
    pub(crate) fn plain(content: impl Into<Vec<u8>>) -> Self {
        Self {
            mode: 0o644,
            content: content.into(),
            secret: false,
        }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.content.len();
        write!(f, "{:o} {bytes} bytes", self.mode)
    }
}

/// The first twelve hexadecimal digits of a digest over files; it names their folder on the host.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub String);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An image, pinned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Image {
    /// What the operator calls it: `ghost:5-alpine`.
    pub reference: String,
    /// What the engine is told to run: by digest, from a registry; or the name of one sent over SSH.
    pub pinned: String,
    /// The digest of its configuration, `sha256:...`: what the engine calls its id.
    pub id: Option<String>,
    /// It is sent over SSH, not pulled.
    pub sent: bool,
}

#[cfg(test)]
mod tests;
