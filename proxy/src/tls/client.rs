//! Who a client is, where it showed a certificate.

use rustls::ServerConnection;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::manner;

/// A certificate that a client has shown, and has proved to hold the key of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Its own certificate.
    pub leaf: CertificateDer<'static>,
    /// All it sent: its own first, then what leads to its authority.
    pub chain: Vec<CertificateDer<'static>>,
}

impl ClientCertificate {
    /// What the client of this connection has shown, in this handshake or in the one that began the
    /// session.
    pub(super) fn of(connection: &ServerConnection) -> Option<Self> {
        let chain: Vec<_> = connection
            .peer_certificates()?
            .iter()
            .map(|der| der.clone().into_owned())
            .collect();
        let leaf = chain.first()?.clone();
        Some(Self { leaf, chain })
    }
}

/// Whether a client whose certificates are `chain`, its own first, is of one of these authorities,
/// and its certificate is in force. All of it is DER.
///
/// A handshake has found that the client is of *some* authority that its site knows; a route asks
/// whether it is of its own.
pub fn client_is_of<C: AsRef<[u8]>, R: AsRef<[u8]>>(chain: &[C], roots: &[R]) -> bool {
    let Some((leaf, between)) = chain.split_first() else {
        return false;
    };
    let Ok(roots) = manner::roots(roots) else {
        return false;
    };
    let Ok(verifier) =
        WebPkiClientVerifier::builder_with_provider(roots.into(), super::provider()).build()
    else {
        return false;
    };
    let leaf = CertificateDer::from(leaf.as_ref());
    let between: Vec<_> = between
        .iter()
        .map(|der| CertificateDer::from(der.as_ref()))
        .collect();
    verifier
        .verify_client_cert(&leaf, &between, UnixTime::now())
        .is_ok()
}
