//! The operator's own certificate files: read once a set, and looked at again while they are served.
//!
//! Whether a file has changed is asked of its metadata, every few seconds. The kernel could tell
//! (inotify), but not of files on a network's folder, and not of what a chain of symbolic links
//! leads to, which is how certbot and Kubernetes replace them: the watches would have to follow each
//! link of the chain. A handful of `stat` calls costs microseconds and misses nothing.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::certificate::{Certificate, Source};
use super::disk;
use super::error::{TlsError, Warning};
use crate::causes;

/// What tells one state of a file from another, symbolic links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// `None`: it cannot be looked at.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        Some(Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

/// The operator's files that a set was read from, and what they looked like before they were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watched(Vec<(PathBuf, Option<Stamp>)>);

impl Watched {
    pub(super) fn add(&mut self, path: &Path) {
        if !self.0.iter().any(|(known, _)| known == path) {
            self.0.push((path.into(), Stamp::of(path)));
        }
    }

    /// The same files, as they look now. Blocks on the disk.
    pub fn again(&self) -> Self {
        let look = |(path, _): &(PathBuf, _)| (path.clone(), Stamp::of(path));
        Self(self.0.iter().map(look).collect())
    }

    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A chain's file and its key's.
pub(super) type Pair = (PathBuf, PathBuf);

/// The operator's files read so far: a pair that several sites share is read, warned of and listed
/// once.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) read: HashMap<Pair, Arc<Certificate>>,
    pub(super) watched: Watched,
}

impl Files {
    /// The certificate of a site. `before`: what the set in force has, which stays where the files
    /// cannot be used as they are now.
    pub(super) fn read(
        &mut self,
        (cert, key): (&Path, &Path),
        site_names: &[String],
        before: Option<&Self>,
        now: SystemTime,
        warnings: &mut Vec<Warning>,
    ) -> Result<Arc<Certificate>, TlsError> {
        let pair = (cert.to_owned(), key.to_owned());
        let certificate = match self.read.get(&pair) {
            Some(known) => Arc::clone(known),
            None => {
                let read = self.read_pair(&pair, before, now, warnings)?;
                self.read.insert(pair, Arc::clone(&read));
                read
            }
        };
        let missing = certificate.uncovered(site_names);
        if !missing.is_empty() {
            warnings.push(Warning::Uncovered {
                path: cert.into(),
                missing,
                covered: certificate.info.names.clone(),
            });
        }
        Ok(certificate)
    }

    fn read_pair(
        &mut self,
        pair: &Pair,
        before: Option<&Self>,
        now: SystemTime,
        warnings: &mut Vec<Warning>,
    ) -> Result<Arc<Certificate>, TlsError> {
        let (cert, key) = pair;
        // Before they are read: what is replaced while it is read is found changed later.
        self.watched.add(cert);
        self.watched.add(key);
        let read = match Certificate::read(cert, key, Source::Files(cert.clone())) {
            Ok(read) => Arc::new(read),
            Err(error) => {
                let Some(held) = before.and_then(|before| before.read.get(pair)) else {
                    return Err(error);
                };
                warnings.push(Warning::Held {
                    path: cert.clone(),
                    why: causes::chain(&error),
                });
                Arc::clone(held)
            }
        };
        warnings.extend(read.warnings(cert, now));
        if disk::world_readable(key) {
            warnings.push(Warning::ReadableKey { path: key.clone() });
        }
        Ok(read)
    }
}
