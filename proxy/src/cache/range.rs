//! Parts of a stored representation (RFC 9110, 14), and the parts an origin sends (RFC 9111, 3.3).

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::conditional::{self, Validators};
use super::date;

/// Bytes of a representation, both ends included; `first <= last`, and `last` lies inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub first: u64,
    /// The last byte.
    pub last: u64,
}

impl ByteRange {
    /// How many bytes; never zero.
    #[expect(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub fn len(&self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }

    /// `Content-Range` of this part of `length` bytes (RFC 9110, 14.4).
    pub fn content_range(&self, length: u64) -> HeaderValue {
        visible(format!("bytes {}-{}/{length}", self.first, self.last))
    }
}

/// What a request's `Range` comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ranges {
    /// All of it, with 200: no `Range`, one that is not understood or asks too much, or an `If-Range` that does not hold.
    Whole,
    /// One part, with 206.
    Single(ByteRange),
    /// Several, with 206 and [`Multipart`].
    Multi(Vec<ByteRange>),
    /// None, with 416 and [`unsatisfied`].
    Unsatisfiable,
}

/// Judges `Range` and `If-Range` of a request against a stored 200 of `length` bytes (RFC 9110, 14.2 and 13.1.5).
pub fn resolve(
    method: &Method,
    request: &HeaderMap,
    length: u64,
    validators: &Validators,
) -> Ranges {
    let mut lines = request.get_all(RANGE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Ranges::Whole;
    };
    if *method != Method::GET || !if_range_holds(request, validators) {
        return Ranges::Whole;
    }
    match parse(line.as_bytes(), length) {
        None => Ranges::Whole,
        Some(parts) => match parts.as_slice() {
            [] => Ranges::Unsatisfiable,
            [one] => Ranges::Single(*one),
            _ => Ranges::Multi(parts),
        },
    }
}

/// Whether there is no `If-Range`, or it names the stored response by a strong validator (RFC 9110, 13.1.5).
fn if_range_holds(request: &HeaderMap, validators: &Validators) -> bool {
    let mut lines = request.get_all(IF_RANGE).iter();
    match (lines.next(), lines.next()) {
        (None, _) => true,
        (Some(_), Some(_)) => false,
        (Some(line), None) => match date::parse(line.as_bytes(), validators.date) {
            Some(date) => validators.strong_last_modified() == Some(date),
            None => validators
                .etag
                .as_ref()
                .is_some_and(|etag| conditional::strong_eq(line.as_bytes(), etag.as_bytes())),
        },
    }
}

/// The satisfiable ranges of a set. None where it is not in bytes, cannot be read, or asks for more than the whole.
fn parse(text: &[u8], length: u64) -> Option<Vec<ByteRange>> {
    let (unit, set) = text.split_at_checked(6)?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let mut parts = Vec::new();
    let (mut specs, mut asked) = (0usize, 0u64);
    for spec in set
        .split(|b| *b == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|s| !s.is_empty())
    {
        specs += 1;
        if specs > MOST_RANGES {
            return None;
        }
        let dash = spec.iter().position(|b| *b == b'-')?;
        let (first, last) = (&spec[..dash], &spec[dash + 1..]);
        let range = match (first.is_empty(), last.is_empty()) {
            (true, _) => {
                let suffix = number(last)?;
                // A suffix of nothing can be had of the whole only (RFC 9110, 14.1.2).
                if length == 0 && suffix > 0 {
                    return None;
                }
                (suffix > 0).then(|| (length.saturating_sub(suffix), length - 1))
            }
            (false, true) => Some((number(first)?, u64::MAX)),
            (false, false) => Some((number(first)?, number(last)?)),
        };
        let Some((first, last)) = range else { continue };
        if first > last {
            return None;
        }
        if first < length {
            let part = ByteRange {
                first,
                last: last.min(length - 1),
            };
            asked = asked.saturating_add(part.len());
            parts.push(part);
        }
    }
    // Overlapping ranges that come to more than the whole only cost (RFC 9110, 14.2).
    (specs > 0 && asked <= length).then_some(parts)
}

