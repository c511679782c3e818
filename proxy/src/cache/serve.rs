//! Answering a client out of the store: the client's conditions, ranges, and the two fields that
//! differ from one use to the next, `Age` and `Cache-Status`.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::body::Body;
use super::coding::{self, Coding, Form};
use super::conditional::{self, Condition};
use super::entry::Entry;
use super::parts::Parts;
use super::range::{self, ByteRange, Multipart, Ranges};
use super::status::CacheStatus;
use crate::downstream::{BodyLength, Downstream, RequestHead, ResponseHead, StoredHead};
use crate::response::CACHE_STATUS;

/// What is read from disk at once for one client, in bytes.
pub const PIECE: u64 = 128 * 1024;

/// Whether the answer may come in several pieces, and so may have to wait for the client.
pub fn comes_in_pieces(request: &RequestHead, entry: &Entry) -> bool {
    matches!(entry.body, Body::Disk(_))
        || request
            .headers
            .get(header::RANGE)
            .is_some_and(|ranges| ranges.as_bytes().contains(&b','))
}

/// What a client gets of an entry: a head made ready for it, and one of the bodies, or none.
pub struct Representation {
    head: Arc<StoredHead>,
    body: Body,
    /// The client has it already.
    not_modified: bool,
}

/// Chooses what a request gets of an entry. The second value is a coding that it would have liked
/// better, but that has not been made.
pub fn representation(
    request: &RequestHead,
    entry: &Entry,
    dress: impl FnOnce(Option<Coding>) -> Arc<StoredHead>,
) -> (Representation, Option<Coding>) {
    if conditional::has_condition(&request.headers)
        && let Some(form) = not_modified(request, entry)
    {
        let chosen = Representation {
            head: dress(form),
            body: entry.body.clone(),
            not_modified: true,
        };
        return (chosen, None);
    }
    // Parts are parts of the identity body.
    let liked = (entry.compress && !request.headers.contains_key(header::RANGE))
        .then(|| coding::preferred(&request.headers))
        .flatten();
    let made = liked.and_then(|coding| {
        let body = entry.coded[coding.index()].clone()?;
        Some((coding, Body::Memory(body)))
    });
    let missing = liked.filter(|_| made.is_none());
    let (coding, body) = match made {
        Some((coding, body)) => (Some(coding), body),
        None => (None, entry.body.clone()),
    };
    let chosen = Representation {
        head: dress(coding),
        body,
        not_modified: false,
    };
    (chosen, missing)
}

/// The form of an entry that the client has already, by its own conditions; the outer `None` where it
/// has none.
fn not_modified(request: &RequestHead, entry: &Entry) -> Option<Option<Coding>> {
    let (method, headers) = (&request.method, &request.headers);
    let (status, validators) = (entry.head.status, &entry.validators);
    if !entry.compress {
        let condition = conditional::evaluate(method, headers, status, validators);
        return (condition == Condition::NotModified).then_some(None);
    }
    let (condition, form) = coding::evaluate(method, headers, status, validators);
    (condition == Condition::NotModified).then(|| match form {
        Some(Form::Coded(coding)) => Some(coding),
        Some(Form::Identity) => None,
        None => coding::preferred(headers).filter(|coding| entry.coded[coding.index()].is_some()),
    })
}

