//! What is done to services: commands in their containers, a restart, one part of the stack, the way back, down and up
//! again, and down for good.

use sovereign_tests::cluster::Outcome;

use super::super::stage::{Stage, assert_says, said};

/// Input goes to a command, output and exit code come back; at a terminal it has one.
pub(super) async fn in_a_container(stage: &Stage) {
    let pipe = "cd /root/stack; echo a line | sovereign exec files -- cat";
    assert_eq!(stage.cluster.management().shell(pipe).await, "a line\n");
    let print = [
        "exec", "files", "--", "printf", "%s|", "a b", "it's", "$HOME;*",
    ];
    let ended = stage.cluster.sovereign(&print).await.expect(0);
    assert_eq!(ended.stdout, "a b|it's|$HOME;*|");
    let ends = [
        "exec", "calendar", "--part", "app", "--", "sh", "-c", "exit 7",
    ];
    stage.cluster.sovereign(&ends).await.expect(7);
    let line =
        "sovereign exec files -- sh -c 'test -t 0 && test -t 1 && read word && echo got-$word'";
    let mut terminal = stage.cluster.terminal(80, 24, line);
    terminal.types("typed\r").await;
    terminal.until("got-typed").await;
    terminal.end().await.expect(0);
}

/// A restart waits until the service is well again.
pub(super) async fn again(stage: &Stage) {
    let since = "docker inspect --format {{.State.StartedAt}} sovereign-calendar-app-1";
    let h2 = stage.cluster.machine("h2");
    let before = h2.shell(since).await;
    let done = stage.sovereign(&["restart", "calendar"]).await;
    assert_says(&done, &["h2: calendar was restarted, and is well after "]);
    assert_ne!(h2.shell(since).await, before);
    let health = "docker inspect --format {{.State.Health.Status}} sovereign-calendar-app-1";
    assert_eq!(h2.shell(health).await, "healthy\n");
}

/// Only what is named is planned, and nothing is done by a dry run.
pub(super) async fn on_a_part(stage: &Stage) {
    stage.cluster.write("stack/pages/index.html", "page two\n");
    for (part, changes) in [
        (["--host", "h1"], true),
        (["--host", "h2"], false),
        (["--site", "files.example"], true),
        (["--site", "calendar.example"], false),
        (["--service", "files"], true),
        (["--service", "calendar"], false),
    ] {
        let plan = [&["plan", "--exit-code"], &part[..]].concat();
        let ended = stage.cluster.sovereign(&plan).await;
        let ended = ended.expect(if changes { 3 } else { 0 });
        assert_eq!(ended.stdout.contains("files"), changes, "{}", ended.stdout);
    }
    let dry = stage.sovereign(&["deploy", "--dry-run", "--json"]).await;
    let plan: serde_json::Value = serde_json::from_str(&dry).expect("it is JSON");
    assert!(plan.to_string().contains("files"), "{dry}");
    let page = stage.page("h1", "files.example", "/?1").await;
    assert_eq!(page.expect(200).text(), "page one\n");
    stage
        .sovereign(&["deploy", "--yes", "--service", "files"])
        .await;
    let page = stage.page("h1", "files.example", "/?2").await;
    assert_eq!(page.expect(200).text(), "page two\n");
}

/// Back to a deployment by its number.
pub(super) async fn back(stage: &Stage) {
    let list = stage.sovereign(&["rollback", "--list"]).await;
    eprintln!("{list}");
    assert_says(&list, &["h1", "root@management", "files"]);
    let none = ["rollback", "--to", "99", "--host", "h1", "--yes"];
    let ended = stage.cluster.sovereign(&none).await.expect(1);
    assert_says(&said(&ended), &["99"]);
    let to = ["rollback", "--to", "1", "--host", "h1", "--yes"];
    stage.sovereign(&to).await;
    let page = stage.page("h1", "files.example", "/?3").await;
    assert_eq!(page.expect(200).text(), "page one\n");
    stage.sovereign(&["deploy", "--yes"]).await;
    let page = stage.page("h1", "files.example", "/?4").await;
    assert_eq!(page.expect(200).text(), "page two\n");
}

