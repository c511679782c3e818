//! Many names at once, under load: no request fails, and nobody is shown a certificate that has lapsed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sovereign_tests::load::{Get, Load, Running};
use sovereign_tests::pebble::Manner;
use sovereign_tests::proxy::said;
use sovereign_tests::served::served;
use sovereign_tests::{Client, Lab, Pebble, Proxy, Target, eventually};
use tokio::task::JoinHandle;

use super::{Stage, origin, plain_site};
use crate::blog::{HOST, POSTS, blog};

/// How many certificates there are, the blog's among them.
const NAMES: usize = 50;
/// How many requests a second there are, over all names.
const RATE: u32 = 500;
/// How long certificates are valid where they are to lapse, in seconds: renewed with a tenth of it left.
const SHORT: u64 = 60;
/// Longer than all of them take, on a machine that is busy with the load.
const PATIENCE: Duration = Duration::from_secs(150);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_names_under_load_where_one_nonce_of_five_is_rejected() {
    under_load(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_names_under_load_where_one_nonce_of_twenty_is_rejected() {
    under_load(5).await;
}

/// Issued, renewed, and replaced for another name.
async fn under_load(nonces_rejected: u32) {
    let lab = Lab::alone().await;
    let blog = blog().await;
    let origin = origin().await;
    let manner = Manner {
        nonces_rejected,
        sleep: Some(2),
        ..Manner::default()
    };
    let mut stage = Stage::set(&lab, &manner).await;
    stage.certificates = "orders = 16".to_owned();
    let names: Vec<_> = (1..NAMES)
        .map(|number| format!("n{number}.example"))
        .collect();
    let sites = |more: &str| -> String {
        let each = |name: &String| {
            let site = plain_site(name, &origin.url(), "");
            site.replace(
                &format!("\"{name}\""),
                &format!("\"{name}\"{}", more.replace('*', name)),
            )
        };
        let sites: String = names.iter().map(each).collect();
        sites + &plain_site(HOST, &blog.ghost.url(), "preset = \"ghost\"")
    };
    stage.write(&sites(""));
    stage.proxy.start_again_at_once(&lab).await;
    let begun = Instant::now();
    eventually(
        "the root of the local authority is there",
        PATIENCE,
        || async { std::fs::metadata(stage.proxy.root_ca()) },
    )
    .await;
    let crowd = Crowd::start(&stage.proxy, &stage.pebble, &names);

    let first = all_from_pebble(&stage.proxy, &names, &BTreeMap::new()).await;
    let issued = begun.elapsed();
    let renewed = stage.proxy.command(&["certs", "renew"]).await;
    let second = all_from_pebble(&stage.proxy, &names, &first).await;
    assert!(renewed.status.success(), "{}", said(&renewed));
    stage.write(&sites(", \"www.*\""));
    stage.proxy.reload().await;
    let third = all_from_pebble(&stage.proxy, &names, &second).await;
    assert_eq!(third.len(), NAMES - 1);
    println!(
        "issued after {issued:.1?}, all after {:.1?}",
        begun.elapsed()
    );
    crowd.end().await;
    assert_eq!(stage.pebble.accounts(), 1);
    stage.proxy.assert_no_panic();
}

/// Waits until every name has another certificate than before, of the authority.
async fn all_from_pebble(
    proxy: &Proxy,
    names: &[String],
    before: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut serials = BTreeMap::new();
    for name in names {
        let serial = eventually("a new certificate for each name", PATIENCE, || async {
            let served = served(proxy.secure_address(), name).await?;
            let new = served.is_pebbles() && before.get(name) != Some(&served.serial);
            new.then_some(served.serial)
                .ok_or(format!("{name}: still the old one"))
        })
        .await;
        serials.insert(name.clone(), serial);
    }
    serials
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_lapses_under_load_is_replaced_before() {
    let lab = Lab::alone().await;
    let origin = origin().await;
    let short = Manner {
        validity: SHORT,
        ..Manner::default()
    };
    let mut stage = Stage::set(&lab, &short).await;
    stage.write(&plain_site("app.example", &origin.url(), ""));
    stage.proxy.start_again(&lab).await;
    let first = super::from_pebble(&stage.proxy, "app.example").await;
    // Nobody else is trusted: what the local authority signs will not do either.
    let target = stage.target("app.example");
    let load = Load::new(&target, 200, |number| Get::path(format!("/{number}"))).start();
    let over = Arc::new(AtomicBool::new(false));
    let newcomer = tokio::spawn(come_and_go(vec![target], over.clone()));

    tokio::time::sleep(Duration::from_secs(2 * SHORT + 5)).await;
    let report = load.stop().await;
    over.store(true, Ordering::Relaxed);
    let (handshakes, failed) = newcomer.await.expect("it ends");
    let (requests, issued) = (report.records.len(), stage.pebble.issued());
    println!("{requests} requests, {handshakes} handshakes, {issued} certificates");
    report.assert_none_failed();
    assert!(failed.is_empty(), "{}: {}", failed.len(), failed[0]);
    // Two lifetimes have passed, and there were enough visitors to notice.
    let last = super::from_pebble(&stage.proxy, "app.example").await;
    assert!(last.valid.0 > first.valid.1, "{first:?}, {last:?}");
    assert!(issued >= 3 && handshakes > 1000 && requests > 10_000);
    stage.proxy.assert_no_panic();
}

/// Visitors of all names, and somebody who comes anew all the time and looks at the certificate.
struct Crowd {
    loads: Vec<Running>,
    over: Arc<AtomicBool>,
    newcomer: JoinHandle<(usize, Vec<String>)>,
}

impl Crowd {
    fn start(proxy: &Proxy, pebble: &Pebble, names: &[String]) -> Self {
        let trusting = |host: &str| trusting(proxy, pebble, host);
        // Nine of the names and the blog share the load; newcomers come to all.
        let mut targets: Vec<_> = names.iter().step_by(6).map(|name| trusting(name)).collect();
        targets.push(trusting(HOST));
        let each = RATE / targets.len() as u32 + 1;
        let loads = targets.into_iter().map(|target| {
            let is_blog = target.host == HOST;
            let load = Load::new(&target, each, move |number| {
                Get::path(match is_blog {
                    true => format!("/post-{}/", number % POSTS),
                    false => format!("/{number}"),
                })
            });
            load.start()
        });
        let loads = loads.collect();
        let over = Arc::new(AtomicBool::new(false));
        let all: Vec<_> = names
            .iter()
            .map(|name| trusting(name))
            .chain([trusting(HOST)])
            .collect();
        let newcomer = tokio::spawn(come_and_go(all, over.clone()));
        Self {
            loads,
            over,
            newcomer,
        }
    }

    async fn end(self) {
        let mut requests = 0;
        for load in self.loads {
            let report = load.stop().await;
            report.assert_none_failed();
            requests += report.records.len();
        }
        self.over.store(true, Ordering::Relaxed);
        let (handshakes, failed) = self.newcomer.await.expect("it ends");
        println!("{requests} requests and {handshakes} handshakes, none failed");
        assert!(
            failed.is_empty(),
            "{} handshakes failed: {}",
            failed.len(),
            failed[0]
        );
        assert!(handshakes > NAMES * 3 && requests > 1000);
    }
}

/// Handshakes with one name after the other; a certificate that is not in force fails them.
async fn come_and_go(targets: Vec<Target>, over: Arc<AtomicBool>) -> (usize, Vec<String>) {
    let mut clock = tokio::time::interval(Duration::from_millis(40));
    let failed = Mutex::new(Vec::new());
    let mut count = 0;
    for target in targets.iter().cycle() {
        if over.load(Ordering::Relaxed) {
            break;
        }
        clock.tick().await;
        count += 1;
        let protocol = if count % 2 == 0 { "h2" } else { "http/1.1" };
        if let Err(error) = target.connect(protocol).await {
            let mut failed = failed.lock().expect("nobody panics with it");
            failed.push(format!("{} over {protocol}: {error}", target.host));
        }
    }
    (count, failed.into_inner().expect("nobody panics with it"))
}

/// Somebody who trusts the authority, and the local one as well: that is what is served at first.
fn trusting(proxy: &Proxy, pebble: &Pebble, host: &str) -> Target {
    let both = |path| std::fs::read_to_string(path).expect("it was made");
    let file = proxy.state().join("both.pem");
    let text = both(proxy.root_ca().as_path()) + &both(pebble.root());
    std::fs::write(&file, text).expect("the folder is ours");
    Target::tls(proxy.secure_address(), host, &file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_names_do_not_come_all_at_once() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let mut stage = Stage::set(&lab, &Manner::default()).await;
    stage.certificates = "orders = 3".to_owned();
    let names: Vec<_> = (0..200)
        .map(|number| format!("n{number}.example"))
        .collect();
    let each = "[site.certificates]\neach = true\n";
    let site = plain_site("NAMES", &origin.url(), each);
    stage.write(&site.replace("\"NAMES\"", &format!("\"{}\"", names.join("\", \""))));
    stage.proxy.start_again(&lab).await;
    eventually("all are issued", PATIENCE, || {
        let issued = stage.pebble.issued();
        std::future::ready(if issued == names.len() {
            Ok(())
        } else {
            Err(issued)
        })
    })
    .await;
    assert_eq!(
        (stage.pebble.orders(), stage.pebble.accounts()),
        (names.len(), 1)
    );
    let most = stage.pebble.most_orders_at_once();
    assert!((1..=3).contains(&most), "{most} orders at once");
    let last = &names[names.len() - 1];
    super::from_pebble(&stage.proxy, last).await;
    let answer = Client::h1(&stage.target(last)).get("/").await;
    assert!(
        answer.status.as_u16() == 308 || answer.status == 200,
        "{answer}"
    );
}
