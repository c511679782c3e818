//! Two proxies and one etcd: what one writes the other gets, and what a bad day does to both.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sovereign_config::model;

use super::fake::{Data, Member, Mood};
use crate::acme::store::{self, Referee, Store, StoreError, Verdict};
use crate::eventually::eventually;

const NAME: &str = "certs/acme/www.example.org.pem";
const KEY: &str = "/stack/certs/acme/www.example.org.pem";

/// The larger content wins: tests need no certificates for that.
#[derive(Debug)]
struct Larger;

impl Referee for Larger {
    fn judge(&self, _name: &str, ours: Option<&[u8]>, theirs: &[u8]) -> Verdict {
        match ours {
            _ if theirs.starts_with(b"bad") => Verdict::Ignore,
            Some(ours) if ours > theirs => Verdict::Offer,
            _ => Verdict::Take,
        }
    }
}

struct Proxy {
    store: Arc<dyn Store>,
    state: tempfile::TempDir,
}

impl Proxy {
    async fn start(urls: &[String]) -> Self {
        Self::with(urls, None, &[]).await
    }

    async fn with(urls: &[String], user: Option<PathBuf>, files: &[(&str, &str)]) -> Self {
        let state = tempfile::tempdir().expect("a folder");
        for (name, content) in files {
            let path = state.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, content).expect("written");
        }
        let config = model::Etcd {
            endpoints: urls.to_vec(),
            prefix: "/stack/".into(),
            roots: None,
            identity: None,
            user: user.map(|password| ("proxy".into(), password)),
        };
        let store = store::open(state.path(), Some(&config))
            .await
            .expect("opens");
        store.judged_by(Arc::new(Larger));
        Self { store, state }
    }

    /// The certificates in local files, sorted.
    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.state.path().join("certs/acme")).expect("a folder");
        let names = entries.flatten().map(|entry| entry.file_name());
        let mut names: Vec<_> = names.filter_map(|name| name.into_string().ok()).collect();
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        names
    }

    async fn has(&self, content: &str) -> bool {
        let read = self.store.read(NAME).await.expect("readable");
        read.as_deref() == Some(content.as_bytes())
    }
}

fn there(data: &Mutex<Data>, content: &str) -> bool {
    data.lock().value(KEY).as_deref() == Some(content.as_bytes())
}

#[tokio::test]
async fn what_one_writes_the_other_has() {
    let data = Data::new();
    let member = Member::start(&data).await;
    let (a, b) = (
        Proxy::start(&[member.url()]).await,
        Proxy::start(&[member.url()]).await,
    );
    a.store.write(NAME, b"1").await.expect("written");
    assert!(there(&data, "1"), "at once");
    let changed = tokio::time::timeout(Duration::from_secs(20), b.store.changed());
    changed.await.expect("it is told");
    assert!(b.has("1").await);
    let file = std::fs::read(b.state.path().join(NAME)).expect("a local file");
    assert_eq!(file, b"1");
    // It goes round once: nobody is told of what it wrote itself.
    b.store.write(NAME, b"2").await.expect("written");
    eventually("a has it", async || a.has("2").await).await;
    let again = tokio::time::timeout(Duration::from_millis(100), b.store.changed()).await;
    assert!(again.is_err(), "b wrote it itself");
    assert_eq!((a.store.trouble(), b.store.trouble()), (None, None));
}

/// Whoever is about to order a certificate asks for what was written a moment ago.
#[tokio::test]
async fn what_was_just_written_is_had_without_a_beat() {
    let data = Data::new();
    let member = Member::start(&data).await;
    let a = Proxy::start(&[member.url()]).await;
    for content in ["1", "2", "3"] {
        data.lock().put(KEY, content.as_bytes());
        a.store.catch_up(NAME).await.expect("asked");
        assert!(a.has(content).await, "{content}");
    }
    let told = tokio::time::timeout(Duration::from_secs(20), a.store.changed());
    told.await.expect("it is to be put in force");
    a.store
        .catch_up("certs/acme/none.pem")
        .await
        .expect("asked");
    assert!(a.store.catch_up("certs/../x.pem").await.is_err());
    drop(member);
    assert!(a.store.catch_up(NAME).await.is_err());
    assert!(a.has("3").await);
}

#[tokio::test]
async fn an_etcd_that_is_away_stops_nobody_and_gets_what_it_missed() {
    let data = Data::new();
    let member = Member::start(&data).await;
    let (address, url) = (member.address, member.url());
    drop(member);
    let a = Proxy::with(&[url], None, &[(NAME, "1")]).await;
    a.store
        .write("certs/acme/other.pem", b"x")
        .await
        .expect("written here");
    assert!(a.has("1").await);
    let trouble = a.store.trouble().expect("it says so");
    assert!(
        trouble.contains("connecting to 127.0.0.1") && trouble.contains("since"),
        "{trouble}"
    );
    assert!(matches!(
        a.store.lease("x").await,
        Err(StoreError::Shared(_))
    ));
    assert!(
        a.store.lease("x").await.is_err(),
        "a failed lease leaves no claim"
    );
    a.store
        .lend("challenges/t", b"v", Duration::from_secs(60))
        .await
        .expect("lent here");
    assert_eq!(
        a.store.read("challenges/t").await.expect("read").as_deref(),
        Some(&b"v"[..])
    );

    let _member = Member::start_at(address, &data).await;
    eventually("all is well again", async || a.store.trouble().is_none()).await;
    eventually("it got both", async || {
        there(&data, "1") && data.lock().value("/stack/certs/acme/other.pem").is_some()
    })
    .await;
}

