//! The site over real sockets, as the proxy meets it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH, UPGRADE,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use time::macros::datetime;
use tokio::net::{UnixListener, UnixStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::clock::Socket;
use super::{Switch, answer, feeds, pages, serve, serve_switch};

type Client = SendRequest<Full<Bytes>>;
type Failure = Box<dyn std::error::Error>;

/// Both servers on sockets in a folder of their own.
struct Demo {
    folder: tempfile::TempDir,
    switch: Switch,
    stop: tokio::sync::oneshot::Sender<()>,
    site: tokio::task::JoinHandle<()>,
}

impl Demo {
    fn start() -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let switch = Switch::new();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let site = UnixListener::bind(folder.path().join("site"))?;
        let other = UnixListener::bind(folder.path().join("switch"))?;
        let site = tokio::spawn(serve(site, switch.clone(), async {
            let _ = stopped.await;
        }));
        tokio::spawn(serve_switch(other, switch.clone(), std::future::pending()));
        Ok(Self {
            folder,
            switch,
            stop,
            site,
        })
    }

    async fn connect(&self, socket: &str) -> Result<Client, Failure> {
        let io = UnixStream::connect(self.folder.path().join(socket)).await?;
        let (client, connection) = handshake(TokioIo::new(io)).await?;
        tokio::spawn(connection.with_upgrades());
        Ok(client)
    }

    async fn ask(&self, method: &str, path: &str) -> Result<Response<Incoming>, Failure> {
        let socket = if path.starts_with("/switch") {
            "switch"
        } else {
            "site"
        };
        send(&mut self.connect(socket).await?, method, path, &[]).await
    }
}

async fn send(
    client: &mut Client,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
) -> Result<Response<Incoming>, Failure> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "demo.example");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    client.ready().await?;
    Ok(client.send_request(request.body(Full::default())?).await?)
}

async fn text(response: Response<Incoming>) -> Result<String, Failure> {
    Ok(String::from_utf8(
        response.into_body().collect().await?.to_bytes().into(),
    )?)
}

fn field(response: &Response<Incoming>, name: hyper::header::HeaderName) -> &str {
    let value = response.headers().get(name);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or("none")
}

#[tokio::test]
async fn every_path_answers_as_the_table_says() -> Result<(), Failure> {
    let demo = Demo::start()?;
    #[rustfmt::skip]
    let table = [
        ("GET", "/", 200, answer::HTML, answer::PAGE),
        ("GET", "/articles/", 200, answer::HTML, answer::PAGE),
        ("GET", "/articles", 301, answer::TEXT, "no-store"),
        ("GET", "/articles/names-are-rented", 200, answer::HTML, answer::PAGE),
        ("GET", "/articles/none", 404, answer::HTML, answer::MISSING),
        ("GET", "/articles/names-are-rented/", 404, answer::HTML, answer::MISSING),
        ("GET", "/clock", 200, answer::HTML, answer::PAGE),
        ("GET", "/clock/ws", 426, answer::TEXT, "no-store"),
        ("GET", "/unseen/abc123", 200, answer::HTML, answer::PAGE),
        ("GET", "/unseen/%3Cscript%3E", 404, answer::HTML, answer::MISSING),
        ("GET", "/private", 200, answer::HTML, answer::PRIVATE),
        ("GET", "/missing", 404, answer::HTML, answer::MISSING),
        ("GET", "/assets/../layout.html", 404, answer::HTML, answer::MISSING),
        ("GET", "/layout.html", 404, answer::HTML, answer::MISSING),
        ("GET", "/feed.xml", 200, "application/atom+xml; charset=utf-8", answer::FEED),
        ("GET", "/sitemap.xml", 200, "application/xml; charset=utf-8", answer::FEED),
        ("GET", "/robots.txt", 200, answer::TEXT, answer::FEED),
        ("GET", "/assets/site.css", 200, "text/css; charset=utf-8", answer::ASSET),
        ("GET", "/assets/home.js", 200, "text/javascript; charset=utf-8", answer::ASSET),
        ("GET", "/assets/clock.js?v=1", 200, "text/javascript; charset=utf-8", answer::ASSET),
        ("GET", "/assets/mark.svg", 200, "image/svg+xml", answer::ASSET),
        ("GET", "/image.svg", 200, "image/svg+xml", answer::ASSET),
        ("GET", "/image.png", 200, "image/png", answer::ASSET),
        ("GET", "/slow?ms=20", 200, answer::TEXT, "no-store"),
        ("GET", "/slow?ms=soon", 400, answer::TEXT, "no-store"),
        ("GET", "/stream", 200, answer::TEXT, "no-store"),
        ("GET", "/download", 200, "application/octet-stream", "no-store"),
        ("POST", "/echo", 200, "application/json", "no-store"),
        ("GET", "/echo", 405, answer::TEXT, "no-store"),
        ("POST", "/", 405, answer::TEXT, "no-store"),
        ("GET", "/switch", 200, "application/json", "no-store"),
        ("GET", "/switch/on", 405, "application/json", "no-store"),
        ("GET", "/switch/sideways", 404, "application/json", "no-store"),
    ];
    for (method, path, status, content_type, cache) in table {
        let response = demo.ask(method, path).await?;
        let found = (
            response.status().as_u16(),
            field(&response, CONTENT_TYPE),
            field(&response, CACHE_CONTROL),
        );
        assert_eq!(found, (status, content_type, cache), "{method} {path}");
        if method != "GET" || path == "/clock/ws" || status == 405 {
            continue;
        }
        let head = demo.ask("HEAD", path).await?;
        for name in [CONTENT_TYPE, CACHE_CONTROL, CONTENT_LENGTH] {
            let (head, get) = (field(&head, name.clone()), field(&response, name));
            assert_eq!(head, get, "HEAD {path}");
        }
        assert_eq!(head.status(), response.status(), "HEAD {path}");
        assert_eq!(text(head).await?, "", "HEAD {path}");
    }
    Ok(())
}

