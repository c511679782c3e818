//! One stored response, with everything about it that is worked out once and not at each use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::body::Body;
use super::clock;
use super::coding::{self, Coding};
use super::conditional::Validators;
use super::control::ResponseControl;
use super::freshness::{Freshness, Policy};
use super::meta::Meta;
use super::purge::{Purges, Verdict};
use super::reuse::{self, Allowed, OnError};
use super::storable::add_date;
use super::update;
use crate::downstream::{ResponseHead, StoredHead};
use crate::response;
use crate::route::{Route, Site};

/// What an entry costs beside its body and fields.
const OVERHEAD: usize = 512;
/// What a response may seem to have come later than now.
const AHEAD: Duration = Duration::from_secs(1);
/// After a failed refresh, the next one waits for so long.
const REFRESH_PAUSE: Duration = Duration::from_secs(1);
/// How long after a soft purge what it concerns is still served while it is fetched anew.
const SOFT_WINDOW: Duration = Duration::from_secs(30);

/// A stored response. Never changed; a refresh makes a new one around the same body.
pub struct Entry {
    /// Status and fields as stored.
    pub head: ResponseHead,
    /// The whole body, not coded by us.
    pub body: Body,
    /// The same body, coded, where that has been asked for; in the order of [`Coding::ALL`].
    pub coded: [Option<Bytes>; Coding::ALL.len()],
    /// What it can be compared by.
    pub validators: Validators,
    /// The request fields it depends on.
    pub names: Box<[HeaderName]>,
    /// Their values in the request that fetched it.
    pub variant: Box<str>,
    /// It may be compressed.
    pub compress: bool,
    /// The number of its request among all of them; purges have numbers of the same kind.
    pub born: u64,
    /// What it can be purged by.
    pub scopes: Box<[u64]>,
    freshness: Freshness,
    /// The purges it has been judged by, and what came of it.
    judged: AtomicU64,
    verdict: AtomicU64,
    dressed: [ArcSwapOption<Dressed>; 1 + Coding::ALL.len()],
    /// Milliseconds since the start, before which no refresh is tried.
    refresh_from: AtomicU64,
    /// Codings that are being made, or cannot be.
    attempted: AtomicU32,
    hits: AtomicU32,
    /// Its body on disk turned out to be damaged.
    damaged: AtomicBool,
}

/// What a response belongs to, and from when it is.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Its number.
    pub born: u64,
    /// What it can be purged by.
    pub scopes: Box<[u64]>,
    /// Its site wants it compressed.
    pub compress: bool,
}

/// The head with the operator's changes of one configuration and one route.
struct Dressed {
    generation: u64,
    route: u64,
    head: Arc<StoredHead>,
}

/// Not judged yet; no purge has this number.
const NEVER: u64 = u64::MAX;
/// Verdicts other than the time of a soft purge.
const VALID: u64 = 0;
const HARD: u64 = u64::MAX;

impl Entry {
    /// Makes an entry of a response whose fields are ready to be stored.
    pub fn new(
        head: ResponseHead,
        body: Body,
        freshness: Freshness,
        request: &HeaderMap,
        received: SystemTime,
        origin: Origin,
    ) -> Self {
        let meta = Meta::new(
            compact(head),
            freshness,
            request,
            origin.compress,
            body.length(),
        );
        Self::assemble(meta, (body, Default::default()), received, origin)
    }

    /// Takes up an entry that was stored on disk; `None` where head and body do not belong together.
    pub fn stored(mut meta: Meta, body: Body, born: u64, scopes: Box<[u64]>) -> Option<Self> {
        let mut coded: [Option<Bytes>; Coding::ALL.len()] = Default::default();
        let whole: u64 = meta
            .lengths
            .iter()
            .try_fold(0, |sum: u64, one| sum.checked_add(*one))?;
        if whole != body.length() {
            return None;
        }
        let body = match body {
            Body::Disk(stored) => Body::Disk(stored),
            Body::Memory(mut bytes) => {
                let identity = bytes.split_to(usize::try_from(meta.lengths[0]).ok()?);
                for (coded, length) in coded.iter_mut().zip(&meta.lengths[1..]) {
                    let length = usize::try_from(*length).ok()?;
                    *coded = (length > 0).then(|| bytes.split_to(length));
                }
                Body::Memory(identity)
            }
        };
        let received = meta.freshness.received;
        if received > SystemTime::now() + AHEAD {
            // The clock was set back since: nobody knows how old it is.
            meta.freshness.lifetime = Duration::ZERO;
            meta.freshness.stale_while_revalidate = Duration::ZERO;
        }
        let origin = Origin {
            born,
            scopes,
            compress: meta.compress,
        };
        Some(Self::assemble(meta, (body, coded), received, origin))
    }

