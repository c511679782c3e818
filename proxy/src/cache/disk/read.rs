//! Reading: a record out of a file, and the body of one piece by piece.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::files::Open;
use super::format::{BLOCK, ObjectBody, Parts, WHOLE, numbers};
use super::index::At;
use super::{Place, Record, RecordBody, Shared, WouldBlock};

/// What a reader of a body waits for the disk at most.
const BODY_WAIT: Duration = Duration::from_secs(10);
/// What is given of a body at once.
const AT_ONCE: u64 = 256 * 1024;

/// A body on disk, open: it can be read for as long as this lives, even after it was given up.
#[derive(Clone)]
pub struct StoredBody(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    open: Arc<Open>,
    hash: u64,
    at: At,
    start: u64,
    length: u64,
    sums: OnceLock<Vec<u64>>,
}

/// What was found where a record should be.
pub(super) enum Outcome {
    /// The record.
    Found(Record),
    /// Another key with the same hash.
    Other,
    /// It was marked as no longer counting.
    Dead,
    /// It is not what was written.
    Corrupt,
}

impl Shared {
    /// Reads a record with `bytes`, which gives so many bytes at an offset of the file.
    pub(super) fn read_record<E>(
        self: &Arc<Self>,
        open: &Arc<Open>,
        place: Place,
        key: &str,
        bytes: impl Fn(u64, usize) -> Result<Vec<u8>, E>,
    ) -> Result<Outcome, E> {
        let offset = open.base() + u64::from(place.at.offset);
        let bytes = Bytes::from(bytes(offset, place.at.length as usize)?);
        let seed = self.folder.seed;
        let Some(parts) = Parts::parse(seed, open.number, offset, &bytes) else {
            return Ok(Outcome::Corrupt);
        };
        if parts.head.dead {
            return Ok(Outcome::Dead);
        }
        if parts.key(&bytes) != key.as_bytes() {
            return Ok(Outcome::Other);
        }
        let whole = !parts.head.outside && parts.head.body <= WHOLE;
        let body = if whole {
            match parts.body(&bytes) {
                Some(body) if parts.body_is_whole(seed, &bytes, &body) => RecordBody::Whole(body),
                _ => return Ok(Outcome::Corrupt),
            }
        } else {
            let (start, sums) = match parts.head.outside {
                true => (ObjectBody::START, OnceLock::new()),
                false => (
                    offset + parts.head.head_len() as u64,
                    OnceLock::from(parts.sums(&bytes)),
                ),
            };
            RecordBody::Large(StoredBody(Arc::new(Inner {
                shared: self.clone(),
                open: open.clone(),
                hash: place.hash,
                at: place.at,
                start,
                length: parts.head.body,
                sums,
            })))
        };
        Ok(Outcome::Found(Record {
            meta: parts.meta(&bytes),
            born: parts.head.born,
            scopes: parts.scopes(&bytes).into(),
            body,
        }))
    }

    /// Opens a record's file and reads it. Waits for the disk.
    pub(super) fn read_waiting(self: &Arc<Self>, place: Place, key: &str) -> Option<Record> {
        let name = self.catalogue.lock().file(place.at.file)?.name;
        let read = self.open(name).and_then(|open| {
            self.read_record(&open, place, key, |offset, length| {
                open.read(offset, length)
            })
        });
        self.settle(place, read.unwrap_or_else(|error| self.unread(&error)))
    }

    /// What a reader is given, and what the index learns of it.
    pub(super) fn settle(&self, place: Place, outcome: Outcome) -> Option<Record> {
        match outcome {
            Outcome::Found(record) => {
                self.index.hit_at(place.hash, place.at);
                return Some(record);
            }
            Outcome::Other => {}
            Outcome::Dead => {
                self.index.remove(place.hash, place.at);
            }
            Outcome::Corrupt => self.damaged(place.hash, place.at),
        }
        None
    }

    /// A record is not what was written, unless it has moved meanwhile.
    fn damaged(&self, hash: u64, at: At) {
        if self.index.remove(hash, at) {
            self.corrupt(1);
            self.bury(hash, at);
        }
    }

    /// The body of an object is not, whatever was written behind it since.
    fn damaged_object(&self, hash: u64, file: u32) {
        for found in self.index.of_key(hash) {
            if found.at.file == file {
                self.damaged(hash, found.at);
            }
        }
    }

    fn unread(&self, error: &io::Error) -> Outcome {
        match error.kind() {
            ErrorKind::NotFound => Outcome::Dead,
            _ => Outcome::Corrupt,
        }
    }
}

impl StoredBody {
    /// Bytes of it.
    pub fn len(&self) -> u64 {
        self.0.length
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.length == 0
    }

    pub(super) fn of_object(
        shared: Arc<Shared>,
        open: Arc<Open>,
        hash: u64,
        at: At,
        length: u64,
        sums: Vec<u64>,
    ) -> Self {
        Self(Arc::new(Inner {
            shared,
            open,
            hash,
            at,
            start: ObjectBody::START,
            length,
            sums: OnceLock::from(sums),
        }))
    }

