//! Opening connections: the operator's own configuration, agent and jump hosts, and only host keys that are known.
//! Stands alone so that a session is opened in one way, whoever asks.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use openssh::{ControlPersist, KnownHosts, Session, SessionBuilder};
use sovereign_config::stack::model;
use tempfile::TempPath;
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::{CONNECT, Connect, Error, Refusal, Remote, Ssh, config, error};

/// How long an unused connection outlives this process where that was killed.
const IDLE: NonZeroUsize = NonZeroUsize::new(600).expect("600 is not 0");
/// How long `ssh -G` may take.
const SETTINGS: Duration = Duration::from_secs(5);
/// How many lines of what `ssh` says are shown.
const LINES: usize = 4;

/// How hosts are reached, and the connections that are open.
#[derive(Debug)]
pub struct Access {
    /// How.
    way: Arc<Way>,
    /// The open ones, by the name of the host.
    open: Mutex<HashMap<String, Arc<Ssh>>>,
}

/// How hosts are reached.
#[derive(Debug)]
pub(super) struct Way {
    /// The host keys that `sovereign host add` has written down.
    known: PathBuf,
    /// Another OpenSSH configuration than the operator's usual one.
    operators: Option<PathBuf>,
    /// The one that every connection goes by, once it is written.
    config: OnceCell<TempPath>,
}

/// What OpenSSH would do for a destination: `ssh -G`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// Where it connects to.
    pub(super) hostname: String,
    /// At which port.
    pub(super) port: u16,
    /// The name under which the host's key is looked up, where it is another one.
    pub(super) alias: Option<String>,
    /// It goes over another host, or through another program.
    pub(super) indirect: bool,
}

impl Access {
    /// With the host keys in this file, beside those that the operator's OpenSSH knows.
    pub fn new(known: &Path) -> Self {
        let known = std::path::absolute(known).unwrap_or_else(|_| known.to_owned());
        Self::by(known, None)
    }

    /// With another OpenSSH configuration than the operator's usual one.
    pub fn with_config(self, config: &Path) -> Self {
        let config = std::path::absolute(config).unwrap_or_else(|_| config.to_owned());
        Self::by(self.way.known.clone(), Some(config))
    }

    fn by(known: PathBuf, operators: Option<PathBuf>) -> Self {
        let way = Way {
            known,
            operators,
            config: OnceCell::new(),
        };
        Self {
            way: Arc::new(way),
            open: Mutex::default(),
        }
    }

    /// A connection to this host, for what only a real one can do: terminals and tunnels.
    pub async fn session(&self, host: &model::Host) -> Result<Arc<Ssh>, Error> {
        if let Some(open) = self.open().get(&host.name).cloned() {
            return Ok(open);
        }
        let ssh = Arc::new(Ssh::connect(host.clone(), Arc::clone(&self.way)).await?);
        self.open().insert(host.name.clone(), Arc::clone(&ssh));
        Ok(ssh)
    }

    pub(super) fn way(&self) -> &Way {
        &self.way
    }

    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Ssh>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Connect for Access {
    async fn connect(&self, host: &model::Host) -> Result<Arc<dyn Remote>, Error> {
        Ok(self.session(host).await?)
    }
}

impl Way {
    /// The file of host keys that are written down.
    pub(super) fn known(&self) -> &Path {
        &self.known
    }

    /// Opens a connection.
    pub(super) async fn open(&self, host: &model::Host) -> Result<Session, Error> {
        let config = self.config(host).await?;
        let mut builder = SessionBuilder::default();
        builder
            .known_hosts_check(KnownHosts::Strict)
            .config_file(config)
            .control_directory(config::folder())
            .control_persist(ControlPersist::IdleFor(IDLE));
        if let Some(port) = host.port {
            builder.port(port);
        }
        match timeout(CONNECT, builder.connect_mux(&host.ssh)).await {
            Ok(Ok(session)) => Ok(session),
            Ok(Err(error)) => Err(refused(&host.name, error)),
            Err(_) => Err(Error::Refused {
                host: host.name.clone(),
                refusal: Refusal::Silent,
                said: format!("nothing came within {}", error::seconds(&CONNECT)),
            }),
        }
    }

