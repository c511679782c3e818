//! Requests to an authority's server. Ours, and not a library's, because of the bounds: an authority that
//! hangs, drips or floods costs some seconds and a megabyte, and is left for the next one. Every answer's
//! `Date` goes to the clock.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{DATE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::clock::Clock;
use super::trust::HttpError;

/// What one order, or one question, says to an authority: one connection that is kept, and the last answer.
#[derive(Clone)]
pub(super) struct Session(Arc<Inner>);

struct Inner {
    tls: Arc<ClientConfig>,
    clock: Arc<Clock>,
    idle: Mutex<Option<(String, SendRequest<Full<Bytes>>)>>,
    last: Mutex<Last>,
    /// The directory, which instant-acme asks for once more.
    directory: Mutex<Option<(String, Bytes)>>,
    /// What dns-persist-01 is told, which instant-acme passes over: the names of the authority, by the URL
    /// of the challenge.
    issuers: Mutex<HashMap<String, Vec<String>>>,
}

/// As much of an authorization as dns-persist-01 needs.
#[derive(Deserialize)]
struct Authorization {
    challenges: Vec<Offered>,
}

#[derive(Deserialize)]
struct Offered {
    #[serde(rename = "type")]
    kind: String,
    url: String,
    #[serde(rename = "issuer-domain-names", default)]
    issuers: Vec<String>,
}

/// What the last answer said besides its body.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Last {
    pub status: u16,
    pub retry_after: Option<Duration>,
}

impl Session {
    pub fn new(tls: Arc<ClientConfig>, clock: Arc<Clock>) -> Self {
        Self(Arc::new(Inner {
            tls,
            clock,
            idle: Mutex::default(),
            last: Mutex::default(),
            directory: Mutex::default(),
            issuers: Mutex::default(),
        }))
    }

    /// What the last answer said.
    pub fn last(&self) -> Last {
        *self.0.last.lock()
    }

    /// The names of the authority that a challenge of the kind dns-persist-01 gave.
    pub fn issuers(&self, challenge: &str) -> Vec<String> {
        let issuers = self.0.issuers.lock();
        issuers.get(challenge).cloned().unwrap_or_default()
    }

    fn hear_issuers(&self, body: &[u8]) {
        if memchr::memmem::find(body, PERSIST.as_bytes()).is_none() {
            return;
        }
        let Ok(authorization) = serde_json::from_slice::<Authorization>(body) else {
            return;
        };
        let mut issuers = self.0.issuers.lock();
        for challenge in authorization.challenges {
            if challenge.kind == PERSIST && issuers.len() < MOST_ISSUERS {
                issuers.insert(challenge.url, challenge.issuers);
            }
        }
    }

    /// Answers further questions for the directory itself.
    pub fn remember_directory(&self, url: &str, body: Bytes) {
        *self.0.directory.lock() = Some((url.to_owned(), body));
    }

    pub async fn get(&self, url: &str) -> Result<Response<Bytes>, HttpError> {
        self.send(Request::get(url), url, Bytes::new()).await
    }

    pub async fn head(&self, url: &str) -> Result<Response<Bytes>, HttpError> {
        self.send(Request::head(url), url, Bytes::new()).await
    }

    pub async fn post(&self, url: &str, jose: Vec<u8>) -> Result<Response<Bytes>, HttpError> {
        let request = Request::post(url).header("content-type", "application/jose+json");
        self.send(request, url, jose.into()).await
    }

    async fn send(
        &self,
        request: http::request::Builder,
        url: &str,
        body: Bytes,
    ) -> Result<Response<Bytes>, HttpError> {
        let request = request
            .body(Full::new(body))
            .map_err(|_| HttpError::Url(url.to_owned()))?;
        self.exchange(request).await
    }

    /// Sends a request and reads the whole answer, within [`EXCHANGE`].
    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, HttpError> {
        // What is left of an earlier answer must not be taken for this one's.
        *self.0.last.lock() = Last::default();
        let answered = tokio::time::timeout(EXCHANGE, self.try_exchange(request)).await;
        answered.unwrap_or(Err(HttpError::Silent(EXCHANGE)))
    }

    async fn try_exchange(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, HttpError> {
        let (host, port) = authority(request.uri())?;
        let place = format!("{host}:{port}");
        prepare(&mut request, &host, port)?;
        let mut sender = self.connection(&place, &host, port).await?;
        let answer = match sender.try_send_request(request).await {
            Ok(answer) => answer,
            Err(mut failed) => {
                // A kept connection that the server had closed meanwhile took nothing.
                let Some(request) = failed.take_message() else {
                    return Err(broken(failed.into_error()));
                };
                sender = self.connect(&host, port).await?;
                sender.send_request(request).await.map_err(broken)?
            }
        };
        let (parts, body) = answer.into_parts();
        self.note(&place, &parts.headers, parts.status.as_u16());
        let body = Limited::new(body, MOST_BYTES).collect().await;
        let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => broken(*error),
            // The bound is the only other one.
            Err(_) => HttpError::TooLarge,
        })?;
        *self.0.idle.lock() = Some((place, sender));
        Ok(Response::from_parts(parts, body.to_bytes()))
    }

    async fn connection(
        &self,
        place: &str,
        host: &str,
        port: u16,
    ) -> Result<SendRequest<Full<Bytes>>, HttpError> {
        let idle = self.0.idle.lock().take();
        if let Some((kept, mut sender)) = idle
            && kept == place
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        self.connect(host, port).await
    }

    async fn connect(&self, host: &str, port: u16) -> Result<SendRequest<Full<Bytes>>, HttpError> {
        let tcp = tcp(host, port).await?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned())
            .map_err(|_| HttpError::Url(format!("https://{host}")))?;
        let secured = TlsConnector::from(self.0.tls.clone()).connect(name, tcp);
        let stream = secured.await.map_err(|source| HttpError::Tls {
            host: format!("{host}:{port}"),
            source,
        })?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // Ends with the sender, or with the server.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(sender)
    }

    fn note(&self, place: &str, headers: &HeaderMap, status: u16) {
        if let Some(date) =
            text(headers, DATE).and_then(|date| httpdate::parse_http_date(date).ok())
        {
            self.0.clock.learn(place, date);
        }
        *self.0.last.lock() = Last {
            status,
            retry_after: retry_after(headers, self.0.clock.now()),
        };
    }
}

