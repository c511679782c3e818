//! What needs attention, and the way out of it. Pure; stands alone because the exit code, the table and the feed go by
//! the same list.

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::proxy::ProxyState;
use super::service::{Images, ServiceState, ServiceStatus};
use super::{HostState, HostStatus, Look, NodeSeen, Status, words};
use crate::bitcoin::Seen;

/// Something that needs attention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attention {
    /// Stays the same while it is the same trouble: `h1/certificate/www.example.org/2026-04-01`.
    pub id: String,
    /// What it is about.
    pub kind: Kind,
    /// On which host.
    pub host: String,
    /// Of which service.
    pub service: Option<String>,
    /// What is the matter.
    pub what: String,
    /// The way out.
    pub hint: Option<String>,
    /// Until when something has to be done, RFC 3339.
    pub due: Option<String>,
}

/// What something is about, the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A host that does not answer.
    Host,
    /// An engine that does not.
    Engine,
    /// A disk that is nearly full.
    Disk,
    /// A service that is not as it should be.
    Service,
    /// A proxy that is not.
    Proxy,
    /// A certificate that has lapsed, or soon will.
    Certificate,
    /// Images that another one is locked for.
    Images,
    /// Updates that nobody has installed or looked for.
    Updates,
}

impl Kind {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Engine => "engine",
            Self::Disk => "disk",
            Self::Service => "service",
            Self::Proxy => "proxy",
            Self::Certificate => "certificate",
            Self::Images => "images",
            Self::Updates => "updates",
        }
    }
}

/// Less than one part in this many is nearly full ...
const PART: u64 = 10;
/// ... unless so much is left, in bytes.
const ENOUGH: u64 = 20 << 30;
/// After so many days without a look, tags are likely to mean newer images.
const OLD: i64 = 30;

/// All of it, the gravest first.
pub(super) fn of(status: &Status, looks: &[Look], now: OffsetDateTime) -> Vec<Attention> {
    let mut all = Vec::new();
    for host in &status.hosts {
        of_host(host, status, looks, &mut all);
    }
    for service in &status.services {
        of_service(service, &mut all);
        of_age(service, now, &mut all);
    }
    all.sort_by_key(|one| one.kind);
    all
}

fn of_host(host: &HostStatus, status: &Status, looks: &[Look], all: &mut Vec<Attention>) {
    let name = host.name.as_str();
    if host.state == HostState::Unreachable {
        let why = host.why.as_deref().unwrap_or("it was not seen");
        all.push(Attention {
            hint: host.hint.clone(),
            ..new(Kind::Host, name, "", format!("{name}: {why}"))
        });
        return;
    }
    let contained = status.services.iter().any(|service| service.host == name);
    // One that is there and does not answer is always a matter; one that is not there only where it is needed.
    let matters =
        |state: &str| state == "down" || (contained && matches!(state, "missing" | "no manager"));
    if let Some(engine) = host.engine.as_ref().filter(|engine| matters(engine.state)) {
        let (what, hint) = match &engine.why {
            Some(why) if engine.state == "no manager" => (
                format!("{name}: {}", words::line(why)),
                "until then nothing can be changed there; what runs goes on".to_owned(),
            ),
            Some(why) => (
                format!("{name}: the engine does not answer: {}", words::line(why)),
                "`systemctl start docker` on the host starts it".to_owned(),
            ),
            None => (
                format!("{name}: no engine is installed"),
                format!("`sovereign host prepare {name}` installs what a host needs"),
            ),
        };
        all.push(Attention {
            hint: Some(hint),
            ..new(Kind::Engine, name, "", what)
        });
    }
    if let Some(disk) = host
        .disk
        .filter(|disk| disk.free < ENOUGH.min(disk.size / PART))
    {
        let what = format!(
            "{name}: the disk is nearly full: {} of {} are free",
            words::size(disk.free),
            words::size(disk.size)
        );
        let hint = "`docker system df` on the host says what images take; `docker image prune` removes those that nothing uses";
        all.push(Attention {
            hint: Some(hint.to_owned()),
            ..new(Kind::Disk, name, "", what)
        });
    }
    of_updates(host, all);
    of_proxy(host, looks, all);
}

