//! The table of purges: a scope and what was done to it. Bounded: when it is full the oldest half is folded into a floor, which
//! stands for every scope, so that more is purged than was asked for and never less.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::RwLock;

use super::Verdict;
use super::journal::{Kind, Record};
use super::time;

/// All purges. Changed by one thread at a time, which the caller sees to; read by any number.
pub(super) struct Table {
    shards: Box<[RwLock<HashMap<u64, Mark>>]>,
    /// What was done to every scope.
    floor: RwLock<Mark>,
    len: AtomicUsize,
    most: usize,
}

/// What was done to one scope.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    /// The number of the last soft purge; 0 for none.
    soft: u64,
    /// When that was, in milliseconds since 1970.
    since: u64,
    /// The number of the last hard purge; 0 for none.
    hard: u64,
}

impl Table {
    /// Holds at most so many scopes, and at least one.
    pub(super) fn new(most: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            floor: RwLock::default(),
            len: AtomicUsize::new(0),
            most: most.max(1),
        }
    }

    /// How many scopes it holds.
    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// What is known of these scopes, for a response with that number.
    pub(super) fn verdict(&self, born: u64, scopes: &[u64]) -> Verdict {
        // The floor last: what is folded while this runs is in it before it leaves its shard.
        let mut since = None;
        let marks = scopes
            .iter()
            .filter_map(|scope| self.shard(*scope).read().get(scope).copied());
        for mark in marks.chain(std::iter::once_with(|| *self.floor.read())) {
            if born < mark.hard {
                return Verdict::Hard;
            }
            if born < mark.soft {
                since = Some(since.map_or(mark.since, |earlier: u64| earlier.min(mark.since)));
            }
        }
        since.map_or(Verdict::Valid, |since| Verdict::Soft { since: time(since) })
    }

    /// The number of the last hard purge of one of these scopes; 0 for none.
    pub(super) fn hard_before(&self, scopes: &[u64]) -> u64 {
        // The floor last, as in `verdict`.
        let mark = |scope: &u64| self.shard(*scope).read().get(scope).map(|mark| mark.hard);
        let hard = scopes.iter().filter_map(mark).max().unwrap_or_default();
        hard.max(self.floor.read().hard)
    }

    /// Puts a purge in; whether others were folded to make room.
    pub(super) fn put(&self, record: Record) -> bool {
        if record.kind.is_floor() {
            self.floor.write().take(&record);
            return false;
        }
        let mut shard = self.shard(record.scope).write();
        let before = shard.len();
        shard.entry(record.scope).or_default().take(&record);
        let added = shard.len() - before;
        drop(shard);
        let len = self.len.fetch_add(added, Relaxed) + added;
        let full = len > self.most;
        if full {
            self.fold();
        }
        full
    }

    /// Whether a purge is there already, or a later one of its kind.
    pub(super) fn knows(&self, record: &Record) -> bool {
        let mark = if record.kind.is_floor() {
            *self.floor.read()
        } else {
            let shard = self.shard(record.scope).read();
            shard.get(&record.scope).copied().unwrap_or_default()
        };
        record.born <= mark.number(record.kind)
    }

    /// Gives all purges from the number `from` on the number `to`.
    pub(super) fn renumber(&self, from: u64, to: u64) {
        let renumber = |mark: &mut Mark| {
            for number in [&mut mark.soft, &mut mark.hard] {
                if *number >= from {
                    *number = to;
                }
            }
        };
        for shard in &self.shards {
            shard.write().values_mut().for_each(renumber);
        }
        renumber(&mut self.floor.write());
    }

    /// All of it, as the journal takes it.
    pub(super) fn records(&self) -> Vec<Record> {
        let mut records = Vec::with_capacity(self.len() + 2);
        for shard in &self.shards {
            for (scope, mark) in &*shard.read() {
                records.extend(mark.records(*scope, Kind::Soft, Kind::Hard));
            }
        }
        // Last, as in `verdict`.
        records.extend(
            self.floor
                .read()
                .records(0, Kind::SoftFloor, Kind::HardFloor),
        );
        records
    }

    /// Moves the older half into the floor. Soft purges first: a hard one for everything would leave nothing to serve from, so that
    /// happens only where more than half of the scopes are purged so.
    fn fold(&self) {
        let mut ages: Vec<(bool, u64)> = Vec::with_capacity(self.len());
        for shard in &self.shards {
            ages.extend(
                shard
                    .read()
                    .values()
                    .map(|mark| (mark.hard > 0, mark.last())),
            );
        }
        let half = ages.len().div_ceil(2);
        let (_, &mut oldest_kept, _) = ages.select_nth_unstable(half.saturating_sub(1));
        let goes = |mark: &Mark| (mark.hard > 0, mark.last()) <= oldest_kept;
        let mut floor = *self.floor.read();
        for shard in &self.shards {
            for mark in shard.read().values().filter(|mark| goes(mark)) {
                floor.join(mark);
            }
        }
        *self.floor.write() = floor;
        self.retain(|mark| !goes(mark));
    }

    fn retain(&self, keep: impl Fn(&Mark) -> bool) {
        let mut len = 0;
        for shard in &self.shards {
            let mut shard = shard.write();
            shard.retain(|_, mark| keep(mark));
            let kept = shard.len();
            shard.shrink_to(kept * 2);
            len += kept;
        }
        self.len.store(len, Relaxed);
    }

    fn shard(&self, scope: u64) -> &RwLock<HashMap<u64, Mark>> {
        // A scope is a hash: its highest bits are as good as any. There are as many shards.
        &self.shards[(scope >> (u64::BITS - SHARDS.ilog2())) as usize]
    }
}

impl Mark {
    fn take(&mut self, record: &Record) {
        match record.kind {
            Kind::Soft | Kind::SoftFloor if record.born >= self.soft => {
                (self.soft, self.since) = (record.born, record.since);
            }
            Kind::Hard | Kind::HardFloor => self.hard = self.hard.max(record.born),
            Kind::Soft | Kind::SoftFloor => {}
        }
    }

    fn join(&mut self, other: &Self) {
        self.hard = self.hard.max(other.hard);
        if other.soft > self.soft {
            (self.soft, self.since) = (other.soft, other.since);
        }
    }

    fn number(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Soft | Kind::SoftFloor => self.soft,
            Kind::Hard | Kind::HardFloor => self.hard,
        }
    }

    fn last(&self) -> u64 {
        self.soft.max(self.hard)
    }

    fn records(&self, scope: u64, soft: Kind, hard: Kind) -> impl Iterator<Item = Record> {
        let record = move |born, since, kind| Record {
            scope,
            born,
            since,
            kind,
            echo: false,
        };
        let soft = (self.soft > 0).then(|| record(self.soft, self.since, soft));
        let hard = (self.hard > 0).then(|| record(self.hard, 0, hard));
        soft.into_iter().chain(hard)
    }
}

/// A power of two. One purge and many lookups at a time are usual.
const SHARDS: usize = 64;
