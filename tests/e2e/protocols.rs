//! HTTP/1.1 and HTTP/2 at both ends, and all that travels over them.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Version};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use sovereign_tests::client::whole;
use sovereign_tests::origin::{read_head, reply};
use sovereign_tests::proxy::site;
use sovereign_tests::raw::{open, receive, receive_until};
use sovereign_tests::wait::within;
use sovereign_tests::websocket::{WebSocket, echo_origin};
use sovereign_tests::{Client, Lab, Origin, Proxy};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(15);

/// An origin that gives back what it was sent, as it comes.
async fn echo(h2c: bool) -> Origin {
    let handler = |request: http::Request<hyper::body::Incoming>| async move {
        let body = request
            .into_body()
            .map_err(std::io::Error::other)
            .boxed_unsync();
        reply(200, [("cache-control", "no-store")], body)
    };
    if h2c {
        Origin::h2c(handler).await
    } else {
        Origin::start(handler).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_pair_of_protocols() {
    let lab = Lab::open().await;
    let (h1, h2) = (echo(false).await, echo(true).await);
    let sites = site("one.test", &h1.url(), "") + &site("two.test", &h2.url(), "");
    let proxy = Proxy::start(&lab, &sites).await;

    for (host, origin, upstream) in [
        ("one.test", &h1, Version::HTTP_11),
        ("two.test", &h2, Version::HTTP_2),
    ] {
        let target = proxy.https(host);
        for (client, version) in [
            (Client::h1(&target), Version::HTTP_11),
            (Client::h2(&target), Version::HTTP_2),
        ] {
            client.get("/empty").await.expect(200);
            let answer = client
                .ask(Method::POST, "/x?y=z", &[], whole("a body"))
                .await
                .expect(200);
            assert_eq!(
                (answer.text().as_str(), answer.version),
                ("a body", version)
            );
            let seen = origin.last();
            assert_eq!((seen.version, seen.path.as_str()), (upstream, "/x?y=z"));
        }
        // Connections to an upstream are kept.
        assert!(
            origin.connections() <= 2,
            "{} connections for 4 requests",
            origin.connections()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_stream_both_ways_at_once() {
    let lab = Lab::open().await;
    let (h1, h2) = (echo(false).await, echo(true).await);
    let sites = site("one.test", &h1.url(), "") + &site("two.test", &h2.url(), "");
    let proxy = Proxy::start(&lab, &sites).await;

    for host in ["one.test", "two.test"] {
        let client = Client::h2(&proxy.https(host));
        let (pieces, body) = mpsc::channel::<Bytes>(1);
        let frames = futures_util::stream::unfold(body, |mut body| async move {
            Some((Ok(Frame::data(body.recv().await?)), body))
        });
        let request = client.request(
            Method::POST,
            "/",
            &[],
            StreamBody::new(frames).boxed_unsync(),
        );
        pieces
            .send("piece 0".into())
            .await
            .expect("the client sends");
        let mut answer = client.send(request).await.into_body();
        // Each piece comes back before the next one is sent: nothing is collected on the way.
        for number in 0..5 {
            let wanted = format!("piece {number}");
            let mut got = String::new();
            while got.len() < wanted.len() {
                let frame = within(&wanted, PATIENCE, answer.frame()).await;
                let frame = frame.expect("a frame").expect("a whole body");
                got += &String::from_utf8_lossy(frame.data_ref().expect("data"));
            }
            assert_eq!(got, wanted, "{host}");
            pieces
                .send(format!("piece {}", number + 1).into())
                .await
                .expect("the client sends");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_are_never_held_whole() {
    let lab = Lab::alone().await;
    let origin = echo(false).await;
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), "")).await;
    let clients = [
        Client::h1(&proxy.https("app.test")),
        Client::h2(&proxy.https("app.test")),
    ];
    clients[0].get("/").await.expect(200);
    let before = proxy.memory().await;

    for client in &clients {
        // 96 MiB there and back.
        let frames = futures_util::stream::unfold(0u32, |number| async move {
            (number < 1536).then(|| {
                (
                    Ok(Frame::data(Bytes::from(vec![7u8; 64 << 10]))),
                    number + 1,
                )
            })
        });
        let request = client.request(
            Method::PUT,
            "/",
            &[],
            StreamBody::new(frames).boxed_unsync(),
        );
        let mut answer = client.send(request).await.into_body();
        let mut length = 0;
        while let Some(frame) = within("more of the body", PATIENCE, answer.frame()).await {
            length += frame
                .expect("a whole body")
                .data_ref()
                .map_or(0, Bytes::len);
        }
        assert_eq!(length, 96 << 20);
    }
    let grown = proxy.memory().await.saturating_sub(before);
    assert!(grown < 40 << 20, "grew by {} MiB", grown >> 20);
}

/// A part larger than the client's window stopped the whole connection: the task that waited for the
/// window to open was the one that had to read that it did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_part_of_a_stored_body_over_h2() {
    const LENGTH: usize = 8 << 20;
    let lab = Lab::open().await;
    let origin = Origin::start(|_| async {
        let fields = [("cache-control", "max-age=60"), ("etag", "\"same\"")];
        reply(200, fields, whole(vec![7; LENGTH]))
    })
    .await;
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), "")).await;
    let client = Client::h2(&proxy.https("app.test"));
    client.get("/large").await.expect(200);

    for (range, length) in [
        ("bytes=1-", LENGTH - 1),
        ("bytes=0-3999999, 5000000-8000000", 7_000_001),
    ] {
        let fields = [("range", range)];
        let part = client.get_with("/large", &fields);
        let part = within("the part", PATIENCE, part).await.expect(206);
        assert!(part.header("cache-status").contains("; hit"));
        assert!(part.body.len() >= length, "{range}: {}", part.body.len());
    }
    assert_eq!(origin.hits(), 1);
}

/// A connection with nothing but a stored body on its way counted as idle: it was closed after two
/// idle times, however steadily the client read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_gets_the_whole_of_a_stored_body_over_h2() {
    const LENGTH: usize = 2 << 20;
    let lab = Lab::open().await;
    let origin = Origin::start(|_| async {
        reply(
            200,
            [("cache-control", "max-age=60")],
            whole(vec![7; LENGTH]),
        )
    })
    .await;
    let top = "[limits]\nidle_timeout = \"1s\"";
    let proxy = Proxy::start_with(&lab, top, &site("app.test", &origin.url(), "")).await;
    let target = proxy.https("app.test");
    Client::h2(&target).get("/large").await.expect(200);

    let wire = target.connect("h2").await.expect("a connection");
    let (sender, connection) = h2::client::handshake(wire).await.expect("a handshake");
    let driver = tokio::spawn(connection);
    let mut sender = sender.ready().await.expect("a stream");
    let request = http::Request::get("https://app.test/large")
        .body(())
        .expect("a request");
    let (response, _) = sender.send_request(request, true).expect("it is sent");
    let response = response.await.expect("an answer");
    let status = response.headers()["cache-status"].to_str().expect("text");
    assert!(status.contains("; hit"), "{status}");
    let mut body = response.into_body();
    let mut length = 0;
    while let Some(piece) = body.data().await {
        let piece = piece.expect("the body goes on");
        length += piece.len();
        // The client's pace, and not a wait: two megabytes take it four seconds and more.
        tokio::time::sleep(Duration::from_millis(35)).await;
        body.flow_control()
            .release_capacity(piece.len())
            .expect("the window opens");
    }
    assert_eq!(length, LENGTH);
    drop(sender);
    driver.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_arrive_as_grpc_needs_them() {
    let lab = Lab::open().await;
    let origin = Origin::h2c(|request| async move {
        // gRPC servers tell by this field that no proxy on the way drops trailers.
        let announced = request
            .headers()
            .get("te")
            .is_some_and(|te| te == "trailers");
        let body = request.into_body().collect().await.expect("the body comes");
        let message = body.to_bytes();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().expect("a value"));
        trailers.insert(
            "x-announced",
            announced.to_string().parse().expect("a value"),
        );
        let frames = [Ok(Frame::data(message)), Ok(Frame::trailers(trailers))];
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
        reply(200, [("content-type", "application/grpc")], body)
    })
    .await;
    let proxy = Proxy::start(&lab, &site("grpc.test", &origin.url(), "")).await;

    let client = Client::h2(&proxy.https("grpc.test"));
    let fields = [("content-type", "application/grpc"), ("te", "trailers")];
    let message = b"\0\0\0\0\x05hello";
    let answer = client
        .ask(Method::POST, "/echo.Echo/Say", &fields, whole(&message[..]))
        .await
        .expect(200);
    assert_eq!(answer.body, message[..]);
    let trailers = answer.trailers.as_ref().expect("trailers");
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(
        trailers["x-announced"], "true",
        "TE: trailers did not arrive"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_through_tls() {
    let lab = Lab::open().await;
    let origin = echo_origin().await;
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), "")).await;

    let mut sockets = Vec::new();
    for _ in 0..3 {
        sockets.push(WebSocket::open(&proxy.https("app.test"), "/").await);
    }
    let long = "long ".repeat(40_000);
    for socket in &mut sockets {
        socket.echo("hello").await;
        socket.echo(&long).await;
    }
    // An origin that wants no WebSocket is heard.
    let answer = Client::h1(&proxy.https("app.test")).get("/").await;
    assert_eq!(answer.status, 426);
}