fn of_updates(host: &HostStatus, all: &mut Vec<Attention>) {
    let (name, Some(updates)) = (host.name.as_str(), &host.updates) else {
        return;
    };
    if !updates.security.is_empty() {
        let names: Vec<&str> = updates.security.iter().map(String::as_str).collect();
        let what = format!(
            "{name}: security updates are not installed: {}",
            names.join(", ")
        );
        let hint = format!(
            "`apt-get update && apt-get upgrade` on the host installs them; `sovereign host prepare {name}` has them install themselves"
        );
        all.push(Attention {
            hint: Some(hint),
            ..new(Kind::Updates, name, "security", what)
        });
    }
    if updates.restart {
        let hint = "restart it when it suits: `systemctl reboot` on the host".to_owned();
        all.push(Attention {
            hint: Some(hint),
            ..new(
                Kind::Updates,
                name,
                "restart",
                format!("{name}: updates wait for a restart of the host"),
            )
        });
    }
}

fn of_proxy(host: &HostStatus, looks: &[Look], all: &mut Vec<Attention>) {
    let (name, Some(proxy)) = (host.name.as_str(), &host.proxy) else {
        return;
    };
    let deployed = looks.iter().any(|look| {
        look.host == name
            && look
                .seen
                .as_ref()
                .is_ok_and(|seen| !seen.deployments.is_empty())
    });
    let deploy = || Some(format!("`sovereign deploy --host {name}` puts it right"));
    match proxy.state {
        // A host that nothing was ever deployed to lacks everything, and its services say so.
        ProxyState::Missing if deployed => {
            all.push(Attention {
                hint: deploy(),
                ..new(
                    Kind::Proxy,
                    name,
                    "missing",
                    format!("{name}: the proxy is not there"),
                )
            });
        }
        ProxyState::Silent => {
            let why = proxy.why.as_deref().unwrap_or("no reason is known");
            all.push(Attention {
                hint: deploy(),
                ..new(
                    Kind::Proxy,
                    name,
                    "silent",
                    format!("{name}: the proxy does not answer: {why}"),
                )
            });
        }
        _ => {}
    }
    for (word, what) in &proxy.troubles {
        let hint =
            "name an authority in [[stack.proxy.acme]] of stack.toml: that agrees to its terms";
        all.push(Attention {
            hint: (*word == "terms").then(|| hint.to_owned()),
            ..new(
                Kind::Proxy,
                name,
                word,
                format!("{name}: the proxy: {what}"),
            )
        });
    }
    for certificate in &proxy.certificates {
        let Some(trouble) = &certificate.trouble else {
            continue;
        };
        let first = certificate.names.first().map_or("no name", String::as_str);
        let ends = certificate
            .not_after
            .as_deref()
            .and_then(|end| end.get(..10))
            .unwrap_or("none");
        all.push(Attention {
            due: certificate.not_after.clone(),
            hint: Some(format!(
                "`sovereign-proxy certs` on {name} says what is done for it"
            )),
            ..new(
                Kind::Certificate,
                name,
                &format!("{first}/{ends}"),
                format!("{name}: the certificate of {first} {trouble}"),
            )
        });
    }
}

