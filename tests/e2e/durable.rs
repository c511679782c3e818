//! What is stored lasts: over a restart, a reload, an upgrade and a reboot, up to the size that it may
//! have, in a folder whose format is known.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use sovereign_tests::client::empty;
use sovereign_tests::proxy::said;
use sovereign_tests::truth::{
    Asker, Dice, VERSION, check, check_part, check_variant, is_hit, path, read_all, store_all,
};
use sovereign_tests::{Client, Lab, Proxy, Target, Truth, eventually};

use crate::bad_days::{HOST, PATIENCE, assert_calm, disk_is, settle, sites};

/// Enough memory for a few bodies on their way, and too little for all that is stored.
const BOUNDS: &str = "memory = \"32MiB\"\ndisk = \"1GiB\"";

/// Pages of all sizes, a few of them large.
fn pages(count: usize, name: &str) -> Vec<String> {
    let mut dice = Dice::new(count as u64);
    (0..count)
        .map(|number| {
            let size = match number % 50 {
                0 => 0,
                1 => (1 << 20) + dice.below(3 << 20),
                2..10 => (64 << 10) + dice.below(200 << 10),
                _ => 1 + dice.below(20 << 10),
            };
            path(size, &format!("{name}-{number}"))
        })
        .collect()
}

async fn front(lab: &Lab, truth: &Truth, bounds: &str) -> (Proxy, Target) {
    let proxy = Proxy::start(lab, &sites(truth, bounds)).await;
    let target = proxy.http(HOST);
    (proxy, target)
}

/// The ways in which one life ends and the next begins.
#[derive(Debug, Clone, Copy)]
enum Change {
    Restart,
    Kill,
    Upgrade,
    Reload,
}

async fn go_through(lab: &Lab, proxy: &mut Proxy, change: Change) {
    match change {
        Change::Restart => {
            proxy.stop().await;
            proxy.start_again(lab).await;
        }
        Change::Kill => {
            settle(proxy).await;
            proxy.kill().await;
            proxy.start_again(lab).await;
        }
        Change::Upgrade => proxy.upgrade().await,
        Change::Reload => proxy.reload().await,
    }
}

const CHANGES: [Change; 7] = [
    Change::Restart,
    Change::Kill,
    Change::Reload,
    Change::Upgrade,
    Change::Upgrade,
    Change::Kill,
    Change::Restart,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_lasts() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let (mut proxy, target) = front(&lab, &truth, BOUNDS).await;
    let mut all = pages(200, "first");
    store_all(&target, &all).await.assert_no_hits();
    for (number, change) in CHANGES.into_iter().enumerate() {
        go_through(&lab, &mut proxy, change).await;
        let tally = read_all(&target, &all).await;
        assert!(
            tally.missed.is_empty(),
            "{change:?} ({number}) cost {} of {}",
            tally.missed.len(),
            all.len()
        );
        // What each life adds, the next ones have.
        let more = pages(50, &format!("more-{number}"));
        store_all(&target, &more).await.assert_no_hits();
        all.extend(more);
    }
    // Then the origin is gone: nobody notices.
    truth.origin().down().await;
    go_through(&lab, &mut proxy, Change::Kill).await;
    read_all(&target, &all).await.assert_all_hits();
    assert_calm(&proxy);
}

