//! The kinds of service there are: what a folder of the catalogue says of itself in its `service.toml`. Stands
//! alone because a stack is checked against it, and because it is data: who adds a kind adds a folder.

// The file as typed.
mod raw;
// Raw values to a definition.
mod check;

use std::collections::BTreeMap;
use std::time::Duration;

use super::model::Value;
use crate::Report;
use crate::problem::Problems;
use crate::shape::{self, Refused};

/// The kinds of service, by name. `custom` need not be in it: it is always known.
pub type Catalogue = BTreeMap<String, Definition>;

/// The kind whose Compose file is the operator's own.
pub const CUSTOM: &str = "custom";

/// A kind of service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Definition {
    /// What it is, in a few words.
    pub about: String,
    /// The preset of the proxy that knows it.
    pub preset: Option<String>,
    /// The port in its container that visitors are sent to; none where nobody visits it.
    pub port: Option<u16>,
    /// Where it is asked over HTTP whether it is healthy.
    pub path: String,
    /// Two of it may run at once on the same data.
    pub two: bool,
    /// How long it may take until it is healthy.
    pub patience: Duration,
    /// Kinds of service that it needs on the same host.
    pub needs: Vec<String>,
    /// The path of its page for administrators.
    pub open: Option<String>,
    /// What an operator may choose.
    pub options: BTreeMap<String, Choice>,
    /// Secrets of its own, made when they are first needed.
    pub secrets: BTreeMap<String, SecretRule>,
    /// The images it runs, by the name its template calls them.
    pub images: BTreeMap<String, ImageRule>,
    /// Ports of its host that are reached from outside, past the proxy.
    pub public: Vec<PublicPort>,
    /// What is archived of it.
    pub archive: Vec<Archive>,
    /// How its secrets are changed where something of it keeps them by itself.
    pub rotates: Vec<Rotation>,
    /// What is laid under its site's table of `proxy.toml`; its `limits` belong to the whole proxy.
    pub proxy: toml::Table,
    /// What it may take of its host.
    pub limits: Limits,
}

/// An option: what may be written, and what holds where nothing is.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// What it is for.
    pub about: String,
    /// What may be written.
    pub takes: Takes,
    /// What holds where nothing is written; without one, it has to be written.
    pub default: Option<Value>,
}

/// What may be written as an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Takes {
    /// Any text, or one that the secrets file holds.
    Text,
    /// A text that only the secrets file holds, by its name there: `{ secret = "NAME" }`.
    Secret,
    /// A whole number within bounds.
    Number {
        /// The least.
        least: i64,
        /// The most.
        most: i64,
    },
    /// On or off.
    Switch,
    /// One of these.
    Choice(Vec<String>),
    /// Several texts.
    List,
}

/// A secret that is made when it is first needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRule {
    /// How many letters and digits it has.
    pub length: usize,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRule {
    /// By tag, such as `ghost:5-alpine`.
    pub image: String,
    /// The expression over its options under which it is needed; none: always.
    pub when: Option<String>,
}

/// A TCP port of its host that is reached from outside, past the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicPort {
    /// The expression over its options that is its number: `9735`, `ssh_port`.
    pub port: String,
    /// The expression over its options under which it is open; none: always.
    pub when: Option<String>,
}

/// Something that is archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// What.
    pub what: Archived,
    /// The expression over its options under which it is there; none: always.
    pub when: Option<String>,
}

/// How something is archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Archived {
    /// A volume, as it lies on the disk.
    Volume(String),
    /// What a command in a container writes.
    Dump {
        /// The service of the template whose container it is.
        service: String,
        /// The command and its arguments.
        command: Vec<String>,
    },
}

/// How a secret is changed in what keeps it by itself: a database knows its users' passwords, whatever files say.
/// The command runs in the container that runs, before the new version starts. It reads the new secret as one line
/// of its input and finds the old one in `/run/secrets`; where the new one is in force already, it succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// Its name in `[secrets]`.
    pub secret: String,
    /// The service of the template whose container the command runs in.
    pub service: String,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// The expression over its options under which it is needed; none: always.
    pub when: Option<String>,
}

/// What a service may take of its host, as Compose writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Such as `1g`.
    pub memory: Option<String>,
    /// Such as `2` or `0.5`.
    pub cpus: Option<String>,
}

impl Definition {
    /// Whether the proxy sends visitors to a service with these options.
    pub fn is_visited(&self, options: &BTreeMap<String, Value>) -> bool {
        self.visited_port(options).is_some()
    }

    /// The port in its container that visitors are sent to: its own, or the one that the operator says.
    pub fn visited_port(&self, options: &BTreeMap<String, Value>) -> Option<u16> {
        let written = match options.get(PORT) {
            Some(Value::Number(port)) => u16::try_from(*port).ok().filter(|port| *port != 0),
            _ => None,
        };
        self.port.or(written)
    }
}

/// The option by which an operator says on which port a kind without one of its own answers.
const PORT: &str = "port";

/// The kind `custom`, whose Compose file is the operator's own.
pub fn custom() -> Definition {
    // A test holds it to be sound.
    parse("custom.toml", include_str!("catalogue/custom.toml")).unwrap_or_default()
}

/// Reads and checks a `service.toml`. `name` is what problems call the file.
pub fn parse(name: &str, text: &str) -> Result<Definition, Report> {
    let mut problems = Problems::new(name, text);
    let raw: raw::Service = shape::read(&schema(), text, REFUSED, &mut problems);
    let definition = check::service(&raw, &mut problems);
    let problems = problems.into_list();
    if problems.is_empty() {
        return Ok(definition);
    }
    Err(Report {
        file: name.to_owned(),
        problems,
    })
}

/// The JSON Schema of `service.toml` (draft 2020-12).
pub fn schema() -> serde_json::Value {
    crate::schema::of::<raw::Service>()
}

const REFUSED: &[Refused] = &[
    Refused {
        way: "proxy.upstream",
        found: "a key that a deployment sets itself",
        wanted: "a table without it",
        hint: "`port` says where visitors are sent",
    },
    Refused {
        way: "proxy.names",
        found: "a key that a deployment sets itself",
        wanted: "a table without it",
        hint: "the names are those of the operator's site",
    },
    Refused {
        way: "proxy.preset",
        found: "a key that a deployment sets itself",
        wanted: "a table without it",
        hint: "write `preset` at the top of the file",
    },
];
