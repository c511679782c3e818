//! What an operator reads on a bad day: a host that is cut off, shows another key, has no room or no engine, a
//! service that does not get well, a second operator. Each failure names the host, the step, what the host said and
//! the way out; the other host goes on, and what served before still does.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use sovereign_tests::cluster::Outcome;
use sovereign_tests::{Lab, eventually};

use super::stage::{Stage, assert_says, said};

const HOSTS: &str = r#"
[[datacentre]]
name = "home"
role = "primary"

[[host]]
name = "h1"
datacentre = "home"
ssh = "root@10.77.0.11"

[[host]]
name = "h2"
datacentre = "home"
ssh = "root@10.77.0.12"

[[site]]
names = ["app.example"]
[site.proxy]
tls = "local"
[[site.service]]
use = "custom"
name = "app"
host = "h2"
compose = "app.yaml"
options = { port = 8085 }
"#;

/// The health check of a service that is well once it has its page.
const WELL: &str = r#"["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/index.html"]"#;
/// One that is never well.
const SICK: &str = r#"["CMD", "sh", "-c", "echo no table posts; exit 1"]"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_name_their_way_out_and_others_go_on() {
    let lab = Lab::open().await;
    let stage = Stage::open(&lab, 2).await;
    stage.cluster.name("app.example", "h2");
    stage.cluster.name("relay.example", "h1");
    stage
        .images(&[
            ("busybox", "busybox:1"),
            ("strfry", "dockurr/strfry:latest"),
        ])
        .await;
    let mut book = Book::default();

    wrong_usage(&stage, &mut book).await;
    secrets(&stage, &mut book).await;
    serves(&stage, "one").await;
    wrong_key(&stage, &mut book).await;
    no_engine(&stage, &mut book).await;
    never_well(&stage, &mut book).await;
    full_disk(&stage, &mut book).await;
    two_operators_and_a_cut(&lab, &stage, &mut book).await;
    book.is_expected("trouble");
}

/// What cannot be, ends with 2.
async fn wrong_usage(stage: &Stage, book: &mut Book) {
    stage.write("[[host]]\nname = \"h1\"\nengin = \"docker\"\n");
    let ended = stage.cluster.sovereign(&["deploy", "--yes"]).await;
    book.write("a configuration with problems", &ended.expect(2));
    titled(stage, "A relay");
    app(stage, "one", WELL, 0);
    let ended = stage.cluster.sovereign(&["deploy", "--host", "h9"]).await;
    book.write("a host that there is not", &ended.expect(2));
}

/// A secret that is not set, and one that another identity cannot read.
async fn secrets(stage: &Stage, book: &mut Book) {
    stage.sovereign(&["lock"]).await;
    let ended = deploy(stage).await;
    book.write("a secret that is not set", &ended.expect(1));
    let set = "cd /root/stack; echo a hidden word | sovereign secret set contact";
    stage.cluster.management().shell(set).await;
    stage
        .sovereign(&["secret", "identity", "--identity", "/root/other.txt"])
        .await;
    let other = ["deploy", "--yes", "--identity", "/root/other.txt"];
    let ended = stage.cluster.sovereign(&other).await;
    book.write("another identity", &ended.expect(1));
    let ended = deploy(stage).await;
    if ended.code != 0 {
        stage.sovereign(&["deploy", "--yes"]).await;
    }
    let ended = ended.expect(0);
    assert!(!said(&ended).contains("a hidden word"), "{}", said(&ended));
}

async fn wrong_key(stage: &Stage, book: &mut Book) {
    titled(stage, "A relay of ours");
    stage.cluster.machine("h2").renew_key().await;
    let ended = deploy(stage).await;
    book.write("another host key", &ended.expect(1));
    // The other host has it.
    let info = &[("accept", "application/nostr+json")];
    let relay = stage.page_with("h1", "relay.example", "/", info).await;
    assert_eq!(relay.expect(200).json()["name"], "A relay of ours");
    stage.cluster.trust();
    stage.sovereign(&["deploy", "--yes"]).await;
}

async fn no_engine(stage: &Stage, book: &mut Book) {
    let h2 = stage.cluster.machine("h2");
    h2.stop_engine().await;
    app(stage, "two", WELL, 0);
    let ended = deploy(stage).await;
    book.write("an engine that is down", &ended.expect(1));
    h2.start_engine().await;
    stage.sovereign(&["deploy", "--yes"]).await;
    serves(stage, "two").await;
}

async fn never_well(stage: &Stage, book: &mut Book) {
    app(stage, "three", SICK, 0);
    let ended = deploy(stage).await;
    book.write("a service that does not get well", &ended.expect(1));
    serves(stage, "two").await;
}

async fn full_disk(stage: &Stage, book: &mut Book) {
    let h2 = stage.cluster.machine("h2");
    app(stage, "four", WELL, 0);
    h2.full_disk().await;
    let ended = deploy(stage).await;
    assert_says(
        &said(&ended),
        &["No space left on device", "hint: the host's disk is full"],
    );
    book.write("a full disk", &ended.expect(1));
    serves(stage, "two").await;
    h2.free_disk().await;
    stage.sovereign(&["deploy", "--yes"]).await;
    serves(stage, "four").await;
}

