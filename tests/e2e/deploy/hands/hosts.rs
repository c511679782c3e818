//! A host is met: its key is shown, written down once it was compared, and no other is taken in its place. A host is
//! parted with once nothing of the stack is on it.

use super::super::stage::{Stage, assert_says, said};

/// Three hosts, each in another way.
pub(super) async fn are_met(stage: &Stage) {
    // Nobody knows them yet.
    stage.cluster.write(".ssh/known_hosts", "");
    let ended = stage.cluster.sovereign(&["status"]).await.expect(1);
    assert_says(
        &said(&ended),
        &["its host key is not known here", "`sovereign host add h1`"],
    );

    // At a terminal: the key is shown, to be compared.
    let shown = fingerprint(stage, "h1").await;
    for (answer, code, says) in [
        ("n\r", 1, "nothing was changed: the answer was no"),
        ("y\r", 0, "h1: logged in as root"),
    ] {
        let mut terminal = stage.cluster.terminal(80, 24, "sovereign host add h1");
        terminal
            .until("Is this what the host's console shows? [y/N] ")
            .await;
        terminal.types(answer).await;
        let ended = terminal.end().await.expect(code);
        assert_says(&ended.stdout, &[&shown, says]);
    }
    let again = stage.sovereign(&["host", "add", "h1"]).await;
    assert_says(&again, &["h1: its key is written down already"]);

    // In a script: the key is named.
    let add = ["host", "add", "h2"];
    let ended = stage.cluster.sovereign(&add).await.expect(1);
    assert_says(
        &said(&ended),
        &["there is no terminal to ask at", "hint: --fingerprint"],
    );
    let other = [&add[..], &["--fingerprint", &shown]].concat();
    let ended = stage.cluster.sovereign(&other).await.expect(1);
    assert_says(&said(&ended), &["h2 shows no key with that fingerprint"]);
    let print = fingerprint(stage, "h2").await;
    stage
        .sovereign(&[&add[..], &["--fingerprint", &print]].concat())
        .await;

    // A new one is added to the stack.
    let print = fingerprint(stage, "h3").await;
    let add = ["host", "add", "h3", "root@10.77.0.13", "--datacentre"];
    let added = stage
        .sovereign(&[&add[..], &["office", "--fingerprint", &print]].concat())
        .await;
    assert_says(&added, &["added h3 to stack.toml"]);
    shows_another_key(stage).await;
}

/// A host that shows another key is refused everywhere, until the operator says that it was set up anew.
async fn shows_another_key(stage: &Stage) {
    stage.cluster.machine("h3").renew_key().await;
    let status = ["status", "--host", "h3"];
    let ended = stage.cluster.sovereign(&status).await.expect(1);
    let wanted = [
        "it shows another host key than the known one",
        "`sovereign host remove h3 --key`",
    ];
    assert_says(&said(&ended), &wanted);
    let ended = stage
        .cluster
        .sovereign(&["host", "add", "h3"])
        .await
        .expect(1);
    assert_says(
        &said(&ended),
        &["h3 shows another key than the one that is written down"],
    );
    stage
        .sovereign(&["host", "remove", "h3", "--key", "--yes"])
        .await;
    let print = fingerprint(stage, "h3").await;
    let added = stage
        .sovereign(&["host", "add", "h3", "--fingerprint", &print])
        .await;
    assert_says(&added, &["h3: logged in as root"]);
}

/// What the console of a machine shows.
async fn fingerprint(stage: &Stage, host: &str) -> String {
    let show = "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub";
    let shown = stage.cluster.machine(host).shell(show).await;
    let print = shown.split_whitespace().nth(1);
    print.expect("it shows a fingerprint").to_owned()
}

/// One with services stays; one without goes, and what it does to it is said.
pub(super) async fn are_parted_with(stage: &Stage) {
    let ended = stage
        .cluster
        .sovereign(&["host", "remove", "h2", "--yes"])
        .await
        .expect(1);
    assert_says(&said(&ended), &["stack.toml has services on h2: calendar"]);

    let mut terminal = stage.cluster.terminal(80, 24, "sovereign host remove h3");
    terminal.until("[y/N] ").await;
    terminal.types("y\r").await;
    let ended = terminal.end().await.expect(0);
    eprintln!("{}", ended.stdout);
    assert_says(
        &ended.stdout,
        &[
            "took h3 out of stack.toml, and forgot its key",
            "sovereign-proxy` there stops the proxy",
        ],
    );
    let h3 = stage.cluster.machine("h3");
    h3.shell("systemctl is-active sovereign-proxy").await;
    h3.shell("systemctl disable --now sovereign-proxy.socket sovereign-proxy")
        .await;
    h3.run(&["systemctl", "is-active", "sovereign-proxy"])
        .await
        .expect(3);
    let status = stage.sovereign(&["status", "--json"]).await;
    assert!(!status.contains("\"h3\""), "{status}");
}
