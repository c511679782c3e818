//! How a site's connections are secured, and the files that this needs.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use http::HeaderValue;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::host::is_certifiable;
use super::{Check, DAY, MIB, ZERO, each};
use crate::model::{self, Challenge, KeyKind, Tls, TlsPolicy, Until};
use crate::problem::{Key, quoted};
use crate::raw;

impl Check<'_, '_> {
    /// What secures a site with these names.
    pub(super) fn tls(&mut self, key: &Key, raw: &raw::Site, names: &[String]) -> Tls {
        let tls = key.key("tls");
        match &raw.tls {
            // Its value was left out: nothing follows from that.
            None if self.problems.is_incomplete(&tls) => Tls::Local,
            None if self.is_public(key, names) => Tls::Acme,
            None | Some(raw::Tls::Named(raw::TlsName::Local)) => Tls::Local,
            Some(raw::Tls::Named(raw::TlsName::Off)) => Tls::Off,
            Some(raw::Tls::Named(raw::TlsName::Acme)) => {
                self.certifiable(key, names);
                Tls::Acme
            }
            Some(raw::Tls::Files(files)) => Tls::Files {
                cert: self
                    .pem(&tls.key("cert"), files.cert.as_deref(), "CERTIFICATE")
                    .unwrap_or_default(),
                key: self
                    .private_key(&tls.key("key"), files.key.as_deref())
                    .unwrap_or_default(),
            },
        }
    }

    /// Whether a site that says nothing of TLS gets certificates from an authority.
    fn is_public(&mut self, key: &Key, names: &[String]) -> bool {
        if names.is_empty() || names.iter().any(|name| name == "*") {
            return false;
        }
        if self.own_authority {
            return true;
        }
        let sound = || names.iter().filter(|name| !name.is_empty());
        let (public, private): (Vec<_>, Vec<_>) = sound().partition(|name| is_certifiable(name));
        if let (Some(public), Some(private)) = (public.first(), private.first()) {
            let found = format!("{} beside {}", quoted(private), quoted(public));
            let hint = "a public authority certifies the one and not the other: give each a site, or write tls = \"local\"";
            self.problems.add_with_hint(
                &key.key("names"),
                found,
                "names of one kind where the site does not say what tls is",
                hint,
            );
        }
        private.is_empty()
    }

    /// Certificates were asked for: there has to be somebody who gives them.
    fn certifiable(&mut self, key: &Key, names: &[String]) {
        let tls = key.key("tls");
        if names.iter().any(|name| name == "*") {
            let hint = "name the hosts, or write tls = \"local\"";
            let found = "tls = \"acme\" for every host there is";
            self.problems
                .add_with_hint(&tls, found, "names that can be certified", hint);
        } else if !self.own_authority
            && let Some(name) = names
                .iter()
                .find(|name| !name.is_empty() && !is_certifiable(name))
        {
            let found = format!("\"acme\" for {}", quoted(name));
            let wanted = "a name that a public authority certifies";
            let hint = "write tls = \"local\", or name an authority of your own in [[acme]]";
            self.problems.add_with_hint(&tls, found, wanted, hint);
        }
    }

    /// Which versions a site speaks.
    pub(super) fn tls_policy(&mut self, key: &Key, raw: &raw::Site, tls: &Tls) -> TlsPolicy {
        if raw.tls_policy.is_some() && *tls == Tls::Off {
            let found = "tls_policy beside tls = \"off\"";
            self.problems
                .add(&key.key("tls_policy"), found, "a site with TLS");
        }
        match raw.tls_policy {
            None | Some(raw::TlsPolicy::Intermediate) => TlsPolicy::Intermediate,
            Some(raw::TlsPolicy::Modern) => TlsPolicy::Modern,
        }
    }

    /// A site's own wishes for its certificates from an authority.
    pub(super) fn site_certificates(
        &mut self,
        key: &Key,
        raw: &raw::Site,
        tls: &Tls,
        names: &[String],
    ) -> model::SiteCertificates {
        let default = raw::SiteCertificates::default();
        let own = key.key("certificates");
        let said = raw.certificates.as_ref();
        let unsure = self.problems.is_incomplete(&key.key("tls"));
        if said.is_some() && *tls != Tls::Acme && !unsure {
            let hint =
                "only certificates from an authority follow it: write tls = \"acme\", or remove it";
            self.problems.add_with_hint(
                &own,
                "wishes that nobody fulfils",
                "a site with tls = \"acme\"",
                hint,
            );
        }
        let said = said.unwrap_or(&default);
        let certificates = model::SiteCertificates {
            each: said.each.unwrap_or(false),
            key: match said.key {
                None | Some(raw::KeyKind::Ecdsa) => KeyKind::Ecdsa,
                Some(raw::KeyKind::Rsa) => KeyKind::Rsa,
            },
            pin_key: said.pin_key.unwrap_or(false),
            challenges: self.challenges(&own.key("challenges"), said.challenges.as_ref()),
            profile: self.profile(&own.key("profile"), said.profile.as_deref()),
            until: match said.until {
                None | Some(raw::Until::Local) => Until::Local,
                Some(raw::Until::Http) => Until::Http,
            },
        };
        if *tls == Tls::Acme && !certificates.each {
            self.not_too_many(&key.key("names"), names);
        }
        certificates
    }

    fn not_too_many(&mut self, key: &Key, names: &[String]) {
        if names.len() > MOST_NAMES {
            let found = format!("{} names in one certificate", names.len());
            let wanted = format!("at most {MOST_NAMES}");
            let hint = "[site.certificates] with each = true asks for one each";
            self.problems.add_with_hint(key, found, wanted, hint);
        }
    }

