//! The handshake: from a byte stream to a TLS stream with what is known about it, or the reason why not.
//!
//! The client hello is read here, before rustls gets a configuration: that is where plain HTTP is
//! told from TLS, where the certificates in force are taken, and where an ACME challenge
//! (TLS-ALPN-01) is told from a visitor.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::{Accepted, Acceptor, ServerConnection};
use rustls::{CipherSuite, HandshakeKind, InvalidMessage, NamedGroup, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::StartHandshake;
use tokio_rustls::server::TlsStream;

use super::certificates::Certificates;
use super::challenge;
use super::client::ClientCertificate;
use super::names::CoveredNames;

/// What a handshake found out. Kept for the life of the connection: certificates swapped later
/// change nothing here.
#[derive(Debug, Clone)]
pub struct TlsFacts {
    /// The name that the client asked for, in lower case.
    pub sni: Option<Box<str>>,
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// The cipher suite's IANA name.
    pub cipher: &'static str,
    /// The protocol to speak.
    pub alpn: Alpn,
    /// The key exchange: `X25519MLKEM768`, `X25519`, ...; `none` for a resumed TLS 1.2 session.
    pub group: &'static str,
    /// Whether an earlier session was taken up again.
    pub resumed: bool,
    /// The hosts that may be asked for on this connection.
    pub names: Arc<CoveredNames>,
    /// Who the client is, where it was asked and has shown a certificate.
    pub client: Option<Arc<ClientCertificate>>,
}

/// The application protocol that was agreed upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// HTTP/1.1, also where the client named no protocol.
    H1,
    /// HTTP/2.
    H2,
}

/// Why a connection did not become a TLS connection.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError<S> {
    /// The client spoke plain HTTP. The stream is given back for [`answer_plain_http`].
    #[error("plain HTTP on the TLS port")]
    PlainHttp(S),
    /// The first bytes are neither TLS nor HTTP.
    #[error("neither TLS nor HTTP")]
    NotTls,
    /// The handshake was not finished in time.
    #[error("the TLS handshake took too long")]
    Timeout,
    /// The client went away in the middle of the handshake, or without a word.
    #[error("the client went away before the TLS handshake was done")]
    Eof,
    /// The client wants a protocol that is not spoken here.
    #[error("the client speaks neither h2 nor http/1.1")]
    Alpn,
    /// Client and proxy have no version, cipher suite or key exchange in common.
    #[error("no TLS version or cipher suite in common with the client")]
    Incompatible(#[source] rustls::Error),
    /// The client refused, usually because it does not trust the certificate.
    #[error("the client refused the TLS handshake")]
    Refused(#[source] rustls::Error),
    /// The client has shown a certificate that is not good: lapsed, or of an authority that the
    /// site does not know.
    #[error("the client's certificate is not good")]
    ClientCertificate(#[source] rustls::Error),
    /// The client broke the protocol.
    #[error("the client broke the TLS protocol")]
    Protocol(#[source] rustls::Error),
    /// An authority came for the answer to a challenge, got it, and the connection is over.
    #[error("the answer to a challenge")]
    Challenge,
    /// The connection failed.
    #[error("the connection failed during the TLS handshake")]
    Io(#[source] io::Error),
}

impl<S> AcceptError<S> {
    /// The word for log and metric.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::PlainHttp(_) => "plain-http",
            Self::NotTls => "not-tls",
            Self::Timeout => "timeout",
            Self::Eof => "eof",
            Self::Alpn => "alpn",
            Self::Incompatible(_) => "incompatible",
            Self::Refused(_) => "refused",
            Self::ClientCertificate(_) => "client-certificate",
            Self::Protocol(_) => "protocol",
            Self::Challenge => "acme-challenge",
            Self::Io(_) => "io",
        }
    }
}

/// By hand, so that a stream needs no `Debug`.
impl<S> std::fmt::Debug for AcceptError<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self, self.reason())
    }
}

/// Shakes hands with the client on `stream` within `timeout`.
///
/// `local` is the address the client connected to: it chooses the certificate of a client that
/// sends no name, as clients do that connect to an IP address.
///
/// The future is some kilobytes large. Box it where a connection's task lives longer than its
/// handshake.
pub async fn accept<S>(
    stream: S,
    certificates: &Certificates,
    local: IpAddr,
    timeout: Duration,
) -> Result<(TlsStream<S>, TlsFacts), AcceptError<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match tokio::time::timeout(timeout, handshake(stream, certificates, local)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(AcceptError::Timeout),
    }
}

