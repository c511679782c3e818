//! The one thread that writes records, looks after the files, and gives some up where there is no room.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::catalogue::Entry as File;
use super::files::Open;
use super::folder::FileName;
use super::format::{ALIGN, DEAD_MARK, FileHeader, HEADER, Head, Line, Parcel, align};
use super::index::{Arrival, At, Put};
use super::queue::{Batch, Chore, Request, Waiting};
use super::table::{Entry, Table};
use super::{Shared, load};
use upkeep::RAISE;

mod reclaim;
mod upkeep;

/// How often the thread looks after things when nothing is to be written.
const TICK: Duration = Duration::from_secs(2);
/// Records in one segment: a bound for its table.
const MOST_ENTRIES: usize = 65_536;
/// Segments that are open for writing at once, two for each lane.
const MOST_ACTIVE: usize = 64;
/// The thread's own.
pub(super) struct Writer {
    shared: Arc<Shared>,
    actives: HashMap<(u64, Line), Active>,
    next_tick: Instant,
    /// It is to take the folder again, and another process still has it.
    resumes: bool,
    /// Another process may have the folder.
    released: bool,
    /// When more is tried again after the disk was full, and how long that takes the next time.
    raise: Option<Instant>,
    raise_after: Duration,
}

/// A segment that is written to.
struct Active {
    open: Arc<Open>,
    length: u64,
    table: Table,
    groups: HashMap<Box<[u64]>, u32>,
    used: Instant,
}

/// The bytes of a record, and what the index is told of it.
struct Piece {
    head: Vec<u8>,
    body: Bytes,
    entry: Entry,
    scopes: Box<[u64]>,
}

