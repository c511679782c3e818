//! An etcd over the local files: certificates go to both and come from both, answers to challenges
//! and leases are in etcd. Every certificate is read from local files, so that one who is cut off
//! goes on with what it has.
//!
//! ```text
//! PREFIX/certs/...       certificates with their keys; they stay
//! PREFIX/leases/NAME     who is at work on it; gone 15 s after the last sign of life
//! PREFIX/...             what is lent; gone after its time
//! ```
//!
//! In place of a watch, the keys that have changed are asked for every two seconds: that also says
//! whether the etcd is alive, which a watch does not, and it needs no second way to catch up.

// What we ask of an etcd.
mod calls;
// Connections to its members.
mod connect;
// How it is asked.
mod gateway;
// The right to be the only one over all proxies.
mod lease;
// Keeping local files and etcd in step.
mod sync;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use parking_lot::Mutex;
use sovereign_config::model;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use self::gateway::{Gateway, Trouble};
use self::sync::Progress;
use super::files::Files;
use super::lease::Lease;
use super::referee::{Newest, Referee};
use super::{MOST_BYTES, Store, StoreError, check_name, check_size, is_lent, is_shared};

/// Local files that are kept in step with an etcd.
#[derive(Debug)]
pub(super) struct Shared {
    inner: Arc<Inner>,
    sync: JoinHandle<()>,
}

#[derive(Debug)]
struct Inner {
    files: Files,
    gateway: Gateway,
    /// Without a slash at its end.
    prefix: String,
    /// Held while a local file is judged and replaced. Not over anything of the network.
    deciding: tokio::sync::Mutex<()>,
    progress: Mutex<Progress>,
    trouble: Mutex<Option<Ongoing>>,
    referee: Mutex<Arc<dyn Referee>>,
    arrived: Notify,
}

/// Trouble that is not over.
#[derive(Debug)]
struct Ongoing {
    since: SystemTime,
    text: String,
}

impl Shared {
    /// Begins to keep step at once.
    pub(super) fn open(files: Files, config: &model::Etcd) -> Arc<Self> {
        let inner = Arc::new(Inner {
            files,
            gateway: Gateway::new(config),
            prefix: config.prefix.trim_end_matches('/').into(),
            deciding: tokio::sync::Mutex::default(),
            progress: Mutex::default(),
            trouble: Mutex::default(),
            referee: Mutex::new(Arc::new(Newest)),
            arrived: Notify::new(),
        });
        let sync = tokio::spawn(sync::keep(Arc::clone(&inner)));
        Arc::new(Self { inner, sync })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.sync.abort();
    }
}

#[async_trait]
impl Store for Shared {
    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let here = self.inner.files.read(name).await?;
        // While it does not answer, nobody waits for it again and again.
        if here.is_some() || !is_lent(name) || self.inner.is_troubled() {
            return Ok(here);
        }
        let there = calls::get(&self.inner.gateway, &self.inner.key(name)).await;
        let there = self.inner.noted(there)?.map(|entry| entry.value);
        Ok(there.filter(|value| value.len() <= MOST_BYTES))
    }

    async fn write(&self, name: &str, content: &[u8]) -> Result<(), StoreError> {
        {
            let _decided = self.inner.deciding.lock().await;
            self.inner.files.write(name, content).await?;
        }
        if is_shared(name) {
            self.inner.progress.lock().owe(name);
            sync::pay(&self.inner, name).await;
        }
        Ok(())
    }

    async fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.inner.files.remove(name).await?;
        if is_shared(name) || is_lent(name) {
            self.inner.progress.lock().forget(name);
            let gone = calls::delete(&self.inner.gateway, &self.inner.key(name)).await;
            // What is lent ends by itself, and a certificate that nobody asks for harms nobody.
            let _ = self.inner.noted(gone);
        }
        Ok(())
    }

    async fn lend(&self, name: &str, content: &[u8], ttl: Duration) -> Result<(), StoreError> {
        check_name(name)?;
        check_size(name, content)?;
        self.inner.files.lend(name, content, ttl).await?;
        let lent = self.inner.lend(name, content, ttl).await;
        // This proxy has it in any case, and may well be the one that is asked.
        let _ = self.inner.noted(lent);
        Ok(())
    }

    async fn lease(&self, name: &str) -> Result<Option<Lease>, StoreError> {
        check_name(&format!("leases/{name}"))?;
        let Some(claim) = self.inner.files.claims().take(name) else {
            return Ok(None);
        };
        let taken = lease::take(&self.inner, name, claim).await;
        self.inner.noted(taken)
    }

    async fn catch_up(&self, name: &str) -> Result<(), StoreError> {
        check_name(name)?;
        if is_shared(name) {
            self.inner.noted(sync::look(&self.inner, name).await)?;
        }
        Ok(())
    }

    async fn changed(&self) {
        self.inner.arrived.notified().await;
    }

    fn trouble(&self) -> Option<String> {
        let trouble = self.inner.trouble.lock();
        trouble.as_ref().map(|Ongoing { since, text }| {
            let since = httpdate::fmt_http_date(*since);
            format!("the shared store has not worked since {since}: {text}; what is here goes on being served")
        })
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn judged_by(&self, referee: Arc<dyn Referee>) {
        *self.inner.referee.lock() = referee;
        // What the earlier one left aside is judged anew.
        self.inner.progress.lock().start_over();
    }
}

impl Inner {
    /// The key of a name.
    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    /// The name of a key; `None`: it is none of ours.
    fn name(&self, key: &[u8]) -> Option<String> {
        let key = std::str::from_utf8(key).ok()?;
        let name = key.strip_prefix(&self.prefix)?.strip_prefix('/')?;
        check_name(name).is_ok().then(|| name.to_owned())
    }

    async fn lend(&self, name: &str, content: &[u8], ttl: Duration) -> Result<(), Trouble> {
        let lease = calls::grant(&self.gateway, ttl).await?;
        calls::put(&self.gateway, &self.key(name), content, &lease).await
    }

    fn is_troubled(&self) -> bool {
        self.trouble.lock().is_some()
    }

    /// Notes how a call went, and says once in the log when that changes.
    fn noted<T>(&self, result: Result<T, Trouble>) -> Result<T, StoreError> {
        let mut ongoing = self.trouble.lock();
        match (&result, ongoing.as_mut()) {
            (Ok(_), None) => {}
            (Ok(_), Some(_)) => {
                *ongoing = None;
                tracing::info!(
                    etcd = self.gateway.describe(),
                    "the shared store works again"
                );
            }
            (Err(trouble), Some(known)) => known.text.clone_from(&trouble.text),
            (Err(trouble), None) => {
                tracing::warn!(
                    "the shared store does not work: {trouble}; what is here goes on being served"
                );
                *ongoing = Some(Ongoing {
                    since: SystemTime::now(),
                    text: trouble.text.clone(),
                });
            }
        }
        result.map_err(|trouble| StoreError::Shared(trouble.text))
    }
}

/// The most keys that are looked at in one answer.
const MOST_KEYS: u32 = 500;
