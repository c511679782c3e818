//! A forge behind the preset `forge`: Git streams, pages are kept for strangers, and what costs it much it does a few
//! times at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use sovereign_tests::client::whole;
use sovereign_tests::git::{self, Person};
use sovereign_tests::origin::reply;
use sovereign_tests::proxy::site;
use sovereign_tests::{Answer, Client, Lab, Origin, Proxy, Target, eventually};
use tokio::sync::Semaphore;

use super::Peak;

const HOST: &str = "git.test";
/// How much is pushed and cloned.
const SIZE: usize = 128 << 20;
/// How many costly pages of a kind the preset has a forge work on at once.
const AT_ONCE: usize = 4;
const CRAWLED: usize = 12;
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_push_and_clone_in_both_versions_of_http() {
    let lab = Lab::open().await;
    let served = lab.folder("repositories");
    let origin = git::serve(&served).await;
    let proxy = Proxy::start(&lab, &site(HOST, &origin.url(), "preset = \"forge\"")).await;
    let target = proxy.https(HOST);
    Client::h2(&target).get("/").await;

    for (name, version) in [("one", "HTTP/1.1"), ("two", "HTTP/2")] {
        let ada = Person::new(&lab, &target, &proxy.root_ca(), version);
        let bare = served.join(format!("ada/{name}.git"));
        let bare = bare.to_str().expect("the path is text");
        ada.git(&["init", "--quiet", "--bare", bare]).await;
        ada.git(&["-C", bare, "config", "http.receivepack", "true"])
            .await;
        ada.git(&["init", "--quiet", "--initial-branch=main", "work"])
            .await;
        let work = ada.home().join("work");
        std::fs::write(work.join("data"), noise(SIZE)).expect("the folder is ours");
        ada.git(&["-C", "work", "add", "data"]).await;
        ada.git(&["-C", "work", "commit", "--quiet", "--message=all"])
            .await;

        let url = format!("https://{HOST}:{}/ada/{name}.git", target.address.port());
        let peak = Peak::watch(&proxy).await;
        ada.git(&["-C", "work", "push", "--quiet", &url, "main"])
            .await;
        ada.git(&["clone", "--quiet", "--branch=main", &url, "copy"])
            .await;
        let grown = peak.grown().await;
        println!("{version}: grew by {} MiB", grown >> 20);
        assert!(grown < 48 << 20, "{version}: grew by {} MiB", grown >> 20);
        let read = |folder: &str| std::fs::read(ada.home().join(folder).join("data"));
        assert!(
            read("work").expect("it was written") == read("copy").expect("it was cloned"),
            "{version}: what was cloned is not what was pushed"
        );
        let pushed = proxy
            .logged(&format!("/ada/{name}.git/git-receive-pack"))
            .await;
        assert!(
            pushed.iter().all(|line| line["protocol"] == version),
            "{pushed:?}"
        );
    }
    proxy.assert_no_panic();
}

/// Bytes that cannot be made smaller.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let word = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..size / 8).flat_map(word).collect()
}

/// A forge's pages are kept for those who are nobody to it; what Git asks for never is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_kept_for_strangers_alone() {
    let lab = Lab::open().await;
    let origin = Origin::start(|request| async move {
        let text = request.uri().to_string();
        reply(200, [("cache-control", "public, max-age=60")], whole(text))
    })
    .await;
    let proxy = Proxy::start(&lab, &site(HOST, &origin.url(), "preset = \"forge\"")).await;
    let client = Client::h2(&proxy.https(HOST));
    let signed_in = [("cookie", "lang=de; i_like_gitea=0123456789abcdef")];
    let page = "/ada/engine/blame/branch/main/mill.c";
    for (path, fields, asked) in [
        (page, &[][..], 1),
        (page, &signed_in[..], 2),
        ("/ada/engine.git/info/refs?service=git-upload-pack", &[], 2),
        ("/ada/engine/archive/main.tar.gz", &[], 2),
        ("/api/v1/repos/ada/engine", &[], 2),
        ("/api/v1/repos/ada/engine/commits/main/status", &[], 2),
        ("/v2/ada/engine/manifests/latest", &[], 2),
    ] {
        let before = origin.hits();
        for _ in 0..2 {
            let answer = client.get_with(path, fields).await.expect(200);
            assert_eq!(answer.text(), path);
        }
        assert_eq!(origin.hits() - before, asked, "{path} {fields:?}");
    }
}

/// A forge that works on pages of blame for as long as it is told to.
struct Slow {
    origin: Origin,
    working: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    go_on: Arc<Semaphore>,
}

impl Slow {
    async fn start() -> Self {
        let (working, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let go_on = Arc::new(Semaphore::new(0));
        let all = (working.clone(), most.clone(), go_on.clone());
        let origin = Origin::start(move |request| {
            let (working, most, go_on) = all.clone();
            async move {
                if request.uri().path().contains("/blame/") {
                    let now = working.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    go_on.acquire().await.expect("it is never closed").forget();
                    working.fetch_sub(1, Ordering::SeqCst);
                }
                let text = request.uri().path().to_owned();
                reply(200, [("cache-control", "no-store")], whole(text))
            }
        })
        .await;
        Self {
            origin,
            working,
            most,
            go_on,
        }
    }

    /// Waits until it works on as many as it may.
    async fn is_busy(&self) {
        eventually("it works on some", PATIENCE, || {
            let working = self.working.load(Ordering::SeqCst);
            std::future::ready((working == AT_ONCE).then_some(()).ok_or(working))
        })
        .await;
    }
}

/// Asks for a page of blame; crawlers that keep a session are not told from visitors.
fn crawl(target: &Target, number: usize) -> impl Future<Output = Answer> + 'static {
    let client = match number % 2 {
        0 => Client::h1(target),
        _ => Client::h2(target),
    };
    async move {
        let path = format!("/ada/engine/blame/commit/{number}/mill.c");
        let fields: &[_] = match number % 3 {
            0 => &[("cookie", "i_like_gitea=crawler")],
            _ => &[],
        };
        client.get_with(&path, fields).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crawler_leaves_a_forge_time_for_others() {
    let lab = Lab::open().await;
    let forge = Slow::start().await;
    let sites = site(HOST, &forge.origin.url(), "preset = \"forge\"");
    let proxy = Proxy::start(&lab, &sites).await;
    let target = proxy.https(HOST);

    // Each has its turn, and no more at once than the preset says.
    let crawling = tokio::spawn(join_all((0..CRAWLED).map(|number| crawl(&target, number))));
    forge.is_busy().await;
    let page = Client::h2(&target).get("/ada/engine").await.expect(200);
    assert_eq!(page.text(), "/ada/engine");
    forge.go_on.add_permits(CRAWLED);
    for answer in crawling.await.expect("it ends") {
        answer.expect(200);
    }
    assert_eq!(forge.most.load(Ordering::SeqCst), AT_ONCE);

    // While the forge takes its time, those whose turn does not come are told so.
    let crawling = tokio::spawn(join_all((0..CRAWLED).map(|number| crawl(&target, number))));
    forge.is_busy().await;
    let late = crawl(&target, 100).await.expect(503);
    assert!(!late.header("retry-after").is_empty(), "{late}");
    forge.go_on.add_permits(AT_ONCE);
    let answers = crawling.await.expect("it ends");
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(
        served,
        AT_ONCE,
        "{:?}",
        answers.iter().map(|one| one.status).collect::<Vec<_>>()
    );
    // Who has left has no turn any more.
    assert_eq!(forge.origin.hits(), CRAWLED + 1 + AT_ONCE);
    proxy.assert_no_panic();
}
