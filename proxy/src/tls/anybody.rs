//! A client's trust where it matters who holds the key, and not who vouches for it.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Takes whatever certificate a server shows, as long as the server has its key.
///
/// For those who look at the certificate themselves: who signed it, for which names and until when
/// is not asked. The signatures of the handshake are verified with the key alone, as the critical
/// extension of a TLS-ALPN-01 certificate makes rustls refuse the whole of it.
#[derive(Debug, Clone, Copy)]
pub struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let cert = parsed(cert)?;
        let key = &cert.public_key().subject_public_key.data;
        // In TLS 1.2 a scheme does not say on which curve the key is.
        algorithms()
            .mapping
            .iter()
            .filter(|(scheme, _)| *scheme == signed.scheme)
            .flat_map(|(_, algorithms)| *algorithms)
            .any(|algorithm| {
                let verified = algorithm.verify_signature(key, message, signed.signature());
                verified.is_ok()
            })
            .then(HandshakeSignatureValid::assertion)
            .ok_or(CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let cert = parsed(cert)?;
        let key = SubjectPublicKeyInfoDer::from(cert.public_key().raw);
        verify_tls13_signature_with_raw_key(message, &key, signed, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

fn parsed<'a>(cert: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateError> {
    let (_, cert) = X509Certificate::from_der(cert).map_err(|_| CertificateError::BadEncoding)?;
    Ok(cert)
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    super::provider().signature_verification_algorithms
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use rcgen::{CustomExtension, KeyPair, SignatureAlgorithm};
    use rustls::server::{ClientHello, ResolvesServerCert};
    use rustls::sign::CertifiedKey;
    use rustls::version::{TLS12, TLS13};
    use rustls::{ServerConfig, SupportedProtocolVersion};
    use rustls_pki_types::PrivateKeyDer;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::super::{provider, test_client};
    use super::*;

    /// A certificate of `shown`, and a server that signs with `held`.
    #[derive(Debug)]
    struct Shows(Arc<CertifiedKey>);

    impl Shows {
        fn new(shown: &KeyPair, held: &KeyPair) -> Self {
            let mut params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
            let challenge = CustomExtension::new_acme_identifier(&[7; 32]);
            params.custom_extensions.push(challenge);
            let cert = params.self_signed(shown).unwrap();
            let held = PrivateKeyDer::Pkcs8(held.serialize_der().into());
            let held = provider().key_provider.load_private_key(held).unwrap();
            let chain = vec![cert.der().clone()];
            Self(Arc::new(CertifiedKey::new(chain, held)))
        }
    }

    impl ResolvesServerCert for Shows {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
    }

    async fn shaken(
        version: &'static SupportedProtocolVersion,
        shown: &KeyPair,
        held: &KeyPair,
    ) -> Result<(), String> {
        let server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Shows::new(shown, held)));
        let client = test_client::client_with(provider(), &[version]);
        let name = ServerName::try_from("b.example").unwrap();
        let (near, far) = tokio::io::duplex(1 << 16);
        let (client, _) = tokio::join!(
            TlsConnector::from(Arc::new(client)).connect(name, near),
            TlsAcceptor::from(Arc::new(server)).accept(far)
        );
        client.map(drop).map_err(|error| error.to_string())
    }

    fn key(algorithm: &'static SignatureAlgorithm) -> KeyPair {
        KeyPair::generate_for(algorithm).unwrap()
    }

    #[tokio::test]
    async fn only_who_holds_the_key_is_taken() {
        for version in [&TLS12, &TLS13] {
            for algorithm in [
                &rcgen::PKCS_ECDSA_P256_SHA256,
                &rcgen::PKCS_ECDSA_P384_SHA384,
                &rcgen::PKCS_RSA_SHA256,
            ] {
                let (ours, other) = (key(algorithm), key(algorithm));
                assert_eq!(shaken(version, &ours, &ours).await, Ok(()), "{version:?}");
                let refused = shaken(version, &ours, &other).await.unwrap_err();
                assert!(refused.contains("BadSignature"), "{version:?}: {refused}");
            }
        }
    }
}
