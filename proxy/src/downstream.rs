//! The client's side of one request, whatever protocol it came by.
//!
//! HTTP/1.1 and HTTP/2 implement [`Downstream`]; onion streams arrive as HTTP/1.1 and QUIC will
//! be a third implementation. Everything after the protocols is written once, against this trait.

use std::borrow::Cow;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use crate::fields::write_lines;
use crate::tls::TlsFacts;

/// What is known of a connection before its first byte of HTTP: the seam between listeners and
/// protocols. Onion and QUIC connections fill in the same facts.
#[derive(Debug)]
pub struct Connection {
    /// Counts up over the life of the process; for the log. [`INTERNAL`](Self::INTERNAL) where the
    /// daemon itself asks.
    pub id: u64,
    /// The other end; `None` where it has no address (an onion stream, the daemon itself).
    pub peer: Option<SocketAddr>,
    /// What TLS found out; `None` on a plain connection.
    pub tls: Option<TlsFacts>,
}

/// The head of a request, checked: the host is lower case and without port, the target is a path.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// Host name in lower case, without port and brackets.
    pub host: Box<str>,
    /// The port that the client named, where it named one.
    pub port: Option<u16>,
    /// Path and query, as received.
    pub target: PathAndQuery,
    /// HTTP/1.0, HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// The fields; `Host` is not among them.
    pub headers: HeaderMap,
    /// The client asks to change the protocol (HTTP/1.1 `Upgrade`).
    pub upgrade: bool,
    /// When the head was complete.
    pub received: Instant,
}

/// Status and fields of a response.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub headers: HeaderMap,
}

/// How long a response's body will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none: a HEAD, a 204, a 304.
    None,
    /// Exactly so many bytes.
    Exact(u64),
    /// Until it ends.
    Unknown,
    /// The connection changes its protocol after this head (101).
    Upgrade,
}

/// Why a request's body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client broke the rules of its protocol.
    #[error("the request's body is malformed: {0}")]
    Malformed(&'static str),
    /// The client went away, or fell silent for too long.
    #[error("the client's connection failed")]
    Io(#[from] io::Error),
}

/// The client's side of one request.
///
/// The order of calls: any number of [`interim`](Self::interim), one [`start`](Self::start), any
/// number of [`data`](Self::data), one [`finish`](Self::finish). `read_body` may come at any time.
/// A response that is dropped between `start` and `finish` reaches the client as broken.
pub trait Downstream: Send + Sync + Unpin + 'static {
    /// The next piece of the request's body; `None` at its end. May be dropped and called again.
    fn read_body(&mut self) -> impl Future<Output = Result<Option<Bytes>, BodyError>> + Send;

    /// Whether the request's body has been read to its end, or there was none.
    fn body_done(&self) -> bool;

    /// Completes when the client has gone away. May be dropped and called again.
    fn gone(&mut self) -> impl Future<Output = io::Error> + Send;

    /// Sends an interim response (1xx but 101), where the protocol can.
    fn interim(&mut self, head: &ResponseHead) -> impl Future<Output = io::Result<()>> + Send;

    /// Sends the head of the final response.
    fn start(
        &mut self,
        head: ResponseHead,
        length: BodyLength,
    ) -> impl Future<Output = io::Result<()>> + Send;

    /// Sends a piece of the body.
    fn data(&mut self, chunk: Bytes) -> impl Future<Output = io::Result<()>> + Send;

    /// Ends the response.
    fn finish(
        &mut self,
        trailers: Option<HeaderMap>,
    ) -> impl Future<Output = io::Result<()>> + Send;

    /// Sends a whole response, whose body is in memory, at once.
    fn respond(
        &mut self,
        head: ResponseHead,
        length: BodyLength,
        body: Bytes,
    ) -> impl Future<Output = io::Result<()>> + Send {
        async move {
            self.start(head, length).await?;
            if length != BodyLength::None && !body.is_empty() {
                self.data(body).await?;
            }
            self.finish(None).await
        }
    }

    /// Sends a response from the store at once: its prepared head, the fields that differ from
    /// one use to the next, and the body, or none where a HEAD asked.
    fn respond_stored(
        &mut self,
        head: &StoredHead,
        extra: &[(&'static str, &[u8])],
        body: Option<Bytes>,
    ) -> impl Future<Output = io::Result<()>> + Send {
        async move {
            let mut whole = head.head.clone();
            for (name, value) in extra {
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    whole.headers.append(*name, value);
                }
            }
            let length = BodyLength::Exact(head.length);
            self.respond(whole, length, body.unwrap_or_default()).await
        }
    }

    /// The connection is not used for another request after this one.
    fn close_after(&mut self);

    /// Whether the final response's head has been sent.
    fn started(&self) -> bool;

    /// Bytes of response body sent so far.
    fn bytes_sent(&self) -> u64;

    /// Bytes of request body received so far.
    fn bytes_received(&self) -> u64;
}

/// The head of a stored response, made ready once for all its uses.
#[derive(Debug)]
pub struct StoredHead {
    head: ResponseHead,
    length: u64,
    lines: Vec<u8>,
}

impl StoredHead {
    /// Prepares a head whose body has `length` bytes.
    pub fn new(head: ResponseHead, length: u64) -> Self {
        let mut lines = Vec::with_capacity(head.headers.len() * 48);
        write_lines(&mut lines, &head.headers);
        Self {
            head,
            length,
            lines,
        }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.head.status
    }

    /// The fields.
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The body's length.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The fields as HTTP/1.1 sends them, without those that delimit the body.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }
}

impl Connection {
    /// The number of what comes over no connection: requests of the daemon itself.
    pub const INTERNAL: u64 = 0;

    /// Who asks, as the log has it: the client's address, or `internal` for the daemon itself.
    pub fn client(&self) -> Cow<'static, str> {
        if self.id == Self::INTERNAL {
            Cow::Borrowed("internal")
        } else {
            Cow::Owned(self.peer_ip().to_string())
        }
    }

    /// The client's address as an IP; the unspecified one where there is none.
    pub fn peer_ip(&self) -> IpAddr {
        self.peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| {
            peer.ip().to_canonical()
        })
    }

    /// `http` or `https`, by what the client used.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

