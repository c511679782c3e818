//! The cache as a client sees it: what is kept, for how long, and what happens when the origin does
//! not answer. (Each rule by itself is a row of a table beside the code; these are the sessions.)

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use sovereign_tests::client::{empty, whole};
use sovereign_tests::origin::reply;
use sovereign_tests::proxy::site;
use sovereign_tests::{Answer, Client, Lab, Origin, Proxy, eventually};

/// An origin that numbers its answers and sends this `Cache-Control`.
async fn counting(cache_control: &'static str) -> Origin {
    let count = AtomicUsize::new(0);
    Origin::start(move |_| {
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            reply(
                200,
                [("cache-control", cache_control)],
                whole(format!("answer {number}")),
            )
        }
    })
    .await
}

/// A proxy with one site, and a client of it.
async fn front(lab: &Lab, origin: &Origin, more: &str) -> (Proxy, Client) {
    let proxy = Proxy::start(lab, &site("app.test", &origin.url(), more)).await;
    let client = Client::h2(&proxy.https("app.test"));
    (proxy, client)
}

/// The word of our own member in `Cache-Status`.
fn is_hit(answer: &Answer) -> bool {
    let status = answer.header("cache-status");
    let ours = status.rsplit(',').next().unwrap_or_default();
    ours.split(';').skip(1).any(|word| word.trim() == "hit")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hit_says_so_and_ages() {
    let lab = Lab::open().await;
    let origin = counting("max-age=60").await;
    let (proxy, client) = front(&lab, &origin, "").await;

    let first = client.get("/page").await.expect(200);
    assert!(!is_hit(&first), "{first}");
    assert!(
        first.header("cache-status").contains("fwd=uri-miss"),
        "{first}"
    );
    assert!(first.header("cache-status").contains("stored"), "{first}");
    let second = client.get("/page").await.expect(200);
    assert!(is_hit(&second), "{second}");
    assert_eq!(second.text(), "answer 1");
    eventually("Age grows", Duration::from_secs(10), || async {
        let age: u32 = client
            .get("/page")
            .await
            .header("age")
            .parse()
            .expect("Age is a number");
        if age >= 1 { Ok(()) } else { Err(age) }
    })
    .await;
    // The same words go to the log and to the status.
    assert_eq!(origin.hits(), 1);
    let lines = proxy.logged("/page").await;
    assert!(lines[0].to_string().contains("uri-miss"), "{}", lines[0]);
    let cache = &proxy.status().await["cache"];
    assert!(
        cache["hits"].as_u64() >= Some(2) && cache["objects"] == 1,
        "{cache}"
    );
    // A HEAD, and the same page over another protocol, are hits too.
    let head = client
        .ask(Method::HEAD, "/page", &[], empty())
        .await
        .expect(200);
    assert!(is_hit(&head) && head.body.is_empty(), "{head}");
    assert!(is_hit(
        &Client::h1(&proxy.https("app.test")).get("/page").await
    ));
    assert_eq!(origin.hits(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_origin_forbids_is_not_kept() {
    let lab = Lab::open().await;
    let origin = Origin::start(|request| async move {
        let (cache, vary) = match request.uri().path() {
            "/no-store" => ("no-store", "accept"),
            "/private" => ("private, max-age=60", "accept"),
            "/no-cache" => ("no-cache, max-age=60", "accept"),
            "/vary-all" => ("max-age=60", "*"),
            "/kept" => ("max-age=60", "accept"),
            _ => ("public, max-age=0", "accept"),
        };
        let fields = [("cache-control", cache), ("vary", vary)];
        reply(200, fields, whole("x"))
    })
    .await;
    let (_proxy, client) = front(&lab, &origin, "").await;

    for path in [
        "/no-store",
        "/private",
        "/no-cache",
        "/vary-all",
        "/max-age-0",
    ] {
        let before = origin.hits();
        client.get(path).await.expect(200);
        let again = client.get(path).await.expect(200);
        assert_eq!(origin.hits(), before + 2, "{path}: {again}");
    }
    // What was made for somebody who gave a password is not for others.
    let before = origin.hits();
    for _ in 0..2 {
        client
            .get_with("/kept?with-password", &[("authorization", "Basic eDp5")])
            .await
            .expect(200);
    }
    assert_eq!(origin.hits(), before + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_page_is_served_while_the_origin_is_down() {
    let lab = Lab::open().await;
    let origin = counting("max-age=1").await;
    let more = "hold = \"500ms\"\ncache = { stale_if_error = \"1h\" }";
    let (_proxy, client) = front(&lab, &origin, more).await;

    client.get("/page").await.expect(200);
    origin.down().await;
    eventually("the page is stale", Duration::from_secs(10), || async {
        let page = client.get("/page").await.expect(200);
        assert_eq!(page.text(), "answer 1");
        let age: u32 = page.header("age").parse().unwrap_or(0);
        if age >= 2 { Ok(()) } else { Err(page) }
    })
    .await;
    // What was never read cannot be served.
    client.get("/never-read").await.expect(503);
    // Back again, the page is made anew.
    origin.up().await;
    eventually("the page is new", Duration::from_secs(20), || async {
        let page = client.get("/page").await.expect(200);
        if page.text() == "answer 1" {
            Err(page)
        } else {
            Ok(())
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_page_is_refreshed_behind_the_visitors_back() {
    let lab = Lab::open().await;
    let count = Arc::new(AtomicUsize::new(0));
    let origin = Origin::start(move |_| {
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            if number > 1 {
                tokio::time::sleep(Duration::from_secs(1)).await; // A slow origin.
            }
            // Longer than the origin takes: a response is as old as its delay when it arrives.
            let cache = "max-age=2, stale-while-revalidate=60";
            reply(
                200,
                [("cache-control", cache)],
                whole(format!("answer {number}")),
            )
        }
    })
    .await;
    let (_proxy, client) = front(&lab, &origin, "").await;
    client.get("/page").await.expect(200);
    eventually(
        "the page is stale and the origin is asked",
        Duration::from_secs(10),
        || async {
            let started = std::time::Instant::now();
            let page = client.get("/page").await.expect(200);
            assert_eq!(page.text(), "answer 1");
            assert!(
                started.elapsed() < Duration::from_millis(900),
                "a visitor waited for the refresh"
            );
            if origin.hits() > 1 { Ok(()) } else { Err(page) }
        },
    )
    .await;
    // Others who come meanwhile start no second refresh.
    for _ in 0..5 {
        client.get("/page").await.expect(200);
    }
    eventually("the new page is there", Duration::from_secs(10), || async {
        let page = client.get("/page").await.expect(200);
        if page.text() == "answer 2" {
            Ok(())
        } else {
            Err(page)
        }
    })
    .await;
    assert_eq!(origin.hits(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_miss_at_once_ask_the_origin_once() {
    let lab = Lab::open().await;
    let origin = Origin::start(|request| async move {
        tokio::time::sleep(Duration::from_millis(500)).await; // Long enough for all to come.
        let cache = if request.uri().path() == "/kept" {
            "max-age=60"
        } else {
            "private"
        };
        reply(200, [("cache-control", cache)], whole("slow"))
    })
    .await;
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), "")).await;

    for (path, wanted) in [("/kept", 1), ("/private", 30)] {
        let before = origin.hits();
        let mut visitors = tokio::task::JoinSet::new();
        for number in 0..30 {
            let target = proxy.https("app.test");
            let client = if number % 2 == 0 {
                Client::h1(&target)
            } else {
                Client::h2(&target)
            };
            visitors.spawn(async move { client.get(path).await.expect(200) });
        }
        while let Some(answer) = visitors.join_next().await {
            assert_eq!(answer.expect("it is answered").text(), "slow");
        }
        assert_eq!(origin.hits() - before, wanted, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variants_are_kept_apart() {
    let lab = Lab::open().await;
    let origin = Origin::start(|request| async move {
        let language = request
            .headers()
            .get("accept-language")
            .map_or("none", |value| value.to_str().expect("text"))
            .to_owned();
        reply(
            200,
            [("cache-control", "max-age=60"), ("vary", "Accept-Language")],
            whole(language),
        )
    })
    .await;
    let (_proxy, client) = front(&lab, &origin, "").await;

    for _ in 0..2 {
        for language in ["de", "en"] {
            let page = client
                .get_with("/", &[("accept-language", language)])
                .await
                .expect(200);
            assert_eq!(page.text(), language);
        }
        assert_eq!(client.get("/").await.expect(200).text(), "none");
    }
    assert_eq!(origin.hits(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_and_conditions_are_answered_from_the_cache() {
    let lab = Lab::open().await;
    let body: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
    let sent = body.clone();
    let origin = Origin::start(move |_| {
        let body = sent.clone();
        async move {
            let fields = [
                ("cache-control", "max-age=60"),
                ("etag", "\"one\""),
                ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
            ];
            reply(200, fields, whole(body))
        }
    })
    .await;
    let (proxy, h2) = front(&lab, &origin, "").await;
    let h1 = Client::h1(&proxy.https("app.test"));
    h2.get("/file").await.expect(200);

    for client in [&h1, &h2] {
        let part = client
            .get_with("/file", &[("range", "bytes=10-19")])
            .await
            .expect(206);
        assert_eq!(part.body, body[10..20]);
        assert_eq!(part.header("content-range"), "bytes 10-19/100000");
        let end = client
            .get_with("/file", &[("range", "bytes=-5")])
            .await
            .expect(206);
        assert_eq!(end.body, body[99_995..]);
        let rest = client
            .get_with("/file", &[("range", "bytes=99990-")])
            .await
            .expect(206);
        assert_eq!(rest.body, body[99_990..]);
        let beyond = client
            .get_with("/file", &[("range", "bytes=100000-")])
            .await
            .expect(416);
        assert_eq!(beyond.header("content-range"), "bytes */100000");
        // A part of something older is no use: the whole, instead.
        let other = [("range", "bytes=10-19"), ("if-range", "\"two\"")];
        assert_eq!(
            client.get_with("/file", &other).await.expect(200).body,
            body
        );

        let known = client
            .get_with("/file", &[("if-none-match", "\"zero\", W/\"one\"")])
            .await
            .expect(304);
        assert!(known.body.is_empty());
        assert_eq!(known.header("etag"), "\"one\"");
        let unchanged = [("if-modified-since", "Thu, 01 Jan 2026 00:00:00 GMT")];
        client.get_with("/file", &unchanged).await.expect(304);
        client
            .get_with("/file", &[("if-none-match", "\"two\"")])
            .await
            .expect(200);
    }
    assert_eq!(origin.hits(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_page_is_confirmed_with_its_validator() {
    let lab = Lab::open().await;
    let origin = Origin::start(|request| async move {
        let known = request
            .headers()
            .get("if-none-match")
            .is_some_and(|tag| tag == "\"one\"");
        let fields = [
            ("cache-control", "max-age=1"),
            ("etag", "\"one\""),
            ("x-said", if known { "304" } else { "200" }),
        ];
        if known {
            reply(304, fields, empty())
        } else {
            reply(200, fields, whole("the page"))
        }
    })
    .await;
    let (_proxy, client) = front(&lab, &origin, "").await;

    client.get("/page").await.expect(200);
    eventually("the origin confirms", Duration::from_secs(10), || async {
        let page = client.get("/page").await.expect(200);
        assert_eq!(page.text(), "the page");
        // The fields of the 304 replace those that were stored.
        if page.header("x-said") == "304" {
            Ok(())
        } else {
            Err(page)
        }
    })
    .await;
    assert_eq!(origin.last().header("if-none-match"), "\"one\"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_makes_the_stored_page_old() {
    let lab = Lab::open().await;
    let origin = counting("max-age=60").await;
    let (_proxy, client) = front(&lab, &origin, "").await;

    client.get("/page").await.expect(200);
    assert_eq!(client.get("/page").await.text(), "answer 1");
    client
        .ask(Method::POST, "/page", &[], whole("a comment"))
        .await
        .expect(200);
    assert_eq!(client.get("/page").await.text(), "answer 3");
}

/// A body is not part of the key, so what it makes the origin say must not be what others get.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_get_with_a_body_goes_past_the_cache() {
    let lab = Lab::open().await;
    let origin = counting("max-age=60").await;
    let (_proxy, client) = front(&lab, &origin, "").await;

    for _ in 0..2 {
        let answer = client
            .ask(Method::GET, "/page", &[], whole("who=mallory"))
            .await
            .expect(200);
        assert!(answer.header("cache-status").contains("fwd=bypass"));
    }
    assert_eq!(client.get("/page").await.text(), "answer 3");
    assert_eq!(client.get("/page").await.text(), "answer 3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_cookie_goes_past_the_cache() {
    let lab = Lab::open().await;
    let origin = counting("public, max-age=0").await;
    let more = "cache = { lifetime = \"60s\", session_cookies = [\"session\"] }";
    let (_proxy, client) = front(&lab, &origin, more).await;

    let mine = [("cookie", "theme=dark; session=abc")];
    assert_eq!(client.get_with("/", &mine).await.text(), "answer 1");
    // Nothing of it was kept, and what others get is not taken from it.
    assert_eq!(client.get("/").await.text(), "answer 2");
    assert_eq!(client.get("/").await.text(), "answer 2");
    assert_eq!(
        client
            .get_with("/", &[("cookie", "theme=dark")])
            .await
            .text(),
        "answer 2"
    );
    assert_eq!(client.get_with("/", &mine).await.text(), "answer 3");
    assert_eq!(client.get("/").await.text(), "answer 2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_lifetime_is_not_for_a_page_that_sets_a_cookie() {
    let lab = Lab::open().await;
    let origin = Origin::start(|request| async move {
        let fields = [
            ("cache-control", "public, max-age=0"),
            ("set-cookie", "visitor=1"),
        ];
        let mut answer = reply(200, fields, whole("x"));
        if request.uri().path() == "/without" {
            answer.headers_mut().remove("set-cookie");
        }
        answer
    })
    .await;
    let (_proxy, client) = front(&lab, &origin, "cache = { lifetime = \"60s\" }").await;

    for (path, wanted) in [("/without", 1), ("/with", 2)] {
        let before = origin.hits();
        client.get(path).await.expect(200);
        client.get(path).await.expect(200);
        assert_eq!(origin.hits() - before, wanted, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bypass_and_a_cache_that_is_off() {
    let lab = Lab::open().await;
    let origin = counting("max-age=60").await;
    let more = "[[site.route]]\npath = \"/live\"\ncache = \"bypass\"";
    let (_proxy, client) = front(&lab, &origin, more).await;
    for _ in 0..2 {
        client.get("/live").await.expect(200);
    }
    assert_eq!(origin.hits(), 2);

    let off = format!(
        "[cache]\nmemory = \"0\"\n{}",
        site("app.test", &origin.url(), "")
    );
    let proxy = Proxy::start(&lab, &off).await;
    let client = Client::h2(&proxy.https("app.test"));
    for _ in 0..2 {
        client.get("/page").await.expect(200);
    }
    assert_eq!(origin.hits(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_passed_on_and_not_kept() {
    let lab = Lab::open().await;
    let origin = Origin::start(|_| async {
        reply(
            200,
            [("cache-control", "max-age=60")],
            whole(vec![7; 3 << 20]),
        )
    })
    .await;
    let sites = format!(
        "[cache]\nmemory = \"8MiB\"\nmax_object = \"1MiB\"\n{}",
        site("app.test", &origin.url(), "")
    );
    let proxy = Proxy::start(&lab, &sites).await;
    let client = Client::h2(&proxy.https("app.test"));
    for _ in 0..2 {
        assert_eq!(client.get("/big").await.expect(200).body.len(), 3 << 20);
    }
    assert_eq!(origin.hits(), 2);
}
