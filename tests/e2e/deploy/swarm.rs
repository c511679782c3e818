//! Hosts that are one Swarm: each service on the host that it was placed on, changed without an operator's hand and
//! changed back where the new one does not get well.

use std::time::Duration;

use sovereign_tests::{Image, Lab, eventually};

use super::stage::{Stage, assert_says, said};

const HOSTS: &str = r#"
[[datacentre]]
name = "home"
role = "primary"

[[host]]
name = "h1"
datacentre = "home"
ssh = "root@10.77.0.11"
engine = "swarm"

[[host]]
name = "h2"
datacentre = "home"
ssh = "root@10.77.0.12"
engine = "swarm"

[[host]]
name = "h3"
datacentre = "home"
ssh = "root@10.77.0.13"
engine = "swarm"

[[site]]
names = ["files.example"]
[site.proxy]
tls = "local"
[[site.service]]
use = "static"
name = "files"
host = "h3"
options = { folder = "files" }
"#;

const RADICALE: &str = "ghcr.io/kozea/radicale:stable";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_of_a_swarm_are_deployed_to_like_any_other() {
    let lab = Lab::open().await;
    let stage = Stage::open(&lab, 3).await;
    stage.cluster.name("calendar.example", "h1");
    stage.cluster.name("files.example", "h3");
    stage.cluster.write("stack/files/index.html", "a file\n");
    stage
        .images(&[("radicale", RADICALE), ("caddy", "caddy:2-alpine")])
        .await;
    let sick = Image::of("busybox").running(&["sh", "-c", "echo no calendars; exit 1"]);
    sick.load(stage.cluster.management(), "radicale:sick").await;
    calendar(&stage, "ann", "");
    stage.sovereign(&["lock"]).await;

    becomes_a_swarm(&stage).await;
    let deployed = stage.sovereign(&["deploy", "--yes"]).await;
    assert_says(&deployed, &["everything is as it should be"]);
    serves(&stage).await;
    nothing_to_do(&stage).await;
    each_runs_where_it_was_placed(&stage).await;

    an_option_changes(&stage).await;
    nothing_to_do(&stage).await;
    what_does_not_get_well_is_changed_back(&stage).await;
    it_is_looked_at_and_ends(&stage).await;
}

/// What an operator is told until every host can be told what to run.
async fn becomes_a_swarm(stage: &Stage) {
    let deploy = ["deploy", "--yes"];
    let ended = said(&stage.cluster.sovereign(&deploy).await.expect(1));
    let none = ["h1", "it is in no Swarm", "hint: `docker swarm init`"];
    assert_says(&ended, &none);

    let [h1, h2, h3] = ["h1", "h2", "h3"].map(|name| stage.cluster.machine(name));
    let init = ["docker", "swarm", "init", "--advertise-addr", "10.77.0.11"];
    h1.run(&init).await.expect(0);
    for (machine, role) in [(h2, "manager"), (h3, "worker")] {
        let token = h1
            .shell(&format!("docker swarm join-token --quiet {role}"))
            .await;
        let join = ["docker", "swarm", "join", "--token", token.trim()];
        machine
            .run(&[&join[..], &["10.77.0.11:2377"]].concat())
            .await
            .expect(0);
    }
    let ended = said(&stage.cluster.sovereign(&["plan", "--host", "h3"]).await);
    let worker = ["it is a worker of its Swarm", "hint: `docker node promote`"];
    assert_says(&ended, &worker);
    h1.shell("docker node promote h3").await;
    eventually("h3 is a manager", Duration::from_secs(30), || async {
        let told = h3.run(&["docker", "node", "ls"]).await;
        (told.code == 0).then_some(()).ok_or(told.stderr)
    })
    .await;
}

async fn serves(stage: &Stage) {
    let calendar = stage.page("h1", "calendar.example", "/.web/").await;
    calendar.expect(200);
    let files = stage.page("h3", "files.example", "/").await.expect(200);
    assert_eq!(files.text(), "a file\n");
}

