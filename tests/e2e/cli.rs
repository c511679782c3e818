//! The command line: what it says, and the codes that it ends with.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use sovereign_tests::client::whole;
use sovereign_tests::origin::reply;
use sovereign_tests::proxy::{cli, said, site};
use sovereign_tests::{Client, Lab, Origin, Proxy, Target};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn help_is_worth_reading() {
    let help = cli(&["--help"]).await;
    assert_eq!(help.status.code(), Some(0));
    let text = said(&help);
    for word in ["Commands", "Exit codes", "Examples"] {
        assert!(text.contains(word), "{word} is missing: {text}");
    }
    for command in [
        "run", "demo", "check", "init", "status", "certs", "ca", "warm", "reload", "upgrade",
        "drain", "purge",
    ] {
        // On a line of its own: "ca" alone is part of "cache".
        let line = format!("  {command} ");
        assert!(
            text.lines().any(|one| one.starts_with(&line)),
            "{command} is missing: {text}"
        );
        let help = cli(&[command, "--help"]).await;
        assert_eq!(help.status.code(), Some(0), "{command}");
        assert!(said(&help).len() > 100, "{command}: {}", said(&help));
    }
    assert!(said(&cli(&["--version"]).await).starts_with("sovereign-proxy "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_usage_is_2_and_failure_is_1() {
    let lab = Lab::open().await;
    let nowhere = lab.path().join("nowhere.toml");
    let nowhere = nowhere.to_str().expect("the path is text");
    let socket = lab.path().join("no.sock");
    let socket = socket.to_str().expect("the path is text");
    for (arguments, code) in [
        (&["frobnicate"][..], 2),
        (&["run", "--no-such-option"], 2),
        (&["drain", "--deadline", "soon"], 2),
        (&["run", "--config", nowhere], 2),
        (&["check", "--config", nowhere], 2),
        (&["status", "--admin", socket], 1),
        (&["reload", "--admin", socket], 1),
    ] {
        let output = cli(arguments).await;
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {}",
            said(&output)
        );
        assert!(!output.stderr.is_empty(), "{arguments:?} says nothing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_says_every_problem_and_where() {
    let lab = Lab::open().await;
    let good = lab.file("good.toml", site("app.test", "http://127.0.0.1:9", ""));
    let output = cli(&["check", "--config", good.to_str().expect("text")]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));

    let bad = lab.file(
        "bad.toml",
        "drain = \"soon\"\n\n[[site]]\nnames = [\"app.test\"]\nupstraem = [\"http://127.0.0.1:9\"]\n",
    );
    let bad = bad.to_str().expect("text");
    let output = cli(&["check", "--config", bad]).await;
    assert_eq!(output.status.code(), Some(2));
    let text = said(&output);
    for word in [
        "bad.toml:1",
        "bad.toml:5",
        "drain",
        "upstraem",
        "upstream",
        "hint:",
    ] {
        assert!(text.contains(word), "{word} is missing: {text}");
    }
    let json = cli(&["check", "--json", "--config", bad]).await;
    assert_eq!(json.status.code(), Some(2));
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json["ok"], false);
    assert!(
        json["problems"]
            .as_array()
            .is_some_and(|problems| problems.len() >= 2),
        "{json}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schema_names_every_table() {
    let output = cli(&["check", "--schema"]).await;
    assert_eq!(output.status.code(), Some(0));
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for key in [
        "state", "admin", "drain", "trusted", "listen", "cache", "limits", "log", "site",
    ] {
        assert!(
            schema["properties"][key].is_object(),
            "{key} is missing: {schema}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_writes_a_file_that_is_nearly_right() {
    let lab = Lab::open().await;
    let file = lab.path().join("proxy.toml");
    let path = file.to_str().expect("text");
    assert_eq!(cli(&["init", path]).await.status.code(), Some(0));
    let text = std::fs::read_to_string(&file).expect("it was written");
    assert!(
        text.contains("[[site]]") && text.lines().filter(|line| line.starts_with('#')).count() > 10
    );
    // Not over a file that is there.
    std::fs::write(&file, "mine").expect("the folder is ours");
    assert_eq!(cli(&["init", path]).await.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), "mine");
    let output = cli(&["init", "-"]).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_lines_front_a_site() {
    let lab = Lab::open().await;
    let origin = Origin::start(|_| async { reply(200, [], whole("mine")) }).await;
    // The harness adds the folder and the ports; the operator's five lines are these.
    let proxy = Proxy::start(
        &lab,
        &format!(
            "[[site]]\nnames = [\"app.test\"]\nupstream = [\"{}\"]\n",
            origin.url()
        ),
    )
    .await;
    assert_eq!(
        Client::h2(&proxy.https("app.test"))
            .get("/")
            .await
            .expect(200)
            .text(),
        "mine"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_shows_what_runs() {
    let lab = Lab::open().await;
    let origin =
        Origin::start(|_| async { reply(200, [("cache-control", "max-age=60")], whole("x")) })
            .await;
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), "")).await;
    let client = Client::h2(&proxy.https("app.test"));
    for _ in 0..4 {
        client.get("/").await.expect(200);
    }
    proxy.reload().await;

    let status = proxy.status().await;
    let site = &status["sites"][0];
    assert_eq!(site["names"][0], "app.test");
    assert_eq!(site["requests"], 4, "{status}");
    assert_eq!(site["upstreams"][0]["address"], origin.url());
    assert_eq!(site["upstreams"][0]["state"], "up", "{status}");
    assert_eq!(site["hit_ratio"], 0.75, "{status}");
    assert_eq!(
        status["certificates"][0]["names"][0], "app.test",
        "{status}"
    );
    assert!(
        status["certificates"][0]["days_left"].as_i64() > Some(0),
        "{status}"
    );
    assert!(status["last_reload"].is_object(), "{status}");
    assert_eq!(proxy.admin("/status").await["pid"], status["pid"]);

    let table = proxy.command(&["status"]).await;
    let text = said(&table);
    for word in ["app.test", &origin.url(), "75"] {
        assert!(text.contains(word), "{word} is missing: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_has_a_line_in_the_access_log() {
    let lab = Lab::open().await;
    let origin =
        Origin::start(|_| async { reply(200, [("cache-control", "max-age=60")], whole("four")) })
            .await;
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), "")).await;
    let client = Client::h2(&proxy.https("app.test"));
    for _ in 0..3 {
        client.get("/logged").await.expect(200);
    }
    sovereign_tests::eventually("three lines", Duration::from_secs(10), || {
        let count = proxy.access_log().len();
        std::future::ready(if count == 3 { Ok(()) } else { Err(count) })
    })
    .await;
    for line in proxy.logged("/logged").await {
        assert_eq!(line["status"], 200, "{line}");
        let text = line.to_string();
        for word in ["app.test", "HTTP/2", "GET"] {
            assert!(text.contains(word), "{word} is missing: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_where_they_are_asked_for() {
    let lab = Lab::open().await;
    let origin = Origin::start(|_| async { reply(200, [], whole("x")) }).await;
    let metrics = sovereign_tests::port::free_address();
    let folder = lab.folder("state");
    let (http, https) = (
        sovereign_tests::port::free_address(),
        sovereign_tests::port::free_address(),
    );
    let config = lab.file(
        "proxy.toml",
        format!(
            "state = \"{}\"\n[listen]\nhttp = [\"{http}\"]\nhttps = [\"{https}\"]\nmetrics = \"{metrics}\"\n{}",
            folder.join("state").display(),
            site("app.test", &origin.url(), "")
        ),
    );
    let mut process = sovereign_tests::process::Process::start(
        &lab,
        "metrics",
        sovereign_tests::proxy::program(),
        |command| {
            command.args(["run", "--config"]).arg(config);
        },
    );
    sovereign_tests::eventually("metrics answer", Duration::from_secs(20), || {
        process.assert_running();
        tokio::net::TcpStream::connect(metrics)
    })
    .await;
    let answer = Client::h1(&Target::plain(metrics, "localhost"))
        .get("/metrics")
        .await
        .expect(200);
    assert!(
        answer.header("content-type").starts_with("text/plain"),
        "{answer}"
    );
    assert!(answer.text().contains("# TYPE sovereign"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_is_for_its_owner_only() {
    let lab = Lab::open().await;
    let proxy = Proxy::start(&lab, &site("app.test", "http://127.0.0.1:9", "")).await;
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(proxy.state()), 0o700);
    assert_eq!(mode(&proxy.state().join("admin.sock")) & 0o077, 0);
    let mut keys = 0;
    let mut folders = vec![proxy.state().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("it is a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if std::fs::read_to_string(&path).is_ok_and(|text| text.contains("PRIVATE KEY"))
            {
                keys += 1;
                assert_eq!(mode(&path), 0o600, "{}", path.display());
            }
        }
    }
    assert!(keys > 0, "no key was found: nothing is proved");
}
