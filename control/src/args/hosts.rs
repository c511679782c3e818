//! What `host` takes.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{At, Common};

/// What `host` takes.
#[derive(Debug, Args)]
pub struct Host {
    /// What of it.
    #[command(subcommand)]
    pub what: HostCommand,
}

/// What is done with a host.
#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// Meet a host: its key is shown and written down, and it is added to stack.toml
    Add(HostAdd),
    /// Part with a host: it is taken out of stack.toml, and its key is forgotten
    Remove(HostRemove),
    /// Install what a host needs: engine, firewall, security updates
    Prepare(HostPrepare),
}

/// What `host add` takes.
#[derive(Debug, Args)]
#[command(after_long_help = ADD)]
pub struct HostAdd {
    #[command(flatten)]
    /// Which stack is meant.
    pub at: At,
    /// What it is called in stack.toml
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Where ssh finds it; none for a host that is in stack.toml already.
    #[arg(
        value_name = "DESTINATION",
        help = "Where ssh finds it: [user@]host[:port], or an alias of ~/.ssh/config; none for a host that is in stack.toml already"
    )]
    pub destination: Option<String>,
    /// The data centre it stands in [default: the primary]
    #[arg(long, value_name = "NAME")]
    pub datacentre: Option<String>,
    /// Where other hosts reach its proxy [default: the host of DESTINATION]
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<String>,
    /// Take it where it shows this key, without asking: SHA256:...
    #[arg(long, value_name = "FINGERPRINT")]
    pub fingerprint: Option<String>,
}

const ADD: &str = "\
Compare the fingerprint with what the host's console shows:
  ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub

Examples:
  sovereign host add h1 root@192.0.2.1
  sovereign host add h2 root@192.0.2.2:2222 --datacentre office";

/// What `host remove` takes.
#[derive(Debug, Args)]
#[command(after_long_help = REMOVE)]
pub struct HostRemove {
    #[command(flatten)]
    /// Which stack is meant.
    pub at: At,
    /// What it is called in stack.toml
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Only forget its key; it stays in stack.toml
    #[arg(long)]
    pub key: bool,
    /// Do not ask whether to go on
    #[arg(long)]
    pub yes: bool,
}

const REMOVE: &str = "\
Nothing is done to the host itself, so it is refused while services run there: 'sovereign down'
takes them down first. Data stays on it, and so does its proxy; how that is stopped is said.

Examples:
  sovereign host remove h2
  sovereign host remove h1 --key        it was set up anew: then 'sovereign host add h1'";

/// What `host prepare` takes.
#[derive(Debug, Args)]
#[command(after_long_help = PREPARE)]
pub struct HostPrepare {
    #[command(flatten)]
    /// Which stack is meant.
    pub at: At,
    /// What it is called in stack.toml
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<String>,
    /// Send this program of Compose 2 where there is none
    /// [default: a package; else that of this machine]
    #[arg(long, value_name = "FILE")]
    pub compose: Option<PathBuf>,
    /// Show what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask whether to go on
    #[arg(long)]
    pub yes: bool,
}

const PREPARE: &str = "\
Shows what it would do, and asks. What is there already stays: it can be run again at any time.
Hosts are Debian or made from it; packages come from their own sources, and from nowhere else.

  engine    docker.io, where no Docker Engine is there
  Compose   a package of the distribution; where it has none, as Debian 12, the program of this
            machine is sent, or that of --compose
  firewall  a table of nftables that lets in SSH (at the port that this connection came to), 80, 443
            and the ports that services publish; where no new connection comes through, it is taken
            back. A host with a firewall of its own keeps that one, and is told what to let in
  updates   unattended-upgrades, daily

Examples:
  sovereign host prepare h1 --dry-run
  sovereign host prepare h1 h2
  sovereign host prepare h1 --compose ./docker-compose-linux-x86_64";

impl HostCommand {
    pub(super) fn common(&self) -> Common<'_> {
        match self {
            Self::Add(args) => args.at.common(),
            Self::Remove(args) => args.at.common().yes(args.yes),
            Self::Prepare(args) => args.at.common().yes(args.yes),
        }
    }
}
