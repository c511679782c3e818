//! Certificates from authorities: which sites ask for them, of whom, and how names are proved.

use std::path::Path;

use sovereign_config::model::{
    Challenge, Dns, KeyKind, Proxy, Tls, TlsPolicy, TsigAlgorithm, Until,
};

use crate::write_certificate;

/// The model of a text in a folder that holds certificates and secrets.
fn sound(text: &str) -> Proxy {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_certificate(folder.path());
    sovereign_config::parse("proxy.toml", text, folder.path())
        .unwrap_or_else(|report| panic!("{report}"))
}

fn site(names: &str, keys: &str) -> String {
    format!("[[site]]\nnames = {names}\nupstream = \"demo\"\n{keys}\n")
}

const OWN: &str = "[[acme]]\ndirectory = \"https://ca.internal/directory\"\n";

#[test]
fn sites_ask_an_authority_where_one_can_certify_them() {
    let table = [
        ("\"www.example.org\"", "", Tls::Acme, Tls::Acme),
        ("\"9.9.9.9\"", "", Tls::Acme, Tls::Acme),
        ("\"localhost\"", "", Tls::Local, Tls::Acme),
        ("[\"a.test\", \"192.168.1.5\"]", "", Tls::Local, Tls::Acme),
        ("\"*\"", "", Tls::Local, Tls::Local),
        (
            "\"www.example.org\"",
            "tls = \"local\"",
            Tls::Local,
            Tls::Local,
        ),
        ("\"www.example.org\"", "tls = \"off\"", Tls::Off, Tls::Off),
        (
            "\"www.example.org\"",
            "tls = \"acme\"",
            Tls::Acme,
            Tls::Acme,
        ),
    ];
    for (names, keys, plain, own) in table {
        let text = site(names, keys);
        assert_eq!(sound(&text).sites[0].tls, plain, "{names} {keys}");
        let text = format!("{OWN}{text}");
        assert_eq!(
            sound(&text).sites[0].tls,
            own,
            "{names} {keys}, own authority"
        );
    }
}

#[test]
fn terms_are_agreed_to_by_naming_an_authority() {
    let [public] = &sound(&site("\"a.example.org\"", "")).acme[..] else {
        panic!("one authority by default");
    };
    assert_eq!(
        public.directory,
        "https://acme-v02.api.letsencrypt.org/directory"
    );
    assert!(!public.agreed && public.staging.is_some());
    let text = format!(
        "{OWN}[[acme]]\ndirectory = \"{}\"\n{}",
        public.directory,
        site("\"a.example.org\"", "")
    );
    let [own, named] = &sound(&text).acme[..] else {
        panic!("two authorities");
    };
    assert!(own.agreed && own.staging.is_none() && own.eab.is_none());
    assert!(named.agreed && named.staging == public.staging);
}

#[test]
fn wishes_of_a_site_arrive() {
    let plain = sound(&site("\"a.example.org\"", ""));
    let wishes = &plain.sites[0].certificates;
    assert_eq!((wishes.each, wishes.pin_key), (false, false));
    assert_eq!((wishes.key, wishes.until), (KeyKind::Ecdsa, Until::Local));
    assert!(wishes.challenges.is_empty() && wishes.profile.is_none());
    assert_eq!(plain.sites[0].tls_policy, TlsPolicy::Intermediate);
    assert_eq!(plain.certificates.orders, 4);

    let keys = "tls_policy = \"modern\"\n[site.certificates]\neach = true\nkey = \"rsa\"\npin_key = true\n\
        challenges = [\"tls-alpn-01\", \"http-01\"]\nprofile = \"shortlived\"\nuntil = \"http\"";
    let proxy = sound(&site("\"a.example.org\"", keys));
    let wishes = &proxy.sites[0].certificates;
    assert!(wishes.each && wishes.pin_key);
    assert_eq!((wishes.key, wishes.until), (KeyKind::Rsa, Until::Http));
    assert_eq!(wishes.challenges, [Challenge::TlsAlpn01, Challenge::Http01]);
    assert_eq!(wishes.profile.as_deref(), Some("shortlived"));
    assert_eq!(proxy.sites[0].tls_policy, TlsPolicy::Modern);
}

