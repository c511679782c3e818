//! The clock is two days wrong: no certificate is called lapsed for that, none is ordered, and it is said.

use std::path::PathBuf;

use sovereign_tests::faketime::{launch, set};
use sovereign_tests::pebble::Manner;
use sovereign_tests::proxy::said;
use sovereign_tests::served::{Served, served};
use sovereign_tests::{Lab, Origin, eventually};

use super::{SOON, Stage, from_pebble, order, origin, plain_site};

/// A stopped daemon with a certificate for `app.example` that is good for a day, and the file that its
/// clock obeys.
async fn stopped(lab: &Lab, origin: &Origin) -> (Stage, PathBuf, Served) {
    let (launch, offset) = launch(lab);
    let manner = Manner {
        validity: 24 * 60 * 60,
        ..Manner::default()
    };
    let mut stage = Stage::set_with(lab, launch, &manner).await;
    stage.write(&plain_site("app.example", &origin.url(), ""));
    stage.proxy.start_again(lab).await;
    let certificate = from_pebble(&stage.proxy, "app.example").await;
    stage.proxy.stop().await;
    (stage, offset, certificate)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_two_days_wrong_makes_no_certificate_lapse() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let (mut stage, offset, first) = stopped(&lab, &origin).await;

    for (set_to, hours, way) in [("+2d", 48, "ahead of"), ("-2d", -48, "behind")] {
        set(&offset, set_to);
        stage.proxy.start_again(&lab).await;
        let status = eventually("the skew is told", SOON, || async {
            let status = stage.proxy.status().await;
            let skew = status["acme"]["clock_skew_seconds"].as_i64();
            let told = skew.is_some_and(|skew: i64| (skew - hours * 3600).abs() < 600);
            told.then_some(status.clone()).ok_or(format!("{status:#}"))
        })
        .await;
        let order = order(&stage.proxy, "app.example").await;
        assert_eq!(order["state"], "good", "{set_to}: {order}");
        assert!(order["last_error"].is_null(), "{set_to}: {order}");
        let served = served(stage.proxy.secure_address(), "app.example").await;
        assert_eq!(served.as_ref(), Ok(&first), "{set_to}");
        let text = said(&stage.proxy.command(&["status"]).await);
        let told = format!("{way} the certificate authorities'");
        assert!(text.contains(&told), "{set_to}: {text}");
        assert!(!text.contains("lapsed on"), "{set_to}: {text}");
        let days = status["certificates"][0]["days_left"].as_i64();
        assert_eq!(days, Some(0), "{set_to}: {status:#}");
        stage.proxy.stop().await;
    }
    assert_eq!(stage.pebble.issued(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_confirms_the_clock_the_word_is_doubtful() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let (stage, offset, first) = stopped(&lab, &origin).await;
    // Nobody is there to be asked.
    let Stage {
        mut proxy, pebble, ..
    } = stage;
    drop(pebble);
    set(&offset, "+2d");
    proxy.start_again(&lab).await;
    let told = eventually("an attempt was made", SOON, || async {
        let order = order(&proxy, "app.example").await;
        (order["state"] != "ordering")
            .then_some(order.clone())
            .ok_or(order)
    })
    .await;
    assert_eq!(told["state"], "doubtful", "{told}");
    let served = served(proxy.secure_address(), "app.example").await;
    assert_eq!(served, Ok(first));
}
