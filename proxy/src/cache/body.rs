//! Where the bytes of a body are: in memory, where they are counted for as long as anyone holds
//! them, or on disk.
//!
//! One budget bounds what bodies take, whoever holds them: the memory tier, fetches on their way,
//! and clients that are slow to take what the tier has given up meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

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
    taken: Arc<AtomicU64>,
    limit: u64,
}

/// A part of the budget; given back when dropped.
#[derive(Debug)]
pub struct Room {
    taken: Arc<AtomicU64>,
    bytes: u64,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self {
            taken: Arc::default(),
            limit,
        }
    }

    /// Takes room for `bytes`; `None` where there is none left.
    pub fn take(&self, bytes: u64) -> Option<Room> {
        let room = Room {
            taken: self.taken.clone(),
            bytes,
        };
        let taken = self.taken.fetch_add(bytes, Ordering::Relaxed);
        (taken.saturating_add(bytes) <= self.limit).then_some(room)
    }

    /// Bytes taken now.
    #[cfg(test)]
    fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Room {
    /// Room that takes nothing.
    pub fn none() -> Self {
        Self {
            taken: Arc::default(),
            bytes: 0,
        }
    }

    /// Puts another part of the same budget to this one.
    pub fn join(&mut self, mut other: Self) {
        if self.bytes == 0 {
            self.taken = other.taken.clone();
        }
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Bytes whose room is given back when the last who holds them lets go.
pub fn counted(bytes: impl AsRef<[u8]> + Send + 'static, room: Room) -> Bytes {
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
        let body = counted(BytesMut::from(&b"body"[..]), room);
        let part = body.slice(1..2);
        drop(body);
        assert!(budget.take(41).is_none());
        assert_eq!(budget.taken(), 60);
        drop(part);
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
