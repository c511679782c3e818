//! The status for a person.

use super::table::{Cell, Look, Table, Tone};
use super::{
    AcmeStatus, AuthorityStatus, CacheStatus, CertificateStatus, DiskStatus, Status, UpstreamState,
};

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
    for (name, notice) in notices(&status.acme) {
        table.row(name, notice);
    }
    let mut text = String::new();
    table.render(look, &mut text);
    text
}

/// What holds up certificates, and what to do about it.
pub(crate) fn notices(acme: &AcmeStatus) -> Vec<(&'static str, Cell)> {
    let authorities = acme.authorities.iter().filter_map(authority);
    let clock = acme
        .clock_skew_seconds
        .filter(|skew| skew.unsigned_abs() >= NOTABLE_SKEW)
        .map(|skew| ("clock", Cell::toned(clock(skew), Tone::Warn)));
    let store = acme
        .store_trouble
        .as_ref()
        .map(|trouble| ("shared store", Cell::toned(trouble.as_str(), Tone::Bad)));
    authorities.chain(clock).chain(store).collect()
}

fn authority(authority: &AuthorityStatus) -> Option<(&'static str, Cell)> {
    let name = &authority.name;
    if !authority.agreed {
        let text = format!(
            "{name} is asked for nothing until its terms are agreed to: `sovereign-proxy certs agree`"
        );
        return Some(("terms", Cell::toned(text, Tone::Warn)));
    }
    let trouble = authority.trouble.as_ref()?;
    let until = authority
        .until
        .as_ref()
        .map(|until| format!("; left alone until {until}"));
    let text = format!("{name}: {trouble}{}", until.unwrap_or_default());
    Some(("authority", Cell::toned(text, Tone::Warn)))
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
    let mut table = Table::headed(&["names", "source", "issuer", "ends", "left", "renewal"]);
    for certificate in &status.certificates {
        table.rows.push(vec![
            names(&certificate.names).into(),
            certificate.source.as_str().into(),
            or_dash(&certificate.issuer).into(),
            or_dash(&certificate.not_after).into(),
            left(certificate),
            renewal(certificate),
        ]);
    }
    table
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// How long a certificate is still valid.
pub(crate) fn left(certificate: &CertificateStatus) -> Cell {
    let days = certificate.days_left;
    let unit = if days.abs() == 1 { "day" } else { "days" };
    let state = certificate.order.as_ref().map(|order| order.state.as_str());
    match days {
        _ if certificate.not_after.is_empty() => "-".into(),
        // The clock alone is no ground to call it lapsed.
        ..0 if state == Some("doubtful") => {
            let days = days.unsigned_abs();
            Cell::toned(
                format!("{days} {unit} over by an unconfirmed clock"),
                Tone::Warn,
            )
        }
        ..0 => Cell::toned(
            format!("expired {} {unit} ago", days.unsigned_abs()),
            Tone::Bad,
        ),
        // Some live for a few days only, and are renewed in time.
        0..SOON if state != Some("good") => {
            Cell::toned(format!("{days} {unit}, expires soon"), Tone::Warn)
        }
        _ => format!("{days} {unit}").into(),
    }
}

/// What is done for a certificate.
pub(crate) fn renewal(certificate: &CertificateStatus) -> Cell {
    let Some(order) = &certificate.order else {
        return "-".into();
    };
    let state = order.state.as_str();
    match (state, &order.last_error, &order.due) {
        (_, Some(error), _) => Cell::toned(format!("{state}: {error}"), Tone::Bad),
        ("good", None, Some(due)) => format!("due {due}").into(),
        ("good" | "ordering", ..) => state.into(),
        _ => Cell::toned(format!("{state}: {}", order.text), Tone::Warn),
    }
}

/// How far this machine's clock is off.
fn clock(skew: i64) -> String {
    let way = if skew > 0 { "ahead of" } else { "behind" };
    format!(
        "this machine's clock is {} {way} the certificate authorities'; certificates are judged by \
         theirs, so that none counts as lapsed for it; set it right",
        span(skew.unsigned_abs())
    )
}

/// The first name, and how many more there are.
pub(crate) fn names(names: &[String]) -> String {
    match names {
        [] => "-".into(),
        [only] => only.clone(),
        [first, rest @ ..] => format!("{first} (+{})", rest.len()),
    }
}

pub(super) fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".into(), |ratio| format!("{:.1} %", ratio * 100.0))
}

pub(super) fn count(number: u64) -> String {
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

pub(super) fn size(bytes: u64) -> String {
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
pub(super) fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// Seconds of skew that call for attention: less is felt by no certificate.
const NOTABLE_SKEW: u64 = 3600;
/// Days of a certificate that call for attention.
const SOON: i64 = 10;
