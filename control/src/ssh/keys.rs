//! Host keys: asked for, shown by fingerprint, written down. Stands alone because it is the one moment when a host is
//! not known yet, and nothing is sent to it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use sovereign_config::stack::model;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::connect::{Settings, here};
use super::{Access, Error, Refusal, error};

/// How long a host has to show its keys, in seconds.
const SCAN: &str = "5";
/// How long all of it may take, over jump hosts too.
const DEADLINE: Duration = Duration::from_secs(15);
/// The usual port of SSH.
const PORT: u16 = 22;

/// A key that a host shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    /// Under which name it is looked up: `10.77.0.11`, `[10.77.0.11]:2222`.
    pub name: String,
    /// `ssh-ed25519`.
    pub kind: String,
    /// The key, in Base64.
    pub key: String,
    /// `SHA256:...`, as `ssh-keygen -lf` shows it.
    pub fingerprint: String,
}

impl HostKey {
    /// Its line in a file of known hosts.
    pub fn line(&self) -> String {
        format!("{} {} {}", self.name, self.kind, self.key)
    }
}

impl Access {
    /// Asks a host for its keys. Nobody vouches for the answer: it is for a person to compare.
    pub async fn scan(&self, host: &model::Host) -> Result<Vec<HostKey>, Error> {
        let settings = self.way().settings(host).await?;
        let found = match settings.indirect {
            true => self.scan_over(host).await?,
            false => local(host, &scan_argv(&settings), None).await?,
        };
        let keys = read_scan(&found, &settings);
        if keys.is_empty() {
            let said = format!(
                "no host key came from {} port {}",
                settings.hostname, settings.port
            );
            return Err(Error::Refused {
                host: host.name.clone(),
                refusal: Refusal::Silent,
                said,
            });
        }
        let lines: String = keys.iter().map(|key| key.line() + "\n").collect();
        let listed = local(host, &words(&["ssh-keygen", "-l", "-f", "-"]), Some(&lines)).await?;
        Ok(with_fingerprints(keys, &listed))
    }

    /// The key of a host that is reached over others, as a line of known hosts: `ssh` itself takes the way there, on
    /// which every key has to be known, writes down the last one in a file that is read and thrown away, and offers
    /// nothing that would let it in.
    async fn scan_over(&self, host: &model::Host) -> Result<String, Error> {
        let place =
            tempfile::tempdir().map_err(|error| here(host, "no temporary folder", error))?;
        let file = place.path().join("known_hosts");
        let known = format!("UserKnownHostsFile={}", file.display());
        let mut argv = words(&["ssh", "-T"]);
        argv.extend(self.way().arguments(host).await?);
        for option in [
            known.as_str(),
            "GlobalKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=accept-new",
            "HashKnownHosts=no",
            "PreferredAuthentications=none",
            "ControlPath=none",
        ] {
            argv.extend(words(&["-o", option]));
        }
        argv.extend(words(&[host.ssh.as_str(), "true"]));
        let ended = local(host, &argv, None).await;
        match (read(host, &file).await?, ended) {
            (found, Err(error)) if found.is_empty() => Err(error),
            (found, _) => Ok(found),
        }
    }

    /// The keys that are written down for a host beside `stack.toml`.
    pub async fn pinned(&self, host: &model::Host) -> Result<Vec<String>, Error> {
        let settings = self.way().settings(host).await?;
        let text = read(host, self.way().known()).await?;
        let name = known_name(&settings);
        Ok(text
            .lines()
            .filter(|line| is_of(line, &name))
            .map(str::to_owned)
            .collect())
    }

    /// Writes down the keys of a host, in place of those that were written down for it.
    pub async fn pin(&self, host: &model::Host, keys: &[HostKey]) -> Result<(), Error> {
        let settings = self.way().settings(host).await?;
        let before = read(host, self.way().known()).await?;
        write(
            host,
            self.way().known(),
            &pinned(&before, &known_name(&settings), keys),
        )
        .await
    }

