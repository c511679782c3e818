//! The folder of the state, and the lock that keeps it one daemon's own. A successor is handed the
//! lock with the sockets, so that there is no moment at which a third could take it.

use std::fs::{File, Permissions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::handover::Handover;

/// The lock; held until every process that has it ends.
pub struct Lock {
    folder: File,
    /// What it is called among what is handed over.
    pub name: String,
}

impl Lock {
    /// Makes the folder, mode 0700 because keys lie in it, and takes its lock. Nothing has to be written
    /// for it, so a disk that is full or read-only is no hindrance.
    pub fn take(state: &Path, handover: &mut Handover) -> anyhow::Result<Self> {
        make_private(state)?;
        let name = format!("lock {}", state.display());
        let folder = match handover.take(&name) {
            Some(inherited) => File::from(inherited),
            None => lock(state)?,
        };
        // For who asks whose it is; the lock itself is what counts.
        let _ = std::fs::write(holder(state), format!("{}\n", std::process::id()));
        Ok(Self { folder, name })
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

fn lock(state: &Path) -> anyhow::Result<File> {
    let shown = state.display();
    let folder = File::open(state).with_context(|| format!("opening the state folder {shown}"))?;
    match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => return Ok(folder),
        Err(Errno::WOULDBLOCK) => {}
        Err(error) => {
            return Err(error).with_context(|| format!("locking the state folder {shown}"));
        }
    }
    let holder = std::fs::read_to_string(holder(state)).unwrap_or_default();
    let holder = match holder.trim() {
        "" => String::new(),
        pid => format!(" (process {pid})"),
    };
    anyhow::bail!(
        "the state folder {shown} is in use by another sovereign-proxy{holder}: stop it, or name another folder by `state`; \
         to replace the running program use `sovereign-proxy upgrade`"
    )
}

/// The file that says who has the lock.
fn holder(state: &Path) -> PathBuf {
    state.join("pid")
}

fn make_private(state: &Path) -> anyhow::Result<()> {
    let hint = || {
        format!(
            "making the state folder {}: name another one by `state`, or make it and give it to the user that runs the proxy",
            state.display()
        )
    };
    std::fs::create_dir_all(state).with_context(hint)?;
    let mode = std::fs::metadata(state).with_context(hint)?.permissions();
    if mode.mode() & 0o7777 == PRIVATE {
        return Ok(());
    }
    std::fs::set_permissions(state, Permissions::from_mode(PRIVATE)).with_context(hint)
}

/// For the owner alone.
const PRIVATE: u32 = 0o700;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_refused_until_the_first_lets_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let take = || Lock::take(folder.path(), &mut Handover::default());
        let first = take().expect("it is free");
        let refused = take().err().expect("it is taken").to_string();
        let pid = std::process::id().to_string();
        assert!(
            refused.contains(&pid) && refused.contains("upgrade"),
            "{refused}"
        );
        drop(first);
        assert!(take().is_ok());
    }
}
