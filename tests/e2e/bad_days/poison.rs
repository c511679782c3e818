//! A stranger asks for a page in a way that makes the origin answer something else, and everybody
//! after him is to get that: each way of trying it, and what the others see.

use http::Method;
use http_body_util::BodyExt as _;
use sovereign_tests::client::whole;
use sovereign_tests::origin::{Origin, reply};
use sovereign_tests::proxy::site;
use sovereign_tests::raw::raw;
use sovereign_tests::truth::is_hit;
use sovereign_tests::{Client, Lab, Proxy};

use super::HOST;

/// An origin that lets everything be kept, and repeats what it was asked: the target, then each field.
async fn mirror() -> Origin {
    Origin::start(|request| async move {
        let mut text = format!("{}\n", request.uri());
        for (name, value) in request.headers() {
            text += &format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
        }
        let body = request.into_body().collect().await;
        let body = body.map_or(Vec::new(), |body| body.to_bytes().to_vec());
        text += &String::from_utf8_lossy(&body);
        reply(200, [("cache-control", "max-age=60")], whole(text))
    })
    .await
}

/// A proxy that serves the site with and without TLS.
async fn front(lab: &Lab, origin: &Origin) -> Proxy {
    let url = origin.url();
    let plain =
        format!("[[site]]\nnames = [\"plain.test\"]\ntls = \"off\"\nupstream = [\"{url}\"]\n");
    Proxy::start(lab, &(site(HOST, &url, "") + &plain)).await
}

/// Fields by which applications have been told where they are, by whom they are asked, and for what.
#[rustfmt::skip]
const BELIEVED: [&str; 37] = [
    // Where.
    "forwarded", "x-forwarded", "x-forwarded-host", "x-forwarded-server", "x-forwarded-port",
    "x-forwarded-prefix", "x-forwarded-path", "x-forwarded-uri", "x-original-host", "x-host",
    "x-http-host-override", "x-original-url", "x-original-uri", "x-rewrite-url", "x-proxy-host",
    // How.
    "x-forwarded-proto", "x-forwarded-protocol", "x-forwarded-scheme", "x-forwarded-ssl", "x-scheme",
    "x-url-scheme", "front-end-https", "x-arr-ssl",
    // By whom.
    "x-forwarded-for", "forwarded-for", "x-forwarded-by", "x-real-ip", "x-client-ip", "client-ip",
    "true-client-ip", "x-cluster-client-ip", "cf-connecting-ip", "fastly-client-ip",
    // As what.
    "x-http-method-override", "x-http-method", "x-method-override", "x-forwarded-method",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stranger_claims_does_not_reach_the_origin() {
    let lab = Lab::open().await;
    let origin = mirror().await;
    let proxy = front(&lab, &origin).await;
    let mut reached = Vec::new();

    for (protocol, client) in [
        ("h1", Client::h1(&proxy.https(HOST))),
        ("h2", Client::h2(&proxy.https(HOST))),
        ("plain", Client::h1(&proxy.http("plain.test"))),
    ] {
        for name in BELIEVED {
            let path = format!("/{protocol}/{name}");
            let lie = [(name, "evil.test")];
            let first = client.get_with(&path, &lie).await.expect(200);
            let after = client.get(&path).await.expect(200);
            if first.text().contains("evil.test") || after.text().contains("evil.test") {
                reached.push(path);
            }
        }
    }
    assert!(reached.is_empty(), "the origin was told by {reached:?}");
}

/// Whatever a body means to the origin is not part of the key (so what came of it is for nobody else).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_get_with_a_body_made_is_for_nobody_else() {
    let lab = Lab::open().await;
    let origin = mirror().await;
    let proxy = front(&lab, &origin).await;
    let (h1, h2) = (
        Client::h1(&proxy.https(HOST)),
        Client::h2(&proxy.https(HOST)),
    );

    for (number, client) in [&h1, &h2].into_iter().enumerate() {
        // Before anything is stored, and over what is.
        for round in 0..2 {
            let path = format!("/fat/{number}/{round}");
            if round == 1 {
                client.get(&path).await.expect(200);
            }
            let fat = client.ask(Method::GET, &path, &[], whole("who=mallory"));
            let fat = fat.await.expect(200);
            assert!(fat.text().contains("mallory"), "nothing is proved: {fat}");
            let after = client.get(&path).await.expect(200);
            assert!(!after.text().contains("mallory"), "{after}");
            assert!(is_hit(&client.get(&path).await.expect(200)));
        }
    }
    // The same in the two ways that a library would not write it.
    let target = proxy.https(HOST);
    for (path, rest) in [
        (
            "/chunked",
            "Transfer-Encoding: chunked\r\n\r\nb\r\nwho=mallory\r\n0\r\n\r\n",
        ),
        ("/counted", "Content-Length: 11\r\n\r\nwho=mallory"),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{rest}");
        let fat = raw(&target, request.as_bytes()).await;
        assert_eq!(fat.status(), Some(200), "{}", fat.text());
        let after = h1.get(path).await.expect(200);
        assert!(!after.text().contains("mallory"), "{after}");
    }
}

