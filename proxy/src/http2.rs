//! HTTP/2 to clients (RFC 9113), on the `h2` crate: Pingora's own session drops interim responses,
//! and browsers take 103 Early Hints by HTTP/2 only.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{RecvStream, SendStream};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::downstream::{
    BodyError, BodyLength, Connection, Downstream, RequestHead, ResponseHead, StoredHead,
    split_authority,
};
use crate::shared::Shared;
use crate::{request, route};
use coalescing::Coalescing;

mod coalescing;

/// Streams one client may have open. Browsers use up to a hundred.
const MAX_STREAMS: u32 = 128;
/// What one stream and one connection may have under way towards us: enough for an upload over a
/// slow line, small enough that ten thousand connections stay affordable.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What one stream may have waiting towards the client, beyond bodies that the cache holds anyway.
const SEND_BUFFER: usize = 256 * 1024;

/// How long a client may take for the last bytes of a connection.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves one connection until it ends.
pub async fn serve<S>(io: S, connection: Arc<Connection>, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limits = shared.limits();
    let stream = Coalescing::new(io);
    let handshake = Builder::new()
        .max_concurrent_streams(MAX_STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        .handshake::<_, Bytes>(stream.handle());
    let handshake = sending(&stream, handshake);
    let Ok(Ok(Ok(mut h2))) = timeout(limits.header_timeout, handshake).await else {
        shared.metrics.connection_failed("h2-handshake");
        return;
    };
    let active = Arc::new(AtomicUsize::new(0));
    let mut drain = shared.drain_signal();
    let mut leaving = false;
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = timeout(limits.idle_timeout, sending(&stream, h2.accept())) => accepted,
            _ = drain.wait_for(|draining| *draining), if !leaving => {
                leaving = true;
                h2.graceful_shutdown();
                continue;
            }
        };
        match accepted {
            Ok(Ok(Some(Ok((request, respond))))) => {
                accept(
                    &shared,
                    &connection,
                    &active,
                    limits.idle_timeout,
                    request,
                    respond,
                )
                .await;
            }
            Ok(Err(_) | Ok(Some(Err(_)) | None)) => break,
            // A stored body that is still being taken has no task, and so does not count as active.
            Err(_) if active.load(Ordering::Relaxed) > 0 || stream.moved() => {}
            // Idle for the second time after the farewell: the client does not read it.
            Err(_) if leaving => break,
            Err(_) => {
                leaving = true;
                h2.graceful_shutdown();
            }
        }
    }
    // The farewell; a client that does not take it has gone.
    let _ = timeout(FAREWELL, poll_fn(|cx| stream.poll_sent(cx))).await;
}

/// Drives a connection, and sends what it has written each time it has nothing more to do.
async fn sending<S, F>(stream: &Coalescing<S>, driving: F) -> io::Result<F::Output>
where
    S: AsyncWrite + Unpin,
    F: Future,
{
    let mut driving = pin!(driving);
    poll_fn(|cx| match driving.as_mut().poll(cx) {
        Poll::Ready(driven) => Poll::Ready(Ok(driven)),
        Poll::Pending => match stream.poll_sent(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Pending,
        },
    })
    .await
}

/// Answers a fresh hit on the spot; anything else gets a task of its own.
async fn accept(
    shared: &Arc<Shared>,
    connection: &Arc<Connection>,
    active: &Arc<AtomicUsize>,
    stall: Duration,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let (parts, body) = request.into_parts();
    let mut stream = Http2 {
        body,
        respond,
        send: None,
        finished: false,
        received: 0,
        sent: 0,
        stall,
    };
    let mut head = match head(parts) {
        Ok(head) => head,
        Err(reason) => {
            shared.metrics.request_refused(reason);
            let status = if reason == "method" {
                StatusCode::METHOD_NOT_ALLOWED
            } else {
                StatusCode::BAD_REQUEST
            };
            shared.log_refused(connection, status, reason);
            let body = crate::response::plain_body(status);
            let length = BodyLength::Exact(body.len() as u64);
            // The client may have gone; there is nobody else to tell.
            let _ = stream
                .respond(crate::response::plain_head(status), length, body)
                .await;
            return;
        }
    };
    if let Some(tls) = &connection.tls {
        route::introduce(&mut head.headers, tls.client.as_deref());
    }
    if request::hit(shared, connection, &head, &mut stream).await {
        return;
    }
    active.fetch_add(1, Ordering::Relaxed);
    let guard = Active(active.clone());
    let (shared, connection) = (shared.clone(), connection.clone());
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        request::serve(&shared, &connection, head, stream).await;
        drop(guard);
    });
}

