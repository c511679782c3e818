//! How requests are answered (items 21 to 27).

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use sovereign_tests::proxy::site;
use sovereign_tests::raw::{open, receive_until};
use sovereign_tests::script::{Gate, Say, Script};
use sovereign_tests::wait::within;
use sovereign_tests::{Answer, Client, Lab, Proxy, eventually};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use super::{
    HOST, NOT_REUSED, Reuse, Stage, Told, age, ask, each, ensure, is_hit, number, same, same_reuse,
};

const HOUR: &str = "cache-control: max-age=3600";
const TAG: &str = "etag: \"a\"";
const CHANGED: &str = "last-modified: Sun, 06 Nov 1994 08:49:37 GMT";
const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz";
/// Longer than anything takes that does come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Item 21 (9111 4, 5.1; 9110 6.6.1).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_21_age_on_every_response_from_the_store() {
    let stage = Stage::open().await;
    #[rustfmt::skip]
    let rows: &[(&str, u16, &[&str], u16)] = &[
        ("GET", 200, &[], 200),
        ("HEAD", 200, &[], 200),
        ("GET", 404, &[], 404),
        ("GET", 301, &[], 301),
        ("GET", 204, &[], 204),
        ("GET", 200, &["if-none-match: \"a\""], 304),
        ("GET", 200, &["range: bytes=0-1"], 206),
        ("GET", 200, &["range: bytes=0-1,4-5"], 206),
        ("GET", 200, &["range: bytes=1000-"], 416),
        ("GET", 200, &["cache-control: only-if-cached"], 200),
    ];
    // (fields, age): by its Date, by its Age, by both.
    #[rustfmt::skip]
    let origins: &[(&[&str], i64)] = &[
        (&["date: {-1000}"], 1000),
        (&["age: 1000"], 1000),
        (&["date: {-1000}", "age: 2000"], 2000),
        (&["date: {+1000}"], 0),
        (&["date: yesterday", "age: 1000"], 1000),
    ];
    let rows = rows
        .iter()
        .flat_map(|row| origins.iter().map(move |of| (row, of)));
    each(
        rows,
        async |((method, stored, fields, status), (old, least))| {
            let lines = [*old, &[HOUR, TAG]].concat();
            let path = stage.page([Say::status(*stored, &lines)]);
            let first = stage.get(&path).await;
            let method = method.parse().expect("a method");
            let answer = stage.ask(method, &path, fields, "").await;
            same("the status", answer.status.as_u16(), *status)?;
            ensure(is_hit(&answer), format!("no hit: {answer}"))?;
            let lines = answer.headers.get_all("age").iter().count();
            same("lines of Age", lines, 1)?;
            let near = (*least..least + super::SLACK).contains(&age(&answer));
            ensure(near, format!("{least} seconds or little more: {answer}"))?;
            // Date is the origin's, whatever it is.
            same("Date", answer.header("date"), first.header("date"))?;
            match old.iter().find_map(|line| line.strip_prefix("date: y")) {
                Some(_) => same("Date", answer.header("date"), "yesterday"),
                None => ensure(!answer.header("date").is_empty(), format!("Date: {answer}")),
            }
        },
        |row| format!("{row:?}"),
    )
    .await;

    // Also where a stale one is served, and where the origin has just confirmed one.
    for (second, least) in [
        (Say::status(500, &[]), 1000),
        (Say::status(304, &["age: 30", HOUR, TAG]), 30),
    ] {
        let stale = ["cache-control: max-age=60", "age: 1000", TAG];
        let path = stage.page([Say::ok(&stale), second]);
        stage.get(&path).await.expect(200);
        let answer = stage.get(&path).await.expect(200);
        assert!(
            (least..least + super::SLACK).contains(&age(&answer)),
            "{answer}"
        );
    }
}

