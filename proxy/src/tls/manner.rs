//! How a site's handshakes are done: which versions of TLS, and whether a client is asked who it is.
//!
//! Each manner has a rustls configuration of its own, with its own ticket keys and its own session
//! cache: a session that began in one manner is never taken up in another, so that none crosses
//! from a site that knows other clients, or other versions.

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    NoClientAuth, ResolvesServerCertUsingSni, ServerSessionMemoryCache, WebPkiClientVerifier,
};
use rustls::{CipherSuite, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::CertificateDer;
use sovereign_config::model::{Site, TlsPolicy};

use super::error::TlsError;

/// How a site's handshakes are done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Manner {
    policy: TlsPolicy,
    /// The authorities of clients that any route of the site lets in, DER; empty: clients are not
    /// asked who they are.
    clients: Vec<Vec<u8>>,
}

impl Manner {
    /// That of a site.
    pub(super) fn of(site: &Site) -> Self {
        let routes = site.routes.iter();
        let mut clients: Vec<Vec<u8>> = routes
            .filter_map(|route| route.client_ca.as_ref())
            .flatten()
            .cloned()
            .collect();
        clients.sort_unstable();
        clients.dedup();
        Self {
            policy: site.tls_policy,
            clients,
        }
    }

    /// That of clients who ask for a name nobody serves: what all sites have in common, so that the
    /// answer to a stranger is not laxer than all others.
    pub(super) fn of_strangers<'a>(mut manners: impl Iterator<Item = &'a Self>) -> Self {
        let first = manners.next().map(|manner| manner.policy);
        let common = first.filter(|policy| manners.all(|manner| manner.policy == *policy));
        Self {
            policy: common.unwrap_or_default(),
            clients: Vec::new(),
        }
    }

    /// The rustls configuration, without certificates.
    pub(super) fn config(&self) -> Result<ServerConfig, TlsError> {
        let setup = |source| TlsError::Setup { source };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(self.versions())
            .map_err(setup)?
            .with_client_cert_verifier(self.verifier()?)
            .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = Ticketer::new().map_err(setup)?;
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        config.send_tls13_tickets = TICKETS;
        config.ignore_client_order = true;
        // No 0-RTT: what arrives in it can be replayed by anyone who saw it.
        config.max_early_data_size = 0;
        Ok(config)
    }

    /// Whether a configuration can be made of it.
    pub(super) fn check(&self) -> Result<(), TlsError> {
        self.verifier().map(drop)
    }

    fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        const MODERN: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
        const BOTH: &[&SupportedProtocolVersion] =
            &[&rustls::version::TLS13, &rustls::version::TLS12];
        match self.policy {
            TlsPolicy::Modern => MODERN,
            TlsPolicy::Intermediate => BOTH,
        }
    }

    /// A client may come without a certificate: the routes that want none are for it. One that it
    /// shows must be good.
    fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        if self.clients.is_empty() {
            return Ok(Arc::new(NoClientAuth));
        }
        let roots = roots(&self.clients).map_err(|source| TlsError::ClientAuthority {
            source: Box::new(source),
        })?;
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), super::provider())
            .allow_unauthenticated()
            .build()
            .map_err(|source| TlsError::ClientAuthority {
                source: Box::new(source),
            })
    }
}

/// The cryptography of servers, with the suites in the order in which they are preferred: AES-128
/// takes less of a host's time than AES-256, and nothing is known to break either.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut provider = super::provider().as_ref().clone();
        let suites = &mut provider.cipher_suites;
        // The sort is stable: ECDSA stays before RSA, and TLS 1.3 before 1.2.
        suites.sort_by_key(|suite| match suite.suite() {
            suite if is_chacha20(suite) => 2,
            suite if is_aes_256(suite) => 1,
            _ => 0,
        });
        Arc::new(provider)
    });
    Arc::clone(&PROVIDER)
}

fn is_aes_256(suite: CipherSuite) -> bool {
    use CipherSuite::{
        TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        TLS13_AES_256_GCM_SHA384,
    };
    matches!(
        suite,
        TLS13_AES_256_GCM_SHA384
            | TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            | TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
    )
}

fn is_chacha20(suite: CipherSuite) -> bool {
    use CipherSuite::{
        TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        TLS13_CHACHA20_POLY1305_SHA256,
    };
    matches!(
        suite,
        TLS13_CHACHA20_POLY1305_SHA256
            | TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    )
}

/// Whether a client that offers these suites, its best first, would rather not compute AES: a phone
/// without the instructions for it, which ChaCha20 spares half the time and the battery.
pub(super) fn spares_aes(offered: &[CipherSuite]) -> bool {
    // Some put a value first that means nothing (RFC 8701).
    let mut known = offered.iter().filter(|suite| suite.as_str().is_some());
    known.next().is_some_and(|first| is_chacha20(*first))
}

/// What certificates are judged by.
pub(super) fn roots<C: AsRef<[u8]>>(ders: &[C]) -> Result<RootCertStore, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for der in ders {
        roots.add(CertificateDer::from(der.as_ref()).into_owned())?;
    }
    Ok(roots)
}

/// Sessions remembered for TLS 1.2 clients without tickets. All others carry their session with
/// them, so a handful is plenty.
const SESSIONS: usize = 256;

/// Tickets sent after a TLS 1.3 handshake. Each costs the server some microseconds and is good for
/// one connection, which brings the next; browsers that speak h2 open one connection at a time.
const TICKETS: usize = 1;
