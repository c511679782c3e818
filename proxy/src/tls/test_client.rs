//! The other end of a handshake: a rustls client on a pipe, and what it saw. For tests only.

#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::FromDer;

use super::{AcceptError, Anybody, Certificates, TlsFacts, accept};

/// The address that clients connect to.
pub(super) const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Both ends of a connection after its handshake, and what each saw.
pub(super) struct Done {
    pub(super) facts: TlsFacts,
    /// The names of the certificate that the client saw.
    pub(super) names: Vec<String>,
    pub(super) subject: String,
    pub(super) issuer: String,
    server: tokio_rustls::server::TlsStream<DuplexStream>,
    client: tokio_rustls::client::TlsStream<DuplexStream>,
}

impl std::fmt::Debug for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.facts.fmt(f)
    }
}

impl Done {
    /// Sends a byte there and back; on the way the client takes its session ticket.
    pub(super) async fn echo(&mut self) {
        self.client.write_all(b"x").await.unwrap();
        let byte = self.server.read_u8().await.unwrap();
        self.server.write_all(&[byte]).await.unwrap();
        self.server.flush().await.unwrap();
        assert_eq!(self.client.read_u8().await.unwrap(), b'x');
    }
}

pub(super) async fn connect(
    certificates: &Certificates,
    client: &ClientConfig,
    host: &str,
) -> Result<Done, AcceptError<DuplexStream>> {
    connect_at(certificates, client, host, LOCAL).await
}

pub(super) async fn connect_at(
    certificates: &Certificates,
    client: &ClientConfig,
    host: &str,
    local: IpAddr,
) -> Result<Done, AcceptError<DuplexStream>> {
    let (near, far) = tokio::io::duplex(1 << 16);
    connect_through(certificates, client, host, local, near, far).await
}

pub(super) async fn connect_through(
    certificates: &Certificates,
    client: &ClientConfig,
    host: &str,
    local: IpAddr,
    near: DuplexStream,
    far: DuplexStream,
) -> Result<Done, AcceptError<DuplexStream>> {
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let connector = TlsConnector::from(Arc::new(client.clone()));
    let (client, server) = tokio::join!(
        connector.connect(name, near),
        accept(far, certificates, local, SECOND * 10)
    );
    let (server, facts) = server?;
    let client = client.unwrap();
    let leaf = &client.get_ref().1.peer_certificates().unwrap()[0];
    let (_, leaf) = x509_parser::certificate::X509Certificate::from_der(leaf).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    let names = names.value.general_names.iter();
    Ok(Done {
        facts,
        names: names
            .map(|name| match name {
                x509_parser::extensions::GeneralName::DNSName(name) => name.to_string(),
                x509_parser::extensions::GeneralName::IPAddress(ip) => match ip.len() {
                    4 => IpAddr::from(<[u8; 4]>::try_from(*ip).unwrap()).to_string(),
                    _ => IpAddr::from(<[u8; 16]>::try_from(*ip).unwrap()).to_string(),
                },
                other => panic!("{other:?}"),
            })
            .collect(),
        subject: leaf.subject().to_string(),
        issuer: leaf.issuer().to_string(),
        server,
        client,
    })
}

pub(super) fn no_sites() -> Certificates {
    Certificates::new(super::Set::default()).unwrap()
}

/// A client that believes every certificate.
pub(super) fn client() -> ClientConfig {
    client_with(super::provider(), rustls::ALL_VERSIONS)
}

pub(super) fn client_with(
    provider: Arc<CryptoProvider>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth()
}

pub(super) fn only(group: &'static dyn SupportedKxGroup) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        kx_groups: vec![group],
        ..super::provider().as_ref().clone()
    })
}

/// The first bytes of a real client.
pub(super) fn client_hello() -> Vec<u8> {
    let name = ServerName::try_from("a.example").unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(client()), name).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    hello
}
