//! Where each record lies: 32 bytes a record, in 64 tables that are locked apart.
//!
//! Keys are not held here, only their hashes; who reads a record compares its key. Records with the
//! same list of scopes share one group, so that a scope's records can be counted without a list
//! for each record.

use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashTable;
use parking_lot::Mutex;

use groups::{GROUP_BITS, Groups, NO_SCOPES};

// The lists of scopes that records share.
mod groups;

/// Tables, each behind its own lock.
const SHARDS: usize = 64;
/// Records of one key.
const VARIANTS: usize = 32;
/// What the hits of a record are counted to.
const MOST_HITS: u64 = 3;

const OFFSET_BITS: u32 = 22;
const LENGTH_BITS: u32 = 15;
const HIT_BITS: u32 = 2;
const UNIT: u32 = super::format::ALIGN as u32;

/// Where a record's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    /// The low half of the file's number.
    pub file: u32,
    /// Where it begins: in a segment from the file's beginning, in an object from its first record.
    /// A multiple of 16, less than 64 MiB.
    pub offset: u32,
    /// How many bytes to read first, less than 512 KiB.
    pub length: u32,
}

impl At {
    /// Whether the index can hold it.
    pub fn fits(&self) -> bool {
        self.offset < UNIT << OFFSET_BITS && self.length < UNIT << LENGTH_BITS
    }
}

/// One record that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// The hash of its key.
    pub hash: u64,
    /// When it was made.
    pub born: u64,
    /// Where it is.
    pub at: At,
    /// Uses since it was written or moved, at most three.
    pub hits: u8,
}

/// A record to be put in.
pub(super) struct Arrival {
    /// The hash of its key.
    pub hash: u64,
    /// Which variant.
    pub variant: u64,
    /// When it was made.
    pub born: u64,
    /// Where it is.
    pub at: At,
    /// Its group, held once for it.
    pub group: u32,
}

/// What became of a record that was put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// It is there, in place of this one.
    Stored(Option<Found>),
    /// A newer one is.
    Older,
}

/// All records.
pub(super) struct Index {
    shards: Box<[Mutex<HashTable<Slot>>]>,
    groups: Mutex<Groups>,
    records: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u64,
    born: u64,
    variant: u32,
    file: u32,
    /// From the lowest bit: offset, length, hits, group.
    packed: u64,
}

