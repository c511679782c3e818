//! Bodies: pages of 4 KiB, each of which begins with what it is a page of, filled from one table of noise.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::sync::watch;

use super::dice::{Dice, mix};
use crate::client::{Body, whole};

/// A body, made piece by piece.
#[derive(Debug)]
pub(super) struct Matter {
    /// What its bytes follow from.
    pub seed: u64,
    /// How many there are.
    pub size: usize,
}

/// What a page begins with, and how long it is.
const STAMP: usize = 16;
const PAGE: usize = 4096;
/// How much a dripping body gives at once.
const PIECE: usize = 64 << 10;

impl Matter {
    /// The body of a path, for a value of the varying field, in a version.
    pub fn new(path: &str, variant: &str, version: u64, size: usize) -> Self {
        // FNV-1a (Fowler, Noll, Vo) over all that the body depends on.
        let mut seed = 0xcbf2_9ce4_8422_2325_u64;
        let text = [path.as_bytes(), b"\n", variant.as_bytes(), b"\n"].concat();
        for byte in text.into_iter().chain(version.to_le_bytes()) {
            seed = (seed ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        Self {
            seed: mix(seed),
            size,
        }
    }

    /// Part of the body, from one offset to another.
    fn bytes(&self, from: usize, to: usize) -> Bytes {
        let mut made = Vec::with_capacity(to - from + 2 * PAGE);
        for page in from / PAGE..to.div_ceil(PAGE) {
            made.extend_from_slice(&self.seed.to_le_bytes());
            made.extend_from_slice(&mix(self.seed ^ page as u64).to_le_bytes());
            let noise = noise();
            let at = (mix(self.seed.wrapping_add(page as u64)) as usize) % (noise.len() - PAGE);
            made.extend_from_slice(&noise[at..at + PAGE - STAMP]);
        }
        let skip = from % PAGE;
        Bytes::from(made).slice(skip..skip + to - from)
    }

    /// What is wrong with bytes that should stand at an offset.
    pub fn compare(&self, from: usize, found: &[u8]) -> Result<(), String> {
        for (number, piece) in found.chunks(PIECE).enumerate() {
            let at = from + number * PIECE;
            if at + piece.len() > self.size {
                return Err(format!("more than {} bytes", self.size));
            }
            let wanted = self.bytes(at, at + piece.len());
            if let Some(wrong) = wanted.iter().zip(piece).position(|(a, b)| a != b) {
                let (offset, size) = (at + wrong, self.size);
                let place = match self.place_of(&piece[wrong..]) {
                    Some(place) => format!("it belongs at {place}"),
                    None => "it belongs nowhere in this body".to_owned(),
                };
                return Err(format!("byte {offset} of {size} is wrong: {place}"));
            }
        }
        Ok(())
    }

    /// Where in the body some bytes stand that were found elsewhere.
    fn place_of(&self, found: &[u8]) -> Option<usize> {
        let sought = found.get(..32.min(found.len()))?;
        let whole = self.bytes(0, self.size);
        whole.windows(sought.len()).position(|some| some == sought)
    }

    /// A checksum of the whole.
    pub fn sum(&self) -> String {
        format!("{:016x}", mix(self.seed ^ self.size as u64))
    }

    /// The body, with a pause after each piece, and a stop half way until the gate is open.
    pub fn into_body(self, pause: Duration, gate: Option<watch::Receiver<bool>>) -> Body {
        if pause.is_zero() && gate.is_none() && self.size <= PIECE {
            return whole(self.bytes(0, self.size));
        }
        let pieces = futures_util::stream::unfold((self, 0, gate), move |(matter, at, gate)| {
            async move {
                if at >= matter.size {
                    return None;
                }
                if at > 0 {
                    tokio::time::sleep(pause).await;
                }
                let mut gate = gate;
                if at >= matter.size / 2
                    && let Some(mut gate) = gate.take()
                {
                    // Where the origin is gone, the body ends with it.
                    gate.wait_for(|open| *open).await.ok()?;
                }
                let to = (at + PIECE).min(matter.size);
                let piece = matter.bytes(at, to);
                Some((Ok(Frame::data(piece)), (matter, to, gate)))
            }
        });
        StreamBody::new(pieces).boxed_unsync()
    }
}

/// A mebibyte that does not compress.
fn noise() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| {
        let mut dice = Dice::new(1);
        (0..(1 << 20) / 8)
            .flat_map(|_| dice.throw().to_le_bytes())
            .collect()
    })
}
