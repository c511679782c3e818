//! Tests of the parent module.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, UNIX_EPOCH};

use super::Coding::*;
use super::*;

fn fields(lines: &[&str]) -> HeaderMap {
    let line = |line: &&str| {
        let (name, value) = line.split_once(": ").unwrap();
        (
            name.parse::<HeaderName>().unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        )
    };
    lines.iter().map(line).collect()
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_bytes(text.as_bytes()).unwrap()
}

#[test]
fn places_and_names() {
    for (place, coding) in Coding::ALL.into_iter().enumerate() {
        assert_eq!(coding.index(), place);
        let request = fields(&[&format!("accept-encoding: {}", coding.token())]);
        assert_eq!(preferred(&request), Some(coding));
    }
}

#[test]
#[rustfmt::skip]
fn what_is_worth_compressing() {
    const HTML: &str = "content-type: text/html; charset=utf-8";
    for (lines, wanted, checks) in [
        (&[HTML][..], true, "a page"),
        (&[], false, "of no type"),
        (&[HTML, "content-encoding: gzip"], false, "coded already"),
        (&[HTML, "content-range: bytes 0-4/10"], false, "a part"),
        (&[HTML, "cache-control: max-age=5, No-Transform"], false, "forbidden"),
        (&[HTML, "cdn-cache-control: no-transform"], false, "forbidden to us"),
        (&[HTML, "cache-control: max-age=5", "cache-control: public"], true, "nothing forbids it"),
        (&[HTML, "vary: Accept-Encoding, Accept-Language"], true, "made for a language"),
        (&[HTML, "vary: Accept, Cookie"], false, "made for a cookie"),
        (&[HTML, "vary: authorization"], false, "made for a login"),
        (&[HTML, "content-digest: sha-256=:YQ==:"], false, "a digest"),
        (&[HTML, "repr-digest: sha-256=:YQ==:"], false, "a digest"),
        (&[HTML, "digest: sha-256=YQ=="], false, "a digest"),
        (&[HTML, "content-md5: YQ=="], false, "a digest"),
        (&[HTML, "signature: a=:YQ==:"], false, "signed"),
        (&[HTML, "etag: W/\"a\"", "accept-ranges: bytes", "age: 5"], true, "other fields"),
    ] {
        assert_eq!(is_worth_it(StatusCode::OK, &fields(lines), 5000), wanted, "{checks}");
    }
    let html = fields(&[HTML]);
    for (length, wanted) in [(0, false), (1023, false), (1024, true), (8 << 20, true), ((8 << 20) + 1, false)] {
        assert_eq!(is_worth_it(StatusCode::OK, &html, length), wanted, "{length}");
    }
    for status in [203, 204, 206, 301, 404, 500] {
        assert!(!is_worth_it(StatusCode::from_u16(status).unwrap(), &html, 5000), "{status}");
    }
}

#[test]
#[rustfmt::skip]
fn types() {
    for text in [
        "text/html", "TEXT/CSS", "text/plain;charset=utf-8", " text/javascript ; charset=utf-8",
        "application/json", "Application/JSON; charset=utf-8", "application/manifest+json",
        "application/ld+json", "application/javascript", "application/xml", "application/rss+xml",
        "application/atom+XML;type=feed", "image/svg+xml", "application/wasm",
        "font/ttf", "font/otf", "application/vnd.ms-fontobject", "image/x-icon", "image/bmp",
    ] {
        assert!(is_compressible(&value(text)), "{text}");
    }
    for text in [
        "", ";", "text", "atext/html", "image/png", "image/jpeg", "image/webp", "image/avif", "image/gif",
        "font/woff", "font/woff2", "application/font-woff", "video/mp4", "audio/mpeg", "application/pdf",
        "application/zip", "application/gzip", "application/octet-stream", "application/x-text/html",
        "application/jsonx", "json", "image/png; x=text/html", "multipart/byteranges", "\u{fc}+jso\u{fc}",
    ] {
        assert!(!is_compressible(&value(text)), "{text}");
    }
}

