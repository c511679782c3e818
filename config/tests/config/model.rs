//! Written values arrive in the model, with presets and sites laid under their routes.

use std::time::Duration;

use sovereign_config::model::{Action, PathPattern, Proxy, Tls};

use crate::{parse, write_certificate};

fn sound(text: &str) -> Proxy {
    parse(text).unwrap_or_else(|report| panic!("{report}"))
}

fn site(keys: &str) -> String {
    format!("[[site]]\nnames = \"a.example\"\nupstream = \"demo\"\n{keys}")
}

#[test]
fn defaults_are_what_the_documentation_says() {
    let proxy = sound(&site(""));
    assert_eq!(
        proxy.admin.to_str(),
        Some("/var/lib/sovereign-proxy/admin.sock")
    );
    assert_eq!(proxy.drain, Duration::from_secs(30));
    assert_eq!(proxy.listen.http, ["[::]:80".parse().expect("an address")]);
    assert_eq!(
        proxy.listen.https,
        ["[::]:443".parse().expect("an address")]
    );
    assert_eq!(
        (proxy.cache.memory, proxy.cache.disk, proxy.cache.max_object),
        (256 << 20, 10 << 30, 1 << 30)
    );
    assert_eq!(
        (proxy.limits.connections, proxy.limits.header_bytes),
        (20_000, 64 << 10)
    );
    let site = &proxy.sites[0];
    assert_eq!(
        (&site.tls, &site.hsts, site.hold),
        (&Tls::Local, &None, Duration::from_secs(15))
    );
    assert_eq!(site.cache.stale_if_error, Duration::from_secs(86_400));
    assert!(site.cache.enabled && site.routes.is_empty());
}

#[test]
fn https_is_not_listened_to_where_no_site_uses_it() {
    assert_eq!(sound(&site("tls = \"off\"")).listen.https, []);
    let both = format!(
        "{}{}",
        site("tls = \"off\"\n"),
        site("").replace("a.example", "b.example")
    );
    assert_eq!(sound(&both).listen.https.len(), 1);
}

#[test]
fn hsts_is_on_by_default_for_certificate_files_only() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_certificate(folder.path());
    let hsts = |keys: &str| {
        let text = site(&format!(
            "tls = {{ cert = \"chain.pem\", key = \"key.pem\" }}\n{keys}"
        ));
        let proxy = sovereign_config::parse("proxy.toml", &text, folder.path());
        let hsts = proxy.unwrap_or_else(|report| panic!("{report}")).sites[0]
            .hsts
            .clone();
        hsts.map(|value| value.to_str().expect("plain").to_owned())
    };
    assert_eq!(hsts("").as_deref(), Some("max-age=31536000"));
    assert_eq!(hsts("hsts = true").as_deref(), Some("max-age=31536000"));
    assert_eq!(hsts("hsts = \"1d\"").as_deref(), Some("max-age=86400"));
    assert_eq!(hsts("hsts = false"), None);
}

#[test]
fn names_are_lower_case_and_addresses_lose_their_brackets() {
    let text = "[[site]]\nnames = [\"WWW.Example.org\", \"192.0.2.1\", \"[2001:DB8::1]\"]\nupstream = \"demo\"\ntls = \"local\"\n";
    assert_eq!(
        sound(text).sites[0].names,
        ["www.example.org", "192.0.2.1", "2001:db8::1"]
    );
}

#[test]
fn keys_of_the_site_win_over_its_preset() {
    let text = site(
        r#"preset = "ghost"
        restarting = []
        [site.cache]
        lifetime = "5m"
        session_cookies = "mine"
        [[site.route]]
        path = "/p/"
        cache = { enabled = true, stale = "1h" }
        [[site.route]]
        path = "/mine"
        cache = "bypass"
        "#,
    );
    let site = &sound(&text).sites[0];
    assert!(site.restarting.is_empty());
    assert_eq!(site.cache.lifetime, Some(Duration::from_secs(300)));
    assert_eq!(site.cache.stale, Some(Duration::from_secs(7 * 86_400)));
    let cookies: Vec<_> = site
        .cache
        .session_cookies
        .iter()
        .map(String::as_str)
        .collect();
    assert_eq!(
        cookies,
        ["ghost-admin-api-session", "ghost-members-ssr", "mine"]
    );
    let paths: Vec<_> = site
        .routes
        .iter()
        .map(|route| (&route.path, route.cache.enabled))
        .collect();
    let prefix = |path: &str| PathPattern::Prefix(path.to_owned());
    let wanted = [
        (prefix("/p/"), true),
        (prefix("/mine"), false),
        (prefix("/ghost/"), false),
        (prefix("/members/"), false),
        (prefix("/members/api/"), false),
        (prefix("/webmentions/"), false),
    ];
    assert_eq!(
        paths,
        wanted
            .iter()
            .map(|(path, on)| (path, *on))
            .collect::<Vec<_>>()
    );
    // The route's rules lie over those of the site.
    assert_eq!(site.routes[0].cache.stale, Some(Duration::from_secs(3_600)));
    assert_eq!(
        site.routes[0].cache.lifetime,
        Some(Duration::from_secs(300))
    );
    assert_eq!(site.routes[0].cache.session_cookies.len(), 3);
}