#[tokio::test]
async fn what_the_client_has_is_confirmed() -> Result<(), Failure> {
    let demo = Demo::start()?;
    let mut client = demo.connect("site").await?;
    let first = send(&mut client, "GET", "/image.svg", &[]).await?;
    let etag = field(&first, ETAG).to_owned();
    text(first).await?;
    let weak = format!("\"other\", W/{etag}");
    for (known, status) in [
        (etag.as_str(), 304),
        (&weak, 304),
        ("*", 304),
        ("\"other\"", 200),
    ] {
        let fields = [(IF_NONE_MATCH.as_str(), known)];
        let response = send(&mut client, "GET", "/image.svg", &fields).await?;
        assert_eq!(response.status(), status, "{known}");
        assert_eq!(field(&response, ETAG), etag);
        assert_eq!(field(&response, CACHE_CONTROL), answer::ASSET);
        assert_eq!(text(response).await?.is_empty(), status == 304, "{known}");
    }
    Ok(())
}

#[test]
fn a_page_stays_the_same_for_half_a_minute() {
    let slug = "names-are-rented";
    let at = |now| pages::article(slug, pages::rendering(now));
    let first = at(datetime!(2026-11-01 09:30:31 UTC));
    assert!(
        first
            .as_ref()
            .is_some_and(|page| page.contains("2026-11-01 09:30:30 UTC"))
    );
    assert_eq!(first, at(datetime!(2026-11-01 09:30:59 UTC)));
    assert_ne!(first, at(datetime!(2026-11-01 09:31:00 UTC)));
}

#[test]
fn every_page_is_filled_in() {
    let now = datetime!(2026-11-01 09:30:31 UTC);
    let mut all = vec![
        pages::home(now),
        pages::articles(now),
        pages::clock(now),
        pages::private(now),
        pages::missing(now),
    ];
    all.extend(pages::unseen("abc", now));
    assert_eq!(pages::ARTICLES.len(), 3);
    for article in pages::ARTICLES.iter() {
        assert!(!article.page.summary.is_empty() && !article.page.date.is_empty());
        assert!(
            all[0].contains(&format!("/articles/{}\"", article.slug)),
            "home links to it"
        );
        all.extend(pages::article(article.slug, now));
    }
    assert_eq!(all.len(), 9);
    for page in all {
        assert!(!page.contains("{{") && page.contains("<h1>"), "{page}");
        assert!(
            !page.contains("<title> ") && !page.contains("content=\"\""),
            "{page}"
        );
        assert!(
            !page.contains(" style=") && !page.contains("<script>"),
            "the policy sent along forbids it: {page}"
        );
    }
}

#[test]
fn feed_and_sitemap_are_well_formed() {
    for content in [
        feeds::feed("https://demo.example"),
        feeds::sitemap("https://demo.example"),
    ] {
        let xml = String::from_utf8_lossy(&content.body).into_owned();
        let mut open = Vec::new();
        for (at, _) in xml.match_indices('<') {
            let tag = xml[at + 1..].split('>').next().unwrap_or_default();
            let name = tag.split([' ', '\n']).next().unwrap_or_default();
            match name.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name), "{xml}"),
                None if tag.starts_with('?') || tag.ends_with('/') => {}
                None => open.push(name),
            }
        }
        assert_eq!(open, [""; 0], "{xml}");
        for (at, _) in xml.match_indices('&') {
            let known = ["&amp;", "&lt;", "&gt;"];
            assert!(
                known.iter().any(|entity| xml[at..].starts_with(entity)),
                "{xml}"
            );
        }
        for article in pages::ARTICLES.iter() {
            let link = format!("https://demo.example/articles/{}", article.slug);
            assert!(xml.contains(&link), "{xml}");
        }
    }
}

