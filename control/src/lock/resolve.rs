//! Finding out what a tag means. Stands alone because it is the only part of the lock that asks anybody: the engine of
//! a host, which pulls the image from its registry, or the engine of this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use sovereign_config::stack::catalogue::Catalogue;
use sovereign_config::stack::model::{ImageSource, ProxyAs, Stack};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::process::Command;
use tokio::time::timeout;

use super::{Error, Lock, Locked, name};
use crate::catalogue;
use crate::desired::{PROXY_IMAGE, Sources};
use crate::printer::Printer;
use crate::ssh::{self, Input, LOOK, Remote};

/// Who says what a tag means.
pub enum Engine<'e> {
    /// The engine of a host.
    Host(&'e dyn Remote),
    /// The engine of this machine: the program `docker`, or another one in tests.
    Here(&'e str),
}

/// The images that a stack runs, each with what runs it.
pub fn used(
    stack: &Stack,
    kinds: &Catalogue,
    sources: &Sources,
) -> Result<BTreeMap<String, BTreeSet<String>>, Error> {
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for service in &stack.services {
        let named = match kinds.get(&service.kind) {
            Some(definition) => catalogue::images(definition, service).map_err(Error::Images)?,
            None => BTreeMap::new(),
        };
        for reference in named.into_values().chain(sources.images(&service.name)) {
            used.entry(reference)
                .or_default()
                .insert(service.name.clone());
        }
    }
    if stack
        .hosts
        .iter()
        .any(|host| host.proxy == ProxyAs::Container)
    {
        used.entry(PROXY_IMAGE.to_owned())
            .or_default()
            .insert("the proxy".to_owned());
    }
    Ok(used)
}

impl Lock {
    /// Which of these have to be found out: those that are not there for this source, and those that are to be found
    /// out again: one of them, or all.
    pub fn missing(
        &self,
        used: &BTreeSet<String>,
        source: ImageSource,
        again: Option<Option<&str>>,
    ) -> Result<BTreeSet<String>, Error> {
        if let Some(Some(reference)) = again
            && !used.contains(reference)
        {
            return Err(Error::Unused {
                reference: reference.to_owned(),
                used: used.iter().cloned().collect(),
            });
        }
        let is_missing = |reference: &&String| match again {
            Some(None) => true,
            Some(Some(one)) if one == reference.as_str() => true,
            _ => !self
                .images
                .get(*reference)
                .is_some_and(|locked| locked.fits(source)),
        };
        Ok(used.iter().filter(is_missing).cloned().collect())
    }
}

impl Locked {
    /// Whether it was found out from this source.
    fn fits(&self, source: ImageSource) -> bool {
        match source {
            ImageSource::Registry => self.digest.is_some(),
            ImageSource::Local => self.digest.is_none(),
        }
    }
}

impl Engine<'_> {
    /// What a tag means now.
    pub async fn resolve(&self, reference: &str, printer: &Printer) -> Result<Locked, Error> {
        let (host, answer) = match self {
            Self::Host(remote) => {
                let task = printer.task(format!("{}: pulling {reference}", remote.name()));
                let answer = ask_host(*remote, reference).await;
                drop(task);
                let failed = |source| Error::Resolve {
                    reference: reference.to_owned(),
                    source,
                };
                (Some(remote.name()), answer.map_err(failed)?)
            }
            Self::Here(program) => (None, ask_here(program, reference).await?),
        };
        let digest = match host {
            None => None,
            Some(host) => Some(answer.digest(reference).ok_or_else(|| Error::NoDigest {
                host: host.to_owned(),
                reference: reference.to_owned(),
            })?),
        };
        Ok(Locked {
            reference: reference.to_owned(),
            digest,
            id: answer.id,
            resolved: now(),
        })
    }
}

/// What an engine says of an image.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
}

impl Inspected {
    fn read(text: &[u8]) -> Result<Self, String> {
        let images: Vec<Self> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let image = images.into_iter().next().ok_or("it names no image")?;
        if is_digest(&image.id) {
            Ok(image)
        } else {
            Err(format!("`{}` is no id", image.id))
        }
    }

    /// Its digest in the registry that the reference names.
    fn digest(&self, reference: &str) -> Option<String> {
        let digests = self.repo_digests.iter().flatten();
        let mut digests = digests.filter_map(|text| text.split_once('@'));
        let wanted = familiar(name(reference));
        let found = digests.find(|(name, digest)| familiar(name) == wanted && is_digest(digest));
        found.map(|(_, digest)| digest.to_owned())
    }
}

async fn ask_host(remote: &dyn Remote, reference: &str) -> Result<Inspected, ssh::Error> {
    let pull = ["docker", "pull", "--quiet", "--", reference];
    remote.run(&pull, Input::nothing(), PULL).await?;
    let inspect = ["docker", "image", "inspect", "--", reference];
    let output = remote.run(&inspect, Input::nothing(), LOOK).await?;
    Inspected::read(&output.stdout).map_err(|why| ssh::Error::garbled(remote.name(), &inspect, why))
}

async fn ask_here(program: &str, reference: &str) -> Result<Inspected, Error> {
    let failed = |said: String, source: Option<io::Error>| Error::Here {
        reference: reference.to_owned(),
        said,
        source,
    };
    let mut command = Command::new(program);
    command
        .args(["image", "inspect", "--", reference])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "it does not answer");
    let output = timeout(LOOK, command.output()).await.map_err(late);
    let output = output
        .and_then(|output| output)
        .map_err(|error| failed(String::new(), Some(error)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.trim().lines().last().unwrap_or("it failed");
        return Err(failed(last.to_owned(), None));
    }
    Inspected::read(&output.stdout).map_err(|why| failed(why, None))
}

/// A name as engines show it: without the registry and the folder that are meant where none is named.
fn familiar(name: &str) -> &str {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    name.strip_prefix("library/").unwrap_or(name)
}

fn is_digest(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or_default();
    digits.len() == 64
        && digits
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn now() -> String {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0)
        .unwrap_or(now)
        .format(&Rfc3339)
        .unwrap_or_default()
}

/// How long a host may take to pull an image.
const PULL: Duration = Duration::from_secs(30 * 60);

#[cfg(test)]
mod tests;