async fn nothing_to_do(stage: &Stage) {
    let again = stage.sovereign(&["deploy", "--yes"]).await;
    assert_says(&again, &["nothing to do"]);
}

/// Its volumes are there; and a manager may be told of it on any host.
async fn each_runs_where_it_was_placed(stage: &Stage) {
    for (host, service) in [("h1", "radicale"), ("h3", "files")] {
        let machine = stage.cluster.machine(host);
        let id = machine
            .shell("docker info --format '{{.Swarm.NodeID}}'")
            .await;
        let bound = format!(
            "docker service inspect --format '{{{{.Spec.TaskTemplate.Placement.Constraints}}}}' sovereign-{service}_app"
        );
        let bound = stage.cluster.machine("h2").shell(&bound).await;
        assert_eq!(bound.trim(), format!("[node.id == {}]", id.trim()));
    }
    let tasks = "docker stack ps --format '{{.Node}}' sovereign-files";
    assert_eq!(stage.cluster.machine("h2").shell(tasks).await, "h3\n");
}

/// The new one takes the place of the old, and of what the old one knew nothing is left.
async fn an_option_changes(stage: &Stage) {
    let h1 = stage.cluster.machine("h1");
    let secrets = "docker secret ls --format '{{.Name}}'";
    let before = h1.shell(secrets).await;
    calendar(stage, "bob", "");
    let changed = stage.sovereign(&["deploy", "--yes"]).await;
    assert_says(&changed, &["everything is as it should be"]);
    let status = "docker service inspect --format '{{.UpdateStatus.State}}' sovereign-radicale_app";
    assert_eq!(h1.shell(status).await, "completed\n");
    let after = h1.shell(secrets).await;
    assert_eq!((before.lines().count(), after.lines().count()), (1, 1));
    assert_ne!(before, after);
    serves(stage).await;
}

async fn what_does_not_get_well_is_changed_back(stage: &Stage) {
    calendar(stage, "bob", "radicale:sick");
    stage.sovereign(&["lock"]).await;
    let ended = said(
        &stage
            .cluster
            .sovereign(&["deploy", "--yes"])
            .await
            .expect(1),
    );
    let wanted = [
        "h1",
        "radicale",
        "app was changed back",
        "app | no calendars",
        "the version before serves again",
    ];
    assert_says(&ended, &wanted);
    serves(stage).await;
    calendar(stage, "bob", "");
    stage.sovereign(&["lock"]).await;
    nothing_to_do(stage).await;
}

async fn it_is_looked_at_and_ends(stage: &Stage) {
    let status = stage.sovereign(&["status"]).await;
    assert_says(&status, &["radicale", "files", "healthy"]);
    let logs = stage.sovereign(&["logs", "radicale", "--lines", "5"]).await;
    assert_says(&logs, &["radicale/app"]);
    let restarted = stage.sovereign(&["restart", "radicale"]).await;
    assert_says(&restarted, &["radicale was restarted, and is well after"]);
    let ran = ["exec", "radicale", "--", "cat", "/run/secrets/users"];
    assert_says(&stage.sovereign(&ran).await, &["bob:"]);

    stage.sovereign(&["down", "radicale", "--yes"]).await;
    let h1 = stage.cluster.machine("h1");
    let stacks = h1.shell("docker stack ls --format '{{.Name}}'").await;
    assert_eq!(stacks, "sovereign-files\n");
    let volumes = h1.shell("docker volume ls --quiet").await;
    assert_says(&volumes, &["sovereign-radicale-data"]);
    let again = stage.sovereign(&["deploy", "--yes"]).await;
    assert_says(&again, &["everything is as it should be"]);
    serves(stage).await;
}

/// Writes the stack, with this user of the calendars and this image of them.
fn calendar(stage: &Stage, user: &str, image: &str) {
    let site = format!(
        r#"
[[site]]
names = ["calendar.example"]
[site.proxy]
tls = "local"
[[site.service]]
use = "radicale"
host = "h1"
options = {{ user = "{user}", image = "{image}" }}
"#
    );
    stage.write(&format!("{HOSTS}{site}"));
}
