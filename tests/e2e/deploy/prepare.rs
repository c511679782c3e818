//! A machine as a hoster delivers it, without an engine, a firewall or updates, gets what it needs: shown first, asked
//! for, taken up where it was cut off, and never so that the operator is locked out. What is in charge of a firewall
//! already stays so.

use std::time::Duration;

use rustix::process::Signal;
use sovereign_tests::cluster::{Machine, Make};
use sovereign_tests::{Cluster, Image, Lab, eventually};

use super::stage::{Stage, assert_says, said};

const REST: &str = r#"
[[datacentre]]
name = "home"
role = "primary"

[[host]]
name = "h1"
datacentre = "home"
ssh = "root@10.77.0.11"

[[host]]
name = "h2"
datacentre = "home"
ssh = "root@10.77.0.12"

[[site]]
names = ["app.example"]
[site.proxy]
tls = "local"
[[site.service]]
use = "custom"
name = "app"
host = "h1"
compose = "app.yaml"
options = { port = 8086 }
"#;

/// One port for the proxy, on the host itself, and one for everybody.
const APP: &str = r#"services:
  web:
    image: busybox:1
    restart: unless-stopped
    command: ["sh", "-c", "echo hello >/srv/index.html; exec httpd -f -p 80 -h /srv"]
    init: true
    ports:
      - "127.0.0.1:8086:80"
      - "8085:80"
    healthcheck:
      test: ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/index.html"]
      interval: 1s
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bare_host_gets_what_it_needs_and_nobody_is_locked_out() {
    let lab = Lab::open().await;
    let cluster = Cluster::of(&lab, &[Make::Bare, Make::Host]).await;
    let stage = Stage::at(cluster).await;
    let (h1, h2) = (stage.cluster.machine("h1"), stage.cluster.machine("h2"));
    stage.write(REST);
    stage.cluster.write("stack/app.yaml", APP);
    Image::of("busybox").load(h2, "busybox:1").await;
    stage.images(&[("busybox", "busybox:1")]).await;

    shown_and_refused(&stage, h1).await;
    cut_off(&lab, &stage, h1).await;
    nearly_locked_out(&lab, &stage, h1).await;
    prepared(&stage, h1).await;
    deployed(&stage).await;
    Image::of("busybox").load(h1, "busybox:1").await;
    only_what_is_open_comes_in(h1, h2).await;
    the_firewall_comes_back(h1, h2).await;
    another_port(&stage, h1, h2).await;
    others_in_charge(&stage, h2).await;
}

/// The plan names everything, and nothing is done before somebody has said so.
async fn shown_and_refused(stage: &Stage, h1: &Machine) {
    let dry = ["host", "prepare", "h1", "--dry-run"];
    let plan = stage.sovereign(&dry).await;
    assert_says(
        &plan,
        &[
            "h1: Debian GNU/Linux 12 (bookworm)",
            "install docker.io, nftables, unattended-upgrades, ca-certificates",
            "send Compose of this machine",
            "lets in tcp 22 (SSH), tcp 80 (HTTP), tcp and udp 443 (HTTPS), tcp 8085 (app); nothing else",
        ],
    );
    let prepare = "sovereign host prepare h1";
    let mut terminal = stage.cluster.terminal(100, 40, prepare);
    terminal.until("Do this?").await;
    terminal.types("n\r").await;
    terminal.end().await.expect(1);
    let unasked = stage.cluster.sovereign(&["host", "prepare", "h1"]).await;
    assert_says(&said(&unasked.expect(1)), &["--yes"]);
    let there = "command -v docker || command -v nft || test -e /etc/sovereign";
    h1.run(&["sh", "-c", there]).await.expect(1);
}

/// The operator's machine goes while packages are installed.
async fn cut_off(lab: &Lab, stage: &Stage, h1: &Machine) {
    let yes = ["host", "prepare", "h1", "--yes"];
    let mut begun = stage.cluster.begin(lab, &yes);
    let unpacked = "test -e /usr/bin/python3.11";
    eventually(
        "packages are unpacked",
        Duration::from_secs(120),
        || async {
            match h1.run(&["sh", "-c", unpacked]).await.code {
                0 => Ok(()),
                _ => Err(format!("{:?}", begun.said())),
            }
        },
    )
    .await;
    begun.signal(Signal::KILL);
    begun.wait(Duration::from_secs(20)).await;
    let busy = "cat /proc/[0-9]*/comm | grep -x 'apt-get\\|dpkg'";
    eventually("nobody installs", Duration::from_secs(120), || async {
        match h1.run(&["sh", "-c", busy]).await {
            ended if ended.code == 0 => Err(ended.stdout),
            _ => Ok(()),
        }
    })
    .await;
}