#[tokio::test]
async fn two_that_differ_come_to_one() {
    for (ours, theirs, wanted) in [("1", "2", "2"), ("2", "1", "2")] {
        let data = Data::new();
        data.lock().put(KEY, theirs.as_bytes());
        let member = Member::start(&data).await;
        let a = Proxy::with(&[member.url()], None, &[(NAME, ours)]).await;
        eventually("it is decided", async || {
            a.has(wanted).await && there(&data, wanted)
        })
        .await;
        let revision = data.lock().revision;
        a.store
            .write("certs/acme/other.pem", b"x")
            .await
            .expect("written");
        assert!(
            data.lock().revision <= revision + 1,
            "nobody writes without end"
        );
    }
}

/// What is bad in etcd does not go in, and one bad value does not stand before the others.
#[tokio::test]
async fn what_is_bad_stays_outside() {
    let data = Data::new();
    {
        let mut data = data.lock();
        data.put(KEY, b"bad");
        data.put("/stack/certs/../../outside.pem", b"9");
        data.put("/stack/certs/.hidden.pem", b"9");
        data.put(
            "/stack/certs/acme/large.pem",
            &vec![b'9'; store::MOST_BYTES + 1],
        );
        data.put("/stack/certs/acme/huge.pem", &vec![b'9'; 2 << 20]);
        data.put("/stack/certs/acme/x.pem.bad", b"9");
        data.put("/stackother/certs/acme/y.pem", b"9");
        data.put("/stack/certs/acme/last.pem", b"9");
    }
    let member = Member::start(&data).await;
    let a = Proxy::with(&[member.url()], None, &[(NAME, "1")]).await;
    eventually("the good one is there", async || a.files().len() == 2).await;
    assert_eq!(a.files(), ["last.pem", "www.example.org.pem"]);
    assert!(a.has("1").await && there(&data, "bad"));
    assert!(!a.state.path().join("../outside.pem").exists());
}

#[tokio::test]
async fn many_changes_come_page_by_page() {
    let data = Data::new();
    // Three pages. What is not taken is not written: a busy disk is slow at a thousand files.
    for number in 0..1200 {
        let content: &[u8] = if number % 100 == 99 { b"1" } else { b"bad" };
        data.lock()
            .put(&format!("/stack/certs/acme/{number}.pem"), content);
    }
    let member = Member::start(&data).await;
    let a = Proxy::start(&[member.url()]).await;
    eventually("all of them", async || a.files().len() == 12).await;
}

/// An etcd that was restored from an archive, or made anew, gets what it lacks.
#[tokio::test]
async fn an_etcd_that_forgot() {
    let data = Data::new();
    let member = Member::start(&data).await;
    let a = Proxy::start(&[member.url()]).await;
    a.store.write(NAME, b"1").await.expect("written");
    for cluster in ["17", "18"] {
        {
            let mut data = data.lock();
            data.keys.clear();
            (data.revision, data.cluster) = (1, cluster.into());
        }
        eventually("it is there again", async || there(&data, "1")).await;
    }
    data.lock().keys.clear();
    a.store.write(NAME, b"2").await.expect("written");
    eventually("where one key was removed, too", async || there(&data, "2")).await;
}

#[tokio::test]
async fn an_answer_to_a_challenge_is_lent_to_all() {
    let data = Data::new();
    let member = Member::start(&data).await;
    let (a, b) = (
        Proxy::start(&[member.url()]).await,
        Proxy::start(&[member.url()]).await,
    );
    let name = "challenges/http/token-1";
    a.store
        .lend(name, b"answer", Duration::from_secs(60))
        .await
        .expect("lent");
    assert_eq!(
        b.store.read(name).await.expect("read").as_deref(),
        Some(&b"answer"[..])
    );
    assert_eq!(
        b.store.read("challenges/http/other").await.expect("read"),
        None
    );
    a.store.remove(name).await.expect("removed");
    assert_eq!(b.store.read(name).await.expect("read"), None);
    a.store
        .lend(name, b"answer", Duration::from_secs(60))
        .await
        .expect("lent");
    data.lock().end_leases();
    assert_eq!(
        b.store.read(name).await.expect("read"),
        None,
        "it ends by itself"
    );
}

