use std::sync::Arc;

use async_trait::async_trait;
use sovereign_config::stack::model;

use super::*;
use crate::observe::EngineState;
use crate::ssh::double::{Double, host};
use crate::ssh::{self, Connect, Remote};

fn wanted() -> Wanted {
    Wanted {
        host: "h1".to_owned(),
        engine: model::Engine::Docker,
        public: vec![(9735, "channels".to_owned())],
        swarm: Vec::new(),
        nameless: Vec::new(),
        compose: None,
    }
}

fn plugin() -> Plugin {
    Plugin {
        path: "/usr/libexec/docker/cli-plugins/docker-compose".into(),
        digest: "c".repeat(64),
        machine: "x86_64",
    }
}

fn offers(compose: &str, version: &str) -> Facts {
    Facts {
        release: Release {
            id: "debian".to_owned(),
            name: "Debian GNU/Linux 13 (trixie)".to_owned(),
            version: "13".to_owned(),
            ..Release::default()
        },
        machine: "x86_64".to_owned(),
        root: true,
        offered: [
            ("docker.io".to_owned(), "26.1.5".to_owned()),
            (compose.to_owned(), version.to_owned()),
        ]
        .into(),
        ssh_port: Some(2222),
        ..Facts::default()
    }
}

/// A host that has what it needs.
fn prepared() -> Facts {
    let mut facts = Facts {
        engine: EngineState::Up("26.1.5".to_owned()),
        compose: Some("2.26.1".to_owned()),
        installed: ["nftables", "unattended-upgrades", "ca-certificates"]
            .map(str::to_owned)
            .into(),
        guarded: true,
        enabled: facts::UNITS.map(str::to_owned).into(),
        ..offers("docker-compose", "2.26.1-4")
    };
    for step in plan(&facts, &wanted()).steps {
        if let Act::Write { path, text } = step.act {
            let path = [RULES, UNIT, UPDATES]
                .into_iter()
                .find(|known| *known == path)
                .expect("a file of ours");
            facts.files.insert(path, text);
        }
    }
    facts
}

#[test]
fn a_bare_host_gets_everything_and_what_it_closes_is_said() {
    let mut facts = offers("docker-compose", "2.26.1-4");
    facts.installed.insert("ca-certificates".to_owned());
    facts.listeners = vec![
        Listener {
            protocol: "tcp".to_owned(),
            port: 2222,
            program: "sshd".to_owned(),
        },
        Listener {
            protocol: "tcp".to_owned(),
            port: 3306,
            program: "mariadbd".to_owned(),
        },
        Listener {
            protocol: "udp".to_owned(),
            port: 68,
            program: String::new(),
        },
    ];
    let expected = "\
h1: Debian GNU/Linux 13 (trixie)
  + fetch the distribution's list of packages
      $ apt-get --quiet update
  + install docker.io, docker-compose, nftables, unattended-upgrades
      $ env DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes --no-install-recommends -o DPkg::Lock::Timeout=120 -o DPkg::Options::=--force-confold install -- docker.io docker-compose nftables unattended-upgrades
  + start the engine, now and with the host
      $ systemctl enable --now docker.service
  + put the firewall in force
      lets in tcp 2222 (SSH), tcp 80 (HTTP), tcp and udp 443 (HTTPS), tcp 9735 (channels); nothing else
      closes what listens now: tcp 3306 (mariadbd)
      it is taken back where no new connection comes through it
      $ nft -f -
  + write /etc/sovereign/firewall.nft
  + write /etc/systemd/system/sovereign-firewall.service
  + have the service manager read it
      $ systemctl daemon-reload
  + load the firewall when the host starts
      $ systemctl enable --now sovereign-firewall.service
  + write /etc/apt/apt.conf.d/52sovereign-updates
      security updates install themselves, daily
  + run the daily updates
      $ systemctl enable --now apt-daily.timer apt-daily-upgrade.timer";
    assert_eq!(plan(&facts, &wanted()).text(), expected);
}

#[test]
fn a_host_that_was_prepared_needs_nothing() {
    let plan = plan(&prepared(), &wanted());
    assert_eq!(
        plan.text(),
        "h1: Debian GNU/Linux 13 (trixie)\n  has what it needs"
    );
}

