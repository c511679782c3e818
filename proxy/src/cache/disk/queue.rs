//! What waits for the writer: records in the order in which they came, and small chores.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};

use super::NewRecord;
use super::index::At;

/// Records that wait at most.
const MOST_JOBS: usize = 4096;
/// Chores that wait at most. One that finds no room is left undone: the record comes back when the folder
/// is next opened, unless it has gone by then.
const MOST_CHORES: usize = 262_144;
/// What the writer takes at once: enough to make its calls count, not so much that a wait is long.
const BATCH_RECORDS: usize = 256;
const BATCH_CHORES: usize = 256;
const BATCH_BYTES: u64 = 4 * 1024 * 1024;
/// How long the writer lets records gather before it takes them: one call for many costs a fraction of
/// one call for each.
const GATHER: Duration = Duration::from_millis(2);
/// Bytes that are worth a call.
const ENOUGH_BYTES: u64 = BATCH_BYTES / 4;
/// A queue that has had no room for so long is slow.
const FULL_FOR: Duration = Duration::from_secs(1);

/// The queue.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// Less waits than before.
    shrunk: Notify,
    limit: u64,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    bytes: u64,
    chores: VecDeque<Chore>,
    /// Records and chores that were taken and are not done yet.
    at_hand: usize,
    /// What is being written at this moment, by hash; true once it was forgotten.
    writing: HashMap<u64, (u64, bool)>,
    last_ticket: u64,
    full_since: Option<Instant>,
    /// The writer has nothing to do.
    waits: bool,
    /// The writer lets records gather.
    gathers: bool,
    /// Requests among the jobs: whoever asked waits.
    requests: usize,
    stopped: bool,
}

/// A record on its way.
pub(super) struct Waiting {
    /// The hash of its key.
    pub hash: u64,
    /// The record, its scopes sorted and told once.
    pub record: NewRecord,
    /// By which it is known while it is written; set by [`Queue::take`].
    pub ticket: u64,
}

/// What the writer is asked, in turn with the records.
pub(super) enum Request {
    /// Say when everything before this is written.
    Flush,
    /// Seal everything and let go of the folder.
    Pause,
    /// Take the folder again.
    Resume,
    /// Make room for what was taken of it for a file of a lane, which somebody else writes.
    Room(u64),
    /// Seal everything and end.
    Close,
}

enum Job {
    Record(Waiting),
    Request(Request, oneshot::Sender<bool>),
}

/// What the writer does besides, in no order.
pub(super) enum Chore {
    /// The record of this hash at this place counts no longer, in files too.
    Bury(u64, At),
    /// Remove a file that was never finished.
    Unlink(PathBuf),
}

/// What the writer has to do next.
pub(super) struct Batch {
    /// Records, in order.
    pub records: Vec<Waiting>,
    /// What is asked once they are written.
    pub request: Option<(Request, oneshot::Sender<bool>)>,
    /// And these.
    pub chores: Vec<Chore>,
    /// Nothing follows.
    pub stopped: bool,
}

impl Queue {
    /// A queue for records of at most `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// Puts a record in; false where there is no room.
    pub fn push(&self, hash: u64, record: NewRecord) -> bool {
        let bytes = record.size();
        let mut state = self.state.lock();
        let full = state.bytes + bytes > self.limit || state.jobs.len() >= MOST_JOBS;
        if full || state.stopped {
            state.full_since.get_or_insert_with(Instant::now);
            return false;
        }
        state.full_since = None;
        state.bytes += bytes;
        let ticket = 0;
        state.jobs.push_back(Job::Record(Waiting {
            hash,
            record,
            ticket,
        }));
        self.wake(state);
        true
    }

    /// Waits until a record of `bytes` finds room, or `wanted` holds no longer; looks again whenever
    /// something was written or dropped.
    pub async fn room(&self, bytes: u64, wanted: impl Fn() -> bool) {
        loop {
            let shrunk = self.shrunk.notified();
            if self.has_room(bytes) || !wanted() {
                return;
            }
            shrunk.await;
        }
    }

    fn has_room(&self, bytes: u64) -> bool {
        let state = self.state.lock();
        state.bytes + bytes <= self.limit && state.jobs.len() < MOST_JOBS
    }