/// Counts one open stream for as long as it lives.
struct Active(Arc<AtomicUsize>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Checks a request's head beyond what `h2` has; the word says what was wrong (RFC 9113 section 8.3.1).
fn head(parts: http::request::Parts) -> Result<RequestHead, &'static str> {
    let mut headers = parts.headers;
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err("method");
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().map(|host| host.to_str().unwrap_or("\0"));
    if hosts.next().is_some() {
        return Err("host-twice");
    }
    let authority = match (parts.uri.authority().map(|name| name.as_str()), host) {
        (Some(name), Some(host)) if !name.eq_ignore_ascii_case(host) => return Err("host-differs"),
        (Some(name), _) => name,
        (None, Some(host)) => host,
        (None, None) => return Err("host-missing"),
    };
    let (host, port) = split_authority(authority).ok_or("host")?;
    let target = match parts.uri.path_and_query() {
        Some(target) if target.as_str().starts_with('/') => target.clone(),
        _ => return Err("target"),
    };
    if target
        .as_str()
        .bytes()
        .any(|byte| byte <= b' ' || byte == 0x7f)
    {
        return Err("target");
    }
    headers.remove(header::HOST);
    join_cookies(&mut headers);
    Ok(RequestHead {
        method: parts.method,
        host,
        port,
        target: PathAndQuery::from_maybe_shared(Bytes::copy_from_slice(target.as_str().as_bytes()))
            .map_err(|_| "target")?,
        version: Version::HTTP_2,
        headers,
        upgrade: false,
        received: Instant::now(),
    })
}

/// HTTP/2 clients may split `Cookie`; what is behind us wants one field (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_maybe_shared(Bytes::from(joined)) {
        headers.insert(header::COOKIE, joined);
    }
}

/// One stream of a connection.
pub struct Http2 {
    body: RecvStream,
    respond: SendResponse<Bytes>,
    send: Option<SendStream<Bytes>>,
    finished: bool,
    received: u64,
    sent: u64,
    stall: Duration,
}

impl Http2 {
    fn send_head(&mut self, head: Response<()>, end: bool) -> io::Result<()> {
        let send = self.respond.send_response(head, end).map_err(broken)?;
        self.send = Some(send);
        self.finished = end;
        Ok(())
    }

    /// Sends a response that is in memory anyway. Its body waits inside `h2` as a reference, for
    /// whatever the client's window allows.
    fn send_whole(&mut self, head: Response<()>, body: Bytes) -> io::Result<()> {
        self.send_head(head, body.is_empty())?;
        if !body.is_empty() {
            self.sent = body.len() as u64;
            self.finished = true;
            self.send()?.send_data(body, true).map_err(broken)?;
        }
        Ok(())
    }

    fn send(&mut self) -> io::Result<&mut SendStream<Bytes>> {
        self.send
            .as_mut()
            .ok_or_else(|| io::Error::other("a body was sent before its head"))
    }
}

impl Downstream for Http2 {
    async fn read_body(&mut self) -> Result<Option<Bytes>, BodyError> {
        let data = match timeout(self.stall, self.body.data()).await {
            Err(_) => return Err(BodyError::Io(io::ErrorKind::TimedOut.into())),
            Ok(None) => return Ok(None),
            Ok(Some(data)) => data.map_err(|error| BodyError::Io(broken(error)))?,
        };
        self.received += data.len() as u64;
        // A released window lets the client send on; it fails only where the stream has ended.
        let _ = self.body.flow_control().release_capacity(data.len());
        Ok(Some(data))
    }

