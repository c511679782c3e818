//! Requests that no client should send: each gets its refusal, and nobody else notices.

use std::time::Duration;

use sovereign_tests::client::whole;
use sovereign_tests::origin::{Origin, reply};
use sovereign_tests::proxy::site;
use sovereign_tests::raw::{open, raw, raw_then_close, receive};
use sovereign_tests::{Client, Lab, Proxy, Target, eventually};
use tokio::io::AsyncWriteExt as _;

/// What is wanted of a bad request.
#[derive(Clone, Copy)]
enum Wanted {
    /// This status, and the connection closed.
    Status(u16),
    /// One of these, and the connection closed.
    OneOf(&'static [u16]),
    /// Sound, and not for a site that is served here.
    Misdirected,
    /// Taken for what it means.
    Fine,
}
use Wanted::{Fine, Misdirected, OneOf, Status};

/// Name, bytes, and what is wanted. `HOST` is replaced by the site's name.
fn table() -> Vec<(&'static str, Vec<u8>, Wanted)> {
    let text = |text: &str| text.as_bytes().to_vec();
    let get = |fields: &str| format!("GET / HTTP/1.1\r\nHost: HOST\r\n{fields}\r\n").into_bytes();
    let post = |fields: &str, body: &str| {
        format!("POST / HTTP/1.1\r\nHost: HOST\r\n{fields}\r\n{body}").into_bytes()
    };
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n", body);
    vec![
        // Where the body ends.
        (
            "both length and coding",
            post(
                "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
            Status(400),
        ),
        (
            "coding, then length",
            post(
                "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
                "0\r\n\r\n",
            ),
            Status(400),
        ),
        (
            "two lengths",
            post("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd"),
            Status(400),
        ),
        (
            "two lengths in one field",
            post("Content-Length: 3, 4\r\n", "abcd"),
            Status(400),
        ),
        (
            "a negative length",
            post("Content-Length: -1\r\n", ""),
            Status(400),
        ),
        (
            "a length with a sign",
            post("Content-Length: +3\r\n", "abc"),
            Status(400),
        ),
        (
            "a length in hexadecimal",
            post("Content-Length: 0x3\r\n", "abc"),
            Status(400),
        ),
        (
            "a length beyond all bounds",
            post("Content-Length: 99999999999999999999999\r\n", ""),
            Status(400),
        ),
        (
            "an unknown coding",
            post("Transfer-Encoding: cow\r\n", "abc"),
            OneOf(&[400, 501]),
        ),
        (
            "chunked, but not last",
            post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
            OneOf(&[400, 501]),
        ),
        (
            "chunked with a disguise",
            post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"),
            OneOf(&[400, 501]),
        ),
        (
            "a coding in HTTP/1.0",
            text("POST / HTTP/1.0\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            Status(400),
        ),
        // Chunks.
        (
            "a chunk size that is no number",
            chunked("xyz\r\nabc\r\n0\r\n\r\n"),
            Status(400),
        ),
        (
            "a negative chunk size",
            chunked("-3\r\nabc\r\n0\r\n\r\n"),
            Status(400),
        ),
        (
            "a chunk size beyond all bounds",
            chunked("fffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
            Status(400),
        ),
        (
            "a chunk longer than its size",
            chunked("3\r\nabcd\r\n0\r\n\r\n"),
            Status(400),
        ),
        (
            "a chunk size line without end",
            chunked(&"1".repeat(20_000)),
            Status(400),
        ),
        (
            "a bare LF after a chunk size",
            chunked("3\nabc\r\n0\r\n\r\n"),
            Status(400),
        ),
        // Lines and fields.
        (
            "a bare LF after the request line",
            text("GET / HTTP/1.1\nHost: HOST\r\n\r\n"),
            Status(400),
        ),
        (
            "bare LF everywhere",
            text("GET / HTTP/1.1\nHost: HOST\n\n"),
            Status(400),
        ),
        ("a bare CR in a value", get("X-Odd: a\rb\r\n"), Status(400)),
        ("a null in a value", get("X-Odd: a\0b\r\n"), Status(400)),
        ("a folded line", get("X-Odd: a\r\n b\r\n"), Status(400)),
        (
            "a folded first line",
            text("GET / HTTP/1.1\r\n Host: HOST\r\n\r\n"),
            Status(400),
        ),
        (
            "a space before the colon",
            get("X-Odd : a\r\n"),
            Status(400),
        ),
        (
            "a space before the colon of a length",
            post("Content-Length : 3\r\n", "abc"),
            Status(400),
        ),
        ("a field without a colon", get("X-Odd\r\n"), Status(400)),
        ("a field without a name", get(": a\r\n"), Status(400)),
        // The target.
        (
            "absolute form",
            text("GET http://HOST/absolute HTTP/1.1\r\nHost: HOST\r\n\r\n"),
            Fine,
        ),
        (
            "absolute form of somebody else",
            text("GET http://other.test/ HTTP/1.1\r\nHost: HOST\r\n\r\n"),
            Misdirected,
        ),
        (
            "authority form",
            text("CONNECT HOST:443 HTTP/1.1\r\nHost: HOST:443\r\n\r\n"),
            OneOf(&[400, 405, 501]),
        ),
        (
            "authority form of a GET",
            text("GET HOST:443 HTTP/1.1\r\nHost: HOST\r\n\r\n"),
            Status(400),
        ),
        (
            "a target without a slash",
            text("GET index HTTP/1.1\r\nHost: HOST\r\n\r\n"),
            Status(400),
        ),
        (
            "a space in the target",
            text("GET /a b HTTP/1.1\r\nHost: HOST\r\n\r\n"),
            OneOf(&[400, 505]),
        ),
        (
            "a fragment in the target",
            text("GET /a#b HTTP/1.1\r\nHost: HOST\r\n\r\n"),
            Status(400),
        ),
        (
            "no target",
            text("GET HTTP/1.1\r\nHost: HOST\r\n\r\n"),
            Status(400),
        ),
        // The host.
        ("no host", text("GET / HTTP/1.1\r\n\r\n"), Status(400)),
        (
            "two hosts",
            text("GET / HTTP/1.1\r\nHost: HOST\r\nHost: other.test\r\n\r\n"),
            Status(400),
        ),
        (
            "the same host twice",
            text("GET / HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\n\r\n"),
            Status(400),
        ),
        (
            "an empty host",
            text("GET / HTTP/1.1\r\nHost:\r\n\r\n"),
            Misdirected,
        ),
        (
            "a host with a path",
            text("GET / HTTP/1.1\r\nHost: HOST/x\r\n\r\n"),
            Status(400),
        ),
        (
            "a host with a user",
            text("GET / HTTP/1.1\r\nHost: a@HOST\r\n\r\n"),
            Status(400),
        ),
        // The rest.
        (
            "100 KB of one field",
            get(&format!("X-Long: {}\r\n", "a".repeat(100_000))),
            Status(431),
        ),
        (
            "100 KB of many fields",
            get(&"X-Many: aaaaaaaaaa\r\n".repeat(5_000)),
            Status(431),
        ),
        (
            "300 small fields",
            get(&"a: b\r\n".repeat(300)),
            Status(431),
        ),
        (
            "a path of 100 KB",
            format!(
                "GET /{} HTTP/1.1\r\nHost: HOST\r\n\r\n",
                "a".repeat(100_000)
            )
            .into_bytes(),
            OneOf(&[414, 431]),
        ),
        (
            "HTTP/3.7",
            text("GET / HTTP/3.7\r\nHost: HOST\r\n\r\n"),
            OneOf(&[400, 505]),
        ),
        (
            "no HTTP at all",
            b"\x00\x01\x02\x03 nonsense \xff\xfe\r\n\r\n".to_vec(),
            Status(400),
        ),
        (
            "TLS where none is spoken",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
            Status(400),
        ),
    ]
}

async fn origin() -> Origin {
    Origin::start(|_| async { reply(200, [("cache-control", "no-store")], whole("fine")) }).await
}

/// A second site without TLS, so that a plain connection is served and not redirected.
async fn proxy(lab: &Lab, origin: &Origin) -> (Proxy, [Target; 2]) {
    let plain = format!(
        "[[site]]\nnames = [\"plain.test\"]\ntls = \"off\"\nupstream = [\"{}\"]\n",
        origin.url()
    );
    let sites = site("secure.test", &origin.url(), "") + &plain;
    let proxy = Proxy::start(lab, &sites).await;
    let targets = [proxy.http("plain.test"), proxy.https("secure.test")];
    (proxy, targets)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bad_request_gets_its_answer() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let (proxy, targets) = proxy(&lab, &origin).await;
    // A good client that was there before, and must not notice.
    let good = Client::h2(&targets[1]);
    good.get("/").await.expect(200);

    let mut wrong = Vec::new();
    for target in &targets {
        for (name, bytes, wanted) in table() {
            let bytes = replaced(&bytes, &target.host);
            let before = origin.hits();
            let got = raw(target, &bytes).await;
            let right = match wanted {
                Status(status) => got.status() == Some(status) && got.closed,
                OneOf(statuses) => {
                    got.status().is_some_and(|s| statuses.contains(&s)) && got.closed
                }
                Misdirected => got.status() == Some(421),
                Fine => got.status() == Some(200),
            };
            // One answer: a second would be to a request hidden in the first.
            if !right || got.statuses().len() != 1 {
                wrong.push(format!(
                    "{} {name}: {:?}, closed: {}",
                    target.scheme(),
                    got.text(),
                    got.closed
                ));
            }
            // A head that is refused goes no further. (A broken body may: it streams.)
            let streams = name.contains("chunk");
            if !matches!(wanted, Fine) && !streams && origin.hits() != before {
                wrong.push(format!("{} {name}: reached the origin", target.scheme()));
            }
            good.get("/").await.expect(200);
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    proxy.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reason_of_a_refusal_is_in_the_log() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let (proxy, targets) = proxy(&lab, &origin).await;

    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n";
    assert_eq!(raw(&targets[0], bytes).await.status(), Some(400));
    eventually("the log gives the reason", Duration::from_secs(10), || {
        let lines = proxy.access_log();
        let line = lines.iter().find(|line| line["status"] == 400);
        let says_why = line.is_some_and(|line| line.to_string().contains("host-twice"));
        std::future::ready(says_why.then_some(()).ok_or(format!("{line:?}")))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_a_bad_request_is_not_read() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let (_proxy, targets) = proxy(&lab, &origin).await;

    for target in &targets {
        let before = origin.hits();
        let bytes = "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
                     0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n";
        let got = raw(target, &replaced(bytes.as_bytes(), &target.host)).await;
        assert_eq!(got.statuses(), [400], "{}", got.text());
        assert!(got.closed);
        assert_eq!(origin.hits(), before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_answered_in_turn() {
    let lab = Lab::open().await;
    let origin = Origin::start(|request| async move {
        reply(
            200,
            [("cache-control", "no-store")],
            whole(request.uri().path().to_owned()),
        )
    })
    .await;
    let (_proxy, targets) = proxy(&lab, &origin).await;

    for target in &targets {
        let bytes = "POST /one HTTP/1.1\r\nHost: HOST\r\nContent-Length: 3\r\n\r\nabc\
                     POST /two HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
                     GET /three HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n";
        let got = raw_to_end(target, &replaced(bytes.as_bytes(), &target.host)).await;
        assert_eq!(got.statuses(), [200, 200, 200], "{}", got.text());
        let text = got.text();
        let places = ["/one", "/two", "/three"].map(|path| text.find(path).expect(path));
        assert!(places.is_sorted(), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stops_half_way() {
    let lab = Lab::open().await;
    let origin = Origin::start(|request| async move {
        use http_body_util::BodyExt as _;
        let whole_body = request.into_body().collect().await.is_ok();
        reply(if whole_body { 200 } else { 400 }, [], whole("read"))
    })
    .await;
    let (proxy, targets) = proxy(&lab, &origin).await;

    for target in &targets {
        for start in [
            "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 100\r\n\r\nonly this",
            "POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nonly this",
            "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Le",
        ] {
            let got = raw_then_close(target, &replaced(start.as_bytes(), &target.host)).await;
            assert!(
                matches!(got.status(), None | Some(400)),
                "half a request was taken for a whole one: {}",
                got.text()
            );
            assert!(got.closed, "{start:?}");
        }
        Client::h1(target).get("/").await.expect(200);
    }
    proxy.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_slow_to_ask_is_cut_off() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let sites = format!(
        "[limits]\nheader_timeout = \"500ms\"\nidle_timeout = \"700ms\"\n{}",
        site("secure.test", &origin.url(), "")
    );
    let proxy = Proxy::start(&lab, &sites).await;
    let target = proxy.https("secure.test");

    let mut wire = open(&target).await;
    wire.write_all(b"GET / HTTP/1.1\r\nHost: secure.te")
        .await
        .expect("it listens");
    let got = receive(&mut wire, Duration::from_secs(5), Duration::from_secs(10)).await;
    assert!(
        got.closed && matches!(got.status(), None | Some(408)),
        "{}",
        got.text()
    );

    // One that has asked and now says nothing is let go, too.
    let mut wire = open(&target).await;
    wire.write_all(b"GET / HTTP/1.1\r\nHost: secure.test\r\n\r\n")
        .await
        .expect("it listens");
    let got = receive(&mut wire, Duration::from_secs(5), Duration::from_secs(10)).await;
    assert!(got.closed && got.statuses() == [200], "{}", got.text());

    // A TCP connection on which no TLS handshake comes.
    let mut wire = open(&Target {
        roots: None,
        ..target.clone()
    })
    .await;
    let got = receive(&mut wire, Duration::from_secs(5), Duration::from_secs(10)).await;
    assert!(got.closed, "{}", got.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_bounded() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let (proxy, targets) = proxy(&lab, &origin).await;
    raw(&targets[0], b"GET / HTTP/1.1\r\nHost: plain.test\r\n\r\n").await;
    let before = proxy.memory().await;

    // 200 clients at once, each with a head that never ends: 4 MB offered by each.
    let endless = [
        b"GET / HTTP/1.1\r\nHost: plain.test\r\n".to_vec(),
        b"X: yyyyyyyyyyyyy\r\n".repeat(220_000),
    ]
    .concat();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (target, endless) = (targets[0].clone(), endless.clone());
        clients.spawn(async move { raw(&target, &endless).await });
    }
    while let Some(ended) = clients.join_next().await {
        let got = ended.expect("a client ends");
        assert!(
            matches!(got.status(), None | Some(431)) && got.closed,
            "{}",
            got.text()
        );
    }
    let grown = proxy.memory().await.saturating_sub(before);
    assert!(grown < 100 << 20, "grew by {} MiB", grown >> 20);
    Client::h1(&targets[0]).get("/").await.expect(200);
}

/// The bytes with the site's name in them.
fn replaced(bytes: &[u8], host: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(4).position(|four| four == b"HOST") {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(host.as_bytes());
        rest = &rest[at + 4..];
    }
    out.extend_from_slice(rest);
    out
}

async fn raw_to_end(target: &Target, bytes: &[u8]) -> sovereign_tests::raw::Exchange {
    let mut wire = open(target).await;
    wire.write_all(bytes).await.expect("it listens");
    receive(&mut wire, Duration::from_secs(5), Duration::from_secs(10)).await
}