impl Index {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(HashTable::new())).collect(),
            groups: Mutex::new(Groups::new()),
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// How many records there are.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Bytes of memory that it takes.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed) + self.groups.lock().bytes()
    }

    /// Whether `limit` bytes will not hold many more records.
    pub fn is_full(&self, limit: u64) -> bool {
        // Tables double in size. Each may grow for as long as its next size still fits.
        let shard = limit.saturating_sub(self.groups.lock().bytes()) / SHARDS as u64;
        // A byte more for each is left out of account: limits are powers of two, as tables are.
        let buckets = shard / size_of::<Slot>() as u64;
        let buckets = match buckets {
            0 => 0,
            _ => 1 << buckets.ilog2(),
        };
        // They are filled to 7 of 8, and not evenly: by four standard deviations at most.
        let most: u64 = buckets / 8 * 7;
        let records = most.saturating_sub(4 * most.isqrt());
        self.records() > SHARDS as u64 * records
    }

    /// Whether there is a record of a key with this hash.
    pub fn has(&self, hash: u64) -> bool {
        self.shard(hash)
            .lock()
            .find(hash, |slot| slot.hash == hash)
            .is_some()
    }

    /// The records of a hash, newest first.
    pub fn of_key(&self, hash: u64) -> Vec<Found> {
        let mut found: Vec<_> = {
            let shard = self.shard(hash).lock();
            let slots = shard.iter_hash(hash).filter(|slot| slot.hash == hash);
            slots.map(Slot::found).collect()
        };
        found.sort_unstable_by_key(|found| {
            std::cmp::Reverse((found.born, found.at.file, found.at.offset))
        });
        found
    }

    /// Puts a record in, unless there is a newer one. Its group is given back where it is not put in.
    pub fn put(&self, new: &Arrival) -> Put {
        let slot = Slot::new(new);
        let mut shard = self.shard(new.hash).lock();
        let known = shard.find_mut(new.hash, Slot::of(new.hash, new.variant));
        let gone = match known {
            Some(known) if known.age() > slot.age() => {
                drop(shard);
                self.release(new.group, 1);
                return Put::Older;
            }
            Some(known) => Some(std::mem::replace(known, slot)),
            None => self.insert(&mut shard, slot),
        };
        drop(shard);
        if let Some(slot) = gone {
            self.release(slot.group(), 1);
        }
        Put::Stored(gone.as_ref().map(Slot::found))
    }

    /// Puts a further record of its key in; gives the oldest, where there are too many.
    fn insert(&self, shard: &mut HashTable<Slot>, slot: Slot) -> Option<Slot> {
        let before = shard.allocation_size();
        let same_key = shard.iter_hash(slot.hash);
        let full = same_key.filter(|other| other.hash == slot.hash).count() >= VARIANTS;
        let gone = full.then(|| take_oldest(shard, slot.hash)).flatten();
        make_room(shard);
        shard.insert_unique(slot.hash, slot, |slot| slot.hash);
        let grown = shard.allocation_size().saturating_sub(before);
        self.bytes.fetch_add(grown as u64, Ordering::Relaxed);
        self.records
            .fetch_add(u64::from(gone.is_none()), Ordering::Relaxed);
        gone
    }

    /// The same record is elsewhere now; false where it is not known to be at `from`.
    pub fn relocate(&self, hash: u64, from: At, to: At, hits: u8) -> bool {
        let mut shard = self.shard(hash).lock();
        let Some(slot) = shard.find_mut(hash, |slot| slot.is_at(hash, from)) else {
            return false;
        };
        slot.file = to.file;
        slot.packed = pack(to, u64::from(hits), slot.group());
        true
    }

    /// A later record stands for the one at `from`; false (and the new group given back) where that is gone.
    pub fn renew(&self, from: At, new: &Arrival) -> bool {
        let old = {
            let mut shard = self.shard(new.hash).lock();
            let same = Slot::of(new.hash, new.variant);
            let slot = shard.find_mut(new.hash, |slot| slot.is_at(new.hash, from) && same(slot));
            slot.map(|slot| {
                let hits = slot.hits();
                let old = std::mem::replace(slot, Slot::new(new));
                slot.packed = pack(new.at, hits, new.group);
                old
            })
        };
        self.release(old.map_or(new.group, |old| old.group()), 1);
        old.is_some()
    }

    /// Takes a record out; false where it was not there.
    pub fn remove(&self, hash: u64, at: At) -> bool {
        let removed = {
            let mut shard = self.shard(hash).lock();
            let found = shard.find_entry(hash, |slot| slot.is_at(hash, at));
            found.ok().map(|entry| entry.remove().0)
        };
        self.removed(removed.as_slice());
        removed.is_some()
    }

    /// Takes out all records of a hash.
    pub fn remove_key(&self, hash: u64) -> Vec<Found> {
        let mut removed = Vec::new();
        {
            let mut shard = self.shard(hash).lock();
            while let Ok(entry) = shard.find_entry(hash, |slot| slot.hash == hash) {
                removed.push(entry.remove().0);
            }
        }
        self.removed(&removed);
        removed.iter().map(Slot::found).collect()
    }

    /// Takes out all records of files for which `gone` holds.
    pub fn remove_files(&self, gone: impl Fn(u32) -> bool) {
        for shard in &self.shards {
            let removed: Vec<_> = shard.lock().extract_if(|slot| gone(slot.file)).collect();
            self.removed(&removed);
        }
    }

    /// Takes out the records that were made before the number that `before` gives for their scopes.
    pub fn sweep(&self, before: impl Fn(&[u64]) -> u64) {
        let groups = self.groups.lock().outdated(before);
        if groups.is_empty() {
            return;
        }
        let born = |group: u32| groups.get(&group).copied().unwrap_or_default();
        for shard in &self.shards {
            let swept = |slot: &mut Slot| slot.born < born(slot.group());
            let removed: Vec<_> = shard.lock().extract_if(swept).collect();
            self.removed(&removed);
        }
    }

    /// The records of one file.
    pub fn of_file(&self, file: u32) -> Vec<Found> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let there = shard.iter().filter(|slot| slot.file == file);
            found.extend(there.map(Slot::found));
        }
        found
    }

    /// Whether the record of this hash is known to be here.
    pub fn is_at(&self, hash: u64, at: At) -> bool {
        self.shard(hash)
            .lock()
            .find(hash, |slot| slot.is_at(hash, at))
            .is_some()
    }

    /// Counts a use of a variant.
    pub fn hit(&self, hash: u64, variant: u64) {
        let mut shard = self.shard(hash).lock();
        if let Some(slot) = shard.find_mut(hash, Slot::of(hash, variant)) {
            slot.hit();
        }
    }

    /// Counts a use of the record at a place.
    pub fn hit_at(&self, hash: u64, at: At) {
        let mut shard = self.shard(hash).lock();
        if let Some(slot) = shard.find_mut(hash, |slot| slot.is_at(hash, at)) {
            slot.hit();
        }
    }

    /// Holds the group of a list of scopes for `records` records.
    pub fn group(&self, scopes: &[u64], records: u64) -> u32 {
        self.groups.lock().hold(scopes, records)
    }

    /// So many records of a group are gone.
    pub fn release(&self, group: u32, records: u64) {
        if group != NO_SCOPES {
            self.groups.lock().release(group, records);
        }
    }

    /// How many records have a scope.
    pub fn count(&self, scope: u64) -> u64 {
        self.groups.lock().count(scope)
    }

    fn removed(&self, slots: &[Slot]) {
        self.records
            .fetch_sub(slots.len() as u64, Ordering::Relaxed);
        for slot in slots {
            self.release(slot.group(), 1);
        }
    }

    fn shard(&self, hash: u64) -> &Mutex<HashTable<Slot>> {
        // The tables themselves go by the highest and the lowest bits.
        &self.shards[(hash >> 40) as usize % SHARDS]
    }
}

