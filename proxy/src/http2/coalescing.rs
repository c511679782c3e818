//! A stream on which HTTP/2's frames go out together.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a connection without a body under way may send in an idle time.
const CHATTER: usize = 1024;
/// Frames are gathered up to this: as much as TLS encrypts for one system call.
const GATHER: usize = 64 * 1024;

/// Gathers what is written until [`poll_sent`](Self::poll_sent). HTTP/2 writes and flushes frame by
/// frame, and each would become a TLS record and a system call of its own. The connection's task
/// holds one handle and sends when it has nothing more to write; the protocol holds the other. The
/// buffer exists only while something is in it.
pub struct Coalescing<S>(Arc<Mutex<Gathered<S>>>);

struct Gathered<S> {
    stream: S,
    buffer: Vec<u8>,
    written: usize,
    /// Bytes sent since [`Coalescing::moved`] was last asked.
    sent: usize,
}

impl<S: AsyncWrite + Unpin> Coalescing<S> {
    /// Gathers what is written to `stream`.
    pub fn new(stream: S) -> Self {
        Self(Arc::new(Mutex::new(Gathered {
            stream,
            buffer: Vec::new(),
            written: 0,
            sent: 0,
        })))
    }

    /// Whether a body has been moving since this was last asked: more was sent than answers to pings.
    pub fn moved(&self) -> bool {
        std::mem::take(&mut self.0.lock().sent) > CHATTER
    }

    /// Another handle to the same stream.
    pub fn handle(&self) -> Self {
        Self(self.0.clone())
    }

    /// Sends what has been gathered.
    pub fn poll_sent(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathered = self.0.lock();
        let nothing = gathered.buffer.is_empty();
        ready!(gathered.poll_drain(cx))?;
        // The next piece of a large response takes the same buffer; anything else leaves an idle
        // connection behind.
        if nothing || gathered.buffer.capacity() < GATHER {
            gathered.buffer = Vec::new();
        }
        Pin::new(&mut gathered.stream).poll_flush(cx)
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.buffer.len() {
            let rest = &self.buffer[self.written..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => {
                    self.written += written;
                    self.sent = self.sent.saturating_add(written);
                }
            }
        }
        self.written = 0;
        self.buffer.clear();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Coalescing<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Coalescing<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut gathered = self.0.lock();
        if gathered.buffer.len() >= GATHER {
            ready!(gathered.poll_drain(cx))?;
        }
        let room = GATHER.saturating_sub(gathered.buffer.len());
        if data.iter().map(|slice| slice.len()).sum::<usize>() > GATHER / 8 {
            gathered.buffer.reserve_exact(room);
        }
        let mut taken = 0;
        for slice in data {
            let part = slice.len().min(room - taken);
            gathered.buffer.extend_from_slice(&slice[..part]);
            taken += part;
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing is sent here: that is what the other handle is for.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathered = self.0.lock();
        ready!(gathered.poll_drain(cx))?;
        Pin::new(&mut gathered.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn frames_go_out_together_and_in_order() {
        let (near, mut far) = tokio::io::duplex(16);
        let stream = Coalescing::new(near);
        let mut protocol = stream.handle();
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.expect("it ends well");
            all
        });
        let frame: Vec<u8> = (0..=255).collect();
        for _ in 0..2 * GATHER / frame.len() {
            protocol.write_all(&frame).await.expect("the reader reads");
            protocol.flush().await.expect("a flush does nothing");
        }
        poll_fn(|cx| stream.poll_sent(cx)).await.expect("sent");
        protocol.shutdown().await.expect("it ends");
        drop((protocol, stream));
        let all = reader.await.expect("the reader ends");
        assert_eq!(all, frame.repeat(2 * GATHER / frame.len()));
    }
}
