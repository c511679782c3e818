//! What was purged is gone: by address, by folder, by tag, by site; from memory, from disk, from what
//! is on its way; at once, under load, and for good.

use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::Method;
use serde_json::Value;
use sovereign_tests::client::empty;
use sovereign_tests::proxy::said;
use sovereign_tests::truth::{
    Asker, Dice, check, check_variant, is_hit, path, read_all, store_all,
};
use sovereign_tests::{Answer, Client, Lab, Proxy, Target, Truth, eventually};
use tokio::task::JoinSet;

use crate::bad_days::{HOST, PATIENCE, assert_calm, settle, sites};

/// Little memory: some of it lies there, and most on disk only.
const BOUNDS: &str = "memory = \"16MiB\"\ndisk = \"1GiB\"";
/// Another site with the same paths.
const OTHER: &str = "other.test";

async fn front(lab: &Lab, truth: &Truth) -> (Proxy, Target) {
    let sites = sites(truth, BOUNDS) + &truth.site(OTHER, "");
    let proxy = Proxy::start(lab, &sites).await;
    let target = proxy.http(HOST);
    (proxy, target)
}

fn url(path: &str) -> String {
    format!("http://{HOST}{path}")
}

/// `sovereign-proxy purge`, which has to succeed; gives how many responses it concerned.
async fn purge(proxy: &Proxy, arguments: &[&str]) -> u64 {
    let output = proxy
        .command(&[&["purge", "--json"], arguments].concat())
        .await;
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    let told: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("not JSON ({error}): {}", said(&output)));
    told["purged"]
        .as_u64()
        .unwrap_or_else(|| panic!("no number: {told}"))
}

async fn ask(target: &Target, path: &str) -> (u64, Answer) {
    let answer = Asker::new(target).get(path).await;
    let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
    let version = check(path, &answer).unwrap_or_else(|wrong| panic!("{wrong}\n{answer}"));
    (version, answer)
}

/// What a client that has connected takes to send its request, many times over.
const A_MOMENT: Duration = Duration::from_millis(250);
/// What there is: path and query, of the first site; the same lies at the other one.
const PAGES: [&str; 10] = [
    "/truth/900/a/one?xkey:red+all",
    "/truth/900/a/two?cache-tag:red+blue",
    "/truth/900/a/b/three?surrogate-key:blue",
    "/truth/900/a/",
    "/truth/900/a/?page=2",
    "/truth/900/a",
    "/truth/900/ab/one?cache-groups:red",
    "/truth/900/A/one?cache-tag:Red",
    "/truth/900/c?xkey:red-ish",
    "/truth/900/c?xkey:redred&surrogate-key:blue+all",
];

