//! Compose of this machine, for a host whose distribution has none: a plugin of the engine's client, one file. Found
//! and digested here; stands alone so that the plan is made of values.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::context::waiting;
use crate::failure::Hinted;
use crate::program;

/// Where it lies on a host, beside what packages bring.
pub const PLACE: &str = "/usr/local/lib/docker/cli-plugins/docker-compose";
/// Where the engine's client looks for it on this machine; before these, in the operator's own folder.
const FOLDERS: [&str; 4] = [
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
];
const NAME: &str = "docker-compose";

/// A Compose that can be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    /// Where it lies on this machine.
    pub path: PathBuf,
    /// SHA-256.
    pub digest: String,
    /// Which processors it runs on, as `uname -m` begins.
    pub machine: &'static str,
}

impl Plugin {
    /// Whether it runs there.
    pub fn runs_on(&self, machine: &str) -> bool {
        machine.starts_with(self.machine)
    }
}

/// The file that is named, or that of this machine; none where there is neither.
pub async fn find(named: Option<&Path>) -> anyhow::Result<Option<Plugin>> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => match waiting(|| anyhow::Ok(of_this_machine())).await? {
            Some(path) => path,
            None => return Ok(None),
        },
    };
    let wrong = |why: &dyn std::fmt::Display| {
        let hint = "--compose names the program of Compose 2 for the host's processor, as its releases have it: docker-compose-linux-x86_64";
        Hinted::new(format!("{}: {why}", path.display()), hint)
    };
    let reading = path.clone();
    let head = waiting(move || anyhow::Ok(head(&reading))).await?;
    let head = head.map_err(|error| wrong(&error))?;
    let machine = machine(&head).ok_or_else(|| wrong(&"it is no program for Linux"))?;
    let digest = program::digest(&path)
        .await
        .map_err(|error| wrong(&error))?;
    Ok(Some(Plugin {
        path,
        digest,
        machine,
    }))
}

fn of_this_machine() -> Option<PathBuf> {
    let own = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let own = own.or_else(|| std::env::home_dir().map(|home| home.join(".docker")));
    let own = own.map(|folder| folder.join("cli-plugins"));
    let folders = own.into_iter().chain(FOLDERS.map(PathBuf::from));
    folders
        .map(|folder| folder.join(NAME))
        .find(|path| path.is_file())
}

const HEAD: usize = 20;

fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    std::fs::File::open(path)?
        .take(HEAD as u64)
        .read_to_end(&mut head)?;
    Ok(head)
}

/// What the head of an ELF file says.
fn machine(head: &[u8]) -> Option<&'static str> {
    let number: [u8; 2] = head.get(18..HEAD)?.try_into().ok()?;
    let little = head.get(5) == Some(&1);
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let number = match little {
        true => u16::from_le_bytes(number),
        false => u16::from_be_bytes(number),
    };
    Some(match number {
        62 => "x86_64",
        183 => "aarch64",
        40 => "arm",
        243 => "riscv64",
        21 => "ppc64",
        22 => "s390",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_says_where_it_runs() {
        let head = |number: u8| {
            let mut head = b"\x7fELF\x02\x01".to_vec();
            head.resize(18, 0);
            head.extend([number, 0]);
            head
        };
        for (head, found) in [
            (head(62), Some("x86_64")),
            (head(183), Some("aarch64")),
            (head(2), None),
            (b"#!/usr/bin/python3 -s".to_vec(), None),
            (b"\x7fELF".to_vec(), None),
        ] {
            assert_eq!(machine(&head), found, "{head:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_program_is_told_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("compose");
        let said = |path: PathBuf| async move {
            let error = find(Some(&path)).await.unwrap_err();
            error
                .to_string()
                .replace(&path.display().to_string(), "FILE")
        };
        assert!(said(path.clone()).await.starts_with("FILE: No such file"));
        std::fs::write(&path, "#!/bin/sh\n# of more than twenty bytes\n").unwrap();
        assert_eq!(said(path.clone()).await, "FILE: it is no program for Linux");
        let this = std::env::current_exe().unwrap();
        let found = find(Some(&this)).await.unwrap().unwrap();
        assert!(found.runs_on(rustix::system::uname().machine().to_str().unwrap()));
    }
}
