//! What has been purged, without looking for it: a purge is one entry in a table, however many stored responses it concerns.
//!
//! Every response is given a number before it is asked for, and every purge takes one too. A stored response is purged if one of
//! its scopes was purged with a greater number than its own. That is found out when it is about to be used, so a purge takes the
//! same time for one page as for a site, and what was asked for before a purge and comes after it is purged as well. Numbers, not
//! times, decide: a clock that is set back revives nothing.
//!
//! Purges have to outlive the process as what is on disk does. They go to a journal, which a thread of its own writes.
//! Two processes may write to one journal while one replaces the other; each takes in what the other wrote when it writes itself.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};

pub use census::Census;
use journal::{Journal, Kind, Record};
use table::Table;

// How many stored responses a scope has, where no disk tier knows.
mod census;
// The file.
mod journal;
// Scopes and their purges.
mod table;

/// All purges. Shared by reference; dropping it writes what is not yet written.
pub struct Purges {
    inner: Arc<Inner>,
    writer: Option<JoinHandle<()>>,
}

/// What the purges mean for a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was not purged.
    Valid,
    /// It is stale, whatever its lifetime.
    Soft {
        /// Since when: by the clock at the time of the purge; the earliest of several.
        since: SystemTime,
    },
    /// It must not be used any more.
    Hard,
}

impl Purges {
    /// The purges of a journal, which is made where it is missing; without one, purges are forgotten at the end. Never fails: see
    /// [`error`](Self::error). Blocking; starts a thread.
    pub fn open(journal: Option<&Path>) -> Self {
        Self::open_at(journal, SystemTime::now(), MOST_SCOPES)
    }

    fn open_at(journal: Option<&Path>, now: SystemTime, most_scopes: usize) -> Self {
        let table = Table::new(most_scopes);
        let (mut last, mut rewrite, mut error) = (0, false, None);
        let journal = journal.map(|path| {
            let mut journal = Journal::new(path);
            let read = journal.open(&mut |record, _| {
                last = last.max(record.born);
                rewrite |= table.put(record);
            });
            if let Err(cause) = read {
                tracing::warn!(path = %path.display(), error = %cause, "the journal of purges cannot be used");
                error = Some(cause.to_string());
                // Until it works; what stands there by then is taken in.
                rewrite = true;
            }
            let damaged = journal.damaged();
            if damaged > 0 {
                tracing::warn!(path = %path.display(), damaged, "some purges in the journal cannot be read");
                rewrite = true;
            }
            journal.end();
            journal
        });
        // The clock makes numbers greater than those of responses on disk that are not loaded yet; where it was set back,
        // `raise` sees to that.
        let number = last.max(milliseconds(now) << NUMBERS_A_MILLISECOND);
        let written = journal.as_ref().map_or(0, Journal::records);
        let inner = Arc::new(Inner {
            number: AtomicU64::new(number),
            epoch: AtomicU64::new(0),
            newest: AtomicU64::new(last),
            table,
            changes: Mutex::new(Changes {
                first: number + 1,
                rewrite,
                ..Changes::default()
            }),
            wake: Condvar::new(),
            written: AtomicU64::new(written),
            error: Mutex::new(error),
            keeps: journal.is_some(),
            journal: Mutex::new(journal),
        });
        let mut purges = Self {
            inner,
            writer: None,
        };
        if purges.inner.keeps {
            let inner = purges.inner.clone();
            let started = std::thread::Builder::new()
                .name("purges".to_owned())
                .spawn(move || inner.keep_writing());
            match started {
                Ok(writer) => purges.writer = Some(writer),
                // What `flush` writes is kept all the same.
                Err(cause) => purges.inner.note(Some(&cause)),
            }
        }
        purges
    }

    /// A number for a response that is about to be asked for, greater than all before.
    pub fn next_born(&self) -> u64 {
        self.inner.next()
    }

    /// Says that a response with that number is stored, once the disk tier knows. Purges since [`open`](Self::open) that would not
    /// concern it, because its number is greater, are given new ones.
    pub fn raise(&self, at_least: u64) {
        let inner = &*self.inner;
        let mut changes = inner.changes.lock();
        inner.number.fetch_max(at_least, Relaxed);
        if at_least < changes.first {
            return;
        }
        let number = inner.next();
        inner.table.renumber(changes.first, number);
        changes.first = number;
        changes.rewrite = inner.keeps;
        inner.in_force(number);
        drop(changes);
        self.inner.wake.notify_one();
    }