/// A purge, and the pages that it concerns, by their place in the list.
#[rustfmt::skip]
const PURGES: [(&[&str], &[usize]); 16] = [
    (&["http://app.test/truth/900/a"], &[5]),
    (&["http://APP.test:80/truth/900/a"], &[5]),
    (&["http://app.test/truth/900/a/"], &[3]),
    (&["http://app.test/truth/900/a/?page=2"], &[4]),
    (&["http://app.test/truth/900/a", "http://app.test/truth/900/nothing", "http://app.test/truth/900/a/"], &[3, 5]),
    (&["http://app.test/truth/900/none"], &[]),
    (&["--prefix", "http://app.test/truth/900/a/"], &[0, 1, 2, 3, 4]),
    (&["--prefix", "http://app.test/truth/900/a/b/"], &[2]),
    (&["--prefix", "http://app.test/"], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    (&["--prefix", "http://app.test/truth/900/none/"], &[]),
    (&["--tag", "red", "--site", HOST], &[0, 1, 6]),
    (&["--tag", "blue", "--site", HOST], &[1, 2, 9]),
    (&["--tag", "all", "--site", HOST], &[0, 9]),
    (&["--tag", "Red", "--site", HOST], &[7]),
    (&["--tag", "none", "--site", HOST], &[]),
    (&["--site", HOST], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
];

/// Each purge concerns what it names and nothing else, in memory, and on disk after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_purge_concerns_what_it_names() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let (mut proxy, target) = front(&lab, &truth).await;
    let other = proxy.http(OTHER);
    let pages = PAGES.map(str::to_owned);

    for from_disk in [false, true] {
        for (arguments, concerned) in PURGES {
            let before = truth.change();
            purge(&proxy, &["--hard", "--site", HOST]).await;
            purge(&proxy, &["--hard", "--site", OTHER]).await;
            for target in [&target, &other] {
                let tally = store_all(target, &pages).await;
                assert_eq!((tally.hits, tally.oldest), (0, Some(before)));
            }
            settle(&proxy).await;
            if from_disk {
                proxy.kill().await;
                proxy.start_again(&lab).await;
            }
            let after = truth.change();
            let hard = [arguments, &["--hard"]].concat();
            let purged = purge(&proxy, &hard).await;
            let wrong_count = (purged != concerned.len() as u64).then_some(purged);
            for (place, page) in pages.iter().enumerate() {
                let (version, answer) = ask(&target, page).await;
                let gone = concerned.contains(&place);
                let wanted = if gone { after } else { before };
                assert_eq!(version, wanted, "{hard:?}: {page}: {answer}");
                assert_eq!(is_hit(&answer), !gone, "{hard:?}: {page}: {answer}");
            }
            read_all(&other, &pages).await.assert_all_hits();
            assert_eq!(
                wrong_count, None,
                "{hard:?} concerned {concerned:?}, from disk: {from_disk}"
            );
        }
    }
    // Without a site, a tag is meant for all of them.
    settle(&proxy).await;
    let purged = purge(&proxy, &["--hard", "--tag", "red"]).await;
    for target in [&target, &other] {
        for (place, page) in pages.iter().enumerate() {
            let (_, answer) = ask(target, page).await;
            let gone = [0, 1, 6].contains(&place);
            assert_eq!(is_hit(&answer), !gone, "{}: {page}: {answer}", target.host);
        }
    }
    assert_eq!(purged, 6);
    assert_calm(&proxy);
}

/// All variants of an address, whatever they vary by.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_variant_is_purged() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let (proxy, target) = front(&lab, &truth).await;
    let mut asker = Asker::new(&target);
    let page = path(5_000, "page?vary=x-shade&xkey:red");
    for (round, arguments) in [
        &["--hard", &url(&page)][..],
        &["--hard", "--tag", "red", "--site", HOST],
        &["--hard", "--prefix", "http://app.test/"],
    ]
    .into_iter()
    .enumerate()
    {
        for purged in [false, true] {
            if purged {
                settle(&proxy).await;
                truth.change();
                assert_eq!(purge(&proxy, arguments).await, 10, "{arguments:?}");
            }
            for shade in 0..10 {
                let shade = shade.to_string();
                let fields = [("x-shade", shade.as_str())];
                let answer = asker.get_with(&page, &fields).await.expect("an answer");
                let version = check_variant(&page, &shade, &answer);
                assert_eq!(version, Ok(truth.version()), "round {round}: {answer}");
            }
        }
    }
}

/// The default: what was purged is shown once more while it is fetched anew, so that nobody waits; where
/// the origin is gone it stands in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_soft_purge_is_a_refresh() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let (mut proxy, target) = front(&lab, &truth).await;
    let pages = PAGES.map(str::to_owned);
    for killed in [false, true] {
        store_all(&target, &pages).await;
        settle(&proxy).await;
        let old = truth.version();
        let new = truth.change();
        assert_eq!(purge(&proxy, &["--site", HOST]).await, 10);
        if killed {
            proxy.kill().await;
            proxy.start_again(&lab).await;
        }
        for page in &pages {
            let (version, answer) = ask(&target, page).await;
            assert!(version == old || !is_hit(&answer), "{answer}");
            let status = answer.header("cache-status");
            let fresh = is_hit(&answer) && status.contains("ttl=8");
            assert!(!fresh, "as fresh as before: {answer}");
            eventually("it is new", PATIENCE, || async {
                let (version, answer) = ask(&target, page).await;
                (version == new).then_some(()).ok_or(answer)
            })
            .await;
            assert!(is_hit(&ask(&target, page).await.1));
        }
    }
    truth.origin().down().await;
    purge(&proxy, &["--site", HOST]).await;
    for page in &pages {
        ask(&target, page).await;
    }
    assert_calm(&proxy);
}

