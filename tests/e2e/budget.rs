//! One budget: `memory` bounds all that the cache holds, whatever comes. The kernel keeps the daemon to
//! it: where it takes more, it is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use sovereign_tests::cgroup::MemoryGroup;
use sovereign_tests::client::empty;
use sovereign_tests::process::raise_open_files;
use sovereign_tests::proxy::Launch;
use sovereign_tests::truth::{Asker, Reading, check, path, read_all};
use sovereign_tests::wait::within;
use sovereign_tests::{Client, Lab, Proxy, Target, Truth};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::bad_days::{HOST, assert_calm, sites};

/// What the cache may take.
const MEMORY: u64 = 64 << 20;
/// What the program takes beside it: itself (a debug build is large), its connections, and what the
/// kernel keeps for both.
const BESIDE: u64 = 96 << 20;
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// A daemon in a group of its own.
struct Bounded {
    truth: Truth,
    proxy: Proxy,
    target: Target,
    group: Arc<MemoryGroup>,
    enough: Arc<AtomicBool>,
    most: Arc<AtomicU64>,
    /// Last, so that it goes last.
    _lab: Lab,
}

impl Bounded {
    async fn new(disk: &str) -> Self {
        let lab = Lab::alone().await;
        raise_open_files();
        let truth = Truth::start().await;
        let group = Arc::new(MemoryGroup::new(MEMORY + BESIDE));
        let launch = Launch {
            launcher: group.launcher(),
            ..Launch::default()
        };
        let bounds = format!("memory = \"{}MiB\"\ndisk = \"{disk}\"", MEMORY >> 20);
        let text = format!(
            "[limits]\nheader_bytes = \"64KiB\"\n{}",
            sites(&truth, &bounds)
        );
        let mut proxy = Proxy::prepare(&lab, launch, "", &text);
        proxy.start_again(&lab).await;
        let (enough, most) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        {
            let (group, enough, most) = (group.clone(), enough.clone(), most.clone());
            tokio::spawn(async move {
                while !enough.load(Ordering::Relaxed) {
                    most.fetch_max(group.held(), Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        }
        Self {
            target: proxy.http(HOST),
            truth,
            proxy,
            group,
            enough,
            most,
            _lab: lab,
        }
    }

    /// Waits for readers, of whom none may fail; where the kernel has killed the daemon it says so.
    async fn all(&self, mut readers: JoinSet<()>) {
        while let Some(reader) = readers.join_next().await {
            if let Err(error) = reader {
                let killed = self.group.killed();
                assert_eq!(
                    killed, 0,
                    "it took too much memory, and was killed: {error}"
                );
                panic!("a reader did not get everything: {error}");
            }
        }
    }

    /// So many different pages are asked for, each once, and it stays inside.
    async fn flood(&self, pages: usize, page: fn(usize) -> String) {
        let mut lanes = JoinSet::new();
        for lane in 0..16 {
            let mut asker = Asker::new(&self.target);
            lanes.spawn(async move {
                for number in (lane..pages).step_by(16) {
                    let page = page(number);
                    let answer = asker.get(&page).await.expect("an answer");
                    assert_eq!(check(&page, &answer), Ok(1));
                }
            });
        }
        self.all(lanes).await;
        self.assert_inside().await;
    }

    /// It has stayed inside, and says the same of itself.
    async fn assert_inside(&self) {
        assert_eq!(self.group.killed(), 0, "the kernel has killed it");
        let cache = self.proxy.status().await["cache"].clone();
        assert_eq!(cache["memory_limit"], MEMORY, "{cache}");
        assert!(cache["memory_bytes"].as_u64() <= Some(MEMORY), "{cache}");
        let most = self.most.load(Ordering::Relaxed);
        println!("at most {} MiB, {cache}", most >> 20);
        assert!(most > 0, "nothing was measured");
        assert_calm(&self.proxy);
    }
}

impl Drop for Bounded {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
    }
}

/// A body whose reader takes his time.
async fn begin(target: &Target, path: &str) -> (Reading, Incoming) {
    let client = Client::h1(target);
    let request = client.request(Method::GET, path, &[], empty());
    let (head, body) = client.send(request).await.into_parts();
    (Reading::begin(path, head.status, &head.headers), body)
}

async fn read_to_end(mut reading: Reading, mut body: Incoming) {
    let started = std::time::Instant::now();
    while let Some(frame) = within("more of the body", PATIENCE, body.frame()).await {
        let frame = frame
            .unwrap_or_else(|error| panic!("{reading:?}, after {:?}: {error}", started.elapsed()));
        if let Some(bytes) = frame.data_ref() {
            reading.feed(bytes);
        }
    }
    reading.end();
}

/// A hundred bodies of 12 MiB, each with a client that has begun to read and stopped, and each wanted
/// by a quick one as well, who does not wait for the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_slow_clients_of_a_hundred_large_bodies() {
    slow_clients("4GiB").await;
}

/// The same where nothing can be put on disk meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_slow_clients_without_a_disk() {
    slow_clients("0").await;
}

async fn slow_clients(disk: &str) {
    const CLIENTS: usize = 100;
    const SIZE: usize = 12 << 20;
    let bounded = Bounded::new(disk).await;
    let pages: Vec<_> = (0..CLIENTS)
        .map(|n| path(SIZE, &format!("large-{n}")))
        .collect();
    let go_on = watch::Sender::new(false);
    let begun = Arc::<AtomicU64>::default();
    let mut slow = JoinSet::new();
    for page in &pages {
        let (target, page, begun) = (bounded.target.clone(), page.clone(), begun.clone());
        let mut go_on = go_on.subscribe();
        slow.spawn(async move {
            let (mut reading, mut body) = begin(&target, &page).await;
            let frame = within("the body begins", PATIENCE, body.frame()).await;
            let frame = frame.expect("a body").expect("a whole body");
            reading.feed(frame.data_ref().expect("bytes"));
            begun.fetch_add(1, Ordering::Relaxed);
            let _ = go_on.wait_for(|go_on| *go_on).await;
            read_to_end(reading, body).await;
        });
    }
    sovereign_tests::eventually("all have begun", PATIENCE, || {
        let begun = begun.load(Ordering::Relaxed);
        std::future::ready((begun == CLIENTS as u64).then_some(()).ok_or(begun))
    })
    .await;
    // The quick ones come while the slow ones stand still.
    let mut quick = JoinSet::new();
    for lane in 0..8 {
        let target = bounded.target.clone();
        let mine: Vec<_> = pages.iter().skip(lane).step_by(8).cloned().collect();
        quick.spawn(async move {
            for page in mine {
                let (reading, body) = begin(&target, &page).await;
                read_to_end(reading, body).await;
            }
        });
    }
    bounded.all(quick).await;
    bounded.assert_inside().await;
    go_on.send_replace(true);
    bounded.all(slow).await;
    bounded.assert_inside().await;
}

/// Distinct keys without end, each of four kilobytes, with as much in the fields: in memory alone they
/// would be several times what there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_distinct_keys() {
    let bounded = Bounded::new("1GiB").await;
    bounded
        .flood(40_000, |number| {
            let name = format!("{number}-{}?pad=4000", "k".repeat(4_000));
            path(number % 700, &name)
        })
        .await;
    // And it still works.
    let pages = [path(5_000, "after")];
    read_all(&bounded.target, &pages).await.assert_no_hits();
    read_all(&bounded.target, &pages).await.assert_all_hits();
}

/// Small ones, as many as there can be: what it costs to know of each is counted too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_small_objects() {
    let bounded = Bounded::new("1GiB").await;
    bounded
        .flood(120_000, |number| path(10, &number.to_string()))
        .await;
}

/// Three hundred who wait for one large body that stops half way, and then read it at their own pace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_waits_for_one_large_body() {
    let bounded = Bounded::new("1GiB").await;
    let page = path(24 << 20, "one?gate");
    let mut readers = JoinSet::new();
    let begun = Arc::<AtomicU64>::default();
    for _ in 0..300 {
        let (target, page, begun) = (bounded.target.clone(), page.clone(), begun.clone());
        readers.spawn(async move {
            let (reading, body) = begin(&target, &page).await;
            begun.fetch_add(1, Ordering::Relaxed);
            read_to_end(reading, body).await;
        });
    }
    sovereign_tests::eventually("all have begun", PATIENCE, || {
        let begun = begun.load(Ordering::Relaxed);
        std::future::ready((begun == 300).then_some(()).ok_or(begun))
    })
    .await;
    bounded.truth.open_gate();
    bounded.all(readers).await;
    bounded.assert_inside().await;
}
