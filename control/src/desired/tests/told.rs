//! What proxies are told, and what is refused before anybody is told it.

use super::*;

#[test]
fn files_that_the_proxy_needs_come_along() {
    let mut bench = Bench::of("radicale", &[]);
    bench.stack.sites[0].proxy =
        "tls = { cert = \"tls/chain.pem\", key = \"tls/key.pem\" }\nunavailable = \"away.html\"\n"
            .parse()
            .expect("a table");
    let error = bench.render().expect_err("files that were not read");
    let wanted = "the proxy of h1: tls/chain.pem was not read";
    assert_eq!(error.to_string(), wanted);
    let pem = |label: &str| {
        format!("-----BEGIN {label}-----\nMAA=\n-----END {label}-----\n").into_bytes()
    };
    bench.sources = Sources::default()
        .with_named("tls/chain.pem", pem("CERTIFICATE"))
        .with_named("tls/key.pem", pem("PRIVATE KEY"))
        .with_named("away.html", b"<h1>Away</h1>".to_vec());
    let desired = rendered(&bench, "radicale");
    let proxy = &desired.hosts[0].proxy;
    let model = check_proxy(proxy).expect("a sound configuration");
    let sovereign_config::model::Tls::Files { cert, key } = &model.sites[0].tls else {
        panic!("{:?}", model.sites[0].tls);
    };
    for (path, secret) in [(cert, false), (key, true)] {
        let path = path.strip_prefix("/").expect("a path below the folder");
        let file = &proxy.files[path.to_str().expect("UTF-8")];
        assert_eq!((file.secret, file.mode == 0o600), (secret, secret));
    }
}

#[test]
fn what_a_proxy_would_refuse_is_said_by_the_keys_of_the_stack() {
    let mut bench = Bench::of("radicale", &[]);
    bench.stack.sites.insert(0, site(&["other.example.org"]));
    bench.stack.services[0].site = Some(1);
    bench.stack.sites[1].proxy = "tls = \"off\"\nhsts = true\n".parse().expect("a table");
    bench.stack.proxy = "drain = \"2h\"\n".parse().expect("a table");
    let error = bench.render().expect_err("it is refused");
    assert!(error.is_wrong_usage());
    assert_eq!(
        error.to_string(),
        "h1: what its proxy would be told is not sound:\n\
         stack.proxy.drain: found \"2h\", wanted a duration from 0s to 1h\n\
         www.example.org: hsts (site[1].proxy of stack.toml): found hsts beside tls = \"off\", wanted a site with TLS\n  \
         hint: browsers obey it over TLS only; remove it, or tls = \"off\""
    );
    let languages = ("languages", list(&["en", "not a tag"]));
    let error = Bench::of("ghost", &[languages])
        .render()
        .expect_err("no language");
    let text = error.to_string();
    let wanted = "www.example.org: route[0].languages.\"not a tag\" (site[0] of stack.toml, by its services): found \"not a tag\", wanted a language tag";
    assert!(text.contains(wanted), "{text}");
}

#[test]
fn what_is_wrong_is_found_without_secrets_and_digests() {
    let rehearsed = |bench: &Bench| rehearse(&bench.stack, &bench.catalogue, &bench.sources);
    for (kind, bench) in each_choice() {
        rehearsed(&bench).unwrap_or_else(|error| panic!("{kind}: {}", chain(&error)));
    }
    let mut below = Bench::of("radicale", &[]);
    below.stack.services[0].path = "/calendar".into();
    let prune = |number| ("prune", Value::Number(number));
    let table = [
        (below, "radicale: radicale cannot stand below /calendar"),
        (
            Bench::of("bitcoin", &[prune(100)]),
            "bitcoin: rendering bitcoin.conf of bitcoin: invalid operation: prune = 100: bitcoind keeps 550 MiB or more",
        ),
        (
            Bench::of("bitcoin", &[prune(1000), ("txindex", Value::Switch(true))]),
            "txindex = true beside prune = 1000",
        ),
    ];
    for (bench, wanted) in table {
        let error = rehearsed(&bench).expect_err(wanted);
        let text = chain(&error);
        assert!(text.contains(wanted), "{text}");
        assert!(error.is_wrong_usage());
    }
}

