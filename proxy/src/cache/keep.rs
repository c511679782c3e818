//! Putting responses in: into memory, and into the queue of the disk or a file of their own there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use twox_hash::XxHash3_64;

use super::body::{Body, counted};
use super::disk::{NewRecord, Spool};
use super::entry::{Entry, Origin};
use super::meta::Meta;
use super::{Cache, READY, coding, scope};

/// What a record takes beside its body, about, in bytes.
const HEAD: u64 = 2048;
/// How long a turn to stream to disk is waited for.
const STREAM_TURN: Duration = Duration::from_secs(10);

impl Cache {
    /// Waits, but not long, until the disk can take so many bytes more.
    pub async fn ready(&self, bytes: u64) {
        if let Some(disk) = self.disk() {
            disk.ready(bytes + HEAD, READY).await;
        }
    }

    /// Puts a response in, in place of the one that the same request would select.
    pub fn insert(&self, key: &str, lane: u64, entry: Arc<Entry>) {
        self.write(key, lane, &entry);
        self.memory.insert(key, entry);
        // Parts of what it was before must not come back when this one has gone.
        self.parts.invalidate(key);
    }

    /// Puts a new head in for a body that stays where it is.
    pub fn refresh(self: &Arc<Self>, key: &str, lane: u64, entry: Arc<Entry>) {
        if let (Body::Disk(stored), Some(_)) = (&entry.body, self.disk()) {
            let (cache, stored) = (self.clone(), stored.clone());
            let record = record(key, lane, &entry, Bytes::new());
            // Were it lost, the old head is found after a restart, which is only older.
            tokio::spawn(async move {
                if let Some(disk) = cache.disk()
                    && let Err(error) = stored.update(disk, record).await
                {
                    tracing::debug!(%error, "a refreshed head was not written");
                }
            });
        } else {
            self.write(key, lane, &entry);
        }
        self.memory.insert(key, entry);
    }

    fn write(&self, key: &str, lane: u64, entry: &Entry) {
        let (Some(disk), Body::Memory(body)) = (self.disk(), &entry.body) else {
            return;
        };
        let coded: usize = entry.coded.iter().flatten().map(Bytes::len).sum();
        let body = if coded == 0 {
            body.clone()
        } else {
            let mut all = Vec::with_capacity(body.len() + coded);
            all.extend_from_slice(body);
            entry
                .coded
                .iter()
                .flatten()
                .for_each(|coded| all.extend_from_slice(coded));
            Bytes::from(all)
        };
        // Where the disk does not take it, it is in memory all the same; the tier counts it.
        disk.write(record(key, lane, entry, body));
    }

    /// A place on disk for a large body, and its turn among them; `None` where it cannot be had.
    pub async fn spool(
        &self,
        lane: u64,
        length: Option<u64>,
    ) -> Option<(Spool, OwnedSemaphorePermit)> {
        let disk = self.disk()?;
        let turn = self.streams.clone().acquire_owned();
        let turn = timeout(STREAM_TURN, turn).await.ok()?.ok()?;
        Some((disk.spool(lane, length).await?, turn))
    }

    /// Puts a response in whose body is on disk already.
    pub async fn commit(
        &self,
        key: &str,
        lane: u64,
        spool: Spool,
        meta: Meta,
        origin: Origin,
    ) -> std::io::Result<()> {
        let record = NewRecord {
            key: key.into(),
            variant: variant_hash(&meta.variant),
            born: origin.born,
            lane,
            scopes: shared_scopes(key, &origin.scopes),
            meta: meta.encode(),
            body: Bytes::new(),
        };
        let body = Body::Disk(spool.commit(record).await?);
        if let Some(entry) = Entry::stored(meta, body, origin.born, origin.scopes) {
            self.memory.insert(key, Arc::new(entry));
        }
        Ok(())
    }

    /// Makes a coding of a body that a reader would have liked, for the next one.
    pub fn code(
        self: &Arc<Self>,
        key: &str,
        lane: u64,
        entry: &Arc<Entry>,
        coding: coding::Coding,
    ) {
        let Body::Memory(body) = &entry.body else {
            return;
        };
        let (Ok(turn), Some(work), Some(room)) = (
            self.coders.clone().try_acquire_owned(),
            self.budget.take(coding::memory(body.len())),
            self.budget.take(body.len() as u64),
        ) else {
            return entry.not_coded(coding);
        };
        let (cache, key, entry, body) = (
            self.clone(),
            Box::<str>::from(key),
            entry.clone(),
            body.clone(),
        );
        tokio::task::spawn_blocking(move || {
            let coded = coding::encode(coding, &body);
            drop((turn, work));
            let Some(coded) = coded else { return };
            let with = Arc::new(entry.with_coding(coding, counted(coded, room)));
            if cache.memory.replace(&key, &entry, with.clone()) {
                cache.write(&key, lane, &with);
            }
        });
    }
}

/// The number that the disk tier tells variants of a URI by.
pub(super) fn variant_hash(variant: &str) -> u64 {
    XxHash3_64::oneshot(variant.as_bytes())
}

/// The scopes that pages share. The disk tier keeps each list of them once, however many pages have it.
fn shared_scopes(key: &str, scopes: &[u64]) -> Box<[u64]> {
    let own = scope::of_page(key);
    let shared = scopes.iter().filter(|scope| !own.contains(&Some(**scope)));
    shared.copied().collect()
}

fn record(key: &str, lane: u64, entry: &Entry, body: Bytes) -> NewRecord {
    NewRecord {
        key: key.into(),
        variant: variant_hash(&entry.variant),
        born: entry.born,
        lane,
        scopes: shared_scopes(key, &entry.scopes),
        meta: entry.meta().encode(),
        body,
    }
}
