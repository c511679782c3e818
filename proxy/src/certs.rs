//! Certificates as `sovereign-proxy certs` shows and steers them: what the daemon says, and how a
//! terminal shows it. Stands alone because both sides of the admin API share it.

// What the daemon knows of them, put together.
mod overview;
// The feed on a site.
mod published;
// What is said of them, for a person.
mod render;

use serde::{Deserialize, Serialize};

use crate::status::{AcmeStatus, CertificateStatus};

pub use overview::{Known, acme, certificates, host};
pub use published::Published;
pub use render::{list, trials};

/// The answer to `GET /certs`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    /// The certificates that are served, and those that are on their way.
    pub certificates: Vec<CertificateStatus>,
    /// What holds them up as a whole.
    pub acme: AcmeStatus,
    /// Attempts since the start.
    pub attempts: Vec<Attempts>,
    /// What happened, the latest last.
    pub events: Vec<EventStatus>,
}

/// How often an authority was asked, by one challenge, with one outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    /// The host of its directory.
    pub authority: String,
    /// The challenge; `none` where it did not come to one.
    pub challenge: String,
    /// `issued`, or a word for why not.
    pub outcome: String,
    /// How often.
    pub count: u64,
}

/// Something that happened to a certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventStatus {
    /// When, in RFC 3339.
    pub time: String,
    /// The certificate's names.
    pub names: Vec<String>,
    /// What: `issued`, `renewed`, `replaced`, `failed`, ...
    pub what: String,
    /// The directory of the authority.
    pub authority: Option<String>,
    /// The challenge.
    pub challenge: Option<String>,
    /// More of it.
    pub text: String,
}

/// How a dry run for one certificate went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The names that were asked for.
    pub names: Vec<String>,
    /// The directory that was asked, where one was.
    pub authority: Option<String>,
    /// The challenge that proved control of the names.
    pub challenge: Option<String>,
    /// Whether a certificate was issued.
    pub ok: bool,
    /// What came of it, or why not.
    pub text: String,
}

/// The body of `POST /certs/renew` and of `POST /certs/dry-run`; may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamesRequest {
    /// Certificates, each by one of its names; all where there are none.
    #[serde(default)]
    pub names: Vec<String>,
}

/// The body of `POST /certs/agree`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgreeRequest {
    /// The directory of the authority whose terms are agreed to.
    pub directory: String,
}

/// A form in which what happens to certificates can be subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Atom (RFC 4287), for feed readers.
    Atom,
    /// iCalendar (RFC 5545), for calendars.
    Calendar,
}

impl Form {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Atom, Self::Calendar];

    /// What a URL of it ends in.
    pub fn file(self) -> &'static str {
        match self {
            Self::Atom => "certificates.atom",
            Self::Calendar => "certificates.ics",
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Atom => "application/atom+xml; charset=utf-8",
            Self::Calendar => "text/calendar; charset=utf-8",
        }
    }
}

#[cfg(test)]
mod tests;
