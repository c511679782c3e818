//! WebSockets, at both ends.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::client::{Target, Wire};
use crate::origin::Origin;
use crate::wait::within;

/// Longer than any message takes.
const PATIENCE: Duration = Duration::from_secs(15);

/// The client's end.
pub struct WebSocket(WebSocketStream<Box<dyn Wire>>);

/// What the other end said.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// A text.
    Text(String),
    /// That it closes, with its code where it gave one.
    Close(Option<u16>),
    /// Nothing: the connection is gone.
    Gone(String),
}

impl WebSocket {
    /// Opens one over HTTP/1.1, plain or in TLS as the target says.
    pub async fn open(target: &Target, path: &str) -> Self {
        let scheme = if target.roots.is_some() { "wss" } else { "ws" };
        let url = format!("{scheme}://{}{path}", target.host);
        let opening = async {
            let wire = target
                .connect("http/1.1")
                .await
                .map_err(|e| e.to_string())?;
            let request = url
                .as_str()
                .into_client_request()
                .map_err(|e| e.to_string())?;
            tokio_tungstenite::client_async(request, wire)
                .await
                .map_err(|e| e.to_string())
        };
        match within(&url, PATIENCE, opening).await {
            Ok((stream, _)) => Self(stream),
            Err(error) => panic!("{url}: {error}"),
        }
    }

    /// Sends a text.
    pub async fn say(&mut self, text: &str) {
        let sending = self.0.send(Message::text(text));
        within("a message is sent", PATIENCE, sending)
            .await
            .unwrap_or_else(|error| panic!("{text:?} was not sent: {error}"));
    }

    /// What comes next, pings aside.
    pub async fn hear(&mut self) -> Said {
        within("a message comes", PATIENCE, async {
            loop {
                return match self.0.next().await {
                    Some(Ok(Message::Text(text))) => Said::Text(text.to_string()),
                    Some(Ok(Message::Close(frame))) => {
                        Said::Close(frame.map(|frame| frame.code.into()))
                    }
                    Some(Ok(_)) => continue,
                    Some(Err(error)) => Said::Gone(error.to_string()),
                    None => Said::Gone("closed without a word".into()),
                };
            }
        })
        .await
    }

    /// Says `text`, and fails the test where it does not come back.
    pub async fn echo(&mut self, text: &str) {
        self.say(text).await;
        assert_eq!(self.hear().await, Said::Text(text.to_owned()));
    }
}

/// An origin that gives every message back.
pub async fn echo_origin() -> Origin {
    Origin::start(|mut request| async move {
        let key = request.headers().get("sec-websocket-key").cloned();
        let Some(key) = key else {
            return crate::origin::reply(426, [], crate::client::whole("a WebSocket, please"));
        };
        let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
        tokio::spawn(async move {
            let Ok(upgraded) = hyper::upgrade::on(&mut request).await else {
                return;
            };
            let io = hyper_util::rt::TokioIo::new(upgraded);
            let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
            while let Some(Ok(message)) = socket.next().await {
                let done = match message {
                    Message::Text(_) | Message::Binary(_) => socket.send(message).await.is_err(),
                    Message::Close(frame) => {
                        let _ = socket.close(frame).await;
                        true
                    }
                    _ => false,
                };
                if done {
                    break;
                }
            }
        });
        crate::origin::reply(
            101,
            [
                ("connection", "upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-accept", accept.as_str()),
            ],
            crate::client::empty(),
        )
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_echo_comes_back() {
        let origin = echo_origin().await;
        let mut socket = WebSocket::open(&Target::plain(origin.address(), "ws.test"), "/").await;
        socket.echo("hello").await;
    }
}