/// Fields, age, variants, parts and conditions are what they were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_from_disk_is_the_one_that_was_stored() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let (mut proxy, target) = front(&lab, &truth, BOUNDS).await;
    let client = Client::h1(&target);
    let (small, large) = (
        path(20_000, "small?pad=300&surrogate-key:a+b"),
        path(3 << 20, "large"),
    );
    let varied = path(5_000, "varied?vary=x-shade");
    let ours = |name: &str| ["age", "cache-status", "connection"].contains(&name);
    let mut fields = Vec::new();
    for path in [&small, &large] {
        client.get(path).await.expect(200);
        let stored = client.get(path).await.expect(200);
        assert!(is_hit(&stored), "{stored}");
        fields.push(stored.headers);
    }
    let shades: Vec<_> = (0..10).map(|shade| format!("shade-{shade}")).collect();
    for shade in &shades {
        client.get_with(&varied, &[("x-shade", shade)]).await;
    }
    eventually("Age grows", PATIENCE, || async {
        let age = client.get(&small).await.header("age").parse().unwrap_or(0);
        if age >= 2 { Ok(()) } else { Err(age) }
    })
    .await;

    for change in CHANGES {
        go_through(&lab, &mut proxy, change).await;
        for (path, before) in [&small, &large].into_iter().zip(&fields) {
            // A part first: it is the first thing read of the body in this life.
            let size = if path == &small { 20_000 } else { 3 << 20 };
            for (first, last) in [(size - 10, size - 1), (4_000, 9_000), (0, 0), (1, size - 1)] {
                let range = format!("bytes={first}-{last}");
                let part = client.get_with(path, &[("range", &range)]).await;
                assert_eq!(check_part(path, first, last, &part), Ok(1), "{part}");
                assert!(is_hit(&part), "{part}");
            }
            let tag = before["etag"].to_str().expect("text");
            let known = client.get_with(path, &[("if-none-match", tag)]).await;
            assert!(is_hit(&known.clone().expect(304)), "{known}");
            let head = client.ask(Method::HEAD, path, &[], empty()).await;
            assert!(is_hit(&head) && head.body.is_empty(), "{head}");

            let answer = client.get(path).await.expect(200);
            assert_eq!(check(path, &answer), Ok(1));
            assert!(is_hit(&answer), "{change:?}: {answer}");
            for (name, value) in before.iter().filter(|(name, _)| !ours(name.as_str())) {
                let found = answer.headers.get(name);
                assert_eq!(found, Some(value), "{name} after {change:?}");
            }
            for name in answer.headers.keys() {
                let known = ours(name.as_str()) || before.contains_key(name);
                assert!(known, "{name} is new after {change:?}");
            }
            let age: u64 = answer.header("age").parse().expect("Age is a number");
            assert!((2..600).contains(&age), "{age} after {change:?}");
        }
        for shade in &shades {
            let answer = client.get_with(&varied, &[("x-shade", shade)]).await;
            assert_eq!(check_variant(&varied, shade, &answer), Ok(1));
            assert!(is_hit(&answer), "{change:?}: {shade}: {answer}");
        }
    }
    assert_eq!(truth.hits(), 2 + shades.len());
    assert_calm(&proxy);
}

/// What took the place of something, or took it away, did so for good: the record that still lies on
/// disk does not come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_replaced_does_not_come_back() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let (mut proxy, target) = front(&lab, &truth, BOUNDS).await;
    let client = Client::h1(&target);
    let all = |name: &str| [100, 20_000, 2 << 20].map(|size| path(size, name));
    let changed = all("changed");
    let posted = all("posted");
    let forbidden = all("forbidden?drop=2");
    let everything = [&changed[..], &posted, &forbidden].concat();
    store_all(&target, &everything).await.assert_no_hits();
    settle(&proxy).await;
    // On disk only, for one of the three sizes at least.
    truth.change();
    let past = [("cache-control", "no-cache")];
    for path in changed.iter().chain(&forbidden) {
        let answer = client.get_with(path, &past).await;
        assert_eq!(check(path, &answer), Ok(2), "{answer}");
    }
    for path in &posted {
        client
            .ask(Method::POST, path, &[], empty())
            .await
            .expect(200);
    }
    for change in [Change::Kill, Change::Restart, Change::Upgrade, Change::Kill] {
        go_through(&lab, &mut proxy, change).await;
        let tally = read_all(&target, &changed).await;
        tally.assert_all_hits();
        assert_eq!(tally.oldest, Some(2), "after {change:?}");
        for path in posted.iter().chain(&forbidden) {
            let answer = client.get(path).await;
            assert_eq!(check(path, &answer), Ok(2), "after {change:?}: {answer}");
        }
    }
    // The same for a whole round of changes, each made durable by itself.
    for round in 3..8 {
        assert_eq!(truth.change(), round);
        for path in &changed {
            let answer = client.get_with(path, &past).await;
            assert_eq!(answer.header(VERSION), round.to_string(), "{answer}");
        }
        go_through(&lab, &mut proxy, Change::Kill).await;
        let tally = read_all(&target, &changed).await;
        tally.assert_all_hits();
        assert_eq!(tally.oldest, Some(round));
    }
    assert_calm(&proxy);
}