/// While one waits for a slow service, another one is told so; then the host of the first is cut.
async fn two_operators_and_a_cut(lab: &Lab, stage: &Stage, book: &mut Book) {
    app(stage, "five", WELL, 12);
    titled(stage, "A relay of all");
    let mut first = stage.cluster.begin(lab, &["deploy", "--yes"]);
    let h2 = stage.cluster.machine("h2");
    let starting = "docker ps --filter health=starting --format '{{.Names}}' | grep app";
    eventually("the service starts", Duration::from_secs(60), || async {
        match h2.run(&["sh", "-c", starting]).await.code {
            0 => Ok(()),
            _ => Err(format!("{:?}", first.said())),
        }
    })
    .await;
    let second = ["deploy", "--yes", "--host", "h2"];
    let ended = stage.cluster.sovereign(&second).await;
    book.write("another operator", &ended.expect(1));

    stage.cluster.cut("h2");
    let begun = Instant::now();
    let ended = first.wait(Duration::from_secs(60)).await;
    let took = begun.elapsed();
    eprintln!("the cut was told after {took:.1?}");
    book.write("a host that is cut off", &ended.expect(1));
    assert!(took < Duration::from_secs(30), "{took:?}");

    let begun = Instant::now();
    let ended = deploy(stage).await;
    let took = begun.elapsed();
    book.write("a host that is still cut off", &ended.expect(1));
    assert!(took < Duration::from_secs(30), "{took:?}");

    stage.cluster.heal("h2");
    let ended = stage.sovereign(&["deploy", "--yes"]).await;
    assert_says(&ended, &["everything is as it should be"]);
    serves(stage, "five").await;
    let again = stage.sovereign(&["deploy", "--yes"]).await;
    assert_says(&again, &["nothing to do"]);
}

async fn deploy(stage: &Stage) -> Outcome {
    stage.cluster.sovereign(&["deploy", "--yes"]).await
}

/// Writes the stack, with this title of the relay.
fn titled(stage: &Stage, title: &str) {
    let relay = format!(
        r#"
[[site]]
names = ["relay.example"]
[site.proxy]
tls = "local"
[[site.service]]
use = "nostr"
name = "relay"
host = "h1"
options = {{ title = "{title}", contact = {{ secret = "contact" }} }}
"#
    );
    stage.write(&format!("{HOSTS}{relay}"));
}

/// The operator's own service: its page, when it is well, and after how many seconds.
fn app(stage: &Stage, version: &str, health: &str, seconds: u8) {
    let compose = format!(
        r#"services:
  web:
    image: busybox:1
    command: ["sh", "-c", "sleep {seconds}; echo {version} >/srv/index.html; exec httpd -f -p 80 -h /srv"]
    init: true
    ports:
      - "127.0.0.1:8085:80"
    healthcheck:
      test: {health}
      interval: 1s
      retries: 2
      start_period: {seconds}s
"#
    );
    stage.cluster.write("stack/app.yaml", compose);
}

/// Visitors get this version.
async fn serves(stage: &Stage, version: &str) {
    let path = format!("/?{version}");
    let page = stage.page("h2", "app.example", &path).await.expect(200);
    assert_eq!(page.text().trim(), version);
}

/// What was said, one chapter for each failure.
#[derive(Debug, Default)]
pub(super) struct Book {
    text: String,
}

impl Book {
    /// Writes down what a command said, without what differs from run to run.
    pub(super) fn write(&mut self, chapter: &str, ended: &Outcome) {
        let said = steady(&said(ended));
        eprintln!("=== {chapter}: exit code {}\n{said}", ended.code);
        let _ = write!(
            self.text,
            "=== {chapter}: exit code {}\n{said}\n",
            ended.code
        );
    }

    /// Compares it with what was written down before.
    pub(super) fn is_expected(&self, name: &str) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("e2e/deploy/expected")
            .join(format!("{name}.txt"));
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::create_dir_all(path.parent().expect("it lies in a folder"))
                .and_then(|()| std::fs::write(&path, &self.text))
                .expect("the folder is ours");
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            self.text == expected,
            "{name} differs; UPDATE_EXPECTED=1 writes it anew:\n{}",
            self.text
        );
    }
}

/// Revisions, digests and times stand as what they are. Hosts work side by side: the lines of steps are sorted.
fn steady(text: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(steady_line).collect();
    let is_step = |line: &str| {
        line.split_once(": ").is_some_and(|(host, rest)| {
            host.len() == 2 && rest.starts_with(|c: char| c.is_ascii_digit())
        })
    };
    let mut from = 0;
    while from < lines.len() {
        let steps = lines[from..]
            .iter()
            .take_while(|line| is_step(line))
            .count();
        lines[from..from + steps].sort();
        from += steps.max(1);
    }
    lines.join("\n") + "\n"
}

fn steady_line(line: &str) -> String {
    let words = line.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    let words = words.map(|word| {
        let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let hex = bare.chars().all(|c| c.is_ascii_hexdigit());
        let mark = match bare.len() {
            12 | 64 if hex => "HEX",
            _ => bare,
        };
        word.replacen(bare, mark, usize::from(!bare.is_empty()))
    });
    timeless(&words.collect::<String>())
}

/// `2026-01-01T00:00:00Z` becomes `TIME`, and a key's fingerprint `KEY`.
fn timeless(line: &str) -> String {
    let words = line.split(' ').map(|word| match word {
        word if word.starts_with("SHA256:") => "KEY",
        word if word.len() == 20 && word.starts_with("20") && word.ends_with('Z') => "TIME",
        word => word,
    });
    words.collect::<Vec<_>>().join(" ")
}