/// A number of bytes; too great a one is as great as can be.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0u64, |sum, digit| {
        sum.saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    }))
}

/// `Content-Range` of a 416 (RFC 9110, 15.5.17).
pub fn unsatisfied(length: u64) -> HeaderValue {
    visible(format!("bytes */{length}"))
}

/// The frame of a multipart/byteranges body (RFC 9110, 14.6): `head(0)`, bytes, `head(1)`, bytes, ..., `end()`.
#[derive(Debug, Clone)]
pub struct Multipart {
    boundary: String,
    content_type: Option<HeaderValue>,
    length: u64,
    ranges: Vec<ByteRange>,
}

impl Multipart {
    /// The frame for `ranges` of a representation of `length` bytes; `seed` makes the boundary and should be random.
    pub fn new(
        ranges: Vec<ByteRange>,
        length: u64,
        content_type: Option<&HeaderValue>,
        seed: u64,
    ) -> Self {
        let boundary = format!(
            "sovereign{seed:016x}{:016x}",
            seed.wrapping_mul(SPREAD).rotate_left(29)
        );
        Self {
            boundary,
            content_type: content_type.cloned(),
            length,
            ranges,
        }
    }

    /// The parts, in the order asked for.
    pub fn ranges(&self) -> &[ByteRange] {
        &self.ranges
    }

    /// `Content-Type` of the whole response.
    pub fn content_type(&self) -> HeaderValue {
        visible(format!("multipart/byteranges; boundary={}", self.boundary))
    }

    /// What stands before the bytes of part `index`; empty past the last part.
    pub fn head(&self, index: usize) -> Bytes {
        let Some(range) = self.ranges.get(index) else {
            return Bytes::new();
        };
        let mut head = Vec::with_capacity(160);
        head.extend_from_slice(if index == 0 { b"--" } else { b"\r\n--" });
        head.extend_from_slice(self.boundary.as_bytes());
        if let Some(content_type) = &self.content_type {
            head.extend_from_slice(b"\r\nContent-Type: ");
            head.extend_from_slice(content_type.as_bytes());
        }
        head.extend_from_slice(b"\r\nContent-Range: ");
        head.extend_from_slice(range.content_range(self.length).as_bytes());
        head.extend_from_slice(b"\r\n\r\n");
        head.into()
    }

    /// What stands after the last part.
    pub fn end(&self) -> Bytes {
        format!("\r\n--{}--\r\n", self.boundary).into()
    }

    /// `Content-Length` of the whole response.
    pub fn content_length(&self) -> u64 {
        let parts = self.ranges.iter().enumerate();
        parts.fold(self.end().len() as u64, |sum, (index, range)| {
            sum.saturating_add(self.head(index).len() as u64)
                .saturating_add(range.len())
        })
    }
}

/// A part as an origin sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Which bytes.
    pub range: ByteRange,
    /// Of how many, where it is known.
    pub length: Option<u64>,
}

/// The part in an origin's 206, where it may be stored: `Content-Range`, `Content-Length` and a strong validator agree (RFC 9111, 3.3).
/// Whether the body has that length is for the caller to see.
pub fn storable_part(response: &HeaderMap, validators: &Validators) -> Option<Part> {
    let strong = validators.strong_etag().is_some() || validators.strong_last_modified().is_some();
    let part = parse_content_range(only(response, &CONTENT_RANGE)?)?;
    let length = number(only(response, &CONTENT_LENGTH)?)?;
    (strong && length == part.range.len()).then_some(part)
}

/// Reads `Content-Range: bytes 0-4/10` (RFC 9110, 14.4).
fn parse_content_range(text: &[u8]) -> Option<Part> {
    let (unit, rest) = text.split_at_checked(6)?;
    if !unit.eq_ignore_ascii_case(b"bytes ") {
        return None;
    }
    let dash = rest.iter().position(|b| *b == b'-')?;
    let slash = rest
        .iter()
        .position(|b| *b == b'/')
        .filter(|slash| *slash > dash)?;
    let range = ByteRange {
        first: number(&rest[..dash])?,
        last: number(&rest[dash + 1..slash])?,
    };
    let length = match &rest[slash + 1..] {
        b"*" => None,
        digits => Some(number(digits)?),
    };
    let inside = length.is_none_or(|length| range.last < length);
    (range.first <= range.last && inside).then_some(Part { range, length })
}

