//! What the operator is shown of certificates from authorities.

use std::time::SystemTime;

use sovereign_config::model::Challenge;

use super::failure::Outcome;

/// Everything at one moment.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// One for each certificate that the configuration asks for, in its order.
    pub certificates: Vec<CertificateReport>,
    /// The authorities, in the order in which they are tried.
    pub authorities: Vec<Authority>,
    /// What was tried since the start.
    pub attempts: Vec<Attempts>,
    /// How many seconds the authorities' clocks are ahead of ours; `None`: none has answered yet.
    pub skew: Option<i64>,
    /// Why the shared store cannot be reached.
    pub store_trouble: Option<String>,
}

/// A certificate that the configuration asks of an authority.
#[derive(Debug, Clone)]
pub struct CertificateReport {
    /// Its id, as in the names of files.
    pub id: Box<str>,
    /// The canonical name of its site.
    pub site: Box<str>,
    /// The names it is to cover.
    pub names: Vec<String>,
    /// How it stands.
    pub standing: Standing,
    /// That in the operator's words, and what to do where something is to be done.
    pub text: String,
    /// The directory of the authority that issued it.
    pub directory: Option<String>,
    /// How control of its names was proved.
    pub challenge: Option<String>,
    /// Its profile.
    pub profile: Option<String>,
    /// When it was had.
    pub obtained: Option<SystemTime>,
    /// When it lapses; `None`: there is none.
    pub not_after: Option<SystemTime>,
    /// When it is renewed.
    pub due: Option<SystemTime>,
    /// The window in which its authority wants it renewed (RFC 9773).
    pub window: Option<(SystemTime, SystemTime)>,
    /// Where the authority explains that window.
    pub explanation: Option<String>,
    /// When an authority is asked again; `None`: nothing is due, or it is being done.
    pub next_attempt: Option<SystemTime>,
    /// Failures in a row.
    pub failures: u32,
    /// What went wrong the last time, in the operator's words; `None` after a success.
    pub last_error: Option<String>,
}

/// How a certificate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It is there and not due.
    Good,
    /// It is there, and a new one is due.
    Due,
    /// It is being ordered.
    Ordering,
    /// There is none yet.
    Missing,
    /// The last attempt failed.
    Failing,
    /// Something must be done first: terms agreed to, another proxy finished, the shared store back.
    Waiting,
    /// It has lapsed.
    Lapsed,
    /// By this machine's clock it has lapsed, and nobody has confirmed that clock.
    Doubtful,
}

impl Standing {
    /// The word for it, in JSON and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Due => "due",
            Self::Ordering => "ordering",
            Self::Missing => "missing",
            Self::Failing => "failing",
            Self::Waiting => "waiting",
            Self::Lapsed => "lapsed",
            Self::Doubtful => "doubtful",
        }
    }
}

/// An authority.
#[derive(Debug, Clone)]
pub struct Authority {
    /// Its directory.
    pub directory: String,
    /// The host of its directory, with the port where it is not 443.
    pub name: String,
    /// Its terms are agreed to. Where they are not, it is asked for nothing.
    pub agreed: bool,
    /// Where its terms lie, where it has said so.
    pub terms: Option<String>,
    /// Why it is left alone for now.
    pub trouble: Option<String>,
    /// Until when.
    pub until: Option<SystemTime>,
}

/// How often an authority was asked, by a challenge, with an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempts {
    /// The host of its directory.
    pub authority: String,
    /// The challenge; `None`: it did not come to one.
    pub challenge: Option<Challenge>,
    /// What came of it.
    pub outcome: Outcome,
    /// How often.
    pub count: u64,
}

/// What an order for a certificate would come to.
#[derive(Debug, Clone)]
pub struct DryRun {
    /// The certificate's id.
    pub id: Box<str>,
    /// Its names.
    pub names: Vec<String>,
    /// The directory that was asked: the authority's staging.
    pub directory: Option<String>,
    /// The challenge that worked.
    pub challenge: Option<String>,
    /// It would be had.
    pub ok: bool,
    /// What came of it, in the operator's words.
    pub text: String,
}
