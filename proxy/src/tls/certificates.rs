//! The set of certificates in force, and the rustls configuration built around it.
//!
//! Every set has its own rustls configuration, so that one handshake sees one set from beginning
//! to end. Session tickets and the session cache are shared by all of them: sessions outlive swaps.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{
    ClientHello, ResolvesServerCert, ResolvesServerCertUsingSni, ServerSessionMemoryCache,
};
use rustls::sign::CertifiedKey;

use super::authority;
use super::certificate::{CertificateInfo, Chosen};
use super::error::TlsError;
use super::names::CoveredNames;
use super::set::Set;

/// The certificates in force. One for the process; listeners share it in an `Arc`.
#[derive(Debug)]
pub struct Certificates {
    /// What all sets have in common.
    base: ServerConfig,
    /// For clients that ask for a name nobody serves: says nothing about what is served.
    fallback: Chosen,
    active: ArcSwap<Active>,
}

impl Certificates {
    /// Puts a first set in force.
    pub fn new(set: Set) -> Result<Self, TlsError> {
        let fallback = authority::throw_away()?;
        let base = base_config()?;
        let active = Active::new(set, &fallback, &base);
        Ok(Self {
            base,
            fallback,
            active: ArcSwap::from_pointee(active),
        })
    }

    /// Puts another set, from [`Set::load`], in force. New handshakes get its certificates; open connections and
    /// handshakes under way keep theirs.
    pub fn swap(&self, set: Set) {
        self.active
            .store(Arc::new(Active::new(set, &self.fallback, &self.base)));
    }

    /// The certificates in force, in the order of their sites.
    pub fn list(&self) -> Vec<CertificateInfo> {
        self.active.load().set.list().to_vec()
    }

    /// Whether a certificate of the local authority has less than 30 days left. Asked daily by the
    /// app, which then loads a set and swaps: loading signs it anew.
    pub fn renew_due(&self) -> bool {
        self.active.load().set.renew_due(SystemTime::now())
    }

    /// The set in force with its configurations.
    pub(super) fn active(&self) -> Arc<Active> {
        self.active.load_full()
    }
}

/// One set and the configurations that serve it.
#[derive(Debug)]
pub(super) struct Active {
    set: Arc<Set>,
    fallback: Chosen,
    config: Arc<ServerConfig>,
    /// Only for the addresses that are names of sites: a handful at most.
    by_address: HashMap<IpAddr, Arc<ServerConfig>>,
}

impl Active {
    fn new(set: Set, fallback: &Chosen, base: &ServerConfig) -> Self {
        let set = Arc::new(set);
        let config = |local| {
            let mut config = base.clone();
            config.cert_resolver = Arc::new(Resolver {
                set: Arc::clone(&set),
                fallback: fallback.clone(),
                local,
            });
            Arc::new(config)
        };
        Self {
            config: config(None),
            by_address: set.addresses().map(|ip| (ip, config(Some(ip)))).collect(),
            fallback: fallback.clone(),
            set,
        }
    }

    /// The configuration for connections to the address `local`.
    pub(super) fn config(&self, local: IpAddr) -> Arc<ServerConfig> {
        let config = self.by_address.get(&local.to_canonical());
        Arc::clone(config.unwrap_or(&self.config))
    }

    /// The names of the certificate that a client with this SNI got.
    pub(super) fn names(&self, sni: Option<&str>, local: IpAddr) -> Arc<CoveredNames> {
        let chosen = self.set.choose(sni, Some(local));
        Arc::clone(&chosen.unwrap_or(&self.fallback).names)
    }
}

/// What rustls asks for a certificate. rustls does not show it the connection's local address, so
/// there is one resolver for each address that is a site's name.
#[derive(Debug)]
struct Resolver {
    set: Arc<Set>,
    fallback: Chosen,
    local: Option<IpAddr>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let chosen = self.set.choose(hello.server_name(), self.local);
        Some(Arc::clone(&chosen.unwrap_or(&self.fallback).key))
    }
}

/// Without certificates: every set brings its own.
fn base_config() -> Result<ServerConfig, TlsError> {
    let setup = |source| TlsError::Setup { source };
    let mut config = ServerConfig::builder_with_provider(super::provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(setup)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = Ticketer::new().map_err(setup)?;
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    config.send_tls13_tickets = TICKETS;
    // No 0-RTT: what arrives in it can be replayed by anyone who saw it.
    config.max_early_data_size = 0;
    Ok(config)
}

/// Sessions remembered for TLS 1.2 clients without tickets. All others carry their session with
/// them, so a handful is plenty.
const SESSIONS: usize = 256;

/// Tickets sent after a TLS 1.3 handshake. Each costs the server some microseconds and is good for
/// one connection, which brings the next; browsers that speak h2 open one connection at a time.
const TICKETS: usize = 1;
