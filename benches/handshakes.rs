//! Shakes hands with a TLS server again and again, for `side-by-side`: no load generator that Debian
//! has offers X25519MLKEM768, or takes sessions of TLS 1.3 up again.
//!
//! ```text
//! handshakes ADDRESS SECONDS full|resumed|mlkem
//! figures HANDSHAKES MICROSECONDS RESUMED FAILURES GROUP
//! ```
//!
//! Each connection is one handshake and no request; it ends when the server has closed it, so that
//! all of the server's work for it is done. TLS 1.3 only, as a browser's. The server's signature is
//! not looked at: that is the client's own work, and takes from the server what both share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, HandshakeKind, SignatureScheme};
use sovereign_proxy::tls;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Connections at once: enough to keep one core of a server busy.
const AT_ONCE: usize = 16;
/// How long a handshake may take.
const LONGEST: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Figures {
    done: AtomicU64,
    resumed: AtomicU64,
    failures: AtomicU64,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Full,
    Resumed,
    Mlkem,
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run())
}

async fn run() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, seconds, kind] = arguments.as_slice() else {
        bail!("usage: handshakes ADDRESS SECONDS full|resumed|mlkem");
    };
    let address: SocketAddr = address.parse().context("ADDRESS")?;
    let length = Duration::from_secs(seconds.parse().context("SECONDS")?);
    let kind = match kind.as_str() {
        "full" => Kind::Full,
        "resumed" => Kind::Resumed,
        "mlkem" => Kind::Mlkem,
        other => bail!("{other}: wanted full, resumed or mlkem"),
    };

    // What the first handshake agrees on, all do.
    let (_, group) = shake(&TlsConnector::from(client(kind)?), address).await?;
    let figures = Arc::new(Figures::default());
    let began = Instant::now();
    let until = began + length;
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            Ok(tokio::spawn(work(
                client(kind)?,
                address,
                until,
                figures.clone(),
            )))
        })
        .collect::<anyhow::Result<_>>()?;
    for worker in workers {
        worker.await?;
    }
    let of = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
    println!(
        "figures {} {} {} {} {group}",
        of(&figures.done),
        began.elapsed().as_micros(),
        of(&figures.resumed),
        of(&figures.failures),
    );
    Ok(())
}

/// One client after another, each over a connection of its own. Sessions are its own, too.
async fn work(client: Arc<ClientConfig>, to: SocketAddr, until: Instant, figures: Arc<Figures>) {
    let connector = TlsConnector::from(client);
    while Instant::now() < until {
        match tokio::time::timeout(LONGEST, shake(&connector, to)).await {
            Ok(Ok((kind, _))) => {
                figures.done.fetch_add(1, Ordering::Relaxed);
                if kind == HandshakeKind::Resumed {
                    figures.resumed.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(Err(_)) | Err(_) => {
                figures.failures.fetch_add(1, Ordering::Relaxed);
                // A server that refuses at once is not asked in a loop without end.
                tokio::task::yield_now().await;
            }
        }
    }
}

/// One handshake, and which group its key exchange was in.
async fn shake(
    connector: &TlsConnector,
    to: SocketAddr,
) -> anyhow::Result<(HandshakeKind, String)> {
    let tcp = TcpStream::connect(to).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from("localhost")?;
    let mut stream = connector.connect(name, tcp).await?;
    let (_, connection) = stream.get_ref();
    let kind = connection.handshake_kind().context("no handshake")?;
    let group = connection.negotiated_key_exchange_group();
    let group = group.map_or_else(|| "none".to_owned(), |group| format!("{:?}", group.name()));
    stream.shutdown().await?;
    // Until the server closes; the ticket for the next session is on the way. Some close without a
    // word, which is no failure of the handshake.
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await.unwrap_or(0) > 0 {}
    Ok((kind, group))
}

fn client(kind: Kind) -> anyhow::Result<Arc<ClientConfig>> {
    let kx_groups = match kind {
        // As browsers do: a server that does not know the first takes the second, in one round trip.
        Kind::Mlkem => vec![
            aws_lc_rs::kx_group::X25519MLKEM768,
            aws_lc_rs::kx_group::X25519,
        ],
        Kind::Full | Kind::Resumed => vec![aws_lc_rs::kx_group::X25519],
    };
    let provider = CryptoProvider {
        kx_groups,
        ..tls::provider().as_ref().clone()
    };
    let mut client = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Incurious))
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    client.resumption = match kind {
        Kind::Resumed => Resumption::in_memory_sessions(8),
        Kind::Full | Kind::Mlkem => Resumption::disabled(),
    };
    Ok(Arc::new(client))
}

/// Looks at nothing. `tls::Anybody` verifies the server's signature, for each of which the client would take
/// time from the server on a core that both share.
#[derive(Debug)]
struct Incurious;

impl ServerCertVerifier for Incurious {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        tls::provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
