//! What goes, and what stays, where there is no room for more.

use std::os::unix::fs::FileExt as _;

use bytes::Bytes;

use super::super::catalogue::Entry as File;
use super::super::files::Open;
use super::super::folder::FileName;
use super::super::format::{FileHeader, Head, Line, Parts, seal_record};
use super::super::index::{At, Found};
use super::super::table::Entry;
use super::{Piece, Refused, Writer};

/// A file given up may move at most so many eighths of what it holds, so that giving up gains something.
const MOVED_EIGHTHS: u64 = 6;

impl Writer {
    /// Gives up files until `bytes` more fit.
    pub(super) fn make_room(&mut self, lane: u64, bytes: u64) -> Result<(), Refused> {
        if self.released {
            return Err(Refused::NoRoom);
        }
        loop {
            if self.shared.has_room(bytes) {
                return Ok(());
            }
            // Before all is known, what is the oldest is not.
            self.shared.loaded.wait();
            let victim = self.shared.catalogue.lock().victim(lane);
            match victim {
                Some(victim) => self.reclaim(victim),
                None => return Err(Refused::NoRoom),
            }
        }
    }

    /// Gives up a file; what was used in it moves on.
    fn reclaim(&mut self, victim: File) {
        let mut used = match victim.object {
            Some(hash) => self.shared.index.of_key(hash),
            None => self.shared.index.of_file(victim.name.number as u32),
        };
        used.retain(|found| found.at.file == victim.name.number as u32 && found.hits > 0);
        let bytes: u64 = used.iter().map(|found| u64::from(found.at.length)).sum();
        let mostly_used = victim.object.is_some() || bytes > moved_at_most(&victim);
        // Nothing has to be copied where nearly all would be.
        let as_it_is = victim.object.is_some() || victim.line == Line::Probation;
        if !used.is_empty() && mostly_used && as_it_is {
            return self.promote(victim, &used);
        }
        self.stop_appending(&victim);
        // What was used most first, and in the order of the file.
        used.sort_unstable_by_key(|found| (std::cmp::Reverse(found.hits), found.at.offset));
        self.move_on(victim, &used);
        self.remove(victim.name);
    }

    /// Nothing more is written to a file, nor is its table.
    pub(super) fn stop_appending(&mut self, file: &File) {
        let key = (file.lane, file.line);
        let active = self.actives.get(&key);
        if active.is_some_and(|active| active.open.number == file.name.number) {
            self.actives.remove(&key);
        }
    }

    /// A file goes to the main queue, or to its end, by a change of its header.
    fn promote(&mut self, file: File, used: &[Found]) {
        let key = (file.lane, file.line);
        let active = self.actives.get(&key);
        if active.is_some_and(|active| active.open.number == file.name.number) {
            self.seal(key);
        }
        for found in used {
            let left = hits_left(file.line, found.hits);
            self.shared
                .index
                .relocate(found.hash, found.at, found.at, left);
        }
        self.shared
            .catalogue
            .lock()
            .promote(file.name.number as u32);
        if file.line == Line::Main {
            return;
        }
        let Ok(open) = self.shared.open(file.name) else {
            return;
        };
        let header = FileHeader {
            number: open.number,
            lane: file.lane,
            line: Line::Main,
            object: open.object,
        };
        let bytes = header.encode(self.shared.folder.seed);
        if let Err(error) = open.file.write_all_at(&bytes, 0) {
            self.shared.condition.failed("move a file", &error);
        }
    }

    fn move_on(&mut self, from: File, used: &[Found]) {
        let Ok(open) = self.shared.open(from.name) else {
            return;
        };
        let budget = moved_at_most(&from);
        let mut moved = 0;
        for found in used {
            let Some((record, scopes)) = self.read_whole(&open, found) else {
                continue;
            };
            let first = moved == 0;
            moved += record.len() as u64;
            if moved > budget && !first {
                return;
            }
            let left = hits_left(from.line, found.hits);
            if let Err(refused) = self.move_one(from.lane, found, record, scopes, left) {
                if let Refused::Failed(doing, error) = refused {
                    self.shared.condition.failed(doing, &error);
                }
                return;
            }
        }
    }

    /// A record as it lies on disk, if it is whole, and its scopes.
    fn read_whole(&self, open: &Open, found: &Found) -> Option<(Vec<u8>, Vec<u64>)> {
        let seed = self.shared.folder.seed;
        let offset = u64::from(found.at.offset);
        let first = open.read(offset, found.at.length as usize).ok()?;
        let parts = Parts::parse(seed, open.number, offset, &first)?;
        let total = usize::try_from(parts.head.total()).ok()?;
        let record = match total > first.len() {
            true => open.read(offset, total).ok()?,
            false => first,
        };
        let begin = parts.head.head_len();
        let body = record.get(begin..begin + parts.head.body as usize)?;
        let whole = !parts.head.dead && parts.body_is_whole(seed, &record, body);
        let scopes = parts.scopes(&record);
        whole.then_some((record, scopes))
    }

    fn move_one(
        &mut self,
        lane: u64,
        found: &Found,
        mut record: Vec<u8>,
        scopes: Vec<u64>,
        hits: u8,
    ) -> Result<(), Refused> {
        let Some(head) = Head::parse(&record) else {
            return Ok(());
        };
        self.room_in(lane, Line::Main, record.len() as u64);
        let seed = self.shared.folder.seed;
        let active = self.active(lane, Line::Main)?;
        let offset = active.length;
        let number = active.open.number;
        if let Some(head) = record.get_mut(..head.head_len()) {
            seal_record(seed, number, offset, head);
        }
        let piece = Piece {
            head: record,
            body: Bytes::new(),
            entry: Entry {
                hash: head.hash,
                variant: head.variant,
                born: head.born,
                offset: offset as u32,
                length: head.first_read() as u32,
                group: 0,
            },
            scopes: scopes.into(),
        };
        self.append(lane, Line::Main, std::slice::from_ref(&piece))?;
        let to = At {
            file: number as u32,
            offset: piece.entry.offset,
            length: piece.entry.length,
        };
        if !self.shared.index.relocate(found.hash, found.at, to, hits) {
            self.bury(found.hash, to);
        }
        Ok(())
    }

    /// Removes a file, and what the index knows of it.
    pub(super) fn remove(&mut self, name: FileName) {
        let file = name.number as u32;
        let entry = self.shared.catalogue.lock().remove(file);
        self.shared.files.forget(file);
        match entry.and_then(|entry| entry.object) {
            Some(hash) => {
                for found in self.shared.index.of_key(hash) {
                    if found.at.file == file {
                        self.shared.index.remove(hash, found.at);
                    }
                }
            }
            None => self.shared.index.remove_files(|other| other == file),
        }
        self.shared.unlink(name);
    }
}

/// Bytes that may be copied out of a file that is given up.
fn moved_at_most(file: &File) -> u64 {
    file.bytes / 8 * MOVED_EIGHTHS
}

fn hits_left(line: Line, hits: u8) -> u8 {
    match line {
        Line::Probation => 0,
        Line::Main => hits.saturating_sub(1),
    }
}
