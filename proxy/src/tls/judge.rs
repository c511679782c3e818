//! Whether a certificate is good: looked at before it goes in, since the one in force is good enough.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::RootCertStore;
use rustls::sign::SigningKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sovereign_config::model::KeyKind;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use super::certificate;
use super::error::date;
use super::kept::Kept;
use super::names::CoveredNames;
use super::wanted::Wanted;

/// What a good certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its names, as it lists them.
    pub names: Vec<String>,
    /// Who signed it.
    pub issuer: String,
    /// When it becomes valid.
    pub not_before: SystemTime,
    /// When it lapses.
    pub not_after: SystemTime,
    /// Its serial number, as DER has it.
    pub serial: Vec<u8>,
    /// The identifier of the key that signed it; empty where it does not say.
    pub authority_key_id: Vec<u8>,
    /// The certificate, DER.
    pub leaf: Vec<u8>,
    /// Its kind of key.
    pub key: KeyKind,
}

/// Why a certificate is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// It cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Damaged(&'static str),
    /// A certificate of the chain cannot be parsed.
    #[error("certificate {number} of the chain cannot be parsed")]
    Garbled {
        /// Which, from 1.
        number: usize,
    },
    /// The key belongs to another certificate.
    #[error("the private key does not belong to the certificate")]
    WrongKey,
    /// The key is of another kind.
    #[error("the certificate's key is {found}; wanted {}", kind(*wanted))]
    WrongKind {
        /// What it is.
        found: &'static str,
        /// What was asked for.
        wanted: KeyKind,
    },
    /// It is not for servers.
    #[error("the certificate is not for a server: {0}")]
    NotForServers(&'static str),
    /// It lacks names.
    #[error("the certificate does not cover {}; it covers {}", missing.join(", "), listed(covered))]
    Lacks {
        /// The names that it lacks.
        missing: Vec<String>,
        /// Those it has.
        covered: Vec<String>,
    },
    /// A certificate of the chain is not signed by the next.
    #[error(
        "the chain is broken: certificate {number} is not signed by the next; the site's own certificate comes first, then the one that signed it, and so on"
    )]
    BrokenChain {
        /// Which, from 1.
        number: usize,
    },
    /// It came alone, and visitors do not know who signed it.
    #[error(
        "it came without the certificate that signed it, {issuer}, which is no root of this machine and none of the authority's `roots`"
    )]
    Alone {
        /// Who signed it.
        issuer: String,
    },
    /// It has lapsed.
    #[error("certificate {number} of the chain lapsed on {}", date(*not_after))]
    Lapsed {
        /// Which, from 1: 1 is the site's own.
        number: usize,
        /// When.
        not_after: SystemTime,
    },
    /// Its time has not come.
    #[error("certificate {number} of the chain is valid only from {} on", date(*not_before))]
    NotYetValid {
        /// Which, from 1: 1 is the site's own.
        number: usize,
        /// When it begins.
        not_before: SystemTime,
    },
}

/// Names, key, chain (each certificate signed by the next) and dates. `now` is the corrected clock.
pub fn judge(kept: &Kept, wanted: &Wanted, now: SystemTime) -> Result<Facts, Unfit> {
    let ders = ders(&kept.chain_pem)?;
    let chain = parsed(&ders)?;
    // `parsed` gives no empty chain.
    let leaf = &chain[0];
    signing_key(kept.key_pem(), leaf)?;
    let key = key_kind(leaf, wanted.key)?;
    is_for_servers(leaf)?;
    let names = certificate::subject_names(leaf);
    covers(&names, wanted)?;
    signed_in_order(&chain)?;
    in_force(&chain, now)?;
    Ok(Facts {
        issuer: certificate::issuer_name(leaf),
        not_before: certificate::system_time(leaf.validity().not_before),
        not_after: certificate::system_time(leaf.validity().not_after),
        serial: leaf.raw_serial().to_vec(),
        authority_key_id: authority_key_id(leaf),
        leaf: ders[0].to_vec(),
        names,
        key,
    })
}

/// Whether nothing follows a certificate: [`is_of_a_root`] is to be asked then.
pub fn is_alone(kept: &Kept) -> bool {
    ders(&kept.chain_pem).is_ok_and(|ders| ders.len() == 1)
}

/// Whether a root signed a certificate itself, so that visitors need no more than it. `roots` are those that
/// some visitor may know. Its dates were judged.
pub fn is_of_a_root(facts: &Facts, roots: &RootCertStore) -> Result<(), Unfit> {
    let leaf = CertificateDer::from(facts.leaf.as_slice());
    match certificate::is_signed_by_one_of(&leaf, roots, facts.not_before) {
        true => Ok(()),
        false => Err(Unfit::Alone {
            issuer: facts.issuer.clone(),
        }),
    }
}

/// What is needed to serve a kept certificate at all: that each is signed by the next. Dates and
/// names are no reason to serve none.
pub(super) fn is_whole(ders: &[CertificateDer<'_>]) -> Result<(), Unfit> {
    signed_in_order(&parsed(ders)?)
}

/// The certificates of a PEM text.
pub(super) fn ders(pem: &str) -> Result<Vec<CertificateDer<'static>>, Unfit> {
    let mut ders = Vec::new();
    for (index, der) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
        if index == LONGEST_CHAIN {
            return Err(Unfit::Damaged("its chain has more than 10 certificates"));
        }
        ders.push(der.map_err(|_| Unfit::Garbled { number: index + 1 })?);
    }
    match ders.is_empty() {
        true => Err(Unfit::Damaged("it holds no certificate")),
        false => Ok(ders),
    }
}

