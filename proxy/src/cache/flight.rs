//! A response on its way: one fetch, any number of readers.
//!
//! The first request for something that is not there leads a flight; those that come while it is
//! on its way join it and read along. Readers hold references to the same pieces of body. A body
//! that is to be stored in memory is kept whole until the end (its size is bounded). One that goes
//! to disk is kept as far as the fastest readers need it; the others read it from there. One that is
//! not stored goes when the slowest reader has it, and the fetch waits for that.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::disk::SpoolTail;
use super::entry::Entry;
use super::purge::{Purges, Verdict};
use super::vary::selects;
use crate::downstream::ResponseHead;
use crate::response::Failure;
use crate::upstream::Course;

/// What a fetch that is not stored may be ahead of its slowest reader, and what is kept in memory of one
/// that goes to disk, in bytes.
pub const AHEAD: usize = 64 * 1024;
/// What a reader takes from disk at once.
const FROM_DISK: usize = 128 * 1024;

/// Interim responses that are passed on; a server that sends more is not listened to.
const MAX_INTERIM: usize = 8;

/// Every flight that can be joined.
#[derive(Default)]
pub struct Flights(Mutex<HashMap<Box<str>, Arc<Flight>>>);

/// The place of a request in a flight.
pub enum Joined {
    /// It is the first and must fetch.
    Lead(Arc<Flight>),
    /// Another one fetches.
    Join(Arc<Flight>),
}

/// One fetch.
pub struct Flight {
    key: Option<Box<str>>,
    /// Its number among requests and purges.
    pub born: u64,
    epoch: u64,
    state: Mutex<State>,
    changed: Notify,
    course: OnceLock<Arc<Course>>,
}

struct State {
    phase: Phase,
    interim: Vec<ResponseHead>,
    /// Pieces of the body, and where in the body each begins.
    pieces: VecDeque<(u64, Bytes)>,
    /// Where the first of `pieces` begins, or the next one will.
    base: u64,
    /// Bytes that have come.
    come: u64,
    /// Where each reader is; `None` for one that has gone.
    readers: Vec<Option<u64>>,
    keep: Keep,
    /// It was asked for before something changed: to be passed on, not stored.
    outdated: bool,
    ended: Option<Result<Option<HeaderMap>, Failure>>,
}

/// What becomes of the pieces of a body.
enum Keep {
    /// Every piece stays until the end.
    InMemory,
    /// They are written to disk, and can be read there.
    OnDisk(SpoolTail),
    /// They go when every reader has them. What was written to disk before can still be read.
    UntilRead(Option<SpoolTail>),
}

enum Phase {
    Waiting,
    Landed(Arc<Entry>, u16),
    Live(Arc<LiveHead>),
    Failed(Failure),
    Abandoned,
}

/// The head of a response whose body is still coming.
#[derive(Debug)]
pub struct LiveHead {
    /// Status and fields.
    pub head: ResponseHead,
    /// The body's length, where it is known.
    pub length: Option<u64>,
    /// It will be stored, and so may be shared; else the word says why not.
    pub stored: Result<Shared, &'static str>,
}

/// Whose requests may share a response on its way.
#[derive(Debug)]
pub struct Shared {
    /// The request fields it depends on.
    pub names: Box<[HeaderName]>,
    /// Their values in the leading request.
    pub variant: Box<str>,
    /// Seconds of freshness it has.
    pub ttl: i64,
    /// What it can be purged by.
    pub scopes: Box<[u64]>,
    /// Later requests may get it in a coding.
    pub compress: bool,
}

/// What became of a flight, for one of its requests.
pub enum Outcome {
    /// An interim response, before anything else.
    Interim(ResponseHead),
    /// It is in the store: a 304 refreshed it, or the body was short. The number is the upstream's status.
    Landed(Arc<Entry>, u16),
    /// It is coming.
    Live(Arc<LiveHead>, Reader),
    /// It never began: look at the store again.
    LookAgain,
    /// It is not for others: ask for yourself.
    NotShared,
    /// It is for others, but not for a request with these varying fields.
    OtherVariant(Box<[HeaderName]>),
    /// The upstream gave nothing.
    Failed(Failure),
}

