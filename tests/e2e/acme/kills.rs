//! The daemon is killed at any moment of an order: nothing is broken, and no account is lost.

use std::fs;
use std::time::Duration;

use sovereign_tests::Lab;
use sovereign_tests::pebble::Manner;
use sovereign_tests::served::served;

use super::{Stage, from_pebble, origin, plain_site, standing};

/// How often it is killed.
const LIVES: u64 = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_of_an_order_it_loses_nothing() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let manner = Manner {
        nonces_rejected: 5,
        ..Manner::default()
    };
    let mut stage = Stage::set(&lab, &manner).await;
    let names = ["one.example", "two.example", "three.example"];
    let sites: String = names
        .iter()
        .map(|name| plain_site(name, &origin.url(), ""))
        .collect();
    stage.write(&sites);
    for life in 0..LIVES {
        stage.proxy.start_again_at_once(&lab).await;
        // At first in steps through the making of the account, then over all of an order and its end.
        let moment = match life {
            0..10 => life * 7,
            _ => life * 977 % 1500,
        };
        tokio::time::sleep(Duration::from_millis(moment)).await;
        stage.proxy.kill().await;
        whole(&stage, life);
        if life > 10 && life % 5 == 4 {
            // What was had is had again.
            let folder = stage.proxy.state().join("certs/acme");
            fs::remove_dir_all(&folder).unwrap_or_else(|error| panic!("life {life}: {error}"));
        }
    }
    stage.proxy.start_again(&lab).await;
    for name in names {
        let last = from_pebble(&stage.proxy, name).await;
        assert_eq!(last.names, [name]);
        assert_eq!(served(stage.proxy.secure_address(), name).await, Ok(last));
    }
    assert_eq!(stage.pebble.accounts(), 1, "an account was lost");
    for name in names {
        super::eventually("all is well", super::SOON, || async {
            let standing = standing(&stage.proxy, name).await;
            (standing == "good").then_some(()).ok_or(standing)
        })
        .await;
    }
    stage.proxy.assert_no_panic();
}

/// Every certificate that lies there is a whole one, with its key; nothing half-written stays for good.
fn whole(stage: &Stage, life: u64) {
    let entries = fs::read_dir(stage.proxy.state().join("certs/acme"));
    for entry in entries.into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|kind| kind != "pem") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("it is text");
        let count = |words: &str| text.matches(words).count();
        assert!(
            count("END CERTIFICATE-----") >= 2 && count("PRIVATE KEY-----") == 2,
            "life {life}: {}: {text}",
            path.display()
        );
    }
}
