//! The folder's seed, and the hashes and sums that are keyed with it (XXH3).

use std::hash::Hasher as _;

use twox_hash::XxHash3_64;

use super::format::BLOCK;

/// The key of all sums in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seed(pub u64);

impl Seed {
    /// The hash a key goes by.
    pub fn key(self, key: &str) -> u64 {
        XxHash3_64::oneshot_with_seed(self.0, key.as_bytes())
    }

    /// The sum of one block of a body.
    pub fn block(self, block: &[u8]) -> u64 {
        XxHash3_64::oneshot_with_seed(self.0 ^ 1, block)
    }

    /// The sums of all blocks of a body.
    pub fn blocks(self, body: &[u8]) -> Vec<u64> {
        body.chunks(BLOCK).map(|block| self.block(block)).collect()
    }

    /// The sum of what stands at `offset` in file `number`.
    pub fn at(self, number: u64, offset: u64, bytes: &[u8]) -> u64 {
        let place = number
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(offset);
        XxHash3_64::oneshot_with_seed((self.0 ^ 2).wrapping_add(place), bytes)
    }

    /// Sums blocks of a body that comes piece by piece.
    pub fn summing(self) -> Summing {
        Summing {
            seed: self,
            sums: Vec::new(),
            open: XxHash3_64::with_seed(self.0 ^ 1),
            filled: 0,
        }
    }
}

/// The sums of a body that comes piece by piece.
pub(super) struct Summing {
    seed: Seed,
    sums: Vec<u64>,
    open: XxHash3_64,
    filled: usize,
}

impl Summing {
    /// Takes the next piece.
    pub fn add(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            let (now, later) = piece.split_at(piece.len().min(BLOCK - self.filled));
            self.open.write(now);
            self.filled += now.len();
            piece = later;
            if self.filled == BLOCK {
                self.close_block();
            }
        }
    }

    /// The sums of all blocks, the last of which may be short.
    pub fn finish(mut self) -> Vec<u64> {
        if self.filled > 0 {
            self.close_block();
        }
        self.sums
    }

    fn close_block(&mut self) {
        self.sums.push(self.open.finish());
        self.open = XxHash3_64::with_seed(self.seed.0 ^ 1);
        self.filled = 0;
    }
}