/// The value of a field that stands there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => Some(line.as_bytes().trim_ascii()),
        _ => None,
    }
}

/// A field value out of letters, digits, spaces and punctuation of our own writing.
fn visible(text: String) -> HeaderValue {
    // Such text always is one; were it not, an empty value would do no harm.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// As many ranges are answered; more only cost (RFC 9110, 17.15).
const MOST_RANGES: usize = 100;
/// An odd constant without pattern, to make the second half of a boundary from the first.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn fields(lines: &[&str]) -> HeaderMap {
        let line = |line: &&str| {
            let (name, value) = line.split_once(": ").unwrap();
            (
                name.parse::<HeaderName>().unwrap(),
                value.parse::<HeaderValue>().unwrap(),
            )
        };
        lines.iter().map(line).collect()
    }

    fn stored() -> Validators {
        let lines = [
            "etag: \"a\"",
            "last-modified: Sun, 06 Nov 1994 08:49:37 GMT",
        ];
        Validators::of(
            &fields(&lines),
            UNIX_EPOCH + Duration::from_secs(784_112_000),
        )
    }

    fn part(first: u64, last: u64) -> ByteRange {
        ByteRange { first, last }
    }

    /// Item 22; RFC 9110, 14.1.2 and 14.2.
    #[test]
    #[rustfmt::skip]
    fn ranges_of_ten_bytes() {
        use Ranges::{Multi, Single, Unsatisfiable, Whole};
        let many = format!("bytes={}", "0-0,".repeat(101));
        let rows: &[(&str, Ranges, &str)] = &[
            ("bytes=0-4", Single(part(0, 4)), "first-last"),
            ("Bytes=0-4", Single(part(0, 4)), "9110 14.1: the unit's case"),
            ("bytes=3-", Single(part(3, 9)), "first-"),
            ("bytes=-3", Single(part(7, 9)), "-suffix"),
            ("bytes=-30", Single(part(0, 9)), "a suffix longer than the whole"),
            ("bytes=5-99999999999999999999999", Single(part(5, 9)), "a last beyond the end"),
            ("bytes=0-1, ,4-5", Multi(vec![part(0, 1), part(4, 5)]), "several"),
            ("bytes=8-,0-1", Multi(vec![part(8, 9), part(0, 1)]), "in the order asked for"),
            ("bytes=0-1,50-60", Single(part(0, 1)), "those that can be satisfied"),
            ("bytes=10-", Unsatisfiable, "behind the end"),
            ("bytes=-0", Unsatisfiable, "nothing"),
            ("bytes=10-,-0", Unsatisfiable, "none of them"),
            ("bytes=4-3", Whole, "last before first"),
            ("bytes=0-1,4-3", Whole, "one is no range"),
            ("bytes=a-b", Whole, "no numbers"),
            ("bytes=1", Whole, "no dash"),
            ("bytes=-", Whole, "no numbers"),
            ("bytes=", Whole, "no range"),
            ("bytes 0-4", Whole, "no equals sign"),
            ("lines=0-4", Whole, "another unit"),
            ("bytes=0-9,0-9", Whole, "more than the whole"),
            (&many, Whole, "too many"),
        ];
        for (line, wanted, checks) in rows {
            let request = fields(&[&format!("range: {line}")]);
            assert_eq!(resolve(&Method::GET, &request, 10, &stored()), *wanted, "{checks}: {line}");
        }
        let one = fields(&["range: bytes=0-4"]);
        assert_eq!(resolve(&Method::HEAD, &one, 10, &stored()), Whole, "9110 14.2: GET only");
        assert_eq!(resolve(&Method::GET, &one, 0, &stored()), Unsatisfiable, "of nothing");
        let suffix = fields(&["range: bytes=-5"]);
        assert_eq!(resolve(&Method::GET, &suffix, 0, &stored()), Whole, "the end of nothing");
        let two = fields(&["range: bytes=0-4", "range: bytes=5-6"]);
        assert_eq!(resolve(&Method::GET, &two, 10, &stored()), Whole, "two lines");
        assert_eq!(resolve(&Method::GET, &fields(&[]), 10, &stored()), Whole, "none");
        let largest = resolve(&Method::GET, &fields(&["range: bytes=0-"]), u64::MAX, &stored());
        assert_eq!(largest, Single(part(0, u64::MAX - 1)));
    }

    /// Item 22; RFC 9110, 13.1.5.
    #[test]
    #[rustfmt::skip]
    fn if_range() {
        for (line, holds) in [
            ("if-range: \"a\"", true),
            ("if-range: \"b\"", false),
            ("if-range: W/\"a\"", false),
            ("if-range: a", false),
            ("if-range: Sun, 06 Nov 1994 08:49:37 GMT", true),
            ("if-range: Sun, 06 Nov 1994 08:49:38 GMT", false),
            ("if-range: x", false),
        ] {
            let request = fields(&["range: bytes=0-4", line]);
            let found = resolve(&Method::GET, &request, 10, &stored());
            assert_eq!(found != Ranges::Whole, holds, "{line}");
        }
    }

    /// RFC 9110, 14.6 and 15.5.17.
    #[test]
    #[rustfmt::skip]
    fn what_is_written() {
        assert_eq!(part(0, 4).content_range(10), "bytes 0-4/10");
        assert_eq!(unsatisfied(10), "bytes */10");
        let content_type = HeaderValue::from_static("text/plain");
        let body = b"0123456789";
        for content_type in [Some(&content_type), None] {
            let frame = Multipart::new(vec![part(0, 1), part(8, 9)], 10, content_type, 7);
            let mut sent = Vec::new();
            for (index, range) in frame.ranges().iter().enumerate() {
                sent.extend_from_slice(&frame.head(index));
                sent.extend_from_slice(&body[range.first as usize..=range.last as usize]);
            }
            sent.extend_from_slice(&frame.end());
            assert_eq!(sent.len() as u64, frame.content_length());
            let whole = frame.content_type();
            let (_, boundary) = whole.to_str().unwrap().split_once("boundary=").unwrap();
            let kind = if content_type.is_some() { "Content-Type: text/plain\r\n" } else { "" };
            let wanted = format!(
                "--{boundary}\r\n{kind}Content-Range: bytes 0-1/10\r\n\r\n01\r\n\
                 --{boundary}\r\n{kind}Content-Range: bytes 8-9/10\r\n\r\n89\r\n--{boundary}--\r\n"
            );
            assert_eq!(String::from_utf8(sent).unwrap(), wanted);
            assert!(frame.head(2).is_empty());
        }
    }

    /// Item 22; RFC 9111, 3.3.
    #[test]
    #[rustfmt::skip]
    fn an_origins_own_parts() {
        let (tag, length) = ("etag: \"a\"", "content-length: 5");
        for (lines, wanted, checks) in [
            (&["content-range: bytes 0-4/10", tag, length][..], Some((0, 4, Some(10))), "all agree"),
            (&["content-range: bytes 5-9/*", tag, length], Some((5, 9, None)), "length unknown"),
            (&["content-range: bytes 0-3/10", tag, length], None, "another length"),
            (&["content-range: bytes 0-4/10", tag], None, "no Content-Length"),
            (&["content-range: bytes 0-4/10", "etag: W/\"a\"", length], None, "a weak validator"),
            (&["content-range: bytes 0-4/4", tag, length], None, "beyond the end"),
            (&["content-range: bytes 4-0/10", tag, length], None, "last before first"),
            (&["content-range: bytes */10", tag, length], None, "of a 416"),
            (&["content-range: 0-4/10", tag, length], None, "no unit"),
            (&[tag, length], None, "none"),
        ] {
            let response = fields(lines);
            let found = storable_part(&response, &Validators::of(&response, UNIX_EPOCH));
            let wanted = wanted.map(|(f, l, length)| Part { range: part(f, l), length });
            assert_eq!(found, wanted, "{checks}");
        }
    }
}