/// What an operator reads, and what he is told where he asked for something else than he meant.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_says_what_it_did() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let (proxy, target) = front(&lab, &truth).await;
    let pages = PAGES.map(str::to_owned);
    read_all(&target, &pages).await;
    let run = async |arguments: &[&str]| -> (Option<i32>, String) {
        let output: Output = proxy.command(&[&["purge"], arguments].concat()).await;
        (output.status.code(), said(&output))
    };

    let (code, text) = run(&[
        "http://app.test/truth/900/a",
        "http://app.test/truth/900/a/",
    ])
    .await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("purged 2 stored responses"), "{text}");
    let (code, text) = run(&["http://app.test/nothing"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("purged nothing"), "{text}");

    for (arguments, wanted) in [
        (&["--prefix", "http://app.test/truth/900/a"][..], "/"),
        (&["/truth/900/a"], "/truth/900/a"),
        (&["app.test/truth/900/a"], "app.test/truth/900/a"),
        (&["ftp://app.test/truth/900/a"], "ftp"),
        (&["https://app.test/truth/900/a"], "https"),
        (&["http://nobody.test/truth/900/a"], "nobody.test"),
        (&["--site", "nobody.test"], "nobody.test"),
        (&["--tag", "red", "--site", "nobody.test"], "nobody.test"),
    ] {
        let (code, text) = run(arguments).await;
        assert_eq!(code, Some(1), "{arguments:?}: {text}");
        assert!(text.contains(wanted), "{arguments:?}: {text}");
        // One that is wrong spoils all: nothing was done.
        let (code, text) =
            run(&[arguments, &["http://app.test/truth/900/c?xkey:red-ish"]].concat()).await;
        assert_ne!(code, Some(0), "{arguments:?}: {text}");
    }
    let (code, text) = run(&[]).await;
    assert_eq!(code, Some(2), "{text}");
    let (_, answer) = ask(&target, "/truth/900/c?xkey:red-ish").await;
    assert!(is_hit(&answer), "{answer}");
}

/// The moment that the command has answered, it holds: `kill -9` does not bring anything back, nor do
/// an upgrade and a restart, however often.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_holds_over_everything() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let (mut proxy, target) = front(&lab, &truth).await;
    let mut dice = Dice::fresh();
    let all: Vec<_> = (0..60)
        .map(|n| {
            path(
                [500, 20_000, 1 << 20][n % 3],
                &format!("page-{n}?xkey:t{}", n % 7),
            )
        })
        .collect();
    let mut stored = vec![0; all.len()];
    for round in 0..12 {
        store_all(&target, &all).await;
        settle(&proxy).await;
        // What is there now, and what a purge took.
        for (page, version) in all.iter().zip(&mut stored) {
            *version = ask(&target, page).await.0;
        }
        let new = truth.change();
        let tag = dice.below(7);
        let hard = ["--hard", "--tag", &format!("t{tag}"), "--site", HOST];
        let concerned = (0..all.len()).filter(|n| n % 7 == tag).count();
        assert_eq!(purge(&proxy, &hard).await, concerned as u64);
        match round % 4 {
            0 | 2 => {
                proxy.kill().await;
                proxy.start_again(&lab).await;
            }
            1 => proxy.upgrade().await,
            _ => {
                proxy.stop().await;
                proxy.start_again(&lab).await;
            }
        }
        if round % 4 == 2 {
            // Nothing that happens in between wears it out.
            proxy.reload().await;
            proxy.upgrade().await;
            proxy.kill().await;
            proxy.start_again(&lab).await;
        }
        for (n, page) in all.iter().enumerate() {
            let (version, answer) = ask(&target, page).await;
            let gone = n % 7 == tag;
            assert_eq!(is_hit(&answer), !gone, "round {round}: {page}: {answer}");
            assert_eq!(version, if gone { new } else { stored[n] }, "{page}");
        }
    }
    assert_calm(&proxy);
}

