//! Hands the listening sockets of a running daemon to its successor, and takes them over from a
//! predecessor or from systemd. Stands alone because it is the one place where a mistake refuses
//! connections: nothing here knows what is served on a socket.
//!
//! ```text
//! running daemon                              new program
//! --------------                              -----------
//! socketpair, start the program with one
//! end as its standard input           ---->   receive(): reads names and sockets
//! {"version":1,"names":[...]}\n "...."
//!                                             takes them, builds itself
//!                                     <----   "ready\n"  or  "failed: \"reason\"\n"
//! "go\n"  or  "no\n"                  ---->
//! stops accepting, drains                     accepts
//! ```
//!
//! A listening socket and its queue belong to both processes, so there is no moment in which
//! nobody can accept, and a connection that neither has accepted yet waits for the successor.
//! Until "go" the running daemon goes on as before: a successor that exits, fails or keeps silent
//! is killed, and nothing has changed. Standard input carries the sockets because it needs no
//! file, no name and no permissions, and nobody else can connect to it.

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketType,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};

/// Set to the protocol's version for a program that is started to take over. A process cannot
/// clear its own environment safely, so whoever starts other programs removes it for them.
pub const ENVIRONMENT: &str = "SOVEREIGN_HANDOVER";

/// Why sockets did not change hands.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// More sockets than one handover carries.
    #[error("{0} listening sockets are more than the {MAX_SOCKETS} that can be handed over")]
    TooMany(usize),
    /// The socket pair could not be made.
    #[error("making a socket pair for the new program")]
    Pair(#[source] io::Error),
    /// The new program could not be started.
    #[error("starting {}", program.display())]
    Start {
        /// What was to be started.
        program: PathBuf,
        /// Why it was not.
        source: io::Error,
    },
    /// The sockets could not be sent.
    #[error("sending the listening sockets")]
    Send(#[source] io::Error),
    /// The sockets could not be read.
    #[error("receiving the listening sockets")]
    Receive(#[source] io::Error),
    /// The new program said why it cannot take over.
    #[error("the new program gave up: {0}")]
    Failed(String),
    /// The new program ended before it was ready.
    #[error("the new program ended before it was ready ({0})")]
    Exited(ExitStatus),
    /// The new program did not say that it is ready.
    #[error("the new program was not ready within {} s", .0.as_secs())]
    Silent(Duration),
    /// The other process closed its end.
    #[error("the other process closed the handover before it was done")]
    Closed,
    /// The running daemon takes its offer back.
    #[error("the running sovereign-proxy took its offer back")]
    Withdrawn,
    /// The other process speaks another version.
    #[error(
        "the running sovereign-proxy hands over in version {0}, this one takes over in version {VERSION}"
    )]
    Version(u32),
    /// The other process does not follow the protocol.
    #[error("the other process does not follow the handover protocol: {0}")]
    Protocol(String),
    /// The variable is set without a handover.
    #[error(
        "{ENVIRONMENT} is set, but standard input is not a socket of a running sovereign-proxy; unset it"
    )]
    NotOffered,
}

/// Listening sockets by name, ready to be handed over: duplicates, so that the daemon keeps its own.
///
/// A name is a role, a space, and the address as configured: `https [::]:443`,
/// `admin /run/sovereign-proxy.sock`.
#[derive(Debug, Default)]
pub struct Sockets(Vec<(String, OwnedFd)>);

impl Sockets {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a duplicate of a listening socket.
    pub fn add(&mut self, name: impl Into<String>, socket: impl AsFd) -> io::Result<()> {
        let duplicate = socket.as_fd().try_clone_to_owned()?;
        self.0.push((name.into(), duplicate));
        Ok(())
    }
}

/// Starts `program` with `args`, hands it the sockets, and returns its process id once it is
/// ready: from then on the caller must accept no more, and drain. On any error the program has
/// been killed and the caller goes on as if nothing had happened; so it has where this future is
/// dropped.
pub async fn offer(
    program: &Path,
    args: &[OsString],
    sockets: Sockets,
    deadline: Duration,
) -> Result<u32, HandoverError> {
    if sockets.0.len() > MAX_SOCKETS {
        return Err(HandoverError::TooMany(sockets.0.len()));
    }
    let (ours, theirs) = UnixStream::pair().map_err(HandoverError::Pair)?;
    ours.set_nonblocking(true).map_err(HandoverError::Pair)?;
    let mut peer = tokio::net::UnixStream::from_std(ours).map_err(HandoverError::Pair)?;
    let successor = Successor::start(program, args, theirs)?;
    tracing::info!(program = %program.display(), pid = successor.pid, sockets = sockets.0.len(),
        "handing the listening sockets to a new program");

    let verdict = tokio::time::timeout(deadline, converse(&mut peer, &sockets, successor.pid))
        .await
        .unwrap_or(Err(HandoverError::Silent(deadline)));
    match verdict {
        Ok(()) => Ok(successor.release()),
        Err(reason) => {
            // Told before it is killed: a wrapper script's child may outlive the wrapper.
            let _ = peer.try_write(NO);
            Err(successor.dismiss(reason).await)
        }
    }
}

