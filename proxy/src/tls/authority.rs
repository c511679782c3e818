//! The local authority: a root of the proxy's own, for sites that no public authority can name.
//!
//! ```text
//! <state>/ca/root.pem    what browsers are told to trust; ten years
//! <state>/ca/root.key    0600, never leaves the machine
//! ```
//!
//! Made once, both files at the same instant. What was made is never replaced by the proxy: whoever
//! trusts the root would be cut off without a word. A damaged authority is an error that says so.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
};
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use time::macros::datetime;

use super::certificate::{self, Chosen};
use super::disk;
use super::error::{TlsError, Warning};
use super::names::CoveredNames;

/// The root's certificate as PEM, for `ca export`.
pub fn root_pem(state: &Path) -> Result<String, TlsError> {
    let folder = folder(state);
    if disk::is_vacant(&folder)? {
        return Err(TlsError::NoAuthority { folder });
    }
    let pem = read(&folder, ROOT, "root.pem is missing")?;
    let pem = String::from_utf8(pem).map_err(|_| damaged(&folder, NOT_A_CERTIFICATE))?;
    root(&folder, pem.as_bytes())?;
    Ok(pem)
}

/// The authority, ready to sign.
pub(super) struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    trust: RootCertStore,
    not_after: SystemTime,
}

impl Authority {
    /// The authority in the state folder; made there if there is none.
    pub(super) fn open(state: &Path, now: SystemTime) -> Result<Self, TlsError> {
        let folder = folder(state);
        if disk::is_vacant(&folder)? {
            disk::make_private_folder(state)?;
            let (pem, key) = create(now)?;
            // Another process that was quicker is as good: what lies there is read either way.
            disk::create_private_folder(
                state,
                FOLDER,
                &[(ROOT, pem.as_bytes()), (KEY, key.as_bytes())],
            )?;
        }
        Self::read(folder)
    }

    fn read(folder: PathBuf) -> Result<Self, TlsError> {
        let pem = read(&folder, ROOT, "root.pem is missing")?;
        let key = read(&folder, KEY, "root.key is missing")?;
        let der = root(&folder, &pem)?;
        let parsed = certificate::parse(&folder.join(ROOT), 1, &der)?;

        let key = std::str::from_utf8(&key)
            .ok()
            .and_then(|pem| KeyPair::from_pem(pem).ok())
            .ok_or_else(|| damaged(&folder, "root.key holds no private key in PEM"))?;
        if key.subject_public_key_info() != parsed.public_key().raw {
            return Err(damaged(&folder, "root.key does not belong to root.pem"));
        }
        let name = certificate::common_name(parsed.subject())
            .ok_or_else(|| damaged(&folder, FOREIGN_ROOT))?;

        let mut trust = RootCertStore::empty();
        trust
            .add(der.clone())
            .map_err(|_| damaged(&folder, NOT_A_CERTIFICATE))?;
        Ok(Self {
            issuer: Issuer::new(root_params(&name), key),
            not_after: certificate::system_time(parsed.validity().not_after),
            trust,
            folder,
        })
    }

    /// Signs a new key for these names: the certificate and the key, both PEM.
    pub(super) fn sign(
        &self,
        names: &[String],
        now: SystemTime,
    ) -> Result<(String, String), TlsError> {
        let failed = issue_error(names.first().map_or("", String::as_str));
        let sign = || {
            let mut params = CertificateParams::new(names)?;
            params.not_before = OffsetDateTime::from(now - CLOCK_SKEW);
            params.not_after = OffsetDateTime::from(self.not_after.min(now + LEAF_LIFETIME));
            // Browsers look at the subjectAltName only; a common name has room for 64 characters.
            let subject = names.iter().find(|name| name.len() <= 64);
            params.distinguished_name = common_name(subject.map_or("local site", String::as_str));
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            params.is_ca = IsCa::ExplicitNoCa;
            params.use_authority_key_identifier_extension = true;
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            Ok((params.signed_by(&key, &self.issuer)?, key.serialize_pem()))
        };
        let (leaf, key) = sign().map_err(failed)?;
        // The issuer's name is written anew from the root's common name. A root that somebody
        // else made may have more to its name, and what it signs would be refused everywhere.
        if now < self.not_after && !self.has_signed(leaf.der(), now) {
            return Err(damaged(&self.folder, FOREIGN_ROOT));
        }
        Ok((leaf.pem(), key))
    }

    /// Whether a leaf was signed by this root, and is valid now.
    pub(super) fn has_signed(&self, leaf: &CertificateDer<'_>, now: SystemTime) -> bool {
        certificate::is_signed_by_one_of(leaf, &self.trust, now)
    }

