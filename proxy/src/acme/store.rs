//! Where certificates, accounts and challenges lie: files below the state folder and, where several
//! proxies stand under one name, an etcd that they share. What is served comes from local files
//! whatever the shared store does; a proxy that is cut off from it goes on with what it has.
//!
//! ```text
//! certs/...      local files, shared: what another proxy wrote is judged, then written to local files
//! acme/...       local files, never shared: accounts, history
//! anything else  lent: in memory and in the shared store, gone after its time
//! ```
//!
//! Certificates are shared with their private keys: **who can read the prefix in etcd can read the
//! keys**. Let the proxies alone in, by client certificates or a user, and over TLS. Where an etcd asks
//! for client certificates, those of the proxies must have no common name: its gateway refuses others.

// An etcd over the local files.
mod etcd;
// Files below the state folder.
mod files;
// The right to be the only one.
mod lease;
// What is lent, in this process.
mod lent;
// Which of two certificates under one name stays.
mod referee;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sovereign_config::model;

pub use files::Files;
pub use lease::Lease;
pub use referee::{Newest, Referee, Verdict};

/// The most bytes of one value.
pub const MOST_BYTES: usize = 1 << 20;
const SHARED: &str = "certs/";
const OWN: &str = "acme/";

/// Where what certificates need is kept.
#[async_trait]
pub trait Store: Send + Sync + Debug {
    /// At most [`MOST_BYTES`]. `None` where there is none.
    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// As a whole or not at all, for the owner alone. Its name begins with `certs/` or `acme/`. It has
    /// succeeded when it is in local files; the shared store gets it as soon as it can be reached.
    async fn write(&self, name: &str, content: &[u8]) -> Result<(), StoreError>;

    /// Nothing happens where there is none.
    async fn remove(&self, name: &str) -> Result<(), StoreError>;

    /// A short-lived value, as the answer to a challenge; gone after `ttl` at the latest. Its name
    /// begins neither with `certs/` nor with `acme/`. It has succeeded when this proxy has it; where
    /// the others cannot, [`Store::trouble`] says so.
    async fn lend(&self, name: &str, content: &[u8], ttl: Duration) -> Result<(), StoreError>;

    /// One holder at a time over all proxies; `None`: somebody else has it. Kept alive until dropped.
    async fn lease(&self, name: &str) -> Result<Option<Lease>, StoreError>;

    /// Brings what another proxy wrote under this name to local files, without waiting for its turn.
    async fn catch_up(&self, name: &str) -> Result<(), StoreError>;

    /// Returns when something below `certs/` was written by another proxy and lies in local files
    /// now. For one waiter; what comes between two calls is not lost.
    async fn changed(&self);

    /// Why what is shared cannot be reached, and since when; `None`: all is well, or nothing is shared.
    fn trouble(&self) -> Option<String>;

    /// Whether anything is shared at all.
    fn is_shared(&self) -> bool;

    /// Who decides whether what another proxy wrote takes the place of what is here. Before it is
    /// told, [`Newest`] does.
    fn judged_by(&self, referee: Arc<dyn Referee>);
}

/// Opens the store of a state folder; with `shared` it is kept in step with an etcd from then on.
/// An etcd that cannot be reached is no error, but [`Store::trouble`].
pub async fn open(
    state: &Path,
    shared: Option<&model::Etcd>,
) -> Result<Arc<dyn Store>, StoreError> {
    let files = Files::open(state).await?;
    Ok(match shared {
        None => Arc::new(files),
        Some(shared) => etcd::Shared::open(files, shared),
    })
}

/// Why something could not be read or kept. The cause, where there is one, is the error's source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A name that could lead out of the folder, or is too long.
    #[error(
        "{name:?} cannot be the name of a stored value: parts of letters, digits and `._-*:+` between single slashes, 240 bytes at most"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A value that is too large.
    #[error("{name} has more than {MOST_BYTES} bytes")]
    TooLarge {
        /// Its name.
        name: String,
    },
    /// Too much is lent at the same time.
    #[error("{most} short-lived values are kept already")]
    Full {
        /// The bound.
        most: usize,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}; the user that runs the proxy must own the state folder, and its disk must have room", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The shared store does not answer, or refuses.
    #[error("{0}")]
    Shared(String),
}

/// Whether other proxies are told of it: a certificate, and nothing that was set aside.
fn is_shared(name: &str) -> bool {
    name.starts_with(SHARED) && name.ends_with(".pem")
}

/// Whether it is lent: no file of ours.
fn is_lent(name: &str) -> bool {
    !name.starts_with(SHARED) && !name.starts_with(OWN)
}

/// A name that is a path below the folder and cannot leave it, as a file or as a key.
fn check_name(name: &str) -> Result<(), StoreError> {
    let part = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-*:+".contains(&byte);
        !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain)
    };
    if name.len() <= 240 && name.contains('/') && name.split('/').all(part) {
        return Ok(());
    }
    Err(StoreError::Name { name: name.into() })
}

fn check_size(name: &str, content: &[u8]) -> Result<(), StoreError> {
    if content.len() > MOST_BYTES {
        return Err(StoreError::TooLarge { name: name.into() });
    }
    Ok(())
}
