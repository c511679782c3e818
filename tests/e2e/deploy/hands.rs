//! What an operator does day by day, at a terminal and in scripts: hosts are met, a stack is deployed, looked at,
//! listened to, reached into, restarted, taken down and brought back, and a host is parted with. Every command is
//! met by an operator who mistypes, too.

// Hosts are met, and parted with.
mod hosts;
// How everything is, and what it says.
mod look;
// What is done to services.
mod act;
// What cannot be.
mod wrong;

use sovereign_tests::Lab;

use super::stage::{Stage, assert_says};

/// Two hosts that serve; a third one is met as a mirror of them.
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

[[site]]
names = ["files.example"]
[site.proxy]
tls = "local"
[[site.service]]
use = "static"
name = "files"
host = "h1"
options = { folder = "pages" }

[[site]]
names = ["calendar.example"]
[site.proxy]
tls = "local"
[[site.service]]
use = "radicale"
name = "calendar"
host = "h2"
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_of_every_day() {
    let lab = Lab::open().await;
    let stage = Stage::open(&lab, 3).await;
    for (site, host) in [("files", "h1"), ("calendar", "h2")] {
        stage.cluster.name(&format!("{site}.example"), host);
    }
    let images = [
        ("caddy", "caddy:2-alpine"),
        ("radicale", "ghcr.io/kozea/radicale:stable"),
    ];
    stage.images(&images).await;
    stage.write(STACK);
    stage.cluster.write("stack/pages/index.html", "page one\n");

    hosts::are_met(&stage).await;
    is_deployed(&stage).await;
    look::at_everything(&stage).await;
    look::at_one_secret(&stage).await;
    look::at_what_is_said(&stage).await;
    look::at_a_page(&lab, &stage).await;
    act::in_a_container(&stage).await;
    act::again(&stage).await;
    act::on_a_part(&stage).await;
    act::back(&stage).await;
    act::two_operators(&stage).await;
    act::down_and_up(&stage).await;
    act::down_for_good(&stage).await;
    wrong::names(&stage).await;
    look::at_what_needs_attention(&stage).await;
    hosts::are_parted_with(&stage).await;
}

/// The plan is shown at the terminal, and nothing is done before it is agreed to.
async fn is_deployed(stage: &Stage) {
    stage.sovereign(&["lock"]).await;
    let mut terminal = stage.cluster.terminal(100, 40, "sovereign deploy");
    terminal.until("Deploy this? [y/N] ").await;
    terminal.types("\r").await;
    let ended = terminal.end().await.expect(1);
    assert_says(&ended.stdout, &["nothing was changed: the answer was no"]);
    let left = stage.cluster.machine("h1").shell("docker ps -aq").await;
    assert_eq!(left, "", "something runs");

    let mut terminal = stage.cluster.terminal(100, 40, "sovereign deploy");
    terminal.until("Deploy this? [y/N] ").await;
    terminal.types("y\r").await;
    let ended = terminal.end().await.expect(0);
    eprintln!("{}", ended.stdout);
    assert_says(&ended.stdout, &["everything is as it should be"]);
    let page = stage.page("h1", "files.example", "/").await.expect(200);
    assert_eq!(page.text(), "page one\n");
}