    /// What an operator should know about the root.
    pub(super) fn warnings(&self, now: SystemTime) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if self.not_after < now + ROOT_NOTICE {
            warnings.push(Warning::AuthorityEnds {
                folder: self.folder.clone(),
                not_after: self.not_after,
            });
        }
        let key = self.folder.join(KEY);
        if disk::world_readable(&key) {
            warnings.push(Warning::ReadableKey { path: key });
        }
        warnings
    }
}

/// The certificate of clients that ask for a name nobody serves. Its issuer is itself and its dates
/// are the same everywhere, so it tells neither what is served, nor by whom, nor since when.
pub(super) fn throw_away() -> Result<Chosen, TlsError> {
    let make = || {
        let mut params = CertificateParams::new([UNKNOWN.to_owned()])?;
        params.distinguished_name = common_name(UNKNOWN);
        params.not_before = datetime!(2000-01-01 0:00 UTC);
        params.not_after = datetime!(2049-12-31 0:00 UTC);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok((params.self_signed(&key)?, key))
    };
    let (certificate, key) = make().map_err(issue_error(UNKNOWN))?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let signing = super::provider()
        .key_provider
        .load_private_key(key)
        .map_err(|source| TlsError::Setup { source })?;
    Ok(Chosen {
        key: Arc::new(CertifiedKey::new(vec![certificate.into()], signing)),
        names: Arc::new(CoveredNames::default()),
        manner: 0,
    })
}

/// A new root and its key, both PEM.
fn create(now: SystemTime) -> Result<(String, String), TlsError> {
    // Random, so that the roots of two proxies are told apart in a browser's list, and nameless,
    // because every visitor of every site sees it.
    let mut id = [0; 4];
    super::provider()
        .secure_random
        .fill(&mut id)
        .map_err(|_| TlsError::Setup {
            source: rustls::Error::FailedToGetRandomBytes,
        })?;
    let name = format!(
        "Sovereign Stack local authority {:08x}",
        u32::from_be_bytes(id)
    );
    let make = || {
        let mut params = root_params(&name);
        params.not_before = OffsetDateTime::from(now - CLOCK_SKEW);
        params.not_after = OffsetDateTime::from(now + ROOT_LIFETIME);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
    };
    make().map_err(issue_error(&name))
}

/// What a root is, apart from its key and its dates.
fn root_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// The root in `pem`, if it is one.
fn root(folder: &Path, pem: &[u8]) -> Result<CertificateDer<'static>, TlsError> {
    let path = folder.join(ROOT);
    let mut chain =
        certificate::chain(&path, pem).map_err(|_| damaged(folder, NOT_A_CERTIFICATE))?;
    let der = chain.swap_remove(0);
    if !certificate::parse(&path, 1, &der)?.is_ca() {
        return Err(damaged(
            folder,
            "root.pem is not an authority's certificate",
        ));
    }
    Ok(der)
}

fn read(folder: &Path, file: &str, missing: &'static str) -> Result<Vec<u8>, TlsError> {
    disk::read(&folder.join(file)).map_err(|error| match error {
        TlsError::Read { ref source, .. } if source.kind() == io::ErrorKind::NotFound => {
            damaged(folder, missing)
        }
        other => other,
    })
}

fn damaged(folder: &Path, found: &'static str) -> TlsError {
    TlsError::Authority {
        folder: folder.into(),
        found,
    }
}

fn issue_error(name: &str) -> impl FnOnce(rcgen::Error) -> TlsError {
    move |source| TlsError::Issue {
        name: name.into(),
        source,
    }
}

fn folder(state: &Path) -> PathBuf {
    state.join(FOLDER)
}

const FOLDER: &str = "ca";
const ROOT: &str = "root.pem";
const KEY: &str = "root.key";
const NOT_A_CERTIFICATE: &str = "root.pem holds no certificate in PEM";
const FOREIGN_ROOT: &str = "root.pem was not made by this program";
const UNKNOWN: &str = "unknown.invalid";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const ROOT_LIFETIME: Duration = Duration::from_secs(3653 * 24 * 60 * 60);
/// How long before the root ends its operator is told.
const ROOT_NOTICE: Duration = Duration::from_secs(180 * 24 * 60 * 60);
/// Far below the 398 days after which browsers refuse a certificate.
const LEAF_LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Certificates begin a day early, for visitors whose clock is late.
const CLOCK_SKEW: Duration = DAY;
