//! Changes of a zone by DNS update (RFC 2136), signed with a key that the server shares (TSIG, RFC 8945).
//!
//! One message and its answer over TCP, and not a client that keeps a connection: what the server says
//! against a key or a clock stands in an answer that is often unsigned, and has to be read all the same.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hickory_proto::op::{Message, ResponseCode, update_message};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::{self, TsigError};
use hickory_proto::rr::{Name, RData, Record, RecordSet, TSigner};
use sovereign_config::model::TsigAlgorithm;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::resolver::over_tcp;

/// Why a zone was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The key's file.
    #[error("cannot use the key in {}: {why}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The server cannot be reached.
    #[error("the DNS server {server} cannot be reached: {source}")]
    Unreachable {
        /// The server.
        server: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The message could not be made: names that are too long.
    #[error("the change of {name} cannot be put into a DNS message")]
    Message {
        /// The record's name.
        name: Name,
    },
    /// What came back is no answer.
    #[error("the DNS server {0} gave an answer that cannot be read")]
    Malformed(SocketAddr),
    /// The answer may be anybody's.
    #[error(
        "the answer of the DNS server {0} is not signed with the key; somebody may have changed it on its way"
    )]
    Unsigned(SocketAddr),
    /// The server says no.
    #[error("the DNS server {server} did not change {zone}: {why}")]
    Refused {
        /// The server.
        server: SocketAddr,
        /// The zone.
        zone: Name,
        /// In the operator's words.
        why: String,
    },
}

/// What is to become of one TXT record; others of the same name stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is there afterwards.
    Add,
    /// It is gone afterwards.
    Remove,
}

/// Who may change a zone.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) algorithm: TsigAlgorithm,
    pub(super) file: PathBuf,
}

/// Adds or removes a TXT record of a zone, at its primary server.
pub(super) async fn change(
    server: SocketAddr,
    key: &Key,
    zone: &Name,
    (name, value): (&Name, &str),
    change: Change,
) -> Result<(), UpdateError> {
    let signer = key.signer().await?;
    let broken = |_| UpdateError::Message { name: name.clone() };
    let mut message = message(zone, name, value, change);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    let verifier = message.finalize(&signer, now).map_err(broken)?;
    let bytes = message.to_vec().map_err(broken)?;

    let answer = timeout(LONGEST, over_tcp(server, &bytes)).await;
    let answer = answer.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    let answer = answer.map_err(|source| UpdateError::Unreachable { server, source })?;
    let read = Message::from_vec(&answer).map_err(|_| UpdateError::Malformed(server))?;
    if read.metadata.id != message.metadata.id {
        return Err(UpdateError::Malformed(server));
    }
    if let Some(why) = refusal(&read, key, zone, name, now) {
        let zone = zone.clone();
        return Err(UpdateError::Refused { server, zone, why });
    }
    match verifier.map(|mut verifier| verifier.verify(&answer)) {
        Some(Ok(_)) => Ok(()),
        _ => Err(UpdateError::Unsigned(server)),
    }
}

fn message(zone: &Name, name: &Name, value: &str, change: Change) -> Message {
    // One text may have 255 bytes; a longer value goes into several (RFC 1035 section 3.3).
    let text = RData::TXT(TXT::from_bytes(value.as_bytes().chunks(255).collect()));
    let records = RecordSet::from(Record::from_rdata(name.clone(), TTL, text));
    match change {
        Change::Add => update_message::append(records, zone.clone(), false, false),
        Change::Remove => update_message::delete_by_rdata(records, zone.clone(), false),
    }
}

