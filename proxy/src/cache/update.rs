//! What a later response changes in the store: a 304 and a HEAD freshen (RFC 9111, 4.3), an unsafe request invalidates (4.4).

use http::header::{
    AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, ETAG, LAST_MODIFIED,
    LOCATION,
};
use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::conditional::{Validators, weak_eq};
use super::control::ResponseControl;
use super::date;
use super::key::Key;
use super::storable::drop_withheld;
use crate::fields::drop_hop_by_hop;

/// Whether a 304 speaks of the stored response: its validators, where it has some, are the stored ones (RFC 9111, 4.3.4).
/// Where not, the origin must be asked again without a condition.
pub fn confirms(stored: &Validators, not_modified: &HeaderMap) -> bool {
    if let Some(tag) = not_modified.get(ETAG) {
        let known = stored.etag.as_ref();
        return known.is_some_and(|known| weak_eq(known.as_bytes(), tag.as_bytes()));
    }
    match date::field(not_modified, &LAST_MODIFIED, stored.date) {
        Some(date) => stored.last_modified == Some(date),
        None => true,
    }
}

/// Merges the fields of a 304, or of a HEAD that freshens, into stored ones: received fields replace stored ones of the same name,
/// but for hop-by-hop ones, and those that say how to read the stored bytes; what was not received stays (RFC 9111, 3.2).
///
/// A response without `Date` is given one on arrival, with [`add_date`](super::storable::add_date): else the stored one is kept,
/// and the freshened response is as old as before.
pub fn merge(stored: &mut HeaderMap, received: &HeaderMap) {
    let mut received = received.clone();
    drop_hop_by_hop(&mut received);
    // How old the stored response was on arrival is no longer true, even where the new one does not say (RFC 9111, 4.2.3).
    stored.remove(AGE);
    for name in received
        .keys()
        .filter(|name| !OF_THE_CONTENT.contains(name))
    {
        stored.remove(name);
        for value in received.get_all(name) {
            stored.append(name, value.clone());
        }
    }
    drop_withheld(stored, &ResponseControl::of(stored));
}

/// What a HEAD's response means for the stored GET.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// The same validators and length: [`merge`] its fields and compute freshness anew.
    Freshens,
    /// Others: the stored response is stale from now on.
    Outdates,
    /// It says nothing about the stored response.
    Unrelated,
}

/// Compares a HEAD's response with the stored GET's (RFC 9111, 4.3.5).
pub fn head(stored: &HeaderMap, status: StatusCode, received: &HeaderMap) -> Head {
    match status.as_u16() {
        200 => {}
        404 | 410 => return Head::Outdates,
        _ => return Head::Unrelated,
    }
    let same = |name: &HeaderName| {
        received
            .get(name)
            .map(|value| stored.get(name) == Some(value))
    };
    let compared = [same(&ETAG), same(&LAST_MODIFIED), same(&CONTENT_LENGTH)];
    // A stored response need not have had its length as a field; then nothing can be said by it.
    let compared = match stored.get(CONTENT_LENGTH) {
        Some(_) => &compared[..],
        None => &compared[..2],
    };
    if compared.contains(&Some(false)) {
        return Head::Outdates;
    }
    let had_validators = stored.contains_key(ETAG) || stored.contains_key(LAST_MODIFIED);
    let confirmed = compared.contains(&Some(true));
    if confirmed || !had_validators {
        Head::Freshens
    } else {
        Head::Unrelated
    }
}

/// Whether a method is known to change nothing (RFC 9110, 9.2.1; RFC 4918; RFC 3253; RFC 5323).
pub fn is_safe(method: &Method) -> bool {
    matches!(
        method.as_str(),
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PROPFIND" | "REPORT" | "SEARCH" | "QUERY"
    )
}

/// The URIs whose stored responses an answered request invalidates: none for safe methods and errors, else the target and
/// `Location` and `Content-Location` of the same origin (RFC 9111, 4.4).
pub fn invalidated(
    method: &Method,
    target: &Key,
    status: StatusCode,
    response: &HeaderMap,
) -> Vec<Key> {
    if is_safe(method) || !(status.is_success() || status.is_redirection()) {
        return Vec::new();
    }
    let mut keys = vec![target.clone()];
    for line in [LOCATION, CONTENT_LOCATION]
        .iter()
        .filter_map(|name| response.get(name))
    {
        let named = line
            .to_str()
            .ok()
            .and_then(|reference| target.resolve(reference));
        // Another origin's responses are not this one's to throw away.
        keys.extend(named.filter(|key| key.same_origin(target) && key != target));
    }
    keys.dedup();
    keys
}

