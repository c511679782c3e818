//! Whom we trust to be an authority's server, and why there was no answer from it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::tls;

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("{0:?} is no https URL")]
    Url(String),
    #[error("its name {host} cannot be resolved")]
    Resolve {
        host: String,
        source: std::io::Error,
    },
    #[error("cannot connect to {host}")]
    Connect {
        host: String,
        source: std::io::Error,
    },
    #[error(
        "no TLS connection to {host}; where it is a private authority, name its certificate by `roots`"
    )]
    Tls {
        host: String,
        source: std::io::Error,
    },
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
    #[error("its answer is larger than 1 MiB")]
    TooLarge,
    #[error("its answer is no HTTP")]
    Garbled(#[source] hyper::Error),
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
    #[error("cannot read {}, which says whom to trust", path.display())]
    Roots {
        path: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("cannot set up TLS: {0}")]
    Setup(String),
}

/// The TLS configuration for an authority whose server is trusted by `roots`, or by what the system
/// trusts. Reads files.
pub(super) fn trust(roots: Option<&Path>) -> Result<Arc<ClientConfig>, HttpError> {
    let store = match roots {
        Some(path) => named(path)?,
        None => systems(),
    };
    if store.is_empty() {
        return Err(HttpError::Setup(
            "there is no certificate to trust; install `ca-certificates`, or name a file by `roots`"
                .to_owned(),
        ));
    }
    let config = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| HttpError::Setup(error.to_string()))?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Whom visitors may trust to have signed a certificate that comes alone: `roots`, and whom the system trusts. An
/// authority's server may be known by another root than its certificates. Reads files.
pub(super) fn signers(roots: Option<&Path>) -> Result<RootCertStore, HttpError> {
    let mut store = systems();
    if let Some(path) = roots {
        store.extend(named(path)?.roots);
    }
    Ok(store)
}

fn systems() -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    store
}

fn named(path: &Path) -> Result<RootCertStore, HttpError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| HttpError::Roots {
        path: path.into(),
        source,
    };
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| failed(e.into()))? {
        let certificate = certificate.map_err(|e| failed(e.into()))?;
        store.add(certificate).map_err(|e| failed(e.into()))?;
    }
    Ok(store)
}