/// Item 22 (9110 14.2, 15.3.7).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_22_one_range_out_of_a_stored_response() {
    let stage = Stage::open().await;
    let path = stage.page([Say::ok(&[HOUR, TAG, "x-a: 1"]).body(LETTERS)]);
    stage.get(&path).await.expect(200);
    // (Range, status, Content-Range, body)
    #[rustfmt::skip]
    let rows = [
        ("bytes=0-4", 206, "bytes 0-4/26", "abcde"),
        ("bytes=3-3", 206, "bytes 3-3/26", "d"),
        ("bytes=20-25", 206, "bytes 20-25/26", "uvwxyz"),
        ("bytes=20-99", 206, "bytes 20-25/26", "uvwxyz"),
        ("bytes=20-99999999999999999999999", 206, "bytes 20-25/26", "uvwxyz"),
        ("bytes=20-", 206, "bytes 20-25/26", "uvwxyz"),
        ("bytes=0-", 206, "bytes 0-25/26", LETTERS),
        ("bytes=25-", 206, "bytes 25-25/26", "z"),
        ("bytes=-4", 206, "bytes 22-25/26", "wxyz"),
        ("bytes=-26", 206, "bytes 0-25/26", LETTERS),
        ("bytes=-99", 206, "bytes 0-25/26", LETTERS),
        ("bytes=,0-4 ,", 206, "bytes 0-4/26", "abcde"),
        ("Bytes=0-4", 206, "bytes 0-4/26", "abcde"),
        ("bytes=0-1,99-", 206, "bytes 0-1/26", "ab"),
        // Nothing of it is there.
        ("bytes=26-", 416, "bytes */26", ""),
        ("bytes=26-30", 416, "bytes */26", ""),
        ("bytes=99999999999999999999999-", 416, "bytes */26", ""),
        ("bytes=-0", 416, "bytes */26", ""),
        ("bytes=30-40,50-60", 416, "bytes */26", ""),
        // What is no range, or another unit, is as if it were not there.
        ("bytes=4-0", 200, "", LETTERS),
        ("bytes=a-b", 200, "", LETTERS),
        ("bytes=0-4;q=1", 200, "", LETTERS),
        ("bytes=", 200, "", LETTERS),
        ("bytes=-", 200, "", LETTERS),
        ("bytes 0-4", 200, "", LETTERS),
        ("letters=0-4", 200, "", LETTERS),
    ];
    each(
        rows,
        async |(range, status, content_range, body)| {
            let answer = stage.get_with(&path, &[&format!("range: {range}")]).await;
            same("the status", answer.status.as_u16(), *status)?;
            ensure(is_hit(&answer), format!("no hit: {answer}"))?;
            same(
                "Content-Range",
                answer.header("content-range"),
                *content_range,
            )?;
            if *status != 416 {
                same("the body", answer.text().as_str(), *body)?;
                same(
                    "its length",
                    answer.header("content-length"),
                    body.len().to_string().as_str(),
                )?;
                same("its tag", answer.header("etag"), "\"a\"")?;
                same("X-A", answer.header("x-a"), "1")?;
            }
            same("asked", stage.asked(&path), 1)
        },
        |(range, ..)| (*range).to_owned(),
    )
    .await;
    // A HEAD has no parts (9110 14.2).
    let head = stage
        .ask(Method::HEAD, &path, &["range: bytes=0-4"], "")
        .await
        .expect(200);
    assert!(
        is_hit(&head) && head.header("content-length") == "26",
        "{head}"
    );
    // Of another status than 200 there are none.
    let path = stage.page([Say::status(404, &[HOUR]).body(LETTERS)]);
    stage.get(&path).await.expect(404);
    let answer = stage
        .get_with(&path, &["range: bytes=0-4"])
        .await
        .expect(404);
    assert!(is_hit(&answer) && answer.text() == LETTERS, "{answer}");
}

