//! A folder with certificates in it, and sites that name them. For tests only.

#![allow(clippy::unwrap_used)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};
use sovereign_config::model::{
    Action, CacheRules, HeaderChanges, PathPattern, Route, Site, SiteCertificates, Timeouts, Tls,
    TlsPolicy,
};
use tempfile::TempDir;
use time::OffsetDateTime;

use super::{Set, TlsError};
use crate::causes;

pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A folder with certificates of the operator's, which is the state folder as well.
pub(super) struct Disk(pub(super) TempDir);

/// A chain and a key.
pub(super) struct Files(pub(super) PathBuf, pub(super) PathBuf);

impl Disk {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn load(&self, sites: &[Site]) -> Result<Set, TlsError> {
        Set::load(sites, self.0.path())
    }

    pub(super) fn files(&self, name: &str, names: &[&str]) -> Files {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        self.issue(name, CertificateParams::new(names).unwrap())
    }

    pub(super) fn dated(&self, name: &str, host: &str, from: SystemTime, to: SystemTime) -> Files {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.not_before = OffsetDateTime::from(from);
        params.not_after = OffsetDateTime::from(to);
        self.issue(name, params)
    }

    /// A certificate that signed itself, and its key, both PEM.
    pub(super) fn signed(
        &self,
        names: &[&str],
        from: SystemTime,
        to: SystemTime,
    ) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = OffsetDateTime::from(from);
        params.not_after = OffsetDateTime::from(to);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn issue(&self, name: &str, params: CertificateParams) -> Files {
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        Files(
            self.write(&format!("{name}.pem"), &cert.pem()),
            self.write(&format!("{name}.key"), &key.serialize_pem()),
        )
    }

    pub(super) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }
}

impl Files {
    pub(super) fn named(&self, names: &[&str]) -> Site {
        let Self(cert, key) = self;
        site(
            names,
            Tls::Files {
                cert: cert.clone(),
                key: key.clone(),
            },
        )
    }
}

/// A site of which only names and certificate matter here.
pub(super) fn site(names: &[&str], tls: Tls) -> Site {
    Site {
        names: names.iter().map(|name| name.to_string()).collect(),
        preset: None,
        tls,
        certificates: SiteCertificates::default(),
        tls_policy: TlsPolicy::default(),
        hsts: None,
        upstream: Vec::new(),
        timeouts: Timeouts {
            connect: DAY,
            first_byte: DAY,
            idle: DAY,
        },
        hold: Duration::ZERO,
        unavailable: None,
        restarting: Vec::new(),
        cache: CacheRules {
            enabled: false,
            lifetime: None,
            stale: None,
            stale_if_error: Duration::ZERO,
            session_cookies: Default::default(),
            compress: false,
            keep: false,
            invalidate_by: None,
        },
        request_headers: HeaderChanges::default(),
        response_headers: HeaderChanges::default(),
        routes: Vec::new(),
    }
}

/// The site with a route for clients of these authorities.
pub(super) fn with_clients(mut site: Site, path: &str, authorities: &[&[u8]]) -> Site {
    site.routes.push(Route {
        path: PathPattern::Prefix(path.to_owned()),
        languages: Vec::new(),
        action: Action::Forward(Vec::new()),
        client_ca: Some(authorities.iter().map(|der| der.to_vec()).collect()),
        at_once: None,
        cache: site.cache.clone(),
        request_headers: HeaderChanges::default(),
        response_headers: HeaderChanges::default(),
    });
    site
}

/// An error as a log may show it: as it is, and with its causes.
pub(super) fn chain_text(error: &TlsError) -> String {
    format!("{error:?} {}", causes::chain(error))
}

/// Whether a line of the key is in the message.
pub(super) fn leaks(message: &str, key_pem: &str) -> bool {
    let mut secret = key_pem.lines().filter(|line| !line.starts_with("-----"));
    secret.any(|line| message.contains(line))
}
