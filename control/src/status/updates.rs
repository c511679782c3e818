//! Security updates that wait on a host, and whether it waits to be started anew. Asked of its own list of packages, so
//! that nobody else is asked. Stands alone because it costs a second, and changes once a day.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::ssh::{Error, Input, LOOK, Remote};

/// What a host waits for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Updates {
    /// Packages with a security update that is not installed, though there was time for it.
    pub security: BTreeSet<String>,
    /// It was updated, and has to be started anew for it.
    pub restart: bool,
}

/// Says that a package needs the host to be started anew.
const RESTART: &str = "/run/reboot-required";
/// Is touched each time that updates were installed by themselves.
const INSTALLED: &str = "/var/lib/apt/periodic/unattended-upgrades-stamp";
/// What came after that, within this many minutes, is not late.
const LATE: &str = "-2160";

/// Asks a host; none where it knows of no packages.
pub(super) async fn look(remote: &dyn Remote) -> Option<Updates> {
    let simulated = [
        "env",
        "LC_ALL=C",
        "apt-get",
        "--quiet",
        "--simulate",
        "upgrade",
    ];
    let marks = [
        "find",
        RESTART,
        INSTALLED,
        "-maxdepth",
        "0",
        "(",
        "-path",
        RESTART,
        "-o",
        "-mmin",
        LATE,
        ")",
    ];
    // Where this cannot be said, the rest of the status is as good as ever.
    let (printed, found) = tokio::join!(asked(remote, &simulated), asked(remote, &marks));
    let (printed, found) = (printed.ok()?, found.ok()?);
    let is_there = |mark: &str| found.lines().any(|line| line == mark);
    Some(Updates {
        security: match is_there(INSTALLED) {
            true => BTreeSet::new(),
            false => security(&printed),
        },
        restart: is_there(RESTART),
    })
}

async fn asked(remote: &dyn Remote, argv: &[&str]) -> Result<String, Error> {
    let output = remote.output(argv, Input::nothing(), LOOK).await?;
    Ok(output.text())
}

/// Reads what `apt-get --simulate upgrade` prints: `Inst libc6 [1] (2 Debian-Security:12/stable-security [amd64])`.
fn security(printed: &str) -> BTreeSet<String> {
    let lines = printed.lines().filter(|line| {
        let from = line.rsplit_once('(').map_or("", |(_, from)| from);
        from.contains("-Security:") || from.contains("-security ")
    });
    lines
        .filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::double::Double;

    const PRINTED: &str = "Reading package lists...\n\
        Inst libc6 [2.36-9] (2.36-9+deb12u1 Debian-Security:12/stable-security [amd64]) []\n\
        Inst tzdata [2024a] (2025b Debian:12.9/stable [all])\n\
        Inst openssl [3.0] (3.1 Ubuntu:24.04/noble-updates, Ubuntu:24.04/noble-security [amd64])\n\
        Conf libc6 (2.36-9+deb12u1 Debian-Security:12/stable-security [amd64])\n";

    async fn seen(marks: &str) -> Option<Updates> {
        let host = Double::new("h1").on("env", PRINTED).on("find", marks);
        look(&host).await
    }

    #[tokio::test]
    async fn what_waits_is_named_where_it_is_late() {
        let late = seen("").await.unwrap();
        let names: Vec<&str> = late.security.iter().map(String::as_str).collect();
        assert_eq!((names, late.restart), (vec!["libc6", "openssl"], false));
        let marks = "/run/reboot-required\n/var/lib/apt/periodic/unattended-upgrades-stamp\n";
        let fresh = seen(marks).await.unwrap();
        assert_eq!((fresh.security.len(), fresh.restart), (0, true));
        assert_eq!(look(&Double::new("h1").lacks("env")).await, None);
    }
}
