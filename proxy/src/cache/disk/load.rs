//! What the folder holds already: read into the index by a thread of its own, the newest first.

use std::collections::{HashMap, HashSet};
use std::io::{self, ErrorKind, IoSlice};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::catalogue::Entry as File;
use super::files::Open;
use super::folder::FileName;
use super::format::{HEADER, Head, Line, Parts, next_mark};
use super::index::{Arrival, At, Put};
use super::queue::Chore;
use super::table::{Entry, TAIL, Table, Tail};
use super::writer::on_disk;
use super::{SEGMENT_MOST, Shared};

/// What is read at once while a segment is scanned.
const WINDOW: usize = 256 * 1024;
/// The most that is read of an object's records.
pub(super) const OBJECT_RECORDS: usize = 1024 * 1024;
/// Records put into the index before others may forget one.
const AT_ONCE: usize = 256;

/// Loads everything. Says when all files are known by name, and when all records are.
pub(super) fn run(shared: Arc<Shared>) {
    let found = files(&shared);
    let mut files: Vec<_> = found
        .into_iter()
        .map(|name| (name, size(&shared, name)))
        .collect();
    files.sort_unstable_by_key(|&(name, _)| std::cmp::Reverse(name));
    if let Some(&(newest, _)) = files.first() {
        shared.catalogue.lock().taken(newest.number);
    }
    let bytes = files.iter().map(|&(_, bytes)| bytes).sum();
    shared.unloaded.store(bytes, Ordering::Relaxed);
    shared.listed.set();
    for (name, bytes) in files {
        if shared.stops_loading.load(Ordering::Relaxed) {
            break;
        }
        load(&shared, name, bytes);
        shared.unloaded.fetch_sub(bytes, Ordering::Relaxed);
    }
    shared.unloaded.store(0, Ordering::Relaxed);
    shared.catalogue.lock().sort();
    shared.forgotten.lock().end();
    shared.loaded.set();
}

/// Looks at the folder again, after another process had it.
pub(super) fn again(shared: &Shared) {
    forget_missing(shared);
    let mut files = files(shared);
    files.sort_unstable();
    for name in files {
        let known = shared.catalogue.lock().file(name.number as u32).is_some();
        if !known {
            load(shared, name, size(shared, name));
        }
    }
    shared.catalogue.lock().sort();
}

/// All files that can be listed.
fn files(shared: &Shared) -> Vec<FileName> {
    let (files, error) = shared.folder.files();
    if let Some(error) = error {
        shared.condition.failed("list the folder", &error);
    }
    files
}

/// Drops what was removed by somebody else.
pub(super) fn forget_missing(shared: &Shared) {
    let files: Vec<_> = shared
        .catalogue
        .lock()
        .files()
        .map(|file| file.name)
        .collect();
    let missing: HashSet<_> = files
        .into_iter()
        .filter(|&name| {
            let gone = std::fs::symlink_metadata(shared.folder.path(name));
            gone.is_err_and(|error| error.kind() == ErrorKind::NotFound)
        })
        .map(|name| name.number as u32)
        .collect();
    if missing.is_empty() {
        return;
    }
    for &number in &missing {
        shared.catalogue.lock().remove(number);
        shared.files.forget(number);
    }
    shared
        .index
        .remove_files(|number| missing.contains(&number));
}

/// Ends a segment of `length` bytes with its table; gives what it takes on disk.
pub(super) fn seal(shared: &Shared, open: &Open, table: &Table, length: u64) -> io::Result<u64> {
    let bytes = table.encode(shared.folder.seed, open.number, length);
    shared
        .writes
        .write(&open.file, &[IoSlice::new(&bytes)], length)?;
    open.file.set_len(length + bytes.len() as u64)?;
    // Some file systems count blocks only once they are on the disk.
    let metadata = open.file.metadata()?;
    Ok(on_disk(metadata.len()).max(metadata.blocks() * 512))
}

fn load(shared: &Shared, name: FileName, bytes: u64) {
    let (open, header) = match Open::named(&shared.folder, name) {
        Ok(opened) => opened,
        Err(error) => return unreadable(shared, name, bytes, &error),
    };
    let entry = File {
        name,
        lane: header.lane,
        line: header.line,
        bytes,
        object: None,
    };
    let loaded = match name.object {
        true => load_object(shared, &open, entry),
        false => load_segment(shared, &open, entry),
    };
    if let Err(error) = loaded {
        unreadable(shared, name, bytes, &error);
    }
}