/// Each host below a wildcard has pages of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_below_a_wildcard_is_purged_by_itself() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let proxy = Proxy::start(&lab, &truth.site("*.wild.test", "")).await;
    let (one, other) = (proxy.http("one.wild.test"), proxy.http("other.wild.test"));
    let pages = [path(900, "a"), path(900, "b/c")];
    for arguments in [
        &[
            "http://one.wild.test/truth/900/a",
            "http://one.wild.test/truth/900/b/c",
        ][..],
        &["--prefix", "http://one.wild.test/"],
    ] {
        for target in [&one, &other] {
            store_all(target, &pages).await;
        }
        let purged = purge(&proxy, &[&["--hard"], arguments].concat()).await;
        assert_eq!(purged, pages.len() as u64, "{arguments:?}");
        read_all(&one, &pages).await.assert_no_hits();
        read_all(&other, &pages).await.assert_all_hits();
    }
    assert_eq!(purge(&proxy, &["--hard", "--site", "*.wild.test"]).await, 4);
    assert_calm(&proxy);
}

/// Old bytes are on their way from the origin when it is purged: he who asked before may have them, but
/// whoever asks afterwards does not, neither now nor when they have arrived.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_its_way_is_purged_as_well() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let (mut proxy, target) = front(&lab, &truth).await;
    let mut newest = Vec::new();
    for (round, (size, option)) in [
        (3_000, "gate"),
        (300_000, "gate"),
        (4 << 20, "gate"),
        (4 << 20, "gate&chunked"),
        (3_000, "held"),
    ]
    .into_iter()
    .enumerate()
    {
        for (number, scope) in ["url", "prefix", "tag", "site"].into_iter().enumerate() {
            let page = path(size, &format!("{round}-{number}?{option}&xkey:red"));
            truth.shut_gate();
            let old = truth.version();
            let early = {
                let (target, page) = (target.clone(), page.clone());
                tokio::spawn(async move { ask(&target, &page).await })
            };
            eventually("it is on its way", PATIENCE, || {
                std::future::ready((truth.hits_of(&page) > 0).then_some(()).ok_or("not yet"))
            })
            .await;
            let new = truth.change();
            let address = url(&page);
            purge(
                &proxy,
                &match scope {
                    "url" => vec!["--hard", &address],
                    "prefix" => vec!["--hard", "--prefix", "http://app.test/truth/"],
                    "tag" => vec!["--hard", "--tag", "red", "--site", HOST],
                    _ => vec!["--hard", "--site", HOST],
                },
            )
            .await;
            let late = {
                let (target, page) = (target.clone(), page.clone());
                tokio::spawn(async move { ask(&target, &page).await })
            };
            if option == "held" && scope == "tag" {
                // Which tags it will have is not known before its head has come.
                eventually("he waits for the same", PATIENCE, || async {
                    let status = proxy.admin("/status").await;
                    let two = status["connections"].as_u64() >= Some(2);
                    two.then_some(()).ok_or(status)
                })
                .await;
                // Nobody can see a request that waits; who has connected gets a moment to send his.
                tokio::time::sleep(A_MOMENT).await;
            } else {
                eventually("the origin is asked again", PATIENCE, || {
                    std::future::ready((truth.hits_of(&page) > 1).then_some(()).ok_or("not yet"))
                })
                .await;
            }
            truth.open_gate();
            assert_eq!(early.await.expect("an answer").0, old, "{page}");
            assert_eq!(late.await.expect("an answer").0, new, "{page}");
            settle(&proxy).await;
            for _ in 0..3 {
                let (version, answer) = ask(&target, &page).await;
                assert_eq!(version, new, "{page}: {answer}");
            }
            newest.push((page, new));
        }
    }
    // Nor in the next life.
    settle(&proxy).await;
    proxy.kill().await;
    proxy.start_again(&lab).await;
    for (page, new) in &newest {
        let (version, answer) = ask(&target, page).await;
        assert!(version >= *new, "{page}: {answer}");
    }
    assert_calm(&proxy);
}