/// Targets that some server takes for others.
#[rustfmt::skip]
const ODD: [&str; 40] = [
    "/a/b", "/a//b", "//a/b", "///a/b", "/a/b/", "/a/./b", "/./a/b", "/a/b/.", "/a/x/../b", "/x/../a/b",
    "/../a/b", "/a/b/..", "/a/b/x/..", "/a%2fb", "/a%2Fb", "/a/%2e/b", "/a/x/%2e%2e/b", "/a/x/..%2fb",
    "/%61/b", "/a/b;", "/a/b;x", "/a/b;x=1", "/a;x/b", "/a/b%3b", "/a/b%3Bx", "/A/B", "/a/b?", "/a/b?x",
    "/a/b?x=1&y=2", "/a/b?y=2&x=1", "/a/b%3fx", "/a/b?x;y", "/a/b??x", "/a/b%00", "/a/b%20", "/a/b+",
    "/a/b%0d%0ax", "/a/b%5c..", "/a%252fb", "/a/b%23x",
];

/// What the upstream is asked for is what the key says, so no two targets that differ to the origin
/// share an answer, and none that it would take for another one leaves that one's place poisoned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_upstream_sees_is_what_the_key_has() {
    let lab = Lab::open().await;
    let origin = mirror().await;
    let proxy = front(&lab, &origin).await;
    let h2 = Client::h2(&proxy.https(HOST));
    let target = proxy.http("plain.test");
    let seen = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    let body = |text: &str| seen(text.split_once("\r\n\r\n").unwrap_or_default().1);

    let mut refused = Vec::new();
    for round in 0..2 {
        for path in ODD {
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: plain.test\r\nConnection: close\r\n\r\n");
            let answer = raw(&target, request.as_bytes()).await;
            match answer.status() {
                Some(200) => {
                    let found = body(&answer.text());
                    assert_eq!(
                        found, path,
                        "round {round}: the origin was asked for another"
                    );
                    let hit = answer
                        .text()
                        .to_ascii_lowercase()
                        .contains("sovereign; hit");
                    assert_eq!(hit, round == 1, "{path}, round {round}: {}", answer.text());
                }
                Some(400) => refused.push(path),
                _ => panic!("{path}: {}", answer.text()),
            }
            let answer = h2.get(path).await;
            match answer.status.as_u16() {
                200 => assert_eq!(seen(&answer.text()), path, "round {round} over HTTP/2"),
                400 => refused.push(path),
                _ => panic!("{path}: {answer}"),
            }
        }
    }
    println!("refused: {refused:?}");
    assert!(refused.len() < ODD.len(), "nothing is proved: {refused:?}");
    // A fragment is no part of a target, a backslash no character of one, and a space ends it: each
    // is refused, or is asked for as it stands.
    for path in ["/a/b#x", "/a\\b", "/a/b\\..\\c", "/a/b x", "/a/\u{e9}"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: plain.test\r\n\r\n");
        let answer = raw(&target, request.as_bytes()).await;
        if answer.status() == Some(200) {
            assert_eq!(body(&answer.text()), path, "{}", answer.text());
        }
    }
    let answer = raw(
        &target,
        b"GET /a/b HTTP/1.1\r\nHost: plain.test\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(body(&answer.await.text()), "/a/b");
}

