//! The durable tier: stored responses on disk, found again after a restart.
//!
//! It is a log. One thread appends records to segment files, an index in memory tells where each one
//! lies, and whole segments go when room is needed (S3-FIFO, see `catalogue`). Records never change;
//! a newer one of the same key and variant stands for the older one.
//!
//! Why not a file for each response, as nginx does: to create, rename and unlink one costs more than to
//! write what is in it, and a start has to visit them all. Why not an embedded store: a proxy wants ranges
//! of large bodies, bodies that are read while they still come in, queues of its own for what goes first,
//! and a start that reads an index and not the data; of the transactions that such a store is built for
//! it wants none.
//!
//! Nothing is synced to the disk for each record. What was written survives the end of the process, however
//! it comes; a power cut may lose the last seconds. Sums tell what is whole from what is not, so a
//! damaged record is a miss and never a wrong answer.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use catalogue::Catalogue;
use files::{Files, Kernel, Open, Writes};
use folder::{FileName, Folder, LOCK_WAIT};
use forgotten::Forgotten;
use health::Condition;
pub use health::Health;
use index::{At, Index};
use latch::Latch;
use queue::{Chore, Queue, Request};
pub use read::StoredBody;
pub use spool::{Spool, SpoolTail};
use writer::Writer;

// What the files hold, and where they are.
mod folder;
mod format;
mod seed;
mod table;
// What is known of them in memory.
mod catalogue;
mod files;
mod index;
// What happens to them, by whom.
mod load;
mod read;
mod spool;
mod update;
mod writer;
// What the threads tell each other.
mod forgotten;
mod health;
mod latch;
mod queue;

/// Reads that wait for the disk at once.
const READS: usize = 64;
/// The part of the limit that a file system may need for itself.
const BOOKS: u64 = 128;
/// Writes of large bodies at once.
const SPOOLING: usize = 32;
/// What a read may take; after that it is a miss.
const READ_WAIT: Duration = Duration::from_secs(1);
/// How long large bodies that are being written may delay a pause.
const PAUSE_WAIT: Duration = Duration::from_secs(10);
/// Segments for the whole limit, where that gives them a sensible size.
const SEGMENTS: u64 = 64;
/// The sizes that a segment may have. A place in the index holds up to 64 MiB.
const SEGMENT_LEAST: u64 = 1024 * 1024;
const SEGMENT_MOST: u64 = 64 * 1024 * 1024;

/// The responses on disk. One at a time has a folder.
pub struct Disk {
    shared: Arc<Shared>,
}

/// Where and how much.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder; made where it is missing.
    pub folder: PathBuf,
    /// Bytes it may take on disk.
    pub limit: u64,
    /// Bytes of memory that the index may take.
    pub index_limit: u64,
    /// Bytes of records that may wait to be written.
    pub queue_limit: u64,
}

/// Why a folder cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder itself makes difficulties.
    #[error("the cache on disk: cannot {step}")]
    Folder {
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process has it.
    #[error("the cache on disk is in use by another process")]
    InUse,
    /// There is no thread for it.
    #[error("the cache on disk: cannot start a thread")]
    Thread(#[source] io::Error),
}

impl OpenError {
    /// How the disk does that cannot be opened.
    pub fn health(&self) -> Health {
        match self {
            Self::Folder { source, .. } => health::health_of(source),
            Self::InUse | Self::Thread(_) => Health::Failing,
        }
    }
}

/// The page cache does not have it; the disk must be asked, with [`Disk::read`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WouldBlock;

/// What the disk holds and how it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes that it may take.
    pub limit: u64,
    /// Records that can be found.
    pub records: u64,
    /// Bytes of memory that the index takes.
    pub index_bytes: u64,
    /// Bytes of records that wait to be written.
    pub queued_bytes: u64,
    /// Records, and marks on older ones, that wait to be written or are being written.
    pub waiting: u64,
    /// Records that were refused, or could not be written.
    pub not_stored: u64,
    /// Records and files that were not what was written.
    pub corrupt: u64,
    /// How it does.
    pub health: Health,
    /// What went wrong last.
    pub last_error: Option<String>,
}

/// Where a record may be: good for one read soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    hash: u64,
    born: u64,
    at: At,
}

/// Where the records of a key may be, the newest first; at most 32.
pub type Places = Vec<Place>;

