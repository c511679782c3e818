//! Reading a request's head, strictly (RFC 9112). Pure, so that every malformed request is a row
//! of a table: whatever two implementations could read differently is refused, never repaired.

use std::time::Instant;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};

use super::body::RequestBody;
use crate::downstream::{RequestHead, split_authority};
use crate::fields::has_token;

/// What was wrong with a request that is refused before it is routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// What the client is answered.
    pub status: StatusCode,
    /// The word for log and metric.
    pub reason: &'static str,
}

/// Where the head at the start of `input` ends, one past its blank line.
///
/// `Err` where a line ends in a bare LF (RFC 9112 section 2.2 lets a server repair it; two
/// servers that repair differently disagree on where a request ends, so it is refused) or the head
/// does not start like a request at all.
pub fn end_of_head(input: &[u8], scanned: usize) -> Result<Option<usize>, Refusal> {
    for at in memchr::memchr_iter(b'\n', &input[scanned.min(input.len())..]) {
        let at = at + scanned;
        if at == 0 || input[at - 1] != b'\r' {
            return Err(refuse(StatusCode::BAD_REQUEST, "bare-lf"));
        }
        if at >= 3 && input[at - 2] == b'\n' && input[at - 3] == b'\r' {
            return Ok(Some(at + 1));
        }
    }
    Ok(None)
}

/// Parses a whole head and says how its body is delimited.
pub fn parse(head: Bytes, max_fields: usize) -> Result<(RequestHead, RequestBody), Refusal> {
    let mut few = [httparse::EMPTY_HEADER; 48];
    let mut request = httparse::Request::new(&mut few);
    match request.parse(&head) {
        Err(httparse::Error::TooManyHeaders) => {
            let mut many = vec![httparse::EMPTY_HEADER; max_fields];
            let mut request = httparse::Request::new(&mut many);
            complete(request.parse(&head))?;
            checked(&head, &request)
        }
        other => {
            complete(other)?;
            if request.headers.len() > max_fields {
                return Err(too_large("too-many-fields"));
            }
            checked(&head, &request)
        }
    }
}

fn complete(parsed: httparse::Result<usize>) -> Result<(), Refusal> {
    use httparse::Error as E;
    match parsed {
        Ok(httparse::Status::Complete(_)) => Ok(()),
        Ok(httparse::Status::Partial) => Err(bad("malformed")),
        Err(E::TooManyHeaders) => Err(too_large("too-many-fields")),
        Err(E::Version) => Err(refuse(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "version")),
        Err(E::HeaderName) => Err(bad("field-name")),
        Err(E::HeaderValue | E::NewLine) => Err(bad("field-value")),
        Err(_) => Err(bad("request-line")),
    }
}

fn checked(
    raw: &Bytes,
    request: &httparse::Request<'_, '_>,
) -> Result<(RequestHead, RequestBody), Refusal> {
    let method = Method::from_bytes(request.method.unwrap_or_default().as_bytes())
        .map_err(|_| bad("method"))?;
    let version = match request.version {
        Some(1) => Version::HTTP_11,
        _ => Version::HTTP_10,
    };
    let (headers, host_field) = fields(raw, request.headers)?;
    let target = raw.slice_ref(request.path.unwrap_or_default().as_bytes());
    let (authority, target) = target_of(&method, &target)?;
    let authority = match (authority, host_field) {
        // RFC 9112 section 3.2.2: an absolute-form target overrules the Host field.
        (Some(authority), Some(_)) => authority,
        (Some(authority), None) if version == Version::HTTP_10 => authority,
        (None, Some(host)) => host,
        (None, None) if version == Version::HTTP_10 => String::new(),
        (_, None) => return Err(bad("host-missing")),
    };
    let (host, port) = split_authority(&authority).ok_or(bad("host"))?;
    let body = body_of(version, &headers)?;
    let upgrade = version == Version::HTTP_11
        && headers.contains_key(header::UPGRADE)
        && has_token(&headers, &header::CONNECTION, "upgrade");
    let head = RequestHead {
        method,
        host,
        port,
        target,
        version,
        headers,
        upgrade,
        received: Instant::now(),
    };
    Ok((head, body))
}

/// The fields but `Host`, which is returned apart: it must be there at most once.
fn fields(
    raw: &Bytes,
    parsed: &[httparse::Header<'_>],
) -> Result<(HeaderMap, Option<String>), Refusal> {
    let mut headers = HeaderMap::with_capacity(parsed.len());
    let mut host = None;
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| bad("field-name"))?;
        if name == header::HOST {
            let value = str::from_utf8(field.value).map_err(|_| bad("host"))?;
            if host.replace(value.trim().to_owned()).is_some() {
                return Err(bad("host-twice"));
            }
            continue;
        }
        let value = HeaderValue::from_maybe_shared(raw.slice_ref(field.value))
            .map_err(|_| bad("field-value"))?;
        headers.append(name, value);
    }
    Ok((headers, host))
}

/// The four forms of a request target, RFC 9112 section 3.2: origin-form and absolute-form are
/// served, authority-form (CONNECT) and asterisk-form (OPTIONS of the server itself) are not.
fn target_of(method: &Method, target: &Bytes) -> Result<(Option<String>, PathAndQuery), Refusal> {
    // A tunnel is not offered, and a TRACE would show a page's script what it must not see (cookies).
    if matches!(*method, Method::CONNECT | Method::TRACE) {
        return Err(refuse(StatusCode::METHOD_NOT_ALLOWED, "method"));
    }
    if target.starts_with(b"/") {
        return Ok((None, path(target.clone())?));
    }
    let text = str::from_utf8(target).map_err(|_| bad("target"))?;
    let rest = ["http://", "https://"]
        .into_iter()
        .find_map(|scheme| {
            let head = text.get(..scheme.len())?;
            head.eq_ignore_ascii_case(scheme)
                .then(|| &text[scheme.len()..])
        })
        .ok_or(bad("target"))?;
    let split = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(split);
    if authority.is_empty() {
        return Err(bad("target"));
    }
    let after = if after.starts_with('/') {
        target.slice_ref(after.as_bytes())
    } else {
        Bytes::from(format!("/{after}"))
    };
    Ok((Some(authority.to_owned()), path(after)?))
}