#[test]
#[rustfmt::skip]
fn heads_of_coded_forms() {
    let coded = ["content-type: text/html", "content-encoding: br", "content-length: 7"];
    for (own, wanted, checks) in [
        (&["etag: \"abc\""][..], &["etag: \"abc-br\"", "vary: Accept-Encoding"][..], "a strong tag"),
        (&["etag: \"\""], &["etag: \"-br\"", "vary: Accept-Encoding"], "the empty tag"),
        (&["etag: \"\u{fc}\""], &["etag: \"\u{fc}-br\"", "vary: Accept-Encoding"], "obs-text"),
        (&["etag: W/\"abc\""], &["etag: W/\"abc\"", "vary: Accept-Encoding"], "a weak tag"),
        (&["etag: abc"], &["etag: abc", "vary: Accept-Encoding"], "no tag"),
        (&["etag: \""], &["etag: \"", "vary: Accept-Encoding"], "no tag"),
        (&["etag: \"a\"b\""], &["etag: \"a\"b\"", "vary: Accept-Encoding"], "no tag"),
        (&["accept-ranges: bytes"], &["vary: Accept-Encoding"], "no parts"),
        (&["last-modified: x", "cache-control: y", "x: z"], &["vary: Accept-Encoding", "last-modified: x", "cache-control: y", "x: z"], "others stay"),
    ] {
        let identity = ["content-type: text/html", "content-length: 90"];
        let mut head = fields(&[&identity[..], own].concat());
        dress(&mut head, Brotli, 7);
        assert_eq!(head, fields(&[&coded[..], wanted].concat()), "{checks}");
    }
}

#[test]
#[rustfmt::skip]
fn what_it_varies_by() {
    for (lines, wanted) in [
        (&[][..], &["vary: Accept-Encoding"][..]),
        (&["vary: Accept"], &["vary: Accept", "vary: Accept-Encoding"]),
        (&["vary: accept-encoding"], &["vary: accept-encoding"]),
        (&["vary: Accept", "vary: Origin, Accept-Encoding"], &["vary: Accept", "vary: Origin, Accept-Encoding"]),
        (&["vary: *"], &["vary: *"]),
        (&["vary: Accept", "vary: *"], &["vary: Accept", "vary: *"]),
        (&["vary: x-accept-encoding"], &["vary: x-accept-encoding", "vary: Accept-Encoding"]),
    ] {
        let mut head = fields(lines);
        vary(&mut head);
        assert_eq!(head, fields(wanted), "{lines:?}");
        vary(&mut head);
        assert_eq!(head, fields(wanted), "{lines:?}: not twice");
    }
}

const TAG: &str = "etag: \"abc\"";
const CHANGED: &str = "last-modified: Sun, 06 Nov 1994 08:49:37 GMT";
const ANY: &str = "accept-encoding: gzip, br, zstd";

