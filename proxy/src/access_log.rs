//! The access log: one line for each request, JSON for machines or readable for a terminal.
//!
//! A request appends its line to a buffer in memory; a thread writes the buffer out. A disk that
//! hangs delays no request: when the buffer is full, lines are dropped and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use http::{StatusCode, header};
use parking_lot::{Condvar, Mutex};
use prometheus::IntCounter;
use sovereign_config::model::{Log, LogFormat, LogTarget};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cache::status::CacheStatus;
use crate::certs::Published;
use crate::downstream::{Connection, Downstream, RequestHead};
use crate::route::{Route, Site};
use crate::upstream::Course;

/// What waits to be written at most; some 20,000 lines.
const BUFFER: usize = 8 * 1024 * 1024;
/// The writer is woken when so much waits, and at least this often.
const CHUNK: usize = 64 * 1024;
const EVERY: Duration = Duration::from_millis(100);

/// Everything that a line says.
pub struct Record<'a> {
    connection: &'a Connection,
    head: &'a RequestHead,
    place: Option<(&'a Arc<Site>, Option<&'a Arc<Route>>)>,
    bytes: u64,
    received: u64,
    told: &'a Told,
    took: Duration,
    /// The request's id, where it was given one.
    pub id: Option<&'a str>,
}

impl<'a> Record<'a> {
    /// The record of a request that has just been answered.
    pub fn new<D: Downstream>(
        connection: &'a Connection,
        head: &'a RequestHead,
        place: Option<(&'a Arc<Site>, Option<&'a Arc<Route>>)>,
        client: &D,
        told: &'a Told,
    ) -> Self {
        Self {
            connection,
            head,
            place,
            bytes: client.bytes_sent(),
            received: client.bytes_received(),
            told,
            took: head.received.elapsed(),
            id: None,
        }
    }

    /// Adds it to its site's counters.
    pub fn count(&self) {
        if let Some((site, _)) = self.place {
            let told = self.told;
            site.metrics
                .answered(told.status, told.cache, self.bytes, self.took);
            if told.stored {
                site.metrics.stored();
            }
            if told.collapsed {
                site.metrics.collapsed();
            }
        }
    }

    fn json(&self, out: &mut Vec<u8>, id: &str, target: &str) {
        out.extend_from_slice(b"{\"time\":\"");
        timestamp(out);
        out.extend_from_slice(b"\",\"id\":\"");
        out.extend_from_slice(id.as_bytes());
        out.push(b'"');
        number(out, "connection", self.connection.id);
        text(out, "client", &self.connection.client());
        if let Some((site, route)) = self.place {
            text(out, "site", site.config.canonical());
            if let Some(route) = route {
                text(out, "route", &route.label);
            }
        }
        text(out, "protocol", protocol(self.head));
        if let Some(tls) = &self.connection.tls {
            text(out, "tls", tls.version);
        }
        text(out, "method", self.head.method.as_str());
        text(out, "host", &self.head.host);
        text(out, "target", target);
        number(out, "status", self.told.status.into());
        number(out, "bytes", self.bytes);
        number(out, "received", self.received);
        millis(out, "ms", self.took);
        text(out, "cache", self.told.cache);
        if let Some(detail) = self.told.detail {
            text(out, "detail", detail);
        }
        if self.told.stored {
            out.extend_from_slice(b",\"stored\":true");
        }
        if self.told.collapsed {
            out.extend_from_slice(b",\"collapsed\":true");
        }
        if let Some(course) = &self.told.course {
            if let Some(upstream) = course.upstream() {
                text(out, "upstream", &upstream);
            }
            if let Some(status) = course.status() {
                number(out, "upstream_status", status.into());
            }
            let timings = course.timings();
            if let Some(connect) = timings.connect {
                millis(out, "connect_ms", connect);
            }
            if let Some(first_byte) = timings.first_byte {
                millis(out, "first_byte_ms", first_byte);
            }
            if course.tries() > 1 {
                number(out, "tries", course.tries().into());
            }
        }
        if let Some(agent) = self.head.headers.get(header::USER_AGENT) {
            text(out, "agent", &String::from_utf8_lossy(agent.as_bytes()));
        }
        out.extend_from_slice(b"}\n");
    }

