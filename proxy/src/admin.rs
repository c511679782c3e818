//! The admin API: HTTP/1.1 on a Unix socket that only the daemon's own user may open. Stands
//! alone because both ends live here: [`server`] for the daemon, [`client`] for the commands.

mod certs;
pub mod client;
pub mod fetch;
pub mod purge;
pub mod server;
pub mod socket;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use client::{Client, ClientError};
pub use purge::{Purge, PurgeRequest, Purged};
pub use server::serve;
pub use socket::{SocketError, adopt, bind, remove};

use crate::certs::{Form, Overview, Trial};
use crate::internal::Fetched;
use crate::status::{SiteStatus, Status};
use fetch::Wish;

/// What the admin API steers: the daemon, or a double in a test. An `Ok` text tells the operator
/// what was done, an `Err` text why it was not; in that case nothing has changed.
#[async_trait]
pub trait Control: Send + Sync {
    /// The daemon at this moment.
    fn status(&self) -> Status;
    /// The sites at this moment.
    fn sites(&self) -> Vec<SiteStatus>;
    /// Reads the configuration again and takes it, if it has no problem.
    async fn reload(&self) -> Result<String, String>;
    /// Replaces the running program, by itself or by another one.
    async fn upgrade(&self, what: UpgradeRequest) -> Result<String, String>;
    /// Stops accepting and ends once requests under way are answered, or the deadline passes.
    /// Returns when draining has begun.
    async fn drain(&self, deadline: Option<Duration>) -> Result<String, String>;
    /// Makes stored responses stale, or unusable; in force, and kept over a restart, when it returns.
    async fn purge(&self, what: Purge) -> Result<Purged, String>;
    /// Fetches a page through the cache, as a client would. The text says why there is no response.
    async fn fetch(&self, wish: &Wish) -> Result<Fetched, String>;
    /// The certificates, and what is done to keep them up.
    fn certs(&self) -> Overview;
    /// Orders certificates anew, now: those with one of these names, or all.
    async fn renew(&self, names: &[String]) -> Result<String, String>;
    /// Tries what an order does against the authorities' staging; nothing is kept.
    async fn dry_run(&self, names: &[String]) -> Result<Vec<Trial>, String>;
    /// Notes that the operator agrees to an authority's terms, named by its directory.
    async fn agree(&self, directory: &str) -> Result<String, String>;
    /// What happens to certificates, to be subscribed to.
    fn feed(&self, form: Form) -> String;
    /// Every metric in Prometheus' text format.
    fn metrics(&self) -> String;
}

/// The body of `POST /upgrade`; may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpgradeRequest {
    /// An absolute path; the running program's own where it is left out.
    pub program: Option<PathBuf>,
    /// The configuration that the new program reads, an absolute path; that of the running one where it is
    /// left out.
    #[serde(default)]
    pub config: Option<PathBuf>,
}

/// The body of `POST /drain`; may be left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// The configuration's own where it is left out.
    pub deadline_seconds: Option<f64>,
}

/// The answer to a request that changed something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// What was done.
    pub message: String,
}

/// The answer to a request that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Why.
    pub error: String,
}

#[cfg(test)]
mod tests;
