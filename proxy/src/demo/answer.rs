//! The answers: how content becomes a response, and bodies that are made while they are sent.

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Frame, SizeHint};
use hyper::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderValue, IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Response, StatusCode};

/// The body of every response.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Something that lies ready in full, to be sent or confirmed.
pub(super) struct Content {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) cache: &'static str,
    pub(super) body: Bytes,
}

impl Content {
    /// The answer to a request with the fields `request`: the content, or 304 where the client has it.
    pub(super) fn respond(self, request: &HeaderMap) -> Response<Body> {
        let etag = format!("\"{:016x}\"", fingerprint(&self.body));
        let known = self.status == StatusCode::OK && names(request, &etag);
        let mut response = if known {
            let mut response = Response::new(Empty::new().boxed_unsync());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else {
            full(self.status, self.content_type, self.body)
        };
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(self.cache));
        if self.status == StatusCode::OK {
            // Hexadecimal digits between quotes are a valid field value.
            if let Ok(etag) = HeaderValue::try_from(etag) {
                headers.insert(ETAG, etag);
            }
        }
        if self.content_type == HTML {
            headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        }
        response
    }
}

/// What two bodies have in common only if they are the same.
pub(super) fn fingerprint(body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    hasher.finish()
}

/// Plain text that no cache may keep.
pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    uncached(full(status, TEXT, text.into()))
}

/// JSON that no cache may keep.
pub(super) fn json(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    uncached(full(
        status,
        "application/json",
        format!("{value}\n").into(),
    ))
}

/// Five lines of text, `pause` apart; the first at once.
pub(super) fn stream(pause: Duration) -> Response<Body> {
    let lines = Lines {
        sent: 0,
        ticks: tokio::time::interval(pause),
    };
    let mut response = Response::new(lines.boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    uncached(response)
}

/// A large file, the same one each time, made as it is sent.
pub(super) fn download() -> Response<Body> {
    let noise = Noise {
        left: DOWNLOAD,
        state: SEED,
    };
    let mut response = Response::new(noise.boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(DOWNLOAD));
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(
        hyper::header::CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment; filename=\"demonstration.bin\""),
    );
    uncached(response)
}

/// To a HEAD goes the response without its body, its fields as they are.
pub(super) fn for_method(method: &Method, response: Response<Body>) -> Response<Body> {
    if method == Method::HEAD {
        response.map(|_| Empty::new().boxed_unsync())
    } else {
        response
    }
}

fn full(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Body> {
    let length = body.len();
    let mut response = Response::new(Full::new(body).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    // Said here, not left to hyper: it has to stand in the answer to a HEAD as well.
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn uncached(mut response: Response<Body>) -> Response<Body> {
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static(NO_STORE));
    response
}

/// Whether `If-None-Match` names `etag`, by the weak comparison: a cache that compressed the body marks it weak.
fn names(request: &HeaderMap, etag: &str) -> bool {
    request
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|field| field.to_str().ok())
        .flat_map(|field| field.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == etag)
}

struct Lines {
    sent: u8,
    ticks: tokio::time::Interval,
}

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.sent == LINES {
            return Poll::Ready(None);
        }
        self.ticks.poll_tick(context).map(|_| {
            self.sent += 1;
            let line = format!("Line {} of {LINES}\n", self.sent);
            Some(Ok(Frame::data(line.into())))
        })
    }
}

/// The bytes of the download: a xorshift generator's, so that nothing on the way can shrink them.
struct Noise {
    left: u64,
    state: u64,
}

impl hyper::body::Body for Noise {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let mut block = Vec::with_capacity(BLOCK);
        while block.len() < BLOCK {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            block.extend_from_slice(&self.state.to_le_bytes());
        }
        self.left -= BLOCK as u64; // DOWNLOAD is a multiple of BLOCK
        Poll::Ready(Some(Ok(Frame::data(block.into()))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Pages. Short, so that one sees them go stale; usable for a day while the origin is away.
pub(super) const PAGE: &str = "public, max-age=10, stale-while-revalidate=30, stale-if-error=86400";
/// Style sheets, scripts, images. Pages name them by version.
pub(super) const ASSET: &str =
    "public, max-age=3600, stale-while-revalidate=60, stale-if-error=86400";
/// The feed, the site map, the rules for robots.
pub(super) const FEED: &str = "public, max-age=60, stale-while-revalidate=60, stale-if-error=86400";
/// Pages that are not there.
pub(super) const MISSING: &str = "public, max-age=10";
/// Pages for one visitor.
pub(super) const PRIVATE: &str = "private";
const NO_STORE: &str = "no-store";

/// The type of every page.
pub(super) const HTML: &str = "text/html; charset=utf-8";
/// The type of plain text.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";

/// Everything a page needs comes from the site itself.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const LINES: u8 = 5;
const DOWNLOAD: u64 = 64 * 1024 * 1024;
const BLOCK: usize = 64 * 1024;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
