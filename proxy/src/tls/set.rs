//! All certificates of one configuration, and which of them a client gets.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use sovereign_config::model::{Site, Tls};

use super::certificate::{Certificate, CertificateInfo, Chosen, Source};
use super::error::{TlsError, Warning};
use super::files::{Files, Watched};
use super::load::{Kepts, Loader, Unwritten};
use super::local;
use super::manner::Manner;
use super::names::{CoveredNames, address, parent};

/// The certificates of one configuration. It never changes; a reload makes another.
#[derive(Debug)]
pub struct Set {
    exact: HashMap<Box<str>, Chosen>,
    /// `example.org` for `*.example.org`.
    wildcards: HashMap<Box<str>, Chosen>,
    addresses: HashMap<IpAddr, Chosen>,
    /// For clients that ask for a name that is not above, or for none.
    any: Option<Chosen>,
    /// How handshakes are done: that of strangers first.
    manners: Vec<Manner>,
    /// Served over plain HTTP until the first certificate is there.
    pub(super) provisional: HashSet<Box<str>>,
    list: Vec<CertificateInfo>,
    pub(super) warnings: Vec<Warning>,
    /// What was read, for the next set.
    pub(super) files: Files,
    pub(super) kepts: Kepts,
    /// Of the local authority, by the canonical name of the site.
    pub(super) locals: HashMap<Box<str>, Arc<Certificate>>,
}

/// What a site gets, or some of its names.
#[derive(Debug)]
pub(super) struct Secured<'a> {
    pub(super) site: &'a Site,
    /// The names that get it.
    pub(super) names: Vec<String>,
    pub(super) certificate: Arc<Certificate>,
}

/// Without sites.
impl Default for Set {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            wildcards: HashMap::new(),
            addresses: HashMap::new(),
            any: None,
            manners: vec![Manner::default()],
            provisional: HashSet::new(),
            list: Vec::new(),
            warnings: Vec::new(),
            files: Files::default(),
            kepts: Kepts::default(),
            locals: HashMap::new(),
        }
    }
}

impl Set {
    /// Reads the certificates of all sites, and has those of `tls = "local"` signed where the kept
    /// ones do not fit any more. A site of `tls = "acme"` whose certificate is not there yet gets one
    /// of the local authority. Stops at the first file of the operator's that cannot be used;
    /// [`check`] names them all. Reads and writes files, so not for an async thread.
    pub fn load(sites: &[Site], state: &Path) -> Result<Self, TlsError> {
        Self::load_at(sites, state, SystemTime::now())
    }

    /// What the operator should know, though everything can be served.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The certificates, in the order of their sites.
    pub fn list(&self) -> &[CertificateInfo] {
        &self.list
    }

    pub(super) fn load_at(sites: &[Site], state: &Path, now: SystemTime) -> Result<Self, TlsError> {
        Loader::new(state, now, None, false).load(sites)
    }

    /// As [`load`](Self::load). What lies on disk as it did when `before` was loaded is not read
    /// again; with `hold`, what `before` has stays where an operator's file cannot be used any more.
    pub(super) fn load_after(
        sites: &[Site],
        state: &Path,
        unwritten: &Unwritten,
        before: &Self,
        hold: bool,
    ) -> Result<Self, TlsError> {
        let mut loader = Loader::new(state, SystemTime::now(), Some(before), hold);
        loader.take(unwritten);
        loader.load(sites)
    }