    /// Changes with each purge: where it is the same as at the last [`verdict`](Self::verdict), so is the verdict. To be read before.
    pub fn epoch(&self) -> u64 {
        self.inner.epoch.load(Acquire)
    }

    /// Purges what has one of these scopes and was asked for until now; in force when it returns. With `hard` it must not be used
    /// again, else it is stale. Writes nothing itself: see [`flush`](Self::flush). Gives its number: what was asked for before has a
    /// smaller one.
    pub fn purge(&self, scopes: &[u64], hard: bool, now: SystemTime) -> u64 {
        if scopes.is_empty() {
            return 0;
        }
        let kind = if hard { Kind::Hard } else { Kind::Soft };
        let mut changes = self.inner.changes.lock();
        let born = self.inner.next();
        for scope in scopes {
            self.inner.put(
                &mut changes,
                Record {
                    scope: *scope,
                    born,
                    since: milliseconds(now),
                    kind,
                    echo: false,
                },
            );
        }
        self.inner.in_force(born);
        drop(changes);
        self.inner.wake.notify_one();
        born
    }

    /// What the purges mean for a response with that number and these scopes. Does not allocate; where nothing was purged since it
    /// was asked for, looks nothing up.
    pub fn verdict(&self, born: u64, scopes: &[u64]) -> Verdict {
        if born > self.inner.newest.load(Relaxed) {
            return Verdict::Valid;
        }
        self.inner.table.verdict(born, scopes)
    }

    /// The number before which a response with these scopes must not be used any more; 0 where there is none.
    pub fn hard_before(&self, scopes: &[u64]) -> u64 {
        self.inner.table.hard_before(scopes)
    }

    /// Writes what is not yet written, so that it outlives a power cut, and takes in what another process wrote. Blocking, up to some
    /// seconds where that process or the disk is slow. Where it fails all stays in force, and is written when that works again.
    pub fn flush(&self) -> io::Result<()> {
        self.inner.write(true)
    }

    /// Why purges are not being kept, while that is so.
    pub fn error(&self) -> Option<String> {
        self.inner.error.lock().clone()
    }
}

impl Drop for Purges {
    fn drop(&mut self) {
        self.inner.changes.lock().stopping = true;
        self.inner.wake.notify_one();
        if let Some(writer) = self.writer.take() {
            // It panics nowhere; and there is nobody to tell.
            let _ = writer.join();
        }
    }
}

struct Inner {
    /// The last number given.
    number: AtomicU64,
    epoch: AtomicU64,
    /// The number of the newest purge.
    newest: AtomicU64,
    table: Table,
    /// Held by whoever changes the table, so that numbers, table and journal have one order. Never while a file is used.
    changes: Mutex<Changes>,
    wake: Condvar,
    /// Held while the file is used; taken before `changes`.
    journal: Mutex<Option<Journal>>,
    /// Records in the file.
    written: AtomicU64,
    error: Mutex<Option<String>>,
    /// Whether there is a journal.
    keeps: bool,
}

#[derive(Default)]
struct Changes {
    /// What is to be added to the file.
    waiting: Vec<Record>,
    /// The file is to be written anew instead, from the table.
    rewrite: bool,
    /// Purges from this number on were made by this process.
    first: u64,
    stopping: bool,
}

impl Changes {
    fn are_waiting(&self) -> bool {
        self.rewrite || !self.waiting.is_empty()
    }
}

impl Inner {
    fn next(&self) -> u64 {
        self.number.fetch_add(1, Relaxed) + 1
    }

    fn put(&self, changes: &mut Changes, record: Record) {
        let folded = self.table.put(record);
        if !self.keeps {
            return;
        }
        // The table has it all, and is bounded.
        if folded || changes.waiting.len() >= MOST_WAITING {
            changes.waiting = Vec::new();
            changes.rewrite = true;
        }
        if !changes.rewrite {
            changes.waiting.push(record);
        }
    }

    /// What is in the table counts from here on. Who reads the new epoch reads no older `newest` after it, and so looks into the
    /// table where it has to.
    fn in_force(&self, born: u64) {
        self.newest.fetch_max(born, Relaxed);
        self.epoch.fetch_add(1, Release);
    }

    /// A purge that another process has written. It is given a number of this one, as it concerns what was asked for until now.
    fn take_in(&self, record: Record) {
        if record.echo {
            return;
        }
        let mut changes = self.changes.lock();
        let born = self.next();
        let record = Record {
            born,
            echo: true,
            ..record
        };
        self.put(&mut changes, record);
        self.in_force(born);
    }