/// Why a record was not written.
enum Refused {
    /// There is no file that could make room.
    NoRoom,
    /// The disk did not take it.
    Failed(&'static str, io::Error),
}

impl Writer {
    /// A writer for a folder.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            actives: HashMap::new(),
            next_tick: Instant::now() + TICK,
            resumes: false,
            released: false,
            raise: None,
            raise_after: RAISE.0,
        }
    }

    /// Writes until it is told to end.
    pub fn run(mut self) {
        self.shared.listed.wait();
        self.write_until_the_end();
        // Others may hold on to what they read.
        self.shared.lock.lock().take();
    }

    fn write_until_the_end(&mut self) {
        loop {
            let patience = self.next_tick.saturating_duration_since(Instant::now());
            let batch = self.shared.queue.take(patience);
            if batch.stopped {
                return;
            }
            if self.work(batch) {
                return;
            }
            if Instant::now() >= self.next_tick {
                self.tick();
                self.next_tick = Instant::now() + TICK;
            }
        }
    }

    /// True at the end.
    fn work(&mut self, batch: Batch) -> bool {
        let bytes = batch
            .records
            .iter()
            .map(|waiting| waiting.record.size())
            .sum();
        self.write_all(batch.records);
        self.shared.queue.written(bytes);
        for chore in batch.chores {
            self.do_chore(chore);
        }
        self.shared.queue.done();
        let Some((request, answer)) = batch.request else {
            return false;
        };
        let ends = matches!(request, Request::Close);
        let done = self.answer(request);
        // Who asked may have gone.
        let _ = answer.send(done);
        ends
    }

    fn answer(&mut self, request: Request) -> bool {
        match request {
            Request::Flush => true,
            Request::Room(lane) => !self.released && self.make_room(lane, 0).is_ok(),
            Request::Pause | Request::Close => {
                let keys: Vec<_> = self.actives.keys().copied().collect();
                for key in keys {
                    self.seal(key);
                }
                self.shared.lock.lock().take();
                self.released = true;
                self.resumes = false;
                true
            }
            Request::Resume => self.resume(),
        }
    }

    /// Takes the folder again, now or as soon as nobody else has it.
    fn resume(&mut self) -> bool {
        if !self.released {
            return true;
        }
        let lock = self.shared.folder.try_lock();
        self.resumes = lock.is_err();
        match lock {
            Ok(lock) => {
                *self.shared.lock.lock() = Some(lock);
                self.released = false;
                load::again(&self.shared);
                self.shared.paused.store(false, Ordering::Release);
                self.shared.condition.works();
                true
            }
            Err(error) => {
                self.shared
                    .condition
                    .failed("take the folder again", &error);
                false
            }
        }
    }

    fn write_all(&mut self, records: Vec<Waiting>) {
        let mut lanes: Vec<(u64, Vec<Waiting>)> = Vec::new();
        for waiting in records {
            let lane = waiting.record.lane;
            match lanes.iter_mut().find(|(known, _)| *known == lane) {
                Some((_, list)) => list.push(waiting),
                None => lanes.push((lane, vec![waiting])),
            }
        }
        for (lane, records) in lanes {
            self.write_lane(lane, records);
        }
    }

    fn write_lane(&mut self, lane: u64, records: Vec<Waiting>) {
        let mut rest = records.into_iter().peekable();
        while rest.peek().is_some() {
            let wanted = rest.peek().map_or(0, |waiting| waiting.record.on_disk());
            let mut now: Vec<Waiting> = Vec::new();
            let room = self.room_in(lane, Line::Probation, wanted);
            let mut taken = 0;
            while let Some(waiting) =
                rest.next_if(|next| now.is_empty() || taken + next.record.on_disk() <= room)
            {
                taken += waiting.record.on_disk();
                now.push(waiting);
            }
            self.write_some(lane, now, taken);
        }
    }

    /// Bytes that the active segment takes yet, once it has room for `wanted`.
    fn room_in(&mut self, lane: u64, line: Line, wanted: u64) -> u64 {
        let size = self.shared.segment_size;
        let full = self.actives.get(&(lane, line)).is_some_and(|active| {
            active.length + wanted > size || active.table.entries.len() >= MOST_ENTRIES
        });
        if full {
            self.seal((lane, line));
        }
        let length = self.actives.get(&(lane, line)).map(|active| active.length);
        size.saturating_sub(length.unwrap_or(HEADER as u64))
    }

    fn write_some(&mut self, lane: u64, records: Vec<Waiting>, bytes: u64) {
        let count = records.len() as u64;
        let tickets: Vec<_> = records.iter().map(|waiting| waiting.ticket).collect();
        let written = self
            .make_room(lane, bytes)
            .and_then(|()| self.append_new(lane, records));
        match written {
            Ok((file, pieces)) => {
                for (piece, ticket) in pieces.into_iter().zip(tickets) {
                    self.publish(file, piece, ticket);
                }
            }
            Err(refused) => {
                self.shared.refuse(count);
                for ticket in tickets {
                    self.shared.queue.publish(ticket, |_| ());
                }
                if let Refused::Failed(doing, error) = refused {
                    self.shared.condition.failed(doing, &error);
                }
            }
        }
    }

    fn append_new(
        &mut self,
        lane: u64,
        records: Vec<Waiting>,
    ) -> Result<(u32, Vec<Piece>), Refused> {
        let seed = self.shared.folder.seed;
        let active = self.active(lane, Line::Probation)?;
        let mut offset = active.length;
        let number = active.open.number;
        let mut pieces = Vec::with_capacity(records.len());
        for Waiting { hash, record, .. } in records {
            let sums = seed.blocks(&record.body);
            let parcel = record.parcel(hash, &sums);
            let head = parcel.encode(seed, number, offset);
            let first = Head::parse(&head).map_or(0, |head| head.first_read());
            let entry = Entry {
                hash,
                variant: record.variant,
                born: record.born,
                // Less than 64 MiB.
                offset: offset as u32,
                length: first as u32,
                group: 0,
            };
            offset += align((head.len() + record.body.len()) as u64);
            pieces.push(Piece {
                head,
                body: record.body,
                entry,
                scopes: record.scopes,
            });
        }
        self.append(lane, Line::Probation, &pieces)?;
        Ok((number as u32, pieces))
    }

    /// One write for all of them.
    fn append(&mut self, lane: u64, line: Line, pieces: &[Piece]) -> Result<(), Refused> {
        let shared = self.shared.clone();
        let active = self.active(lane, line)?;
        let padding = [0; ALIGN as usize];
        let mut slices = Vec::with_capacity(pieces.len() * 3);
        let mut length = active.length;
        for piece in pieces {
            let bytes = piece.head.len() + piece.body.len();
            let pad = align(bytes as u64) as usize - bytes;
            slices.push(IoSlice::new(&piece.head));
            slices.push(IoSlice::new(&piece.body));
            slices.push(IoSlice::new(padding.get(..pad).unwrap_or_default()));
            length += (bytes + pad) as u64;
        }
        let written = shared
            .writes
            .write(&active.open.file, &slices, active.length);
        if let Err(error) = written {
            // What was cut off is no record; where not even that works, nothing is appended here again.
            if active.open.file.set_len(active.length).is_err() {
                self.actives.remove(&(lane, line));
            }
            return Err(Refused::Failed("write a segment", error));
        }
        active.length = length;
        active.used = Instant::now();
        for piece in pieces {
            let group = match active.groups.get(&piece.scopes) {
                Some(&group) => group,
                None => {
                    let group = active.table.groups.len() as u32;
                    active.groups.insert(piece.scopes.clone(), group);
                    active.table.groups.push(piece.scopes.clone());
                    group
                }
            };
            active.table.entries.push(Entry {
                group,
                ..piece.entry
            });
            active.table.last_born = active.table.last_born.max(piece.entry.born);
        }
        let number = active.open.number as u32;
        let takes = on_disk(length + active.table.size());
        shared.catalogue.lock().resize(number, takes);
        shared.condition.works();
        Ok(())
    }

    fn publish(&mut self, file: u32, piece: Piece, ticket: u64) {
        let at = At {
            file,
            offset: piece.entry.offset,
            length: piece.entry.length,
        };
        let hash = piece.entry.hash;
        let shared = self.shared.clone();
        let put = shared.queue.publish(ticket, |forgotten| match forgotten {
            true => Put::Older,
            false => shared.index.put(&Arrival {
                hash,
                variant: piece.entry.variant,
                born: piece.entry.born,
                at,
                group: shared.index.group(&piece.scopes, 1),
            }),
        });
        match put {
            Put::Older => self.bury(hash, at),
            Put::Stored(gone) => {
                if let Some(found) = gone {
                    self.bury(hash, found.at);
                }
            }
        }
    }

    /// The segment to append to, made where there is none.
    fn active(&mut self, lane: u64, line: Line) -> Result<&mut Active, Refused> {
        if !self.actives.contains_key(&(lane, line)) {
            if self.actives.len() >= MOST_ACTIVE {
                let oldest = self.actives.iter().min_by_key(|(_, active)| active.used);
                if let Some(key) = oldest.map(|(&key, _)| key) {
                    self.seal(key);
                }
            }
            let active = self
                .create(lane, line)
                .map_err(|error| Refused::Failed("make a segment", error))?;
            self.actives.insert((lane, line), active);
        }
        self.actives.get_mut(&(lane, line)).ok_or(Refused::NoRoom)
    }

    fn create(&self, lane: u64, line: Line) -> io::Result<Active> {
        let shared = &self.shared;
        let number = shared.catalogue.lock().next_number();
        let name = FileName {
            number,
            object: false,
        };
        let path = shared.folder.path(name);
        let file = shared.folder.create(&path)?;
        let header = FileHeader {
            number,
            lane,
            line,
            object: None,
        };
        let bytes = header.encode(shared.folder.seed);
        if let Err(error) = shared.writes.write(&file, &[IoSlice::new(&bytes)], 0) {
            // What is left of it is removed at the next start, where not now.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        let open = Arc::new(Open {
            file,
            number,
            object: None,
        });
        shared.files.keep(&open);
        shared.catalogue.lock().add(File {
            name,
            lane,
            line,
            bytes: on_disk(HEADER as u64),
            object: None,
        });
        Ok(Active {
            open,
            length: HEADER as u64,
            table: Table::default(),
            groups: HashMap::new(),
            used: Instant::now(),
        })
    }

    /// Ends a segment with the table of what is in it and still counts.
    fn seal(&mut self, key: (u64, Line)) {
        let Some(mut active) = self.actives.remove(&key) else {
            return;
        };
        let file = active.open.number as u32;
        let index = &self.shared.index;
        active.table.entries.retain(|entry| {
            let (offset, length) = (entry.offset, entry.length);
            index.is_at(
                entry.hash,
                At {
                    file,
                    offset,
                    length,
                },
            )
        });
        // A segment without a table is scanned when it is loaded.
        match load::seal(&self.shared, &active.open, &active.table, active.length) {
            Ok(bytes) => self.shared.catalogue.lock().resize(file, bytes),
            Err(error) => self.shared.condition.failed("seal a segment", &error),
        }
    }

    fn do_chore(&mut self, chore: Chore) {
        match chore {
            Chore::Bury(hash, at) => self.bury(hash, at),
            Chore::Unlink(path) => {
                // It may never have been made.
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// Marks a record in its file, so that it does not come back when the folder is opened again.
    fn bury(&mut self, hash: u64, at: At) {
        let Some(file) = self.shared.catalogue.lock().file(at.file) else {
            return;
        };
        if file.name.object {
            self.remove(file.name);
            return;
        }
        let offset = u64::from(at.offset);
        let Ok(open) = self.shared.open(file.name) else {
            return;
        };
        let head = open.read(offset, HEADER).ok();
        let same = head
            .and_then(|head| Head::parse(&head))
            .is_some_and(|head| head.hash == hash && !head.dead);
        if same && let Err(error) = open.file.write_all_at(&DEAD_MARK, offset) {
            self.shared.condition.failed("mark a record", &error);
        }
    }
}

/// What a file of so many bytes takes on disk.
pub(super) fn on_disk(bytes: u64) -> u64 {
    bytes.div_ceil(4096) * 4096
}

impl super::NewRecord {
    /// What is made from it, but for its place.
    pub(super) fn parcel<'a>(&'a self, hash: u64, sums: &'a [u64]) -> Parcel<'a> {
        Parcel {
            hash,
            key: &self.key,
            variant: self.variant,
            born: self.born,
            scopes: &self.scopes,
            meta: &self.meta,
            body: self.body.len() as u64,
            sums,
            outside: false,
        }
    }
}