#[test]
fn only_what_differs_is_done() {
    let what = |facts: &Facts, wanted: &Wanted| {
        plan(facts, wanted)
            .steps
            .into_iter()
            .map(|step| step.what)
            .collect::<Vec<_>>()
    };
    let another = Wanted {
        public: Vec::new(),
        ..wanted()
    };
    assert_eq!(
        what(&prepared(), &another),
        [
            "put the firewall in force",
            "write /etc/sovereign/firewall.nft"
        ]
    );
    let flushed = Facts {
        guarded: false,
        ..prepared()
    };
    assert_eq!(what(&flushed, &wanted()), ["put the firewall in force"]);
    let down = Facts {
        engine: EngineState::Down("no socket".to_owned()),
        ..prepared()
    };
    assert_eq!(
        what(&down, &wanted()),
        ["start the engine, now and with the host"]
    );
    let unfinished = Facts {
        unfinished: true,
        ..prepared()
    };
    assert_eq!(
        what(&unfinished, &wanted()),
        [
            "end an installation of packages that was interrupted",
            "put right what it left"
        ]
    );
    let other = Facts {
        other_firewall: Some("ufw.service".to_owned()),
        files: Default::default(),
        installed: ["unattended-upgrades", "ca-certificates"]
            .map(str::to_owned)
            .into(),
        ..prepared()
    };
    assert_eq!(
        what(&other, &wanted()),
        ["write /etc/apt/apt.conf.d/52sovereign-updates"]
    );
    let nowhere = Facts {
        ssh_port: None,
        ..prepared()
    };
    assert!(what(&nowhere, &wanted()).is_empty());
    assert!(plan(&nowhere, &wanted()).notes[0].contains("it could lock you out"));
}

#[test]
fn what_cannot_be_prepared_says_why() {
    let why = |facts: &Facts| {
        plan(facts, &wanted())
            .blocked
            .map(|(why, _)| why)
            .unwrap_or_default()
    };
    let fedora = Facts {
        release: Release {
            id: "fedora".to_owned(),
            ..Release::default()
        },
        ..prepared()
    };
    assert_eq!(why(&fedora), "it is no Debian, nor made from it");
    assert_eq!(
        why(&Facts {
            root: false,
            ..prepared()
        }),
        "commands do not run as root there"
    );
    let old = offers("docker-compose", "1.29.2-3");
    assert_eq!(
        why(&old),
        "its distribution offers no Compose 2, nor is one on this machine"
    );
    let other = Facts {
        machine: "aarch64".to_owned(),
        ..old
    };
    let sent = Wanted {
        compose: Some(plugin()),
        ..wanted()
    };
    assert_eq!(
        plan(&other, &sent)
            .blocked
            .expect("it does not run there")
            .0,
        "its distribution offers no Compose 2; that of /usr/libexec/docker/cli-plugins/docker-compose runs on x86_64, and the host is aarch64"
    );
    for (package, version) in [
        ("docker-compose", "2.26.1-4"),
        ("docker-compose-v2", "2.24.6+ds1-0ubuntu2"),
        ("docker-compose-plugin", "5:2.29.0-1"),
    ] {
        let facts = offers(package, version);
        assert_eq!(why(&facts), "", "{package}");
        assert!(plan(&facts, &wanted()).steps[1].what.contains(package));
    }
}

/// The first Compose has a package of the same name; and a host that has never fetched a list says nothing.
#[test]
fn where_no_package_has_compose_it_is_sent() {
    let sent = Wanted {
        compose: Some(plugin()),
        ..wanted()
    };
    let mut never = offers("docker-compose", "1.29.2-3");
    never.offered.clear();
    never.release.version = "12".to_owned();
    for facts in [offers("docker-compose", "1.29.2-3"), never.clone()] {
        assert!(lacks_compose(&facts));
        let text = plan(&facts, &sent).text();
        let wanted = "
  + install docker.io, nftables, unattended-upgrades, ca-certificates
      $ env DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes --no-install-recommends -o DPkg::Lock::Timeout=120 -o DPkg::Options::=--force-confold install -- docker.io nftables unattended-upgrades ca-certificates
  + start the engine, now and with the host
      $ systemctl enable --now docker.service
  + send Compose of this machine
      from /usr/libexec/docker/cli-plugins/docker-compose
      sha256 cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc
      to /usr/local/lib/docker/cli-plugins/docker-compose
  + see that it runs there
      $ docker compose version
";
        assert!(text.contains(wanted), "{text}");
    }
    never.release.version = "13".to_owned();
    assert!(!lacks_compose(&never));
}

#[test]
fn a_swarm_needs_addresses() {
    let swarm = Wanted {
        swarm: vec!["10.77.0.12".parse().unwrap()],
        nameless: vec!["h3".to_owned()],
        ..wanted()
    };
    let plan = plan(&prepared(), &swarm);
    assert!(plan.steps[0].more[0].contains("the Swarm's own ports from 10.77.0.12"));
    assert!(plan.notes[0].contains("are not let in from h3"), "{plan:?}");
}