    /// The writing thread, until it is told to stop and has written the last.
    fn keep_writing(&self) {
        let (mut unsynced, mut synced) = (false, Instant::now());
        loop {
            let stopping = {
                let mut changes = self.changes.lock();
                while !changes.are_waiting() && !changes.stopping {
                    if !unsynced {
                        self.wake.wait(&mut changes);
                    } else if self.wake.wait_for(&mut changes, SYNC_EVERY).timed_out() {
                        break;
                    }
                }
                changes.stopping
            };
            let sync = stopping || (unsynced && synced.elapsed() >= SYNC_EVERY);
            let done = self.write(sync);
            if stopping {
                return;
            }
            match done {
                Ok(()) if sync => (unsynced, synced) = (false, Instant::now()),
                Ok(()) => unsynced = true,
                Err(_) => {
                    let mut changes = self.changes.lock();
                    let again = Instant::now() + RETRY;
                    while !changes.stopping
                        && !self.wake.wait_until(&mut changes, again).timed_out()
                    {
                    }
                }
            }
        }
    }

    /// Writes what waits; with `sync` to the disk itself.
    fn write(&self, sync: bool) -> io::Result<()> {
        let mut journal = self.journal.lock();
        let Some(journal) = journal.as_mut() else {
            return Ok(());
        };
        let done = self.exchange(journal, sync);
        journal.end();
        self.written.store(journal.records(), Relaxed);
        if done.is_err() {
            let mut changes = self.changes.lock();
            changes.waiting = Vec::new();
            changes.rewrite = true;
        }
        self.note(done.as_ref().err());
        done
    }

    fn exchange(&self, journal: &mut Journal, sync: bool) -> io::Result<()> {
        // Where the whole file is new, some of it is known, and what is taken in would hide what stands behind it.
        let mut unknown = Vec::new();
        let begun = journal.begin(&mut |record, at_once| {
            // Numbers of this process are greater than those that it has seen, in the other's eyes as well.
            self.number.fetch_max(record.born, Relaxed);
            if at_once {
                self.take_in(record);
            } else if !self.table.knows(&record) {
                unknown.push(record);
            }
        });
        unknown.into_iter().for_each(|record| self.take_in(record));
        let missing = !begun?;
        let (waiting, rewrite) = {
            let mut changes = self.changes.lock();
            let waiting = std::mem::take(&mut changes.waiting);
            (waiting, std::mem::take(&mut changes.rewrite))
        };
        self.written.store(journal.records(), Relaxed);
        if rewrite || missing || self.has_grown(waiting.len() as u64) {
            return journal.rewrite(&self.table.records());
        }
        journal.append(&waiting)?;
        if sync { journal.sync() } else { Ok(()) }
    }

    /// Whether the file has, or with so many more would have, over twice the records that are needed.
    fn has_grown(&self, more: u64) -> bool {
        let needed = self.table.len() as u64;
        self.written.load(Relaxed).saturating_add(more) > needed * 2 + SLACK
    }

    /// Remembers how writing goes; says it once when that changes.
    fn note(&self, failure: Option<&io::Error>) {
        let mut error = self.error.lock();
        match (&*error, failure) {
            (None, Some(cause)) => {
                tracing::warn!(error = %cause, "purges cannot be written; they hold until the end of this process");
            }
            (Some(_), None) => tracing::info!("purges are written again"),
            _ => {}
        }
        *error = failure.map(ToString::to_string);
    }
}

/// Since 1970, by a clock that may be wrong.
fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis())
        .unwrap_or(u64::MAX)
        .min(LATEST)
}

fn time(milliseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(milliseconds.min(LATEST))
}

/// Some megabytes of memory, and more than anybody purges one by one before what they concern has gone.
const MOST_SCOPES: usize = 100_000;
/// More purges than that between two writes make the file be written anew.
const MOST_WAITING: usize = 4096;
/// Records that the file may have beyond what is needed; fewer are not worth writing it anew.
const SLACK: u64 = 1024;
/// Bits of numbers for each millisecond since 1970: more than a process asks for, and few enough for LATEST.
const NUMBERS_A_MILLISECOND: u32 = 20;
/// The year 2248; a clock beyond it is wrong, and must not use up the numbers.
const LATEST: u64 = 1 << 43;
/// How much a power cut may take of what nobody flushed.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// When to try again where writing fails.
const RETRY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
