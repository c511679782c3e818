//! Whom an upstream's server is known by: the system's authorities, and those that the operator names
//! for it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use pingora_core::protocols::tls::CaType;
use pingora_core::utils::tls::{WrappedX509, parse_x509};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use x509_parser::parse_x509_certificate;

/// Authorities, as Pingora wants them.
#[derive(Debug)]
pub(super) struct Trusted {
    /// Their certificates.
    pub(super) certificates: Arc<CaType>,
    /// Tells kept connections of one trust from those of another.
    pub(super) group: u64,
}

impl Trusted {
    /// The system's authorities and `roots`, as DER. Those that cannot be read are passed over: where they
    /// are needed, the handshake says so. `None`: there is nobody to trust, and `roots` is of no use.
    pub(super) async fn read(roots: Vec<Vec<u8>>) -> Option<Arc<Self>> {
        let read = tokio::task::spawn_blocking(move || {
            let mut hasher = DefaultHasher::new();
            roots.hash(&mut hasher);
            let system = rustls_native_certs::load_native_certs().certs;
            let system = system.into_iter().map(|der| der.to_vec());
            let certificates: Arc<CaType> = roots
                .into_iter()
                .chain(system)
                .filter(|der| is_readable(der))
                .map(|der| WrappedX509::new(der, parse_x509))
                .collect();
            (!certificates.is_empty()).then(|| {
                Arc::new(Self {
                    certificates,
                    // 0 is the trust of all others.
                    group: hasher.finish().max(1),
                })
            })
        });
        read.await.ok().flatten()
    }
}

fn is_readable(der: &[u8]) -> bool {
    parse_x509_certificate(der).is_ok()
        && RootCertStore::empty()
            .add(CertificateDer::from(der))
            .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_certificate_is_passed_over() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let root = rcgen::CertificateParams::default()
            .self_signed(&key)
            .expect("a certificate");
        let sound = root.der().to_vec();
        let broken = vec![0x30, 3, 2, 1, 7];
        let both = Trusted::read(vec![broken.clone(), sound.clone()]).await;
        let both = both.expect("one is sound");
        assert!(
            both.certificates
                .iter()
                .any(|one| *one.borrow_raw_cert() == sound)
        );
        assert!(
            both.certificates
                .iter()
                .all(|one| *one.borrow_raw_cert() != broken)
        );
        let one = Trusted::read(vec![sound]).await.expect("it is sound");
        assert_ne!(one.group, both.group);
    }
}
