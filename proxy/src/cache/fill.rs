//! A fetch's other end: to the passage it is a client like any other, but what arrives goes into a
//! flight and, where the rules allow, into the store.

use std::future::pending;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::body::{Body, Room, counted};
use super::disk::Spool;
use super::entry::{Entry, Origin};
use super::flight::{AHEAD, Flight, LiveHead, Shared};
use super::freshness::Freshness;
use super::meta::Meta;
use super::purge::Verdict;
use super::question::Question;
use super::reuse::is_error;
use super::storable::stored_headers;
use super::vary::{Vary, variant_key};
use super::{Cache, coding, conditional, update};
use crate::downstream::{BodyError, BodyLength, Downstream, ResponseHead};
use crate::response::{self, Failure};

/// A fetch on its way into the cache.
pub struct Fill {
    cache: Arc<Cache>,
    flight: Arc<Flight>,
    question: Question,
    stale: Option<Arc<Entry>>,
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
    origin: Origin,
    length: Option<u64>,
    have: u64,
    /// What it takes of the memory.
    room: Room,
    /// Where it goes when it is too large for memory.
    spool: Option<Streaming>,
    /// The last piece, until it is stored.
    last: Option<Bytes>,
}

/// A place on disk, and the turn that goes with it.
type Streaming = (Spool, OwnedSemaphorePermit);

/// What a body takes of the memory on its way to disk: what readers may want, and what waits to be written.
const ON_ITS_WAY: u64 = AHEAD as u64 + 256 * 1024;

