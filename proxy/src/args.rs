//! The command line: what can be asked, and the help that is read in a terminal.

// What `certs` and `ca` take.
mod certs;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand};

pub(crate) use certs::{Ca, Certs, CertsCommand, List};

/// Where the configuration lies unless another file is named.
pub(crate) const CONFIG: &str = "/etc/sovereign-proxy/proxy.toml";
/// Names the admin socket for the commands that talk to a running proxy.
pub(crate) const ADMIN: &str = "SOVEREIGN_ADMIN";

/// A reverse proxy for a web presence on hardware of one's own
///
/// It ends TLS, caches, and keeps sites up while what is behind them restarts.
#[derive(Debug, Parser)]
#[command(name = "sovereign-proxy", version, after_help = AFTER, after_long_help = AFTER_LONG)]
#[command(arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER: &str = "'sovereign-proxy --help' has examples and exit codes.";

const AFTER_LONG: &str = "\
Examples:
  sovereign-proxy demo                       a site of its own, at https://localhost:8443
  sovereign-proxy init proxy.toml            a configuration to start from
  sovereign-proxy check --config proxy.toml  every problem in it
  sovereign-proxy run --config proxy.toml    run it
  sovereign-proxy status                     what it does
  sovereign-proxy certs                      its certificates, and when they are renewed
  sovereign-proxy warm www.example.org       fetch its pages before visitors do
  sovereign-proxy reload                     after a change to the configuration
  sovereign-proxy upgrade                    after a change of the program
  sovereign-proxy purge https://a.example/b  fetch a page anew, now

Signals:
  SIGTERM, SIGINT  drain: accept no more, end once requests under way are answered
  SIGHUP           reload

