//! Parts of one representation that an origin sent on their own (206): kept together under one strong
//! validator, used for requests that they cover, and put together when nothing is missing any more
//! (RFC 9111, 3.3 and 3.4).
//!
//! A value that never changes, as an entry is: a further part makes a new one round the same bytes.
//! Only parts of a known complete length are kept, so that every range of a request can be resolved.

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, IF_RANGE, LAST_MODIFIED, RANGE};
use http::{HeaderMap, HeaderValue, Method};

use super::conditional::{Validators, drop_conditions};
use super::range::{self, ByteRange, Part, Ranges};
use super::update;

/// Parts of one representation.
#[derive(Debug, Clone)]
pub struct Parts {
    fields: HeaderMap,
    validators: Validators,
    length: u64,
    /// Sorted, disjoint, none empty.
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone)]
struct Piece {
    first: u64,
    body: Bytes,
}

/// What parts can say to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These ranges, all of them here: 206 with [`Parts::slice`] of each.
    Ranges(Vec<ByteRange>),
    /// No byte of what is asked for exists: 416 (RFC 9110, 15.5.17).
    Unsatisfiable,
    /// All of it is asked for, or an `If-Range` does not hold, or not all ranges are here: ask the upstream.
    Missing,
}

/// Pieces kept of one representation: a reader of a film asks for hundreds, one after another, which join.
const MOST_PIECES: usize = 64;
/// What parts cost beside their bytes and fields.
const OVERHEAD: usize = 512;

impl Parts {
    /// The first part of a representation. `fields` are those to be stored of the 206, `validators` theirs,
    /// `part` what [`storable_part`](range::storable_part) made of them and `body` the message's whole body.
    /// `None` where the complete length is unknown, the body is no such part, or there is no strong validator.
    pub fn new(
        mut fields: HeaderMap,
        validators: Validators,
        part: &Part,
        body: Bytes,
    ) -> Option<Self> {
        let length = part.length?;
        let strong =
            validators.strong_etag().is_some() || validators.strong_last_modified().is_some();
        if !strong || !fits(part, &body) {
            return None;
        }
        fields.remove(CONTENT_RANGE);
        fields.remove(CONTENT_LENGTH);
        Some(Self {
            fields,
            validators,
            length,
            pieces: vec![Piece {
                first: part.range.first,
                body,
            }],
        })
    }

    /// The same with a further part, its fields merged into those of the earlier ones (RFC 9111, 3.4).
    /// `None` where it is a part of another representation, or no such part at all, or one piece too many: then the
    /// part may be kept [on its own](Self::new), in place of these.
    pub fn with(
        &self,
        fields: &HeaderMap,
        validators: &Validators,
        part: &Part,
        body: Bytes,
    ) -> Option<Self> {
        if part.length != Some(self.length) || !fits(part, &body) || !self.same(validators) {
            return None;
        }
        let mut merged = self.fields.clone();
        update::merge(&mut merged, fields);
        let mut pieces = self.pieces.clone();
        insert(&mut pieces, part.range, body);
        if pieces.len() > MOST_PIECES {
            pieces = joined(pieces);
        }
        (pieces.len() <= MOST_PIECES).then(|| Self {
            fields: merged,
            // A later response may lack one of them.
            validators: Validators {
                etag: self.validators.etag.clone(),
                last_modified: self.validators.last_modified,
                date: validators.date,
            },
            length: self.length,
            pieces,
        })
    }

    /// Whether these validators are those of the same representation: they share a strong one, and no tag differs
    /// (RFC 9111, 3.4).
    fn same(&self, validators: &Validators) -> bool {
        match (&self.validators.etag, &validators.etag) {
            (Some(_), Some(_)) => {
                self.validators.strong_etag().is_some()
                    && self.validators.strong_etag() == validators.strong_etag()
            }
            _ => {
                let own = self.validators.strong_last_modified();
                own.is_some() && own == validators.strong_last_modified()
            }
        }
    }

