//! Just enough of WebSocket's framing (RFC 6455 section 5.2) to know where one frame ends and the
//! next may begin, so that a client can be told to close while the proxy drains.

/// A close frame with status 1001, "going away" (RFC 6455 section 7.4.1).
const CLOSE: &[u8] = &[0x88, 0x02, 0x03, 0xe9];
/// The longest frame header a server sends: it masks nothing (RFC 6455 section 5.1).
const MAX_HEADER: usize = 10;

/// Follows the frames that a server sends.
#[derive(Debug, Default)]
pub struct Frames {
    header: [u8; MAX_HEADER],
    have: usize,
    payload: u64,
    closed: bool,
}

impl Frames {
    /// Follows `bytes`, the next that are sent.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let taken = self.payload.min(bytes.len() as u64);
                self.payload -= taken;
                bytes = &bytes[taken as usize..];
                continue;
            }
            self.header[self.have] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            if let Some(length) = payload_length(&self.header[..self.have]) {
                self.payload = length;
                self.have = 0;
            }
        }
    }

    /// The frame to send now, once, where one may begin; from then on nothing else may be sent.
    pub fn close(&mut self) -> Option<&'static [u8]> {
        let boundary = self.payload == 0 && self.have == 0;
        if !boundary || self.closed {
            return None;
        }
        self.closed = true;
        Some(CLOSE)
    }

    /// Whether the close frame has been sent.
    pub fn is_closed(&self) -> bool {
        self.closed
    }
}

/// The payload's length, once the header is whole; at most [`MAX_HEADER`] bytes are needed.
fn payload_length(header: &[u8]) -> Option<u64> {
    let masked = header.get(1)? & 0x80 != 0;
    let mask = if masked { 4 } else { 0 };
    match header[1] & 0x7f {
        126 => header
            .get(2..4)
            .map(|bytes| u64::from(u16::from_be_bytes([bytes[0], bytes[1]])) + mask),
        127 => header
            .get(2..10)
            .and_then(|bytes| bytes.try_into().ok())
            .map(|bytes| u64::from_be_bytes(bytes).saturating_add(mask)),
        short => Some(u64::from(short) + mask),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_waits_for_the_end_of_a_frame() {
        let mut frames = Frames::default();
        frames.feed(&[0x81, 5, b'h', b'e']);
        assert_eq!(frames.close(), None);
        frames.feed(b"llo");
        assert_eq!(frames.close(), Some(CLOSE));
        assert!(frames.is_closed());
        assert_eq!(frames.close(), None);
    }

    #[test]
    fn long_frames() {
        let table: &[(&[u8], u64)] = &[
            (&[0x82, 126, 1, 0], 256),
            (&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0], 65_536),
        ];
        for (header, length) in table {
            let mut frames = Frames::default();
            for byte in *header {
                frames.feed(&[*byte]);
            }
            frames.feed(&vec![0; *length as usize - 1]);
            assert_eq!(frames.close(), None);
            frames.feed(&[0]);
            assert!(frames.close().is_some());
        }
    }
}