/// A new program takes the folder over while visitors read and everything changes; the second one
/// too; and none of them loses what another one stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_upgrades_and_reloads_of_a_busy_cache() {
    let lab = Lab::alone().await;
    let truth = Truth::start().await;
    let (mut proxy, target) = front(&lab, &truth, BOUNDS).await;
    let old = pages(100, "old");
    store_all(&target, &old).await;

    // What was begun and ended between two changes is there for good. What an old program finishes
    // while a new one has the folder may be fetched once more.
    let (enough, rounds) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let changes = Arc::<AtomicUsize>::default();
    let writer = {
        let (target, enough, old) = (target.clone(), enough.clone(), old.clone());
        let (rounds, changes) = (rounds.clone(), changes.clone());
        tokio::spawn(async move {
            let mut written = Vec::new();
            for round in 0.. {
                if enough.load(Ordering::Relaxed) {
                    break;
                }
                let fresh = pages(20, &format!("fresh-{round}"));
                let before = changes.load(Ordering::SeqCst);
                store_all(&target, &fresh).await;
                if before % 2 == 0 && before == changes.load(Ordering::SeqCst) {
                    written.extend(fresh);
                }
                rounds.fetch_add(1, Ordering::Relaxed);
                read_all(&target, &old).await.assert_all_hits();
            }
            written
        })
    };
    for number in 0..20 {
        // Odd while a change is under way.
        changes.fetch_add(1, Ordering::SeqCst);
        match number % 4 {
            0 => proxy.reload().await,
            _ => proxy.upgrade().await,
        }
        changes.fetch_add(1, Ordering::SeqCst);
        let done = rounds.load(Ordering::Relaxed);
        eventually("the load goes on", PATIENCE, || {
            let now = rounds.load(Ordering::Relaxed);
            assert!(!writer.is_finished(), "the load has failed");
            std::future::ready((now >= done + 2).then_some(()).ok_or(now))
        })
        .await;
    }
    enough.store(true, Ordering::Relaxed);
    let written = writer.await.expect("the load succeeds");
    assert!(
        written.len() >= 100,
        "too little was written: {}",
        written.len()
    );
    let all = [old, written].concat();
    read_all(&target, &all).await.assert_all_hits();
    let disk = proxy.status().await["cache"]["disk"].clone();
    assert_eq!(disk["health"], "good", "{disk}");
    go_through(&lab, &mut proxy, Change::Kill).await;
    read_all(&target, &all).await.assert_all_hits();
    assert_calm(&proxy);
}

/// The old program had let go of the folder; it takes it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_upgrade_that_fails_it_goes_on_storing() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let (mut proxy, target) = front(&lab, &truth, BOUNDS).await;
    let mut all = pages(50, "before");
    store_all(&target, &all).await;
    for bad in ["/bin/false", "/no/such/program"] {
        let refused = proxy.command(&["upgrade", "--program", bad]).await;
        assert_eq!(refused.status.code(), Some(1), "{bad}: {}", said(&refused));
        disk_is(&proxy, "the disk is in use again", |disk| {
            disk["health"] == "good"
        })
        .await;
        let more = pages(50, &format!("after-{}", all.len()));
        store_all(&target, &more).await.assert_no_hits();
        all.extend(more);
        read_all(&target, &all).await.assert_all_hits();
    }
    go_through(&lab, &mut proxy, Change::Kill).await;
    read_all(&target, &all).await.assert_all_hits();
    proxy.assert_no_panic();
}

/// A folder of another version, or of none that is known, is set aside and not read; nothing in it
/// is lost, and the new one lasts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_format_is_set_aside() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let (mut proxy, target) = front(&lab, &truth, BOUNDS).await;
    let all = pages(50, "page");
    for (number, format) in [
        "sovereign-cache 2\nseed 0123456789abcdef\n",
        "sovereign-cache 18446744073709551616\nseed 0123456789abcdef\n",
        "sovereign-cache 1\nseed nothing\n",
        "something else\n",
        "",
        "\0\0\0\0",
    ]
    .into_iter()
    .enumerate()
    {
        store_all(&target, &all).await;
        settle(&proxy).await;
        proxy.kill().await;
        let file = proxy.cache().join("format");
        assert!(file.is_file(), "there is no {}", file.display());
        fs::write(&file, format).expect("the file is ours");
        // What it will be served instead.
        let version = truth.change();
        proxy.start_again(&lab).await;
        let tally = read_all(&target, &all).await;
        tally.assert_no_hits();
        assert_eq!(tally.oldest, Some(version), "{format:?} was read");
        let aside = proxy.state().join("cache.set-aside");
        let kept = fs::read_to_string(aside.join("format"));
        assert_eq!(kept.expect("it is set aside"), format);
        let warned = proxy
            .log()
            .lines()
            .filter(|line| line.contains("set-aside") || line.contains("set aside"))
            .count();
        assert!(
            warned > number,
            "{format:?}: nothing is logged: {}",
            proxy.log()
        );
        go_through(&lab, &mut proxy, Change::Kill).await;
        read_all(&target, &all).await.assert_all_hits();
    }
    assert_calm(&proxy);
}