/// With these rules no new connection comes through: they go at once, and where `sovereign` is killed before it can
/// take them back, the host does.
async fn nearly_locked_out(lab: &Lab, stage: &Stage, h1: &Machine) {
    // After the rules are loaded, and nothing else is: SSH is shut.
    let shut = "printf '%s\\n' '#!/bin/sh' '/usr/sbin/nft \"$@\" || exit' \
        'test \"$1\" = -f || exit 0' \
        'exec /usr/sbin/nft insert rule inet sovereign input ct state new tcp dport 22 drop' >/usr/local/sbin/nft
        chmod 755 /usr/local/sbin/nft";
    h1.shell(shut).await;
    let yes = ["host", "prepare", "h1", "--yes"];
    let ended = stage.cluster.sovereign(&yes).await.expect(1);
    assert_says(
        &said(&ended),
        &[
            "h1: preparing it stopped: with the firewall in force no new connection comes through; it was taken back",
            "hint: ",
        ],
    );
    assert!(!has_table(h1).await, "the rules are still in force");

    let mut begun = stage.cluster.begin(lab, &yes);
    eventually(
        "the rules are in force",
        Duration::from_secs(60),
        || async {
            match has_table(h1).await {
                true => Ok(()),
                false => Err(format!("{:?}", begun.said())),
            }
        },
    )
    .await;
    begun.signal(Signal::KILL);
    begun.wait(Duration::from_secs(20)).await;
    let timer = ["systemctl", "is-active", "sovereign-firewall-undo.timer"];
    h1.run(&timer).await.expect(0);
    // What the timer does after a minute.
    h1.shell("systemctl start sovereign-firewall-undo.service; rm /usr/local/sbin/nft")
        .await;
    eventually("the rules are gone", Duration::from_secs(20), || async {
        match has_table(h1).await {
            true => Err("they are in force"),
            false => Ok(()),
        }
    })
    .await;
}

async fn has_table(machine: &Machine) -> bool {
    let list = ["/usr/sbin/nft", "list", "table", "inet", "sovereign"];
    machine.run(&list).await.code == 0
}

/// It goes on where it was, and then there is nothing left to do.
async fn prepared(stage: &Stage, h1: &Machine) {
    let yes = ["host", "prepare", "h1", "--yes"];
    let told = stage.sovereign(&yes).await;
    assert_says(&told, &["h1 has what it needs"]);
    let again = stage.sovereign(&["host", "prepare", "h1"]).await;
    assert_eq!(
        again,
        "h1: Debian GNU/Linux 12 (bookworm)\n  has what it needs\n"
    );
    let compose = h1.shell("docker compose version --short").await;
    assert!(
        compose.trim_start_matches('v').starts_with("2."),
        "{compose}"
    );
    h1.shell("systemctl is-enabled docker sovereign-firewall apt-daily.timer apt-daily-upgrade.timer; systemctl is-active docker sovereign-firewall")
        .await;
    let periodic = h1.shell("apt-config dump APT::Periodic").await;
    assert_says(
        &periodic,
        &[
            "APT::Periodic::Update-Package-Lists \"1\"",
            "APT::Periodic::Unattended-Upgrade \"1\"",
        ],
    );
    h1.shell("unattended-upgrade --dry-run").await;
    assert_eq!(h1.shell("dpkg --audit").await, "");
}

/// The host takes a deployment, and serves.
async fn deployed(stage: &Stage) {
    stage.sovereign(&["lock"]).await;
    stage.sovereign(&["deploy", "--yes", "--host", "h1"]).await;
    let page = stage.page("h1", "app.example", "/").await.expect(200);
    assert_eq!(page.text().trim(), "hello");
}

async fn only_what_is_open_comes_in(h1: &Machine, h2: &Machine) {
    // What no stack has: a port that the engine publishes, and one of the host itself.
    h1.shell(
        "docker run -d --name published --init -p 9001:80 busybox:1 httpd -f -p 80
         docker run -d --name own --init --network host busybox:1 httpd -f -p 9002",
    )
    .await;
    for port in [22, 80, 443, 8085] {
        comes_in(h2, "10.77.0.11", port, true).await;
    }
    for port in [8086, 9001, 9002] {
        comes_in(h2, "10.77.0.11", port, false).await;
    }
    for port in [8086, 9001, 9002] {
        comes_in(h1, "127.0.0.1", port, true).await;
    }
    // Containers reach others, and each other.
    h2.shell("docker run -d --init -p 8080:80 busybox:1 sh -c 'echo there >/srv/index.html; exec httpd -f -p 80 -h /srv'")
        .await;
    comes_in(h1, "10.77.0.12", 8080, true).await;
    let fetched = h1
        .shell("docker run --rm busybox:1 wget -q -O - http://10.77.0.12:8080/")
        .await;
    assert_eq!(fetched.trim(), "there");
    // A neighbour who knows the way to the containers.
    let address = container(h1).await;
    h2.shell("ip route replace 172.16.0.0/12 via 10.77.0.11")
        .await;
    comes_in(h2, &address, 80, false).await;
    h1.shell("nft delete table inet sovereign").await;
    comes_in(h2, &address, 80, true).await;
    comes_in(h2, "10.77.0.11", 9002, true).await;
    h1.shell("systemctl restart sovereign-firewall").await;
    comes_in(h2, &address, 80, false).await;
    comes_in(h2, "10.77.0.11", 9002, false).await;
}