impl RequestHead {
    /// The same target, asked for by another method and without fields.
    pub fn without_fields(&self, method: Method) -> Self {
        Self {
            method,
            host: self.host.clone(),
            port: self.port,
            target: self.target.clone(),
            version: self.version,
            headers: HeaderMap::new(),
            upgrade: false,
            received: self.received,
        }
    }

    /// Host and port as they stand in a URL: IPv6 in brackets, the port only where it was named.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.to_string()
        };
        match self.port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    }
}

impl ResponseHead {
    /// A head with this status and no fields.
    pub fn new(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
        }
    }
}

impl BodyLength {
    /// What a response with these facts carries: RFC 9112 section 6.3.
    pub fn of(method: &Method, head: &ResponseHead, known: Option<u64>) -> Self {
        let bodiless = *method == Method::HEAD
            || head.status == StatusCode::NO_CONTENT
            || head.status == StatusCode::NOT_MODIFIED;
        match known {
            _ if head.status == StatusCode::SWITCHING_PROTOCOLS => Self::Upgrade,
            _ if bodiless => Self::None,
            Some(length) => Self::Exact(length),
            None => Self::Unknown,
        }
    }
}

/// Splits an authority into a lower-case host without brackets and a port.
/// `None` where it is no `uri-host [ ":" port ]` of RFC 9110 section 7.2.
pub fn split_authority(authority: &str) -> Option<(Box<str>, Option<u16>)> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        (
            host,
            after.strip_prefix(':').or(after.is_empty().then_some("")),
        )
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, Some("")),
        }
    };
    let port = match port? {
        "" => None,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
        _ => return None,
    };
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
    if host.len() > 255 || !host.bytes().all(valid) {
        return None;
    }
    Some((host.trim_end_matches('.').to_ascii_lowercase().into(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks() {
        let by = |id, peer: Option<&str>| Connection {
            id,
            peer: peer.map(|peer| peer.parse().unwrap()),
            tls: None,
        };
        let connection = by(7, Some("[::ffff:192.0.2.1]:4711"));
        assert_eq!(connection.client(), "192.0.2.1");
        assert_eq!(by(Connection::INTERNAL, None).client(), "internal");
    }

    #[test]
    fn authorities() {
        type Parts<'a> = Option<(&'a str, Option<u16>)>;
        let table: &[(&str, Parts<'_>)] = &[
            ("example.org", Some(("example.org", None))),
            ("EXAMPLE.org:8443", Some(("example.org", Some(8443)))),
            ("example.org.", Some(("example.org", None))),
            ("example.org:", Some(("example.org", None))),
            ("127.0.0.1:80", Some(("127.0.0.1", Some(80)))),
            ("[::1]:80", Some(("::1", Some(80)))),
            ("[::1]", Some(("::1", None))),
            ("", Some(("", None))),
            ("[::1", None),
            ("[zz]", None),
            ("a:b", None),
            ("a:80:80", None),
            ("a:99999", None),
            ("user@a", None),
            ("a b", None),
            ("a/b", None),
        ];
        for (text, want) in table {
            let want = want.map(|(host, port)| (Box::from(host), port));
            assert_eq!(split_authority(text), want, "{text}");
        }
    }
}
