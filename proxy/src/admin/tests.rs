//! Both ends of the admin API over a real socket, with a double in the daemon's place.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

use super::purge::MOST_BYTES;
use super::*;
use crate::cache::scope::Scope;
use crate::downstream::ResponseHead;

#[tokio::test]
async fn each_command_reaches_the_daemon() {
    let daemon = Daemon::start();
    let client = daemon.client();
    assert_eq!(client.status().await.unwrap(), example());
    assert_eq!(client.metrics().await.unwrap(), "requests_total 7\n");
    let error = client.reload().await.unwrap_err();
    assert_eq!(error.to_string(), "line 3: no such key\nline 9: too long");
    let mut what = UpgradeRequest::default();
    assert_eq!(
        client.upgrade(&what).await.unwrap(),
        "upgraded to None, reading None"
    );
    what.program = Some(PathBuf::from("/opt/new"));
    what.config = Some(PathBuf::from("/etc/new.toml"));
    assert_eq!(
        client.upgrade(&what).await.unwrap(),
        "upgraded to Some(\"/opt/new\"), reading Some(\"/etc/new.toml\")"
    );
    assert_eq!(client.drain(None).await.unwrap(), "draining for None");
    let deadline = Some(Duration::from_millis(1500));
    assert_eq!(
        client.drain(deadline).await.unwrap(),
        "draining for Some(1.5s)"
    );
    let pages = PurgeRequest {
        urls: vec![
            "https://www.a.example/b".into(),
            "https://www.a.example/".into(),
        ],
        hard: true,
        ..PurgeRequest::default()
    };
    assert_eq!(client.purge(&pages).await.unwrap(), Purged::new(2, true));
    daemon.stop().await;
}

