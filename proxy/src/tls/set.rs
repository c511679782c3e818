//! All certificates of one configuration, and which of them a client gets.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use sovereign_config::model::{Site, Tls};

use super::authority::Authority;
use super::certificate::{Certificate, CertificateInfo, Chosen, Source};
use super::disk;
use super::error::{TlsError, Warning};
use super::local;
use super::names::{CoveredNames, address, parent};

/// The certificates of one configuration. It never changes; a reload makes another.
#[derive(Debug, Default)]
pub struct Set {
    exact: HashMap<Box<str>, Chosen>,
    /// `example.org` for `*.example.org`.
    wildcards: HashMap<Box<str>, Chosen>,
    addresses: HashMap<IpAddr, Chosen>,
    /// For clients that ask for a name that is not above, or for none.
    any: Option<Chosen>,
    list: Vec<CertificateInfo>,
    warnings: Vec<Warning>,
}

impl Set {
    /// Reads the certificates of all sites, and has those of `tls = "local"` signed where the kept
    /// ones do not fit any more. Stops at the first that cannot be used; [`check`] names them all.
    /// Reads and writes files, so not for an async thread.
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
        let mut set = Self::default();
        let mut files = Files::default();
        let mut authority = None;
        let mut secured = Vec::new();
        for site in sites {
            let certificate = match &site.tls {
                Tls::Off => continue,
                Tls::Files { cert, key } => files.read(cert, key, site, now, &mut set.warnings)?,
                Tls::Local => {
                    let authority = match &mut authority {
                        Some(authority) => authority,
                        none => {
                            let opened = Authority::open(state, now)?;
                            set.warnings.extend(opened.warnings(now));
                            none.insert(opened)
                        }
                    };
                    Arc::new(local::certificate(&site.names, authority, state, now)?)
                }
            };
            secured.push((site, certificate));
        }

        for (site, certificate) in &secured {
            set.add_site(&site.names, certificate);
        }
        // What a certificate covers beyond its sites' names comes second: a site's own certificate
        // goes before another's that happens to cover the name.
        for (site, certificate) in &secured {
            for name in &certificate.info.names {
                set.add_if_absent(name, chosen(&site.names, certificate));
            }
            if !set.list.contains(&certificate.info) {
                set.list.push(certificate.info.clone());
            }
        }
        Ok(set)
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

    /// The addresses that have a certificate.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.keys().copied()
    }

    /// Whether a certificate of the local authority is to be signed anew.
    pub(super) fn renew_due(&self, now: SystemTime) -> bool {
        self.list
            .iter()
            .any(|info| info.source == Source::Local && local::renew_due(info.not_after, now))
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

    fn add_site(&mut self, site_names: &[String], certificate: &Certificate) {
        for name in site_names {
            let mut chosen = chosen(site_names, certificate);
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

/// A site's certificate. That of the site which takes all hosts covers all hosts.
fn chosen(site_names: &[String], certificate: &Certificate) -> Chosen {
    let takes_all = site_names.iter().any(|name| name == TAKES_ALL);
    Chosen {
        key: Arc::clone(&certificate.key),
        names: if takes_all {
            Arc::new(CoveredNames::everything())
        } else {
            Arc::clone(&certificate.names)
        },
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
            && let Err(error) = files.read(cert, key, site, now, &mut warnings)
        {
            errors.push(error);
        }
    }
    (errors, warnings)
}

/// Certificate files read so far: one that several sites share is read, warned of and listed once.
#[derive(Default)]
struct Files<'a> {
    read: HashMap<(&'a Path, &'a Path), Arc<Certificate>>,
}

impl<'a> Files<'a> {
    fn read(
        &mut self,
        cert: &'a Path,
        key: &'a Path,
        site: &Site,
        now: SystemTime,
        warnings: &mut Vec<Warning>,
    ) -> Result<Arc<Certificate>, TlsError> {
        let certificate = match self.read.get(&(cert, key)) {
            Some(known) => Arc::clone(known),
            None => {
                let read = Arc::new(Certificate::read(cert, key, Source::Files(cert.into()))?);
                warnings.extend(read.warnings(cert, now));
                if disk::world_readable(key) {
                    warnings.push(Warning::ReadableKey { path: key.into() });
                }
                self.read.insert((cert, key), Arc::clone(&read));
                read
            }
        };
        let missing = certificate.uncovered(&site.names);
        if !missing.is_empty() {
            warnings.push(Warning::Uncovered {
                path: cert.into(),
                missing,
                covered: certificate.info.names.clone(),
            });
        }
        Ok(certificate)
    }
}

/// The name of a site that takes every host no other site names.
const TAKES_ALL: &str = "*";
