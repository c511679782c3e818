//! What goes wrong with certificates, in words that name the file and the way out.
//!
//! Key material is in none of these, not even as the cause.

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use time::OffsetDateTime;

/// Why certificates could not be loaded. The cause, where there is one, is the error's source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A certificate or key file cannot be read.
    #[error("cannot read {}; it must be there, and readable for the user that runs the proxy", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or folder of the state folder cannot be written.
    #[error("cannot write {}; the user that runs the proxy must own the state folder, and its disk must have room", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds no certificate.
    #[error("{} holds no certificate: {found}; wanted a PEM file with the site's certificate first, then its intermediates", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: &'static str,
    },
    /// A PEM block or the certificate inside it is damaged.
    #[error("certificate {number} in {} cannot be parsed; copy the file again from where it was issued", path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// Which of the file's certificates, from 1.
        number: usize,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file holds no usable private key.
    #[error("{} holds no usable private key: {found}", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What it holds, and the way out.
        found: &'static str,
    },
    /// The key belongs to another certificate.
    #[error("the key in {} does not belong to the first certificate in {}; the chain must begin with the site's own certificate, and the key must be the one it was issued for", key.display(), cert.display())]
    KeyMismatch {
        /// The chain.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The local authority is damaged. It is never replaced silently: browsers trust it.
    #[error("the local authority in {} is damaged: {found}; put root.pem and root.key back from an archive, or remove the folder for a new authority, which every browser must then be told to trust", folder.display())]
    Authority {
        /// The folder of the authority.
        folder: PathBuf,
        /// What is wrong with it.
        found: &'static str,
    },
    /// There is no local authority yet.
    #[error("there is no local authority in {} yet; it is made when the proxy first runs with a site of tls = \"local\"", folder.display())]
    NoAuthority {
        /// The folder where it will be.
        folder: PathBuf,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate for {name}")]
    Issue {
        /// The certificate's first name.
        name: String,
        /// Why.
        source: rcgen::Error,
    },
    /// The authority of a route's clients cannot be used.
    #[error(
        "an authority that `client_ca` names cannot be used: wanted the certificate of an authority, with a name and a key"
    )]
    ClientAuthority {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The cryptography library refuses to work.
    #[error("cannot set up TLS")]
    Setup {
        /// Why.
        source: rustls::Error,
    },
}

/// What an operator should know about a certificate that is used nevertheless.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// Browsers refuse the certificate: it has lapsed.
    #[error("the certificate in {} lapsed on {}: browsers refuse it; renew it and reload", path.display(), date(*.not_after))]
    Expired {
        /// The file.
        path: PathBuf,
        /// When it lapsed.
        not_after: SystemTime,
    },
    /// Browsers refuse the certificate: its time has not come.
    #[error("the certificate in {} is valid only from {} on: browsers refuse it until then; if that is in the past, this machine's clock is wrong", path.display(), date(*.not_before))]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// When it begins.
        not_before: SystemTime,
    },
    /// The certificate does not name everything that its site is called.
    #[error("the certificate in {} does not cover {}: browsers refuse it there; it covers {}", path.display(), missing.join(", "), if covered.is_empty() { "no name at all (subjectAltName is missing)".into() } else { covered.join(", ") })]
    Uncovered {
        /// The file.
        path: PathBuf,
        /// The site's names that the certificate lacks.
        missing: Vec<String>,
        /// The names it has.
        covered: Vec<String>,
    },
    /// The local authority lapses soon, or has.
    #[error("the local authority in {} lapses on {}: remove the folder for a new one, and have browsers trust it before that day", folder.display(), date(*.not_after))]
    AuthorityEnds {
        /// The folder of the authority.
        folder: PathBuf,
        /// When it lapses.
        not_after: SystemTime,
    },
    /// The operator's files cannot be used as they are now; what they held before stays in force.
    #[error("the certificate that {} held before stays in force: {why}", path.display())]
    Held {
        /// The chain.
        path: PathBuf,
        /// What is wrong with it, or with its key.
        why: String,
    },
    /// A private key that other users of the machine can read.
    #[error("{} can be read by every user of this machine: chmod o-rwx it", path.display())]
    ReadableKey {
        /// The key.
        path: PathBuf,
    },
}

/// The day, as a person writes it.
pub(super) fn date(when: SystemTime) -> String {
    OffsetDateTime::from(when).date().to_string()
}
