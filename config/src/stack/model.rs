//! `stack.toml` after it has been checked: what a stack is deployed from. Stands alone so that a reader of the
//! deployment sees every value it can meet, without how it was written or checked.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// A whole stack.
#[derive(Debug, Clone, PartialEq)]
pub struct Stack {
    /// What it is called.
    pub name: String,
    /// The file of secrets, encrypted.
    pub secrets: PathBuf,
    /// Who may read the secrets: age recipients, at least one where any secret is used.
    pub recipients: Vec<String>,
    /// How images come to the hosts.
    pub images: ImageSource,
    /// The program of the proxy that is installed; `None`: the one beside `sovereign`.
    pub program: Option<PathBuf>,
    /// Laid under every host's `proxy.toml`: its top-level keys, without sites.
    pub proxy: toml::Table,
    /// Data centres, in the order they were written; exactly one is the primary.
    pub datacentres: Vec<Datacentre>,
    /// Hosts, in the order they were written.
    pub hosts: Vec<Host>,
    /// Sites, in the order they were written.
    pub sites: Vec<Site>,
    /// Services, those of sites first, in the order they were written; names are unique.
    pub services: Vec<Service>,
}

/// How images come to the hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageSource {
    /// A host pulls them from their registries, by digest.
    Registry,
    /// They are sent over SSH from the engine of this machine.
    Local,
}

/// A place with hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datacentre {
    /// What it is called.
    pub name: String,
    /// What it is for.
    pub role: Role,
}

/// What a data centre is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The services run here.
    Primary,
    /// Its proxies serve the primary's sites from their caches.
    Mirror,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// What it is called: `[a-z0-9-]`.
    pub name: String,
    /// The name of its data centre.
    pub datacentre: String,
    /// Its OpenSSH destination: `[user@]host`, or an alias of the operator's configuration.
    pub ssh: String,
    /// The port of its SSH server, where it is another than OpenSSH's configuration says.
    pub port: Option<u16>,
    /// Where other hosts reach its proxy.
    pub address: String,
    /// What runs its services.
    pub engine: Engine,
    /// How its proxy is run.
    pub proxy: ProxyAs,
}

/// What runs services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Docker Engine with Compose, on this host alone.
    Docker,
    /// A Docker Swarm that the host is a member of.
    Swarm,
}

/// How a proxy is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyAs {
    /// A unit of systemd.
    Systemd,
    /// A container with the host's network.
    Container,
}

/// A site: names, and what is served under them.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// Its names; the first is canonical.
    pub names: Vec<String>,
    /// The name of its data centre.
    pub datacentre: String,
    /// What the operator adds to its `[[site]]` of `proxy.toml`.
    pub proxy: toml::Table,
}

/// A service.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// What it is called: `[a-z0-9-]`, unique in the stack.
    pub name: String,
    /// What it is: a folder of the catalogue, or `custom`.
    pub kind: String,
    /// The site it belongs to, by its place in `Stack::sites`; `None` where nobody visits it.
    pub site: Option<usize>,
    /// Where under its site it is.
    pub path: String,
    /// The name of the host it runs on.
    pub host: String,
    /// Every option of its kind, with its default where nothing is written.
    pub options: BTreeMap<String, Value>,
    /// The operator's own Compose file, of a `custom` one.
    pub compose: Option<PathBuf>,
}

/// The value of an option.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Words.
    Text(String),
    /// A whole number.
    Number(i64),
    /// On or off.
    Switch(bool),
    /// Several texts.
    List(Vec<String>),
    /// A text that stands in the secrets file, by its name there.
    Secret(String),
}
