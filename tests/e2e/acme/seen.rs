//! What an operator is shown, on the machine and in a feed reader.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use sovereign_tests::client::whole;
use sovereign_tests::origin::reply;
use sovereign_tests::pebble::Manner;
use sovereign_tests::proxy::said;
use sovereign_tests::{Client, Lab, Origin, Pebble};

use super::{Stage, from_pebble, plain_site};

/// What only those know who may read the feed.
const SECRET: &str = "a-secret-that-nobody-guesses";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_sees_certificates_and_what_happened_to_them() {
    let lab = Lab::open().await;
    let origin = Origin::start(|_| async { reply(404, [], whole("no such page")) }).await;
    let mut stage = Stage::set(&lab, &Manner::default()).await;
    let secret = lab.file("feed-secret", SECRET);
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("the file is ours");
    stage.certificates = format!(
        "feed = {{ site = \"app.example\", path = \"/news\", secret = \"{}\" }}",
        secret.display()
    );
    // Dry runs are asked of another authority.
    let staging = Pebble::start(&lab, &stage.proxy, stage.dns.address(), &Manner::default()).await;
    let both = lab.file(
        "roots.pem",
        [stage.pebble.vouched(), staging.vouched()].concat(),
    );
    let authority = format!(
        "[[acme]]\ndirectory = \"{}\"\nroots = \"{}\"\nstaging = \"{}\"\n",
        stage.pebble.directory(),
        both.display(),
        staging.directory()
    );
    let sites = plain_site("app.example", &origin.url(), "")
        + &plain_site("house.test", &origin.url(), "tls = \"local\"");
    stage.write_with(&authority, &sites);
    stage.proxy.start_again(&lab).await;
    from_pebble(&stage.proxy, "app.example").await;
    super::eventually("the order is over", super::SOON, || async {
        let standing = super::standing(&stage.proxy, "app.example").await;
        (standing == "good").then_some(()).ok_or(standing)
    })
    .await;

    listed(&stage).await;
    measured(&stage).await;
    subscribed(&stage).await;

    let dry = stage
        .proxy
        .command(&["certs", "dry-run", "app.example"])
        .await;
    assert!(
        dry.status.success() && said(&dry).starts_with("works: app.example"),
        "{}",
        said(&dry)
    );
    assert_eq!((stage.pebble.issued(), staging.issued()), (1, 1));
    stage.proxy.assert_no_panic();
}

/// `certs` and `status`, for people and for programs.
async fn listed(stage: &Stage) {
    for arguments in [&["certs"][..], &["certs", "list"]] {
        let text = said(&stage.proxy.command(arguments).await);
        for part in [
            "app.example",
            "house.test",
            "http-01",
            "89 days",
            "What happened",
            "issued",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    let output = stage.proxy.command(&["certs", "--json"]).await;
    let all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let event = &all["events"][0];
    assert_eq!(
        (&event["what"], &event["challenge"]),
        (&"issued".into(), &"http-01".into())
    );
    assert_eq!(event["authority"], stage.pebble.directory());
    assert_eq!(all["attempts"][0]["outcome"], "issued");
    let status = stage.proxy.status().await;
    assert_eq!(all["certificates"], status["certificates"], "{all:#}");
}

/// The metrics: days left, and attempts by authority, challenge and outcome.
async fn measured(stage: &Stage) {
    let metrics = stage.proxy.metrics().await;
    let with = |parts: &[&str]| {
        let found = metrics
            .lines()
            .find(|line| parts.iter().all(|part| line.contains(part)));
        found
            .unwrap_or_else(|| panic!("no {parts:?}: {metrics}"))
            .to_owned()
    };
    with(&["days", "app.example"]);
    with(&["days", "house.test"]);
    let attempts = with(&["attempts", "outcome=\"issued\"", "challenge=\"http-01\""]);
    assert!(attempts.ends_with(" 1"), "{attempts}");
}

/// The feed and the calendar: on the machine, and on the site for those who have the secret.
async fn subscribed(stage: &Stage) {
    let reader = Client::h2(&stage.target("app.example"));
    let kinds = [
        (
            "--atom",
            "certificates.atom",
            "application/atom+xml",
            "<feed",
        ),
        (
            "--ics",
            "certificates.ics",
            "text/calendar",
            "BEGIN:VCALENDAR\r\n",
        ),
    ];
    for (option, file, kind, part) in kinds {
        let here = stage.proxy.command(&["certs", "feed", option]).await;
        let printed = String::from_utf8_lossy(&here.stdout).into_owned();
        assert!(
            printed.contains(part) && printed.contains("app.example"),
            "{printed}"
        );
        let answer = reader
            .get(&format!("/news/{SECRET}/{file}"))
            .await
            .expect(200);
        assert!(answer.header("content-type").starts_with(kind), "{answer}");
        assert!(
            answer.text().contains(part) && answer.text().contains("app.example"),
            "{answer}"
        );
        let wrong = SECRET.replace('a', "b");
        // Who has it wrong is answered by the site.
        let answer = reader
            .get(&format!("/news/{wrong}/{file}"))
            .await
            .expect(404);
        assert_eq!(answer.text(), "no such page");
    }
    // A line is written after its answer.
    let log = super::eventually("the last line", super::SOON, || {
        let log = format!("{:?}{}", stage.proxy.access_log(), stage.proxy.log());
        let whole = log.matches("certificates.ics").count() == 2;
        std::future::ready(if whole { Ok(log) } else { Err(log) })
    })
    .await;
    assert!(!log.contains(SECRET), "{log}");
}
