//! What is there on a host, before it is prepared: looks only. Stands alone so that the plan is pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sovereign_config::stack::model;

use super::{RULES, UNIT, UPDATES, foreign};
use crate::engine;
use crate::observe::EngineState;
use crate::ssh::{Error, Input, LOOK, Remote};

/// What is there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    /// The distribution.
    pub release: Release,
    /// What its processor is, as `uname -m` says: `x86_64`.
    pub machine: String,
    /// Commands run as root.
    pub root: bool,
    /// The engine.
    pub engine: EngineState,
    /// The version of Compose.
    pub compose: Option<String>,
    /// Packages that are installed, of those that are asked for.
    pub installed: BTreeSet<String>,
    /// What the distribution offers, of those: the version.
    pub offered: BTreeMap<String, String>,
    /// An installation of packages was interrupted.
    pub unfinished: bool,
    /// Files of ours, as they are.
    pub files: BTreeMap<&'static str, String>,
    /// The table of the firewall is loaded.
    pub guarded: bool,
    /// Units that start with the host, of those that are asked for.
    pub enabled: BTreeSet<String>,
    /// What else is in charge of the firewall.
    pub other_firewall: Option<String>,
    /// The port of the SSH server that this connection came to.
    pub ssh_port: Option<u16>,
    /// What listens to others than the host itself.
    pub listeners: Vec<Listener>,
}

/// A distribution, as `/etc/os-release` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Release {
    /// `debian`.
    pub id: String,
    /// Those that it is like.
    pub like: String,
    /// `13`.
    pub version: String,
    /// `Debian GNU/Linux 13 (trixie)`.
    pub name: String,
}

/// Something that listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Its port.
    pub port: u16,
    /// What it is, where that is known.
    pub program: String,
}

/// Packages that matter here.
pub(super) const PACKAGES: [&str; 8] = [
    "docker.io",
    "docker-compose",
    "docker-compose-v2",
    "docker-compose-plugin",
    "nftables",
    "unattended-upgrades",
    "ca-certificates",
    "docker-ce",
];
/// Units that matter here.
pub(super) const UNITS: [&str; 3] = [
    "sovereign-firewall.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
];
/// Other programs that are in charge of a firewall.
const FIREWALLS: [&str; 2] = ["ufw.service", "firewalld.service"];

/// Looks at a host.
pub async fn look(remote: Arc<dyn Remote>, engine: model::Engine) -> Result<Facts, engine::Error> {
    let (state, compose) = engine::of(engine, Arc::clone(&remote)).version().await?;
    let mut facts = Facts {
        engine: state,
        compose,
        ..Facts::default()
    };
    let remote = remote.as_ref();
    facts.release = Release::read(&text(remote, &["cat", "/etc/os-release"]).await?);
    facts.machine = text(remote, &["uname", "-m"]).await?;
    facts.root = text(remote, &["id", "-u"]).await? == "0";
    packages(remote, &mut facts).await?;
    firewall(remote, &mut facts).await?;
    for path in [RULES, UNIT, UPDATES] {
        let output = output(remote, &["cat", "--", path]).await?;
        if output.0 == 0 {
            facts.files.insert(path, output.1);
        }
    }
    let enabled = [&["systemctl", "is-enabled"], &UNITS[..]].concat();
    facts.enabled = stand(&text(remote, &enabled).await?, &UNITS, "enabled");
    Ok(facts)
}

async fn packages(remote: &dyn Remote, facts: &mut Facts) -> Result<(), Error> {
    let query = [
        "dpkg-query",
        "--show",
        "--showformat=${Package} ${db:Status-Status}\\n",
    ];
    let query = [&query, &PACKAGES[..]].concat();
    facts.installed = installed(&text(remote, &query).await?);
    let policy = ["env", "LC_ALL=C", "apt-cache", "policy"];
    let policy = [&policy, &PACKAGES[..]].concat();
    facts.offered = offered(&text(remote, &policy).await?);
    let journal = ["find", "/var/lib/dpkg/updates", "-type", "f"];
    facts.unfinished = !text(remote, &["dpkg", "--audit"]).await?.is_empty()
        || !text(remote, &journal).await?.is_empty();
    Ok(())
}

