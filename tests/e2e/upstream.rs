//! Upstreams as they are in the field: behind TLS of their own, slow, one of several down, or away
//! while a request waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{Method, Version};
use http_body_util::BodyExt as _;
use serde_json::Value;
use sovereign_tests::client::{empty, whole};
use sovereign_tests::load::{Get, Load};
use sovereign_tests::origin::{read_head, reply};
use sovereign_tests::proxy::site;
use sovereign_tests::raw::open;
use sovereign_tests::wait::within;
use sovereign_tests::websocket::{WebSocket, echo_origin};
use sovereign_tests::{Client, Lab, Origin, Proxy, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(15);

/// Another proxy as an upstream in TLS: every host is welcome, and its certificate, from its own
/// authority, names the loopback address.
async fn in_tls(lab: &Lab, origin: &Origin) -> (Proxy, String) {
    let proxy = Proxy::start(lab, &site("*", &origin.url(), "")).await;
    let url = format!("https://{}", proxy.https("app.test").address);
    (proxy, url)
}

/// A proxy in front of that one, which trusts its authority.
async fn trusting(lab: &Lab, behind: &Proxy, url: &str) -> Proxy {
    let trust = behind.root_ca();
    let environment = [("SSL_CERT_FILE", trust.as_path())];
    Proxy::start_in(lab, &environment, "", &site("app.test", url, "")).await
}

/// What `status` says of the upstream at an address.
async fn upstream(proxy: &Proxy, address: &str) -> Value {
    let status = proxy.status().await;
    status["sites"][0]["upstreams"]
        .as_array()
        .and_then(|all| all.iter().find(|one| one["address"] == address))
        .cloned()
        .unwrap_or_else(|| panic!("{address} is not in {status}"))
}

/// Waits until `status` agrees about the upstream at an address.
async fn upstream_is(
    proxy: &Proxy,
    address: &str,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    eventually(what, PATIENCE, || async {
        let found = upstream(proxy, address).await;
        if wanted(&found) {
            Ok(found)
        } else {
            Err(found)
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_in_tls_speaks_http2() {
    let lab = Lab::open().await;
    let origin = Origin::start(|request| async move {
        let body = request.into_body().collect().await.expect("the body comes");
        reply(200, [("cache-control", "no-store")], whole(body.to_bytes()))
    })
    .await;
    let (behind, url) = in_tls(&lab, &origin).await;
    let proxy = trusting(&lab, &behind, &url).await;

    let target = proxy.https("app.test");
    for (client, version) in [
        (Client::h1(&target), Version::HTTP_11),
        (Client::h2(&target), Version::HTTP_2),
    ] {
        client.get("/page").await.expect(200);
        let answer = client
            .ask(Method::POST, "/page", &[], whole("an order"))
            .await
            .expect(200);
        assert_eq!(
            (answer.text().as_str(), answer.version),
            ("an order", version)
        );
    }
    // Both kinds of clients go on over HTTP/2, under the name that they asked for.
    let lines = eventually("four lines", PATIENCE, || {
        let lines = behind.access_log();
        std::future::ready(if lines.len() == 4 {
            Ok(lines)
        } else {
            Err(lines.len())
        })
    })
    .await;
    for line in lines {
        assert_eq!(line["protocol"], "HTTP/2", "{line}");
        assert_eq!(line["host"], "app.test", "{line}");
        assert!(line["tls"].is_string(), "{line}");
    }
    assert_eq!(upstream(&proxy, &url).await["state"], "up");
}

/// As a mirror reaches the primary: by its address, under the site's name, with an authority of the house.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_is_known_by_another_name_and_an_authority_of_the_house() {
    let lab = Lab::open().await;
    let origin = Origin::start(|_| async { reply(200, [], whole("fine")) }).await;
    let sites = ["www.example.org", "git.example.org"].map(|name| site(name, &origin.url(), ""));
    let primary = Proxy::start(&lab, &sites.concat()).await;
    let url = format!("https://{}", primary.secure_address());
    let known = |name: &str, roots: &str| {
        let more = format!("[site.upstream_tls]\nname = \"{name}\"\n{roots}");
        site(name, &url, &format!("hold = \"0s\"\n{more}"))
    };
    let roots = format!("roots = \"{}\"", primary.root_ca().display());

    // No word of that authority in the environment; several sites at one address.
    let sites = ["www.example.org", "git.example.org"].map(|name| known(name, &roots));
    let mirror = Proxy::start(&lab, &sites.concat()).await;
    for name in ["www.example.org", "git.example.org"] {
        let answer = Client::h2(&mirror.https(name)).get("/").await.expect(200);
        assert_eq!(answer.text(), "fine");
    }
    let hosts = eventually("two lines", PATIENCE, || {
        let lines = primary.access_log();
        let hosts: Vec<_> = lines.iter().map(|line| line["host"].clone()).collect();
        std::future::ready(match hosts.len() {
            2 => Ok(hosts),
            other => Err(other),
        })
    })
    .await;
    assert_eq!(hosts, ["www.example.org", "git.example.org"]);

    // Another name than the certificate's, and an authority that nobody named: neither is let pass. Kept
    // connections of those who know better are not used.
    for (name, more, reason) in [
        ("www.example.org", String::new(), "UnknownIssuer"),
        (
            "www.example.org",
            format!("[site.upstream_tls]\nname = \"elsewhere.example.org\"\n{roots}"),
            "",
        ),
        (
            "www.example.org",
            "[site.upstream_tls]\nname = \"www.example.org\"".to_owned(),
            "UnknownIssuer",
        ),
    ] {
        mirror.write_sites(&site(name, &url, &format!("hold = \"0s\"\n{more}")));
        mirror.reload().await;
        let path = format!("/{reason}-{}", more.len());
        Client::h2(&mirror.https(name)).get(&path).await.expect(503);
        let error = upstream(&mirror, &url).await["last_error"].to_string();
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(primary.access_log().len(), 2, "it was asked nevertheless");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_to_an_upstream_in_tls() {
    let lab = Lab::open().await;
    let origin = echo_origin().await;
    let (behind, url) = in_tls(&lab, &origin).await;
    let proxy = trusting(&lab, &behind, &url).await;
    let target = proxy.https("app.test");

    // A connection of HTTP/2 is kept already; a protocol can only be changed on one of HTTP/1.1.
    Client::h2(&target).get("/page").await.expect(426);
    let mut socket = WebSocket::open(&target, "/socket").await;
    for number in 0..3 {
        socket.echo(&format!("message {number}")).await;
    }
    drop(socket);
    assert_eq!(behind.logged("/page").await[0]["protocol"], "HTTP/2");
    let line = &behind.logged("/socket").await[0];
    assert_eq!(
        (&line["protocol"], &line["status"]),
        (&"HTTP/1.1".into(), &101.into()),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_whose_certificate_is_not_trusted() {
    let lab = Lab::open().await;
    let origin = Origin::start(|_| async { reply(200, [], whole("not for you")) }).await;
    let (_behind, url) = in_tls(&lab, &origin).await;
    // Its own authority is trusted by nobody here.
    let proxy = Proxy::start(&lab, &site("app.test", &url, "hold = \"500ms\"")).await;

    let started = Instant::now();
    let answer = Client::h2(&proxy.https("app.test")).get("/").await;
    assert!(
        answer.status == 502 || answer.status == 503,
        "the certificate was believed: {answer}"
    );
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    assert_eq!(origin.hits(), 0, "the request was sent all the same");
    let upstream = upstream(&proxy, &url).await;
    assert_eq!(upstream["state"], "down", "{upstream}");
    let error = upstream["last_error"].as_str().unwrap_or_default();
    assert!(
        error.to_ascii_lowercase().contains("cert") && error.contains("UnknownIssuer"),
        "an operator cannot tell what is wrong: {upstream}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_never_answers_is_given_up_after_first_byte() {
    let lab = Lab::open().await;
    let origin = Origin::raw(|stream, _| async move {
        let _held = stream;
        std::future::pending().await
    })
    .await;
    let more = "timeouts = { first_byte = \"300ms\" }";
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), more)).await;

    let client = Client::h2(&proxy.https("app.test"));
    for (count, method, path) in [(1, Method::GET, "/page"), (2, Method::POST, "/order")] {
        let started = Instant::now();
        client.ask(method, path, &[], empty()).await.expect(504);
        let took = started.elapsed();
        assert!(
            (Duration::from_millis(300)..Duration::from_secs(5)).contains(&took),
            "{path}: {took:?}"
        );
        // It may be at work on it: nobody is asked twice.
        assert_eq!(origin.connections(), count, "{path}");
        let line = &proxy.logged(path).await[0];
        assert_eq!(
            (&line["status"], &line["detail"]),
            (&504.into(), &"upstream-timeout".into()),
            "{line}"
        );
    }
    let upstream = upstream(&proxy, &origin.url()).await;
    let error = upstream["last_error"].as_str().unwrap_or_default();
    assert!(error.starts_with("upstream-timeout"), "{upstream}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stalls_breaks_the_connection_after_idle() {
    let lab = Lab::open().await;
    let origin = Origin::raw(|mut stream, _| async move {
        read_head(&mut stream).await;
        let head = "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 100\r\n\r\nhalf";
        let _ = stream.write_all(head.as_bytes()).await;
        std::future::pending().await
    })
    .await;
    // The first byte may take its time; once there is one, silence may not.
    let more = "timeouts = { first_byte = \"60s\", idle = \"400ms\" }";
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), more)).await;

    let target = proxy.https("app.test");
    for (name, client) in [("h1", Client::h1(&target)), ("h2", Client::h2(&target))] {
        for method in [Method::GET, Method::POST] {
            let path = format!("/{name}/{method}");
            let started = Instant::now();
            let request = client.request(method, &path, &[], empty());
            let answer = client.send(request).await;
            assert_eq!(answer.status(), 200, "{path}");
            let body = within(&path, PATIENCE, answer.into_body().collect()).await;
            body.expect_err("half a body was taken for whole");
            let took = started.elapsed();
            assert!(
                (Duration::from_millis(400)..Duration::from_secs(6)).contains(&took),
                "{path}: {took:?}"
            );
            let line = &proxy.logged(&path).await[0];
            assert_eq!(line["detail"], "upstream-timeout", "{line}");
        }
    }
    assert_eq!(origin.connections(), 4, "something was asked for again");
    proxy.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_upstreams_goes_down_and_no_request_fails() {
    let lab = Lab::open().await;
    let answer = |_| async { reply(200, [("cache-control", "no-store")], whole("fine")) };
    let (one, two) = (Origin::start(answer).await, Origin::start(answer).await);
    let sites = format!(
        "[[site]]\nnames = [\"app.test\"]\ntls = \"local\"\nupstream = [\"{}\", \"{}\"]\n",
        one.url(),
        two.url()
    );
    let proxy = Proxy::start(&lab, &sites).await;

    let load = Load::new(&proxy.https("app.test"), 60, |number| {
        Get::path(format!("/{number}"))
    })
    .start();
    let seen = async |count| {
        eventually("the load goes on", Duration::from_secs(30), || {
            let done = load.done();
            std::future::ready((done >= count).then_some(()).ok_or(done))
        })
        .await;
    };
    seen(60).await;
    one.down().await;
    let left = upstream_is(&proxy, &one.url(), "the first is shown as down", |one| {
        one["state"] == "down"
    })
    .await;
    assert!(left["last_error"].is_string(), "{left}");
    // Longer than it is passed over for: it is tried again, and found down again, at nobody's cost.
    let failures = left["failures"].as_u64();
    upstream_is(&proxy, &one.url(), "the first is tried again", |one| {
        one["failures"].as_u64() > failures
    })
    .await;
    let other = upstream(&proxy, &two.url()).await;
    assert_eq!(other["state"], "up", "{other}");
    assert_eq!(other["failures"], 0, "{other}");
    one.up().await;
    upstream_is(&proxy, &one.url(), "the first is shown as up", |one| {
        one["state"] == "up"
    })
    .await;
    let report = load.stop().await;
    report.assert_none_failed();
    assert!(report.records.len() >= 60, "{}", report.summary());
}

/// The order on a kept connection: a proxy that takes every broken one for just closed sends it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_on_a_kept_connection_that_breaks_is_sent_once() {
    let lab = Lab::open().await;
    let orders = Arc::new(AtomicUsize::new(0));
    let counted = orders.clone();
    let origin = Origin::raw(move |mut stream, _| {
        let counted = counted.clone();
        async move {
            loop {
                let head = read_head(&mut stream).await;
                if !head.starts_with(b"GET ") {
                    // It takes the whole order, and breaks.
                    let mut got = head;
                    while !got.ends_with(b"one, please") {
                        if stream.read_buf(&mut got).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    counted.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                let page =
                    "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nCache-Control: no-store\r\n\r\npage";
                let _ = stream.write_all(page.as_bytes()).await;
            }
        }
    })
    .await;
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), "")).await;

    let client = Client::h2(&proxy.https("app.test"));
    let mut kept = 0;
    for count in 1..=5 {
        client.get("/page").await.expect(200);
        let connections = origin.connections();
        let order = whole("one, please");
        let fields = [("content-length", "11")];
        let answer = client.ask(Method::POST, "/order", &fields, order).await;
        assert!(
            answer.status == 502 || answer.status == 503,
            "nobody knows what became of it, and yet: {answer}"
        );
        assert_eq!(
            orders.load(Ordering::Relaxed),
            count,
            "an order was placed more than once"
        );
        // The page's connection may have been on its way back when the order came.
        kept += usize::from(origin.connections() == connections);
    }
    assert!(kept > 0, "no connection was kept: nothing is proved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_request_whose_client_is_gone_reaches_the_origin_at_most_once() {
    let lab = Lab::open().await;
    let origin =
        Origin::start(|_| async { reply(200, [("cache-control", "no-store")], whole("fine")) })
            .await;
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), "hold = \"60s\"")).await;
    origin.down().await;

    let target = proxy.https("app.test");
    let mut held = open(&target).await;
    held.write_all(b"GET /left HTTP/1.1\r\nHost: app.test\r\n\r\n")
        .await
        .expect("it listens");
    upstream_is(&proxy, &origin.url(), "it is held", |upstream| {
        upstream["failures"].as_u64() >= Some(2)
    })
    .await;
    drop(held);
    origin.up().await;
    Client::h1(&target).get("/stayed").await.expect(200);
    upstream_is(&proxy, &origin.url(), "nothing is under way", |upstream| {
        upstream["active"] == 0
    })
    .await;
    let left = origin
        .seen()
        .iter()
        .filter(|one| one.path == "/left")
        .count();
    assert!(left <= 1, "sent {left} times for somebody who has left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_restarts_is_not_asked_for_a_client_that_is_gone() {
    let lab = Lab::open().await;
    let origin = Origin::start(|_| async { reply(503, [], whole("booting")) }).await;
    let more = "hold = \"60s\"\nrestarting = [{ status = 503, without = \"retry-after\" }]\ncache = { session_cookies = [\"session\"] }";
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), more)).await;

    // With the cookie the request is this client's alone: nobody else may want what it fetches.
    let mut held = open(&proxy.https("app.test")).await;
    held.write_all(b"GET /left HTTP/1.1\r\nHost: app.test\r\nCookie: session=1\r\n\r\n")
        .await
        .expect("it listens");
    eventually("it is asked again and again", PATIENCE, || {
        let hits = origin.hits();
        std::future::ready((hits >= 3).then_some(()).ok_or(hits))
    })
    .await;
    drop(held);
    upstream_is(&proxy, &origin.url(), "it is given up", |upstream| {
        upstream["active"] == 0
    })
    .await;
    assert_eq!(proxy.logged("/left").await[0]["status"], 499);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_order_of_a_client_that_is_gone_is_not_delivered() {
    let lab = Lab::open().await;
    let origin = Origin::start(|_| async { reply(200, [], whole("fine")) }).await;
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), "hold = \"60s\"")).await;
    origin.down().await;

    let mut held = open(&proxy.https("app.test")).await;
    held.write_all(b"POST /order HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3\r\n\r\none")
        .await
        .expect("it listens");
    upstream_is(&proxy, &origin.url(), "it is held", |upstream| {
        upstream["failures"].as_u64() >= Some(2)
    })
    .await;
    drop(held);
    upstream_is(&proxy, &origin.url(), "it is given up", |upstream| {
        upstream["active"] == 0
    })
    .await;
    origin.up().await;
    assert_eq!(proxy.logged("/order").await[0]["status"], 499);
    assert_eq!(origin.hits(), 0, "an order of somebody who has left");
}

