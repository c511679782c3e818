//! Every service of the catalogue is really started once, all of them on one host: it gets healthy by the check of its
//! template, its page comes through the proxy with its preset, what is to be archived of it is there, and the
//! passwords that its database keeps can be changed.

use std::path::Path;
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::Method;
use serde_json::Value;
use sovereign_tests::client::{Answer, Body, empty, whole};
use sovereign_tests::cluster::Machine;
use sovereign_tests::{Client, Lab};

use super::stage::{Stage, assert_says};

/// What stands in for which image.
const IMAGES: [(&str, &str); 15] = [
    ("ghost", "ghost:5-alpine"),
    ("mysql", "mysql:8.4"),
    ("gitea", "gitea/gitea:1.24"),
    ("forgejo", "codeberg.org/forgejo/forgejo:11"),
    ("postgres", "postgres:16-alpine"),
    ("nextcloud", "nextcloud:31-apache"),
    ("mariadb", "mariadb:11.4"),
    ("redis", "redis:7-alpine"),
    ("btcpayserver", "btcpayserver/btcpayserver:2.3.9"),
    ("nbxplorer", "nicolasdorier/nbxplorer:2.6.1"),
    ("lightning", "elementsproject/lightningd:v25.09.3"),
    ("bitcoin", "bitcoin/bitcoin:29"),
    ("strfry", "dockurr/strfry:latest"),
    ("radicale", "ghcr.io/kozea/radicale:stable"),
    ("caddy", "caddy:2-alpine"),
];

