//! Conditions: those of clients, judged against a stored response; and our own, to ask an upstream with (RFC 9110, 13; RFC 9111, 4.3).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{
    CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::control::CDN_CACHE_CONTROL;
use super::date;

/// The validators of a stored response, parsed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validators {
    /// `ETag`, as received (RFC 9110, 8.8.3).
    pub etag: Option<HeaderValue>,
    /// `Last-Modified` (RFC 9110, 8.8.2).
    pub last_modified: Option<SystemTime>,
    /// `Date`, else the time of receipt.
    pub date: SystemTime,
}

impl Validators {
    /// Reads them from the fields of a response received at `received`.
    pub fn of(response: &HeaderMap, received: SystemTime) -> Self {
        Self {
            etag: response.get(ETAG).cloned(),
            last_modified: date::field(response, &LAST_MODIFIED, received),
            date: date::field(response, &DATE, received).unwrap_or(received),
        }
    }

    /// Whether there is anything to ask an upstream with.
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }

    /// The `ETag`, where it is a strong one (RFC 9110, 8.8.1).
    pub fn strong_etag(&self) -> Option<&HeaderValue> {
        self.etag
            .as_ref()
            .filter(|tag| strong_eq(tag.as_bytes(), tag.as_bytes()))
    }

    /// `Last-Modified`, where it is at least a second before `Date` and so a strong validator (RFC 9110, 8.8.2.2).
    pub fn strong_last_modified(&self) -> Option<SystemTime> {
        let second = Duration::from_secs(1);
        self.last_modified
            .filter(|lm| self.date.duration_since(*lm).is_ok_and(|age| age >= second))
    }
}

/// What a request's conditions come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// There is none, or it holds: answer with the stored response.
    Proceed,
    /// Answer 304 with [`not_modified`].
    NotModified,
    /// `If-Match` or `If-Unmodified-Since`: only the origin may judge them; forward the request (RFC 9111, 4.3.2).
    ForOrigin,
}

/// Judges the conditions of `request` against a stored response (RFC 9110, 13.2.2; RFC 9111, 4.3.2).
pub fn evaluate(
    method: &Method,
    request: &HeaderMap,
    status: StatusCode,
    validators: &Validators,
) -> Condition {
    if request.contains_key(IF_MATCH) || request.contains_key(IF_UNMODIFIED_SINCE) {
        return Condition::ForOrigin;
    }
    // Only what would be a success can be "not modified" (RFC 9110, 13.2.1).
    if !status.is_success() || !matches!(*method, Method::GET | Method::HEAD) {
        return Condition::Proceed;
    }
    let holds = if request.contains_key(IF_NONE_MATCH) {
        none_match(request, validators)
    } else {
        let since = date::field(request, &IF_MODIFIED_SINCE, validators.date);
        since.is_none_or(|since| validators.last_modified.unwrap_or(validators.date) > since)
    };
    if holds {
        Condition::Proceed
    } else {
        Condition::NotModified
    }
}

/// Whether `If-None-Match` holds: none of its tags is the stored one (RFC 9110, 13.1.2).
fn none_match(request: &HeaderMap, validators: &Validators) -> bool {
    request.get_all(IF_NONE_MATCH).iter().all(|line| {
        if line.as_bytes().trim_ascii() == b"*" {
            return false;
        }
        let Some(stored) = &validators.etag else {
            return true;
        };
        let mut rest = line.as_bytes();
        while let Some(tag) = next_tag(&mut rest) {
            if weak_eq(tag, stored.as_bytes()) {
                return false;
            }
        }
        true
    })
}

/// Takes the next entity tag off a list; what is none is taken up to the next comma, to match only its like.
pub(super) fn next_tag<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let start = rest
        .iter()
        .position(|b| !b.is_ascii_whitespace() && *b != b',')?;
    let text = &rest[start..];
    let opening = if text.starts_with(b"W/\"") { 3 } else { 1 };
    let quoted = text.starts_with(b"\"") || opening == 3;
    let closing = text[opening.min(text.len())..]
        .iter()
        .position(|b| *b == b'"')
        .filter(|_| quoted);
    let end = match closing {
        Some(length) => opening + length + 1,
        None => text.iter().position(|b| *b == b',').unwrap_or(text.len()),
    };
    *rest = &text[end..];
    Some(text[..end].trim_ascii_end())
}

/// The fields a 304 carries of the stored ones (RFC 9110, 15.4.5); `Last-Modified` too where there is no `ETag`.
pub fn not_modified(stored: &HeaderMap) -> HeaderMap {
    let mut answer = HeaderMap::with_capacity(NOT_MODIFIED.len());
    let without_tag = (!stored.contains_key(ETAG)).then_some(&LAST_MODIFIED);
    for name in NOT_MODIFIED.iter().chain(without_tag) {
        for value in stored.get_all(name) {
            answer.append(name, value.clone());
        }
    }
    answer
}

