//! What is held in memory: URIs, each with its variants, weighed in bytes; moka's TinyLFU chooses
//! what goes when the bound is reached, so one crawl through everything does not drive out what
//! readers come for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName};
use moka::ops::compute::Op;
use moka::sync::Cache;

use super::Lookup;
use super::entry::Entry;
use super::purge::{Census, Purges};
use super::vary::selects;

/// Variants kept of one URI; the oldest goes first.
const MAX_VARIANTS: usize = 32;
/// What a URI costs beside its variants.
const OVERHEAD: usize = 128;
/// The part of the capacity that may be put in before what is too much is thrown out.
const SLACK: u64 = 16;

/// The store.
pub struct Store {
    held: Cache<Arc<str>, Variants>,
    /// Bytes put in since it was last made sure that they fit.
    unsettled: AtomicU64,
    capacity: u64,
    /// Counts what is held, where no disk tier does.
    census: Option<Arc<Census>>,
}

/// The variants of one URI, the newest first.
type Variants = Arc<[Arc<Entry>]>;

impl Store {
    /// A store of at most `capacity` bytes, that counts what it holds in `census`.
    pub fn new(capacity: u64, census: Option<Arc<Census>>) -> Self {
        let weigh = |key: &Arc<str>, variants: &Variants| {
            let bytes: usize = variants.iter().map(|entry| entry.weight()).sum();
            u32::try_from(OVERHEAD + key.len() + bytes).unwrap_or(u32::MAX)
        };
        let mut held = Cache::builder().max_capacity(capacity).weigher(weigh);
        if let Some(census) = census.clone() {
            held = held.eviction_listener(move |_, variants: Variants, _| {
                variants.iter().for_each(|entry| census.sub(&entry.scopes));
            });
        }
        Self {
            held: held.build(),
            unsettled: AtomicU64::new(0),
            capacity,
            census,
        }
    }

    /// The variant that a request selects, unless it was purged.
    pub fn lookup(&self, key: &str, request: &HeaderMap, purges: &Purges) -> Lookup {
        let Some(variants) = self.held.get(key) else {
            return Lookup::UriMiss;
        };
        let mut newest = None;
        for entry in variants.iter() {
            let Some(freshness) = entry.freshness(purges) else {
                continue;
            };
            if selects(&entry.names, &entry.variant, request) {
                return Lookup::Found(entry.clone(), freshness);
            }
            newest.get_or_insert(entry);
        }
        match newest {
            Some(newest) => Lookup::VaryMiss(newest.names.clone()),
            None => Lookup::UriMiss,
        }
    }

    /// How many variants there are of a URI, purged ones among them.
    pub fn variants(&self, key: &str) -> usize {
        self.held.get(key).map_or(0, |variants| variants.len())
    }

    /// Puts a variant in, in place of the one with the same varying fields, unless that is younger.
    /// Gives back what lies there now.
    pub fn insert(&self, key: &str, entry: Arc<Entry>) -> Arc<Entry> {
        self.settle(entry.weight() as u64);
        let mut there = entry.clone();
        if !self.held.contains_key(key) {
            // Two first variants at the same moment: the second one is fetched again when it is asked for.
            self.held.insert(key.into(), self.counted([entry].into()));
            return there;
        }
        self.held.entry(key.into()).and_compute_with(|old| {
            let others = old.map(moka::Entry::into_value).unwrap_or_default();
            let same = |other: &&Arc<Entry>| same_variant(other, &entry.names, &entry.variant);
            if let Some(younger) = others.iter().find(same).filter(|old| old.born > entry.born) {
                there = younger.clone();
                return Op::Nop;
            }
            let variants = std::iter::once(entry.clone())
                .chain(others.iter().filter(|other| !same(other)).cloned())
                .take(MAX_VARIANTS)
                .collect();
            Op::Put(self.counted(variants))
        });
        there
    }

    /// Puts `new` in the place of `old`, if that is still there.
    pub fn replace(&self, key: &str, old: &Arc<Entry>, new: Arc<Entry>) -> bool {
        self.settle(new.weight() as u64);
        let mut replaced = false;
        self.held.entry(key.into()).and_compute_with(|there| {
            let there = there.map(moka::Entry::into_value).unwrap_or_default();
            replaced = there.iter().any(|entry| Arc::ptr_eq(entry, old));
            if !replaced {
                return Op::Nop;
            }
            let swap = |entry: &Arc<Entry>| match Arc::ptr_eq(entry, old) {
                true => new.clone(),
                false => entry.clone(),
            };
            Op::Put(self.counted(there.iter().map(swap).collect()))
        });
        replaced
    }

    /// Removes what was purged.
    pub fn sweep(&self, purges: &Purges) {
        for (key, variants) in &self.held {
            if variants
                .iter()
                .all(|entry| entry.freshness(purges).is_none())
            {
                self.held.invalidate(&*key);
            }
        }
    }

    /// Removes every variant of a URI; whether there was one.
    pub fn remove(&self, key: &str) -> bool {
        self.held.remove(key).is_some()
    }

    /// What is used most among what `wanted` holds for, with its key, at most `count`.
    pub fn hottest(
        &self,
        count: usize,
        wanted: impl Fn(&Entry) -> bool,
    ) -> Vec<(Arc<str>, Arc<Entry>)> {
        let mut all: Vec<(u32, Arc<str>, Arc<Entry>)> = Vec::new();
        for (key, variants) in &self.held {
            for entry in variants.iter().filter(|entry| wanted(entry)) {
                all.push((entry.hits(), Arc::clone(&key), entry.clone()));
            }
            if all.len() > count * 4 {
                keep_most(&mut all, count);
            }
        }
        keep_most(&mut all, count);
        all.into_iter()
            .map(|(_, key, entry)| (key, entry))
            .collect()
    }

    /// Bytes held, and the number of URIs.
    pub fn usage(&self) -> (u64, u64) {
        self.held.run_pending_tasks();
        (self.held.weighted_size(), self.held.entry_count())
    }

    fn counted(&self, variants: Variants) -> Variants {
        if let Some(census) = &self.census {
            variants.iter().for_each(|entry| census.add(&entry.scopes));
        }
        variants
    }

    /// Evicts at times what is too much: by itself moka waits for a number of insertions, however
    /// large they are.
    fn settle(&self, bytes: u64) {
        let unsettled = self.unsettled.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if unsettled > self.capacity / SLACK {
            self.unsettled.store(0, Ordering::Relaxed);
            self.held.run_pending_tasks();
        }
    }
}

fn keep_most(all: &mut Vec<(u32, Arc<str>, Arc<Entry>)>, count: usize) {
    all.sort_unstable_by_key(|(hits, ..)| std::cmp::Reverse(*hits));
    all.truncate(count);
}

fn same_variant(entry: &Entry, names: &[HeaderName], variant: &str) -> bool {
    *entry.names == *names && *entry.variant == *variant
}
