//! What `certs` and `ca` take.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Daemon;

/// `certs`: a command of its own, or the list.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Certs {
    #[command(subcommand)]
    pub(crate) what: Option<CertsCommand>,
    #[command(flatten)]
    pub(crate) list: List,
}

/// What `certs list` takes.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) daemon: Daemon,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// Show certificates: where they come from, when they end, what is done to renew them
    List(List),
    /// Order certificates anew, now
    ///
    /// Returns when the orders are done. Each counts against the authority's limits; certificates
    /// are renewed in time without it.
    Renew {
        #[command(flatten)]
        daemon: Daemon,
        /// Names of the certificates to order; all where none is named
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Try to have certificates of the authorities' staging
    ///
    /// Does all that an order does, and keeps nothing. Exits with 1 where one would not be issued.
    DryRun {
        #[command(flatten)]
        daemon: Daemon,
        /// Names of the certificates to try; all where none is named
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Agree to the terms of the default authority
    ///
    /// Where no [[acme]] is configured, certificates come from Let's Encrypt, once its terms are
    /// agreed to. An authority that [[acme]] names needs no further word.
    Agree {
        #[command(flatten)]
        daemon: Daemon,
        /// Do not ask: the terms have been read
        #[arg(long)]
        yes: bool,
    },
    /// Print what happens to certificates as a feed, for a reader or a calendar
    Feed {
        #[command(flatten)]
        daemon: Daemon,
        /// As Atom (RFC 4287); the default
        #[arg(long)]
        atom: bool,
        /// As iCalendar (RFC 5545)
        #[arg(long, conflicts_with = "atom")]
        ics: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Ca {
    /// Write the authority's root certificate, for browsers to trust
    ///
    /// Reads the state folder; the proxy need not run.
    #[command(after_long_help = CA_EXPORT)]
    Export {
        /// The configuration that names the state folder
        /// [default: /etc/sovereign-proxy/proxy.toml, else the demonstration's]
        #[arg(long, value_name = "FILE", conflicts_with = "state")]
        config: Option<PathBuf>,
        /// The state folder
        #[arg(long, value_name = "FOLDER")]
        state: Option<PathBuf>,
        /// Where to; '-' is standard output
        #[arg(long, value_name = "FILE", default_value = "-")]
        output: PathBuf,
    },
}

pub(super) const EXAMPLES: &str = "\
Examples:
  sovereign-proxy certs                          all certificates
  sovereign-proxy certs dry-run www.example.org  can it be had?
  sovereign-proxy certs renew www.example.org    have it anew, now
  sovereign-proxy certs agree                    to the terms of Let's Encrypt
  sovereign-proxy certs feed --ics               what will expire, for a calendar";

const CA_EXPORT: &str = "\
Examples:
  sovereign-proxy ca export --output sovereign-root.crt

To trust it:
  Debian, Ubuntu  copy it to /usr/local/share/ca-certificates/NAME.crt, run update-ca-certificates
  Fedora          copy it to /etc/pki/ca-trust/source/anchors/, run update-ca-trust
  macOS           security add-trusted-cert -d -r trustRoot
                    -k /Library/Keychains/System.keychain FILE
  Windows         certutil -addstore Root FILE
  Android, iOS    open the file; iOS: then enable it under Certificate Trust Settings
  Firefox         Settings, Certificates, Authorities, Import
  curl            curl --cacert FILE https://...
Whoever has the state folder's ca/root.key can then vouch for any site to you: keep it there.";
