//! One certificate with its key: read, parsed, checked, and ready for handshakes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use super::disk;
use super::error::{TlsError, Warning};
use super::judge::{self, Unfit};
use super::kept::Kept;
use super::names::CoveredNames;

/// A certificate in force, as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertificateInfo {
    /// The names it covers, as it lists them.
    pub names: Vec<String>,
    /// Where it comes from.
    pub source: Source,
    /// Who signed it: the issuer's common name, or all of its name where it has none.
    pub issuer: String,
    /// When it becomes valid.
    pub not_before: SystemTime,
    /// When it lapses.
    pub not_after: SystemTime,
}

/// What a client gets: a certificate with its key, and the hosts it may then ask for.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) names: Arc<CoveredNames>,
    /// How the handshake is done: an index into the set's manners.
    pub(super) manner: usize,
}

/// Where a certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// The local authority.
    Local,
    /// The operator's files; this is the chain.
    Files(PathBuf),
    /// An authority, by ACME.
    Acme {
        /// The URL of its directory.
        directory: String,
        /// When it was had, by the corrected clock.
        obtained: SystemTime,
    },
    /// The local authority, until the first one from [`Acme`](Self::Acme) is there.
    Temporary,
}

/// A certificate with its key.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) names: Arc<CoveredNames>,
    pub(super) info: CertificateInfo,
}

impl Certificate {
    /// Reads a chain, leaf first, and the leaf's key, and checks that they belong together. Dates
    /// and names are not judged here: see [`warnings`](Self::warnings).
    pub(super) fn read(cert: &Path, key: &Path, source: Source) -> Result<Self, TlsError> {
        let chain = chain(cert, &disk::read(cert)?)?;
        let private = private_key(key, &disk::read(key)?)?;
        let signing = super::provider()
            .key_provider
            .load_private_key(private)
            .map_err(|_| TlsError::NoKey {
                path: key.into(),
                found: "its key is damaged or of a kind that TLS does not use; wanted ECDSA on P-256, P-384 or P-521, Ed25519, or RSA with 2048 bits or more",
            })?;

        let leaf = parse(cert, 1, &chain[0])?;
        // A key that cannot tell its public half is not known to mismatch.
        let mismatch = signing
            .public_key()
            .is_some_and(|public| public.as_ref() != leaf.public_key().raw);
        if mismatch {
            return Err(TlsError::KeyMismatch {
                cert: cert.into(),
                key: key.into(),
            });
        }

        let info = info(&leaf, source);
        Ok(Self::new(chain, signing, info))
    }

    /// A certificate of an authority, as it is kept. Neither dates nor names are judged: one in
    /// force is served whatever the clock says.
    pub(super) fn of_kept(kept: &Kept) -> Result<Self, Unfit> {
        let chain = judge::ders(&kept.chain_pem)?;
        judge::is_whole(&chain)?;
        let (_, leaf) =
            X509Certificate::from_der(&chain[0]).map_err(|_| Unfit::Garbled { number: 1 })?;
        let signing = judge::signing_key(kept.key_pem(), &leaf)?;
        let source = Source::Acme {
            directory: kept.about.directory.clone(),
            obtained: kept.about.obtained_at(),
        };
        let info = info(&leaf, source);
        Ok(Self::new(chain, signing, info))
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        signing: Arc<dyn SigningKey>,
        info: CertificateInfo,
    ) -> Self {
        Self {
            names: Arc::new(CoveredNames::new(&info.names)),
            key: Arc::new(CertifiedKey::new(chain, signing)),
            info,
        }
    }

    /// What an operator should know before browsers say it.
    pub(super) fn warnings(&self, cert: &Path, now: SystemTime) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if now > self.info.not_after {
            warnings.push(Warning::Expired {
                path: cert.into(),
                not_after: self.info.not_after,
            });
        }
        if now < self.info.not_before {
            warnings.push(Warning::NotYetValid {
                path: cert.into(),
                not_before: self.info.not_before,
            });
        }
        warnings
    }

    /// Those of a site's names that the certificate lacks.
    pub(super) fn uncovered(&self, site_names: &[String]) -> Vec<String> {
        let lacking = |name: &&String| *name != "*" && !self.names.covers_site_name(name);
        site_names.iter().filter(lacking).cloned().collect()
    }

    /// Whether one of a site's names is covered.
    pub(super) fn covers(&self, name: &str) -> bool {
        self.names.covers_site_name(name)
    }

    /// The leaf.
    pub(super) fn leaf(&self) -> &CertificateDer<'static> {
        // No certificate is made of an empty chain.
        &self.key.cert[0]
    }
}

