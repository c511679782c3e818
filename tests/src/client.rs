//! A client that does what it is told: one connection, one protocol, no redirects, no cookies of its
//! own. Certificates are verified, against the authority that the target names.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::wait::within;

/// Longer than any answer takes, a held one included.
const PATIENCE: Duration = Duration::from_secs(60);

/// A body, sent whole or in pieces.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body of these bytes.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Any two-way stream.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Where a client connects, and as whom it expects the server to answer.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where the connection goes.
    pub address: SocketAddr,
    /// The host asked for, in `Host` or `:authority` and in SNI.
    pub host: String,
    /// The trust of a TLS connection; without it the connection is plain.
    pub roots: Option<Arc<RootCertStore>>,
}

impl Target {
    /// A plain connection.
    pub fn plain(address: SocketAddr, host: &str) -> Self {
        Self {
            address,
            host: host.to_owned(),
            roots: None,
        }
    }

    /// A TLS connection that trusts the certificates in a PEM file.
    pub fn tls(address: SocketAddr, host: &str, roots: &Path) -> Self {
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(roots)
            .unwrap_or_else(|error| panic!("no certificates in {}: {error}", roots.display()))
        {
            store
                .add(certificate.expect("the file is PEM"))
                .expect("the file holds an authority's certificate");
        }
        Self {
            address,
            host: host.to_owned(),
            roots: Some(Arc::new(store)),
        }
    }

    /// The same place, asked for under another name.
    pub fn named(&self, host: &str) -> Self {
        Self {
            host: host.to_owned(),
            ..self.clone()
        }
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.roots.is_some() {
            "https"
        } else {
            "http"
        }
    }

    /// Connects, with the handshake done and `protocol` agreed on where there is TLS.
    pub async fn connect(&self, protocol: &str) -> io::Result<Box<dyn Wire>> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let Some(roots) = &self.roots else {
            return Ok(Box::new(tcp));
        };
        let mut config = client_config(roots);
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        let tls = TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await?;
        match tls.get_ref().1.alpn_protocol() {
            Some(agreed) if agreed == protocol.as_bytes() => Ok(Box::new(tls)),
            None if protocol == "http/1.1" => Ok(Box::new(tls)),
            agreed => Err(io::Error::other(format!(
                "{protocol} was offered, {agreed:?} agreed on"
            ))),
        }
    }
}

/// A TLS client that trusts `roots`, with the provider named.
pub fn client_config(roots: &Arc<RootCertStore>) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_root_certificates(roots.clone())
        .with_no_client_auth()
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// The protocol it came in.
    pub version: Version,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Its trailers, where it had any.
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    /// A field's value, or the empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap_or("(not text)"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {self}"))
    }

    /// The cookies that it sets, as one `Cookie` field.
    pub fn cookies(&self) -> String {
        let pairs: BTreeMap<_, _> = self
            .headers
            .get_all("set-cookie")
            .iter()
            .filter_map(|value| value.to_str().ok()?.split(';').next()?.split_once('='))
            .collect();
        pairs
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// Itself, where the status is `status`; else a failed test that shows it.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self}");
        self
    }

    pub(crate) async fn read(response: Response<Incoming>) -> Result<Self, hyper::Error> {
        let (head, body) = response.into_parts();
        let collected = body.collect().await?;
        Ok(Self {
            status: head.status,
            version: head.version,
            headers: head.headers,
            trailers: collected.trailers().cloned(),
            body: collected.to_bytes(),
        })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?} {}", self.version, self.status)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {}", String::from_utf8_lossy(value.as_bytes()))?;
        }
        let text = String::from_utf8_lossy(&self.body);
        write!(f, "\n{}", text.chars().take(600).collect::<String>())
    }
}

/// The sending half of one connection.
#[derive(Debug, Clone)]
pub struct H2(http2::SendRequest<Body>);

/// The sending half of one connection.
#[derive(Debug)]
pub struct H1(http1::SendRequest<Body>);

/// A client with one connection, made anew where it has been closed.
#[derive(Debug)]
pub struct Client {
    target: Target,
    sender: Sender,
    /// Fields added to every request.
    standing: HeaderMap,
}

#[derive(Debug)]
enum Sender {
    H1(tokio::sync::Mutex<Option<H1>>),
    H2(tokio::sync::Mutex<Option<H2>>),
}

impl Client {
    /// A client that speaks HTTP/1.1.
    pub fn h1(target: &Target) -> Self {
        Self {
            target: target.clone(),
            sender: Sender::H1(tokio::sync::Mutex::new(None)),
            standing: HeaderMap::new(),
        }
    }

    /// A client that speaks HTTP/2: over TLS as agreed on, over TCP with prior knowledge.
    pub fn h2(target: &Target) -> Self {
        Self {
            target: target.clone(),
            sender: Sender::H2(tokio::sync::Mutex::new(None)),
            standing: HeaderMap::new(),
        }
    }