fn parsed<'a>(ders: &'a [CertificateDer<'_>]) -> Result<Vec<X509Certificate<'a>>, Unfit> {
    let one = |(index, der): (usize, &'a CertificateDer<'_>)| match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(Unfit::Garbled { number: index + 1 }),
    };
    ders.iter().enumerate().map(one).collect()
}

/// The key, which must be the certificate's.
pub(super) fn signing_key(
    key_pem: &str,
    leaf: &X509Certificate<'_>,
) -> Result<Arc<dyn SigningKey>, Unfit> {
    // Nothing of the key reaches an error.
    let unusable = Unfit::Damaged("its private key is none that TLS uses");
    let Ok(key) = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()) else {
        return Err(unusable);
    };
    let loaded = super::provider().key_provider.load_private_key(key);
    let signing = loaded.map_err(|_| unusable)?;
    match signing.public_key() {
        Some(public) if public.as_ref() == leaf.public_key().raw => Ok(signing),
        _ => Err(Unfit::WrongKey),
    }
}

fn key_kind(leaf: &X509Certificate<'_>, wanted: KeyKind) -> Result<KeyKind, Unfit> {
    let algorithm = &leaf.public_key().algorithm;
    let curve = algorithm
        .parameters
        .as_ref()
        .and_then(|any| any.as_oid().ok());
    let found = if algorithm.algorithm == OID_PKCS1_RSAENCRYPTION {
        match leaf.public_key().parsed() {
            Ok(PublicKey::RSA(key)) if key.key_size() >= RSA_BITS => KeyKind::Rsa,
            _ => return Err(wrong_kind("RSA with fewer than 2048 bits", wanted)),
        }
    } else if algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY && curve == Some(OID_EC_P256) {
        KeyKind::Ecdsa
    } else {
        return Err(wrong_kind("of another kind", wanted));
    };
    match found == wanted {
        true => Ok(found),
        false => Err(wrong_kind(kind(found), wanted)),
    }
}

fn wrong_kind(found: &'static str, wanted: KeyKind) -> Unfit {
    Unfit::WrongKind { found, wanted }
}

fn is_for_servers(leaf: &X509Certificate<'_>) -> Result<(), Unfit> {
    if leaf.is_ca() {
        return Err(Unfit::NotForServers("it is an authority's own"));
    }
    match leaf.extended_key_usage() {
        Ok(None) => Ok(()),
        Ok(Some(usage)) if usage.value.server_auth || usage.value.any => Ok(()),
        Ok(Some(_)) => Err(Unfit::NotForServers(
            "its extended key usage lacks serverAuth",
        )),
        Err(_) => Err(Unfit::Garbled { number: 1 }),
    }
}

fn covers(names: &[String], wanted: &Wanted) -> Result<(), Unfit> {
    let covered = CoveredNames::new(names);
    let lacking = |name: &&String| !covered.covers_site_name(name);
    let missing: Vec<String> = wanted.names.iter().filter(lacking).cloned().collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Unfit::Lacks {
            missing,
            covered: names.to_vec(),
        }),
    }
}

fn signed_in_order(chain: &[X509Certificate<'_>]) -> Result<(), Unfit> {
    for (index, pair) in chain.windows(2).enumerate() {
        let (child, issuer) = (&pair[0], &pair[1]);
        let signed = child.issuer().as_raw() == issuer.subject().as_raw()
            && issuer.is_ca()
            && child.verify_signature(Some(issuer.public_key())).is_ok();
        if !signed {
            return Err(Unfit::BrokenChain { number: index + 1 });
        }
    }
    Ok(())
}

fn in_force(chain: &[X509Certificate<'_>], now: SystemTime) -> Result<(), Unfit> {
    // What is further up may be a cross signature that only old visitors follow.
    for (index, certificate) in chain.iter().take(2).enumerate() {
        let number = index + 1;
        let not_before = certificate::system_time(certificate.validity().not_before);
        let not_after = certificate::system_time(certificate.validity().not_after);
        if now > not_after {
            return Err(Unfit::Lapsed { number, not_after });
        }
        if now + LATE_CLOCK < not_before {
            return Err(Unfit::NotYetValid { number, not_before });
        }
    }
    Ok(())
}

fn authority_key_id(leaf: &X509Certificate<'_>) -> Vec<u8> {
    leaf.iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref(),
            _ => None,
        })
        .map(|id| id.0.to_vec())
        .unwrap_or_default()
}

fn kind(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Ecdsa => "ECDSA on P-256",
        KeyKind::Rsa => "RSA with 2048 bits",
    }
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "no name at all".to_owned(),
        names => names.join(", "),
    }
}

/// Real chains have two or three.
const LONGEST_CHAIN: usize = 10;
const RSA_BITS: usize = 2048;

/// A certificate that begins when the authority's clock says so is good a moment earlier by ours.
const LATE_CLOCK: Duration = Duration::from_secs(5 * 60);