    /// The configuration that every connection goes by.
    async fn config(&self, host: &model::Host) -> Result<&Path, Error> {
        // OpenSSH takes what begins with a dash for an option, which may name a program to run.
        if host.ssh.starts_with('-') || host.ssh.is_empty() {
            return Err(here(
                host,
                "this is no SSH destination",
                std::io::ErrorKind::InvalidInput.into(),
            ));
        }
        let written = self.config.get_or_try_init(|| async {
            let text = config::text(&self.known, self.operators.as_deref());
            let write = tokio::task::spawn_blocking(move || config::write(&text));
            write.await.unwrap_or_else(|error| Err(error.into()))
        });
        let config = written.await.map_err(|source| {
            here(
                host,
                "the configuration of OpenSSH cannot be written",
                source,
            )
        })?;
        Ok(config)
    }

    /// Arguments that lead the `ssh` program the same way as a session.
    pub(super) async fn arguments(&self, host: &model::Host) -> Result<Vec<String>, Error> {
        let config = self.config(host).await?.to_string_lossy().into_owned();
        let mut arguments = vec!["-F".to_owned(), config];
        if let Some(port) = host.port {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        Ok(arguments)
    }

    /// What OpenSSH would do for this host.
    pub(super) async fn settings(&self, host: &model::Host) -> Result<Settings, Error> {
        let mut command = Command::new("ssh");
        command
            .arg("-G")
            .args(self.arguments(host).await?)
            .arg(&host.ssh);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let late = || std::io::ErrorKind::TimedOut.into();
        let output = timeout(SETTINGS, command.output())
            .await
            .unwrap_or_else(|_| Err(late()))
            .map_err(|source| here(host, "`ssh -G` on this machine failed", source))?;
        if !output.status.success() {
            let said = error::last(&String::from_utf8_lossy(&output.stderr), LINES);
            return Err(Error::Refused {
                host: host.name.clone(),
                refusal: Refusal::Other,
                said,
            });
        }
        Ok(Settings::read(&String::from_utf8_lossy(&output.stdout)))
    }
}

impl Settings {
    /// Reads what `ssh -G` prints.
    pub(super) fn read(text: &str) -> Self {
        let mut settings = Self {
            port: 22,
            ..Self::default()
        };
        for (key, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            match key {
                "hostname" => settings.hostname = value.to_owned(),
                "port" => settings.port = value.parse().unwrap_or(22),
                "hostkeyalias" if value != "none" => settings.alias = Some(value.to_owned()),
                "proxyjump" | "proxycommand" if value != "none" => settings.indirect = true,
                _ => {}
            }
        }
        settings
    }
}

/// Why OpenSSH did not connect.
fn refused(host: &str, error: openssh::Error) -> Error {
    let said = match &error {
        openssh::Error::Connect(cause) | openssh::Error::Master(cause) => cause.to_string(),
        other => other.to_string(),
    };
    let refusal = Refusal::of(&said);
    let plain: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !is_noise(line))
        .collect();
    Error::Refused {
        host: host.to_owned(),
        refusal,
        said: error::last(&plain.join("\n"), LINES),
    }
}

/// What `ssh` says around the one line that counts; its advice on how to forget a key is not ours.
fn is_noise(line: &str) -> bool {
    const NOISE: [&str; 10] = [
        "@",
        "IT IS POSSIBLE THAT",
        "Someone could be",
        "It is also possible",
        "Please contact",
        "Add correct host key",
        "Offending ",
        "remove with:",
        "ssh-keygen -f",
        "Host key verification failed",
    ];
    line.is_empty() || NOISE.iter().any(|noise| line.starts_with(noise))
}

/// Something on this machine.
pub(super) fn here(host: &model::Host, step: &str, source: std::io::Error) -> Error {
    Error::Here {
        host: host.name.clone(),
        step: format!("{step} (ssh = \"{}\")", host.ssh),
        source,
    }
}

#[cfg(test)]
mod tests;
