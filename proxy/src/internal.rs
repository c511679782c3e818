//! Requests that the daemon makes of itself: to warm a site's cache, and to fetch again what a purge
//! has made outdated.
//!
//! They take a client's way through routes, cache and log, so that what they leave in the store is
//! what a client would have left there. They come over no connection: [`Internal`] stands in for
//! one, and keeps the response in memory, up to a bound.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Version, header};
use parking_lot::Mutex;
use tokio::time::sleep_until;

use crate::downstream::{
    BodyError, BodyLength, Connection, Downstream, RequestHead, ResponseHead, split_authority,
};
use crate::request;
use crate::route::Routed;
use crate::shared::Shared;
use crate::tls::{Alpn, CoveredNames, TlsFacts};

/// A response, as far as it was kept.
#[derive(Debug)]
pub struct Fetched {
    /// Status and fields, as a client would have got them.
    pub head: ResponseHead,
    /// The body, or its beginning.
    pub body: Bytes,
    /// The bytes of body that were sent, kept or not.
    pub length: u64,
}

impl Fetched {
    /// Whether `body` is less than what was sent.
    pub fn is_cut(&self) -> bool {
        self.body.len() as u64 != self.length
    }
}

/// Asks this daemon for a URL, as a client that sends a GET would.
///
/// `scheme` is `http` or `https`, `host` may carry a port, `target` is path and query. `headers` are
/// the request's fields but `Host`; [`asking`] gives those of a browser. At most `bound` bytes of the
/// body are kept. What is longer is still read to its end, so that it is stored whole, unless it is
/// longer than anything that is stored. Ends within [`LIMIT`].
///
/// The error says, for the operator, why there is no whole response. A response that says that
/// something went wrong (a 502, say) is a response.
pub async fn fetch(
    shared: &Arc<Shared>,
    scheme: &str,
    host: &str,
    target: &str,
    mut headers: HeaderMap,
    bound: usize,
) -> Result<Fetched, String> {
    headers.remove(header::HOST);
    let head = head(host, target, headers)?;
    let connection = Arc::new(Connection {
        id: Connection::INTERNAL,
        peer: None,
        tls: match scheme {
            "http" => None,
            "https" => Some(without_handshake()),
            _ => return Err(format!("{scheme} is neither http nor https")),
        },
    });
    let (live, certificates) = (shared.live(), &shared.certificates);
    if let Routed::Misdirected(reason) = live.router.route(&connection, &head, certificates) {
        return Err(match reason {
            "not-over-tls" => format!("{} is a site without TLS: ask for http", head.host),
            _ => format!("{} is no name of a site here", head.host),
        });
    }
    let longest = shared.cache.max_object().max(bound as u64);
    let (mut client, kept) = Internal::new(bound, longest, Instant::now() + LIMIT);
    if !request::hit(shared, &connection, &head, &mut client).await {
        // Boxed, so that a caller's future stays small.
        Box::pin(request::serve(shared, &connection, head, client)).await;
    }
    let mut kept = kept.lock();
    match (kept.head.take(), kept.end) {
        (Some(head), End::Whole | End::TooLong) => Ok(Fetched {
            head,
            length: kept.sent,
            body: std::mem::take(&mut kept.body).freeze(),
        }),
        (_, End::TooLate) => Err(format!("no whole response within {} s", LIMIT.as_secs())),
        (Some(head), End::None) => Err(format!("the response ({}) broke off", head.status)),
        (None, _) => Err("there was no response".to_owned()),
    }
}

/// The fields of a page's request, as a browser sends them: what applications and caches tell
/// variants by. `encoding` is the `Accept-Encoding`, left out where it is `None`.
pub fn asking(encoding: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static(ACCEPT));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(AGENT));
    if let Some(encoding) = encoding.and_then(|encoding| HeaderValue::from_str(encoding).ok()) {
        headers.insert(header::ACCEPT_ENCODING, encoding);
    }
    headers
}

fn head(host: &str, target: &str, headers: HeaderMap) -> Result<RequestHead, String> {
    let (host, port) = split_authority(host)
        .filter(|(host, _)| !host.is_empty())
        .ok_or_else(|| format!("{host:?} is no host"))?;
    if target.len() > LONGEST_TARGET {
        return Err(format!("the path is longer than {LONGEST_TARGET} bytes"));
    }
    let target = Some(target)
        .filter(|target| target.starts_with('/') && !target.contains('#'))
        .and_then(|target| PathAndQuery::try_from(target).ok())
        .ok_or_else(|| format!("{target:?} is no path"))?;
    Ok(RequestHead {
        method: Method::GET,
        host,
        port,
        target,
        version: Version::HTTP_11,
        headers,
        upgrade: false,
        received: Instant::now(),
    })
}

