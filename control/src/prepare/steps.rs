//! What has to be done to a host, from what is there and what is wanted. Pure.

use std::time::Duration;

use sovereign_config::stack::model;

use super::facts::{Facts, UNITS};
use super::firewall::Open;
use super::{Act, Preparation, RULES, Step, UNIT, UPDATES, Wanted};
use crate::observe::EngineState;

/// How long installing may take.
const INSTALL: Duration = Duration::from_secs(1800);
/// How long a service may take to start.
const START: Duration = Duration::from_secs(120);

/// What has to be done.
pub fn plan(facts: &Facts, wanted: &Wanted) -> Preparation {
    let mut made = Preparation {
        host: wanted.host.clone(),
        system: if facts.release.name.is_empty() {
            "an unknown system".to_owned()
        } else {
            facts.release.name.clone()
        },
        steps: Vec::new(),
        notes: Vec::new(),
        blocked: blocked(facts),
    };
    if made.blocked.is_some() {
        return made;
    }
    packages(facts, &mut made);
    engine(facts, wanted, &mut made);
    firewall(facts, wanted, &mut made);
    updates(facts, &mut made);
    made
}

/// Why nothing can be done.
fn blocked(facts: &Facts) -> Option<(String, String)> {
    if !facts.release.is_debian() {
        let hint = "install Docker Engine with Compose 2, a firewall and automatic updates by hand: `sovereign deploy` works with them";
        return Some((
            "it is no Debian, nor made from it".to_owned(),
            hint.to_owned(),
        ));
    }
    if !facts.root {
        return Some((
            "commands do not run as root there".to_owned(),
            "let `ssh` in stack.toml log in as root".to_owned(),
        ));
    }
    if facts.compose.is_none() && !facts.offered.is_empty() && compose_package(facts).is_none() {
        let hint = "Debian 13 has it, so has Ubuntu 24.04; or install Compose 2 as a plugin by hand: \
                    /usr/local/lib/docker/cli-plugins/docker-compose";
        return Some((
            "its distribution offers no Compose 2".to_owned(),
            hint.to_owned(),
        ));
    }
    None
}

/// The package that brings Compose 2; one of that name may bring an older one.
fn compose_package(facts: &Facts) -> Option<&'static str> {
    const NAMES: [&str; 3] = [
        "docker-compose-plugin",
        "docker-compose-v2",
        "docker-compose",
    ];
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

fn packages(facts: &Facts, made: &mut Preparation) {
    let mut missing = Vec::new();
    if facts.engine == EngineState::Missing {
        missing.push("docker.io");
    }
    if facts.compose.is_none() {
        // Where no list of packages is there yet, the newest name is as good as any.
        missing.push(compose_package(facts).unwrap_or("docker-compose"));
    }
    let plain = ["nftables", "unattended-upgrades", "ca-certificates"];
    missing.extend(
        plain
            .into_iter()
            .filter(|name| !facts.installed.contains(*name)),
    );
    if missing.is_empty() {
        return;
    }
    made.steps.push(run(
        "fetch the distribution's list of packages",
        &["apt-get", "--quiet", "update"],
        INSTALL,
    ));
    let mut argv = vec![
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "--quiet",
        "--yes",
        "--no-install-recommends",
        "-o",
        "DPkg::Lock::Timeout=120",
        "install",
        "--",
    ];
    argv.extend(&missing);
    made.steps.push(run(
        &format!("install {}", missing.join(", ")),
        &argv,
        INSTALL,
    ));
}

fn engine(facts: &Facts, wanted: &Wanted, made: &mut Preparation) {
    match &facts.engine {
        EngineState::Up(_) => {}
        EngineState::Missing => {
            made.steps.push(run(
                "start the engine, now and with the host",
                &["systemctl", "enable", "--now", "docker.service"],
                START,
            ));
        }
        // A Swarm that the host is in no member of says so here too; its engine is there.
        EngineState::Down(why)
            if wanted.engine == model::Engine::Swarm && why.to_lowercase().contains("swarm") => {}
        EngineState::Down(_) => {
            made.steps.push(run(
                "start the engine, now and with the host",
                &["systemctl", "enable", "--now", "docker.service"],
                START,
            ));
        }
    }
    if wanted.engine == model::Engine::Swarm && !matches!(facts.engine, EngineState::Up(_)) {
        made.notes.push("it is no manager of a Swarm yet: `docker swarm init` on the first host, `docker swarm join` on the others".to_owned());
    }
}

fn firewall(facts: &Facts, wanted: &Wanted, made: &mut Preparation) {
    let Some(ssh) = facts.ssh_port else {
        made.notes.push("the port of its SSH server is not known, so no firewall is set up: it could lock you out".to_owned());
        return;
    };
    let open = open(wanted, ssh);
    if let Some(other) = &facts.other_firewall {
        let ports = told(wanted, ssh).join(", ");
        made.notes.push(format!(
            "{other} is in charge of its firewall and stays so; let in there: {ports}"
        ));
        return;
    }
    let (rules, unit) = (open.rules(), unit());
    let is = |path: &str, text: &str| facts.files.get(path).is_some_and(|found| found == text);
    if !is(RULES, &rules) || !facts.guarded {
        let mut more = vec![format!(
            "lets in {}; nothing else",
            told(wanted, ssh).join(", ")
        )];
        more.extend(closed(facts, &open));
        made.steps.push(Step {
            what: format!("write {RULES}"),
            more,
            act: write(RULES, &rules),
        });
        let more = vec!["it is taken back where no new connection comes through it".to_owned()];
        made.steps.push(Step {
            what: "put the firewall in force".to_owned(),
            more,
            act: Act::Guard { rules },
        });
    }
    if !is(UNIT, &unit) {
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
    if !facts.enabled.contains(UNITS[0]) || !is(UNIT, &unit) {
        made.steps.push(run(
            "load the firewall when the host starts",
            &["systemctl", "enable", UNITS[0]],
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
    if facts
        .files
        .get(UPDATES)
        .is_none_or(|found| found != UPDATES_TEXT)
    {
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

/// After the distribution's own, which begins with flushing everything.
fn unit() -> String {
    format!(
        "# Written by `sovereign host prepare`, which writes it anew.\n\
         [Unit]\n\
         Description=The firewall of Sovereign Stack\n\
         DefaultDependencies=no\n\
         After=nftables.service\n\
         Before=network-pre.target docker.service shutdown.target\n\
         Wants=network-pre.target\n\
         Conflicts=shutdown.target\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         ExecStart=/usr/sbin/nft -f {RULES}\n\
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