    fn assemble(
        meta: Meta,
        (body, coded): (Body, [Option<Bytes>; Coding::ALL.len()]),
        received: SystemTime,
        origin: Origin,
    ) -> Self {
        let validators = Validators::of(&meta.head.headers, received);
        Self {
            validators,
            head: meta.head,
            body,
            coded,
            names: meta.names,
            variant: meta.variant,
            compress: meta.compress,
            freshness: meta.freshness.steady(),
            born: origin.born,
            scopes: origin.scopes,
            judged: AtomicU64::new(NEVER),
            verdict: AtomicU64::new(VALID),
            dressed: Default::default(),
            refresh_from: AtomicU64::new(0),
            attempted: AtomicU32::new(0),
            hits: AtomicU32::new(0),
            damaged: AtomicBool::new(false),
        }
    }

    /// What is kept of it on disk beside its body, and the bodies behind one another.
    pub fn meta(&self) -> Meta {
        let mut lengths = [self.body.length(); 1 + Coding::ALL.len()];
        for (length, coded) in lengths[1..].iter_mut().zip(&self.coded) {
            *length = coded.as_ref().map_or(0, |coded| coded.len() as u64);
        }
        Meta {
            head: self.head.clone(),
            freshness: Freshness {
                received: clock::to_wall(self.freshness.received),
                ..self.freshness
            },
            names: self.names.clone(),
            variant: self.variant.clone(),
            compress: self.compress,
            lengths,
        }
    }

    /// The entry after a 304: its fields updated, its freshness counted anew (RFC 9111 section 4.3.4).
    pub fn refreshed(
        &self,
        received: &HeaderMap,
        request: &HeaderMap,
        requested: SystemTime,
        now: SystemTime,
        policy: &Policy,
        origin: Origin,
    ) -> Self {
        let mut head = self.head.clone();
        let mut received = received.clone();
        add_date(&mut received, now);
        update::merge(&mut head.headers, &received);
        let control = ResponseControl::of(&head.headers);
        let freshness = Freshness::of(head.status, &head.headers, &control, requested, now, policy);
        let body = self.body.clone();
        let mut refreshed = Self::new(head, body, freshness, request, now, origin);
        if refreshed.compress {
            refreshed.coded = self.coded.clone();
            refreshed.attempted = AtomicU32::new(self.attempted.load(Ordering::Relaxed));
        }
        refreshed
    }

    /// The same entry, stale from `now` on.
    pub fn outdated(&self, now: SystemTime) -> Self {
        let mut meta = self.meta();
        meta.freshness = meta.freshness.expired(now);
        self.with(meta, self.coded.clone())
    }

    /// The same entry with another body made for it.
    pub fn with_coding(&self, coding: Coding, body: Bytes) -> Self {
        let mut coded = self.coded.clone();
        coded[coding.index()] = Some(body);
        self.with(self.meta(), coded)
    }