impl Flights {
    /// Joins the flight for `key`, or starts one. One that began before a purge of what it fetches
    /// cannot be joined; `scopes` says what that is.
    pub fn join(&self, key: &str, purges: &Purges, scopes: impl FnOnce() -> Box<[u64]>) -> Joined {
        let mut flights = self.0.lock();
        if let Some(flight) = flights.get(key) {
            let valid = flight.epoch == purges.epoch()
                || matches!(purges.verdict(flight.born, &scopes()), Verdict::Valid);
            if valid {
                return Joined::Join(flight.clone());
            }
        }
        let flight = Arc::new(Flight::new(Some(key.into()), purges));
        flights.insert(key.into(), flight.clone());
        Joined::Lead(flight)
    }

    /// Starts a flight for `key` where there is none.
    pub fn lead(
        &self,
        key: &str,
        purges: &Purges,
        scopes: impl FnOnce() -> Box<[u64]>,
    ) -> Option<Arc<Flight>> {
        match self.join(key, purges, scopes) {
            Joined::Lead(flight) => Some(flight),
            Joined::Join(_) => None,
        }
    }

    /// What is on its way for a key, whatever the variant, was asked for before something changed.
    pub fn outdate(&self, key: &str) {
        self.0.lock().retain(|name, flight| {
            let same = name
                .strip_prefix(key)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
            if same {
                flight.state.lock().outdated = true;
            }
            !same
        });
    }

    /// A flight that nobody can join, though it becomes outdated like the others. It must be [closed](Self::close).
    pub fn alone(&self, key: &str, purges: &Purges) -> Arc<Flight> {
        let mut flight = Flight::new(None, purges);
        // No variant's text is a number: it begins with the name of a field and a line's end follows.
        let name: Box<str> = format!("{key} {}", flight.born).into();
        flight.key = Some(name.clone());
        let flight = Arc::new(flight);
        self.0.lock().insert(name, flight.clone());
        flight
    }

    /// It does not begin after all; who has joined it looks at the store again.
    pub fn abandon(&self, flight: &Arc<Flight>) {
        self.close(flight);
        flight.state.lock().phase = Phase::Abandoned;
        flight.changed.notify_waiters();
    }

    /// Nobody can join it from here on.
    pub fn close(&self, flight: &Arc<Flight>) {
        let Some(key) = &flight.key else { return };
        let mut flights = self.0.lock();
        if flights
            .get(key)
            .is_some_and(|known| Arc::ptr_eq(known, flight))
        {
            flights.remove(key);
        }
    }
}

impl Flight {
    fn new(key: Option<Box<str>>, purges: &Purges) -> Self {
        // In this order: a purge between the two is noticed by its epoch.
        let epoch = purges.epoch();
        Self {
            key,
            epoch,
            born: purges.next_born(),
            state: Mutex::new(State {
                phase: Phase::Waiting,
                interim: Vec::new(),
                pieces: VecDeque::new(),
                base: 0,
                come: 0,
                readers: Vec::new(),
                keep: Keep::InMemory,
                outdated: false,
                ended: None,
            }),
            changed: Notify::new(),
            course: OnceLock::new(),
        }
    }

