//! The disk below the cache is full, read-only, slow, or somebody else's: the site goes on without
//! storing, `status` and the metric say so, and it recovers by itself.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Method;
use http_body_util::BodyExt as _;
use sovereign_tests::client::empty;
use sovereign_tests::mounts::Mounts;
use sovereign_tests::port::free_address;
use sovereign_tests::proxy::{Launch, cli, said};
use sovereign_tests::truth::{Asker, Reading, check, is_hit, path, read_all, store_all};
use sovereign_tests::{Client, Lab, Proxy, Target, Truth, eventually};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{HOST, PATIENCE, assert_calm, disk_is, settle, sites};

/// More than any of the disks here has; little memory, so that a hit is mostly one from disk.
const BOUNDS: &str = "memory = \"16MiB\"\ndisk = \"1GiB\"";

/// A proxy whose cache lies on a file system of its own, which is still to be mounted.
fn prepare(lab: &Lab, mounts: &Mounts, truth: &Truth) -> (Proxy, PathBuf) {
    let launch = Launch {
        launcher: mounts.launcher(),
        ..Launch::default()
    };
    let proxy = Proxy::prepare(lab, launch, "", &sites(truth, BOUNDS));
    let cache = proxy.cache();
    fs::create_dir_all(&cache).expect("the folder is ours");
    (proxy, cache)
}

/// The same, on a disk of its own that can be frozen; started.
async fn on_a_disk(lab: &Lab, mounts: &Mounts, truth: &Truth) -> (Proxy, PathBuf) {
    let (mut proxy, cache) = prepare(lab, mounts, truth);
    let image = lab.folder("image").join("disk.img");
    mounts.ext4(&image, &cache, 256 << 20);
    proxy.start_again(lab).await;
    (proxy, cache)
}

fn some(count: usize, size: usize, name: &str) -> Vec<String> {
    (0..count)
        .map(|number| path(size, &format!("{name}-{number}")))
        .collect()
}

/// The daemon says by its metrics what it says by its status.
async fn assert_metrics(proxy: &Proxy, healthy: bool) {
    let wanted = if healthy { 1.0 } else { 0.0 };
    eventually("the metric says so", PATIENCE, || async {
        let found = proxy.metric("sovereign_cache_disk_healthy").await;
        (found == Some(wanted))
            .then_some(())
            .ok_or(format!("{found:?}"))
    })
    .await;
    let disk = proxy.admin("/status").await["cache"]["disk"].clone();
    for (name, key) in [
        ("sovereign_cache_disk_not_stored_total", "not_stored"),
        ("sovereign_cache_disk_corrupt_total", "corrupt"),
    ] {
        let metric = proxy.metric(name).await;
        assert!(metric >= disk[key].as_f64(), "{name}: {metric:?}, {disk}");
    }
    for name in ["sovereign_cache_disk_bytes", "sovereign_cache_disk_objects"] {
        assert!(proxy.metric(name).await.is_some(), "{name} is missing");
    }
}

/// By itself the disk is good again, the metric says so, and what is stored now is there after a kill.
async fn recovers(lab: &Lab, proxy: &mut Proxy, name: &str) {
    disk_is(proxy, "it recovers", |disk| disk["health"] == "good").await;
    assert_metrics(proxy, true).await;
    stores_again(lab, proxy, name).await;
    proxy.assert_no_panic();
}

/// Waits until so many large bodies at least are on disk in part, by `least` bytes each.
async fn on_their_way(mounts: &Mounts, cache: &Path, count: usize, least: u64) {
    let folder = mounts.inside(&cache.join("tmp"));
    eventually("the bodies are on their way to disk", PATIENCE, || {
        let files = fs::read_dir(&folder).into_iter().flatten().flatten();
        let lengths = files.filter_map(|file| Some(file.metadata().ok()?.len()));
        let found = lengths.filter(|length| *length >= least).count();
        std::future::ready((found >= count).then_some(()).ok_or(found))
    })
    .await;
}

