//! A response on its way: one fetch, any number of readers.
//!
//! The first request for something that is not there leads a flight; those that come while it is
//! on its way join it and read along. Readers hold references to the same pieces of body. While
//! the response is to be stored every piece is kept until the end (its size is bounded); otherwise
//! pieces go when the slowest reader has them, and the fetch waits for it.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::entry::Entry;
use super::vary::selects;
use crate::downstream::ResponseHead;
use crate::response::Failure;
use crate::upstream::Course;

/// What a fetch that is not stored may be ahead of its slowest reader.
const AHEAD: usize = 256 * 1024;

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
    state: Mutex<State>,
    changed: Notify,
    course: OnceLock<Arc<Course>>,
}

struct State {
    phase: Phase,
    interim: Vec<ResponseHead>,
    pieces: Vec<Bytes>,
    /// How many pieces went before the first of `pieces`.
    dropped: usize,
    /// Where each reader is; `None` for one that has gone.
    readers: Vec<Option<usize>>,
    /// Every piece stays until the end.
    keep: bool,
    /// It was asked for before something changed: to be passed on, not stored.
    outdated: bool,
    ended: Option<Result<Option<HeaderMap>, Failure>>,
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
    /// Joins the flight for `key`, or starts one.
    pub fn join(&self, key: &str) -> Joined {
        let mut flights = self.0.lock();
        if let Some(flight) = flights.get(key) {
            return Joined::Join(flight.clone());
        }
        let flight = Arc::new(Flight::new(Some(key.into())));
        flights.insert(key.into(), flight.clone());
        Joined::Lead(flight)
    }

    /// Starts a flight for `key` where there is none.
    pub fn lead(&self, key: &str) -> Option<Arc<Flight>> {
        match self.join(key) {
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

    /// A flight that nobody can join.
    pub fn alone(&self) -> Arc<Flight> {
        Arc::new(Flight::new(None))
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
    fn new(key: Option<Box<str>>) -> Self {
        Self {
            key,
            state: Mutex::new(State {
                phase: Phase::Waiting,
                interim: Vec::new(),
                pieces: Vec::new(),
                dropped: 0,
                readers: Vec::new(),
                keep: true,
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
                Ok(_) if state.dropped > 0 => return Some(Outcome::NotShared),
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
        state.keep = head.stored.is_ok();
        state.phase = Phase::Live(Arc::new(head));
        drop(state);
        self.changed.notify_waiters();
    }

    /// It is not stored after all: pieces go when every reader has them.
    pub fn stop_keeping(&self) {
        self.state.lock().keep = false;
    }

    /// A piece of the body; false where nobody wants it any more. Waits for readers where the body is not kept.
    pub async fn push(&self, piece: Bytes) -> bool {
        self.state.lock().pieces.push(piece);
        self.changed.notify_waiters();
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state.lock();
                if state.keep {
                    return true;
                }
                state.drop_read();
                if state.readers.iter().all(Option::is_none) && !state.waits_for_leader() {
                    return false;
                }
                let ahead: usize = state.pieces.iter().map(Bytes::len).sum();
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
        self.state.lock().pieces.clone()
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

    fn drop_read(&mut self) {
        let slowest = self.readers.iter().flatten().min().copied();
        let Some(slowest) = slowest else { return };
        let surplus = slowest.saturating_sub(self.dropped).min(self.pieces.len());
        self.pieces.drain(..surplus);
        self.dropped += surplus;
    }
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
            {
                let mut state = self.flight.state.lock();
                let at = state.readers[self.number].unwrap_or_default();
                let place = at.saturating_sub(state.dropped);
                if let Some(piece) = state.pieces.get(place).cloned() {
                    state.readers[self.number] = Some(at + 1);
                    if !state.keep {
                        // The fetch may be waiting for this.
                        self.flight.changed.notify_waiters();
                    }
                    return Ok(Ok(piece));
                }
                match &state.ended {
                    Some(Ok(trailers)) => return Ok(Err(trailers.clone())),
                    Some(Err(failure)) => return Err(*failure),
                    None => {}
                }
            }
            changed.await;
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
mod tests {
    use super::*;
    use http::StatusCode;

    fn live(stored: bool) -> LiveHead {
        LiveHead {
            head: ResponseHead::new(StatusCode::OK),
            length: None,
            stored: if stored {
                Ok(Shared {
                    names: Box::default(),
                    variant: Box::default(),
                    ttl: 1,
                })
            } else {
                Err("private")
            },
        }
    }

    async fn outcome(flight: &Arc<Flight>, leads: bool) -> Outcome {
        flight.outcome(&HeaderMap::new(), leads, &mut 0).await
    }

    #[tokio::test]
    async fn a_late_reader_gets_the_whole_body() {
        let flights = Flights::default();
        let Joined::Lead(flight) = flights.join("a") else {
            panic!("the first leads")
        };
        flight.live(live(true));
        assert!(flight.push("one".into()).await);
        let Joined::Join(joined) = flights.join("a") else {
            panic!("the second joins")
        };
        let Outcome::Live(_, mut reader) = outcome(&joined, false).await else {
            panic!("it is shared")
        };
        flight.end(None);
        assert_eq!(reader.next().await, Ok(Ok("one".into())));
        assert_eq!(reader.next().await, Ok(Err(None)));
    }

    #[tokio::test]
    async fn what_is_not_stored_is_not_shared_and_not_kept() {
        let flight = Flights::default().alone();
        flight.live(live(false));
        assert!(matches!(outcome(&flight, false).await, Outcome::NotShared));
        let Outcome::Live(_, mut reader) = outcome(&flight, true).await else {
            panic!("the leader reads it")
        };
        for _ in 0..3 {
            assert!(flight.push(Bytes::from(vec![0; 1000])).await);
            assert!(matches!(reader.next().await, Ok(Ok(_))));
        }
        assert!(flight.push("end".into()).await);
        assert_eq!(flight.state.lock().pieces.len(), 1);
        drop(reader);
        assert!(!flight.push("nobody".into()).await);
    }

    #[tokio::test]
    async fn a_closed_flight_cannot_be_joined() {
        let flights = Flights::default();
        let Joined::Lead(flight) = flights.join("a") else {
            panic!("the first leads")
        };
        flights.close(&flight);
        assert!(matches!(flights.join("a"), Joined::Lead(_)));
    }

    /// Those who had joined a flight that was given up waited for ever.
    #[tokio::test]
    async fn an_abandoned_flight_lets_its_passengers_go() {
        let flights = Flights::default();
        let Joined::Lead(flight) = flights.join("a") else {
            panic!("the first leads")
        };
        let Joined::Join(joined) = flights.join("a") else {
            panic!("the second joins")
        };
        flights.abandon(&flight);
        assert!(matches!(outcome(&joined, false).await, Outcome::LookAgain));
        assert!(matches!(flights.join("a"), Joined::Lead(_)));
    }

    #[tokio::test]
    async fn a_break_reaches_the_readers() {
        let flight = Flights::default().alone();
        flight.live(live(true));
        let Outcome::Live(_, mut reader) = outcome(&flight, true).await else {
            panic!("the leader reads it")
        };
        flight.failed(Failure::Unreachable);
        assert_eq!(reader.next().await, Err(Failure::Unreachable));
    }
}
