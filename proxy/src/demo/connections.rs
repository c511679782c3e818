//! The connections of both servers: accepted, bounded in number, closed when the origin is switched off, drained at
//! the end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::answer::Body;
use super::switch::Switch;

/// Something that connections come from.
pub trait Listener: Send {
    /// One connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection.
    fn next(&self) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

impl<L: Listener + Sync> Listener for std::sync::Arc<L> {
    type Io = L::Io;

    async fn next(&self) -> io::Result<Self::Io> {
        (**self).next().await
    }
}

impl Listener for UnixListener {
    type Io = tokio::net::UnixStream;

    async fn next(&self) -> io::Result<Self::Io> {
        Ok(self.accept().await?.0)
    }
}

impl Listener for TcpListener {
    type Io = tokio::net::TcpStream;

    async fn next(&self) -> io::Result<Self::Io> {
        Ok(self.accept().await?.0)
    }
}

/// Where a handler leaves work that outlives its answer (an upgraded connection).
#[derive(Clone)]
pub(super) struct Tasks {
    tracker: TaskTracker,
    /// The server is to end: finish soon.
    pub(super) drain: CancellationToken,
    /// The server has ended: stop now.
    abort: CancellationToken,
}

impl Tasks {
    /// Runs `work` until it is done or the server has ended.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let abort = self.abort.clone();
        let work = async move {
            abort.run_until_cancelled(work).await;
        };
        self.tracker.spawn(work.in_current_span());
    }
}

/// Accepts until `shutdown`, answers with `handler`, drains. With a `switch` that is off, connections are closed
/// unanswered.
pub(super) async fn run<L, H, F>(
    listener: L,
    switch: Option<Switch>,
    shutdown: impl Future<Output = ()>,
    handler: H,
) where
    L: Listener,
    H: Fn(Request<Incoming>, Tasks) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let tasks = Tasks {
        tracker: TaskTracker::new(),
        drain: CancellationToken::new(),
        abort: CancellationToken::new(),
    };
    let _ended = tasks.abort.clone().drop_guard();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut shutdown = std::pin::pin!(shutdown);

    loop {
        // The semaphore is never closed, so a place always comes.
        let next = async {
            (
                Arc::clone(&places).acquire_owned().await,
                listener.next().await,
            )
        };
        let (place, io) = tokio::select! {
            () = &mut shutdown => break,
            next = next => next,
        };
        let io = match io {
            Ok(io) => io,
            Err(error) => {
                tracing::warn!(%error, "demonstration site: no connection could be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (switch, handler, inner) = (switch.clone(), handler.clone(), tasks.clone());
        tasks.spawn(async move {
            let _place = place;
            match switch {
                Some(switch) => tokio::select! {
                    biased; // an origin that is off must not answer one more request
                    () = switch.until_off() => {}
                    () = converse(io, inner, handler) => {}
                },
                None => converse(io, inner, handler).await,
            }
        });
    }

    drop(listener);
    tasks.drain.cancel();
    tasks.tracker.close();
    if tokio::time::timeout(DRAIN, tasks.tracker.wait())
        .await
        .is_err()
    {
        let left = tasks.tracker.len();
        tracing::warn!(
            left,
            "demonstration site: ended with connections still open"
        );
    }
}

/// Answers the requests of one connection.
async fn converse<I, H, F>(io: I, tasks: Tasks, handler: H)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>, Tasks) -> F,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let drain = tasks.drain.clone();
    let service = service_fn(|request| {
        let answer = handler(request, tasks.clone());
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "demonstration site: connection ended");
    }
}

/// Connections at a time; more wait in the listener's backlog.
const CONNECTIONS: usize = 512;
/// How long the open answers may take once the end is asked for.
const DRAIN: Duration = Duration::from_secs(5);
/// After a failed accept (out of file descriptors, as a rule), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a request's head may take, the wait on a kept connection included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// The head of a request and what is read ahead of its body.
const BUFFER: usize = 64 * 1024;
