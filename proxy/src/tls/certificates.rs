//! The set of certificates in force, and the rustls configurations built around it.
//!
//! Every set has its own rustls configurations, so that one handshake sees one set from beginning
//! to end. Session tickets and the session cache of a manner are shared by all of them: sessions
//! outlive swaps.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sovereign_config::model::Site;

use super::certificate::{CertificateInfo, Chosen};
use super::error::TlsError;
use super::files::Watched;
use super::load::Unwritten;
use super::manner::Manner;
use super::names::CoveredNames;
use super::set::Set;
use super::{Challenger, authority, manner};

/// The certificates in force. One for the process; listeners share it in an `Arc`.
#[derive(Debug)]
pub struct Certificates {
    /// What all sets have in common.
    bases: Mutex<Bases>,
    /// For clients that ask for a name nobody serves: says nothing about what is served.
    fallback: Chosen,
    active: ArcSwap<Active>,
    challenger: OnceLock<Arc<dyn Challenger>>,
    turn: tokio::sync::Mutex<()>,
}

impl Certificates {
    /// Puts a first set in force.
    pub fn new(set: Set) -> Result<Self, TlsError> {
        let fallback = authority::throw_away()?;
        let mut bases = Bases::default();
        let active = Active::new(set, &fallback, &mut bases)?;
        Ok(Self {
            bases: Mutex::new(bases),
            fallback,
            active: ArcSwap::from_pointee(active),
            challenger: OnceLock::new(),
            turn: tokio::sync::Mutex::new(()),
        })
    }

    /// Loads the set of a configuration, as [`Set::load`] does. What lies on disk as it did when the
    /// set in force was loaded is not read again, and what is `unwritten` goes before it.
    pub fn load(
        &self,
        sites: &[Site],
        state: &Path,
        unwritten: &Unwritten,
    ) -> Result<Set, TlsError> {
        Set::load_after(sites, state, unwritten, &self.active().set, false)
    }

    /// As [`load`](Self::load), but an operator's file that cannot be used any more is no reason to
    /// stop: what was read of it before stays in force, and a warning says so.
    pub fn load_holding(
        &self,
        sites: &[Site],
        state: &Path,
        unwritten: &Unwritten,
    ) -> Result<Set, TlsError> {
        Set::load_after(sites, state, unwritten, &self.active().set, true)
    }

    /// Puts another set in force. New handshakes get its certificates; open connections and
    /// handshakes under way keep theirs.
    pub fn swap(&self, set: Set) {
        match Active::new(set, &self.fallback, &mut self.bases.lock()) {
            Ok(active) => self.active.store(Arc::new(active)),
            // Loading has looked at all that an operator can get wrong; left are random numbers
            // for ticket keys, which the system has run out of.
            Err(error) => tracing::error!("the certificates in force stay: {error}"),
        }
    }

    /// Whoever loads a set and puts it in force holds this meanwhile: of two at once, one could put
    /// back what the other has just replaced.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// The certificates in force, in the order of their sites.
    pub fn list(&self) -> Vec<CertificateInfo> {
        self.active.load().set.list().to_vec()
    }

    /// What the operator was told of the set in force.
    pub fn warnings(&self) -> Vec<String> {
        let active = self.active.load();
        let warnings = active.set.warnings().iter();
        warnings.map(ToString::to_string).collect()
    }

    /// Whether a certificate of the local authority has less than 30 days left. Loading a set signs
    /// it anew.
    pub fn renew_due(&self) -> bool {
        self.active.load().set.renew_due(SystemTime::now())
    }

    /// The operator's files of the set in force, to be looked at again.
    pub fn watched(&self) -> Watched {
        self.active.load().set.watched()
    }

    /// Who answers TLS-ALPN-01 from now on; said once, at the start.
    pub fn challenged_by(&self, challenger: Arc<dyn Challenger>) {
        // The second of two would be a defect of ours; the first goes on answering.
        let _ = self.challenger.set(challenger);
    }

    /// Who answers TLS-ALPN-01.
    pub(super) fn challenger(&self) -> Option<&Arc<dyn Challenger>> {
        self.challenger.get()
    }

    /// Whether plain HTTP answers for the host `name`, in lower case, in place of redirecting: its
    /// site is `until = "http"`, and its first certificate is not there yet.
    pub fn is_provisional(&self, name: &str) -> bool {
        self.active.load().set.is_provisional(name)
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
    /// One for each manner of the set.
    configs: Vec<Arc<ServerConfig>>,
    /// For clients without SNI that come to an address which is a name of a site: a handful at most.
    by_address: HashMap<IpAddr, Arc<ServerConfig>>,
}

/// What a client gets.
pub(super) struct Served {
    pub(super) config: Arc<ServerConfig>,
    pub(super) names: Arc<CoveredNames>,
}

impl Active {
    fn new(set: Set, fallback: &Chosen, bases: &mut Bases) -> Result<Self, TlsError> {
        let set = Arc::new(set);
        let bases = bases.of(set.manners())?;
        let config = |manner: usize, local| {
            // `Chosen::manner` is an index into the set's manners, of which there is at least one.
            let mut config = bases[manner].clone();
            config.cert_resolver = Arc::new(Resolver {
                set: Arc::clone(&set),
                fallback: fallback.clone(),
                local,
            });
            Arc::new(config)
        };
        let by_address = set.addresses();
        Ok(Self {
            by_address: by_address
                .map(|(ip, chosen)| (ip, config(chosen.manner, Some(ip))))
                .collect(),
            configs: (0..bases.len()).map(|at| config(at, None)).collect(),
            fallback: fallback.clone(),
            set,
        })
    }

    /// What a client gets that, without a name, came to the address `local`.
    pub(super) fn serve(&self, hello: &ClientHello<'_>, local: IpAddr) -> Served {
        let sni = hello.server_name();
        let chosen = self.set.choose(sni, Some(local)).unwrap_or(&self.fallback);
        let by_address = match sni {
            None => self.by_address.get(&local.to_canonical()),
            Some(_) => None,
        };
        let mut config = Arc::clone(by_address.unwrap_or(&self.configs[chosen.manner]));
        if manner::spares_aes(hello.cipher_suites()) {
            // Rare, and a copy costs less than a microsecond: what is large in it is shared.
            let mut theirs = ServerConfig::clone(&config);
            theirs.ignore_client_order = false;
            config = Arc::new(theirs);
        }
        Served {
            config,
            names: Arc::clone(&chosen.names),
        }
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

/// The configurations of all manners in use, without certificates.
#[derive(Debug, Default)]
struct Bases(Vec<(Manner, ServerConfig)>);

impl Bases {
    /// Those of these manners. A manner that was in use before keeps its sessions; one that is not
    /// any more is forgotten with them.
    fn of(&mut self, manners: &[Manner]) -> Result<Vec<ServerConfig>, TlsError> {
        let mut bases = Vec::with_capacity(manners.len());
        for manner in manners {
            let known = self.0.iter().find(|(known, _)| known == manner);
            bases.push(match known {
                Some((_, base)) => base.clone(),
                None => manner.config()?,
            });
        }
        self.0 = manners.iter().cloned().zip(bases.clone()).collect();
        Ok(bases)
    }
}
