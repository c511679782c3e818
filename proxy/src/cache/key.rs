//! What a stored response is found by: the whole target URI (RFC 9111, 2).
//!
//! Only what no server can tell apart is normalised: the host's case and the default port. Path and query stay as received,
//! and the upstream must be asked for exactly what stands here.

use std::borrow::Borrow;
use std::fmt::Write;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::downstream::RequestHead;

/// A target URI, `scheme://host[:port]/path?query`. Equal to, and hashed as, its text; cheap to clone.
#[derive(Debug, Clone)]
pub struct Key {
    text: Arc<str>,
    /// Where the path begins.
    path: u32,
}

impl Key {
    /// The key of a target; `host` may carry a port. None where `host` is not a host, or the path does not begin with `/`.
    pub fn new(scheme: &str, host: &str, path_and_query: &str) -> Option<Self> {
        let mut text = String::with_capacity(scheme.len() + 3 + host.len() + path_and_query.len());
        let path = append(&mut text, scheme, host, path_and_query)?;
        Some(Self {
            text: text.into(),
            path: u32::try_from(path).ok()?,
        })
    }

    /// The key of a request. A port that the client names is part of it: applications build links with it.
    pub fn of(scheme: &str, request: &RequestHead) -> Option<Self> {
        let mut text = String::new();
        let path = Self::write(&mut text, scheme, request)?;
        Some(Self {
            text: text.into(),
            path: u32::try_from(path).ok()?,
        })
    }

    /// Writes the same text to the end of `out`, for a lookup without allocation, and says where the path begins in it; on failure
    /// `out` may have grown.
    pub fn write(out: &mut String, scheme: &str, request: &RequestHead) -> Option<usize> {
        let target = request.target.as_str();
        if request.port.is_none() && !request.host.contains(':') {
            return append(out, scheme, &request.host, target);
        }
        append(out, scheme, &request.authority(), target)
    }

    /// The scheme, host with port, and path of a key's text.
    pub fn split(text: &str) -> Option<(&str, &str, &str)> {
        let (scheme, rest) = text.split_once("://")?;
        let (host, path) = rest.split_at(rest.find('/')?);
        Some((scheme, host, path))
    }

    /// The whole URI.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `scheme://host[:port]`.
    pub fn origin(&self) -> &str {
        self.text.get(..self.path as usize).unwrap_or_default()
    }

    /// The path and query, as received.
    pub fn path_and_query(&self) -> &str {
        self.text.get(self.path as usize..).unwrap_or_default()
    }

    /// Whether both have the same scheme, host and port (RFC 9110, 4.3.1).
    pub fn same_origin(&self, other: &Self) -> bool {
        self.origin() == other.origin()
    }

    /// What a reference in `Location` or `Content-Location` means beside this URI, without its fragment (RFC 3986, 5.2).
    pub fn resolve(&self, reference: &str) -> Option<Self> {
        let reference = reference.split('#').next().unwrap_or_default();
        let (scheme, host) = self.origin().split_once("://")?;
        let whole = |scheme: &str, rest: &str| {
            let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            match path.chars().next() {
                Some('/') => Self::new(scheme, host, path),
                _ => Self::new(scheme, host, &format!("/{path}")),
            }
        };
        if let Some(rest) = reference.strip_prefix("//") {
            return whole(scheme, rest);
        }
        if reference.starts_with('/') {
            return Self::new(scheme, host, reference);
        }
        // A scheme ends at the first colon, which no path or query comes before.
        if let Some((given, rest)) = reference.split_once(':')
            && !given.contains(['/', '?'])
        {
            return whole(given, rest.strip_prefix("//")?);
        }
        let path = self.path_and_query().split('?').next().unwrap_or_default();
        if reference.is_empty() {
            return Some(self.clone());
        }
        if reference.starts_with('?') {
            return Self::new(scheme, host, &format!("{path}{reference}"));
        }
        let folder = path.rfind('/').map_or("/", |slash| &path[..=slash]);
        Self::new(scheme, host, &without_dots(&format!("{folder}{reference}")))
    }
}

/// Writes a key's text behind what stands in `out`; says how far behind the path begins. On failure `out` may have grown.
fn append(out: &mut String, scheme: &str, host: &str, path_and_query: &str) -> Option<usize> {
    let before = out.len();
    if scheme.is_empty()
        || !scheme.bytes().all(|b| b.is_ascii_alphabetic())
        || !path_and_query.starts_with('/')
    {
        return None;
    }
    push_lower(out, scheme);
    let default = match &out[before..] {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    let (name, port) = split_port(host)?;
    out.push_str("://");
    push_lower(out, name);
    if port.is_some() && port != default {
        // Into a string, which takes everything.
        let _ = write!(out, ":{}", port?);
    }
    let path = out.len() - before;
    out.push_str(path_and_query);
    Some(path)
}

/// A host's name and its port, where one is given and is a number (RFC 3986, 3.2.2).
fn split_port(host: &str) -> Option<(&str, Option<u16>)> {
    let end = match host.strip_prefix('[') {
        Some(address) => {
            let inside = address.find(']')?;
            if !address[..inside]
                .bytes()
                .all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'))
            {
                return None;
            }
            inside + 2
        }
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, port) = host.split_at(end);
    // Unreserved, percent-encoded and sub-delimiters: no slash, question mark or @, which would make two keys look like one.
    let sound = |b: u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&b);
    if name.is_empty() || !(host.starts_with('[') || name.bytes().all(sound)) {
        return None;
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Some((name, None)),
        Some("") => Some((name, None)),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some((name, Some(digits.parse().ok()?)))
        }
        _ => None,
    }
}