#[test]
fn records_go_into_the_dns_by_update_or_by_a_program() {
    let server = |written: &str| {
        let text = format!(
            "[certificates]\ndns = {{ server = \"{written}\", key_name = \"Acme.\", key = \"tsig.key\", algorithm = \"hmac-sha384\" }}\n{}",
            site("\"*.example.org\"", "")
        );
        match sound(&text).certificates.dns {
            Some(Dns::Update {
                server,
                zone,
                key_name,
                algorithm,
                key,
            }) => {
                assert_eq!((zone, key_name.as_str()), (None, "acme"));
                assert_eq!(algorithm, TsigAlgorithm::Sha384);
                assert!(key.ends_with("tsig.key"));
                server
            }
            other => panic!("{other:?}"),
        }
    };
    for (written, host, port) in [
        ("ns1.example.org", "ns1.example.org", 53),
        ("NS1.example.org:5353", "ns1.example.org", 5353),
        ("192.0.2.53", "192.0.2.53", 53),
        ("192.0.2.53:54", "192.0.2.53", 54),
        ("2001:db8::53", "2001:db8::53", 53),
        ("[2001:db8::53]:54", "2001:db8::53", 54),
    ] {
        assert_eq!(server(written), (host.to_owned(), port));
    }
    let hook = "[certificates]\ndns = { hook = [\"/bin/sh\", \"-c\"] }\n";
    let proxy = sound(&format!("{hook}{}", site("\"*.example.org\"", "")));
    let words = ["/bin/sh", "-c"].map(str::to_owned).to_vec();
    assert_eq!(proxy.certificates.dns, Some(Dns::Hook(words)));
}

#[test]
fn what_is_shared_and_shown_arrives() {
    let text = "[certificates]\n\
        shared = { etcd = [\"http://127.0.0.1:2379/\", \"https://etcd.internal:2379\"], user = \"u\", password = \"etcd-password\" }\n\
        feed = { site = \"A.example.org\", path = \"/news\", secret = \"feed-secret\" }\n";
    let proxy = sound(&format!("{text}{}", site("\"a.example.org\"", "")));
    let shared = proxy.certificates.shared.expect("it was written");
    assert_eq!(
        shared.endpoints,
        ["http://127.0.0.1:2379", "https://etcd.internal:2379"]
    );
    assert_eq!(shared.prefix, "/sovereign");
    assert!(shared.identity.is_none() && shared.user.is_some());
    let feed = proxy.certificates.feed.expect("it was written");
    assert_eq!(
        (feed.site.as_str(), feed.path.as_str()),
        ("a.example.org", "/news")
    );
}

#[test]
fn what_only_bearers_see_is_not_stored_unless_the_route_says_so() {
    let keys = "[site.cache]\nenabled = true\n\
        [[site.route]]\npath = \"/a\"\nclient_ca = \"clients.pem\"\n\
        [[site.route]]\npath = \"/b\"\nclient_ca = \"clients.pem\"\ncache = { enabled = true }\n\
        [[site.route]]\npath = \"/c\"\n";
    let routes = &sound(&site("\"a.test\"", keys)).sites[0].routes;
    let seen: Vec<_> = routes
        .iter()
        .map(|route| (route.client_ca.is_some(), route.cache.enabled))
        .collect();
    assert_eq!(seen, [(true, false), (true, true), (false, true)]);
    assert_eq!(routes[0].client_ca, Some(vec![vec![0x30, 0]]));
}

#[test]
fn secrets_in_files_are_not_shown() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("writable");
    };
    write("secret", "hunter2 hunter2");
    let text = format!(
        "[[acme]]\ndirectory = \"https://ca.internal/directory\"\neab = {{ kid = \"1\", key = \"secret\" }}\n\
         [certificates]\ndns = {{ server = \"ns1\", key_name = \"k\", key = \"secret\" }}\n\
         feed = {{ site = \"a.test\", path = \"/news\", secret = \"secret\" }}\n{}",
        site("\"a.test\"", "")
    );
    let report = sovereign_config::parse("proxy.toml", &text, folder.path()).expect_err("bad");
    assert!(report.problems.len() >= 3, "{report}");
    assert!(!report.to_string().contains("hunter2"), "{report}");
    let missing = sovereign_config::parse("proxy.toml", &text, Path::new("/nonexistent"));
    assert!(missing.is_err());
}