/// What the folder really takes of the disk.
fn taken(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => taken(&entry.path()) + data.blocks() * 512,
            Ok(data) => data.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// Three times what there is room for, in all sizes: what the disk really holds stays below the limit
/// all the time, and what is said of it is what is so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_size_stays_within_its_limit() {
    const LIMIT: u64 = 64 << 20;
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let bounds = "memory = \"8MiB\"\ndisk = \"64MiB\"";
    let (mut proxy, target) = front(&lab, &truth, bounds).await;
    let watched = Arc::<AtomicBool>::default();
    let watcher = {
        let (folder, done) = (proxy.cache(), watched.clone());
        std::thread::spawn(move || {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(taken(&folder));
                std::thread::sleep(Duration::from_millis(5));
            }
            most
        })
    };
    // First tiny ones, which take more of a disk than of a ledger; then the rest.
    let tiny: Vec<_> = (0..6_000)
        .map(|n| path(n % 300, &format!("tiny-{n}")))
        .collect();
    read_all(&target, &tiny).await;
    for round in 0..12 {
        read_all(&target, &pages(300, &format!("round-{round}"))).await;
        if round == 6 {
            go_through(&lab, &mut proxy, Change::Kill).await;
        }
    }
    settle(&proxy).await;
    let disk = proxy.status().await["cache"]["disk"].clone();
    let real = taken(&proxy.cache());
    watched.store(true, Ordering::Relaxed);
    let most = watcher.join().expect("it watches");
    println!("at most {most}, in the end {real} of {LIMIT} bytes; {disk}");
    assert!(most <= LIMIT, "{most} bytes of {LIMIT}");
    assert!(real > LIMIT / 2, "only {real} bytes are used");
    assert_eq!(disk["limit"], LIMIT, "{disk}");
    let said = disk["bytes"].as_u64().expect("a number");
    // Folders are counted here, and perhaps not there.
    assert!(
        said.abs_diff(real) < LIMIT / 20 + (2 << 20),
        "{said} is said, {real} is so"
    );
    assert!(disk["objects"].as_u64() > Some(0), "{disk}");
    // What was stored last is there.
    let latest = pages(40, "latest");
    store_all(&target, &latest).await;
    go_through(&lab, &mut proxy, Change::Kill).await;
    read_all(&target, &latest).await.assert_all_hits();
    assert_eq!(proxy.status().await["cache"]["disk"]["health"], "good");
    assert_calm(&proxy);
}

/// What readers come back for stays; a crawl through everything once does not push it out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_again_stays() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let bounds = "memory = \"8MiB\"\ndisk = \"64MiB\"";
    let (mut proxy, target) = front(&lab, &truth, bounds).await;
    let loved: Vec<_> = (0..500)
        .map(|n| path(30_000, &format!("loved-{n}")))
        .collect();
    for _ in 0..3 {
        store_all(&target, &loved).await;
    }
    for round in 0..10 {
        let crawl: Vec<_> = (0..700)
            .map(|n| path(30_000, &format!("crawl-{round}-{n}")))
            .collect();
        read_all(&target, &crawl).await;
        let tally = read_all(&target, &loved).await;
        let missed = tally.missed.len();
        // Who was read how often is not known to the next life: it learns it anew.
        let most = if round == 6 { 250 } else { 25 };
        assert!(
            missed <= most,
            "round {round}: {missed} of 500 were pushed out"
        );
        if round == 5 {
            go_through(&lab, &mut proxy, Change::Kill).await;
        }
    }
    assert_calm(&proxy);
}