    fn challenges(
        &mut self,
        key: &Key,
        raw: Option<&raw::OneOrMany<raw::Challenge>>,
    ) -> Vec<Challenge> {
        let mut list = Vec::new();
        for (key, challenge) in each(raw, key) {
            let challenge = match challenge {
                raw::Challenge::Http01 => Challenge::Http01,
                raw::Challenge::TlsAlpn01 => Challenge::TlsAlpn01,
                raw::Challenge::Dns01 => Challenge::Dns01,
                raw::Challenge::DnsPersist01 => Challenge::DnsPersist01,
            };
            if list.contains(&challenge) {
                self.problems
                    .add(&key, "a challenge a second time", "each challenge once");
            }
            list.push(challenge);
        }
        if raw.is_some() && list.is_empty() && !self.problems.is_incomplete(key) {
            let hint = "without the key, all that can work are used";
            self.problems
                .add_with_hint(key, "an empty list", "at least one challenge", hint);
        }
        list
    }

    /// A PEM file with a section of this kind.
    pub(super) fn pem(&mut self, key: &Key, name: Option<&str>, label: &str) -> Option<PathBuf> {
        let name = name?;
        let (path, content) = self.content(key, name, MIB)?;
        let text = String::from_utf8_lossy(&content);
        let begins = |line: &str| {
            line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&format!("{label}-----"))
        };
        if text.lines().any(begins) {
            return Some(path);
        }
        self.no_pem(key, name, label);
        None
    }

    fn no_pem(&mut self, key: &Key, name: &str, label: &str) {
        let found = format!("{}, which holds none", quoted(name));
        let wanted = format!("a PEM {}", label.to_lowercase());
        let hint = format!("such a file has a line -----BEGIN {label}-----");
        self.problems.add_with_hint(key, found, wanted, hint);
    }

    /// The certificates of authorities, as DER.
    pub(super) fn roots(&mut self, key: &Key, name: Option<&str>) -> Option<Vec<Vec<u8>>> {
        let name = name?;
        let (_, content) = self.content(key, name, MIB)?;
        let mut roots = Vec::new();
        for der in CertificateDer::pem_slice_iter(&content) {
            match der {
                Ok(der) if is_sequence(&der) => roots.push(der.to_vec()),
                _ => {
                    let found = format!("{}, which is damaged", quoted(name));
                    self.problems.add(key, found, "a PEM certificate");
                    return None;
                }
            }
        }
        if roots.is_empty() {
            self.no_pem(key, name, "CERTIFICATE");
            return None;
        }
        Some(roots)
    }

    /// The file of a private key, for its owner alone.
    pub(super) fn private_key(&mut self, key: &Key, name: Option<&str>) -> Option<PathBuf> {
        let path = self.pem(key, name, "PRIVATE KEY")?;
        self.kept_close(
            key,
            name.unwrap_or_default(),
            &path,
            "a private key that its owner alone reads",
        );
        Some(path)
    }

    /// The file of a secret in one line. What it holds is never shown.
    pub(super) fn secret(
        &mut self,
        key: &Key,
        name: Option<&str>,
        wanted: &str,
        is_sound: impl Fn(&str) -> bool,
    ) -> Option<PathBuf> {
        let name = name?;
        let (path, content) = self.content(key, name, MIB)?;
        let text = String::from_utf8_lossy(&content);
        if !is_sound(text.trim()) {
            let found = format!("{}, which holds something else", quoted(name));
            self.problems.add(key, found, wanted);
        }
        self.kept_close(key, name, &path, "a secret that its owner alone reads");
        Some(path)
    }

    fn kept_close(&mut self, key: &Key, name: &str, path: &std::path::Path, wanted: &str) {
        if self.given(path).is_some() {
            return;
        }
        let mode = std::fs::metadata(path).map_or(0, |meta| meta.permissions().mode());
        if mode & 0o007 != 0 {
            let found = format!("{}, open to every user of the host", quoted(name));
            let hint = format!("chmod 600 {}", path.display());
            self.problems.add_with_hint(key, found, wanted, hint);
        }
    }

    /// `Strict-Transport-Security`, ready to send.
    pub(super) fn hsts(
        &mut self,
        key: &Key,
        raw: Option<&raw::Hsts>,
        tls: &Tls,
    ) -> Option<HeaderValue> {
        let year = DAY * 365;
        let lifetime = match raw {
            None => matches!(tls, Tls::Files { .. }).then_some(year),
            Some(raw::Hsts::Switch(switch)) => switch.then_some(year),
            Some(raw::Hsts::Lifetime(text)) => self.duration(key, Some(text), ZERO, DAY * 3650),
        }?;
        if *tls == Tls::Off {
            let hint = "browsers obey it over TLS only; remove it, or tls = \"off\"";
            self.problems
                .add_with_hint(key, "hsts beside tls = \"off\"", "a site with TLS", hint);
        }
        HeaderValue::try_from(format!("max-age={}", lifetime.as_secs())).ok()
    }
}

/// Whether these bytes are one whole sequence, as a certificate in DER is.
fn is_sequence(der: &[u8]) -> bool {
    match der {
        [0x30, length, rest @ ..] if *length < 0x80 => rest.len() == usize::from(*length),
        [0x30, 0x81, length, rest @ ..] => rest.len() == usize::from(*length),
        [0x30, 0x82, high, low, rest @ ..] => {
            rest.len() == usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => false,
    }
}

/// Names in one certificate, as most authorities bound it.
const MOST_NAMES: usize = 100;