/// Item 22 (9110 14.6, 15.3.7.2).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_22_several_ranges_at_once() {
    let stage = Stage::open().await;
    let path = stage.page([Say::ok(&[HOUR, "content-type: text/a"]).body(LETTERS)]);
    stage.get(&path).await.expect(200);
    #[rustfmt::skip]
    let rows: &[(&str, &[(&str, &str)])] = &[
        ("bytes=0-1,4-5", &[("bytes 0-1/26", "ab"), ("bytes 4-5/26", "ef")]),
        ("bytes=4-5 , 0-1", &[("bytes 4-5/26", "ef"), ("bytes 0-1/26", "ab")]),
        (
            "bytes=0-0,-1,10-11",
            &[("bytes 0-0/26", "a"), ("bytes 25-25/26", "z"), ("bytes 10-11/26", "kl")],
        ),
        ("bytes=0-1,99-,24-", &[("bytes 0-1/26", "ab"), ("bytes 24-25/26", "yz")]),
    ];
    each(
        rows,
        async |(range, wanted)| {
            let answer = stage.get_with(&path, &[&format!("range: {range}")]).await;
            same("the status", answer.status.as_u16(), 206)?;
            ensure(is_hit(&answer), format!("no hit: {answer}"))?;
            same("Content-Range", answer.header("content-range"), "")?;
            let length = answer.body.len().to_string();
            same(
                "its length",
                answer.header("content-length"),
                length.as_str(),
            )?;
            let parts = parts(&answer)?;
            let found: Vec<_> = parts
                .iter()
                .map(|(range, kind, body)| (range.as_str(), kind.as_str(), body.as_str()))
                .collect();
            let wanted: Vec<_> = wanted
                .iter()
                .map(|(range, body)| (*range, "text/a", *body))
                .collect();
            same("the parts", found, wanted)
        },
        |(range, _)| (*range).to_owned(),
    )
    .await;
    assert_eq!(stage.asked(&path), 1);
}

/// `Content-Range`, `Content-Type` and body of each part of a multipart/byteranges (9110 14.6).
fn parts(answer: &Answer) -> Result<Vec<(String, String, String)>, String> {
    let wrong = |what: &str| format!("{what}: {answer}");
    let boundary = answer
        .header("content-type")
        .strip_prefix("multipart/byteranges; boundary=")
        .ok_or_else(|| wrong("no multipart/byteranges"))?
        .trim_matches('"');
    let text = format!("\r\n{}", answer.text());
    let border = format!("\r\n--{boundary}");
    let mut pieces = text.split(&border);
    ensure(
        pieces.next() == Some(""),
        wrong("something before the first part"),
    )?;
    let mut found = Vec::new();
    for piece in pieces {
        if let Some(end) = piece.strip_prefix("--") {
            ensure(
                end.trim().is_empty(),
                wrong("something after the last part"),
            )?;
            return Ok(found);
        }
        let (head, body) = piece
            .split_once("\r\n\r\n")
            .ok_or_else(|| wrong("a part without a head"))?;
        let field = |name: &str| {
            head.lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(found, _)| found.eq_ignore_ascii_case(name))
                .map_or(String::new(), |(_, value)| value.trim().to_owned())
        };
        found.push((
            field("content-range"),
            field("content-type"),
            body.to_owned(),
        ));
    }
    Err(wrong("no last boundary"))
}

/// Item 22 (9110 13.1.5).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_22_if_range() {
    let stage = Stage::open().await;
    let weak = "etag: W/\"a\"";
    let recent = "last-modified: {+0}";
    // (validators, If-Range, whether the part is given)
    #[rustfmt::skip]
    let rows: &[(&[&str], &str, bool)] = &[
        (&[TAG], "\"a\"", true),
        (&[TAG], "\"b\"", false),
        (&[TAG], "W/\"a\"", false),
        (&[weak], "W/\"a\"", false),
        (&[weak], "\"a\"", false),
        (&[TAG], "\"a\", \"b\"", false),
        (&[TAG], "*", false),
        (&[CHANGED], "\"a\"", false),
        (&[CHANGED], "Sun, 06 Nov 1994 08:49:37 GMT", true),
        (&[TAG, CHANGED], "Sun, 06 Nov 1994 08:49:37 GMT", true),
        (&[CHANGED], "Sun, 06 Nov 1994 08:49:36 GMT", false),
        (&[CHANGED], "Sun, 06 Nov 1994 08:49:38 GMT", false),
        (&[CHANGED], "yesterday", false),
        (&[TAG], "Sun, 06 Nov 1994 08:49:37 GMT", false),
        // What changed in the second in which it was sent may have changed twice.
        (&[recent], "LAST", false),
    ];
    each(
        rows,
        async |(validators, condition, holds)| {
            let lines = [*validators, &[HOUR, "date: {+0}"]].concat();
            let path = stage.page([Say::ok(&lines).body(LETTERS)]);
            let first = stage.get(&path).await;
            let condition = match *condition {
                "LAST" => first.header("last-modified"),
                other => other,
            };
            let fields = ["range: bytes=0-4", &format!("if-range: {condition}")];
            let answer = stage.get_with(&path, &fields).await;
            same(
                "the status",
                answer.status.as_u16(),
                if *holds { 206 } else { 200 },
            )?;
            same(
                "the body",
                answer.text().as_str(),
                if *holds { "abcde" } else { LETTERS },
            )?;
            same("asked", stage.asked(&path), 1)
        },
        |row| format!("{row:?}"),
    )
    .await;
}