/// Tells a client that spoke plain HTTP on the TLS port what to do instead, and closes.
pub async fn answer_plain_http<S>(mut stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // What the client has sent is read before closing: a close over unread bytes is a reset, and
    // a reset takes the answer with it. Time and bytes are bounded; a failure is the client's loss.
    let answer = async {
        stream.write_all(PLAIN_HTTP_ANSWER).await?;
        stream.shutdown().await?;
        let mut rest = [0; 512];
        for _ in 0..128 {
            if stream.read(&mut rest).await? == 0 {
                break;
            }
        }
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(PLAIN_HTTP_LINGER, answer).await;
}

async fn handshake<S>(
    mut stream: S,
    certificates: &Certificates,
    local: IpAddr,
) -> Result<(TlsStream<S>, TlsFacts), AcceptError<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let accepted = match client_hello(&mut stream).await {
        Ok(accepted) => accepted,
        Err(Hello::PlainHttp) => return Err(AcceptError::PlainHttp(stream)),
        Err(Hello::NotTls) => return Err(AcceptError::NotTls),
        Err(Hello::Eof) => return Err(AcceptError::Eof),
        Err(Hello::Io(error)) => return Err(from_io(error)),
        Err(Hello::Tls(error)) => return Err(from_tls(error)),
    };
    if let Some(config) = challenge::config(&accepted, certificates).await {
        let start = StartHandshake::from_parts(accepted, stream);
        let answered = challenge::answer(start, config).await;
        return Err(answered.map_or_else(from_io, |()| AcceptError::Challenge));
    }
    let active = certificates.active();
    let served = active.serve(&accepted.client_hello(), local);
    let stream = StartHandshake::from_parts(accepted, stream)
        .into_stream(served.config)
        .await
        .map_err(from_io)?;
    let facts = facts(stream.get_ref().1, served.names);
    Ok((stream, facts))
}

/// Why there is no client hello.
enum Hello {
    PlainHttp,
    NotTls,
    Eof,
    Io(io::Error),
    Tls(rustls::Error),
}

/// Reads the client hello.
async fn client_hello<S>(stream: &mut S) -> Result<Accepted, Hello>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut acceptor = Acceptor::default();
    // On the heap: the future of a connection must not carry it for the connection's life.
    let mut buffer = Vec::with_capacity(HELLO_READ);
    let mut first = true;
    loop {
        buffer.clear();
        if stream.read_buf(&mut buffer).await.map_err(Hello::Io)? == 0 {
            return Err(Hello::Eof);
        }
        if std::mem::take(&mut first) && buffer[0] != TLS_HANDSHAKE {
            return Err(if looks_like_http(&buffer) {
                Hello::PlainHttp
            } else {
                Hello::NotTls
            });
        }
        let mut unread = buffer.as_slice();
        while !unread.is_empty() {
            // Reading from memory fails only where a hello is larger than any real one.
            acceptor
                .read_tls(&mut unread)
                .map_err(|_| Hello::Tls(InvalidMessage::HandshakePayloadTooLarge.into()))?;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(accepted),
            Ok(None) => {}
            Err((error, mut alert)) => {
                let mut bytes = Vec::new();
                // Writing to a vector does not fail; the alert is a courtesy, so its fate is not ours.
                if alert.write_all(&mut bytes).is_ok() {
                    let _ = stream.write_all(&bytes).await;
                    let _ = stream.flush().await;
                }
                return Err(Hello::Tls(error));
            }
        }
    }
}

/// A request line begins with a method in capitals; HTTP/2's preface begins with `PRI`.
fn looks_like_http(bytes: &[u8]) -> bool {
    let method = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-')
        .count();
    (1..=16).contains(&method) && matches!(bytes.get(method), None | Some(b' '))
}

fn facts(connection: &ServerConnection, names: Arc<CoveredNames>) -> TlsFacts {
    let sni = connection.server_name();
    TlsFacts {
        sni: sni.map(|name| name.to_ascii_lowercase().into()),
        version: match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "unknown",
        },
        cipher: connection
            .negotiated_cipher_suite()
            .map_or("unknown", |suite| cipher_name(suite.suite())),
        alpn: match connection.alpn_protocol() {
            Some(b"h2") => Alpn::H2,
            _ => Alpn::H1,
        },
        group: connection
            .negotiated_key_exchange_group()
            .map_or("none", |group| group_name(group.name())),
        resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        names,
        client: ClientCertificate::of(connection).map(Arc::new),
    }
}

/// rustls calls the suites of TLS 1.3 by names of its own.
fn cipher_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or("unknown"),
    }
}

fn group_name(group: NamedGroup) -> &'static str {
    match group {
        NamedGroup::secp256r1 => "P-256",
        NamedGroup::secp384r1 => "P-384",
        other => other.as_str().unwrap_or("unknown"),
    }
}

fn from_io<S>(error: io::Error) -> AcceptError<S> {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    if let BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof = error.kind() {
        return AcceptError::Eof;
    }
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        Some(tls) => from_tls(tls.clone()),
        None => AcceptError::Io(error),
    }
}

fn from_tls<S>(error: rustls::Error) -> AcceptError<S> {
    match error {
        rustls::Error::NoApplicationProtocol => AcceptError::Alpn,
        rustls::Error::PeerIncompatible(_) => AcceptError::Incompatible(error),
        rustls::Error::AlertReceived(_) => AcceptError::Refused(error),
        // Nobody but a client shows the server a certificate.
        rustls::Error::InvalidCertificate(_) => AcceptError::ClientCertificate(error),
        _ => AcceptError::Protocol(error),
    }
}

/// The content type of the record that every TLS connection begins with.
const TLS_HANDSHAKE: u8 = 22;

/// A client hello with an X25519MLKEM768 share is just under 2 KiB; this takes it in one read.
const HELLO_READ: usize = 4096;

/// How long a client may take to read the answer.
const PLAIN_HTTP_LINGER: Duration = Duration::from_secs(2);

const PLAIN_HTTP_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 54\r\n\
    Connection: close\r\n\
    Cache-Control: no-store\r\n\r\n\
    This port speaks HTTPS. Use https:// in the address.\r\n";
