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
//! One budget: of the memory that the operator gives, a half is the memory tier's, five sixteenths are
//! for the disk tier's index, and a sixteenth for what waits: records to be written, and requests.
//! Bodies, whoever holds them, never take more than the first half and what is left together.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName};
use moka::sync::Cache as Moka;
use parking_lot::Mutex;
use sovereign_config::model::{CacheBounds, CacheRules};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use twox_hash::XxHash3_64;

use crate::downstream::RequestHead;

pub use body::{Body, Room, counted};
pub use disk::{Health, Spool, SpoolTail};
pub use entry::{Entry, Origin};
pub use fill::{Fill, Filled};
pub use flight::{Flight, Flights, Joined, LiveHead, Outcome, Reader};
pub use serve::{comes_in_pieces, representation, serve, serve_parts, stream_head};

use body::Budget;
use disk::{Disk, NewRecord, Place, Record, RecordBody, Settings, StoredBody};
use freshness::Freshness;
use key::Key;
use meta::Meta;
use parts::Parts;
use purge::{Census, Purges, Verdict};
use scope::Scope;

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
// What is held, and what is on its way.
mod body;
pub mod disk;
mod entry;
mod fill;
mod flight;
mod meta;
pub mod parts;
pub mod purge;
mod serve;
mod store;
pub mod tee;

/// A response that turned out not to be storable: requests for it go their own way for so long,
/// instead of waiting for each other (collapsed forwarding would serve them one after another).
const UNSHARED_FOR: Duration = Duration::from_secs(10);
const UNSHARED_KEYS: u64 = 10_000;
/// How long the disk's queue, or room for a body, is waited for.
const READY: Duration = Duration::from_millis(250);
const ROOM_AGAIN: Duration = Duration::from_millis(5);
/// What may wait to be written however little memory there is, in bytes.
const LEAST_QUEUE: u64 = 2 << 20;
/// What a record takes beside its body, about, in bytes.
const HEAD: u64 = 2048;
/// How often a disk that could not be opened is tried again.
const OPEN_AGAIN: Duration = Duration::from_secs(3);
/// Fetches at once. They outlive the clients that asked for them, so something else must bound them.
const FETCHES: usize = 4096;
/// Bodies that are compressed at once: it is work for later readers, and must not slow down present ones.
const CODERS: usize = 1;
/// The largest body that is kept in memory where there is a disk, and its part of the memory.
const LARGEST_IN_MEMORY: u64 = 1 << 20;
const PART_IN_MEMORY: u64 = 64;
/// What is read of a body before its head is sent, in bytes.
const FIRST_PIECE: u64 = serve::PIECE;
/// The largest body that is read once before it is served for the first time after a start.
const LARGEST_READ_FIRST: u64 = 32 << 20;
/// The part of the disk that it may take: a segment holds it with all its codings.
const PART_OF_DISK: u64 = 128;
/// What one body that streams to disk takes with all the buffers on its way, and the part of the memory
/// that those may take together. They do not wait for slow readers, so a turn comes soon.
const STREAM: usize = 1536 * 1024;
const PART_FOR_STREAMS: u64 = 8;
const LEAST_STREAMS: usize = 2;
/// How long a turn is waited for.
const STREAM_TURN: Duration = Duration::from_secs(10);
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

/// The durable tier, where there is one.
struct Tier {
    settings: Option<Settings>,
    disk: OnceLock<Disk>,
    /// Why it could not be opened.
    error: Mutex<Option<(Health, String)>>,
}

impl Tier {
    fn new(settings: Option<Settings>) -> Self {
        Self {
            settings,
            disk: OnceLock::new(),
            error: Mutex::default(),
        }
    }

