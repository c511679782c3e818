//! What has to be done to a host, from what is there and what is wanted. Pure.

use std::time::Duration;

use sovereign_config::stack::model;

use super::facts::{Facts, UNITS};
use super::firewall::{Open, TABLE};
use super::plugin::{PLACE, Plugin};
use super::{Act, Preparation, RULES, Step, UNIT, UPDATES, Wanted};
use crate::observe::EngineState;

/// How long installing may take.
const INSTALL: Duration = Duration::from_secs(1800);
/// How long a service may take to start.
const START: Duration = Duration::from_secs(120);

/// What has to be done.
pub fn plan(facts: &Facts, wanted: &Wanted) -> Preparation {
    let compose = compose(facts, wanted.compose.as_ref());
    let mut made = Preparation {
        host: wanted.host.clone(),
        system: if facts.release.name.is_empty() {
            "an unknown system".to_owned()
        } else {
            facts.release.name.clone()
        },
        steps: Vec::new(),
        notes: Vec::new(),
        blocked: blocked(facts, &compose),
    };
    if made.blocked.is_some() {
        return made;
    }
    packages(facts, &compose, &mut made);
    engine(facts, wanted, &mut made);
    if let Compose::Sent(plugin) = compose {
        send(plugin, &mut made);
    }
    firewall(facts, wanted, &mut made);
    updates(facts, &mut made);
    made
}

/// Where Compose 2 comes from.
enum Compose<'p> {
    /// It is there.
    There,
    /// A package of the distribution.
    Package(&'static str),
    /// This machine.
    Sent(&'p Plugin),
    /// Nowhere, and why.
    Nowhere(String),
}

fn compose<'p>(facts: &Facts, plugin: Option<&'p Plugin>) -> Compose<'p> {
    if facts.compose.is_some() {
        return Compose::There;
    }
    match (plugin, compose_package(facts)) {
        // A file that was named goes before a package; one of this machine is only looked for where there is none.
        (Some(plugin), _) if plugin.runs_on(&facts.machine) => Compose::Sent(plugin),
        (_, Some(package)) => Compose::Package(package),
        (Some(plugin), None) => Compose::Nowhere(format!(
            "; that of {} runs on {}, and the host is {}",
            plugin.path.display(),
            plugin.machine,
            facts.machine
        )),
        (None, None) => Compose::Nowhere(", nor is one on this machine".to_owned()),
    }
}

/// Why nothing can be done.
fn blocked(facts: &Facts, compose: &Compose<'_>) -> Option<(String, String)> {
    let (why, hint) = if !facts.release.is_debian() {
        let hint = "install Docker Engine with Compose 2, a firewall and automatic updates by hand: `sovereign deploy` works with them";
        ("it is no Debian, nor made from it".to_owned(), hint)
    } else if !facts.root {
        let hint = "let `ssh` in stack.toml log in as root";
        ("commands do not run as root there".to_owned(), hint)
    } else if let Compose::Nowhere(nor) = compose {
        let hint = "`--compose FILE` sends the program of Compose 2 from this machine; Debian 13 and Ubuntu 24.04 have a package";
        (format!("its distribution offers no Compose 2{nor}"), hint)
    } else {
        return None;
    };
    Some((why, hint.to_owned()))
}

/// Whether Compose has to come from this machine, unless one was named.
pub fn lacks_compose(facts: &Facts) -> bool {
    facts.compose.is_none() && compose_package(facts).is_none()
}

/// The package that brings Compose 2; one of that name may bring an older one. A host that has never fetched a list of
/// packages offers what its release is known for.
fn compose_package(facts: &Facts) -> Option<&'static str> {
    const NAMES: [&str; 3] = [
        "docker-compose-plugin",
        "docker-compose-v2",
        "docker-compose",
    ];
    if facts.offered.is_empty() {
        return facts.release.compose();
    }
    NAMES.into_iter().find(|name| {
        facts
            .offered
            .get(*name)
            .is_some_and(|version| major(version) >= 2)
    })
}

