//! Listening sockets, and the loops that accept on them.
//!
//! The sockets are ours and not Pingora's: they offer `h2` and `http/1.1` by certificates that
//! change while running, pass from one process to the next, and will be joined by onion and QUIC.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use sovereign_config::model::Listen;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tracing::Instrument as _;

use crate::connection;
use crate::downstream::Connection;
use crate::handover::Handover;
use crate::shared::Shared;
use crate::tls::{self, AcceptError};

/// Connections the kernel may hold for us while we are busy.
const BACKLOG: i32 = 4096;
/// When the process has no file descriptor left, accepting pauses for so long.
const EXHAUSTED: Duration = Duration::from_millis(100);
/// A peer that has vanished is noticed after about two minutes.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// What the kernel keeps of a response that it cannot send yet, in bytes; it would take megabytes for
/// each slow client.
const UNSENT: u32 = 256 * 1024;

/// What is spoken on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// HTTP.
    Http,
    /// HTTP over TLS.
    Https,
    /// Prometheus metrics.
    Metrics,
}

/// A listening socket.
pub struct Listener {
    /// Its role and address as configured: what it is known by when it is handed over.
    pub name: String,
    /// What is spoken on it.
    pub role: Role,
    /// The address it is bound to.
    pub address: SocketAddr,
    socket: Arc<TcpListener>,
    stop: watch::Sender<bool>,
}

/// Why there is no listening socket.
#[derive(Debug, thiserror::Error)]
#[error("listening on {address} ({role}) {}", hint(source))]
pub struct BindError {
    address: SocketAddr,
    role: &'static str,
    source: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "is not possible: another program listens there. Stop it, or name another address in [listen]"
        }
        io::ErrorKind::PermissionDenied => {
            "is not allowed: ports below 1024 want the capability CAP_NET_BIND_SERVICE, or a socket passed by systemd"
        }
        io::ErrorKind::AddrNotAvailable => {
            "is not possible: this machine does not have that address"
        }
        _ => "failed",
    }
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Metrics => "metrics",
        }
    }
}

/// The names of the sockets that a configuration wants.
pub fn wanted(listen: &Listen) -> Vec<(Role, SocketAddr)> {
    let http = listen.http.iter().map(|address| (Role::Http, *address));
    let https = listen.https.iter().map(|address| (Role::Https, *address));
    let metrics = listen
        .metrics
        .iter()
        .map(|address| (Role::Metrics, *address));
    http.chain(https).chain(metrics).collect()
}

/// The name of a socket.
pub fn name(role: Role, address: SocketAddr) -> String {
    format!("{} {address}", role.as_str())
}

impl Listener {
    /// Takes the socket from who had it before, or binds it. Must be called on the runtime.
    pub fn open(
        role: Role,
        address: SocketAddr,
        handover: &mut Handover,
    ) -> Result<Self, BindError> {
        let name = name(role, address);
        let failed = |source| BindError {
            address,
            role: role.as_str(),
            source,
        };
        let socket = match handover.take(&name) {
            Some(inherited) => StdListener::from(inherited),
            None => bind(address).map_err(failed)?,
        };
        socket.set_nonblocking(true).map_err(failed)?;
        let bound = socket.local_addr().map_err(failed)?;
        Ok(Self {
            name,
            role,
            address: bound,
            socket: Arc::new(TcpListener::from_std(socket).map_err(failed)?),
            stop: watch::Sender::new(false),
        })
    }

    /// Accepts until [`stop`](Self::stop).
    pub fn accept(&self, shared: &Arc<Shared>) {
        let (socket, stop) = (self.socket.clone(), self.stop.subscribe());
        match self.role {
            Role::Metrics => {
                tokio::spawn(metrics(shared.clone(), socket, stop));
            }
            role => {
                tokio::spawn(accept_loop(
                    shared.clone(),
                    socket,
                    role == Role::Https,
                    stop,
                ));
            }
        }
    }

    /// Accepts no more. The socket stays open where somebody else has it: a successor, or a service manager.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn bind(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restart must not wait for connections of the last run to be forgotten.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 too, whatever the system's default; another address only itself.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

async fn accept_loop(
    shared: Arc<Shared>,
    socket: Arc<TcpListener>,
    secure: bool,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let connections = shared.live().connections.clone();
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stopped| *stopped) => return,
            accepted = accept_one(&connections, &socket) => accepted,
        };
        match accepted {
            Ok((stream, peer, permit)) => {
                let shared = shared.clone();
                let tasks = shared.tasks.clone();
                let span = tracing::debug_span!("connection", %peer, secure);
                let connection = async move {
                    shared.metrics.accepted.inc();
                    shared.metrics.connections.inc();
                    serve(stream, peer, secure, shared.clone()).await;
                    shared.metrics.connections.dec();
                    drop(permit);
                };
                tasks.spawn(connection.instrument(span));
            }
            Err(error) if is_of_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "accepting connections; pausing for a moment");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
}

/// One connection, once there is room for it.
async fn accept_one(
    connections: &Arc<Semaphore>,
    socket: &TcpListener,
) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = connections
        .clone()
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, peer) = socket.accept().await?;
    Ok((stream, peer, permit))
}

/// Errors of a connection that was gone before it was accepted, not of the socket.
fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

async fn serve(stream: TcpStream, peer: SocketAddr, secure: bool, shared: Arc<Shared>) {
    if let Err(error) = prepare(&stream) {
        tracing::debug!(%error, %peer, "preparing a connection");
    }
    let mut facts = Connection {
        id: shared.connection_id(),
        peer: Some(peer),
        tls: None,
    };
    if !secure {
        return connection::serve(stream, facts, shared).await;
    }
    let Ok(local) = stream.local_addr() else {
        return;
    };
    let limit = shared.limits().header_timeout;
    // Boxed: the handshake's state would else stay in the connection's task for all its life.
    match Box::pin(tls::accept(stream, &shared.certificates, local.ip(), limit)).await {
        Ok((stream, tls)) => {
            facts.tls = Some(tls);
            connection::serve(stream, facts, shared).await;
        }
        Err(AcceptError::Challenge) => tracing::debug!(%peer, "answered TLS-ALPN-01"),
        Err(error) => {
            shared.metrics.connection_failed(error.reason());
            tracing::debug!(%peer, reason = error.reason(), "no TLS connection: {error}");
            if let AcceptError::PlainHttp(stream) = error {
                tls::answer_plain_http(stream).await;
            }
        }
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE / 4)
        .with_retries(4);
    let socket = SockRef::from(stream);
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.set_tcp_keepalive(&keepalive)
}

/// Answers every request on a socket of its own with the metrics, one connection after another:
/// a scraper is patient, and nobody can take more than one task.
async fn metrics(shared: Arc<Shared>, socket: Arc<TcpListener>, mut stop: watch::Receiver<bool>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    const LIMIT: Duration = Duration::from_secs(5);
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stopped| *stopped) => return,
            accepted = socket.accept() => accepted,
        };
        let Ok((mut stream, _)) = accepted else {
            tokio::time::sleep(EXHAUSTED).await;
            continue;
        };
        let answer = async {
            let mut request = [0; 2048];
            let read = stream.read(&mut request).await?;
            let body = shared.metrics_text();
            let status = match request[..read].split(|byte| *byte == b' ').nth(1) {
                Some(b"/metrics" | b"/") => "200 OK",
                _ => "404 Not Found",
            };
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-type: text/plain; version=0.0.4\r\n\
                 content-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(body.as_bytes()).await?;
            stream.shutdown().await
        };
        // A scraper that goes away is its own concern.
        let _ = tokio::time::timeout(LIMIT, answer).await;
    }
}
