//! TLS of client connections: which certificate a name gets, the handshake, and what it found out.
//!
//! Stands alone: it knows the configuration's sites and a byte stream, and neither listeners nor
//! requests. A listener hands each connection to [`accept()`] and gets the decrypted stream with its
//! [`TlsFacts`]; a request is later checked against [`TlsFacts::names`].
//!
//! ```text
//! sites + state folder -> Set::load -> Certificates::swap
//!                                          |
//! stream -> accept -> client hello -> Set::choose -> handshake -> (stream, TlsFacts)
//! ```
//!
//! A [`Set`] never changes: a handshake takes the one in force when its client hello has been
//! read, and the certificate it sends and the facts it keeps come from that one set.

// How a byte stream becomes a TLS stream, and every reason why it does not.
mod accept;
// A client that asks nobody who a server is.
mod anybody;
// The local authority: its root, and the certificates it signs.
mod authority;
// One certificate with its key, read and checked.
mod certificate;
// The set in force, and the rustls configuration built around it.
mod certificates;
// Who a client is.
mod client;
// Files that only their owner may read, written whole or not at all.
pub(crate) mod disk;
// The handshake of an authority that comes for the answer to a challenge.
mod challenge;
// What goes wrong, in words that name the file and the way out.
mod error;
// The operator's own certificate files.
mod files;
// Whether a certificate of an authority is good, and what it says of itself.
mod judge;
// Certificates of authorities as they are kept and shared.
pub mod kept;
// How a set is loaded: what each site gets.
mod load;
// Certificates of the local authority, kept on disk from one run to the next.
mod local;
// How a site's handshakes are done.
mod manner;
// The names that a certificate covers.
mod names;
// All certificates of one configuration, and which of them a client gets.
mod set;
// Which certificates the configuration asks of an authority.
pub mod wanted;

#[cfg(test)]
mod acme_tests;
#[cfg(test)]
mod authority_tests;
#[cfg(test)]
mod files_tests;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod handshake_tests;
#[cfg(test)]
mod judge_tests;
#[cfg(test)]
mod manner_tests;
#[cfg(test)]
mod test_client;

use std::fmt::Debug;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::sign::CertifiedKey;

pub use accept::{AcceptError, Alpn, TlsFacts, accept, answer_plain_http};
pub use anybody::Anybody;
pub use authority::root_pem;
pub use certificate::{CertificateInfo, Source};
pub use certificates::Certificates;
pub use client::{ClientCertificate, client_is_of};
pub use error::{TlsError, Warning};
pub use files::Watched;
pub use kept::{About, Facts, Kept, Unfit, judge};
pub use load::Unwritten;
pub use names::CoveredNames;
pub use set::{Set, check};
pub use wanted::{Wanted, wanted};

/// Who answers the challenge TLS-ALPN-01 (RFC 8737).
#[async_trait]
pub trait Challenger: Send + Sync + Debug {
    /// The certificate that proves control of `name`, in lower case; an address stands in its
    /// reverse form, as in `9.113.0.203.in-addr.arpa`. `None`: no such challenge is under way.
    async fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>>;
}

/// The cryptography of every TLS connection, in and out: aws-lc-rs, with the key exchange that
/// also withstands quantum computers first.
///
/// Name it in every rustls configuration. Left implicit, rustls finds two providers in this
/// program and panics.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        Arc::new(CryptoProvider {
            kx_groups: vec![
                aws_lc_rs::kx_group::X25519MLKEM768,
                aws_lc_rs::kx_group::X25519,
                aws_lc_rs::kx_group::SECP256R1,
                aws_lc_rs::kx_group::SECP384R1,
            ],
            ..aws_lc_rs::default_provider()
        })
    });
    Arc::clone(&PROVIDER)
}

/// Makes [`provider`] the one of the whole process, for libraries that ask for the default.
/// Does nothing when called again.
pub fn install() {
    // The error is the provider that was installed before: ours, unless a library was quicker.
    let _ = provider().as_ref().clone().install_default();
}
