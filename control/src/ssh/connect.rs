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
use tokio::process::Command;
use tokio::time::timeout;

use super::{CONNECT, Connect, Error, Refusal, Remote, Ssh, error};

/// How long OpenSSH waits for a host to take the connection.
const TCP: Duration = Duration::from_secs(5);
/// How often a silent host is asked whether it is there; the third time without an answer ends the connection.
const ALIVE: Duration = Duration::from_secs(2);
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
#[derive(Debug, Clone)]
pub(super) struct Way {
    /// The host keys that `sovereign host add` has written down.
    known: PathBuf,
    /// Another OpenSSH configuration than the operator's usual one.
    config: Option<PathBuf>,
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
    /// The hosts on the way.
    pub(super) jump: Option<String>,
    /// The operator's own files of known hosts.
    pub(super) known: Vec<String>,
}

impl Access {
    /// With the host keys in this file, beside those that the operator's OpenSSH knows.
    pub fn new(known: &Path) -> Self {
        let known = std::path::absolute(known).unwrap_or_else(|_| known.to_owned());
        Self {
            way: Arc::new(Way {
                known,
                config: None,
            }),
            open: Mutex::default(),
        }
    }

    /// With another OpenSSH configuration than the operator's usual one.
    pub fn with_config(self, config: &Path) -> Self {
        let way = Way {
            config: Some(config.to_owned()),
            ..(*self.way).clone()
        };
        Self {
            way: Arc::new(way),
            ..self
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
        let settings = self.settings(host).await?;
        let builder = self.builder(host, &settings);
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

    fn builder(&self, host: &model::Host, settings: &Settings) -> SessionBuilder {
        let mut builder = SessionBuilder::default();
        builder
            .known_hosts_check(KnownHosts::Strict)
            .user_known_hosts_file(self.known_files(settings))
            .connect_timeout(TCP)
            .server_alive_interval(ALIVE)
            .control_directory(control_folder())
            .control_persist(ControlPersist::IdleFor(IDLE));
        if let Some(port) = host.port {
            builder.port(port);
        }
        if let Some(config) = &self.config {
            builder.config_file(config);
        }
        builder
    }

    /// What `UserKnownHostsFile` is set to: ours first, then the operator's.
    pub(super) fn known_files(&self, settings: &Settings) -> String {
        let ours = self.known.to_string_lossy();
        std::iter::once(ours.as_ref())
            .chain(settings.known.iter().map(String::as_str))
            .map(option_word)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Arguments that lead the `ssh` program the same way as a session.
    pub(super) fn arguments(&self, host: &model::Host, settings: &Settings) -> Vec<String> {
        let mut arguments = vec![
            "-o".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            "-o".to_owned(),
            format!("UserKnownHostsFile={}", self.known_files(settings)),
        ];
        arguments.extend(self.short(host));
        arguments
    }

    fn short(&self, host: &model::Host) -> Vec<String> {
        let mut arguments = Vec::new();
        if let Some(config) = &self.config {
            arguments.extend(["-F".to_owned(), config.to_string_lossy().into_owned()]);
        }
        if let Some(port) = host.port {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        arguments
    }

    /// What OpenSSH would do for this host.
    pub(super) async fn settings(&self, host: &model::Host) -> Result<Settings, Error> {
        // OpenSSH takes what begins with a dash for an option, which may name a program to run.
        if host.ssh.starts_with('-') || host.ssh.is_empty() {
            return Err(here(
                host,
                "this is no SSH destination",
                std::io::ErrorKind::InvalidInput.into(),
            ));
        }
        let mut command = Command::new("ssh");
        command.arg("-G").args(self.short(host)).arg(&host.ssh);
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
                "proxyjump" if value != "none" => settings.jump = Some(value.to_owned()),
                "userknownhostsfile" => {
                    settings.known = value.split_whitespace().map(str::to_owned).collect()
                }
                _ => {}
            }
        }
        settings
    }
}

/// A word of an OpenSSH option: quoted, and its percent signs not for OpenSSH to replace.
fn option_word(word: &str) -> String {
    let word = word
        .replace('%', "%%")
        .replace('\\', "\\\\")
        .replace('"', "\\\"");
    format!("\"{word}\"")
}

/// Where control sockets lie, each in a folder of its own that nobody else may enter. Short, for a socket's path may
/// have about a hundred bytes.
fn control_folder() -> PathBuf {
    std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|folder| folder.is_dir())
        .unwrap_or_else(std::env::temp_dir)
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
    const NOISE: [&str; 5] = [
        "@",
        "remove with:",
        "ssh-keygen -f",
        "Offending ",
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
