//! How requests are answered (items 21, 23, 24 and 27).

use http::Method;
use sovereign_tests::Client;
use sovereign_tests::script::Say;

use super::{
    HOUR, NOT_REUSED, Reuse, Stage, TAG, age, ask, each, ensure, is_hit, number, same, same_reuse,
};

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
