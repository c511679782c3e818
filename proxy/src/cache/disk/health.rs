//! How the disk does. What goes wrong is told once when it begins and once when it ends.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::io::Errno;

/// The disk is called slow for so long after something took too long.
const SLOW_FOR: Duration = Duration::from_secs(10);

/// How the disk does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Responses are stored and read.
    Good,
    /// There is no room left on the disk, or in the user's share of it.
    Full,
    /// The folder may not be written to.
    ReadOnly,
    /// Reads take more than a second, or more is to be stored than the disk takes.
    Slow,
    /// Writing fails for another reason.
    Failing,
    /// Another process may have the folder.
    Paused,
}

impl Health {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Full => "full",
            Self::ReadOnly => "read-only",
            Self::Slow => "slow",
            Self::Failing => "failing",
            Self::Paused => "paused",
        }
    }
}

/// What is known of it.
#[derive(Default)]
pub(super) struct Condition(Mutex<State>);

#[derive(Default)]
struct State {
    ailing: Option<Health>,
    slow_until: Option<Instant>,
    last_error: Option<String>,
}

impl Condition {
    /// How it does now.
    pub fn health(&self) -> Health {
        let state = self.0.lock();
        match (state.ailing, state.slow_until) {
            (Some(ailing), _) => ailing,
            (None, Some(_)) => Health::Slow,
            (None, None) => Health::Good,
        }
    }

    /// Whether writing fails.
    pub fn is_ailing(&self) -> bool {
        self.0.lock().ailing.is_some()
    }

    /// Whether something took too long a moment ago.
    pub fn is_slow(&self) -> bool {
        self.0.lock().slow_until.is_some()
    }

    /// The last error, in words.
    pub fn last_error(&self) -> Option<String> {
        self.0.lock().last_error.clone()
    }

    /// Writing failed.
    pub fn failed(&self, doing: &str, error: &io::Error) {
        let health = health_of(error);
        let mut state = self.0.lock();
        state.last_error = Some(format!("cannot {doing}: {error}"));
        let before = state.ailing.replace(health);
        drop(state);
        if before != Some(health) {
            tracing::warn!(
                health = health.as_str(),
                "the cache stores nothing on disk: cannot {doing}: {error}"
            );
        }
    }

    /// Writing works.
    pub fn works(&self) {
        let before = self.0.lock().ailing.take();
        if before.is_some() {
            tracing::info!("the cache stores on disk again");
        }
    }

    /// Something took too long.
    pub fn slow(&self, what: &str) {
        let mut state = self.0.lock();
        let before = state.slow_until.replace(Instant::now() + SLOW_FOR);
        if before.is_none() {
            state.last_error = Some(what.to_owned());
        }
        drop(state);
        if before.is_none() {
            tracing::warn!("the cache's disk is slow: {what}");
        }
    }

    /// Looks at the clock: what was slow may be so no longer.
    pub fn tick(&self) {
        let mut state = self.0.lock();
        let over = state
            .slow_until
            .is_some_and(|until| Instant::now() >= until);
        if over {
            state.slow_until = None;
        }
        drop(state);
        if over {
            tracing::info!("the cache's disk is no longer slow");
        }
    }
}

/// What a failure says of the disk.
pub(super) fn health_of(error: &io::Error) -> Health {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Health::Full,
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => Health::ReadOnly,
        _ => match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::DQUOT) => Health::Full,
            _ => Health::Failing,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::OpenError;
    use super::*;

    /// A folder that may not be written to was called read-only while the proxy ran, and failing when it started.
    #[test]
    fn a_disk_that_cannot_be_opened_does_as_one_that_cannot_be_written_to() {
        for (errno, wanted) in [
            (Errno::NOSPC, Health::Full),
            (Errno::DQUOT, Health::Full),
            (Errno::ROFS, Health::ReadOnly),
            (Errno::ACCESS, Health::ReadOnly),
            (Errno::IO, Health::Failing),
        ] {
            let error = OpenError::Folder {
                step: "make it",
                source: errno.into(),
            };
            assert_eq!(error.health(), wanted, "{errno}");
        }
        assert_eq!(OpenError::InUse.health(), Health::Failing);
        let thread = OpenError::Thread(Errno::ACCESS.into());
        assert_eq!(thread.health(), Health::Failing);
    }
}