/// What [`PathAndQuery`] holds: it counts in 16 bits.
const MOST_TARGET: usize = u16::MAX as usize - 1;

fn path(bytes: Bytes) -> Result<PathAndQuery, Refusal> {
    // A fragment has no place in a request target; the parser would cut it off in silence.
    if memchr::memchr(b'#', &bytes).is_some() {
        return Err(bad("target"));
    }
    if bytes.len() > MOST_TARGET {
        return Err(refuse(StatusCode::URI_TOO_LONG, "target-too-long"));
    }
    PathAndQuery::from_maybe_shared(bytes).map_err(|_| bad("target"))
}

/// How the body is delimited: RFC 9112 section 6.3, with everything ambiguous refused (6.1 and
/// 11.2: request smuggling).
fn body_of(version: Version, headers: &HeaderMap) -> Result<RequestBody, Refusal> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(bad("two-lengths"));
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if length.is_some() {
            return Err(bad("length-and-coding"));
        }
        if version == Version::HTTP_10 {
            return Err(bad("coding-in-1.0"));
        }
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(refuse(StatusCode::NOT_IMPLEMENTED, "transfer-coding"));
        }
        return Ok(RequestBody::chunked());
    }
    let Some(length) = length else {
        return Ok(RequestBody::empty());
    };
    let digits = length.as_bytes();
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(bad("length"));
    }
    let length = str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or(bad("length"))?;
    Ok(RequestBody::length(length))
}

/// The refusal of a head that is larger than the site takes.
pub fn too_large(reason: &'static str) -> Refusal {
    refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, reason)
}

fn bad(reason: &'static str) -> Refusal {
    refuse(StatusCode::BAD_REQUEST, reason)
}

fn refuse(status: StatusCode, reason: &'static str) -> Refusal {
    Refusal { status, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(RequestHead, RequestBody), Refusal> {
        let end = end_of_head(text.as_bytes(), 0)?.expect("the row holds a whole head");
        parse(Bytes::copy_from_slice(&text.as_bytes()[..end]), 60)
    }

    #[test]
    fn refused() {
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(70));
        let long = format!(
            "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n",
            "k".repeat(MOST_TARGET)
        );
        let table: &[(&str, u16, &str)] = &[
            ("GET / HTTP/1.1\r\n\r\n", 400, "host-missing"),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
                400,
                "host-twice",
            ),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "host"),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "host"),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", 400, "bare-lf"),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", 400, "bare-lf"),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nx: y\r\n z\r\n\r\n",
                400,
                "field-name",
            ),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, "field-name"),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nx y: z\r\n\r\n",
                400,
                "field-name",
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nx: \u{0}\r\n\r\n",
                400,
                "field-value",
            ),
            ("GET / HTTP/3.7\r\nHost: a\r\n\r\n", 505, "version"),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "request-line"),
            (
                "G\u{7f}T / HTTP/1.1\r\nHost: a\r\n\r\n",
                400,
                "request-line",
            ),
            ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target"),
            (
                "GET example.org:80 HTTP/1.1\r\nHost: a\r\n\r\n",
                400,
                "target",
            ),
            ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target"),
            ("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target"),
            ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target"),
            ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method"),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target"),
            (
                "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
                405,
                "method",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                400,
                "length-and-coding",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
                400,
                "two-lengths",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n",
                400,
                "length",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n",
                400,
                "length",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
                400,
                "length",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
                400,
                "length",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
                400,
                "length",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                501,
                "transfer-coding",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                501,
                "transfer-coding",
            ),
            (
                "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                400,
                "coding-in-1.0",
            ),
            (&many, 431, "too-many-fields"),
            (&long, 414, "target-too-long"),
        ];
        for (text, status, reason) in table {
            let refusal = read(text).expect_err(text);
            assert_eq!(
                (refusal.status.as_u16(), refusal.reason),
                (*status, *reason),
                "{text:?}"
            );
        }
    }

    #[test]
    fn accepted() {
        let table = [
            (
                "GET /a?b HTTP/1.1\r\nHost: A.Example:81\r\n\r\n",
                "a.example",
                "/a?b",
            ),
            (
                "GET http://B.example/x HTTP/1.1\r\nHost: a\r\n\r\n",
                "b.example",
                "/x",
            ),
            ("GET HTTPS://b?q HTTP/1.1\r\nHost: a\r\n\r\n", "b", "/?q"),
            ("GET / HTTP/1.0\r\n\r\n", "", "/"),
            (
                "GET //x/../%2f;y HTTP/1.1\r\nHost: a\r\n\r\n",
                "a",
                "//x/../%2f;y",
            ),
        ];
        for (text, host, target) in table {
            let (head, _) = read(text).expect(text);
            assert_eq!(
                (&*head.host, head.target.as_str()),
                (host, target),
                "{text:?}"
            );
        }
    }

    #[test]
    fn an_upgrade_wants_both_fields() {
        let table = [
            (
                "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n",
                true,
            ),
            ("Upgrade: websocket\r\n", false),
            ("Connection: Upgrade\r\n", false),
        ];
        for (fields, want) in table {
            let (head, _) =
                read(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).expect(fields);
            assert_eq!(head.upgrade, want, "{fields}");
        }
    }
}