    /// Opens it, unless there is none or it is open. Blocks.
    fn open(&self) -> Result<(), String> {
        let Some(settings) = self.settings.clone().filter(|_| self.is_missing()) else {
            return Ok(());
        };
        match Disk::open(settings) {
            Ok(disk) => {
                // One task opens it, so it was not open before.
                let _ = self.disk.set(disk);
                *self.error.lock() = None;
                Ok(())
            }
            Err(error) => {
                let cause = std::error::Error::source(&error);
                let kind = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>());
                let health = match kind.map(std::io::Error::kind) {
                    Some(std::io::ErrorKind::ReadOnlyFilesystem) => Health::ReadOnly,
                    Some(std::io::ErrorKind::StorageFull) => Health::Full,
                    _ => Health::Failing,
                };
                let cause = cause.map(|cause| format!(": {cause}"));
                let error = format!("{error}{}", cause.unwrap_or_default());
                *self.error.lock() = Some((health, error.clone()));
                Err(error)
            }
        }
    }

    /// There should be one, but it is not open.
    fn is_missing(&self) -> bool {
        self.settings.is_some() && self.disk.get().is_none()
    }

    fn usage(&self) -> Option<disk::Usage> {
        if let Some(disk) = self.disk.get() {
            return Some(disk.usage());
        }
        let error = self.error.lock().clone();
        Some(disk::Usage {
            bytes: 0,
            limit: self.settings.as_ref()?.limit,
            records: 0,
            index_bytes: 0,
            queued_bytes: 0,
            not_stored: 0,
            corrupt: 0,
            health: error
                .as_ref()
                .map_or(Health::Failing, |(health, _)| *health),
            last_error: error.map(|(_, error)| error),
        })
    }
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

/// What a record on disk is to a request.
enum Recognised {
    /// Nothing that can be used.
    Nothing,
    /// A response that depends on these fields, for other requests.
    Other(Box<[HeaderName]>),
    /// What it selects.
    Selected(Box<Selected>),
}