/// A host with a port, in other letters, or written twice, is either the same to the origin as to the
/// key, or another one to both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_that_the_origin_sees_is_the_one_in_the_key() {
    let lab = Lab::open().await;
    let origin = mirror().await;
    let proxy = front(&lab, &origin).await;
    let target = proxy.http("plain.test");
    let ask = async |line: &str, fields: &str| {
        let request = format!("{line} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n");
        raw(&target, request.as_bytes()).await.text()
    };

    for (number, (absolute, host)) in [
        ("", "plain.test:9999"),
        ("", "PLAIN.test:9999"),
        ("", "plain.test:80"),
        ("", "plain.test."),
        ("", "plain.test:"),
        ("http://plain.test", "evil.test"),
        ("http://plain.test:9999", "plain.test"),
        ("http://plain.test", "plain.test:9999"),
        ("HTTP://Plain.Test", "plain.test"),
        ("https://plain.test", "plain.test"),
        ("http://evil@plain.test", "plain.test"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{number}");
        let lie = ask(
            &format!("GET {absolute}{path}"),
            &format!("Host: {host}\r\n"),
        )
        .await;
        let after = ask(&format!("GET {path}"), "Host: plain.test\r\n").await;
        assert!(after.starts_with("HTTP/1.1 200"), "{after}");
        let body = after.split_once("\r\n\r\n").unwrap_or_default().1;
        for wrong in [
            "9999",
            "evil",
            "PLAIN",
            "Plain",
            "https",
            "plain.test.",
            "plain.test:",
        ] {
            assert!(
                !body.contains(wrong),
                "{absolute} {host}: the next one got {body}\nafter\n{lie}"
            );
        }
    }
}

/// An origin that answers with the status it is told, and else with a page for everybody.
async fn breakable() -> Origin {
    Origin::start(|request| async move {
        let status = request
            .headers()
            .get("x-break")
            .and_then(|status| status.to_str().ok()?.parse().ok());
        match status {
            Some(status) => reply(status, [], whole("broken")),
            None => reply(200, [("cache-control", "max-age=60")], whole("sound")),
        }
    })
    .await
}

const ERRORS: [u16; 13] = [
    400, 403, 404, 405, 410, 413, 414, 431, 500, 501, 502, 503, 504,
];

/// A field that the origin chokes on makes an error for him who sent it, not a page for everybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_that_a_stranger_provoked_is_not_kept() {
    let lab = Lab::open().await;
    let origin = breakable().await;
    let proxy = front(&lab, &origin).await;
    let client = Client::h2(&proxy.https(HOST));

    for status in ERRORS {
        let text = status.to_string();
        // Where nothing is stored yet.
        let path = format!("/new/{status}");
        let fields = [("x-break", text.as_str())];
        client.get_with(&path, &fields).await.expect(status);
        let after = client.get(&path).await.expect(200);
        assert_eq!(after.text(), "sound", "after {status}");
        // In the place of what is stored, past which he may ask.
        let path = format!("/old/{status}");
        client.get(&path).await.expect(200);
        let past = [("x-break", text.as_str()), ("cache-control", "no-cache")];
        client.get_with(&path, &past).await;
        let after = client.get(&path).await.expect(200);
        assert_eq!(after.text(), "sound", "after {status}");
    }
}

/// Nor is the page kept out of the cache by it: whoever comes next brings it in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_does_not_keep_a_page_out_of_the_cache() {
    let lab = Lab::open().await;
    let origin = breakable().await;
    let proxy = front(&lab, &origin).await;
    let client = Client::h2(&proxy.https(HOST));

    for status in ERRORS {
        let path = format!("/{status}");
        let text = status.to_string();
        let fields = [("x-break", text.as_str())];
        client.get_with(&path, &fields).await.expect(status);
        client.get(&path).await.expect(200);
        let after = client.get(&path).await.expect(200);
        assert!(is_hit(&after), "after {status}: {after}");
    }
}