/// A response to be stored.
#[derive(Debug, Clone)]
pub struct NewRecord {
    /// What it is found by.
    pub key: Box<str>,
    /// Which of the key's responses it is; a newer one of the same variant replaces it.
    pub variant: u64,
    /// When it was made, in a count of the caller's that only grows.
    pub born: u64,
    /// 0, or the site that keeps what it has.
    pub lane: u64,
    /// What it belongs to, for [`Disk::count`].
    pub scopes: Box<[u64]>,
    /// All that is to be known of it but the body.
    pub meta: Bytes,
    /// The body.
    pub body: Bytes,
}

/// A response that was stored.
#[derive(Clone)]
pub struct Record {
    /// The meta, as it was given.
    pub meta: Bytes,
    /// When it was made.
    pub born: u64,
    /// What it belongs to.
    pub scopes: Box<[u64]>,
    /// The body.
    pub body: RecordBody,
}

/// The body of a record.
#[derive(Clone)]
pub enum RecordBody {
    /// All of it, compared with its sums.
    Whole(Bytes),
    /// To be read piece by piece: more than 256 KiB, or an object.
    Large(StoredBody),
}

impl Place {
    /// When the record was made.
    pub fn born(&self) -> u64 {
        self.born
    }
}

impl Disk {
    /// Opens a folder, and begins to load what is there. Waits for the disk, and up to three seconds for
    /// another process to let go of the folder.
    pub fn open(settings: Settings) -> Result<Self, OpenError> {
        Self::open_with(settings, Box::new(Kernel))
    }

    /// Gives up what lies in a folder: who runs without it hears of purges that it would never know of. Waits up to
    /// three seconds for another process to let go of it; what is there is removed in the background.
    pub fn give_up(folder: &Path) -> Result<(), OpenError> {
        Folder::give_up(folder, LOCK_WAIT)
    }

    fn open_with(settings: Settings, writes: Box<dyn Writes>) -> Result<Self, OpenError> {
        let (folder, lock) = Folder::open(&settings.folder, LOCK_WAIT)?;
        let shared = Arc::new(Shared {
            segment_size: (settings.limit / SEGMENTS).clamp(SEGMENT_LEAST, SEGMENT_MOST),
            queue: Queue::new(settings.queue_limit),
            settings,
            folder,
            writes,
            lock: Mutex::new(Some(lock)),
            index: Index::new(),
            catalogue: Mutex::default(),
            files: Files::default(),
            forgotten: Mutex::new(Forgotten::begin()),
            condition: Condition::default(),
            reads: Arc::new(Semaphore::new(READS)),
            spooling: Arc::new(Semaphore::new(SPOOLING)),
            updates: Mutex::default(),
            spools: AtomicU64::new(0),
            listed: Latch::default(),
            loaded: Latch::default(),
            paused: AtomicBool::new(false),
            stops_loading: AtomicBool::new(false),
            last_born: AtomicU64::new(0),
            ceiling: AtomicU64::new(u64::MAX),
            unloaded: AtomicU64::new(0),
            spooled: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            corrupt: AtomicU64::new(0),
        });
        let disk = Self { shared };
        let (loading, writing) = (disk.shared.clone(), Writer::new(disk.shared.clone()));
        start("cache-load", move || load::run(loading))?;
        start("cache-write", move || writing.run())?;
        Ok(disk)
    }

    /// Returns once everything that was on disk can be found.
    pub async fn loaded(&self) {
        self.shared.loaded.done().await;
    }

    /// The greatest `born` that was seen; complete once all is loaded.
    pub fn last_born(&self) -> u64 {
        self.shared.last_born.load(Ordering::Relaxed)
    }

    /// Whether a record of a key may be there. Asks nothing but memory.
    pub fn has(&self, key: &str) -> bool {
        self.shared.index.has(self.hash(key))
    }

    /// Where records of a key may be, the newest first. Those that wait to be written are not among them.
    pub fn places(&self, key: &str) -> Places {
        let found = self.shared.index.of_key(self.hash(key));
        let place = |found: &index::Found| Place {
            hash: found.hash,
            born: found.born,
            at: found.at,
        };
        found.iter().map(place).collect()
    }

    /// Reads a record where that needs no waiting; `Ok(None)` as with [`Self::read`].
    pub fn try_read(&self, place: Place, key: &str) -> Result<Option<Record>, WouldBlock> {
        let shared = &self.shared;
        let open = shared.files.known(place.at.file).ok_or(WouldBlock)?;
        let read = |offset, length| open.read_now(offset, length);
        let outcome = shared.read_record(&open, place, key, read)?;
        Ok(shared.settle(place, outcome))
    }