    /// The fields to serve and to judge freshness by, without `Content-Range` and `Content-Length`.
    pub fn fields(&self) -> &HeaderMap {
        &self.fields
    }

    /// What the representation can be compared by.
    pub fn validators(&self) -> &Validators {
        &self.validators
    }

    /// The complete length of the representation in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// What can be said to a request (RFC 9110, 14.2; RFC 9111, 3.3). Its other conditions are not looked at.
    pub fn answer(&self, method: &Method, request: &HeaderMap) -> Answer {
        let ranges = match range::resolve(method, request, self.length, &self.validators) {
            Ranges::Whole => return Answer::Missing,
            Ranges::Unsatisfiable => return Answer::Unsatisfiable,
            Ranges::Single(one) => vec![one],
            Ranges::Multi(several) => several,
        };
        if ranges.iter().all(|range| self.covers(range)) {
            Answer::Ranges(ranges)
        } else {
            Answer::Missing
        }
    }

    /// Whether every byte of a range is here.
    pub fn covers(&self, range: &ByteRange) -> bool {
        let mut next = range.first;
        for piece in &self.pieces {
            if piece.first <= next && next <= piece.last() {
                if range.last <= piece.last() {
                    return true;
                }
                next = piece.last() + 1;
            }
        }
        false
    }

    /// The bytes of a range, in order, as references to what is held; `None` where not all of them are here.
    pub fn slice(&self, range: &ByteRange) -> Option<Vec<Bytes>> {
        if !self.covers(range) {
            return None;
        }
        let within = |piece: &Piece| {
            let first = piece.first.max(range.first);
            let last = piece.last().min(range.last);
            // Both lie inside the piece, whose length is a usize.
            (first <= last).then(|| {
                let (from, to) = (first - piece.first, last - piece.first);
                piece.body.slice(from as usize..=to as usize)
            })
        };
        Some(self.pieces.iter().filter_map(within).collect())
    }

    /// The first bytes that are not here; `None` where nothing is missing.
    pub fn missing(&self) -> Option<ByteRange> {
        let mut next = 0;
        for piece in &self.pieces {
            if piece.first > next {
                let last = piece.first - 1;
                return Some(ByteRange { first: next, last });
            }
            next = piece.last() + 1;
        }
        (next < self.length).then(|| ByteRange {
            first: next,
            last: self.length - 1,
        })
    }

    /// The whole representation, where nothing is missing: the fields of a 200, and its body, which may be copied.
    pub fn whole(&self) -> Option<(HeaderMap, Bytes)> {
        if self.missing().is_some() {
            return None;
        }
        let mut fields = self.fields.clone();
        fields.insert(CONTENT_LENGTH, self.length.into());
        let body = joined(self.pieces.clone())
            .into_iter()
            .next()
            .map(|piece| piece.body);
        Some((fields, body.unwrap_or_default()))
    }

    /// Turns a client's request for the whole into one for the first missing bytes; the answer is the rest (206), or all of
    /// a changed representation (200) (RFC 9110, 13.1.5). False, and the request is one for the whole, where nothing is missing.
    pub fn ask_for_missing(&self, request: &mut HeaderMap) -> bool {
        drop_conditions(request);
        let Some(gap) = self.missing() else {
            return false;
        };
        let last_modified = || {
            self.validators
                .strong_last_modified()
                .and_then(|_| self.fields.get(LAST_MODIFIED))
        };
        let Some(validator) = self.validators.strong_etag().or_else(last_modified) else {
            return false;
        };
        let range = if gap.last + 1 == self.length {
            format!("bytes={}-", gap.first)
        } else {
            format!("bytes={}-{}", gap.first, gap.last)
        };
        let Ok(range) = HeaderValue::try_from(range) else {
            return false;
        };
        request.insert(RANGE, range);
        request.insert(IF_RANGE, validator.clone());
        true
    }