/// Fields that speak of the stored bytes themselves: a message without any cannot change them (RFC 9111, 3.2). The
/// `Content-Digest` of a 304 would be that of nothing (RFC 9530, 2); `Content-MD5` is its forerunner.
const OF_THE_CONTENT: [HeaderName; 5] = [
    CONTENT_LENGTH,
    CONTENT_ENCODING,
    CONTENT_RANGE,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::HeaderValue;

    use super::*;

    fn fields(lines: &[&str]) -> HeaderMap {
        let line = |line: &&str| {
            let (name, value) = line.split_once(": ").unwrap();
            (
                name.parse::<HeaderName>().unwrap(),
                value.parse::<HeaderValue>().unwrap(),
            )
        };
        lines.iter().map(line).collect()
    }

    const OLD: &str = "last-modified: Sun, 06 Nov 1994 08:49:37 GMT";
    const NEW: &str = "last-modified: Sun, 06 Nov 1994 08:49:38 GMT";

    /// RFC 9111, 4.3.4.
    #[test]
    #[rustfmt::skip]
    fn whom_a_304_confirms() {
        for (stored, received, wanted, checks) in [
            (&["etag: \"a\""][..], &["etag: \"a\""][..], true, "the same tag"),
            (&["etag: W/\"a\""], &["etag: \"a\""], true, "weak comparison"),
            (&["etag: \"a\""], &["etag: \"b\""], false, "another tag"),
            (&[OLD], &["etag: \"b\""], false, "a tag where there was none"),
            (&[OLD], &[OLD], true, "the same date"),
            (&[OLD], &[NEW], false, "another date"),
            (&["etag: \"a\"", OLD], &["etag: \"a\"", NEW], true, "the tag decides"),
            (&["etag: \"a\"", OLD], &[], true, "no validator: it answers what was asked"),
        ] {
            let stored = Validators::of(&fields(stored), UNIX_EPOCH);
            assert_eq!(confirms(&stored, &fields(received)), wanted, "{checks}");
        }
    }

    /// Item 16.
    #[test]
    #[rustfmt::skip]
    fn merging() {
        let mut stored = fields(&[
            "x-kept: 1", "x-new: 1", "x-held: 1", "set-cookie: a", "set-cookie: b", "content-length: 10", "age: 9",
            "content-type: a", "content-encoding: gzip", "cache-control: max-age=1", "x-hop: 1",
            "content-digest: a", "content-md5: a",
        ]);
        let received = fields(&[
            "x-new: 2", "x-held: 2", "x-more: 2", "set-cookie: c", "set-cookie: d", "content-length: 0",
            "content-type: b", "content-encoding: br", "cache-control: max-age=2, no-cache=\"x-held\"",
            "connection: X-Hop", "x-hop: 2", "keep-alive: 2", "transfer-encoding: chunked",
            "content-digest: b", "content-md5: b", "repr-digest: b",
        ]);
        merge(&mut stored, &received);
        let wanted = fields(&[
            "x-kept: 1", "x-new: 2", "x-more: 2", "set-cookie: c", "set-cookie: d",
            "content-length: 10", "content-type: b", "content-encoding: gzip",
            "content-digest: a", "content-md5: a", "repr-digest: b", "cache-control: max-age=2, no-cache=\"x-held\"", "x-hop: 1",
        ]);
        assert_eq!(stored, wanted);
    }

    /// Item 18.
    #[test]
    #[rustfmt::skip]
    fn heads() {
        use Head::*;
        let stored = ["etag: \"a\"", OLD, "content-length: 5"];
        for (stored, status, received, wanted, checks) in [
            (&stored[..], 200, &["etag: \"a\"", OLD, "content-length: 5"][..], Freshens, "all the same"),
            (&stored, 200, &["etag: \"a\""], Freshens, "what was received is the same"),
            (&stored, 200, &["etag: \"b\"", OLD], Outdates, "another tag"),
            (&stored, 200, &[NEW], Outdates, "another date"),
            (&stored, 200, &["etag: \"a\"", "content-length: 6"], Outdates, "another length"),
            (&stored, 200, &["x: y"], Unrelated, "nothing to compare"),
            (&["x: y"], 200, &["x: z"], Freshens, "there never were validators"),
            (&["etag: \"a\""], 200, &["etag: \"a\"", "content-length: 6"], Freshens, "length unknown"),
            (&["content-length: 5"], 200, &["content-length: 6"], Outdates, "another length"),
            (&["x: y"], 200, &["etag: \"a\""], Outdates, "a validator where there was none"),
            (&stored, 410, &[], Outdates, "gone"),
            (&stored, 503, &[], Unrelated, "an error says nothing"),
            (&stored, 304, &["etag: \"a\""], Unrelated, "an answer to the client's condition"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(head(&fields(stored), status, &fields(received)), wanted, "{checks}");
        }
    }

    /// Item 23.
    #[test]
    #[rustfmt::skip]
    fn invalidation() {
        let target = Key::new("https", "a.example", "/b").unwrap();
        let (own, one) = (&["https://a.example/b"][..], "location: /c");
        for (method, status, response, wanted, checks) in [
            ("POST", 200, &[][..], own, "unsafe, 2xx"),
            ("PUT", 302, &[], own, "unsafe, 3xx"),
            ("DELETE", 204, &[], own, "unsafe, 2xx"),
            ("FOO", 200, &[], own, "unknown"),
            ("POST", 404, &[], &[], "4xx"),
            ("POST", 500, &[], &[], "5xx"),
            ("POST", 103, &[], &[], "interim"),
            ("GET", 200, &[one], &[], "safe"),
            ("PROPFIND", 207, &[], &[], "safe"),
            ("POST", 201, &[one], &["https://a.example/b", "https://a.example/c"], "Location"),
            (
                "POST",
                201,
                &[one, "content-location: https://A.example:443/d"],
                &["https://a.example/b", "https://a.example/c", "https://a.example/d"],
                "both",
            ),
            ("POST", 201, &["location: https://b.example/c"], own, "another origin"),
            ("POST", 201, &["location: http://a.example/c"], own, "another scheme"),
            ("POST", 201, &["location: /b", "content-location: /b"], own, "each once"),
        ] {
            let (method, status) = (method.parse().unwrap(), StatusCode::from_u16(status).unwrap());
            let keys = invalidated(&method, &target, status, &fields(response));
            let keys: Vec<_> = keys.iter().map(Key::as_str).collect();
            assert_eq!(keys, wanted, "{checks}");
        }
    }
}
