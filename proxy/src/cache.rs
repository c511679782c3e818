//! The cache: what it means stands in pure functions, what it holds in `store` (memory) and `disk`, and
//! what is on its way in `flight`.
//!
//! It lies in front of Pingora's proxy and not inside it. Pingora's cache state machine lacks or
//! bends a dozen of RFC 9111's rules (upstream `Age`, heuristics, what a 304 changes, invalidation,
//! request directives, `Cache-Status`), copies a stored head several times for each hit, and can let
//! nobody but the leading client own a fetch. Here a hit never reaches Pingora, and a fetch is an
//! exchange of its own (`fill`), so a client that goes away takes nothing from the others.
//!
//! ```text
//! lookup: memory -> disk -> flight (a fetch under way) -> fill (a fetch of our own)
//! ```
//!
//! What is done with both tiers stands in three files: `lookup`, `keep` puts in, `forget` takes out.
//! Here is what they share: the bounds, and what belongs to no tier.
//!
//! One budget: of the memory that the operator gives, a half is the memory tier's, five sixteenths are
//! for the disk tier's index, and a sixteenth for what waits: records to be written, and requests.
//! Bodies, whoever holds them, never take more than the first half and what is left together.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use moka::sync::Cache as Moka;
use sovereign_config::model::CacheBounds;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::causes;
use crate::downstream::RequestHead;

pub use body::{Body, Room, counted};
pub use disk::Health;
pub use entry::{Entry, Origin};
pub use fill::{Fill, Filled};
pub use flight::{Flight, Flights, Joined, LiveHead, Outcome, Reader};
pub use lookup::begins_well;
pub use question::{Owner, Question};
pub use serve::{comes_in_pieces, representation, serve, serve_parts, stream_head};
pub use storable::session_cookie;

use body::Budget;
use disk::{Disk, Settings};
use forget::Sweeps;
use freshness::Freshness;
use parts::Parts;
use purge::{Census, Purges, Verdict};
use tier::Tier;

// What a message means, in the order in which a request meets it.
pub mod clock;
pub mod coding;
pub mod conditional;
pub mod control;
pub mod date;
pub mod freshness;
pub mod key;
pub mod range;
pub mod reuse;
pub mod scope;
pub mod status;
pub mod storable;
pub mod update;
pub mod vary;
// What is held.
mod body;
pub mod disk;
mod entry;
mod meta;
pub mod parts;
pub mod purge;
mod store;
mod tier;
// What is done with it.
mod forget;
mod keep;
mod lookup;
mod serve;
// What is on its way.
mod fill;
mod flight;
mod question;
pub mod tee;

/// A response that turned out not to be storable: requests for it go their own way for so long,
/// instead of waiting for each other (collapsed forwarding would serve them one after another).
const UNSHARED_FOR: Duration = Duration::from_secs(10);
const UNSHARED_KEYS: u64 = 10_000;
/// How long the disk's queue, or room for a body, is waited for.
const READY: Duration = Duration::from_millis(250);
/// What may wait to be written however little memory there is, in bytes.
const LEAST_QUEUE: u64 = 2 << 20;
/// How often a disk that could not be opened is tried again.
const OPEN_AGAIN: Duration = Duration::from_secs(3);
/// Fetches at once. They outlive the clients that asked for them, so something else must bound them.
const FETCHES: usize = 4096;
/// Bodies that are compressed at once: it is work for later readers, and must not slow down present ones.
const CODERS: usize = 1;
/// The largest body that is kept in memory where there is a disk, and its part of the memory.
const LARGEST_IN_MEMORY: u64 = 1 << 20;
const PART_IN_MEMORY: u64 = 64;
/// The part of the disk that it may take: a segment holds it with all its codings.
const PART_OF_DISK: u64 = 128;
/// What one body that streams to disk takes with all the buffers on its way, and the part of the memory
/// that those may take together. They do not wait for slow readers, so a turn comes soon.
const STREAM: usize = 1536 * 1024;
const PART_FOR_STREAMS: u64 = 8;
const LEAST_STREAMS: usize = 2;
/// The part of the memory that parts of bodies may take.
const PART_FOR_PARTS: u64 = 16;
/// What a waiting request takes beside its fields, in bytes.
const WAITER: usize = 4096;
/// What waiting requests may take however little memory there is, in bytes.
const LEAST_WAITING: u64 = 1 << 20;
/// The part of the memory that the largest body may take where there is no disk.
const PART_WITHOUT_DISK: u64 = 16;

