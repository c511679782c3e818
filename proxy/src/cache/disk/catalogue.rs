//! Which files there are, whose they are, what they take, and which goes next.
//!
//! S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023), with files in
//! place of objects: what is new waits in a short queue, what was used there moves to the main one, and
//! the rest goes before it has pushed out anything that is used.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::folder::FileName;
use super::format::Line;

/// Blocks for what is there besides: the format, the lock, the upper folders.
const OWN_BLOCKS: usize = 8;

/// One file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name.
    pub name: FileName,
    /// Whose it is.
    pub lane: u64,
    /// Where it waits.
    pub line: Line,
    /// What it takes on disk.
    pub bytes: u64,
    /// The record that an object holds, by its hash.
    pub object: Option<u64>,
}

/// All files.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    files: HashMap<u32, Entry>,
    lanes: BTreeMap<u64, Lane>,
    used: u64,
    last: u64,
    /// The folders that files are in, or were: there are up to 512.
    folders: BTreeSet<(bool, u8)>,
}

/// The files of one lane, the oldest first.
#[derive(Debug, Default)]
struct Lane {
    probation: Queue,
    main: Queue,
}

#[derive(Debug, Default)]
struct Queue {
    order: VecDeque<u32>,
    bytes: u64,
}

impl Catalogue {
    /// A number that no file has.
    pub fn next_number(&mut self) -> u64 {
        loop {
            self.last += 1;
            // The low half is 0 for none.
            let low = self.last as u32;
            if low != 0 && !self.files.contains_key(&low) {
                return self.last;
            }
        }
    }

    /// Numbers up to this one are taken.
    pub fn taken(&mut self, number: u64) {
        self.last = self.last.max(number);
    }

    /// A file is there, as the youngest of its queue. What it takes is counted with [`Self::resize`].
    pub fn add(&mut self, entry: Entry) {
        self.remove(entry.name.number as u32);
        self.taken(entry.name.number);
        let folder = (entry.name.object, entry.name.number as u8);
        self.folders.insert(folder);
        let queue = self.queue(entry.lane, entry.line);
        queue.order.push_back(entry.name.number as u32);
        queue.bytes += entry.bytes;
        self.used += entry.bytes;
        self.files.insert(entry.name.number as u32, entry);
    }

    /// A file is gone.
    pub fn remove(&mut self, number: u32) -> Option<Entry> {
        let entry = self.files.remove(&number)?;
        let queue = self.queue(entry.lane, entry.line);
        // A number stands once, and what goes is most often among the first.
        if let Some(at) = queue.order.iter().position(|&other| other == number) {
            queue.order.remove(at);
        }
        queue.bytes = queue.bytes.saturating_sub(entry.bytes);
        self.used = self.used.saturating_sub(entry.bytes);
        Some(entry)
    }

    /// A file takes this much now.
    pub fn resize(&mut self, number: u32, bytes: u64) {
        let Some(entry) = self.files.get_mut(&number) else {
            return;
        };
        let before = std::mem::replace(&mut entry.bytes, bytes);
        let (lane, line) = (entry.lane, entry.line);
        let queue = self.queue(lane, line);
        queue.bytes = queue.bytes.saturating_sub(before) + bytes;
        self.used = self.used.saturating_sub(before) + bytes;
    }

    /// A file goes to the end of its lane's main queue.
    pub fn promote(&mut self, number: u32) {
        if let Some(entry) = self.remove(number) {
            self.add(Entry {
                line: Line::Main,
                ..entry
            });
        }
    }

    /// What is known of a file.
    pub fn file(&self, number: u32) -> Option<Entry> {
        self.files.get(&number).copied()
    }

    /// All files.
    pub fn files(&self) -> impl Iterator<Item = &Entry> {
        self.files.values()
    }

