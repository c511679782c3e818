//! Renewed when the authority says so, and by the operator; the key stays only where it is to.

use sovereign_tests::pebble::Manner;
use sovereign_tests::proxy::said;
use sovereign_tests::{Client, Lab};

use super::{Stage, another, from_pebble, order, origin, plain_site};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_authority_revokes_is_replaced_at_once() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let mut stage = Stage::set(&lab, &Manner::default()).await;
    stage.write(&plain_site("app.example", &origin.url(), ""));
    stage.proxy.start_again(&lab).await;
    let mut old = from_pebble(&stage.proxy, "app.example").await;
    // Pebble finds no order by a number that begins with a zero byte, though that byte is part of it (RFC 9773,
    // 4.1): one in some hundred is of that kind.
    while old.serial.starts_with("00") {
        let renewed = stage.proxy.command(&["certs", "renew"]).await;
        assert!(renewed.status.success(), "{}", said(&renewed));
        old = another(&stage.proxy, "app.example", &old).await;
    }
    let replaced = stage.pebble.said("is a replacement of");
    let before = Client::h2(&stage.target("app.example"));
    before.get("/").await.expect(200);

    // An authority that has revoked, or will, moves the window into the past (RFC 9773, 4.2).
    let (start, end) = ("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z");
    stage.pebble.wants_renewal(&old.pem(), start, end).await;
    // Its word is good for six hours; a new process asks at once.
    stage.proxy.upgrade().await;
    let new = another(&stage.proxy, "app.example", &old).await;
    assert!(new.is_pebbles() && new.key != old.key, "the key stayed");
    assert_eq!(stage.pebble.said("is a replacement of"), replaced + 1);
    let list = said(&stage.proxy.command(&["certs", "list"]).await);
    assert!(list.contains("renewed"), "{list}");
    before.get("/").await.expect(200);
    stage.proxy.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_rolled_unless_it_is_pinned() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let mut stage = Stage::set(&lab, &Manner::default()).await;
    let pinned = "[site.certificates]\npin_key = true\n";
    stage.write(
        &(plain_site("rolled.example", &origin.url(), "")
            + &plain_site("pinned.example", &origin.url(), pinned)),
    );
    stage.proxy.start_again(&lab).await;
    let rolled = from_pebble(&stage.proxy, "rolled.example").await;
    let pinned = from_pebble(&stage.proxy, "pinned.example").await;
    let open = Client::h2(&stage.target("rolled.example"));
    open.get("/").await.expect(200);

    let renewed = stage.proxy.command(&["certs", "renew"]).await;
    assert!(renewed.status.success(), "{}", said(&renewed));
    let rolled_again = another(&stage.proxy, "rolled.example", &rolled).await;
    let pinned_again = another(&stage.proxy, "pinned.example", &pinned).await;
    assert_ne!(rolled_again.key, rolled.key);
    assert_eq!(pinned_again.key, pinned.key);
    assert_eq!(stage.pebble.issued(), 4);
    // Open connections live on.
    open.get("/").await.expect(200);
    let nobody = stage
        .proxy
        .command(&["certs", "renew", "other.example"])
        .await;
    assert_eq!(nobody.status.code(), Some(1), "{}", said(&nobody));
    assert!(said(&nobody).contains("other.example"), "{}", said(&nobody));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_names_or_another_kind_of_key_replace_it() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let mut stage = Stage::set(&lab, &Manner::default()).await;
    stage.write(&plain_site("app.example", &origin.url(), ""));
    stage.proxy.start_again(&lab).await;
    let first = from_pebble(&stage.proxy, "app.example").await;

    let two = |more: &str| {
        plain_site("app.example", &origin.url(), more)
            .replace("\"app.example\"", "\"app.example\", \"www.app.example\"")
    };
    stage.write(&two(""));
    stage.proxy.reload().await;
    let second = another(&stage.proxy, "app.example", &first).await;
    assert_eq!(second.names, ["app.example", "www.app.example"]);
    stage.write(&two("[site.certificates]\nkey = \"rsa\"\n"));
    stage.proxy.reload().await;
    let third = another(&stage.proxy, "app.example", &second).await;
    assert!(third.rsa);
    assert_eq!(
        order(&stage.proxy, "www.app.example").await["state"],
        "good"
    );
}