    /// The same client, sending one more field with every request.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.standing.insert(
            HeaderName::from_static(name),
            value.parse().expect("a field's value"),
        );
        self
    }

    /// Where it connects.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The answer to a GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], empty()).await
    }

    /// The answer to a GET with fields.
    pub async fn get_with(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.ask(Method::GET, path, fields, empty()).await
    }

    /// The answer to a POST of JSON.
    pub async fn post_json(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        json: &serde_json::Value,
    ) -> Answer {
        let fields = [fields, &[("content-type", "application/json")]].concat();
        self.ask(Method::POST, path, &fields, whole(json.to_string()))
            .await
    }

    /// The answer to any request; a failed test where none comes.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
        body: Body,
    ) -> Answer {
        let what = format!(
            "{method} {}://{}{path}",
            self.target.scheme(),
            self.target.host
        );
        let response = self.send(self.request(method, path, fields, body)).await;
        match within(&what, PATIENCE, Answer::read(response)).await {
            Ok(answer) => answer,
            Err(error) => panic!("{what}: the body was cut off: {}", chain(&error)),
        }
    }

    /// A request to this client's host.
    pub fn request(
        &self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
        body: Body,
    ) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = match self.sender {
            Sender::H1(_) => path.parse(),
            Sender::H2(_) => {
                format!("{}://{}{path}", self.target.scheme(), self.target.host).parse()
            }
        }
        .unwrap_or_else(|error| panic!("{path} is no path: {error}"));
        let headers = request.headers_mut();
        if let Sender::H1(_) = self.sender {
            headers.insert("host", self.target.host.parse().expect("a host name"));
        }
        headers.extend(self.standing.clone());
        for (name, value) in fields {
            headers.append(
                name.parse::<HeaderName>().expect("a field's name"),
                value.parse::<HeaderValue>().expect("a field's value"),
            );
        }
        request
    }

    /// The answer's head, its body still to come; a failed test where none comes.
    pub async fn send(&self, request: Request<Body>) -> Response<Incoming> {
        let what = format!("{} {}", request.method(), request.uri());
        let answer = async {
            match &self.sender {
                Sender::H1(slot) => {
                    let mut slot = slot.lock().await;
                    let open = match slot.take() {
                        Some(sender) => sender.if_open().await,
                        None => None,
                    };
                    let sender = match open {
                        Some(sender) => sender,
                        None => H1::connect(&self.target).await?,
                    };
                    let sender = slot.insert(sender);
                    sender.0.send_request(request).await.map_err(Failure::from)
                }
                Sender::H2(slot) => {
                    let mut sender = {
                        let mut slot = slot.lock().await;
                        let open = match slot.take() {
                            Some(sender) => sender.if_open().await,
                            None => None,
                        };
                        let sender = match open {
                            Some(sender) => sender,
                            None => H2::connect(&self.target).await?,
                        };
                        slot.insert(sender).clone()
                    };
                    sender.0.send_request(request).await.map_err(Failure::from)
                }
            }
        };
        match within(&what, PATIENCE, answer).await {
            Ok(response) => response,
            Err(error) => panic!("{what}: no answer: {error}"),
        }
    }
}

/// Why a request got no answer, in one line.
#[derive(Debug)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(format!("connecting: {error}"))
    }
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        Self(chain(&error))
    }
}

/// What came of handing a request to a connection.
pub(crate) enum Sent {
    /// It was answered.
    Answered(Response<Incoming>),
    /// The connection was closed before a byte of it was sent, or the server said that it did nothing
    /// with it: it may be sent on another.
    Untouched(String),
    /// It failed.
    Failed(String),
}

impl H1 {
    pub(crate) async fn connect(target: &Target) -> Result<Self, Failure> {
        let wire = target.connect("http/1.1").await?;
        let (sender, connection) = http1::handshake(TokioIo::new(wire)).await?;
        tokio::spawn(connection.with_upgrades());
        Ok(Self(sender))
    }

    /// Itself, where the connection can take a request.
    pub(crate) async fn if_open(mut self) -> Option<Self> {
        self.0.ready().await.is_ok().then_some(self)
    }

    pub(crate) async fn send(&mut self, request: Request<Body>) -> Sent {
        match self.0.try_send_request(request).await {
            Ok(response) => Sent::Answered(response),
            Err(mut error) => {
                let word = chain(error.error());
                match error.take_message() {
                    Some(_) => Sent::Untouched(word),
                    None => Sent::Failed(word),
                }
            }
        }
    }
}

impl H2 {
    pub(crate) async fn connect(target: &Target) -> Result<Self, Failure> {
        let wire = target.connect("h2").await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .handshake(TokioIo::new(wire))
            .await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Itself, where the connection can take a request.
    pub(crate) async fn if_open(mut self) -> Option<Self> {
        self.0.ready().await.is_ok().then_some(self)
    }

    pub(crate) async fn send(&mut self, request: Request<Body>) -> Sent {
        match self.0.try_send_request(request).await {
            Ok(response) => Sent::Answered(response),
            Err(mut error) => {
                let untouched = error.take_message().is_some() || refused(error.error());
                let word = chain(error.error());
                if untouched {
                    Sent::Untouched(word)
                } else {
                    Sent::Failed(word)
                }
            }
        }
    }
}

/// Whether the server said that it did nothing with the request (RFC 9113, 8.7).
fn refused(error: &hyper::Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<h2::Error>())
        .is_some_and(|error| {
            let reason = error.reason();
            error.is_remote()
                && (reason == Some(h2::Reason::REFUSED_STREAM)
                    || (error.is_go_away() && reason == Some(h2::Reason::NO_ERROR)))
        })
}

/// An error and its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        line = format!("{line}: {cause}");
        next = cause.source();
    }
    line
}
