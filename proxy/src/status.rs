//! What the daemon says of itself, and how a terminal shows it. Stands alone because both sides
//! of the admin API share it: the daemon fills it in, the commands read and print it.

// Tables for a terminal.
mod table;
// The status for a person.
mod render;

use serde::{Deserialize, Serialize};

pub use render::render;
pub(crate) use render::{left, names, notices};
pub use table::Look;
pub(crate) use table::{Cell, Table, Tone, printable};

/// The whole daemon at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The path that it was started from.
    #[serde(default)]
    pub program: Option<String>,
    /// The SHA-256 of its file, in hexadecimal; `None` in the first moment after the start.
    #[serde(default)]
    pub digest: Option<String>,
    /// Its process.
    pub pid: u32,
    /// When it was started, in RFC 3339.
    pub started: String,
    /// How long ago that was.
    pub uptime_seconds: u64,
    /// The configuration file; `None` where it was started without one.
    pub config: Option<String>,
    /// Whether it has stopped accepting and waits for requests under way.
    pub draining: bool,
    /// Open client connections.
    pub connections: u64,
    /// Requests answered since the start.
    pub requests: u64,
    /// The sites, in the configuration's order.
    pub sites: Vec<SiteStatus>,
    /// The certificates that are served, and those that are on their way.
    pub certificates: Vec<CertificateStatus>,
    /// What holds up certificates of authorities, as a whole.
    #[serde(default)]
    pub acme: AcmeStatus,
    /// The cache.
    pub cache: CacheStatus,
    /// What it listens on: `https [::]:443`.
    pub listeners: Vec<String>,
    /// The last time that the configuration was read again.
    pub last_reload: Option<ReloadStatus>,
}

/// One site.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SiteStatus {
    /// Its names, the canonical one first.
    pub names: Vec<String>,
    /// Its preset.
    pub preset: Option<String>,
    /// How its connections are secured: `acme`, `local`, `files`, `off`.
    pub tls: String,
    /// Whether plain HTTP answers until its first certificate is there, and it is not there yet.
    #[serde(default)]
    pub in_the_clear: bool,
    /// Requests answered since the start.
    pub requests: u64,
    /// The share of cacheable requests that the cache answered, 0 to 1; `None` before the first.
    pub hit_ratio: Option<f64>,
    /// What stands behind it.
    pub upstreams: Vec<UpstreamStatus>,
}

impl SiteStatus {
    /// The site that has a name.
    pub fn named<'a>(sites: &'a [Self], name: &str) -> Option<&'a Self> {
        sites
            .iter()
            .find(|site| site.names.iter().any(|known| known == name))
    }

    /// The site that takes a host, as `Router::site` finds it.
    pub fn taking<'a>(sites: &'a [Self], host: &str) -> Option<&'a Self> {
        let below = || Self::named(sites, &format!("*.{}", host.split_once('.')?.1));
        Self::named(sites, host)
            .or_else(below)
            .or_else(|| Self::named(sites, "*"))
    }

    /// The name under which a host that this site takes is served, as `Site::canonical` has it: its first
    /// name, unless only a wildcard takes the host.
    pub fn served_as<'a>(&'a self, host: &'a str) -> &'a str {
        let is_name = self.names.iter().any(|name| name == host);
        let first = self.names.first().filter(|name| !name.starts_with('*'));
        first.filter(|_| is_name).map_or(host, String::as_str)
    }

    /// The scheme that its pages are served by.
    pub fn scheme(&self) -> &'static str {
        if self.tls == "off" { "http" } else { "https" }
    }
}

/// One upstream of a site.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Where it listens, as configured.
    pub address: String,
    /// Whether it answers.
    pub state: UpstreamState,
    /// Requests sent to it.
    pub requests: u64,
    /// How many of them failed.
    pub failures: u64,
    /// Why the last one that failed did.
    pub last_error: Option<String>,
    /// Requests under way.
    pub active: u64,
}

/// Whether an upstream answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamState {
    /// The last request to it was answered.
    Up,
    /// The last request to it failed.
    Down,
    /// Nothing has been sent to it.
    #[default]
    Unknown,
}