/// One in fifty was closed as soon as it was open: where the upstream's 101 came before the end of
/// the request's empty body was passed on, that end was taken for the end of the WebSocket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_websockets_and_none_is_lost() {
    let lab = Lab::open().await;
    let origin = echo_origin().await;
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), "")).await;
    let target = proxy.https("app.test");
    for number in 0..300 {
        let mut socket = WebSocket::open(&target, "/").await;
        socket.echo(&format!("number {number}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expect_100_continue() {
    let lab = Lab::open().await;
    let origin = Origin::start(|request| async move {
        let body = request.into_body().collect().await.expect("the body comes");
        reply(200, [], whole(body.to_bytes()))
    })
    .await;
    let more = "[[site.route]]\npath = \"/refused\"\nanswer = { status = 403, body = \"no\" }";
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), more)).await;

    let mut wire = open(&proxy.https("app.test")).await;
    wire.write_all(
        b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    )
    .await
    .expect("it listens");
    receive_until(&mut wire, "HTTP/1.1 100 Continue\r\n\r\n").await;
    wire.write_all(b"hello").await.expect("it listens");
    let answer = receive_until(&mut wire, "hello").await;
    assert!(answer.contains("HTTP/1.1 200"), "{answer}");

    // Whoever is refused is not asked for the body.
    let mut wire = open(&proxy.https("app.test")).await;
    wire.write_all(
        b"POST /refused HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    )
    .await
    .expect("it listens");
    let got = receive(&mut wire, Duration::from_millis(300), PATIENCE).await;
    assert_eq!(got.statuses(), [403], "{}", got.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_hints_are_passed_on() {
    let lab = Lab::open().await;
    let (go, wait) = tokio::sync::watch::channel(false);
    let origin = Origin::raw(move |mut stream, _| {
        let mut wait = wait.clone();
        async move {
            read_head(&mut stream).await;
            let hints = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n";
            let _ = stream.write_all(hints.as_bytes()).await;
            // The page itself waits until the hints have been seen.
            let _ = wait.wait_for(|seen| *seen).await;
            let page =
                "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nCache-Control: no-store\r\n\r\npage";
            let _ = stream.write_all(page.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    })
    .await;
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), "")).await;

    let mut wire = open(&proxy.https("app.test")).await;
    wire.write_all(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
        .await
        .expect("it listens");
    let hints = receive_until(&mut wire, "\r\n\r\n").await;
    assert!(hints.starts_with("HTTP/1.1 103"), "{hints}");
    assert!(
        hints
            .to_ascii_lowercase()
            .contains("link: </style.css>; rel=preload"),
        "{hints}"
    );
    go.send_replace(true);
    let page = receive_until(&mut wire, "page").await;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");

    // In HTTP/2 as well. (The client library of the other tests drops them; h2 itself does not.)
    let wire = proxy
        .https("app.test")
        .connect("h2")
        .await
        .expect("a connection");
    let (mut sender, connection) = h2::client::handshake(wire).await.expect("a handshake");
    tokio::spawn(connection);
    let request = http::Request::get("https://app.test/")
        .body(())
        .expect("a request");
    let (mut answer, _) = sender.send_request(request, true).expect("it is sent");
    let next = std::future::poll_fn(|context| answer.poll_informational(context));
    let hints = within("the hints", PATIENCE, next)
        .await
        .expect("hints came")
        .expect("hints");
    assert_eq!(hints.status(), 103);
    assert_eq!(hints.headers()["link"], "</style.css>; rel=preload");
    assert_eq!(
        within("the page", PATIENCE, answer)
            .await
            .expect("a page")
            .status(),
        200
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_without_a_length() {
    let lab = Lab::open().await;
    // HTTP/1.0, and 1.1 that ends with the connection.
    let old =
        Origin::saying("HTTP/1.0 200 OK\r\nCache-Control: no-store\r\n\r\nuntil the end").await;
    let new =
        Origin::saying("HTTP/1.1 200 OK\r\nCache-Control: no-store\r\n\r\nuntil the end").await;
    let none = Origin::saying("HTTP/1.1 204 No Content\r\n\r\n").await;
    let sites = site("old.test", &old.url(), "")
        + &site("new.test", &new.url(), "")
        + &site("none.test", &none.url(), "");
    let proxy = Proxy::start(&lab, &sites).await;

    for host in ["old.test", "new.test"] {
        for client in [
            Client::h1(&proxy.https(host)),
            Client::h2(&proxy.https(host)),
        ] {
            assert_eq!(client.get("/").await.expect(200).text(), "until the end");
        }
    }
    // A client of HTTP/1.0 gets no chunks.
    let mut wire = open(&proxy.https("new.test")).await;
    wire.write_all(b"GET / HTTP/1.0\r\nHost: new.test\r\n\r\n")
        .await
        .expect("it listens");
    let got = receive(&mut wire, PATIENCE, PATIENCE).await;
    assert!(
        got.closed && got.text().ends_with("\r\n\r\nuntil the end"),
        "{}",
        got.text()
    );
    let answer = Client::h1(&proxy.https("none.test"))
        .get("/")
        .await
        .expect(204);
    assert!(answer.body.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_streams_on_one_connection() {
    let lab = Lab::open().await;
    let origin = Origin::start(|request| async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        reply(
            200,
            [("cache-control", "no-store")],
            whole(request.uri().path().to_owned()),
        )
    })
    .await;
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), "")).await;
    let client = std::sync::Arc::new(Client::h2(&proxy.https("app.test")));
    client.get("/first").await.expect(200);

    let mut streams = tokio::task::JoinSet::new();
    for number in 0..100 {
        let client = client.clone();
        streams.spawn(async move {
            let path = format!("/{number}");
            assert_eq!(client.get(&path).await.expect(200).text(), path);
        });
    }
    while let Some(done) = streams.join_next().await {
        done.expect("every stream is answered");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_post_quantum_key_exchange_comes_first() {
    let lab = Lab::open().await;
    let origin = echo(false).await;
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), "")).await;
    let target = proxy.https("app.test");
    let roots = target.roots.clone().expect("a TLS target");

    // A browser's order: the hybrid first, with a key share of its own.
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider
        .kx_groups
        .sort_by_key(|group| group.name() != rustls::NamedGroup::X25519MLKEM768);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let provider = std::sync::Arc::new(provider.clone());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("the provider has this version")
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let tcp = tokio::net::TcpStream::connect(target.address)
            .await
            .expect("it listens");
        let name = "app.test".try_into().expect("a name");
        let tls = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config))
            .connect(name, tcp)
            .await
            .expect("a handshake");
        let session = tls.get_ref().1;
        assert_eq!(session.protocol_version(), Some(version.version));
        if *version == rustls::version::TLS13 {
            let group = session.negotiated_key_exchange_group().expect("a group");
            assert_eq!(group.name(), rustls::NamedGroup::X25519MLKEM768);
        }
    }
}
