//! Many requests at a steady rate, every one of them accounted for.
//!
//! A request is sent again only where the protocol says that nothing was done with the first: it was
//! never written, or the server refused its stream. Everything else that is not an answer is a failure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, Request, Uri};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::client::{Answer, Body, H1, H2, Sent, Target, empty};

/// How long one request may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often one request is put on another connection.
const ATTEMPTS: usize = 4;

/// A GET.
#[derive(Debug, Clone, Default)]
pub struct Get {
    /// Path and query.
    pub path: String,
    /// Its fields.
    pub fields: Vec<(&'static str, String)>,
}

impl Get {
    /// A GET without fields.
    pub fn path(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            fields: Vec::new(),
        }
    }

    /// The same with one more field.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }
}

/// An opinion on an answer; the text says what is wrong with it.
type Check = dyn Fn(&Get, &Answer) -> Result<(), String> + Send + Sync;

/// What the requests are, and how fast they come.
pub struct Load {
    target: Target,
    h1_lanes: usize,
    h2_lanes: usize,
    per_second: u32,
    request: Box<dyn Fn(usize) -> Get + Send + Sync>,
    check: Box<Check>,
}

/// What became of one request.
#[derive(Debug, Clone)]
pub struct Record {
    /// What was asked for.
    pub get: Get,
    /// When it was sent, from the start of the load.
    pub at: Duration,
    /// From the sending to the last byte of the answer.
    pub took: Duration,
    /// `Cache-Status`, or the empty text.
    pub cache_status: String,
    /// On how many connections it was put before it was taken.
    pub put_again: usize,
    /// Why it counts as failed.
    pub failure: Option<String>,
}

/// What became of all of them.
#[derive(Debug)]
pub struct Report {
    /// In the order of their ends.
    pub records: Vec<Record>,
    /// From the first to the last.
    pub lasted: Duration,
}

/// A load under way.
#[derive(Debug)]
pub struct Running {
    stop: Arc<AtomicBool>,
    driver: JoinHandle<Report>,
    done: Arc<AtomicUsize>,
}

impl Load {
    /// A load of `per_second` requests: two of three over HTTP/1.1, on as many kept connections as it
    /// takes, the third on two connections of HTTP/2 (none where there is no TLS). An answer other than
    /// 200 is a failure.
    pub fn new(
        target: &Target,
        per_second: u32,
        request: impl Fn(usize) -> Get + Send + Sync + 'static,
    ) -> Self {
        let tls = target.roots.is_some();
        Self {
            target: target.clone(),
            h1_lanes: 4,
            h2_lanes: if tls { 2 } else { 0 },
            per_second,
            request: Box::new(request),
            check: Box::new(|_, answer| {
                (answer.status == 200)
                    .then_some(())
                    .ok_or_else(|| format!("answered {}", answer.status))
            }),
        }
    }

    /// The same with another opinion on which answers are right.
    pub fn checked(
        mut self,
        check: impl Fn(&Get, &Answer) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.check = Box::new(check);
        self
    }

    /// Sends `count` requests and waits for the last answer.
    pub async fn run(self, count: usize) -> Report {
        self.begin(Some(count)).driver.await.expect("the load ends")
    }

    /// Sends requests until told to stop.
    pub fn start(self) -> Running {
        self.begin(None)
    }

    fn begin(self, count: Option<usize>) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicUsize::new(0));
        let driver = tokio::spawn(drive(self, count, stop.clone(), done.clone()));
        Running { stop, driver, done }
    }
}

impl Running {
    /// How many requests have come to an end.
    pub fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// Stops, waits for the requests under way, and reports.
    pub async fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        self.driver.await.expect("the load ends")
    }
}

impl Report {
    /// Fails the test where a request failed, showing which and why.
    #[track_caller]
    pub fn assert_none_failed(&self) {
        let failed: Vec<_> = self.failed().collect();
        assert!(failed.is_empty(), "{self}", self = self.summary());
    }

    /// Those that failed.
    pub fn failed(&self) -> impl Iterator<Item = &Record> {
        self.records
            .iter()
            .filter(|record| record.failure.is_some())
    }

