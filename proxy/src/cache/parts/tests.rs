//! What parts cover, how they join, and what they answer.
#![allow(clippy::unwrap_used)]

use std::time::UNIX_EPOCH;

use http::{HeaderName, HeaderValue};

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
    assert_eq!((begun.length(), &begun.validators.etag), (10, &tagged().1.etag));
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
    assert!(both.validators.last_modified.is_some(), "what the newer one lacks stays");
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

    let mut scattered = Parts::new(fields.clone(), validators.clone(), &one(0), byte()).unwrap();
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
