//! From nothing to a stack that serves, on the hosts of two data centres, with one command; and again.

use std::time::{Duration, Instant};

use sovereign_tests::{Lab, eventually};

use super::stage::{Stage, assert_says};

const STACK: &str = r#"
[[datacentre]]
name = "home"
role = "primary"

[[datacentre]]
name = "office"
role = "mirror"

[[host]]
name = "h1"
datacentre = "home"
ssh = "root@10.77.0.11"

[[host]]
name = "h2"
datacentre = "home"
ssh = "root@10.77.0.12"

[[host]]
name = "h3"
datacentre = "office"
ssh = "root@10.77.0.13"

[[site]]
names = ["blog.example"]
[site.proxy]
tls = "local"
[[site.service]]
use = "ghost"
name = "blog"
host = "h1"
options = { database = "mariadb" }

[[site]]
names = ["relay.example"]
[site.proxy]
tls = "local"
[[site.service]]
use = "nostr"
name = "relay"
host = "h2"
options = { title = "A relay of ours" }

[[site]]
names = ["calendar.example"]
[site.proxy]
tls = "local"
[[site.service]]
use = "radicale"
name = "calendar"
host = "h2"

[[service]]
use = "bitcoin"
name = "node"
host = "h1"
options = { chain = "regtest" }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_command_deploys_everything_and_again_nothing() {
    let lab = Lab::open().await;
    let stage = Stage::open(&lab, 3).await;
    for (site, host) in [("blog", "h1"), ("relay", "h2"), ("calendar", "h2")] {
        stage.cluster.name(&format!("{site}.example"), host);
    }
    let images = [
        ("ghost", "ghost:5-alpine"),
        ("mariadb", "mariadb:11.4"),
        ("strfry", "dockurr/strfry:latest"),
        ("radicale", "ghcr.io/kozea/radicale:stable"),
        ("bitcoin", "bitcoin/bitcoin:29"),
    ];
    stage.images(&images).await;
    stage.write(STACK);
    stage.sovereign(&["check"]).await;
    stage.sovereign(&["lock"]).await;

    let begun = Instant::now();
    let said = stage.sovereign(&["deploy", "--yes"]).await;
    eprintln!("deployed in {:.1?}\n{said}", begun.elapsed());
    assert_says(
        &said,
        &["7 to start on 3 hosts", "everything is as it should be"],
    );
    assert_says(
        &said,
        &["made ", "blog.database_password", "node.rpc_password"],
    );

    // Visitors are served, in TLS.
    let blog = stage.page("h1", "blog.example", "/").await.expect(200);
    assert_says(&blog.text(), &["Powered by", "https://blog.example/"]);
    let info = &[("accept", "application/nostr+json")];
    let relay = stage.page_with("h2", "relay.example", "/", info).await;
    assert_eq!(relay.expect(200).json()["name"], "A relay of ours");
    let calendar = stage.page("h2", "calendar.example", "/.web/").await;
    calendar.expect(200);
    let chain = "docker exec sovereign-node-bitcoind-1 bitcoin-cli -conf=/etc/bitcoin/bitcoin.conf -datadir=/home/bitcoin/.bitcoin getblockchaininfo";
    let chain = stage.cluster.machine("h1").shell(chain).await;
    assert_says(&chain, &["\"chain\": \"regtest\""]);

    // No secret lies where others than root could read it, nor was one said.
    let open = "find /var/lib/sovereign /etc/systemd/system/sovereign-proxy* -perm /077 -type f -path '*secrets*' ! -path '*/mounted/*'; stat -c %a /var/lib/sovereign";
    for host in ["h1", "h2", "h3"] {
        let found = stage.cluster.machine(host).shell(open).await;
        assert_eq!(found, "700\n", "{host}");
    }

    // Again: nothing to do.
    let begun = Instant::now();
    let said = stage.sovereign(&["deploy", "--yes"]).await;
    eprintln!("again: nothing to do, in {:.1?}", begun.elapsed());
    assert_says(&said, &["nothing to do: 7 unchanged on 3 hosts"]);

    three_hosts_beside_one(&stage).await;
    the_mirror_keeps_pages(&stage).await;
}

/// How long three hosts take, and one: they are worked on side by side. Told, not judged: it is the processors that
/// all hosts of this test share which bound it.
async fn three_hosts_beside_one(stage: &Stage) {
    let all = ["deploy", "--yes"];
    let one = ["deploy", "--yes", "--host", "h2"];
    let proxies =
        |memory: u8| format!("[stack.proxy]\ncache = {{ memory = \"{memory}MiB\" }}\n{STACK}");
    for (what, first, second, says) in [
        (
            "nothing to do",
            STACK.to_owned(),
            STACK.to_owned(),
            "nothing to do",
        ),
        (
            "the proxies change",
            proxies(64),
            proxies(65),
            "proxy.toml changed",
        ),
    ] {
        stage.write(&first);
        let alone = timed(stage, &one, says).await;
        stage.write(&second);
        let together = timed(stage, &all, says).await;
        let ratio = together.as_secs_f64() / alone.as_secs_f64();
        eprintln!("{what}: one host {alone:.1?}, three {together:.1?}: {ratio:.2} times as long");
    }
}

async fn timed(stage: &Stage, arguments: &[&str], says: &str) -> Duration {
    let begun = Instant::now();
    let said = stage.sovereign(arguments).await;
    let took = begun.elapsed();
    assert_says(&said, &[says]);
    took
}

/// The second data centre shows the first one's pages, also when the first is gone.
async fn the_mirror_keeps_pages(stage: &Stage) {
    // The authorities of these hosts are their own: the mirror has to be told of them, as any visitor.
    let h3 = stage.cluster.machine("h3");
    for host in ["h1", "h2"] {
        let root = std::fs::read(stage.root_ca(host)).expect("the host has an authority");
        let place = format!("/usr/local/share/ca-certificates/{host}.crt");
        std::fs::write(h3.inside(&place), root).expect("the machine is ours");
    }
    h3.shell("update-ca-certificates && systemctl restart sovereign-proxy")
        .await;
    let calendar = stage.page("h3", "calendar.example", "/.web/").await;
    calendar.expect(200);
    let fresh = stage.page("h3", "blog.example", "/").await.expect(200);
    assert_says(&fresh.text(), &["Powered by"]);

    stage.cluster.cut("h1");
    let begun = Instant::now();
    eventually(
        "the mirror has the page",
        Duration::from_secs(30),
        || async {
            let kept = stage.page("h3", "blog.example", "/").await;
            let is_kept = kept.status == 200 && kept.text() == fresh.text();
            is_kept.then_some(()).ok_or_else(|| kept.to_string())
        },
    )
    .await;
    eprintln!(
        "the mirror's page without its origin: {:.1?}",
        begun.elapsed()
    );
}
