//! What the configuration asks for: taken at the start and after each reload.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sovereign_config::model;
use tokio::time::Instant;

use super::ca::{self, Ca};
use super::challenge::Prover;
use super::entry::Entry;
use super::history::{Event, What};
use super::keeper::Acme;
use super::{terms, when};
use crate::tls::kept::About;
use crate::tls::wanted::wanted;

/// What the configuration says about authorities.
pub(super) struct Plan {
    pub cas: Vec<Arc<Ca>>,
    pub prover: Arc<Prover>,
    pub orders: usize,
}

impl Acme {
    /// Takes a configuration: at the start and after each reload. What is under way for a certificate that
    /// is wanted as before goes on; an authority that is named as before keeps what is known of it. Reads a
    /// small file.
    pub fn take(&self, config: &model::Proxy) {
        let before = self.plan.load();
        let cas = config.acme.iter().map(|ca| {
            let known = before.cas.iter().find(|known| known.config == *ca);
            let ca = known.cloned().unwrap_or_else(|| {
                let (store, clock) = (self.store.clone(), self.clock.clone());
                Arc::new(Ca::new(ca.clone(), store, clock))
            });
            ca.set_agreed(terms::is_agreed(&self.state, &ca.config.directory));
            ca
        });
        let prover = Prover::new(&config.certificates, &config.listen, self.answers.clone());
        let plan = Plan {
            cas: cas.collect(),
            prover: Arc::new(prover),
            orders: config.certificates.orders.max(1),
        };
        let reconsider = plan
            .cas
            .iter()
            .map(|ca| &ca.config)
            .ne(before.cas.iter().map(|ca| &ca.config));
        self.plan.store(Arc::new(plan));
        let events = self.history.list();
        let mut entries = self.entries.lock();
        let mut old = std::mem::take(&mut *entries);
        for wanted in wanted(&config.sites) {
            let known = old.iter().position(|entry| entry.wanted == wanted);
            let mut entry = match known {
                Some(index) => old.swap_remove(index),
                None => self.begin(Entry::new(wanted), &events),
            };
            if known.is_some() {
                // The operator may have mended what was in the way; what an authority refused waits on.
                entry.next = None;
                entry.look = None;
            }
            if reconsider {
                entry.refused.clear();
            }
            entries.push(entry);
        }
        drop(entries);
        self.stale.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// A certificate that failed before this process began does not begin at zero: a daemon that is started
    /// again and again would use up the authority's patience.
    fn begin(&self, mut entry: Entry, events: &[Event]) -> Entry {
        let own = events
            .iter()
            .rev()
            .filter(|event| event.id == entry.wanted.id);
        let failed: Vec<&Event> = own
            .take_while(|event| matches!(event.what, What::Failed | What::Waiting))
            .filter(|event| event.what == What::Failed && event.directory.is_some())
            .filter(|event| event.names == entry.wanted.names)
            .collect();
        if let Some(last) = failed.first() {
            entry.failures = u32::try_from(failed.len()).unwrap_or(u32::MAX);
            entry.last_error = Some(last.text.clone());
            let wait = when::backoff(when::FIRST_OF_OURS, entry.failures, None, when::throw());
            let passed = self.clock.now().duration_since(last.at).unwrap_or_default();
            let left = wait.min(AFTER_START).saturating_sub(passed);
            entry.next = Some(Instant::now() + left);
        }
        entry
    }
}

impl Plan {
    /// Why a certificate is not what the configuration asks for, though it covers the names.
    pub fn changed(&self, about: &About, wanted: Option<&str>) -> Option<String> {
        let ca = self
            .cas
            .iter()
            .find(|ca| ca.config.directory == about.directory);
        let Some(ca) = ca else {
            let name = ca::name(&about.directory);
            return Some(format!(
                "it comes from {name}, which is not an authority of the configuration any more"
            ));
        };
        let wanted = wanted.or(ca.config.profile.as_deref());
        let shown = |profile: Option<&str>| profile.unwrap_or("none").to_owned();
        (about.profile.as_deref() != wanted).then(|| {
            let (is, wanted) = (shown(about.profile.as_deref()), shown(wanted));
            format!("its profile is {is}; wanted {wanted}")
        })
    }
}

/// After a start, a failure of an earlier process is waited for this long at most: the operator may have
/// mended its cause.
const AFTER_START: Duration = Duration::from_secs(60 * 60);