/// Answers a request with a stored response; gives the status that was sent.
pub async fn serve<D: Downstream>(
    client: &mut D,
    request: &RequestHead,
    entry: &Entry,
    chosen: &Representation,
    status: &CacheStatus<'_>,
    age: u64,
) -> io::Result<StatusCode> {
    if chosen.not_modified {
        let mut head = ResponseHead {
            status: StatusCode::NOT_MODIFIED,
            headers: conditional::not_modified(chosen.head.headers()),
        };
        told(&mut head.headers, status, age);
        client.respond(head, BodyLength::None, Bytes::new()).await?;
        return Ok(StatusCode::NOT_MODIFIED);
    }
    let in_parts = entry.head.status == StatusCode::OK
        && request.headers.contains_key(header::RANGE)
        && (!entry.compress || coding::may_answer_range(&request.headers));
    if in_parts {
        let length = entry.body.length();
        let asked = range::resolve(&request.method, &request.headers, length, &entry.validators);
        if asked != Ranges::Whole {
            let headers = chosen.head.headers().clone();
            return ranges(client, Source::Entry(entry), headers, asked, status, age).await;
        }
    }
    let body = match &chosen.body {
        _ if request.method == Method::HEAD => None,
        Body::Memory(body) => Some(body.clone()),
        Body::Disk(stored) => {
            let mut head = ResponseHead {
                status: entry.head.status,
                headers: chosen.head.headers().clone(),
            };
            told(&mut head.headers, status, age);
            client.start(head, BodyLength::Exact(stored.len())).await?;
            send(client, entry, 0..stored.len()).await?;
            client.finish(None).await?;
            return Ok(entry.head.status);
        }
    };
    let mut digits = itoa::Buffer::new();
    let mut told = Vec::with_capacity(64);
    status.write(&mut told);
    let extra: [(&'static str, &[u8]); 2] = [
        ("age", digits.format(age).as_bytes()),
        ("cache-status", &told),
    ];
    client.respond_stored(&chosen.head, &extra, body).await?;
    Ok(entry.head.status)
}

/// Sends a part of a body, piece by piece where it is on disk: as much as fits, so that a slow
/// client holds one piece and not the whole.
async fn send<D: Downstream>(client: &mut D, entry: &Entry, range: Range<u64>) -> io::Result<()> {
    match &entry.body {
        // The range lies inside the body, so it fits a usize.
        Body::Memory(bytes) => {
            let part = bytes.slice(range.start as usize..range.end as usize);
            client.data(part).await
        }
        Body::Disk(stored) => {
            let mut at = range.start;
            while at < range.end {
                let piece = match stored.read(at..range.end.min(at + PIECE)).await {
                    Ok(piece) if !piece.is_empty() => piece,
                    unread => {
                        entry.mark_damaged();
                        return Err(unread.err().unwrap_or(io::ErrorKind::UnexpectedEof.into()));
                    }
                };
                at += piece.len() as u64;
                client.data(piece).await?;
            }
            Ok(())
        }
    }
}

/// What ranges are taken of.
enum Source<'a> {
    /// A stored response.
    Entry(&'a Entry),
    /// Parts of one; all that is asked for is among them.
    Parts(&'a Parts),
}

impl Source<'_> {
    fn length(&self) -> u64 {
        match self {
            Self::Entry(entry) => entry.body.length(),
            Self::Parts(parts) => parts.length(),
        }
    }

    async fn send<D: Downstream>(&self, client: &mut D, range: &ByteRange) -> io::Result<()> {
        match self {
            Self::Entry(entry) => send(client, entry, range.first..range.last + 1).await,
            Self::Parts(parts) => {
                for piece in parts.slice(range).unwrap_or_default() {
                    client.data(piece).await?;
                }
                Ok(())
            }
        }
    }
}

/// Answers with one range, several, or none that can be satisfied (RFC 9110 section 14), and the fields
/// `headers`; gives the status that was sent.
async fn ranges<D: Downstream>(
    client: &mut D,
    source: Source<'_>,
    headers: HeaderMap,
    ranges: Ranges,
    status: &CacheStatus<'_>,
    age: u64,
) -> io::Result<StatusCode> {
    let length = source.length();
    let mut head = ResponseHead {
        status: StatusCode::PARTIAL_CONTENT,
        headers,
    };
    told(&mut head.headers, status, age);
    match ranges {
        Ranges::Single(part) => {
            let range = part.content_range(length);
            head.headers.insert(header::CONTENT_RANGE, range);
            let exact = BodyLength::Exact(part.len());
            if let Source::Entry(entry) = &source
                && let Body::Memory(body) = &entry.body
            {
                // The range lies inside the body, so it fits a usize.
                let body = body.slice(part.first as usize..=part.last as usize);
                client.respond(head, exact, body).await?;
                return Ok(StatusCode::PARTIAL_CONTENT);
            }
            client.start(head, exact).await?;
            source.send(client, &part).await?;
        }
        Ranges::Multi(parts) => {
            let kind = head.headers.get(header::CONTENT_TYPE);
            let frame = Multipart::new(parts, length, kind, boundary_seed());
            let kind = frame.content_type();
            head.headers.insert(header::CONTENT_TYPE, kind);
            // Piece by piece, so that no second copy of the body comes to be.
            let exact = BodyLength::Exact(frame.content_length());
            client.start(head, exact).await?;
            for (number, part) in frame.ranges().iter().enumerate() {
                client.data(frame.head(number)).await?;
                source.send(client, part).await?;
            }
            client.data(frame.end()).await?;
        }
        Ranges::Unsatisfiable => {
            head.status = StatusCode::RANGE_NOT_SATISFIABLE;
            let range = range::unsatisfied(length);
            head.headers.insert(header::CONTENT_RANGE, range);
            let none = BodyLength::Exact(0);
            client.respond(head, none, Bytes::new()).await?;
            return Ok(StatusCode::RANGE_NOT_SATISFIABLE);
        }
        Ranges::Whole => {
            head.status = StatusCode::OK;
            client.start(head, BodyLength::Exact(length)).await?;
            if let Some(last) = length.checked_sub(1) {
                source.send(client, &ByteRange { first: 0, last }).await?;
            }
            client.finish(None).await?;
            return Ok(StatusCode::OK);
        }
    }
    client.finish(None).await?;
    Ok(StatusCode::PARTIAL_CONTENT)
}

/// Answers a request out of parts, with the fields `headers`; gives the status that was sent.
pub async fn serve_parts<D: Downstream>(
    client: &mut D,
    headers: HeaderMap,
    parts: &Parts,
    asked: Vec<ByteRange>,
    status: &CacheStatus<'_>,
    age: u64,
) -> io::Result<StatusCode> {
    let asked = match <[ByteRange; 1]>::try_from(asked) {
        Ok([only]) => Ranges::Single(only),
        Err(several) => Ranges::Multi(several),
    };
    ranges(client, Source::Parts(parts), headers, asked, status, age).await
}

/// The head of a response on its way, as one of its readers gets it.
pub fn stream_head(live: &ResponseHead, status: &CacheStatus<'_>) -> ResponseHead {
    let mut head = live.clone();
    if let Ok(value) = HeaderValue::from_str(&status.to_string()) {
        head.headers.append(CACHE_STATUS, value);
    }
    head
}

fn told(headers: &mut HeaderMap, status: &CacheStatus<'_>, age: u64) {
    headers.insert(header::AGE, HeaderValue::from(age));
    if let Ok(value) = HeaderValue::from_str(&status.to_string()) {
        headers.append(CACHE_STATUS, value);
    }
}

/// Differs from one response to the next, so that no body can be made to contain its boundary.
fn boundary_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}