    /// Reads a record. `None` where it is gone, is of another key, is damaged (it will not be found again
    /// then), or takes more than a second.
    pub async fn read(&self, place: Place, key: &str) -> Option<Record> {
        let shared = self.shared.clone();
        let key: Box<str> = key.into();
        let work = move || shared.read_waiting(place, &key);
        self.shared.wait_for_disk(READ_WAIT, work).await.flatten()
    }

    /// Takes a record to be written soon. False where it is refused: too many wait, it is too large for
    /// a segment (see [`Self::spool`]), or the disk is ill or paused.
    pub fn write(&self, mut record: NewRecord) -> bool {
        let shared = &self.shared;
        record.scopes = record.sorted_scopes().into();
        let taken = shared.takes()
            && format::head_fits(record.key.len(), record.scopes.len(), record.meta.len())
            && record.on_disk() <= shared.segment_size / 4 * 3
            && shared.queue.push(self.hash(&record.key), record);
        if !taken {
            shared.refuse(1);
        }
        taken
    }

    /// Waits until a record of so many bytes, head included, would find room to wait; at most `patience`,
    /// and not at all where the disk takes nothing.
    pub async fn ready(&self, bytes: u64, patience: Duration) {
        let room = self.shared.queue.room(bytes, || self.shared.takes());
        // Who waited in vain is refused by `write`.
        let _ = timeout(patience, room).await;
    }

    /// Forgets all records of a key, also those that wait to be written.
    pub fn forget(&self, key: &str) {
        let (shared, hash) = (&self.shared, self.hash(key));
        shared.forgotten.lock().add(hash);
        shared.queue.forget(hash);
        for found in shared.index.remove_key(hash) {
            shared.bury(hash, found.at);
        }
    }

    /// Forgets one record.
    pub fn forget_place(&self, place: Place, key: &str) {
        if place.hash == self.hash(key) && self.shared.index.remove(place.hash, place.at) {
            self.shared.bury(place.hash, place.at);
        }
    }

    /// Forgets all records that were made before the number that `before` gives for their scopes. Looks at
    /// every record in memory, so it takes some milliseconds for each hundred thousand.
    pub fn sweep(&self, before: impl Fn(&[u64]) -> u64) {
        self.shared.index.sweep(before);
    }

    /// Counts a use of a record that was answered from memory.
    pub fn hit(&self, key: &str, variant: u64) {
        self.shared.index.hit(self.hash(key), variant);
    }

    /// How many records have a scope. After a restart those that were forgotten before may be among them,
    /// until they are next looked for.
    pub fn count(&self, scope: u64) -> u64 {
        self.shared.index.count(scope)
    }

    /// What it holds and how it does.
    pub fn usage(&self) -> Usage {
        let shared = &self.shared;
        Usage {
            bytes: shared.used(),
            limit: shared.settings.limit,
            records: shared.index.records(),
            index_bytes: shared.index.bytes(),
            queued_bytes: shared.queue.bytes(),
            waiting: shared.queue.waiting(),
            not_stored: shared.refused.load(Ordering::Relaxed),
            corrupt: shared.corrupt.load(Ordering::Relaxed),
            health: shared.health(),
            last_error: shared.condition.last_error(),
        }
    }

    /// Returns once all that waits now is written, or refused.
    pub async fn flush(&self) {
        self.ask(Request::Flush).await;
    }

    /// Writes what waits and lets go of the folder, for another process. Reading goes on, of what has been
    /// loaded so far.
    pub async fn pause(&self) {
        self.shared.stops_loading.store(true, Ordering::Relaxed);
        self.loaded().await;
        self.shared.paused.store(true, Ordering::Release);
        // Nobody is in the middle of finishing a file, but for one that has hung for long.
        let writes = self.shared.spooling.acquire_many(SPOOLING as u32);
        let writes = timeout(PAUSE_WAIT, writes).await;
        self.ask(Request::Pause).await;
        drop(writes);
    }

    /// Takes the folder again, and what another process may have done there. Where that one still has it
    /// the disk stays paused.
    pub fn resume(&self) {
        // The answer is in `paused`.
        drop(self.shared.queue.ask(Request::Resume));
    }

    /// Writes what waits, and ends.
    pub async fn close(&self) {
        self.shared.stops_loading.store(true, Ordering::Relaxed);
        self.shared.paused.store(true, Ordering::Release);
        self.ask(Request::Close).await;
        self.shared.queue.stop();
    }