/// Item 22 (9111 3.3, 3.4; 9110 15.3.7.1), and the 206 of item 5: an origin's own part.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_22_a_part_of_the_origins_is_stored() {
    let stage = Stage::open().await;
    let part = "content-range: bytes 0-4/26";
    #[rustfmt::skip]
    let rows: &[&[&str]] = &[
        &[part, HOUR, TAG],
        &[part, HOUR, "last-modified: {-36000}", "date: {-1000}"],
        &[part, "expires: {+3600}", TAG],
        // Item 5: guessed at.
        &[part, "last-modified: {-36000}", TAG],
    ];
    each(
        rows,
        async |lines| {
            let whole = Say::ok(&[HOUR, TAG]).body(LETTERS);
            let path = stage.page([Say::status(206, lines).body("abcde"), whole]);
            for wanted in [false, true] {
                let answer = stage.get_with(&path, &["range: bytes=0-4"]).await;
                same("the status", answer.status.as_u16(), 206)?;
                same("a hit", is_hit(&answer), wanted)?;
                same("the body", answer.text().as_str(), "abcde")?;
                same(
                    "Content-Range",
                    answer.header("content-range"),
                    "bytes 0-4/26",
                )?;
            }
            // A part of the part is there as well.
            let inside = stage.get_with(&path, &["range: bytes=1-3"]).await;
            same("a part of it", inside.text().as_str(), "bcd")?;
            same("of that", inside.header("content-range"), "bytes 1-3/26")?;
            same("asked", stage.asked(&path), 1)?;
            // It is no answer to who wants all of it.
            let all = stage.get(&path).await;
            same(
                "the whole",
                (all.status.as_u16(), all.text().as_str()),
                (200, LETTERS),
            )?;
            same("asked for the whole", stage.asked(&path), 2)
        },
        |row| format!("{row:?}"),
    )
    .await;
}

/// Item 22 (9111 3.3, 3.4): what does not agree is not stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_22_a_part_that_does_not_agree_is_not_stored() {
    let stage = Stage::open().await;
    let part = "content-range: bytes 0-4/26";
    #[rustfmt::skip]
    let rows: &[&[&str]] = &[
        // The body is five bytes long.
        &["content-range: bytes 0-9/26", HOUR, TAG],
        &["content-range: bytes 0-3/26", HOUR, TAG],
        &["content-range: bytes 5-0/26", HOUR, TAG],
        &["content-range: bytes 0-4/3", HOUR, TAG],
        &["content-range: bytes */26", HOUR, TAG],
        &["content-range: letters 0-4/26", HOUR, TAG],
        &["content-range: 0-4/26", HOUR, TAG],
        &["content-range: bytes 0-4/26", "content-range: bytes 0-4/27", HOUR, TAG],
        &["x-no: range", HOUR, TAG],
        // Nothing strong to tell it by.
        &[part, HOUR],
        &[part, HOUR, "etag: W/\"a\""],
        &[part, HOUR, "last-modified: {+0}", "date: {+0}"],
        // Nothing that allows it.
        &[part, TAG],
        &[part, TAG, "cache-control: no-store"],
        &[part, TAG, "cache-control: private, max-age=3600"],
    ];
    each(
        rows,
        async |lines| {
            let whole = Say::ok(&[HOUR, TAG]).body(LETTERS);
            let say = Say::status(206, lines).body("abcde");
            let path = stage.page([say.clone(), say, whole]);
            for wanted in 1..=2 {
                let answer = stage.get_with(&path, &["range: bytes=0-4"]).await;
                same("a hit", is_hit(&answer), false)?;
                same("asked", stage.asked(&path), wanted)?;
            }
            let all = stage.get(&path).await;
            same(
                "the whole",
                (all.status.as_u16(), all.text().as_str()),
                (200, LETTERS),
            )
        },
        |row| format!("{row:?}"),
    )
    .await;
}

