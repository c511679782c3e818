//! Answers of proxies under the same name: lent to them, and looked for where they lend theirs.
//!
//! Anybody can ask for tokens that nobody gave out, so questions to the shared store are few at a time,
//! bounded in time, and not asked again for a moment where there was nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::acme::store::Store;

pub(super) struct Elsewhere {
    store: Arc<dyn Store>,
    /// What the store says of itself: it does not change.
    shared: bool,
    /// Names that it did not have, and until when it is not asked for them again.
    absent: Mutex<HashMap<String, Instant>>,
    asking: Semaphore,
    turns: [tokio::sync::Mutex<()>; TURNS],
}

impl Elsewhere {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            shared: store.is_shared(),
            store,
            absent: Mutex::default(),
            asking: Semaphore::new(ASKING),
            turns: Default::default(),
        }
    }

    /// Whether there are other proxies at all.
    pub(super) fn is_shared(&self) -> bool {
        self.shared
    }

    /// Lends an answer. Others that cannot have it are no reason to fail: the authority may well ask us.
    pub(super) async fn lend(&self, name: &str, content: &[u8]) {
        if !self.shared {
            return;
        }
        let _turn = self.turn(name).lock().await;
        match timeout(ASK, self.store.lend(name, content, LENT)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the other proxies cannot answer this challenge");
            }
            Err(_) => tracing::warn!("the shared store takes too long to take a challenge"),
        }
    }

    /// Waits until no other proxy remembers that something was absent. For what has a name that anybody
    /// may have asked for a moment ago.
    pub(super) async fn settle(&self) {
        if self.shared {
            tokio::time::sleep(ABSENT).await;
        }
    }

    /// Takes back what was lent, unless it was put in anew.
    pub(super) async fn take_back(&self, name: &str, is_held: impl Fn(&str) -> bool) {
        let _turn = self.turn(name).lock().await;
        if is_held(name) {
            return;
        }
        match timeout(ASK, self.store.remove(name)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "a challenge stays lent until its time is over");
            }
            Err(_) => tracing::debug!("the shared store takes too long to give a challenge back"),
        }
    }

    /// What another proxy put there.
    pub(super) async fn find(&self, name: &str) -> Option<Vec<u8>> {
        if !self.shared || self.is_absent(name) {
            return None;
        }
        let look = async {
            // The semaphore is never closed.
            let _permit = self.asking.acquire().await.ok()?;
            self.store.read(name).await.ok().flatten()
        };
        let found = timeout(ASK, look).await.ok().flatten();
        if found.is_none() {
            self.remember_absent(name);
        }
        found
    }

    fn is_absent(&self, name: &str) -> bool {
        let absent = self.absent.lock();
        absent
            .get(name)
            .is_some_and(|until| *until > Instant::now())
    }

    fn remember_absent(&self, name: &str) {
        let now = Instant::now();
        let mut absent = self.absent.lock();
        if absent.len() >= REMEMBERED {
            absent.retain(|_, until| *until > now);
        }
        if absent.len() < REMEMBERED {
            absent.insert(name.to_owned(), now + ABSENT);
        }
    }

    /// What is lent and taken back under one name keeps its order.
    fn turn(&self, name: &str) -> &tokio::sync::Mutex<()> {
        let sum = name.bytes().fold(0, |sum, byte| sum + usize::from(byte));
        &self.turns[sum % TURNS]
    }
}

/// Names remembered as absent.
const REMEMBERED: usize = 1024;

/// Groups of names that share an order of lending and taking back.
const TURNS: usize = 16;

/// Questions to the shared store at once.
const ASKING: usize = 8;

/// How long one may take, waiting for its turn included.
const ASK: Duration = Duration::from_secs(3);

/// How long what is not there is not asked for again.
const ABSENT: Duration = Duration::from_millis(500);

/// How long another proxy may answer at most: an order takes less.
const LENT: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests;
