//! Taking responses out: one by its key, or by number all that was asked for before a purge.
//!
//! A purge looks for nothing, whatever it concerns, so requests may cause any number of them. What is
//! purged hard is never found again, and its room comes back when its key is next looked up or when it
//! is given up in its turn. Only an operator's purge, which says how many responses it concerns, has the
//! cache looked through: by one at a time, and not again while nothing more was purged hard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;

use super::Cache;
use super::key::Key;
use super::scope::Scope;

/// Whether something is still held that was purged hard.
#[derive(Default)]
pub(super) struct Sweeps {
    due: AtomicBool,
    /// Held while everything is looked through.
    under_way: Mutex<()>,
}

impl Sweeps {
    /// Something may have been purged hard.
    pub fn are_due(&self) {
        self.due.store(true, Ordering::Release);
    }

    /// Waits for the one that is under way, and sweeps if there is something to be swept.
    fn run(&self, sweep: impl FnOnce()) {
        let _one_at_a_time = self.under_way.lock();
        // Before the look: what is purged meanwhile is swept the next time.
        if self.due.swap(false, Ordering::AcqRel) {
            sweep();
        }
    }
}

impl Cache {
    /// Removes all that is stored for a key, and sees to it that what is on its way is not stored.
    pub fn invalidate(&self, key: &str) {
        self.flights.outdate(key);
        self.parts.invalidate(key);
        let in_memory = self.memory.remove(key);
        let on_disk = self.disk().is_some_and(|disk| disk.has(key));
        if in_memory || on_disk {
            // What another process finds after us must not come back.
            self.purges
                .purge(&[Scope::url(key)], true, SystemTime::now());
            if let Some(disk) = self.disk() {
                disk.forget(key);
            }
        }
    }

    /// Removes all that is stored for a key: something newer has taken its place.
    pub fn remove(&self, key: &str) {
        self.memory.remove(key);
        self.parts.invalidate(key);
        if let Some(disk) = self.disk() {
            disk.forget(key);
        }
    }

    /// Purges everything that belongs to one of the scopes. With `hard` it is not used again, else it is
    /// stale. Takes the same short time however much that is.
    pub fn purge(&self, scopes: &[u64], hard: bool) {
        self.purges.purge(scopes, hard, SystemTime::now());
        if hard && !scopes.is_empty() {
            self.sweeps.are_due();
        }
    }

    /// The same for an operator: says how many stored responses it concerns, and gives the room of what is
    /// purged hard back soon. `pages` are those that are named, or whose folders are, among the scopes. What
    /// was purged hard before does not count, though it may have to be swept first. Blocks.
    pub fn purge_counted(self: &Arc<Self>, scopes: &[u64], pages: &[Key], hard: bool) -> u64 {
        self.sweep();
        let counted = scopes.iter().map(|scope| match self.disk() {
            Some(disk) => disk.count(*scope),
            None => self.census.count(*scope),
        });
        let mut concerned: u64 = counted.sum();
        if let Some(disk) = self.disk() {
            let found = pages
                .iter()
                .map(|key| disk.places(key.as_str()).len() as u64);
            concerned += found.sum::<u64>();
        }
        self.purge(scopes, hard);
        if hard {
            let cache = self.clone();
            tokio::task::spawn_blocking(move || cache.sweep());
        }
        concerned
    }

    /// Forgets what was purged hard. It cannot be found any more in any case; but it takes room, and would
    /// be counted by the next purge.
    fn sweep(&self) {
        self.sweeps.run(|| {
            self.memory.sweep(&self.purges);
            if let Some(disk) = self.disk() {
                disk.sweep(|scopes| self.purges.hard_before(scopes));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};
    use sovereign_config::model::CacheBounds;

    use super::super::control::ResponseControl;
    use super::super::freshness::{Freshness, Policy};
    use super::super::{Body, Entry, Lookup, Origin};
    use super::*;
    use crate::downstream::ResponseHead;

    const SITE: u64 = 1;
    const GROUP: u64 = u64::MAX;

    fn page(cache: &Cache, key: &str, scopes: &[u64]) {
        let head = ResponseHead::new(StatusCode::OK);
        let control = ResponseControl::of(&head.headers);
        let (now, policy) = (SystemTime::now(), Policy::default());
        let freshness = Freshness::of(head.status, &head.headers, &control, now, now, &policy);
        let origin = Origin {
            born: cache.purges.next_born(),
            scopes: scopes.into(),
            compress: false,
        };
        let body = Body::Memory(Bytes::from_static(b"body"));
        let entry = Entry::new(head, body, freshness, &HeaderMap::new(), now, origin);
        cache.insert(key, 0, Arc::new(entry));
    }

    /// What an application's answers had purged was counted as if it could still be served.
    #[test]
    fn what_was_purged_hard_before_is_neither_found_nor_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let bounds = CacheBounds {
            memory: 1 << 20,
            disk: 0,
            max_object: 1 << 10,
        };
        let cache = Arc::new(Cache::open(&bounds, folder.path()));
        page(&cache, "https://a.example/1", &[SITE, GROUP]);
        page(&cache, "https://a.example/2", &[SITE]);
        cache.purge(&[GROUP], true);
        let found = |page| {
            let found = cache.lookup(page, &HeaderMap::new());
            matches!(found, Lookup::Found(..))
        };
        assert!(!found("https://a.example/1") && found("https://a.example/2"));
        assert_eq!(cache.purge_counted(&[SITE], &[], false), 1);
        assert_eq!(cache.purge_counted(&[GROUP], &[], false), 0);
    }

    #[test]
    fn a_sweep_is_made_once_however_often_it_is_asked_for() {
        let sweeps = Sweeps::default();
        let mut made = 0;
        sweeps.run(|| made += 1);
        assert_eq!(made, 0, "nothing was purged");
        sweeps.are_due();
        sweeps.are_due();
        sweeps.run(|| made += 1);
        sweeps.run(|| made += 1);
        assert_eq!(made, 1);
        sweeps.are_due();
        // Purged while it is under way: the next one is for that.
        sweeps.run(|| sweeps.are_due());
        sweeps.run(|| made += 1);
        assert_eq!(made, 2);
    }
}
