//! Too many at once: readers of one slow page, variants of one address, and an address too long to be
//! one.

use std::collections::BTreeSet;

use sovereign_tests::process::raise_open_files;
use sovereign_tests::raw::raw;
use sovereign_tests::truth::{self, Asker, VARIANT, check, check_variant, is_hit};
use sovereign_tests::{Answer, Lab, Proxy, Target, Truth, eventually};
use tokio::task::JoinSet;

use super::{HOST, PATIENCE, assert_calm};

const CROWD: usize = 1_000;
/// So many of them must be seen at the origin at one moment where each has to ask for himself.
const TOGETHER: usize = 200;

/// Everybody asks for the same at once.
fn ask_all(target: &Target, path: &str, count: usize) -> JoinSet<Answer> {
    let mut visitors = JoinSet::new();
    for _ in 0..count {
        let (target, path) = (target.clone(), path.to_owned());
        visitors.spawn(async move {
            let answer = Asker::new(&target).get(&path).await;
            answer.unwrap_or_else(|error| panic!("{path}: {error}"))
        });
    }
    visitors
}

/// Waits until all of them are connected and the first has come through.
async fn all_are_there(proxy: &Proxy, truth: &Truth, path: &str, count: usize) {
    eventually("all are there", PATIENCE, || async {
        let status = proxy.admin("/status").await;
        let connected = status["connections"].as_u64() >= Some(count as u64);
        let asked = truth.hits_of(path) > 0;
        (connected && asked)
            .then_some(())
            .ok_or_else(|| format!("{} connections", status["connections"]))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_who_miss_at_once_ask_once() {
    let lab = Lab::alone().await;
    raise_open_files();
    let truth = Truth::start().await;
    let proxy = Proxy::start(&lab, &truth.site(HOST, "")).await;
    let target = proxy.http(HOST);
    let path = truth::path(100_000, "slow?held");

    // The one who came first does not stay: the others get it all the same.
    let mut first = ask_all(&target, &path, 1);
    all_are_there(&proxy, &truth, &path, 1).await;
    let visitors = ask_all(&target, &path, CROWD);
    all_are_there(&proxy, &truth, &path, CROWD).await;
    first.abort_all();
    while first.join_next().await.is_some() {}
    truth.open_gate();

    for answer in visitors.join_all().await {
        check(&path, &answer).unwrap_or_else(|wrong| panic!("{wrong}\n{answer}"));
    }
    assert_eq!(truth.hits_of(&path), 1);
    assert_calm(&proxy);
}

/// It turns out to be for one of them only. Nobody gets his copy, and the others do not wait for one
/// another: the origin does not answer the rest before it has seen many of them at one moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_who_miss_what_is_private() {
    let lab = Lab::alone().await;
    raise_open_files();
    let truth = Truth::start().await;
    let proxy = Proxy::start(&lab, &truth.site(HOST, "")).await;
    let target = proxy.http(HOST);
    let path = truth::path(20_000, &format!("mine?private&crowd={TOGETHER}"));

    for round in 0..2 {
        let before = truth.hits_of(&path);
        let visitors = ask_all(&target, &path, CROWD);
        if round == 0 {
            all_are_there(&proxy, &truth, &path, CROWD).await;
        }
        truth.open_gate();
        let mut copies = BTreeSet::new();
        for answer in visitors.join_all().await {
            let visitor = answer.header(VARIANT).to_owned();
            check_variant(&path, &visitor, &answer)
                .unwrap_or_else(|wrong| panic!("{wrong}\n{answer}"));
            assert!(!is_hit(&answer), "{answer}");
            assert!(copies.insert(visitor), "two got the same copy: {answer}");
        }
        assert_eq!(truth.hits_of(&path) - before, CROWD);
        // Again, now that it is known to be private.
        truth.disperse();
    }
    assert_calm(&proxy);
}

/// One visitor's page, then everybody's: the private one is not kept in its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_variants_of_one_address() {
    const VARIANTS: usize = 10_000;
    const SIZE: usize = 8 << 10;
    let lab = Lab::alone().await;
    let truth = Truth::start().await;
    let proxy = Proxy::start(&lab, &truth.site(HOST, "")).await;
    let target = proxy.http(HOST);
    let neighbour = truth::path(SIZE, "neighbour");
    Asker::new(&target)
        .get(&neighbour)
        .await
        .expect("an answer");

    let path = truth::path(SIZE, "many?vary=x-shade");
    let mut visitors = JoinSet::new();
    for lane in 0..8 {
        let (target, path) = (target.clone(), path.clone());
        visitors.spawn(async move {
            let mut asker = Asker::new(&target);
            for number in (lane..VARIANTS).step_by(8) {
                let shade = format!("shade-{number}");
                let fields = [("x-shade", shade.as_str())];
                let answer = asker.get_with(&path, &fields).await.expect("an answer");
                check_variant(&path, &shade, &answer)
                    .unwrap_or_else(|wrong| panic!("{wrong}\n{answer}"));
            }
        });
    }
    visitors.join_all().await;

    let cache = proxy.status().await["cache"].clone();
    let held = cache["memory_bytes"].as_u64().expect("a number");
    assert!(held < 100 * SIZE as u64, "{cache}");
    if let Some(objects) = cache["disk"]["objects"].as_u64() {
        assert!(objects < 100, "{cache}");
    }
    // There is a place for one more, and what lies beside them is still there.
    let mut asker = Asker::new(&target);
    let latest = "shade-latest";
    let fields = [("x-shade", latest)];
    asker.get_with(&path, &fields).await.expect("an answer");
    for (path, shade) in [(&path, latest), (&neighbour, "")] {
        let fields = [("x-shade", shade)];
        let fields = if shade.is_empty() {
            &[][..]
        } else {
            &fields[..]
        };
        let answer = asker.get_with(path, fields).await.expect("an answer");
        assert_eq!(check_variant(path, shade, &answer), Ok(1));
        assert!(is_hit(&answer), "{answer}");
    }
    assert_calm(&proxy);
}

/// Too long to be read at all it is refused, in the protocol's words. Just short enough, it is one
/// like any other, and the next one, which differs in its last byte, is another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_of_a_hundred_kilobytes() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let roomy = format!(
        "[limits]\nheader_bytes = \"1MiB\"\n{}",
        truth.site(HOST, "")
    );
    for sites in [truth.site(HOST, ""), roomy] {
        let mut proxy = Proxy::start(&lab, &sites).await;
        let target = proxy.http(HOST);
        let long = truth::path(1000, &"k".repeat(100 << 10));
        let request = format!("GET {long} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        let answer = raw(&target, request.as_bytes()).await;
        let refused = [Some(400), Some(414), Some(431)].contains(&answer.status());
        assert!(refused, "{:?}: {:.200}", answer.status(), answer.text());

        let most = truth::path(1000, &"k".repeat(60_000));
        let keys = [most.clone() + "a", most.clone() + "b", most];
        for key in &keys {
            let answer = Asker::new(&target).get(key).await.expect("an answer");
            assert_eq!(check(key, &answer), Ok(1));
        }
        super::settle(&proxy).await;
        proxy.kill().await;
        proxy.start_again(&lab).await;
        for _ in 0..2 {
            let all = truth::read_all(&target, &keys).await;
            all.assert_all_hits();
        }
        assert_calm(&proxy);
    }
}

/// The same for the value that a page varies by.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_variant_of_a_hundred_kilobytes() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let sites = format!(
        "[limits]\nheader_bytes = \"1MiB\"\n{}",
        truth.site(HOST, "")
    );
    let proxy = Proxy::start(&lab, &sites).await;
    let mut asker = Asker::new(&proxy.http(HOST));
    let path = truth::path(1000, "long?vary=x-shade");
    // The origin says what it varies by in a field of its own, so both have to take it.
    for _ in 0..2 {
        for last in ["a", "b", "c"] {
            let shade = "s".repeat(100 << 10) + last;
            let fields = [("x-shade", shade.as_str())];
            let answer = asker.get_with(&path, &fields).await.expect("an answer");
            check_variant(&path, &shade, &answer).unwrap_or_else(|wrong| panic!("{wrong:.200}"));
        }
    }
    assert_calm(&proxy);
}