#[tokio::test]
async fn certificates_are_shown_and_steered() {
    let daemon = Daemon::start();
    let client = daemon.client();
    assert_eq!(client.certs().await.unwrap(), Overview::default());
    let names = vec!["a.example".to_owned()];
    assert_eq!(
        client.renew(names.clone()).await.unwrap(),
        "renewed [\"a.example\"]"
    );
    let refused = client.renew(vec!["x".to_owned()]).await.unwrap_err();
    assert_eq!(refused.to_string(), "x is no name of a certificate");
    let trials = client.dry_run(names.clone()).await.unwrap();
    assert!(trials[0].ok && trials[0].names == names, "{trials:?}");
    let agreed = client.agree("https://ca.example/d".to_owned()).await;
    assert_eq!(agreed.unwrap(), "agreed to https://ca.example/d");
    for form in Form::ALL {
        let feed = client.feed(form).await.unwrap();
        assert_eq!(feed, format!("{form:?}"));
        let head = format!(
            "GET /{} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
            form.file()
        );
        let answer = daemon.send(&head).await;
        assert!(answer.contains(form.media_type()), "{answer}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn one_renewal_or_dry_run_at_a_time_and_a_dry_run_ends_with_its_client() {
    let daemon = Daemon::start();
    let slow = || vec!["slow".to_owned()];
    let client = daemon.client();
    let renewing = tokio::spawn(async move { client.renew(slow()).await });
    eventually(|| daemon.control.orders.load(Ordering::SeqCst) == 1).await;
    let busy = daemon.client().dry_run(slow()).await.unwrap_err();
    let wanted = "another renewal or dry run that was asked for is under way";
    assert_eq!(busy.to_string(), wanted);
    // Whoever asked goes away; the renewal does not.
    renewing.abort();
    assert!(renewing.await.unwrap_err().is_cancelled());
    daemon.control.order_on.notify_one();
    eventually(|| daemon.control.orders.load(Ordering::SeqCst) == 2).await;

    let client = daemon.client();
    let trying = tokio::spawn(async move { client.dry_run(slow()).await });
    eventually(|| daemon.control.orders.load(Ordering::SeqCst) == 3).await;
    trying.abort();
    assert!(trying.await.unwrap_err().is_cancelled());
    // The next one has its turn, though nobody let the last one go on.
    while let Err(busy) = daemon.client().renew(Vec::new()).await {
        assert_eq!(busy.to_string(), wanted);
    }
    assert_eq!(daemon.control.orders.load(Ordering::SeqCst), 3);
    daemon.stop().await;
}

#[tokio::test]
async fn a_page_is_fetched_with_its_status_and_what_was_kept_of_its_body() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let mut wish = Wish {
        url: "https://a.example/".to_owned(),
        encoding: Some("br".to_owned()),
        body: true,
    };
    let answer = client.fetch(&wish).await.unwrap();
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.field(&header::LOCATION), Some("br"));
    assert_eq!(&answer.body[..], b"xxxxxxxxx");
    assert!(answer.cut);
    wish.body = false;
    let answer = client.fetch(&wish).await.unwrap();
    assert!(answer.body.is_empty() && !answer.cut);
    wish.url = "https://b.example/".to_owned();
    let error = client.fetch(&wish).await.unwrap_err();
    assert_eq!(error.to_string(), "https://b.example/ is not here");
    daemon.stop().await;
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_answered() {
    let daemon = Daemon::start();
    let index = daemon
        .send("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await;
    assert!(index.starts_with("HTTP/1.1 200 "), "{index}");
    assert!(index.contains("POST /reload"), "{index}");
    for (request, status, error) in [
        ("GET /nothing", 404, "no such path; GET / lists them"),
        ("POST /status", 405, "this path wants GET"),
        ("GET /reload", 405, "this path wants POST"),
        ("GET /purge", 405, "this path wants POST"),
        ("POST /purge", 422, "nothing was named to be purged"),
        (
            "POST /purge {\"url\":\"https://www.a.example/\"}",
            400,
            "the body: unknown field",
        ),
        (
            "POST /purge {\"urls\":[\"/\"],\"tags\":[\"\"]}",
            422,
            "nothing was purged:\\n/: not a whole URL\\n  hint: https://www.a.example/\\ntag ''",
        ),
        (
            "POST /purge {\"tags\":[\"refused\"]}",
            422,
            "the double refuses it",
        ),
        ("POST /certs", 405, "this path wants GET"),
        ("POST /certificates.ics", 405, "this path wants GET"),
        ("GET /certs/renew", 405, "this path wants POST"),
        ("POST /certs/agree", 400, "the body: directory says whose"),
        (
            "POST /certs/renew {\"name\":\"a\"}",
            400,
            "the body: unknown field",
        ),
        ("POST /upgrade {", 400, "the body: EOF while parsing"),
        (
            "POST /upgrade {\"programm\":\"x\"}",
            400,
            "the body: unknown field",
        ),
        (
            "POST /upgrade {\"program\":\"x\"}",
            400,
            "the body: program must be an absolute path",
        ),
        (
            "POST /upgrade {\"config\":\"x\"}",
            400,
            "the body: config must be an absolute path",
        ),
        (
            "POST /drain {\"deadline_seconds\":-1}",
            400,
            "the body: deadline_seconds: ",
        ),
        (
            "POST /drain {\"deadline_seconds\":1e300}",
            400,
            "the body: deadline_seconds: ",
        ),
        (
            "POST /reload",
            422,
            "line 3: no such key\\nline 9: too long",
        ),
    ] {
        let (line, body) = request
            .split_once(" {")
            .map_or((request, String::new()), |(line, rest)| {
                (line, format!("{{{rest}"))
            });
        let answer = daemon
            .send(&format!(
                "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ))
            .await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {answer}"
        );
        assert!(
            answer.contains(&format!("{{\"error\":\"{error}")),
            "{request}: {answer}"
        );
        assert_eq!(status == 405, answer.contains("\r\nallow: "), "{answer}");
    }
    let large = "x".repeat(17 * 1024);
    let head =
        "POST /upgrade HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 17408\r\n\r\n";
    let answer = daemon.send(&format!("{head}{large}")).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // A purge may be larger than other requests, to a bound of its own.
    for (bytes, wanted) in [
        (500 * 1024, "not a whole URL"),
        (600 * 1024, "more than 540672 bytes"),
    ] {
        let large = PurgeRequest {
            urls: vec!["x".repeat(bytes)],
            ..PurgeRequest::default()
        };
        let refused = daemon.client().purge(&large).await.unwrap_err();
        assert!(refused.to_string().contains(wanted), "{refused}");
    }
    // Whatever the command reads, it can say: the shortest lines grow the most.
    let lines = PurgeRequest {
        urls: vec!["x".to_owned(); MOST_BYTES / "x\n".len()],
        ..PurgeRequest::default()
    };
    let refused = daemon.client().purge(&lines).await.unwrap_err();
    let hint = "131072 things were named to be purged, and 1000 is the most";
    assert!(refused.to_string().starts_with(hint), "{refused}");
    let answer = daemon.send("what is this\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    daemon.stop().await;
}

#[tokio::test]
async fn one_change_at_a_time_and_to_its_end() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let slow = to("/slow");
    let upgrading = tokio::spawn(async move { client.upgrade(&slow).await });
    eventually(|| daemon.control.upgrades.load(Ordering::SeqCst) == 1).await;

    let client = daemon.client();
    let busy = client.reload().await.unwrap_err();
    assert_eq!(busy.to_string(), "another reload or upgrade is under way");
    assert_eq!(client.drain(None).await.unwrap(), "draining for None");

    // Whoever asked goes away; the upgrade does not.
    upgrading.abort();
    assert!(upgrading.await.unwrap_err().is_cancelled());
    daemon.control.proceed.notify_one();
    eventually(|| daemon.control.upgrades.load(Ordering::SeqCst) == 2).await;
    let mut refused = client.reload().await.unwrap_err();
    while refused.to_string().contains("under way") {
        refused = client.reload().await.unwrap_err();
    }
    assert!(refused.to_string().starts_with("line 3"));
    daemon.stop().await;
}

/// The process that takes over reads what has been purged, and must not miss a purge.
#[tokio::test]
async fn purges_beside_each_other_but_not_beside_an_upgrade() {
    let daemon = Daemon::start();
    let purge = |url: &str| {
        let (client, url) = (daemon.client(), url.to_owned());
        let what = PurgeRequest {
            urls: vec![url],
            ..PurgeRequest::default()
        };
        tokio::spawn(async move { client.purge(&what).await })
    };
    let slow = purge("https://www.a.example/slow");
    eventually(|| daemon.control.purges.load(Ordering::SeqCst) == 1).await;
    let beside = purge("https://www.a.example/").await.unwrap().unwrap();
    assert_eq!(beside, Purged::new(1, false));

    // An upgrade waits for the one under way; no other begins meanwhile.
    let client = daemon.client();
    let upgrading = tokio::spawn(async move { client.upgrade(&to("/slow")).await });
    let refused = loop {
        if let Err(refused) = purge("https://www.a.example/").await.unwrap() {
            break refused;
        }
    };
    let wanted = "an upgrade is under way: purge again when it is done";
    assert_eq!(refused.to_string(), wanted);
    assert_eq!(daemon.control.upgrades.load(Ordering::SeqCst), 0);

    // Whoever asked goes away; the purge does not.
    slow.abort();
    daemon.control.purge_on.notify_one();
    eventually(|| daemon.control.upgrades.load(Ordering::SeqCst) == 1).await;
    assert_eq!(daemon.control.slow_purges.load(Ordering::SeqCst), 1);
    let refused = purge("https://www.a.example/").await.unwrap().unwrap_err();
    assert_eq!(refused.to_string(), wanted);
    daemon.control.proceed.notify_one();
    upgrading.await.unwrap().unwrap();
    purge("https://www.a.example/").await.unwrap().unwrap();
    daemon.stop().await;
}

#[tokio::test]
async fn an_answer_under_way_is_sent_before_the_end() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let upgrading = tokio::spawn(async move { client.upgrade(&to("/slow")).await });
    eventually(|| daemon.control.upgrades.load(Ordering::SeqCst) == 1).await;
    // An idle connection must not hold up the end.
    let idle = UnixStream::connect(daemon.socket()).await.unwrap();
    daemon.stop.notify_one();
    let gone = daemon.client();
    eventually(|| std::os::unix::net::UnixStream::connect(gone.socket()).is_err()).await;
    daemon.control.proceed.notify_one();
    assert_eq!(
        upgrading.await.unwrap().unwrap(),
        "upgraded to Some(\"/slow\"), reading None"
    );
    tokio::time::timeout(Duration::from_secs(5), daemon.serving)
        .await
        .unwrap()
        .unwrap();
    drop(idle);
}

#[tokio::test]
async fn clients_over_the_bound_wait_their_turn() {
    let daemon = Daemon::start();
    let mut idle = Vec::new();
    for _ in 0..32 {
        idle.push(UnixStream::connect(daemon.socket()).await.unwrap());
    }
    let client = daemon.client();
    let mut waiting = tokio::spawn(async move { client.metrics().await });
    let early = tokio::time::timeout(Duration::from_millis(100), &mut waiting).await;
    assert!(early.is_err(), "the 33rd connection was answered");
    idle.pop();
    assert_eq!(waiting.await.unwrap().unwrap(), "requests_total 7\n");
    drop(idle);
    daemon.stop().await;
}

#[tokio::test]
async fn a_client_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let absent = Client::new(&path).status().await.unwrap_err().to_string();
    let expected = format!(
        "no sovereign-proxy answers on {}: is it running?",
        path.display()
    );
    assert!(absent.starts_with(&expected), "{absent}");
    drop(bind(&path).unwrap());
    let dead = Client::new(&path).status().await.unwrap_err();
    assert_eq!(dead.to_string(), absent);

    // Something else listens there.
    let other = folder.path().join("other.sock");
    let listener = UnixListener::bind(&other).unwrap();
    let client = Client::new(&other);
    for (answer, error) in [
        ("SSH-2.0-server\r\n", "talking to "),
        ("", "talking to "),
        (
            "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 3\r\n\r\nno!",
            "it answered 502 Bad Gateway",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            "missing field",
        ),
    ] {
        let (outcome, ()) = tokio::join!(client.status(), async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let chain = format!("{:#}", anyhow::Error::new(outcome.unwrap_err()));
        assert!(chain.contains(error), "{chain}");
    }
}

/// The daemon's double: what it was asked, it answers.
#[derive(Default)]
struct Double {
    /// Counts an upgrade when it begins and again when it ends.
    upgrades: AtomicUsize,
    proceed: Notify,
    /// Purges that have begun.
    purges: AtomicUsize,
    /// Purges that had to wait, and have ended.
    slow_purges: AtomicUsize,
    purge_on: Notify,
    /// Slow renewals and dry runs: counted when they begin, and when they end.
    orders: AtomicUsize,
    order_on: Notify,
}

impl Double {
    async fn slow_order(&self, names: &[String]) {
        if names == ["slow"] {
            self.orders.fetch_add(1, Ordering::SeqCst);
            self.order_on.notified().await;
            self.orders.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[async_trait]
impl Control for Double {
    fn status(&self) -> Status {
        example()
    }

    fn sites(&self) -> Vec<SiteStatus> {
        example().sites
    }

    async fn reload(&self) -> Result<String, String> {
        Err("line 3: no such key\nline 9: too long".into())
    }

    async fn upgrade(&self, what: UpgradeRequest) -> Result<String, String> {
        let UpgradeRequest { program, config } = what;
        if program.as_deref() == Some(Path::new("/slow")) {
            self.upgrades.fetch_add(1, Ordering::SeqCst);
            self.proceed.notified().await;
            self.upgrades.fetch_add(1, Ordering::SeqCst);
        }
        Ok(format!("upgraded to {program:?}, reading {config:?}"))
    }

    async fn drain(&self, deadline: Option<Duration>) -> Result<String, String> {
        Ok(format!("draining for {deadline:?}"))
    }

    async fn purge(&self, what: Purge) -> Result<Purged, String> {
        self.purges.fetch_add(1, Ordering::SeqCst);
        if *what.scopes == [Scope::tag("www.a.example", b"refused")] {
            return Err("the double refuses it".into());
        }
        if what.pages.iter().any(|url| url.path_and_query() == "/slow") {
            self.purge_on.notified().await;
            self.slow_purges.fetch_add(1, Ordering::SeqCst);
        }
        Ok(Purged::new(what.scopes.len() as u64, what.hard))
    }

    async fn fetch(&self, wish: &Wish) -> Result<Fetched, String> {
        if wish.url != "https://a.example/" {
            return Err(format!("{} is not here", wish.url));
        }
        let mut head = ResponseHead::new(StatusCode::NOT_FOUND);
        let encoding = wish.encoding.as_deref().unwrap_or_default();
        let encoding = HeaderValue::from_str(encoding).unwrap();
        head.headers.insert(header::LOCATION, encoding);
        Ok(Fetched {
            head,
            length: 10,
            body: Bytes::from(vec![b'x'; wish.bound().min(9)]),
        })
    }

    fn certs(&self) -> Overview {
        Overview::default()
    }

    async fn renew(&self, names: &[String]) -> Result<String, String> {
        if names == ["x"] {
            return Err("x is no name of a certificate".into());
        }
        self.slow_order(names).await;
        Ok(format!("renewed {names:?}"))
    }

    async fn dry_run(&self, names: &[String]) -> Result<Vec<Trial>, String> {
        self.slow_order(names).await;
        Ok(vec![Trial {
            names: names.to_vec(),
            ok: true,
            ..Trial::default()
        }])
    }

    async fn agree(&self, directory: &str) -> Result<String, String> {
        Ok(format!("agreed to {directory}"))
    }

    fn feed(&self, form: Form) -> String {
        format!("{form:?}")
    }

    fn metrics(&self) -> String {
        "requests_total 7\n".into()
    }
}

struct Daemon {
    folder: tempfile::TempDir,
    control: Arc<Double>,
    stop: Arc<Notify>,
    serving: tokio::task::JoinHandle<()>,
}

impl Daemon {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = bind(&folder.path().join("admin.sock")).unwrap();
        socket.set_nonblocking(true).unwrap();
        let listener = UnixListener::from_std(socket).unwrap();
        let (control, stop) = (Arc::new(Double::default()), Arc::new(Notify::new()));
        let stopped = stop.clone();
        let serving = serve(listener, control.clone(), async move {
            stopped.notified().await;
        });
        Self {
            folder,
            control,
            stop,
            serving: tokio::spawn(serving),
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    fn client(&self) -> Client {
        Client::new(self.socket())
    }

    async fn send(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(self.socket()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A refused body may end in a reset after its answer.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn stop(self) {
        self.stop.notify_one();
        tokio::time::timeout(Duration::from_secs(5), self.serving)
            .await
            .unwrap()
            .unwrap();
    }
}

fn example() -> Status {
    Status {
        version: "0.1.0".into(),
        pid: 7,
        sites: vec![SiteStatus {
            names: vec!["www.a.example".into()],
            tls: "files".into(),
            ..SiteStatus::default()
        }],
        ..Status::default()
    }
}

fn to(program: &str) -> UpgradeRequest {
    UpgradeRequest {
        program: Some(program.into()),
        config: None,
    }
}

async fn eventually(mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .expect("it never happened");
}