fn push_lower(out: &mut String, text: &str) {
    let before = out.len();
    out.push_str(text);
    out[before..].make_ascii_lowercase();
}

/// Removes `.` and `..` segments from a path with a query (RFC 3986, 5.2.4).
fn without_dots(path_and_query: &str) -> String {
    let (path, query) =
        path_and_query.split_at(path_and_query.find('?').unwrap_or(path_and_query.len()));
    let mut segments: Vec<&str> = Vec::new();
    let last = path.rsplit('/').next().unwrap_or_default();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let slash = if matches!(last, "." | "..") && !segments.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{slash}{query}", segments.join("/"))
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.text
    }
}
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl Eq for Key {}
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// RFC 9110, 4.2.3; item 12.
    #[test]
    #[rustfmt::skip]
    fn normal_form() {
        for (scheme, host, path, wanted) in [
            ("http", "Example.ORG", "/a?B=%7e", Some("http://example.org/a?B=%7e")),
            ("HTTPS", "example.org:443", "/", Some("https://example.org/")),
            ("http", "example.org:80", "/", Some("http://example.org/")),
            ("http", "example.org:0080", "/", Some("http://example.org/")),
            ("http", "example.org:", "/", Some("http://example.org/")),
            ("https", "example.org:80", "/", Some("https://example.org:80/")),
            ("http", "[::A]:80", "/", Some("http://[::a]/")),
            ("http", "[::1]:8080", "//a//../b", Some("http://[::1]:8080//a//../b")),
            ("http", "example.org", "/\u{e9}?", Some("http://example.org/\u{e9}?")),
            ("http", "", "/", None),
            ("http", "a/b", "/c", None),
            ("http", "user@a", "/c", None),
            ("http", "a?b", "/c", None),
            ("http", "a b", "/", None),
            ("http", "a:70000", "/", None),
            ("http", "a:+1", "/", None),
            ("http", "a:1:2", "/", None),
            ("http", "[::1", "/", None),
            ("http", "[/]", "/", None),
            ("http", "[::1]x", "/", None),
            ("http", "\u{e9}.org", "/", None),
            ("http", "a", "*", None),
            ("", "a", "/", None),
        ] {
            let key = Key::new(scheme, host, path);
            assert_eq!(key.as_ref().map(Key::as_str), wanted, "{scheme} {host} {path}");
            if let Some(key) = key {
                assert_eq!(key.path_and_query(), path);
                assert_eq!(format!("{}{path}", key.origin()), key.as_str());
            }
        }
    }

    /// RFC 3986, 5.2; items 11 and 23.
    #[test]
    #[rustfmt::skip]
    fn references() {
        let base = Key::new("https", "a.example", "/b/c/d?q").unwrap();
        for (reference, wanted) in [
            ("", Some("https://a.example/b/c/d?q")),
            ("#f", Some("https://a.example/b/c/d?q")),
            ("/x?y#z", Some("https://a.example/x?y")),
            ("?y", Some("https://a.example/b/c/d?y")),
            ("x", Some("https://a.example/b/c/x")),
            ("../x", Some("https://a.example/b/x")),
            ("../../../x", Some("https://a.example/x")),
            ("./", Some("https://a.example/b/c/")),
            ("..", Some("https://a.example/b/")),
            ("x?r=a:b/../", Some("https://a.example/b/c/x?r=a:b/../")),
            ("//B.example/x", Some("https://b.example/x")),
            ("HTTP://A.example:80/x", Some("http://a.example/x")),
            ("https://a.example", Some("https://a.example/")),
            ("https://a.example?x", Some("https://a.example/?x")),
            ("mailto:a@b", None),
            ("https://user@a.example/", None),
            ("https:///x", None),
        ] {
            let found = base.resolve(reference);
            assert_eq!(found.as_ref().map(Key::as_str), wanted, "{reference}");
        }
        assert!(base.same_origin(&base.resolve("https://A.example:443/").unwrap()));
        assert!(!base.same_origin(&base.resolve("http://a.example/").unwrap()));
        assert!(!base.same_origin(&base.resolve("//a.example:444/").unwrap()));
    }

    /// Item 12; a port, or an address, that the client names is part of what it asks for.
    #[test]
    #[rustfmt::skip]
    fn requests() {
        for (host, port, wanted) in [
            ("a.example", None, "https://a.example/x?y"),
            ("a.example", Some(443), "https://a.example/x?y"),
            ("a.example", Some(666), "https://a.example:666/x?y"),
            ("::1", None, "https://[::1]/x?y"),
            ("::1", Some(8443), "https://[::1]:8443/x?y"),
        ] {
            let request = RequestHead {
                method: http::Method::GET,
                host: host.into(),
                port,
                target: http::uri::PathAndQuery::from_static("/x?y"),
                version: http::Version::HTTP_11,
                headers: http::HeaderMap::new(),
                upgrade: false,
                received: std::time::Instant::now(),
            };
            let key = Key::of("https", &request).unwrap();
            assert_eq!(key.as_str(), wanted);
            assert_eq!(key.path_and_query(), "/x?y");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn found_by_text() {
        let key = Key::new("http", "a", "/").unwrap();
        let map = std::collections::HashMap::from([(key, 1)]);
        assert_eq!(map.get("http://a/"), Some(&1));
    }
}
