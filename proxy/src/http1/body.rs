//! Where a request's body ends (RFC 9112 sections 6 and 7): a state machine over the bytes read
//! so far. It does no I/O, so that every way to break a chunk is a row of a table.

use bytes::{Buf, Bytes, BytesMut};

/// A size line, with its extensions, is refused beyond this.
const MAX_SIZE_LINE: usize = 256;
/// Trailers are refused beyond this; they are read and dropped.
const MAX_TRAILERS: usize = 8 * 1024;

/// The body of one request, as far as it has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestBody(State);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Done,
    Length(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailers(usize),
    /// The connection has changed its protocol: all that comes is body.
    Raw,
}

/// What the state machine makes of the bytes at hand.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// A piece of the body.
    Data(Bytes),
    /// The body's end.
    End,
    /// Nothing yet: read more.
    More,
    /// The client broke the rules; the word says how.
    Malformed(&'static str),
}

impl RequestBody {
    /// No body.
    pub fn empty() -> Self {
        Self(State::Done)
    }

    /// A body of exactly `length` bytes.
    pub fn length(length: u64) -> Self {
        Self(if length == 0 {
            State::Done
        } else {
            State::Length(length)
        })
    }

    /// A chunked body.
    pub fn chunked() -> Self {
        Self(State::ChunkSize)
    }

    /// Everything until the connection ends.
    pub fn raw() -> Self {
        Self(State::Raw)
    }

    /// Whether the whole body has been taken.
    pub fn is_done(&self) -> bool {
        self.0 == State::Done
    }

    /// Whether the connection has changed its protocol.
    pub fn is_raw(&self) -> bool {
        self.0 == State::Raw
    }

    /// Takes the next piece out of `input`.
    pub fn take(&mut self, input: &mut BytesMut) -> Piece {
        loop {
            match self.0 {
                State::Done => return Piece::End,
                State::Raw if input.is_empty() => return Piece::More,
                State::Raw => return Piece::Data(input.split().freeze()),
                State::Length(left) | State::Chunk(left) => {
                    if input.is_empty() {
                        return Piece::More;
                    }
                    let taken = left.min(input.len() as u64);
                    let chunk = matches!(self.0, State::Chunk(_));
                    self.0 = match (left - taken, chunk) {
                        (0, true) => State::ChunkEnd,
                        (0, false) => State::Done,
                        (left, true) => State::Chunk(left),
                        (left, false) => State::Length(left),
                    };
                    // `taken` is at most the length of `input`, so it fits a usize.
                    return Piece::Data(input.split_to(taken as usize).freeze());
                }
                State::ChunkEnd => {
                    if input.len() < 2 {
                        return Piece::More;
                    }
                    if !input.starts_with(b"\r\n") {
                        return Piece::Malformed("chunk-end");
                    }
                    input.advance(2);
                    self.0 = State::ChunkSize;
                }
                State::ChunkSize => match line(input, MAX_SIZE_LINE) {
                    Line::More => return Piece::More,
                    Line::Malformed => return Piece::Malformed("chunk-size-line"),
                    Line::Whole(text) => match chunk_size(&text) {
                        None => return Piece::Malformed("chunk-size"),
                        Some(0) => self.0 = State::Trailers(0),
                        Some(size) => self.0 = State::Chunk(size),
                    },
                },
                State::Trailers(seen) => match line(input, MAX_TRAILERS - seen) {
                    Line::More => return Piece::More,
                    Line::Malformed => return Piece::Malformed("trailers"),
                    Line::Whole(text) if text.is_empty() => self.0 = State::Done,
                    Line::Whole(text) => {
                        let seen = seen + text.len() + 2;
                        if seen >= MAX_TRAILERS || !text.contains(&b':') {
                            return Piece::Malformed("trailers");
                        }
                        self.0 = State::Trailers(seen);
                    }
                },
            }
        }
    }
}

enum Line {
    Whole(Bytes),
    More,
    Malformed,
}

/// Takes one line that ends in CRLF; a bare LF and a line over `max` are refused.
fn line(input: &mut BytesMut, max: usize) -> Line {
    match memchr::memchr(b'\n', input) {
        Some(at) if at > max || at == 0 || input[at - 1] != b'\r' => Line::Malformed,
        Some(at) => {
            let mut text = input.split_to(at + 1).freeze();
            text.truncate(at - 1);
            if text.contains(&b'\r') {
                return Line::Malformed;
            }
            Line::Whole(text)
        }
        None if input.len() > max => Line::Malformed,
        None => Line::More,
    }
}

/// `1*HEXDIG [ chunk-ext ]`, RFC 9112 section 7.1; at most 15 digits, so it cannot overflow.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = memchr::memchr(b';', line).unwrap_or(line.len());
    let digits = line[..end].trim_ascii_end();
    if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(body: &mut RequestBody, text: &str) -> (String, Piece) {
        let mut input = BytesMut::from(text);
        let mut data = String::new();
        loop {
            match body.take(&mut input) {
                Piece::Data(piece) => data.push_str(&String::from_utf8_lossy(&piece)),
                other => return (data, other),
            }
        }
    }

    #[test]
    fn chunked_bodies() {
        let table = [
            ("3\r\nabc\r\n0\r\n\r\n", "abc", Piece::End),
            (
                "3;x=y\r\nabc\r\n2\r\nde\r\n0\r\na: b\r\n\r\n",
                "abcde",
                Piece::End,
            ),
            ("00A\r\n0123456789\r\n0\r\n\r\n", "0123456789", Piece::End),
            ("3\r\nab", "ab", Piece::More),
            ("3", "", Piece::More),
            ("0\r\n", "", Piece::More),
            ("x\r\n", "", Piece::Malformed("chunk-size")),
            ("\r\n", "", Piece::Malformed("chunk-size")),
            ("-3\r\nabc\r\n", "", Piece::Malformed("chunk-size")),
            ("0x3\r\nabc\r\n", "", Piece::Malformed("chunk-size")),
            ("ffffffffffffffff\r\n", "", Piece::Malformed("chunk-size")),
            ("3\nabc\r\n", "", Piece::Malformed("chunk-size-line")),
            ("3\r\nabcd\r\n", "abc", Piece::Malformed("chunk-end")),
            ("0\r\nnot a field\r\n\r\n", "", Piece::Malformed("trailers")),
        ];
        for (text, data, end) in table {
            let mut body = RequestBody::chunked();
            assert_eq!(drain(&mut body, text), (data.to_owned(), end), "{text:?}");
        }
    }

    #[test]
    fn a_size_line_is_bounded() {
        let mut body = RequestBody::chunked();
        let (_, end) = drain(&mut body, &format!("3;{}", "x".repeat(400)));
        assert_eq!(end, Piece::Malformed("chunk-size-line"));
    }

    #[test]
    fn what_follows_a_body_is_left_alone() {
        let mut body = RequestBody::length(3);
        let mut input = BytesMut::from("abcGET /");
        assert_eq!(body.take(&mut input), Piece::Data("abc".into()));
        assert_eq!(body.take(&mut input), Piece::End);
        assert_eq!(input, "GET /");
    }
}
