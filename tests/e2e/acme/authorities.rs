//! Several authorities in order: where one is out of order, the next is asked, and the first again later.

use std::time::{Duration, Instant};

use sovereign_tests::broken_ca::Fault;
use sovereign_tests::pebble::{Identity, Manner, table};
use sovereign_tests::port::free_address;
use sovereign_tests::proxy::said;
use sovereign_tests::{BrokenCa, Lab, Pebble, eventually};
use tokio::task::JoinSet;

use super::{SOON, Stage, another, from_pebble, order, origin, plain_site};

/// How soon the second authority has to be used.
const PROMISED: Duration = Duration::from_secs(30);

/// A site with a broken authority before a good one; gives what `status` says of the first one.
async fn second_is_used(fault: Fault) {
    let lab = Lab::open().await;
    let origin = origin().await;
    let mut stage = Stage::set(&lab, &Manner::default()).await;
    let broken = BrokenCa::start(&lab, fault).await;
    let tables = broken.table() + &stage.pebble.table("");
    stage.write_with(&tables, &plain_site("app.example", &origin.url(), ""));
    stage.proxy.start_again(&lab).await;
    let begun = Instant::now();
    from_pebble(&stage.proxy, "app.example").await;
    let took = begun.elapsed();
    assert!(
        took < PROMISED,
        "{fault:?}: the second was used after {took:.1?}"
    );

    let told = order(&stage.proxy, "app.example").await;
    assert_eq!(
        told["authority"],
        stage.pebble.directory(),
        "{fault:?}: {told}"
    );
    let status = stage.proxy.status().await;
    let first = &status["acme"]["authorities"][0];
    assert_eq!(
        first["directory"],
        broken.directory(),
        "{fault:?}: {status:#}"
    );
    let trouble = first["trouble"].as_str().unwrap_or_default();
    assert!(
        !trouble.is_empty() && first["until"].is_string(),
        "{fault:?}: {first}"
    );
    if let Fault::Limits(_) = fault {
        assert!(trouble.contains("too many of everything"), "{first}");
    }
    // The operator sees why it was not the first one.
    let seen = said(&stage.proxy.command(&["certs"]).await);
    assert!(seen.contains("before it was asked"), "{fault:?}: {seen}");

    // It is asked again as soon as somebody wants it.
    let before = broken.hits();
    let old = from_pebble(&stage.proxy, "app.example").await;
    let renewed = stage
        .proxy
        .command(&["certs", "renew", "app.example"])
        .await;
    assert!(renewed.status.success(), "{fault:?}: {}", said(&renewed));
    another(&stage.proxy, "app.example", &old).await;
    assert!(broken.hits() > before, "{fault:?}: it was not asked again");
    stage.proxy.assert_no_panic();
}

/// They wait for most of the time: beside each other.
async fn each(faults: &[Fault]) {
    let mut sessions = JoinSet::new();
    for fault in faults {
        sessions.spawn(second_is_used(*fault));
    }
    while let Some(session) = sessions.join_next().await {
        if let Err(failed) = session {
            std::panic::resume_unwind(failed.into_panic());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_is_used_when_the_first_answers_nonsense_or_limits() {
    each(&[Fault::Garbage, Fault::Status(500), Fault::Status(404)]).await;
    each(&[Fault::Limits(3600), Fault::GarbageLater]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_is_used_when_the_first_hangs() {
    each(&[Fault::Hangs, Fault::HangsLater]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_is_tried_again_when_it_is_back() {
    let lab = Lab::open().await;
    let origin = origin().await;
    // Renewed when two thirds of the time have passed, and well after the minute for which the first is
    // left alone.
    let short = Manner {
        validity: 130,
        ..Manner::default()
    };
    let mut stage = Stage::set(&lab, &short).await;
    let (address, identity) = (free_address(), Identity::make(&lab.folder("first")));
    let tables = table(address, &identity.ca, "") + &stage.pebble.table("");
    stage.write_with(&tables, &plain_site("app.example", &origin.url(), ""));
    stage.proxy.start_again(&lab).await;
    let second = from_pebble(&stage.proxy, "app.example").await;

    let usual = Manner::default();
    let dns = stage.dns.address();
    let first = Pebble::start_at(&lab, address, identity, &stage.proxy, dns, &usual).await;
    let patience = Duration::from_secs(200);
    eventually("the first one issues", patience, || {
        std::future::ready(if first.issued() == 1 {
            Ok(())
        } else {
            Err("not yet")
        })
    })
    .await;
    another(&stage.proxy, "app.example", &second).await;
    eventually("it is said", SOON, || async {
        let order = order(&stage.proxy, "app.example").await;
        (order["authority"] == first.directory())
            .then_some(())
            .ok_or(order)
    })
    .await;
}