/// A file that is not what it should be goes; one that only cannot be read stays, and goes in its turn.
fn unreadable(shared: &Shared, name: FileName, bytes: u64, error: &io::Error) {
    match error.kind() {
        ErrorKind::NotFound => {}
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
            shared.corrupt(1);
            shared.unlink(name);
        }
        _ => {
            shared.corrupt(1);
            shared.catalogue.lock().add(File {
                name,
                lane: 0,
                line: Line::Probation,
                bytes,
                object: None,
            });
        }
    }
}

fn load_segment(shared: &Shared, open: &Open, file: File) -> io::Result<()> {
    let size = open.file.metadata()?.len();
    if size > 2 * SEGMENT_MOST {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut file = file;
    let table = match read_table(shared, open, size)? {
        Some(table) => table,
        None => {
            let scanned = scan(shared, open, size)?;
            if scanned.table.entries.is_empty() {
                shared.corrupt(u64::from(size > HEADER as u64 && !scanned.had_any));
                shared.unlink(file.name);
                return Ok(());
            }
            // It is only slower to load next time where this fails.
            if let Ok(bytes) = seal(shared, open, &scanned.table, scanned.end) {
                file.bytes = bytes;
            }
            scanned.table
        }
    };
    shared.catalogue.lock().add(file);
    shared
        .last_born
        .fetch_max(table.last_born, Ordering::Relaxed);
    let mut counts = vec![0; table.groups.len()];
    for entry in &table.entries {
        if let Some(count) = counts.get_mut(entry.group as usize) {
            *count += 1;
        }
    }
    let groups: Vec<_> = table
        .groups
        .iter()
        .zip(counts)
        .map(|(scopes, count)| shared.index.group(scopes, count))
        .collect();
    let number = open.number as u32;
    for entries in table.entries.chunks(AT_ONCE) {
        let forgotten = shared.forgotten.lock();
        for entry in entries {
            let group = groups
                .get(entry.group as usize)
                .copied()
                .unwrap_or_default();
            let at = At {
                file: number,
                offset: entry.offset,
                length: entry.length,
            };
            if !at.fits() {
                shared.index.release(group, 1);
                continue;
            }
            if forgotten.has(entry.hash) {
                shared.index.release(group, 1);
                shared.queue.leave(Chore::Bury(entry.hash, at));
                continue;
            }
            let put = shared.index.put(&Arrival {
                hash: entry.hash,
                variant: entry.variant,
                born: entry.born,
                at,
                group,
            });
            bury_objects(shared, put);
        }
    }
    Ok(())
}

/// Records that were replaced were marked when that happened; an object that was is in the way.
fn bury_objects(shared: &Shared, put: Put) {
    let Put::Stored(Some(found)) = put else {
        return;
    };
    let file = shared.catalogue.lock().file(found.at.file);
    if file.is_some_and(|file| file.name.object) {
        shared.queue.leave(Chore::Bury(found.hash, found.at));
    }
}

fn read_table(shared: &Shared, open: &Open, size: u64) -> io::Result<Option<Table>> {
    let Some(tail_at) = size.checked_sub(TAIL as u64) else {
        return Ok(None);
    };
    let Some(tail) = Tail::parse(&open.read(tail_at, TAIL)?, size) else {
        return Ok(None);
    };
    let bytes = open.read(tail.offset, tail.length as usize)?;
    let whole = shared.folder.seed.at(open.number, tail.offset, &bytes) == tail.sum;
    Ok(whole.then(|| Table::parse(&bytes)).flatten())
}

/// What a scan found.
struct Scanned {
    table: Table,
    /// Where the last record ends.
    end: u64,
    /// There were records, even if none counts.
    had_any: bool,
}

/// Walks over the records of a segment that has no table. After damage it goes on with the next record.
fn scan(shared: &Shared, open: &Open, size: u64) -> io::Result<Scanned> {
    let mut window = Window::new(open);
    let mut groups: HashMap<Box<[u64]>, u32> = HashMap::new();
    let mut scanned = Scanned {
        table: Table::default(),
        end: HEADER as u64,
        had_any: false,
    };
    let mut offset = HEADER as u64;
    while offset + HEADER as u64 <= size {
        let Some(parts) = window.record(shared, offset, size)? else {
            match window.next_mark(offset + 1)? {
                Some(next) => offset = next,
                None => break,
            }
            continue;
        };
        let next = offset + parts.head.total();
        let table = &mut scanned.table;
        if !parts.head.dead {
            let scopes: Box<[u64]> = parts.scopes(window.from(offset)).into();
            let group = *groups.entry(scopes).or_insert_with_key(|scopes| {
                table.groups.push(scopes.clone());
                table.groups.len() as u32 - 1
            });
            table.entries.push(Entry {
                hash: parts.head.hash,
                variant: parts.head.variant,
                born: parts.head.born,
                offset: offset as u32,
                length: parts.head.first_read() as u32,
                group,
            });
        }
        table.last_born = table.last_born.max(parts.head.born);
        scanned.had_any = true;
        scanned.end = next;
        offset = next;
    }
    Ok(scanned)
}

/// A part of a file in memory, moved along it.
struct Window<'a> {
    open: &'a Open,
    at: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(open: &'a Open) -> Self {
        Self {
            open,
            at: 0,
            bytes: Vec::new(),
        }
    }

    /// The record at `offset`, if one is there that fits into `size`.
    fn record(&mut self, shared: &Shared, offset: u64, size: u64) -> io::Result<Option<Parts>> {
        self.fill(offset, HEADER)?;
        let Some(head) = Head::parse(self.from(offset)) else {
            return Ok(None);
        };
        if head.outside || head.total() > size - offset {
            return Ok(None);
        }
        self.fill(offset, head.head_len())?;
        let (seed, number) = (shared.folder.seed, self.open.number);
        Ok(Parts::parse(seed, number, offset, self.from(offset)))
    }

    /// Where the next record may begin, from `offset` on.
    fn next_mark(&mut self, mut offset: u64) -> io::Result<Option<u64>> {
        loop {
            self.fill(offset, HEADER)?;
            let from = (offset - self.at) as usize;
            if let Some(found) = next_mark(&self.bytes, self.at, from) {
                return Ok(Some(self.at + found as u64));
            }
            let end = self.at + self.bytes.len() as u64;
            if self.bytes.len() < WINDOW {
                return Ok(None);
            }
            offset = end - 7;
        }
    }

    fn fill(&mut self, offset: u64, length: usize) -> io::Result<()> {
        let end = self.at + self.bytes.len() as u64;
        if offset < self.at || offset + length as u64 > end {
            self.bytes = self.open.read(offset, WINDOW.max(length))?;
            self.at = offset;
        }
        Ok(())
    }

    fn from(&self, offset: u64) -> &[u8] {
        let from = offset
            .checked_sub(self.at)
            .and_then(|from| usize::try_from(from).ok());
        from.and_then(|from| self.bytes.get(from..))
            .unwrap_or_default()
    }
}