#[test]
fn a_site_of_redirects_needs_no_upstream() {
    let text = "[[site]]\nnames = \"a.example\"\n[[site.route]]\npath = \"/\"\nredirect = \"https://b.example{path}\"\n";
    let site = &sound(text).sites[0];
    assert!(site.upstream.is_empty());
    let Action::Redirect { to, status } = &site.routes[0].action else {
        panic!("{:?}", site.routes[0].action);
    };
    assert_eq!(
        (to.as_str(), status.as_u16()),
        ("https://b.example{path}", 308)
    );
}

#[test]
fn prefixes_end_at_segments_and_globs_take_whole_paths() {
    let table = [
        ("/", "/anything", true),
        ("/a", "/a", true),
        ("/a", "/a/b", true),
        ("/a", "/ab", false),
        ("/a/", "/a", false),
        ("/a/", "/a/b", true),
        ("/a*", "/ab/c", true),
        ("/*.zip", "/a/b.zip", true),
        ("/*.zip", "/a/b.zip/c", false),
        ("/a/*/c", "/a/b/b/c", true),
        ("/a/*/c", "/a/c", false),
        (
            "/*a*a*a*a*b",
            "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            false,
        ),
    ];
    for (pattern, path, taken) in table {
        let proxy = sound(&site(&format!("[[site.route]]\npath = \"{pattern}\"\n")));
        assert_eq!(
            proxy.sites[0].routes[0].path.matches(path),
            taken,
            "{pattern} {path}"
        );
    }
    let literal = |pattern: &str| {
        sound(&site(&format!("[[site.route]]\npath = \"{pattern}\"\n"))).sites[0].routes[0]
            .path
            .literal_len()
    };
    assert_eq!(
        (literal("/ghost/*"), literal("/a*b*"), literal("/")),
        (7, 3, 1)
    );
}

#[test]
fn secrets_are_not_in_the_debug_output() {
    let text = site("[site.request_headers]\nset = { Authorization = \"hunter2\" }\n");
    assert!(!format!("{:?}", sound(&text)).contains("hunter2"));
}

/// What the users of an application otherwise learn the hard way.
#[test]
fn presets_give_an_application_its_time() {
    for (preset, first_byte, idle) in [
        ("btcpay", 5, 60),
        ("forge", 10, 10),
        ("nextcloud", 60, 10),
        ("nostr", 1, 60),
    ] {
        let proxy = sound(&site(&format!("preset = \"{preset}\"")));
        let timeouts = &proxy.sites[0].timeouts;
        let minutes = |time: Duration| time.as_secs() / 60;
        let found = (minutes(timeouts.first_byte), minutes(timeouts.idle));
        assert_eq!(found, (first_byte, idle), "{preset}");
    }
    let forge = &sound(&site("preset = \"forge\"")).sites[0];
    let at_once = |path: &str| {
        let mut taking: Vec<_> = forge.routes.iter().collect();
        taking.retain(|route| route.path.matches(path));
        taking.sort_by_key(|route| std::cmp::Reverse(route.path.literal_len()));
        taking.first().and_then(|route| route.at_once)
    };
    for (path, wanted) in [
        ("/ada/engine", None),
        ("/ada/engine.git/git-upload-pack", None),
        ("/ada/engine/blame/branch/main/mill.c", Some(4)),
        ("/ada/engine/commit/0123abcd", Some(4)),
        ("/ada/engine/commits/branch/main", Some(4)),
        ("/ada/engine/compare/a...b", Some(4)),
        ("/ada/engine/graph", Some(4)),
        ("/ada/engine/activity/yearly", Some(4)),
        ("/ada/engine/archive/main.zip", Some(8)),
        ("/api/v1/repos/ada/engine/commits/main/status", Some(4)),
    ] {
        assert_eq!(at_once(path), wanted, "{path}");
    }
}
