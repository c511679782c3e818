//! A name that leads to somebody else: it is said in the operator's words, and no authority is asked.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use sovereign_tests::client::whole;
use sovereign_tests::origin::reply;
use sovereign_tests::pebble::Manner;
use sovereign_tests::proxy::said;
use sovereign_tests::{Lab, eventually};

use super::{SOON, Stage, from_pebble, order, origin, plain_site};

/// An address of this machine that no other session uses.
fn elsewhere() -> IpAddr {
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    Ipv4Addr::new(127, 80, high, low.max(1)).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_somebody_else_answers_no_order_is_spent() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let mut stage = Stage::set(&lab, &Manner::default()).await;
    // Another machine, which answers on both ports that authorities ask.
    let there = elsewhere();
    let other = sovereign_tests::Origin::at(SocketAddr::new(there, 80), |_| async {
        reply(404, [("server", "another-machine")], whole("not here"))
    })
    .await;
    stage.dns.lead("lost.example", there).await;
    let http_only = "[site.certificates]\nchallenges = [\"http-01\"]\n";
    stage.write(
        &(plain_site("lost.example", &origin.url(), http_only)
            + &plain_site("found.example", &origin.url(), "")),
    );
    stage.proxy.start_again(&lab).await;
    from_pebble(&stage.proxy, "found.example").await;
    let word = eventually("it is said", SOON, || async {
        let order = order(&stage.proxy, "lost.example").await;
        order["last_error"].as_str().map(str::to_owned).ok_or(order)
    })
    .await;
    for part in [
        "port 80 of lost.example leads to another machine",
        &there.to_string(),
        "404",
    ] {
        assert!(word.contains(part), "{part}: {word}");
    }
    assert!(other.hits() > 0);
    assert_eq!(stage.pebble.orders(), 1, "an order was spent");
    let list = said(&stage.proxy.command(&["certs"]).await);
    assert!(list.contains("leads to another machine"), "{list}");

    // Put right, it is had at the operator's word.
    stage
        .dns
        .lead("lost.example", Ipv4Addr::LOCALHOST.into())
        .await;
    let renewed = stage
        .proxy
        .command(&["certs", "renew", "lost.example"])
        .await;
    assert!(renewed.status.success(), "{}", said(&renewed));
    from_pebble(&stage.proxy, "lost.example").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_public_authority_is_asked_for_nothing_before_a_word() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let mut stage = Stage::set(&lab, &Manner::default()).await;
    stage.write_with("", &plain_site("app.example.org", &origin.url(), ""));
    stage.proxy.start_again(&lab).await;
    let order = eventually("it waits", SOON, || async {
        let order = order(&stage.proxy, "app.example.org").await;
        (order["state"] == "waiting")
            .then_some(order.clone())
            .ok_or(order)
    })
    .await;
    assert!(order["text"].to_string().contains("certs agree"), "{order}");
    let status = said(&stage.proxy.command(&["status"]).await);
    assert!(status.contains("certs agree"), "{status}");
    // Somebody who has no terminal is told how to say it.
    let agreed = stage.proxy.command(&["certs", "agree"]).await;
    assert!(said(&agreed).contains("--yes"), "{}", said(&agreed));
}
