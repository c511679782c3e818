//! What the daemon says of itself, and how a terminal shows it. Stands alone because both sides
//! of the admin API share it: the daemon fills it in, the commands read and print it.

use std::io::IsTerminal as _;

use serde::{Deserialize, Serialize};

/// The whole daemon at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it was started, in RFC 3339.
    pub started: String,
    /// How long ago that was.
    pub uptime_seconds: u64,
    /// The configuration file; `None` where it was started without one.
    pub config: Option<String>,
    /// Whether it has stopped accepting and waits for requests under way.
    pub draining: bool,
    /// Open client connections.
    pub connections: u64,
    /// Requests answered since the start.
    pub requests: u64,
    /// The sites, in the configuration's order.
    pub sites: Vec<SiteStatus>,
    /// The certificates that are served.
    pub certificates: Vec<CertificateStatus>,
    /// The cache.
    pub cache: CacheStatus,
    /// What it listens on: `https [::]:443`.
    pub listeners: Vec<String>,
    /// The last time that the configuration was read again.
    pub last_reload: Option<ReloadStatus>,
}

/// One site.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SiteStatus {
    /// Its names, the canonical one first.
    pub names: Vec<String>,
    /// Its preset.
    pub preset: Option<String>,
    /// How its connections are secured: `local`, `files`, `off`.
    pub tls: String,
    /// Requests answered since the start.
    pub requests: u64,
    /// The share of cacheable requests that the cache answered, 0 to 1; `None` before the first.
    pub hit_ratio: Option<f64>,
    /// What stands behind it.
    pub upstreams: Vec<UpstreamStatus>,
}

/// One upstream of a site.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Where it listens, as configured.
    pub address: String,
    /// Whether it answers.
    pub state: UpstreamState,
    /// Requests sent to it.
    pub requests: u64,
    /// How many of them failed.
    pub failures: u64,
    /// Why the last one that failed did.
    pub last_error: Option<String>,
    /// Requests under way.
    pub active: u64,
}

/// Whether an upstream answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamState {
    /// The last request to it was answered.
    Up,
    /// The last request to it failed.
    Down,
    /// Nothing has been sent to it.
    #[default]
    Unknown,
}

/// One certificate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// The names that it covers.
    pub names: Vec<String>,
    /// Where it comes from: `local CA`, `file`.
    pub source: String,
    /// Who signed it.
    pub issuer: String,
    /// When it ends, in RFC 3339.
    pub not_after: String,
    /// Whole days until then; negative once it has ended.
    pub days_left: i64,
}

/// The cache.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CacheStatus {
    /// Bytes in use.
    pub memory_bytes: u64,
    /// Bytes that may be used; 0 is a cache that is off.
    pub memory_limit: u64,
    /// Stored responses.
    pub objects: u64,
    /// Requests answered from it while fresh.
    pub hits: u64,
    /// Requests that it could not answer.
    pub misses: u64,
    /// Requests answered from it after their lifetime.
    pub stale: u64,
    /// Requests that went past it.
    pub bypass: u64,
    /// (hits + stale) / (hits + stale + misses), 0 to 1; `None` before the first.
    pub hit_ratio: Option<f64>,
    /// The durable tier.
    pub disk: DiskStatus,
}

/// The cache's durable tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStatus {
    /// `good`; `full`, `read-only`, `slow` or `failing` where nothing is stored at the moment; `paused`
    /// while another process has it; `off` where there is none.
    pub health: String,
    /// Bytes in use.
    pub bytes: u64,
    /// Bytes that may be used.
    pub limit: u64,
    /// Stored responses.
    pub objects: u64,
    /// What waits to be written; where nothing does, all that was stored before outlives the process.
    pub waiting: u64,
    /// Responses that it did not take.
    pub not_stored: u64,
    /// Stored responses that were damaged, and dropped.
    pub corrupt: u64,
    /// What went wrong last.
    pub error: Option<String>,
}

