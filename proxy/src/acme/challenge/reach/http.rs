//! Asks an address for an answer that only we have, over plain HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Seen, secret};
use crate::acme::answers::{Answer, Answers, PATH, Put, PutError};

/// A question with the answer that we alone can give; the answer is there for as long as this is.
pub(super) struct Probe {
    request: Vec<u8>,
    token: String,
    answer: String,
    _put: Put,
}

impl Probe {
    pub(super) async fn new(answers: &Arc<Answers>, name: &str) -> Result<Self, PutError> {
        // Without random numbers there is no TLS either; the question then asks for nothing.
        let token = secret().unwrap_or_default();
        let answer = secret().unwrap_or_default();
        let put = answers
            .put(Answer::Http {
                token: token.clone(),
                key_authorization: answer.clone(),
            })
            .await?;
        let host = match name.contains(':') {
            true => format!("[{name}]"),
            false => name.to_owned(),
        };
        let request = format!(
            "GET {PATH}{token} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: sovereign-proxy\r\n\
             Accept: */*\r\nConnection: close\r\n\r\n"
        );
        Ok(Self {
            request: request.into_bytes(),
            token,
            answer,
            _put: put,
        })
    }

    /// What this address says.
    pub(super) async fn look(&self, address: SocketAddr) -> Seen {
        let mut stream = match TcpStream::connect(address).await {
            Ok(stream) => stream,
            Err(error) => return Seen::Silent(error.to_string()),
        };
        if let Err(error) = stream.write_all(&self.request).await {
            return Seen::Silent(error.to_string());
        }
        let mut got = Vec::with_capacity(2048);
        while got.len() < MOST {
            match stream.read_buf(&mut got).await {
                Ok(1..) if self.is_ours(&got) => return Seen::Ours,
                Ok(1..) => {}
                Ok(0) | Err(_) => break,
            }
        }
        self.judge(&got)
    }

    fn is_ours(&self, got: &[u8]) -> bool {
        memchr::memmem::find(got, self.answer.as_bytes()).is_some()
    }

    fn judge(&self, got: &[u8]) -> Seen {
        if got.is_empty() {
            return Seen::Silent("the connection was closed without an answer".to_owned());
        }
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut fields);
        if response.parse(got).is_err() {
            return Seen::Other("something that is no HTTP".to_owned());
        }
        let Some(code) = response.code else {
            return Seen::Other("something that is no HTTP".to_owned());
        };
        let field = |name: &str| {
            let found = response
                .headers
                .iter()
                .find(|field| field.name.eq_ignore_ascii_case(name));
            found.map(|field| plain(&String::from_utf8_lossy(field.value)))
        };
        let location = field("location").unwrap_or_default();
        if (300..400).contains(&code) && location.ends_with(&self.token) {
            // The authority follows it, and where it ends cannot be said.
            return Seen::Silent(format!("a redirect to {location}"));
        }
        let reason = plain(response.reason.unwrap_or_default());
        let server = field("server").map(|server| format!(" from a server called {server}"));
        let answer = format!("{code} {reason}");
        Seen::Other(answer.trim_end().to_owned() + &server.unwrap_or_default())
    }
}

/// What a stranger says, fit for a log: short, on one line.
fn plain(text: &str) -> String {
    let shown = text.chars().filter(|c| !c.is_control());
    shown.take(80).collect()
}

/// Bytes of an answer that are looked at.
const MOST: usize = 16 * 1024;
