//! A large body on its way to disk: a file of its own, which can be read while it grows.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::files;
use super::format::{ObjectBody, head_fits};
use super::queue::Request;
use super::{Disk, NewRecord, Shared, StoredBody};
use writing::Writing;

mod writing;

/// What is gathered before it is written.
const GATHER: u64 = 256 * 1024;
/// How long what is gathered may wait for more.
const WAIT: Duration = Duration::from_millis(20);
/// What the begin of a file, and a write, may take: visitors wait meanwhile.
const BEGIN_WAIT: Duration = Duration::from_millis(250);
const WRITE_WAIT: Duration = Duration::from_millis(500);
/// What a read of the tail, and the end of a file, may take: nobody waits for that one.
const READ_WAIT: Duration = Duration::from_secs(10);
pub(super) const END_WAIT: Duration = Duration::from_secs(10);
/// What a reader of the tail is given at once.
const TAIL_AT_ONCE: usize = 256 * 1024;
/// The part of the limit that one object may take.
const PART: u64 = 4;

/// A body on its way to disk. Dropped, it leaves nothing there.
pub struct Spool {
    shared: Arc<Shared>,
    lane: u64,
    /// Elsewhere during a write, and gone for good where that fails.
    writing: Option<Writing>,
    gathered: Vec<Bytes>,
    waiting: u64,
    since: Option<Instant>,
    tail: SpoolTail,
}

/// What of a body on its way is on disk: for those who read along.
#[derive(Clone)]
pub struct SpoolTail(Arc<Tail>);

struct Tail {
    shared: Arc<Shared>,
    file: File,
    /// Bytes of body in the file.
    written: AtomicU64,
    /// What could not be written, and where in the body it begins. A write that was given up may still come
    /// to its end, so this may be in the file as well.
    rest: OnceLock<(u64, Bytes)>,
}

impl Disk {
    /// Begins a body of an unknown or `expected` length, for a lane. `None` where it is refused: it takes
    /// more than a quarter of the limit, or the disk is ill or paused.
    pub async fn spool(&self, lane: u64, expected: Option<u64>) -> Option<Spool> {
        let shared = self.shared.clone();
        let fits = expected.is_none_or(|length| length <= shared.settings.limit / PART);
        if !fits || !shared.takes() {
            shared.refuse(1);
            return None;
        }
        let begun = shared
            .clone()
            .spooling(BEGIN_WAIT, move || Writing::begin(shared))
            .await;
        match begun {
            Ok(writing) => Some(Spool::new(lane, writing)),
            Err(error) => {
                self.shared.refuse(1);
                self.shared.condition.failed("begin a file", &error);
                None
            }
        }
    }
}

impl Spool {
    fn new(lane: u64, writing: Writing) -> Self {
        let tail = SpoolTail(writing.tail.clone());
        Self {
            shared: writing.shared.clone(),
            lane,
            writing: Some(writing),
            gathered: Vec::new(),
            waiting: 0,
            since: None,
            tail,
        }
    }

    /// Takes the next piece. It is written once 256 KiB have come, or 20 ms after the first that waits,
    /// if a piece comes then; whoever waits longer for the next one calls [`Self::flush`]. After an error
    /// (no room, a disk that fails) nothing more is taken, but what was written can still be read.
    pub async fn append(&mut self, piece: Bytes) -> io::Result<()> {
        if self.writing.is_none() {
            return Err(ErrorKind::BrokenPipe.into());
        }
        self.waiting += piece.len() as u64;
        self.gathered.push(piece);
        let since = *self.since.get_or_insert_with(Instant::now);
        if self.waiting >= GATHER || since.elapsed() >= WAIT {
            return self.flush().await;
        }
        Ok(())
    }