impl Default for DiskStatus {
    fn default() -> Self {
        Self {
            health: "off".to_owned(),
            bytes: 0,
            limit: 0,
            objects: 0,
            waiting: 0,
            not_stored: 0,
            corrupt: 0,
            error: None,
        }
    }
}

/// One reading of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadStatus {
    /// When, in RFC 3339.
    pub time: String,
    /// Whether it was taken.
    pub ok: bool,
    /// What changed, or why it was refused.
    pub message: String,
}

/// How wide the terminal is, and whether it shows colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// In characters; longer cells are cut, with an ellipsis. `None` cuts nothing.
    pub width: Option<usize>,
    /// Words of good and bad news are coloured as well.
    pub colour: bool,
}

impl Look {
    /// Without colour or bounds: for files and pipes.
    pub const PLAIN: Self = Self {
        width: None,
        colour: false,
    };

    /// As suits standard output.
    pub fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        if !stdout.is_terminal() {
            return Self::PLAIN;
        }
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let width = rustix::termios::tcgetwinsize(&stdout)
            .ok()
            .map(|size| usize::from(size.ws_col))
            .filter(|width| *width >= 40);
        Self {
            width,
            colour: !refused,
        }
    }
}

/// The status for a person: what runs, then a table each of sites, upstreams and certificates.
pub fn render(status: &Status, look: Look) -> String {
    let mut text = summary(status, look);
    for (title, table) in [
        ("Sites", sites(status)),
        ("Upstreams", upstreams(status)),
        ("Certificates", certificates(status)),
    ] {
        if table.rows.len() > 1 {
            text.push_str(&format!("\n{title}\n"));
            table.render(look, &mut text);
        }
    }
    text
}

fn summary(status: &Status, look: Look) -> String {
    let started = Cell::from(format!(
        "process {}, up {}, since {}",
        status.pid,
        span(status.uptime_seconds),
        status.started
    ));
    let state = if status.draining {
        Cell::toned("draining: accepts no new connections", Tone::Warn)
    } else {
        Cell::toned("serving", Tone::Good)
    };
    let mut table = Table::new(vec![
        vec![
            format!("sovereign-proxy {}", status.version).into(),
            started,
        ],
        vec!["state".into(), state],
    ]);
    let config = status.config.as_deref().unwrap_or("built in");
    table.row("configuration", config.into());
    if let Some(reload) = &status.last_reload {
        let (word, tone) = if reload.ok {
            ("taken", Tone::Plain)
        } else {
            ("refused", Tone::Bad)
        };
        let reload = format!("{word} {}: {}", reload.time, reload.message);
        table.row("last reload", Cell::toned(reload, tone));
    }
    table.row("listening", status.listeners.join(", ").into());
    table.row(
        "traffic",
        format!(
            "{} connections open, {} requests",
            count(status.connections),
            count(status.requests)
        )
        .into(),
    );
    table.row("cache", cache(&status.cache).into());
    if status.cache.memory_limit > 0 && status.cache.disk.limit > 0 {
        table.row("cache on disk", disk(&status.cache.disk));
    }
    let mut text = String::new();
    table.render(look, &mut text);
    text
}

fn cache(cache: &CacheStatus) -> String {
    if cache.memory_limit == 0 {
        return "off".into();
    }
    format!(
        "{} of {} in {} objects; hit ratio {} ({} hits, {} stale, {} misses, {} bypassed)",
        size(cache.memory_bytes),
        size(cache.memory_limit),
        count(cache.objects),
        ratio(cache.hit_ratio),
        count(cache.hits),
        count(cache.stale),
        count(cache.misses),
        count(cache.bypass)
    )
}

fn disk(disk: &DiskStatus) -> Cell {
    let mut text = format!(
        "{} of {} in {} objects",
        size(disk.bytes),
        size(disk.limit),
        count(disk.objects)
    );
    if disk.corrupt > 0 {
        text.push_str(&format!("; {} damaged and dropped", count(disk.corrupt)));
    }
    if disk.not_stored > 0 {
        text.push_str(&format!("; {} not stored", count(disk.not_stored)));
    }
    let error = disk.error.as_deref().map(|error| format!(" ({error})"));
    let error = error.unwrap_or_default();
    match disk.health.as_str() {
        "good" => Cell::from(text),
        "paused" => Cell::toned(format!("{text}; another process has it"), Tone::Warn),
        health => Cell::toned(
            format!("{health}: nothing is stored{error}; {text}"),
            Tone::Bad,
        ),
    }
}

