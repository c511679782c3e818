//! The first certificate: by each challenge, for each kind of name and key.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sovereign_tests::pebble::{Identity, Manner, table};
use sovereign_tests::port::free_address;
use sovereign_tests::proxy::{Launch, said};
use sovereign_tests::served::served;
use sovereign_tests::{ChallTest, Client, Knot, Lab, Pebble, Proxy, Target, eventually};

use super::{SOON, Stage, another, from_pebble, order, origin, plain_site, standing};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_named_site_has_a_certificate_within_seconds_and_nobody_is_disconnected() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let mut proxy = Proxy::prepare_empty(&lab, Launch::default());
    let dns = ChallTest::start(&lab).await;
    // The authority is not there yet, so that somebody comes before the first certificate.
    let (address, identity) = (free_address(), Identity::make(&lab.folder("authority")));
    proxy.write_sites(&format!(
        "[certificates]\nresolver = \"{}\"\n{}{}",
        dns.address(),
        table(address, &identity.ca, ""),
        plain_site("www.app.example", &origin.url(), "")
    ));
    proxy.start_again(&lab).await;
    // Whoever comes first is served by the local authority, and stays connected.
    let early = Client::h2(&proxy.https("www.app.example"));
    let first = served(proxy.secure_address(), "www.app.example").await;
    assert!(!first.expect("a handshake").is_pebbles());
    early.get("/before").await.expect(200);

    let usual = Manner::default();
    let pebble = Pebble::start_at(&lab, address, identity, &proxy, dns.address(), &usual).await;
    let renewed = proxy.command(&["certs", "renew"]).await;
    assert!(renewed.status.success(), "{}", said(&renewed));
    let certificate = from_pebble(&proxy, "www.app.example").await;
    assert_eq!(certificate.names, ["www.app.example"]);
    assert!(certificate.chain >= 2 && !certificate.rsa);
    // On the connection of before: nobody would trust the new certificate for the old root.
    early.get("/after").await.expect(200);
    let trusted = Target::tls(proxy.secure_address(), "www.app.example", pebble.root());
    let answer = Client::h2(&trusted).get("/").await.expect(200);
    assert!(
        answer.header("strict-transport-security").is_empty(),
        "{answer}"
    );

    let order = order(&proxy, "www.app.example").await;
    assert_eq!(order["state"], "good", "{order}");
    assert_eq!(order["challenge"], "http-01", "{order}");
    assert_eq!(order["authority"], pebble.directory(), "{order}");
    assert_eq!((pebble.accounts(), pebble.orders()), (1, 1));
    assert_private(&proxy.state().join("certs/acme"));
    assert_private(&proxy.state().join("acme"));
    proxy.assert_no_panic();
}

/// Nobody but the owner reads what lies there.
fn assert_private(folder: &Path) {
    let mut seen = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("it was made").flatten() {
            let about = entry.metadata().expect("it is there");
            if about.is_dir() {
                folders.push(entry.path());
                continue;
            }
            seen += 1;
            let mode = about.permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", entry.path().display());
        }
    }
    assert!(seen > 0, "nothing lies in {}", folder.display());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_plain_listener_it_is_tls_alpn_01() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let mut stage = Stage::set(&lab, &Manner::default()).await;
    stage.write(&plain_site("app.example", &origin.url(), ""));
    let text = fs::read_to_string(stage.proxy.config()).expect("it was written");
    let text: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with("http = "))
        .collect();
    fs::write(stage.proxy.config(), text.join("\n")).expect("the file is ours");
    stage.proxy.start_again(&lab).await;
    from_pebble(&stage.proxy, "app.example").await;
    let order = order(&stage.proxy, "app.example").await;
    assert_eq!(order["challenge"], "tls-alpn-01", "{order}");
}