#[test]
fn a_password_is_one_line() {
    let bench = Bench::of("ghost", &[]);
    let said = |value: &str| {
        let mut secrets = bench.secrets();
        secrets.insert("ghost.database_password".into(), value.into());
        bench
            .render_with(&secrets)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    let wrong = "ghost: the secret ghost.database_password has more than one line, or signs that are not printed";
    for (value, expected) in [
        ("long-and_plain.1", Ok(())),
        ("one\ntwo", Err(wrong.to_owned())),
        ("one\n", Err(wrong.to_owned())),
        ("o\0ne", Err(wrong.to_owned())),
    ] {
        assert_eq!(said(value), expected, "{value:?}");
    }
}

#[test]
fn what_runs_in_slot_b_is_asked_there() {
    let desired = rendered(&Bench::of("static", &[]), "static");
    let host = &desired.hosts[0];
    let port = host.services[0].port.expect("a port");
    let moved = host.proxy_with(&BTreeSet::from(["static".to_owned()]));
    let upstream = |proxy: &DesiredProxy| {
        let sites = check_proxy(proxy).expect("a sound configuration").sites;
        sites[0].upstream[0].display()
    };
    assert_eq!(upstream(&host.proxy), format!("http://127.0.0.1:{port}"));
    assert_eq!(
        upstream(&moved),
        format!("http://127.0.0.1:{}", port + SLOT_B)
    );
    assert_ne!(moved.revision, host.proxy.revision);
    let same = host.proxy_with(&BTreeSet::new());
    assert_eq!(same, host.proxy);
}

#[test]
fn long_urls_of_a_till_are_let_in() {
    let desired = rendered(&Bench::of("btcpay", &[]), "btcpay");
    let proxy = check_proxy(&desired.hosts[0].proxy).expect("a sound configuration");
    assert_eq!(proxy.limits.header_bytes, 1 << 20);
    let names: Vec<_> = desired.hosts[0]
        .services
        .iter()
        .map(|service| &*service.name)
        .collect();
    assert_eq!(names, ["bitcoin", "lightning", "btcpay"]);
}

#[test]
fn what_cannot_be_rendered_is_said() {
    let without_site = |kind| {
        let mut bench = Bench::of(kind, &[]);
        bench
            .stack
            .services
            .iter_mut()
            .for_each(|service| service.site = None);
        bench
    };
    let below = |kind| {
        let mut bench = Bench::of(kind, &[]);
        bench.stack.services[0].path = "/below".into();
        bench
    };
    let mut alone = Bench::of("lightning", &[]);
    alone.stack.services.remove(0);
    let mut unread = Bench::of("static", &[]);
    unread.sources = Sources::default();
    let bad = [("names", list(&["alice=00"]))];
    let table = [
        (without_site("ghost"), "ghost: ghost needs a site"),
        (
            below("radicale"),
            "radicale: radicale cannot stand below /below",
        ),
        (below("gitea"), "gitea: gitea cannot stand below /below"),
        (alone, "lightning: needs a service of kind bitcoin on h1"),
        (unread, "static: site was not read"),
        (
            Bench::new()
                .service("ghost", &[], Some(0), "/")
                .service("nostr", &[], Some(0), "/"),
            "www.example.org: ghost and nostr are both at /",
        ),
        (
            Bench::of("nostr", &bad),
            "nostr: rendering proxy.toml of nostr: invalid operation: alice: \"00\" is not a public key (in proxy.toml:5)",
        ),
    ];
    for (bench, wanted) in table {
        match bench.render() {
            Err(error) => assert_eq!(chain(&error), wanted),
            Ok(_) => panic!("rendered in place of {wanted}"),
        }
    }
}