    fn with(&self, meta: Meta, coded: [Option<Bytes>; Coding::ALL.len()]) -> Self {
        let origin = Origin {
            born: self.born,
            scopes: self.scopes.clone(),
            compress: self.compress,
        };
        let entry = Self::assemble(
            meta,
            (self.body.clone(), coded),
            self.validators.date,
            origin,
        );
        for (new, old) in [
            (&entry.hits, &self.hits),
            (&entry.attempted, &self.attempted),
        ] {
            new.store(old.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        entry
    }

    /// How long it may be used, after what has been purged. One atomic load where nothing was purged
    /// since the last use.
    pub fn freshness(&self, purges: &Purges) -> Option<Freshness> {
        let epoch = purges.epoch();
        if self.judged.load(Ordering::Acquire) != epoch {
            let verdict = match purges.verdict(self.born, &self.scopes) {
                Verdict::Valid => VALID,
                Verdict::Soft { since } => millis(since).max(1),
                Verdict::Hard => HARD,
            };
            // Purges only add up: a verdict that another thread reached meanwhile is not lowered.
            self.verdict.fetch_max(verdict, Ordering::AcqRel);
            self.judged.store(epoch, Ordering::Release);
        }
        match self.verdict.load(Ordering::Acquire) {
            _ if self.damaged.load(Ordering::Relaxed) => None,
            VALID => Some(self.freshness),
            HARD => None,
            since => Some(self.purged_softly(Duration::from_millis(since))),
        }
    }

    /// How it may be served where the upstream fails: its age, its seconds of freshness left, and on whose
    /// word.
    pub fn stands_in(&self, purges: &Purges) -> Option<(u64, i64, Allowed)> {
        let freshness = self.freshness(purges)?;
        match reuse::on_error(&freshness, clock::now(), false) {
            OnError::Serve { age, ttl, by } => Some((age, ttl, by)),
            OnError::Refuse(_) => None,
        }
    }

    /// Its body cannot be read: nobody gets it any more.
    pub fn mark_damaged(&self) {
        self.damaged.store(true, Ordering::Relaxed);
    }

    /// As it was stored, whatever has been purged.
    pub fn stated(&self) -> &Freshness {
        &self.freshness
    }

    fn purged_softly(&self, since: Duration) -> Freshness {
        let expired = self.freshness.expired(clock::from_wall(UNIX_EPOCH + since));
        let window = match self.freshness.no_stale {
            true => Duration::ZERO,
            false => SOFT_WINDOW,
        };
        Freshness {
            stale_while_revalidate: window,
            ..expired
        }
    }

    /// Bytes of memory it takes, nearly.
    pub fn weight(&self) -> usize {
        let fields: usize = self
            .head
            .headers
            .iter()
            .map(|(name, value)| 2 * (name.as_str().len() + value.len()) + 64)
            .sum();
        let coded: usize = self.coded.iter().flatten().map(Bytes::len).sum();
        OVERHEAD + fields + self.body.weight() + coded + self.variant.len() + 8 * self.scopes.len()
    }

    /// The head as clients of this site and route get it, with the body in a coding or as it is. Made
    /// once for each configuration.
    pub fn dressed(
        &self,
        site: &Site,
        route: &Arc<Route>,
        tls: bool,
        coding: Option<Coding>,
    ) -> Arc<StoredHead> {
        let slot = &self.dressed[coding.map_or(0, |coding| 1 + coding.index())];
        if let Some(ready) = &*slot.load()
            && (ready.generation, ready.route) == (site.generation, route.number)
        {
            return ready.head.clone();
        }
        let mut head = self.head.clone();
        let mut length = self.body.length();
        // Each use has an age of its own.
        head.headers.remove(header::AGE);
        response::finish(&mut head.headers, site, Some(route), tls);
        // Behind the operator's changes: caches further on tell the forms apart by what is done here.
        match coding {
            Some(coding) => {
                let body = self.coded[coding.index()].as_ref();
                length = body.map_or(0, |body| body.len() as u64);
                coding::dress(&mut head.headers, coding, length);
            }
            // The next one may get it in a coding.
            None if self.compress => coding::vary(&mut head.headers),
            None => {}
        }
        let head = Arc::new(StoredHead::new(head, length));
        slot.store(Some(Arc::new(Dressed {
            generation: site.generation,
            route: route.number,
            head: head.clone(),
        })));
        head
    }

    /// Whether a coding is to be made now: it is worth it, and nobody has tried yet.
    pub fn wants(&self, coding: Coding) -> bool {
        let bit = 1 << coding.index();
        self.compress
            && matches!(self.body, Body::Memory(_))
            && self.coded[coding.index()].is_none()
            && self.attempted.load(Ordering::Relaxed) & bit == 0
            && self.attempted.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    /// Nothing came of the coding; it may be tried again.
    pub fn not_coded(&self, coding: Coding) {
        self.attempted
            .fetch_and(!(1 << coding.index()), Ordering::Relaxed);
    }

    /// Counts a use; true at the first, second, fourth, eighth ... one.
    pub fn used(&self) -> bool {
        self.hits
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(1)
            .is_power_of_two()
    }

    /// Uses so far.
    pub fn hits(&self) -> u32 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Whether a refresh may be tried again after the last one failed.
    pub fn may_refresh(&self) -> bool {
        self.refresh_from.load(Ordering::Relaxed) <= since_start()
    }

    /// A refresh has failed: the next one waits a little.
    pub fn refresh_failed(&self) {
        let next = since_start() + REFRESH_PAUSE.as_millis() as u64;
        self.refresh_from.store(next, Ordering::Relaxed);
    }
}

/// The same head, with all its values in one piece of memory: they point into the buffers they were
/// read into, which would else live as long as the entry.
fn compact(mut head: ResponseHead) -> ResponseHead {
    let mut values = BytesMut::with_capacity(head.headers.values().map(HeaderValue::len).sum());
    head.headers
        .values()
        .for_each(|value| values.extend_from_slice(value.as_bytes()));
    let mut values = values.freeze();
    for value in head.headers.values_mut() {
        let bytes = values.split_to(value.len());
        // It was a value before, so it is one still.
        if let Ok(same) = HeaderValue::from_maybe_shared(bytes) {
            *value = same;
        }
    }
    head
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(HARD - 1)
}

/// Milliseconds since the first call.
fn since_start() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_millis() as u64
}