/// Waits until what is stored now is on disk: after a kill it is a hit.
async fn stores_again(lab: &Lab, proxy: &mut Proxy, name: &str) {
    let target = proxy.http(HOST);
    for round in 0..100 {
        let fresh = some(20, 20_000, &format!("{name}-{round}"));
        store_all(&target, &fresh).await;
        settle(proxy).await;
        proxy.kill().await;
        proxy.start_again(lab).await;
        if read_all(&target, &fresh).await.missed.is_empty() {
            return;
        }
    }
    panic!("{name}: nothing is stored any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_is_full() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let mounts = Mounts::open(&lab).await;
    let (mut proxy, cache) = prepare(&lab, &mounts, &truth);
    mounts.tmpfs(&cache, 48 << 20);
    proxy.start_again(&lab).await;
    let target = proxy.http(HOST);
    let before = some(50, 100_000, "before");
    store_all(&target, &before).await;
    settle(&proxy).await;
    read_all(&target, &before).await.assert_all_hits();

    // Somebody else takes what is left of the disk while a body is on its way to it.
    let large = path(16 << 20, "large?gate");
    let reader = {
        let (target, large) = (target.clone(), large.clone());
        tokio::spawn(async move { Asker::new(&target).get(&large).await })
    };
    on_their_way(&mounts, &cache, 1, 7 << 20).await;
    let greedy = Greedy::start(mounts.inside(&cache).join("filler"));
    eventually("nothing is left", PATIENCE, || {
        let left = rustix::fs::statvfs(mounts.inside(&cache)).map_or(1, |disk| disk.f_bavail);
        std::future::ready((left == 0).then_some(()).ok_or(left))
    })
    .await;
    truth.open_gate();
    let answer = reader.await.expect("it is read").expect("it is whole");
    assert_eq!(check(&large, &answer), Ok(1));

    // Nothing can be stored; everything is served.
    disk_is(&proxy, "it says that the disk is full", |disk| {
        // It is only known once something was to be written.
        disk["health"] == "full" && disk["error"].is_string()
    })
    .await;
    assert_metrics(&proxy, false).await;
    let mut asker = Asker::new(&target);
    for round in 0..3 {
        read_all(&target, &some(20, 300_000, &format!("full-{round}"))).await;
        let large = path(8 << 20, &format!("large-{round}"));
        let answer = asker.get(&large).await.expect("the body is whole");
        assert_eq!(check(&large, &answer), Ok(1));
    }
    let disk = proxy.status().await["cache"]["disk"].clone();
    assert!(disk["not_stored"].as_u64() > Some(0), "{disk}");
    proxy.assert_no_panic();

    // There is room again, and nobody has to be told.
    drop(greedy);
    recovers(&lab, &mut proxy, "after").await;
}

/// Somebody who takes all the disk there is, also what others give up later; with its guard it gives
/// all of it back.
struct Greedy {
    enough: Arc<AtomicBool>,
    taking: Option<std::thread::JoinHandle<()>>,
}

impl Greedy {
    fn start(filler: PathBuf) -> Self {
        let enough = Arc::<AtomicBool>::default();
        let until = enough.clone();
        let taking = std::thread::spawn(move || {
            let mut file = fs::File::create(&filler).expect("the folder is ours");
            while !until.load(Ordering::Relaxed) {
                while file.write_all(&[1; 4096]).is_ok() {}
                std::thread::sleep(Duration::from_millis(2));
            }
            drop(file);
            fs::remove_file(filler).expect("the file is ours");
        });
        Self {
            enough,
            taking: Some(taking),
        }
    }
}

impl Drop for Greedy {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
        if let Some(taking) = self.taking.take() {
            let _ = taking.join();
        }
    }
}

/// Nothing is left at all, and then the daemon starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_is_full_at_the_start() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let mounts = Mounts::open(&lab).await;
    let (mut proxy, cache) = prepare(&lab, &mounts, &truth);
    mounts.tmpfs(&cache, 8 << 20);
    let greedy = Greedy::start(mounts.inside(&cache).join("filler"));
    proxy.start_again(&lab).await;
    let target = proxy.http(HOST);
    read_all(&target, &some(20, 100_000, "full")).await;
    drop(greedy);
    recovers(&lab, &mut proxy, "after").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_is_read_only_at_the_start() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let mounts = Mounts::open(&lab).await;
    let (mut proxy, cache) = prepare(&lab, &mounts, &truth);
    mounts.tmpfs(&cache, 64 << 20);

    // Empty; then with something in it, which can be read.
    for filled in [false, true] {
        let before = some(20, 50_000, "before");
        if filled {
            proxy.start_again(&lab).await;
            store_all(&proxy.http(HOST), &before).await;
            settle(&proxy).await;
            proxy.kill().await;
        }
        mounts.run("mount", &["-o", "remount,ro"], &[&cache]);
        proxy.start_again(&lab).await;
        let target = proxy.http(HOST);
        let tally = read_all(&target, &before).await;
        assert!(!filled || tally.missed.is_empty(), "{:?}", tally.missed);
        read_all(&target, &some(20, 50_000, &format!("meanwhile-{filled}"))).await;
        disk_is(&proxy, "it says that the disk is read-only", |disk| {
            disk["health"] == "read-only" && disk["error"].is_string()
        })
        .await;
        assert_metrics(&proxy, false).await;

        mounts.run("mount", &["-o", "remount,rw"], &[&cache]);
        // Nobody has to be told, not even by a request.
        recovers(&lab, &mut proxy, &format!("after-{filled}")).await;
        proxy.kill().await;
    }
    proxy.assert_no_panic();
}

