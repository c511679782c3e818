//! What nobody else may read: the passwords and keys of a stack, in a file that is encrypted to the operators' age
//! keys and can lie beside `stack.toml` in version control. Stands alone so that a value leaves this module in two
//! ways only, for rendering and for the operator who asks for it by name, and is in no message, log or argument.
//!
//! A passphrase protects an operator's identity (an age file of its own), not the file of secrets: so that there can
//! be several operators, and each has what suits: a key on the disk, one behind a passphrase, one in hardware.

// The operator's key: found, made, asked for its passphrase.
pub mod identity;
// Who may read: recipients of age.
mod recipient;
// The encrypted file.
mod file;
// What age asks the operator.
mod prompts;
// What can go wrong.
mod error;

use std::collections::BTreeMap;
use std::fmt;

use age::secrecy::{ExposeSecret as _, SecretString};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub use error::Error;
pub use file::Safe;
pub use identity::Identity;

/// Secrets by name.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<String, Secret>);

/// A secret.
#[derive(Clone)]
pub struct Secret {
    value: SecretString,
    /// When it was set, RFC 3339; empty where that is not written down.
    set: String,
    /// It was made here, and can be made anew.
    made: bool,
}

/// A secret that is made at first need.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// What it is called in the file.
    pub name: String,
    /// How many letters and digits it has.
    pub length: usize,
}

/// What may be shown of a secret.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Shown {
    /// What it is called.
    pub name: String,
    /// When it was set, RFC 3339; empty where that is not written down.
    pub set: String,
    /// It was made, not given.
    pub made: bool,
}

impl Secrets {
    /// Makes what is needed and not there; gives the names of what was made.
    pub fn ensure(&mut self, needed: &[Need]) -> Result<Vec<String>, Error> {
        let mut made = Vec::new();
        for need in needed {
            if !self.0.contains_key(&need.name) {
                self.0.insert(need.name.clone(), Secret::make(need.length)?);
                made.push(need.name.clone());
            }
        }
        Ok(made)
    }

    /// Sets a secret that is given; says whether there was one.
    pub fn set(&mut self, name: &str, value: SecretString) -> Result<bool, Error> {
        check_name(name)?;
        check_value(name, value.expose_secret())?;
        let secret = Secret {
            value,
            set: now(),
            made: false,
        };
        Ok(self.0.insert(name.to_owned(), secret).is_some())
    }

    /// Replaces a secret that was made by a new one of the same length.
    pub fn rotate(&mut self, name: &str) -> Result<(), Error> {
        let unknown = self.unknown(name);
        let secret = self.0.get_mut(name).ok_or(unknown)?;
        if !secret.made {
            return Err(Error::Given {
                name: name.to_owned(),
            });
        }
        *secret = Secret::make(secret.value.expose_secret().len())?;
        Ok(())
    }

    /// Whether there is one of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// All of them, without their values.
    pub fn shown(&self) -> Vec<Shown> {
        let shown = |(name, secret): (&String, &Secret)| Shown {
            name: name.clone(),
            set: secret.set.clone(),
            made: secret.made,
        };
        self.0.iter().map(shown).collect()
    }

    /// The value of one, for the operator who asks for it by name.
    pub fn value(&self, name: &str) -> Result<&SecretString, Error> {
        let secret = self.0.get(name).ok_or_else(|| self.unknown(name))?;
        Ok(&secret.value)
    }

    fn unknown(&self, name: &str) -> Error {
        Error::Unknown {
            name: name.to_owned(),
            known: self.0.keys().cloned().collect(),
        }
    }

    /// Their values, for rendering; nobody else asks for them.
    pub fn values(&self) -> BTreeMap<String, String> {
        let value = |(name, secret): (&String, &Secret)| {
            (name.clone(), secret.value.expose_secret().to_owned())
        };
        self.0.iter().map(value).collect()
    }
}

/// Values are shown to nobody.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Secret {
    fn make(length: usize) -> Result<Self, Error> {
        let value = alphanumeric(length).map_err(Error::Randomness)?;
        Ok(Self {
            value,
            set: now(),
            made: true,
        })
    }
}

/// Letters and digits, each as likely as the others, from the operating system's randomness.
fn alphanumeric(length: usize) -> Result<SecretString, rustix::io::Errno> {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut bytes = zeroize::Zeroizing::new([0; 64]);
        let filled =
            rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
        // Six bits choose one of 64; two of those are thrown away.
        let letters = bytes[..filled]
            .iter()
            .filter_map(|byte| LETTERS.get(usize::from(byte >> 2)));
        text.extend(
            letters
                .map(|letter| char::from(*letter))
                .take(length - text.len()),
        );
    }
    Ok(SecretString::from(text))
}

fn check_name(name: &str) -> Result<(), Error> {
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c);
    if name.is_empty() || name.len() > MOST_NAME || !name.chars().all(sound) {
        return Err(Error::Name {
            name: name.to_owned(),
        });
    }
    Ok(())
}

fn check_value(name: &str, value: &str) -> Result<(), Error> {
    let why = match value {
        "" => "it is empty",
        text if text.len() > MOST_VALUE => "it has more than 65536 bytes",
        text if text.contains('\0') => "it has a zero byte in it",
        _ => return Ok(()),
    };
    Err(Error::Value {
        name: name.to_owned(),
        why,
    })
}

fn now() -> String {
    let now = OffsetDateTime::now_utc();
    let whole = now.replace_nanosecond(0).unwrap_or(now);
    whole.format(&Rfc3339).unwrap_or_default()
}

/// A name also names a file on a host.
const MOST_NAME: usize = 128;
/// The most that a value has, in bytes: a key or a certificate, not a document.
const MOST_VALUE: usize = 64 * 1024;

#[cfg(test)]
mod tests;