/// Whether a request carries any condition at all: the hit path's first question. `If-Range` is not one.
pub fn has_condition(request: &HeaderMap) -> bool {
    CONDITIONS.iter().any(|name| request.contains_key(name))
}

/// Turns a client's request into one that validates a stored response: the client's own conditions and ranges go, ours come
/// (RFC 9111, 4.3.1). All other fields stay, those the response varies by among them. False where the stored response has no
/// validator: then the request is plain.
pub fn validate(stored: &HeaderMap, request: &mut HeaderMap) -> bool {
    drop_conditions(request);
    if let Some(tag) = stored.get(ETAG) {
        request.insert(IF_NONE_MATCH, tag.clone());
    }
    // Only a date can be asked with; an old one places the century well enough.
    if date::field(stored, &LAST_MODIFIED, UNIX_EPOCH).is_some()
        && let Some(modified) = stored.get(LAST_MODIFIED)
    {
        request.insert(IF_MODIFIED_SINCE, modified.clone());
    }
    has_condition(request)
}

/// Removes a client's conditions and ranges, to ask an upstream for the whole (RFC 9111, 4.3.1).
pub fn drop_conditions(request: &mut HeaderMap) {
    for name in CONDITIONS.iter().chain(&[IF_RANGE, RANGE]) {
        request.remove(name);
    }
}

/// Strong comparison of two entity tags (RFC 9110, 8.8.3.2).
pub fn strong_eq(a: &[u8], b: &[u8]) -> bool {
    let strong = |tag: &[u8]| matches!(tag, [b'"', inner @ .., b'"'] if !inner.contains(&b'"'));
    strong(a) && a == b
}

/// Weak comparison of two entity tags (RFC 9110, 8.8.3.2).
pub fn weak_eq(a: &[u8], b: &[u8]) -> bool {
    a.strip_prefix(b"W/").unwrap_or(a) == b.strip_prefix(b"W/").unwrap_or(b)
}

/// The fields that make a request conditional.
pub const CONDITIONS: [HeaderName; 4] = [
    IF_MATCH,
    IF_NONE_MATCH,
    IF_MODIFIED_SINCE,
    IF_UNMODIFIED_SINCE,
];

