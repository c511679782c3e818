//! Upstreams that misbehave, and a daemon that cannot start: the visitor gets the right answer, the
//! log the reason, and nobody else notices.

use std::time::{Duration, Instant};

use http::Method;
use sovereign_tests::client::{empty, whole};
use sovereign_tests::origin::{read_head, reply};
use sovereign_tests::proxy::{cli, program, said, site};
use sovereign_tests::raw::{open, raw, receive};
use sovereign_tests::{Client, Lab, Origin, Proxy, eventually};
use tokio::io::AsyncWriteExt as _;

/// Short, so that a session is.
const TIMES: &str =
    "hold = \"1s\"\ntimeouts = { connect = \"1s\", first_byte = \"1s\", idle = \"1s\" }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_no_http() {
    let lab = Lab::open().await;
    let good = Origin::start(|_| async { reply(200, [], whole("fine")) }).await;
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-Many: a\r\n".repeat(20_000));
    let long = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "a".repeat(4 << 20));
    let answers: Vec<(&str, Vec<u8>)> = vec![
        (
            "garbage",
            b"\x00\xff\xfe nothing like HTTP\r\n\r\n".to_vec(),
        ),
        ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        (
            "a status that is no number",
            b"HTTP/1.1 abc OK\r\n\r\n".to_vec(),
        ),
        (
            "a status out of range",
            b"HTTP/1.1 9999 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
        ),
        (
            "two lengths",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc".to_vec(),
        ),
        (
            "a length that is no number",
            b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nabc".to_vec(),
        ),
        ("too many fields", many.into_bytes()),
        ("a field of 4 MiB", long.into_bytes()),
    ];
    let mut origins = Vec::new();
    let mut sites = site("good.test", &good.url(), "");
    for (number, (_, bytes)) in answers.iter().enumerate() {
        let origin = Origin::saying(bytes.clone()).await;
        sites += &site(&format!("bad{number}.test"), &origin.url(), TIMES);
        origins.push(origin);
    }
    let proxy = Proxy::start(&lab, &sites).await;

    let visitor = Client::h2(&proxy.https("good.test"));
    for (number, (name, _)) in answers.iter().enumerate() {
        let target = proxy.https(&format!("bad{number}.test"));
        for client in [Client::h1(&target), Client::h2(&target)] {
            let answer = client.get("/").await;
            assert_eq!(answer.status, 502, "{name}: {answer}");
        }
        visitor.get("/").await.expect(200);
    }
    proxy.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_space_before_a_colon_is_removed_from_an_answer() {
    // From a server it is mended, from a client refused (RFC 9112, 5.1).
    let lab = Lab::open().await;
    let origin =
        Origin::saying("HTTP/1.1 200 OK\r\nX-Odd : a\r\nContent-Length: 4\r\n\r\nfine").await;
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), TIMES)).await;
    let got = raw(
        &proxy.https("app.test"),
        b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n",
    )
    .await;
    let text = got.text().to_ascii_lowercase();
    let mended = got.status() == Some(200) && text.contains("x-odd: a\r\n");
    assert!(mended || got.status() == Some(502), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_do_not_keep_their_word() {
    let lab = Lab::open().await;
    let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n";
    let shorter = Origin::saying(format!("{head}Content-Length: 100\r\n\r\nonly this")).await;
    let longer = Origin::saying(format!("{head}Content-Length: 4\r\n\r\nfour and more")).await;
    let cut = Origin::saying(format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n64\r\nonly this"
    ))
    .await;
    let broken = Origin::saying(format!(
        "{head}Transfer-Encoding: chunked\r\n\r\nzz\r\nonly this\r\n0\r\n\r\n"
    ))
    .await;
    let sites = [
        site("shorter.test", &shorter.url(), TIMES),
        site("longer.test", &longer.url(), TIMES),
        site("cut.test", &cut.url(), TIMES),
        site("broken.test", &broken.url(), TIMES),
    ]
    .concat();
    let proxy = Proxy::start(&lab, &sites).await;

    // What is missing can no longer be an error page: the client has to see that it is not whole.
    for host in ["shorter.test", "cut.test", "broken.test"] {
        for _ in 0..2 {
            let target = proxy.https(host);
            let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let got = raw(&target, request.as_bytes()).await;
            let is_error = got.status() == Some(502);
            let is_seen_cut = got.closed && !got.text().ends_with("\r\n0\r\n\r\n");
            assert!(
                is_error || is_seen_cut,
                "{host}: taken for whole: {}",
                got.text()
            );

            let client = Client::h2(&target);
            let response = client
                .send(client.request(Method::GET, "/", &[], empty()))
                .await;
            if response.status() == 200 {
                use http_body_util::BodyExt as _;
                response
                    .into_body()
                    .collect()
                    .await
                    .expect_err("half a body was taken for whole");
            } else {
                assert_eq!(response.status(), 502, "{host}");
            }
        }
    }
    // The surplus belongs to nobody: not to this answer, and not to the next one on that connection.
    let visitor = Client::h1(&proxy.https("longer.test"));
    for path in ["/", "/again"] {
        assert_eq!(visitor.get(path).await.expect(200).text(), "four");
    }
    proxy.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stops_half_way_is_given_up_and_not_kept() {
    let lab = Lab::open().await;
    let origin = Origin::raw(|mut stream, _| async move {
        read_head(&mut stream).await;
        let head =
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 100\r\n\r\nhalf";
        let _ = stream.write_all(head.as_bytes()).await;
        // And now nothing, with the connection open.
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), TIMES)).await;

    for turn in 1..=2 {
        let started = Instant::now();
        let mut wire = open(&proxy.https("app.test")).await;
        wire.write_all(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
            .await
            .expect("it listens");
        let got = receive(&mut wire, Duration::from_secs(10), Duration::from_secs(10)).await;
        assert!(got.closed, "{}", got.text());
        assert!(
            started.elapsed() < Duration::from_secs(8),
            "{:?}",
            started.elapsed()
        );
        assert_eq!(origin.connections(), turn, "half a body was kept");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstreams_that_say_nothing_at_all() {
    let lab = Lab::open().await;
    // One closes at once; one takes the request and says nothing; one is not there.
    let closes = Origin::raw(|stream, _| async move { drop(stream) }).await;
    let silent = Origin::raw(|mut stream, _| async move {
        read_head(&mut stream).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
    let gone = Origin::start(|_| async { reply(200, [], whole("never")) }).await;
    gone.down().await;
    let sites = [
        site("closes.test", &closes.url(), TIMES),
        site("silent.test", &silent.url(), TIMES),
        site("gone.test", &gone.url(), TIMES),
    ]
    .concat();
    let proxy = Proxy::start(&lab, &sites).await;

    for (host, wanted) in [
        ("closes.test", 503),
        ("silent.test", 504),
        ("gone.test", 503),
    ] {
        let started = Instant::now();
        let answer = Client::h2(&proxy.https(host)).get("/").await;
        assert_eq!(answer.status, wanted, "{host}: {answer}");
        if wanted == 503 {
            assert!(!answer.header("retry-after").is_empty(), "{host}: {answer}");
        }
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{host}: {:?}",
            started.elapsed()
        );
    }
    proxy.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_may_change_something_is_sent_once() {
    let lab = Lab::open().await;
    // It takes the whole request and breaks the connection: nobody knows what it did.
    let origin = Origin::raw(|mut stream, _| async move {
        read_head(&mut stream).await;
    })
    .await;
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), TIMES)).await;

    let client = Client::h2(&proxy.https("app.test"));
    let answer = client
        .ask(Method::POST, "/order", &[], whole("one, please"))
        .await;
    assert!(answer.status.is_server_error(), "{answer}");
    assert_eq!(
        origin.connections(),
        1,
        "an order was placed more than once"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_waits_for_an_upstream_that_is_not_there_yet() {
    let lab = Lab::open().await;
    let origin = Origin::start(|request| async move {
        use http_body_util::BodyExt as _;
        let body = request
            .into_body()
            .collect()
            .await
            .expect("the body comes")
            .to_bytes();
        reply(200, [("cache-control", "no-store")], whole(body))
    })
    .await;
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), "hold = \"20s\"")).await;
    origin.down().await;

    // Not one byte of the POST can have been sent: it waits like the GET.
    let target = proxy.https("app.test");
    let requests = [("GET", ""), ("POST", "an order")].map(|(method, body)| {
        let client = Client::h2(&target);
        tokio::spawn(async move {
            let method = method.parse().expect("a method");
            client.ask(method, "/", &[], whole(body)).await
        })
    });
    eventually("both wait", Duration::from_secs(10), || async {
        let status = proxy.status().await;
        let upstream = &status["sites"][0]["upstreams"][0];
        (upstream["failures"].as_u64() >= Some(2))
            .then_some(())
            .ok_or(upstream.to_string())
    })
    .await;
    origin.up().await;
    let [get, post] = requests;
    get.await.expect("it is answered").expect(200);
    assert_eq!(
        post.await.expect("it is answered").expect(200).text(),
        "an order"
    );
    assert_eq!(origin.hits(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sites_own_page_is_shown_when_the_hold_is_over() {
    let lab = Lab::open().await;
    let page = lab.file("unavailable.html", "<h1>We are back in a minute</h1>");
    let origin = Origin::start(|_| async { reply(200, [], whole("never")) }).await;
    origin.down().await;
    let more = format!("hold = \"500ms\"\nunavailable = \"{}\"", page.display());
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), &more)).await;

    let visitor = Client::h2(&proxy.https("app.test"));
    let answer = visitor
        .get_with("/", &[("accept", "text/html")])
        .await
        .expect(503);
    assert!(answer.text().contains("back in a minute"), "{answer}");
    assert!(!answer.header("retry-after").is_empty(), "{answer}");
    assert!(
        answer.header("cache-control").contains("no-store"),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_means_restarting_is_waited_out() {
    let lab = Lab::open().await;
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let origin = Origin::start(move |_| {
        let call = calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async move {
            match call {
                0..4 => reply(503, [], whole("booting")),
                4 => reply(200, [("cache-control", "no-store")], whole("up")),
                _ => reply(503, [("retry-after", "120")], whole("maintenance")),
            }
        }
    })
    .await;
    let more = "hold = \"20s\"\nrestarting = [{ status = 503, without = \"retry-after\" }]";
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), more)).await;

    let visitor = Client::h2(&proxy.https("app.test"));
    assert_eq!(visitor.get("/").await.expect(200).text(), "up");
    // With the field it is a real answer, and is passed on at once.
    let answer = visitor.get("/").await.expect(503);
    assert_eq!(
        (answer.text().as_str(), answer.header("retry-after")),
        ("maintenance", "120")
    );
    assert_eq!(origin.hits(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reason_of_a_fault_is_in_the_log() {
    let lab = Lab::open().await;
    let origin = Origin::saying("nonsense").await;
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), TIMES)).await;

    Client::h2(&proxy.https("app.test"))
        .get("/what-happened")
        .await
        .expect(502);
    let lines = proxy.logged("/what-happened").await;
    assert!(
        lines[0].to_string().contains("upstream-garbage"),
        "{}",
        lines[0]
    );
    let upstream = &proxy.status().await["sites"][0]["upstreams"][0];
    assert_eq!(upstream["state"], "down", "{upstream}");
    assert!(upstream["last_error"].is_string(), "{upstream}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_port_is_taken() {
    let lab = Lab::open().await;
    let origin = Origin::start(|_| async { reply(200, [], whole("fine")) }).await;
    let taken = origin.address();
    let folder = lab.folder("second");
    let config = lab.file(
        "proxy.toml",
        format!(
            "state = \"{}/state\"\n[listen]\nhttp = [\"{taken}\"]\n{}",
            folder.display(),
            "[[site]]\nnames = [\"app.test\"]\ntls = \"off\"\nupstream = [\"http://127.0.0.1:9\"]\n"
        ),
    );
    let output = cli(&[
        "run",
        "--config",
        config.to_str().expect("the path is text"),
    ])
    .await;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains(&taken.to_string()),
        "which port is not said: {}",
        said(&output)
    );
    Client::h1(&sovereign_tests::Target::plain(taken, "app.test"))
        .get("/")
        .await
        .expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_with_ten_mistakes() {
    let lab = Lab::open().await;
    let config = lab.file("proxy.toml", TEN_MISTAKES);
    let path = config.to_str().expect("the path is text");
    for command in ["check", "run"] {
        let output = cli(&[command, "--config", path]).await;
        assert_eq!(
            output.status.code(),
            Some(2),
            "{command}: {}",
            said(&output)
        );
        let text = said(&output);
        for mistake in [
            "drian",
            "drain",
            "trusted",
            "http",
            "memory",
            "header_count",
            "format",
            "ghots",
            "upstream",
            "hold",
            "lifetime",
            "redirect",
        ] {
            assert!(
                text.contains(mistake),
                "{command} says nothing of {mistake}: {text}"
            );
        }
        assert!(text.contains("hint:"), "{text}");
        assert!(text.contains("proxy.toml"), "{text}");
    }
    assert!(program().is_file());
}

const TEN_MISTAKES: &str = r#"state = "/tmp/never-made"
drian = "30s"
drain = "soon"
trusted = ["10.0.0.0/99"]

[listen]
http = ["no address"]

[cache]
memory = "plenty"

[limits]
header_count = -3

[log]
format = "xml"

[[site]]
names = ["app.test"]
preset = "ghots"
upstream = ["ftp://127.0.0.1"]
hold = 15

[site.cache]
lifetime = "ten"

[[site.route]]
path = "/old"
redirect = { to = "/new", status = 200 }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_of_one_upstream_is_made_good_by_another() {
    let lab = Lab::open().await;
    let one =
        Origin::start(|_| async { reply(200, [("cache-control", "no-store")], whole("one")) })
            .await;
    let two =
        Origin::start(|_| async { reply(200, [("cache-control", "no-store")], whole("two")) })
            .await;
    let sites = format!(
        "[[site]]\nnames = [\"app.test\"]\ntls = \"local\"\nupstream = [\"{}\", \"{}\"]\n",
        one.url(),
        two.url()
    );
    let proxy = Proxy::start(&lab, &sites).await;
    let visitor = Client::h2(&proxy.https("app.test"));

    for _ in 0..6 {
        visitor.get("/").await.expect(200);
    }
    assert!(
        one.hits() >= 2 && two.hits() >= 2,
        "not balanced: {} and {}",
        one.hits(),
        two.hits()
    );
    one.down().await;
    for _ in 0..6 {
        assert_eq!(visitor.get("/").await.expect(200).text(), "two");
    }
    one.up().await;
    eventually(
        "the first is used again",
        Duration::from_secs(30),
        || async {
            let text = visitor.get("/").await.expect(200).text();
            (text == "one").then_some(()).ok_or(text)
        },
    )
    .await;
}
