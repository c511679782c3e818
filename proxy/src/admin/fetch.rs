//! `POST /fetch`: a page of a site, fetched by the daemon through its own cache. What is asked for,
//! how the answer is written, and how it is read.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde::{Deserialize, Serialize};

use crate::internal::Fetched;

/// The body of `POST /fetch`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// An absolute URL of a site of the daemon.
    pub url: String,
    /// The `Accept-Encoding` to ask with; none where it is left out.
    #[serde(default)]
    pub encoding: Option<String>,
    /// Whether the body is wanted, or only what is said of it.
    #[serde(default = "wanted")]
    pub body: bool,
}

/// What came.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Those of its fields that are handed on: [`FIELDS`].
    pub headers: HeaderMap,
    /// The body is longer than what is here.
    pub cut: bool,
    /// The body, at most [`BODY`] bytes; empty where it was not wanted.
    pub body: Bytes,
}

impl Wish {
    /// Scheme, authority, and path with query of the URL.
    pub fn parts(&self) -> Result<(&str, &str, &str), String> {
        let url = self.url.as_str();
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| format!("{url:?} is no absolute URL"))?;
        let path = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(path);
        let target = if target.is_empty() { "/" } else { target };
        Ok((scheme, authority, target))
    }

    /// How many bytes of the body are wanted.
    pub fn bound(&self) -> usize {
        if self.body { BODY } else { 0 }
    }
}

impl Answer {
    /// A field's first line, where it is text.
    pub fn field(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Reads what [`response`] wrote; `None` where something else did.
    pub fn read(mut headers: HeaderMap, body: Bytes) -> Option<Self> {
        let status = headers.remove(STATUS)?.to_str().ok()?.parse().ok()?;
        Some(Self {
            status,
            cut: headers.remove(CUT).is_some(),
            headers,
            body,
        })
    }
}

/// The answer to a wish that was granted.
pub fn response(wish: &Wish, fetched: Fetched) -> Response<Full<Bytes>> {
    let cut = wish.body && fetched.is_cut();
    let mut response = Response::new(Full::new(fetched.body));
    let headers = response.headers_mut();
    headers.insert(STATUS, HeaderValue::from(fetched.head.status.as_u16()));
    if cut {
        headers.insert(CUT, HeaderValue::from_static("1"));
    }
    for name in &FIELDS {
        for value in fetched.head.headers.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    response
}

/// The fields of a response that are handed on.
pub const FIELDS: [HeaderName; 4] = [
    HeaderName::from_static("cache-status"),
    header::CONTENT_TYPE,
    header::LOCATION,
    header::RETRY_AFTER,
];
/// How much of a body is handed on, in bytes.
pub const BODY: usize = 8 * 1024 * 1024;
const STATUS: HeaderName = HeaderName::from_static("x-fetch-status");
const CUT: HeaderName = HeaderName::from_static("x-fetch-cut");

fn wanted() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::downstream::ResponseHead;

    #[test]
    #[rustfmt::skip]
    fn urls() {
        let table = [
            ("https://a.example",          Some(("https", "a.example", "/"))),
            ("https://a.example:1/b?c=/d", Some(("https", "a.example:1", "/b?c=/d"))),
            ("http://[::1]:80/",           Some(("http", "[::1]:80", "/"))),
            ("http://a.example?x",         Some(("http", "a.example", "?x"))),
            ("/path",                      None),
            ("",                           None),
        ];
        for (url, want) in table {
            let wish = Wish { url: url.to_owned(), ..Wish::default() };
            assert_eq!(wish.parts().ok(), want, "{url}");
        }
    }

    #[test]
    fn a_wish_wants_the_body_unless_it_says_otherwise() {
        let read = |text: &str| serde_json::from_str::<Wish>(text);
        assert_eq!(
            read(r#"{"url": "x", "encoding": null}"#).unwrap().bound(),
            BODY
        );
        assert_eq!(read(r#"{"url": "x", "body": false}"#).unwrap().bound(), 0);
        assert!(read(r#"{"url": "x", "bdy": false}"#).is_err());
        assert!(read("{}").is_err());
    }

    #[test]
    fn an_answer_goes_both_ways() {
        let fetched = |length| {
            let mut head = ResponseHead::new(StatusCode::NOT_FOUND);
            for (name, value) in [
                ("cache-status", "a; hit"),
                ("cache-status", "b"),
                ("etag", "x"),
            ] {
                let value = HeaderValue::from_static(value);
                head.headers.append(HeaderName::from_static(name), value);
            }
            Fetched {
                head,
                body: Bytes::from_static(b"abc"),
                length,
            }
        };
        let read = |wish: &Wish, length| {
            let (parts, _) = response(wish, fetched(length)).into_parts();
            assert_eq!(parts.status, StatusCode::OK);
            Answer::read(parts.headers, Bytes::from_static(b"abc")).unwrap()
        };
        let mut wish = Wish {
            body: true,
            ..Wish::default()
        };
        let answer = read(&wish, 3);
        assert_eq!((answer.status, answer.cut), (StatusCode::NOT_FOUND, false));
        assert_eq!(answer.field(&FIELDS[0]), Some("a; hit"));
        assert_eq!(answer.headers.get_all("cache-status").iter().count(), 2);
        assert_eq!(answer.field(&header::ETAG), None);
        assert!(read(&wish, 4).cut);
        wish.body = false;
        assert!(!read(&wish, 4).cut);
        assert!(Answer::read(HeaderMap::new(), Bytes::new()).is_none());
    }
}
