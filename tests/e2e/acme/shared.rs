//! Several proxies under the same names: what one has the others have, and nothing is ordered twice.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use sovereign_tests::pebble::Manner;
use sovereign_tests::proxy::{Launch, said};
use sovereign_tests::served::{Served, served};
use sovereign_tests::{ChallTest, Client, Etcd, Lab, Pebble, Proxy, Target, eventually};

use super::{another, from_pebble, order, origin, plain_site};

/// What proxies under the same names have in common.
struct Common {
    dns: ChallTest,
    pebble: Pebble,
    etcd: Etcd,
}

impl Common {
    /// The authority looks at challenges on the ports of `asked` alone.
    async fn start(lab: &Lab, asked: &Proxy) -> Self {
        let dns = ChallTest::start(lab).await;
        let pebble = Pebble::start(lab, asked, dns.address(), &Manner::default()).await;
        let etcd = Etcd::start(lab).await;
        Self { dns, pebble, etcd }
    }

    /// Writes the configuration of one of them, with these sites.
    fn write(&self, proxy: &Proxy, sites: &str) {
        let (dns, etcd) = (self.dns.address(), self.etcd.url());
        let authority = self.pebble.table("");
        proxy.write_sites(&format!(
            "[certificates]\nresolver = \"{dns}\"\nshared = {{ etcd = [\"{etcd}\"] }}\n{authority}{sites}"
        ));
    }

    /// A page, by a new connection of somebody who trusts the authority.
    async fn visit(&self, proxy: &Proxy, host: &str) {
        let target = Target::tls(proxy.secure_address(), host, self.pebble.root());
        Client::h2(&target).get("/").await.expect(200);
    }
}

