//! How control of a name is proved: which challenge can work, why another one cannot, and what has to
//! be in place while the authority looks.
//!
//! Stands between orders and the two ways in, our listeners ([`Answers`]) and the DNS. What can be
//! known without asking anybody is decided by `choose`; whether a name leads here is seen by `reach`.

// Which challenges are worth a closer look.
mod choose;
// Whether a name leads here.
mod reach;
// Questions to DNS servers.
pub mod resolver;
// Records in the DNS: where they go, who puts them there, and when they can be seen.
mod hook;
mod persist;
mod record;
mod spread;
mod update;

use std::sync::Arc;

use sovereign_config::model::{Certificates, Challenge, Listen};

use super::answers::{Answer, Answers, Put, PutError};
use super::jws;
use crate::tls::Wanted;
use choose::Here;
use reach::{Door, Reach, Reacher};
use record::Records;
use resolver::Resolver;

pub use hook::HookError;
pub use record::RecordError;
pub use update::UpdateError;

/// What can be tried for one name, best first, and why the others cannot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// What can work.
    pub usable: Vec<Challenge>,
    /// What cannot, each in the operator's words.
    pub unusable: Vec<(Challenge, String)>,
}

/// Why nothing is in place for the authority to see.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// An answer of our listeners.
    #[error(transparent)]
    Answer(#[from] PutError),
    /// A record in the DNS.
    #[error(transparent)]
    Record(Box<RecordError>),
    /// A challenge that needs what is not configured, or not known.
    #[error("{0}")]
    Impossible(&'static str),
    /// A record that the operator has to put there.
    #[error(
        "no TXT record {name} says {value:?}; put it there, or let the proxy do it (`certificates.dns`)"
    )]
    Missing {
        /// Its name.
        name: String,
        /// What it has to say.
        value: String,
    },
}

impl From<RecordError> for ProveError {
    fn from(error: RecordError) -> Self {
        Self::Record(Box::new(error))
    }
}

/// Proves control of names.
#[derive(Debug)]
pub struct Prover {
    answers: Arc<Answers>,
    reacher: Reacher,
    records: Option<Records>,
    resolver: Resolver,
    here: Here,
}

impl Prover {
    /// For a configuration.
    pub fn new(certificates: &Certificates, listen: &Listen, answers: Arc<Answers>) -> Self {
        let resolver = Resolver::new(certificates.resolver);
        let records = certificates.dns.as_ref();
        Self {
            reacher: Reacher::new(Arc::clone(&answers), resolver, listen),
            records: records.map(|dns| Records::new(dns, resolver)),
            resolver,
            here: Here {
                http: !listen.http.is_empty(),
                https: !listen.https.is_empty(),
                dns: certificates.dns.is_some(),
            },
            answers,
        }
    }

    /// What can be tried for `name` of what the authority offers: what is sure to work first, then what
    /// may. Asks whether the name leads here; `public_ca`: the authority asks from the public network.
    pub async fn options(
        &self,
        name: &str,
        wanted: &Wanted,
        offered: &[Challenge],
        public_ca: bool,
    ) -> Options {
        let (candidates, mut unusable) =
            choose::choose(name, &wanted.challenges, offered, self.here);
        let (mut sure, mut maybe) = (Vec::new(), Vec::new());
        for challenge in candidates {
            let Some(door) = door(challenge) else {
                sure.push(challenge);
                continue;
            };
            if !sure.is_empty() {
                // It is not needed, unless the first one fails: then it can still be tried.
                maybe.push(challenge);
                continue;
            }
            match self.reacher.reach(door, name, public_ca).await {
                Reach::Ours => sure.push(challenge),
                Reach::Unknown(why) => {
                    tracing::debug!(?challenge, "not sure to work: {why}");
                    maybe.push(challenge);
                }
                Reach::Blocked(why) => unusable.push((challenge, why)),
            }
        }
        sure.append(&mut maybe);
        Options {
            usable: sure,
            unusable,
        }
    }

    /// What an authority says of a failed challenge, in the operator's words, after looking again.
    pub async fn explain(&self, name: &str, challenge: Challenge, problem: &str) -> String {
        let Some(door) = door(challenge) else {
            let host = name.trim_start_matches("*.");
            return format!(
                "the authority did not see the record below {host} that the servers of the zone had: {problem}"
            );
        };
        match self.reacher.reach(door, name, false).await {
            Reach::Ours => format!(
                "port {} of {name} leads here when asked from here, but not for the authority: {problem}",
                door.port()
            ),
            Reach::Unknown(why) | Reach::Blocked(why) => {
                format!("{why}; the authority says: {problem}")
            }
        }
    }

    /// Puts in place what the authority will look for; gone when what is returned is dropped. For the
    /// DNS, waits until all servers of the zone answer with it, for some minutes at most. `digest` is
    /// the SHA-256 of the key authorization.
    pub async fn present(
        &self,
        name: &str,
        challenge: Challenge,
        token: &str,
        key_authorization: &str,
        digest: &[u8],
    ) -> Result<Put, ProveError> {
        let answer = match challenge {
            Challenge::Http01 => Answer::Http {
                token: token.to_owned(),
                key_authorization: key_authorization.to_owned(),
            },
            Challenge::TlsAlpn01 => Answer::Alpn {
                name: name.to_owned(),
                digest: digest
                    .try_into()
                    .map_err(|_| ProveError::Impossible("a SHA-256 digest has 32 bytes"))?,
            },
            Challenge::Dns01 => {
                let value = jws::base64(digest);
                return Ok(self.records()?.add("_acme-challenge", name, &value).await?);
            }
            Challenge::DnsPersist01 => {
                let why = "dns-persist-01 is proved by the account, and not by a key authorization";
                return Err(ProveError::Impossible(why));
            }
        };
        Ok(self.answers.put(answer).await?)
    }

    /// For dns-persist-01: has a record stay that lets the account at the URL `account` have certificates for
    /// `name`. `issuers` is the challenge's `issuer-domain-names`. Waits as [`present`](Self::present) does.
    pub async fn persist(
        &self,
        name: &str,
        issuers: &[String],
        account: &str,
    ) -> Result<(), ProveError> {
        let host = name.trim_start_matches("*.");
        let unusable = "the authority gave no name or account that can stand in the DNS";
        let value = persist::value(issuers, account, host != name);
        let value = value.ok_or(ProveError::Impossible(unusable))?;
        if let Some(records) = &self.records {
            return Ok(records.keep(persist::LABEL, host, &value).await?);
        }
        if persist::is_there(host, &value, self.resolver).await {
            return Ok(());
        }
        let name = format!("{}.{host}", persist::LABEL);
        Err(ProveError::Missing { name, value })
    }

    fn records(&self) -> Result<&Records, ProveError> {
        let missing = "no way into the DNS is configured (`certificates.dns`)";
        self.records.as_ref().ok_or(ProveError::Impossible(missing))
    }
}

/// The listener that a challenge comes to.
fn door(challenge: Challenge) -> Option<Door> {
    match challenge {
        Challenge::Http01 => Some(Door::Http),
        Challenge::TlsAlpn01 => Some(Door::Https),
        Challenge::Dns01 | Challenge::DnsPersist01 => None,
    }
}
