//! Deployments to machines.

// What a session begins with.
mod stage;

// From nothing to a stack that serves, and again.
mod nothing;
// What changes, and the way back.
mod change;
// Updates while visitors read.
mod update;

// `sovereign` is killed at every step, and run again.
mod cutoff;

// A host, a service or a secret that fails.
mod trouble;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use sovereign_tests::client::Answer;
use sovereign_tests::cluster::{Machine, Outcome};
use sovereign_tests::{Client, Cluster, Image, Lab, Target, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_come_up_can_fail_and_leave_nothing() {
    // It looks at what is left, so nobody else's machines may be there.
    let lab = Lab::alone().await;
    let cluster = Cluster::start(&lab, 3).await;
    let h1 = cluster.machine("h1");

    // Their keys are known, and only theirs.
    for machine in cluster.machines() {
        let name = ssh(&cluster, machine, "hostname").await.expect(0).stdout;
        assert_eq!(name.trim(), machine.name());
    }
    h1.renew_key().await;
    let refused = ssh(&cluster, h1, "hostname").await.expect(255);
    assert!(
        refused.stderr.contains("HOST IDENTIFICATION HAS CHANGED"),
        "{}",
        refused.stderr
    );
    cluster.trust();

    // An image goes from engine to engine, and serves.
    let management = cluster.management();
    let id = Image::of("busybox").load(management, "busybox:1").await;
    let send = format!(
        "docker save busybox:1 | ssh root@{} docker load",
        h1.address()
    );
    management.shell(&send).await;
    let run = [
        "docker", "run", "-d", "-p", "8080:80", "--name", "hello", "--init",
    ];
    let serve = "echo hello >/srv/index.html; exec httpd -f -p 80 -h /srv";
    h1.run(&[&run[..], &[&id, "sh", "-c", serve]].concat())
        .await
        .expect(0);
    assert_eq!(page(&cluster, h1, 8080).await.text().trim(), "hello");

    // Or by a registry.
    cluster.publish("busybox:1").await;
    let h3 = cluster.machine("h3");
    let pulled = h3.run(&["docker", "pull", "busybox:1"]).await.expect(0);
    assert!(
        pulled.stdout.contains("Digest: sha256:"),
        "{}",
        pulled.stdout
    );

    // Names are known where they were given, and asked for without waiting.
    cluster.name("blog.example", "h1");
    let ask = "until getent hosts blog.example; do sleep 0.1; done; ! timeout 3 getent hosts other.example";
    let found = h3.shell(ask).await;
    assert!(found.contains("10.77.0.11"), "{found}");

    // The operator's command: its answer, and the way it is killed.
    let version = cluster.sovereign(&["--version"]).await.expect(0);
    assert!(version.stdout.contains("sovereign"), "{}", version.stdout);

    let mut begun = cluster.begin(&lab, &["--version"]);
    let ended = begun.wait(Duration::from_secs(20)).await.expect(0);
    assert_eq!(ended.stdout, version.stdout);

    // What can go wrong with a machine.
    cluster.cut("h2");
    let h2 = cluster.machine("h2");
    ssh(&cluster, h2, "true").await.expect(255);
    cluster.heal("h2");
    ssh(&cluster, h2, "true").await.expect(0);
    h2.full_disk().await;
    let write = "head -c 100000 /dev/zero >/var/lib/sovereign/file";
    h2.run(&["sh", "-c", write]).await.expect(1);
    h2.free_disk().await;
    h2.shell(write).await;
    h1.stop_engine().await;
    h1.run(&["docker", "ps"]).await.expect(1);
    h1.start_engine().await;
    h1.run(&["docker", "start", "hello"]).await.expect(0);

    let folders: Vec<_> = groups().collect();
    assert!(!folders.is_empty());
    let processes = h1.inside("/proc/1");
    assert!(processes.exists());
    drop(cluster);
    assert!(!processes.exists(), "h1 still runs");
    let left: Vec<_> = groups().collect();
    assert!(
        left.iter().all(|folder| !folders.contains(folder)),
        "{left:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_stand_in_for_the_real_ones() {
    let lab = Lab::open().await;
    let cluster = Cluster::start(&lab, 1).await;
    let h1 = cluster.machine("h1");
    cluster.name("blog.example", "h1");
    for (kind, name) in [
        ("ghost", "ghost:5-alpine"),
        ("mariadb", "mariadb:11.4"),
        ("strfry", "dockurr/strfry:latest"),
        ("radicale", "ghcr.io/kozea/radicale:stable"),
        ("bitcoin", "bitcoin/bitcoin:29"),
        ("caddy", "caddy:2-alpine"),
    ] {
        Image::of(kind).load(h1, name).await;
    }
    let folder = h1.inside("/root/all");
    std::fs::create_dir(&folder).expect("the machine is ours");
    std::fs::write(folder.join("compose.yaml"), COMPOSE).expect("the machine is ours");
    std::fs::write(folder.join("password"), "it's \"secret\"").expect("the machine is ours");
    let up = "cd /root/all && docker compose up -d --wait --wait-timeout 240";
    let outcome = h1.run(&["sh", "-c", up]).await;
    if outcome.code != 0 {
        let look = "cd /root/all && docker compose ps -a && docker compose logs --tail 15";
        eprintln!("{}", h1.shell(look).await);
    }
    outcome.expect(0);

    let blog = page(&cluster, h1, 2368).await.expect(200);
    assert!(blog.text().contains("Powered by"), "{blog}");
    page(&cluster, h1, 5232).await.expect(302);
    page(&cluster, h1, 7777).await.expect(200);
    assert_eq!(page(&cluster, h1, 8080).await.text().trim(), "a file");
    let dump = "docker compose -f /root/all/compose.yaml exec -T db sh -c 'MYSQL_PWD=\"$(cat /run/secrets/password)\" mariadb-dump --user=root --all-databases'";
    assert!(h1.shell(dump).await.contains("CREATE TABLE `posts`"));
    let export = "docker compose -f /root/all/compose.yaml exec -T relay /app/strfry export";
    assert_eq!(h1.shell(export).await, "");
}

const COMPOSE: &str = r#"
name: all
services:
  blog:
    image: ghost:5-alpine
    depends_on: { db: { condition: service_healthy } }
    environment:
      url: http://blog.example
      database__client: mysql
      database__connection__host: db
      database__connection__user: ghost
      database__connection__password: "it's \"secret\""
      database__connection__database: ghost
    volumes: [ "content:/var/lib/ghost/content" ]
    ports: [ "2368:2368" ]
    healthcheck: { test: ["CMD", "node", "-e", "fetch('http://127.0.0.1:2368/ghost/api/admin/site/').then(r => process.exit(r.ok ? 0 : 1), () => process.exit(1))"], interval: 2s, start_period: 3m }
  db:
    image: mariadb:11.4
    environment: { MARIADB_DATABASE: ghost, MARIADB_USER: ghost, MARIADB_PASSWORD_FILE: /run/secrets/password, MARIADB_ROOT_PASSWORD_FILE: /run/secrets/password }
    secrets: [ password ]
    volumes: [ "data:/var/lib/mysql" ]
    security_opt: ["no-new-privileges:true"]
    healthcheck: { test: ["CMD", "healthcheck.sh", "--connect", "--innodb_initialized"], interval: 1s, start_period: 1m }
  relay:
    image: dockurr/strfry:latest
    command: ["/app/strfry", "--config=/etc/strfry.conf", "relay"]
    volumes: [ "events:/app/strfry-db" ]
    ports: [ "7777:7777" ]
    healthcheck: { test: ["CMD", "wget", "-q", "-O", "/dev/null", "--header", "Accept: application/nostr+json", "http://127.0.0.1:7777/"], interval: 1s, start_period: 1m }
  calendar:
    image: ghcr.io/kozea/radicale:stable
    volumes: [ "calendars:/var/lib/radicale" ]
    ports: [ "5232:5232" ]
    healthcheck: { test: ["CMD", "python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5232/.web/', timeout=4)"], interval: 1s, start_period: 1m }
  node:
    image: bitcoin/bitcoin:29
    command: [ "bitcoind", "-regtest", "-printtoconsole" ]
    volumes: [ "chain:/home/bitcoin/.bitcoin" ]
    security_opt: ["no-new-privileges:true"]
    healthcheck: { test: ["CMD", "bitcoin-cli", "-regtest", "-datadir=/home/bitcoin/.bitcoin", "getnetworkinfo"], interval: 1s, start_period: 1m }
  files:
    image: caddy:2-alpine
    command: ["sh", "-c", "echo a file >/srv/index.html; exec caddy file-server --root /srv --listen :8080"]
    ports: [ "8080:8080" ]
    healthcheck: { test: ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/"], interval: 1s, start_period: 1m }
secrets: { password: { file: ./password } }
volumes: { content: {}, data: {}, events: {}, calendars: {}, chain: {} }
"#;

/// The front page of a port of a machine, as another machine gets it.
async fn page(cluster: &Cluster, machine: &Machine, port: u16) -> Answer {
    let address = SocketAddr::from((machine.address(), port));
    let get = async move {
        eventually("it listens", Duration::from_secs(20), || {
            tokio::net::TcpStream::connect(address)
        })
        .await;
        let client = Client::h1(&Target::plain(address, "blog.example"));
        client
            .get_with("/", &[("x-forwarded-proto", "https")])
            .await
    };
    cluster.inside().run(get).await
}

async fn ssh(cluster: &Cluster, machine: &Machine, command: &str) -> Outcome {
    let to = format!("root@{}", machine.address());
    let line = ["ssh", "-o", "ConnectTimeout=2", &to, command];
    cluster.management().run(&line).await
}

/// The control groups of this process's clusters.
fn groups() -> impl Iterator<Item = std::path::PathBuf> {
    let prefix = format!("sovereign-cluster-{}-", std::process::id());
    let below = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let all = below(Path::new("/sys/fs/cgroup"));
    let deeper: Vec<_> = all.iter().flat_map(|folder| below(folder)).collect();
    all.into_iter().chain(deeper).filter(move |path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
    })
}
