//! Asking whether a response is still what it was: we an origin, a client us (items 15 to 18).

use http::Method;
use sovereign_tests::Answer;
use sovereign_tests::script::Say;

use super::{CHANGED, HOUR, Stage, TAG, Told, age, each, ensure, is_hit, number, same, same_reuse};

/// A minute's lifetime, over when it arrives.
const STALE: [&str; 2] = ["cache-control: max-age=60", "age: 1000"];

/// Item 15 (9111 4.3.1).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_15_what_an_origin_is_asked_with() {
    let stage = Stage::open().await;
    let weak = "etag: W/\"a\"";
    let no_cache = ["cache-control: no-cache, max-age=3600"];
    // (response, its validators, If-None-Match, If-Modified-Since)
    #[rustfmt::skip]
    let rows: &[(&[&str], &[&str], &str, &str)] = &[
        (&STALE, &[TAG], "\"a\"", ""),
        (&STALE, &[weak], "W/\"a\"", ""),
        (&STALE, &["etag: \"a,b\\c\""], "\"a,b\\c\"", ""),
        (&STALE, &[CHANGED], "", &CHANGED[15..]),
        (&STALE, &[TAG, CHANGED], "\"a\"", &CHANGED[15..]),
        (&no_cache, &[TAG], "\"a\"", ""),
        (&no_cache, &[weak], "W/\"a\"", ""),
        (&no_cache, &[CHANGED], "", &CHANGED[15..]),
        (&no_cache, &[weak, CHANGED], "W/\"a\"", &CHANGED[15..]),
    ];
    each(
        rows,
        async |(response, validators, tag, date)| {
            let lines = [*response, *validators, &["vary: x-a, accept-language"]].concat();
            let path = stage.page([Say::ok(&lines), Say::status(304, &[HOUR])]);
            // With conditions of the client's own, which are none of the origin's business, and with
            // parts, of which it shall tell the whole.
            let first = ["x-a: 1", "accept-language: de", "x-b: 1"];
            let again = [
                "x-a: 1",
                "accept-language: DE",
                "x-b: 2",
                "if-none-match: \"x\"",
                "if-modified-since: Sat, 05 Nov 1994 08:49:37 GMT",
                "range: bytes=0-1",
                "if-range: \"x\"",
            ];
            stage.get_with(&path, &first).await;
            stage.get_with(&path, &again).await;
            same("asked", stage.asked(&path), 2)?;
            let asked = stage.last(&path);
            same("If-None-Match", asked.header("if-none-match"), *tag)?;
            same(
                "If-Modified-Since",
                asked.header("if-modified-since"),
                *date,
            )?;
            same("Range", asked.header("range"), "")?;
            same("If-Range", asked.header("if-range"), "")?;
            // What it varies by.
            same("X-A", asked.header("x-a"), "1")?;
            let language = asked.header("accept-language").to_lowercase();
            same("Accept-Language", language.as_str(), "de")
        },
        |row| format!("{row:?}"),
    )
    .await;

    // A first request has no condition of ours, nor one of the client's.
    let path = stage.page([Say::ok(&[HOUR, TAG])]);
    stage
        .get_with(&path, &["if-none-match: \"a\""])
        .await
        .expect(304);
    assert_eq!(stage.last(&path).header("if-none-match"), "");
    assert!(is_hit(&stage.get(&path).await.expect(200)));
}