    fn readable(&self, out: &mut Vec<u8>, target: &str) {
        timestamp(out);
        let detail = self.told.detail.map(|detail| format!(" ({detail})"));
        let line = format!(
            " {} {} {} {}{} {} {} bytes {:.1} ms {}{}\n",
            self.connection.client(),
            self.told.status,
            self.head.method,
            self.head.host,
            target.escape_debug(),
            protocol(self.head),
            self.bytes,
            self.took.as_secs_f64() * 1000.0,
            self.told.cache,
            detail.unwrap_or_default(),
        );
        out.extend_from_slice(line.as_bytes());
    }
}

/// What the log is told of an exchange.
#[derive(Default)]
pub struct Told {
    /// The status that was sent, or that says what went wrong.
    pub status: u16,
    /// The cache's word: `hit`, or why it asked the upstream; `none` where it had no part.
    pub cache: &'static str,
    /// More of the cache, or what went wrong.
    pub detail: Option<&'static str>,
    /// The response was stored.
    pub stored: bool,
    /// It waited for another request's fetch.
    pub collapsed: bool,
    /// The exchange with an upstream, where there was one.
    pub course: Option<Arc<Course>>,
}

impl Told {
    /// An answer of the proxy's own; `detail` says which.
    pub fn own(status: StatusCode, detail: &'static str) -> Self {
        Self {
            status: status.as_u16(),
            cache: "none",
            detail: Some(detail),
            ..Self::default()
        }
    }

    /// An answer that the cache had a part in.
    pub fn of(status: StatusCode, cache: &CacheStatus<'static>) -> Self {
        Self {
            status: status.as_u16(),
            cache: cache.word(),
            detail: cache.detail,
            stored: cache.stored,
            collapsed: cache.collapsed,
            ..Self::default()
        }
    }
}

/// The access log of the process.
pub struct AccessLog {
    shared: Arc<Shared>,
    json: AtomicBool,
    off: AtomicBool,
    /// The feed whose secret is not shown.
    hidden: ArcSwapOption<Published>,
    writer: Mutex<Option<JoinHandle<()>>>,
    dropped: IntCounter,
}

struct Shared {
    lines: Mutex<Vec<u8>>,
    target: Mutex<Box<dyn Write + Send>>,
    more: Condvar,
    ended: AtomicBool,
}

impl AccessLog {
    /// Opens the log and starts its writer.
    pub fn open(config: &Log, dropped: IntCounter) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            lines: Mutex::default(),
            target: Mutex::new(target(&config.access)?),
            more: Condvar::new(),
            ended: AtomicBool::new(false),
        });
        let writer = {
            let shared = shared.clone();
            std::thread::Builder::new()
                .name("access-log".to_owned())
                .spawn(move || shared.write_out())?
        };
        let log = Self {
            shared,
            json: AtomicBool::new(false),
            off: AtomicBool::new(false),
            hidden: ArcSwapOption::empty(),
            writer: Mutex::new(Some(writer)),
            dropped,
        };
        log.shape(config);
        Ok(log)
    }

    /// Takes another configuration, and opens a file anew: log rotation is a reload.
    pub fn reopen(&self, config: &Log) -> io::Result<()> {
        let fresh = target(&config.access)?;
        self.shared.flush();
        *self.shared.target.lock() = fresh;
        self.shape(config);
        Ok(())
    }

    fn shape(&self, config: &Log) {
        let json = match config.format {
            LogFormat::Json => true,
            LogFormat::Text => false,
            LogFormat::Auto => config.access != LogTarget::Stdout || !io::stdout().is_terminal(),
        };
        self.json.store(json, Ordering::Relaxed);
        self.off
            .store(config.access == LogTarget::Off, Ordering::Relaxed);
    }

    /// Logs one request; `id` is its id.
    pub fn log(&self, record: &Record<'_>, id: &str) {
        // Before the feed's secret is looked for.
        if self.off.load(Ordering::Relaxed) {
            return;
        }
        let hidden = self.hidden.load();
        let target = record.head.target.as_str();
        let target = match &*hidden {
            Some(feed) => feed.hide(target),
            None => target.into(),
        };
        self.append(|lines| {
            if self.json.load(Ordering::Relaxed) {
                record.json(lines, id, &target);
            } else {
                record.readable(lines, &target);
            }
        });
    }

    /// Keeps a feed's secret out of the log from now on.
    pub fn hide(&self, feed: Option<Arc<Published>>) {
        self.hidden.store(feed);
    }

    /// Logs a request that was refused before it was a request.
    pub fn refused(&self, connection: &Connection, status: u16, reason: &str, id: &str) {
        self.append(|lines| {
            if self.json.load(Ordering::Relaxed) {
                lines.extend_from_slice(b"{\"time\":\"");
                timestamp(lines);
                lines.push(b'"');
                text(lines, "id", id);
                number(lines, "connection", connection.id);
                text(lines, "client", &connection.client());
                number(lines, "status", status.into());
                text(lines, "cache", "none");
                text(lines, "detail", reason);
                lines.extend_from_slice(b"}\n");
            } else {
                timestamp(lines);
                let line = format!(" {} {status} refused ({reason})\n", connection.client());
                lines.extend_from_slice(line.as_bytes());
            }
        });
    }

    fn append(&self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.off.load(Ordering::Relaxed) {
            return;
        }
        let mut lines = self.shared.lines.lock();
        if lines.len() >= BUFFER {
            self.dropped.inc();
            return;
        }
        let before = lines.len();
        write(&mut lines);
        if before < CHUNK && lines.len() >= CHUNK {
            self.shared.more.notify_one();
        }
    }

    /// Writes what waits and ends the writer.
    pub fn close(&self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.shared.more.notify_one();
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            tracing::error!("the access log's writer has failed");
        }
    }
}

