//! Which images the tags mean: `sovereign.lock`, beside `stack.toml` and in version control with it. A tag can mean
//! another image tomorrow; a deployment goes by what is written here, and by nothing else. Stands alone so that a plan
//! can be made without asking a registry.

// Finding out what a tag means.
pub mod resolve;
// What can go wrong.
mod error;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sovereign_config::stack::model::ImageSource;

use crate::desired::Image;
use crate::replace::{OPEN, replace};

pub use error::Error;

/// The name of the file, beside `stack.toml`.
pub const FILE: &str = "sovereign.lock";

/// What the tags mean, by reference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    /// By reference: `ghost:5-alpine`.
    pub images: BTreeMap<String, Locked>,
}

/// What a tag means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    /// The tag.
    pub reference: String,
    /// The digest of its manifest in its registry, `sha256:...`; none where it came from the engine of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The digest of its configuration, `sha256:...`: what the engine calls its id.
    pub id: String,
    /// When this was found out, RFC 3339.
    pub resolved: String,
}

/// What another lock says of a tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "lowercase")]
pub enum Change {
    /// It was not there.
    Added {
        /// The tag.
        reference: String,
        /// What it means.
        now: String,
    },
    /// It means another image.
    Moved {
        /// The tag.
        reference: String,
        /// What it meant.
        before: String,
        /// What it means.
        now: String,
    },
    /// Nothing uses it any more.
    Removed {
        /// The tag.
        reference: String,
    },
}

impl Lock {
    /// Where it lies for this stack.
    pub fn path(stack: &Path) -> PathBuf {
        stack.with_file_name(FILE)
    }

    /// Reads it; where there is none, nothing is known yet.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            read => read.map_err(|source| Error::Read {
                path: path.to_owned(),
                source,
            })?,
        };
        Self::parse(&text).map_err(|source| Error::Parse {
            path: path.to_owned(),
            source,
        })
    }

    /// Writes it, all or nothing.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        replace(path, self.text().as_bytes(), OPEN).map_err(|source| Error::Write {
            path: path.to_owned(),
            source,
        })
    }

    /// What is run for each tag.
    pub fn images(&self, source: ImageSource) -> BTreeMap<String, Image> {
        let images = self.images.values();
        let images =
            images.filter_map(|locked| Some((locked.reference.clone(), locked.image(source)?)));
        images.collect()
    }

    /// What is different in a later one.
    pub fn changes(&self, later: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (reference, now) in &later.images {
            match self.images.get(reference) {
                None => changes.push(Change::Added {
                    reference: reference.clone(),
                    now: now.short(),
                }),
                Some(before) if before.same(now) => {}
                Some(before) => changes.push(Change::Moved {
                    reference: reference.clone(),
                    before: before.short(),
                    now: now.short(),
                }),
            }
        }
        let gone = self
            .images
            .keys()
            .filter(|reference| !later.images.contains_key(*reference));
        changes.extend(gone.map(|reference| Change::Removed {
            reference: reference.clone(),
        }));
        changes
    }

    fn parse(text: &str) -> Result<Self, Box<toml::de::Error>> {
        let file: File = toml::from_str(text)?;
        let images = file
            .image
            .into_iter()
            .map(|locked| (locked.reference.clone(), locked));
        Ok(Self {
            images: images.collect(),
        })
    }

    fn text(&self) -> String {
        let file = File {
            image: self.images.values().cloned().collect(),
        };
        // Texts only: nothing that TOML could not write.
        let tables = toml::to_string(&file).unwrap_or_default();
        format!("{HEAD}\n{tables}")
    }
}

impl Locked {
    /// What is run for it; `None` where it was written down for another source of images.
    fn image(&self, source: ImageSource) -> Option<Image> {
        let pinned = match source {
            ImageSource::Registry => format!("{}@{}", name(&self.reference), self.digest.as_ref()?),
            ImageSource::Local => local_name(&self.reference, &self.id),
        };
        Some(Image {
            reference: self.reference.clone(),
            pinned,
            id: Some(self.id.clone()),
            sent: source == ImageSource::Local,
        })
    }

    /// Whether it is the same image; when that was found out does not matter.
    fn same(&self, other: &Self) -> bool {
        (&self.digest, &self.id) == (&other.digest, &other.id)
    }

    /// Enough of what it means to tell it from another.
    fn short(&self) -> String {
        let digest = self.digest.as_ref().unwrap_or(&self.id);
        digest.chars().take(SHORT).collect()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    image: Vec<Locked>,
}

/// A reference without its tag and digest: `registry.example:5000/a/ghost`.
pub fn name(reference: &str) -> &str {
    let name = reference
        .split_once('@')
        .map_or(reference, |(name, _)| name);
    match name.rsplit_once(':') {
        // What follows a colon before a slash is a port.
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    }
}

/// What an image that is sent over SSH is called on a host: `sovereign.local/ghost:ID12`.
pub fn local_name(reference: &str, id: &str) -> String {
    let plain = name(reference).replace(':', "-");
    let id = id.trim_start_matches("sha256:");
    format!("{SENT}{plain}:{}", id.get(..ID).unwrap_or(id))
}

/// The beginning of the id of an image that is called so on a host; none where it was not sent.
pub fn local_id(pinned: &str) -> Option<&str> {
    let (_, id) = pinned.strip_prefix(SENT)?.rsplit_once(':')?;
    Some(id)
}

/// The registry that there is not: what is sent over SSH is called as if it came from it.
const SENT: &str = "sovereign.local/";

const HEAD: &str = "\
# Written by `sovereign lock`: which images the tags of stack.toml mean. Deployments go by this file.
";
/// `sha256:` and twelve digits.
const SHORT: usize = 19;
/// Digits of an id that name an image.
const ID: usize = 12;

#[cfg(test)]
mod tests;