    /// How many were put on a second connection.
    pub fn put_again(&self) -> usize {
        self.records
            .iter()
            .filter(|record| record.put_again > 0)
            .count()
    }

    /// The time that a share of the requests chosen by `which` stayed under; `1.0` is the slowest.
    pub fn quantile(&self, share: f64, which: impl Fn(&Record) -> bool) -> Duration {
        let mut times: Vec<_> = self
            .records
            .iter()
            .filter(|record| which(record))
            .map(|record| record.took)
            .collect();
        times.sort();
        assert!(!times.is_empty(), "no request was of that kind");
        let index = (share * times.len() as f64).ceil() as usize;
        times[index.clamp(1, times.len()) - 1]
    }

    /// A few lines for a person.
    pub fn summary(&self) -> String {
        let mut text = format!(
            "{} requests in {:.1?}, {} failed, {} put on a second connection, median {:.1?}, 99% {:.1?}, slowest {:.1?}",
            self.records.len(),
            self.lasted,
            self.failed().count(),
            self.put_again(),
            self.quantile(0.5, |_| true),
            self.quantile(0.99, |_| true),
            self.quantile(1.0, |_| true),
        );
        let mut reasons: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
        for record in self.failed() {
            let reason = record.failure.as_deref().unwrap_or_default();
            reasons.entry(reason).or_default().push(record);
        }
        for (reason, records) in reasons {
            let first = records[0];
            let _ = write!(
                text,
                "\n  {} times: {reason} (first: {} at {:.2?}, after {:.2?}, Cache-Status: {})",
                records.len(),
                first.get.path,
                first.at,
                first.took,
                first.cache_status,
            );
        }
        text
    }
}

/// The connections of one load.
struct Pool {
    target: Target,
    h1: Mutex<Vec<H1>>,
    h2: Vec<tokio::sync::Mutex<Option<H2>>>,
}

async fn drive(
    load: Load,
    count: Option<usize>,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
) -> Report {
    let load = Arc::new(load);
    let pool = Arc::new(Pool {
        target: load.target.clone(),
        h1: Mutex::new(Vec::new()),
        h2: (0..load.h2_lanes)
            .map(|_| tokio::sync::Mutex::new(None))
            .collect(),
    });
    let records = Arc::new(Mutex::new(Vec::new()));
    let started = Instant::now();
    let mut clock = tokio::time::interval(Duration::from_secs(1) / load.per_second);
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut requests = tokio::task::JoinSet::new();
    for number in 0.. {
        if count.is_some_and(|count| number >= count) || stop.load(Ordering::Relaxed) {
            break;
        }
        clock.tick().await;
        let (load, pool, records, done) =
            (load.clone(), pool.clone(), records.clone(), done.clone());
        requests.spawn(async move {
            let record = one(&load, &pool, number, started).await;
            lock(&records).push(record);
            done.fetch_add(1, Ordering::Relaxed);
        });
    }
    while let Some(ended) = requests.join_next().await {
        ended.expect("a request of the load does not panic");
    }
    let records = std::mem::take(&mut *lock(&records));
    Report {
        records,
        lasted: started.elapsed(),
    }
}

async fn one(load: &Load, pool: &Pool, number: usize, started: Instant) -> Record {
    let get = (load.request)(number);
    // Every kind of request meets every lane: the lane turns with the lap, not with the number.
    let lanes = load.h1_lanes + load.h2_lanes;
    let lane = (number + number / 7) % lanes;
    let begun = Instant::now();
    let mut put_again = 0;
    let outcome = tokio::time::timeout(PATIENCE, async {
        loop {
            let sent = if lane < load.h2_lanes {
                pool.on_h2(lane, &get).await
            } else {
                pool.on_h1(&get).await
            };
            match sent {
                Ok(answer) => return Ok(answer),
                Err((word, true)) if put_again < ATTEMPTS => {
                    put_again += 1;
                    drop(word);
                }
                Err((word, _)) => return Err(word),
            }
        }
    })
    .await
    .unwrap_or_else(|_| Err(format!("no whole answer within {PATIENCE:?}")));
    let took = begun.elapsed();
    let (cache_status, failure) = match outcome {
        Ok(answer) => (
            answer.header("cache-status").to_owned(),
            (load.check)(&get, &answer).err(),
        ),
        Err(word) => (String::new(), Some(word)),
    };
    Record {
        get,
        at: begun.duration_since(started),
        took,
        cache_status,
        put_again,
        failure,
    }
}