/// How long readers wait for the disk at the end of a body.
const PATIENCE: Duration = Duration::from_millis(250);

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
    /// A fetch that asks this; `stale` is what it is to refresh.
    pub fn new(
        cache: Arc<Cache>,
        flight: Arc<Flight>,
        question: Question,
        stale: Option<Arc<Entry>>,
    ) -> Self {
        Self {
            cache,
            flight,
            question,
            stale,
            progress: Progress::Waiting,
        }
    }

    /// The fields to ask the upstream with: the client's, with our conditions in place of its own.
    pub fn upstream_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::clone(&self.question.request);
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
        let (key, lane, born) = (self.key(), self.question.owner.lane, self.flight.born);
        let freshened = update::confirms(&stale.validators, &head.headers)
            .then(|| {
                let now = SystemTime::now();
                self.question.freshens(stale, &head.headers, now, born)
            })
            .flatten();
        let Some((entry, may_stay)) = freshened else {
            self.cache.remove(key);
            self.stale = None;
            return Filled::AskAgain;
        };
        if may_stay && !self.flight.is_outdated() {
            self.cache.refresh(key, lane, entry.clone());
        } else {
            self.cache.remove(key);
        }
        self.flight.landed(entry, head.status.as_u16());
        self.cache.flights().close(&self.flight);
        Filled::Done
    }

    fn key(&self) -> &str {
        self.question.key.as_str()
    }

    async fn begin(&mut self, mut head: ResponseHead, length: BodyLength) {
        let received = SystemTime::now();
        let judged = self.question.judge(&head, received);
        let known = match length {
            BodyLength::Exact(length) => Some(length),
            BodyLength::None => Some(0),
            BodyLength::Unknown | BodyLength::Upgrade => None,
        };
        let prepared = match judged.storable {
            Err(reason) => Err(reason.as_str()),
            Ok(()) if known.unwrap_or(0) > self.cache.max_object() => Err("too-large"),
            Ok(()) => match self.question.origin(self.flight.born, &head.headers) {
                None => Err("too-many-tags"),
                Some(origin) => self.place(known).await.map(|place| (origin, place)),
            },
        };
        let names = match Vary::of(&head.headers) {
            Vary::By(names) => names,
            Vary::Star => Box::default(),
        };
        let stored = match &prepared {
            Err(reason) => Err(*reason),
            Ok((origin, _)) => Ok(Shared {
                variant: variant_key(&names, &self.question.request),
                names,
                ttl: judged.freshness.ttl(received),
                scopes: origin.scopes.clone(),
                compress: origin.compress
                    && known.is_some_and(|length| {
                        length <= self.cache.max_in_memory()
                            && coding::is_worth_it(head.status, &head.headers, length)
                    }),
            }),
        };
        let stored_head = ResponseHead {
            status: head.status,
            headers: stored_headers(&head.headers, &judged.control, received),
        };
        response::date(&mut head.headers);
        self.flight.live(LiveHead {
            head,
            length: known,
            stored,
        });
        match prepared {
            Ok((origin, (room, spool))) => {
                if let Some((spool, _)) = &spool {
                    self.flight.goes_to_disk(spool.tail());
                }
                self.progress = Progress::Storing(Box::new(Storing {
                    head: stored_head,
                    freshness: judged.freshness,
                    received,
                    origin,
                    length: known,
                    have: 0,
                    room,
                    spool,
                    last: None,
                }));
            }
            Err(reason) => self.pass_on(Some(reason)),
        }
    }

    /// Where a body will be kept: room in memory, or a place on disk and room for what is on its way there.
    async fn place(&self, length: Option<u64>) -> Result<(Room, Option<Streaming>), &'static str> {
        let expected = length.unwrap_or(0);
        let spool = match expected > self.cache.max_in_memory() {
            false => None,
            true => match self.cache.spool(self.question.owner.lane, length).await {
                None => return Err("no-disk"),
                spool => spool,
            },
        };
        let bytes = if spool.is_some() {
            ON_ITS_WAY
        } else {
            expected
        };
        let room = self.cache.take_room(bytes).ok_or("no-room")?;
        Ok((room, spool))
    }

    /// A body of unknown length has become too large for memory: what has come goes to disk first.
    async fn spill(&mut self) -> Result<(), &'static str> {
        let lane = self.question.owner.lane;
        let Progress::Storing(storing) = &mut self.progress else {
            return Ok(());
        };
        let (mut spool, turn) = self.cache.spool(lane, None).await.ok_or("no-disk")?;
        for piece in self.flight.pieces() {
            spool.append(piece).await.map_err(|_| "disk")?;
        }
        self.flight.goes_to_disk(spool.tail());
        storing.spool = Some((spool, turn));
        Ok(())
    }

    /// Takes a piece up; says why it cannot be stored any more.
    async fn keep(&mut self, chunk: &Bytes) -> Result<(), &'static str> {
        let (most, in_memory) = (self.cache.max_object(), self.cache.max_in_memory());
        let Progress::Storing(storing) = &mut self.progress else {
            return Ok(());
        };
        storing.have += chunk.len() as u64;
        if storing.have > most {
            return Err("too-large");
        }
        if storing.spool.is_none() && storing.have > in_memory {
            self.spill().await?;
        }
        let Progress::Storing(storing) = &mut self.progress else {
            return Ok(());
        };
        match &mut storing.spool {
            Some((spool, _)) => spool.append(chunk.clone()).await.map_err(|_| "disk")?,
            None if storing.length.is_none() => {
                let room = self.cache.take_room(chunk.len() as u64);
                storing.room.join(room.ok_or("no-room")?);
            }
            None => {}
        }
        Ok(())
    }

    /// From here on the response is only passed to who reads it now.
    fn pass_on(&mut self, refused: Option<&'static str>) {
        let before = std::mem::replace(&mut self.progress, Progress::Passing);
        self.flight.stop_keeping();
        self.cache.flights().close(&self.flight);
        // What is for want of room, or of a disk, may be stored the next time.
        if !matches!(refused, Some("no-room" | "no-disk" | "disk")) {
            self.cache.mark_unshared(self.key());
        }
        // What the origin says now takes the place of what it said before.
        if self.stale.is_some() {
            self.cache.remove(self.key());
        }
        if let Progress::Storing(storing) = before {
            // Its readers may still need what was written.
            drop(storing.room);
        }
    }

    /// The body is whole: it is stored, and then its readers get the end of it, unless the disk is slow.
    async fn complete(&self, mut storing: Storing, trailers: Option<HeaderMap>) {
        if self.is_purged(&storing.origin) {
            self.cache.flights().close(&self.flight);
            return self.end(storing.last, trailers).await;
        }
        let last = storing.last.take();
        if storing.spool.is_none() {
            self.cache.ready(storing.have).await;
        }
        let mut stored = pin!(self.store(storing, self.flight.pieces()));
        let in_time = timeout(PATIENCE, &mut stored).await.is_ok();
        if !in_time {
            // Who comes meanwhile joins this flight.
            self.end(last.clone(), trailers.clone()).await;
            stored.await;
        }
        self.cache.flights().close(&self.flight);
        if in_time {
            self.end(last, trailers).await;
        }
    }

    /// Hands out the last piece and the end.
    async fn end(&self, last: Option<Bytes>, trailers: Option<HeaderMap>) {
        if let Some(last) = last {
            self.flight.push(last).await;
        }
        self.flight.end(trailers);
    }

    async fn store(&self, storing: Storing, pieces: Vec<Bytes>) {
        let (key, lane) = (self.key(), self.question.owner.lane);
        if let Some((spool, _turn)) = storing.spool {
            let meta = Meta::new(
                storing.head,
                storing.freshness,
                &self.question.request,
                false,
                storing.have,
            );
            if let Err(error) = self
                .cache
                .commit(key, lane, spool, meta, storing.origin)
                .await
            {
                tracing::debug!(%error, "a large body was not kept");
            }
            return;
        }
        // Pieces point into the buffers they were read into; what stays gets memory of its own.
        let mut body = BytesMut::with_capacity(storing.have as usize);
        for piece in pieces {
            body.extend_from_slice(&piece);
        }
        let entry = Entry::new(
            storing.head,
            Body::Memory(counted(body, storing.room)),
            storing.freshness,
            &self.question.request,
            storing.received,
            storing.origin,
        );
        self.cache.insert(key, lane, Arc::new(entry));
    }

    /// Whether it was purged while it was on its way.
    fn is_purged(&self, origin: &Origin) -> bool {
        self.flight.is_outdated()
            || self.cache.purges().verdict(origin.born, &origin.scopes) == Verdict::Hard
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
            let stands_in = is_error(head.status) && stale.stands_in(self.cache.purges()).is_some();
            if stands_in {
                self.progress = Progress::Done(Filled::StaleStandsIn);
                self.flight.failed(Failure::ServerError);
                return Err(io::Error::other("the stored response stands in"));
            }
        }
        self.begin(head, length).await;
        Ok(())
    }

    async fn data(&mut self, chunk: Bytes) -> io::Result<()> {
        if let Err(reason) = self.keep(&chunk).await {
            self.pass_on(Some(reason));
        }
        if let Progress::Storing(storing) = &mut self.progress
            && storing.spool.is_some()
            && storing.length == Some(storing.have)
        {
            // Who has the last byte may ask again at once, and should find it stored.
            storing.last = Some(chunk);
            return Ok(());
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
                self.complete(*storing, trailers).await;
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
