//! Whether a response may be stored, and which of its fields are (RFC 9111, 3).

use std::time::SystemTime;

use http::header::{AUTHORIZATION, CONTENT_LOCATION, DATE, SET_COOKIE, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode};

use crate::fields::drop_hop_by_hop;

use super::conditional::Validators;
use super::control::{RequestDirectives, ResponseControl};
use super::date;
use super::freshness::{Freshness, is_heuristically_cacheable};
use super::key::Key;
use super::range::storable_part;
use super::vary::{Vary, members};

/// A request and the head of its response, with what was read from them.
#[derive(Debug, Clone, Copy)]
pub struct Exchange<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The request's target.
    pub target: &'a Key,
    /// The request's fields, as the client sent them.
    pub request: &'a HeaderMap,
    /// The request's directives.
    pub directives: &'a RequestDirectives,
    /// The response's status.
    pub status: StatusCode,
    /// The response's fields, as the origin sent them.
    pub response: &'a HeaderMap,
    /// What the response says about caching.
    pub control: &'a ResponseControl,
    /// How fresh it is.
    pub freshness: &'a Freshness,
    /// The store can hold a part of a representation; else a 206 is never stored.
    pub holds_parts: bool,
}

/// Why a response is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotStored {
    /// The method's responses are not stored (RFC 9111, 3; RFC 9110, 9.3.3).
    Method,
    /// The status is interim, answers a condition, or is unknown beside `must-understand`.
    Status,
    /// `no-store` in the response.
    NoStore,
    /// `no-store` in the request.
    RequestNoStore,
    /// `private`.
    Private,
    /// The request had `Authorization` and nothing allows sharing (RFC 9111, 3.5).
    Authorization,
    /// `Vary: *`, or one that cannot be read.
    VaryStar,
    /// `Set-Cookie` without a lifetime of the origin's own.
    SetCookie,
    /// A 206 that cannot be trusted or held (RFC 9111, 3.3).
    Partial,
    /// A transfer coding that is not understood (RFC 9112, 6.1).
    TransferCoding,
    /// Neither lifetime nor validator: it could never be reused.
    Useless,
}

impl NotStored {
    /// The word for logs, metrics and `Cache-Status`'s `detail`; always a token.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Status => "status",
            Self::NoStore => "no-store",
            Self::RequestNoStore => "request-no-store",
            Self::Private => "private",
            Self::Authorization => "authorization",
            Self::VaryStar => "vary-star",
            Self::SetCookie => "set-cookie",
            Self::Partial => "partial",
            Self::TransferCoding => "transfer-coding",
            Self::Useless => "no-freshness-and-no-validator",
        }
    }
}

/// Whether the method may be answered from the store at all: GET and HEAD (RFC 9111, 4).
pub fn answerable(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Whether the response may be stored (RFC 9111, 3). A HEAD's never is: see [`update`](super::update).
pub fn storable(exchange: &Exchange<'_>) -> Result<(), NotStored> {
    let &Exchange {
        status,
        response,
        control,
        freshness,
        ..
    } = exchange;
    let said = &control.directives;
    // The origin itself lets others have it, for some time or without end.
    let shared = said.public || (freshness.source.is_explicit() && !freshness.lifetime.is_zero());
    let validators = Validators::of(response, freshness.received);

    if !method_allows(exchange) {
        return Err(NotStored::Method);
    }
    if !is_final_and_unconditional(status) || (said.must_understand && !is_understood(status)) {
        return Err(NotStored::Status);
    }
    if status == StatusCode::PARTIAL_CONTENT
        && !(exchange.holds_parts && storable_part(response, &validators).is_some())
    {
        return Err(NotStored::Partial);
    }
    if exchange.directives.no_store {
        return Err(NotStored::RequestNoStore);
    }
    if said.no_store && !said.must_understand {
        return Err(NotStored::NoStore);
    }
    if said.private {
        return Err(NotStored::Private);
    }
    let may_share = said.public || said.must_revalidate || said.s_maxage.is_some();
    if exchange.request.contains_key(AUTHORIZATION) && !may_share {
        return Err(NotStored::Authorization);
    }
    if Vary::of(response) == Vary::Star {
        return Err(NotStored::VaryStar);
    }
    if members(response, &TRANSFER_ENCODING).any(|coding| !coding.eq_ignore_ascii_case(b"chunked"))
    {
        return Err(NotStored::TransferCoding);
    }
    // Validated or guessed at, it would hand one visitor's cookie to another.
    if response.contains_key(SET_COOKIE) && !shared {
        return Err(NotStored::SetCookie);
    }
    let stated = freshness.source.is_explicit() || said.public;
    let lasts = [freshness.lifetime, freshness.stale_while_revalidate]
        .into_iter()
        .chain(freshness.stale_if_error)
        .any(|time| !time.is_zero());
    if !(stated || is_heuristically_cacheable(status))
        || !(lasts && !freshness.no_cache || !validators.is_empty())
    {
        return Err(NotStored::Useless);
    }
    Ok(())
}

/// The name of a cookie of a request that marks one visitor's session, among these.
pub fn session_cookie<'a>(
    headers: &HeaderMap,
    names: &'a std::collections::BTreeSet<String>,
) -> Option<&'a str> {
    if names.is_empty() {
        return None;
    }
    headers
        .get_all(http::header::COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
        .find_map(|crumb| {
            let name = crumb.split(|byte| *byte == b'=').next()?.trim_ascii();
            let name = str::from_utf8(name).ok()?;
            names.get(name).map(String::as_str)
        })
}