/// Sockets that this process was started with, and the running daemon that waits for a word.
///
/// The running daemon stays in place unless [`ready`](Self::ready) succeeds.
#[derive(Debug, Default)]
pub struct Handover {
    sockets: Vec<(String, OwnedFd)>,
    peer: Option<UnixStream>,
}

/// Takes what a running daemon or systemd passed to this process; empty where it was started by
/// hand. To be called once, and before any thread is started: `LISTEN_FDS` is taken out of the
/// environment.
pub fn receive() -> Result<Handover, HandoverError> {
    // Remembered now, while the file that was started still lies where it was.
    let _ = program();
    let Some(version) = std::env::var_os(ENVIRONMENT) else {
        return Ok(Handover {
            sockets: from_service_manager(),
            peer: None,
        });
    };
    let peer = standard_input().ok_or(HandoverError::NotOffered)?;
    if version.as_bytes() != VERSION.to_string().as_bytes() {
        let version = version.to_string_lossy().parse().unwrap_or(0);
        return Err(HandoverError::Version(version));
    }
    Ok(Handover {
        sockets: read_sockets(&peer)?,
        peer: Some(peer),
    })
}

impl Handover {
    /// Whether a running daemon waits for this process to take over.
    pub fn is_upgrade(&self) -> bool {
        self.peer.is_some()
    }

    /// The socket of that name; failing that, a stream socket bound to the address in the name,
    /// whatever it was called: systemd does not know our names, and a role may have changed.
    pub fn take(&mut self, name: &str) -> Option<OwnedFd> {
        let address = name.split_once(' ').map_or("", |(_, address)| address);
        let index = self
            .sockets
            .iter()
            .position(|(candidate, _)| candidate == name)
            .or_else(|| {
                self.sockets
                    .iter()
                    .position(|(_, socket)| is_bound_to(socket.as_fd(), address))
            })?;
        Some(self.sockets.remove(index).1)
    }

    /// Whether a running daemon hands over, and will drain beside this one.
    pub fn has_predecessor(&self) -> bool {
        self.peer.is_some()
    }

    /// Closes the sockets that nobody took, and names them for the log.
    pub fn close_rest(&mut self) -> Vec<String> {
        self.sockets.drain(..).map(|(name, _)| name).collect()
    }

    /// Says that this process is ready, and waits for the running daemon to step back; only then
    /// may connections be accepted. Tells systemd as well.
    pub async fn ready(mut self) -> Result<(), HandoverError> {
        if let Some(peer) = self.peer.take() {
            tokio::time::timeout(GO_DEADLINE, take_over(peer))
                .await
                .unwrap_or(Err(HandoverError::Closed))?;
        }
        announce(News::Ready);
        Ok(())
    }

    /// Tells the running daemon why this process cannot take over.
    pub fn failed(mut self, reason: &str) {
        if let Some(peer) = self.peer.take() {
            refuse(&peer, reason);
        }
    }
}

/// Tells a waiting daemon that this process is about to end, and why; does nothing where none
/// waits. For `main`, which may fail before or after [`receive`]: the reason then reaches whoever
/// asked for the upgrade, and not only the log.
pub fn give_up(reason: &str) {
    if std::env::var_os(ENVIRONMENT).is_some()
        && let Some(peer) = standard_input()
    {
        refuse(&peer, reason);
    }
}

/// The path that starts this program again, as it was started: a symbolic link is kept, so that
/// an upgrade follows it to the next version.
pub fn program() -> io::Result<PathBuf> {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = PROGRAM.get() {
        return Ok(path.clone());
    }
    let path = find_program(std::env::args_os().next().as_deref())?;
    Ok(PROGRAM.get_or_init(|| path).clone())
}

/// What the service manager is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News<'a> {
    /// Started, or done with reloading.
    Ready,
    /// The configuration is being read again; [`News::Ready`] follows.
    Reloading,
    /// Draining, and about to end.
    Stopping,
    /// Another process is the service now.
    MainPid(u32),
    /// A line for `systemctl status`.
    Status(&'a str),
}

