//! A fetch's other end: to the passage it is a client like any other, but what arrives goes into a
//! flight and, where the rules allow, into the store.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};

use super::control::{RequestDirectives, ResponseControl};
use super::entry::Entry;
use super::flight::{Flight, LiveHead, Shared};
use super::freshness::{Freshness, Policy};
use super::key::Key;
use super::reuse::{self, OnError};
use super::storable::{Exchange, NotStored, storable, stored_headers};
use super::vary::{Vary, variant_key};
use super::{Cache, Room, conditional, update};
use crate::downstream::{BodyError, BodyLength, Downstream, ResponseHead};
use crate::response::{self, Failure};

/// A fetch on its way into the cache.
pub struct Fill {
    cache: Arc<Cache>,
    flight: Arc<Flight>,
    key: Key,
    /// The client's fields: what varies is read from them.
    request: Arc<HeaderMap>,
    directives: RequestDirectives,
    policy: Policy,
    stale: Option<Arc<Entry>>,
    requested: SystemTime,
    progress: Progress,
}

enum Progress {
    Waiting,
    Storing(Box<Storing>),
    Passing,
    Done(Filled),
}

struct Storing {
    head: ResponseHead,
    freshness: Freshness,
    received: SystemTime,
    length: Option<u64>,
    have: u64,
    rooms: Vec<Room>,
}

/// How a fetch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// As it should.
    Done,
    /// The 304 spoke of something else than what is stored: ask again without a condition.
    AskAgain,
    /// The upstream answered with an error for which the stored response may stand in.
    StaleStandsIn,
    /// It broke off.
    Broken,
}

impl Fill {
    /// A fetch of `key` for a request with these fields; `stale` is what it is to refresh.
    pub fn new(
        cache: Arc<Cache>,
        flight: Arc<Flight>,
        key: Key,
        request: Arc<HeaderMap>,
        policy: Policy,
        stale: Option<Arc<Entry>>,
    ) -> Self {
        Self {
            directives: RequestDirectives::of(&request),
            requested: SystemTime::now(),
            cache,
            flight,
            key,
            request,
            policy,
            stale,
            progress: Progress::Waiting,
        }
    }

    /// The fields to ask the upstream with: the client's, with our conditions in place of its own.
    pub fn upstream_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::clone(&self.request);
        let validated = self
            .stale
            .as_ref()
            .is_some_and(|stale| conditional::validate(&stale.head.headers, &mut headers));
        if !validated {
            conditional::drop_conditions(&mut headers);
        }
        headers
    }

    /// How it ended.
    pub fn filled(&self) -> Filled {
        match self.progress {
            Progress::Done(filled) => filled,
            _ => Filled::Broken,
        }
    }

    fn not_modified(&mut self, stale: &Entry, head: &ResponseHead) -> Filled {
        if !update::confirms(&stale.validators, &head.headers) {
            self.cache.remove(self.key.as_str());
            self.stale = None;
            return Filled::AskAgain;
        }
        let now = SystemTime::now();
        let refreshed = stale.refreshed(
            &head.headers,
            &self.request,
            self.requested,
            now,
            &self.policy,
        );
        let entry = Arc::new(refreshed);
        let control = ResponseControl::of(&entry.head.headers);
        let judged = self.judge(&entry.head, &control, &entry.freshness);
        if judged.is_ok() && !self.flight.is_outdated() {
            self.cache.insert(self.key.as_str(), entry.clone());
        } else {
            self.cache.remove(self.key.as_str());
        }
        self.flight.landed(entry, head.status.as_u16());
        self.cache.flights().close(&self.flight);
        Filled::Done
    }

    fn judge(
        &self,
        head: &ResponseHead,
        control: &ResponseControl,
        freshness: &Freshness,
    ) -> Result<(), NotStored> {
        storable(&Exchange {
            method: &Method::GET,
            target: &self.key,
            request: &self.request,
            directives: &self.directives,
            status: head.status,
            response: &head.headers,
            control,
            freshness,
            holds_parts: false,
        })
    }

    fn begin(&mut self, mut head: ResponseHead, length: BodyLength) {
        let received = SystemTime::now();
        let control = ResponseControl::of(&head.headers);
        let freshness = Freshness::of(
            head.status,
            &head.headers,
            &control,
            self.requested,
            received,
            &self.policy,
        );
        let known = match length {
            BodyLength::Exact(length) => Some(length),
            BodyLength::None => Some(0),
            BodyLength::Unknown | BodyLength::Upgrade => None,
        };
        let (refused, room) = match self.judge(&head, &control, &freshness) {
            Err(reason) => (Some(reason.as_str()), None),
            Ok(()) if known.unwrap_or(0) > self.cache.max_object() => (Some("too-large"), None),
            Ok(()) => match self.cache.take_room(known.unwrap_or(0)) {
                None => (Some("no-room"), None),
                room => (None, room),
            },
        };
        let stored_head = room.as_ref().map(|_| ResponseHead {
            status: head.status,
            headers: stored_headers(&head.headers, &control, received),
        });
        let names = match Vary::of(&head.headers) {
            Vary::By(names) => names,
            Vary::Star => Box::default(),
        };
        let stored = match refused {
            Some(reason) => Err(reason),
            None => Ok(Shared {
                variant: variant_key(&names, &self.request),
                names,
                ttl: freshness.ttl(received),
            }),
        };
        response::date(&mut head.headers);
        self.flight.live(LiveHead {
            head,
            length: known,
            stored,
        });
        match stored_head.zip(room) {
            Some((head, room)) => {
                self.progress = Progress::Storing(Box::new(Storing {
                    head,
                    freshness,
                    received,
                    length: known,
                    have: 0,
                    rooms: vec![room],
                }));
            }
            None => self.pass_on(refused),
        }
    }

    /// From here on the response is only passed to who reads it now.
    fn pass_on(&mut self, refused: Option<&'static str>) {
        self.progress = Progress::Passing;
        self.flight.stop_keeping();
        self.cache.flights().close(&self.flight);
        if refused != Some("no-room") {
            self.cache.mark_unshared(self.key.as_str());
        }
        // What the origin says now takes the place of what it said before.
        if self.stale.is_some() {
            self.cache.remove(self.key.as_str());
        }
    }

    fn store(&self, storing: Storing, pieces: &[Bytes]) {
        // Pieces point into the buffers they were read into; what stays gets memory of its own.
        let mut body = BytesMut::with_capacity(storing.have as usize);
        pieces
            .iter()
            .for_each(|piece| body.extend_from_slice(piece));
        let body = body.freeze();
        let entry = Entry::new(
            storing.head,
            body,
            storing.freshness,
            &self.request,
            storing.received,
        );
        self.cache.insert(self.key.as_str(), Arc::new(entry));
    }
}