/// Item 23 (9111 4.4).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_23_a_change_invalidates_the_target() {
    let stage = Stage::open().await;
    #[rustfmt::skip]
    let methods = [
        ("POST", true),
        ("PUT", true),
        ("DELETE", true),
        ("PATCH", true),
        ("FOO", true),
        ("OPTIONS", false),
    ];
    #[rustfmt::skip]
    let statuses = [
        (200, true), (201, true), (204, true), (299, true), (301, true), (303, true), (307, true), (399, true),
        (400, false), (403, false), (404, false), (409, false), (500, false), (503, false),
    ];
    let rows = methods
        .iter()
        .flat_map(|method| statuses.iter().map(move |status| (method, status)));
    each(
        rows,
        async |((method, unsafe_one), (status, successful))| {
            let page = Say::ok(&[HOUR, TAG]);
            let path = stage.page([page.clone(), Say::status(*status, &[]), page]);
            stage.get(&path).await;
            ensure(is_hit(&stage.get(&path).await), "it is stored")?;
            let method: Method = method.parse().expect("a method");
            let answer = stage.ask(method.clone(), &path, &[], "a change").await;
            same("its status", answer.status.as_u16(), *status)?;
            let asked = stage.last(&path);
            same(
                "what the origin got",
                (&asked.method, &asked.body[..]),
                (&method, &b"a change"[..]),
            )?;
            let next = stage.get(&path).await;
            let gone = *unsafe_one && *successful;
            same("a hit", is_hit(&next), !gone)?;
            same("the answer", number(&next), if gone { "3" } else { "1" })
        },
        |row| format!("{row:?}"),
    )
    .await;
}

/// Item 23 (9111 4.4): the URIs that the answer names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_23_a_change_invalidates_what_its_answer_names() {
    let stage = Stage::open().await;
    let other = Client::h1(&stage.proxy.http("other.test"));
    #[rustfmt::skip]
    let rows = [
        (201, "location: PATH", true),
        (201, "content-location: PATH", true),
        (303, "location: PATH", true),
        (200, "location: http://site.test/PATH", true),
        (200, "content-location: HTTP://SITE.test:80/PATH", true),
        (200, "content-location: //site.test/PATH", true),
        (200, "location: /another", false),
        (200, "x-location: PATH", false),
        (404, "location: PATH", false),
        (500, "content-location: PATH", false),
        // Another origin is none of its business.
        (201, "location: http://other.test/PATH", false),
        (201, "location: https://site.test/PATH", false),
        (201, "content-location: http://site.test:8080/PATH", false),
        (201, "content-location: //other.test/PATH", false),
    ];
    each(
        rows,
        async |(status, line, named)| {
            let page = stage.page([Say::ok(&[HOUR])]);
            // The page is the same for both hosts; the origin counts them together.
            stage.get(&page).await;
            ask(&other, Method::GET, &page, &[], "").await;
            let line = line.replace("/PATH", "PATH").replace("PATH", &page);
            let form = stage.page([Say::status(*status, &[&line])]);
            stage.post(&form).await;
            same("a hit", is_hit(&stage.get(&page).await), !named)?;
            let others = ask(&other, Method::GET, &page, &[], "").await;
            ensure(is_hit(&others), format!("another host's: {others}"))
        },
        |row| format!("{row:?}"),
    )
    .await;
}

