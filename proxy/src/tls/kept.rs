//! A certificate of an authority as it is kept: one file, so that a rename replaces chain and key
//! at the same instant.
//!
//! ```text
//! <state>/certs/acme/ID.pem                         0600
//!
//! {"directory":"https://...","obtained":1790000000,"profile":null,"names":[...],"challenge":"http-01"}
//! -----BEGIN CERTIFICATE-----                       the site's own, then its intermediates
//! -----BEGIN PRIVATE KEY-----
//! ```
//!
//! Programs that read PEM pass over the first line. Proxies that share their certificates share
//! them in the same form.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::disk;
use super::error::TlsError;

pub use super::judge::{Facts, Unfit, is_alone, is_of_a_root, judge};

/// A certificate of an authority, its chain and its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Kept {
    /// Where it comes from.
    pub about: About,
    /// The chain, the leaf first.
    pub chain_pem: String,
    key_pem: String,
}

/// Where a certificate comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The directory of the authority that issued it.
    pub directory: String,
    /// When it was had, in seconds since 1970, by the corrected clock.
    pub obtained: u64,
    /// The profile that was asked for.
    #[serde(default)]
    pub profile: Option<String>,
    /// The names that were asked for.
    #[serde(default)]
    pub names: Vec<String>,
    /// How control of them was proved: `http-01`, ...
    #[serde(default)]
    pub challenge: Option<String>,
}

impl About {
    /// When it was had; the year 9999 at the latest, which is what dates are written with.
    pub fn obtained_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.obtained.min(LAST_SECOND))
    }
}

impl Kept {
    /// A certificate that was had just now. [`judge`] says whether it is good for anything.
    pub fn new(about: About, chain_pem: String, key_pem: String) -> Self {
        Self {
            about,
            chain_pem,
            key_pem,
        }
    }

    /// The file's content.
    pub fn to_pem(&self) -> String {
        // Strings, numbers and lists of strings: nothing in it can fail to be written.
        let about = serde_json::to_string(&self.about).unwrap_or_default();
        let (chain, key) = (self.chain_pem.trim_end(), self.key_pem.trim_end());
        format!("{about}\n{chain}\n{key}\n")
    }

    /// Takes a file's content apart. What is inside the blocks is for [`judge`].
    pub fn parse(text: &str) -> Result<Self, Unfit> {
        if text.len() > LARGEST {
            return Err(Unfit::Damaged("it is larger than 1 MiB"));
        }
        let (about, rest) = text.split_once('\n').unwrap_or((text, ""));
        let about = serde_json::from_str(about).map_err(|_| {
            Unfit::Damaged("its first line does not say where the certificate comes from")
        })?;
        let (chain_pem, key_pem) = blocks(rest)?;
        Ok(Self::new(about, chain_pem, key_pem))
    }

    /// The key, PKCS #8.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }
}

/// Without the key.
impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("about", &self.about)
            .field("chain_pem", &self.chain_pem)
            .finish_non_exhaustive()
    }
}

/// Where the certificate `id` lies: below the state folder, and in every store.
pub fn name(id: &str) -> String {
    format!("{FOLDER}/{id}.pem")
}

/// What is kept of the certificate `id`. `Ok(None)`: nothing, or what was there is damaged and was
/// set aside as `ID.pem.bad`, with a line in the log. An error is for the operator: files that
/// cannot be read.
pub(super) fn read(state: &Path, id: &str) -> Result<Option<Kept>, TlsError> {
    let path = state.join(name(id));
    let content = match disk::read_bounded(&path, LARGEST) {
        Ok(content) => content,
        Err(TlsError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let parsed = std::str::from_utf8(&content)
        .map_err(|_| Unfit::Damaged("it is not text"))
        .and_then(Kept::parse);
    match parsed {
        Ok(kept) => Ok(Some(kept)),
        Err(why) => {
            set_aside(state, id, &why);
            Ok(None)
        }
    }
}

/// Puts a damaged file out of the way, where the operator finds it, and says so.
pub(super) fn set_aside(state: &Path, id: &str, why: &Unfit) {
    let path = state.join(name(id));
    let bad = state.join(format!("{}.bad", name(id)));
    match std::fs::rename(&path, &bad) {
        Ok(()) => tracing::error!(
            file = %path.display(), kept_as = %bad.display(),
            "a kept certificate is damaged and another is ordered: {why}"
        ),
        Err(error) => tracing::error!(
            file = %path.display(), %error,
            "a kept certificate is damaged, and could not be set aside: {why}"
        ),
    }
}

/// The certificates and the one key of a PEM text.
fn blocks(text: &str) -> Result<(String, String), Unfit> {
    let (mut chain, mut key) = (String::new(), String::new());
    let mut rest = text;
    while let Some(start) = rest.find(BEGIN) {
        let block = &rest[start..];
        let (label, _) = block[BEGIN.len()..]
            .split_once("-----")
            .ok_or(Unfit::Damaged(CUT))?;
        let end = format!("-----END {label}-----");
        let length = block.find(&end).ok_or(Unfit::Damaged(CUT))? + end.len();
        let into = match label {
            "CERTIFICATE" => &mut chain,
            label if label.ends_with("PRIVATE KEY") && key.is_empty() => &mut key,
            label if label.ends_with("PRIVATE KEY") => {
                return Err(Unfit::Damaged("it holds more than one private key"));
            }
            _ => return Err(Unfit::Damaged("it holds more than certificates and a key")),
        };
        into.push_str(&block[..length]);
        into.push('\n');
        rest = &block[length..];
    }
    match (chain.is_empty(), key.is_empty()) {
        (true, _) => Err(Unfit::Damaged("it holds no certificate")),
        (_, true) => Err(Unfit::Damaged("it holds no private key")),
        _ => Ok((chain, key)),
    }
}

/// Below the state folder, and in every store.
pub(super) const FOLDER: &str = "certs/acme";
const BEGIN: &str = "-----BEGIN ";
const CUT: &str = "a PEM block in it has no end";

/// The last second of the year 9999: a moment further off is a defect of a file, and some calendars
/// cannot say it.
const LAST_SECOND: u64 = 253_402_300_799;

/// What a store takes. A chain with a key is some kilobytes.
const LARGEST: usize = 1024 * 1024;
