//! The table at the end of a sealed segment: what is in it, so that loading it reads little.
//!
//! ```text
//! table:  mark | records | groups | last born | 40 bytes a record | each group: count, scopes
//! tail:   where the table begins | its length | its sum | mark
//! ```

use super::format::{numbers, u32_at, u64_at};
use super::seed::Seed;

/// The fixed end of a sealed segment.
pub(super) const TAIL: usize = 32;
/// One record in the table.
const ENTRY: usize = 40;
/// The fixed part of the table.
const TABLE: usize = 32;
const END: u64 = 0x3154_4e47_4953_5653;

/// One record as the table of a sealed segment tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// The hash of the key.
    pub hash: u64,
    /// The variant.
    pub variant: u64,
    /// When it was made.
    pub born: u64,
    /// Where it begins in the segment.
    pub offset: u32,
    /// How much to read first.
    pub length: u32,
    /// Which of the table's groups it belongs to.
    pub group: u32,
}

/// What a segment holds: gathered while it is written, read when it is loaded.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Table {
    /// Its records, in order.
    pub entries: Vec<Entry>,
    /// The lists of scopes that they have.
    pub groups: Vec<Box<[u64]>>,
    /// The greatest `born` that it ever held.
    pub last_born: u64,
}

impl Table {
    /// Bytes that it and its tail take.
    pub fn size(&self) -> u64 {
        let scopes: usize = self.groups.iter().map(|group| 8 + 8 * group.len()).sum();
        (TABLE + self.entries.len() * ENTRY + scopes + TAIL) as u64
    }

    /// The bytes of the table and its tail, for `offset` of file `number`.
    pub fn encode(&self, seed: Seed, number: u64, offset: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(TABLE + self.entries.len() * ENTRY + TAIL);
        let counts = [
            END,
            self.entries.len() as u64,
            self.groups.len() as u64,
            self.last_born,
        ];
        for number in counts {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for entry in &self.entries {
            for number in [entry.hash, entry.variant, entry.born] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            for number in [entry.offset, entry.length, entry.group, 0] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        for group in &self.groups {
            bytes.extend_from_slice(&(group.len() as u64).to_le_bytes());
            for scope in group {
                bytes.extend_from_slice(&scope.to_le_bytes());
            }
        }
        let tail = [
            offset,
            bytes.len() as u64,
            seed.at(number, offset, &bytes),
            END,
        ];
        for number in tail {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// Reads the table out of its bytes, which [`Tail`] told of.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let entries = usize::try_from(u64_at(bytes, 8)?).ok()?;
        let groups = usize::try_from(u64_at(bytes, 16)?).ok()?;
        let end = TABLE.checked_add(entries.checked_mul(ENTRY)?)?;
        let listed = bytes.get(TABLE..end)?;
        let mut rest = bytes.get(end..)?;
        let mut table = Self {
            entries: listed.chunks_exact(ENTRY).filter_map(entry).collect(),
            groups: Vec::new(),
            last_born: u64_at(bytes, 24)?,
        };
        for _ in 0..groups {
            let scopes = usize::try_from(u64_at(rest, 0)?).ok()?;
            let end = scopes.checked_mul(8)?.checked_add(8)?;
            table.groups.push(numbers(rest.get(8..end)?).into());
            rest = rest.get(end..)?;
        }
        Some(table)
    }
}

fn entry(bytes: &[u8]) -> Option<Entry> {
    Some(Entry {
        hash: u64_at(bytes, 0)?,
        variant: u64_at(bytes, 8)?,
        born: u64_at(bytes, 16)?,
        offset: u32_at(bytes, 24)?,
        length: u32_at(bytes, 28)?,
        group: u32_at(bytes, 32)?,
    })
}

/// The fixed end of a sealed segment: where its table is.
pub(super) struct Tail {
    /// Where the table begins.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
    /// Their sum.
    pub sum: u64,
}

impl Tail {
    /// Reads it from the last bytes of a file of `size` bytes.
    pub fn parse(bytes: &[u8], size: u64) -> Option<Self> {
        let tail = Self {
            offset: u64_at(bytes, 0)?,
            length: u64_at(bytes, 8)?,
            sum: u64_at(bytes, 16)?,
        };
        let fits = tail
            .offset
            .checked_add(tail.length)?
            .checked_add(TAIL as u64)?
            == size;
        (fits && u64_at(bytes, 24)? == END).then_some(tail)
    }
}