/// Item 24 (9111 5.2.1): what is stored has had half an hour of its hour, or a minute of none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_24_what_a_request_says_about_caching() {
    let stage = Stage::open().await;
    let fresh = ["cache-control: max-age=3600", "age: 1800"];
    let stale = ["cache-control: max-age=3600", "age: 4600"];
    let bound = ["cache-control: max-age=3600, must-revalidate", "age: 4600"];
    #[rustfmt::skip]
    let rows: &[(&[&str], &str, bool)] = &[
        (&fresh, "foo", true),
        (&fresh, "no-cache", false),
        (&fresh, "No-Cache", false),
        (&fresh, "foo=\"no-cache\"", true),
        (&fresh, "max-age=3000", true),
        (&fresh, "max-age=1000", false),
        (&fresh, "max-age=0", false),
        (&fresh, "min-fresh=1000", true),
        (&fresh, "min-fresh=3000", false),
        (&fresh, "max-age=3000, min-fresh=3000", false),
        (&fresh, "max-stale", true),
        (&fresh, "max-age=1000, max-stale", false),
        (&fresh, "only-if-cached", true),
        (&stale, "foo", false),
        (&stale, "max-stale", true),
        (&stale, "max-stale=2000", true),
        (&stale, "max-stale=500", false),
        (&stale, "max-stale=0", false),
        (&stale, "max-stale=2000, max-age=6000", true),
        (&stale, "max-stale=2000, max-age=4000", false),
        (&stale, "max-stale, no-cache", false),
        (&stale, "max-stale, min-fresh=10", false),
        (&bound, "max-stale", false),
    ];
    each(
        rows,
        async |(lines, control, served)| {
            let path = stage.page([Say::ok(&[lines, &[TAG][..]].concat()), Say::ok(&[HOUR])]);
            stage.get(&path).await;
            let field = format!("cache-control: {control}");
            let answer = stage.get_with(&path, &[&field]).await;
            same("a hit", is_hit(&answer), *served)?;
            same(
                "the answer",
                number(&answer),
                if *served { "1" } else { "2" },
            )?;
            same("asked", stage.asked(&path), if *served { 1 } else { 2 })?;
            // What was asked for anew takes the old one's place.
            let next = stage.get_with(&path, &["cache-control: max-stale"]).await;
            same("next", number(&next), number(&answer))
        },
        |row| format!("{row:?}"),
    )
    .await;
}

/// Item 24 (9111 5.2.1.5).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_24_a_request_that_says_no_store() {
    let stage = Stage::open().await;
    let path = stage.page([Say::ok(&[HOUR])]);
    for (wanted, fields) in [
        ("1", &["cache-control: no-store"][..]),
        ("2", &["cache-control: No-Store, max-age=60"]),
        ("3", &[]),
        ("3", &[]),
    ] {
        assert_eq!(
            number(&stage.get_with(&path, fields).await),
            wanted,
            "{fields:?}"
        );
    }
}

/// Item 24 (9111 5.2.1.7).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_24_only_if_cached() {
    let stage = Stage::open().await;
    #[rustfmt::skip]
    let rows: &[(&[&str], &[&str], &str, u16)] = &[
        (&[HOUR], &[], "only-if-cached", 200),
        (&[HOUR, "vary: x-a"], &["x-a: 1"], "only-if-cached", 504),
        (&[HOUR, "age: 4000", TAG], &[], "only-if-cached", 504),
        (&[HOUR, "age: 4000", TAG], &[], "only-if-cached, max-stale", 200),
        (&[HOUR], &[], "only-if-cached, max-age=0", 504),
        (&[HOUR], &[], "only-if-cached, no-cache", 504),
        (&["cache-control: no-store"], &[], "only-if-cached", 504),
    ];
    each(
        rows,
        async |(lines, fields, control, wanted)| {
            let path = stage.page([Say::ok(lines)]);
            let only = format!("cache-control: {control}");
            let fields = [*fields, &[&only]].concat();
            let before = stage.get_with(&path, &fields).await;
            same(
                "nothing is stored",
                (before.status.as_u16(), stage.asked(&path)),
                (504, 0),
            )?;
            stage.get(&path).await;
            let answer = stage.get_with(&path, &fields).await;
            same("the status", answer.status.as_u16(), *wanted)?;
            same("asked", stage.asked(&path), 1)
        },
        |row| format!("{row:?}"),
    )
    .await;
}

