//! One stored response, with everything about it that is worked out once and not at each use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::conditional::Validators;
use super::control::ResponseControl;
use super::freshness::{Freshness, Policy};
use super::storable::add_date;
use super::update;
use super::vary::{Vary, variant_key};
use crate::downstream::{ResponseHead, StoredHead};
use crate::response;
use crate::route::{Route, Site};

/// What an entry costs beside its body and fields.
const OVERHEAD: usize = 512;
/// After a failed refresh, the next one waits for so long.
const REFRESH_PAUSE: Duration = Duration::from_secs(1);

/// A stored response. Never changed; a refresh makes a new one around the same body.
pub struct Entry {
    /// Status and fields as stored.
    pub head: ResponseHead,
    /// The whole body.
    pub body: Bytes,
    /// How long it may be used.
    pub freshness: Freshness,
    /// What it can be compared by.
    pub validators: Validators,
    /// The request fields it depends on.
    pub names: Box<[HeaderName]>,
    /// Their values in the request that fetched it.
    pub variant: Box<str>,
    dressed: ArcSwapOption<Dressed>,
    /// Milliseconds since the start, before which no refresh is tried.
    refresh_from: AtomicU64,
}

/// The head with the operator's changes of one configuration and one route.
struct Dressed {
    generation: u64,
    route: u64,
    head: Arc<StoredHead>,
}

impl Entry {
    /// Makes an entry of a response whose fields are ready to be stored.
    pub fn new(
        head: ResponseHead,
        body: Bytes,
        freshness: Freshness,
        request: &HeaderMap,
        received: SystemTime,
    ) -> Self {
        let head = compact(head);
        let names = match Vary::of(&head.headers) {
            Vary::By(names) => names,
            // Such a response is not storable in the first place.
            Vary::Star => Box::default(),
        };
        Self {
            validators: Validators::of(&head.headers, received),
            variant: variant_key(&names, request),
            names,
            head,
            body,
            freshness,
            dressed: ArcSwapOption::empty(),
            refresh_from: AtomicU64::new(0),
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
    ) -> Self {
        let mut head = self.head.clone();
        let mut received = received.clone();
        add_date(&mut received, now);
        update::merge(&mut head.headers, &received);
        let control = ResponseControl::of(&head.headers);
        let freshness = Freshness::of(head.status, &head.headers, &control, requested, now, policy);
        Self::new(head, self.body.clone(), freshness, request, now)
    }

    /// Bytes of memory it takes, nearly.
    pub fn weight(&self) -> usize {
        let fields: usize = self
            .head
            .headers
            .iter()
            .map(|(name, value)| 2 * (name.as_str().len() + value.len()) + 64)
            .sum();
        OVERHEAD + fields + self.body.len() + self.variant.len()
    }

    /// The head as clients of this site and route get it. Made once for each configuration.
    pub fn dressed(&self, site: &Site, route: &Arc<Route>, tls: bool) -> Arc<StoredHead> {
        if let Some(ready) = &*self.dressed.load()
            && (ready.generation, ready.route) == (site.generation, route.number)
        {
            return ready.head.clone();
        }
        let mut head = self.head.clone();
        // Each use has an age of its own.
        head.headers.remove(header::AGE);
        response::finish(&mut head.headers, site, Some(route), tls);
        let head = Arc::new(StoredHead::new(head, self.body.len() as u64));
        self.dressed.store(Some(Arc::new(Dressed {
            generation: site.generation,
            route: route.number,
            head: head.clone(),
        })));
        head
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

/// Milliseconds since the first call.
fn since_start() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_millis() as u64
}