impl Pool {
    /// The answer, or why there is none and whether the request may be put on another connection.
    async fn on_h1(&self, get: &Get) -> Result<Answer, (String, bool)> {
        let idle = lock(&self.h1).pop();
        let open = match idle {
            Some(idle) => idle.if_open().await,
            None => None,
        };
        let mut connection = match open {
            Some(open) => open,
            None => H1::connect(&self.target)
                .await
                .map_err(|failure| (failure.0, false))?,
        };
        let mut request = to_request(get, get.path.clone());
        request
            .headers_mut()
            .insert("host", self.target.host.parse().expect("a host name"));
        let answer = whole_answer("h1", connection.send(request).await).await?;
        lock(&self.h1).push(connection);
        Ok(answer)
    }

    async fn on_h2(&self, lane: usize, get: &Get) -> Result<Answer, (String, bool)> {
        let mut connection = {
            let mut slot = self.h2[lane].lock().await;
            let open = match slot.take() {
                Some(open) => open.if_open().await,
                None => None,
            };
            let open = match open {
                Some(open) => open,
                None => H2::connect(&self.target)
                    .await
                    .map_err(|failure| (failure.0, false))?,
            };
            slot.insert(open).clone()
        };
        let uri = format!(
            "{}://{}{}",
            self.target.scheme(),
            self.target.host,
            get.path
        );
        let sent = connection.send(to_request(get, uri)).await;
        whole_answer("h2", sent).await
    }
}

fn to_request(get: &Get, uri: String) -> Request<Body> {
    let mut request = Request::new(empty());
    *request.uri_mut() = uri
        .parse::<Uri>()
        .unwrap_or_else(|error| panic!("{uri} is no address: {error}"));
    for (name, value) in &get.fields {
        request.headers_mut().append(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).expect("a field's value"),
        );
    }
    request
}

async fn whole_answer(protocol: &str, sent: Sent) -> Result<Answer, (String, bool)> {
    match sent {
        Sent::Answered(response) => Answer::read(response).await.map_err(|error| {
            let word = crate::client::chain(&error);
            (format!("{protocol}: the body was cut off: {word}"), false)
        }),
        Sent::Untouched(word) => Err((format!("{protocol}: {word}"), true)),
        Sent::Failed(word) => Err((format!("{protocol}: {word}"), false)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::whole;
    use crate::origin::{Origin, reply};

    fn target(origin: &Origin) -> Target {
        Target::plain(origin.address(), "load.test")
    }

    #[tokio::test]
    async fn every_request_is_accounted_for() {
        let origin = Origin::start(|_| async { reply(200, [], whole("ok")) }).await;
        let report = Load::new(&target(&origin), 200, |n| Get::path(format!("/{n}")))
            .run(60)
            .await;
        report.assert_none_failed();
        assert_eq!((report.records.len(), origin.hits()), (60, 60));
    }

    #[tokio::test]
    #[should_panic(expected = "answered 500")]
    async fn a_wrong_answer_is_a_failure() {
        let origin = Origin::start(|request| async move {
            let status = if request.uri().path() == "/7" {
                500
            } else {
                200
            };
            reply(status, [], whole("ok"))
        })
        .await;
        let load = Load::new(&target(&origin), 200, |n| Get::path(format!("/{n}")));
        load.run(10).await.assert_none_failed();
    }

    #[tokio::test]
    async fn a_closed_port_is_a_failure() {
        let origin = Origin::start(|_| async { reply(200, [], whole("ok")) }).await;
        let target = target(&origin);
        origin.down().await;
        let report = Load::new(&target, 200, |_| Get::path("/")).run(5).await;
        assert_eq!(report.failed().count(), 5);
    }
}
