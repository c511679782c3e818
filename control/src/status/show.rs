//! A status as text: a table of hosts, one of services, the Bitcoin nodes, and what needs attention. Pure.

use time::OffsetDateTime;

use super::proxy::{CertificateStatus, ProxyState, ProxyStatus};
use super::service::{Images, ServiceState, ServiceStatus};
use super::{HostState, HostStatus, NodeSeen, NodeStatus, Status, words};
use crate::bitcoin::Seen;
use crate::printer::{Cell, Look, Table, Tone, paint};

/// The status for a person: what needs attention stands last, where a terminal's reader looks first.
pub fn render(status: &Status, now: OffsetDateTime, look: Look) -> String {
    format!("{}\n{}", tables(status, now, look), attention(status, look))
}

/// The same for a screen, of which only the beginning may fit.
pub fn screen(status: &Status, now: OffsetDateTime, look: Look) -> String {
    format!("{}\n{}", attention(status, look), tables(status, now, look))
}

/// The tables alone, while not everything was looked at yet.
pub fn tables(status: &Status, now: OffsetDateTime, look: Look) -> String {
    let mut text = hosts(status).render(look);
    if !status.services.is_empty() {
        text.push('\n');
        text.push_str(&services(status, now).render(look));
    }
    let nodes = nodes(status);
    if !nodes.is_empty() {
        text.push('\n');
        for node in nodes {
            wrapped(&mut text, &node, "", look);
        }
    }
    text
}

/// Adds a line; where the terminal is too narrow it goes on in the next, further in.
fn wrapped(text: &mut String, line: &str, indent: &str, look: Look) {
    let width = look.width.unwrap_or(usize::MAX);
    let (mut used, mut empty) = (indent.len(), true);
    text.push_str(indent);
    for word in line.split(' ') {
        let length = word.chars().count();
        if !empty && used + 1 + length > width {
            text.push_str(&format!("\n{indent}  "));
            (used, empty) = (indent.len() + 2, true);
        }
        if !empty {
            text.push(' ');
            used += 1;
        }
        text.push_str(word);
        (used, empty) = (used + length, false);
    }
    text.push('\n');
}

fn hosts(status: &Status) -> Table {
    let mut table = Table::headed(&[
        "HOST",
        "STATE",
        "ENGINE",
        "FREE",
        "PROXY",
        "CERTIFICATES",
        "DEPLOYED",
    ]);
    for host in &status.hosts {
        table.row(match host.state {
            // Why stands below, with what else needs attention.
            HostState::Unreachable => vec![
                host.name.as_str().into(),
                Cell::toned("unreachable", Tone::Bad),
            ],
            HostState::Up => seen(host),
        });
    }
    table
}

fn seen(host: &HostStatus) -> Vec<Cell> {
    let state = match &host.locked_by {
        Some(_) => Cell::toned("deploying", Tone::Warn),
        None => Cell::toned("up", Tone::Good),
    };
    let engine = host.engine.as_ref();
    let engine = match engine.map(|engine| (engine.state, &engine.version, &engine.compose)) {
        Some(("up", Some(version), Some(compose))) => {
            format!("Docker {version}, Compose {compose}").into()
        }
        Some(("up", Some(version), None)) => {
            Cell::toned(format!("Docker {version}, no Compose"), Tone::Warn)
        }
        Some((state, ..)) => Cell::toned(state, Tone::Bad),
        None => "-".into(),
    };
    let free = host.disk.map_or_else(
        || "-".to_owned(),
        |disk| format!("{} of {}", words::size(disk.free), words::size(disk.size)),
    );
    let deployed = host.deployment.as_ref();
    let deployed = deployed.map_or_else(
        || "never".to_owned(),
        |last| format!("{} at {} by {}", last.number, minute(&last.at), last.by),
    );
    let proxy = host.proxy.as_ref();
    vec![
        host.name.as_str().into(),
        state,
        engine,
        free.into(),
        proxy.map_or_else(|| "-".into(), proxy_cell),
        proxy
            .and_then(|proxy| proxy.certificates.first())
            .map_or_else(|| "-".into(), certificate),
        deployed.into(),
    ]
}

fn proxy_cell(proxy: &ProxyStatus) -> Cell {
    let version = proxy.version.as_deref().unwrap_or("of an unknown version");
    let sites = if proxy.sites == 1 { "site" } else { "sites" };
    match proxy.state {
        ProxyState::Serving => format!("{version}, {} {sites}", proxy.sites).into(),
        ProxyState::Draining => Cell::toned(format!("{version}, draining"), Tone::Warn),
        ProxyState::Silent => Cell::toned("no answer", Tone::Bad),
        ProxyState::Missing => Cell::toned("not deployed", Tone::Warn),
    }
}