/// The first number of a version, after its epoch.
fn major(version: &str) -> u32 {
    let plain = version.split_once(':').map_or(version, |(_, rest)| rest);
    let digits: String = plain.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

fn packages(facts: &Facts, compose: &Compose<'_>, made: &mut Preparation) {
    if facts.unfinished {
        let argv = [&QUIET, &["dpkg", "--configure", "--pending"][..]].concat();
        made.steps.push(run(
            "end an installation of packages that was interrupted",
            &argv,
            INSTALL,
        ));
        made.steps.push(run(
            "put right what it left",
            &[&APT_GET[..], &["--fix-broken", "install"]].concat(),
            INSTALL,
        ));
    }
    let mut missing = Vec::new();
    if facts.engine == EngineState::Missing {
        missing.push("docker.io");
    }
    if let Compose::Package(package) = compose {
        missing.push(package);
    }
    let plain = ["nftables", "unattended-upgrades", "ca-certificates"];
    let wanted = |name: &&str| *name != plain[0] || facts.other_firewall.is_none();
    let plain = plain.into_iter().filter(wanted);
    missing.extend(plain.filter(|name| !facts.installed.contains(*name)));
    if missing.is_empty() {
        return;
    }
    made.steps.push(run(
        "fetch the distribution's list of packages",
        &["apt-get", "--quiet", "update"],
        INSTALL,
    ));
    made.steps.push(run(
        &format!("install {}", missing.join(", ")),
        &[&APT_GET[..], &["install", "--"], &missing].concat(),
        INSTALL,
    ));
}

/// Asks nothing, and leaves the operator's own configuration as it is.
const QUIET: [&str; 2] = ["env", "DEBIAN_FRONTEND=noninteractive"];
const APT_GET: [&str; 10] = [
    QUIET[0],
    QUIET[1],
    "apt-get",
    "--quiet",
    "--yes",
    "--no-install-recommends",
    "-o",
    "DPkg::Lock::Timeout=120",
    "-o",
    "DPkg::Options::=--force-confold",
];

fn send(plugin: &Plugin, made: &mut Preparation) {
    made.steps.push(Step {
        what: "send Compose of this machine".to_owned(),
        more: vec![
            format!("from {}", plugin.path.display()),
            format!("sha256 {}", plugin.digest),
            format!("to {PLACE}"),
        ],
        act: Act::Send {
            from: plugin.path.clone(),
            digest: plugin.digest.clone(),
            path: PLACE,
        },
    });
    made.steps.push(run(
        "see that it runs there",
        &["docker", "compose", "version"],
        START,
    ));
}

fn engine(facts: &Facts, wanted: &Wanted, made: &mut Preparation) {
    if matches!(facts.engine, EngineState::Missing | EngineState::Down(_)) {
        made.steps.push(run(
            "start the engine, now and with the host",
            &["systemctl", "enable", "--now", "docker.service"],
            START,
        ));
    }
    let none = "it is in no Swarm yet: `docker swarm init` on the first host, on the others what \
                `docker swarm join-token manager` there prints";
    match &facts.engine {
        EngineState::NoManager { why, hint } => made.notes.push(format!("{why}: {hint}")),
        EngineState::Missing | EngineState::Down(_) if wanted.engine == model::Engine::Swarm => {
            made.notes.push(none.to_owned());
        }
        _ => {}
    }
}

fn firewall(facts: &Facts, wanted: &Wanted, made: &mut Preparation) {
    let Some(ssh) = facts.ssh_port else {
        made.notes.push("the port of its SSH server is not known, so no firewall is set up: it could lock you out".to_owned());
        return;
    };
    for other in &wanted.nameless {
        made.notes.push(format!(
            "the Swarm's own ports are not let in from {other}: write its IP address as `address` in stack.toml"
        ));
    }
    if let Some(other) = &facts.other_firewall {
        let ports = told(wanted, ssh).join(", ");
        made.notes.push(format!(
            "{other} is in charge of its firewall and stays so; let in there: {ports}"
        ));
        return;
    }
    rules(facts, wanted, ssh, made);
    service(facts, made);
}

fn is(facts: &Facts, path: &str, text: &str) -> bool {
    facts.files.get(path).is_some_and(|found| found == text)
}

/// They are tried before they are written down: what a host loads when it starts has let somebody in.
fn rules(facts: &Facts, wanted: &Wanted, ssh: u16, made: &mut Preparation) {
    let open = open(wanted, ssh);
    let rules = open.rules();
    let written = is(facts, RULES, &rules);
    if written && facts.guarded {
        return;
    }
    let mut more = vec![format!(
        "lets in {}; nothing else",
        told(wanted, ssh).join(", ")
    )];
    more.extend(closed(facts, &open));
    more.push("it is taken back where no new connection comes through it".to_owned());
    let undo: &[&str] = if facts.guarded && facts.files.contains_key(RULES) {
        &["/usr/sbin/nft", "-f", RULES]
    } else {
        &["/usr/sbin/nft", "delete", "table", "inet", TABLE]
    };
    made.steps.push(Step {
        what: "put the firewall in force".to_owned(),
        more,
        act: Act::Guard {
            rules: rules.clone(),
            undo: undo.iter().map(|word| (*word).to_owned()).collect(),
        },
    });
    if !written {
        made.steps.push(Step {
            what: format!("write {RULES}"),
            more: Vec::new(),
            act: write(RULES, &rules),
        });
    }
}

/// What loads them when the host starts.
fn service(facts: &Facts, made: &mut Preparation) {
    let unit = unit();
    let written = is(facts, UNIT, &unit);
    if !written {
        made.steps.push(Step {
            what: format!("write {UNIT}"),
            more: Vec::new(),
            act: write(UNIT, &unit),
        });
        made.steps.push(run(
            "have the service manager read it",
            &["systemctl", "daemon-reload"],
            START,
        ));
    }
    if !written || !facts.enabled.contains(UNITS[0]) {
        made.steps.push(run(
            "load the firewall when the host starts",
            &["systemctl", "enable", "--now", UNITS[0]],
            START,
        ));
    }
}

/// What is let in.
fn open(wanted: &Wanted, ssh: u16) -> Open {
    let public = wanted.public.iter().map(|(port, _)| *port);
    Open {
        tcp: [ssh, 80, 443].into_iter().chain(public).collect(),
        udp: [443].into(),
        swarm: wanted.swarm.clone(),
    }
}

fn told(wanted: &Wanted, ssh: u16) -> Vec<String> {
    let mut told = vec![
        format!("tcp {ssh} (SSH)"),
        "tcp 80 (HTTP)".to_owned(),
        "tcp and udp 443 (HTTPS)".to_owned(),
    ];
    told.extend(
        wanted
            .public
            .iter()
            .map(|(port, service)| format!("tcp {port} ({service})")),
    );
    told.extend(
        wanted
            .swarm
            .iter()
            .map(|address| format!("the Swarm's own ports from {address}")),
    );
    told
}

/// What listens now and will not be reached any more.
fn closed(facts: &Facts, open: &Open) -> Vec<String> {
    let shut = facts
        .listeners
        .iter()
        .filter(|one| !open.has(&one.protocol, one.port) && !is_dhcp(one.port));
    let shut: Vec<String> = shut
        .map(|one| match one.program.as_str() {
            "" => format!("{} {}", one.protocol, one.port),
            program => format!("{} {} ({program})", one.protocol, one.port),
        })
        .collect();
    if shut.is_empty() {
        Vec::new()
    } else {
        vec![format!("closes what listens now: {}", shut.join(", "))]
    }
}

/// Answers to what a host asks when it joins a network come through.
fn is_dhcp(port: u16) -> bool {
    matches!(port, 68 | 546)
}

fn updates(facts: &Facts, made: &mut Preparation) {
    if !is(facts, UPDATES, UPDATES_TEXT) {
        let step = Step {
            what: format!("write {UPDATES}"),
            more: vec!["security updates install themselves, daily".to_owned()],
            act: write(UPDATES, UPDATES_TEXT),
        };
        made.steps.push(step);
    }
    let timers = &UNITS[1..];
    if !timers.iter().all(|timer| facts.enabled.contains(*timer)) {
        made.steps.push(run(
            "run the daily updates",
            &[&["systemctl", "enable", "--now"], timers].concat(),
            START,
        ));
    }
}

fn run(what: &str, argv: &[&str], deadline: Duration) -> Step {
    let argv = argv.iter().map(|word| (*word).to_owned()).collect();
    Step {
        what: what.to_owned(),
        more: Vec::new(),
        act: Act::Run { argv, deadline },
    }
}

fn write(path: &str, text: &str) -> Act {
    Act::Write {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}

/// After the distribution's own, which begins with flushing everything; where that one is started anew, so is this.
fn unit() -> String {
    format!(
        "# Written by `sovereign host prepare`, which writes it anew.\n\
         [Unit]\n\
         Description=The firewall of Sovereign Stack\n\
         DefaultDependencies=no\n\
         After=nftables.service\n\
         PartOf=nftables.service\n\
         ReloadPropagatedFrom=nftables.service\n\
         Before=network-pre.target docker.service shutdown.target\n\
         Wants=network-pre.target\n\
         Conflicts=shutdown.target\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         ExecStart=/usr/sbin/nft -f {RULES}\n\
         ExecReload=/usr/sbin/nft -f {RULES}\n\
         \n\
         [Install]\n\
         WantedBy=sysinit.target\n"
    )
}

/// Which updates: those that the distribution's own `50unattended-upgrades` names, its security updates.
const UPDATES_TEXT: &str = "\
// Written by `sovereign host prepare`, which writes it anew.
APT::Periodic::Update-Package-Lists \"1\";
APT::Periodic::Unattended-Upgrade \"1\";
";