/// It turns read-only under the daemon's hands: another one lies over it now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_turns_read_only() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let mounts = Mounts::open(&lab).await;
    let (mut proxy, cache) = prepare(&lab, &mounts, &truth);
    mounts.tmpfs(&cache, 128 << 20);
    proxy.start_again(&lab).await;
    let target = proxy.http(HOST);
    read_all(&target, &some(20, 50_000, "before")).await;
    settle(&proxy).await;

    let options = ["-t", "tmpfs", "-o", "ro", "tmpfs"];
    mounts.run("mount", &options, &[&cache]);
    // Files that are open can be written to; before the next one is opened, nothing is noticed.
    let mut round = 0;
    eventually("it says that the disk is read-only", PATIENCE, || {
        round += 1;
        let (target, proxy) = (&target, &proxy);
        async move {
            read_all(target, &some(20, 900_000, &format!("meanwhile-{round}"))).await;
            let disk = proxy.admin("/status").await["cache"]["disk"].clone();
            (disk["health"] == "read-only").then_some(()).ok_or(disk)
        }
    })
    .await;
    assert_metrics(&proxy, false).await;
    mounts.run("umount", &[], &[&cache]);
    recovers(&lab, &mut proxy, "after").await;
}

/// Whoever writes to it waits for seconds: nobody who reads a page waits for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_is_slow() {
    const FROZEN: Duration = Duration::from_secs(8);
    let lab = Lab::alone().await;
    let truth = Truth::start().await;
    let mounts = Mounts::open(&lab).await;
    let (mut proxy, cache) = on_a_disk(&lab, &mounts, &truth).await;
    let target = proxy.http(HOST);
    let before = some(100, 100_000, "before");
    store_all(&target, &before).await;
    settle(&proxy).await;

    let mut frozen = mounts.freeze(&cache, FROZEN);
    // What is there is read; what is not is fetched; large ones stream past the disk that does not take them.
    let mut asker = Asker::new(&target);
    let mut round = 0;
    while frozen.still() {
        let fresh = some(20, 200_000, &format!("meanwhile-{round}"));
        read_all(&target, &fresh).await;
        let known = asker.get(&before[round % 100]).await.expect("an answer");
        assert_eq!(check(&before[round % 100], &known), Ok(1));
        round += 1;
    }
    drop(frozen);
    // One that waits for the disk makes one round last as long as the disk is frozen.
    assert!(round > 3, "visitors waited for the disk: {round} rounds");
    println!("{round} rounds while the disk was frozen");
    recovers(&lab, &mut proxy, "after").await;
}

/// The disk stops in the middle of a body, and goes on later. Who reads along far behind gets what was
/// written before, what could not be written then, and what came after it: each byte once, in its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_stops_in_the_middle_of_a_body() {
    const FROZEN: Duration = Duration::from_secs(6);
    let lab = Lab::alone().await;
    let truth = Truth::start().await;
    let mounts = Mounts::open(&lab).await;
    let (mut proxy, cache) = on_a_disk(&lab, &mounts, &truth).await;
    let target = proxy.http(HOST);

    let pages: Vec<_> = (0..10)
        .map(|number| path(12 << 20, &format!("{number}?gate")))
        .collect();
    let go_on = watch::Sender::new(false);
    let mut readers = JoinSet::new();
    for page in &pages {
        // A quick one, who draws everything in, and a slow one, who has seen no more than the head.
        readers.spawn(read_whole(target.clone(), page.clone(), None));
        let late = Some(go_on.subscribe());
        readers.spawn(read_whole(target.clone(), page.clone(), late));
    }
    eventually("the origin is asked for all", PATIENCE, || {
        let asked = pages.iter().filter(|page| truth.hits_of(page) > 0).count();
        std::future::ready((asked == pages.len()).then_some(()).ok_or(asked))
    })
    .await;
    // With so little memory few stream at once; the others take their turn.
    on_their_way(&mounts, &cache, 2, 5 << 20).await;
    let frozen = mounts.freeze(&cache, FROZEN);
    truth.open_gate();
    // Its guard waits until the disk goes on.
    tokio::task::spawn_blocking(move || drop(frozen))
        .await
        .expect("it thaws");
    disk_is(&proxy, "what waited is written", |disk| {
        disk["waiting"] == 0
    })
    .await;
    go_on.send_replace(true);
    while let Some(reader) = readers.join_next().await {
        reader.expect("every reader gets everything");
    }
    for page in &pages {
        let answer = Asker::new(&target).get(page).await.expect("an answer");
        assert_eq!(check(page, &answer), Ok(1));
    }
    recovers(&lab, &mut proxy, "after").await;
}