    pub(super) fn is_object(&self) -> bool {
        self.0.open.object.is_some()
    }

    /// The file, where it is an object, and the hash of its key.
    pub(super) fn object(&self) -> Option<(&Open, ObjectBody, u64)> {
        Some((&self.0.open, self.0.open.object?, self.0.hash))
    }

    /// All of it. Waits for the disk.
    pub(super) fn read_all(&self) -> io::Result<Bytes> {
        let inner = &self.0;
        inner.parts(&(0..inner.length), |at, length| inner.open.read(at, length))?
    }

    /// Reads a part: what of `range` there is, at most 256 KiB at once, from its beginning. Every block
    /// is compared with its sum. Waits for the disk where it must, off the caller's thread.
    pub async fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let end = range
            .end
            .min(self.0.length)
            .min(range.start.saturating_add(AT_ONCE));
        if range.start >= end {
            return Ok(Bytes::new());
        }
        let range = range.start..end;
        let now = self
            .0
            .parts(&range, |at, length| self.0.open.read_now(at, length));
        if let Ok(bytes) = now {
            return bytes;
        }
        let inner = self.0.clone();
        let read = self.0.shared.wait_for_disk(BODY_WAIT, move || {
            inner.parts(&range, |at, length| inner.open.read(at, length))?
        });
        read.await
            .unwrap_or_else(|| Err(ErrorKind::TimedOut.into()))
    }
}

impl Inner {
    /// A part of the body, with `read`, which gives so many bytes at an offset of the file. An error within
    /// the result is for the reader, another one is of `read`.
    fn parts<E>(
        &self,
        range: &Range<u64>,
        read: impl Fn(u64, usize) -> Result<Vec<u8>, E>,
    ) -> Result<io::Result<Bytes>, E> {
        if self.sums.get().is_none() && !self.load_sums(&read)? {
            return Ok(Err(self.damaged()));
        }
        let block = BLOCK as u64;
        let begin = range.start / block * block;
        let end = (range.end.div_ceil(block) * block).min(self.length);
        let bytes = read(self.start + begin, (end - begin) as usize)?;
        let first = (begin / block) as usize;
        let sums = self.sums.get().and_then(|sums| sums.get(first..));
        let sums = sums.unwrap_or_default();
        let blocks = bytes.chunks(BLOCK);
        let seed = self.shared.folder.seed;
        let whole = bytes.len() as u64 == end - begin
            && blocks.len() <= sums.len()
            && blocks
                .zip(sums)
                .all(|(block, sum)| seed.block(block) == *sum);
        if !whole {
            return Ok(Err(self.damaged()));
        }
        let from = (range.start - begin) as usize;
        let to = (range.end - begin) as usize;
        Ok(Ok(Bytes::from(bytes).slice(from..to)))
    }

    /// Reads the sums of an object's blocks; false where they are not what was written.
    fn load_sums<E>(&self, read: impl Fn(u64, usize) -> Result<Vec<u8>, E>) -> Result<bool, E> {
        let Some(object) = self.open.object else {
            return Ok(false);
        };
        let at = object.sums_at();
        // A file of this length exists: its header was written with it.
        let bytes = read(at, (object.blocks() * 8) as usize)?;
        let whole = self.shared.folder.seed.at(self.open.number, at, &bytes) == object.sums;
        if whole {
            // Another reader may have been first.
            let _ = self.sums.set(numbers(&bytes));
        }
        Ok(whole)
    }

    fn damaged(&self) -> io::Error {
        match self.open.object {
            Some(_) => self.shared.damaged_object(self.hash, self.at.file),
            None => self.shared.damaged(self.hash, self.at),
        }
        ErrorKind::InvalidData.into()
    }
}

impl From<WouldBlock> for io::Error {
    fn from(_: WouldBlock) -> Self {
        ErrorKind::WouldBlock.into()
    }
}

impl Shared {
    /// Runs a read where it may wait; `None` once `patience` is over.
    pub(super) async fn wait_for_disk<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        // Where as many hang as may wait, nobody else waits for what will not come.
        if self.condition.is_slow() && self.reads.available_permits() == 0 {
            return None;
        }
        self.wait(&self.reads, patience, work).await
    }

    /// The same with one of `places`, which is taken until the work is done, also where nobody waits for
    /// it any more.
    pub(super) async fn wait<T: Send + 'static>(
        &self,
        places: &Arc<Semaphore>,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let places = places.clone();
        let done = timeout(patience, async move {
            let place = places.acquire_owned().await.ok()?;
            let work = move || {
                let done = work();
                drop(place);
                done
            };
            tokio::task::spawn_blocking(work).await.ok()
        });
        let done = done.await;
        if done.is_err() {
            self.condition.slow("it did not answer in time");
        }
        done.ok().flatten()
    }
}
