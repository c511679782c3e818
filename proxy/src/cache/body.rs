//! Where the bytes of a body are: in memory, where they are counted for as long as anyone holds
//! them, or on disk.
//!
//! One budget bounds what bodies take, whoever holds them: the memory tier, fetches on their way,
//! and clients that are slow to take what the tier has given up meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::disk::StoredBody;

/// The body of a stored response.
#[derive(Clone)]
pub enum Body {
    /// In memory.
    Memory(Bytes),
    /// On disk only: too large for the memory tier.
    Disk(StoredBody),
}

impl Body {
    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Disk(stored) => stored.len(),
        }
    }

    /// Bytes of memory it takes.
    pub fn weight(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::Disk(_) => 0,
        }
    }
}

/// The memory that bodies may take together.
#[derive(Debug)]
pub struct Budget {
    books: Arc<Books>,
    limit: u64,
}

#[derive(Debug, Default)]
struct Books {
    taken: AtomicU64,
    given_back: Notify,
}

/// A part of the budget; given back when dropped.
#[derive(Debug)]
pub struct Room {
    books: Arc<Books>,
    bytes: u64,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self {
            books: Arc::default(),
            limit,
        }
    }

    /// Takes room for `bytes`; `None` where there is none left.
    pub fn take(&self, bytes: u64) -> Option<Room> {
        let more = |taken: u64| taken.checked_add(bytes).filter(|all| *all <= self.limit);
        let taken = &self.books.taken;
        let fits = taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        fits.is_ok().then(|| Room {
            books: self.books.clone(),
            bytes,
        })
    }

    /// The same, waited for where there is none left; at most `patience`.
    pub async fn take_within(&self, patience: Duration, bytes: u64) -> Option<Room> {
        let waiting = async {
            loop {
                // Before the look, so that what is given back after it is noticed.
                let given_back = self.books.given_back.notified();
                if let Some(room) = self.take(bytes) {
                    return room;
                }
                given_back.await;
            }
        };
        timeout(patience, waiting).await.ok()
    }

    /// Bytes taken now.
    #[cfg(test)]
    pub fn taken(&self) -> u64 {
        self.books.taken.load(Ordering::Relaxed)
    }
}

impl Room {
    /// Room that takes nothing.
    pub fn none() -> Self {
        Self {
            books: Arc::default(),
            bytes: 0,
        }
    }

    /// Puts another part of the same budget to this one.
    pub fn join(&mut self, mut other: Self) {
        if self.bytes == 0 {
            self.books = other.books.clone();
        }
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Keeps no more than `bytes` of it; the rest is given back.
    fn keep(&mut self, bytes: u64) {
        let rest = self.bytes.saturating_sub(bytes);
        if rest > 0 {
            self.bytes -= rest;
            self.books.taken.fetch_sub(rest, Ordering::Relaxed);
            self.books.given_back.notify_waiters();
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.keep(0);
    }
}

/// Bytes whose room is given back when the last who holds them lets go; what they do not need of it, at once:
/// for a body of unknown length more was taken than it has turned out to need.
pub fn counted(bytes: impl AsRef<[u8]> + Send + 'static, mut room: Room) -> Bytes {
    room.keep(bytes.as_ref().len() as u64);
    Bytes::from_owner(Held { bytes, _room: room })
}

struct Held<T> {
    bytes: T,
    _room: Room,
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for Held<T> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;

    #[test]
    fn room_is_counted_until_the_last_reader_lets_go() {
        let budget = Budget::new(100);
        let Some(room) = budget.take(60) else {
            panic!("there is room")
        };
        let body = counted(BytesMut::zeroed(60), room);
        let part = body.slice(1..2);
        drop(body);
        assert!(budget.take(41).is_none());
        assert_eq!(budget.taken(), 60);
        drop(part);
        assert_eq!(budget.taken(), 0);
    }

    #[tokio::test]
    async fn room_that_a_body_does_not_need_is_given_back_at_once() {
        let budget = Budget::new(100);
        let Some(room) = budget.take(90) else {
            panic!("there is room")
        };
        let keep = async { counted(BytesMut::zeroed(30), room) };
        let waiting = budget.take_within(Duration::from_secs(10), 70);
        let (taken, body) = tokio::join!(waiting, keep);
        assert_eq!(taken.map(|room| room.bytes), Some(70));
        assert_eq!(budget.taken(), 30);
        drop(body);
        assert_eq!(budget.taken(), 0);
    }

    #[tokio::test]
    async fn room_that_is_given_back_is_taken_by_who_waits_for_it() {
        let budget = Budget::new(100);
        let room = budget.take(60);
        assert!(
            budget
                .take_within(Duration::from_millis(1), 41)
                .await
                .is_none()
        );
        let give_back = async { drop(room) };
        let waiting = budget.take_within(Duration::from_secs(600), 41);
        let (taken, ()) = tokio::join!(waiting, give_back);
        assert_eq!(taken.map(|room| room.bytes), Some(41));
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn rooms_join() {
        let budget = Budget::new(100);
        let mut all = Room::none();
        for _ in 0..4 {
            all.join(budget.take(25).unwrap_or_else(Room::none));
        }
        assert_eq!(budget.taken(), 100);
        assert!(budget.take(1).is_none());
        drop(all);
        assert_eq!(budget.taken(), 0);
    }
}