/// A proxy for `*.app.example` with an authority, and a DNS server that takes updates for both.
async fn with_knot(lab: &Lab, upstream: &str, more: &str) -> (Proxy, Pebble, Knot) {
    let knot = Knot::start(lab, "app.example").await;
    let mut proxy = Proxy::prepare_empty(lab, Launch::default());
    let pebble = Pebble::start(lab, &proxy, knot.address(), &Manner::default()).await;
    let site = plain_site("app.example", upstream, more)
        .replace("[\"app.example\"]", "[\"*.app.example\", \"app.example\"]");
    let (resolver, dns, authority) = (knot.address(), knot.update(), pebble.table(""));
    proxy.write_sites(&format!(
        "[certificates]\nresolver = \"{resolver}\"\n{dns}\n{authority}{site}"
    ));
    proxy.start_again(lab).await;
    (proxy, pebble, knot)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wildcard_by_a_dns_server_that_takes_updates() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let (proxy, pebble, knot) = with_knot(&lab, &origin.url(), "").await;
    let certificate = from_pebble(&proxy, "any.app.example").await;
    assert_eq!(certificate.names, ["*.app.example", "app.example"]);
    assert_eq!(order(&proxy, "*.app.example").await["state"], "good");
    let trusted = Target::tls(proxy.secure_address(), "any.app.example", pebble.root());
    Client::h2(&trusted).get("/").await.expect(200);
    // Nothing stays behind in the zone.
    eventually("the records are gone", SOON, || {
        let left = knot.records();
        let gone = left.contains("ns1.app.example.") && !left.contains("_acme-challenge");
        std::future::ready(if gone { Ok(()) } else { Err(left) })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wildcard_by_a_record_that_stays() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let more = "[site.certificates]\nchallenges = [\"dns-persist-01\"]\n";
    let (proxy, pebble, knot) = with_knot(&lab, &origin.url(), more).await;
    let first = from_pebble(&proxy, "any.app.example").await;
    assert_eq!(
        order(&proxy, "app.example").await["challenge"],
        "dns-persist-01"
    );
    let record = knot.records();
    assert!(
        record.contains("_validation-persist.app.example."),
        "{record}"
    );
    // The next one needs no other record.
    let renewed = proxy.command(&["certs", "renew"]).await;
    assert!(renewed.status.success(), "{}", said(&renewed));
    another(&proxy, "any.app.example", &first).await;
    assert_eq!(knot.records(), record);
    assert_eq!(pebble.issued(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wildcard_by_a_program() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let mut stage = Stage::set(&lab, &Manner::default()).await;
    // The program tells the DNS server of the lab by its management interface.
    let management = stage.dns.management();
    let program = lab.file(
        "hook",
        format!(
            "#!/bin/sh\nset -eu\necho \"$1 $2 $3 $4\" >>\"$1\"\n\
             case \"$2\" in present) what=set-txt ;; remove) what=clear-txt ;; esac\n\
             curl -sf --data \"{{\\\"host\\\":\\\"$3.\\\",\\\"value\\\":\\\"$4\\\"}}\" \"http://{management}/$what\"\n"
        ),
    );
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).expect("the file is ours");
    let said = lab.path().join("hook.log");
    let more = format!(
        "dns = {{ hook = [\"{}\", \"{}\"] }}",
        program.display(),
        said.display()
    );
    stage.certificates = more;
    let site = plain_site("*.app.example", &origin.url(), "");
    stage.write(&site);
    stage.proxy.start_again(&lab).await;
    let certificate = from_pebble(&stage.proxy, "any.app.example").await;
    assert_eq!(certificate.names, ["*.app.example"]);
    eventually("the record is removed", SOON, || {
        let said = fs::read_to_string(&said).unwrap_or_default();
        let whole = said.contains(" present _acme-challenge.app.example ")
            && said.contains(" remove _acme-challenge.app.example ");
        std::future::ready(if whole { Ok(()) } else { Err(said) })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_certificate_at_once() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let manner = Manner {
        shortlived: Some(6 * 24 * 60 * 60),
        ..Manner::default()
    };
    let mut stage = Stage::set(&lab, &manner).await;
    stage.authority = "profile = \"default\"".to_owned();
    let url = origin.url();
    let named =
        |names: &str, more: &str| plain_site("NAMES", &url, more).replace("\"NAMES\"", names);
    stage.write(
        &(named("\"one.example\", \"www.one.example\"", "")
            + &named(
                "\"each.example\", \"www.each.example\"",
                "[site.certificates]\neach = true\n",
            )
            + &named("\"rsa.example\"", "[site.certificates]\nkey = \"rsa\"\n")
            + &named(
                "\"short.example\"",
                "[site.certificates]\nprofile = \"shortlived\"\n",
            )
            + &named("\"127.0.0.1\"", "tls = \"acme\"\n")),
    );
    stage.proxy.start_again(&lab).await;
    let proxy = &stage.proxy;
    let names = [
        "one.example",
        "www.one.example",
        "each.example",
        "www.each.example",
    ];
    let names = names
        .iter()
        .chain(&["rsa.example", "short.example", "127.0.0.1"]);
    let mut seen = std::collections::BTreeMap::new();
    for name in names {
        seen.insert(*name, from_pebble(proxy, name).await);
    }
    let sorted = |name: &str| {
        let mut names = seen[name].names.clone();
        names.sort();
        names
    };
    assert_eq!(seen["one.example"], seen["www.one.example"]);
    assert_eq!(sorted("one.example"), ["one.example", "www.one.example"]);
    assert_eq!(sorted("each.example"), ["each.example"]);
    assert_eq!(sorted("www.each.example"), ["www.each.example"]);
    assert!(seen["rsa.example"].rsa && !seen["one.example"].rsa);
    let days = |name: &str| (seen[name].valid.1 - seen[name].valid.0) / (24 * 3600);
    assert_eq!((days("short.example"), days("rsa.example")), (5, 89));
    assert_eq!(sorted("127.0.0.1"), ["127.0.0.1"]);
    let trusted = stage.target("127.0.0.1");
    Client::h1(&trusted).get("/").await.expect(200);
    assert_eq!(stage.pebble.accounts(), 1);
    assert_eq!(standing(proxy, "short.example").await, "good");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_is_bound_to_another() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let (id, secret) = (
        "kid-1",
        "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W",
    );
    let manner = Manner {
        account: Some((id, secret)),
        ..Manner::default()
    };
    let mut stage = Stage::set(&lab, &manner).await;
    let site = plain_site("app.example", &origin.url(), "");
    stage.write(&site);
    stage.proxy.start_again(&lab).await;
    // Without it, the operator is told what is missing.
    let word = eventually("the refusal is told", SOON, || async {
        let order = order(&stage.proxy, "app.example").await;
        order["last_error"].as_str().map(str::to_owned).ok_or(order)
    })
    .await;
    assert!(word.contains("eab"), "{word}");
    let key = lab.file("eab.key", secret);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("the file is ours");
    stage.authority = format!("eab = {{ kid = \"{id}\", key = \"{}\" }}", key.display());
    stage.write(&site);
    stage.proxy.reload().await;
    from_pebble(&stage.proxy, "app.example").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn until_then_plain_http_answers_where_that_is_wanted() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let mut proxy = Proxy::prepare_empty(&lab, Launch::default());
    let dns = ChallTest::start(&lab).await;
    // Nobody is there yet who could issue it.
    let address = free_address();
    let roots = Identity::make(&lab.folder("nobody")).ca;
    let text = |authority: &str| {
        format!(
            "[certificates]\nresolver = \"{}\"\n{authority}{}",
            dns.address(),
            plain_site(
                "app.example",
                &origin.url(),
                "[site.certificates]\nuntil = \"http\"\n"
            )
        )
    };
    proxy.write_sites(&text(&table(address, &roots, "")));
    proxy.start_again(&lab).await;
    let plain = Client::h1(&proxy.http("app.example"));
    plain.get("/").await.expect(200);
    // What is stored meanwhile can be purged by the URL that visitors have.
    let purge = async || proxy.command(&["purge", "http://app.example/"]).await;
    let purged = purge().await;
    assert!(purged.status.success(), "{}", said(&purged));
    let pebble = Pebble::start(&lab, &proxy, dns.address(), &Manner::default()).await;
    proxy.write_sites(&text(&pebble.table("")));
    proxy.reload().await;
    from_pebble(&proxy, "app.example").await;
    let answer = plain.get("/page").await.expect(308);
    assert!(
        answer.header("location").starts_with("https://app.example"),
        "{answer}"
    );
    let refused = said(&purge().await);
    assert!(refused.contains("the site redirects"), "{refused}");
}