/// What BTCPay Server is sent: fields of half a megabyte, and addresses of 60 KB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_of_half_a_megabyte_arrives() {
    let lab = Lab::open().await;
    // As bytes: an ordinary server would refuse it. Answers how long the head was.
    let origin = Origin::raw(|mut stream, _| async move {
        let (mut head, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => head.extend_from_slice(&buffer[..count]),
            }
        }
        let text = head.len().to_string();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        );
        let _ = stream.write_all(answer.as_bytes()).await;
    })
    .await;
    let limits = "[limits]\nheader_bytes = \"512KiB\"\n";
    let sites = format!(
        "{limits}{}",
        site("app.test", &origin.url(), "preset = \"btcpay\"")
    );
    let proxy = Proxy::start(&lab, &sites).await;
    let target = proxy.https("app.test");

    let (field, path) = ("v".repeat(500_000), format!("/?{}", "k".repeat(60_000)));
    for client in [Client::h1(&target), Client::h2(&target)] {
        let answer = client
            .get_with("/", &[("x-order", &field)])
            .await
            .expect(200);
        let length: usize = answer.text().parse().expect("a number");
        assert!((500_000..501_000).contains(&length), "{length}");
        let answer = client.get(&path).await.expect(200);
        let length: usize = answer.text().parse().expect("a number");
        assert!((60_000..61_000).contains(&length), "{length}");
    }
    // More than that is refused, and said to be.
    let more = "v".repeat(600_000);
    let client = Client::h1(&target);
    client
        .get_with("/", &[("x-order", &more)])
        .await
        .expect(431);
    let client = Client::h2(&target);
    client
        .get_with("/", &[("x-order", &more)])
        .await
        .expect(431);
    let plain = proxy.http("app.test");
    let long = format!(
        "GET /{} HTTP/1.1\r\nHost: app.test\r\n\r\n",
        "k".repeat(100_000)
    );
    let answer = sovereign_tests::raw::raw(&plain, long.as_bytes()).await;
    assert_eq!(answer.status(), Some(414), "{:.200}", answer.text());
    let refused = proxy.logged("target-too-long").await;
    assert_eq!(refused[0]["status"], 414, "{refused:?}");
}