    /// Writes what was gathered, so that it can be read.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.since = None;
        let bytes = std::mem::take(&mut self.waiting);
        let pieces = std::mem::take(&mut self.gathered);
        let mut writing = self.writing.take().ok_or(ErrorKind::BrokenPipe)?;
        if bytes > 0 {
            let begins = writing.length;
            let written = self.write(writing, bytes, &pieces).await;
            if written.is_err() {
                self.tail.0.keep(begins, &pieces);
            }
            writing = written?;
        }
        self.writing = Some(writing);
        Ok(())
    }

    async fn write(
        &self,
        mut writing: Writing,
        bytes: u64,
        pieces: &[Bytes],
    ) -> io::Result<Writing> {
        if writing.length + bytes > self.shared.settings.limit / PART {
            return Err(ErrorKind::FileTooLarge.into());
        }
        writing.reserve(bytes);
        self.shared.room_for(self.lane).await?;
        let pieces = pieces.to_vec();
        let written = self.shared.spooling(WRITE_WAIT, move || {
            writing.write(&pieces)?;
            Ok(writing)
        });
        written.await
    }

    /// For reading along.
    pub fn tail(&self) -> SpoolTail {
        self.tail.clone()
    }

    /// The body is complete, and `record` (the body of which is empty) tells of it. Where it was forgotten
    /// meanwhile, or a newer one is there, it can be read but is not found again.
    pub async fn commit(mut self, record: NewRecord) -> io::Result<StoredBody> {
        self.flush().await?;
        let shared = self.shared.clone();
        shared.listed.done().await;
        if !head_fits(record.key.len(), record.scopes.len(), record.meta.len()) {
            shared.refuse(1);
            return Err(ErrorKind::FileTooLarge.into());
        }
        let writing = self.writing.take().ok_or(ErrorKind::BrokenPipe)?;
        let lane = self.lane;
        let committed = shared
            .spooling(END_WAIT, move || writing.commit(lane, &record))
            .await;
        if committed.is_err() {
            shared.refuse(1);
        }
        committed
    }
}

impl SpoolTail {
    /// Bytes that can be read.
    pub fn written(&self) -> u64 {
        let written = self.0.written.load(Ordering::Acquire);
        match self.0.rest.get() {
            Some((begins, rest)) => written.max(begins + rest.len() as u64),
            None => written,
        }
    }

    /// Reads up to `at_most` bytes (and up to 256 KiB) from `from` on: fewer where fewer are written, none
    /// where none are.
    pub async fn read(&self, from: u64, at_most: usize) -> io::Result<Bytes> {
        let at_most = at_most.min(TAIL_AT_ONCE);
        if let Some((begins, rest)) = self.0.rest.get()
            && let Some(from) = from.checked_sub(*begins)
        {
            let from = usize::try_from(from).unwrap_or(usize::MAX).min(rest.len());
            return Ok(rest.slice(from..rest.len().min(from.saturating_add(at_most))));
        }
        let written = self.0.written.load(Ordering::Acquire);
        let length = written.saturating_sub(from).min(at_most as u64) as usize;
        if length == 0 {
            return Ok(Bytes::new());
        }
        let at = ObjectBody::START + from;
        if let Ok(bytes) = files::read_now(&self.0.file, at, length) {
            return Ok(Bytes::from(bytes));
        }
        let tail = self.0.clone();
        let read = move || files::read(&tail.file, at, length);
        match self.0.shared.wait_for_disk(READ_WAIT, read).await {
            Some(bytes) => bytes.map(Bytes::from),
            None => Err(ErrorKind::TimedOut.into()),
        }
    }
}

impl Tail {
    /// What could not be written, from `begins` in the body on, can still be read.
    fn keep(&self, begins: u64, pieces: &[Bytes]) {
        // It is kept once: nothing more is taken after that.
        let _ = self.rest.set((begins, pieces.concat().into()));
    }
}

impl Shared {
    /// Waits for room for what was counted already, where there is none.
    async fn room_for(&self, lane: u64) -> io::Result<()> {
        if self.has_room(0) {
            return Ok(());
        }
        let answer = self.queue.ask(Request::Room(lane));
        match tokio::time::timeout(WRITE_WAIT, answer).await {
            Ok(Ok(true)) => Ok(()),
            _ => Err(ErrorKind::StorageFull.into()),
        }
    }

    /// Runs a write where it may wait, with a bound on how many do at once.
    pub(super) async fn spooling<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        match self.wait(&self.spooling, patience, work).await {
            Some(done) => done,
            None => Err(ErrorKind::TimedOut.into()),
        }
    }
}

impl NewRecord {
    pub(super) fn sorted_scopes(&self) -> Vec<u64> {
        let mut scopes = self.scopes.to_vec();
        scopes.sort_unstable();
        scopes.dedup();
        scopes
    }
}
