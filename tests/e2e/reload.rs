//! The configuration and the program are replaced under load, and nobody notices.

use std::time::{Duration, Instant};

use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use sovereign_tests::client::{Body, empty, whole};
use sovereign_tests::load::{Get, Load, Running};
use sovereign_tests::origin::reply;
use sovereign_tests::proxy::{said, site};
use sovereign_tests::raw::open;
use sovereign_tests::websocket::{Said, WebSocket, echo_origin};
use sovereign_tests::{Client, Lab, Origin, Proxy, eventually};
use tokio::io::AsyncWriteExt as _;

const RATE: u32 = 300;
const TIMES: usize = 200;
/// The drain is long enough for every request here, and short enough to be seen to end.
const TOP: &str = "drain = \"20s\"";

/// Answers everything; one of two pages may be kept.
async fn origin() -> Origin {
    Origin::start(|request| async move {
        let lasting = request.uri().path().starts_with("/kept");
        let cache = if lasting { "max-age=60" } else { "no-store" };
        reply(
            200,
            [("cache-control", cache)],
            whole(request.uri().path().to_owned()),
        )
    })
    .await
}

fn load(proxy: &Proxy) -> Load {
    Load::new(&proxy.https("app.test"), RATE, |number| {
        Get::path(if number % 2 == 0 {
            format!("/kept/{}", number % 50)
        } else {
            format!("/made/{number}")
        })
    })
    .checked(|get, answer| {
        if answer.status != 200 {
            Err(format!("answered {}", answer.status))
        } else if answer.text() != get.path {
            Err(format!("answered {:?}", answer.text()))
        } else {
            Ok(())
        }
    })
}