/// A service: its kind, its name, its options, and the database that it chooses.
const SERVICES: [(&str, &str, &str, &str); 10] = [
    (
        "ghost",
        "blog",
        r#"database = "mysql", languages = ["en", "de"]"#,
        "mysql",
    ),
    ("gitea", "git", r#"database = "postgres""#, "postgres"),
    ("forgejo", "forge", "ssh_port = 2222", "sqlite"),
    ("nextcloud", "cloud", "", "mariadb"),
    ("btcpay", "shop", "", ""),
    ("nostr", "relay", NAMES, ""),
    ("radicale", "calendar", "", ""),
    ("static", "files", r#"folder = "files""#, ""),
    ("bitcoin", "node", r#"chain = "regtest""#, ""),
    ("lightning", "lightning", r#"alias = "ours""#, ""),
];
const NAMES: &str =
    r#"names = ["alice=3bf0c63fcb93463407af97a5e5ee64fa883d107ef9e558472c4eb9aaaefa459d"]"#;
const UPLOAD: usize = 48 << 20;
const LONG: usize = 500_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_service_of_the_catalogue_starts() {
    let lab = Lab::open().await;
    let stage = Stage::stocked(&lab, 1).await;
    all_kinds_are_here();
    stage.images(&IMAGES).await;
    stage.cluster.write("stack/files/index.html", "a page\n");
    stage.write(&stack());
    stage.sovereign(&["lock"]).await;
    let begun = Instant::now();
    let said = stage.sovereign(&["deploy", "--yes"]).await;
    eprintln!("deployed in {:.1?}", begun.elapsed());
    assert_says(
        &said,
        &["11 to start on 1 host", "everything is as it should be"],
    );
    let h1 = stage.cluster.machine("h1");
    all_is_healthy(h1).await;
    let log = h1.shell("docker logs sovereign-blog-app-en-1 2>&1").await;
    assert!(
        !log.contains("Pinging Explore"),
        "somebody else is told of the blog:\n{log}"
    );
    pages_come_with_their_presets(&stage).await;
    what_is_archived_is_there(h1).await;
    passwords_change(&stage).await;
}

/// A folder of the catalogue that nothing is started of fails here.
fn all_kinds_are_here() {
    let folders = std::fs::read_dir(catalogue()).expect("the catalogue is there");
    let folders = folders.flatten().filter(|entry| entry.path().is_dir());
    let mut kinds: Vec<_> = folders
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let mut here = SERVICES.map(|(kind, ..)| kind.to_owned());
    kinds.sort();
    here.sort();
    assert_eq!(kinds, here);
}

fn stack() -> String {
    let mut text = r#"
[stack.proxy]
limits = { header_bytes = "1MiB" }

[[datacentre]]
name = "home"
role = "primary"

[[host]]
name = "h1"
datacentre = "home"
ssh = "root@10.77.0.11"
"#
    .to_owned();
    for (kind, name, options, _) in SERVICES {
        let table = if ["bitcoin", "lightning"].contains(&kind) {
            "[[service]]".to_owned()
        } else {
            format!(
                "[[site]]\nnames = [\"{name}.example\"]\nproxy = {{ tls = \"local\" }}\n[[site.service]]"
            )
        };
        text +=
            &format!("\n{table}\nuse = \"{kind}\"\nname = \"{name}\"\noptions = {{ {options} }}\n");
    }
    text
}

/// Each by its own check; none is without.
async fn all_is_healthy(h1: &Machine) {
    let list = "docker ps -a --format '{{.Names}} {{.Status}}'";
    let list = h1.shell(list).await;
    eprintln!("{list}");
    let well = list.lines().filter(|line| line.ends_with("(healthy)"));
    // Ghost twice and its database, a forge with one and one without, Nextcloud's four, the till's three, five more.
    assert_eq!(well.count(), 3 + 2 + 1 + 4 + 3 + 5, "{list}");
}

async fn pages_come_with_their_presets(stage: &Stage) {
    let german: &[_] = &[("accept-language", "de-CH, fr;q=0.5")];
    let sent = stage.page_with("h1", "blog.example", "/", german).await;
    assert_says(sent.expect(302).header("location"), &["/de/"]);
    for language in ["en", "de"] {
        let path = format!("/{language}/");
        let page = stage.page("h1", "blog.example", &path).await.expect(200);
        let own = format!("https://blog.example{path}");
        assert_says(&page.text(), &["Powered by", &own]);
    }
    for (name, title) in [("git", "Gitea"), ("forge", "Forgejo")] {
        let site = format!("{name}.example");
        let page = stage.page("h1", &site, "/").await.expect(200);
        assert_eq!(page.text(), format!("{title} at https://{site}/"));
    }

    let way = stage.page("h1", "cloud.example", "/.well-known/carddav");
    assert_says(
        way.await.expect(301).header("location"),
        &["/remote.php/dav/"],
    );
    let password = cloud_password(stage).await;
    let sent = file(stage, Method::PUT, &password, whole(vec![b'x'; UPLOAD])).await;
    sent.expect(201);
    let kept = file(stage, Method::GET, &password, empty()).await;
    assert_eq!(kept.expect(200).body.len(), UPLOAD);

    let shop = stage.page("h1", "shop.example", "/").await.expect(200);
    let on_the_node = "BTCPay Server at https://shop.example/ on regtest with ours";
    assert_eq!(shop.text(), on_the_node);
    let client = Client::h2(&stage.https("h1", "shop.example"));
    let field = "x".repeat(LONG);
    let long = async move { client.get_with("/", &[("x-invoice", field.as_str())]).await };
    let long = stage.cluster.inside().run(long).await.expect(200);
    let longest: usize = long.header("x-longest-line").parse().expect("a number");
    assert!(longest > LONG, "{longest}");

    let alice = "/.well-known/nostr.json?name=alice";
    let alice = stage.page("h1", "relay.example", alice).await.expect(200);
    assert_eq!(alice.header("access-control-allow-origin"), "*");
    assert_says(
        alice.json()["names"]["alice"].as_str().unwrap_or_default(),
        &["3bf0c63f"],
    );
    let info: &[_] = &[("accept", "application/nostr+json")];
    let relay = stage.page_with("h1", "relay.example", "/", info).await;
    assert_eq!(relay.expect(200).json()["name"], Value::from("A relay"));
    stage
        .page("h1", "calendar.example", "/.web/")
        .await
        .expect(200);
    let files = stage.page("h1", "files.example", "/").await.expect(200);
    assert_eq!(files.text(), "a page\n");
}

/// A file in the cloud, for its first administrator.
async fn file(stage: &Stage, method: Method, password: &str, body: Body) -> Answer {
    let client = Client::h2(&stage.https("h1", "cloud.example"));
    let words = BASE64_STANDARD.encode(format!("admin:{password}"));
    let ask = async move {
        let fields = [("authorization", &*format!("Basic {words}"))];
        let path = "/remote.php/dav/files/admin/large";
        client.ask(method, path, &fields, body).await
    };
    stage.cluster.inside().run(ask).await
}

/// The password of the cloud's first administrator, as root of its host may read it.
async fn cloud_password(stage: &Stage) -> String {
    let read = "docker exec sovereign-cloud-app-1 cat /run/secrets/admin_password";
    stage.cluster.machine("h1").shell(read).await
}

/// What each says is to be archived: the volumes are there, and the commands print what is in them.
async fn what_is_archived_is_there(h1: &Machine) {
    h1.shell("docker exec sovereign-node-bitcoind-1 bitcoin-cli -conf=/etc/bitcoin/bitcoin.conf -datadir=/home/bitcoin/.bitcoin createwallet till")
        .await;
    let holds = [
        ("blog", "CREATE TABLE `posts`"),
        ("git", "CREATE TABLE public.repository"),
        ("cloud", "CREATE TABLE `oc_filecache`"),
        ("shop", "CREATE DATABASE nbxplorer"),
        ("node", "wallet-till.dat"),
        ("lightning", "emergency.recover"),
        ("relay", ""),
    ];
    let mut dumped = Vec::new();
    for (kind, name, _, database) in SERVICES {
        for archive in archives(kind, database) {
            let text = |key: &str| archive[key].as_str().expect("a text").to_owned();
            if text("kind") == "volume" {
                let volume = format!("sovereign-{name}-{}", text("what"));
                h1.run(&["docker", "volume", "inspect", &volume])
                    .await
                    .expect(0);
                continue;
            }
            let container = format!("sovereign-{name}-{}-1", text("service"));
            let words = archive["command"].as_array().expect("a list").iter();
            let words = words.map(|word| word.as_str().expect("a text"));
            let line: Vec<_> = ["docker", "exec", &container]
                .into_iter()
                .chain(words)
                .collect();
            let said = h1.run(&line).await.expect(0).stdout;
            let wanted = holds.iter().find(|(of, _)| *of == name);
            let (_, wanted) = wanted.unwrap_or_else(|| panic!("{name} has a dump"));
            assert!(
                said.contains(wanted),
                "{name}: {} bytes without {wanted}",
                said.len()
            );
            dumped.push(name);
        }
    }
    dumped.sort_unstable();
    let mut all = holds.map(|(name, _)| name);
    all.sort_unstable();
    assert_eq!(dumped, all);
}

/// The archives of a kind that has chosen this database.
fn archives(kind: &str, database: &str) -> Vec<toml::Table> {
    let path = catalogue().join(kind).join("service.toml");
    let text = std::fs::read_to_string(&path).expect("every kind has one");
    let table: toml::Table = text.parse().expect("it is TOML");
    let all = table.get("archive").and_then(toml::Value::as_array);
    let chosen = format!("database == '{database}'");
    let holds = |archive: &&toml::Table| {
        let when = archive.get("when").and_then(toml::Value::as_str);
        when.is_none_or(|when| when == chosen)
    };
    let tables = all.into_iter().flatten().filter_map(toml::Value::as_table);
    tables.filter(holds).cloned().collect()
}

fn catalogue() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../control/services"))
}

/// The databases take the new passwords, and their services come with them.
async fn passwords_change(stage: &Stage) {
    let h1 = stage.cluster.machine("h1");
    let before = h1.shell(FORGE_PASSWORD).await;
    let first = cloud_password(stage).await;
    for secret in [
        "blog.database_password",
        "blog.database_root_password",
        "git.database_password",
        "cloud.admin_password",
        "cloud.database_password",
        "cloud.database_root_password",
        "shop.database_password",
    ] {
        stage.sovereign(&["secret", "rotate", secret]).await;
    }
    let begun = Instant::now();
    let said = stage.sovereign(&["deploy", "--yes"]).await;
    eprintln!("passwords changed in {:.1?}\n{said}", begun.elapsed());
    assert_says(&said, &["4 to change", "everything is as it should be"]);
    all_is_healthy(h1).await;
    for (site, path) in [
        ("blog", "/en/"),
        ("git", "/api/healthz"),
        ("cloud", "/status.php"),
        ("shop", "/api/v1/health"),
    ] {
        let page = stage.page("h1", &format!("{site}.example"), path).await;
        page.expect(200);
    }
    let second = cloud_password(stage).await;
    for (password, status) in [(first, 401), (second, 200)] {
        let kept = file(stage, Method::GET, &password, empty()).await;
        kept.expect(status);
    }
    assert_ne!(h1.shell(FORGE_PASSWORD).await, before);
    let refused = format!(
        "! docker exec -e PGPASSWORD={} sovereign-git-db-1 psql --host=db --username=forge --command='SELECT 1' forge",
        before.trim()
    );
    h1.shell(&refused).await;
}

/// The password that the forge has for its database.
const FORGE_PASSWORD: &str = "docker exec sovereign-git-app-1 cat /run/secrets/database_password";
