//! HTTP/1.1 (and 1.0) to clients: one connection, any number of requests after each other.
//!
//! The heads are read by us and not by Pingora's session for two reasons: a fresh hit is answered
//! before any machinery is set in motion, and malformed requests are refused by one strict parser
//! (`head`, `body`) whatever happens to them later.

use std::future::{pending, poll_fn};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, StatusCode, Version, header};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::downstream::{BodyError, BodyLength, Downstream, RequestHead, ResponseHead, StoredHead};
use crate::fields::{has_token, write_lines};
use body::{Piece, RequestBody};
use head::{end_of_head, parse, too_large};

pub use head::Refusal;
use websocket::Frames;

mod body;
mod head;
mod websocket;

/// How much is read at once. On the stack while reading only, so that an idle connection holds no buffer.
const READ: usize = 16 * 1024;
/// Pipelined requests wait in memory up to this; then they wait in the client's kernel.
const MAX_PIPELINED: usize = 64 * 1024;
/// While draining, an idle connection gets this long for one more request, so that a request that
/// crosses the drain on the wire is answered and not reset.
const DRAIN_IDLE: Duration = Duration::from_secs(5);
/// How long a client that was told to close its WebSocket has for it.
const WEBSOCKET_CLOSE: Duration = Duration::from_secs(5);
/// A response that ends before its request does is read along for so long, so that the client sees it.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 * 1024;

/// What one connection may take.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// Fields of a request's head.
    pub header_count: usize,
    /// For a head to be complete once begun.
    pub header_timeout: Duration,
    /// For the next request, and between two pieces of a body.
    pub idle_timeout: Duration,
}

/// One client connection that speaks HTTP/1.
pub struct Http1<S> {
    io: S,
    bounds: Bounds,
    drain: watch::Receiver<bool>,
    input: BytesMut,
    output: Vec<u8>,
    request: RequestBody,
    received: u64,
    /// The client's `Expect: 100-continue` waits for an answer.
    expects_continue: bool,
    takes_trailers: bool,
    version: Version,
    keep_alive: bool,
    response: Response,
    sent: u64,
    frames: Option<Frames>,
}

/// How far the response is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Response {
    Waiting,
    None,
    Exact(u64),
    Chunked,
    UntilClose,
    Upgraded,
    Finished,
}

