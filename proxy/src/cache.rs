//! The cache: what it means stands in pure functions, what it holds in `store`, and what is on its
//! way in `flight`.
//!
//! It lies in front of Pingora's proxy and not inside it. Pingora's cache state machine lacks or
//! bends a dozen of RFC 9111's rules (upstream `Age`, heuristics, what a 304 changes, invalidation,
//! request directives, `Cache-Status`), copies a stored head several times for each hit, and can let
//! nobody but the leading client own a fetch. Here a hit never reaches Pingora, and a fetch is an
//! exchange of its own (`fill`), so a client that goes away takes nothing from the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderMap;
use moka::sync::Cache as Moka;
use sovereign_config::model::CacheBounds;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use entry::Entry;
pub use fill::{Fill, Filled};
pub use flight::{Flight, Flights, Joined, LiveHead, Outcome, Reader};
pub use serve::{comes_in_pieces, serve, stream_head};

// What a message means, in the order in which a request meets it.
pub mod conditional;
pub mod control;
pub mod date;
pub mod freshness;
pub mod key;
pub mod range;
pub mod reuse;
pub mod status;
pub mod storable;
pub mod update;
pub mod vary;
// What is held, and what is on its way.
mod entry;
mod fill;
mod flight;
mod serve;
mod store;

/// A response that turned out not to be storable: requests for it go their own way for so long,
/// instead of waiting for each other (collapsed forwarding would serve them one after another).
const UNSHARED_FOR: Duration = Duration::from_secs(10);
const UNSHARED_KEYS: u64 = 10_000;
/// Fetches at once. They outlive the clients that asked for them, so something else must bound them.
const FETCHES: usize = 4096;
/// The part of the memory that bodies on their way may take; beyond it they are passed on, not stored.
const ON_THEIR_WAY: u64 = 4;

/// All that is stored, for all sites.
pub struct Cache {
    store: store::Store,
    flights: Flights,
    unshared: Moka<Box<str>, ()>,
    bounds: CacheBounds,
    filling: Arc<AtomicU64>,
    places: Arc<Semaphore>,
}

/// What a lookup found.
pub enum Lookup {
    /// A response that the request selects.
    Found(Arc<Entry>),
    /// Responses for the URI, but none that the request selects.
    VaryMiss(Box<[http::HeaderName]>),
    /// Nothing.
    UriMiss,
}

impl Cache {
    /// An empty cache within these bounds.
    pub fn new(bounds: &CacheBounds) -> Self {
        Self {
            store: store::Store::new(bounds.memory),
            flights: Flights::default(),
            unshared: Moka::builder()
                .max_capacity(UNSHARED_KEYS)
                .time_to_live(UNSHARED_FOR)
                .build(),
            bounds: bounds.clone(),
            filling: Arc::default(),
            places: Arc::new(Semaphore::new(FETCHES)),
        }
    }

    /// Looks a request up by the text of its key.
    pub fn lookup(&self, key: &str, request: &HeaderMap) -> Lookup {
        self.store.lookup(key, request)
    }

    /// Puts a response in, in place of the one that the same request would select.
    pub fn insert(&self, key: &str, entry: Arc<Entry>) {
        self.store.insert(key, entry);
    }

    /// Removes all that is stored for a key.
    pub fn remove(&self, key: &str) {
        self.store.remove(key);
    }

    /// Removes all that is stored for a key, and sees to it that what is on its way is not stored.
    pub fn invalidate(&self, key: &str) {
        self.flights.outdate(key);
        self.store.remove(key);
    }

    /// Fetches under way.
    pub fn flights(&self) -> &Flights {
        &self.flights
    }

    /// Whether a response for the key was found unfit for sharing just now.
    pub fn is_unshared(&self, key: &str) -> bool {
        self.unshared.contains_key(key)
    }

    /// Remembers that.
    pub fn mark_unshared(&self, key: &str) {
        self.unshared.insert(key.into(), ());
    }

    /// The largest body that is stored.
    pub fn max_object(&self) -> u64 {
        self.bounds.max_object.min(self.bounds.memory)
    }

    /// Takes a place for a fetch; `None` where all are taken.
    pub fn take_place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// Takes room for `bytes` of a body on its way; `None` where there is none left.
    pub fn take_room(&self, bytes: u64) -> Option<Room> {
        let taken = self.filling.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let room = Room {
            filling: self.filling.clone(),
            bytes,
        };
        (taken <= self.bounds.memory / ON_THEIR_WAY).then_some(room)
    }

    /// Bytes stored, their bound, and the number of URIs.
    pub fn usage(&self) -> (u64, u64, u64) {
        let (bytes, objects) = self.store.usage();
        (bytes, self.bounds.memory, objects)
    }
}

/// Room for a body on its way; given back when dropped.
pub struct Room {
    filling: Arc<AtomicU64>,
    bytes: u64,
}

impl Room {
    /// No room: for what has been counted already.
    fn none() -> Self {
        Self {
            filling: Arc::default(),
            bytes: 0,
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.filling.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The names of the cookies of a request that mark one visitor's session.
pub fn session_cookie<'a>(
    headers: &HeaderMap,
    names: &'a std::collections::BTreeSet<String>,
) -> Option<&'a str> {
    if names.is_empty() {
        return None;
    }
    headers
        .get_all(http::header::COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
        .find_map(|crumb| {
            let name = crumb.split(|byte| *byte == b'=').next()?.trim_ascii();
            let name = str::from_utf8(name).ok()?;
            names.get(name).map(String::as_str)
        })
}