/// `keep = true`: another site's flood takes nothing from this one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_for_a_site_is_not_given_up_for_another() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let text = format!(
        "[cache]\nmemory = \"32MiB\"\ndisk = \"64MiB\"\n{}{}",
        truth.site("kept.test", "cache = { keep = true }"),
        truth.site("flood.test", "")
    );
    let mut proxy = Proxy::start(&lab, &text).await;
    let (kept, flood) = (proxy.http("kept.test"), proxy.http("flood.test"));
    let mine: Vec<_> = (0..600)
        .map(|n| path(30_000, &format!("mine-{n}")))
        .collect();
    store_all(&kept, &mine).await;
    for round in 0..8 {
        let others: Vec<_> = (0..600)
            .map(|n| path(30_000, &format!("other-{round}-{n}")))
            .collect();
        read_all(&flood, &others).await;
        if round % 3 == 2 {
            go_through(&lab, &mut proxy, Change::Kill).await;
        }
    }
    read_all(&kept, &mine).await.assert_all_hits();
    assert!(taken(&proxy.cache()) <= 64 << 20);
    assert_calm(&proxy);
}

/// What lies on disk while it is not used is not served later as if nothing had happened meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_without_a_disk_holds_for_what_lies_there() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let (mut proxy, target) = front(&lab, &truth, BOUNDS).await;
    let all = pages(20, "page");
    store_all(&target, &all).await;
    settle(&proxy).await;
    proxy.stop().await;
    proxy.write_sites(&sites(&truth, "disk = \"0\""));
    proxy.start_again(&lab).await;
    read_all(&target, &all).await.assert_no_hits();
    let new = truth.change();
    let purge = proxy.command(&["purge", "--hard", "--site", HOST]).await;
    assert!(purge.status.success(), "{}", said(&purge));
    proxy.stop().await;
    proxy.write_sites(&sites(&truth, BOUNDS));
    proxy.start_again(&lab).await;
    assert_eq!(read_all(&target, &all).await.oldest, Some(new));
    assert_calm(&proxy);
}

/// `disk = "0"`: memory alone, and nothing on disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_disk() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let (mut proxy, target) = front(&lab, &truth, "disk = \"0\"").await;
    let all = pages(20, "page");
    store_all(&target, &all).await.assert_no_hits();
    read_all(&target, &all).await.assert_all_hits();
    settle(&proxy).await;
    assert_eq!(taken(&proxy.cache()), 0, "something is on disk");
    let disk = proxy.status().await["cache"]["disk"].clone();
    assert!(disk.is_null() || disk["health"] == "off", "{disk}");
    go_through(&lab, &mut proxy, Change::Kill).await;
    store_all(&target, &all).await.assert_no_hits();
    assert_calm(&proxy);
}

/// Four times as much as memory holds: every page is a hit, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_memory_holds() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let (mut proxy, target) = front(&lab, &truth, "memory = \"8MiB\"\ndisk = \"1GiB\"").await;
    let all: Vec<_> = (0..2_000)
        .map(|n| path(16 << 10, &format!("page-{n}")))
        .collect();
    store_all(&target, &all).await.assert_no_hits();
    for _ in 0..3 {
        read_all(&target, &all).await.assert_all_hits();
    }
    go_through(&lab, &mut proxy, Change::Restart).await;
    read_all(&target, &all).await.assert_all_hits();
    assert!(
        truth.hits() < all.len() + 100,
        "the origin is asked again and again"
    );
    let mut asker = Asker::new(&target);
    let answer = asker.get(&all[0]).await.expect("an answer");
    assert!(is_hit(&answer), "{answer}");
    assert_calm(&proxy);
}

/// The least memory that there may be, and many bodies at once: what an answer says is stored is stored,
/// and is found again, though there is no room to take it into memory just then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_memory_loses_nothing() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let bounds = "memory = \"8MiB\"\ndisk = \"1GiB\"";
    let (mut proxy, target) = front(&lab, &truth, bounds).await;
    for size in [10_000, 30_000, 66_693, 100_000, 200_000, 1 << 20] {
        let all: Vec<_> = (0..60).map(|n| path(size, &format!("page-{n}"))).collect();
        store_all(&target, &all).await;
        for _ in 0..3 {
            let missed = read_all(&target, &all).await.missed.len();
            assert_eq!(missed, 0, "of {size} bytes");
        }
        go_through(&lab, &mut proxy, Change::Kill).await;
        let missed = read_all(&target, &all).await.missed.len();
        assert_eq!(missed, 0, "of {size} bytes, in the next life");
    }
    assert_calm(&proxy);
}