fn sites(status: &Status) -> Table {
    let mut table = Table::headed(&["site", "tls", "preset", ">requests", ">hit ratio"]);
    for site in &status.sites {
        table.rows.push(vec![
            names(&site.names).into(),
            site.tls.as_str().into(),
            site.preset.as_deref().unwrap_or("-").into(),
            count(site.requests).into(),
            ratio(site.hit_ratio).into(),
        ]);
    }
    table
}

fn upstreams(status: &Status) -> Table {
    let mut table = Table::headed(&[
        "site",
        "upstream",
        "state",
        ">requests",
        ">failed",
        ">active",
        "last error",
    ]);
    for site in &status.sites {
        for upstream in &site.upstreams {
            let state = match upstream.state {
                UpstreamState::Up => Cell::toned("up", Tone::Good),
                UpstreamState::Down => Cell::toned("down", Tone::Bad),
                UpstreamState::Unknown => "unknown".into(),
            };
            table.rows.push(vec![
                site.names.first().map_or("-", String::as_str).into(),
                upstream.address.as_str().into(),
                state,
                count(upstream.requests).into(),
                count(upstream.failures).into(),
                count(upstream.active).into(),
                upstream.last_error.as_deref().unwrap_or("-").into(),
            ]);
        }
    }
    table
}

fn certificates(status: &Status) -> Table {
    let mut table = Table::headed(&["names", "source", "issuer", "ends", "left"]);
    for certificate in &status.certificates {
        table.rows.push(vec![
            names(&certificate.names).into(),
            certificate.source.as_str().into(),
            certificate.issuer.as_str().into(),
            certificate.not_after.as_str().into(),
            left(certificate.days_left),
        ]);
    }
    table
}

fn left(days: i64) -> Cell {
    let unit = if days.abs() == 1 { "day" } else { "days" };
    match days {
        ..0 => Cell::toned(
            format!("expired {} {unit} ago", days.unsigned_abs()),
            Tone::Bad,
        ),
        0..SOON => Cell::toned(format!("{days} {unit}, expires soon"), Tone::Warn),
        _ => format!("{days} {unit}").into(),
    }
}

/// The first name, and how many more there are.
fn names(names: &[String]) -> String {
    match names {
        [] => "-".into(),
        [only] => only.clone(),
        [first, rest @ ..] => format!("{first} (+{})", rest.len()),
    }
}

fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".into(), |ratio| format!("{:.1} %", ratio * 100.0))
}

fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut amount = bytes as f64;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && amount < 100.0);
    format!("{amount:.decimals$} {}", UNITS[unit])
}

/// A length of time in its two largest units.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// Aligned columns, two spaces apart.
struct Table {
    rows: Vec<Vec<Cell>>,
    /// Columns of numbers.
    right: Vec<bool>,
}

struct Cell {
    text: String,
    tone: Tone,
}

/// A hint of colour for a cell whose words say the same.
#[derive(Clone, Copy)]
enum Tone {
    Plain,
    Good,
    Warn,
    Bad,
    Dim,
}

impl Table {
    fn new(rows: Vec<Vec<Cell>>) -> Self {
        Self {
            rows,
            right: Vec::new(),
        }
    }

    /// A `>` before a heading marks a column of numbers.
    fn headed(headings: &[&str]) -> Self {
        let heading = |name: &&str| Cell::toned(name.trim_start_matches('>'), Tone::Dim);
        Self {
            rows: vec![headings.iter().map(heading).collect()],
            right: headings.iter().map(|name| name.starts_with('>')).collect(),
        }
    }

    fn row(&mut self, name: &str, value: Cell) {
        self.rows.push(vec![name.into(), value]);
    }