    /// Strikes out the keys of a host.
    pub async fn unpin(&self, host: &model::Host) -> Result<(), Error> {
        self.pin(host, &[]).await
    }
}

fn scan_argv(settings: &Settings) -> Vec<String> {
    let port = settings.port.to_string();
    words(&[
        "ssh-keyscan",
        "-T",
        SCAN,
        "-p",
        &port,
        "--",
        &settings.hostname,
    ])
}

/// Under which name OpenSSH looks up the key.
fn known_name(settings: &Settings) -> String {
    match (&settings.alias, settings.port) {
        (Some(alias), _) => alias.clone(),
        (None, PORT) => settings.hostname.clone(),
        (None, port) => format!("[{}]:{port}", settings.hostname),
    }
}

/// Reads what `ssh-keyscan` prints.
fn read_scan(text: &str, settings: &Settings) -> Vec<HostKey> {
    let name = known_name(settings);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let parts = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    let keys = parts.filter_map(|parts| match parts[..] {
        [_, kind, key] => Some((kind.to_owned(), key.to_owned())),
        _ => None,
    });
    keys.map(|(kind, key)| HostKey {
        name: name.clone(),
        kind,
        key,
        fingerprint: String::new(),
    })
    .collect()
}

/// Takes fingerprints from what `ssh-keygen -l` prints, a line for each key in their order; a key without one is left
/// out, for nobody can compare it.
fn with_fingerprints(keys: Vec<HostKey>, listed: &str) -> Vec<HostKey> {
    let prints = listed
        .lines()
        .map(|line| line.split_whitespace().nth(1).unwrap_or_default());
    let both = keys.into_iter().zip(prints);
    both.filter(|(_, print)| print.starts_with("SHA256:"))
        .map(|(key, print)| HostKey {
            fingerprint: print.to_owned(),
            ..key
        })
        .collect()
}

/// A file of known hosts, with these keys for this name.
fn pinned(before: &str, name: &str, keys: &[HostKey]) -> String {
    let others = before
        .lines()
        .filter(|line| !is_of(line, name))
        .map(str::to_owned);
    others
        .chain(keys.iter().map(HostKey::line))
        .map(|line| line + "\n")
        .collect()
}

fn is_of(line: &str, name: &str) -> bool {
    let names = line.split_whitespace().next().unwrap_or_default();
    names.split(',').any(|one| one == name)
}

async fn read(host: &model::Host, file: &Path) -> Result<String, Error> {
    match tokio::fs::read_to_string(file).await {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(here(
            host,
            &format!("cannot read {}", file.display()),
            error,
        )),
    }
}

async fn write(host: &model::Host, file: &Path, text: &str) -> Result<(), Error> {
    let new = file.with_extension("new");
    let written = async {
        tokio::fs::write(&new, text).await?;
        tokio::fs::rename(&new, file).await
    };
    written
        .await
        .map_err(|error| here(host, &format!("cannot write {}", file.display()), error))
}

/// Runs a program of this machine and gives what it prints.
async fn local(host: &model::Host, argv: &[String], input: Option<&str>) -> Result<String, Error> {
    let failed = |source| {
        here(
            host,
            &format!("`{}` on this machine failed", argv[0]),
            source,
        )
    };
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]).kill_on_drop(true);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let run = async {
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin
                .write_all(input.unwrap_or_default().as_bytes())
                .await?;
        }
        child.wait_with_output().await
    };
    let late = || Err(std::io::ErrorKind::TimedOut.into());
    let output = timeout(DEADLINE, run)
        .await
        .unwrap_or_else(|_| late())
        .map_err(failed)?;
    if !output.status.success() && output.stdout.is_empty() {
        let said = error::last(&String::from_utf8_lossy(&output.stderr), 4);
        // `ssh-keyscan` says nothing of a host that does not answer in time.
        let refusal = match said.is_empty() {
            true => Refusal::Silent,
            false => Refusal::of(&said),
        };
        return Err(Error::Refused {
            host: host.name.clone(),
            refusal,
            said,
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests;