/// The address of the service's container.
async fn container(h1: &Machine) -> String {
    let inspect = "docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' $(docker ps -q --filter name=sovereign-app)";
    h1.shell(inspect).await.trim().to_owned()
}

/// The engine's own rules are as they were, and every way of starting things anew leads back to the firewall.
async fn the_firewall_comes_back(h1: &Machine, h2: &Machine) {
    let rules = "iptables -S; iptables -t nat -S";
    let before = h1.shell(rules).await;
    assert_says(&before, &["-A FORWARD -j DOCKER-USER", "DNAT"]);
    h1.shell("systemctl restart sovereign-firewall").await;
    assert_eq!(h1.shell(rules).await, before);
    h1.shell("systemctl restart docker").await;
    comes_in(h2, "10.77.0.11", 9002, false).await;
    // This one begins with flushing everything, the engine's rules too.
    for script in [
        "systemctl restart nftables && systemctl restart docker",
        "systemctl reload nftables && systemctl restart docker",
    ] {
        h1.shell(script).await;
        assert!(has_table(h1).await, "{script}");
        h1.shell("docker start published own").await;
        comes_in(h2, "10.77.0.11", 8085, true).await;
        comes_in(h2, "10.77.0.11", 9002, false).await;
        comes_in(h2, "10.77.0.11", 9001, false).await;
    }
}

/// The port of SSH is that of the connection.
async fn another_port(stage: &Stage, h1: &Machine, h2: &Machine) {
    h1.shell(
        "printf 'Port 22\\nPort 2222\\n' >/etc/ssh/sshd_config.d/ports.conf
         systemctl restart ssh
         nft insert rule inet sovereign input tcp dport 2222 accept",
    )
    .await;
    stage.write(&REST.replace("root@10.77.0.11", "root@10.77.0.11:2222"));
    let known = format!(
        "[10.77.0.11]:2222 {}\n10.77.0.12 {}\n",
        h1.public_key(),
        h2.public_key()
    );
    stage.cluster.write(".ssh/known_hosts", known);
    let told = stage.sovereign(&["host", "prepare", "h1", "--yes"]).await;
    assert_says(
        &told,
        &[
            "lets in tcp 2222 (SSH), tcp 80",
            "closes what listens now: tcp 22 (sshd)",
            "h1 has what it needs",
        ],
    );
    comes_in(h2, "10.77.0.11", 2222, true).await;
    comes_in(h2, "10.77.0.11", 22, false).await;
    let again = stage.sovereign(&["host", "prepare", "h1"]).await;
    assert_says(&again, &["has what it needs"]);
}

/// Firewalls of others, and a system that is no Debian: told, and nothing is done.
async fn others_in_charge(stage: &Stage, h2: &Machine) {
    let plan = ["host", "prepare", "h2", "--dry-run"];
    h2.shell(
        "nft add table inet own
         nft 'add chain inet own in { type filter hook input priority 0; policy drop; }'
         nft add rule inet own in tcp dport 22 accept",
    )
    .await;
    let in_charge = |who: &str| {
        format!(
            "note: {who} is in charge of its firewall and stays so; let in there: tcp 22 (SSH), tcp 80 (HTTP), tcp and udp 443 (HTTPS)"
        )
    };
    let own = stage.sovereign(&plan).await;
    assert_says(&own, &[&in_charge("the nftables table inet own")]);
    assert!(!own.contains("put the firewall in force"), "{own}");
    h2.shell("nft delete table inet own; iptables -P INPUT DROP; iptables -A INPUT -p tcp --dport 22 -j ACCEPT")
        .await;
    let iptables = stage.sovereign(&plan).await;
    assert_says(&iptables, &["is in charge of its firewall and stays so"]);
    h2.shell("iptables -P INPUT ACCEPT; iptables -F INPUT; systemd-run --quiet --unit=ufw sleep infinity")
        .await;
    let ufw = stage.sovereign(&plan).await;
    assert_says(&ufw, &[&in_charge("ufw.service")]);

    h2.shell("rm /etc/os-release; printf 'ID=fedora\\nPRETTY_NAME=\"Fedora Linux 42\"\\n' >/etc/os-release")
        .await;
    let fedora = stage.cluster.sovereign(&plan).await.expect(1);
    assert_says(
        &said(&fedora),
        &[
            "h2: Fedora Linux 42\n  cannot be prepared: it is no Debian, nor made from it\n  hint: install Docker Engine",
        ],
    );
}

/// Whether a connection to a port comes about. One that is turned away is not even answered.
async fn comes_in(from: &Machine, address: &str, port: u16, wanted: bool) {
    let connect = format!("exec 3<>/dev/tcp/{address}/{port}");
    let what = format!("{address}:{port} from {}", from.name());
    if wanted {
        // What has just been started takes its time.
        return eventually(&what, Duration::from_secs(20), || async {
            let tried = from.run(&["timeout", "2", "bash", "-c", &connect]).await;
            match tried.code {
                0 => Ok(()),
                _ => Err(tried.stderr),
            }
        })
        .await;
    }
    let tried = from.run(&["timeout", "2", "bash", "-c", &connect]).await;
    assert_ne!(tried.code, 0, "{what} comes in");
}
