//! Other meta for a body that is stored already.

use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;

use super::format::{Parcel, align, head_fits};
use super::index::{Arrival, At};
use super::spool::END_WAIT;
use super::writer::on_disk;
use super::{Disk, NewRecord, Shared, StoredBody};

/// What the records of one object may take, before they are written over the oldest of them.
const RECORDS: u64 = 64 * 1024;

impl StoredBody {
    /// Other meta for the same body, as after a 304. Its `born` must be greater than before, and its key and
    /// variant the same. An error where the body has been given up or replaced meanwhile.
    pub async fn update(&self, disk: &Disk, record: NewRecord) -> io::Result<()> {
        let shared = disk.shared.clone();
        let fits = head_fits(record.key.len(), record.scopes.len(), record.meta.len());
        if !fits || !shared.takes() {
            shared.refuse(1);
            return Err(io::Error::other("the disk does not take it"));
        }
        if self.is_object() {
            let body = self.clone();
            let updated = shared.clone();
            return shared
                .spooling(END_WAIT, move || body.append_record(&updated, &record))
                .await;
        }
        // In a segment it stands behind its own head: it is written again.
        let body = self.clone();
        let body = shared.spooling(END_WAIT, move || body.read_all()).await?;
        match disk.write(NewRecord { body, ..record }) {
            true => Ok(()),
            false => Err(io::Error::other("the disk does not take it")),
        }
    }

    /// Puts a further record behind an object's body.
    fn append_record(&self, shared: &Arc<Shared>, record: &NewRecord) -> io::Result<()> {
        let (open, object, hash) = self.object().ok_or(ErrorKind::InvalidInput)?;
        // One at a time, so that none is written over the other.
        let _one = shared.updates.lock();
        let file = open.number as u32;
        let known = shared.index.of_key(hash);
        let known = known
            .iter()
            .find(|found| found.at.file == file)
            .ok_or(ErrorKind::NotFound)?;
        let scopes = record.sorted_scopes();
        let parcel = Parcel {
            body: object.length,
            outside: true,
            scopes: &scopes,
            ..record.parcel(hash, &[])
        };
        let length = align(parcel.head_len() as u64);
        let next = u64::from(known.at.offset) + u64::from(known.at.length);
        let offset = match next + length > RECORDS && u64::from(known.at.offset) >= length {
            true => 0,
            false => next,
        };
        let at = object.records_at() + offset;
        let mut bytes = parcel.encode(shared.folder.seed, open.number, at);
        bytes.resize(length as usize, 0);
        let written = shared.writes.write(&open.file, &[IoSlice::new(&bytes)], at);
        if let Err(error) = written {
            shared.condition.failed("write to a file", &error);
            return Err(error);
        }
        let size = open.file.metadata().map_or(0, |metadata| metadata.len());
        shared.catalogue.lock().resize(file, on_disk(size));
        let renewed = shared.index.renew(
            known.at,
            &Arrival {
                hash,
                variant: record.variant,
                born: record.born,
                at: At {
                    file,
                    offset: offset as u32,
                    length: length as u32,
                },
                group: shared.index.group(&scopes, 1),
            },
        );
        renewed.then_some(()).ok_or(ErrorKind::NotFound.into())
    }
}