/// All that is stored, for all sites.
pub struct Cache {
    memory: store::Store,
    tier: Tier,
    /// Counts by scope where there is no disk tier to do it.
    census: Arc<Census>,
    purges: Purges,
    sweeps: Sweeps,
    flights: Flights,
    unshared: Moka<Box<str>, ()>,
    /// Parts that origins sent on their own, in memory only.
    parts: Moka<Box<str>, Arc<KeptParts>>,
    bounds: CacheBounds,
    budget: Budget,
    /// What requests take that wait for a fetch.
    waiting: Budget,
    places: Arc<Semaphore>,
    coders: Arc<Semaphore>,
    /// Large bodies that stream to disk at once.
    streams: Arc<Semaphore>,
}

/// What a lookup found.
pub enum Lookup {
    /// A response that the request selects, and how long it may be used.
    Found(Arc<Entry>, Freshness),
    /// Responses for the URI, but none that the request selects.
    VaryMiss(Box<[HeaderName]>),
    /// Nothing.
    UriMiss,
    /// Nothing in memory, but perhaps on disk: see [`Cache::load`].
    OnDisk,
}

/// Parts of a representation, with what is needed to use them.
pub struct KeptParts {
    /// The parts.
    pub parts: Parts,
    /// How long they may be used.
    pub freshness: Freshness,
    /// The request fields they depend on.
    pub names: Box<[HeaderName]>,
    /// Their values in the request that fetched the last one.
    pub variant: Box<str>,
    /// What they belong to.
    pub origin: Origin,
}

/// What the cache holds at one moment.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// Bytes in memory.
    pub memory: u64,
    /// The bound of all the memory that the cache takes.
    pub memory_limit: u64,
    /// URIs in memory.
    pub objects: u64,
    /// The disk tier; `None` where there is none.
    pub disk: Option<disk::Usage>,
    /// Why purges do not outlive the process.
    pub journal: Option<String>,
}

impl Cache {
    /// The cache within these bounds, with what an earlier process has left in the folder `state`.
    /// A disk that cannot be written to is no reason to fail: see [`Self::keep_opening`]. Blocks.
    pub fn open(bounds: &CacheBounds, state: &Path) -> Self {
        let on_disk = bounds.memory > 0 && bounds.disk > 0;
        let folder = state.join("cache");
        if !on_disk && let Err(error) = Disk::give_up(&folder) {
            let error = causes::chain(&error);
            tracing::error!(folder = %folder.display(), "{error}; remove it before the disk is used again");
        }
        let census = Arc::new(Census::default());
        let tier = Tier::new(on_disk.then(|| Settings {
            folder,
            limit: bounds.disk,
            index_limit: bounds.memory / 16 * 5,
            queue_limit: (bounds.memory / 32).max(LEAST_QUEUE),
        }));
        if let Err(error) = tier.open() {
            tracing::error!("{error}; responses are kept in memory only until it works");
        }
        Self {
            memory: store::Store::new(bounds.memory / 2, (!on_disk).then(|| census.clone())),
            purges: Purges::open(on_disk.then(|| state.join("purges")).as_deref()),
            tier,
            census,
            sweeps: Sweeps::default(),
            flights: Flights::default(),
            unshared: Moka::builder()
                .max_capacity(UNSHARED_KEYS)
                .time_to_live(UNSHARED_FOR)
                .build(),
            parts: Moka::builder()
                .max_capacity(bounds.memory / PART_FOR_PARTS)
                .weigher(|_, kept: &Arc<KeptParts>| {
                    u32::try_from(kept.parts.weight()).unwrap_or(u32::MAX)
                })
                .build(),
            budget: Budget::new(bounds.memory / 8 * 5),
            waiting: Budget::new((bounds.memory / 32).max(LEAST_WAITING)),
            bounds: bounds.clone(),
            places: Arc::new(Semaphore::new(FETCHES)),
            coders: Arc::new(Semaphore::new(CODERS)),
            streams: Arc::new(Semaphore::new(
                (bounds.memory / PART_FOR_STREAMS) as usize / STREAM + LEAST_STREAMS,
            )),
        }
    }

    /// Tries again and again to open what could not be opened at the start; returns once it is open.
    pub async fn keep_opening(self: &Arc<Self>) {
        while self.tier.is_missing() {
            tokio::time::sleep(OPEN_AGAIN).await;
            let cache = self.clone();
            let opened = tokio::task::spawn_blocking(move || cache.tier.open()).await;
            if matches!(opened, Ok(Ok(()))) {
                tracing::info!("the cache on disk is open");
                self.loaded().await;
            }
        }
    }

