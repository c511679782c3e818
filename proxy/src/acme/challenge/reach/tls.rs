//! Asks an address for a challenge's certificate that only we have, by a TLS-ALPN-01 handshake.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{AlertDescription, ClientConfig};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Seen;
use crate::acme::answers::{ALPN, Answer, Answers, Put, PutError, server_name};

/// A question with the certificate that we alone can give; it is there for as long as this is.
pub(super) struct Probe {
    answers: Arc<Answers>,
    name: String,
    connector: TlsConnector,
    _put: Put,
}

impl Probe {
    pub(super) async fn new(answers: &Arc<Answers>, name: &str) -> Result<Self, PutError> {
        let mut digest = [0; 32];
        let provider = crate::tls::provider();
        // Without random numbers there is no handshake that could tell.
        let _ = provider.secure_random.fill(&mut digest);
        // One of a challenge under way is as good, and must not be covered.
        let put = if answers.has_alpn(name) {
            Put::nothing()
        } else {
            let name = name.to_owned();
            answers.put(Answer::Alpn { name, digest }).await?
        };
        Ok(Self {
            answers: Arc::clone(answers),
            name: name.to_owned(),
            connector: TlsConnector::from(Arc::new(client(provider))),
            _put: put,
        })
    }

    /// What this address says.
    pub(super) async fn look(&self, address: SocketAddr) -> Seen {
        let stream = match TcpStream::connect(address).await {
            Ok(stream) => stream,
            Err(error) => return Seen::Silent(error.to_string()),
        };
        let Ok(name) = ServerName::try_from(server_name(&self.name)) else {
            return Seen::Silent("the name cannot be asked for".to_owned());
        };
        let stream = match self.connector.connect(name, stream).await {
            Ok(stream) => stream,
            Err(error) => return refused(&error),
        };
        let connection = stream.get_ref().1;
        if connection.alpn_protocol() != Some(ALPN) {
            return Seen::Other("a TLS server that does not speak acme-tls/1".to_owned());
        }
        let leaf = connection.peer_certificates().and_then(<[_]>::first);
        match leaf.and_then(|leaf| digest(leaf)) {
            Some(digest) if self.answers.holds(&self.name, &digest) => Seen::Ours,
            _ => Seen::Other("the answer to another challenge".to_owned()),
        }
    }
}

/// Why there was no handshake: an answer that is none of ours, or none.
fn refused(error: &std::io::Error) -> Seen {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
    match tls {
        Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            Seen::Other("a TLS server that does not speak acme-tls/1".to_owned())
        }
        Some(rustls::Error::AlertReceived(alert)) => {
            Seen::Other(format!("a TLS server that refuses ({alert:?})"))
        }
        Some(rustls::Error::InvalidMessage(_)) => {
            Seen::Other("something that is no TLS".to_owned())
        }
        Some(error) => Seen::Other(format!("a TLS server that cannot be spoken with ({error})")),
        None => Seen::Silent(error.to_string()),
    }
}

/// What a challenge's certificate proves.
fn digest(leaf: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, leaf) = X509Certificate::from_der(leaf).ok()?;
    let found = leaf.extensions().iter();
    let found = found.filter(|extension| extension.oid.to_id_string() == IDENTIFIER);
    // An OCTET STRING in the extension's own.
    let value = found.map(|extension| extension.value).next()?;
    value.strip_prefix(&[4, 32]).map(<[u8]>::to_vec)
}

fn client(provider: Arc<CryptoProvider>) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        // The provider is ours and speaks both.
        .expect("TLS 1.2 and 1.3 are spoken")
        .dangerous()
        // What is looked for in the certificate is known beforehand.
        .with_custom_certificate_verifier(Arc::new(crate::tls::Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config
}

/// id-pe-acmeIdentifier (RFC 8737 section 6.1).
const IDENTIFIER: &str = "1.3.6.1.5.5.7.1.31";