struct Selected {
    meta: Meta,
    born: u64,
    scopes: Box<[u64]>,
    body: RecordBody,
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

/// Whose a response is.
#[derive(Debug, Clone)]
pub struct Owner {
    /// The canonical name of its site.
    pub site: Box<str>,
    /// What it may push out, and be pushed out by: 0 for all ordinary sites, a number of its own for a
    /// site whose stored responses are kept.
    pub lane: u64,
    /// Stored pages are compressed.
    pub compress: bool,
}

impl Owner {
    /// The owner of what a site stores under these rules.
    pub fn new(site: &str, rules: &CacheRules) -> Self {
        Self {
            lane: if rules.keep { Scope::site(site) } else { 0 },
            compress: rules.compress,
            site: site.into(),
        }
    }
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
        let census = Arc::new(Census::default());
        let tier = Tier::new(on_disk.then(|| Settings {
            folder: state.join("cache"),
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
        }
    }

    fn disk(&self) -> Option<&Disk> {
        self.tier.disk.get()
    }

    /// Looks a request up in memory, by the text of its key.
    pub fn lookup(&self, key: &str, request: &HeaderMap) -> Lookup {
        let found = self.memory.lookup(key, request, &self.purges);
        match (&found, self.disk()) {
            (Lookup::UriMiss, Some(disk)) if disk.has(key) => Lookup::OnDisk,
            (Lookup::VaryMiss(_), Some(disk))
                if disk.places(key).len() > self.memory.variants(key) =>
            {
                Lookup::OnDisk
            }
            _ => found,
        }
    }

    /// Looks a request up on disk, as far as the page cache can answer; `None` where the disk must be
    /// waited for. Never [`Lookup::OnDisk`].
    pub fn load_now(&self, key: &str, request: &HeaderMap) -> Option<Lookup> {
        let disk = self.disk()?;
        let mut miss = Lookup::UriMiss;
        for place in disk.places(key) {
            let Some(record) = disk.try_read(place, key).ok()? else {
                continue;
            };
            match self.recognise(disk, key, place, record, request) {
                Recognised::Nothing => {}
                Recognised::Other(names) => miss = Lookup::VaryMiss(names),
                Recognised::Selected(found) => {
                    let RecordBody::Whole(body) = found.body.clone() else {
                        return None;
                    };
                    let room = self.budget.take(body.len() as u64)?;
                    let body = Body::Memory(counted(body, room));
                    return Some(self.take_up(disk, key, place, *found, body));
                }
            }
        }
        Some(miss)
    }

    /// Looks a request up on disk. Never [`Lookup::OnDisk`].
    pub async fn load(&self, key: &str, request: &HeaderMap) -> Lookup {
        let Some(disk) = self.disk() else {
            return Lookup::UriMiss;
        };
        let mut miss = Lookup::UriMiss;
        for place in disk.places(key) {
            let Some(record) = disk.read(place, key).await else {
                continue;
            };
            match self.recognise(disk, key, place, record, request) {
                Recognised::Nothing => {}
                Recognised::Other(names) => miss = Lookup::VaryMiss(names),
                Recognised::Selected(found) => {
                    // Readers that hold too much must not cost the others more: then it is a miss.
                    let Some(body) = self.body_of(&found).await else {
                        return Lookup::UriMiss;
                    };
                    return self.take_up(disk, key, place, *found, body);
                }
            }
        }
        miss
    }

    /// Whether what was read from disk is what the request selects.
    fn recognise(
        &self,
        disk: &Disk,
        key: &str,
        place: Place,
        record: Record,
        request: &HeaderMap,
    ) -> Recognised {
        let own = scope::of_page(key).into_iter().flatten();
        let scopes: Box<[u64]> = record.scopes.iter().copied().chain(own).collect();
        let verdict = self.purges.verdict(record.born, &scopes);
        let meta = Meta::decode(record.meta).filter(|_| verdict != Verdict::Hard);
        let Some(meta) = meta else {
            disk.forget_place(place, key);
            return Recognised::Nothing;
        };
        if !vary::selects(&meta.names, &meta.variant, request) {
            return Recognised::Other(meta.names);
        }
        Recognised::Selected(Box::new(Selected {
            meta,
            born: record.born,
            scopes,
            body: record.body,
        }))
    }

    /// The body of a record: in memory where it is small enough to stay there.
    async fn body_of(&self, found: &Selected) -> Option<Body> {
        let stored = match &found.body {
            RecordBody::Whole(bytes) => {
                let room = self.room_for(bytes.len() as u64).await?;
                return Some(Body::Memory(counted(bytes.clone(), room)));
            }
            RecordBody::Large(stored) => stored,
        };
        if found.meta.lengths[0] > self.max_in_memory() {
            // Better a miss now than an answer that breaks off.
            let sound = stored.len() > LARGEST_READ_FIRST || is_sound(stored).await;
            return sound.then(|| Body::Disk(stored.clone()));
        }
        let room = self.room_for(stored.len()).await?;
        let mut body = BytesMut::with_capacity(usize::try_from(stored.len()).ok()?);
        while (body.len() as u64) < stored.len() {
            let piece = stored.read(body.len() as u64..stored.len()).await.ok()?;
            if piece.is_empty() {
                return None;
            }
            body.extend_from_slice(&piece);
        }
        Some(Body::Memory(counted(body, room)))
    }

    /// Room for a body, waited for a moment where there is none.
    async fn room_for(&self, bytes: u64) -> Option<Room> {
        let begun = Instant::now();
        loop {
            let room = self.budget.take(bytes);
            if room.is_some() || begun.elapsed() > READY {
                return room;
            }
            tokio::time::sleep(ROOM_AGAIN).await;
        }
    }

    /// Brings what was read from disk into memory.
    fn take_up(&self, disk: &Disk, key: &str, place: Place, found: Selected, body: Body) -> Lookup {
        let Some(entry) = Entry::stored(found.meta, body, found.born, found.scopes) else {
            disk.forget_place(place, key);
            return Lookup::UriMiss;
        };
        let entry = self.memory.insert(key, Arc::new(entry));
        match entry.freshness(&self.purges) {
            Some(freshness) => Lookup::Found(entry, freshness),
            None => Lookup::UriMiss,
        }
    }

    /// Waits, but not long, until the disk can take so many bytes more.
    pub async fn ready(&self, bytes: u64) {
        if let Some(disk) = self.disk() {
            disk.ready(bytes + HEAD, READY).await;
        }
    }

    /// Puts a response in, in place of the one that the same request would select.
    pub fn insert(&self, key: &str, lane: u64, entry: Arc<Entry>) {
        self.write(key, lane, &entry);
        self.memory.insert(key, entry);
        // Parts of what it was before must not come back when this one has gone.
        self.parts.invalidate(key);
    }

    /// Puts a new head in for a body that stays where it is.
    pub fn refresh(self: &Arc<Self>, key: &str, lane: u64, entry: Arc<Entry>) {
        if let (Body::Disk(stored), Some(_)) = (&entry.body, self.disk()) {
            let (cache, stored) = (self.clone(), stored.clone());
            let record = record(key, lane, &entry, Bytes::new());
            // Were it lost, the old head is found after a restart, which is only older.
            tokio::spawn(async move {
                if let Some(disk) = cache.disk()
                    && let Err(error) = stored.update(disk, record).await
                {
                    tracing::debug!(%error, "a refreshed head was not written");
                }
            });
        } else {
            self.write(key, lane, &entry);
        }
        self.memory.insert(key, entry);
    }

    fn write(&self, key: &str, lane: u64, entry: &Entry) {
        let (Some(disk), Body::Memory(body)) = (self.disk(), &entry.body) else {
            return;
        };
        let coded: usize = entry.coded.iter().flatten().map(Bytes::len).sum();
        let body = if coded == 0 {
            body.clone()
        } else {
            let mut all = Vec::with_capacity(body.len() + coded);
            all.extend_from_slice(body);
            entry
                .coded
                .iter()
                .flatten()
                .for_each(|coded| all.extend_from_slice(coded));
            Bytes::from(all)
        };
        // Where the disk does not take it, it is in memory all the same; the tier counts it.
        disk.write(record(key, lane, entry, body));
    }

    /// A place on disk for a large body, and its turn among them; `None` where it cannot be had.
    pub async fn spool(
        &self,
        lane: u64,
        length: Option<u64>,
    ) -> Option<(Spool, OwnedSemaphorePermit)> {
        let disk = self.disk()?;
        let turn = self.streams.clone().acquire_owned();
        let turn = tokio::time::timeout(STREAM_TURN, turn).await.ok()?.ok()?;
        Some((disk.spool(lane, length).await?, turn))
    }

    /// Puts a response in whose body is on disk already.
    pub async fn commit(
        &self,
        key: &str,
        lane: u64,
        spool: Spool,
        meta: Meta,
        origin: Origin,
    ) -> std::io::Result<()> {
        let record = NewRecord {
            key: key.into(),
            variant: variant_hash(&meta.variant),
            born: origin.born,
            lane,
            scopes: shared_scopes(key, &origin.scopes),
            meta: meta.encode(),
            body: Bytes::new(),
        };
        let body = Body::Disk(spool.commit(record).await?);
        if let Some(entry) = Entry::stored(meta, body, origin.born, origin.scopes) {
            self.memory.insert(key, Arc::new(entry));
        }
        Ok(())
    }

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

    /// Purges everything that belongs to one of the scopes; says how many stored responses that were.
    /// `pages` are those that are named, or whose folders are, among the scopes.
    pub fn purge(self: &Arc<Self>, scopes: &[u64], pages: &[Key], hard: bool) -> u64 {
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
        let born = self.purges.purge(scopes, hard, SystemTime::now());
        if hard {
            self.sweep(scopes, born);
        }
        concerned
    }

    /// Forgets what a hard purge concerns. It cannot be found any more in any case; but it takes room, and
    /// would be counted by the next purge.
    fn sweep(self: &Arc<Self>, scopes: &[u64], born: u64) {
        let (cache, scopes) = (self.clone(), Box::<[u64]>::from(scopes));
        tokio::task::spawn_blocking(move || {
            cache.memory.sweep(&cache.purges);
            if let Some(disk) = cache.disk() {
                disk.sweep(&scopes, born);
            }
        });
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

    /// Makes a coding of a body that a reader would have liked, for the next one.
    pub fn code(
        self: &Arc<Self>,
        key: &str,
        lane: u64,
        entry: &Arc<Entry>,
        coding: coding::Coding,
    ) {
        let Body::Memory(body) = &entry.body else {
            return;
        };
        let (Ok(turn), Some(work), Some(room)) = (
            self.coders.clone().try_acquire_owned(),
            self.budget.take(coding::memory(body.len())),
            self.budget.take(body.len() as u64),
        ) else {
            return entry.not_coded(coding);
        };
        let (cache, key, entry, body) = (
            self.clone(),
            Box::<str>::from(key),
            entry.clone(),
            body.clone(),
        );
        tokio::task::spawn_blocking(move || {
            let coded = coding::encode(coding, &body);
            drop((turn, work));
            let Some(coded) = coded else { return };
            let with = Arc::new(entry.with_coding(coding, counted(coded, room)));
            if cache.memory.replace(&key, &entry, with.clone()) {
                cache.write(&key, lane, &with);
            }
        });
    }

    /// Counts a use that was answered out of memory.
    pub fn used(&self, key: &str, entry: &Entry) {
        if entry.used()
            && let Some(disk) = self.disk()
        {
            disk.hit(key, variant_hash(&entry.variant));
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

/// The number that the disk tier tells variants of a URI by.
fn variant_hash(variant: &str) -> u64 {
    XxHash3_64::oneshot(variant.as_bytes())
}

/// Whether the beginning of a body can be read: better a miss than an answer that breaks off.
pub async fn begins_well(entry: &Entry) -> bool {
    let Body::Disk(stored) = &entry.body else {
        return true;
    };
    let begins = stored.read(0..stored.len().min(FIRST_PIECE)).await;
    let well = begins.is_ok_and(|piece| !piece.is_empty() || stored.is_empty());
    if !well {
        entry.mark_damaged();
    }
    well
}

/// Reads a body to its end, to see that it is what was written.
async fn is_sound(stored: &StoredBody) -> bool {
    let mut at = 0;
    while at < stored.len() {
        match stored.read(at..stored.len()).await {
            Ok(piece) if !piece.is_empty() => at += piece.len() as u64,
            _ => return false,
        }
    }
    true
}

/// The scopes that pages share. The disk tier keeps each list of them once, however many pages have it.
fn shared_scopes(key: &str, scopes: &[u64]) -> Box<[u64]> {
    let own = scope::of_page(key);
    let shared = scopes.iter().filter(|scope| !own.contains(&Some(**scope)));
    shared.copied().collect()
}

fn record(key: &str, lane: u64, entry: &Entry, body: Bytes) -> NewRecord {
    NewRecord {
        key: key.into(),
        variant: variant_hash(&entry.variant),
        born: entry.born,
        lane,
        scopes: shared_scopes(key, &entry.scopes),
        meta: entry.meta().encode(),
        body,
    }
}

/// The names of the cookies of a request that mark one visitor's session.
pub fn session_cookie<'a>(
    headers: &HeaderMap,
    names: &'a std::collections::BTreeSet<String>,
) -> Option<&'a str> {
    if names.is_empty() {
        return None;
    }
    headers
        .get_all(http::header::COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
        .find_map(|crumb| {
            let name = crumb.split(|byte| *byte == b'=').next()?.trim_ascii();
            let name = str::from_utf8(name).ok()?;
            names.get(name).map(String::as_str)
        })
}
