//! While a response is on its way: what comes before it, and who waits for it (items 25 and 26).

use std::sync::Arc;

use sovereign_tests::proxy::site;
use sovereign_tests::raw::{open, receive_until};
use sovereign_tests::script::{Gate, Say, Script};
use sovereign_tests::wait::within;
use sovereign_tests::{Answer, Client, Lab, Proxy, eventually};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use super::{HOST, HOUR, PATIENCE, Stage, Told, number};

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
    stage.all_wait(&path, CROWD as u64).await;
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
        stage.is_asked(&path).await;
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