async fn firewall(remote: &dyn Remote, facts: &mut Facts) -> Result<(), Error> {
    let table = ["nft", "list", "table", "inet", super::firewall::TABLE];
    facts.guarded = output(remote, &table).await?.0 == 0;
    let active = [&["systemctl", "is-active"], &FIREWALLS[..]].concat();
    let active = stand(&text(remote, &active).await?, &FIREWALLS, "active").pop_first();
    let rules = text(remote, &["nft", "-j", "list", "ruleset"]).await?;
    facts.other_firewall = active.or_else(|| foreign::nftables(&rules));
    for program in ["iptables", "iptables-legacy"] {
        if facts.other_firewall.is_none() {
            let rules = text(remote, &[program, "-S", "INPUT"]).await?;
            facts.other_firewall = foreign::iptables(&rules);
        }
    }
    facts.ssh_port = ssh_port(&text(remote, &["printenv", "SSH_CONNECTION"]).await?);
    let listening = ["ss", "-H", "-l", "-n", "-t", "-u", "-p"];
    facts.listeners = listeners(&text(remote, &listening).await?);
    Ok(())
}

/// What a command says, whatever its code; nothing where there is no such program.
async fn text(remote: &dyn Remote, argv: &[&str]) -> Result<String, Error> {
    Ok(output(remote, argv).await?.1)
}

async fn output(remote: &dyn Remote, argv: &[&str]) -> Result<(i32, String), Error> {
    match remote.output(argv, Input::nothing(), LOOK).await {
        // Files are compared as they are: no newline is taken from their end.
        Ok(output) => Ok((
            output.code,
            String::from_utf8_lossy(&output.stdout)
                .trim_end_matches(|c| argv[0] != "cat" && c == '\n')
                .to_owned(),
        )),
        Err(Error::Missing { .. }) => Ok((127, String::new())),
        Err(error) => Err(error),
    }
}

impl Release {
    fn read(text: &str) -> Self {
        let value = |key: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().trim_matches('"').to_owned()
        };
        Self {
            id: value("ID"),
            like: value("ID_LIKE"),
            version: value("VERSION_ID"),
            name: value("PRETTY_NAME"),
        }
    }

    /// The package by which it offers Compose 2, as is known of it.
    pub fn compose(&self) -> Option<&'static str> {
        let year: u32 = self.version.split('.').next()?.parse().ok()?;
        match self.id.as_str() {
            "debian" if year >= 13 => Some("docker-compose"),
            "ubuntu" if year >= 22 => Some("docker-compose-v2"),
            _ => None,
        }
    }

    /// Whether it is Debian, or made from it.
    pub fn is_debian(&self) -> bool {
        self.id == "debian" || self.like.split(' ').any(|like| like == "debian")
    }
}

/// Reads what `dpkg-query` prints.
fn installed(printed: &str) -> BTreeSet<String> {
    let lines = printed
        .lines()
        .filter_map(|line| line.strip_suffix(" installed"));
    lines.map(str::to_owned).collect()
}

/// Reads what `apt-cache policy` prints.
fn offered(printed: &str) -> BTreeMap<String, String> {
    let mut offered = BTreeMap::new();
    let mut package = None;
    for line in printed.lines() {
        if let Some(name) = line.strip_suffix(':').filter(|name| !name.starts_with(' ')) {
            package = Some(name);
        } else if let (Some(package), Some(version)) =
            (package, line.trim().strip_prefix("Candidate: "))
            && version != "(none)"
        {
            offered.insert(package.to_owned(), version.to_owned());
        }
    }
    offered
}