/// The fields of a 304 (RFC 9110, 15.4.5), and the one that speaks of caching to caches like this one.
const NOT_MODIFIED: [HeaderName; 7] = [
    ETAG,
    DATE,
    CACHE_CONTROL,
    CDN_CACHE_CONTROL,
    EXPIRES,
    VARY,
    CONTENT_LOCATION,
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn fields(lines: &[&str]) -> HeaderMap {
        let line = |line: &&str| {
            let (name, value) = line.split_once(": ").unwrap();
            (
                name.parse::<HeaderName>().unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            )
        };
        lines.iter().map(line).collect()
    }

    const CHANGED: &str = "last-modified: Sun, 06 Nov 1994 08:49:37 GMT";
    const DATED: &str = "date: Sun, 06 Nov 1994 08:50:00 GMT";
    const TAG: &str = "etag: \"a\"";

    /// Item 17.
    #[test]
    #[rustfmt::skip]
    fn conditions_of_clients() {
        use Condition::*;
        type Row<'a> = (&'a [&'a str], &'a [&'a str], Condition, &'a str);
        let rows: &[Row<'_>] = &[
            (&[TAG], &[], Proceed, "no condition"),
            (&[TAG], &["if-none-match: \"a\""], NotModified, "the same"),
            (&[TAG], &["if-none-match: \"b\""], Proceed, "another"),
            (&[TAG], &["if-none-match: W/\"a\""], NotModified, "weak comparison"),
            (&["etag: W/\"a\""], &["if-none-match: \"a\""], NotModified, "weak comparison"),
            (&[TAG], &["if-none-match: \"x\", W/\"y,\" ,\"a\""], NotModified, "a list"),
            (&[TAG], &["if-none-match: \"x\"", "if-none-match: \"a\""], NotModified, "lines"),
            (&[TAG], &["if-none-match: \"x,\"a\""], Proceed, "a broken list"),
            (&["etag: \"x, y\""], &["if-none-match: \"x, y\""], NotModified, "a comma in a tag"),
            (&["etag: \"\u{fc}\""], &["if-none-match: \"\u{fc}\""], NotModified, "obs-text"),
            (&["etag: abc"], &["if-none-match: abc"], NotModified, "unquoted: its like"),
            (&[TAG], &["if-none-match: a"], Proceed, "unquoted: only its like"),
            (&["etag: w/\"a\""], &["if-none-match: \"a\""], Proceed, "the W has its case"),
            (&[TAG], &["if-none-match: *"], NotModified, "any"),
            (&[], &["if-none-match: *"], NotModified, "any, without a tag"),
            (&[], &["if-none-match: \"a\""], Proceed, "nothing to compare"),
            (&[CHANGED], &["if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT"], NotModified, "same date"),
            (&[CHANGED], &["if-modified-since: Sun Nov  6 08:49:38 1994"], NotModified, "later, asctime"),
            (&[CHANGED], &["if-modified-since: Sunday, 06-Nov-94 08:49:37 GMT"], NotModified, "RFC 850"),
            (&[CHANGED], &["if-modified-since: Sun, 06 Nov 1994 08:49:36 GMT"], Proceed, "earlier"),
            (&[CHANGED], &["if-modified-since: 0"], Proceed, "no date"),
            (&[DATED], &["if-modified-since: Sun, 06 Nov 1994 08:50:00 GMT"], NotModified, "4.3.2: Date instead"),
            (&[DATED], &["if-modified-since: Sun, 06 Nov 1994 08:49:59 GMT"], Proceed, "4.3.2: Date instead"),
            (
                &[TAG, CHANGED],
                &["if-none-match: \"b\"", "if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT"],
                Proceed,
                "If-None-Match comes first",
            ),
            (
                &[TAG, CHANGED],
                &["if-none-match: \"a\"", "if-modified-since: Sun, 06 Nov 1994 08:49:00 GMT"],
                NotModified,
                "If-None-Match comes first",
            ),
            (&[TAG], &["if-match: \"a\""], ForOrigin, "9111 4.3.2"),
            (&[TAG], &["if-unmodified-since: 0"], ForOrigin, "9111 4.3.2"),
        ];
        let received = UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (stored, request, wanted, checks) in rows {
            let (validators, request) = (Validators::of(&fields(stored), received), fields(request));
            for method in [Method::GET, Method::HEAD] {
                let found = evaluate(&method, &request, StatusCode::OK, &validators);
                assert_eq!(found, *wanted, "{checks}: {stored:?} {request:?}");
            }
            let missing = evaluate(&Method::GET, &request, StatusCode::NOT_FOUND, &validators);
            assert_ne!(missing, NotModified, "9110 13.2.1: only a success");
            assert_eq!(has_condition(&request), *checks != "no condition");
        }
    }

    /// Item 17; RFC 9110, 15.4.5.
    #[test]
    #[rustfmt::skip]
    fn fields_of_a_304() {
        let rest = ["cache-control: a", "expires: b", "vary: c", "vary: d", "content-location: /"];
        let others = ["content-type: x", "content-length: 3", "set-cookie: a", "x: y"];
        let all = [&[TAG, CHANGED, DATED][..], &rest, &others].concat();
        assert_eq!(not_modified(&fields(&all)), fields(&[&[TAG, DATED][..], &rest].concat()));
        assert_eq!(not_modified(&fields(&all[1..])), fields(&[&[CHANGED, DATED][..], &rest].concat()));
    }

    /// Item 15.
    #[test]
    #[rustfmt::skip]
    fn our_own_conditions() {
        let client = ["if-none-match: \"z\"", "if-match: *", "range: bytes=0-1", "if-range: \"z\"", "foo: 1"];
        for (stored, ours) in [
            (&[TAG][..], &["if-none-match: \"a\""][..]),
            (&["etag: W/\"a\""], &["if-none-match: W/\"a\""]),
            (&[CHANGED], &["if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT"]),
            (&[TAG, CHANGED], &["if-none-match: \"a\"", "if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT"]),
            (&["last-modified: 0"], &[]),
            (&[], &[]),
        ] {
            let mut request = fields(&client);
            assert_eq!(validate(&fields(stored), &mut request), !ours.is_empty(), "{stored:?}");
            assert_eq!(request, fields(&[&["foo: 1"][..], ours].concat()), "{stored:?}");
        }
    }

    /// RFC 9110, 8.8.1, 8.8.2.2 and 8.8.3.2.
    #[test]
    #[rustfmt::skip]
    fn strength() {
        for (line, strong) in [(TAG, true), ("etag: W/\"a\"", false), ("etag: a", false), (CHANGED, false)] {
            let validators = Validators::of(&fields(&[line]), UNIX_EPOCH);
            assert_eq!(validators.strong_etag().is_some(), strong, "{line}");
        }
        let strong = |date| Validators::of(&fields(&[CHANGED, date]), UNIX_EPOCH).strong_last_modified();
        assert!(strong(DATED).is_some());
        assert!(strong("date: Sun, 06 Nov 1994 08:49:37 GMT").is_none());
    }

    #[test]
    #[rustfmt::skip]
    fn a_hostile_list_takes_linear_time() {
        let list = format!("if-none-match: {}", "\"a,W/".repeat(200_000));
        let validators = Validators::of(&fields(&["etag: \"b\""]), UNIX_EPOCH);
        assert!(none_match(&fields(&[&list]), &validators));
    }
}
