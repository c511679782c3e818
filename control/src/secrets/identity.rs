//! The operator's key: where it lies, how it is made, and how it is read. It may lie open on the disk (mode 0600),
//! behind a passphrase, or be a reference to a hardware key that an age plugin understands.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::secrecy::{ExposeSecret as _, SecretString};
use age::{DecryptError, Decryptor, Encryptor, IdentityFile, scrypt, x25519};
use zeroize::Zeroizing;

use super::Error;
use super::prompts::Prompts;
use crate::args::IDENTITY;
use crate::printer::Printer;

/// The file of an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    path: PathBuf,
}

/// What age decrypts with.
pub(super) type Keys = Vec<Box<dyn age::Identity>>;

impl Identity {
    /// The one that is named; else that of the environment, else the usual place.
    pub fn find(named: Option<&Path>) -> Result<Self, Error> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let configured = || {
            let home = || set("HOME").map(|home| Path::new(&home).join(".config"));
            let folder = set("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home)?;
            Some(folder.join("sovereign").join("identity.txt"))
        };
        let path = named
            .map(Path::to_owned)
            .or_else(|| set(IDENTITY).map(PathBuf::from));
        Ok(Self {
            path: path.or_else(configured).ok_or(Error::NoHome)?,
        })
    }

    /// At this place.
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is one.
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Makes one, never over another, and gives its recipient. With a passphrase, it is encrypted.
    pub fn make(&self, passphrase: Option<SecretString>) -> Result<String, Error> {
        if let Some(folder) = self
            .path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            let made = std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder);
            made.map_err(|source| self.write_failed(source))?;
        }
        let key = x25519::Identity::generate();
        let recipient = key.to_public().to_string();
        let text = format!(
            "# {RECIPIENT} {recipient}\n{}\n",
            key.to_string().expose_secret()
        );
        let text = Zeroizing::new(text);
        let content = match passphrase {
            None => text.as_bytes().to_vec(),
            Some(passphrase) => {
                let sealed = seal(text.as_bytes(), passphrase);
                sealed.map_err(|source| self.write_failed(source))?
            }
        };
        self.write(&Zeroizing::new(content))?;
        Ok(recipient)
    }

    /// Its recipient: as it is written in it, or worked out. Asks for its passphrase, where it has one.
    pub fn recipient(&self, printer: &Printer) -> Result<String, Error> {
        let text = self.text(printer)?;
        let text = String::from_utf8_lossy(&text);
        if let Some(written) = text.lines().find_map(written_recipient) {
            return Ok(written);
        }
        let key = text
            .lines()
            .find_map(|line| line.parse::<x25519::Identity>().ok());
        let key = key.ok_or_else(|| Error::NoRecipient {
            path: self.path.clone(),
        })?;
        Ok(key.to_public().to_string())
    }

    /// What age decrypts with. Asks for its passphrase, where it has one.
    pub(super) fn keys(&self, printer: &Printer) -> Result<Keys, Error> {
        let text = self.text(printer)?;
        let bad = |source| Error::BadIdentity {
            path: self.path.clone(),
            source,
        };
        let file = IdentityFile::from_buffer(&text[..]).map_err(|error| bad(error.into()))?;
        let file = file.with_callbacks(Prompts(printer.clone()));
        let keys = file.into_identities().map_err(bad)?;
        if keys.is_empty() {
            return Err(bad(DecryptError::NoMatchingKeys));
        }
        Ok(keys
            .into_iter()
            .map(|key| key as Box<dyn age::Identity>)
            .collect())
    }

    /// What is in it, decrypted where it is encrypted.
    fn text(&self, printer: &Printer) -> Result<Zeroizing<Vec<u8>>, Error> {
        let content = self.read()?;
        if !content.starts_with(ARMOR) && !content.starts_with(BINARY) {
            return Ok(content);
        }
        let question = format!("Passphrase of {}: ", self.path.display());
        let passphrase = printer.secret_now(&question, "run it where it can be typed")?;
        let failed = |source| Error::Decrypt {
            path: self.path.clone(),
            identity: self.path.clone(),
            source,
        };
        open(&content, passphrase).map_err(failed)
    }

    fn read(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => Error::NoIdentity {
                path: self.path.clone(),
            },
            _ => Error::Read {
                path: self.path.clone(),
                source,
            },
        };
        let file = File::open(&self.path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        let mode = about.mode() & 0o777;
        if about.is_file() && mode & 0o077 != 0 {
            return Err(Error::OpenIdentity {
                path: self.path.clone(),
                mode,
            });
        }
        let mut content = Zeroizing::new(Vec::new());
        file.take(MOST + 1)
            .read_to_end(&mut content)
            .map_err(failed)?;
        if content.len() as u64 > MOST {
            return Err(Error::Large {
                path: self.path.clone(),
                limit: MOST,
            });
        }
        Ok(content)
    }

    fn write(&self, content: &[u8]) -> Result<(), Error> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let written = options.open(&self.path).and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        });
        written.map_err(|source| self.write_failed(source))
    }

    fn write_failed(&self, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::AlreadyExists => Error::IdentityExists {
                path: self.path.clone(),
            },
            _ => Error::Write {
                path: self.path.clone(),
                source,
            },
        }
    }
}

fn seal(text: &[u8], passphrase: SecretString) -> io::Result<Vec<u8>> {
    let armored = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor)?;
    let mut writer = Encryptor::with_user_passphrase(passphrase).wrap_output(armored)?;
    writer.write_all(text)?;
    writer.finish().and_then(ArmoredWriter::finish)
}

fn open(content: &[u8], passphrase: SecretString) -> Result<Zeroizing<Vec<u8>>, DecryptError> {
    let decryptor = Decryptor::new_buffered(ArmoredReader::new(content))?;
    if !decryptor.is_scrypt() {
        return Err(DecryptError::NoMatchingKeys);
    }
    let mut key = scrypt::Identity::new(passphrase);
    key.set_max_work_factor(MOST_WORK);
    let reader = decryptor.decrypt(std::iter::once(&key as &dyn age::Identity));
    let mut reader = reader.map_err(|error| match error {
        DecryptError::DecryptionFailed => DecryptError::KeyDecryptionFailed,
        other => other,
    })?;
    let mut text = Zeroizing::new(Vec::with_capacity(content.len()));
    reader.read_to_end(&mut text)?;
    Ok(text)
}

/// The recipient in a comment, as `age-keygen` and plugins write it too.
fn written_recipient(line: &str) -> Option<String> {
    let comment = line.strip_prefix('#')?.trim();
    let (label, recipient) = comment.split_once(':')?;
    let known = ["public key", "recipient"].contains(&label.trim().to_ascii_lowercase().as_str());
    let recipient = recipient.trim();
    (known && recipient.starts_with("age1")).then(|| recipient.to_owned())
}

const RECIPIENT: &str = "public key:";
const ARMOR: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";
const BINARY: &[u8] = b"age-encryption.org/";
/// The most that an identity has, in bytes.
const MOST: u64 = 1 << 20;
/// The most work for a passphrase, as a power of two: 4 GiB of memory, some ten seconds.
const MOST_WORK: u8 = 22;
