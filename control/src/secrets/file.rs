//! The encrypted file: read whole, written whole. What is in it is TOML, so that `age --decrypt` and an editor are
//! enough where this program is not at hand:
//!
//! ```toml
//! "blog.database_password" = { value = "...", set = "2026-01-31T12:00:00Z", made = true }
//! smtp_password = "..."
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::secrecy::{ExposeSecret as _, SecretString};
use age::{Decryptor, EncryptError, Encryptor};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::prompts::Prompts;
use super::{Error, Identity, Secret, Secrets, check_name, recipient};
use crate::printer::Printer;
use crate::replace::{OWN, replace};

/// A file of secrets, and who opens it.
#[derive(Debug, Clone)]
pub struct Safe {
    path: PathBuf,
    recipients: Vec<String>,
    identity: Option<PathBuf>,
    printer: Printer,
}

impl Safe {
    /// The file at this place, for these recipients, opened by this identity or the usual one.
    pub fn new(
        path: &Path,
        recipients: &[String],
        identity: Option<&Path>,
        printer: &Printer,
    ) -> Self {
        Self {
            path: path.to_owned(),
            recipients: recipients.to_vec(),
            identity: identity.map(Path::to_owned),
            printer: printer.clone(),
        }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it; where there is none, there are no secrets. May ask, and waits for hardware: not for an async thread.
    pub fn load(&self) -> Result<Secrets, Error> {
        let failed = |source| Error::Read {
            path: self.path.clone(),
            source,
        };
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Secrets::default()),
            opened => opened.map_err(failed)?,
        };
        let mut content = Vec::new();
        file.take(MOST + 1)
            .read_to_end(&mut content)
            .map_err(failed)?;
        self.fits(content.len())?;
        self.read(&self.decrypt(&content)?)
    }

    /// Writes it, all or nothing, for its recipients.
    pub fn save(&self, secrets: &Secrets) -> Result<(), Error> {
        let text = write(secrets).map_err(|error| self.garbled(&error.to_string()))?;
        let content = self.encrypt(text.as_bytes())?;
        self.fits(content.len())?;
        replace(&self.path, &content, OWN).map_err(|source| Error::Write {
            path: self.path.clone(),
            source,
        })
    }

    fn decrypt(&self, content: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let identity = Identity::find(self.identity.as_deref())?;
        let keys = identity.keys(&self.printer)?;
        let failed = |source| Error::Decrypt {
            path: self.path.clone(),
            identity: identity.path().to_owned(),
            source,
        };
        let decryptor = Decryptor::new_buffered(ArmoredReader::new(content)).map_err(failed)?;
        let keys = keys.iter().map(|key| key.as_ref());
        let mut text = Zeroizing::new(Vec::with_capacity(content.len()));
        let mut reader = decryptor.decrypt(keys).map_err(failed)?;
        reader
            .read_to_end(&mut text)
            .map_err(|error| failed(error.into()))?;
        Ok(text)
    }

    fn encrypt(&self, text: &[u8]) -> Result<Vec<u8>, Error> {
        if self.recipients.is_empty() {
            return Err(Error::NoRecipients);
        }
        let recipients =
            recipient::read(&self.recipients, &self.path, &Prompts(self.printer.clone()))?;
        let failed = |source| Error::Encrypt {
            path: self.path.clone(),
            source: Box::new(source),
        };
        let each = recipients
            .iter()
            .map(|recipient| recipient.as_ref() as &dyn age::Recipient);
        let encryptor = Encryptor::with_recipients(each).map_err(failed)?;
        let written = || -> io::Result<Vec<u8>> {
            let armored = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor)?;
            let mut writer = encryptor.wrap_output(armored)?;
            writer.write_all(text)?;
            writer.finish().and_then(ArmoredWriter::finish)
        };
        written().map_err(|error| failed(EncryptError::Io(error)))
    }

    fn read(&self, text: &[u8]) -> Result<Secrets, Error> {
        let text = std::str::from_utf8(text).map_err(|_| self.garbled("it is not UTF-8"))?;
        // Only where it is wrong is said: the parser's own words would show what is there.
        let lines: BTreeMap<String, Line> = toml::from_str(text).map_err(|error| {
            let before = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.as_bytes()[..before]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count()
                + 1;
            self.garbled(&format!("see line {line} of it"))
        })?;
        let mut secrets = Secrets::default();
        for (name, line) in lines {
            check_name(&name)?;
            secrets.0.insert(name, line.into());
        }
        Ok(secrets)
    }

    fn fits(&self, bytes: usize) -> Result<(), Error> {
        if bytes as u64 > MOST {
            return Err(Error::Large {
                path: self.path.clone(),
                limit: MOST,
            });
        }
        Ok(())
    }

    fn garbled(&self, why: &str) -> Error {
        Error::Garbled {
            path: self.path.clone(),
            why: why.to_owned(),
        }
    }
}

/// A secret as it is written: by this program, or by hand.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Whole(Whole),
    Plain(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    value: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    set: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    made: bool,
}

impl From<Line> for Secret {
    fn from(line: Line) -> Self {
        let whole = match line {
            Line::Whole(whole) => whole,
            Line::Plain(value) => Whole {
                value,
                set: String::new(),
                made: false,
            },
        };
        Self {
            value: SecretString::from(whole.value),
            set: whole.set,
            made: whole.made,
        }
    }
}

/// A line each, so that a person who decrypts it finds their way.
fn write(secrets: &Secrets) -> Result<Zeroizing<String>, toml::ser::Error> {
    let mut text = Zeroizing::new(String::from(HEAD));
    for (name, secret) in &secrets.0 {
        let whole = Whole {
            value: secret.value.expose_secret().to_owned(),
            set: secret.set.clone(),
            made: secret.made,
        };
        let value = Zeroizing::new(toml::Value::try_from(&whole)?.to_string());
        // A name has no character that a quoted key would have to escape.
        text.push_str(&format!("\"{name}\" = {}\n", *value));
    }
    Ok(text)
}

const HEAD: &str = "# Written by `sovereign secret`.\n";
/// The most that the file has, in bytes.
const MOST: u64 = 4 << 20;
