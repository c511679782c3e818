//! What holds of fields in any message, whoever reads it.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Whether a comma-separated field has `token` among its members, in any letter case.
pub fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers.get_all(name).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|member| member.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    })
}

/// Removes hop-by-hop fields and those named in `Connection` (RFC 9110, 7.6.1).
pub fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
    for line in named {
        for name in line.as_bytes().split(|b| *b == b',') {
            // Without these the message would be another one, whoever named them.
            if let Ok(name) = HeaderName::from_bytes(name.trim_ascii())
                && name != CONTENT_LENGTH
                && name != HOST
            {
                headers.remove(name);
            }
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Writes every field as HTTP/1.1 does, but those that the connection decides about.
pub fn write_lines(output: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        if is_framing(name) {
            continue;
        }
        output.extend_from_slice(name.as_str().as_bytes());
        output.extend_from_slice(b": ");
        output.extend_from_slice(value.as_bytes());
        output.extend_from_slice(b"\r\n");
    }
}

fn is_framing(name: &HeaderName) -> bool {
    *name == CONTENT_LENGTH
        || *name == TRANSFER_ENCODING
        || *name == CONNECTION
        || name.as_str() == "keep-alive"
        || name.as_str() == "proxy-connection"
}

/// Fields that mean one connection only, whether or not `Connection` names them (RFC 9110, 7.6.1; RFC 9111, 3.1).
const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];
