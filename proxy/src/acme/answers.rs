//! The answers to challenges that are under way: what the authority finds when it asks our
//! listeners (HTTP-01, RFC 8555 section 8.3; TLS-ALPN-01, RFC 8737; addresses, RFC 8738).
//!
//! Stands between orders, which put answers in, and requests and handshakes, which look for them.
//! Where proxies share a store, an answer is lent to it as well, because the authority may ask any
//! of them; one that has no answer looks there, a few at a time, and remembers for a moment what is
//! not there. While no challenge is under way and nothing is shared, visitors pay one load.

// The certificate of a TLS-ALPN-01 challenge.
mod certificate;
// What other proxies answer, and can answer for us.
mod elsewhere;
// What lasts as long as it is held.
mod put;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use rustls::sign::CertifiedKey;

use super::store::Store;
use crate::tls::Challenger;

use elsewhere::Elsewhere;

pub use certificate::server_name;
pub use put::Put;

/// What a challenge's path begins with; the token follows (RFC 8555 section 8.3).
pub const PATH: &str = "/.well-known/acme-challenge/";

/// The protocol that a TLS-ALPN-01 handshake asks for, and no other (RFC 8737 section 6.2).
pub const ALPN: &[u8] = b"acme-tls/1";

/// The answer to one challenge, as a listener gives it.
#[derive(Clone, PartialEq, Eq)]
pub enum Answer {
    /// To a request for the token, whatever its host.
    Http {
        /// The token.
        token: String,
        /// The whole body.
        key_authorization: String,
    },
    /// To a handshake for the name.
    Alpn {
        /// A host, or an address in either form.
        name: String,
        /// The SHA-256 digest of the key authorization.
        digest: [u8; 32],
    },
}

/// Why an answer could not be put in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// A token of characters other than those of base64url, or too long to be one.
    #[error("the authority gave a token that is none: {0:?}")]
    Token(String),
    /// A certificate could not be made.
    #[error("cannot make the certificate that answers TLS-ALPN-01 for {name}")]
    Certificate {
        /// The name.
        name: String,
        /// Why.
        source: rcgen::Error,
    },
    /// More challenges than there can be.
    #[error("{MOST} challenges are under way already")]
    Full,
}

/// The answers to all challenges that are under way.
pub struct Answers {
    held: Mutex<Held>,
    count: AtomicUsize,
    elsewhere: Elsewhere,
}

/// What this proxy holds itself.
#[derive(Default)]
struct Held {
    next: u64,
    http: HashMap<String, (u64, String)>,
    /// By the name in a handshake; the last one is sent.
    alpn: HashMap<String, Vec<HeldKey>>,
}

struct HeldKey {
    number: u64,
    digest: [u8; 32],
    key: Arc<CertifiedKey>,
}