/// Readers all the time, of pages in memory, on disk and on their way; whoever asks after the command
/// has answered gets nothing from before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purges_under_load() {
    const ROUNDS: usize = 60;
    let lab = Lab::alone().await;
    let truth = Truth::start().await;
    let (mut proxy, target) = front(&lab, &truth).await;
    // Quick ones, slow to begin, slow to end, small and large.
    let all: Arc<Vec<String>> = Arc::new(
        (0..80)
            .map(|n| {
                let size = [800, 30_000, 200_000, 1 << 20][n % 4];
                let how = ["", "&wait=30", "&wait=200", "&drip=5"][n / 4 % 4];
                path(size, &format!("page-{n}?xkey:all{how}"))
            })
            .collect(),
    );
    let (floor, reads, enough) = (
        Arc::<AtomicU64>::default(),
        Arc::<AtomicU64>::default(),
        Arc::<AtomicBool>::default(),
    );
    let mut dice = Dice::fresh();
    let start = |dice: &mut Dice| {
        let mut readers = JoinSet::new();
        for _ in 0..12 {
            let (target, all, mut dice) = (target.clone(), all.clone(), Dice::new(dice.throw()));
            let (floor, reads, enough) = (floor.clone(), reads.clone(), enough.clone());
            readers.spawn(async move {
                let mut asker = Asker::new(&target);
                while !enough.load(Ordering::SeqCst) {
                    let page = &all[dice.below(all.len())];
                    let least = floor.load(Ordering::SeqCst);
                    let answer = asker
                        .get(page)
                        .await
                        .unwrap_or_else(|e| panic!("{page}: {e}"));
                    let version = check(page, &answer).unwrap_or_else(|e| panic!("{e}\n{answer}"));
                    assert!(
                        version >= least,
                        "{page}: {version} after {least}: {answer}"
                    );
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        readers
    };
    let mut readers = start(&mut dice);
    for round in 0..ROUNDS {
        let done = reads.load(Ordering::Relaxed);
        eventually("readers go on", PATIENCE, || {
            let now = reads.load(Ordering::Relaxed);
            std::future::ready((now >= done + 40).then_some(()).ok_or(now))
        })
        .await;
        let new = truth.change();
        match round % 3 {
            0 => purge(&proxy, &["--hard", "--site", HOST]).await,
            1 => purge(&proxy, &["--hard", "--tag", "all", "--site", HOST]).await,
            _ => purge(&proxy, &["--hard", "--prefix", "http://app.test/truth/"]).await,
        };
        floor.store(new, Ordering::SeqCst);
        if round % 20 == 10 {
            proxy.upgrade().await;
        }
        if round % 20 == 19 {
            // Killed the moment it has answered; what it stored before is not served afterwards.
            enough.store(true, Ordering::SeqCst);
            while let Some(reader) = readers.join_next().await {
                reader.expect("a reader gets what it asks for");
            }
            proxy.kill().await;
            proxy.start_again(&lab).await;
            enough.store(false, Ordering::SeqCst);
            readers = start(&mut dice);
        }
    }
    enough.store(true, Ordering::SeqCst);
    while let Some(reader) = readers.join_next().await {
        reader.expect("a reader gets what it asks for");
    }
    println!(
        "{} reads over {ROUNDS} purges",
        reads.load(Ordering::Relaxed)
    );
    assert_calm(&proxy);
}

/// Single addresses under load, each purged for itself while everybody reads them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_purges_under_load() {
    let lab = Lab::alone().await;
    let truth = Truth::start().await;
    let (proxy, target) = front(&lab, &truth).await;
    let all: Arc<Vec<_>> = Arc::new(
        (0..10)
            .map(|n| path(20_000, &format!("{n}?wait=3")))
            .collect(),
    );
    let floors: Arc<Vec<AtomicU64>> = Arc::new((0..10).map(|_| AtomicU64::new(0)).collect());
    let enough = Arc::<AtomicBool>::default();
    let mut readers = JoinSet::new();
    let mut dice = Dice::fresh();
    for _ in 0..8 {
        let (target, all, floors) = (target.clone(), all.clone(), floors.clone());
        let (enough, mut dice) = (enough.clone(), Dice::new(dice.throw()));
        readers.spawn(async move {
            let mut asker = Asker::new(&target);
            while !enough.load(Ordering::SeqCst) {
                let place = dice.below(all.len());
                let least = floors[place].load(Ordering::SeqCst);
                let answer = asker.get(&all[place]).await.expect("an answer");
                let version = check(&all[place], &answer).expect("the truth");
                assert!(version >= least, "{version} after {least}: {answer}");
            }
        });
    }
    for round in 0..100 {
        let place = round % all.len();
        let new = truth.change();
        purge(&proxy, &["--hard", &url(&all[place])]).await;
        floors[place].store(new, Ordering::SeqCst);
    }
    enough.store(true, Ordering::SeqCst);
    while let Some(reader) = readers.join_next().await {
        reader.expect("a reader gets what it asks for");
    }
    assert_calm(&proxy);
}

/// A page is of the version that is wanted; where that is not the old one, the old one may be shown once
/// more while it is fetched.
async fn becomes(target: &Target, page: &str, wanted: u64, old: u64) {
    if wanted == old {
        return assert_eq!(ask(target, page).await.0, old, "{page}");
    }
    eventually("it is new", PATIENCE, || async {
        let (version, answer) = ask(target, page).await;
        (version == wanted).then_some(()).ok_or(answer)
    })
    .await;
}

/// The application itself says what has changed: groups in the answer to a request that changes
/// something (RFC 9875), for its own origin only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_names_the_groups_that_have_changed() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let (mut proxy, target) = front(&lab, &truth).await;
    let other = proxy.http(OTHER);
    let client = Client::h1(&target);
    let (red, blue) = (
        path(900, "r?cache-groups:red+both"),
        path(900, "b?cache-groups:blue+both"),
    );
    let (none, tagged) = (path(900, "none"), path(900, "t?cache-tag:red"));
    let all = [red.clone(), blue.clone(), none.clone(), tagged.clone()];

    for (method, field, gone) in [
        (Method::POST, "\"red\"", &[&red][..]),
        (Method::PUT, "\"blue\", \"red\"", &[&red, &blue]),
        (Method::DELETE, "\"both\"", &[&red, &blue]),
        (Method::POST, "\"green\"", &[]),
        (Method::POST, "red", &[]),
        (Method::POST, "\"RED\"", &[]),
    ] {
        for at in [&target, &other] {
            purge(&proxy, &["--hard", "--site", &at.host]).await;
            store_all(at, &all).await.assert_no_hits();
        }
        settle(&proxy).await;
        let old = truth.version();
        let new = truth.change();
        let fields = [("x-say-cache-group-invalidation", field)];
        let changed = client
            .ask(method, "/truth/0/change", &fields, empty())
            .await;
        assert_eq!(
            changed.expect(200).header("cache-group-invalidation"),
            field
        );
        for page in &all {
            let wanted = if gone.contains(&page) { new } else { old };
            becomes(&target, page, wanted, old).await;
        }
        read_all(&other, &all).await.assert_all_hits();
        settle(&proxy).await;
        proxy.kill().await;
        proxy.start_again(&lab).await;
        for page in gone {
            assert_eq!(
                ask(&target, page).await.0,
                new,
                "{field}: {page}, in the next life"
            );
        }
    }
    // A request that changes nothing cannot say so.
    let new = truth.change();
    let fields = [("x-say-cache-group-invalidation", "\"both\"")];
    client
        .ask(Method::GET, "/truth/10/get?cc=no-store", &fields, empty())
        .await
        .expect(200);
    assert_ne!(ask(&target, &red).await.0, new);
    assert_calm(&proxy);
}

/// The same by a field of the application's own, as Ghost has one: paths, or everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_names_the_paths_that_have_changed() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let more = "cache = { invalidate_by = \"x-cache-invalidate\" }";
    let sites = format!(
        "[cache]\n{BOUNDS}\n{}{}",
        truth.site(HOST, more),
        truth.site(OTHER, "")
    );
    let proxy = Proxy::start(&lab, &sites).await;
    let (target, other) = (proxy.http(HOST), proxy.http(OTHER));
    let client = Client::h1(&target);
    let pages = PAGES.map(str::to_owned);
    for (field, gone) in [
        ("/truth/900/a", &[5][..]),
        ("/truth/900/a, /truth/900/a/", &[3, 5]),
        ("/*", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("/none", &[]),
    ] {
        for at in [&target, &other] {
            purge(&proxy, &["--hard", "--site", &at.host]).await;
            store_all(at, &pages).await.assert_no_hits();
        }
        let old = truth.version();
        let new = truth.change();
        let fields = [("x-say-x-cache-invalidate", field)];
        client
            .ask(Method::PUT, "/truth/0/change", &fields, empty())
            .await
            .expect(200);
        for (place, page) in pages.iter().enumerate() {
            let wanted = if gone.contains(&place) { new } else { old };
            becomes(&target, page, wanted, old).await;
        }
        read_all(&other, &pages).await.assert_all_hits();
    }
    assert_calm(&proxy);
}
