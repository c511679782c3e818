//! Compression of stored responses (RFC 9110, 8.4 and 12.5.3).
//!
//! The store keeps the identity body. Beside it come coded ones, each made once, in the background, when a client that accepts it asks
//! for the page. Only what is stored is compressed, so the work is done once for many clients and can be thorough. All here is pure;
//! when to make a body, and where to keep it, is decided elsewhere.
//!
//! A coded response is a representation of its own, so its strong `ETag` is its own too: that of the identity, with the coding's name
//! behind it. What follows from that:
//!
//! - A 304 confirms the form whose tag the client named, if the client still accepts that coding: [`evaluate`].
//! - Parts are taken from the identity body only. A coded body may be made again by another release of its encoder, and other bytes
//!   under the same tag must never be joined to the first. So an `If-Range` with a coded form's tag does not hold, and the client gets
//!   the whole; neither does one with a date, which cannot tell the forms apart: [`may_answer_range`].
//! - An origin knows its own tags only: [`for_origin`] gives them back to it.

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_RANGE, CONTENT_TYPE, COOKIE, ETAG, IF_MATCH, IF_NONE_MATCH, IF_RANGE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use self::accept::Accepted;
use super::conditional::{self, Condition, Validators, next_tag, strong_eq, weak_eq};
use super::control::CDN_CACHE_CONTROL;
use crate::fields::has_token;

mod accept;
mod encode;

/// A content coding that can be made here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// Brotli (RFC 7932).
    Brotli,
    /// Zstandard (RFC 8878, with the window of RFC 9659).
    Zstd,
    /// Gzip (RFC 1952).
    Gzip,
}

impl Coding {
    /// All of them, best first: the order among codings that a client likes equally. On pages, style sheets and scripts, and at the
    /// levels chosen here, Brotli came out 1 to 17 % smaller than Zstandard, and Zstandard 2 to 7 % smaller than gzip
    /// (25 % at 3.5 MB).
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// Its name in `Content-Encoding` and `Accept-Encoding`, in metrics, and behind an `ETag`.
    pub fn token(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// Its place in [`ALL`](Self::ALL).
    pub fn index(self) -> usize {
        match self {
            Self::Brotli => 0,
            Self::Zstd => 1,
            Self::Gzip => 2,
        }
    }
}

/// A form in which a stored response can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it is stored.
    Identity,
    /// Compressed.
    Coded(Coding),
}

/// Whether a stored response is worth compressing, by its status, its fields as stored, and the `length` of its body in bytes: 1 KiB to
/// 8 MiB of text, or of what compresses like it. Not where someone has coded it already, forbids it (`no-transform`, RFC 9110, 7.7), or
/// has computed a digest of the bytes; and not where it was made for a cookie or a login, whose secrets its size could give away
/// (the attack called BREACH).
pub fn is_worth_it(status: StatusCode, headers: &HeaderMap, length: u64) -> bool {
    status == StatusCode::OK
        && (LEAST..=encode::MOST as u64).contains(&length)
        && headers.get(CONTENT_TYPE).is_some_and(is_compressible)
        && !BOUND_TO_THE_BYTES
            .iter()
            .any(|name| headers.contains_key(name))
        && ![CACHE_CONTROL, CDN_CACHE_CONTROL]
            .iter()
            .any(|name| has_token(headers, name, "no-transform"))
        && ![COOKIE, AUTHORIZATION]
            .iter()
            .any(|name| has_token(headers, &VARY, name.as_str()))
}

/// The coding that a client likes best among those that can be made here, by its `Accept-Encoding` (RFC 9110, 12.5.3). None: it gets
/// the identity, also where it refuses that and everything else. Does not allocate.
pub fn preferred(request: &HeaderMap) -> Option<Coding> {
    Accepted::of(request).best()
}

/// Codes a body. None where that does not make it smaller by at least 5 %, or where it is longer than 8 MiB: then it is not to be tried
/// again. Blocking: it computes for up to half a second, in up to 45 MiB of memory, so not many are to run at once.
pub fn encode(coding: Coding, body: &[u8]) -> Option<Bytes> {
    encode::encode(coding, body)
}

/// What [`encode()`] takes of memory while it works on a body of `length` bytes, at the most, in bytes.
pub fn memory(length: usize) -> u64 {
    encode::memory(length)
}