/// GET; and POST with a 200 that says how long it is fresh and that it is what a GET would bring (RFC 9110, 9.3.3).
fn method_allows(exchange: &Exchange<'_>) -> bool {
    if *exchange.method == Method::POST {
        return exchange.status == StatusCode::OK
            && exchange.freshness.source.is_explicit()
            && is_the_target(exchange.target, exchange.response);
    }
    *exchange.method == Method::GET
}

/// Whether the one `Content-Location` names the target itself (RFC 9110, 8.7).
fn is_the_target(target: &Key, response: &HeaderMap) -> bool {
    let mut lines = response.get_all(CONTENT_LOCATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return false;
    };
    line.to_str()
        .ok()
        .and_then(|reference| target.resolve(reference))
        .as_ref()
        == Some(target)
}

/// Whether the response answers anyone who asks: it is final, and no answer to a condition or a range that only this request had.
fn is_final_and_unconditional(status: StatusCode) -> bool {
    !status.is_informational() && !matches!(status.as_u16(), 304 | 412 | 416)
}

/// Whether we know what caching a status means (RFC 9111, 5.2.2.3): all of RFC 9110, 15 that may be stored at all.
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=206 | 300..=303 | 305 | 307 | 308 | 400..=411 | 413..=415 | 417 | 421 | 422 | 426 | 500..=505
    )
}

/// The fields to store: without hop-by-hop fields (RFC 9111, 3.1), without those named by `private="..."` and `no-cache="..."`,
/// with a `Date` where there was none (RFC 9110, 6.6.1).
pub fn stored_headers(
    response: &HeaderMap,
    control: &ResponseControl,
    received: SystemTime,
) -> HeaderMap {
    let mut stored = response.clone();
    drop_hop_by_hop(&mut stored);
    drop_withheld(&mut stored, control);
    add_date(&mut stored, received);
    stored
}

/// Gives a response that came without `Date` the time it was received (RFC 9110, 6.6.1).
pub fn add_date(headers: &mut HeaderMap, received: SystemTime) {
    headers
        .entry(DATE)
        .or_insert_with(|| date::format(received));
}