/// Item 25 (9110 15.2; 8297): whether the final response will be stored or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_25_interim_responses_are_forwarded_at_once() {
    // HTTP/2 is spoken over TLS.
    let lab = Lab::open().await;
    let origin = Script::start().await;
    let proxy = Proxy::start(&lab, &site(HOST, &origin.url(), "")).await;
    let target = proxy.https(HOST);
    for (method, control) in [
        ("GET", HOUR),
        ("GET", "cache-control: no-store"),
        ("POST", "cache-control: no-store"),
    ] {
        let gate = Gate::new();
        #[rustfmt::skip]
        let links = ["link: </a.css>; rel=preload", "link: </b.css>; rel=preload"];
        let path = format!("/{method}/{}", &control[15..]);
        let page = Say::ok(&[control]).held(&gate);
        origin.says(
            &path,
            [page.interim(102, &["x-first: 1"]).interim(103, &links)],
        );
        let request = |version: &str| {
            format!("{method} {path} HTTP/{version}\r\nhost: {HOST}\r\ncontent-length: 0\r\n\r\n")
        };
        let mut new = open(&target).await;
        let sent = new.write_all(request("1.1").as_bytes()).await;
        sent.expect("it listens");
        let early = receive_until(&mut new, "/b.css>; rel=preload\r\n\r\n").await;
        let early = early.to_lowercase();
        let (first, second) = early.split_once("\r\n\r\n").expect("two of them");
        assert!(first.starts_with("http/1.1 102 "), "{early}");
        assert!(first.contains("x-first: 1"), "{early}");
        assert!(second.starts_with("http/1.1 103 "), "{early}");
        assert!(second.contains(links[0]), "{early}");
        assert_eq!(early.matches("http/1.1").count(), 2, "{early}");

        // The same in HTTP/2, while the origin still thinks.
        let wire = target.connect("h2").await.expect("a connection");
        let (mut sender, connection) = h2::client::handshake(wire).await.expect("a handshake");
        tokio::spawn(connection);
        let head = http::Request::builder()
            .method(method)
            .uri(format!("https://{HOST}{path}"))
            .body(())
            .expect("a request");
        let (mut answer, _) = sender.send_request(head, true).expect("it is sent");
        for (status, fields) in [
            (102, vec![("x-first", "1")]),
            (103, links.map(split).into()),
        ] {
            let next = std::future::poll_fn(|context| answer.poll_informational(context));
            let next = within("an interim response", PATIENCE, next).await;
            let head = next.expect("it came").expect("it came");
            assert_eq!(head.status(), status);
            for name in ["x-first", "link"] {
                let found: Vec<_> = head.headers().get_all(name).iter().collect();
                let fields = fields.iter().filter(|field| field.0 == name);
                assert_eq!(found, fields.map(|field| field.1).collect::<Vec<_>>());
            }
        }

        // An HTTP/1.0 client would take them for the answer.
        let mut old = open(&target).await;
        let sent = old.write_all(request("1.0").as_bytes()).await;
        sent.expect("it listens");
        gate.open();
        for wire in [&mut new, &mut old] {
            let page = receive_until(wire, "\r\n\r\nanswer ").await;
            assert!(
                page.starts_with("HTTP/1.") && page[8..].starts_with(" 200 "),
                "{page}"
            );
            assert_eq!(page.matches("HTTP/1.").count(), 1, "{page}");
        }
        let answer = within("the page", PATIENCE, answer).await.expect("a page");
        assert_eq!(answer.status(), 200);
    }
}

/// A line's name and value.
fn split(line: &str) -> (&str, &str) {
    line.split_once(": ").expect("a field")
}

/// Item 26 (9111 4): as many clients as ask at once.
const CROWD: usize = 30;

