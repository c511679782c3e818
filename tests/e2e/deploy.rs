//! Deployments to machines.

// What a session begins with.
mod stage;

// A bare host gets what it needs.
mod prepare;

// From nothing to a stack that serves, and again.
mod nothing;
// Every service that there is.
mod catalogue;
// What changes, and the way back.
mod change;
// Updates while visitors read.
mod update;

// `sovereign` is killed at every step, and run again.
mod cutoff;

// A host, a service or a secret that fails.
mod trouble;

// Every command of every day.
mod hands;

// Hosts that are one Swarm.
mod swarm;

// A host behind another one.
mod way;

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