/// The facts of a connection that may ask for every host: whoever steers the daemon may.
fn without_handshake() -> TlsFacts {
    TlsFacts {
        sni: None,
        version: "none",
        cipher: "none",
        alpn: Alpn::H1,
        group: "none",
        resumed: false,
        names: Arc::new(CoveredNames::everything()),
        client: None,
    }
}

/// A client inside the daemon: it sends no body, goes away at a set time, and keeps what it gets.
pub struct Internal {
    kept: Arc<Mutex<Kept>>,
    bound: usize,
    longest: u64,
    until: Instant,
    /// What the head promised, and has not come yet.
    left: Option<u64>,
}

/// What an [`Internal`] has got. Apart from it, since a response that broke off takes its client along.
#[derive(Debug, Default)]
struct Kept {
    head: Option<ResponseHead>,
    body: BytesMut,
    sent: u64,
    end: End,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum End {
    /// It has not ended.
    #[default]
    None,
    Whole,
    /// It was left, since it is longer than it may be.
    TooLong,
    /// It was left, since its time was over.
    TooLate,
}

impl Internal {
    /// Keeps `bound` bytes of a body, reads on up to `longest`, and waits no longer than `until`.
    fn new(bound: usize, longest: u64, until: Instant) -> (Self, Arc<Mutex<Kept>>) {
        let kept = Arc::new(Mutex::new(Kept::default()));
        let client = Self {
            kept: kept.clone(),
            bound,
            longest,
            until,
            left: None,
        };
        (client, kept)
    }

    fn leave(&self, why: End) -> io::Error {
        let mut kept = self.kept.lock();
        if kept.end == End::None {
            kept.end = why;
        }
        io::ErrorKind::ConnectionAborted.into()
    }
}

impl Downstream for Internal {
    async fn read_body(&mut self) -> Result<Option<Bytes>, BodyError> {
        Ok(None)
    }

    fn body_done(&self) -> bool {
        true
    }

    async fn gone(&mut self) -> io::Error {
        sleep_until(self.until.into()).await;
        self.leave(End::TooLate)
    }

    async fn interim(&mut self, _: &ResponseHead) -> io::Result<()> {
        Ok(())
    }

    async fn start(&mut self, head: ResponseHead, length: BodyLength) -> io::Result<()> {
        self.left = match length {
            BodyLength::Exact(length) => Some(length),
            BodyLength::None => Some(0),
            BodyLength::Unknown => None,
            BodyLength::Upgrade => {
                return Err(io::Error::other("nobody asked for another protocol"));
            }
        };
        self.kept.lock().head = Some(head);
        Ok(())
    }

    async fn data(&mut self, chunk: Bytes) -> io::Result<()> {
        let sent = {
            let mut kept = self.kept.lock();
            let room = self.bound.saturating_sub(kept.body.len()).min(chunk.len());
            kept.body.extend_from_slice(&chunk[..room]);
            kept.sent += chunk.len() as u64;
            kept.sent
        };
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(chunk.len() as u64);
        }
        if sent > self.longest {
            return Err(self.leave(End::TooLong));
        }
        if Instant::now() >= self.until {
            return Err(self.leave(End::TooLate));
        }
        Ok(())
    }

    async fn finish(&mut self, _: Option<HeaderMap>) -> io::Result<()> {
        if self.left.is_some_and(|left| left > 0) {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the response's body is shorter than its length",
            ));
        }
        let mut kept = self.kept.lock();
        if kept.head.is_some() && kept.end == End::None {
            kept.end = End::Whole;
        }
        Ok(())
    }

    fn close_after(&mut self) {}

    fn started(&self) -> bool {
        self.kept.lock().head.is_some()
    }

    fn bytes_sent(&self) -> u64 {
        self.kept.lock().sent
    }

    fn bytes_received(&self) -> u64 {
        0
    }
}

/// How long a request of our own may take: less than the commands wait for an answer.
pub const LIMIT: Duration = Duration::from_secs(50);
/// As much as clients may send in one line.
const LONGEST_TARGET: usize = 16 * 1024;
const ACCEPT: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
const AGENT: &str = concat!("sovereign-proxy/", env!("CARGO_PKG_VERSION"), " (internal)");

#[cfg(test)]
mod tests;