impl Downstream for Fill {
    async fn read_body(&mut self) -> Result<Option<Bytes>, BodyError> {
        Ok(None)
    }

    fn body_done(&self) -> bool {
        true
    }

    async fn gone(&mut self) -> io::Error {
        // A fetch that nobody wants is noticed when its next piece arrives.
        pending().await
    }

    async fn interim(&mut self, head: &ResponseHead) -> io::Result<()> {
        if head.status != StatusCode::CONTINUE {
            self.flight.interim(head.clone());
        }
        Ok(())
    }

    async fn start(&mut self, head: ResponseHead, length: BodyLength) -> io::Result<()> {
        if let Some(stale) = self.stale.clone() {
            if head.status == StatusCode::NOT_MODIFIED {
                self.progress = Progress::Done(self.not_modified(&stale, &head));
                return Ok(());
            }
            let stands_in = reuse::is_error(head.status)
                && matches!(
                    reuse::on_error(&stale.freshness, SystemTime::now(), false),
                    OnError::Serve { .. }
                );
            if stands_in {
                self.progress = Progress::Done(Filled::StaleStandsIn);
                self.flight.failed(Failure::ServerError);
                return Err(io::Error::other("the stored response stands in"));
            }
        }
        self.begin(head, length);
        Ok(())
    }

    async fn data(&mut self, chunk: Bytes) -> io::Result<()> {
        if let Progress::Storing(storing) = &mut self.progress {
            storing.have += chunk.len() as u64;
            let fits = storing.have <= self.cache.max_object();
            let room = match storing.length {
                None => self.cache.take_room(chunk.len() as u64),
                Some(_) => Some(Room::none()),
            };
            match room.filter(|_| fits) {
                Some(room) => storing.rooms.push(room),
                None => self.pass_on(Some("too-large")),
            }
        }
        if matches!(self.progress, Progress::Done(_)) || self.flight.push(chunk).await {
            Ok(())
        } else {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    async fn finish(&mut self, trailers: Option<HeaderMap>) -> io::Result<()> {
        match std::mem::replace(&mut self.progress, Progress::Done(Filled::Done)) {
            Progress::Waiting => self.progress = Progress::Waiting,
            Progress::Done(filled) => self.progress = Progress::Done(filled),
            Progress::Passing => {
                self.flight.end(trailers);
            }
            Progress::Storing(storing) => {
                if storing.length.is_some_and(|length| length != storing.have) {
                    self.progress = Progress::Passing;
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                if !self.flight.is_outdated() {
                    self.store(*storing, &self.flight.pieces());
                }
                self.cache.flights().close(&self.flight);
                self.flight.end(trailers);
            }
        }
        Ok(())
    }

    fn close_after(&mut self) {}

    fn started(&self) -> bool {
        !matches!(self.progress, Progress::Waiting)
    }

    fn bytes_sent(&self) -> u64 {
        0
    }

    fn bytes_received(&self) -> u64 {
        0
    }
}