/// Tells the service manager, where there is one (`NOTIFY_SOCKET`).
pub fn announce(news: News<'_>) {
    use sd_notify::NotifyState;
    let told = match news {
        News::Ready => sd_notify::notify(&[NotifyState::Ready]),
        News::Reloading => NotifyState::monotonic_usec_now()
            .and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now])),
        News::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
        News::MainPid(pid) => sd_notify::notify(&[NotifyState::MainPid(pid)]),
        // A line break would begin another assignment.
        News::Status(text) => {
            sd_notify::notify(&[NotifyState::Status(&text.replace(['\n', '\r'], " "))])
        }
    };
    if let Err(error) = told {
        tracing::warn!(%error, ?news, "telling the service manager");
    }
}

/// Keeps the service manager's watchdog content for as long as it is polled; returns at once
/// where none was asked for.
pub async fn watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else {
        return;
    };
    let mut ticks = tokio::time::interval(limit / 2);
    loop {
        ticks.tick().await;
        // Off this thread: sending blocks while the manager has too much to read.
        let told =
            tokio::task::spawn_blocking(|| sd_notify::notify(&[sd_notify::NotifyState::Watchdog]));
        if let Ok(Err(error)) = told.await {
            tracing::warn!(%error, "telling the service manager's watchdog");
        }
    }
}

/// The new program, killed when dropped unless it was released.
struct Successor {
    child: Option<tokio::process::Child>,
    pid: u32,
}

impl Successor {
    fn start(program: &Path, args: &[OsString], end: UnixStream) -> Result<Self, HandoverError> {
        let failed = |source| HandoverError::Start {
            program: program.to_owned(),
            source,
        };
        let mut command = tokio::process::Command::new(program);
        command
            .args(args)
            .stdin(Stdio::from(OwnedFd::from(end)))
            .env(ENVIRONMENT, VERSION.to_string());
        // They name this process, and would keep its successor from what they announce.
        for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"] {
            command.env_remove(name);
        }
        let child = command.spawn().map_err(failed)?;
        // `id` is empty only for a child that has been waited for.
        let pid = child
            .id()
            .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        Ok(Self {
            child: Some(child),
            pid,
        })
    }

    /// It is the daemon now: its end is nobody's business here.
    fn release(mut self) -> u32 {
        self.child = None;
        self.pid
    }

    /// Makes sure that it is gone, and says why.
    async fn dismiss(mut self, reason: HandoverError) -> HandoverError {
        let Some(mut child) = self.child.take() else {
            return reason;
        };
        if matches!(reason, HandoverError::Closed | HandoverError::Failed(_)) {
            // It is about to end by itself; how it ended says more than that it did.
            if let Ok(Ok(status)) = tokio::time::timeout(EXIT_GRACE, child.wait()).await {
                return match reason {
                    HandoverError::Closed => HandoverError::Exited(status),
                    reason => reason,
                };
            }
        }
        if let Err(error) = child.kill().await {
            tracing::error!(%error, pid = self.pid, "killing the new program that did not take over");
        }
        reason
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.start_kill();
        }
    }
}

/// The running daemon's side of the conversation.
async fn converse(
    peer: &mut tokio::net::UnixStream,
    sockets: &Sockets,
    pid: u32,
) -> Result<(), HandoverError> {
    // A program that gives up early may have said why before it stopped reading.
    let sent = send_sockets(peer, &sockets.0).await;
    let answer = read_line(peer).await?;
    if let Some(reason) = answer.strip_prefix(FAILED) {
        let reason = serde_json::from_str(reason).unwrap_or_else(|_| reason.to_owned());
        return Err(HandoverError::Failed(reason));
    }
    sent.map_err(HandoverError::Send)?;
    if answer != "ready" {
        let answer: String = answer.chars().take(80).collect();
        return Err(HandoverError::Protocol(format!(
            "expected \"ready\", found {answer:?}"
        )));
    }
    // Before "go", so that systemd accepts what the successor announces next.
    announce(News::MainPid(pid));
    peer.write_all(GO).await.map_err(|_| {
        announce(News::MainPid(std::process::id()));
        HandoverError::Closed
    })
}

