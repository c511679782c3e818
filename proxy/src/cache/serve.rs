//! Answering a client out of the store: the client's conditions, ranges, and the two fields that
//! differ from one use to the next, `Age` and `Cache-Status`.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::conditional::{self, Condition};
use super::entry::Entry;
use super::range::{self, Multipart, Ranges};
use super::status::CacheStatus;
use crate::downstream::{BodyLength, Downstream, RequestHead, ResponseHead, StoredHead};
use crate::response::CACHE_STATUS;

/// Whether the answer may come in several pieces, and so may have to wait for the client.
pub fn comes_in_pieces(request: &RequestHead) -> bool {
    request
        .headers
        .get(header::RANGE)
        .is_some_and(|ranges| ranges.as_bytes().contains(&b','))
}

/// Answers a request with a stored response; gives the status that was sent.
pub async fn serve<D: Downstream>(
    client: &mut D,
    request: &RequestHead,
    entry: &Entry,
    dressed: &Arc<StoredHead>,
    status: &CacheStatus<'_>,
    age: u64,
) -> io::Result<StatusCode> {
    let conditional = conditional::has_condition(&request.headers)
        && conditional::evaluate(
            &request.method,
            &request.headers,
            entry.head.status,
            &entry.validators,
        ) == Condition::NotModified;
    if conditional {
        let mut head = ResponseHead {
            status: StatusCode::NOT_MODIFIED,
            headers: conditional::not_modified(dressed.headers()),
        };
        told(&mut head.headers, status, age);
        client.respond(head, BodyLength::None, Bytes::new()).await?;
        return Ok(StatusCode::NOT_MODIFIED);
    }
    if entry.head.status == StatusCode::OK && request.headers.contains_key(header::RANGE) {
        let length = entry.body.len() as u64;
        let ranges = range::resolve(&request.method, &request.headers, length, &entry.validators);
        if ranges != Ranges::Whole {
            return parts(client, entry, dressed, ranges, status, age).await;
        }
    }
    let mut digits = itoa::Buffer::new();
    let mut told = Vec::with_capacity(64);
    status.write(&mut told);
    let extra: [(&'static str, &[u8]); 2] = [
        ("age", digits.format(age).as_bytes()),
        ("cache-status", &told),
    ];
    let body = (request.method != Method::HEAD).then(|| entry.body.clone());
    client.respond_stored(dressed, &extra, body).await?;
    Ok(entry.head.status)
}

/// One range, several, or none that can be satisfied (RFC 9110 section 14).
async fn parts<D: Downstream>(
    client: &mut D,
    entry: &Entry,
    dressed: &Arc<StoredHead>,
    ranges: Ranges,
    status: &CacheStatus<'_>,
    age: u64,
) -> io::Result<StatusCode> {
    let length = entry.body.len() as u64;
    let mut head = ResponseHead {
        status: StatusCode::PARTIAL_CONTENT,
        headers: dressed.headers().clone(),
    };
    // `resolve` gives ranges that lie inside the body, so they fit a usize.
    let slice =
        |part: &range::ByteRange| entry.body.slice(part.first as usize..=part.last as usize);
    let body = match ranges {
        Ranges::Whole => entry.body.clone(),
        Ranges::Single(part) => {
            head.headers
                .insert(header::CONTENT_RANGE, part.content_range(length));
            slice(&part)
        }
        Ranges::Multi(parts) => {
            let kind = head.headers.get(header::CONTENT_TYPE);
            let frame = Multipart::new(parts, length, kind, boundary_seed());
            head.headers
                .insert(header::CONTENT_TYPE, frame.content_type());
            told(&mut head.headers, status, age);
            // Piece by piece, so that no second copy of the body comes to be.
            let length = BodyLength::Exact(frame.content_length());
            client.start(head, length).await?;
            for (number, part) in frame.ranges().iter().enumerate() {
                client.data(frame.head(number)).await?;
                client.data(slice(part)).await?;
            }
            client.data(frame.end()).await?;
            client.finish(None).await?;
            return Ok(StatusCode::PARTIAL_CONTENT);
        }
        Ranges::Unsatisfiable => {
            head.status = StatusCode::RANGE_NOT_SATISFIABLE;
            head.headers
                .insert(header::CONTENT_RANGE, range::unsatisfied(length));
            Bytes::new()
        }
    };
    told(&mut head.headers, status, age);
    let length = BodyLength::Exact(body.len() as u64);
    let sent = head.status;
    client.respond(head, length, body).await?;
    Ok(sent)
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
