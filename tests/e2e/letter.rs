//! What the cache must do, line by line: each numbered item of its specification holds through the
//! real daemon, in its default configuration, between a client and an origin that says exactly what
//! the item is about.
//!
//! `item_14_...` tests item 14. A row of a table is an exchange with a path of its own; the test
//! names every row that fails. Nothing waits for time to pass where an `Age` or a `Date` of the
//! origin's can make a response old.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use sovereign_tests::client::{empty, whole};
use sovereign_tests::script::{Asked, Say, Script};
use sovereign_tests::{Answer, Client, Lab, Proxy, eventually};

// How long a response is fresh: items 1 to 5.
mod freshness;
// What is stored: items 6 to 13.
mod stored;
// Item 14.
mod vary;
// Asking again whether it is still so: items 15 to 18.
mod validation;
// Items 19 and 20.
mod stale;
// Items 21, 23, 24 and 27.
mod serving;
// Item 22.
mod ranges;
// Items 25 and 26.
mod waiting;
// Item 28.
mod targeted;
// Items 29 and 30.
mod telling;
// Item 31.
mod safe;

/// A lifetime or an age in seconds; `NOT_REUSED` is none. Longer than any test takes.
type Reuse = Option<i64>;

/// The second request went to the origin.
const NOT_REUSED: Reuse = None;
/// More seconds than a test takes, less than any two lifetimes of a table differ by.
const SLACK: i64 = 60;
/// Fields that many of the origin's answers have.
const HOUR: &str = "cache-control: max-age=3600";
const TAG: &str = "etag: \"a\"";
const CHANGED: &str = "last-modified: Sun, 06 Nov 1994 08:49:37 GMT";
/// Longer than anything takes that does come.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a client that has connected takes to send its request, many times over.
const A_MOMENT: Duration = Duration::from_millis(500);
/// The host that the client asks for.
const HOST: &str = "site.test";

/// A daemon between a client and an origin. Each test has its own.
struct Stage {
    client: Client,
    proxy: Proxy,
    origin: Script,
    paths: AtomicUsize,
    _lab: Lab,
}

impl Stage {
    /// With the default configuration: one site for every name, without TLS, one upstream.
    async fn open() -> Self {
        Self::with("").await
    }

    /// With more in the table of its site.
    async fn with(more: &str) -> Self {
        let lab = Lab::open().await;
        let origin = Script::start().await;
        let sites = format!(
            "[[site]]\nnames = [\"*\"]\ntls = \"off\"\nupstream = [\"{}\"]\n{more}\n",
            origin.url()
        );
        let proxy = Proxy::start(&lab, &sites).await;
        Self {
            client: Client::h1(&proxy.http(HOST)),
            proxy,
            origin,
            paths: AtomicUsize::new(0),
            _lab: lab,
        }
    }

    /// A path of its own for these answers of the origin.
    fn page(&self, sayings: impl IntoIterator<Item = Say>) -> String {
        let number = self.paths.fetch_add(1, Ordering::Relaxed);
        let path = format!("/page-{number}");
        self.origin.says(&path, sayings);
        path
    }

    async fn get(&self, path: &str) -> Answer {
        self.client.get(path).await
    }

    async fn get_with(&self, path: &str, fields: &[&str]) -> Answer {
        self.ask(Method::GET, path, fields, "").await
    }

    async fn head(&self, path: &str) -> Answer {
        self.ask(Method::HEAD, path, &[], "").await
    }

    async fn post(&self, path: &str) -> Answer {
        self.ask(Method::POST, path, &[], "a change").await
    }

    /// Any request; fields as lines.
    async fn ask(&self, method: Method, path: &str, lines: &[&str], body: &str) -> Answer {
        ask(&self.client, method, path, lines, body).await
    }

    /// How often the origin was asked for a path.
    fn asked(&self, path: &str) -> usize {
        self.origin.asked(path).len()
    }

    /// Waits until the origin is asked for a path.
    async fn is_asked(&self, path: &str) {
        eventually("the origin is asked", PATIENCE, || {
            let asked = self.asked(path) > 0;
            std::future::ready(asked.then_some(()).ok_or("not yet"))
        })
        .await;
    }

    /// Waits until the origin is asked for a path, and so many clients, each on a connection of its own,
    /// have asked for it.
    async fn all_wait(&self, path: &str, clients: u64) {
        self.is_asked(path).await;
        eventually("all are there", PATIENCE, || async {
            let status = self.proxy.admin("/status").await;
            let there = status["connections"].as_u64() >= Some(clients);
            there.then_some(()).ok_or(status)
        })
        .await;
        // Nobody can see a request that waits. Those who have connected get a moment to send theirs.
        tokio::time::sleep(A_MOMENT).await;
    }

    /// The latest request of the origin for a path.
    fn last(&self, path: &str) -> Asked {
        let asked = self.origin.asked(path).pop();
        asked.unwrap_or_else(|| panic!("the origin was never asked for {path}"))
    }

    /// Whether a response is reused for a second request, and how many seconds of freshness it then
    /// has left.
    async fn reuse(&self, say: Say) -> Result<Reuse, String> {
        self.reuse_for(&[], &[], say).await
    }

