//! The encoders and their levels. Apart from the rest because they are others' work, and could be replaced by others again.
//!
//! All three come with Pingora in any case, and are used through safe interfaces. Levels are for work that is done once for each change
//! of a page, by one background thread: about 30 ms for 100 KiB, and never as much as half a second. Measured on one core, in
//! milliseconds, with the size in percent of the identity's; the chosen level first:
//!
//! | body | Brotli | Zstandard | gzip |
//! | --- | --- | --- | --- |
//! | a style sheet, 55 KB | 10: 22 ms, 15.9 % (9: 11 ms, 16.7 %; 11: 60 ms, 15.6 %) | 19: 16 ms, 16.7 % (15: 5 ms, 16.8 %) | 9: 1 ms, 18.0 % |
//! | a page, 90 KB | 9: 18 ms, 21.1 % (10: 36 ms, 19.1 %; 11: 96 ms, 18.7 %) | 19: 25 ms, 21.2 % (15: 7 ms, 21.3 %) | 9: 2 ms, 22.8 % |
//! | a script, 3.5 MB | 5: 110 ms, 16.9 % (10: 2,500 ms, 15.0 %) | 12: 114 ms, 17.1 % (19: 950 ms, 15.7 %) | 9: 102 ms, 22.8 % |

use std::io::{self, Write};

use brotli::enc::BrotliEncoderParams;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::Coding;

/// The longest body that is coded, in bytes. It is also the largest window that every client of Zstandard has (RFC 9659, 3).
pub const MOST: usize = 8 << 20;

/// Codes a body; see [`super::encode()`].
pub fn encode(coding: Coding, body: &[u8]) -> Option<Bytes> {
    if body.len() > MOST {
        return None;
    }
    let room = body.len() - body.len().div_ceil(GAIN);
    let level = level(coding, body.len());
    let coded = match coding {
        Coding::Brotli => brotli(body, level, room),
        Coding::Zstd => zstd(body, level, room),
        Coding::Gzip => gzip(body, level, room),
    };
    // An encoder fails only where there is no more room: the body is not worth it.
    let coded = coded.ok().filter(|coded| coded.len() <= room)?;
    // Without what was set aside for a longer one.
    Some(coded.into_boxed_slice().into())
}

/// What the encoders take while they work; see [`super::memory`]. Measured: 4 to 5 MiB and 30 to 42 MiB.
pub fn memory(length: usize) -> u64 {
    match length {
        ..=SHORT_FOR_BROTLI => 6 << 20,
        _ => 42 << 20,
    }
}

fn level(coding: Coding, length: usize) -> u32 {
    match (coding, length) {
        (Coding::Brotli, ..=SHORT_FOR_BROTLI) => 10,
        (Coding::Brotli, ..=MIDDLING) => 9,
        (Coding::Brotli, _) => 5,
        (Coding::Zstd, ..=SHORT_FOR_ZSTD) => 19,
        (Coding::Zstd, ..=MIDDLING) => 15,
        (Coding::Zstd, _) => 12,
        (Coding::Gzip, _) => 9,
    }
}

fn brotli(mut body: &[u8], level: u32, room: usize) -> io::Result<Vec<u8>> {
    // As many bits as the body is long: the best levels take memory for the whole window.
    let bits = usize::BITS - body.len().leading_zeros();
    let parameters = BrotliEncoderParams {
        quality: level as i32,
        lgwin: bits.clamp(LEAST_WINDOW, MOST_WINDOW) as i32,
        size_hint: body.len(),
        ..BrotliEncoderParams::default()
    };
    let mut output = Room::new(room);
    brotli::BrotliCompress(&mut body, &mut output, &parameters)?;
    Ok(output.bytes)
}

fn zstd(body: &[u8], level: u32, room: usize) -> io::Result<Vec<u8>> {
    let mut output = Vec::with_capacity(room);
    let mut encoder = zstd::bulk::Compressor::new(level as i32)?;
    encoder.compress_to_buffer(body, &mut output)?;
    Ok(output)
}

fn gzip(body: &[u8], level: u32, room: usize) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Room::new(room), Compression::new(level));
    encoder.write_all(body)?;
    Ok(encoder.finish()?.bytes)
}

/// What an encoder writes into: it stops the work where the result would not be small enough.
struct Room {
    bytes: Vec<u8>,
    most: usize,
}

impl Room {
    fn new(most: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(most / LIKELY),
            most,
        }
    }
}