/// What takes the rules back puts those of before in force again.
#[test]
fn the_rules_of_before_come_back() {
    let undo = |facts: &Facts| {
        let wanted = Wanted {
            public: Vec::new(),
            ..wanted()
        };
        let mut steps = plan(facts, &wanted).steps.into_iter();
        steps.find_map(|step| match step.act {
            Act::Guard { undo, .. } => Some(undo.join(" ")),
            _ => None,
        })
    };
    assert_eq!(
        undo(&prepared()).unwrap(),
        "/usr/sbin/nft -f /etc/sovereign/firewall.nft"
    );
    let open = Facts {
        guarded: false,
        ..prepared()
    };
    assert_eq!(
        undo(&open).unwrap(),
        "/usr/sbin/nft delete table inet sovereign"
    );
}

#[test]
fn the_rules_let_in_what_is_open_and_the_swarm() {
    let open = Open {
        tcp: [22, 80, 443].into(),
        udp: [443].into(),
        swarm: vec![
            "10.77.0.12".parse().unwrap(),
            "2001:db8::2".parse().unwrap(),
        ],
    };
    let rules = open.rules();
    for line in [
        "table inet sovereign\ndelete table inet sovereign\ntable inet sovereign {\n",
        "\t\ttcp dport { 22, 80, 443 } accept\n\t\tudp dport { 443 } accept\n",
        "\t\tip saddr 10.77.0.12 tcp dport { 2377, 7946 } accept\n",
        "\t\tip6 saddr 2001:db8::2 meta l4proto esp accept\n",
        "\t\tct status dnat meta l4proto tcp ct original proto-dst { 22, 80, 443 } accept\n",
        "\t\tct status dnat drop\n\t\toifname { \"docker0\", \"docker_gwbridge\" } drop\n\t\toifname \"br-*\" drop\n",
    ] {
        assert!(rules.contains(line), "{line}\n{rules}");
    }
}

/// A way to a host that is a double.
struct Way(Result<Arc<Double>, ()>);

#[async_trait]
impl Connect for Way {
    async fn connect(&self, host: &model::Host) -> Result<Arc<dyn Remote>, ssh::Error> {
        let refused = || ssh::Error::Refused {
            host: host.name.clone(),
            refusal: ssh::Refusal::Silent,
            said: String::new(),
        };
        match &self.0 {
            Ok(double) => Ok(double.clone()),
            Err(()) => Err(refused()),
        }
    }
}

async fn guard(again: Way) -> (Result<(), Error>, Vec<String>) {
    let remote = Double::new("h1");
    let step = Step {
        what: "put the firewall in force".to_owned(),
        more: Vec::new(),
        act: Act::Guard {
            rules: Open::default().rules(),
            undo: vec!["nft".to_owned(), "delete".to_owned()],
        },
    };
    let applied = apply(&step, &host("h1"), &remote, &again).await;
    (applied, remote.commands())
}

#[tokio::test]
async fn a_firewall_that_lets_us_in_stays() {
    let (applied, commands) = guard(Way(Ok(Arc::new(Double::new("h1"))))).await;
    applied.unwrap();
    let expected = [
        "nft --check -f -",
        "systemctl stop sovereign-firewall-undo.timer",
        "systemd-run --quiet --collect --unit=sovereign-firewall-undo --on-active=60s nft delete",
        "nft -f -",
        "systemctl stop sovereign-firewall-undo.timer",
    ];
    assert_eq!(commands, expected);
}

#[tokio::test]
async fn a_firewall_that_locks_us_out_goes_at_once() {
    let (applied, commands) = guard(Way(Err(()))).await;
    let text = crate::failure::chain(&applied.unwrap_err());
    assert!(
        text.starts_with(
            "with the firewall in force no new connection comes through; it was taken back: h1: "
        ),
        "{text}"
    );
    assert_eq!(commands.last().unwrap(), "nft delete");
}

#[tokio::test]
async fn a_file_takes_its_place_once_it_is_whole() {
    let remote = Double::new("h1").fails("dd", 1, "No space left on device");
    let write = Step {
        what: format!("write {UPDATES}"),
        more: Vec::new(),
        act: Act::Write {
            path: UPDATES.to_owned(),
            text: "x".to_owned(),
        },
    };
    let error = apply(&write, &host("h1"), &remote, &Way(Err(())))
        .await
        .unwrap_err();
    assert!(crate::failure::chain(&error).contains("No space left on device"));
    assert!(
        !remote
            .commands()
            .iter()
            .any(|command| command.starts_with("mv"))
    );
}