/// Item 16 (9111 3.2, 4.3.4).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_16_what_a_304_changes() {
    let stage = Stage::open().await;
    #[rustfmt::skip]
    let stored = [
        &STALE[..],
        &[
            TAG,
            "date: {-1000}",
            "expires: {-900}",
            "x-kept: 1",
            "x-new: 1",
            "x-new: 2",
            "content-type: text/a",
            "set-cookie: a=1",
            "warning: 110",
        ],
    ]
    .concat();
    #[rustfmt::skip]
    let confirmed = [
        TAG,
        HOUR,
        "date: {+0}",
        "expires: {+60}",
        "x-new: 3",
        "x-more: 4",
        "content-type: text/b",
        "set-cookie: b=2",
        "set-cookie: c=3",
        "content-length: 99999",
        "connection: x-hop",
        "x-hop: 5",
        "keep-alive: timeout=6",
    ];
    let path = stage.page([Say::ok(&stored), Say::status(304, &confirmed)]);
    stage.get(&path).await.expect(200);
    for asked in ["the one who asked", "the next"] {
        let answer = stage.get(&path).await.expect(200);
        assert_eq!(answer.text(), "answer 1", "{asked}");
        assert_eq!(answer.header("content-length"), "8", "{asked}");
        assert_eq!(number(&answer), "2", "{asked}");
        for (name, wanted) in [
            ("x-kept", &["1"][..]),
            ("x-new", &["3"]),
            ("x-more", &["4"]),
            ("content-type", &["text/b"]),
            ("set-cookie", &["b=2", "c=3"]),
            ("cache-control", &["max-age=3600"]),
            ("warning", &["110"]),
            ("etag", &["\"a\""]),
            ("x-hop", &[]),
        ] {
            let found: Vec<_> = answer.headers.get_all(name).iter().collect();
            assert_eq!(found, wanted, "{asked}: {name}");
        }
        assert_ne!(answer.header("keep-alive"), "timeout=6");
        // It is as young as the 304.
        assert!((0..60).contains(&age(&answer)), "{asked}: {answer}");
    }
    assert_eq!(stage.asked(&path), 2);
    let left = Told::of(&stage.get(&path).await).and_then(|told| told.ttl());
    same_reuse(left.map(Some).expect("a ttl"), Some(3600)).expect("as long as the 304 says");
}

/// Item 16 (9111 4.3.4): freshness after a 304, of what it says and what it leaves as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_16_freshness_is_computed_anew() {
    let stage = Stage::open().await;
    // (stored, confirmed with, seconds left)
    #[rustfmt::skip]
    let rows: &[(&[&str], &[&str], Option<i64>)] = &[
        (
            &["cache-control: max-age=3600", "age: 7200"],
            &["date: {+0}"],
            Some(3600),
        ),
        (
            &["cache-control: max-age=3600", "date: {-7200}"],
            &["date: {+0}"],
            Some(3600),
        ),
        (
            &["cache-control: max-age=3600", "date: {-7200}"],
            &["date: {-1800}"],
            Some(1800),
        ),
        (
            &["cache-control: max-age=3600", "age: 7200"],
            &["date: {+0}", "age: 1800"],
            Some(1800),
        ),
        (
            &["cache-control: max-age=3600", "age: 7200"],
            &["cache-control: max-age=7200"],
            Some(7200),
        ),
        (
            &["cache-control: max-age=3600", "age: 7200"],
            &["cache-control: max-age=0"],
            None,
        ),
        (
            &["cache-control: max-age=3600", "age: 7200"],
            &["cache-control: no-cache"],
            None,
        ),
        (
            &["cache-control: max-age=3600", "age: 7200"],
            &["cache-control: no-store"],
            None,
        ),
        (
            &["cache-control: max-age=3600", "age: 7200"],
            &["cache-control: private"],
            None,
        ),
        (
            &["cache-control: no-cache, max-age=7200"],
            &["cache-control: max-age=3600"],
            Some(3600),
        ),
        (
            &["expires: {-60}"],
            &["date: {+0}", "expires: {+3600}"],
            Some(3600),
        ),
        (&["expires: {-60}"], &["date: {+0}", "expires: {-30}"], None),
        (&["cache-control: max-age=0"], &["x-no: change"], None),
    ];
    each(
        rows,
        async |(stored, confirmed, wanted)| {
            let stored = [*stored, &[TAG]].concat();
            let confirmed = [*confirmed, &[TAG]].concat();
            let path = stage.page([Say::ok(&stored), Say::status(304, &confirmed), Say::ok(&[])]);
            stage.get(&path).await;
            let second = stage.get(&path).await;
            same("the second body", second.text().as_str(), "answer 1")?;
            same("asked for it", stage.asked(&path), 2)?;
            let third = stage.get(&path).await;
            let found = match is_hit(&third) {
                true => Some(Told::of(&third)?.ttl()?),
                false => None,
            };
            same_reuse(found, *wanted)?;
            same(
                "asked at last",
                stage.asked(&path),
                if wanted.is_some() { 2 } else { 3 },
            )
        },
        |row| format!("{row:?}"),
    )
    .await;
}

