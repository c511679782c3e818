//! What lies in the files, byte by byte. All numbers are little-endian.
//!
//! ```text
//! segment:  header | record | record | ... [ | table | tail ]      table and tail once it is sealed
//! object:   header | body | block sums | record | record | ...     each record tells of that body
//! record:   64 bytes | scopes | block sums | key | meta | body     begins and ends at 16 bytes
//! ```
//!
//! Every sum is keyed with the folder's seed, and those of headers and records also with the place
//! they stand at. So what was written elsewhere, or sent by a server as a body that looks like a
//! record, is not taken for one.

use bytes::Bytes;

use super::seed::Seed;

/// Records begin at a multiple of so many bytes.
pub(super) const ALIGN: u64 = 16;
/// The fixed part of a record, and a file's header.
pub(super) const HEADER: usize = 64;
/// A body is summed in blocks of so many bytes.
pub(super) const BLOCK: usize = 64 * 1024;
/// A body of at most so many bytes is read in one piece.
pub(super) const WHOLE: u64 = 256 * 1024;
/// The most that key, scopes and meta of a record may take together.
pub(super) const HEAD_LIMIT: usize = 192 * 1024;

const LIVE: u64 = 0x3152_5f45_5649_4cff;
const DEAD: u64 = 0x8e61_7c1d_d3a2_5b00;
const FILE: u64 = 0x3146_4e47_4953_5653;
/// The first eight bytes of a record that no longer counts.
pub(super) const DEAD_MARK: [u8; 8] = DEAD.to_le_bytes();
/// The body of a record stands before it, in an object.
const OUTSIDE: u32 = 1;

/// Which of a lane's two queues a file waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Line {
    /// New records.
    Probation,
    /// Records that were used while they were on probation.
    Main,
}

/// The beginning of a segment or an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHeader {
    /// The number in its name.
    pub number: u64,
    /// Whose records it holds; 0 is shared.
    pub lane: u64,
    /// Where it waits.
    pub line: Line,
    /// What the body of an object is; `None` in a segment.
    pub object: Option<ObjectBody>,
}

/// What lies in front of an object's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ObjectBody {
    /// Bytes of body.
    pub length: u64,
    /// The sum of its block sums.
    pub sums: u64,
}

impl ObjectBody {
    /// Where the body begins.
    pub const START: u64 = HEADER as u64;

    /// Where the block sums begin.
    pub fn sums_at(self) -> u64 {
        align(Self::START.saturating_add(self.length))
    }

    /// How many blocks there are.
    pub fn blocks(self) -> u64 {
        self.length.div_ceil(BLOCK as u64)
    }

    /// Where the records begin.
    pub fn records_at(self) -> u64 {
        align(
            self.sums_at()
                .saturating_add(self.blocks().saturating_mul(8)),
        )
    }
}

impl FileHeader {
    /// The bytes of it.
    pub fn encode(&self, seed: Seed) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let object = self.object.unwrap_or(ObjectBody { length: 0, sums: 0 });
        let line = u64::from(self.line == Line::Main);
        let kind = u64::from(self.object.is_some());
        let fields = [
            FILE,
            0,
            self.number,
            self.lane,
            line | kind << 32,
            object.length,
            object.sums,
            0,
        ];
        put(&mut bytes, &fields);
        let sum = seed.at(self.number, 0, bytes.get(16..).unwrap_or_default());
        put(&mut bytes, &[FILE, sum]);
        bytes
    }

    /// Reads it; `None` where it is not whole, or not of this folder.
    pub fn parse(seed: Seed, bytes: &[u8]) -> Option<Self> {
        let number = u64_at(bytes, 16)?;
        if u64_at(bytes, 0)? != FILE
            || u64_at(bytes, 8)? != seed.at(number, 0, bytes.get(16..HEADER)?)
        {
            return None;
        }
        let line = match u32_at(bytes, 32)? {
            0 => Line::Probation,
            _ => Line::Main,
        };
        let body = ObjectBody {
            length: u64_at(bytes, 40)?,
            sums: u64_at(bytes, 48)?,
        };
        Some(Self {
            number,
            lane: u64_at(bytes, 24)?,
            line,
            object: (u32_at(bytes, 36)? == 1).then_some(body),
        })
    }
}