/// The successor's side, once it is built.
async fn take_over(peer: UnixStream) -> Result<(), HandoverError> {
    peer.set_nonblocking(true).map_err(HandoverError::Receive)?;
    let mut peer = tokio::net::UnixStream::from_std(peer).map_err(HandoverError::Receive)?;
    let said = peer.write_all(READY).await;
    let answer = read_line(&mut peer).await;
    match answer.as_deref() {
        Ok("go") => Ok(()),
        Ok("no") => Err(HandoverError::Withdrawn),
        Ok(other) => Err(HandoverError::Protocol(format!(
            "expected \"go\", found {other:?}"
        ))),
        // It died between our "ready" and its "go": nobody else serves now.
        Err(HandoverError::Closed) if said.is_ok() => {
            tracing::warn!("the running sovereign-proxy died during the handover; taking over");
            announce(News::MainPid(std::process::id()));
            Ok(())
        }
        Err(_) => answer.map(|_| ()),
    }
}

async fn send_sockets(
    peer: &mut tokio::net::UnixStream,
    sockets: &[(String, OwnedFd)],
) -> io::Result<()> {
    let header = Header {
        version: VERSION,
        names: sockets.iter().map(|(name, _)| name.clone()).collect(),
    };
    let mut line = serde_json::to_vec(&header)?;
    line.push(b'\n');
    peer.write_all(&line).await?;
    for batch in sockets.chunks(BATCH) {
        let batch: Vec<BorrowedFd<'_>> = batch.iter().map(|(_, socket)| socket.as_fd()).collect();
        peer.async_io(Interest::WRITABLE, || send_batch(peer.as_fd(), &batch))
            .await?;
    }
    Ok(())
}

/// One byte with some sockets attached to it.
fn send_batch(peer: BorrowedFd<'_>, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::Error::other("a batch holds too many sockets"));
    }
    let byte = [IoSlice::new(&[BATCH_MARK])];
    rustix::net::sendmsg(peer, &byte, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Reads the header line and as many sockets as it names.
fn read_sockets(peer: &UnixStream) -> Result<Vec<(String, OwnedFd)>, HandoverError> {
    peer.set_nonblocking(false)
        .and_then(|()| peer.set_read_timeout(Some(SOCKETS_DEADLINE)))
        .map_err(HandoverError::Receive)?;
    let mut text = Vec::new();
    let mut sockets = Vec::new();
    loop {
        read_some(peer.as_fd(), &mut text, &mut sockets)?;
        let Some(end) = text.iter().position(|byte| *byte == b'\n') else {
            if text.len() > MAX_HEADER {
                return Err(HandoverError::Protocol("its header has no end".into()));
            }
            continue;
        };
        let names = parse_header(&text[..end])?;
        if text[end + 1..].iter().any(|byte| *byte != BATCH_MARK) || sockets.len() > names.len() {
            return Err(HandoverError::Protocol(format!(
                "{} names, {} sockets and {} bytes after them",
                names.len(),
                sockets.len(),
                text.len() - end - 1
            )));
        }
        if sockets.len() == names.len() {
            return Ok(names.into_iter().zip(sockets).collect());
        }
    }
}

/// One read of bytes and of the sockets attached to them; they may arrive in any portions.
fn read_some(
    peer: BorrowedFd<'_>,
    text: &mut Vec<u8>,
    sockets: &mut Vec<OwnedFd>,
) -> Result<(), HandoverError> {
    let mut buffer = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(KERNEL_BATCH))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        match rustix::net::recvmsg(peer, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other.map_err(|error| HandoverError::Receive(error.into()))?,
        }
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            sockets.extend(received);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        let cause = io::Error::other("this process may not open as many files");
        return Err(HandoverError::Receive(cause));
    }
    if received.bytes == 0 {
        return Err(HandoverError::Closed);
    }
    text.extend_from_slice(&buffer[..received.bytes]);
    Ok(())
}

fn parse_header(line: &[u8]) -> Result<Vec<String>, HandoverError> {
    let header: Header = serde_json::from_slice(line)
        .map_err(|error| HandoverError::Protocol(format!("its header: {error}")))?;
    if header.version != VERSION {
        return Err(HandoverError::Version(header.version));
    }
    if header.names.len() > MAX_SOCKETS {
        return Err(HandoverError::TooMany(header.names.len()));
    }
    Ok(header.names)
}

/// One line without its end. Byte by byte: lines are few and short, and nothing may be read past them.
async fn read_line(peer: &mut tokio::net::UnixStream) -> Result<String, HandoverError> {
    let mut line = Vec::new();
    loop {
        match peer.read_u8().await {
            Ok(b'\n') => return Ok(String::from_utf8_lossy(&line).into_owned()),
            Ok(_) if line.len() >= MAX_LINE => {
                return Err(HandoverError::Protocol("its line has no end".into()));
            }
            Ok(byte) => line.push(byte),
            Err(error) => {
                return Err(match error.kind() {
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                        HandoverError::Closed
                    }
                    _ => HandoverError::Receive(error),
                });
            }
        }
    }
}