/// One certificate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// The names that it covers.
    pub names: Vec<String>,
    /// Where it comes from: `acme HOST`, `local CA`, the file, `temporary` (of the local CA, until the
    /// first one of an authority is there), or `none` where none is served yet.
    pub source: String,
    /// Who signed it.
    pub issuer: String,
    /// When it ends, in RFC 3339; empty where there is none.
    pub not_after: String,
    /// Whole days until then; negative once it has ended.
    pub days_left: i64,
    /// What is done to have one of an authority; `None` where none is wanted.
    #[serde(default)]
    pub order: Option<OrderStatus>,
}

/// What is done for a certificate of an authority.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderStatus {
    /// What it is called in files, logs and metrics.
    pub id: String,
    /// The names that are wanted.
    pub names: Vec<String>,
    /// How it stands: `good`, `due`, `ordering`, `missing`, `failing`, `waiting`, `lapsed`, or
    /// `doubtful` where it has lapsed by this machine's clock, and nobody has confirmed that clock.
    pub state: String,
    /// That in words, and what to do where something is to be done.
    pub text: String,
    /// The directory of the authority that issued it.
    pub authority: Option<String>,
    /// How control of its names was proved.
    pub challenge: Option<String>,
    /// Its profile.
    pub profile: Option<String>,
    /// When it was had, in RFC 3339, as all times here.
    pub obtained: Option<String>,
    /// When it is to be renewed.
    pub due: Option<String>,
    /// When the authority wants that done (RFC 9773): from, until.
    pub window: Option<(String, String)>,
    /// Where the authority explains it.
    pub explanation: Option<String>,
    /// When an authority is asked again; `None` where nothing is due, or it is being done.
    pub next_attempt: Option<String>,
    /// Failures in a row.
    pub failures: u32,
    /// Why the last attempt failed; `None` once one has succeeded.
    pub last_error: Option<String>,
}

/// What holds up certificates of authorities, as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcmeStatus {
    /// The authorities, in the order in which they are tried; none where no site wants one.
    pub authorities: Vec<AuthorityStatus>,
    /// How far this machine's clock is ahead of the authorities', where they have said; negative: behind.
    pub clock_skew_seconds: Option<i64>,
    /// Why the store that several proxies share cannot be reached.
    pub store_trouble: Option<String>,
}

/// An authority.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityStatus {
    /// The URL of its directory.
    pub directory: String,
    /// What people call it: the directory's host.
    pub name: String,
    /// Its terms are agreed to. Where they are not, it is asked for nothing.
    pub agreed: bool,
    /// Where its terms lie, where it has said so.
    pub terms: Option<String>,
    /// Why it is left alone for now.
    pub trouble: Option<String>,
    /// Until when.
    pub until: Option<String>,
}

/// The cache.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CacheStatus {
    /// Bytes in use.
    pub memory_bytes: u64,
    /// Bytes that may be used; 0 is a cache that is off.
    pub memory_limit: u64,
    /// Stored responses.
    pub objects: u64,
    /// Requests answered from it while fresh.
    pub hits: u64,
    /// Requests that it could not answer.
    pub misses: u64,
    /// Requests answered from it after their lifetime.
    pub stale: u64,
    /// Requests that went past it.
    pub bypass: u64,
    /// (hits + stale) / (hits + stale + misses), 0 to 1; `None` before the first.
    pub hit_ratio: Option<f64>,
    /// The durable tier.
    #[serde(default)]
    pub disk: DiskStatus,
}

/// The cache's durable tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStatus {
    /// `good`; `full`, `read-only`, `slow` or `failing` where nothing is stored at the moment; `paused`
    /// while another process has it; `off` where there is none.
    pub health: String,
    /// Bytes in use.
    pub bytes: u64,
    /// Bytes that may be used.
    pub limit: u64,
    /// Stored responses.
    pub objects: u64,
    /// What waits to be written; where nothing does, all that was stored before outlives the process.
    #[serde(default)]
    pub waiting: u64,
    /// Responses that it did not take.
    pub not_stored: u64,
    /// Stored responses that were damaged, and dropped.
    pub corrupt: u64,
    /// What went wrong last.
    pub error: Option<String>,
}

impl Default for DiskStatus {
    fn default() -> Self {
        Self {
            health: "off".to_owned(),
            bytes: 0,
            limit: 0,
            objects: 0,
            waiting: 0,
            not_stored: 0,
            corrupt: 0,
            error: None,
        }
    }
}

/// One reading of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadStatus {
    /// When, in RFC 3339.
    pub time: String,
    /// Whether it was taken.
    pub ok: bool,
    /// What changed, or why it was refused.
    pub message: String,
}

#[cfg(test)]
mod tests;