/// What came next on a connection.
pub enum Next {
    /// A request's head.
    Request(RequestHead),
    /// The connection's end, without a request begun.
    Closed,
    /// A request that is refused.
    Refused(Refusal),
}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static> Http1<S> {
    /// Takes over a connection.
    pub fn new(io: S, bounds: Bounds, drain: watch::Receiver<bool>) -> Self {
        Self {
            io,
            bounds,
            drain,
            input: BytesMut::new(),
            output: Vec::new(),
            request: RequestBody::empty(),
            received: 0,
            expects_continue: false,
            takes_trailers: false,
            version: Version::HTTP_11,
            keep_alive: true,
            response: Response::Finished,
            sent: 0,
            frames: None,
        }
    }

    /// Whether the last exchange left the connection fit for another.
    pub fn is_reusable(&self) -> bool {
        self.keep_alive && self.response == Response::Finished && self.request.is_done()
    }

    /// Waits for the next request's head.
    pub async fn next(&mut self) -> Next {
        let mut scanned = 0;
        let mut deadline = None;
        // A single empty line before a request is skipped (RFC 9112 section 2.2).
        loop {
            while deadline.is_none() && self.input.starts_with(b"\r\n") {
                self.input.advance(2);
            }
            match end_of_head(&self.input, scanned) {
                Err(refusal) => return Next::Refused(refusal),
                Ok(Some(end)) if end > self.bounds.header_bytes => {
                    return Next::Refused(too_large("head-too-large"));
                }
                Ok(Some(end)) => return self.begin(end),
                Ok(None) if self.input.len() >= self.bounds.header_bytes => {
                    return Next::Refused(too_large("head-too-large"));
                }
                Ok(None) => scanned = self.input.len(),
            }
            let read = if self.input.is_empty() {
                self.wait_idle().await
            } else {
                let by =
                    *deadline.get_or_insert_with(|| Instant::now() + self.bounds.header_timeout);
                match timeout_at(by, self.fill()).await {
                    Ok(read) => read,
                    Err(_) => {
                        return Next::Refused(Refusal {
                            status: StatusCode::REQUEST_TIMEOUT,
                            reason: "head-timeout",
                        });
                    }
                }
            };
            match read {
                Ok(0) if self.input.is_empty() => return Next::Closed,
                Ok(0) => {
                    return Next::Refused(Refusal {
                        status: StatusCode::BAD_REQUEST,
                        reason: "head-cut-off",
                    });
                }
                Ok(_) => {}
                Err(_) => return Next::Closed,
            }
        }
    }

    fn begin(&mut self, end: usize) -> Next {
        let raw = self.input.split_to(end).freeze();
        let (head, body) = match parse(raw, self.bounds.header_count) {
            Ok(parsed) => parsed,
            Err(refusal) => return Next::Refused(refusal),
        };
        self.version = head.version;
        self.keep_alive = match head.version {
            Version::HTTP_11 => !has_token(&head.headers, &header::CONNECTION, "close"),
            _ => has_token(&head.headers, &header::CONNECTION, "keep-alive"),
        };
        self.expects_continue = head.version == Version::HTTP_11
            && !body.is_done()
            && has_token(&head.headers, &header::EXPECT, "100-continue");
        self.takes_trailers = has_token(&head.headers, &header::TE, "trailers");
        self.frames = (head.upgrade && has_token(&head.headers, &header::UPGRADE, "websocket"))
            .then(Frames::default);
        self.request = body;
        self.response = Response::Waiting;
        self.received = 0;
        self.sent = 0;
        Next::Request(head)
    }

    /// Waits for the first byte of a request: for the idle time, or shortly where the proxy drains.
    async fn wait_idle(&mut self) -> io::Result<usize> {
        if *self.drain.borrow() {
            return idle(DRAIN_IDLE, self.fill()).await;
        }
        let mut drain = self.drain.clone();
        tokio::select! {
            biased;
            read = idle(self.bounds.idle_timeout, self.fill()) => return read,
            changed = drain.wait_for(|draining| *draining) => drop(changed),
        }
        idle(DRAIN_IDLE, self.fill()).await
    }

    /// Reads what is there; 0 at the end of the connection.
    async fn fill(&mut self) -> io::Result<usize> {
        let Self { io, input, .. } = self;
        poll_fn(|cx| {
            let mut space = [const { MaybeUninit::<u8>::uninit() }; READ];
            let mut buffer = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut *io).poll_read(cx, &mut buffer))?;
            input.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
        .await
    }

    /// Refuses a request and closes: the rest of what the client sent cannot be trusted.
    pub async fn refuse(mut self, refusal: Refusal) {
        self.keep_alive = false;
        self.version = Version::HTTP_11;
        self.response = Response::Waiting;
        let head = crate::response::plain_head(refusal.status);
        let body = crate::response::plain_body(refusal.status);
        let length = BodyLength::Exact(body.len() as u64);
        if self.respond(head, length, body).await.is_ok() {
            self.close().await;
        }
    }

    /// Ends the connection so that the client can still read what was sent: a reset that arrives
    /// first would throw it away (RFC 9112 section 9.6).
    pub async fn close(mut self) {
        if self.io.shutdown().await.is_err() {
            return;
        }
        let by = Instant::now() + LINGER;
        let mut read = 0;
        while read < LINGER_BYTES {
            self.input.clear();
            match timeout_at(by, self.fill()).await {
                Ok(Ok(taken)) if taken > 0 => read += taken,
                _ => return,
            }
        }
    }

    fn write_head(&mut self, status: StatusCode, fields: impl FnOnce(&mut Vec<u8>)) {
        status_line(&mut self.output, status);
        fields(&mut self.output);
    }

    /// Fixes how the body will be delimited, and writes the fields that say so.
    fn frame(&mut self, length: BodyLength, known: Option<u64>) {
        self.response = match length {
            BodyLength::None => Response::None,
            BodyLength::Exact(length) => Response::Exact(length),
            BodyLength::Upgrade => Response::Upgraded,
            BodyLength::Unknown if self.version == Version::HTTP_11 => Response::Chunked,
            BodyLength::Unknown => Response::UntilClose,
        };
        if let Some(length) = known {
            self.output.extend_from_slice(b"content-length: ");
            let mut digits = itoa::Buffer::new();
            self.output
                .extend_from_slice(digits.format(length).as_bytes());
            self.output.extend_from_slice(b"\r\n");
        }
        match self.response {
            Response::Upgraded => {
                self.keep_alive = false;
                self.request = RequestBody::raw();
                self.output
                    .extend_from_slice(b"connection: upgrade\r\n\r\n");
                return;
            }
            Response::Chunked => self
                .output
                .extend_from_slice(b"transfer-encoding: chunked\r\n"),
            Response::UntilClose => self.keep_alive = false,
            _ => {}
        }
        // A body that has not come whole leaves the connection where the next request cannot be found.
        if !self.request.is_done() || *self.drain.borrow() {
            self.keep_alive = false;
        }
        self.output
            .extend_from_slice(match (self.keep_alive, self.version) {
                (false, _) => b"connection: close\r\n\r\n",
                (true, Version::HTTP_10) => b"connection: keep-alive\r\n\r\n",
                _ => b"\r\n".as_slice(),
            });
    }

    /// Writes what is in `output`, then `body`, in as few system calls as the stream allows.
    async fn write_out(&mut self, mut body: Bytes) -> io::Result<()> {
        let Self { io, output, .. } = self;
        let mut done = 0;
        while done < output.len() || !body.is_empty() {
            let written = poll_fn(|cx| {
                let slices = [IoSlice::new(&output[done..]), IoSlice::new(&body)];
                let from = usize::from(done == output.len());
                Pin::new(&mut *io).poll_write_vectored(cx, &slices[from..])
            })
            .await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            let of_head = written.min(output.len() - done);
            done += of_head;
            body.advance(written - of_head);
        }
        output.clear();
        if output.capacity() > READ {
            output.shrink_to(READ);
        }
        io.flush().await
    }

    /// Tells a WebSocket client to close, where a frame may begin; else that waits for the next one.
    async fn close_websocket(&mut self) -> io::Result<()> {
        if let Some(close) = self.frames.as_mut().and_then(Frames::close) {
            self.write_out(Bytes::from_static(close)).await?;
        }
        Ok(())
    }

    /// The next bytes of an upgraded connection. When the proxy drains, the client is told to close and has a little while for it.
    async fn read_upgraded(&mut self) -> io::Result<usize> {
        loop {
            if self.frames.as_ref().is_some_and(Frames::is_closed) {
                return timeout(WEBSOCKET_CLOSE, self.fill()).await.unwrap_or(Ok(0));
            }
            if self.frames.is_none() || *self.drain.borrow() {
                return self.fill().await;
            }
            let mut drain = self.drain.clone();
            tokio::select! {
                biased;
                read = self.fill() => return read,
                _ = drain.wait_for(|draining| *draining) => {}
            }
            self.close_websocket().await?;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static> Downstream for Http1<S> {
    async fn read_body(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            match self.request.take(&mut self.input) {
                Piece::Data(data) => {
                    self.received += data.len() as u64;
                    return Ok(Some(data));
                }
                Piece::End => return Ok(None),
                Piece::Malformed(reason) => {
                    self.keep_alive = false;
                    return Err(BodyError::Malformed(reason));
                }
                Piece::More => {}
            }
            let read = if self.request.is_raw() {
                self.read_upgraded().await?
            } else {
                idle(self.bounds.idle_timeout, self.fill()).await?
            };
            if read == 0 {
                self.keep_alive = false;
                if self.request.is_raw() {
                    self.request = RequestBody::empty();
                    return Ok(None);
                }
                return Err(BodyError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    fn body_done(&self) -> bool {
        self.request.is_done()
    }

    async fn gone(&mut self) -> io::Error {
        loop {
            if self.input.len() >= MAX_PIPELINED {
                return pending().await;
            }
            match self.fill().await {
                Ok(0) => {
                    self.keep_alive = false;
                    return io::ErrorKind::ConnectionAborted.into();
                }
                Ok(_) => {}
                Err(error) => {
                    self.keep_alive = false;
                    return error;
                }
            }
        }
    }

    async fn interim(&mut self, head: &ResponseHead) -> io::Result<()> {
        let continues = head.status == StatusCode::CONTINUE;
        if self.version != Version::HTTP_11
            || self.response != Response::Waiting
            || (continues && !std::mem::take(&mut self.expects_continue))
        {
            return Ok(());
        }
        self.write_head(head.status, |output| write_lines(output, &head.headers));
        self.output.extend_from_slice(b"\r\n");
        self.write_out(Bytes::new()).await
    }

    async fn start(&mut self, head: ResponseHead, length: BodyLength) -> io::Result<()> {
        self.write_head(head.status, |output| write_lines(output, &head.headers));
        let known = match length {
            BodyLength::Exact(length) => Some(length),
            // What a GET would have got (RFC 9110 section 8.6); never on a 204.
            BodyLength::None if head.status != StatusCode::NO_CONTENT => head
                .headers
                .get(header::CONTENT_LENGTH)
                .and_then(|value| value.to_str().ok()?.parse().ok()),
            _ => None,
        };
        self.frame(length, known);
        match length {
            BodyLength::Unknown | BodyLength::Exact(_) => Ok(()),
            BodyLength::None | BodyLength::Upgrade => self.write_out(Bytes::new()).await,
        }
    }

    async fn data(&mut self, mut chunk: Bytes) -> io::Result<()> {
        self.sent += chunk.len() as u64;
        match &mut self.response {
            Response::Exact(left) => {
                let taken = (*left).min(chunk.len() as u64);
                chunk.truncate(taken as usize);
                *left -= taken;
            }
            Response::Chunked if chunk.is_empty() => return Ok(()),
            Response::Chunked => {
                let size = format!("{:x}\r\n", chunk.len());
                self.output.extend_from_slice(size.as_bytes());
                // The line after a chunk goes out with what comes next.
                self.write_out(chunk).await?;
                self.output.extend_from_slice(b"\r\n");
                return Ok(());
            }
            Response::Upgraded => {
                if let Some(frames) = &mut self.frames {
                    if frames.is_closed() {
                        return Ok(());
                    }
                    frames.feed(&chunk);
                }
                self.write_out(chunk).await?;
                if *self.drain.borrow() {
                    self.close_websocket().await?;
                }
                return Ok(());
            }
            Response::UntilClose => {}
            Response::Waiting | Response::None | Response::Finished => return Ok(()),
        }
        self.write_out(chunk).await
    }

    async fn finish(&mut self, trailers: Option<HeaderMap>) -> io::Result<()> {
        match self.response {
            Response::Exact(left) if left > 0 => {
                self.keep_alive = false;
                self.write_out(Bytes::new()).await?;
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the response's body is shorter than its length",
                ));
            }
            Response::Chunked => {
                self.output.extend_from_slice(b"0\r\n");
                if let Some(trailers) = trailers.filter(|_| self.takes_trailers) {
                    write_lines(&mut self.output, &trailers);
                }
                self.output.extend_from_slice(b"\r\n");
            }
            Response::Finished | Response::Waiting => return Ok(()),
            Response::Upgraded | Response::UntilClose | Response::None | Response::Exact(_) => {}
        }
        self.response = Response::Finished;
        self.write_out(Bytes::new()).await
    }

    async fn respond_stored(
        &mut self,
        head: &StoredHead,
        extra: &[(&'static str, &[u8])],
        body: Option<Bytes>,
    ) -> io::Result<()> {
        self.write_head(head.status(), |output| {
            output.extend_from_slice(head.lines())
        });
        for (name, value) in extra {
            self.output.extend_from_slice(name.as_bytes());
            self.output.extend_from_slice(b": ");
            self.output.extend_from_slice(value);
            self.output.extend_from_slice(b"\r\n");
        }
        let length = head.length();
        self.frame(BodyLength::Exact(length), Some(length));
        let body = body.unwrap_or_default();
        self.sent = body.len() as u64;
        self.response = Response::Finished;
        self.write_out(body).await
    }

    fn close_after(&mut self) {
        self.keep_alive = false;
    }

    fn started(&self) -> bool {
        self.response != Response::Waiting
    }

    fn bytes_sent(&self) -> u64 {
        self.sent
    }

    fn bytes_received(&self) -> u64 {
        self.received
    }
}

async fn idle<T>(limit: Duration, read: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, read)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn status_line(output: &mut Vec<u8>, status: StatusCode) {
    output.extend_from_slice(b"HTTP/1.1 ");
    output.extend_from_slice(status.as_str().as_bytes());
    output.push(b' ');
    output.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    output.extend_from_slice(b"\r\n");
}