/// What a leaf says of itself.
fn info(leaf: &X509Certificate<'_>, source: Source) -> CertificateInfo {
    CertificateInfo {
        names: subject_names(leaf),
        source,
        issuer: issuer_name(leaf),
        not_before: system_time(leaf.validity().not_before),
        not_after: system_time(leaf.validity().not_after),
    }
}

/// Whether one of these authorities signed a certificate itself, and it is valid at `when`.
pub(super) fn is_signed_by_one_of(
    leaf: &CertificateDer<'_>,
    roots: &RootCertStore,
    when: SystemTime,
) -> bool {
    let since = when
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    ParsedCertificate::try_from(leaf).is_ok_and(|leaf| {
        verify_server_cert_signed_by_trust_anchor(
            &leaf,
            roots,
            &[],
            UnixTime::since_unix_epoch(since),
            super::provider().signature_verification_algorithms.all,
        )
        .is_ok()
    })
}

/// All certificates of a PEM file, at least one, each of them parsed once to be sure.
pub(super) fn chain(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let mut chain = Vec::new();
    for (index, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let number = index + 1;
        let certificate = certificate.map_err(|source| TlsError::BadCertificate {
            path: path.into(),
            number,
            source: Box::new(source),
        })?;
        parse(path, number, &certificate)?;
        chain.push(certificate);
    }
    if chain.is_empty() {
        return Err(TlsError::NoCertificate {
            path: path.into(),
            found: if pem.is_empty() {
                "it is empty"
            } else if PrivateKeyDer::from_pem_slice(pem).is_ok() {
                "it holds a private key, so perhaps `cert` and `key` are the wrong way round"
            } else if pem.first() == Some(&DER_SEQUENCE) {
                "it looks like DER, which `openssl x509 -inform der` turns into PEM"
            } else {
                "it is not PEM"
            },
        });
    }
    Ok(chain)
}

fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    // The PEM reader's own words are dropped: nothing of a key's file may reach a log.
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| TlsError::NoKey {
        path: path.into(),
        found: if pem.is_empty() {
            "it is empty"
        } else if contains(pem, b"ENCRYPTED") {
            "its key is encrypted with a passphrase, which nobody types in when a daemon starts; `openssl pkey` decrypts it, and mode 0600 protects it"
        } else if contains(pem, b"-----BEGIN CERTIFICATE") {
            "it holds a certificate, so perhaps `cert` and `key` are the wrong way round"
        } else if pem.first() == Some(&DER_SEQUENCE) {
            "it looks like DER, which `openssl pkey -inform der` turns into PEM"
        } else {
            "wanted a PEM block PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY"
        },
    })
}

/// Parses one certificate of a file.
pub(super) fn parse<'a>(
    path: &Path,
    number: usize,
    der: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, TlsError> {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(error) => Err(TlsError::BadCertificate {
            path: path.into(),
            number,
            source: error.to_string().into(),
        }),
    }
}

/// Names and addresses of the subjectAltName extension. The common name is not looked at: no
/// browser does any more.
pub(super) fn subject_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let name = |general: &GeneralName<'_>| match general {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => ip_address(bytes).map(|ip| ip.to_string()),
        _ => None,
    };
    extension
        .value
        .general_names
        .iter()
        .filter_map(name)
        .collect()
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    let v6 = <[u8; 16]>::try_from(bytes).ok()?;
    Some(Ipv6Addr::from(v6).into())
}

pub(super) fn issuer_name(certificate: &X509Certificate<'_>) -> String {
    common_name(certificate.issuer()).unwrap_or_else(|| certificate.issuer().to_string())
}

/// The first common name.
pub(super) fn common_name(name: &x509_parser::x509::X509Name<'_>) -> Option<String> {
    let first = name.iter_common_name().next()?;
    first.as_str().ok().map(str::to_owned)
}

/// Dates before 1970 become 1970: they are long past either way.
pub(super) fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// What every DER certificate and key begins with.
const DER_SEQUENCE: u8 = 0x30;