impl Answers {
    /// No answers yet; `store` is where other proxies put theirs.
    pub fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            held: Mutex::default(),
            count: AtomicUsize::new(0),
            elsewhere: Elsewhere::new(store),
        })
    }

    /// No challenge is under way here, and none can be elsewhere.
    pub fn is_idle(&self) -> bool {
        !self.elsewhere.is_shared() && self.count.load(Ordering::Acquire) == 0
    }

    /// The token that a request for `path` asks for, where it may have an answer.
    pub fn token<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.is_idle() {
            return None;
        }
        path.strip_prefix(PATH).filter(|token| is_token(token))
    }

    /// The key authorization of a token.
    pub async fn http(&self, token: &str) -> Option<String> {
        if let Some((_, answer)) = self.held.lock().http.get(token) {
            return Some(answer.clone());
        }
        if !is_token(token) {
            return None;
        }
        let found = self.elsewhere.find(&http_name(token)).await?;
        String::from_utf8(found).ok()
    }

    /// Puts an answer in: for requests and handshakes here at once, and lent to the other proxies.
    /// It is gone when what is returned is dropped.
    pub async fn put(self: &Arc<Self>, answer: Answer) -> Result<Put, PutError> {
        let (name, content, number) = match answer {
            Answer::Http {
                token,
                key_authorization,
            } => {
                let number = self.hold_http(&token, &key_authorization)?;
                (http_name(&token), key_authorization.into_bytes(), number)
            }
            Answer::Alpn { name, digest } => {
                let number = self.hold_alpn(&name, digest)?;
                (alpn_name(&server_name(&name)), digest.to_vec(), number)
            }
        };
        let put = put::of_answer(self, name.clone(), number);
        self.elsewhere.lend(&name, &content).await;
        if name.starts_with(ALPN_PREFIX) {
            self.elsewhere.settle().await;
        }
        Ok(put)
    }

    /// Whether a TLS-ALPN-01 certificate with this digest is one of ours for the name.
    pub(super) fn holds(&self, name: &str, digest: &[u8]) -> bool {
        let held = self.held.lock();
        let of_name = held.alpn.get(&server_name(name));
        of_name.is_some_and(|all| all.iter().any(|one| one.digest == digest))
    }

    fn hold_http(&self, token: &str, key_authorization: &str) -> Result<u64, PutError> {
        if !is_token(token) {
            return Err(PutError::Token(token.chars().take(40).collect()));
        }
        let mut held = self.held.lock();
        let number = held.number(&self.count)?;
        let answer = (number, key_authorization.to_owned());
        if held.http.insert(token.to_owned(), answer).is_some() {
            // The one before is counted no more: whoever put it finds another number.
            self.count.fetch_sub(1, Ordering::AcqRel);
        }
        Ok(number)
    }

    fn hold_alpn(&self, name: &str, digest: [u8; 32]) -> Result<u64, PutError> {
        let key =
            certificate::certificate(name, &digest).map_err(|source| PutError::Certificate {
                name: name.to_owned(),
                source,
            })?;
        let mut held = self.held.lock();
        let number = held.number(&self.count)?;
        let one = HeldKey {
            number,
            digest,
            key,
        };
        held.alpn.entry(server_name(name)).or_default().push(one);
        Ok(number)
    }

    /// Forgets what was put in under a number.
    fn forget(&self, name: &str, number: u64) {
        let mut held = self.held.lock();
        if let Some(token) = name.strip_prefix(HTTP)
            && held.http.get(token).is_some_and(|one| one.0 == number)
        {
            held.http.remove(token);
            self.count.fetch_sub(1, Ordering::AcqRel);
        }
        if let Some(name) = name.strip_prefix(ALPN_PREFIX)
            && let Some(of_name) = held.alpn.get_mut(name)
            && let Some(at) = of_name.iter().position(|one| one.number == number)
        {
            of_name.remove(at);
            if of_name.is_empty() {
                held.alpn.remove(name);
            }
            self.count.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Whether a certificate for the name is there.
    pub(super) fn has_alpn(&self, name: &str) -> bool {
        self.held.lock().alpn.contains_key(&server_name(name))
    }

    fn is_held(&self, name: &str) -> bool {
        let held = self.held.lock();
        let http = name.strip_prefix(HTTP);
        let alpn = name.strip_prefix(ALPN_PREFIX);
        http.is_some_and(|token| held.http.contains_key(token))
            || alpn.is_some_and(|name| held.alpn.contains_key(name))
    }
}

impl Held {
    fn number(&mut self, count: &AtomicUsize) -> Result<u64, PutError> {
        if count.load(Ordering::Acquire) >= MOST {
            return Err(PutError::Full);
        }
        count.fetch_add(1, Ordering::AcqRel);
        self.next += 1;
        Ok(self.next)
    }
}

#[async_trait]
impl Challenger for Answers {
    async fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let held = self.held.lock().alpn.get(name).and_then(|all| {
            let last = all.last()?;
            Some(Arc::clone(&last.key))
        });
        if held.is_some() {
            return held;
        }
        let digest = self.elsewhere.find(&alpn_name(name)).await?;
        certificate::certificate(name, &digest.try_into().ok()?).ok()
    }
}

/// Nothing of what proves control.
impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers")
            .field("count", &self.count.load(Ordering::Relaxed))
            .field("shared", &self.elsewhere.is_shared())
            .finish_non_exhaustive()
    }
}

/// Only the base64url alphabet (RFC 8555 section 8.3); at least 128 bits of it are 22 characters,
/// but an authority that gives fewer is its own concern.
fn is_token(token: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    (1..=128).contains(&token.len()) && token.bytes().all(plain)
}

fn http_name(token: &str) -> String {
    format!("{HTTP}{token}")
}

fn alpn_name(server_name: &str) -> String {
    format!("{ALPN_PREFIX}{server_name}")
}

/// What names in the store begin with.
const HTTP: &str = "challenge/http/";
const ALPN_PREFIX: &str = "challenge/alpn/";

/// Challenges under way at once.
const MOST: usize = 1024;

#[cfg(test)]
mod tests;