    /// Bytes of memory they take, nearly.
    pub fn weight(&self) -> usize {
        let fields: usize = self
            .fields
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 64)
            .sum();
        let bodies: usize = self.pieces.iter().map(|piece| piece.body.len() + 64).sum();
        OVERHEAD + fields + bodies
    }
}

impl Piece {
    /// Its last byte. A piece is never empty.
    fn last(&self) -> u64 {
        self.first + (self.body.len() as u64).saturating_sub(1)
    }
}

/// Whether a body is what its `Content-Range` says.
fn fits(part: &Part, body: &Bytes) -> bool {
    body.len() as u64 == part.range.len()
        && part.length.is_none_or(|length| part.range.last < length)
}

/// Puts a new piece among others; where it overlaps them it takes their place, since it is newer.
fn insert(pieces: &mut Vec<Piece>, range: ByteRange, body: Bytes) {
    let mut sorted = Vec::with_capacity(pieces.len() + 2);
    for piece in pieces.drain(..) {
        let last = piece.last();
        if piece.first < range.first {
            let keep = last.min(range.first - 1) - piece.first;
            sorted.push(Piece {
                first: piece.first,
                body: piece.body.slice(..=keep as usize),
            });
        }
        if last > range.last {
            let first = piece.first.max(range.last + 1);
            sorted.push(Piece {
                first,
                body: piece.body.slice((first - piece.first) as usize..),
            });
        }
    }
    let first = range.first;
    let at = sorted.partition_point(|piece| piece.first < first);
    sorted.insert(at, Piece { first, body });
    *pieces = sorted;
}

