//! What the proxy itself says: redirects, error pages, and the fields it adds to every response.
//! Errors become statuses here and nowhere else.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use sovereign_config::model::HeaderChanges;

use crate::downstream::ResponseHead;
use crate::fields::has_token;
use crate::route::{Refusal, Route, Site};

/// What a client is told when an upstream cannot answer and its hold is over, in seconds.
const RETRY_AFTER: &str = "5";

/// `Cache-Status`, RFC 9211.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Why an upstream gave no response that can be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It took no connection, or broke it before a response.
    Unreachable,
    /// It took too long.
    TimedOut,
    /// It says that it is restarting.
    Restarting,
    /// It answered with an error for which a stored response may stand in.
    ServerError,
    /// Its response was no HTTP.
    Garbage,
    /// The client broke its request.
    BadRequest,
    /// The client went away.
    ClientGone,
    /// More requests wait already than there is memory for.
    Busy,
    /// A fault of our own.
    Internal,
}

impl Failure {
    /// What the client is answered. Unreachable and restarting are both 503: to a visitor they are
    /// the same, and worth asking again.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Unreachable | Self::Restarting | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::ServerError | Self::Garbage => StatusCode::BAD_GATEWAY,
            Self::BadRequest => StatusCode::BAD_REQUEST,
            // Nobody reads it; the log shows it (nginx's convention).
            Self::ClientGone => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The word for log and metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "upstream-unreachable",
            Self::TimedOut => "upstream-timeout",
            Self::Restarting => "upstream-restarting",
            Self::ServerError => "upstream-error",
            Self::Garbage => "upstream-garbage",
            Self::BadRequest => "bad-request",
            Self::ClientGone => "client-gone",
            Self::Busy => "busy",
            Self::Internal => "internal",
        }
    }
}

/// The head of a short answer in plain text. Nothing in it says what is served here.
pub fn plain_head(status: StatusCode) -> ResponseHead {
    let mut head = ResponseHead::new(status);
    put(
        &mut head.headers,
        header::CONTENT_TYPE,
        "text/plain; charset=utf-8",
    );
    put(&mut head.headers, header::CACHE_CONTROL, "no-store");
    date(&mut head.headers);
    head
}

/// Its body: the status and its name.
pub fn plain_body(status: StatusCode) -> Bytes {
    let reason = status.canonical_reason().unwrap_or_default();
    Bytes::from(format!("{} {reason}\n", status.as_str()))
}

/// The answer for a failure: a plain page, or for 503 the site's own.
pub fn failed(status: StatusCode, site: &Site, accepts_html: bool) -> (ResponseHead, Bytes) {
    let mut head = plain_head(status);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        put(&mut head.headers, header::RETRY_AFTER, RETRY_AFTER);
    }
    if !accepts_html {
        return (head, plain_body(status));
    }
    put(
        &mut head.headers,
        header::CONTENT_TYPE,
        "text/html; charset=utf-8",
    );
    let body = match &site.config.unavailable {
        Some(page) if status.is_server_error() => Bytes::from(page.clone()),
        _ => Bytes::from(page(status)),
    };
    (head, body)
}

/// The answer for a client that is not let in for want of a certificate.
pub fn refused(refusal: Refusal) -> (ResponseHead, Bytes) {
    let body = match refusal {
        Refusal::NoCertificate => "403 Forbidden: a client certificate is wanted here\n",
        Refusal::OtherCertificate => {
            "403 Forbidden: this client certificate is not accepted here\n"
        }
    };
    let head = plain_head(StatusCode::FORBIDDEN);
    (head, Bytes::from_static(body.as_bytes()))
}

/// The answer that sends a client elsewhere.
pub fn redirect(status: StatusCode, location: &str) -> (ResponseHead, Bytes) {
    let mut head = plain_head(status);
    head.headers.remove(header::CACHE_CONTROL);
    match HeaderValue::from_str(location) {
        Ok(location) => {
            head.headers.insert(header::LOCATION, location);
            (
                head,
                Bytes::from(format!(
                    "{location_line}\n",
                    location_line = location_text(status)
                )),
            )
        }
        Err(_) => (
            plain_head(StatusCode::BAD_REQUEST),
            plain_body(StatusCode::BAD_REQUEST),
        ),
    }
}

/// The answer of a route that answers by itself.
pub fn answer(
    status: StatusCode,
    content_type: &HeaderValue,
    body: &[u8],
) -> (ResponseHead, Bytes) {
    let mut head = ResponseHead::new(status);
    head.headers
        .insert(header::CONTENT_TYPE, content_type.clone());
    date(&mut head.headers);
    (head, Bytes::copy_from_slice(body))
}

/// Makes the operator's changes and adds `Strict-Transport-Security`, which belongs on answers over TLS only
/// (RFC 6797 section 7.2) and replaces the origin's own.
pub fn finish(headers: &mut HeaderMap, site: &Site, route: Option<&Route>, tls: bool) {
    if tls && let Some(hsts) = &site.config.hsts {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    match route {
        Some(route) => route
            .response_headers
            .iter()
            .for_each(|changes| change(headers, changes)),
        None => change(headers, &site.config.response_headers),
    }
    if route.is_some_and(Route::varies_by_language) {
        vary_by_language(headers);
    }
}

/// Says that clients who understand another language may be answered otherwise.
pub fn vary_by_language(headers: &mut HeaderMap) {
    let told = |token| has_token(headers, &header::VARY, token);
    if !told("accept-language") && !told("*") {
        headers.append(header::VARY, HeaderValue::from_static("Accept-Language"));
    }
}

/// Removes, then sets.
pub fn change(headers: &mut HeaderMap, changes: &HeaderChanges) {
    for name in &changes.remove {
        headers.remove(name);
    }
    for (name, value) in &changes.set {
        headers.insert(name.clone(), value.clone());
    }
}

/// Sets a field to a text that is known to be a valid value.
pub fn put(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.insert(name, HeaderValue::from_static(value));
}

/// Sets `Date` to now, where the origin gave none (RFC 9110 section 6.6.1).
pub fn date(headers: &mut HeaderMap) {
    if headers.contains_key(header::DATE) {
        return;
    }
    let now = httpdate::fmt_http_date(std::time::SystemTime::now());
    if let Ok(now) = HeaderValue::from_str(&now) {
        headers.insert(header::DATE, now);
    }
}

fn location_text(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Redirect")
}

fn page(status: StatusCode) -> String {
    let reason = status.canonical_reason().unwrap_or_default();
    let advice = match status {
        StatusCode::SERVICE_UNAVAILABLE => {
            "The site is starting again. Please try once more in a few seconds."
        }
        StatusCode::GATEWAY_TIMEOUT => "The site took too long to answer. Please try again.",
        StatusCode::BAD_GATEWAY => "The site gave an answer that could not be understood.",
        _ => "The request could not be answered.",
    };
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{reason}</title>\
         <style>body{{font:1.1rem/1.6 system-ui,sans-serif;max-width:34rem;margin:20vh auto;\
         padding:0 1rem;color-scheme:light dark}}</style></head>\
         <body><h1>{reason}</h1><p>{advice}</p><p><small>{}</small></p></body></html>\n",
        status.as_str()
    )
}