/// Item 16 (9111 4.3.2, 4.3.4): the client's own condition is answered afterwards, with what is then
/// stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_16_then_the_clients_own_condition() {
    let stage = Stage::open().await;
    #[rustfmt::skip]
    let rows: &[(&[&str], u16)] = &[
        (&["if-none-match: \"a\""], 304),
        (&["if-none-match: \"b\""], 200),
        (&["if-none-match: \"x\", W/\"a\""], 304),
        (&["if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT"], 304),
        (&["if-modified-since: Sun, 06 Nov 1994 08:49:36 GMT"], 200),
        (
            &[
                "if-none-match: \"b\"",
                "if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT",
            ],
            200,
        ),
        (&[], 200),
    ];
    each(
        rows,
        async |(fields, wanted)| {
            let stored = [&STALE[..], &[TAG, CHANGED]].concat();
            let path = stage.page([Say::ok(&stored), Say::status(304, &[HOUR, TAG, "x-new: 2"])]);
            stage.get(&path).await;
            let answer = stage.get_with(&path, fields).await;
            same(
                "the origin's condition",
                stage.last(&path).header("if-none-match"),
                "\"a\"",
            )?;
            same("the status", answer.status.as_u16(), *wanted)?;
            let body = if *wanted == 200 { "answer 1" } else { "" };
            same("the body", answer.text().as_str(), body)?;
            same("the tag", answer.header("etag"), "\"a\"")?;
            same(
                "Cache-Control",
                answer.header("cache-control"),
                "max-age=3600",
            )?;
            // Whatever came of it, the whole is stored.
            let next = stage.get(&path).await;
            same("the next body", next.text().as_str(), "answer 1")?;
            same("asked", stage.asked(&path), 2)
        },
        |(fields, _)| format!("{fields:?}"),
    )
    .await;
}

/// Item 16 (9111 4.3.4): a 304 that names another response confirms nothing, and a 200 replaces all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_16_what_confirms_nothing() {
    let stage = Stage::open().await;
    let stored = Say::ok(&[STALE[0], STALE[1], TAG, "x-old: 1"]);
    let other = Say::status(304, &[HOUR, "etag: \"b\""]);
    let new = Say::ok(&[HOUR, "etag: \"b\""]);
    for (sayings, asked) in [
        (vec![stored.clone(), new.clone()], 2),
        (vec![stored, other, new], 3),
    ] {
        let path = stage.page(sayings);
        stage.get(&path).await.expect(200);
        for _ in 0..2 {
            let answer = stage.get(&path).await.expect(200);
            assert_eq!(answer.text(), format!("answer {asked}"));
            assert!(!answer.headers.contains_key("x-old"), "{answer}");
        }
        assert_eq!(stage.asked(&path), asked);
    }
}