Exit codes:
  0  done
  1  failed
  2  wrong usage, or a problem in the configuration";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the proxy in the foreground
    ///
    /// Checks the configuration, listens, and serves until SIGTERM or SIGINT. Runs as an ordinary
    /// user: ports below 1024 come with the capability cap_net_bind_service, or from systemd
    /// socket activation. Under systemd, Type=notify is understood, and so is the watchdog.
    ///
    /// As the first process of a container it is the parent of the daemon: an upgrade ends the old
    /// daemon and not the container, signals reach the one in force, and the container ends with its
    /// code.
    Run {
        /// The configuration
        #[arg(long, value_name = "FILE", default_value = CONFIG)]
        config: PathBuf,
    },
    /// Run the proxy on a demonstration site that it brings along
    ///
    /// Needs no configuration and no other server. Prints what to open and what to try.
    Demo {
        /// Plain HTTP [default: 127.0.0.1:8080 and [::1]:8080]
        #[arg(long, value_name = "ADDRESS:PORT")]
        http: Option<SocketAddr>,
        /// HTTP over TLS [default: 127.0.0.1:8443 and [::1]:8443]
        #[arg(long, value_name = "ADDRESS:PORT")]
        https: Option<SocketAddr>,
        /// A folder for its certificates and sockets, made where it is missing
        /// [default: $XDG_STATE_HOME/sovereign-proxy-demo, or ~/.local/state/sovereign-proxy-demo]
        #[arg(long, value_name = "FOLDER")]
        state: Option<PathBuf>,
    },
    /// Say every problem in a configuration
    ///
    /// Reads the file and the certificates that it names; changes nothing and opens no port.
    /// Exits with 2 where there is a problem.
    Check {
        /// The configuration
        #[arg(long, value_name = "FILE", default_value = CONFIG)]
        config: PathBuf,
        /// Print the problems as JSON on standard output
        #[arg(long)]
        json: bool,
        /// Print the JSON Schema of the configuration instead, for editors
        #[arg(long, conflicts_with_all = ["config", "json"])]
        schema: bool,
    },
    /// Write a commented configuration to start from
    Init {
        /// Where to; '-' is standard output
        #[arg(value_name = "FILE", default_value = "proxy.toml")]
        file: PathBuf,
        /// Replace a file that exists
        #[arg(long)]
        force: bool,
    },
    /// Show sites, upstreams, certificates and the cache of the running proxy
    Status {
        #[command(flatten)]
        daemon: Daemon,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show certificates, renew them, and try whether they can be had
    ///
    /// The daemon orders and renews certificates by itself. These commands show what it does, and
    /// make it do more. Without a command: list.
    #[command(after_long_help = certs::EXAMPLES)]
    Certs(Certs),
    /// The proxy's own certificate authority, of `tls = "local"`
    Ca {
        #[command(subcommand)]
        what: Ca,
    },
    /// Fetch a site's pages into the cache of the running proxy, before visitors ask for them
    ///
    /// Finds them as search engines do: by robots.txt, sitemaps and feeds. Pages that are stored
    /// already cost the site nothing. Exits with 1 where no page came, or where it stopped because
    /// the site was not well.
    Warm {
        #[command(flatten)]
        daemon: Daemon,
        /// A name of the site, with the port that visitors name where it is not the usual one
        #[arg(value_name = "SITE")]
        site: String,
        /// Requests in a second, at the most
        #[arg(long, value_name = "NUMBER", default_value = "10", value_parser = rate)]
        rate: f64,
        /// The Accept-Encoding to ask for pages with; an empty one is not sent
        #[arg(
            long,
            value_name = "CODINGS",
            default_value = "gzip, deflate, br, zstd"
        )]
        encoding: String,
        /// List the pages, and fetch only what is needed to find them
        #[arg(long)]
        dry_run: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the running proxy read its configuration again
    ///
    /// Nothing changes where the file has a problem. No connection is dropped.
    Reload {
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Replace the running proxy by a new program, without a pause
    ///
    /// Starts the new program with the arguments of the old one and hands it the listening
    /// sockets. Once it is ready, the old one drains and ends. Where the new one fails, the old
    /// one stays.
    Upgrade {
        #[command(flatten)]
        daemon: Daemon,
        /// The new program [default: the path that the running one was started from]
        #[arg(long, value_name = "PATH")]
        program: Option<PathBuf>,
        /// The configuration that the new program reads [default: that of the running one]
        #[arg(long, value_name = "FILE")]
        new_config: Option<PathBuf>,
    },
    /// Make the running proxy accept no more, and end once requests under way are answered
    Drain {
        #[command(flatten)]
        daemon: Daemon,
        /// How long to wait for them, such as 30s or 5m [default: the configuration's `drain`]
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        deadline: Option<Duration>,
    },
    /// Make the running proxy fetch anew what it has stored
    ///
    /// What is purged is stale from then on: it is served once more while it is fetched anew, and
    /// where the site cannot be reached. With --hard it is not served again. A purge takes the same
    /// time however much it concerns, and holds over a restart.
    #[command(group = ArgGroup::new("what").required(true).multiple(true).args(["urls", "prefix", "tag", "site"]))]
    Purge {
        #[command(flatten)]
        daemon: Daemon,
        /// Pages, each by its whole URL; '-' reads them from standard input, one a line
        #[arg(value_name = "URL")]
        urls: Vec<String>,
        /// All below a URL that ends in '/'; may be given again
        #[arg(long, value_name = "URL")]
        prefix: Vec<String>,
        /// All that the application gave this tag, in Cache-Groups, Cache-Tag, Surrogate-Key or
        /// xkey; may be given again
        #[arg(long, value_name = "TAG")]
        tag: Vec<String>,
        /// With --tag, the site whose tag it is, else all of a site; may be given again
        #[arg(long, value_name = "SITE", conflicts_with_all = ["urls", "prefix"])]
        site: Vec<String>,
        /// Do not serve it again, not even while it is fetched anew
        #[arg(long)]
        hard: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Which running proxy is meant. Without either option: the one in the environment variable
/// SOVEREIGN_ADMIN, the one of /etc/sovereign-proxy/proxy.toml, or the demonstration.
#[derive(Debug, Args)]
pub(crate) struct Daemon {
    /// The proxy's admin socket [default: $SOVEREIGN_ADMIN, then the configuration's, then the demonstration's]
    #[arg(long, value_name = "SOCKET", conflicts_with = "config")]
    pub(crate) admin: Option<PathBuf>,
    /// The configuration that names its admin socket
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// A duration as the configuration writes it.
fn duration(text: &str) -> Result<Duration, String> {
    let wanted = || "a whole number and ms, s, m, h or d, such as 30s".to_owned();
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = text[..text.len() - unit.len()]
        .parse()
        .map_err(|_| wanted())?;
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wanted()),
    };
    let total = number.checked_mul(milliseconds).ok_or_else(wanted)?;
    Ok(Duration::from_millis(total))
}

/// Requests in a second.
fn rate(text: &str) -> Result<f64, String> {
    let rate = text
        .parse()
        .ok()
        .filter(|rate| (0.1..=1000.0).contains(rate));
    rate.ok_or_else(|| "a number from 0.1 to 1000".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn what_a_purge_may_name() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        for line in [
            "sovereign-proxy purge https://a.example/ https://a.example/b",
            "sovereign-proxy purge - --hard",
            "sovereign-proxy purge https://a.example/ --prefix https://a.example/b/ --tag c --json",
            "sovereign-proxy purge --tag a --tag b --site c --site d",
            "sovereign-proxy purge --site a",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
        for line in [
            "sovereign-proxy purge",
            "sovereign-proxy purge --hard",
            "sovereign-proxy purge https://a.example/ --site a",
            "sovereign-proxy purge --prefix https://a.example/ --site a",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn certs_is_a_list_unless_it_says_otherwise() {
        let parse = |line: &str| match Cli::try_parse_from(line.split(' ')).map(|cli| cli.command) {
            Ok(Command::Certs(certs)) => Some(certs),
            _ => None,
        };
        let list = parse("sovereign-proxy certs --json").unwrap();
        assert!(list.what.is_none() && list.list.json);
        for line in [
            "sovereign-proxy certs list --json --admin x",
            "sovereign-proxy certs renew",
            "sovereign-proxy certs renew --admin x a.example b.example",
            "sovereign-proxy certs dry-run a.example --json",
            "sovereign-proxy certs agree --yes",
            "sovereign-proxy certs feed --ics",
        ] {
            assert!(
                parse(line).is_some_and(|certs| certs.what.is_some()),
                "{line}"
            );
        }
        for line in [
            "sovereign-proxy certs a.example",
            "sovereign-proxy certs --json renew",
            "sovereign-proxy certs feed --atom --ics",
        ] {
            assert!(parse(line).is_none(), "{line}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2d"), Ok(Duration::from_secs(172_800)));
        for bad in [
            "",
            "s",
            "30",
            "-1s",
            "1.5s",
            "30 s",
            "99999999999999999d",
            "ä",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates() {
        assert_eq!(rate("0.1"), Ok(0.1));
        assert_eq!(rate("1000"), Ok(1000.0));
        for bad in ["", "0", "-1", "1001", "inf", "NaN", "1/s"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