/// The fixed part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// It was forgotten or replaced.
    pub dead: bool,
    /// The sum of all that follows it, up to the body.
    pub sum: u64,
    /// Bytes of key.
    pub key: u32,
    /// How many scopes.
    pub scopes: u32,
    /// Bytes of meta.
    pub meta: u32,
    /// The body stands in front, in an object.
    pub outside: bool,
    /// Bytes of body.
    pub body: u64,
    /// When it was made, in the caller's count.
    pub born: u64,
    /// The hash of its key.
    pub hash: u64,
    /// Which variant of the key it is.
    pub variant: u64,
}

impl Head {
    /// Reads it; `None` where no record begins, or it cannot be one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let dead = match u64_at(bytes, 0)? {
            LIVE => false,
            DEAD => true,
            _ => return None,
        };
        let head = Self {
            dead,
            sum: u64_at(bytes, 8)?,
            key: u32_at(bytes, 16)?,
            scopes: u32_at(bytes, 20)?,
            meta: u32_at(bytes, 24)?,
            outside: u32_at(bytes, 28)? == OUTSIDE,
            body: u64_at(bytes, 32)?,
            born: u64_at(bytes, 40)?,
            hash: u64_at(bytes, 48)?,
            variant: u64_at(bytes, 56)?,
        };
        head.plausible().then_some(head)
    }

    fn plausible(&self) -> bool {
        let head = u64::from(self.key) + u64::from(self.scopes) * 8 + u64::from(self.meta);
        head <= HEAD_LIMIT as u64 && (self.outside || self.body <= u64::from(u32::MAX))
    }

    fn blocks(&self) -> usize {
        match self.outside {
            true => 0,
            // At most 2^16, see `plausible`.
            false => usize::try_from(self.body.div_ceil(BLOCK as u64)).unwrap_or(usize::MAX),
        }
    }

    /// Bytes up to the body.
    pub fn head_len(&self) -> usize {
        HEADER + 8 * (self.scopes as usize + self.blocks()) + self.key as usize + self.meta as usize
    }

    /// Bytes it takes in its file.
    pub fn total(&self) -> u64 {
        let body = if self.outside { 0 } else { self.body };
        align(self.head_len() as u64 + body)
    }

    /// Bytes to read first: all of it, or all but a body that is not read in one piece.
    pub fn first_read(&self) -> u64 {
        match !self.outside && self.body <= WHOLE {
            true => self.total(),
            false => align(self.head_len() as u64),
        }
    }
}

/// Where the parts of a record lie in its bytes. Made only where the sum is right.
pub(super) struct Parts {
    /// The fixed part.
    pub head: Head,
    key_at: usize,
    sums_at: usize,
}

impl Parts {
    /// Finds them in the bytes that begin with a record at `offset` of file `number`, and checks all but
    /// the body.
    pub fn parse(seed: Seed, number: u64, offset: u64, bytes: &[u8]) -> Option<Self> {
        let head = Head::parse(bytes)?;
        let summed = bytes.get(16..head.head_len())?;
        if head.sum != seed.at(number, offset, summed) {
            return None;
        }
        let sums_at = HEADER + 8 * head.scopes as usize;
        Some(Self {
            key_at: sums_at + 8 * head.blocks(),
            sums_at,
            head,
        })
    }

    /// The key.
    pub fn key<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let end = self.key_at + self.head.key as usize;
        bytes.get(self.key_at..end).unwrap_or_default()
    }

    /// The meta.
    pub fn meta(&self, bytes: &Bytes) -> Bytes {
        let begin = self.key_at + self.head.key as usize;
        slice(bytes, begin, begin + self.head.meta as usize)
    }

    /// The body, where `bytes` hold the whole record; not checked.
    pub fn body(&self, bytes: &Bytes) -> Option<Bytes> {
        let begin = self.head.head_len();
        let end = begin.checked_add(usize::try_from(self.head.body).ok()?)?;
        (bytes.len() >= end).then(|| slice(bytes, begin, end))
    }

    /// The block sums.
    pub fn sums(&self, bytes: &[u8]) -> Vec<u64> {
        numbers(bytes.get(self.sums_at..self.key_at).unwrap_or_default())
    }

    /// Whether each block of `body` is what it was when it was written.
    pub fn body_is_whole(&self, seed: Seed, bytes: &[u8], body: &[u8]) -> bool {
        let sums = bytes.get(self.sums_at..self.key_at).unwrap_or_default();
        sums.len() / 8 == body.len().div_ceil(BLOCK)
            && body
                .chunks(BLOCK)
                .zip(sums.chunks_exact(8))
                .all(|(block, sum)| seed.block(block).to_le_bytes() == sum)
    }

    /// The scopes.
    pub fn scopes(&self, bytes: &[u8]) -> Vec<u64> {
        numbers(bytes.get(HEADER..self.sums_at).unwrap_or_default())
    }
}

