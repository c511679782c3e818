//! Open files, of which there are never more than a few hundred, and how they are read and written.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use rustix::io::{Errno, ReadWriteFlags, preadv2, pwritev};

use super::WouldBlock;
use super::folder::{FileName, Folder};
use super::format::{FileHeader, HEADER, ObjectBody};

/// Files that are kept open.
const MOST_OPEN: usize = 256;
/// Pieces in one write; the kernel takes at most 1,024.
const MOST_PIECES: usize = 1000;

/// A file that holds records, open.
#[derive(Debug)]
pub(super) struct Open {
    /// The file; for reading and writing, where that is allowed.
    pub file: File,
    /// The number in its name.
    pub number: u64,
    /// What lies in front of an object's records.
    pub object: Option<ObjectBody>,
}

/// The files that are kept open; the one that was not used for longest goes first.
#[derive(Default)]
pub(super) struct Files(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    files: HashMap<u32, (Arc<Open>, u64)>,
    clock: u64,
}

/// How bytes get into a file. The second one, in tests, fails when it is told to.
pub(super) trait Writes: Send + Sync {
    /// Writes all of `pieces` at `offset`.
    fn write(&self, file: &File, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<()>;
}

/// Writes by the kernel.
pub(super) struct Kernel;

impl Open {
    /// Opens a file and reads its header. Waits for the disk.
    pub fn named(folder: &Folder, name: FileName) -> io::Result<(Self, FileHeader)> {
        let path = folder.path(name);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied
                ) =>
            {
                File::open(&path)?
            }
            file => file?,
        };
        let mut bytes = [0; HEADER];
        file.read_exact_at(&mut bytes, 0)?;
        let header = FileHeader::parse(folder.seed, &bytes)
            .filter(|header| header.number == name.number && header.object.is_some() == name.object)
            .ok_or(ErrorKind::InvalidData)?;
        let open = Self {
            file,
            number: name.number,
            object: header.object,
        };
        Ok((open, header))
    }

    /// Where in the file the records' offsets are counted from.
    pub fn base(&self) -> u64 {
        self.object.map_or(0, ObjectBody::records_at)
    }

    /// Reads up to `length` bytes; fewer only at the end of the file. Waits for the disk.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        read(&self.file, offset, length)
    }

    /// Reads `length` bytes out of the page cache; refused where they are not all there.
    pub fn read_now(&self, offset: u64, length: usize) -> Result<Vec<u8>, WouldBlock> {
        read_now(&self.file, offset, length)
    }
}

/// Reads up to `length` bytes of a file; fewer only at its end. Waits for the disk.
pub(super) fn read(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let at = offset + bytes.len() as u64;
        let spare = rustix::buffer::spare_capacity(&mut bytes);
        match rustix::io::pread(file, spare, at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// Reads `length` bytes of a file out of the page cache; refused where they are not all there.
pub(super) fn read_now(file: &File, offset: u64, length: usize) -> Result<Vec<u8>, WouldBlock> {
    let mut bytes = vec![0; length];
    let pieces = &mut [IoSliceMut::new(&mut bytes)];
    match preadv2(file, pieces, offset, ReadWriteFlags::NOWAIT) {
        Ok(read) if read == length => Ok(bytes),
        _ => Err(WouldBlock),
    }
}

impl Files {
    /// The file with this number (its low half), if it is open.
    pub fn known(&self, number: u32) -> Option<Arc<Open>> {
        let mut kept = self.0.lock();
        kept.clock += 1;
        let now = kept.clock;
        let (file, used) = kept.files.get_mut(&number)?;
        *used = now;
        Some(file.clone())
    }

    /// Keeps a file.
    pub fn keep(&self, file: &Arc<Open>) {
        let mut kept = self.0.lock();
        kept.clock += 1;
        let now = kept.clock;
        // What goes is closed after the lock is let go of.
        let mut gone = None;
        if kept.files.len() >= MOST_OPEN {
            let oldest = kept.files.iter().min_by_key(|(_, (_, used))| *used);
            let oldest = oldest.map(|(&number, _)| number);
            gone = oldest.and_then(|number| kept.files.remove(&number));
        }
        let replaced = kept.files.insert(file.number as u32, (file.clone(), now));
        drop(kept);
        drop((gone, replaced));
    }

    /// Lets go of a file.
    pub fn forget(&self, number: u32) {
        let gone = self.0.lock().files.remove(&number);
        drop(gone);
    }
}

impl Writes for Kernel {
    fn write(&self, file: &File, pieces: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        for some in pieces.chunks(MOST_PIECES) {
            offset = write_pieces(file, some, offset)?;
        }
        Ok(())
    }
}

fn write_pieces(file: &File, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<u64> {
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    let end = offset + length as u64;
    let written = loop {
        match pwritev(file, pieces, offset) {
            Ok(written) => break written,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    // The rest of a write that was cut short goes piece by piece.
    let (mut skip, mut at) = (written, offset + written as u64);
    for piece in pieces {
        let rest = piece.get(skip.min(piece.len())..).unwrap_or_default();
        skip = skip.saturating_sub(piece.len());
        file.write_all_at(rest, at)?;
        at += rest.len() as u64;
    }
    Ok(end)
}