/// Makes the head of an identity response that of its coded form, whose body has `length` bytes: `Content-Encoding`, `Content-Length`,
/// a strong `ETag` with the coding's name behind it (`"abc"` becomes `"abc-br"`), and [`vary`]. A weak tag stays: it stands for all
/// forms that mean the same (RFC 9110, 8.8.1). No `Accept-Ranges`: there are no parts of it. To be done last, after the operator's
/// changes of fields: a `Vary` set by those would hide ours from caches behind us.
pub fn dress(headers: &mut HeaderMap, coding: Coding, length: u64) {
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.token()));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.remove(ACCEPT_RANGES);
    if let Some(tag) = headers.get(ETAG).and_then(|tag| suffixed(tag, coding)) {
        headers.insert(ETAG, tag);
    }
    vary(headers);
}

/// Adds `Vary: Accept-Encoding` to a response that has, or may get, coded forms; the identity itself included (RFC 9110, 12.5.5).
pub fn vary(headers: &mut HeaderMap) {
    if !has_token(headers, &VARY, ACCEPT_ENCODING.as_str()) && !has_token(headers, &VARY, "*") {
        headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// Judges the conditions of a request as [`conditional::evaluate`] does, where the stored response [`is_worth_it`]; `validators` are
/// those of the identity. The form is the one that `If-None-Match` names: a 304 carries the fields of that one, whether or not its body
/// is at hand. Where no form is given, they are the fields of what a 200 would send (RFC 9110, 15.4.5).
pub fn evaluate(
    method: &Method,
    request: &HeaderMap,
    status: StatusCode,
    validators: &Validators,
) -> (Condition, Option<Form>) {
    let condition = conditional::evaluate(method, request, status, validators);
    if condition == Condition::ForOrigin
        || !status.is_success()
        || !matches!(*method, Method::GET | Method::HEAD)
    {
        return (condition, None);
    }
    match validators.strong_etag().and_then(|tag| named(request, tag)) {
        Some(form) => (Condition::NotModified, Some(form)),
        None => (condition, None),
    }
}

/// Whether a `Range` may be answered with a part of the identity body, where the response [`is_worth_it`]; else as if there were no
/// `Range`. A date in `If-Range` is the same for all forms, and the client may hold the beginning of a coded one: a validator that two
/// representations share is a weak one, and does not hold (RFC 9110, 8.8.1 and 13.1.5). Of tags, the usual comparison with the stored
/// one lets only that of the identity hold.
pub fn may_answer_range(request: &HeaderMap) -> bool {
    request
        .get(IF_RANGE)
        .is_none_or(|line| line.as_bytes().starts_with(b"\""))
}

/// Gives an origin its own tag back, `stored`, where `If-Match` names a coded form of it: else a client that has read a coded form
/// could change nothing, for the origin would answer 412 (RFC 9110, 13.1.1). `If-None-Match` stays: that the origin does not
/// know the tag only makes it answer with the whole.
pub fn for_origin(request: &mut HeaderMap, stored: &HeaderValue) {
    let is_ours = |tag: &[u8]| Coding::ALL.iter().any(|c| is_suffixed(tag, stored, *c));
    let names_ours = request.get_all(IF_MATCH).iter().any(|line| {
        let mut rest = line.as_bytes();
        std::iter::from_fn(|| next_tag(&mut rest)).any(is_ours)
    });
    if !names_ours {
        return;
    }
    let mut list = Vec::new();
    for line in request.get_all(IF_MATCH) {
        let mut rest = line.as_bytes();
        while let Some(tag) = next_tag(&mut rest) {
            if !list.is_empty() {
                list.extend_from_slice(b", ");
            }
            let ours = is_ours(tag);
            list.extend_from_slice(if ours { stored.as_bytes() } else { tag });
        }
    }
    // Pieces of values, put together, are a value.
    if let Ok(list) = HeaderValue::from_bytes(&list) {
        request.insert(IF_MATCH, list);
    }
}

/// The form of a response with this strong tag that `If-None-Match` names: the client's favourite if it is among several. Coded ones
/// count only where the client accepts them: a cache behind us lists the tags of all forms it holds, and would answer a client
/// of its own with the one that a 304 names (RFC 9111, 4.3.4).
fn named(request: &HeaderMap, stored: &HeaderValue) -> Option<Form> {
    let mut identity = false;
    let mut coded = [false; Coding::ALL.len()];
    for line in request.get_all(IF_NONE_MATCH) {
        let mut rest = line.as_bytes();
        while let Some(tag) = next_tag(&mut rest) {
            identity |= weak_eq(tag, stored.as_bytes());
            for (coding, found) in Coding::ALL.iter().zip(&mut coded) {
                *found |= is_suffixed(tag.strip_prefix(b"W/").unwrap_or(tag), stored, *coding);
            }
        }
    }
    if !identity && !coded.contains(&true) {
        return None;
    }
    let accepted = Accepted::of(request);
    Coding::ALL
        .into_iter()
        .zip(coded)
        .filter(|(coding, found)| *found && accepted.weight(*coding) > 0)
        .map(|(coding, _)| coding)
        .reduce(|one, other| {
            let better = accepted.weight(other) > accepted.weight(one);
            if better { other } else { one }
        })
        .map(Form::Coded)
        .or(identity.then_some(Form::Identity))
}

/// The tag of a coded form; none where the tag is no strong one.
fn suffixed(tag: &HeaderValue, coding: Coding) -> Option<HeaderValue> {
    let tag = tag.as_bytes();
    if !strong_eq(tag, tag) {
        return None;
    }
    let opened = tag.strip_suffix(b"\"")?;
    HeaderValue::from_bytes(&[opened, MARK, coding.token().as_bytes(), b"\""].concat()).ok()
}

/// Whether a strong tag is [`suffixed`]`(stored, coding)`. Does not allocate.
fn is_suffixed(tag: &[u8], stored: &HeaderValue, coding: Coding) -> bool {
    let opened = tag
        .strip_suffix(b"\"")
        .and_then(|tag| tag.strip_suffix(coding.token().as_bytes()))
        .and_then(|tag| tag.strip_suffix(MARK));
    let stored = stored.as_bytes();
    strong_eq(stored, stored)
        && opened.is_some_and(|opened| stored.strip_suffix(b"\"") == Some(opened))
}

/// Whether content of a type compresses: text, and what is written like it; and binary formats that leave compression to others.
fn is_compressible(content_type: &HeaderValue) -> bool {
    let value = content_type.as_bytes();
    let essence = value.split(|b| *b == b';').next().unwrap_or(value);
    let essence = essence.trim_ascii();
    let begins = |text: &str| {
        let start = essence.get(..text.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(text.as_bytes()))
    };
    let ends = |text: &str| {
        let at = essence.len().checked_sub(text.len());
        let end = at.and_then(|at| essence.get(at..));
        end.is_some_and(|end| end.eq_ignore_ascii_case(text.as_bytes()))
    };
    begins("text/")
        || SUFFIXES.iter().any(|suffix| ends(suffix))
        || TYPES
            .iter()
            .any(|name| essence.eq_ignore_ascii_case(name.as_bytes()))
}

/// Below this, in bytes, a body goes out in one packet with its head, coded or not.
const LEAST: u64 = 1024;

/// What stands between a tag and the name of a coding.
const MARK: &[u8] = b"-";

/// Fields that say what the bytes are, or which of them: with one of these, a body stays as it is. Digests and signatures (RFC 9530,
/// RFC 9421, RFC 3230, RFC 1864) would no longer be true.
const BOUND_TO_THE_BYTES: [HeaderName; 7] = [
    CONTENT_ENCODING,
    CONTENT_RANGE,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("signature"),
];

/// Structured syntaxes that are text (RFC 6838, 4.2.8).
const SUFFIXES: [&str; 3] = ["+json", "+xml", "+yaml"];

/// Types that compress, beside `text/*` and [`SUFFIXES`]. Not WOFF, WOFF2 and most images: they are compressed already.
const TYPES: [&str; 29] = [
    "application/json",
    "application/json-seq",
    "application/jsonl",
    "application/x-ndjson",
    "application/javascript",
    "application/x-javascript",
    "application/ecmascript",
    "application/xml",
    "application/xml-dtd",
    "application/yaml",
    "application/x-yaml",
    "application/toml",
    "application/graphql",
    "application/sql",
    "application/rtf",
    "application/x-sh",
    "application/vnd.apple.mpegurl",
    "application/wasm",
    "application/vnd.ms-fontobject",
    "application/x-font-ttf",
    "application/x-font-otf",
    "font/ttf",
    "font/otf",
    "font/sfnt",
    "font/collection",
    "image/bmp",
    "image/x-icon",
    "image/vnd.microsoft.icon",
    "model/obj",
];

#[cfg(test)]
mod tests;