    /// The same, with the fields of the first and of the second request.
    async fn reuse_for(&self, first: &[&str], second: &[&str], say: Say) -> Result<Reuse, String> {
        let path = self.page([say]);
        let one = self.get_with(&path, first).await;
        ensure(self.asked(&path) == 1, "the origin is asked at first")?;
        ensure(number(&one) == "1", format!("the first answer: {one}"))?;
        let two = self.get_with(&path, second).await;
        let told = Told::of(&two)?;
        ensure(two.status == one.status, format!("two statuses: {two}"))?;
        match (self.asked(&path), number(&two), told.word.as_str()) {
            (1, "1", "hit") => {
                ensure(two.body == one.body, format!("two bodies: {one}\n{two}"))?;
                told.ttl().map(Some)
            }
            (2, "2", word) if word != "hit" => Ok(NOT_REUSED),
            (asked, ..) => Err(format!("asked {asked} times, and then {two}")),
        }
    }
}

async fn ask(client: &Client, method: Method, path: &str, lines: &[&str], body: &str) -> Answer {
    let fields: Vec<_> = lines
        .iter()
        .map(|line| {
            line.split_once(':')
                .expect("a field is a line with a colon")
        })
        .map(|(name, value)| (name, value.trim()))
        .collect();
    let body = match body {
        "" => empty(),
        text => whole(text.to_owned()),
    };
    client.ask(method, path, &fields, body).await
}

/// Which of the origin's answers for its path it is.
fn number(answer: &Answer) -> &str {
    answer.header("x-answer")
}

/// The seconds of `Age`; below zero where there is none.
fn age(answer: &Answer) -> i64 {
    answer.header("age").parse().unwrap_or(-1)
}

/// What our member of `Cache-Status` says (RFC 9211, 2).
#[derive(Debug)]
struct Told {
    /// `hit`, or why the request was forwarded.
    word: String,
    parameters: BTreeMap<String, String>,
}

impl Told {
    fn of(answer: &Answer) -> Result<Self, String> {
        let lines = answer.headers.get_all("cache-status").iter();
        let members = lines
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','));
        let ours = members.last().unwrap_or_default();
        let mut parts = ours.split(';').map(str::trim);
        if parts.next() != Some("sovereign") {
            return Err(format!("no Cache-Status of ours at the end: {answer}"));
        }
        let parameters: BTreeMap<_, _> = parts
            .map(|part| part.split_once('=').unwrap_or((part, "")))
            .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
            .collect();
        let word = match (parameters.contains_key("hit"), parameters.get("fwd")) {
            (true, None) => "hit".to_owned(),
            (false, Some(reason)) => reason.clone(),
            _ => return Err(format!("neither hit nor fwd: {answer}")),
        };
        Ok(Self { word, parameters })
    }

    fn has(&self, parameter: &str) -> bool {
        self.parameters.contains_key(parameter)
    }

    fn value(&self, parameter: &str) -> &str {
        self.parameters.get(parameter).map_or("", String::as_str)
    }

    fn ttl(&self) -> Result<i64, String> {
        let ttl = self.value("ttl").parse();
        ttl.map_err(|_| format!("no ttl in {self:?}"))
    }
}

/// Whether it came out of the store.
fn is_hit(answer: &Answer) -> bool {
    Told::of(answer).is_ok_and(|told| told.word == "hit")
}

/// Checks every row and fails with all that is wrong.
async fn each<R>(
    rows: impl IntoIterator<Item = R>,
    check: impl AsyncFn(&R) -> Result<(), String>,
    name: impl Fn(&R) -> String,
) {
    let (mut count, mut wrong) = (0, Vec::new());
    for row in rows {
        count += 1;
        if let Err(found) = check(&row).await {
            wrong.push(format!("{}: {found}", name(&row)));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {count} rows are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Checks how long each answer of the origin's is reused: its status, its fields, and the seconds left.
async fn reused<'a>(stage: &Stage, rows: impl IntoIterator<Item = (u16, &'a [&'a str], Reuse)>) {
    each(
        rows,
        async |(status, lines, wanted)| {
            same_reuse(stage.reuse(Say::status(*status, lines)).await?, *wanted)
        },
        |(status, lines, _)| format!("{status} {lines:?}"),
    )
    .await;
}

/// The same for a 200, on a stage of its own.
async fn check(rows: &[(&[&str], Reuse)]) {
    let rows = rows.iter().map(|(lines, wanted)| (200, *lines, *wanted));
    reused(&Stage::open().await, rows).await;
}

fn ensure(holds: bool, what: impl Display) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_string()) }
}

/// That two are equal.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, wanted: T) -> Result<(), String> {
    ensure(
        found == wanted,
        format!("{what}: {found:?} instead of {wanted:?}"),
    )
}

/// That a response was reused with as many seconds left as is wanted, or not at all where none are.
fn same_reuse(found: Reuse, wanted: Reuse) -> Result<(), String> {
    let near = match (found, wanted) {
        (Some(found), Some(wanted)) => (wanted - SLACK..=wanted).contains(&found),
        (found, wanted) => found == wanted,
    };
    ensure(
        near,
        format!("seconds left: {found:?} instead of {wanted:?}"),
    )
}
