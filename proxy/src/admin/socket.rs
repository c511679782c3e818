//! The admin API's Unix socket: made so that nobody else can open it for a moment, and so that a
//! second daemon cannot take the first one's place by mistake.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Why there is no admin socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A daemon is there already.
    #[error("another sovereign-proxy answers on {}{}", path.display(), process(*pid))]
    Taken {
        /// The socket.
        path: PathBuf,
        /// Who listens, where that process still lives.
        pid: Option<u32>,
    },
    /// Something else has the name.
    #[error("{} exists and is not a socket; it is left as it is", path.display())]
    NotASocket {
        /// What is in the way.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{step} {}", path.display())]
    System {
        /// What was tried.
        step: &'static str,
        /// The socket.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// Listens on `path`, mode 0600. A socket that a dead process left there is replaced; one that
/// answers is an error. The folder must exist.
pub fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    let system = |step, source: io::Error| SocketError::System {
        step,
        path: path.to_owned(),
        source,
    };
    let address = SocketAddrUnix::new(path).map_err(|error| system("naming", error.into()))?;
    make_way(path)?;
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|error| system("making", error.into()))?;
    rustix::net::bind(&socket, &address).map_err(|error| match error {
        // Another daemon was quicker.
        rustix::io::Errno::ADDRINUSE => SocketError::Taken {
            path: path.to_owned(),
            pid: None,
        },
        error => system("binding", error.into()),
    })?;
    // Between the two calls nobody can connect: the socket does not listen yet.
    close_to_others(path)?;
    rustix::net::listen(&socket, QUEUE).map_err(|error| system("listening on", error.into()))?;
    Ok(UnixListener::from(socket))
}

/// Goes on with a socket that was passed to this process. systemd makes them for everybody unless
/// its unit says otherwise, so that this one is closed to other users first.
pub fn adopt(socket: OwnedFd, path: &Path) -> Result<UnixListener, SocketError> {
    close_to_others(path)?;
    Ok(UnixListener::from(socket))
}

/// Takes the name away at the end. Not to be called where the socket was handed over.
pub fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "removing the admin socket");
    }
}

fn close_to_others(path: &Path) -> Result<(), SocketError> {
    let owner_only = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, owner_only).map_err(|source| SocketError::System {
        step: "closing to other users",
        path: path.to_owned(),
        source,
    })
}

/// Removes what a dead process left behind.
fn make_way(path: &Path) -> Result<(), SocketError> {
    let system = |step, source| SocketError::System {
        step,
        path: path.to_owned(),
        source,
    };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system("looking for", error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(stream) => Err(SocketError::Taken {
            path: path.to_owned(),
            pid: listening_process(&stream),
        }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| system("replacing", error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(system("asking who answers on", error)),
    }
}

/// The process that began to listen; after an upgrade that may be one that has ended.
fn listening_process(stream: &UnixStream) -> Option<u32> {
    let pid = rustix::net::sockopt::socket_peercred(stream).ok()?.pid;
    rustix::process::test_kill_process(pid).ok()?;
    u32::try_from(pid.as_raw_nonzero().get()).ok()
}

fn process(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})"))
        .unwrap_or_default()
}

/// Connections that wait to be accepted.
const QUEUE: i32 = 32;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_new_socket_is_closed_to_other_users() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let _listener = bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_passed_socket_is_closed_to_other_users() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let passed = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let _adopted = adopt(passed.into(), &path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let first = bind(&path).unwrap();

        let error = bind(&path).unwrap_err();
        let expected = format!(
            "another sovereign-proxy answers on {} (process {})",
            path.display(),
            std::process::id()
        );
        assert_eq!(error.to_string(), expected);

        drop(first);
        assert!(path.exists());
        let _second = bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        remove(&path);
        assert!(!path.exists());
        remove(&path);
    }

    #[test]
    fn what_is_not_a_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(
            bind(&path).unwrap_err(),
            SocketError::NotASocket { .. }
        ));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");

        let long = folder.path().join("x".repeat(200));
        let error = bind(&long).unwrap_err();
        assert!(error.to_string().starts_with("naming "), "{error}");
        assert!(matches!(
            bind(&folder.path().join("none/admin.sock")).unwrap_err(),
            SocketError::System {
                step: "binding",
                ..
            }
        ));
    }
}