/// Reads a page to its end; where that is to be late, no more than its head before it is told to.
async fn read_whole(target: Target, page: String, late: Option<watch::Receiver<bool>>) {
    let client = Client::h1(&target);
    let request = client.request(Method::GET, &page, &[], empty());
    let (head, mut body) = client.send(request).await.into_parts();
    let mut reading = Reading::begin(&page, head.status, &head.headers);
    if let Some(mut late) = late {
        let _ = late.wait_for(|go_on| *go_on).await;
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.unwrap_or_else(|error| panic!("{reading:?}: {error}"));
        if let Some(bytes) = frame.data_ref() {
            reading.feed(bytes);
        }
    }
    reading.end();
}

/// The same, long enough and with so much to write that the daemon has to notice and to say it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_does_not_keep_up_is_told_of() {
    const FROZEN: Duration = Duration::from_secs(15);
    let lab = Lab::alone().await;
    let truth = Truth::start().await;
    let mounts = Mounts::open(&lab).await;
    let (mut proxy, cache) = on_a_disk(&lab, &mounts, &truth).await;
    let target = proxy.http(HOST);
    read_all(&target, &some(20, 100_000, "before")).await;
    settle(&proxy).await;

    let mut frozen = mounts.freeze(&cache, FROZEN);
    let (mut told, mut round) = (None, 0);
    while frozen.still() {
        read_all(&target, &some(20, 400_000, &format!("meanwhile-{round}"))).await;
        round += 1;
        let disk = proxy.admin("/status").await["cache"]["disk"].clone();
        if disk["health"] == "slow" && disk["not_stored"].as_u64() > Some(0) {
            told = Some(disk);
        }
    }
    drop(frozen);
    assert!(
        told.is_some(),
        "it never said that the disk is slow ({round} rounds)"
    );
    let memory = proxy.memory().await;
    assert!(memory < 220 << 20, "{} MiB wait for the disk", memory >> 20);
    recovers(&lab, &mut proxy, "after").await;
}

/// A second daemon on the same `state` refuses, names the folder and what is wrong, and takes nothing
/// from the first, not even where it has another socket for its administrator.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_daemons_on_one_state() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let mut proxy = Proxy::start(&lab, &sites(&truth, BOUNDS)).await;
    let target = proxy.http(HOST);
    let paths = some(50, 20_000, "page");
    store_all(&target, &paths).await;
    let state = proxy.state().display().to_string();

    for own_socket in [true, false] {
        let address = free_address();
        let folder = lab.folder("second");
        let admin = match own_socket {
            true => format!("admin = \"unix:{}/admin.sock\"\n", folder.display()),
            false => String::new(),
        };
        let text = format!(
            "state = \"{state}\"\n{admin}[listen]\nhttp = [\"{address}\"]\n{}",
            sites(&truth, BOUNDS)
        );
        let config = lab.file("second.toml", text);
        let config = config.to_str().expect("the path is text");
        // Twice: the first attempt has not made a second one possible.
        for _ in 0..2 {
            let output = cli(&["run", "--config", config]).await;
            let said = said(&output);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains(&state), "the folder is not named: {said}");
            let clear = ["another", "already", "in use"]
                .iter()
                .any(|word| said.contains(word));
            assert!(clear, "what is wrong is not said: {said}");
            assert!(!said.contains("panicked"), "{said}");
            read_all(&target, &paths).await.assert_all_hits();
            let second = Target::plain(address, HOST).connect("http/1.1").await;
            assert!(second.is_err(), "the second one listens");
        }
    }
    // The first has all it had, on disk as well, and stores more.
    let more = some(50, 20_000, "more");
    store_all(&target, &more).await;
    settle(&proxy).await;
    let disk = proxy.status().await["cache"]["disk"].clone();
    assert_eq!(disk["health"], "good", "{disk}");
    proxy.kill().await;
    proxy.start_again(&lab).await;
    let all = [paths, more].concat();
    read_all(&target, &all).await.assert_all_hits();
    let answer = Asker::new(&target).get(&all[0]).await.expect("an answer");
    assert!(is_hit(&answer), "{answer}");
    assert_calm(&proxy);
}
