//! The right to be the only one that does something, in this process or over all proxies.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

/// The right to be the only one that does something, until it is dropped.
///
/// Over a shared store it can be lost: a holder that hears of it should end what it does.
#[derive(Debug)]
pub struct Lease {
    /// Frees the name in this process when dropped.
    _claim: Option<Claim>,
    /// False: it is lost. `None`: it cannot be.
    held: Option<watch::Receiver<bool>>,
    /// What keeps it alive, and gives it back when dropped.
    _keeper: Option<Box<dyn Send + Sync + std::fmt::Debug>>,
}

impl Lease {
    /// One that holds in this process only.
    pub(super) fn of(claim: Claim) -> Self {
        Self {
            _claim: Some(claim),
            held: None,
            _keeper: None,
        }
    }

    /// One that holds while `held` says so. The keeper has the claim.
    pub(super) fn kept(
        held: watch::Receiver<bool>,
        keeper: impl Send + Sync + std::fmt::Debug + 'static,
    ) -> Self {
        Self {
            _claim: None,
            held: Some(held),
            _keeper: Some(Box::new(keeper)),
        }
    }

    /// Returns when it does not hold any more; in this process alone, never.
    pub async fn lost(&self) {
        let Some(mut held) = self.held.clone() else {
            return std::future::pending().await;
        };
        // An error is a keeper that is gone: nobody keeps it alive.
        let _ = held.wait_for(|held| !held).await;
    }
}

/// The names that are taken in this process.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims(Arc<Mutex<HashSet<Box<str>>>>);

/// A name that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    name: Box<str>,
    claims: Claims,
}

impl Claims {
    /// `None`: it is taken.
    pub(super) fn take(&self, name: &str) -> Option<Claim> {
        let free = self.0.lock().insert(name.into());
        free.then(|| Claim {
            name: name.into(),
            claims: self.clone(),
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.0.lock().remove(&self.name);
    }
}
