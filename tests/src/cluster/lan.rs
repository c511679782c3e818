//! The network between the machines: one bridge in a namespace of its own, so that no machine's firewall
//! is in the way of another's packets, and nothing of it shows in the system's own network.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::lab::{Lab, system_program};
use crate::process::Process;
use crate::wait::eventually;

/// A bridge that machines are plugged into.
#[derive(Debug)]
pub(super) struct Lan {
    holder: Process,
}

impl Lan {
    pub(super) async fn open(lab: &Lab) -> Self {
        let script = "ip link add lan type bridge forward_delay 0 && ip link set lan up && echo open && exec sleep infinity";
        let mut holder = Process::start(lab, "lan", system_program("unshare"), |command| {
            command
                .args(["--net", "--", "sh", "-c", script])
                .env("PATH", super::PATH);
        });
        eventually("a network namespace", Duration::from_secs(10), || {
            holder.assert_running();
            let said = std::fs::read_to_string(holder.stdout()).unwrap_or_default();
            std::future::ready(said.contains("open").then_some(()).ok_or("no bridge yet"))
        })
        .await;
        Self { holder }
    }

    /// Lays a cable to the machine whose first process has the id `pid`; there it is `eth0`.
    pub(super) fn plug(&self, machine: &str, pid: i32) {
        let port = port(machine);
        let pid = pid.to_string();
        self.ip(&[
            "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &pid,
        ]);
        self.ip(&["link", "set", &port, "master", "lan", "up"]);
    }

    pub(super) fn cut(&self, machine: &str) {
        self.ip(&["link", "set", &port(machine), "down"]);
    }

    pub(super) fn heal(&self, machine: &str) {
        self.ip(&["link", "set", &port(machine), "up"]);
    }

    fn ip(&self, arguments: &[&str]) {
        let output = Command::new(system_program("nsenter"))
            .args(["-t", &self.holder.id().as_raw_nonzero().to_string(), "-n"])
            .arg("--")
            .arg(system_program("ip"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("ip does not start: {error}"));
        assert!(
            output.status.success(),
            "ip {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

fn port(machine: &str) -> String {
    format!("p-{machine}")
}