/// The one that lapses soonest.
fn certificate(certificate: &CertificateStatus) -> Cell {
    let name = certificate.names.first().map_or("-", String::as_str);
    let left = match certificate.days_left {
        Some(days @ ..0) => format!("lapsed {} ago", words::days(-days)),
        Some(days) => words::days(days),
        None => "none yet".to_owned(),
    };
    let tone = match (&certificate.trouble, certificate.days_left) {
        (Some(_), Some(0..)) => Tone::Warn,
        (Some(_), _) => Tone::Bad,
        (None, _) => Tone::Plain,
    };
    // Where it has to be cut, it is the name.
    Cell::toned(format!("{left}: {name}"), tone)
}

fn services(status: &Status, now: OffsetDateTime) -> Table {
    let mut table = Table::headed(&[
        "SERVICE", "KIND", "HOST", "STATE", "SINCE", "REVISION", "IMAGES", "SITE",
    ]);
    for service in &status.services {
        let since = service
            .since
            .as_deref()
            .and_then(|since| words::ago(now, since));
        let images = match service.images {
            Some(Images::Locked) => "as locked".into(),
            Some(Images::Other) => Cell::toned("another is locked", Tone::Warn),
            Some(Images::Unlocked) => Cell::toned("not locked", Tone::Warn),
            None => "-".into(),
        };
        table.row([
            service.name.as_str().into(),
            service
                .kind
                .as_deref()
                .unwrap_or("not in stack.toml")
                .into(),
            service.host.as_str().into(),
            state(service),
            since.unwrap_or_else(|| "-".to_owned()).into(),
            service.revision.as_deref().unwrap_or("-").into(),
            images,
            service.site.as_deref().unwrap_or("-").into(),
        ]);
    }
    table
}

fn state(service: &ServiceStatus) -> Cell {
    let word = service.state.word();
    let text = match service.restarts {
        0 => word.to_owned(),
        1 => format!("{word}, 1 restart"),
        restarts => format!("{word}, {restarts} restarts"),
    };
    Cell::toned(
        text,
        match service.state {
            ServiceState::Healthy | ServiceState::Running => Tone::Good,
            ServiceState::Starting | ServiceState::Unknown | ServiceState::Absent => Tone::Warn,
            ServiceState::Down | ServiceState::Ended | ServiceState::Unhealthy => Tone::Bad,
        },
    )
}

/// The nodes, a line each.
fn nodes(status: &Status) -> Vec<String> {
    let nodes = status
        .services
        .iter()
        .filter_map(|service| Some((service.name.as_str(), service.node.as_ref()?)));
    nodes.map(|(name, node)| node_line(name, node)).collect()
}

fn node_line(name: &str, node: &NodeStatus) -> String {
    let said = match &node.seen {
        NodeSeen::Silent { .. } => "no answer".to_owned(),
        NodeSeen::Said(Seen::Starting { said }) => format!("starts: {}", words::line(said)),
        NodeSeen::Said(Seen::Answers(node)) if node.synced => {
            format!("{}, whole chain: {node}", node.chain)
        }
        NodeSeen::Said(Seen::Answers(seen)) => {
            let left = node.left_seconds.map_or_else(
                || "too early to say how long".to_owned(),
                |left| format!("{} left", words::about(left)),
            );
            format!("{}  {} {seen}, {left}", seen.chain, bar(seen.progress))
        }
    };
    format!("Bitcoin {name}: {said}")
}

/// How far it is, at a glance.
fn bar(progress: f64) -> String {
    const WIDTH: usize = 24;
    let full = (progress.clamp(0.0, 1.0) * WIDTH as f64).floor() as usize;
    let tip = usize::from(full < WIDTH);
    format!(
        "[{}{}{}]",
        "=".repeat(full),
        ">".repeat(tip),
        " ".repeat(WIDTH - full - tip)
    )
}

fn attention(status: &Status, look: Look) -> String {
    let mut text = String::new();
    for host in &status.hosts {
        if let Some(who) = &host.locked_by {
            let line = format!(
                "{}: a deployment is under way: {}",
                host.name,
                words::line(who)
            );
            wrapped(&mut text, &line, "", look);
            text.push('\n');
        }
    }
    let (heading, tone) = match status.attention.len() {
        0 => ("Nothing needs attention.".to_owned(), Tone::Good),
        1 => ("1 thing needs attention".to_owned(), Tone::Bad),
        several => (format!("{several} things need attention"), Tone::Bad),
    };
    text.push_str(&format!("{}\n", paint(&heading, tone, look.colour)));
    for one in &status.attention {
        wrapped(&mut text, &words::line(&one.what), "  ", look);
        if let Some(hint) = &one.hint {
            let mut line = String::new();
            wrapped(
                &mut line,
                &format!("hint: {}", words::line(hint)),
                "    ",
                look,
            );
            let painted = paint("hint:", Tone::Link, look.colour);
            text.push_str(&line.replacen("hint:", &painted, 1));
        }
    }
    text
}

/// A time, to the minute.
fn minute(time: &str) -> String {
    match (time.get(..10), time.get(11..16)) {
        (Some(day), Some(minute)) => format!("{day} {minute}"),
        _ => time.to_owned(),
    }
}