/// Waits until a few more requests are done, so that every change meets some.
async fn some_more(load: &Running) {
    let wanted = load.done() + 5;
    eventually("the load goes on", Duration::from_secs(30), || {
        let done = load.done();
        std::future::ready((done >= wanted).then_some(()).ok_or(done))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_reloads_under_load() {
    let lab = Lab::alone().await;
    let origin = origin().await;
    let proxy = Proxy::start_with(&lab, TOP, &site("app.test", &origin.url(), "")).await;

    let load = load(&proxy).start();
    for number in 0..TIMES {
        // Every second reload changes something.
        let more = format!(
            "[site.response_headers]\nset = {{ X-Turn = \"{}\" }}",
            number / 2
        );
        proxy.write_sites(&site("app.test", &origin.url(), &more));
        proxy.reload().await;
        some_more(&load).await;
    }
    let report = load.stop().await;
    println!("{TIMES} reloads: {}", report.summary());
    report.assert_none_failed();
    let answer = Client::h1(&proxy.https("app.test")).get("/made/last").await;
    assert_eq!(answer.header("x-turn"), ((TIMES - 1) / 2).to_string());
    proxy.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_upgrades_under_load() {
    let lab = Lab::alone().await;
    let origin = origin().await;
    let proxy = Proxy::start_with(&lab, TOP, &site("app.test", &origin.url(), "")).await;

    let first = proxy.pid().await;
    let load = load(&proxy).start();
    for _ in 0..TIMES {
        proxy.upgrade().await;
        some_more(&load).await;
    }
    let report = load.stop().await;
    println!("{TIMES} upgrades: {}", report.summary());
    report.assert_none_failed();
    assert_ne!(
        proxy.pid().await,
        first,
        "the same process serves: nothing was upgraded"
    );
    proxy.assert_no_panic();
}

/// A body of 24 pieces of 256 KiB, one every 200 ms.
fn long_body() -> Body {
    let pieces = futures_util::stream::unfold(0u8, |number| async move {
        if number == 24 {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let piece = bytes::Bytes::from(vec![number; 256 << 10]);
        Some((Ok(Frame::data(piece)), number + 1))
    });
    http_body_util::StreamBody::new(pieces).boxed_unsync()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_download_stays_whole() {
    let lab = Lab::open().await;
    let origin =
        Origin::start(|_| async { reply(200, [("cache-control", "no-store")], long_body()) }).await;
    let proxy = Proxy::start_with(&lab, TOP, &site("app.test", &origin.url(), "")).await;

    let clients = [
        Client::h1(&proxy.https("app.test")),
        Client::h2(&proxy.https("app.test")),
    ];
    let downloads = clients.map(|client| {
        tokio::spawn(async move { client.ask(Method::GET, "/long", &[], empty()).await })
    });
    eventually("both downloads run", Duration::from_secs(10), || {
        std::future::ready((origin.hits() == 2).then_some(()).ok_or("not yet"))
    })
    .await;
    for _ in 0..3 {
        proxy.reload().await;
        proxy.upgrade().await;
    }
    for download in downloads {
        let answer = download.await.expect("the download ends").expect(200);
        assert_eq!(answer.body.len(), 24 * (256 << 10));
        let whole = answer.body.chunks(256 << 10).enumerate();
        assert!(
            whole
                .into_iter()
                .all(|(number, piece)| piece.iter().all(|byte| *byte == number as u8))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_survives_a_reload() {
    let lab = Lab::open().await;
    let origin = echo_origin().await;
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), "")).await;

    let mut socket = WebSocket::open(&proxy.https("app.test"), "/").await;
    socket.echo("before").await;
    let more = "[site.response_headers]\nset = { X-New = \"1\" }";
    proxy.write_sites(&site("app.test", &origin.url(), more));
    proxy.reload().await;
    socket.echo("after a reload").await;
    // Where its site is gone, nobody new comes in, and who is in stays.
    proxy.write_sites(&site("other.test", &origin.url(), ""));
    proxy.reload().await;
    socket.echo("after its site is gone").await;
    assert_eq!(origin.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_is_told_when_the_proxy_ends() {
    let lab = Lab::open().await;
    let origin = echo_origin().await;
    let proxy =
        Proxy::start_with(&lab, "drain = \"3s\"", &site("app.test", &origin.url(), "")).await;

    let mut socket = WebSocket::open(&proxy.https("app.test"), "/").await;
    socket.echo("hello").await;
    let ending = tokio::spawn(proxy.terminate(Duration::from_secs(20)));
    // 1001: going away.
    assert_eq!(socket.hear().await, Said::Close(Some(1001)));
    assert_eq!(ending.await.expect("it ends"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_finishes_what_is_under_way() {
    let lab = Lab::open().await;
    let origin = Origin::start(|_| async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        reply(
            200,
            [("cache-control", "no-store")],
            whole("slow, and whole"),
        )
    })
    .await;
    let proxy = Proxy::start_with(&lab, TOP, &site("app.test", &origin.url(), "")).await;
    let target = proxy.https("app.test");

    let clients = [Client::h1(&target), Client::h2(&target)];
    let requests = clients.map(|client| tokio::spawn(async move { client.get("/slow").await }));
    eventually(
        "both requests are under way",
        Duration::from_secs(10),
        || std::future::ready((origin.hits() == 2).then_some(()).ok_or("not yet")),
    )
    .await;
    let started = Instant::now();
    let ending = tokio::spawn(proxy.terminate(Duration::from_secs(30)));
    for request in requests {
        let answer = request.await.expect("it is answered").expect(200);
        assert_eq!(answer.text(), "slow, and whole");
    }
    assert_eq!(ending.await.expect("it ends"), 0);
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "it waited for nothing until the deadline"
    );
    assert!(
        target.connect("h2").await.is_err(),
        "somebody still accepts"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_has_a_deadline() {
    let lab = Lab::open().await;
    let origin = Origin::start(|_| async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        reply(200, [], whole("too late"))
    })
    .await;
    let mut proxy =
        Proxy::start_with(&lab, "drain = \"2s\"", &site("app.test", &origin.url(), "")).await;
    let mut wire = open(&proxy.https("app.test")).await;
    wire.write_all(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
        .await
        .expect("it listens");
    eventually("the request is under way", Duration::from_secs(10), || {
        std::future::ready((origin.hits() == 1).then_some(()).ok_or("not yet"))
    })
    .await;
    let started = Instant::now();
    proxy.drain().await;
    proxy.ended(Duration::from_secs(20)).await;
    assert!(
        started.elapsed() >= Duration::from_millis(1900),
        "{:?}",
        started.elapsed()
    );
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_reloads_and_a_bad_file_changes_nothing() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), "")).await;
    let client = Client::h2(&proxy.https("app.test"));
    client.get("/made").await.expect(200);

    proxy.write_sites(&site("app.test", &origin.url(), "upstraem = 1"));
    let refused = proxy.command(&["reload"]).await;
    assert!(!refused.status.success());
    assert!(said(&refused).contains("upstraem"), "{}", said(&refused));
    client.get("/made").await.expect(200);

    let more = "[site.response_headers]\nset = { X-New = \"1\" }";
    proxy.write_sites(&site("app.test", &origin.url(), more));
    proxy.signal(rustix::process::Signal::HUP).await;
    eventually("SIGHUP reloads", Duration::from_secs(10), || async {
        let answer = client.get("/made").await;
        (answer.header("x-new") == "1").then_some(()).ok_or(answer)
    })
    .await;
}

/// As a deployment does it: the program and the configuration lie under other paths than before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_to_another_program_that_reads_another_configuration() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let proxy = Proxy::start_with(&lab, TOP, &site("app.test", &origin.url(), "")).await;
    let folder = lab.folder("deployed");
    let (program, config) = (folder.join("sovereign-proxy-2"), folder.join("proxy.toml"));
    std::fs::copy(sovereign_tests::proxy::program(), &program).expect("the folder is ours");
    proxy.write_sites(&site("other.test", &origin.url(), ""));
    std::fs::rename(proxy.config(), &config).expect("the folder is ours");

    let admin = proxy.state().join("admin.sock");
    let path = |path: &std::path::Path| path.to_str().expect("it is text").to_owned();
    let (program, config, admin) = (path(&program), path(&config), path(&admin));
    let line = [
        "upgrade",
        "--admin",
        &admin,
        "--program",
        &program,
        "--new-config",
        &config,
    ];
    let upgraded = sovereign_tests::proxy::cli(&line).await;
    assert!(upgraded.status.success(), "{}", said(&upgraded));
    let status = eventually("the digest is known", Duration::from_secs(30), || async {
        let status = proxy.admin("/status").await;
        if status["digest"].is_string() {
            Ok(status)
        } else {
            Err(status)
        }
    })
    .await;
    assert_eq!(
        (&status["program"], &status["config"]),
        (&program.clone().into(), &config.into())
    );
    let sum = std::process::Command::new("sha256sum")
        .arg(&program)
        .output();
    let sum = String::from_utf8_lossy(&sum.expect("coreutils are there").stdout).into_owned();
    assert_eq!(status["digest"].as_str(), sum.split_whitespace().next());
    let target = proxy.https("other.test");
    Client::h2(&target).get("/made").await.expect(200);

    // The next one goes on from there.
    let again = sovereign_tests::proxy::cli(&["upgrade", "--admin", &admin]).await;
    assert!(again.status.success(), "{}", said(&again));
    assert_eq!(proxy.admin("/status").await["program"], program);
    proxy.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_to_a_program_that_fails_changes_nothing() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), "")).await;
    let pid = proxy.pid().await;

    for bad in ["/bin/false", "/no/such/program"] {
        let refused = proxy.command(&["upgrade", "--program", bad]).await;
        assert_eq!(refused.status.code(), Some(1), "{bad}: {}", said(&refused));
    }
    // A new program that does not like the configuration leaves the old one in place as well.
    proxy.write_sites("[[site]]\nnames = []\n");
    let config = proxy.config().to_owned();
    let socket = proxy.state().join("admin.sock");
    let socket = socket.to_str().expect("the path is text");
    let refused = sovereign_tests::proxy::cli(&["upgrade", "--admin", socket]).await;
    assert_eq!(
        refused.status.code(),
        Some(1),
        "{}: {}",
        config.display(),
        said(&refused)
    );

    proxy.write_sites(&site("app.test", &origin.url(), ""));
    assert_eq!(proxy.pid().await, pid);
    Client::h2(&proxy.https("app.test"))
        .get("/made")
        .await
        .expect(200);
}