/// The same bytes in as few pieces as can be.
fn joined(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut runs: Vec<Vec<Piece>> = Vec::new();
    for piece in pieces {
        match runs.last_mut() {
            Some(run)
                if run
                    .last()
                    .is_some_and(|before| before.last() + 1 == piece.first) =>
            {
                run.push(piece);
            }
            _ => runs.push(vec![piece]),
        }
    }
    runs.into_iter()
        .filter_map(|run| {
            let first = run.first()?.first;
            let body = if let [one] = run.as_slice() {
                one.body.clone()
            } else {
                let length = run.iter().map(|piece| piece.body.len()).sum();
                let mut body = BytesMut::with_capacity(length);
                run.iter()
                    .for_each(|piece| body.extend_from_slice(&piece.body));
                body.freeze()
            };
            Some(Piece { first, body })
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::HeaderName;

    use super::*;

    const TEXT: &str = "0123456789";
    const TAG: &str = "etag: \"a\"";
    const OLD: &str = "last-modified: Sun, 06 Nov 1994 08:49:37 GMT";
    const DATED: &str = "date: Sun, 06 Nov 1994 09:49:37 GMT";

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

    fn part(first: u64, last: u64) -> Part {
        Part {
            range: ByteRange { first, last },
            length: Some(10),
        }
    }

    fn bytes(first: u64, last: u64) -> Bytes {
        Bytes::from_static(&TEXT.as_bytes()[first as usize..=last as usize])
    }

    fn begun(first: u64, last: u64, lines: &[&str]) -> Option<Parts> {
        let fields = fields(lines);
        let validators = Validators::of(&fields, UNIX_EPOCH);
        Parts::new(fields, validators, &part(first, last), bytes(first, last))
    }

    fn added(parts: &Parts, first: u64, last: u64, lines: &[&str]) -> Option<Parts> {
        let fields = fields(lines);
        let validators = Validators::of(&fields, UNIX_EPOCH);
        parts.with(&fields, &validators, &part(first, last), bytes(first, last))
    }

    /// Parts of "0123456789" under one tag, in this order.
    fn held(ranges: &[(u64, u64)]) -> Parts {
        let (first, others) = ranges.split_first().unwrap();
        let begun = begun(first.0, first.1, &[TAG]).unwrap();
        others.iter().fold(begun, |parts, range| {
            added(&parts, range.0, range.1, &[TAG]).unwrap()
        })
    }

    fn text(pieces: &[Bytes]) -> String {
        String::from_utf8(pieces.concat()).unwrap()
    }

    /// Item 22; RFC 9111, 3.3.
    #[test]
    #[rustfmt::skip]
    fn what_may_begin() {
        for (lines, wanted, checks) in [
            (&[TAG][..], true, "a strong tag"),
            (&[OLD, DATED], true, "a strong date"),
            (&[OLD], false, "a date that may be too young"),
            (&["etag: W/\"a\""], false, "a weak tag"),
            (&[], false, "no validator"),
        ] {
            assert_eq!(begun(0, 4, lines).is_some(), wanted, "{checks}");
        }
        let tagged = || (fields(&[TAG, "content-range: bytes 0-4/10", "content-length: 5"]), Validators::of(&fields(&[TAG]), UNIX_EPOCH));
        let begin = |part: Part, body| { let (fields, validators) = tagged(); Parts::new(fields, validators, &part, body) };
        let begun = begin(part(0, 4), bytes(0, 4)).unwrap();
        assert_eq!(begun.fields(), &fields(&[TAG]), "the fields of a part do not stay");
        assert_eq!((begun.length(), &begun.validators().etag), (10, &tagged().1.etag));
        assert!(begin(part(0, 4), bytes(0, 3)).is_none(), "another length than it says");
        assert!(begin(Part { length: None, ..part(0, 4) }, bytes(0, 4)).is_none(), "complete length unknown");
        assert!(begin(Part { length: Some(4), ..part(0, 4) }, bytes(0, 4)).is_none(), "beyond the end");
    }

    /// RFC 9111, 3.4.
    #[test]
    #[rustfmt::skip]
    fn what_may_be_combined() {
        for (stored, received, wanted, checks) in [
            (&[TAG][..], &[TAG][..], true, "the same tag"),
            (&[TAG], &["etag: \"b\""], false, "another tag"),
            (&[TAG, OLD, DATED], &["etag: \"b\"", OLD, DATED], false, "another tag, the same date"),
            (&[TAG, OLD, DATED], &["etag: W/\"a\"", OLD, DATED], false, "a weak tag beside the same date"),
            (&[TAG], &[OLD, DATED], false, "no tag, and no date to compare"),
            (&[TAG, OLD, DATED], &[OLD, DATED], true, "the same date, as strong"),
            (&[OLD, DATED], &[OLD, DATED], true, "the same date"),
            (&[OLD, DATED], &[OLD], false, "the same date, weak"),
            (&[OLD, DATED], &["last-modified: Sun, 06 Nov 1994 08:49:38 GMT", DATED], false, "another date"),
            (&[TAG], &[], false, "none"),
        ] {
            let parts = begun(0, 4, stored).unwrap();
            assert_eq!(added(&parts, 5, 9, received).is_some(), wanted, "{checks}");
        }
        let parts = held(&[(0, 4)]);
        let (fields, validators) = (fields(&[TAG]), Validators::of(&fields(&[TAG]), UNIX_EPOCH));
        let other = Part { length: Some(11), ..part(5, 9) };
        assert!(parts.with(&fields, &validators, &other, bytes(5, 9)).is_none(), "another complete length");
        assert!(parts.with(&fields, &validators, &part(5, 9), bytes(5, 8)).is_none(), "another length than it says");
    }

    /// RFC 9111, 3.4: the fields of the newer part count, those it lacks stay.
    #[test]
    #[rustfmt::skip]
    fn fields_are_merged() {
        let first = begun(0, 4, &[TAG, OLD, DATED, "x-kept: 1", "x-new: 1"]).unwrap();
        let date = "date: Sun, 06 Nov 1994 10:49:37 GMT";
        let both = added(&first, 5, 9, &[TAG, date, "x-new: 2", "content-range: bytes 5-9/10", "content-length: 5"]).unwrap();
        assert_eq!(both.fields(), &fields(&[TAG, OLD, date, "x-kept: 1", "x-new: 2"]));
        assert!(both.validators().last_modified.is_some(), "what the newer one lacks stays");
    }

    #[test]
    #[rustfmt::skip]
    fn pieces() {
        // (parts as they came, what is missing first, ranges that are covered, ranges that are not)
        type Span = (u64, u64);
        type Row<'a> = (&'a [Span], Option<Span>, &'a [Span], &'a [Span], &'a str);
        let rows: &[Row<'_>] = &[
            (&[(0, 4)], Some((5, 9)), &[(0, 4), (1, 2), (4, 4)], &[(0, 5), (5, 9), (9, 9)], "the beginning"),
            (&[(5, 9)], Some((0, 4)), &[(5, 9), (9, 9)], &[(4, 5), (0, 0)], "the end"),
            (&[(3, 5)], Some((0, 2)), &[(3, 5)], &[(2, 3), (5, 6)], "the middle"),
            (&[(0, 4), (5, 9)], None, &[(0, 9), (4, 5)], &[], "two that touch"),
            (&[(5, 9), (0, 4)], None, &[(0, 9), (4, 5)], &[], "in another order"),
            (&[(0, 2), (6, 9)], Some((3, 5)), &[(0, 2), (6, 9)], &[(2, 6), (0, 9), (3, 3)], "a gap"),
            (&[(0, 2), (6, 9), (3, 5)], None, &[(0, 9)], &[], "a gap closed"),
            (&[(0, 6), (3, 9)], None, &[(0, 9), (2, 7)], &[], "two that overlap"),
            (&[(3, 9), (0, 6)], None, &[(0, 9), (2, 7)], &[], "in another order"),
            (&[(0, 9), (3, 5)], None, &[(0, 9), (5, 6)], &[], "one inside another"),
            (&[(3, 5), (0, 9)], None, &[(0, 9)], &[], "one round another"),
            (&[(0, 4), (0, 4)], Some((5, 9)), &[(0, 4)], &[(0, 5)], "the same again"),
            (&[(0, 0), (2, 2), (4, 4), (1, 3)], Some((5, 9)), &[(0, 4)], &[(4, 5)], "over several"),
        ];
        for (came, gap, covered, open, checks) in rows {
            let parts = held(came);
            let gap = gap.map(|(first, last)| ByteRange { first, last });
            assert_eq!(parts.missing(), gap, "{checks}");
            let whole = parts.whole();
            assert_eq!(whole.is_some(), gap.is_none(), "{checks}");
            if let Some((fields, body)) = whole {
                assert_eq!((&*body, &fields[CONTENT_LENGTH]), (TEXT.as_bytes(), &HeaderValue::from(10)), "{checks}");
            }
            for (first, last) in covered.iter().copied() {
                let slices = parts.slice(&ByteRange { first, last }).unwrap();
                assert_eq!(text(&slices), text(&[bytes(first, last)]), "{checks}: {first}-{last}");
            }
            for (first, last) in open.iter().copied() {
                assert_eq!(parts.slice(&ByteRange { first, last }), None, "{checks}: {first}-{last}");
            }
            for pair in parts.pieces.windows(2) {
                assert!(pair[0].last() < pair[1].first, "{checks}: sorted and disjoint");
            }
        }
    }

    /// The newer bytes count where two parts overlap.
    #[test]
    fn a_newer_part_takes_the_place_of_an_older_one() {
        let parts = held(&[(0, 6)]);
        let (fields, validators) = (fields(&[TAG]), Validators::of(&fields(&[TAG]), UNIX_EPOCH));
        let newer = Bytes::from_static(b"xyz");
        let parts = parts
            .with(&fields, &validators, &part(4, 6), newer)
            .unwrap();
        assert_eq!(text(&parts.slice(&part(0, 6).range).unwrap()), "0123xyz");
    }

    /// Item 22.
    #[test]
    #[rustfmt::skip]
    fn answers() {
        let parts = held(&[(0, 2), (6, 9)]);
        let ranges = |ranges: &[(u64, u64)]| {
            Answer::Ranges(ranges.iter().map(|(first, last)| ByteRange { first: *first, last: *last }).collect())
        };
        for (lines, wanted, checks) in [
            (&["range: bytes=0-2"][..], ranges(&[(0, 2)]), "as it came"),
            (&["range: bytes=7-8"], ranges(&[(7, 8)]), "inside"),
            (&["range: bytes=7-"], ranges(&[(7, 9)]), "to the end"),
            (&["range: bytes=-4"], ranges(&[(6, 9)]), "the last"),
            (&["range: bytes=0-0,9-9"], ranges(&[(0, 0), (9, 9)]), "several"),
            (&["range: bytes=0-0,4-4"], Answer::Missing, "one of several"),
            (&["range: bytes=-5"], Answer::Missing, "not all"),
            (&["range: bytes=10-"], Answer::Unsatisfiable, "behind the end"),
            (&["range: bytes=0-2", "if-range: \"a\""], ranges(&[(0, 2)]), "the same representation"),
            (&["range: bytes=0-2", "if-range: \"b\""], Answer::Missing, "another one: the whole"),
            (&[], Answer::Missing, "the whole"),
        ] {
            assert_eq!(parts.answer(&Method::GET, &fields(lines)), wanted, "{checks}");
        }
        assert_eq!(parts.answer(&Method::HEAD, &fields(&["range: bytes=0-2"])), Answer::Missing);
    }

    /// RFC 9110, 13.1.5.
    #[test]
    #[rustfmt::skip]
    fn asking_for_the_rest() {
        let client = fields(&["range: bytes=0-1", "if-none-match: \"z\"", "foo: 1"]);
        for (came, lines, wanted, checks) in [
            (&[(0, 4)][..], &[TAG][..], &["foo: 1", "range: bytes=5-", "if-range: \"a\""][..], "the end"),
            (&[(5, 9)], &[TAG], &["foo: 1", "range: bytes=0-4", "if-range: \"a\""], "the beginning"),
            (&[(0, 4)], &[OLD, DATED], &["foo: 1", "range: bytes=5-", "if-range: Sun, 06 Nov 1994 08:49:37 GMT"], "by date"),
            (&[(0, 9)], &[TAG], &["foo: 1"], "nothing is missing"),
        ] {
            let (first, last) = came[0];
            let parts = begun(first, last, lines).unwrap();
            let mut request = client.clone();
            assert_eq!(parts.ask_for_missing(&mut request), wanted.len() > 1, "{checks}");
            assert_eq!(request, fields(wanted), "{checks}");
        }
    }

    /// However a client asks, the number of pieces has a bound, and what touches joins.
    #[test]
    fn pieces_have_a_bound() {
        let length = 4 * MOST_PIECES as u64;
        let (fields, validators) = (fields(&[TAG]), Validators::of(&fields(&[TAG]), UNIX_EPOCH));
        let one = |at: u64| Part {
            range: ByteRange {
                first: at,
                last: at,
            },
            length: Some(length),
        };
        let byte = || Bytes::from_static(b"x");
        let mut parts = Parts::new(fields.clone(), validators.clone(), &one(0), byte()).unwrap();
        for at in 1..length {
            parts = parts.with(&fields, &validators, &one(at), byte()).unwrap();
            assert!(parts.pieces.len() <= MOST_PIECES);
        }
        assert_eq!(parts.whole().unwrap().1.len() as u64, length);

        let mut scattered =
            Parts::new(fields.clone(), validators.clone(), &one(0), byte()).unwrap();
        for at in 1..MOST_PIECES as u64 {
            scattered = scattered
                .with(&fields, &validators, &one(2 * at), byte())
                .unwrap();
        }
        let beyond = one(2 * MOST_PIECES as u64);
        assert!(
            scattered
                .with(&fields, &validators, &beyond, byte())
                .is_none()
        );
        assert!(scattered.weight() > OVERHEAD + MOST_PIECES);
    }
}