    fn render(&self, look: Look, text: &mut String) {
        let widths = self.widths(look.width);
        for row in &self.rows {
            let mut line = String::new();
            for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
                if index > 0 {
                    line.push_str(GAP);
                }
                let shown = fit(&cell.text, *width);
                let padding = " ".repeat(width - shown.chars().count());
                let shown = paint(&shown, cell.tone, look.colour);
                if self.right.get(index) == Some(&true) {
                    line.push_str(&padding);
                    line.push_str(&shown);
                } else {
                    line.push_str(&shown);
                    line.push_str(&padding);
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }

    /// What each column needs; where that is too much, the widest give way.
    fn widths(&self, limit: Option<usize>) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let needed = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.text.chars().count())
                .max()
                .unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..columns).map(needed).collect();
        let gaps = GAP.len() * columns.saturating_sub(1);
        while limit.is_some_and(|limit| widths.iter().sum::<usize>() + gaps > limit) {
            match widths.iter_mut().max() {
                Some(widest) if *widest > NARROWEST => *widest -= 1,
                _ => break,
            }
        }
        widths
    }
}

impl Cell {
    /// Errors of upstreams come from outside: what steers a terminal is taken out.
    fn toned(text: impl Into<String>, tone: Tone) -> Self {
        let text = text.into().replace(|c: char| c.is_control(), " ");
        Self { text, tone }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}\u{2026}")
}

