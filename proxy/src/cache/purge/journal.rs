//! The journal: a file of purges, one record of fixed size each, appended; written anew as a whole and renamed into its place.
//!
//! ```text
//! head    b"sovereign-purges" version:u64 zeros:u64
//! record  scope:u64 born:u64 since:u64 kind:u8 zeros:[u8; 3] check:u32       little-endian; 32 bytes as well
//! ```
//!
//! A torn or flipped record is one that its check does not fit; the next one stands 32 bytes on. Two processes take turns by a lock
//! on the file, and each reads what the other has appended before it appends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use twox_hash::XxHash3_64;

/// One purge of one scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    /// 0 for a floor.
    pub(super) scope: u64,
    /// The number of the purge.
    pub(super) born: u64,
    /// When it was, in milliseconds since 1970.
    pub(super) since: u64,
    pub(super) kind: Kind,
    /// Taken in from another process, which need not take it in again.
    pub(super) echo: bool,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Soft,
    Hard,
    /// To every scope.
    SoftFloor,
    /// To every scope.
    HardFloor,
}

impl Kind {
    /// Whether it was done to every scope.
    pub(super) fn is_floor(self) -> bool {
        matches!(self, Self::SoftFloor | Self::HardFloor)
    }
}

/// What is called with each record that is read: true where it was appended since the last time, false where the whole file is new.
pub(super) type Sink<'a> = &'a mut dyn FnMut(Record, bool);

/// The file, which need not exist.
pub(super) struct Journal {
    path: PathBuf,
    file: Option<File>,
    /// How much of the file is known here, in bytes; whole records, or 0.
    known: u64,
    damaged: u64,
}

impl Journal {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            file: None,
            known: 0,
            damaged: 0,
        }
    }

    /// Reads what is there, if anything. A file that is something else is renamed aside.
    pub(super) fn open(&mut self, sink: Sink<'_>) -> io::Result<()> {
        self.begin(sink).map(drop)
    }

    /// Records in the file.
    pub(super) fn records(&self) -> u64 {
        self.known.saturating_sub(SIZE as u64) / SIZE as u64
    }

    /// Records that could not be read, since the beginning.
    pub(super) fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Takes a turn: locks the file and reads what is new in it. False where there is no file to append to.
    pub(super) fn begin(&mut self, sink: Sink<'_>) -> io::Result<bool> {
        // Again where it is replaced between being opened and being locked.
        for _ in 0..REPLACED {
            let current = self.file.as_ref().map(is_at(&self.path)).transpose()?;
            if current != Some(true) {
                (self.file, self.known) = (None, 0);
                let opened = OpenOptions::new().read(true).append(true).open(&self.path);
                match opened {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                    opened => self.file = Some(opened?),
                }
            }
            let Some(file) = &self.file else { continue };
            lock(file)?;
            if is_at(&self.path)(file)? {
                return self.catch_up(sink);
            }
        }
        Err(io::Error::other(
            "the journal of purges is replaced again and again",
        ))
    }

    /// Ends the turn.
    pub(super) fn end(&mut self) {
        // Closing it, as the end of the process does, ends it as well.
        let _ = self.file.as_ref().map(File::unlock);
    }

    /// Adds records to the end.
    pub(super) fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let Some(mut file) = self.file.as_ref() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if records.is_empty() {
            return Ok(());
        }
        let bytes: Vec<u8> = records.iter().flat_map(Record::bytes).collect();
        if let Err(error) = file.write_all(&bytes) {
            // Half a record would hide those behind it. Where this fails too, the file is written anew.
            let _ = file.set_len(self.known);
            return Err(error);
        }
        self.known += bytes.len() as u64;
        Ok(())
    }

    /// Writes the file anew, to the disk itself.
    pub(super) fn rewrite(&mut self, records: &[Record]) -> io::Result<()> {
        let new = self.beside("new");
        let bytes: Vec<u8> = head()
            .into_iter()
            .chain(records.iter().flat_map(Record::bytes))
            .collect();
        // Another process may have left one behind, or be writing one where there is no file to lock.
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        let written = file
            .write_all(&bytes)
            .and_then(|()| file.sync_data())
            .and_then(|()| fs::rename(&new, &self.path));
        if let Err(error) = written {
            let _ = fs::remove_file(&new);
            return Err(error);
        }
        // The old one, where there is one, is unlocked by this.
        self.file = Some(file);
        self.known = bytes.len() as u64;
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_data(),
            _ => Ok(()),
        }
    }

    /// Waits until what was appended is on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_data)
    }

    /// Reads from where this process knows the file to its end. False where it cannot be appended to.
    fn catch_up(&mut self, sink: Sink<'_>) -> io::Result<bool> {
        let Some(file) = self.file.as_ref() else {
            return Ok(false);
        };
        let end = file.metadata()?.len();
        if end < self.known {
            // Cut off by somebody.
            self.known = 0;
        }
        let at_once = self.known > 0;
        if end == self.known && at_once {
            return Ok(true);
        }
        let mut file = file;
        file.seek(SeekFrom::Start(self.known))?;
        let mut reader = BufReader::with_capacity(BUFFER, file.take(end - self.known));
        let mut record = [0; SIZE];
        if !at_once {
            if !fill(&mut reader, &mut record)? || record != head() {
                return self.set_aside();
            }
            self.known = SIZE as u64;
        }
        while fill(&mut reader, &mut record)? {
            match Record::read(&record) {
                Some(record) => sink(record, at_once),
                None => self.damaged += 1,
            }
            self.known += SIZE as u64;
        }
        let torn = self.known != end;
        self.damaged += u64::from(torn);
        Ok(!torn)
    }

    fn set_aside(&mut self) -> io::Result<bool> {
        let aside = self.beside("set-aside");
        tracing::warn!(
            path = %self.path.display(), aside = %aside.display(),
            "not a journal of purges that this program reads: set aside"
        );
        fs::rename(&self.path, aside)?;
        (self.file, self.known) = (None, 0);
        self.damaged += 1;
        Ok(false)
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".");
        name.push(suffix);
        name.into()
    }
}

