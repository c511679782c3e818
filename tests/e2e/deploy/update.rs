//! Updates while visitors read: of a blog, and of the proxies in front of it.

use std::time::{Duration, Instant};

use serde_json::json;
use sovereign_tests::load::{Get, Report, Running};
use sovereign_tests::{Client, Ghost, Image, Lab, Load, eventually};

use super::stage::{Stage, assert_says};

/// The stack, with more keys of the proxies.
fn stack(proxy: &str) -> String {
    format!(
        r#"
{proxy}
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
ssh = "root@10.77.0.12"
proxy = "container"

[[site]]
names = ["blog.example"]
proxy = {{ tls = "local" }}
[[site.service]]
use = "ghost"
name = "blog"
host = "h1"

[[site]]
names = ["files.example"]
proxy = {{ tls = "local" }}
[[site.service]]
use = "static"
name = "files"
host = "h2"
options = {{ folder = "files" }}
"#
    )
}

/// Where the owner writes.
const ORIGIN: (&str, &str) = ("origin", "https://blog.example");
/// What visitors read.
const PAGES: [&str; 5] = ["/", "/first/", "/second/", "/author/owner/", "/rss/"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_page_read_fails_while_a_blog_and_the_proxies_are_updated() {
    let lab = Lab::open().await;
    let stage = Stage::stocked(&lab, 2).await;
    let images = [
        ("ghost", "ghost:5-alpine"),
        ("mariadb", "mariadb:11.4"),
        ("caddy", "caddy:2-alpine"),
        ("debian", "debian:12-slim"),
    ];
    stage.images(&images).await;
    stage.write(&stack(""));
    stage.cluster.write("stack/files/index.html", "a page\n");
    stage.sovereign(&["lock"]).await;
    let begun = Instant::now();
    let said = stage.sovereign(&["deploy", "--yes"]).await;
    assert_says(&said, &["4 to start on 2 hosts"]);
    eprintln!("deployed in {:.1?}", begun.elapsed());
    write_posts(&stage).await;
    for path in PAGES {
        stage.page("h1", "blog.example", path).await.expect(200);
    }

    // A new Ghost.
    let newer = Image::of("ghost").labelled("version", "2");
    newer
        .load(stage.cluster.management(), "ghost:5-alpine")
        .await;
    stage
        .sovereign(&["lock", "--update", "ghost:5-alpine"])
        .await;
    let load = reading(&stage, "h1", "blog.example", 100).await;
    let begun = Instant::now();
    let said = stage.sovereign(&["deploy", "--yes"]).await;
    eprintln!("updated in {:.1?}", begun.elapsed());
    assert_says(
        &said,
        &["image ghost:5-alpine is another one", "1 to change"],
    );
    all_was_well(load.stop().await);
    let which = "docker inspect --format '{{.Config.Labels.version}}' sovereign-blog-app-1";
    assert_eq!(stage.cluster.machine("h1").shell(which).await, "2\n");

    another_password(&stage).await;

    // A new proxy: the same program with more bytes at its end is another one.
    let program = stage
        .cluster
        .machine("h1")
        .inside("/var/lib/sovereign/proxy/bin/sovereign-proxy");
    let mut program = std::fs::read(program).expect("the proxy is there");
    program.extend_from_slice(b"another one");
    stage.cluster.write("stack/sovereign-proxy", program);
    stage
        .cluster
        .management()
        .shell("chmod 755 /root/stack/sovereign-proxy")
        .await;
    stage.write(&stack("[stack.proxy]\nprogram = \"sovereign-proxy\""));
    let before = [running(&stage, "h1").await, running(&stage, "h2").await];
    let loads = [
        reading(&stage, "h1", "blog.example", 100).await,
        reading(&stage, "h2", "files.example", 100).await,
    ];
    let begun = Instant::now();
    let said = stage.sovereign(&["deploy", "--yes"]).await;
    eprintln!("upgraded in {:.1?}\n{said}", begun.elapsed());
    assert_says(&said, &["program", "2 to change", "upgrade"]);
    for load in loads {
        all_was_well(load.stop().await);
    }
    let after = [running(&stage, "h1").await, running(&stage, "h2").await];
    assert_eq!(after[0], after[1]);
    assert_ne!(before[0], after[0]);
    assert!(!after[0].is_empty(), "the proxies say which they are");

    let said = stage.sovereign(&["deploy", "--yes"]).await;
    assert_says(&said, &["nothing to do: 4 unchanged on 2 hosts"]);

    // It stays the new one where the machine starts it.
    let again = "systemctl restart sovereign-proxy";
    stage.cluster.machine("h1").shell(again).await;
    stage
        .cluster
        .machine("h2")
        .shell("docker restart \"$(docker ps -q --filter label=com.docker.compose.service=proxy)\"")
        .await;
    eventually("both are the new ones", Duration::from_secs(30), || async {
        let now = [running(&stage, "h1").await, running(&stage, "h2").await];
        (now == after).then_some(()).ok_or(now.concat())
    })
    .await;
}

/// A secret that the database keeps by itself is another one there as well, and readers see nothing of it.
async fn another_password(stage: &Stage) {
    let old = password(stage).await;
    stage
        .sovereign(&["secret", "rotate", "blog.database_password"])
        .await;
    let load = reading(stage, "h1", "blog.example", 100).await;
    let begun = Instant::now();
    let said = stage.sovereign(&["deploy", "--yes"]).await;
    eprintln!("another password in {:.1?}\n{said}", begun.elapsed());
    assert_says(
        &said,
        &["secret `database_password` changed", "1 to change"],
    );
    all_was_well(load.stop().await);
    let new = password(stage).await;
    assert_ne!(old, new);
    assert_eq!(login(stage, &new).await, 0);
    assert_eq!(login(stage, &old).await, 1, "the old one is still good");
    let client = Client::h2(&stage.https("h1", "blog.example"));
    let sign_in = async move { sign_in(&client).await };
    stage.cluster.inside().run(sign_in).await;
}

/// The password that Ghost has for its database.
async fn password(stage: &Stage) -> String {
    let read = "docker exec sovereign-blog-app-1 sh -c 'echo \"$database__connection__password\"'";
    let password = stage.cluster.machine("h1").shell(read).await;
    password.trim().to_owned()
}

/// How the database's client ends with this password.
async fn login(stage: &Stage, password: &str) -> i32 {
    let password = format!("MYSQL_PWD={password}");
    let words = "--host=127.0.0.1 --user=ghost --execute=DO(0) ghost";
    let client = [
        "docker",
        "exec",
        "-e",
        &password,
        "sovereign-blog-db-1",
        "mariadb",
    ];
    let line: Vec<_> = client.into_iter().chain(words.split(' ')).collect();
    stage.cluster.machine("h1").run(&line).await.code
}

/// An owner, and two posts of theirs.
async fn write_posts(stage: &Stage) {
    let client = Client::h2(&stage.https("h1", "blog.example"));
    let write = async move {
        let origin = ORIGIN;
        let setup = json!({ "setup": [{
            "name": "Owner", "email": Ghost::OWNER, "password": Ghost::PASSWORD, "blogTitle": "A blog that stays up",
        }] });
        let path = "/ghost/api/admin/authentication/setup/";
        client.post_json(path, &[origin], &setup).await.expect(201);
        let cookie = sign_in(&client).await;
        for slug in ["first", "second"] {
            let post = json!({ "posts": [{ "title": slug, "slug": slug, "html": "<p>text</p>", "status": "published" }] });
            let path = "/ghost/api/admin/posts/?source=html";
            let fields = [("cookie", cookie.as_str()), origin];
            client.post_json(path, &fields, &post).await.expect(201);
        }
    };
    stage.cluster.inside().run(write).await;
}

/// The cookie of the owner who has signed in, for which Ghost asks its database.
async fn sign_in(client: &Client) -> String {
    let who = json!({ "username": Ghost::OWNER, "password": Ghost::PASSWORD });
    let path = "/ghost/api/admin/session/";
    let session = client.post_json(path, &[ORIGIN], &who).await.expect(201);
    session.cookies()
}

/// Readers of a site, once they are under way.
async fn reading(stage: &Stage, host: &str, site: &str, per_second: u32) -> Running {
    let pages = if site == "blog.example" {
        &PAGES[..]
    } else {
        &PAGES[..1]
    };
    let load = Load::new(&stage.https(host, site), per_second, |number| {
        Get::path(pages[number % pages.len()])
    });
    let load = stage.cluster.inside().start(load);
    eventually("the load is under way", Duration::from_secs(20), || async {
        (load.done() > 50).then_some(()).ok_or("not yet")
    })
    .await;
    load
}

#[track_caller]
fn all_was_well(report: Report) {
    eprintln!("{}", report.summary());
    report.assert_none_failed();
}

/// The program of a proxy as it says itself: the digest of its file.
async fn running(stage: &Stage, host: &str) -> String {
    let ask = "cd /var/lib/sovereign/proxy && for admin in /run/sovereign-proxy/admin.sock run/admin.sock; do
            [ ! -S \"$admin\" ] || bin/sovereign-proxy status --json --admin \"$admin\"
        done";
    let said = stage.cluster.machine(host).run(&["sh", "-c", ask]).await;
    let status: serde_json::Value = serde_json::from_str(&said.stdout).unwrap_or_default();
    status["digest"].as_str().unwrap_or_default().to_owned()
}