/// Removes the fields that `no-cache="..."` and `private="..."` keep from other requests.
pub(super) fn drop_withheld(headers: &mut HeaderMap, control: &ResponseControl) {
    for name in control
        .no_cache_fields
        .iter()
        .chain(&control.private_fields)
    {
        headers.remove(name);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use http::HeaderName;

    use super::super::freshness::Policy;
    use super::*;

    fn fields(lines: &[&str]) -> HeaderMap {
        let line = |line: &&str| {
            let (name, value) = line.split_once(": ").unwrap();
            (
                name.parse::<HeaderName>().unwrap(),
                value.parse::<http::HeaderValue>().unwrap(),
            )
        };
        lines.iter().map(line).collect()
    }

    /// Judges "METHOD status" with these request and response fields.
    fn judge(
        head: &str,
        request: &[&str],
        response: &[&str],
        policy: &Policy,
        parts: bool,
    ) -> Result<(), NotStored> {
        let (method, status) = head.split_once(' ').unwrap();
        let (request, response) = (fields(request), fields(response));
        let (control, status) = (ResponseControl::of(&response), status.parse().unwrap());
        let freshness = Freshness::of(status, &response, &control, UNIX_EPOCH, UNIX_EPOCH, policy);
        storable(&Exchange {
            method: &method.parse().unwrap(),
            target: &Key::new("https", "a.example", "/p?q").unwrap(),
            directives: &RequestDirectives::of(&request),
            request: &request,
            status,
            response: &response,
            control: &control,
            freshness: &freshness,
            holds_parts: parts,
        })
    }

    const FRESH: &str = "cache-control: max-age=60";
    const TAG: &str = "etag: \"a\"";

    #[test]
    #[rustfmt::skip]
    fn what_is_stored() {
        use NotStored::*;
        type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str], Result<(), NotStored>, &'a str);
        let rows: &[Row<'_>] = &[
            ("GET 200", &[], &[FRESH], Ok(()), "item 1"),
            ("GET 200", &[], &[TAG], Ok(()), "item 15: a validator will do"),
            ("GET 200", &[], &["last-modified: Thu, 01 Jan 1970 00:00:00 GMT"], Ok(()), "item 15"),
            ("GET 200", &[], &[], Err(Useless), "nothing to go by"),
            ("GET 200", &[], &["expires: 0"], Err(Useless), "stale at once, no validator"),
            ("GET 200", &[], &["expires: 0", TAG], Ok(()), "stale at once, to be validated"),
            ("GET 200", &[], &["cache-control: max-age=0, stale-if-error=9"], Ok(()), "item 19"),
            ("GET 200", &[], &["cache-control: max-age=9, no-store"], Err(NoStore), "item 6"),
            ("GET 200", &[], &["cache-control: max-age=9, private"], Err(Private), "item 6"),
            ("GET 200", &[], &["cache-control: max-age=9, private=\"a\""], Ok(()), "5.2.2.7"),
            ("GET 200", &[], &["cache-control: max-age=9, no-cache", TAG], Ok(()), "item 6"),
            ("GET 200", &[], &["cache-control: max-age=9, no-cache"], Err(Useless), "item 6"),
            ("GET 200", &[], &["cache-control: max-age=9, no-store, must-understand"], Ok(()), "item 7"),
            ("GET 499", &[], &["cache-control: max-age=9, no-store, must-understand"], Err(Status), "item 7"),
            ("GET 499", &[], &["cache-control: max-age=9, must-understand"], Err(Status), "item 7"),
            ("GET 499", &[], &[FRESH], Ok(()), "item 8: any final status"),
            ("GET 500", &[], &[FRESH], Ok(()), "item 8: any final status"),
            ("GET 302", &[], &[TAG], Err(Useless), "item 8: not without freshness"),
            ("GET 302", &[], &[TAG, "cache-control: public"], Ok(()), "9111 3: public"),
            ("GET 103", &[], &[FRESH], Err(Status), "item 8: interim"),
            ("GET 304", &[], &[FRESH], Err(Status), "an answer to a condition"),
            ("GET 412", &[], &[FRESH], Err(Status), "an answer to a condition"),
            ("GET 416", &[], &[FRESH], Err(Status), "an answer to a range"),
            ("GET 200", &["authorization: x"], &[FRESH], Err(Authorization), "item 9"),
            ("GET 200", &["authorization: x"], &["cache-control: max-age=9, public"], Ok(()), "item 9"),
            ("GET 200", &["authorization: x"], &["cache-control: s-maxage=9"], Ok(()), "item 9"),
            ("GET 200", &["authorization: x"], &["cache-control: max-age=9, must-revalidate"], Ok(()), "item 9"),
            ("GET 200", &["authorization: x"], &["cache-control: max-age=9, proxy-revalidate"], Err(Authorization), "item 9"),
            ("GET 200", &["cache-control: no-store"], &[FRESH], Err(RequestNoStore), "item 24"),
            ("GET 200", &["cookie: a=b"], &[FRESH], Ok(()), "item 12: cookies are not part of it"),
            ("GET 200", &[], &[FRESH, "vary: a, *"], Err(VaryStar), "item 14"),
            ("GET 200", &[], &[FRESH, "transfer-encoding: foo, chunked"], Err(TransferCoding), "item 13"),
            ("GET 200", &[], &[FRESH, "transfer-encoding: Chunked"], Ok(()), "item 13"),
            ("GET 200", &[], &[FRESH, "set-cookie: a=b"], Ok(()), "item 31: explicit is obeyed"),
            ("GET 200", &[], &[TAG, "set-cookie: a=b"], Err(SetCookie), "item 31"),
            ("GET 200", &[], &[TAG, "set-cookie: a=b", "cache-control: max-age=0"], Err(SetCookie), "item 31"),
            ("GET 200", &[], &[TAG, "set-cookie: a=b", "cache-control: public"], Ok(()), "explicit"),
            ("GET 206", &[], &[FRESH, TAG, "content-range: bytes 0-1/9", "content-length: 2"], Err(Partial), "item 22"),
            ("HEAD 200", &[], &[FRESH], Err(Method), "item 18: HEAD only freshens"),
            ("PUT 200", &[], &[FRESH], Err(Method), "9111 3"),
            ("FOO 200", &[], &[FRESH], Err(Method), "9111 3"),
            ("POST 200", &[], &[FRESH], Err(Method), "item 11: no Content-Location"),
            ("POST 200", &[], &[FRESH, "content-location: /p?q"], Ok(()), "item 11"),
            ("POST 200", &[], &[FRESH, "content-location: https://A.example:443/p?q"], Ok(()), "item 11"),
            ("POST 200", &[], &[FRESH, "content-location: /p"], Err(Method), "item 11: another URI"),
            ("POST 200", &[], &[TAG, "content-location: /p?q"], Err(Method), "item 11: not explicit"),
            ("POST 201", &[], &[FRESH, "content-location: /p?q"], Err(Method), "item 11: not 200"),
            ("GET 200", &[], &["cdn-cache-control: max-age=9", "cache-control: no-store"], Ok(()), "item 28"),
        ];
        for (head, request, response, wanted, checks) in rows {
            let found = judge(head, request, response, &Policy::default(), false);
            assert_eq!(found, *wanted, "{checks}: {head} {request:?} {response:?}");
        }
    }

    /// Item 31.
    #[test]
    #[rustfmt::skip]
    fn the_operators_lifetime() {
        let policy = Policy { lifetime: Some(Duration::from_secs(9)), ..Policy::default() };
        let judge = |response: &[&str]| judge("GET 200", &[], response, &policy, false);
        assert_eq!(judge(&[]), Ok(()));
        assert_eq!(judge(&["set-cookie: a=b"]), Err(NotStored::SetCookie));
        assert_eq!(judge(&["cache-control: private"]), Err(NotStored::Private));
    }

    /// Item 22.
    #[test]
    #[rustfmt::skip]
    fn parts() {
        let judge = |response: &[&str]| judge("GET 206", &[], response, &Policy::default(), true);
        let range = "content-range: bytes 0-1/9";
        assert_eq!(judge(&[FRESH, TAG, range, "content-length: 2"]), Ok(()));
        assert_eq!(judge(&[FRESH, TAG, range, "content-length: 3"]), Err(NotStored::Partial));
    }

    /// Items 6 and 10.
    #[test]
    #[rustfmt::skip]
    fn fields_that_are_stored() {
        let response = fields(&[
            "connection: close, X-Hop , content-length",
            "x-hop: 1",
            "keep-alive: 1",
            "transfer-encoding: chunked",
            "content-length: 3",
            "set-cookie: a=b",
            "set-cookie: c=d",
            "content-range: x",
            "expires: 0",
            "x-one: 1",
            "x-two: 2",
            "cache-control: no-cache=\"x-one\", private=\"x-two\"",
        ]);
        let stored = stored_headers(&response, &ResponseControl::of(&response), UNIX_EPOCH);
        let names: Vec<_> = stored.keys().map(HeaderName::as_str).collect();
        let wanted = ["content-length", "set-cookie", "content-range", "expires", "cache-control", "date"];
        assert_eq!(names.len(), wanted.len(), "{names:?}");
        assert!(wanted.iter().all(|name| names.contains(name)), "{names:?}");
        assert_eq!(stored.get_all(SET_COOKIE).iter().count(), 2);
        assert_eq!(stored[DATE], "Thu, 01 Jan 1970 00:00:00 GMT", "9110 6.6.1");
        let dated = fields(&["date: nonsense"]);
        let stored = stored_headers(&dated, &ResponseControl::default(), UNIX_EPOCH);
        assert_eq!(stored[DATE], "nonsense", "item 21: untouched");
    }
}
