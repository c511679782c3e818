//! The command line: what can be asked, and the help that is read in a terminal. Stands alone so that everything an
//! operator can type is read in one place.

// What each command takes.
mod deploy;
mod hosts;
mod secret;
mod watch;

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

pub use deploy::{Deploy, Lock, Plan, Rollback, Scope};
pub use hosts::{Host, HostAdd, HostCommand, HostPrepare, HostRemove};
pub use secret::{Secret, SecretCommand, SecretIdentity, SecretList, SecretName, SecretSeal};
pub use watch::{Down, Exec, Feed, Logs, Open, Restart, Status};

/// The stack, unless another file is named.
pub const STACK: &str = "stack.toml";
/// Names the identity, unless `--identity` does.
pub const IDENTITY: &str = "SOVEREIGN_IDENTITY";

/// Deploys a web presence to hosts of one's own, from one file, over SSH
#[derive(Debug, Parser)]
#[command(name = "sovereign", version, after_help = AFTER, after_long_help = AFTER_LONG)]
#[command(arg_required_else_help = true)]
pub struct Cli {
    /// What is asked.
    #[command(subcommand)]
    pub command: Command,
}

const AGREE: &str = "Agree to the terms of Let's Encrypt, which then gives certificates: \
https://letsencrypt.org/repository/";

const AFTER: &str = "'sovereign --help' has examples and exit codes.";

const AFTER_LONG: &str = "\
Examples:
  sovereign init                        a stack.toml to start from
  sovereign host add h1 root@192.0.2.1  a host: its key is shown, and written down
  sovereign host prepare h1             what a host needs: engine, firewall, updates
  sovereign lock                        which images the tags mean
  sovereign plan                        what would change, and why
  sovereign deploy                      change it
  sovereign status --watch              how it is
  sovereign logs blog --follow          what it says
  sovereign rollback                    back to the deployment before

Files:
  stack.toml      what there should be
  sovereign.lock  which images its tags mean
  secrets.age     its secrets, encrypted
  known_hosts     the keys of its hosts
  ~/.config/sovereign/identity.txt  the key that reads secrets.age

The first four lie beside each other and belong into version control; the key does not. Keep a copy
of it in a safe place.

Exit codes:
  0  done, or nothing to do
  1  failed, or something differs from what it should be
  2  wrong usage, or a problem in the configuration
  3  something would change, where 'plan --exit-code' asked";

/// What is asked.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a stack.toml to start from
    Init(Init),
    /// Say every problem in a stack.toml
    ///
    /// Changes nothing and asks no host. Exits with 2 where there is a problem.
    Check(Check),
    /// Passwords and keys of the stack, in an encrypted file
    Secret(Secret),
    /// Find out which images the tags mean, and write it down
    Lock(Lock),
    /// Show what a deployment would change, and why
    Plan(Plan),
    /// Change the hosts to what stack.toml says
    Deploy(Deploy),
    /// Go back to a deployment of before
    Rollback(Rollback),
    /// Hosts: meet them, prepare them, part with them
    Host(Host),
    /// Show how everything is, on all hosts
    Status(Status),
    /// Show what services say, across hosts
    Logs(Logs),
    /// Run a command in a container of a service
    Exec(Exec),
    /// Restart services
    Restart(Restart),
    /// Stop services and remove their containers; data stays
    Down(Down),
    /// Open the page for administrators of a service, through SSH
    Open(Open),
    /// Write what needs attention as a feed and as a calendar
    Feed(Feed),
}

/// Which stack is meant.
#[derive(Debug, Clone, Args)]
pub struct At {
    /// The stack; other files lie beside it
    #[arg(long, value_name = "FILE", default_value = STACK)]
    pub stack: PathBuf,
}

/// Whose key reads the secrets.
#[derive(Debug, Clone, Default, Args)]
pub struct Keys {
    /// The age identity that reads the secrets
    /// [default: $SOVEREIGN_IDENTITY, then ~/.config/sovereign/identity.txt]
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
}

/// Which part of the stack is meant; all of it where nothing is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Which {
    /// Only this host; may be given again
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
    /// Only the services of this site; may be given again
    #[arg(long, value_name = "NAME")]
    pub site: Vec<String>,
    /// Only this service; may be given again
    #[arg(long, value_name = "NAME")]
    pub service: Vec<String>,
}

/// How questions are answered beforehand.
#[derive(Debug, Clone, Default, Args)]
pub struct Answers {
    /// Do not ask whether to go on
    #[arg(long)]
    pub yes: bool,
    /// The name of what is destroyed, as it would be typed; may be given again. --yes is not enough for that
    #[arg(long, value_name = "NAME")]
    pub confirm: Vec<String>,
}