/// Item 17 (9110 13.1.2, 13.1.3, 13.2.2).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_17_conditions_are_answered_from_a_fresh_store() {
    let stage = Stage::open().await;
    let weak = "etag: W/\"a\"";
    #[rustfmt::skip]
    let rows: &[(&[&str], &[&str], u16)] = &[
        // If-None-Match: lists, weak comparison.
        (&[TAG], &["if-none-match: \"a\""], 304),
        (&[TAG], &["if-none-match: \"b\""], 200),
        (&[TAG], &["if-none-match: W/\"a\""], 304),
        (&[weak], &["if-none-match: \"a\""], 304),
        (&[weak], &["if-none-match: W/\"a\""], 304),
        (&[weak], &["if-none-match: W/\"b\""], 200),
        (&[TAG], &["if-none-match: \"x\", \"a\""], 304),
        (&[TAG], &["if-none-match: \"x\",W/\"y\" , W/\"a\",\"z\""], 304),
        (&[TAG], &["if-none-match: \"x\", \"y\""], 200),
        (&[TAG], &["if-none-match: \"x\"", "if-none-match: \"a\""], 304),
        (&[TAG], &["if-none-match: \"x, \\\"a\\\"\""], 200),
        (&[TAG], &["if-none-match: \"A\""], 200),
        (&[TAG], &["if-none-match: \"aa\""], 200),
        (&[TAG], &["if-none-match: *"], 304),
        (&["etag: \"b,c\""], &["if-none-match: \"x\", \"b,c\""], 304),
        (&["etag: \"b,c\""], &["if-none-match: \"b\", \"c\""], 200),
        (&[CHANGED], &["if-none-match: \"a\""], 200),
        // If-Modified-Since: three forms, at or after.
        (&[CHANGED], &["if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT"], 304),
        (&[CHANGED], &["if-modified-since: Sunday, 06-Nov-94 08:49:37 GMT"], 304),
        (&[CHANGED], &["if-modified-since: Sun Nov  6 08:49:37 1994"], 304),
        (&[CHANGED], &["if-modified-since: Sun, 06 Nov 1994 08:49:38 GMT"], 304),
        (&[CHANGED], &["if-modified-since: Thursday, 01-Jan-26 00:00:00 GMT"], 304),
        (&[CHANGED], &["if-modified-since: Thu Jan  1 00:00:00 2026"], 304),
        (&[CHANGED], &["if-modified-since: Sun, 06 Nov 1994 08:49:36 GMT"], 200),
        (&[CHANGED], &["if-modified-since: Sunday, 06-Nov-94 08:49:36 GMT"], 200),
        (&[CHANGED], &["if-modified-since: Sun Nov  6 08:49:36 1994"], 200),
        (&[CHANGED], &["if-modified-since: Sun, 06 Nov 1994 08:49:37 UTC"], 200),
        (&[CHANGED], &["if-modified-since: now"], 200),
        (&["last-modified: Sunday, 06-Nov-94 08:49:37 GMT"], &["if-modified-since: Sun Nov  6 08:49:37 1994"], 304),
        (&["last-modified: Sun Nov  6 08:49:37 1994"], &["if-modified-since: Sun, 06 Nov 1994 08:49:36 GMT"], 200),
        // The first comes before the second.
        (&[TAG, CHANGED], &["if-none-match: \"b\"", "if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT"], 200),
        (&[TAG, CHANGED], &["if-modified-since: Sun, 06 Nov 1994 08:49:36 GMT", "if-none-match: \"a\""], 304),
        (&[CHANGED], &["if-none-match: \"b\"", "if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT"], 200),
        (&[TAG, CHANGED], &["if-none-match: \"a\"", "if-modified-since: now"], 304),
    ];
    each(
        rows,
        async |(stored, fields, wanted)| {
            let path = stage.page([Say::ok(&[stored, &[HOUR][..]].concat())]);
            stage.get(&path).await;
            for method in [Method::GET, Method::HEAD] {
                let answer = stage.ask(method.clone(), &path, fields, "").await;
                same(method.as_str(), answer.status.as_u16(), *wanted)?;
                ensure(is_hit(&answer), format!("no hit: {answer}"))?;
                let has_body = *wanted == 200 && method == Method::GET;
                same(
                    "the body",
                    answer.text().as_str(),
                    if has_body { "answer 1" } else { "" },
                )?;
            }
            same("asked", stage.asked(&path), 1)
        },
        |(stored, fields, _)| format!("{stored:?}: {fields:?}"),
    )
    .await;
}

/// Item 17 (9110 15.4.5).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_17_what_a_304_carries() {
    let stage = Stage::open().await;
    #[rustfmt::skip]
    let lines = [
        TAG,
        "date: {-100}",
        "cache-control: max-age=3600, foo",
        "cache-control: bar",
        "expires: {+3500}",
        "vary: x-a",
        "content-location: /elsewhere",
        "content-type: text/a",
        "content-encoding: x-odd",
    ];
    let path = stage.page([Say::ok(&lines)]);
    let stored = stage.get(&path).await.expect(200);
    let answer = stage
        .get_with(&path, &["if-none-match: \"a\""])
        .await
        .expect(304);
    assert!(is_hit(&answer) && answer.body.is_empty(), "{answer}");
    let of = |answer: &Answer, name| -> Vec<_> {
        answer.headers.get_all(name).iter().cloned().collect()
    };
    #[rustfmt::skip]
    let names = ["etag", "date", "cache-control", "expires", "vary", "content-location"];
    for name in names {
        assert!(!of(&answer, name).is_empty(), "{name}: {answer}");
        assert_eq!(of(&answer, name), of(&stored, name), "{name}");
    }
    // Others would only be misunderstood.
    for name in ["content-type", "content-encoding", "x-answer"] {
        assert!(of(&answer, name).is_empty(), "{name}: {answer}");
    }
}