impl Slot {
    fn new(new: &Arrival) -> Self {
        Self {
            hash: new.hash,
            born: new.born,
            variant: new.variant as u32,
            file: new.at.file,
            packed: pack(new.at, 0, new.group),
        }
    }

    /// Half of the variant is enough to tell the few of one key apart.
    fn of(hash: u64, variant: u64) -> impl Fn(&Self) -> bool {
        move |slot| slot.hash == hash && slot.variant == variant as u32
    }

    fn found(&self) -> Found {
        Found {
            hash: self.hash,
            born: self.born,
            at: self.at(),
            hits: self.hits() as u8,
        }
    }

    fn at(&self) -> At {
        At {
            file: self.file,
            offset: self.bits(0, OFFSET_BITS) as u32 * UNIT,
            length: self.bits(OFFSET_BITS, LENGTH_BITS) as u32 * UNIT,
        }
    }

    fn is_at(&self, hash: u64, at: At) -> bool {
        self.hash == hash && self.at() == at
    }

    fn hits(&self) -> u64 {
        self.bits(OFFSET_BITS + LENGTH_BITS, HIT_BITS)
    }

    fn group(&self) -> u32 {
        self.bits(OFFSET_BITS + LENGTH_BITS + HIT_BITS, GROUP_BITS) as u32
    }

    fn hit(&mut self) {
        if self.hits() < MOST_HITS {
            self.packed += 1 << (OFFSET_BITS + LENGTH_BITS);
        }
    }

    /// Which of two records of a variant is the later one.
    fn age(&self) -> (u64, u32, u32) {
        (self.born, self.file, self.at().offset)
    }

    fn bits(&self, from: u32, bits: u32) -> u64 {
        self.packed >> from & ((1 << bits) - 1)
    }
}

fn pack(at: At, hits: u64, group: u32) -> u64 {
    u64::from(at.offset / UNIT)
        | u64::from(at.length / UNIT) << OFFSET_BITS
        | hits << (OFFSET_BITS + LENGTH_BITS)
        | u64::from(group) << (OFFSET_BITS + LENGTH_BITS + HIT_BITS)
}

/// Lets a full table take one more. A table that has had many records taken out is put in order instead of
/// growing, which it would do by itself.
fn make_room(shard: &mut HashTable<Slot>) {
    if shard.len() < shard.capacity() {
        return;
    }
    let most = shard.num_buckets() / 8 * 7;
    let capacity = match shard.len() < most / 16 * 15 {
        true => most,
        false => shard.len() + 1,
    };
    let mut roomy = HashTable::with_capacity(capacity);
    for slot in shard.drain() {
        roomy.insert_unique(slot.hash, slot, |slot: &Slot| slot.hash);
    }
    *shard = roomy;
}