/// What `init` takes.
#[derive(Debug, Args)]
#[command(after_long_help = INIT)]
pub struct Init {
    /// Where to
    #[arg(value_name = "FILE", default_value = STACK)]
    pub file: PathBuf,
    /// What the stack is called [default: sovereign]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The first host, as ssh knows it.
    #[arg(
        long,
        value_name = "DESTINATION",
        help = "The first host, as ssh knows it: [user@]host[:port] [default: root@192.0.2.1]"
    )]
    pub ssh: Option<String>,
    /// The name of the first site [default: www.example.org]
    #[arg(long, value_name = "NAME")]
    pub site: Option<String>,
    /// What it runs: a kind of service [default: ghost]
    #[arg(long = "use", value_name = "KIND")]
    pub kind: Option<String>,
    /// Agree to the terms of Let's Encrypt.
    #[arg(long, help = AGREE)]
    pub agree: bool,
    /// Protect a new identity by a passphrase, which is asked for each time
    #[arg(long)]
    pub passphrase: bool,
    /// Ask nothing: take defaults for what is not given
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    /// Whose key reads the secrets.
    pub keys: Keys,
}

const INIT: &str = "\
Asks for what is not given, unless --yes is. A file that exists is never replaced. Makes an age
identity where there is none, and writes its recipient into the file. Without --agree, the sites
get certificates of an authority of their host's own, which browsers do not know.

Examples:
  sovereign init
  sovereign init --yes --ssh root@192.0.2.7 --site blog.example.org --use ghost";

/// What `check` takes.
#[derive(Debug, Args)]
#[command(after_long_help = CHECK)]
pub struct Check {
    #[command(flatten)]
    /// Which stack is meant.
    pub at: At,
    /// Print the problems as JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// Print the JSON Schema of stack.toml instead, for editors
    #[arg(long, conflicts_with_all = ["stack", "json"])]
    pub schema: bool,
}

const CHECK: &str = "\
Examples:
  sovereign check
  sovereign check --schema >stack.schema.json   for an editor that knows JSON Schema";

/// What all commands have in common, whichever it is.
#[derive(Debug, Clone, Copy)]
pub struct Common<'a> {
    /// The stack.
    pub stack: &'a Path,
    /// The identity, where one is named.
    pub identity: Option<&'a Path>,
    /// Standard output is for JSON.
    pub json: bool,
    /// Whether to go on is not asked.
    pub yes: bool,
    /// Names that are typed beforehand.
    pub confirm: &'a [String],
}

impl Command {
    /// What it has in common with the others.
    pub fn common(&self) -> Common<'_> {
        match self {
            Self::Init(args) => Common::at(&args.file).keys(&args.keys),
            Self::Check(args) => args.at.common().json(args.json),
            Self::Secret(args) => args.what.common(),
            Self::Lock(args) => args.at.common().json(args.json),
            Self::Plan(args) => args.scope.common(),
            Self::Deploy(args) => args.scope.common().answers(&args.answers),
            Self::Rollback(args) => args.at.common().json(args.json).answers(&args.answers),
            Self::Host(args) => args.what.common(),
            Self::Status(args) => args.at.common().json(args.json),
            Self::Logs(args) => args.at.common().json(args.json),
            Self::Exec(args) => args.at.common(),
            Self::Restart(args) => args.at.common(),
            Self::Down(args) => args.at.common().answers(&args.answers),
            Self::Open(args) => args.at.common(),
            Self::Feed(args) => args.at.common(),
        }
    }
}

impl At {
    fn common(&self) -> Common<'_> {
        Common::at(&self.stack)
    }
}

impl<'a> Common<'a> {
    /// Of a command that takes no more than where the stack lies.
    pub fn at(stack: &'a Path) -> Self {
        Self {
            stack,
            identity: None,
            json: false,
            yes: false,
            confirm: &[],
        }
    }

    fn keys(self, keys: &'a Keys) -> Self {
        Self {
            identity: keys.identity.as_deref(),
            ..self
        }
    }

    fn json(self, json: bool) -> Self {
        Self { json, ..self }
    }

    fn yes(self, yes: bool) -> Self {
        Self { yes, ..self }
    }

    fn answers(self, answers: &'a Answers) -> Self {
        Self {
            yes: answers.yes,
            confirm: &answers.confirm,
            ..self
        }
    }
}

#[cfg(test)]
mod tests;
