//! Tests of what `Cache-Control` and `CDN-Cache-Control` are read as. Each row says what it checks.
#![allow(clippy::unwrap_used)]

use super::*;

fn response(lines: &[(&'static str, &[u8])]) -> ResponseControl {
    ResponseControl::of(&headers(lines))
}

fn headers(lines: &[(&'static str, &[u8])]) -> HeaderMap {
    let line = |&(name, value): &(&'static str, &[u8])| {
        (
            HeaderName::from_static(name),
            http::HeaderValue::from_bytes(value).unwrap(),
        )
    };
    lines.iter().map(line).collect()
}

const CC: &str = "cache-control";
const CDN: &str = "cdn-cache-control";

/// (lines, max-age, s-maxage, what it checks)
#[test]
#[rustfmt::skip]
fn lifetimes() {
    type Row = (&'static [&'static str], Option<u32>, Option<u32>, &'static str);
    let rows: &[Row] = &[
        (&["max-age=3600"], Some(3600), None, "5.2.2.1"),
        (&["MaX-aGe=3600"], Some(3600), None, "item 2: names compare without case"),
        (&["foobar, max-age=3600"], Some(3600), None, "item 2: unknown ones are skipped"),
        (&["foo=1;max-age=5, max-age=2"], Some(2), None, "item 2: unknown ones are skipped"),
        (&["extension=\"max-age=3600\", max-age=1"], Some(1), None, "item 2: quoted values"),
        (&["max-age=1, extension=\"max-age=3600\""], Some(1), None, "item 2: quoted values"),
        (&["a=\"x\\\", max-age=9\", max-age=1"], Some(1), None, "9110 5.6.4: quoted pairs"),
        (&["max-age=\"3600\""], Some(3600), None, "9111 5.2: quoted form"),
        (&["max-age=003600"], Some(3600), None, "item 2: leading zeros"),
        (&["max-age=2147483648"], Some(LONGEST), None, "item 2: 2^31"),
        (&["max-age=99999999999999999999"], Some(LONGEST), None, "item 2: clamped"),
        (&["max-age=-1"], Some(0), None, "item 2: negative"),
        (&["max-age='3600'"], Some(0), None, "item 2: single quotes"),
        (&["max-age=3600.0"], Some(0), None, "item 2: unreadable"),
        (&["max-age=a3600"], Some(0), None, "item 2: unreadable"),
        (&["max-age=3600a"], Some(0), None, "item 2: unreadable"),
        (&["max-age"], Some(0), None, "item 2: unreadable"),
        (&["max-age="], Some(0), None, "item 2: unreadable"),
        (&["max-age =3600"], Some(0), None, "item 2: unreadable"),
        (&["max-age= 3600"], Some(0), None, "item 2: unreadable"),
        (&["max-age=1800, max-age=1"], Some(1800), None, "item 2: the first counts"),
        (&["max-age=1", "max-age=1800"], Some(1), None, "item 2: the first counts"),
        (&["max-age=x, max-age=1800"], Some(0), None, "item 2: the first counts"),
        (&["s-maxage=1, max-age=3600"], Some(3600), Some(1), "item 1: any order"),
        (&["max-age=3600", "s-maxage=1"], Some(3600), Some(1), "item 1: several lines"),
        (&["s-maxage=x"], None, Some(0), "item 2: unreadable"),
        (&["a=\"b, max-age=60"], Some(0), None, "9110 5.6.4: the quote never closes"),
        (&["", ",,  ,", "="], None, None, "9110 5.6.1: empty members"),
    ];
    for (lines, max_age, s_maxage, checks) in rows {
        let lines: Vec<_> = lines.iter().map(|l| (CC, l.as_bytes())).collect();
        let said = response(&lines).directives;
        assert_eq!((said.max_age, said.s_maxage), (*max_age, *s_maxage), "{checks}");
    }
}

#[test]
#[rustfmt::skip]
fn flags_and_lists() {
    type Row = (&'static str, bool, bool, bool, &'static [&'static str], &'static str);
    // (line, no-store, no-cache, private, fields of no-cache, what it checks)
    let rows: &[Row] = &[
        ("No-Store", true, false, false, &[], "item 2: names compare without case"),
        ("no-cache, max-age=60", false, true, false, &[], "item 6"),
        ("no-cache=\"a, B\"", false, false, false, &["a", "b"], "item 6: a list of fields"),
        ("no-cache=\"a\", no-cache=\"b\"", false, false, false, &["a", "b"], "item 6: both lists"),
        ("no-cache=a", false, false, false, &["a"], "9111 5.2.2.4: the token form"),
        ("no-cache=\"\"", false, true, false, &[], "an empty list limits nothing"),
        ("no-cache=\"a b\"", false, true, false, &[], "an unreadable list limits nothing"),
        ("no-cache=\"vary\"", false, true, false, &[], "without Vary it cannot be selected"),
        ("private=\"content-type\"", false, false, true, &[], "it cannot be understood without"),
        ("private=\"set-cookie\"", false, false, false, &[], "9111 5.2.2.7"),
        ("x=\"a, no-store", true, false, false, &[], "a broken quote hides no restriction"),
        ("x=\"no-store\"", false, false, false, &[], "item 2: quoted values"),
        ("no-storex, xno-cache", false, false, false, &[], "item 2: whole names"),
    ];
    for (line, no_store, no_cache, private, fields, checks) in rows {
        let control = response(&[(CC, line.as_bytes())]);
        let said = control.directives;
        let found = (said.no_store, said.no_cache, said.private);
        assert_eq!(found, (*no_store, *no_cache, *private), "{checks}");
        assert_eq!(control.no_cache_fields, *fields, "{checks}");
    }
    assert!(!response(&[(CC, b"x=\"a, public")]).directives.public, "a broken quote permits nothing");
    assert_eq!(response(&[(CC, b"private=\"set-cookie\"")]).private_fields, ["set-cookie"]);
}

/// Item 28.
#[test]
#[rustfmt::skip]
fn targeted_field() {
    type Row = (&'static [(&'static str, &'static str)], bool, Option<u32>, bool, &'static str);
    let rows: &[Row] = &[
        (&[(CDN, "max-age=60"), (CC, "no-store")], true, Some(60), false, "it alone decides"),
        (&[(CDN, "no-store"), (CC, "max-age=60")], true, None, true, "it alone decides"),
        (&[(CDN, "max-age=1, &&"), (CC, "no-store")], false, None, true, "does not parse"),
        (&[(CDN, "max-age=\"9\""), (CC, "no-store")], false, None, true, "wrong type"),
        (&[(CDN, "max-age=1.5"), (CC, "max-age=2")], false, Some(2), false, "wrong type"),
        (&[(CDN, "Max-Age=9"), (CC, "max-age=2")], false, Some(2), false, "upper case"),
        (&[(CDN, ""), (CC, "max-age=2")], false, Some(2), false, "empty"),
        (&[(CDN, "max-age=9"), (CDN, "max-age=3")], true, Some(3), false, "8941 3.2: last one"),
        (&[(CDN, "no-store, no-store=?0")], true, None, false, "8941 3.2: last one"),
        (&[(CDN, "max-age=-5")], true, Some(0), false, "negative"),
        (&[(CDN, "foo=bar, max-age=9;x=1")], true, Some(9), false, "unknown ones are skipped"),
    ];
    for (lines, targeted, max_age, no_store, checks) in rows {
        let lines: Vec<_> = lines.iter().map(|(n, v)| (*n, v.as_bytes())).collect();
        let control = response(&lines);
        let found = (control.targeted, control.directives.max_age, control.directives.no_store);
        assert_eq!(found, (*targeted, *max_age, *no_store), "{checks}: {lines:?}");
    }
    assert_eq!(response(&[(CDN, b"no-cache=\"a\"")]).no_cache_fields, ["a"]);
}

/// Item 24.
#[test]
#[rustfmt::skip]
fn requests() {
    let read = |line: &str| RequestDirectives::of(&headers(&[(CC, line.as_bytes())]));
    let none = RequestDirectives::default();
    for (line, wanted) in [
        ("no-cache, no-store", RequestDirectives { no_cache: true, no_store: true, ..none }),
        ("only-if-cached", RequestDirectives { only_if_cached: true, ..none }),
        ("max-age=0", RequestDirectives { max_age: Some(0), ..none }),
        ("max-age=x", RequestDirectives { max_age: Some(0), ..none }),
        ("min-fresh=5", RequestDirectives { min_fresh: Some(5), ..none }),
        ("max-stale=5", RequestDirectives { max_stale: Some(5), ..none }),
        ("max-stale", RequestDirectives { max_stale: Some(LONGEST), ..none }),
        ("max-stale=x, min-fresh", none),
    ] {
        assert_eq!(read(line), wanted, "{line}");
    }
}

#[test]
#[rustfmt::skip]
fn hostile_bytes_are_survived_in_linear_time() {
    let quotes = [b"\",".repeat(200_000), b"a=\",".repeat(100_000), b"\\\"".repeat(200_000)];
    for line in quotes.iter().map(Vec::as_slice).chain([b"\xff=\xfe, max-age=\xe9".as_slice()]) {
        response(&[(CC, line), (CDN, line)]);
    }
}