    fn body_done(&self) -> bool {
        self.body.is_end_stream()
    }

    async fn gone(&mut self) -> io::Error {
        let reset = poll_fn(|cx| match &mut self.send {
            Some(send) => send.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        });
        match reset.await {
            Ok(reason) => io::Error::new(io::ErrorKind::ConnectionAborted, reason.description()),
            Err(error) => broken(error),
        }
    }

    async fn interim(&mut self, head: &ResponseHead) -> io::Result<()> {
        if self.send.is_some() {
            return Ok(());
        }
        let mut interim = Response::new(());
        *interim.status_mut() = head.status;
        *interim.headers_mut() = head.headers.clone();
        self.respond.send_informational(interim).map_err(broken)
    }

    /// Does not wait: hits are answered by the very task that has to read the client's windows.
    async fn respond(
        &mut self,
        head: ResponseHead,
        length: BodyLength,
        body: Bytes,
    ) -> io::Result<()> {
        let body = match length {
            BodyLength::None => Bytes::new(),
            _ => body,
        };
        self.send_whole(response(head, length), body)
    }

    async fn start(&mut self, head: ResponseHead, length: BodyLength) -> io::Result<()> {
        let response = response(head, length);
        let end = matches!(length, BodyLength::None | BodyLength::Exact(0));
        self.send_head(response, end)
    }

    async fn data(&mut self, mut chunk: Bytes) -> io::Result<()> {
        self.sent += chunk.len() as u64;
        let stall = self.stall;
        if self.finished {
            return Ok(());
        }
        let send = self.send()?;
        while !chunk.is_empty() {
            send.reserve_capacity(chunk.len());
            let capacity = timeout(stall, poll_fn(|cx| send.poll_capacity(cx)))
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
                .ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?
                .map_err(broken)?;
            let part = chunk.split_to(capacity.min(chunk.len()));
            send.send_data(part, false).map_err(broken)?;
        }
        Ok(())
    }

    async fn finish(&mut self, trailers: Option<HeaderMap>) -> io::Result<()> {
        if self.finished || self.send.is_none() {
            return Ok(());
        }
        self.finished = true;
        let send = self.send()?;
        match trailers {
            Some(trailers) => send.send_trailers(trailers).map_err(broken),
            None => send.send_data(Bytes::new(), true).map_err(broken),
        }
    }

    async fn respond_stored(
        &mut self,
        head: &StoredHead,
        extra: &[(&'static str, &[u8])],
        body: Option<Bytes>,
    ) -> io::Result<()> {
        let mut response = Response::new(());
        *response.status_mut() = head.status();
        let headers = response.headers_mut();
        *headers = head.headers().clone();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(head.length()));
        for (name, value) in extra {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.append(*name, value);
            }
        }
        self.send_whole(response, body.unwrap_or_default())
    }

    fn close_after(&mut self) {}

    fn started(&self) -> bool {
        self.send.is_some()
    }

    fn bytes_sent(&self) -> u64 {
        self.sent
    }

    fn bytes_received(&self) -> u64 {
        self.received
    }
}

fn response(head: ResponseHead, length: BodyLength) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    drop_connection_fields(response.headers_mut());
    if let BodyLength::Exact(length) = length {
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// Fields that say something of an HTTP/1.1 connection have no place here (RFC 9113 section 8.2.2).
fn drop_connection_fields(headers: &mut HeaderMap) {
    for name in [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::HeaderName::from_static("keep-alive"),
        header::HeaderName::from_static("proxy-connection"),
    ] {
        headers.remove(name);
    }
}

fn broken(error: h2::Error) -> io::Error {
    if error.is_io() {
        error
            .into_io()
            .unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())
    } else {
        io::Error::new(io::ErrorKind::ConnectionReset, error)
    }
}