fn take_oldest(shard: &mut HashTable<Slot>, hash: u64) -> Option<Slot> {
    let slots = shard.iter_hash(hash).filter(|slot| slot.hash == hash);
    let oldest = slots.min_by_key(|slot| slot.age())?.at();
    let entry = shard
        .find_entry(hash, |slot| slot.is_at(hash, oldest))
        .ok()?;
    Some(entry.remove().0)
}

#[cfg(test)]
mod tests {
    use super::super::seed::Seed;
    use super::groups::GROUPS;
    use super::*;

    fn arrival(index: &Index, hash: u64, born: u64, file: u32, scopes: &[u64]) -> Arrival {
        Arrival {
            hash,
            variant: 0,
            born,
            at: At {
                file,
                offset: 64,
                length: 32,
            },
            group: index.group(scopes, 1),
        }
    }

    #[test]
    fn a_slot_holds_what_it_is_given() {
        assert_eq!(size_of::<Slot>(), 32);
        let greatest = At {
            file: u32::MAX,
            offset: UNIT * ((1 << OFFSET_BITS) - 1),
            length: UNIT * ((1 << LENGTH_BITS) - 1),
        };
        assert!(greatest.fits());
        for at in [
            greatest,
            At {
                file: 1,
                offset: 0,
                length: 16,
            },
        ] {
            let mut slot = Slot::new(&Arrival {
                hash: u64::MAX,
                variant: u64::MAX,
                born: u64::MAX,
                at,
                group: GROUPS as u32 - 1,
            });
            for hits in [0, 1, 2, 3, 3] {
                assert_eq!(slot.at(), at);
                assert_eq!(slot.hits(), hits);
                assert_eq!(slot.group(), GROUPS as u32 - 1);
                slot.hit();
            }
        }
        let offset = UNIT << OFFSET_BITS;
        assert!(!At { offset, ..greatest }.fits());
        let length = UNIT << LENGTH_BITS;
        assert!(!At { length, ..greatest }.fits());
    }

    #[test]
    fn scopes_are_counted_however_records_come_and_go() {
        let index = Index::new();
        for hash in 1..=3 {
            index.put(&arrival(&index, hash, 5, 1, &[7, hash]));
        }
        index.put(&arrival(&index, 1, 6, 2, &[7, 8]));
        assert_eq!(
            [1, 2, 3, 7, 8].map(|scope| index.count(scope)),
            [0, 1, 1, 3, 1]
        );
        let older = index.put(&arrival(&index, 1, 4, 9, &[7, 1]));
        assert_eq!((older, index.count(1)), (Put::Older, 0));
        index.remove_key(2);
        index.remove_files(|file| file == 1);
        assert_eq!(
            [1, 2, 3, 7, 8].map(|scope| index.count(scope)),
            [0, 0, 0, 1, 1]
        );
        let at = index.of_key(1)[0].at;
        assert!(index.renew(at, &arrival(&index, 1, 7, 3, &[9])));
        assert!(!index.renew(at, &arrival(&index, 1, 8, 4, &[10])));
        assert_eq!([7, 8, 9, 10].map(|scope| index.count(scope)), [0, 0, 1, 0]);
        assert_eq!(index.records(), 1);
        assert!(index.remove(1, index.of_key(1)[0].at));
        assert_eq!((index.records(), index.groups.lock().bytes()), (0, 0));
    }

    /// A list of scopes whose records were all replaced before their segment was loaded again stayed for good.
    #[test]
    fn a_list_of_scopes_that_no_record_has_is_not_held() {
        let index = Index::new();
        assert_eq!(index.group(&[7], 0), NO_SCOPES);
        assert_eq!((index.count(7), index.groups.lock().bytes()), (0, 0));
    }

    #[test]
    fn a_table_that_records_pass_through_does_not_grow() {
        let index = Index::new();
        // All in one table: of 512 places, of which 448 may be taken.
        let most = 415;
        let hash = |number: u64| Seed(1).key(&number.to_string()) & !(63 << 40);
        for number in 0..most {
            index.put(&arrival(&index, hash(number), 1, 1, &[]));
        }
        let before = index.bytes();
        for number in most..50 * most {
            index.remove_key(hash(number - most));
            index.put(&arrival(&index, hash(number), 1, 1, &[]));
        }
        assert_eq!(index.records(), most);
        assert!(index.bytes() <= before, "{} after {before}", index.bytes());
    }
}