/// Why the server did not do it, in the operator's words; `None` where it did.
fn refusal(answer: &Message, key: &Key, zone: &Name, name: &Name, now: u64) -> Option<String> {
    let key = &key.name;
    let tsig = answer.signature().map(|record| &record.data);
    let why = match (
        answer.metadata.response_code,
        tsig.and_then(|tsig| tsig.error),
    ) {
        (ResponseCode::NoError, None | Some(TsigError::Unknown(0))) => return None,
        (_, Some(TsigError::BadKey)) => {
            format!("it does not know the key {key}, or not for this zone or algorithm (BADKEY)")
        }
        (_, Some(TsigError::BadSig)) => {
            format!("its key {key} is another one than ours (BADSIG)")
        }
        (_, Some(TsigError::BadTime)) => {
            let clocks = tsig.and_then(|tsig| seconds(&tsig.other));
            skew(clocks.map(|theirs| (theirs, now)))
        }
        (ResponseCode::NotAuth, _) => format!(
            "it takes no changes for this zone with the key {key}, or is not the zone's primary server (NOTAUTH)"
        ),
        (ResponseCode::Refused, _) => {
            format!("its policy does not let the key {key} change {name} (REFUSED)")
        }
        (ResponseCode::NotZone, _) => format!("{name} is not in the zone {zone} (NOTZONE)"),
        (ResponseCode::NotImp, _) => "it takes no updates (NOTIMP)".to_owned(),
        (code, _) => format!("it says {code}"),
    };
    Some(why)
}

fn skew(clocks: Option<(u64, u64)>) -> String {
    match clocks {
        Some((theirs, ours)) => {
            let side = if theirs > ours { "ahead of" } else { "behind" };
            let seconds = theirs.abs_diff(ours);
            format!("its clock is {seconds} s {side} ours, and it takes no key then (BADTIME)")
        }
        None => "its clock and ours differ, and it takes no key then (BADTIME)".to_owned(),
    }
}

/// Seconds in 48 bits.
fn seconds(other: &[u8]) -> Option<u64> {
    let bytes: [u8; 6] = other.try_into().ok()?;
    Some(
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    )
}

impl Key {
    /// Read each time: the operator may have changed it.
    async fn signer(&self) -> Result<TSigner, UpdateError> {
        let wrong = |why: String| UpdateError::Key {
            path: self.file.clone(),
            why,
        };
        let secret = self.secret().await.map_err(wrong)?;
        let name = super::resolver::fqdn(&self.name).map_err(|error| wrong(error.to_string()))?;
        let algorithm = match self.algorithm {
            TsigAlgorithm::Sha256 => tsig::TsigAlgorithm::HmacSha256,
            TsigAlgorithm::Sha384 => tsig::TsigAlgorithm::HmacSha384,
            TsigAlgorithm::Sha512 => tsig::TsigAlgorithm::HmacSha512,
        };
        TSigner::new(secret, algorithm, name, FUDGE).map_err(|error| wrong(error.to_string()))
    }

    async fn secret(&self) -> Result<Vec<u8>, String> {
        let file = tokio::fs::File::open(&self.file).await;
        let file = file.map_err(|error| error.to_string())?;
        let mut text = String::new();
        let read = file.take(KEY_BYTES).read_to_string(&mut text).await;
        read.map_err(|error| error.to_string())?;
        text.retain(|c| !c.is_whitespace());
        let secret = BASE64_STANDARD.decode(&text);
        match secret {
            Ok(secret) if !secret.is_empty() => Ok(secret),
            Ok(_) => Err("it is empty".to_owned()),
            Err(_) => Err("it is not the base64 of a key, and nothing else".to_owned()),
        }
    }
}

/// How long resolvers keep the record, in seconds: what another attempt puts there must be seen.
const TTL: u32 = 60;
/// How far clocks may be apart, in seconds (RFC 8945 section 10).
const FUDGE: u16 = 300;
const KEY_BYTES: u64 = 4096;
const LONGEST: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_differ_are_said_in_seconds() {
        assert_eq!(seconds(&[0, 0, 0, 0, 1, 2]), Some(258));
        assert_eq!(seconds(&[]), None);
        assert_eq!(
            skew(Some((1000, 172_800 + 1000))),
            "its clock is 172800 s behind ours, and it takes no key then (BADTIME)"
        );
    }
}
