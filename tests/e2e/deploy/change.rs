//! What changes in a stack: the plan says why, the deployment does it, and there is a way back.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sovereign_tests::load::Get;
use sovereign_tests::{Client, Image, Lab, Load, eventually};

use super::stage::{Stage, assert_says};

/// The stack, with a title of the relay and a name of the calendar.
fn stack(title: &str, names: &str) -> String {
    format!(
        r#"
[[datacentre]]
name = "home"
role = "primary"

[[host]]
name = "h1"
datacentre = "home"
ssh = "root@10.77.0.11"

[[site]]
names = ["relay.example"]
proxy = {{ tls = "local" }}
[[site.service]]
use = "nostr"
name = "relay"
options = {{ title = "{title}" }}

[[site]]
names = [{names}]
proxy = {{ tls = "local" }}
[[site.service]]
use = "radicale"
name = "calendar"

[[site]]
names = ["files.example"]
proxy = {{ tls = "local", cache = "bypass" }}
[[site.service]]
use = "static"
name = "files"
options = {{ folder = "files" }}
"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_is_told_done_and_taken_back() {
    let lab = Lab::open().await;
    let stage = Stage::stocked(&lab, 1).await;
    let images = [
        ("strfry", "dockurr/strfry:latest"),
        ("radicale", "ghcr.io/kozea/radicale:stable"),
        ("caddy", "caddy:2-alpine"),
    ];
    stage.images(&images).await;
    stage.write(&stack("First", "\"calendar.example\""));
    stage
        .cluster
        .write("stack/files/index.html", "the first page\n");
    stage.sovereign(&["lock"]).await;
    let said = stage.sovereign(&["deploy", "--yes"]).await;
    assert_says(
        &said,
        &["4 to start on 1 host", "everything is as it should be"],
    );
    assert_eq!(title(&stage).await, "First");
    assert_eq!(file(&stage).await, "the first page\n");
    let first_password = password(&stage).await;
    assert_eq!(
        sign_in(&stage, "calendar.example", &first_password).await,
        207
    );

    // Another option, another image behind the same tag, another name, another secret, other files.
    stage.write(&stack("Second", "\"new.example\", \"calendar.example\""));
    let newer = Image::of("radicale").labelled("version", "2");
    let newer = newer
        .load(stage.cluster.management(), "ghcr.io/kozea/radicale:stable")
        .await;
    let said = stage.sovereign(&["lock", "--update"]).await;
    assert_says(&said, &["ghcr.io/kozea/radicale:stable"]);
    stage
        .sovereign(&["secret", "rotate", "calendar.password"])
        .await;
    stage
        .cluster
        .write("stack/files/index.html", "the second page\n");

    let would = stage
        .cluster
        .sovereign(&["plan", "--exit-code"])
        .await
        .expect(3)
        .stdout;
    eprintln!("{would}");
    let why = [
        "option `title` changed: First -> Second",
        "image ghcr.io/kozea/radicale:stable is another one",
        "secret `users` changed",
        "start the new one beside the old one",
        "new.example",
        "proxy.toml changed",
        "4 to change on 1 host",
    ];
    assert_says(&would, &why);
    assert!(!would.contains(&first_password), "a plan shows no secret");

    // What may run twice is not away for a moment.
    let files = stage.https("h1", "files.example");
    let load = stage
        .cluster
        .inside()
        .start(Load::new(&files, 50, |_| Get::path("/")));
    eventually("the load is under way", Duration::from_secs(20), || async {
        (load.done() > 20).then_some(()).ok_or("not yet")
    })
    .await;
    stage.sovereign(&["deploy", "--yes"]).await;
    let report = load.stop().await;
    eprintln!("files: {}", report.summary());
    report.assert_none_failed();

    assert_eq!(title(&stage).await, "Second");
    assert_eq!(file(&stage).await, "the second page\n");
    let second_password = password(&stage).await;
    assert_ne!(first_password, second_password);
    assert_eq!(sign_in(&stage, "new.example", &second_password).await, 207);
    assert_eq!(sign_in(&stage, "new.example", &first_password).await, 401);
    // The name of before leads to the new one.
    stage
        .page("h1", "calendar.example", "/.web/")
        .await
        .expect(308);
    assert_eq!(runs(&stage).await, newer);
    let said = stage.sovereign(&["deploy", "--yes"]).await;
    assert_says(&said, &["nothing to do: 4 unchanged on 1 host"]);

    // Back to the first.
    let list = stage.sovereign(&["rollback", "--list"]).await;
    eprintln!("{list}");
    let said = stage.sovereign(&["rollback", "--yes"]).await;
    eprintln!("{said}");
    assert_says(
        &said,
        &["4 to change on 1 host", "everything is as it should be"],
    );
    assert_eq!(title(&stage).await, "First");
    assert_eq!(file(&stage).await, "the first page\n");
    assert_eq!(
        sign_in(&stage, "calendar.example", &first_password).await,
        207
    );
    assert_ne!(runs(&stage).await, newer);

    // `stack.toml` is what it was: the next deployment goes by it again. A service that is no longer there goes.
    let without = stack("Second", "\"new.example\"")
        .replace("[[site]]\nnames = [\"relay", "[[site]]\nnames = [\"gone");
    let without = without
        .replace("use = \"nostr\"", "use = \"static\"")
        .replace(
            "name = \"relay\"\noptions = { title = \"Second\" }",
            "name = \"gone\"\noptions = { folder = \"files\" }",
        );
    stage.write(&without);
    let said = stage.sovereign(&["deploy", "--yes"]).await;
    eprintln!("{said}");
    assert_says(
        &said,
        &[
            "relay",
            "the stack has it no longer",
            "its data stays",
            "everything is as it should be",
        ],
    );
    let h1 = stage.cluster.machine("h1");
    let left = h1.shell("docker ps -a --format '{{.Names}}'; docker volume ls -q; ls /var/lib/sovereign/services").await;
    assert_says(&left, &["sovereign-relay-db", "sovereign-gone-app-1"]);
    assert!(!left.contains("sovereign-relay-app"), "{left}");
}

/// What the relay is called.
async fn title(stage: &Stage) -> String {
    let info = &[("accept", "application/nostr+json")];
    let relay = stage
        .page_with("h1", "relay.example", "/", info)
        .await
        .expect(200);
    relay.json()["name"].as_str().unwrap_or_default().to_owned()
}

async fn file(stage: &Stage) -> String {
    stage
        .page("h1", "files.example", "/")
        .await
        .expect(200)
        .text()
}

/// The password that the calendar takes now, as root of its host may read it.
async fn password(stage: &Stage) -> String {
    let read = "cd /var/lib/sovereign/services/calendar && revision=$(sed 's/.*\"revision\":\"\\([0-9a-f]*\\)\".*/\\1/' current) && cat \"$revision/secrets/mounted/users\"";
    let users = stage.cluster.machine("h1").shell(read).await;
    let admin = users.lines().find_map(|line| line.strip_prefix("admin:"));
    admin.expect("the operator may sign in").to_owned()
}

/// How it is answered that somebody asks for the admin's collections with this password.
async fn sign_in(stage: &Stage, site: &str, password: &str) -> u16 {
    let client = Client::h2(&stage.https("h1", site));
    let words = BASE64_STANDARD.encode(format!("admin:{password}"));
    let ask = async move {
        let fields = [
            ("authorization", format!("Basic {words}")),
            ("depth", "0".to_owned()),
        ];
        let fields = fields
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let method = "PROPFIND".parse().expect("a method");
        let answer = client.ask(method, "/admin/", &fields, sovereign_tests::client::empty());
        answer.await.status.into()
    };
    stage.cluster.inside().run(ask).await
}

/// The id of the image that the calendar runs.
async fn runs(stage: &Stage) -> String {
    let inspect = "docker inspect --format '{{.Image}}' sovereign-calendar-app-1";
    stage
        .cluster
        .machine("h1")
        .shell(inspect)
        .await
        .trim()
        .to_owned()
}