    /// Returns when what an earlier process has left can be found.
    pub async fn loaded(&self) {
        if let Some(disk) = self.disk() {
            disk.loaded().await;
            self.purges.raise(disk.last_born());
            self.sweeps.are_due();
        }
    }

    fn disk(&self) -> Option<&Disk> {
        self.tier.disk()
    }

    /// Generations, for what is on its way.
    pub fn purges(&self) -> &Purges {
        &self.purges
    }

    /// The most used responses in memory that belong to a scope, with their keys.
    pub fn hottest(&self, scope: u64, count: usize) -> Vec<(Arc<str>, Arc<Entry>)> {
        self.memory
            .hottest(count, |entry| entry.scopes.contains(&scope))
    }

    /// Counts a use that was answered out of memory.
    pub fn used(&self, key: &str, entry: &Entry) {
        if entry.used()
            && let Some(disk) = self.disk()
        {
            disk.hit(key, keep::variant_hash(&entry.variant));
        }
    }

    /// Parts of what a key stands for, unless they were purged, and how long they may be used.
    pub fn parts(&self, key: &str, request: &HeaderMap) -> Option<Arc<KeptParts>> {
        let kept = self.parts.get(key)?;
        let valid = self.purges.verdict(kept.origin.born, &kept.origin.scopes) == Verdict::Valid;
        (valid && vary::selects(&kept.names, &kept.variant, request)).then_some(kept)
    }

    /// Keeps parts, in place of those that were kept before.
    pub fn keep_parts(&self, key: &str, kept: KeptParts) {
        self.parts.insert(key.into(), Arc::new(kept));
    }

    /// Fetches under way.
    pub fn flights(&self) -> &Flights {
        &self.flights
    }

    /// Whether a response for the key was found unfit for sharing just now.
    pub fn is_unshared(&self, key: &str) -> bool {
        self.unshared.contains_key(key)
    }

    /// Remembers that.
    pub fn mark_unshared(&self, key: &str) {
        self.unshared.insert(key.into(), ());
    }

    /// Forgets it: what comes now is fit.
    pub fn unmark_unshared(&self, key: &str) {
        self.unshared.invalidate(key);
    }

    /// The largest body that is stored.
    pub fn max_object(&self) -> u64 {
        match self.disk() {
            _ if self.bounds.memory == 0 => 0,
            Some(_) => self.bounds.max_object,
            None => self
                .bounds
                .max_object
                .min(self.bounds.memory / PART_WITHOUT_DISK),
        }
    }

    /// The largest body that is kept in memory.
    pub fn max_in_memory(&self) -> u64 {
        match self.disk() {
            Some(_) => (self.bounds.memory / PART_IN_MEMORY)
                .min(self.bounds.disk / PART_OF_DISK)
                .min(LARGEST_IN_MEMORY),
            None => self.max_object(),
        }
    }

    /// Takes a place for a fetch; `None` where all are taken.
    pub fn take_place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// Takes room for `bytes` of a body on its way, or of who waits for it; `None` where there is none left.
    pub fn take_room(&self, bytes: u64) -> Option<Room> {
        self.budget.take(bytes)
    }

    /// Bytes of that room that are taken now.
    #[cfg(test)]
    pub fn room_taken(&self) -> u64 {
        self.budget.taken()
    }

    /// Takes the memory that a request takes while it waits for a fetch; `None` where too many wait.
    pub fn take_turn(&self, request: &RequestHead) -> Option<Room> {
        let fields: usize = request
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        self.waiting
            .take((WAITER + fields + request.target.as_str().len()) as u64)
    }

    /// What it holds now.
    pub fn usage(&self) -> Usage {
        let (memory, objects) = self.memory.usage();
        Usage {
            memory,
            memory_limit: self.bounds.memory,
            objects,
            disk: self.tier.usage(),
            journal: self.purges.error(),
        }
    }

    /// Lets another process have the folder: what is queued is written, and nothing more is.
    pub async fn pause(&self) {
        if let Some(disk) = self.disk() {
            disk.pause().await;
        }
    }

    /// The other process did not come.
    pub fn resume(&self) {
        if let Some(disk) = self.disk() {
            disk.resume();
        }
    }

    /// Writes what is queued; the last act.
    pub async fn close(&self) {
        if let Some(disk) = self.disk() {
            disk.close().await;
        }
    }
}