fn paint(text: &str, tone: Tone, colour: bool) -> String {
    let code = match tone {
        _ if !colour => return text.to_owned(),
        Tone::Plain => return text.to_owned(),
        Tone::Good => 32,
        Tone::Warn => 33,
        Tone::Bad => 31,
        Tone::Dim => 2,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

const GAP: &str = "  ";
/// Below this a column says nothing any more.
const NARROWEST: usize = 8;
/// Days of a certificate that call for attention.
const SOON: i64 = 10;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_status_as_text() {
        let expected = "\
sovereign-proxy 0.1.0  process 4242, up 3 d 4 h, since 2026-01-02T03:04:05Z
state                  serving
configuration          /etc/sovereign-proxy/proxy.toml
last reload            refused 2026-01-05T00:00:00Z: 2 problems in proxy.toml
listening              http [::]:80, https [::]:443
traffic                12 connections open, 1,234,567 requests
cache                  1.5 MiB of 256 MiB in 321 objects; hit ratio 90.0 % (880 hits, 20 stale, 100 misses, 7 bypassed)
cache on disk          full: nothing is stored (No space left on device); 2.5 GiB of 10.0 GiB in 54,321 objects; 1 damaged and dropped; 3 not stored

Sites
site                  tls    preset  requests  hit ratio
www.example.org (+1)  local  ghost      1,000     90.0 %
git.example.org       files  -              0          -

Upstreams
site             upstream               state  requests  failed  active  last error
www.example.org  http://127.0.0.1:2368  up          120       1       3  -
git.example.org  http://127.0.0.1:3000  down          4       4       0  connection refused [31m

Certificates
names                 source    issuer      ends                  left
www.example.org (+1)  local CA  Example CA  2026-02-01T00:00:00Z  27 days
git.example.org       file      Example CA  2026-01-14T00:00:00Z  9 days, expires soon
old.example.org       file      Example CA  2026-01-04T00:00:00Z  expired 1 day ago
";
        assert_eq!(render(&example(), Look::PLAIN), expected);
    }

    #[test]
    fn a_narrow_terminal_cuts_the_widest_column() {
        let look = Look {
            width: Some(80),
            colour: false,
        };
        let text = render(&example(), look);
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(text.contains('\u{2026}'));
    }

    #[test]
    fn colour_repeats_what_the_words_say() {
        let look = Look {
            width: None,
            colour: true,
        };
        let text = render(&example(), look);
        assert!(text.contains("\x1b[31mdown\x1b[0m"));
        assert!(text.contains("\x1b[33m9 days, expires soon\x1b[0m"));
        let mut plain = text;
        for code in [0, 2, 31, 32, 33] {
            plain = plain.replace(&format!("\x1b[{code}m"), "");
        }
        let trimmed: Vec<&str> = plain.lines().map(str::trim_end).collect();
        assert_eq!(trimmed.join("\n") + "\n", render(&example(), Look::PLAIN));
    }

    #[test]
    fn an_empty_daemon_has_no_tables() {
        let mut status = Status::default();
        status.cache.memory_limit = 0;
        status.draining = true;
        let text = render(&status, Look::PLAIN);
        assert!(!text.contains("Sites"));
        assert!(text.contains("draining"), "{text}");
        assert!(text.contains("cache             off"), "{text}");
    }

    #[test]
    fn json_goes_both_ways() {
        let text = serde_json::to_string(&example()).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), example());
        assert!(text.contains("\"state\":\"down\""));
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1024), "1.0 KiB");
        assert_eq!(size(u64::MAX), "16777216 TiB");
        assert_eq!(span(59), "59 s");
        assert_eq!(span(3599), "59 min 59 s");
        assert_eq!(span(86399), "23 h 59 min");
        assert_eq!(left(1).text, "1 day, expires soon");
        assert_eq!(left(10).text, "10 days");
        assert_eq!(left(0).text, "0 days, expires soon");
        assert_eq!(ratio(Some(0.999)), "99.9 %");
    }

    fn example() -> Status {
        let text = |text: &str| text.to_owned();
        Status {
            version: text("0.1.0"),
            pid: 4242,
            started: text("2026-01-02T03:04:05Z"),
            uptime_seconds: 3 * 86400 + 4 * 3600 + 59,
            config: Some(text("/etc/sovereign-proxy/proxy.toml")),
            draining: false,
            connections: 12,
            requests: 1_234_567,
            sites: vec![
                SiteStatus {
                    names: vec![text("www.example.org"), text("example.org")],
                    preset: Some(text("ghost")),
                    tls: text("local"),
                    requests: 1000,
                    hit_ratio: Some(0.9),
                    upstreams: vec![UpstreamStatus {
                        address: text("http://127.0.0.1:2368"),
                        state: UpstreamState::Up,
                        requests: 120,
                        failures: 1,
                        last_error: None,
                        active: 3,
                    }],
                },
                SiteStatus {
                    names: vec![text("git.example.org")],
                    tls: text("files"),
                    upstreams: vec![UpstreamStatus {
                        address: text("http://127.0.0.1:3000"),
                        state: UpstreamState::Down,
                        requests: 4,
                        failures: 4,
                        last_error: Some(text("connection refused\x1b[31m")),
                        active: 0,
                    }],
                    ..SiteStatus::default()
                },
            ],
            certificates: vec![
                certificate(
                    &["www.example.org", "example.org"],
                    "local CA",
                    "2026-02-01",
                    27,
                ),
                certificate(&["git.example.org"], "file", "2026-01-14", 9),
                certificate(&["old.example.org"], "file", "2026-01-04", -1),
            ],
            cache: CacheStatus {
                memory_bytes: 3 << 19,
                memory_limit: 256 << 20,
                objects: 321,
                hits: 880,
                misses: 100,
                stale: 20,
                bypass: 7,
                hit_ratio: Some(0.9),
                disk: DiskStatus {
                    health: text("full"),
                    bytes: 5 << 29,
                    limit: 10 << 30,
                    objects: 54_321,
                    waiting: 0,
                    not_stored: 3,
                    corrupt: 1,
                    error: Some(text("No space left on device")),
                },
            },
            listeners: vec![text("http [::]:80"), text("https [::]:443")],
            last_reload: Some(ReloadStatus {
                time: text("2026-01-05T00:00:00Z"),
                ok: false,
                message: text("2 problems in proxy.toml"),
            }),
        }
    }

    fn certificate(names: &[&str], source: &str, ends: &str, days_left: i64) -> CertificateStatus {
        CertificateStatus {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            source: source.to_owned(),
            issuer: "Example CA".to_owned(),
            not_after: format!("{ends}T00:00:00Z"),
            days_left,
        }
    }
}
