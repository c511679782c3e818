//! Which site and which route take a request, and what a route does by itself.

use http::Method;
use sovereign_tests::client::{empty, whole};
use sovereign_tests::origin::reply;
use sovereign_tests::proxy::site;
use sovereign_tests::raw::raw;
use sovereign_tests::{Client, Lab, Origin, Proxy};

/// An origin that says its name and the path it saw.
async fn named(name: &'static str) -> Origin {
    Origin::start(move |request| async move {
        let text = format!("{name} {}", request.uri());
        reply(
            200,
            [
                ("cache-control", "no-store"),
                ("server", "origin"),
                ("x-debug", "1"),
            ],
            whole(text),
        )
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_name_is_canonical() {
    let lab = Lab::open().await;
    let origin = named("origin").await;
    let sites = format!(
        "[[site]]\nnames = [\"www.app.test\", \"app.test\"]\ntls = \"local\"\nupstream = [\"{}\"]\n",
        origin.url()
    );
    let proxy = Proxy::start(&lab, &sites).await;

    for client in [
        Client::h1(&proxy.https("app.test")),
        Client::h2(&proxy.https("app.test")),
    ] {
        let answer = client.get("/a%20b/c?d=e&f=%2F").await.expect(308);
        assert_eq!(
            answer.header("location"),
            "https://www.app.test/a%20b/c?d=e&f=%2F"
        );
    }
    let answer = Client::h2(&proxy.https("www.app.test"))
        .get("/x?y")
        .await
        .expect(200);
    assert_eq!(answer.text(), "origin /x?y");
    assert_eq!(origin.hits(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wildcard_takes_every_name_one_label_below() {
    let lab = Lab::open().await;
    let (all, own) = (named("all").await, named("own").await);
    let names = "[\"app.test\", \"www.app.test\", \"*.app.test\"]";
    let sites = site("own.app.test", &own.url(), "")
        + &site("app.test", &all.url(), "").replace("[\"app.test\"]", names);
    let proxy = Proxy::start(&lab, &sites).await;
    let target = proxy.https("app.test");
    for (host, status, text) in [
        ("app.test", 200, "all /"),
        // Named, it is sent to the first name; only taken, it is served as what it is.
        ("www.app.test", 308, ""),
        ("one.app.test", 200, "all /"),
        ("two.app.test", 200, "all /"),
        ("own.app.test", 200, "own /"),
    ] {
        let answer = Client::h2(&target.named(host))
            .get("/")
            .await
            .expect(status);
        if status == 200 {
            assert_eq!(answer.text(), text, "{host}");
        }
    }
    let plain = Client::h1(&proxy.http("one.app.test")).get("/").await;
    let location = plain.header("location").to_owned();
    assert_eq!(location, "https://one.app.test/", "{plain}");
    Client::h1(&proxy.http("a.one.app.test"))
        .get("/")
        .await
        .expect(421);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_is_sent_to_https() {
    let lab = Lab::open().await;
    let origin = named("origin").await;
    let sites = format!(
        "[[site]]\nnames = [\"www.app.test\", \"app.test\"]\ntls = \"local\"\nupstream = [\"{}\"]\n",
        origin.url()
    );
    let proxy = Proxy::start(&lab, &sites).await;

    // Straight to the canonical name, in one step; a POST stays a POST with 308.
    for (host, method) in [
        ("www.app.test", Method::GET),
        ("app.test", Method::GET),
        ("app.test", Method::POST),
    ] {
        let client = Client::h1(&proxy.http(host));
        let answer = client
            .ask(method, "/a/b?c=d", &[], empty())
            .await
            .expect(308);
        assert_eq!(answer.header("location"), "https://www.app.test/a/b?c=d");
        assert!(
            answer.header("strict-transport-security").is_empty(),
            "{answer}"
        );
    }
    // A client that names the port of the plain listener is sent to the one of TLS.
    let target = proxy.http("app.test");
    let request = format!(
        "GET /x HTTP/1.1\r\nHost: app.test:{}\r\nConnection: close\r\n\r\n",
        target.address.port()
    );
    let got = raw(&target, request.as_bytes()).await.text();
    let wanted = format!(
        "https://www.app.test:{}/x",
        proxy.https("www.app.test").address.port()
    );
    assert!(got.contains(&wanted), "{got}");
    assert_eq!(origin.hits(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_host_learns_nothing() {
    let lab = Lab::open().await;
    let origin = named("origin").await;
    let sites = site("app.test", &origin.url(), "") + &site("other.test", &origin.url(), "");
    let proxy = Proxy::start(&lab, &sites).await;

    // Over plain HTTP, and over TLS under another name's certificate.
    let tls = proxy.https("app.test");
    for (target, host) in [
        (proxy.http("app.test"), "unknown.test"),
        (tls.clone(), "unknown.test"),
        (tls.clone(), "203.0.113.9"),
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let got = raw(&target, request.as_bytes()).await;
        assert_eq!(got.status(), Some(421), "{host}: {}", got.text());
        assert!(
            !got.text().contains(".test"),
            "it says what is served: {}",
            got.text()
        );
    }
    // The same in HTTP/2, where several names share a connection only if the certificate covers both.
    let client = Client::h2(&tls);
    let mut request = client.request(Method::GET, "/", &[], empty());
    *request.uri_mut() = "https://other.test/".parse().expect("a URL");
    assert_eq!(client.send(request).await.status(), 421);
    client.get("/").await.expect(200);
    assert_eq!(origin.hits(), 1);

    // A name that is not served gets no certificate of another one.
    assert!(proxy.https("unknown.test").connect("h2").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_pattern_wins() {
    let lab = Lab::open().await;
    let (site_origin, api, deep, zips) = (
        named("site").await,
        named("api").await,
        named("deep").await,
        named("zips").await,
    );
    let more = format!(
        r#"
[[site.route]]
path = "/api"
upstream = ["{}"]

[[site.route]]
path = "/api/v2/deep"
upstream = ["{}"]

[[site.route]]
path = "/files/*.zip"
upstream = ["{}"]
"#,
        api.url(),
        deep.url(),
        zips.url()
    );
    let proxy = Proxy::start(&lab, &site("app.test", &site_origin.url(), &more)).await;
    let client = Client::h2(&proxy.https("app.test"));

    for (path, wanted) in [
        ("/", "site"),
        ("/api", "api"),
        ("/api/", "api"),
        ("/api?x=/api/v2/deep", "api"),
        ("/apiary", "site"),
        ("/api/v2/deep/er", "deep"),
        ("/api/v2/deeper", "api"),
        ("/files/a/b.zip", "zips"),
        ("/files/a.zip.txt", "site"),
    ] {
        assert_eq!(
            client.get(path).await.expect(200).text(),
            format!("{wanted} {path}")
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_answers_redirects_and_changes_fields() {
    let lab = Lab::open().await;
    let origin = named("origin").await;
    let file = lab.file("nostr.json", r#"{"names":{"_":"00"}}"#);
    let more = format!(
        r#"
[site.request_headers]
set = {{ X-Site = "one" }}
remove = ["x-secret"]

[site.response_headers]
remove = ["server"]

[[site.route]]
path = "/robots.txt"
answer = {{ body = "User-agent: *\nDisallow: /search\n" }}

[[site.route]]
path = "/.well-known/nostr.json"
answer = {{ file = "{}", type = "application/json" }}
response_headers = {{ set = {{ Access-Control-Allow-Origin = "*" }} }}

[[site.route]]
path = "/gone"
answer = {{ status = 410, body = "<p>gone</p>", type = "text/html; charset=utf-8" }}

[[site.route]]
path = "/.well-known/carddav"
redirect = {{ to = "/remote.php/dav/", status = 301 }}

[[site.route]]
path = "/old"
redirect = "https://archive.test{{path}}{{query}}"

[[site.route]]
path = "/api"
request_headers = {{ set = {{ X-Route = "api" }} }}
response_headers = {{ set = {{ X-Route = "api" }}, remove = ["x-debug"] }}
"#,
        file.display()
    );
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), &more)).await;
    let client = Client::h2(&proxy.https("app.test"));

    let robots = client.get("/robots.txt").await.expect(200);
    assert_eq!(robots.text(), "User-agent: *\nDisallow: /search\n");
    assert_eq!(robots.header("content-type"), "text/plain; charset=utf-8");
    let names = client
        .get("/.well-known/nostr.json?name=_")
        .await
        .expect(200);
    assert_eq!(names.json()["names"]["_"], "00");
    assert_eq!(names.header("access-control-allow-origin"), "*");
    assert_eq!(names.header("content-type"), "application/json");
    assert_eq!(client.get("/gone").await.expect(410).text(), "<p>gone</p>");
    // A HEAD has the fields of a GET, and no body.
    let head = client
        .ask(Method::HEAD, "/robots.txt", &[], empty())
        .await
        .expect(200);
    assert!(head.body.is_empty());
    assert_eq!(head.header("content-length"), robots.body.len().to_string());

    assert_eq!(
        client
            .get("/.well-known/carddav")
            .await
            .expect(301)
            .header("location"),
        "/remote.php/dav/"
    );
    let old = client.get("/old/page?a=b").await.expect(308);
    assert_eq!(old.header("location"), "https://archive.test/old/page?a=b");
    assert_eq!(
        origin.hits(),
        0,
        "a route that answers by itself asked the origin"
    );

    let page = client
        .get_with("/page", &[("x-secret", "1")])
        .await
        .expect(200);
    assert_eq!((page.header("server"), page.header("x-debug")), ("", "1"));
    assert_eq!(
        (
            origin.last().header("x-site"),
            origin.last().header("x-secret")
        ),
        ("one", "")
    );
    let api = client.get("/api/x").await.expect(200);
    assert_eq!(
        (
            api.header("x-route"),
            api.header("x-debug"),
            api.header("server")
        ),
        ("api", "", "")
    );
    assert_eq!(
        (
            origin.last().header("x-site"),
            origin.last().header("x-route")
        ),
        ("one", "api")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_not_believed() {
    let lab = Lab::open().await;
    let origin = named("origin").await;
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), "")).await;
    let lies = [
        ("forwarded", "for=203.0.113.7;proto=http;host=evil.test"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "evil.test"),
        ("x-real-ip", "203.0.113.7"),
        ("te", "trailers"),
        ("proxy-authorization", "Basic bGllcw=="),
    ];

    for client in [
        Client::h1(&proxy.https("app.test")),
        Client::h2(&proxy.https("app.test")),
    ] {
        client.get_with("/", &lies).await.expect(200);
        let seen = origin.last();
        assert_eq!(seen.header("x-forwarded-for"), "127.0.0.1");
        assert_eq!(seen.header("x-real-ip"), "127.0.0.1");
        assert_eq!(seen.header("x-forwarded-proto"), "https");
        assert_eq!(seen.header("x-forwarded-host"), "app.test");
        assert_eq!(seen.header("host"), "app.test");
        let forwarded = seen.header("forwarded");
        assert!(
            forwarded.contains("127.0.0.1") && forwarded.contains("https"),
            "{forwarded}"
        );
        for (name, values) in [
            ("forwarded", "203.0.113"),
            ("x-forwarded-for", ","),
            ("forwarded", "evil"),
        ] {
            assert!(
                !seen.header(name).contains(values),
                "{name}: {}",
                seen.header(name)
            );
        }
    }

    // Fields that belong to one connection end with it.
    let client = Client::h1(&proxy.https("app.test"));
    let hop = [
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("x-end", "1"),
    ];
    client.get_with("/", &hop).await.expect(200);
    let seen = origin.last();
    assert_eq!(
        (
            seen.header("x-hop"),
            seen.header("keep-alive"),
            seen.header("x-end")
        ),
        ("", "", "1")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_peer_is_believed() {
    let lab = Lab::open().await;
    let origin = named("origin").await;
    let sites = site("app.test", &origin.url(), "");
    let proxy = Proxy::start_with(&lab, "trusted = [\"127.0.0.0/8\"]", &sites).await;

    let client = Client::h2(&proxy.https("app.test"));
    client
        .get_with("/", &[("x-forwarded-for", "203.0.113.7")])
        .await
        .expect(200);
    let seen = origin.last();
    assert!(
        seen.header("x-forwarded-for").starts_with("203.0.113.7"),
        "{:?}",
        seen.headers
    );
    assert_eq!(seen.header("x-real-ip"), "203.0.113.7");
}

/// A blog in three languages: its front page is a fork, and nothing else is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visitors_are_sent_to_their_language() {
    let lab = Lab::open().await;
    let origin = Origin::start(|request| async move {
        let path = request.uri().to_string();
        reply(200, [("cache-control", "max-age=60")], whole(path))
    })
    .await;
    let fork = "[[site.route]]\npath = \"/\"\nlanguages = { de = \"/de/{query}\", en = \"/en/\", \"*\" = \"/en/\" }\n";
    let home = "[[site.route]]\npath = \"/\"\nlanguages = { de = \"/de/\", en = \"/\" }\n";
    let sites = site("fork.test", &origin.url(), fork) + &site("home.test", &origin.url(), home);
    let proxy = Proxy::start(&lab, &sites).await;

    // The fork: everybody is sent on, and everybody's answer depends on the language.
    let fork = Client::h2(&proxy.https("fork.test"));
    for (accept, location) in [
        ("de-AT,de;q=0.9,en;q=0.1", "/de/?page=2"),
        ("en-GB", "/en/"),
        ("fr", "/en/"),
    ] {
        let answer = fork
            .get_with("/?page=2", &[("accept-language", accept)])
            .await
            .expect(302);
        assert_eq!(answer.header("location"), location, "{accept}");
        assert_eq!(answer.header("vary"), "Accept-Language", "{answer}");
    }
    let path = fork
        .get_with("/page", &[("accept-language", "de")])
        .await
        .expect(200);
    assert_eq!(
        (path.text().as_str(), path.header("vary")),
        ("/page", ""),
        "{path}"
    );
    let posted = fork
        .ask(Method::POST, "/", &[("accept-language", "de")], whole("x"))
        .await;
    posted.expect(200);

    // One of them is at home here. What is stored for those who stay is not sent to those who do not.
    let home = Client::h2(&proxy.https("home.test"));
    for accept in ["en", "en, de;q=0.5", "fr"] {
        let answer = home
            .get_with("/", &[("accept-language", accept)])
            .await
            .expect(200);
        assert_eq!(answer.text(), "/", "{accept}");
        assert!(
            answer.header("vary").contains("Accept-Language"),
            "{answer}"
        );
    }
    assert_eq!(
        origin
            .seen()
            .iter()
            .filter(|seen| seen.header("host") == "home.test")
            .count(),
        1
    );
    let answer = home
        .get_with("/", &[("accept-language", "de")])
        .await
        .expect(302);
    assert_eq!(answer.header("location"), "/de/");
    assert_eq!(home.get("/de/").await.expect(200).text(), "/de/");
}