/// Item 26 (9111 4).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_26_concurrent_misses_make_one_request() {
    let stage = Stage::open().await;
    let gate = Gate::new();
    let path = stage.page([Say::ok(&[HOUR]).held(&gate)]);
    let mut crowd = crowd(&stage, &path);
    eventually("the origin is asked", PATIENCE, || async {
        if stage.asked(&path) > 0 {
            Ok(())
        } else {
            Err("not yet")
        }
    })
    .await;
    // Long enough for those to come who would ask as well.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(stage.asked(&path), 1);
    gate.open();
    let mut waited = 0;
    while let Some(answer) = crowd.join_next().await {
        let answer = answer.expect("it is answered").expect(200);
        assert_eq!(answer.text(), "answer 1");
        waited += usize::from(Told::of(&answer).is_ok_and(|told| told.has("collapsed")));
    }
    assert!(waited > 0, "nobody says that it waited");
    assert_eq!(stage.asked(&path), 1);
}

/// Item 26 (9111 4): one that is not for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_26_waiters_are_released_at_once_and_in_parallel() {
    let stage = Stage::open().await;
    for line in [
        "cache-control: private",
        "cache-control: no-store",
        "vary: *",
        "set-cookie: a=1",
    ] {
        let (first, others) = (Gate::new(), Gate::new());
        // The head of the first says it; its body takes as long as the others do.
        let path = stage.page([
            Say::ok(&[line]).held(&first),
            Say::ok(&[line]).held(&others),
        ]);
        let mut crowd = crowd(&stage, &path);
        eventually("the origin is asked", PATIENCE, || async {
            if stage.asked(&path) > 0 {
                Ok(())
            } else {
                Err("not yet")
            }
        })
        .await;
        first.open();
        // All the others come to the origin while it has answered none of them.
        eventually("all are there", PATIENCE, || async {
            match stage.asked(&path) {
                CROWD => Ok(()),
                count => Err(format!("{line}: {count} of {CROWD} asked")),
            }
        })
        .await;
        others.open();
        let mut numbers: Vec<usize> = Vec::new();
        while let Some(answer) = crowd.join_next().await {
            let answer = answer.expect("it is answered").expect(200);
            assert_eq!(answer.text(), format!("answer {}", number(&answer)));
            numbers.push(number(&answer).parse().expect("a number"));
        }
        numbers.sort_unstable();
        // To each their own.
        assert!(numbers.into_iter().eq(1..=CROWD), "{line}");
    }
}

/// Requests for one path, each on a connection of its own.
fn crowd(stage: &Stage, path: &str) -> JoinSet<Answer> {
    let path: Arc<str> = path.into();
    let mut crowd = JoinSet::new();
    for _ in 0..CROWD {
        let client = Client::h1(&stage.proxy.http(HOST));
        let path = path.clone();
        crowd.spawn(async move { client.get(&path).await });
    }
    crowd
}

/// Item 27 (8246).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_27_immutable() {
    let stage = Stage::open().await;
    let reload = ["cache-control: no-cache"];
    let refresh = ["cache-control: max-age=0"];
    #[rustfmt::skip]
    let rows: &[(&[&str], &[&str], Reuse)] = &[
        (&["cache-control: max-age=3600"], &reload, NOT_REUSED),
        (&["cache-control: max-age=3600"], &refresh, NOT_REUSED),
        (&["cache-control: max-age=3600, immutable"], &[], Some(3600)),
        (&["cache-control: max-age=3600, immutable"], &reload, Some(3600)),
        (&["cache-control: max-age=3600, immutable"], &refresh, Some(3600)),
        (&["cache-control: IMMUTABLE", "cache-control: max-age=3600"], &reload, Some(3600)),
        (&["cache-control: immutable", "expires: {+3600}"], &reload, Some(3600)),
        // Only while it is fresh.
        (&["cache-control: max-age=3600, immutable", "age: 3600", TAG], &[], NOT_REUSED),
        (&["cache-control: max-age=3600, immutable", "age: 3600", TAG], &reload, NOT_REUSED),
        (&["cache-control: immutable", TAG], &[], NOT_REUSED),
        (&["cache-control: max-age=3600, foo=\"immutable\""], &reload, NOT_REUSED),
    ];
    each(
        rows,
        async |(lines, fields, wanted)| {
            let found = stage.reuse_for(&[], fields, Say::ok(lines)).await?;
            same_reuse(found, *wanted)
        },
        |row| format!("{row:?}"),
    )
    .await;
}