impl Write for Room {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if piece.len() > self.most - self.bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One part in so many must be saved.
const GAIN: usize = 20;
/// Text comes to about one part in so many.
const LIKELY: usize = 4;
/// Up to so many bytes Brotli's level 10 takes 30 ms.
const SHORT_FOR_BROTLI: usize = 64 << 10;
/// Up to so many bytes Zstandard's level 19 takes 35 ms.
const SHORT_FOR_ZSTD: usize = 128 << 10;
/// Up to so many bytes the levels behind those take 90 ms (Brotli) and 130 ms.
const MIDDLING: usize = 1 << 20;
/// Windows in bits: with less than 18, levels up to 9 use other tables and are slower; with more than 22, every client that decodes
/// would need more than 4 MiB.
const LEAST_WINDOW: u32 = 18;
const MOST_WINDOW: u32 = 22;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Text of so many bytes that repeats itself about as pages do.
    fn page(length: usize) -> Vec<u8> {
        const WORDS: [&str; 16] = [
            "<p class=\"story\">",
            "</p>\n",
            "<a href=\"/articles/",
            "\">",
            "</a>",
            "the ",
            "proxy ",
            "keeps ",
            "a copy ",
            "of what ",
            "was ",
            "said, ",
            "and ",
            "so ",
            "it stays ",
            "up. ",
        ];
        let mut random = noise();
        let mut page = Vec::new();
        while page.len() < length {
            page.extend_from_slice(WORDS[random() as usize % WORDS.len()].as_bytes());
            page.push(random());
        }
        page.truncate(length);
        page
    }

    fn noise() -> impl FnMut() -> u8 {
        let mut seed = 0x2545_f491_4f6c_dd1du64;
        move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 32) as u8
        }
    }

    fn decode(coding: Coding, coded: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        match coding {
            Coding::Brotli => {
                brotli::Decompressor::new(coded, 4096)
                    .read_to_end(&mut body)
                    .unwrap();
            }
            Coding::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(coded).unwrap();
                decoder.window_log_max(23).unwrap();
                decoder.read_to_end(&mut body).unwrap();
            }
            Coding::Gzip => {
                flate2::read::GzDecoder::new(coded)
                    .read_to_end(&mut body)
                    .unwrap();
            }
        }
        body
    }

    /// At both sides of each change of level.
    #[test]
    fn what_was_coded_can_be_decoded() {
        let bounds = [SHORT_FOR_BROTLI, SHORT_FOR_ZSTD, MIDDLING];
        let lengths = bounds.iter().flat_map(|bound| [*bound, bound + 1]);
        for length in [1024, 5000].into_iter().chain(lengths) {
            let body = page(length);
            for coding in Coding::ALL {
                let coded = encode(coding, &body).unwrap();
                assert!(coded.len() * 20 <= body.len() * 19, "{coding:?} {length}");
                assert!(decode(coding, &coded) == body, "{coding:?} {length}");
            }
        }
    }

    #[test]
    fn the_longest() {
        let mut body = page(1 << 20).repeat(8);
        for coding in Coding::ALL {
            assert!(
                decode(coding, &encode(coding, &body).unwrap()) == body,
                "{coding:?}"
            );
        }
        body.push(0);
        for coding in Coding::ALL {
            assert_eq!(encode(coding, &body), None, "{coding:?}");
        }
    }

    #[test]
    fn what_does_not_become_smaller() {
        let mut random = noise();
        for length in [0, 1, 2, 19, 20, 21, 1024, 100_000] {
            let body: Vec<u8> = (0..length).map(|_| random()).collect();
            for coding in Coding::ALL {
                assert_eq!(encode(coding, &body), None, "{coding:?} {length}");
            }
        }
        // Noise, and behind it as much more as is saved: the saving decides.
        for (zeros, worth) in [(200, false), (2000, true)] {
            let mut body: Vec<u8> = (0..10_000).map(|_| random()).collect();
            body.resize(body.len() + zeros, 0);
            for coding in Coding::ALL {
                assert_eq!(encode(coding, &body).is_some(), worth, "{coding:?} {zeros}");
            }
        }
    }

    /// An encoder is stopped, and does not first write what nobody wants.
    #[test]
    fn no_room() {
        let mut room = Room::new(5);
        room.write_all(b"abc").unwrap();
        assert!(room.write(b"def").is_err());
        room.write_all(b"de").unwrap();
        assert_eq!(room.bytes, b"abcde");
    }

    /// Nothing is kept but the coded bytes.
    #[test]
    fn no_more_memory_than_it_has_bytes() {
        let body = page(50_000);
        for coding in Coding::ALL {
            let coded = encode(coding, &body).unwrap();
            let length = coded.len();
            assert_eq!(
                coded.try_into_mut().unwrap().capacity(),
                length,
                "{coding:?}"
            );
        }
    }
}