    /// Puts all queues in the order of their files' numbers, after files were added in another.
    pub fn sort(&mut self) {
        for lane in self.lanes.values_mut() {
            for queue in [&mut lane.probation, &mut lane.main] {
                let number = |low: &u32| self.files.get(low).map(|file| file.name.number);
                queue.order.make_contiguous().sort_by_key(number);
            }
        }
    }

    /// Bytes that all files take on disk, and the folders they are in.
    pub fn used(&self) -> u64 {
        let blocks = self.folders.len() + OWN_BLOCKS;
        self.used + blocks as u64 * 4096
    }

    /// The file to be given up for what is written to `lane`: one of the shared lane, else one of its
    /// own; `None` where neither has any, as nobody gives way to another.
    pub fn victim(&self, lane: u64) -> Option<Entry> {
        let oldest = |lane: u64| self.lanes.get(&lane).and_then(Lane::oldest);
        let number = oldest(0).or_else(|| oldest(lane))?;
        self.file(number)
    }

    fn queue(&mut self, lane: u64, line: Line) -> &mut Queue {
        let lane = self.lanes.entry(lane).or_default();
        match line {
            Line::Probation => &mut lane.probation,
            Line::Main => &mut lane.main,
        }
    }
}

impl Lane {
    fn oldest(&self) -> Option<u32> {
        let probation = self.probation.order.front();
        let main = self.main.order.front();
        // The part of a lane that may be on probation, where it has a main queue at all.
        let first = self.probation.bytes > (self.probation.bytes + self.main.bytes) / 10;
        match first {
            true => probation.or(main).copied(),
            false => main.or(probation).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number, lane, line, bytes.
    type Row = (u64, u64, Line, u64);

    fn with(files: &[Row]) -> Catalogue {
        let mut catalogue = Catalogue::default();
        for &(number, lane, line, bytes) in files {
            catalogue.add(Entry {
                name: FileName {
                    number,
                    object: false,
                },
                lane,
                line,
                bytes,
                object: None,
            });
        }
        catalogue
    }

    #[test]
    fn what_goes_next() {
        use Line::{Main, Probation};
        #[rustfmt::skip]
        let cases: [(&str, u64, &[Row], Option<u64>); 9] = [
            // which, for whom, what is there, what goes
            ("nothing",               0, &[], None),
            ("the oldest",            0, &[(1, 0, Probation, 10), (2, 0, Probation, 10)], Some(1)),
            ("probation before main", 0, &[(1, 0, Main, 80), (2, 0, Probation, 20)], Some(2)),
            ("main, if that is long", 0, &[(1, 0, Main, 90), (2, 0, Probation, 10)], Some(1)),
            ("main alone",            0, &[(1, 0, Main, 90)], Some(1)),
            ("the shared lane first", 7, &[(1, 7, Probation, 10), (2, 0, Main, 10)], Some(2)),
            ("then its own",          7, &[(1, 8, Probation, 10), (2, 7, Main, 10)], Some(2)),
            ("never another's",       7, &[(1, 8, Probation, 10)], None),
            ("nor for the shared",    0, &[(1, 8, Probation, 10)], None),
        ];
        for (name, lane, files, expected) in cases {
            let victim = with(files).victim(lane).map(|file| file.name.number);
            assert_eq!(victim, expected, "{name}");
        }
    }

    #[test]
    fn what_is_used_is_what_is_there() {
        let mut catalogue = with(&[]);
        let nothing = catalogue.used();
        for (number, bytes) in [(1, 100), (2, 200), (258, 400)] {
            let file = with(&[(number, 0, Line::Probation, bytes)]).file(number as u32);
            catalogue.add(file.unwrap());
        }
        // Files whose numbers end alike share a folder.
        assert_eq!(catalogue.used(), nothing + 700 + 2 * 4096);
        catalogue.resize(2, 50);
        catalogue.promote(2);
        catalogue.remove(1);
        assert_eq!(catalogue.used(), nothing + 450 + 2 * 4096);
        assert_eq!(catalogue.next_number(), 259);
        assert_eq!(catalogue.file(2).unwrap().line, Line::Main);
    }
}
