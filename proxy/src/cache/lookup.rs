//! Looking a request up in both tiers, and bringing into memory what lies on disk only.

use std::sync::Arc;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName};

use super::body::{Body, counted};
use super::disk::{Disk, Place, Record, RecordBody, StoredBody};
use super::entry::Entry;
use super::meta::Meta;
use super::purge::Verdict;
use super::{Cache, Lookup, READY, scope, serve, vary};

/// What is read of a body before its head is sent, in bytes.
const FIRST_PIECE: u64 = serve::PIECE;
/// The largest body that is read once before it is served for the first time after a start.
const LARGEST_READ_FIRST: u64 = 32 << 20;

/// What a record on disk is to a request.
enum Recognised {
    /// Nothing that can be used.
    Nothing,
    /// A response that depends on these fields, for other requests.
    Other(Box<[HeaderName]>),
    /// What it selects.
    Selected(Box<Selected>),
}

struct Selected {
    meta: Meta,
    born: u64,
    scopes: Box<[u64]>,
    body: RecordBody,
}

impl Cache {
    /// Looks a request up in memory, by the text of its key.
    pub fn lookup(&self, key: &str, request: &HeaderMap) -> Lookup {
        let found = self.memory.lookup(key, request, &self.purges);
        match (&found, self.disk()) {
            (Lookup::UriMiss, Some(disk)) if disk.has(key) => Lookup::OnDisk,
            (Lookup::VaryMiss(_), Some(disk))
                if disk.places(key).len() > self.memory.variants(key) =>
            {
                Lookup::OnDisk
            }
            _ => found,
        }
    }

    /// Looks a request up on disk, as far as the page cache can answer; `None` where the disk must be
    /// waited for. Never [`Lookup::OnDisk`].
    pub fn load_now(&self, key: &str, request: &HeaderMap) -> Option<Lookup> {
        let disk = self.disk()?;
        let mut miss = Lookup::UriMiss;
        for place in disk.places(key) {
            let Some(record) = disk.try_read(place, key).ok()? else {
                continue;
            };
            match self.recognise(disk, key, place, record, request) {
                Recognised::Nothing => {}
                Recognised::Other(names) => miss = Lookup::VaryMiss(names),
                Recognised::Selected(found) => {
                    let RecordBody::Whole(body) = found.body.clone() else {
                        return None;
                    };
                    let room = self.budget.take(body.len() as u64)?;
                    let body = Body::Memory(counted(body, room));
                    return Some(self.take_up(disk, key, place, *found, body));
                }
            }
        }
        Some(miss)
    }

    /// Looks a request up on disk. Never [`Lookup::OnDisk`].
    pub async fn load(&self, key: &str, request: &HeaderMap) -> Lookup {
        let Some(disk) = self.disk() else {
            return Lookup::UriMiss;
        };
        let mut miss = Lookup::UriMiss;
        for place in disk.places(key) {
            let Some(record) = disk.read(place, key).await else {
                continue;
            };
            match self.recognise(disk, key, place, record, request) {
                Recognised::Nothing => {}
                Recognised::Other(names) => miss = Lookup::VaryMiss(names),
                Recognised::Selected(found) => {
                    // Readers that hold too much must not cost the others more: then it is a miss.
                    let Some(body) = self.body_of(&found).await else {
                        return Lookup::UriMiss;
                    };
                    return self.take_up(disk, key, place, *found, body);
                }
            }
        }
        miss
    }

    /// Whether what was read from disk is what the request selects.
    fn recognise(
        &self,
        disk: &Disk,
        key: &str,
        place: Place,
        record: Record,
        request: &HeaderMap,
    ) -> Recognised {
        let own = scope::of_page(key).into_iter().flatten();
        let scopes: Box<[u64]> = record.scopes.iter().copied().chain(own).collect();
        let verdict = self.purges.verdict(record.born, &scopes);
        let meta = Meta::decode(record.meta).filter(|_| verdict != Verdict::Hard);
        let Some(meta) = meta else {
            disk.forget_place(place, key);
            return Recognised::Nothing;
        };
        if !vary::selects(&meta.names, &meta.variant, request) {
            return Recognised::Other(meta.names);
        }
        Recognised::Selected(Box::new(Selected {
            meta,
            born: record.born,
            scopes,
            body: record.body,
        }))
    }

    /// The body of a record: in memory where it is small enough to stay there.
    async fn body_of(&self, found: &Selected) -> Option<Body> {
        let stored = match &found.body {
            RecordBody::Whole(bytes) => {
                let room = self.budget.take_within(READY, bytes.len() as u64).await?;
                return Some(Body::Memory(counted(bytes.clone(), room)));
            }
            RecordBody::Large(stored) => stored,
        };
        if found.meta.lengths[0] > self.max_in_memory() {
            // Better a miss now than an answer that breaks off.
            let sound = stored.len() > LARGEST_READ_FIRST || is_sound(stored).await;
            return sound.then(|| Body::Disk(stored.clone()));
        }
        let room = self.budget.take_within(READY, stored.len()).await?;
        let mut body = BytesMut::with_capacity(usize::try_from(stored.len()).ok()?);
        while (body.len() as u64) < stored.len() {
            let piece = stored.read(body.len() as u64..stored.len()).await.ok()?;
            if piece.is_empty() {
                return None;
            }
            body.extend_from_slice(&piece);
        }
        Some(Body::Memory(counted(body, room)))
    }

    /// Brings what was read from disk into memory.
    fn take_up(&self, disk: &Disk, key: &str, place: Place, found: Selected, body: Body) -> Lookup {
        let Some(entry) = Entry::stored(found.meta, body, found.born, found.scopes) else {
            disk.forget_place(place, key);
            return Lookup::UriMiss;
        };
        let entry = self.memory.insert(key, Arc::new(entry));
        match entry.freshness(&self.purges) {
            Some(freshness) => Lookup::Found(entry, freshness),
            None => Lookup::UriMiss,
        }
    }
}

/// Whether the beginning of a body can be read: better a miss than an answer that breaks off.
pub async fn begins_well(entry: &Entry) -> bool {
    let Body::Disk(stored) = &entry.body else {
        return true;
    };
    let begins = stored.read(0..stored.len().min(FIRST_PIECE)).await;
    let well = begins.is_ok_and(|piece| !piece.is_empty() || stored.is_empty());
    if !well {
        entry.mark_damaged();
    }
    well
}

/// Reads a body to its end, to see that it is what was written.
async fn is_sound(stored: &StoredBody) -> bool {
    let mut at = 0;
    while at < stored.len() {
        match stored.read(at..stored.len()).await {
            Ok(piece) if !piece.is_empty() => at += piece.len() as u64,
            _ => return false,
        }
    }
    true
}
