//! The OpenSSH configuration that every connection goes by: what this program insists on, then the operator's own.
//! Stands alone as a file, because a file is what `ssh` hands on to the one that it starts for a jump host, and options
//! of its command line it does not: so every host on the way is held to the same. Its key has to be known, in the
//! file of `sovereign host add` or in the operator's own, and it has seconds to answer.
//!
//! Nothing is said of keys, agents and users: those are the operator's. `BatchMode` keeps `ssh` from asking on the
//! terminal, which several hosts at once would share with the plan. A hardware key that only wants to be touched works
//! as it is; one with a PIN, like any key with a passphrase, belongs in the agent, which asks by itself.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempPath;

/// How long OpenSSH waits for a host to take the connection, and to show its key.
const TCP: Duration = Duration::from_secs(5);
/// How often a silent host is asked whether it is there; the third time without an answer ends the connection.
const ALIVE: Duration = Duration::from_secs(2);
/// What OpenSSH reads where no other file is named.
const USUAL: [&str; 2] = ["~/.ssh/config", "/etc/ssh/ssh_config"];

/// The configuration as text: OpenSSH takes the first value that it finds of each setting.
pub(super) fn text(known: &Path, operators: Option<&Path>) -> String {
    let known = word(known);
    let head = format!(
        "StrictHostKeyChecking yes\n\
         VerifyHostKeyDNS no\n\
         UpdateHostKeys no\n\
         GlobalKnownHostsFile {known} /etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2\n\
         BatchMode yes\n\
         ConnectTimeout {}\n\
         ServerAliveInterval {}\n\
         ServerAliveCountMax 3\n",
        TCP.as_secs(),
        ALIVE.as_secs(),
    );
    let operators = match operators {
        Some(file) => vec![word(file)],
        None => USUAL.map(str::to_owned).to_vec(),
    };
    let more = operators.iter().map(|file| format!("Include {file}\n"));
    std::iter::once(head).chain(more).collect()
}

/// Writes it down, for nobody else to read, for as long as what this gives is held.
pub(super) fn write(text: &str) -> io::Result<TempPath> {
    let mut file = tempfile::Builder::new()
        .prefix("sovereign-ssh-")
        .tempfile_in(folder())?;
    file.write_all(text.as_bytes())?;
    Ok(file.into_temp_path())
}

/// Where what only lives as long as this program lies: this file, and the control sockets, each in a folder of its own
/// that nobody else may enter. Short, for a socket's path may have about a hundred bytes.
pub(super) fn folder() -> PathBuf {
    std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|folder| folder.is_dir())
        .unwrap_or_else(std::env::temp_dir)
}

/// A path as a word of this file.
fn word(path: &Path) -> String {
    let path = path.to_string_lossy();
    format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
}
