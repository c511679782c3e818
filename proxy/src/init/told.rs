//! The socket where daemons say what they would tell a service manager (`sd_notify`), and the service
//! manager in front of the container, where there is one.

use std::fs;
use std::io;
use std::os::unix::net::UnixDatagram as Blocking;
use std::path::{Path, PathBuf};

use rustix::process::Pid;
use tokio::net::UnixDatagram;

use super::{InitError, private_folder};

/// In the state folder: what else runs in the host's network must not reach it.
const NAME: &str = "init.sock";
/// More than any message of ours has.
const MOST: usize = 4096;

/// What a daemon has said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct News {
    /// This process is in force.
    pub(super) main: Option<Pid>,
    /// It accepts connections.
    pub(super) ready: bool,
    /// It drains, and is about to end.
    pub(super) stopping: bool,
    /// The rest, as it was said.
    pub(super) rest: Vec<String>,
}

impl News {
    /// Reads a message: one assignment a line.
    pub(super) fn read(text: &str) -> Self {
        let mut news = Self::default();
        for line in text.lines() {
            match line.split_once('=') {
                Some(("MAINPID", pid)) => {
                    news.main = pid.parse().ok().and_then(Pid::from_raw);
                    continue;
                }
                Some(("READY", "1")) => news.ready = true,
                Some(("STOPPING", "1")) => news.stopping = true,
                _ => {}
            }
            news.rest.push(line.to_owned());
        }
        news
    }
}

/// The socket; its file goes with it.
pub(super) struct Told {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Told {
    /// Opens it in the state folder.
    pub(super) fn open(state: &Path) -> Result<Self, InitError> {
        let path = std::path::absolute(state)
            .unwrap_or_else(|_| state.to_owned())
            .join(NAME);
        let failed = |source| InitError::Socket {
            path: path.display().to_string(),
            source,
        };
        private_folder(state).map_err(failed)?;
        // One that nobody reads was left behind.
        let other = Blocking::unbound().map_err(failed)?;
        if other.connect(&path).is_ok() {
            return Err(InitError::InUse(state.display().to_string()));
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let socket = UnixDatagram::bind(&path).map_err(failed)?;
        Ok(Self { socket, path })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The next news.
    pub(super) async fn recv(&self) -> News {
        let mut buffer = [0; MOST];
        loop {
            match self.socket.recv(&mut buffer).await {
                Ok(length) => return News::read(&String::from_utf8_lossy(&buffer[..length])),
                Err(error) => {
                    tracing::warn!(%error, "reading what a daemon says");
                    tokio::time::sleep(super::LOOK).await;
                }
            }
        }
    }

    /// The next news, where it is there.
    pub(super) fn try_recv(&self) -> Option<News> {
        let mut buffer = [0; MOST];
        let length = self.socket.try_recv(&mut buffer).ok()?;
        Some(News::read(&String::from_utf8_lossy(&buffer[..length])))
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Tells the service manager in front of the container, to which all daemons are process 1.
pub(super) fn pass_on(news: &News) {
    if news.rest.is_empty() {
        return;
    }
    let text = news.rest.join("\n");
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Custom(&text)]) {
        tracing::warn!(%error, "telling the service manager");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read() {
        let table = [
            ("READY=1\n", None, true, false, 1),
            ("MAINPID=42\n", Some(42), false, false, 0),
            ("MAINPID=0\nREADY=1\n", None, true, false, 1),
            ("MAINPID=x\n", None, false, false, 0),
            ("STOPPING=1\nSTATUS=draining\n", None, false, true, 2),
            ("RELOADING=1\nMONOTONIC_USEC=7\n", None, false, false, 2),
            ("", None, false, false, 0),
        ];
        for (text, main, ready, stopping, rest) in table {
            let news = News::read(text);
            let pid = news.main.map(Pid::as_raw_pid);
            assert_eq!(
                (pid, news.ready, news.stopping, news.rest.len()),
                (main, ready, stopping, rest),
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn one_process_1_for_each_folder_and_what_was_left_behind_is_no_hindrance() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Told::open(folder.path()).expect("it is free");
        assert!(matches!(
            Told::open(folder.path()),
            Err(InitError::InUse(_))
        ));
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists());
        // As one leaves it that was killed.
        drop(Blocking::bind(&path).expect("the folder is ours"));
        assert!(path.exists());
        let again = Told::open(folder.path()).expect("nobody reads that one");
        let sender = Blocking::unbound().expect("a socket");
        sender.send_to(b"READY=1", &path).expect("it is read");
        assert!(again.recv().await.ready);
        assert!(again.try_recv().is_none());
    }
}
