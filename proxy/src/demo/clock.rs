//! The clock: sends the time each second over a WebSocket, and sends back what it is told.
//!
//! tungstenite does the frames over two buffers in memory; reading from and writing to the connection stays here.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocket, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::answer::{self, Body};
use super::connections::Tasks;
use super::pages;
use super::switch::Switch;

/// Answers the handshake and starts a clock, one of as many as `clocks` allows.
pub(super) fn upgrade(
    request: Request<Incoming>,
    clocks: &Arc<Semaphore>,
    switch: &Switch,
    tasks: &Tasks,
) -> Response<Body> {
    let Some(accept) = accept_key(request.headers()) else {
        let text = "This address speaks WebSocket.\n";
        let mut response = answer::text(StatusCode::UPGRADE_REQUIRED, text);
        offer(&mut response);
        let version = HeaderValue::from_static("13");
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_VERSION, version);
        return response;
    };
    let Ok(place) = Arc::clone(clocks).try_acquire_owned() else {
        let text = "Too many clocks are open.\n";
        return answer::text(StatusCode::SERVICE_UNAVAILABLE, text);
    };

    let (switch, drain) = (switch.clone(), tasks.drain.clone());
    tasks.spawn(async move {
        let _place = place;
        let conversation = async {
            match hyper::upgrade::on(request).await {
                Ok(io) => tell_time(TokioIo::new(io), drain.cancelled()).await,
                Err(error) => Err(io::Error::other(error)),
            }
        };
        let result = tokio::select! {
            biased; // an origin that is off says nothing more
            () = switch.until_off() => return,
            result = conversation => result,
        };
        if let Err(error) = result {
            tracing::debug!(%error, "demonstration site: clock ended");
        }
    });

    let mut response = Response::new(Empty::new().boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    offer(&mut response);
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// What proves to the client that its handshake was understood; nothing where it was not one.
fn accept_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let has = |name: HeaderName, wanted: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|field| field.to_str().ok())
            .flat_map(|field| field.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case(wanted))
    };
    let asked =
        has(CONNECTION, "upgrade") && has(UPGRADE, "websocket") && has(SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| asked)?;
    HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok()
}

fn offer(response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Sends and echoes until the client leaves or `end` comes.
async fn tell_time(
    io: impl AsyncRead + AsyncWrite + Unpin,
    end: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut socket = Socket::new(io, Role::Server);
    let mut ticks = tokio::time::interval(TICK);
    let mut end = std::pin::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return socket.close().await,
            _ = ticks.tick() => {
                let now = pages::stamp(OffsetDateTime::now_utc());
                socket.send(Message::text(now)).await?;
            }
            message = socket.receive() => match message? {
                Some(message) => socket.send(message).await?,
                None => return Ok(()),
            },
        }
    }
}

/// A WebSocket over an upgraded connection.
pub(super) struct Socket<I> {
    io: I,
    frames: WebSocket<Buffers>,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Socket<I> {
    pub(super) fn new(io: I, role: Role) -> Self {
        let limits = WebSocketConfig::default()
            .read_buffer_size(MESSAGE)
            .write_buffer_size(0)
            .max_message_size(Some(MESSAGE))
            .max_frame_size(Some(MESSAGE));
        let frames = WebSocket::from_raw_socket(Buffers::default(), role, Some(limits));
        Self { io, frames }
    }

    /// The next text or binary message; nothing once the conversation is over. Loses nothing when dropped while it
    /// waits.
    pub(super) async fn receive(&mut self) -> io::Result<Option<Message>> {
        loop {
            match self.frames.read() {
                Ok(message @ (Message::Text(_) | Message::Binary(_))) => return Ok(Some(message)),
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    // tungstenite's answers to pings lie in the buffer now.
                    self.write_out().await?;
                    let incoming = &mut self.frames.get_mut().incoming;
                    incoming.reserve(MESSAGE);
                    if self.io.read_buf(incoming).await? == 0 {
                        return Ok(None);
                    }
                }
                Err(Error::ConnectionClosed) => {
                    self.write_out().await?;
                    return Ok(None);
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }

    /// Sends one message.
    pub(super) async fn send(&mut self, message: Message) -> io::Result<()> {
        self.frames.send(message).map_err(io::Error::other)?;
        self.write_out().await
    }

    /// Says that the server goes away.
    async fn close(&mut self) -> io::Result<()> {
        let frame = CloseFrame {
            code: CloseCode::Away,
            reason: "the server ends".into(),
        };
        self.frames.close(Some(frame)).map_err(io::Error::other)?;
        self.write_out().await?;
        self.io.shutdown().await
    }

    async fn write_out(&mut self) -> io::Result<()> {
        let outgoing = &mut self.frames.get_mut().outgoing;
        let writing = self.io.write_all_buf(outgoing);
        tokio::time::timeout(WRITE_TIMEOUT, writing).await??;
        self.io.flush().await
    }
}

/// What has come in and is not yet read, and what is to go out.
#[derive(Default)]
struct Buffers {
    incoming: BytesMut,
    outgoing: BytesMut,
}

impl Read for Buffers {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.incoming.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = into.len().min(self.incoming.len());
        self.incoming.copy_to_slice(&mut into[..count]);
        Ok(count)
    }
}

impl Write for Buffers {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.outgoing.extend_from_slice(from);
        Ok(from.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const TICK: Duration = Duration::from_secs(1);
/// The longest message, and the most that is held of a client's bytes.
const MESSAGE: usize = 4096;
/// A client that takes nothing for this long has gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
