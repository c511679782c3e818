//! What is held in memory: URIs, each with its variants, weighed in bytes; moka's TinyLFU chooses
//! what goes when the bound is reached, so one crawl through everything does not drive out what
//! readers come for.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use moka::ops::compute::Op;
use moka::sync::Cache;

use super::Lookup;
use super::entry::Entry;
use super::vary::selects;

/// Variants kept of one URI; the oldest goes first.
const MAX_VARIANTS: usize = 32;
/// What a URI costs beside its variants.
const OVERHEAD: usize = 128;

/// The store.
pub struct Store(Cache<Arc<str>, Variants>);

/// The variants of one URI, the newest first.
type Variants = Arc<[Arc<Entry>]>;

impl Store {
    /// A store of at most `capacity` bytes.
    pub fn new(capacity: u64) -> Self {
        let weigh = |key: &Arc<str>, variants: &Variants| {
            let bytes: usize = variants.iter().map(|entry| entry.weight()).sum();
            u32::try_from(OVERHEAD + key.len() + bytes).unwrap_or(u32::MAX)
        };
        Self(
            Cache::builder()
                .max_capacity(capacity)
                .weigher(weigh)
                .build(),
        )
    }

    /// The variant that a request selects.
    pub fn lookup(&self, key: &str, request: &HeaderMap) -> Lookup {
        let Some(variants) = self.0.get(key) else {
            return Lookup::UriMiss;
        };
        let chosen = variants
            .iter()
            .find(|entry| selects(&entry.names, &entry.variant, request));
        match (chosen, variants.first()) {
            (Some(entry), _) => Lookup::Found(entry.clone()),
            (None, Some(newest)) => Lookup::VaryMiss(newest.names.clone()),
            (None, None) => Lookup::UriMiss,
        }
    }

    /// Puts a variant in, in place of the one with the same varying fields.
    pub fn insert(&self, key: &str, entry: Arc<Entry>) {
        if !self.0.contains_key(key) {
            // Two first variants at the same moment: the second one is fetched again when it is asked for.
            self.0.insert(key.into(), Arc::new([entry]));
            return;
        }
        let same = |other: &Entry| same_variant(other, &entry.names, &entry.variant);
        self.0.entry(key.into()).and_compute_with(|old| {
            let others = old.map(moka::Entry::into_value).unwrap_or_default();
            let variants = std::iter::once(entry.clone())
                .chain(others.iter().filter(|other| !same(other)).cloned())
                .take(MAX_VARIANTS)
                .collect();
            Op::Put(variants)
        });
    }

    /// Removes every variant of a URI.
    pub fn remove(&self, key: &str) {
        self.0.invalidate(key);
    }

    /// Bytes held, and the number of URIs.
    pub fn usage(&self) -> (u64, u64) {
        self.0.run_pending_tasks();
        (self.0.weighted_size(), self.0.entry_count())
    }
}

fn same_variant(entry: &Entry, names: &[HeaderName], variant: &str) -> bool {
    *entry.names == *names && *entry.variant == *variant
}