/// Reads what `systemctl` prints of units, a line for each.
fn stand(printed: &str, units: &[&str], word: &str) -> BTreeSet<String> {
    let both = units.iter().zip(printed.lines());
    both.filter(|(_, said)| *said == word)
        .map(|(unit, _)| (*unit).to_owned())
        .collect()
}

/// The last of the four words of `SSH_CONNECTION`.
fn ssh_port(printed: &str) -> Option<u16> {
    printed.split_whitespace().nth(3)?.parse().ok()
}

/// Reads what `ss` prints; what only the host itself can reach is left out.
fn listeners(printed: &str) -> Vec<Listener> {
    let found: BTreeSet<Listener> = printed.lines().filter_map(listener).collect();
    found.into_iter().collect()
}

fn listener(line: &str) -> Option<Listener> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (protocol, local) = (*words.first()?, *words.get(4)?);
    let (address, port) = local.rsplit_once(':')?;
    let address = address
        .split('%')
        .next()
        .unwrap_or(address)
        .trim_matches(['[', ']']);
    let own = address.starts_with("127.") || address == "::1" || address.starts_with("::ffff:127.");
    let program = words
        .get(6)
        .and_then(|users| users.split('"').nth(1))
        .unwrap_or_default();
    let port = port.parse().ok().filter(|_| !own)?;
    Some(Listener {
        protocol: protocol.to_owned(),
        port,
        program: program.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_debian_says() {
        let release = Release::read(
            "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"13\"\nID=debian\n",
        );
        assert_eq!(
            (release.name.as_str(), release.is_debian()),
            ("Debian GNU/Linux 13 (trixie)", true)
        );
        assert_eq!(release.compose(), Some("docker-compose"));
        for (text, compose) in [
            ("ID=debian\nVERSION_ID=\"12\"\n", None),
            ("ID=debian\n", None),
            (
                "ID=ubuntu\nVERSION_ID=\"24.04\"\n",
                Some("docker-compose-v2"),
            ),
            ("ID=mint\nVERSION_ID=\"22\"\n", None),
        ] {
            assert_eq!(Release::read(text).compose(), compose, "{text}");
        }
        assert!(Release::read("ID=ubuntu\nID_LIKE=debian\n").is_debian());
        assert!(!Release::read("ID=fedora\n").is_debian());
        let packages = "docker.io installed\nnftables config-files\nca-certificates installed\n";
        assert_eq!(
            installed(packages).into_iter().collect::<Vec<_>>(),
            ["ca-certificates", "docker.io"]
        );
        let policy = "docker.io:\n  Installed: (none)\n  Candidate: 26.1.5+dfsg1-9+b9\n  Version table:\n     26.1.5+dfsg1-9+b9 500\n\
                      docker-ce:\n  Installed: (none)\n  Candidate: (none)\n";
        assert_eq!(
            offered(policy),
            [("docker.io".to_owned(), "26.1.5+dfsg1-9+b9".to_owned())].into()
        );
        assert_eq!(
            stand("disabled\nenabled\nenabled\n", &UNITS, "enabled").len(),
            2
        );
        assert_eq!(ssh_port("10.77.0.1 51022 10.77.0.11 2222"), Some(2222));
    }

    #[test]
    fn what_listens_to_others() {
        let printed = "tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:((\"sshd\",pid=1,fd=3))\n\
                       tcp LISTEN 0 128 [::]:22 [::]:* users:((\"sshd\",pid=1,fd=4))\n\
                       tcp LISTEN 0 200 127.0.0.1:5432 0.0.0.0:*\n\
                       udp UNCONN 0 0 10.0.0.5%eth0:68 0.0.0.0:*\n\
                       tcp LISTEN 0 80 *:3306 *:* users:((\"mariadbd\",pid=9,fd=2))\n";
        let found: Vec<String> = listeners(printed)
            .iter()
            .map(|one| format!("{} {} {}", one.protocol, one.port, one.program))
            .collect();
        assert_eq!(found, ["tcp 22 sshd", "tcp 3306 mariadbd", "udp 68 "]);
    }
}
