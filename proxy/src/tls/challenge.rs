//! The handshake of TLS-ALPN-01 (RFC 8737): told from a visitor's by its client hello, answered with
//! the challenge's own certificate under a configuration of its own, and over when it is done.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{Accepted, ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::StartHandshake;

use super::Certificates;

/// The protocol that an authority asks for, and no other.
const PROTOCOL: &[u8] = b"acme-tls/1";

/// How long the authority may take to go.
const LINGER: Duration = Duration::from_secs(2);

/// The configuration for a client hello that asks for a challenge which is under way.
pub(super) async fn config(
    accepted: &Accepted,
    certificates: &Certificates,
) -> Option<Arc<ServerConfig>> {
    let challenger = certificates.challenger()?;
    let name = asked(&accepted.client_hello())?;
    let key = challenger.certificate(&name).await?;
    let mut config = ServerConfig::builder_with_provider(super::provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .ok()?
        .with_no_client_auth()
        // rustls checks what `with_single_cert` gets, and refuses the critical extension.
        .with_cert_resolver(Arc::new(Only(key)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.send_tls13_tickets = 0;
    Some(Arc::new(config))
}

/// Shakes hands and closes: nothing is spoken on such a connection.
pub(super) async fn answer<S>(
    start: StartHandshake<S>,
    config: Arc<ServerConfig>,
) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = start.into_stream(config).await?;
    // Reading until the other end goes keeps the close from becoming a reset.
    let close = async {
        stream.shutdown().await?;
        let mut rest = [0; 64];
        while stream.read(&mut rest).await? > 0 {}
        std::io::Result::Ok(())
    };
    // The handshake is done: how the connection ends is nobody's concern.
    let _ = tokio::time::timeout(LINGER, close).await;
    Ok(())
}

/// The name of a hello that speaks the challenge's protocol alone.
fn asked(hello: &ClientHello<'_>) -> Option<String> {
    let mut protocols = hello.alpn()?;
    if protocols.next() != Some(PROTOCOL) || protocols.next().is_some() {
        return None;
    }
    hello.server_name().map(str::to_ascii_lowercase)
}

/// One certificate, whatever is asked for.
#[derive(Debug)]
struct Only(Arc<CertifiedKey>);

impl ResolvesServerCert for Only {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