    /// Waits for what becomes of it. `seen` counts the interim responses handed out so far.
    pub async fn outcome(
        self: &Arc<Self>,
        request: &HeaderMap,
        leads: bool,
        seen: &mut usize,
    ) -> Outcome {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state.lock();
                if let Some(head) = state.interim.get(*seen).cloned() {
                    *seen += 1;
                    return Outcome::Interim(head);
                }
                if let Some(outcome) = self.decide(&mut state, request, leads) {
                    return outcome;
                }
            }
            changed.await;
        }
    }

    fn decide(
        self: &Arc<Self>,
        state: &mut State,
        request: &HeaderMap,
        leads: bool,
    ) -> Option<Outcome> {
        let live = match &state.phase {
            Phase::Waiting => return None,
            Phase::Abandoned => return Some(Outcome::LookAgain),
            Phase::Failed(failure) => return Some(Outcome::Failed(*failure)),
            Phase::Landed(entry, status) => {
                let fits = leads || selects(&entry.names, &entry.variant, request);
                return Some(if fits {
                    Outcome::Landed(entry.clone(), *status)
                } else {
                    Outcome::OtherVariant(entry.names.clone())
                });
            }
            Phase::Live(live) => live.clone(),
        };
        if !leads {
            match &live.stored {
                Err(_) => return Some(Outcome::NotShared),
                Ok(shared) if !selects(&shared.names, &shared.variant, request) => {
                    return Some(Outcome::OtherVariant(shared.names.clone()));
                }
                Ok(_) if !state.has_all() => return Some(Outcome::NotShared),
                Ok(_) => {}
            }
        }
        state.readers.push(Some(0));
        let reader = Reader {
            flight: self.clone(),
            number: state.readers.len() - 1,
        };
        Some(Outcome::Live(live, reader))
    }

    /// The exchange with the upstream that it is, for the log of everyone who reads along.
    pub fn course(&self) -> Option<Arc<Course>> {
        self.course.get().cloned()
    }

    /// It goes to the upstream as this exchange.
    pub fn takes(&self, course: Arc<Course>) {
        // A second exchange, after a 304 that did not fit, is told of by the first.
        let _ = self.course.set(course);
    }

    /// An interim response has come.
    pub fn interim(&self, head: ResponseHead) {
        let mut state = self.state.lock();
        if state.interim.len() < MAX_INTERIM {
            state.interim.push(head);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// The response is in the store.
    pub fn landed(&self, entry: Arc<Entry>, status: u16) {
        self.state.lock().phase = Phase::Landed(entry, status);
        self.changed.notify_waiters();
    }

    /// The upstream gave nothing to pass on.
    pub fn failed(&self, failure: Failure) {
        let mut state = self.state.lock();
        match state.phase {
            Phase::Waiting => state.phase = Phase::Failed(failure),
            _ => {
                state.ended.get_or_insert(Err(failure));
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// The head has come, and a body follows.
    pub fn live(&self, head: LiveHead) {
        let mut state = self.state.lock();
        if head.stored.is_err() {
            state.keep = Keep::UntilRead(None);
        }
        state.phase = Phase::Live(Arc::new(head));
        drop(state);
        self.changed.notify_waiters();
    }

    /// It is not stored after all: pieces go when every reader has them.
    pub fn stop_keeping(&self) {
        let mut state = self.state.lock();
        let before = std::mem::replace(&mut state.keep, Keep::UntilRead(None));
        if let Keep::OnDisk(tail) = before {
            state.keep = Keep::UntilRead(Some(tail));
        }
    }

    /// It goes to disk, from its first byte on.
    pub fn goes_to_disk(&self, tail: SpoolTail) {
        self.state.lock().keep = Keep::OnDisk(tail);
    }

    /// A piece of the body; false where nobody wants it any more. Waits for readers where the body is not kept.
    pub async fn push(&self, piece: Bytes) -> bool {
        {
            let mut state = self.state.lock();
            let at = state.come;
            state.come += piece.len() as u64;
            state.pieces.push_back((at, piece));
        }
        self.changed.notify_waiters();
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state.lock();
                match &state.keep {
                    Keep::InMemory => return true,
                    Keep::OnDisk(tail) => {
                        let written = tail.written();
                        state.drop_written(written);
                        return true;
                    }
                    Keep::UntilRead(tail) => {
                        let written = tail.as_ref().map_or(0, SpoolTail::written);
                        state.drop_read(written);
                    }
                }
                if state.readers.iter().all(Option::is_none) && !state.waits_for_leader() {
                    return false;
                }
                let ahead: usize = state.pieces.iter().map(|(_, piece)| piece.len()).sum();
                if ahead <= AHEAD {
                    return true;
                }
            }
            changed.await;
        }
    }

    /// Whether something changed since it was asked for.
    pub fn is_outdated(&self) -> bool {
        self.state.lock().outdated
    }

    /// The pieces of the body so far; all of them, where they are kept.
    pub fn pieces(&self) -> Vec<Bytes> {
        let state = self.state.lock();
        state
            .pieces
            .iter()
            .map(|(_, piece)| piece.clone())
            .collect()
    }

    /// The body has come whole.
    pub fn end(&self, trailers: Option<HeaderMap>) {
        self.state.lock().ended.get_or_insert(Ok(trailers));
        self.changed.notify_waiters();
    }
}

impl State {
    /// The leader takes its place as a reader a moment after the head.
    fn waits_for_leader(&self) -> bool {
        self.readers.is_empty()
    }

    /// Whether a reader can still begin at the first byte.
    fn has_all(&self) -> bool {
        match &self.keep {
            Keep::InMemory | Keep::OnDisk(_) => true,
            Keep::UntilRead(_) => self.come == 0,
        }
    }

    /// Drops what the slowest reader has, or can read on disk.
    fn drop_read(&mut self, written: u64) {
        let slowest = self.readers.iter().flatten().min().copied();
        let Some(slowest) = slowest else { return };
        self.drop_until(slowest.max(written));
    }

    /// Drops what is on disk, but for the last bytes, which the fastest readers are about to ask for.
    fn drop_written(&mut self, written: u64) {
        self.drop_until(written.min(self.come.saturating_sub(AHEAD as u64)));
    }

    fn drop_until(&mut self, end: u64) {
        while let Some((at, piece)) = self.pieces.front() {
            let next = at + piece.len() as u64;
            if next > end {
                break;
            }
            self.base = next;
            self.pieces.pop_front();
        }
    }

    /// What lies at a place of the body.
    fn at(&self, place: u64) -> At {
        if place < self.base {
            return match &self.keep {
                Keep::OnDisk(tail) | Keep::UntilRead(Some(tail)) => At::Disk(tail.clone()),
                // It was dropped although a reader had not read it; that cannot be.
                Keep::InMemory | Keep::UntilRead(None) => At::Lost,
            };
        }
        let next = self.pieces.partition_point(|(at, _)| *at <= place);
        let found = next.checked_sub(1).and_then(|index| self.pieces.get(index));
        match found {
            Some((at, piece)) if place - at < piece.len() as u64 => {
                At::Piece(piece.slice((place - at) as usize..))
            }
            _ => At::End,
        }
    }
}

enum At {
    Piece(Bytes),
    Disk(SpoolTail),
    /// Nothing yet, or nothing more.
    End,
    Lost,
}

/// One reader of a flight's body.
pub struct Reader {
    flight: Arc<Flight>,
    number: usize,
}

impl Reader {
    /// The next piece; `Ok(Err(trailers))` at the end.
    pub async fn next(&mut self) -> Result<Result<Bytes, Option<HeaderMap>>, Failure> {
        loop {
            let changed = self.flight.changed.notified();
            let (place, tail) = {
                let mut state = self.flight.state.lock();
                let place = state.readers[self.number].unwrap_or_default();
                match state.at(place) {
                    At::Piece(piece) => {
                        self.moved(&mut state, place + piece.len() as u64);
                        return Ok(Ok(piece));
                    }
                    At::Disk(tail) => (place, Some(tail)),
                    At::Lost => return Err(Failure::Internal),
                    At::End => match &state.ended {
                        Some(Ok(trailers)) => return Ok(Err(trailers.clone())),
                        Some(Err(failure)) => return Err(*failure),
                        None => (place, None),
                    },
                }
            };
            let Some(tail) = tail else {
                changed.await;
                continue;
            };
            match tail.read(place, FROM_DISK).await {
                Ok(piece) if !piece.is_empty() => {
                    let mut state = self.flight.state.lock();
                    self.moved(&mut state, place + piece.len() as u64);
                    return Ok(Ok(piece));
                }
                _ => return Err(Failure::Internal),
            }
        }
    }

    fn moved(&self, state: &mut State, place: u64) {
        state.readers[self.number] = Some(place);
        if matches!(state.keep, Keep::UntilRead(_)) {
            // The fetch may be waiting for this.
            self.flight.changed.notify_waiters();
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.flight.state.lock().readers[self.number] = None;
        self.flight.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