fn of_service(service: &ServiceStatus, all: &mut Vec<Attention>) {
    let (name, host) = (service.name.as_str(), service.host.as_str());
    let said = service.said.as_deref();
    let deploy = || format!("`sovereign deploy --service {name}` puts it right");
    let new = |word: &str, what: String, hint: String| Attention {
        service: Some(name.to_owned()),
        hint: Some(hint),
        ..new(
            Kind::Service,
            host,
            &format!("{name}/{word}"),
            format!("{name} on {host} {what}"),
        )
    };
    let because = said.map(|said| format!(": {said}")).unwrap_or_default();
    match service.state {
        ServiceState::Unhealthy => all.push(new(
            "unhealthy",
            format!("is not healthy{because}"),
            format!("`sovereign logs {name}` shows what it says"),
        )),
        ServiceState::Ended => all.push(new(
            "ended",
            format!("has ended{because}"),
            format!("`sovereign logs {name}` shows what it said last"),
        )),
        ServiceState::Down => all.push(new(
            "down",
            format!("is down{because}"),
            format!("`sovereign deploy --service {name}` starts it"),
        )),
        ServiceState::Absent => all.push(new(
            "absent",
            "is not deployed yet".to_owned(),
            format!("`sovereign deploy --service {name}` deploys it"),
        )),
        ServiceState::Healthy | ServiceState::Running if said.is_some() => all.push(new(
            "revision",
            said.unwrap_or_default().to_owned(),
            deploy(),
        )),
        _ => {}
    }
    if service.kind.is_none() {
        let hint = "the next `sovereign deploy` stops it, and keeps its data".to_owned();
        all.push(new(
            "stranger",
            "runs and is not in stack.toml".to_owned(),
            hint,
        ));
    }
    of_node(service, &new, all);
    let what = match service.images {
        Some(Images::Other) => {
            format!("{name} on {host} runs another image than sovereign.lock names")
        }
        Some(Images::Unlocked) => format!("an image of {name} is not in sovereign.lock"),
        Some(Images::Locked) | None => return,
    };
    let hint = if service.images == Some(Images::Other) {
        deploy()
    } else {
        "`sovereign lock` finds out which one it is".to_owned()
    };
    all.push(Attention {
        kind: Kind::Images,
        id: format!("{host}/images/{name}"),
        what,
        hint: Some(hint),
        ..new("", String::new(), String::new())
    });
}

/// No registry is asked for it: only how long ago that was done is known.
fn of_age(service: &ServiceStatus, now: OffsetDateTime, all: &mut Vec<Attention>) {
    let looked_up = service.looked_up.as_deref();
    let when = looked_up.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    let Some(days) = when.map(|when| (now - when).whole_days()) else {
        return;
    };
    if days >= OLD {
        let name = &service.name;
        let what = format!(
            "{name}: its images were looked up {} ago",
            words::days(days)
        );
        all.push(Attention {
            service: Some(name.clone()),
            hint: Some("`sovereign lock --update` looks whether there are newer ones".to_owned()),
            ..new(Kind::Updates, &service.host, name, what)
        });
    }
}

fn of_node(
    service: &ServiceStatus,
    new: &impl Fn(&str, String, String) -> Attention,
    all: &mut Vec<Attention>,
) {
    let logs = format!("`sovereign logs {}` shows what it says", service.name);
    match service.node.as_ref().map(|node| &node.seen) {
        Some(NodeSeen::Silent { why, .. }) => {
            all.push(new("node", format!("cannot be asked: {why}"), logs))
        }
        Some(NodeSeen::Said(Seen::Answers(node))) => {
            if node.peers == 0 && node.chain != "regtest" {
                let hint = "does its host reach the internet, and other nodes' port?".to_owned();
                all.push(new(
                    "peers",
                    "has no peers: it learns of no block".to_owned(),
                    hint,
                ));
            }
            for warning in &node.warnings {
                all.push(new(
                    "warning",
                    format!("warns: {}", words::line(warning)),
                    logs.clone(),
                ));
            }
        }
        _ => {}
    }
}

fn new(kind: Kind, host: &str, rest: &str, what: String) -> Attention {
    let id = format!("{host}/{}/{rest}", kind.word());
    Attention {
        id: id.trim_end_matches('/').to_owned(),
        kind,
        host: host.to_owned(),
        service: None,
        what,
        hint: None,
        due: None,
    }
}
