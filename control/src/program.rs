//! The program of the proxy that is installed: found on this machine, asked for its version, digested. Stands alone
//! because a plan is made of values, and this is where one of them comes from.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use sovereign_config::stack::model::Stack;
use tokio::process::Command;
use tokio::time::timeout;

use crate::desired::Program;

/// Its name, where it lies beside this program.
const NAME: &str = "sovereign-proxy";
/// How long it may take to say its version.
const ASKED: Duration = Duration::from_secs(5);
/// How much of it is read at once, in bytes.
const PART: usize = 1 << 18;
/// What is said where it does not: it may be for another kind of machine.
const UNKNOWN: &str = "unknown";

/// Why it cannot be installed.
#[derive(Debug, thiserror::Error)]
#[error("reading the program of the proxy, {}", path.display())]
pub struct Error {
    /// Where it should be.
    pub path: PathBuf,
    /// Why it cannot be read.
    pub source: io::Error,
}

impl Error {
    /// The way out.
    pub fn hint(&self) -> Option<String> {
        Some("put `sovereign-proxy` beside `sovereign`, or write `program` in [stack.proxy] of stack.toml".to_owned())
    }
}

/// Finds the program of a stack. Relative paths count from `base`, the folder of `stack.toml`.
pub async fn find(stack: &Stack, base: &Path) -> Result<Program, Error> {
    let path = match &stack.program {
        Some(path) => base.join(path),
        None => beside(std::env::current_exe().unwrap_or_default()),
    };
    let digest = digest(&path).await.map_err(|source| Error {
        path: path.clone(),
        source,
    })?;
    let version = version(&path).await.unwrap_or_else(|| UNKNOWN.to_owned());
    Ok(Program {
        path,
        version,
        digest,
    })
}

fn beside(this: PathBuf) -> PathBuf {
    // Where it is a link, the other one lies beside what it leads to.
    let this = this.canonicalize().unwrap_or(this);
    this.with_file_name(NAME)
}

/// SHA-256 of a file, in hexadecimal digits.
pub async fn digest(path: &Path) -> io::Result<String> {
    let path = path.to_owned();
    let read = move || {
        let (mut digest, mut file) = (Sha256::new(), File::open(path)?);
        let mut part = vec![0; PART];
        loop {
            match file.read(&mut part)? {
                0 => break,
                read => digest.update(&part[..read]),
            }
        }
        Ok(digest
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect())
    };
    tokio::task::spawn_blocking(read)
        .await
        .map_err(io::Error::other)?
}

/// The last word of what it says: `sovereign-proxy 0.4.0`.
async fn version(path: &Path) -> Option<String> {
    let mut command = Command::new(path);
    command
        .arg("--version")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(ASKED, command.output()).await.ok()?.ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let word = text.lines().next()?.split_whitespace().last()?;
    word.starts_with(|first: char| first.is_ascii_digit())
        .then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn a_program_is_known_by_its_bytes_and_says_its_version() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(NAME);
        std::fs::write(&path, "#!/bin/sh\necho sovereign-proxy 1.2.3\n").expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("made a program");
        assert_eq!(version(&path).await.as_deref(), Some("1.2.3"));
        let digest = digest(&path).await.expect("read");
        assert_eq!(digest.len(), 64);
        std::fs::write(&path, "no program").expect("written");
        assert_eq!(version(&path).await, None);
        assert_ne!(super::digest(&path).await.expect("read"), digest);
    }
}