    /// Asks the writer something. The answer does not come where the writer has ended, or has too much
    /// to do.
    pub fn ask(&self, request: Request) -> oneshot::Receiver<bool> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        if !state.stopped && state.jobs.len() < 2 * MOST_JOBS {
            state.jobs.push_back(Job::Request(request, sender));
            state.requests += 1;
            self.wake(state);
        }
        receiver
    }

    /// Leaves a chore for the writer; false where too many wait.
    pub fn leave(&self, chore: Chore) -> bool {
        let mut state = self.state.lock();
        let fits = state.chores.len() < MOST_CHORES;
        if fits {
            state.chores.push_back(chore);
            self.wake(state);
        }
        fits
    }

    /// Nothing with this hash is written that came before this.
    pub fn forget(&self, hash: u64) {
        let mut state = self.state.lock();
        let mut bytes = 0;
        state.jobs.retain(|job| match job {
            Job::Record(waiting) if waiting.hash == hash => {
                bytes += waiting.record.size();
                false
            }
            _ => true,
        });
        state.bytes = state.bytes.saturating_sub(bytes);
        for (other, forgotten) in state.writing.values_mut() {
            *forgotten |= *other == hash;
        }
        drop(state);
        if bytes > 0 {
            self.shrunk.notify_waiters();
        }
    }

    /// Waits up to `patience` for something to do, and takes it. Its records are being written from
    /// here on until [`Queue::publish`].
    pub fn take(&self, patience: Duration) -> Batch {
        let mut state = self.state.lock();
        if state.jobs.is_empty() && state.chores.is_empty() && !state.stopped {
            state.waits = true;
            self.changed.wait_for(&mut state, patience);
            state.waits = false;
        }
        if state.may_gather() {
            state.gathers = true;
            self.changed.wait_for(&mut state, GATHER);
            state.gathers = false;
        }
        let mut batch = Batch {
            records: Vec::new(),
            request: None,
            chores: Vec::new(),
            stopped: state.stopped,
        };
        let mut bytes = 0;
        while batch.request.is_none() && batch.records.len() < BATCH_RECORDS && bytes < BATCH_BYTES
        {
            match state.jobs.pop_front() {
                Some(Job::Record(mut waiting)) => {
                    let size = waiting.record.size();
                    bytes += size;
                    waiting.ticket = state.ticket(waiting.hash);
                    batch.records.push(waiting);
                }
                Some(Job::Request(request, answer)) => {
                    state.requests -= 1;
                    batch.request = Some((request, answer));
                }
                None => break,
            }
        }
        // Who asks something wants to find everything done.
        let most = match batch.request {
            Some(_) => MOST_CHORES,
            None => BATCH_CHORES,
        };
        let count = state.chores.len().min(most);
        batch.chores = state.chores.drain(..count).collect();
        state.at_hand = batch.records.len() + batch.chores.len();
        batch
    }

    /// A file that somebody else writes will hold a record with this hash.
    pub fn begin(&self, hash: u64) -> u64 {
        self.state.lock().ticket(hash)
    }

    /// Makes what was written known, while nothing can be forgotten: calls `publish` with whether it was
    /// forgotten meanwhile.
    pub fn publish<T>(&self, ticket: u64, publish: impl FnOnce(bool) -> T) -> T {
        let mut state = self.state.lock();
        let (_, forgotten) = state.writing.remove(&ticket).unwrap_or_default();
        publish(forgotten)
    }

    /// So many bytes wait no longer.
    pub fn written(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
        if state.bytes <= self.limit / 2 {
            state.full_since = None;
        }
        drop(state);
        self.shrunk.notify_waiters();
    }

    /// All that was taken is done.
    pub fn done(&self) {
        self.state.lock().at_hand = 0;
    }

    /// Bytes of records that wait.
    pub fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }

    /// How much is left to do, records and chores: nothing where all that came is done.
    pub fn waiting(&self) -> u64 {
        let state = self.state.lock();
        (state.jobs.len() + state.chores.len() + state.at_hand) as u64
    }

    /// Whether it has had no room for a while.
    pub fn is_stuck(&self) -> bool {
        let since = self.state.lock().full_since;
        since.is_some_and(|since| since.elapsed() > FULL_FOR)
    }

    /// The writer ends; what waits is dropped.
    pub fn stop(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        let jobs = std::mem::take(&mut state.jobs);
        state.bytes = 0;
        state.requests = 0;
        self.wake(state);
        drop(jobs);
        self.shrunk.notify_waiters();
    }

    fn wake(&self, state: MutexGuard<'_, State>) {
        let wake = state.waits || (state.gathers && !state.may_gather());
        drop(state);
        if wake {
            self.changed.notify_one();
        }
    }
}

impl State {
    /// Whether more may come before it is worth a call.
    fn may_gather(&self) -> bool {
        let nobody_waits = self.requests == 0 && !self.stopped;
        nobody_waits && self.jobs.len() < BATCH_RECORDS && self.bytes < ENOUGH_BYTES
    }

    fn ticket(&mut self, hash: u64) -> u64 {
        self.last_ticket += 1;
        self.writing.insert(self.last_ticket, (hash, false));
        self.last_ticket
    }
}
