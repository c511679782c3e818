//! The way to a host that is reached only over another one, with a key that only the agent has.

use sovereign_tests::Lab;

use super::stage::{Stage, assert_says, said};

const HOSTS: &str = r#"
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
ssh = "inner"
address = "10.77.0.12"
"#;

/// The operator's own: lax, which is not taken over.
const CONFIG: &str = "StrictHostKeyChecking no\nHost inner\n  HostName 10.77.0.12\n  User root\n  ProxyJump root@10.77.0.11\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_behind_a_jump_host_is_known_by_its_own_key() {
    let lab = Lab::open().await;
    let stage = Stage::open(&lab, 2).await;
    stage.write(HOSTS);
    let (h1, h2) = (stage.cluster.machine("h1"), stage.cluster.machine("h2"));
    stage.cluster.write(".ssh/config", CONFIG);
    // There is no other way.
    h2.shell("nft add table inet way; nft add chain inet way input '{ type filter hook input priority 0; }'
        nft add rule inet way input ip saddr 10.77.0.1 drop")
        .await;

    // The way over a host whose key is not known is closed, whatever the operator's configuration says.
    stage.cluster.write(".ssh/known_hosts", "");
    let fingerprint = h2
        .shell("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub | cut -d' ' -f2")
        .await;
    let add = ["host", "add", "h2", "--fingerprint", fingerprint.trim()];
    let closed = said(&stage.cluster.sovereign(&add).await.expect(1));
    let wanted = [
        "h2: no SSH connection: the way over a jump host is closed",
        "host key is known for 10.77.0.11",
        "hint: try `ssh` to the jump host first",
    ];
    assert_says(&closed, &wanted);

    // Known over the way, shown to be compared, written down.
    let gate = format!("{} {}\n", h1.address(), h1.public_key());
    stage.cluster.write(".ssh/known_hosts", &gate);
    let added = stage.sovereign(&add).await;
    assert_says(&added, &["wrote its key down", "h2: logged in as root"]);
    let line = format!("{} {}\n", h2.address(), h2.public_key());
    let known = stage.cluster.home().join("stack/known_hosts");
    let written = std::fs::read_to_string(known).expect("`host add` has written it");
    assert_eq!(written, line);
    let own = stage.cluster.home().join(".ssh/known_hosts");
    let own = std::fs::read_to_string(own).expect("it is there");
    assert_eq!(own, gate, "the operator's own file is the operator's");

    the_key_is_in_the_agent(&stage).await;

    // Another key is another host.
    h2.renew_key().await;
    let other = said(
        &stage
            .cluster
            .sovereign(&["plan", "--host", "h2"])
            .await
            .expect(1),
    );
    let changed = "h2: no SSH connection: it shows another host key than the known one";
    assert_says(&other, &[changed]);
}

/// No file holds it any more; both hosts on the way are opened by the agent.
async fn the_key_is_in_the_agent(stage: &Stage) {
    let script =
        "cd /root/stack; eval \"$(ssh-agent -s)\" >/dev/null; trap 'ssh-agent -k >/dev/null' EXIT
        ssh-add -q /root/.ssh/id_ed25519; mv /root/.ssh/id_ed25519 /root/key
        sovereign status --json";
    let status = stage.cluster.management().shell(script).await;
    let status: serde_json::Value = serde_json::from_str(&status).expect("it is JSON");
    let states = status.pointer("/hosts").and_then(|hosts| hosts.as_array());
    let states: Vec<_> = states
        .into_iter()
        .flatten()
        .map(|host| &host["state"])
        .collect();
    assert_eq!(states, ["up", "up"], "{status}");

    let refused = stage
        .cluster
        .sovereign(&["plan", "--host", "h1"])
        .await
        .expect(1);
    let wanted = [
        "h1: no SSH connection: it does not let this user in",
        "hint: the key is not accepted: is it in the agent (`ssh-add -l`)",
    ];
    assert_says(&said(&refused), &wanted);
    stage
        .cluster
        .management()
        .shell("mv /root/key /root/.ssh/id_ed25519")
        .await;
}
