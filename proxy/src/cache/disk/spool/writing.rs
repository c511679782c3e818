//! The file of a body on its way: what is written to it, and how it becomes an object.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::super::catalogue::Entry;
use super::super::files::Open;
use super::super::folder::FileName;
use super::super::format::{FileHeader, HEADER, Head, Line, ObjectBody, Parcel, align};
use super::super::index::{Arrival, At, Put};
use super::super::queue::Chore;
use super::super::seed::Summing;
use super::super::writer::on_disk;
use super::super::{NewRecord, Shared, StoredBody};
use super::Tail;

/// The file, and what is known of what is in it.
pub(super) struct Writing {
    /// The disk it is for.
    pub shared: Arc<Shared>,
    /// What readers have of it.
    pub tail: Arc<Tail>,
    path: PathBuf,
    sums: Summing,
    /// Bytes of body in it.
    pub length: u64,
    /// Bytes on disk that are counted for it.
    takes: u64,
    finished: bool,
}

impl Writing {
    /// A new file.
    pub fn begin(shared: Arc<Shared>) -> io::Result<Self> {
        let number = shared.spools.fetch_add(1, Ordering::Relaxed) + 1;
        let path = shared.folder.unfinished(number);
        let file = shared.folder.create(&path)?;
        let takes = on_disk(HEADER as u64);
        shared.spooled.fetch_add(takes, Ordering::Relaxed);
        let tail = Tail {
            shared: shared.clone(),
            file,
            written: AtomicU64::new(0),
            rest: OnceLock::new(),
        };
        Ok(Self {
            sums: shared.folder.seed.summing(),
            shared,
            tail: Arc::new(tail),
            path,
            length: 0,
            takes,
            finished: false,
        })
    }

    /// Counts so many bytes more, before they are written.
    pub fn reserve(&mut self, bytes: u64) {
        let takes = on_disk(HEADER as u64 + self.length + bytes);
        let more = takes.saturating_sub(self.takes);
        self.shared.spooled.fetch_add(more, Ordering::Relaxed);
        self.takes += more;
    }

    /// Puts pieces behind what is there.
    pub fn write(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let at = ObjectBody::START + self.length;
        let written = self.shared.writes.write(&self.tail.file, &slices, at);
        if let Err(error) = written {
            self.shared.condition.failed("write to a file", &error);
            return Err(error);
        }
        for piece in pieces {
            self.sums.add(piece);
            self.length += piece.len() as u64;
        }
        self.tail.written.store(self.length, Ordering::Release);
        Ok(())
    }

    /// Makes an object of it, and puts that into the index.
    pub fn commit(mut self, lane: u64, record: &NewRecord) -> io::Result<StoredBody> {
        let shared = self.shared.clone();
        if !shared.takes() {
            return Err(io::Error::other("the disk is ill or paused"));
        }
        let seed = shared.folder.seed;
        let hash = seed.key(&record.key);
        let ticket = shared.queue.begin(hash);
        let number = shared.catalogue.lock().next_number();
        let sums = std::mem::replace(&mut self.sums, seed.summing()).finish();
        let sum_bytes: Vec<u8> = sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        let mut object = ObjectBody {
            length: self.length,
            sums: 0,
        };
        object.sums = seed.at(number, object.sums_at(), &sum_bytes);
        let scopes = record.sorted_scopes();
        let parcel = Parcel {
            body: self.length,
            outside: true,
            scopes: &scopes,
            ..record.parcel(hash, &[])
        };
        let mut head = parcel.encode(seed, number, object.records_at());
        head.resize(align(head.len() as u64) as usize, 0);
        let header = FileHeader {
            number,
            lane,
            line: Line::Probation,
            object: Some(object),
        };
        let name = FileName {
            number,
            object: true,
        };
        let written = self
            .write_ends(&header, object, &sum_bytes, &head)
            .and_then(|()| {
                let file = self.tail.file.try_clone()?;
                shared.folder.finish(&self.path, name)?;
                Ok(file)
            });
        let file = match written {
            Ok(file) => file,
            Err(error) => {
                shared.queue.publish(ticket, |_| ());
                shared.condition.failed("finish a file", &error);
                return Err(error);
            }
        };
        self.finished = true;
        shared.spooled.fetch_sub(self.takes, Ordering::Relaxed);
        let open = Arc::new(Open {
            file,
            number,
            object: Some(object),
        });
        shared.files.keep(&open);
        shared.catalogue.lock().add(Entry {
            name,
            lane,
            line: Line::Probation,
            bytes: on_disk(object.records_at() + head.len() as u64),
            object: Some(hash),
        });
        let length = Head::parse(&head).map_or(0, |head| head.first_read());
        let at = At {
            file: number as u32,
            offset: 0,
            length: length as u32,
        };
        let put = shared.queue.publish(ticket, |forgotten| match forgotten {
            true => Put::Older,
            false => shared.index.put(&Arrival {
                hash,
                variant: record.variant,
                born: record.born,
                at,
                group: shared.index.group(&scopes, 1),
            }),
        });
        match put {
            Put::Older => shared.bury(hash, at),
            Put::Stored(gone) => {
                if let Some(found) = gone {
                    shared.bury(hash, found.at);
                }
            }
        }
        Ok(StoredBody::of_object(
            shared,
            open,
            hash,
            at,
            object.length,
            sums,
        ))
    }

    /// What stands in front of the body and behind it.
    fn write_ends(
        &self,
        header: &FileHeader,
        object: ObjectBody,
        sums: &[u8],
        head: &[u8],
    ) -> io::Result<()> {
        let writes = &self.shared.writes;
        let body_end = ObjectBody::START + object.length;
        let zeros = [0; 16];
        let before_sums = (object.sums_at() - body_end) as usize;
        let after_sums = (object.records_at() - object.sums_at()) as usize - sums.len();
        let ends = [
            IoSlice::new(zeros.get(..before_sums).unwrap_or_default()),
            IoSlice::new(sums),
            IoSlice::new(zeros.get(..after_sums).unwrap_or_default()),
            IoSlice::new(head),
        ];
        writes.write(&self.tail.file, &ends, body_end)?;
        let header = header.encode(self.shared.folder.seed);
        writes.write(&self.tail.file, &[IoSlice::new(&header)], 0)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.finished {
            self.shared.spooled.fetch_sub(self.takes, Ordering::Relaxed);
            self.shared
                .queue
                .leave(Chore::Unlink(std::mem::take(&mut self.path)));
        }
    }
}
