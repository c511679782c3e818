//! `certs`: certificates of the running proxy. `ca`: the root of its own authority.

use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use sovereign_config::model::{Proxy, Tls};
use sovereign_proxy::admin::{Client, ClientError};
use sovereign_proxy::certs::{self, Form};
use sovereign_proxy::status::Look;
use sovereign_proxy::tls;

use crate::args::{self, Ca, Certs, CertsCommand, Daemon, List};
use crate::{ask, demonstration, eprint, pretty, print, say, terms};

/// `certs`.
pub(crate) fn perform(certs: Certs) -> anyhow::Result<ExitCode> {
    match certs.what.unwrap_or(CertsCommand::List(certs.list)) {
        CertsCommand::List(options) => list(&options)?,
        CertsCommand::Renew { daemon, names } => {
            let renew = async |client: Client| client.renew(names).await;
            say(&ask_patiently(&daemon, "ordering certificates", renew)?)?;
        }
        CertsCommand::DryRun {
            daemon,
            names,
            json,
        } => return dry_run(&daemon, names, json),
        CertsCommand::Agree { daemon, yes } => terms::agree(&daemon, yes)?,
        CertsCommand::Feed { daemon, ics, .. } => {
            let form = if ics { Form::Calendar } else { Form::Atom };
            print(&ask(&daemon, async |client| client.feed(form).await)?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(options: &List) -> anyhow::Result<()> {
    let overview = ask(&options.daemon, async |client| client.certs().await)?;
    print(&if options.json {
        pretty(&overview)?
    } else {
        certs::list(&overview, Look::of_stdout())
    })
}

fn dry_run(daemon: &Daemon, names: Vec<String>, json: bool) -> anyhow::Result<ExitCode> {
    let dry_run = async |client: Client| client.dry_run(names).await;
    let trials = ask_patiently(daemon, "asking the authorities' staging", dry_run)?;
    print(&if json {
        pretty(&trials)?
    } else {
        certs::trials(&trials)
    })?;
    Ok(if trials.iter().all(|trial| trial.ok) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What `check` says of sites that ask authorities for certificates: no problems, but good to know.
pub(crate) fn notes(config: &Proxy) -> Vec<String> {
    let sites = config.sites.iter().filter(|site| site.tls == Tls::Acme);
    let sites: Vec<_> = sites.map(|site| site.canonical()).collect();
    if sites.is_empty() {
        return Vec::new();
    }
    let listed = sites.len().min(LISTED);
    let mut who = sites[..listed].join(", ");
    if sites.len() > listed {
        who.push_str(&format!(" and {} more", sites.len() - listed));
    }
    let authorities: Vec<_> = config
        .acme
        .iter()
        .map(|ca| certs::host(&ca.directory))
        .collect();
    let mut notes = vec![format!(
        "certificates of {who} come from {}",
        authorities.join(", else ")
    )];
    if config.acme.iter().any(|ca| !ca.agreed) {
        notes.push(
            "its terms of service are agreed to on the first start in a terminal, or by \
             `sovereign-proxy certs agree`"
                .to_owned(),
        );
    }
    notes
}

/// Asks the running proxy something that takes its time; a terminal shows that it is waited for.
fn ask_patiently<T>(
    daemon: &Daemon,
    doing: &'static str,
    question: impl AsyncFnOnce(Client) -> Result<T, ClientError>,
) -> anyhow::Result<T> {
    ask(daemon, async |client| {
        let mut answer = std::pin::pin!(question(client));
        tokio::select! {
            answer = &mut answer => return answer,
            () = tokio::time::sleep(SOON) => {}
        }
        // Draws nothing where standard error is no terminal.
        let spinner = ProgressBar::new_spinner().with_message(doing);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}, {elapsed}") {
            spinner.set_style(style);
        }
        spinner.enable_steady_tick(Duration::from_millis(200));
        let answer = answer.await;
        spinner.finish_and_clear();
        answer
    })
}

/// `ca`.
pub(crate) fn authority(what: &Ca) -> anyhow::Result<()> {
    let Ca::Export {
        config,
        state,
        output,
    } = what;
    let state = match state {
        Some(state) => state.clone(),
        None => state_folder(config.as_deref())?,
    };
    let root = tls::root_pem(&state)?;
    if output.as_os_str() == "-" {
        return print(&root);
    }
    write_public(output, root.as_bytes())
        .with_context(|| format!("writing {}", output.display()))?;
    eprint(&format!(
        "wrote {}; `sovereign-proxy ca export --help` says how browsers come to trust it",
        output.display()
    ));
    Ok(())
}

/// The state folder of the configuration; where none is named and there is none, the demonstration's.
fn state_folder(config: Option<&Path>) -> anyhow::Result<PathBuf> {
    let default = Path::new(args::CONFIG);
    match config {
        Some(config) => Ok(sovereign_config::load(config)?.state),
        None if default.exists() => Ok(sovereign_config::load(default)?.state),
        None => match demonstration::default_state() {
            Ok(state) if state.exists() => Ok(state),
            _ => anyhow::bail!(
                "no state folder to read: there is no {}, and the demonstration has not run; name \
                 a configuration with --config or a folder with --state",
                args::CONFIG
            ),
        },
    }
}

/// A file that everybody may read.
fn write_public(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o644);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    if file.metadata()?.is_file() {
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// How many sites are named in a line.
const LISTED: usize = 5;
/// A wait that is shorter needs no sign of life.
const SOON: Duration = Duration::from_secs(2);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_check_says_which_sites_ask_which_authorities() {
        let folder = Path::new("/nowhere");
        let text: String = (0..7)
            .map(|n| {
                format!(
                    "[[site]]\nnames = \"{n}.example.org\"\ntls = \"local\"\n\
                     upstream = \"http://127.0.0.1:1\"\n"
                )
            })
            .collect();
        let mut config = sovereign_config::parse("t", &text, folder).unwrap();
        assert!(notes(&config).is_empty());
        config.sites[3].tls = Tls::Acme;
        assert_eq!(
            notes(&config)[0],
            "certificates of 3.example.org come from acme-v02.api.letsencrypt.org"
        );
        let sites = config.sites.iter_mut();
        sites.for_each(|site| site.tls = Tls::Acme);
        let mut other = config.acme[0].clone();
        other.directory = "https://ca.example:8443/directory".to_owned();
        config.acme.push(other);
        assert_eq!(
            notes(&config)[0],
            "certificates of 0.example.org, 1.example.org, 2.example.org, 3.example.org, \
             4.example.org and 2 more come from acme-v02.api.letsencrypt.org, else ca.example:8443"
        );
        assert_eq!(notes(&config).len(), 2);
        let authorities = config.acme.iter_mut();
        authorities.for_each(|ca| ca.agreed = true);
        assert_eq!(notes(&config).len(), 1);
    }

    #[test]
    fn a_root_is_for_everybody_to_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.crt");
        std::fs::write(&path, "an older and longer one").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        write_public(&path, b"root").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"root");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        // A device stays what it is.
        write_public(Path::new("/dev/null"), b"root").unwrap();
    }
}