impl HttpClient for Session {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let session = self.clone();
        Box::pin(async move {
            let known = session.0.directory.lock().clone();
            if let Some((_, body)) = known.filter(|(url, _)| *request.uri() == url.as_str()) {
                return Ok(answer(Response::new(body)));
            }
            let (parts, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(never) => match never {},
            };
            let request = Request::from_parts(parts, Full::new(body));
            match session.exchange(request).await {
                Ok(response) => {
                    session.hear_issuers(response.body());
                    Ok(answer(response))
                }
                Err(error) => Err(instant_acme::Error::Other(Box::new(error))),
            }
        })
    }
}

fn answer(response: Response<Bytes>) -> BytesResponse {
    let (parts, body) = response.into_parts();
    BytesResponse {
        parts,
        body: Box::new(body),
    }
}

/// Makes it a request in the form that goes over a connection, in our name.
fn prepare(request: &mut Request<Full<Bytes>>, host: &str, port: u16) -> Result<(), HttpError> {
    let url = request.uri().to_string();
    let bad = || HttpError::Url(url.clone());
    let place = if port == 443 {
        host.to_owned()
    } else {
        format!("{host}:{port}")
    };
    let target = request.uri().path_and_query().map_or("/", |p| p.as_str());
    let target: Uri = target.parse().map_err(|_| bad())?;
    let place = HeaderValue::try_from(place).map_err(|_| bad())?;
    *request.uri_mut() = target;
    let headers = request.headers_mut();
    headers.insert(HOST, place);
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    Ok(())
}

/// Host and port of an https URL.
pub(super) fn authority(uri: &Uri) -> Result<(String, u16), HttpError> {
    let host = uri.host().filter(|_| uri.scheme_str() == Some("https"));
    match host {
        Some(host) => Ok((host.to_owned(), uri.port_u16().unwrap_or(443))),
        None => Err(HttpError::Url(uri.to_string())),
    }
}

/// Connects to the first address of a host that takes a connection.
async fn tcp(host: &str, port: u16) -> Result<TcpStream, HttpError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = tokio::net::lookup_host((bare, port)).await;
    let addresses = addresses.map_err(|source| HttpError::Resolve {
        host: host.to_owned(),
        source,
    })?;
    let mut last = std::io::Error::other("it has no address");
    for address in addresses.take(MOST_ADDRESSES) {
        match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = std::io::Error::from(std::io::ErrorKind::TimedOut),
        }
    }
    Err(HttpError::Connect {
        host: format!("{host}:{port}"),
        source: last,
    })
}

fn broken(error: hyper::Error) -> HttpError {
    if error.is_parse() {
        HttpError::Garbled(error)
    } else {
        HttpError::Broken(error)
    }
}

fn text(headers: &HeaderMap, name: http::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// How long the server wants to be left alone: seconds, or a date by its own clock.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = text(headers, RETRY_AFTER)?;
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let own = text(headers, DATE).and_then(|date| httpdate::parse_http_date(date).ok());
    Some(date.duration_since(own.unwrap_or(now)).unwrap_or_default())
}

/// For one request and its whole answer.
const EXCHANGE: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(4);
const PERSIST: &str = "dns-persist-01";
/// More names than any certificate has.
const MOST_ISSUERS: usize = 1000;
const MOST_ADDRESSES: usize = 4;
const MOST_BYTES: usize = 1024 * 1024;
const AGENT: &str = concat!("sovereign-proxy/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_servers_clock() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:00:00 GMT").expect("a date");
        let after = |pairs: &[(http::HeaderName, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(name, HeaderValue::from_static(value));
            }
            retry_after(&headers, now).map(|after| after.as_secs())
        };
        assert_eq!(after(&[]), None);
        assert_eq!(after(&[(RETRY_AFTER, "120")]), Some(120));
        assert_eq!(after(&[(RETRY_AFTER, "soon")]), None);
        let date = (RETRY_AFTER, "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(after(std::slice::from_ref(&date)), Some(2977));
        let own = (DATE, "Sun, 06 Nov 1994 08:49:00 GMT");
        assert_eq!(after(&[date, own]), Some(37));
        assert_eq!(
            after(&[(RETRY_AFTER, "Sun, 06 Nov 1994 07:00:00 GMT")]),
            Some(0)
        );
    }

    #[test]
    fn only_https_is_spoken_to_an_authority() {
        let of = |url: &str| authority(&url.parse().expect("a URL")).ok();
        assert_eq!(
            of("https://ca.example/dir"),
            Some(("ca.example".into(), 443))
        );
        assert_eq!(of("https://[::1]:14000/dir"), Some(("[::1]".into(), 14000)));
        assert_eq!(of("http://ca.example/dir"), None);
        assert_eq!(of("/dir"), None);
    }
}