#[tokio::test]
async fn one_holder_over_all_proxies() {
    let data = Data::new();
    let member = Member::start(&data).await;
    let (a, b) = (
        Proxy::start(&[member.url()]).await,
        Proxy::start(&[member.url()]).await,
    );
    let held = a.store.lease("www").await.expect("asked").expect("free");
    assert!(
        a.store.lease("www").await.expect("asked").is_none(),
        "in this process"
    );
    assert!(
        b.store.lease("www").await.expect("asked").is_none(),
        "in the other"
    );
    assert!(b.store.lease("other").await.expect("asked").is_some());
    drop(held);
    eventually("it is free", async || {
        b.store.lease("www").await.expect("asked").is_some()
    })
    .await;
    // It ends in etcd: the holder hears of it within a beat.
    let held = loop {
        if let Some(held) = a.store.lease("www").await.expect("asked") {
            break held;
        }
        tokio::task::yield_now().await;
    };
    data.lock().end_leases();
    let lost = tokio::time::timeout(Duration::from_secs(20), held.lost()).await;
    lost.expect("it hears of it");
    drop(held);
    eventually("and may ask again", async || {
        a.store.lease("www").await.expect("asked").is_some()
    })
    .await;
}

/// Whoever cannot tell any more that it holds counts itself out before others can come in.
#[tokio::test]
async fn a_holder_that_is_cut_off_stops_in_time() {
    let data = Data::new();
    let member = Member::start(&data).await;
    let a = Proxy::start(&[member.url()]).await;
    let held = a.store.lease("www").await.expect("asked").expect("free");
    *member.mood.lock() = Mood::Silent;
    let began = Instant::now();
    held.lost().await;
    let took = began.elapsed();
    assert!(
        took < Duration::from_secs(14),
        "{took:?}: etcd lets others in after 15 s"
    );
}

#[tokio::test]
async fn a_bad_member_is_passed_over() {
    tokio::join!(
        passed_over(Mood::Silent, "no answer within"),
        passed_over(Mood::Garbage, "not what an etcd says"),
        passed_over(Mood::Leaderless, "no leader"),
        passed_over(Mood::NoGateway, "--enable-grpc-gateway"),
        passed_over(Mood::Endless, "more than"),
    );
}

async fn passed_over(mood: Mood, said: &str) {
    let data = Data::new();
    let (bad, good) = (Member::start(&data).await, Member::start(&data).await);
    *bad.mood.lock() = mood;
    let alone = Proxy::start(&[bad.url()]).await;
    eventually("it says so", async || alone.store.trouble().is_some()).await;
    let trouble = alone.store.trouble().unwrap_or_default();
    assert!(
        trouble.contains(said) && trouble.contains(&bad.url()),
        "{mood:?}: {trouble}"
    );
    let both = Proxy::start(&[bad.url(), good.url()]).await;
    both.store.write(NAME, b"1").await.expect("written");
    eventually("the good one has it", async || there(&data, "1")).await;
    eventually("and all is well", async || both.store.trouble().is_none()).await;
}

#[tokio::test]
async fn nobody_waits_long_for_a_silent_etcd() {
    let data = Data::new();
    let member = Member::start(&data).await;
    *member.mood.lock() = Mood::Silent;
    let a = Proxy::start(&[member.url()]).await;
    let began = Instant::now();
    a.store.write(NAME, b"1").await.expect("written here");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    // Known to be away, it is not waited for again by a visitor's request.
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(a.store.read("challenges/http/x").await.expect("read"), None);
    }
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_user_with_a_password() {
    let data = Data::new();
    data.lock().user = Some(("secret".into(), "token-1".into()));
    let member = Member::start(&data).await;
    let folder = tempfile::tempdir().expect("a folder");
    let password = folder.path().join("password");
    std::fs::write(&password, "wrong\n").expect("written");
    let a = Proxy::with(&[member.url()], Some(password.clone()), &[]).await;
    eventually("it says so", async || a.store.trouble().is_some()).await;
    let trouble = a.store.trouble().unwrap_or_default();
    assert!(
        trouble.contains("password") && !trouble.contains("wrong"),
        "{trouble}"
    );
    // Mended, and the session ends now and then.
    std::fs::write(&password, "secret\n").expect("written");
    eventually("it is let in", async || a.store.trouble().is_none()).await;
    data.lock().user = Some(("secret".into(), "token-2".into()));
    a.store.write(NAME, b"1").await.expect("written");
    assert!(there(&data, "1"));

    let nobody = Proxy::start(&[member.url()]).await;
    eventually("it says so", async || nobody.store.trouble().is_some()).await;
    let trouble = nobody.store.trouble().unwrap_or_default();
    assert!(trouble.contains("`user`"), "{trouble}");
}

/// A standing etcd is asked every two seconds, not without pause.
#[tokio::test]
async fn it_does_not_spin() {
    let data = Data::new();
    let member = Member::start(&data).await;
    let a = Proxy::start(&[member.url()]).await;
    a.store.write(NAME, b"1").await.expect("written");
    let before = data.lock().calls;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let calls = data.lock().calls - before;
    assert!((1..=4).contains(&calls), "{calls} calls in 5 s");
}
