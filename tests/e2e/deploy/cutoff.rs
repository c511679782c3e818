//! `sovereign` is killed at every step of a deployment, and run again: it takes up where it was cut off, leaves
//! nothing behind, and visitors see nothing of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use sovereign_tests::Lab;
use sovereign_tests::cluster::Begun;

use super::stage::{Stage, assert_says, said};

const STACK: &str = r#"
[[datacentre]]
name = "home"
role = "primary"

[[host]]
name = "h1"
datacentre = "home"
ssh = "root@10.77.0.11"

[[site]]
names = ["pages.example"]
[site.proxy]
tls = "local"
[[site.service]]
use = "static"
name = "pages"
options = { folder = "pages" }

[[site]]
names = ["app.example"]
[site.proxy]
tls = "local"
[[site.service]]
use = "custom"
name = "app"
compose = "app.yaml"
options = { port = 8085 }
"#;

/// More kills than there are steps: then a run does not take up what one before has done.
const MOST: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_step_it_takes_up_again() {
    let lab = Lab::open().await;
    let stage = Stage::open(&lab, 1).await;
    stage.cluster.name("pages.example", "h1");
    stage.cluster.name("app.example", "h1");
    stage
        .images(&[("caddy", "caddy:2-alpine"), ("busybox", "busybox:1")])
        .await;
    stage.write(STACK);
    write_version(&stage, "one");
    stage.sovereign(&["lock"]).await;

    // From nothing.
    let killed = killed_until_done(&lab, &stage).await;
    eprintln!("killed {} times: {killed:#?}", killed.len());
    assert!(killed.len() > 7, "{killed:?}");
    is_well(&stage, "one").await;

    // A change: one service has a second one beside it, the other is changed where it is. Whoever reads the first
    // one's pages meanwhile misses none.
    write_version(&stage, "two");
    let done = AtomicBool::new(false);
    let change = async {
        let killed = killed_until_done(&lab, &stage).await;
        done.store(true, Ordering::Relaxed);
        killed
    };
    let (killed, read) = tokio::join!(change, read_pages(&stage, &done));
    eprintln!(
        "killed {} times: {killed:#?}; {read} pages read",
        killed.len()
    );
    assert!(killed.len() > 5, "{killed:?}");
    assert!(read > 50, "{read}");
    is_well(&stage, "two").await;
}

/// The sources of both services, at a version.
fn write_version(stage: &Stage, version: &str) {
    stage.cluster.write("stack/pages/index.html", version);
    let compose = format!(
        r#"services:
  web:
    image: busybox:1
    command: ["sh", "-c", "echo {version} >/srv/index.html; exec httpd -f -p 80 -h /srv"]
    init: true
    ports:
      - "127.0.0.1:8085:80"
    healthcheck:
      test: ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/"]
      interval: 1s
"#
    );
    stage.cluster.write("stack/app.yaml", compose);
}

/// Deploys again and again, killed each time once a step is done that none was killed after, at another moment of the
/// next one. Gives after what it was killed.
async fn killed_until_done(lab: &Lab, stage: &Stage) -> Vec<String> {
    let mut killed = Vec::new();
    while killed.len() < MOST {
        let mut begun = stage.cluster.begin(lab, &["deploy", "--yes"]);
        let Some(after) = something_new(&begun, &killed).await else {
            begun.wait(Duration::from_secs(60)).await.expect(0);
            return killed;
        };
        // At its very beginning, or in the middle of it.
        let later = [0, 120, 300][killed.len() % 3];
        tokio::time::sleep(Duration::from_millis(later)).await;
        begun.signal(Signal::KILL);
        let ended = begun.wait(Duration::from_secs(20)).await;
        killed.push(after);
        if ended.code == 0 {
            return killed;
        }
        ended.expect(137);
    }
    panic!("it does not end: {killed:#?}");
}

/// What it has done that is not among `known`: the plan, or a step; nothing where it ends before.
async fn something_new(begun: &Begun, known: &[String]) -> Option<String> {
    loop {
        let (stdout, stderr) = begun.said();
        assert!(!stderr.contains("error:"), "{known:#?}\n{stdout}\n{stderr}");
        let plan = stdout.lines().next().map(|_| "the plan");
        let steps = stderr.lines().filter_map(|line| line.strip_prefix("h1: "));
        let steps = steps.filter_map(|line| Some(line.split_once(' ')?.1));
        let mut done = plan.into_iter().chain(steps);
        if let Some(new) = done.find(|done| !known.iter().any(|known| known == done)) {
            return Some(new.to_owned());
        }
        if stdout.contains("as it should be") || stdout.contains("nothing to do") {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Reads pages until told otherwise; one that is not there fails.
async fn read_pages(stage: &Stage, done: &AtomicBool) -> usize {
    let mut read = 0;
    while !done.load(Ordering::Relaxed) {
        let page = stage.page("h1", "pages.example", "/").await.expect(200);
        let text = page.text();
        assert!(["one", "two"].contains(&text.trim()), "{text}");
        read += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    read
}

/// Everything serves this version, once, and there is nothing to do.
async fn is_well(stage: &Stage, version: &str) {
    let again = stage
        .cluster
        .sovereign(&["deploy", "--yes"])
        .await
        .expect(0);
    assert_says(&said(&again), &["nothing to do: 3 unchanged on 1 host"]);
    for site in ["pages.example", "app.example"] {
        let page = stage.page("h1", site, "/").await.expect(200);
        assert_eq!(page.text().trim(), version, "{site}");
    }
    let h1 = stage.cluster.machine("h1");
    let running = h1.shell("docker ps --all --format '{{.Names}}'").await;
    let running: Vec<_> = running.lines().collect();
    assert_eq!(running.len(), 2, "{running:?}");
    // Nothing half written lies about.
    let left = h1
        .shell("find /var/lib/sovereign -path '*/state' -prune -o \\( -name '.*' -o -name '*.new' -o -name '*.tmp' -o -name '*.part*' \\) -print")
        .await;
    assert_eq!(left, "", "{left}");
    let written = h1.shell("cat /var/lib/sovereign/deployments").await;
    eprintln!("{written}");
}