#[tokio::test]
async fn feed_links_take_the_visitors_address_but_no_mischief() -> Result<(), Failure> {
    let demo = Demo::start()?;
    let mut client = demo.connect("site").await?;
    let plain = [("x-forwarded-proto", "http")];
    let feed = text(send(&mut client, "GET", "/feed.xml", &plain).await?).await?;
    assert!(
        feed.contains("href=\"http://demo.example/feed.xml\""),
        "{feed}"
    );
    let request = Request::get("/feed.xml")
        .header(HOST, "a\"/><b>")
        .body(Full::default())?;
    let feed = text(client.send_request(request).await?).await?;
    assert!(
        feed.contains("href=\"https://localhost:8443/feed.xml\""),
        "{feed}"
    );
    Ok(())
}

#[tokio::test]
async fn a_stopped_origin_closes_every_connection_unanswered() -> Result<(), Failure> {
    let demo = Demo::start()?;
    let mut kept = demo.connect("site").await?;
    text(send(&mut kept, "GET", "/", &[]).await?).await?;
    let mut under_way = demo.connect("site").await?;
    let download = send(&mut under_way, "GET", "/download", &[]).await?;

    let off = demo.ask("POST", "/switch/off").await?;
    assert_eq!(off.status(), StatusCode::FORBIDDEN, "without the header");
    assert!(demo.switch.is_on());
    let mut operator = demo.connect("switch").await?;
    let off = send(&mut operator, "POST", "/switch/off", &[("x-demo", "1")]).await?;
    assert_eq!(text(off).await?, "{\"origin\":\"off\"}\n");

    assert!(send(&mut kept, "GET", "/", &[]).await.is_err());
    assert!(text(download).await.is_err());
    assert!(demo.ask("GET", "/").await.is_err());
    assert_eq!(
        text(demo.ask("GET", "/switch").await?).await?,
        "{\"origin\":\"off\"}\n"
    );

    let on = send(&mut operator, "POST", "/switch/on", &[("x-demo", "1")]).await?;
    assert_eq!(text(on).await?, "{\"origin\":\"on\"}\n");
    assert_eq!(demo.ask("GET", "/").await?.status(), StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn the_end_lets_open_answers_finish() -> Result<(), Failure> {
    let demo = Demo::start()?;
    let mut idle = demo.connect("site").await?;
    text(send(&mut idle, "GET", "/", &[]).await?).await?;
    let mut busy = demo.connect("site").await?;
    let answer = send(&mut busy, "GET", "/download", &[]).await?;
    let _ = demo.stop.send(());
    assert_eq!(
        answer.into_body().collect().await?.to_bytes().len(),
        64 * 1024 * 1024
    );
    tokio::time::timeout(Duration::from_secs(20), demo.site).await??;
    assert!(send(&mut idle, "GET", "/", &[]).await.is_err());
    Ok(())
}

#[tokio::test]
async fn the_clock_tells_the_time_and_echoes() -> Result<(), Failure> {
    let demo = Demo::start()?;
    let mut client = demo.connect("site").await?;
    let fields = [
        (CONNECTION.as_str(), "keep-alive, Upgrade"),
        (UPGRADE.as_str(), "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let response = send(&mut client, "GET", "/clock/ws", &fields).await?;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let accept = response.headers().get("sec-websocket-accept");
    assert!(accept.is_some_and(|accept| accept == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let mut socket = Socket::new(
        TokioIo::new(hyper::upgrade::on(response).await?),
        Role::Client,
    );

    let tick = socket
        .receive()
        .await?
        .ok_or("closed before the first tick")?;
    assert!(tick.to_text()?.ends_with('Z') && tick.len() == 20, "{tick}");
    socket.send(Message::text("good day")).await?;
    let (mut ticks, mut echoes) = (0, 0);
    while ticks == 0 || echoes == 0 {
        let message = socket.receive().await?.ok_or("closed")?;
        *if message.to_text()? == "good day" {
            &mut echoes
        } else {
            &mut ticks
        } += 1;
    }

    demo.switch.off();
    assert!(
        !matches!(socket.receive().await, Ok(Some(_))),
        "a stopped origin says nothing"
    );
    Ok(())
}

#[tokio::test]
async fn an_echo_counts_the_body_without_keeping_it() -> Result<(), Failure> {
    let demo = Demo::start()?;
    let mut client = demo.connect("site").await?;
    let request = Request::post("/echo")
        .header(HOST, "demo.example")
        .header("x-twice", "a")
        .header("x-twice", "b")
        .body(Full::from(vec![b'x'; 3_000_000]))?;
    let answer = text(client.send_request(request).await?).await?;
    let answer: serde_json::Value = serde_json::from_str(&answer)?;
    assert_eq!(answer["method"], "POST");
    assert_eq!(answer["body_length"], 3_000_000);
    assert_eq!(answer["headers"]["x-twice"], serde_json::json!(["a", "b"]));
    Ok(())
}

#[tokio::test]
async fn the_stream_takes_its_time() -> Result<(), Failure> {
    let begun = tokio::time::Instant::now();
    let stream = answer::stream(Duration::from_millis(20));
    let body = stream.into_body().collect().await?.to_bytes();
    assert_eq!(body.iter().filter(|byte| **byte == b'\n').count(), 5);
    assert!(begun.elapsed() >= Duration::from_millis(80));
    Ok(())
}
