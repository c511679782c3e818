//! What can go wrong with the lock file.

use std::path::PathBuf;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("reading {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It cannot be written.
    #[error("writing {}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what is written there.
    #[error("{} is not as `sovereign lock` writes it", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: Box<toml::de::Error>,
    },
    /// Nothing uses this image.
    #[error("no service of the stack runs {reference}")]
    Unused {
        /// What was named.
        reference: String,
        /// What they run.
        used: Vec<String>,
    },
    /// What a service runs cannot be said.
    #[error("finding out which images there are")]
    Images(#[source] crate::catalogue::ExpressionError),
    /// There is no host of this name, or none at all.
    #[error("there is no host {name}")]
    NoHost {
        /// What was named.
        name: String,
    },
    /// No host can be asked.
    #[error("no host answers that could find out what images mean")]
    NoAnswer {
        /// Why the last one does not.
        source: crate::ssh::Error,
    },
    /// A host cannot have the image.
    #[error("{reference}: finding out what it means")]
    Resolve {
        /// Which image.
        reference: String,
        /// Why.
        source: crate::ssh::Error,
    },
    /// The image was never in a registry.
    #[error("{host}: {reference} has no digest: it comes from no registry")]
    NoDigest {
        /// The host.
        host: String,
        /// Which image.
        reference: String,
    },
    /// The engine of this machine cannot be asked.
    #[error("{reference}: asking the engine of this machine{}", also(.said))]
    Here {
        /// Which image.
        reference: String,
        /// What it said.
        said: String,
        /// Why, where it did not say anything.
        source: Option<std::io::Error>,
    },
}

fn also(said: &str) -> String {
    if said.is_empty() {
        String::new()
    } else {
        format!(": {said}")
    }
}

impl Error {
    /// Whether something was asked for that cannot be.
    pub fn is_wrong_usage(&self) -> bool {
        matches!(self, Self::Unused { .. })
    }

    /// The way out.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Parse { .. } => {
                "put back the last one from version control, or remove it and run `sovereign lock`"
                    .to_owned()
            }
            Self::Unused { used, .. } => match used.as_slice() {
                [] => "the stack has no services".to_owned(),
                used => format!("they run {}", used.join(", ")),
            },
            Self::NoHost { .. } => "`sovereign host add` adds one".to_owned(),
            Self::NoAnswer { source } => return source.hint(),
            Self::Resolve { reference, source } => {
                return source
                    .hint()
                    .or_else(|| Some(format!("is `{reference}` right?")));
            }
            Self::NoDigest { .. } => {
                "images = \"local\" below [stack] sends images from the engine of this machine"
                    .to_owned()
            }
            Self::Here {
                source: Some(error),
                ..
            } if error.kind() == std::io::ErrorKind::NotFound => {
                "images = \"local\" needs `docker` on this machine; images = \"registry\" does not"
                    .to_owned()
            }
            Self::Here { reference, .. } => {
                format!("`docker pull {reference}`, or build it with this name")
            }
            Self::Read { .. } | Self::Write { .. } | Self::Images(_) => return None,
        })
    }
}