fn load_object(shared: &Shared, open: &Open, file: File) -> io::Result<()> {
    let size = open.file.metadata()?.len();
    let base = open.base();
    if size < base {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let bytes = open.read(base, OBJECT_RECORDS)?;
    let mut newest: Option<(Head, u64, Vec<u64>)> = None;
    let mut at = 0;
    while let Some(rest) = bytes.get(at..) {
        let record = Parts::parse(shared.folder.seed, open.number, base + at as u64, rest)
            .filter(|parts| parts.head.outside);
        let Some(parts) = record else {
            match next_mark(&bytes, base, at + 1) {
                Some(next) => at = next,
                None => break,
            }
            continue;
        };
        let head = parts.head;
        let later = newest
            .as_ref()
            .is_none_or(|(known, ..)| known.born <= head.born);
        if later && !head.dead {
            newest = Some((head, at as u64, parts.scopes(rest)));
        }
        at += head.total() as usize;
    }
    let (head, offset, scopes) = newest.ok_or(ErrorKind::InvalidData)?;
    shared.last_born.fetch_max(head.born, Ordering::Relaxed);
    let at = At {
        file: open.number as u32,
        offset: offset as u32,
        length: head.first_read() as u32,
    };
    let forgotten = shared.forgotten.lock();
    shared.catalogue.lock().add(File {
        object: Some(head.hash),
        ..file
    });
    if forgotten.has(head.hash) {
        shared.queue.leave(Chore::Bury(head.hash, at));
        return Ok(());
    }
    let put = shared.index.put(&Arrival {
        hash: head.hash,
        variant: head.variant,
        born: head.born,
        at,
        group: shared.index.group(&scopes, 1),
    });
    match put {
        Put::Older => {
            shared.queue.leave(Chore::Bury(head.hash, at));
        }
        put => bury_objects(shared, put),
    }
    Ok(())
}

fn size(shared: &Shared, name: FileName) -> u64 {
    let metadata = std::fs::symlink_metadata(shared.folder.path(name));
    metadata.map_or(0, |metadata| metadata.blocks() * 512)
}