    async fn ask(&self, request: Request) -> bool {
        let answer = self.shared.queue.ask(request);
        // No answer comes where the writer has ended.
        answer.await.unwrap_or(false)
    }

    fn hash(&self, key: &str) -> u64 {
        self.shared.folder.seed.key(key)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.shared.stops_loading.store(true, Ordering::Relaxed);
        self.shared.queue.stop();
    }
}

/// What the threads share.
struct Shared {
    settings: Settings,
    segment_size: u64,
    folder: Folder,
    writes: Box<dyn Writes>,
    lock: Mutex<Option<File>>,
    index: Index,
    catalogue: Mutex<Catalogue>,
    files: Files,
    queue: Queue,
    forgotten: Mutex<Forgotten>,
    condition: Condition,
    reads: Arc<Semaphore>,
    spooling: Arc<Semaphore>,
    /// Held while a record is put behind an object's body.
    updates: Mutex<()>,
    /// Bodies that were begun, for the names of their files.
    spools: AtomicU64,
    /// All files are known by name.
    listed: Latch,
    /// All records are known.
    loaded: Latch,
    paused: AtomicBool,
    stops_loading: AtomicBool,
    last_born: AtomicU64,
    /// What fits at present, where the disk has less room than the limit.
    ceiling: AtomicU64,
    /// Bytes of files that are there but not loaded yet.
    unloaded: AtomicU64,
    /// Bytes of files that are not finished yet.
    spooled: AtomicU64,
    refused: AtomicU64,
    corrupt: AtomicU64,
}

impl Shared {
    /// Whether something new may be written.
    fn takes(&self) -> bool {
        !self.paused.load(Ordering::Acquire) && !self.condition.is_ailing()
    }

    fn health(&self) -> Health {
        if self.paused.load(Ordering::Acquire) {
            return Health::Paused;
        }
        self.condition.health()
    }

    /// Bytes on disk.
    fn used(&self) -> u64 {
        let others = [&self.unloaded, &self.spooled];
        let others: u64 = others
            .iter()
            .map(|bytes| bytes.load(Ordering::Relaxed))
            .sum();
        self.catalogue.lock().used() + others
    }

    /// Whether so many bytes more fit. A segment's size is left, as room for what moves.
    fn has_room(&self, bytes: u64) -> bool {
        let limit = self
            .settings
            .limit
            .min(self.ceiling.load(Ordering::Relaxed));
        // A file system keeps some books of its own for large files, and counts them as the files'.
        let limit = limit - limit.min(u64::MAX / 2) / BOOKS;
        self.used() + bytes + self.segment_size <= limit
            && !self.index.is_full(self.settings.index_limit)
    }

    fn refuse(&self, records: u64) {
        self.refused.fetch_add(records, Ordering::Relaxed);
    }

    fn corrupt(&self, records: u64) {
        self.corrupt.fetch_add(records, Ordering::Relaxed);
    }

    /// A record is to be marked in its file.
    fn bury(&self, hash: u64, at: At) {
        self.queue.leave(Chore::Bury(hash, at));
    }

    /// A file, open. Waits for the disk.
    fn open(&self, name: FileName) -> io::Result<Arc<Open>> {
        if let Some(open) = self.files.known(name.number as u32) {
            return Ok(open);
        }
        let open = Arc::new(Open::named(&self.folder, name)?.0);
        self.files.keep(&open);
        if self.catalogue.lock().file(name.number as u32).is_none() {
            // It was given up meanwhile, and would take room for as long as it is kept open.
            self.files.forget(name.number as u32);
        }
        Ok(open)
    }

    /// Removes a file that nothing refers to.
    fn unlink(&self, name: FileName) {
        let removed = std::fs::remove_file(self.folder.path(name));
        if let Err(error) = removed
            && error.kind() != io::ErrorKind::NotFound
        {
            self.condition.failed("remove a file", &error);
        }
    }
}

impl NewRecord {
    /// Bytes of memory that it takes, about.
    fn size(&self) -> u64 {
        (self.key.len() + self.scopes.len() * 8 + self.meta.len() + self.body.len() + 256) as u64
    }

    /// Bytes that it takes in a segment, at most.
    fn on_disk(&self) -> u64 {
        let blocks = self.body.len().div_ceil(format::BLOCK);
        let head = format::HEADER + 8 * (self.scopes.len() + blocks) + self.key.len();
        format::align((head + self.meta.len() + self.body.len()) as u64)
    }
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(work).map(drop).map_err(OpenError::Thread)
}

#[cfg(test)]
mod tests;