/// While somebody is at work on a host, nobody else is.
pub(super) async fn two_operators(stage: &Stage) {
    let h2 = stage.cluster.machine("h2");
    // A lock whose holder gives no sign of life would be taken over.
    let hold = "cd /var/lib/sovereign
        flock -n lock sh -c 'while true; do echo somebody@elsewhere >lock; sleep 0.5; done' >/dev/null 2>&1 </dev/null &
        echo $!";
    let holder = h2.shell(hold).await;
    for command in [&["restart", "calendar"][..], &["down", "calendar", "--yes"]] {
        let ended = stage.cluster.sovereign(command).await.expect(1);
        assert_says(
            &said(&ended),
            &["h2: somebody else is at work there: somebody@elsewhere"],
        );
    }
    stage.sovereign(&["restart", "files"]).await;
    h2.shell(&format!("pkill -P {holder}")).await;
    let restarted = "for n in $(seq 100); do flock -n /var/lib/sovereign/lock true && exit 0; sleep 0.1; done; exit 1";
    h2.shell(restarted).await;
    stage.sovereign(&["restart", "calendar"]).await;
}

/// Data outlives a service that is taken down.
pub(super) async fn down_and_up(stage: &Stage) {
    mark(stage, "echo kept >/var/lib/radicale/mark")
        .await
        .expect(0);
    let dry = stage.sovereign(&["down", "calendar", "--dry-run"]).await;
    assert_says(
        &dry,
        &[
            "stop and remove its containers: app",
            "its data stays: sovereign-calendar-",
        ],
    );
    let ended = stage
        .cluster
        .sovereign(&["down", "calendar"])
        .await
        .expect(1);
    assert_says(&said(&ended), &["there is no terminal to ask at", "--yes"]);
    let done = stage.sovereign(&["down", "calendar", "--yes"]).await;
    assert_says(&done, &["h2: calendar is down; its data is still there"]);
    let h2 = stage.cluster.machine("h2");
    assert_eq!(h2.shell("docker ps -aq --filter name=calendar").await, "");
    let status = stage.cluster.sovereign(&["status"]).await.expect(1);
    eprintln!("{}", said(&status));
    assert_says(&status.stdout, &["calendar on h2 is"]);
    let exec = mark(stage, "true").await.expect(1);
    assert_says(
        &exec.stderr,
        &[
            "calendar does not run on h2",
            "`sovereign deploy --service calendar`",
        ],
    );
    stage.sovereign(&["deploy", "--yes"]).await;
    let kept = mark(stage, "cat /var/lib/radicale/mark").await.expect(0);
    assert_eq!(kept.stdout, "kept\n");
}

/// Data is destroyed only where its name was typed.
pub(super) async fn down_for_good(stage: &Stage) {
    let purge = ["down", "calendar", "--purge", "--yes"];
    let ended = stage.cluster.sovereign(&purge).await.expect(1);
    assert_says(
        &said(&ended),
        &["there is no terminal to ask at", "hint: --confirm calendar"],
    );
    let other = [&purge[..], &["--confirm", "files"]].concat();
    stage.cluster.sovereign(&other).await.expect(1);
    let line = "sovereign down calendar --purge";
    let mut terminal = stage.cluster.terminal(80, 24, line);
    terminal.until("Type `calendar` to go on: ").await;
    terminal.types("calender\r").await;
    let ended = terminal.end().await.expect(1);
    assert_says(
        &ended.stdout,
        &["DESTROY its data", "that is not the name `calendar`"],
    );
    let kept = mark(stage, "cat /var/lib/radicale/mark").await.expect(0);
    assert_eq!(kept.stdout, "kept\n");

    let mut terminal = stage.cluster.terminal(80, 24, line);
    terminal.until("Type `calendar` to go on: ").await;
    terminal.types("calendar\r").await;
    let ended = terminal.end().await.expect(0);
    assert_says(&ended.stdout, &["h2: calendar is down; its data is gone"]);
    let h2 = stage.cluster.machine("h2");
    assert_eq!(
        h2.shell("docker volume ls -q --filter name=calendar").await,
        ""
    );
    stage.sovereign(&["deploy", "--yes"]).await;
    mark(stage, "test ! -e /var/lib/radicale/mark")
        .await
        .expect(0);
}

async fn mark(stage: &Stage, script: &str) -> Outcome {
    let exec = ["exec", "calendar", "--", "sh", "-c", script];
    stage.cluster.sovereign(&exec).await
}
