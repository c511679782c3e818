//! What can go wrong with secrets. No message has anything of a value in it.

use std::io;
use std::path::PathBuf;

use age::{DecryptError, EncryptError};

use crate::failure::nearest;

/// What went wrong with secrets.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no identity to read with.
    #[error("there is no age identity at {}", path.display())]
    NoIdentity {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// There is one already.
    #[error("there is an identity at {} already", path.display())]
    IdentityExists {
        /// Where.
        path: PathBuf,
    },
    /// Nobody says where the operator's home is.
    #[error("where an identity lies is not known: neither $HOME nor $XDG_CONFIG_HOME is set")]
    NoHome,
    /// The file of the identity does not hold one.
    #[error("{} is no age identity", path.display())]
    BadIdentity {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: DecryptError,
    },
    /// What the identity is in hardware cannot be said without its plugin.
    #[error("the recipient of {} is not written in it", path.display())]
    NoRecipient {
        /// Which file.
        path: PathBuf,
    },
    /// The file of the identity can be read by others.
    #[error("others can read {} (mode {mode:o})", path.display())]
    OpenIdentity {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file cannot be read.
    #[error("reading {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("writing {}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is larger than any that is written here.
    #[error("{} has more than {limit} bytes", path.display())]
    Large {
        /// Which file.
        path: PathBuf,
        /// The most.
        limit: u64,
    },
    /// The file cannot be decrypted.
    #[error("decrypting {}", path.display())]
    Decrypt {
        /// Which file.
        path: PathBuf,
        /// With which identity.
        identity: PathBuf,
        /// Why.
        source: DecryptError,
    },
    /// The file cannot be encrypted.
    #[error("encrypting {}", path.display())]
    Encrypt {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: Box<EncryptError>,
    },
    /// Nobody may read it.
    #[error("`recipients` of stack.toml names nobody who may read the secrets")]
    NoRecipients,
    /// No recipient of age.
    #[error("`{text}` of `recipients` is no age recipient")]
    BadRecipient {
        /// What is written.
        text: String,
    },
    /// What is in the file is not what this program writes.
    #[error("what is in {} is not a list of secrets: {why}", path.display())]
    Garbled {
        /// Which file.
        path: PathBuf,
        /// What is wrong, without what is there.
        why: String,
    },
    /// No name of a secret.
    #[error("`{name}` cannot be the name of a secret")]
    Name {
        /// What was named.
        name: String,
    },
    /// No value of a secret.
    #[error("{name} was not set: {why}")]
    Value {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is none of this name.
    #[error("there is no secret {name}")]
    Unknown {
        /// What was named.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// It was not made here.
    #[error("{name} was given, not made: nothing here can make a new one")]
    Given {
        /// Its name.
        name: String,
    },
    /// The operating system gives no randomness.
    #[error("asking the operating system for randomness")]
    Randomness(#[source] rustix::io::Errno),
    /// The passphrases differ, or there is none.
    #[error("{0}")]
    Passphrase(&'static str),
    /// The passphrase was not typed.
    #[error(transparent)]
    Unasked(#[from] crate::printer::Unasked),
}

impl Error {
    /// Whether something was asked for that cannot be.
    pub fn is_wrong_usage(&self) -> bool {
        matches!(
            self,
            Self::Name { .. } | Self::Value { .. } | Self::Unknown { .. } | Self::Given { .. }
        )
    }

    /// The way out.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoIdentity { .. } => {
                "put the key there that belongs to one of `recipients` of stack.toml, or name it by --identity \
                 or $SOVEREIGN_IDENTITY; `sovereign secret identity` makes one for an operator who has none"
                    .to_owned()
            }
            Self::IdentityExists { .. } => "`sovereign secret identity` shows its recipient".to_owned(),
            Self::NoHome => "--identity FILE names it".to_owned(),
            Self::NoRecipient { .. } => {
                "ask the plugin that made it, and write the recipient into `recipients` of stack.toml"
                    .to_owned()
            }
            Self::OpenIdentity { path, .. } => format!("chmod 600 {}", path.display()),
            Self::Decrypt { source, identity, .. } => return decrypt_hint(source, identity),
            Self::Encrypt { source, .. } if matches!(**source, EncryptError::PluginResolve(_)) => {
                PLUGIN.to_owned()
            }
            Self::NoRecipients => {
                "`sovereign secret identity` shows yours: recipients = [\"age1...\"] below [stack]"
                    .to_owned()
            }
            Self::BadRecipient { .. } => {
                "`sovereign secret identity` shows yours; others send you theirs".to_owned()
            }
            Self::Garbled { .. } => {
                "it holds lines such as: name = \"value\"; `age --decrypt` shows it".to_owned()
            }
            Self::Name { .. } => {
                "small letters, digits, `_`, `-` and `.`, at the most 128 of them".to_owned()
            }
            Self::Unknown { name, known } => unknown_hint(name, known),
            Self::Given { name } => format!("`sovereign secret set {name}` sets another one"),
            Self::Unasked(error) => return error.hint(),
            _ => return None,
        })
    }
}

const PLUGIN: &str = "install the plugin for that hardware; its program has to be in $PATH";

const DAMAGED: &str = "the file is damaged: put back the last one from version control";

fn decrypt_hint(error: &DecryptError, identity: &std::path::Path) -> Option<String> {
    let identity = identity.display();
    Some(match error {
        DecryptError::NoMatchingKeys => format!(
            "it was not encrypted to {identity}: name another identity by --identity, or have an \
             operator who can read it add your recipient and run `sovereign secret seal`"
        ),
        DecryptError::KeyDecryptionFailed => format!("is that the passphrase of {identity}?"),
        DecryptError::PluginResolve(_) => PLUGIN.to_owned(),
        DecryptError::InvalidHeader | DecryptError::InvalidMac | DecryptError::DecryptionFailed => {
            DAMAGED.to_owned()
        }
        DecryptError::Io(_) => DAMAGED.to_owned(),
        _ => return None,
    })
}

fn unknown_hint(name: &str, known: &[String]) -> String {
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near}?"),
        None => "`sovereign secret list` names them".to_owned(),
    }
}
