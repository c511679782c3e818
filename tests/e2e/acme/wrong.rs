//! An authority issues what nobody asked for: the old certificate goes on, it is said what is wrong, and the
//! next authority is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sovereign_tests::broken_ca::{Fault, Wrong};
use sovereign_tests::pebble::Manner;
use sovereign_tests::proxy::said;
use sovereign_tests::served::{Served, served};
use sovereign_tests::{BrokenCa, Client, Lab, Proxy, Target, eventually};
use tokio::task::JoinHandle;

use super::{SOON, Stage, another, order, origin, plain_site};

const NAME: &str = "app.example";
/// How soon the second authority has to be used.
const PROMISED: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_for_another_name_is_not_used() {
    let words = "the certificate does not cover app.example; it covers other.example";
    is_not_used(Wrong::Name, words).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_for_another_key_is_not_used() {
    let words = "the private key does not belong to the certificate";
    is_not_used(Wrong::Key, words).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_has_lapsed_is_not_used() {
    is_not_used(Wrong::Lapsed, "certificate 1 of the chain lapsed on").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whose_time_has_not_come_is_not_used() {
    let words = "certificate 1 of the chain is valid only from";
    is_not_used(Wrong::Early, words).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_with_the_chain_of_another_is_not_used() {
    let words = "the chain is broken: certificate 1 is not signed by the next";
    is_not_used(Wrong::Chain, words).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_without_what_signed_it_is_not_used() {
    let words = "it came without the certificate that signed it, the lab, which is no root";
    is_not_used(Wrong::Bare, words).await;
}

/// A certificate of an authority that issues wrong ones from then on: alone, then with another one after it.
async fn is_not_used(wrong: Wrong, words: &str) {
    let lab = Lab::open().await;
    let origin = origin().await;
    let mut stage = Stage::set(&lab, &Manner::default()).await;
    let first = BrokenCa::start(&lab, Fault::Issues(Wrong::Nothing)).await;
    let site = plain_site(NAME, &origin.url(), "");
    stage.write_with(&first.table(), &site);
    stage.proxy.start_again(&lab).await;
    // So that what is wrong later is what is wrong, and nothing else.
    let old = eventually("what is right is used", SOON, || async {
        let served = served(stage.proxy.secure_address(), NAME).await?;
        let is_its = served.chain == 2 && served.issuer.contains("the lab");
        is_its.then_some(served.clone()).ok_or(served.issuer)
    })
    .await;
    let watch = Watch::start(&stage.proxy);

    first.breaks(Fault::Issues(wrong));
    let told = not_renewed(&stage.proxy, words).await;
    assert!(told.contains("the one in force stays"), "{told}");
    assert_eq!(
        served(stage.proxy.secure_address(), NAME).await.as_ref(),
        Ok(&old)
    );
    Client::h2(&Target::tls(
        stage.proxy.secure_address(),
        NAME,
        first.root(),
    ))
    .get("/")
    .await
    .expect(200);

    stage.write_with(&(first.table() + &stage.pebble.table("")), &site);
    stage.proxy.reload().await;
    let (begun, hits) = (Instant::now(), first.hits());
    let renewed = stage.proxy.command(&["certs", "renew", NAME]).await;
    assert!(renewed.status.success(), "{wrong:?}: {}", said(&renewed));
    let new = another(&stage.proxy, NAME, &old).await;
    let took = begun.elapsed();
    assert!(
        took < PROMISED,
        "{wrong:?}: the second was used after {took:.1?}"
    );
    assert!(new.is_pebbles(), "{wrong:?}: {}", new.issuer);
    assert!(first.hits() > hits, "{wrong:?}: the first was not asked");
    let told = order(&stage.proxy, NAME).await;
    assert_eq!(told["authority"], stage.pebble.directory(), "{told}");
    assert!(told["last_error"].is_null(), "{told}");
    let list = said(&stage.proxy.command(&["certs"]).await);
    assert!(list.contains("before it was asked"), "{wrong:?}: {list}");
    Client::h2(&stage.target(NAME)).get("/").await.expect(200);
    assert_eq!(watch.end().await, [old, new], "{wrong:?}");
    stage.proxy.assert_no_panic();
}

/// Has it renewed, which fails; `status`, `certs` and the metrics say why. Gives what `status` says.
async fn not_renewed(proxy: &Proxy, words: &str) -> String {
    let renewed = proxy.command(&["certs", "renew", NAME]).await;
    let text = said(&renewed);
    assert_eq!(renewed.status.code(), Some(1), "{text}");
    assert!(text.contains(words), "{text}");
    let told = order(proxy, NAME).await;
    let error = told["last_error"].as_str().unwrap_or_default().to_owned();
    assert!(error.contains(words), "{told}");
    let list = said(&proxy.command(&["certs"]).await);
    assert!(list.contains("failed") && list.contains(words), "{list}");
    let metrics = proxy.metrics().await;
    let is_counted = |line: &str| line.contains("attempts") && line.contains("outcome=\"unfit\"");
    assert!(metrics.lines().any(is_counted), "{metrics}");
    error
}

/// Somebody who looks at the certificate all the time.
struct Watch {
    over: Arc<AtomicBool>,
    looks: JoinHandle<Vec<Served>>,
}

impl Watch {
    fn start(proxy: &Proxy) -> Self {
        let (address, over) = (proxy.secure_address(), Arc::new(AtomicBool::new(false)));
        let is_over = over.clone();
        let looks = tokio::spawn(async move {
            let mut seen = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let served = served(address, NAME).await.expect("it is always served");
                if seen.last() != Some(&served) {
                    seen.push(served);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            seen
        });
        Self { over, looks }
    }

    /// What was served, one after the other.
    async fn end(self) -> Vec<Served> {
        self.over.store(true, Ordering::Relaxed);
        self.looks.await.expect("it ends")
    }
}
