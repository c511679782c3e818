//! What the store learns from responses that do not come for it: a POST's that a GET would bring, and a
//! HEAD's that speaks of what a GET brought.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use http::Method;
use sovereign_tests::client::{empty, whole};
use sovereign_tests::origin::reply;
use sovereign_tests::proxy::site;
use sovereign_tests::{Answer, Client, Lab, Origin, Proxy, eventually};

async fn front(lab: &Lab, origin: &Origin) -> (Proxy, Client) {
    let proxy = Proxy::start(lab, &site("app.test", &origin.url(), "")).await;
    let client = Client::h2(&proxy.https("app.test"));
    (proxy, client)
}

fn told(answer: &Answer) -> &str {
    answer.header("cache-status")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_serves_later_gets_where_the_origin_says_so() {
    let lab = Lab::open().await;
    let origin = Origin::start(|request| async move {
        let path = request.uri().path().to_owned();
        let age = match path.as_str() {
            "/no-lifetime" => "no-cache",
            _ => "max-age=60",
        };
        let location = match path.as_str() {
            "/elsewhere" => "/other",
            path => path,
        };
        let fields = [("cache-control", age), ("content-location", location)];
        let body = format!("{} {path}", request.method());
        reply(200, fields, whole(body))
    })
    .await;
    let (_proxy, client) = front(&lab, &origin).await;

    // What a GET brought before is outdated, and what the POST brought is in its place.
    client.get("/note").await.expect(200);
    let post = client
        .ask(Method::POST, "/note", &[], whole("an order"))
        .await
        .expect(200);
    assert!(told(&post).contains("fwd=method"), "{post}");
    let hits = origin.hits();
    let get = client.get("/note").await.expect(200);
    assert_eq!(get.text(), "POST /note");
    assert!(told(&get).contains("hit"), "{get}");
    assert_eq!(origin.hits(), hits);
    // Nothing else of a POST is kept.
    for path in ["/no-lifetime", "/elsewhere"] {
        client
            .ask(Method::POST, path, &[], whole("an order"))
            .await
            .expect(200);
        let get = client.get(path).await.expect(200);
        assert_eq!(get.text(), format!("GET {path}"));
    }
    // Another POST that brings nothing to keep makes it outdated.
    client
        .ask(Method::PUT, "/note", &[], whole("an order"))
        .await
        .expect(200);
    let get = client.get("/note").await.expect(200);
    assert_eq!(get.text(), "GET /note");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_speaks_of_what_a_get_brought() {
    let lab = Lab::open().await;
    // Until it changes: a page that is stale at once. A HEAD gives it a minute.
    let (changed, status) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU16::new(200)),
    );
    let (now, says) = (changed.clone(), status.clone());
    let origin = Origin::start(move |request| {
        let (tag, status) = match now.load(Ordering::SeqCst) {
            false => ("\"a\"", says.load(Ordering::SeqCst)),
            true => ("\"b\"", says.load(Ordering::SeqCst)),
        };
        async move {
            let head = request.method() == Method::HEAD;
            let age = if head {
                "max-age=60"
            } else {
                "max-age=0, stale-if-error=60"
            };
            let fields = [("cache-control", age), ("etag", tag)];
            if head {
                return reply(status, fields, empty());
            }
            let [age, tag] = fields;
            reply(status, [age, tag, ("x-kept", "1")], whole("a page"))
        }
    })
    .await;
    let (_proxy, client) = front(&lab, &origin).await;
    let head = || client.ask(Method::HEAD, "/page", &[], empty());

    client.get("/page").await.expect(200);
    // An error does not count where the stored response may stand in.
    status.store(503, Ordering::SeqCst);
    let answer = head().await.expect(200);
    assert!(told(&answer).contains("stale-if-error"), "{answer}");
    status.store(200, Ordering::SeqCst);
    // The same tag: it is as good as new, and what the HEAD left unsaid holds. (After an error nobody is
    // asked for a moment.)
    let answer = eventually("the origin is asked", Duration::from_secs(10), || async {
        let answer = head().await.expect(200);
        match told(&answer).contains("fwd=stale") {
            true => Ok(answer),
            false => Err(answer.to_string()),
        }
    })
    .await;
    assert_eq!(answer.header("x-kept"), "1");
    let hits = origin.hits();
    let get = client.get("/page").await.expect(200);
    assert!(told(&get).contains("hit"), "{get}");
    assert_eq!(get.text(), "a page");
    assert_eq!(origin.hits(), hits);
    // Another tag: it is outdated, however fresh it was.
    changed.store(true, Ordering::SeqCst);
    client
        .ask(
            Method::HEAD,
            "/page",
            &[("cache-control", "no-cache")],
            empty(),
        )
        .await
        .expect(200);
    let get = client.get("/page").await.expect(200);
    assert!(told(&get).contains("fwd=stale"), "{get}");
    assert_eq!(get.header("etag"), "\"b\"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_serve_what_they_cover_and_become_the_whole() {
    const TEXT: &str = "0123456789";
    let lab = Lab::open().await;
    // It answers the ranges that this session asks for, under a tag that it is told.
    let changed = Arc::new(AtomicBool::new(false));
    let now = changed.clone();
    let origin = Origin::start(move |request| {
        let changed = now.load(Ordering::SeqCst);
        async move {
            let strong = request.uri().path() != "/weak";
            let tag = match (strong, changed) {
                (true, false) => "\"a\"",
                (true, true) => "\"b\"",
                (false, _) => "W/\"a\"",
            };
            let fields = [("cache-control", "max-age=60"), ("etag", tag)];
            let [age, tag] = fields;
            let range = request.headers().get("range").cloned();
            let (first, last) = match range.as_ref().and_then(|range| range.to_str().ok()) {
                Some("bytes=0-4") => (0, 4),
                Some("bytes=-5") => (5, 9),
                Some("bytes=3-4") => (3, 4),
                _ => return reply(200, fields, whole(TEXT)),
            };
            let range = format!("bytes {first}-{last}/10");
            reply(
                206,
                [age, tag, ("content-range", &range)],
                whole(&TEXT[first..=last]),
            )
        }
    })
    .await;
    let (_proxy, client) = front(&lab, &origin).await;
    let part = async |path: &str, range: &str| client.get_with(path, &[("range", range)]).await;

    // What has come serves what it covers, and nothing else.
    part("/book", "bytes=0-4").await.expect(206);
    let inside = part("/book", "bytes=1-2").await.expect(206);
    assert_eq!(inside.text(), "12");
    assert_eq!(inside.header("content-range"), "bytes 1-2/10");
    assert!(told(&inside).contains("hit"), "{inside}");
    let several = part("/book", "bytes=0-0,3-3").await.expect(206);
    assert!(told(&several).contains("hit"), "{several}");
    assert!(several.text().contains("Content-Range: bytes 3-3/10"));
    assert_eq!(origin.hits(), 1);
    // The rest makes it whole: any request is a hit then.
    let rest = part("/book", "bytes=-5").await.expect(206);
    assert_eq!(rest.text(), "56789");
    let all = client.get("/book").await.expect(200);
    assert!(told(&all).contains("hit"), "{all}");
    assert_eq!(
        (all.text(), all.header("content-length")),
        (TEXT.into(), "10")
    );
    assert_eq!(origin.hits(), 2);
    // Parts of two versions are never put together.
    part("/other", "bytes=0-4").await.expect(206);
    changed.store(true, Ordering::SeqCst);
    part("/other", "bytes=-5").await.expect(206);
    let hits = origin.hits();
    let again = part("/other", "bytes=3-4").await.expect(206);
    assert!(!told(&again).contains("hit"), "{again}");
    assert_eq!((again.header("etag"), origin.hits()), ("\"b\"", hits + 1));
    // Nor is a part kept that only a weak tag speaks for.
    for _ in 0..2 {
        let weak = part("/weak", "bytes=0-4").await.expect(206);
        assert!(!told(&weak).contains("hit"), "{weak}");
    }
    // What an unsafe request makes outdated is gone.
    part("/third", "bytes=0-4").await.expect(206);
    client
        .ask(Method::PUT, "/third", &[], whole("an order"))
        .await
        .expect(200);
    let after = part("/third", "bytes=0-4").await.expect(206);
    assert!(!told(&after).contains("hit"), "{after}");
}