    /// Says what each client gets.
    pub(super) fn fill(&mut self, secured: &[Secured<'_>]) -> Result<(), TlsError> {
        let manners: Vec<Manner> = secured.iter().map(|one| Manner::of(one.site)).collect();
        self.manners = vec![Manner::of_strangers(manners.iter())];
        let mut places = Vec::with_capacity(manners.len());
        for manner in manners {
            places.push(self.place(manner)?);
        }
        for (one, manner) in secured.iter().zip(&places) {
            self.add_site(one, *manner);
        }
        // What a certificate covers beyond its sites' names comes second: a site's own certificate
        // goes before another's that happens to cover the name.
        let mut listed = HashSet::new();
        for (one, manner) in secured.iter().zip(&places) {
            let info = &one.certificate.info;
            for name in &info.names {
                self.add_if_absent(name, one.chosen(*manner));
            }
            // By what it says: one chain may be read with two keys' files.
            if listed.insert(info) {
                self.list.push(info.clone());
            }
        }
        Ok(())
    }

    /// Where a manner stands among those of this set.
    fn place(&mut self, manner: Manner) -> Result<usize, TlsError> {
        if let Some(place) = self.manners.iter().position(|known| *known == manner) {
            return Ok(place);
        }
        manner.check()?;
        self.manners.push(manner);
        Ok(self.manners.len() - 1)
    }

    /// What a client gets that asks for `sni` or, without a name, came to the address `local`.
    /// `None`: nothing here is meant for it.
    pub(super) fn choose(&self, sni: Option<&str>, local: Option<IpAddr>) -> Option<&Chosen> {
        let named = match sni {
            Some(name) => self.by_name(name),
            None => local.and_then(|ip| self.addresses.get(&ip.to_canonical())),
        };
        named.or(self.any.as_ref())
    }

    /// Whether plain HTTP answers for this host until the first certificate is there.
    pub(super) fn is_provisional(&self, name: &str) -> bool {
        !self.provisional.is_empty() && self.provisional.contains(name)
    }

    /// The addresses that have a certificate.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (IpAddr, &Chosen)> {
        self.addresses.iter().map(|(ip, chosen)| (*ip, chosen))
    }

    /// How handshakes are done; `Chosen::manner` is an index into it.
    pub(super) fn manners(&self) -> &[Manner] {
        &self.manners
    }

    /// The operator's files, as they looked before they were read.
    pub(super) fn watched(&self) -> Watched {
        self.files.watched.clone()
    }

    /// Whether a certificate of the local authority is to be signed anew.
    pub(super) fn renew_due(&self, now: SystemTime) -> bool {
        let ours =
            |info: &&CertificateInfo| matches!(info.source, Source::Local | Source::Temporary);
        let mut ours = self.list.iter().filter(ours);
        ours.any(|info| local::renew_due(info.not_after, now))
    }

    fn by_name(&self, name: &str) -> Option<&Chosen> {
        let mut name = Cow::Borrowed(name.strip_suffix('.').unwrap_or(name));
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            name = name.to_ascii_lowercase().into();
        }
        self.exact
            .get(name.as_ref())
            .or_else(|| self.wildcards.get(parent(&name)?))
    }

    fn add_site(&mut self, secured: &Secured<'_>, manner: usize) {
        for name in &secured.names {
            let mut chosen = secured.chosen(manner);
            if name == TAKES_ALL {
                self.any = Some(chosen);
                continue;
            }
            if !chosen.names.covers_site_name(name) {
                // The operator was warned. Who asks for this name all the same is served under
                // it; who asks for another name is not.
                Arc::make_mut(&mut chosen.names).insert(name);
            }
            self.add_if_absent(name, chosen);
        }
    }

    fn add_if_absent(&mut self, name: &str, chosen: Chosen) {
        let name = name.to_ascii_lowercase();
        if let Some(ip) = address(&name) {
            self.addresses.entry(ip).or_insert(chosen);
        } else if let Some(parent) = name.strip_prefix("*.") {
            self.wildcards.entry(parent.into()).or_insert(chosen);
        } else {
            self.exact.entry(name.into()).or_insert(chosen);
        }
    }
}

impl Secured<'_> {
    /// The certificate of the site which takes all hosts covers all hosts.
    fn chosen(&self, manner: usize) -> Chosen {
        let takes_all = self.names.iter().any(|name| name == TAKES_ALL);
        Chosen {
            key: Arc::clone(&self.certificate.key),
            names: if takes_all {
                Arc::new(CoveredNames::everything())
            } else {
                Arc::clone(&self.certificate.names)
            },
            manner,
        }
    }
}

/// Everything that is wrong with the certificate files of these sites, and everything that is odd.
/// Writes nothing, so that a configuration can be checked on a machine where it will not run.
pub fn check(sites: &[Site]) -> (Vec<TlsError>, Vec<Warning>) {
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    let mut files = Files::default();
    let now = SystemTime::now();
    for site in sites {
        if let Tls::Files { cert, key } = &site.tls
            && let Err(error) = files.read((cert, key), &site.names, None, now, &mut warnings)
        {
            errors.push(error);
        }
        if let Err(error) = Manner::of(site).check() {
            errors.push(error);
        }
    }
    (errors, warnings)
}

/// The name of a site that takes every host no other site names.
const TAKES_ALL: &str = "*";