impl Shared {
    fn write_out(&self) {
        while !self.ended.load(Ordering::Relaxed) {
            let mut lines = self.lines.lock();
            if lines.len() < CHUNK {
                self.more.wait_for(&mut lines, EVERY);
            }
            drop(lines);
            self.flush();
        }
        self.flush();
    }

    fn flush(&self) {
        let mut target = self.target.lock();
        let lines = std::mem::take(&mut *self.lines.lock());
        if lines.is_empty() {
            return;
        }
        if let Err(error) = target.write_all(&lines).and_then(|()| target.flush()) {
            tracing::error!(%error, lost = lines.len(), "writing the access log");
        }
    }
}

fn target(target: &LogTarget) -> io::Result<Box<dyn Write + Send>> {
    Ok(match target {
        LogTarget::Off => Box::new(io::sink()),
        LogTarget::Stdout => Box::new(io::stdout()),
        LogTarget::File(path) => Box::new(append_to(path)?),
    })
}

fn append_to(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn protocol(head: &RequestHead) -> &'static str {
    match head.version {
        http::Version::HTTP_2 => "HTTP/2",
        http::Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    label(out, name);
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(out, value);
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    label(out, name);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn millis(out: &mut Vec<u8>, name: &str, value: Duration) {
    label(out, name);
    let micros = value.as_micros() as u64;
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(micros / 1000).as_bytes());
    out.push(b'.');
    for place in [100, 10, 1] {
        out.push(b'0' + (micros / place % 10) as u8);
    }
}

fn label(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// RFC 3339 in UTC, to the millisecond. The date is worked out once a second.
fn timestamp(out: &mut Vec<u8>) {
    use std::cell::RefCell;
    thread_local! {
        static SECOND: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
    }
    let now = OffsetDateTime::now_utc();
    SECOND.with_borrow_mut(|(second, written)| {
        if *second != now.unix_timestamp() {
            *second = now.unix_timestamp();
            let whole = now.replace_nanosecond(0).unwrap_or(now);
            *written = whole.format(&Rfc3339).unwrap_or_default();
            written.pop();
        }
        out.extend_from_slice(written.as_bytes());
    });
    let millis = now.millisecond();
    out.push(b'.');
    for place in [100, 10, 1] {
        out.push(b'0' + (millis / place % 10) as u8);
    }
    out.push(b'Z');
}

/// When a moment of the monotonic clock was, for the log.
pub fn since(moment: Instant) -> OffsetDateTime {
    OffsetDateTime::now_utc() - moment.elapsed()
}
