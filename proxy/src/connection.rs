//! The seam between listeners and protocols: any stream with its facts goes in here and is served
//! by the protocol that its handshake chose.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::app::App;
use crate::downstream::Connection;
use crate::http1::{Bounds, Http1, Next};
use crate::tls::Alpn;
use crate::{http2, request};

/// Serves a connection until it ends. `stream` may be anything that carries bytes both ways: a TCP
/// or TLS stream today, an onion stream later.
pub async fn serve<S>(stream: S, facts: Connection, app: Arc<App>)
where
    S: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static,
{
    let stream = Guarded::new(stream, app.limits().idle_timeout);
    let connection = Arc::new(facts);
    match connection.tls.as_ref().map(|tls| tls.alpn) {
        Some(Alpn::H2) => http2::serve(stream, connection, app).await,
        _ => http1(stream, connection, app).await,
    }
}

async fn http1<S>(stream: S, connection: Arc<Connection>, app: Arc<App>)
where
    S: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static,
{
    let limits = app.limits();
    let bounds = Bounds {
        header_bytes: limits.header_bytes,
        header_count: limits.header_count,
        header_timeout: limits.header_timeout,
        idle_timeout: limits.idle_timeout,
    };
    let mut client = Http1::new(stream, bounds, app.drain_signal());
    loop {
        let head = match client.next().await {
            Next::Request(head) => head,
            Next::Closed => return,
            Next::Refused(refusal) => {
                app.metrics.request_refused(refusal.reason);
                app.log_refused(&connection, refusal.status, refusal.reason);
                return client.refuse(refusal).await;
            }
        };
        if !request::hit(&app, &connection, &head, &mut client).await {
            match Box::pin(request::serve(&app, &connection, head, client)).await {
                Some(back) => client = back,
                None => return,
            }
        }
        if !client.is_reusable() {
            return client.close().await;
        }
    }
}

/// A stream whose writes may not stall: a client that takes nothing for the given time is let go,
/// so that it cannot hold memory for ever.
struct Guarded<S> {
    stream: S,
    limit: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Guarded<S> {
    fn new(stream: S, limit: Duration) -> Self {
        Self {
            stream,
            limit,
            stalled: None,
        }
    }

    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.limit;
        let timer = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep(limit)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => {
                timer.as_mut().reset(Instant::now() + limit);
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, data);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, data);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(cx, shut)
    }
}