/// Item 18 (9111 4.3.5). A HEAD comes to the origin where the store may not answer it: what is stored
/// is stale, or the client wants it confirmed, or it has a precondition that only an origin can judge.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_18_what_a_head_tells_of_the_stored_get() {
    let stage = Stage::open().await;
    #[rustfmt::skip]
    let ways: [(&[&str], &[&str]); 3] = [
        (&STALE, &[]),
        (&["cache-control: max-age=3600"], &["cache-control: no-cache"]),
        (&["cache-control: max-age=3600"], &["if-match: \"a\""]),
    ];
    // (what is stored, what the HEAD brings, whether they are the same)
    #[rustfmt::skip]
    let rows: &[(&[&str], &[&str], bool)] = &[
        (&[TAG], &[TAG, "content-length: 8"], true),
        (&[CHANGED], &[CHANGED, "content-length: 8"], true),
        (&[TAG, CHANGED], &[TAG, CHANGED, "content-length: 8"], true),
        (&[TAG], &["etag: \"b\"", "content-length: 8"], false),
        (&[TAG], &[TAG, "content-length: 9"], false),
        (&[CHANGED], &["last-modified: Sun, 06 Nov 1994 08:49:38 GMT", "content-length: 8"], false),
        (&[TAG, CHANGED], &["etag: \"b\"", CHANGED, "content-length: 8"], false),
    ];
    let rows = ways
        .iter()
        .flat_map(|way| rows.iter().map(move |row| (way, row)));
    each(
        rows,
        async |((stored, fields), (validators, brought, alike))| {
            let brought = [*brought, &[HOUR, "x-new: 2"]].concat();
            // Should it be asked with a GET and a condition of ours instead, it says the same.
            let to_get = match alike {
                true => Say::status(304, &[validators, &[HOUR, "x-new: 2"][..]].concat()),
                false => Say::ok(&[HOUR, "etag: \"b\"", "x-new: 2"]),
            };
            let path = stage.page([
                Say::ok(&[*stored, *validators, &["x-kept: 1"]].concat()),
                to_get.to_head(Say::ok(&brought)),
                Say::ok(&[HOUR, "etag: \"c\"", "x-new: 2"]),
            ]);
            stage.get(&path).await;
            let head = stage.ask(Method::HEAD, &path, fields, "").await;
            same("asked", stage.asked(&path), 2)?;
            same("the status of the HEAD", head.status.as_u16(), 200)?;
            let method = stage.last(&path).method;
            let next = stage.get(&path).await;
            let found = (next.header("x-kept"), next.header("x-new"));
            if *alike {
                ensure(is_hit(&next), format!("after {method}, no hit: {next}"))?;
                same("the body", next.text().as_str(), "answer 1")?;
                same("x-kept and x-new", found, ("1", "2"))?;
                same("asked", stage.asked(&path), 2)?;
                same_reuse(Some(Told::of(&next)?.ttl()?), Some(3600))
            } else {
                let body = next.text();
                ensure(
                    body != "answer 1",
                    format!("after {method}, the old body: {next}"),
                )?;
                same("x-kept and x-new", found, ("", "2"))
            }
        },
        |row| format!("{row:?}"),
    )
    .await;
}

/// Item 18 (9111 4.3.5): a HEAD that has nothing to do with what is stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_18_a_head_alone_is_no_get() {
    let stage = Stage::open().await;
    let path = stage.page([Say::ok(&[HOUR, TAG])]);
    let head = stage.head(&path).await.expect(200);
    assert!(head.body.is_empty() && !is_hit(&head), "{head}");
    let get = stage.get(&path).await.expect(200);
    assert!(!is_hit(&get) && get.text() == "answer 2", "{get}");
    // An error says nothing about it.
    let path = stage.page([
        Say::ok(&[HOUR, TAG]),
        Say::status(503, &["etag: \"b\""]),
        Say::ok(&[HOUR]),
    ]);
    stage.get(&path).await.expect(200);
    let fields = ["if-match: \"a\""];
    stage
        .ask(Method::HEAD, &path, &fields, "")
        .await
        .expect(503);
    let get = stage.get(&path).await.expect(200);
    assert!(is_hit(&get) && get.text() == "answer 1", "{get}");
}