fn prepare(lab: &Lab) -> Proxy {
    Proxy::prepare_empty(lab, Launch::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_answers_the_challenges_of_another() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let (mut orders, mut answers) = (prepare(&lab), prepare(&lab));
    let common = Common::start(&lab, &answers).await;
    let names = [("http.example", "http-01"), ("alpn.example", "tls-alpn-01")];
    let sites = |more: &dyn Fn(&str) -> String| -> String {
        let site = |(name, way): &(&str, &str)| plain_site(name, &origin.url(), &more(way));
        names.iter().map(site).collect()
    };
    common.write(&answers, &sites(&|_| "tls = \"local\"".to_owned()));
    common.write(
        &orders,
        &sites(&|way| format!("[site.certificates]\nchallenges = [\"{way}\"]\n")),
    );
    answers.start_again(&lab).await;
    orders.start_again(&lab).await;
    for (name, way) in names {
        from_pebble(&orders, name).await;
        assert_eq!(order(&orders, name).await["challenge"], way);
        // Who answers for it goes on with its own.
        let own = served(answers.secure_address(), name).await;
        assert!(!own.expect("a handshake").is_pebbles());
    }
    assert_eq!((common.pebble.orders(), common.pebble.issued()), (2, 2));
    assert_eq!((issued(&orders).await, issued(&answers).await), (2, 0));
    // The authority has asked there, where it alone could.
    let path = "/.well-known/acme-challenge/";
    let asked = answers.access_log();
    let is_answer = |line: &Value| line.to_string().contains(path) && line["status"] == 200;
    assert!(asked.iter().any(is_answer), "{asked:?}");
    answers.assert_no_panic();
    orders.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn together_they_order_each_certificate_once() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let mut proxies = [prepare(&lab), prepare(&lab), prepare(&lab)];
    let common = Common::start(&lab, &proxies[0]).await;
    let names: Vec<_> = (0..NAMES).map(|n| format!("n{n}.example")).collect();
    let each = "[site.certificates]\neach = true\n";
    let site = plain_site("NAMES", &origin.url(), each);
    let site = site.replace("\"NAMES\"", &format!("\"{}\"", names.join("\", \"")));
    for proxy in &proxies {
        common.write(proxy, &site);
    }
    let [one, two, late] = &mut proxies;
    tokio::join!(one.start_again(&lab), two.start_again(&lab));
    let first = all(one, &names).await;
    assert_eq!(all(two, &names).await, first);
    // One that joins them has what they have, however much it is.
    late.start_again(&lab).await;
    assert_eq!(all(late, &names).await, first);

    let counts = [issued(one).await, issued(two).await, issued(late).await];
    assert_eq!(counts[2], 0, "{counts:?}");
    assert_eq!(counts.iter().sum::<usize>(), NAMES, "{counts:?}");
    assert_eq!(
        (common.pebble.orders(), common.pebble.issued()),
        (NAMES, NAMES)
    );
    for proxy in &proxies {
        common.visit(proxy, &names[0]).await;
        proxy.assert_no_panic();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_shared_store_is_away_all_is_served_and_said() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let (mut one, mut two) = (prepare(&lab), prepare(&lab));
    let common = Common::start(&lab, &one).await;
    let host = "app.example";
    for proxy in [&one, &two] {
        common.write(proxy, &plain_site(host, &origin.url(), ""));
    }
    tokio::join!(one.start_again(&lab), two.start_again(&lab));
    let first = from_pebble(&one, host).await;
    assert_eq!(from_pebble(&two, host).await, first);
    for proxy in [&one, &two] {
        assert_eq!(trouble(proxy).await, None);
    }

    common.etcd.freeze();
    for proxy in [&one, &two] {
        let word = eventually("the trouble is told", TOLD, || async {
            trouble(proxy).await.ok_or("nothing is said")
        })
        .await;
        assert!(word.contains(&common.etcd.url()), "{word}");
        let status = said(&proxy.command(&["status"]).await);
        assert!(status.contains("shared store"), "{status}");
        common.visit(proxy, host).await;
        assert_eq!(
            served(proxy.secure_address(), host).await,
            Ok(first.clone())
        );
    }

    common.etcd.thaw();
    for proxy in [&one, &two] {
        eventually("the trouble is over", TOLD, || async {
            trouble(proxy).await.map_or(Ok(()), Err)
        })
        .await;
    }
    // What is had by one reaches the other again.
    let renewed = one.command(&["certs", "renew"]).await;
    assert!(renewed.status.success(), "{}", said(&renewed));
    let second = another(&one, host, &first).await;
    assert_eq!(another(&two, host, &first).await, second);
    assert_eq!(common.pebble.issued(), 2);
    assert_eq!(issued(&one).await + issued(&two).await, 1);
    one.assert_no_panic();
    two.assert_no_panic();
}

/// What is served for each name, once it is of the authority.
async fn all(proxy: &Proxy, names: &[String]) -> BTreeMap<String, Served> {
    let mut all = BTreeMap::new();
    for name in names {
        all.insert(name.clone(), from_pebble(proxy, name).await);
    }
    all
}

/// How many certificates were issued to this proxy, as its history tells.
async fn issued(proxy: &Proxy) -> usize {
    let overview = overview(proxy).await;
    let events = overview["events"].as_array().cloned().unwrap_or_default();
    events.iter().filter(|one| one["what"] == "issued").count()
}

/// What `certs` and `status` say of the shared store, which is the same.
async fn trouble(proxy: &Proxy) -> Option<String> {
    let told = |all: &Value| {
        let trouble = &all["acme"]["store_trouble"];
        assert!(trouble.is_null() || trouble.is_string(), "{all:#}");
        trouble.as_str().map(str::to_owned)
    };
    let (certs, status) = (overview(proxy).await, proxy.status().await);
    told(&certs).and(told(&status))
}

/// `certs --json`.
async fn overview(proxy: &Proxy) -> Value {
    let output = proxy.command(&["certs", "--json"]).await;
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// How many certificates there are.
const NAMES: usize = 20;
/// Within seconds: one beat and one call that is not answered, on a machine that is busy.
const TOLD: Duration = Duration::from_secs(20);