/// Says why, and closes. Nobody is left to be told where this fails; the exit status says it too.
fn refuse(peer: &UnixStream, reason: &str) {
    let reason: String = reason.chars().take(MAX_REASON).collect();
    // As JSON: a report has several lines.
    let line = format!("{FAILED}{}\n", serde_json::Value::from(reason));
    let _ = peer.set_write_timeout(Some(Duration::from_secs(1)));
    let mut writer = peer;
    let _ = writer.write_all(line.as_bytes());
    let _ = peer.shutdown(Shutdown::Both);
}

/// A copy of standard input, where it is a Unix stream socket.
fn standard_input() -> Option<UnixStream> {
    let stdin = io::stdin();
    let stream = rustix::net::sockopt::socket_type(stdin.as_fd()).ok()? == SocketType::STREAM
        && rustix::net::sockopt::socket_domain(stdin.as_fd()).ok()? == AddressFamily::UNIX;
    let copy = stdin.as_fd().try_clone_to_owned().ok()?;
    stream.then(|| UnixStream::from(copy))
}

/// Sockets passed by systemd. Its names are the operator's to choose, so they serve the log only.
fn from_service_manager() -> Vec<(String, OwnedFd)> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').map(str::to_owned);
    let mut passed = listenfd::ListenFd::from_env();
    (0..passed.len())
        .filter_map(|index| {
            let name = names.next().unwrap_or_default();
            let socket = passed
                .take_tcp_listener(index)
                .map(|socket| socket.map(OwnedFd::from))
                .or_else(|_| {
                    let socket = passed.take_unix_listener(index)?;
                    Ok::<_, io::Error>(socket.map(OwnedFd::from))
                });
            match socket {
                Ok(socket) => Some((format!("systemd:{name}"), socket?)),
                Err(error) => {
                    tracing::warn!(%error, name, "a descriptor passed by systemd is not used");
                    None
                }
            }
        })
        .collect()
}

/// Whether a stream socket listens on the address, given as `ip:port` or as a path.
fn is_bound_to(socket: BorrowedFd<'_>, address: &str) -> bool {
    if rustix::net::sockopt::socket_type(socket) != Ok(SocketType::STREAM) {
        return false;
    }
    let Ok(bound) = rustix::net::getsockname(socket) else {
        return false;
    };
    if let Ok(wanted) = address.parse::<SocketAddr>() {
        return SocketAddr::try_from(bound).is_ok_and(|bound| bound == wanted);
    }
    SocketAddrUnix::try_from(bound).is_ok_and(|bound| {
        bound
            .path_bytes()
            .is_some_and(|path| path == address.as_bytes())
    })
}

fn find_program(started_as: Option<&OsStr>) -> io::Result<PathBuf> {
    let named = started_as.map(Path::new).and_then(|name| {
        if name.parent()?.as_os_str().is_empty() {
            let path = std::env::var_os("PATH")?;
            std::env::split_paths(&path)
                .map(|folder| folder.join(name))
                .find(|candidate| candidate.is_file())
        } else {
            std::path::absolute(name).ok().filter(|path| path.is_file())
        }
    });
    named.map_or_else(std::env::current_exe, Ok)
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    version: u32,
    #[serde(default)]
    names: Vec<String>,
}

const VERSION: u32 = 1;
const FAILED: &str = "failed: ";
const READY: &[u8] = b"ready\n";
const GO: &[u8] = b"go\n";
const NO: &[u8] = b"no\n";
/// The byte that carries a batch.
const BATCH_MARK: u8 = b'.';
/// Sockets sent with one byte.
const BATCH: usize = 64;
/// What Linux attaches to one message at most (`SCM_MAX_FD`).
const KERNEL_BATCH: usize = 253;
/// More than any configuration asks for, and far under the usual limit of open files.
const MAX_SOCKETS: usize = 250;
/// Room for every socket's name at the length of a Unix path.
const MAX_HEADER: usize = 64 * 1024;
const MAX_LINE: usize = 16 * 1024;
/// In characters; a report of a configuration's problems fits in.
const MAX_REASON: usize = 2000;
/// The running daemon sends at once; a second is plenty, ten forgive a loaded machine.
const SOCKETS_DEADLINE: Duration = Duration::from_secs(10);
/// Longer than the running daemon takes to answer, even under load.
const GO_DEADLINE: Duration = Duration::from_secs(30);
/// For a program that has said that it gives up, to end by itself.
const EXIT_GRACE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