#[test]
#[rustfmt::skip]
fn conditions_of_clients() {
    use Condition::*;
    const BR: Option<Form> = Some(Form::Coded(Brotli));
    const GZIP: Option<Form> = Some(Form::Coded(Gzip));
    const AS_STORED: Option<Form> = Some(Form::Identity);
    type Row<'a> = (&'a [&'a str], &'a [&'a str], Condition, Option<Form>, &'a str);
    let rows: &[Row<'_>] = &[
        (&[TAG], &[ANY], Proceed, None, "no condition"),
        (&[TAG], &[ANY, "if-none-match: \"abc-br\""], NotModified, BR, "it holds a coded form"),
        (&[TAG], &[ANY, "if-none-match: \"abc-gzip\""], NotModified, GZIP, "another than it would get now"),
        (&[TAG], &[ANY, "if-none-match: W/\"abc-br\""], NotModified, BR, "weakened on its way"),
        (&[TAG], &[ANY, "if-none-match: \"abc\""], NotModified, AS_STORED, "it holds the identity"),
        (&[TAG], &["if-none-match: \"abc\""], NotModified, AS_STORED, "and accepts nothing else"),
        (&[TAG], &[ANY, "if-none-match: \"abc\", \"abc-gzip\", \"abc-br\""], NotModified, BR, "all: its favourite"),
        (&[TAG], &["accept-encoding: gzip, br;q=0.5", "if-none-match: \"abc-br\"", "if-none-match: \"abc-gzip\""], NotModified, GZIP, "its favourite, over lines"),
        (&[TAG], &["if-none-match: \"abc-br\""], Proceed, None, "it no longer accepts that"),
        (&[TAG], &["accept-encoding: gzip", "if-none-match: \"abc-br\""], Proceed, None, "it accepts another only"),
        (&[TAG], &["accept-encoding: br;q=0, *", "if-none-match: \"abc-br\""], Proceed, None, "it refuses that"),
        (&[TAG], &["accept-encoding: gzip", "if-none-match: \"abc-br\", \"abc\""], NotModified, AS_STORED, "the identity for any client"),
        (&[TAG], &[ANY, "if-none-match: \"abd-br\""], Proceed, None, "of another response"),
        (&[TAG], &[ANY, "if-none-match: \"abc-deflate\""], Proceed, None, "none of our codings"),
        (&[TAG], &[ANY, "if-none-match: \"abc-BR\""], Proceed, None, "tags have their case"),
        (&[TAG], &[ANY, "if-none-match: \"abcbr\", \"abc-\", \"-br\", abc-br"], Proceed, None, "likenesses"),
        (&[TAG], &[ANY, "if-none-match: \"abc-br-br\""], Proceed, None, "not twice"),
        (&[TAG], &[ANY, "if-none-match: *"], NotModified, None, "any form: what a 200 would be"),
        (&["etag: W/\"abc\""], &[ANY, "if-none-match: W/\"abc\""], NotModified, None, "one tag for all forms"),
        (&["etag: W/\"abc\""], &[ANY, "if-none-match: \"abc-br\""], Proceed, None, "was never sent"),
        (&["etag: abc"], &[ANY, "if-none-match: abc"], NotModified, None, "no tag, but its like"),
        (&["etag: \"abc-br\""], &[ANY, "if-none-match: \"abc-br\""], NotModified, AS_STORED, "the origin's own tag"),
        (&["etag: \"abc-br\""], &[ANY, "if-none-match: \"abc-br-br\""], NotModified, BR, "and a coded form of that"),
        (&[CHANGED], &[ANY, "if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT"], NotModified, None, "a date is of all forms"),
        (&[CHANGED], &[ANY, "if-none-match: \"abc-br\""], Proceed, None, "no tag to compare"),
        (&[TAG, CHANGED], &[ANY, "if-none-match: \"abc-br\"", "if-modified-since: Sun, 06 Nov 1994 08:00:00 GMT"], NotModified, BR, "If-None-Match comes first"),
        (&[TAG], &[ANY, "if-match: \"abc-br\"", "if-none-match: \"abc-br\""], ForOrigin, None, "9111 4.3.2"),
    ];
    let received = UNIX_EPOCH + Duration::from_secs(784_111_900);
    for (stored, request, condition, form, checks) in rows {
        let (validators, request) = (Validators::of(&fields(stored), received), fields(request));
        for method in [Method::GET, Method::HEAD] {
            let found = evaluate(&method, &request, StatusCode::OK, &validators);
            assert_eq!(found, (*condition, *form), "{checks}");
        }
        for (method, status) in [(Method::GET, StatusCode::NOT_FOUND), (Method::POST, StatusCode::OK)] {
            let found = evaluate(&method, &request, status, &validators);
            let plain = conditional::evaluate(&method, &request, status, &validators);
            assert_eq!(found, (plain, None), "9110 13.2.1: {checks}");
        }
    }
}

/// What is sent in `ETag` is what is recognised in `If-None-Match`, and no other form is.
#[test]
fn every_form_knows_its_own_tag() {
    for text in ["\"abc\"", "\"\"", "\"a-br\"", "\"x, y\"", "\"\u{fc}\""] {
        let validators = Validators::of(&fields(&[&format!("etag: {text}")]), UNIX_EPOCH);
        for coding in Coding::ALL {
            let mut head = fields(&[&format!("etag: {text}")]);
            dress(&mut head, coding, 1);
            let mut request = fields(&[ANY]);
            request.insert(IF_NONE_MATCH, head[ETAG].clone());
            let found = evaluate(&Method::GET, &request, StatusCode::OK, &validators);
            assert_eq!(found, (Condition::NotModified, Some(Form::Coded(coding))));
        }
    }
}

#[test]
#[rustfmt::skip]
fn parts_of_the_identity() {
    use crate::cache::range::{Ranges, resolve};
    let stored = Validators::of(&fields(&[TAG, CHANGED, "date: Sun, 06 Nov 1994 09:00:00 GMT"]), UNIX_EPOCH);
    for (line, wanted, checks) in [
        ("x: y", true, "no condition"),
        ("if-range: \"abc\"", true, "of the identity"),
        ("if-range: \"abc-br\"", false, "of a coded form"),
        ("if-range: W/\"abc\"", false, "weak"),
        ("if-range: Sun, 06 Nov 1994 08:49:37 GMT", false, "a date of all forms"),
    ] {
        let request = fields(&["range: bytes=0-4", ANY, line]);
        let whole = resolve(&Method::GET, &request, 10, &stored) == Ranges::Whole;
        assert_eq!(may_answer_range(&request) && !whole, wanted, "{checks}");
    }
}

#[test]
#[rustfmt::skip]
fn tags_given_back_to_an_origin() {
    for (stored, lines, wanted, checks) in [
        ("\"abc\"", &["if-match: \"abc-br\""][..], &["if-match: \"abc\""][..], "of a coded form"),
        ("\"abc\"", &["if-match: \"x, y\" , \"abc-gzip\",\"z-br\""], &["if-match: \"x, y\", \"abc\", \"z-br\""], "in a list"),
        ("\"abc\"", &["if-match: \"x\"", "if-match: \"abc-zstd\""], &["if-match: \"x\", \"abc\""], "over lines"),
        ("\"abc\"", &["if-match: \"x\"", "if-match: \"abc\""], &["if-match: \"x\"", "if-match: \"abc\""], "none of ours"),
        ("\"abc\"", &["if-match: *"], &["if-match: *"], "any"),
        ("\"abc\"", &["if-match: W/\"abc-br\""], &["if-match: W/\"abc-br\""], "weak: never holds"),
        ("W/\"abc\"", &["if-match: \"abc-br\""], &["if-match: \"abc-br\""], "was never sent"),
        ("W/\"abc\"", &["if-match: W/\"abc-br\""], &["if-match: W/\"abc-br\""], "was never sent"),
        ("abc", &["if-match: \"abc\""], &["if-match: \"abc\""], "no tag"),
        ("\"abc\"", &["if-none-match: \"abc-br\""], &["if-none-match: \"abc-br\""], "stays"),
    ] {
        let mut request = fields(lines);
        for_origin(&mut request, &value(stored));
        assert_eq!(request, fields(wanted), "{checks}");
    }
}

#[test]
fn a_hostile_list_takes_linear_time() {
    let list = format!("if-none-match: {}", "\"abc-br\"W/".repeat(100_000));
    let validators = Validators::of(&fields(&[TAG]), UNIX_EPOCH);
    let request = fields(&[&list]);
    let (condition, _) = evaluate(&Method::GET, &request, StatusCode::OK, &validators);
    assert_eq!(condition, Condition::Proceed);
    let list = format!("if-match: {}", "\"abc-br\",".repeat(100_000));
    let mut request = fields(&[&list]);
    for_origin(&mut request, &value("\"abc\""));
    assert_eq!(request[IF_MATCH].len(), 100_000 * 7 - 2);
}
