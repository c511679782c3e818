//! What can be wrong with a stack that only rendering finds. Stands alone so that every message and its way out can
//! be read together.

use std::path::PathBuf;

use crate::catalogue::ExpressionError;

/// Why what should be on the hosts cannot be said.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A kind that the catalogue does not have.
    #[error("{service}: there is no kind of service called {kind}")]
    UnknownKind {
        /// The service.
        service: String,
        /// Its kind.
        kind: String,
    },
    /// A service that others visit has no site.
    #[error("{service}: {kind} needs a site")]
    NoSite {
        /// The service.
        service: String,
        /// Its kind.
        kind: String,
    },
    /// A service stands below a path and does not know how.
    #[error("{service}: {kind} cannot stand below {path}")]
    Below {
        /// The service.
        service: String,
        /// Its kind.
        kind: String,
        /// Where it should be.
        path: String,
    },
    /// Two services of a site in one place.
    #[error("{site}: {first} and {second} are both at {path}")]
    SamePlace {
        /// The site.
        site: String,
        /// One of them.
        first: String,
        /// The other.
        second: String,
        /// Where.
        path: String,
    },
    /// Something that a service needs is not on its host.
    #[error("{service}: needs a service of kind {kind} on {host}")]
    Needs {
        /// The service.
        service: String,
        /// What it needs.
        kind: String,
        /// Where.
        host: String,
    },
    /// Services need each other.
    #[error("{service}: needs a service that needs it")]
    Circle {
        /// One of them.
        service: String,
    },
    /// The secrets file does not hold it.
    #[error("{service}: there is no secret {name}")]
    NoSecret {
        /// The service.
        service: String,
        /// The name in the secrets file.
        name: String,
    },
    /// A password holds what no line holds.
    #[error("{service}: the secret {name} has more than one line, or signs that are not printed")]
    SecretLines {
        /// The service.
        service: String,
        /// The name in the secrets file.
        name: String,
    },
    /// An image has no digest yet.
    #[error("{service}: {reference} is not in the lock file")]
    NotLocked {
        /// Who runs it.
        service: String,
        /// The image by tag.
        reference: String,
    },
    /// More services than a host has ports for.
    #[error("{host}: more than {most} services")]
    Ports {
        /// The host.
        host: String,
        /// How many it may have.
        most: u16,
    },
    /// An expression of the catalogue.
    #[error("choosing what belongs to a service")]
    Expression(#[from] ExpressionError),
    /// A template of the catalogue.
    #[error("{service}: rendering {file} of {kind}")]
    Template {
        /// The service.
        service: String,
        /// Its kind.
        kind: String,
        /// The template.
        file: String,
        /// Why.
        source: minijinja::Error,
    },
    /// What a template renders for the proxy is no TOML.
    #[error("{service}: reading what {kind} adds to proxy.toml")]
    ProxyTemplate {
        /// The service.
        service: String,
        /// Its kind.
        kind: String,
        /// Why.
        source: Box<toml::de::Error>,
    },
    /// A configuration that cannot be written as TOML.
    #[error("{host}: writing proxy.toml")]
    Toml {
        /// The host.
        host: String,
        /// Why.
        source: Box<toml::ser::Error>,
    },
    /// What the proxy of a host would be told, and would not take.
    #[error("{host}: what its proxy would be told is not sound:\n{}", problems.join("\n"))]
    Proxy {
        /// The host.
        host: String,
        /// What is wrong: the site, the key, what is there and what should be.
        problems: Vec<String>,
    },
    /// A file that a service brings along was not read.
    #[error("{service}: {} was not read", path.display())]
    NoSource {
        /// The service.
        service: String,
        /// The file.
        path: PathBuf,
    },
    /// The operator's own Compose file.
    #[error("{service}: {what} in its Compose file")]
    Custom {
        /// The service.
        service: String,
        /// What is there, or is not.
        what: String,
    },
    /// Something that only one engine can do.
    #[error("{service}: {kind} does not run on engine = \"swarm\"")]
    Swarm {
        /// The service.
        service: String,
        /// Its kind.
        kind: String,
    },
}

impl RenderError {
    /// Whether `stack.toml` asks for what cannot be.
    pub fn is_wrong_usage(&self) -> bool {
        !matches!(
            self,
            Self::Expression(_)
                | Self::ProxyTemplate { .. }
                | Self::Toml { .. }
                | Self::NoSecret { .. }
                | Self::NotLocked { .. }
                | Self::NoSource { .. }
        )
    }

    /// The way out.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoSite { .. } => "write it as a [[site.service]]".to_owned(),
            Self::Below { .. } => "give it a site of its own, with path = \"/\"".to_owned(),
            Self::SamePlace { .. } => "give one of them another path".to_owned(),
            Self::Needs { kind, host, .. } => {
                format!("add a [[service]] with use = \"{kind}\" and host = \"{host}\"")
            }
            Self::NoSecret { name, .. } => format!("`sovereign secret set {name}` asks for it"),
            Self::SecretLines { name, .. } => {
                format!(
                    "`sovereign secret set {name}` asks for it anew, `sovereign secret rotate {name}` makes one"
                )
            }
            Self::NotLocked { .. } => {
                "`sovereign lock` finds out which image that means, and writes it down".to_owned()
            }
            Self::Ports { .. } => "move some to another host".to_owned(),
            Self::Custom { .. } => {
                "it needs services: with an image: each, by a tag or a digest".to_owned()
            }
            Self::Swarm { .. } => "put it on a host with engine = \"docker\"".to_owned(),
            _ => return None,
        };
        Some(hint)
    }
}
