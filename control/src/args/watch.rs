//! What `status`, `logs`, `exec`, `restart`, `down`, `open` and `feed` take.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::{Answers, At, Which};

/// What `status` takes.
#[derive(Debug, Args)]
#[command(after_long_help = STATUS)]
pub struct Status {
    #[command(flatten)]
    /// Which stack is meant.
    pub at: At,
    #[command(flatten)]
    /// Which part of it.
    pub which: Which,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Show it anew every two seconds, until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
}

const STATUS: &str = "\
Exits with 1 where something needs attention: a host that does not answer, a service that is not
healthy, a certificate soon to lapse, a disk nearly full, updates that nobody installed. --watch ends with 0.

With --json, an object with these members; more may come, none goes or changes its name:
  stack, at    the stack's name; when it was looked
  hosts[]      name, datacentre, state (up, unreachable), why, hint, engine, disk { size, free } in
               bytes, updates { security[], restart }, proxy { state, version, certificates[] ... }, locked_by, deployment
  services[]   name, kind, host, site, state (healthy, running, starting, unhealthy, ended, down,
               absent, unknown), said, since, restarts, revision, slot, images (locked, other,
               unlocked), looked_up, parts[], node (of a Bitcoin node: chain, blocks, headers, progress ...)
  attention[]  id (the same while it is the same trouble), kind, host, service, what, hint, due";

/// What `logs` takes.
#[derive(Debug, Args)]
#[command(after_long_help = LOGS)]
pub struct Logs {
    #[command(flatten)]
    /// Which stack is meant.
    pub at: At,
    /// Services; all where none is named
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Only this host; may be given again
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
    /// Only this part of a service, as its Compose file calls it
    #[arg(long, value_name = "PART")]
    pub part: Option<String>,
    /// Go on with what comes, until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,
    /// Since when: 10m, 2h, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// How many of the last lines of each
    #[arg(long, value_name = "NUMBER", default_value = "100")]
    pub lines: u32,
    /// Show the time of each line
    #[arg(long)]
    pub times: bool,
    /// Print an object of JSON for each line: service, part, text
    #[arg(long)]
    pub json: bool,
}

const LOGS: &str = "\
With --follow, it goes on in the new containers of a service that is restarted or replaced, until
Ctrl-C, which ends it with 0.

Examples:
  sovereign logs blog --follow
  sovereign logs --host h1 --since 10m";

/// What `exec` takes.
#[derive(Debug, Args)]
#[command(after_long_help = EXEC)]
pub struct Exec {
    #[command(flatten)]
    /// Which stack is meant.
    pub at: At,
    /// The service
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// The part of it, as its Compose file calls it [default: app]
    #[arg(long, value_name = "PART")]
    pub part: Option<String>,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", last = true, required = true)]
    pub command: Vec<String>,
}

const EXEC: &str = "\
Exits with the code of the command; with 255 where the connection is lost. What comes on standard
input goes to it. Where this runs at a terminal, the command gets one.

Examples:
  sovereign exec blog -- ls /var/lib/ghost/content
  sovereign exec blog --part db -- mariadb -u root -p
  sovereign exec blog -- tar -c /var/lib/ghost/content >content.tar";

/// What `restart` takes.
#[derive(Debug, Args)]
#[command(after_long_help = RESTART)]
pub struct Restart {
    #[command(flatten)]
    /// Which stack is meant.
    pub at: At,
    /// Services
    #[arg(value_name = "SERVICE", required = true)]
    pub services: Vec<String>,
    /// Only this part, as the Compose file calls it
    #[arg(long, value_name = "PART")]
    pub part: Option<String>,
}

const RESTART: &str = "\
Stops and starts their containers as they are, and waits until they are healthy again. A new
version or another option is what 'sovereign deploy' brings.

Examples:
  sovereign restart blog
  sovereign restart blog --part db";

/// What `down` takes.
#[derive(Debug, Args)]
#[command(after_long_help = DOWN)]
pub struct Down {
    #[command(flatten)]
    /// Which stack is meant.
    pub at: At,
    /// Services
    #[arg(value_name = "SERVICE", required = true)]
    pub services: Vec<String>,
    /// Destroy their data as well; the name of each has to be typed
    #[arg(long)]
    pub purge: bool,
    /// Show what would be done
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    /// Questions that are answered beforehand.
    pub answers: Answers,
}

const DOWN: &str = "\
Without --purge, data stays on the host, and the next deployment starts the services with it.
With it, each name has to be typed, or given to --confirm; --yes is not enough.

Examples:
  sovereign down blog
  sovereign down blog --purge --confirm blog";

/// What `open` takes.
#[derive(Debug, Args)]
#[command(after_long_help = OPEN)]
pub struct Open {
    #[command(flatten)]
    /// Which stack is meant.
    pub at: At,
    /// The service
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// The port on this machine [default: any that is free]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
}

const OPEN: &str = "\
Prints an address of this machine, which leads through SSH to the port of the service on its host,
until Ctrl-C.

Examples:
  sovereign open blog
  sovereign open blog --port 8080";

/// What `feed` takes.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true).args(["atom", "ics"]))]
#[command(after_long_help = FEED)]
pub struct Feed {
    #[command(flatten)]
    /// Which stack is meant.
    pub at: At,
    /// Write an Atom feed (RFC 4287) here
    #[arg(long, value_name = "FILE")]
    pub atom: Option<PathBuf>,
    /// Write a calendar (RFC 5545) here
    #[arg(long, value_name = "FILE")]
    pub ics: Option<PathBuf>,
}

const FEED: &str = "\
Looks at all hosts once, as 'sovereign status' does, and writes what needs attention. Files that
are there are read first: what was told before keeps its time. A timer or cron runs it again and
again; '[certificates] feed' of proxy.toml puts what becomes of certificates on a site.

Examples:
  sovereign feed --atom ~/feeds/stack.xml --ics ~/feeds/stack.ics
  0 * * * *  cd ~/stack && sovereign feed --ics ~/calendars/stack.ics";