impl Record {
    fn bytes(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        let kind = match self.kind {
            Kind::Soft => 0,
            Kind::Hard => 1,
            Kind::SoftFloor => 2,
            Kind::HardFloor => 3,
        };
        bytes[..8].copy_from_slice(&self.scope.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.born.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.since.to_le_bytes());
        bytes[24] = kind | if self.echo { ECHO } else { 0 };
        let check = check(&bytes[..CHECKED]);
        bytes[CHECKED..].copy_from_slice(&check);
        bytes
    }

    fn read(bytes: &[u8; SIZE]) -> Option<Self> {
        let (fields, check_found) = bytes.split_at(CHECKED);
        if check_found != check(fields) {
            return None;
        }
        let number = |at: usize| Some(u64::from_le_bytes(fields.get(at..at + 8)?.try_into().ok()?));
        let kind = match fields.get(24)? & !ECHO {
            0 => Kind::Soft,
            1 => Kind::Hard,
            2 => Kind::SoftFloor,
            3 => Kind::HardFloor,
            _ => return None,
        };
        Some(Self {
            scope: number(0)?,
            born: number(8)?,
            since: number(16)?,
            kind,
            echo: fields.get(24)? & ECHO > 0,
        })
    }
}

fn head() -> [u8; SIZE] {
    let mut head = [0; SIZE];
    head[..16].copy_from_slice(b"sovereign-purges");
    head[16..24].copy_from_slice(&VERSION.to_le_bytes());
    head
}

fn check(fields: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = XxHash3_64::oneshot_with_seed(CHECK, fields).to_le_bytes();
    [a, b, c, d]
}

/// Reads a whole record; false where there is none.
fn fill(reader: &mut impl io::Read, record: &mut [u8; SIZE]) -> io::Result<bool> {
    match reader.read_exact(record) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| true),
    }
}

/// Whether an open file is the one at that path.
fn is_at(path: &Path) -> impl Fn(&File) -> io::Result<bool> {
    move |file| {
        let named = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            named => named?,
        };
        let open = file.metadata()?;
        Ok((named.dev(), named.ino()) == (open.dev(), open.ino()))
    }
}

/// Waits for another process's turn to end, but not for ever.
fn lock(file: &File) -> io::Result<()> {
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::other(
        "another process holds the journal of purges",
    ))
}