/// What a record is made from, but for its place.
pub(super) struct Parcel<'a> {
    /// The hash of the key.
    pub hash: u64,
    /// The key.
    pub key: &'a str,
    /// The variant.
    pub variant: u64,
    /// When it was made.
    pub born: u64,
    /// The scopes.
    pub scopes: &'a [u64],
    /// The meta.
    pub meta: &'a [u8],
    /// The body's length.
    pub body: u64,
    /// The sums of the body's blocks; empty where it stands outside.
    pub sums: &'a [u64],
    /// The body stands in front, in an object.
    pub outside: bool,
}

impl Parcel<'_> {
    /// Bytes up to the body.
    pub fn head_len(&self) -> usize {
        HEADER + 8 * (self.scopes.len() + self.sums.len()) + self.key.len() + self.meta.len()
    }

    /// The bytes up to the body, for `offset` in file `number`. The lengths were checked when the record
    /// was taken, see [`head_fits`].
    pub fn encode(&self, seed: Seed, number: u64, offset: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.head_len() + ALIGN as usize);
        let flags = if self.outside { OUTSIDE } else { 0 };
        let lengths = [self.key.len(), self.scopes.len(), self.meta.len()];
        bytes.extend_from_slice(&LIVE.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        for length in lengths {
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&length.to_le_bytes());
        }
        bytes.extend_from_slice(&flags.to_le_bytes());
        for number in [self.body, self.born, self.hash, self.variant] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for number in self.scopes.iter().chain(self.sums) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(self.key.as_bytes());
        bytes.extend_from_slice(self.meta);
        seal_record(seed, number, offset, &mut bytes);
        bytes
    }
}

/// Puts the sum for a new place into the bytes up to a record's body.
pub(super) fn seal_record(seed: Seed, number: u64, offset: u64, head: &mut [u8]) {
    let sum = seed.at(number, offset, head.get(16..).unwrap_or_default());
    if let Some(field) = head.get_mut(8..16) {
        field.copy_from_slice(&sum.to_le_bytes());
    }
}

/// Whether key, scopes and meta of such lengths make a record.
pub(super) fn head_fits(key: usize, scopes: usize, meta: usize) -> bool {
    key.saturating_add(scopes.saturating_mul(8))
        .saturating_add(meta)
        <= HEAD_LIMIT
}

/// Where in `bytes`, which stand at `offset` of a file, the next record might begin after `from`.
pub(super) fn next_mark(bytes: &[u8], offset: u64, from: usize) -> Option<usize> {
    let first = usize::try_from(align(offset + from as u64) - offset).ok()?;
    (first..bytes.len())
        .step_by(ALIGN as usize)
        .find(|&at| matches!(u64_at(bytes, at), Some(LIVE | DEAD)))
}

/// The next multiple of [`ALIGN`].
pub(super) fn align(length: u64) -> u64 {
    length.div_ceil(ALIGN).saturating_mul(ALIGN)
}

/// Numbers out of their bytes.
pub(super) fn numbers(bytes: &[u8]) -> Vec<u64> {
    let number = |bytes: &[u8]| u64_at(bytes, 0).unwrap_or_default();
    bytes.chunks_exact(8).map(number).collect()
}

fn put(bytes: &mut [u8], fields: &[u64]) {
    for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
        place.copy_from_slice(&field.to_le_bytes());
    }
}

fn slice(bytes: &Bytes, begin: usize, end: usize) -> Bytes {
    match begin <= end && end <= bytes.len() {
        true => bytes.slice(begin..end),
        false => Bytes::new(),
    }
}

/// The number at a place.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(field.try_into().ok()?))
}

/// The number at a place.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}
