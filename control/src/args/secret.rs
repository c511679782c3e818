//! What `secret` takes.

use clap::{Args, Subcommand};

use super::{At, Common, Keys};

/// What `secret` takes.
#[derive(Debug, Args)]
#[command(after_long_help = SECRET)]
pub struct Secret {
    /// What of it.
    #[command(subcommand)]
    pub what: SecretCommand,
}

const SECRET: &str = "\
Secrets stand in secrets.age beside stack.toml, an age file encrypted to `recipients` of stack.toml.
Those that a service only needs to share with itself are made by the first deployment; others are
set here and named in stack.toml: password = { secret = \"NAME\" }. A value is never an argument:
it is asked for, or read from standard input.

Examples:
  sovereign secret set smtp_password
  pass show smtp | sovereign secret set smtp_password
  sovereign secret get calendar.password
  sovereign secret list
  sovereign secret rotate blog.database_password
  sovereign secret identity";

/// What is done with secrets.
#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Set a secret to a value that is typed, or comes on standard input
    Set(SecretName),
    /// Print the value of a secret, and nothing else
    Get(SecretName),
    /// List the names of secrets: since when, and what uses them
    List(SecretList),
    /// Replace a secret that was made by a new one
    Rotate(SecretName),
    /// Encrypt the file again, to the recipients that stack.toml names now
    Seal(SecretSeal),
    /// Show the recipient of this machine's identity; make an identity where there is none
    Identity(SecretIdentity),
}

/// What `secret set`, `secret get` and `secret rotate` take.
#[derive(Debug, Args)]
pub struct SecretName {
    #[command(flatten)]
    /// Which stack is meant.
    pub at: At,
    #[command(flatten)]
    /// Whose key reads the secrets.
    pub keys: Keys,
    /// The name of the secret
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// What `secret list` takes.
#[derive(Debug, Args)]
pub struct SecretList {
    #[command(flatten)]
    /// Which stack is meant.
    pub at: At,
    #[command(flatten)]
    /// Whose key reads the secrets.
    pub keys: Keys,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What `secret seal` takes.
#[derive(Debug, Args)]
pub struct SecretSeal {
    #[command(flatten)]
    /// Which stack is meant.
    pub at: At,
    #[command(flatten)]
    /// Whose key reads the secrets.
    pub keys: Keys,
}

/// What `secret identity` takes.
#[derive(Debug, Args)]
pub struct SecretIdentity {
    #[command(flatten)]
    /// Whose key it is.
    pub keys: Keys,
    /// Protect a new one by a passphrase, which is asked for each time
    #[arg(long)]
    pub passphrase: bool,
}

impl SecretCommand {
    pub(super) fn common(&self) -> Common<'_> {
        match self {
            Self::Set(args) | Self::Get(args) | Self::Rotate(args) => {
                args.at.common().keys(&args.keys)
            }
            Self::List(args) => args.at.common().keys(&args.keys).json(args.json),
            Self::Seal(args) => args.at.common().keys(&args.keys),
            Self::Identity(args) => Common::at(super::STACK.as_ref()).keys(&args.keys),
        }
    }
}