/// Of a record, and of the head.
const SIZE: usize = 32;
/// How much of a record its check is made of.
const CHECKED: usize = 28;
const VERSION: u64 = 1;
const ECHO: u8 = 0x10;
/// A seed, so that a record of zeros is none.
const CHECK: u64 = 0x7075_7267_6573_2e31;
const BUFFER: usize = 64 * 1024;
/// Together a second.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);
/// How often the file may be another one when it is locked.
const REPLACED: u32 = 8;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn record(scope: u64) -> Record {
        Record {
            scope,
            born: scope * 10,
            since: scope * 100,
            kind: Kind::Soft,
            echo: false,
        }
    }

    fn read(journal: &mut Journal) -> Vec<Record> {
        let mut found = Vec::new();
        journal.begin(&mut |record, _| found.push(record)).unwrap();
        journal.end();
        found
    }

    #[test]
    fn every_bit_of_a_record_is_checked() {
        for (kind, echo) in [
            (Kind::Soft, false),
            (Kind::Hard, true),
            (Kind::SoftFloor, true),
            (Kind::HardFloor, false),
        ] {
            let record = Record {
                kind,
                echo,
                ..record(7)
            };
            let bytes = record.bytes();
            assert_eq!(Record::read(&bytes), Some(record));
            for bit in 0..SIZE * 8 {
                let mut flipped = bytes;
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Record::read(&flipped), None, "bit {bit}");
            }
        }
        assert_eq!(Record::read(&[0; SIZE]), None, "what a power cut leaves");
        assert_eq!(Record::read(&[0xff; SIZE]), None);
    }

    #[test]
    fn cut_off_anywhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("purges");
        let all: Vec<_> = (1..=3).map(record).collect();
        Journal::new(&path).rewrite(&all).unwrap();
        let whole = fs::read(&path).unwrap();
        assert_eq!(whole.len(), 4 * SIZE);
        for length in 0..=whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let mut journal = Journal::new(&path);
            let mut found = Vec::new();
            let usable = journal.begin(&mut |record, _| found.push(record)).unwrap();
            journal.end();
            assert_eq!(usable, length >= SIZE && length % SIZE == 0, "{length}");
            let left = (length / SIZE).saturating_sub(1);
            assert_eq!(found, all[..left], "{length}");
            assert_eq!(
                journal.damaged(),
                u64::from(length % SIZE != 0 || length == 0),
                "{length}"
            );
            assert_eq!(
                path.exists(),
                length >= SIZE,
                "without its head it is set aside: {length}"
            );
        }
    }

    #[test]
    fn each_byte_flipped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("purges");
        let all: Vec<_> = (1..=3).map(record).collect();
        Journal::new(&path).rewrite(&all).unwrap();
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            fs::write(&path, &bytes).unwrap();
            let mut journal = Journal::new(&path);
            let found = read(&mut journal);
            assert_eq!(journal.damaged(), 1, "{at}");
            match at / SIZE {
                0 => {
                    assert!(found.is_empty() && !path.exists(), "{at}");
                    assert_eq!(
                        fs::read(folder.path().join("purges.set-aside")).unwrap(),
                        bytes
                    );
                }
                hit => {
                    let others: Vec<_> = all
                        .iter()
                        .filter(|r| r.scope != hit as u64)
                        .copied()
                        .collect();
                    assert_eq!(found, others, "{at}");
                }
            }
        }
    }

    #[test]
    fn two_at_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("purges");
        let (mut one, mut other) = (Journal::new(&path), Journal::new(&path));
        assert!(!one.begin(&mut |_, _| {}).unwrap(), "no file yet");
        one.rewrite(&[record(1)]).unwrap();
        one.end();
        assert_eq!(read(&mut other), [record(1)]);
        assert!(one.begin(&mut |_, _| panic!("nothing new")).unwrap());
        one.append(&[record(2), record(3)]).unwrap();
        let refused = other.begin(&mut |_, _| {}).unwrap_err();
        assert!(refused.to_string().contains("holds"), "{refused}");
        one.end();
        let mut found = Vec::new();
        assert!(
            other
                .begin(&mut |record, at_once| found.push((record, at_once)))
                .unwrap()
        );
        assert_eq!(found, [(record(2), true), (record(3), true)]);
        other.rewrite(&[record(4)]).unwrap();
        other.append(&[record(5)]).unwrap();
        other.end();
        let mut found = Vec::new();
        assert!(
            one.begin(&mut |record, at_once| found.push((record, at_once)))
                .unwrap()
        );
        assert_eq!(
            found,
            [(record(4), false), (record(5), false)],
            "another file"
        );
        assert_eq!(one.records(), 2);
        one.end();
        // Cut off by somebody: all of it is read again.
        let opened = OpenOptions::new().write(true).open(&path).unwrap();
        opened.set_len(2 * SIZE as u64).unwrap();
        assert_eq!(read(&mut one), [record(4)]);
        assert_eq!(one.records(), 1);
        fs::remove_file(&path).unwrap();
        assert!(!one.begin(&mut |_, _| panic!("nothing there")).unwrap());
        assert_eq!(one.records(), 0);
    }

    #[test]
    fn only_its_user_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("purges");
        fs::write(folder.path().join("purges.new"), "left behind").unwrap();
        Journal::new(&path).rewrite(&[]).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(!folder.path().join("purges.new").exists());
    }
}
