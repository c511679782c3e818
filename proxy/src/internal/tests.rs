//! Fetches against a real upstream: a loop that answers one request after another.

use std::io;

use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::access_log::AccessLog;
use crate::cache::Cache;
use crate::changes::Changes;
use crate::metrics::Metrics;
use crate::shared::Live;
use crate::tls::{self, Certificates, Set};

#[tokio::test]
async fn a_page_is_fetched_once_and_then_comes_out_of_the_store() {
    let page = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 5\r\n\r\nhello";
    let (shared, mut asked) = daemon(page, "tls = \"local\"").await;

    let first = get(&shared, "https", "a.example:8443", "/page?x=1", 1024).await;
    let first = first.unwrap();
    assert_eq!(first.head.status, StatusCode::OK);
    assert_eq!(&first.body[..], b"hello");
    assert!(!first.is_cut());
    let said = first.head.headers["cache-status"].to_str().unwrap();
    assert!(
        said.contains("fwd=uri-miss") && said.contains("stored"),
        "{said}"
    );

    let request = asked.recv().await.unwrap();
    assert!(
        request.starts_with("get /page?x=1 http/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains("\r\nhost: a.example:8443\r\n"),
        "{request}"
    );
    assert!(request.contains("\r\naccept-encoding: br\r\n"), "{request}");
    assert!(
        request.contains("\r\nx-forwarded-proto: https\r\n"),
        "{request}"
    );
    assert!(
        request.contains("\r\nforwarded: for=unknown;host=\"a.example:8443\";proto=https\r\n"),
        "{request}"
    );
    for name in ["x-forwarded-for", "x-real-ip", "0.0.0.0"] {
        assert!(!request.contains(name), "{request}");
    }

    let second = get(&shared, "https", "A.example:8443", "/page?x=1", 2)
        .await
        .unwrap();
    assert_eq!(&second.body[..], b"he");
    assert!(second.is_cut());
    assert_eq!(second.length, 5);
    let said = second.head.headers["cache-status"].to_str().unwrap();
    assert!(said.starts_with("sovereign; hit"), "{said}");
    assert!(asked.try_recv().is_err());
}

#[tokio::test]
async fn an_error_is_a_response_and_a_response_that_breaks_off_is_none() {
    let error = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 2\r\n\r\nno";
    let (shared, _asked) = daemon(error, "tls = \"off\"").await;
    let got = get(&shared, "http", "a.example", "/", 1024).await.unwrap();
    assert_eq!(got.head.status, StatusCode::INTERNAL_SERVER_ERROR);

    let short = "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nshort";
    let (shared, _asked) = daemon(short, "tls = \"off\"").await;
    let got = get(&shared, "http", "a.example", "/", 1024).await;
    assert!(
        got.as_ref().is_err_and(|why| why.contains("broke off")),
        "{got:?}"
    );
}

#[tokio::test]
async fn a_host_or_scheme_that_is_not_served_is_said() {
    let (shared, mut asked) = daemon("", "tls = \"off\"").await;
    #[rustfmt::skip]
    let table = [
        ("http",  "b.example",   "/",     "b.example is no name of a site here"),
        ("https", "a.example",   "/",     "a.example is a site without TLS: ask for http"),
        ("ftp",   "a.example",   "/",     "ftp is neither http nor https"),
        ("http",  "",            "/",     "\"\" is no host"),
        ("http",  "a.example:x", "/",     "\"a.example:x\" is no host"),
        ("http",  "a.example",   "page",  "\"page\" is no path"),
        ("http",  "a.example",   "*",     "\"*\" is no path"),
        ("http",  "a.example",   "/a b",  "\"/a b\" is no path"),
        ("http",  "a.example",   "/a#b",  "\"/a#b\" is no path"),
    ];
    for (scheme, host, target, want) in table {
        let got = get(&shared, scheme, host, target, 10).await;
        assert_eq!(got.map(|got| got.head.status), Err(want.to_owned()));
    }
    assert!(asked.try_recv().is_err());
}

#[tokio::test]
async fn plain_http_to_a_site_with_tls_is_sent_to_https() {
    let (shared, _asked) = daemon("", "tls = \"local\"").await;
    let got = get(&shared, "http", "a.example", "/x", 10).await.unwrap();
    assert_eq!(got.head.headers["location"], "https://a.example/x");
}

#[tokio::test]
async fn what_is_kept_is_bounded_and_what_is_read_too() {
    let soon = Instant::now() + LIMIT;
    let (mut client, kept) = Internal::new(4, 10, soon);
    let head = || ResponseHead::new(StatusCode::OK);
    client.start(head(), BodyLength::Unknown).await.unwrap();
    for _ in 0..2 {
        client.data(Bytes::from_static(b"abcde")).await.unwrap();
    }
    assert!(client.data(Bytes::from_static(b"f")).await.is_err());
    assert_eq!(&kept.lock().body[..], b"abcd");
    assert_eq!(kept.lock().end, End::TooLong);
    assert_eq!(client.bytes_sent(), 11);
    // Leaving is final: the fetch that goes on for others changes nothing.
    client.finish(None).await.unwrap();
    assert_eq!(kept.lock().end, End::TooLong);
}

#[tokio::test]
async fn it_goes_away_when_its_time_is_over() {
    let (mut client, kept) = Internal::new(4, 10, Instant::now());
    client.gone().await;
    assert_eq!(kept.lock().end, End::TooLate);

    let (mut client, kept) = Internal::new(4, 10, Instant::now());
    let head = ResponseHead::new(StatusCode::OK);
    client.start(head, BodyLength::Unknown).await.unwrap();
    assert!(client.data(Bytes::from_static(b"a")).await.is_err());
    assert_eq!(kept.lock().end, End::TooLate);
}

async fn get(
    shared: &Arc<Shared>,
    scheme: &str,
    host: &str,
    target: &str,
    bound: usize,
) -> Result<Fetched, String> {
    fetch(shared, scheme, host, target, asking(Some("br")), bound).await
}

/// What a daemon shares whose one site is `a.example`, before an upstream that answers everything
/// with `answer`; and the requests as the upstream gets them, in lower case.
async fn daemon(answer: &'static str, tls: &str) -> (Arc<Shared>, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    let (sender, asked) = mpsc::channel(10);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
            // A test that has seen enough listens no more.
            let _ = sender.send(head).await;
            stream.write_all(answer.as_bytes()).await?;
        }
        io::Result::Ok(())
    });
    tls::install();
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "state = {:?}\n[log]\naccess = \"off\"\n[[site]]\nnames = \"a.example\"\n{tls}\n\
         upstream = \"http://{upstream}\"\n",
        folder.path()
    );
    let config = sovereign_config::parse("proxy.toml", &text, folder.path()).unwrap();
    let metrics = Metrics::new().unwrap();
    let access_log = AccessLog::open(&config.log, metrics.log_dropped.clone()).unwrap();
    let set = Set::load(&config.sites, &config.state).unwrap();
    let certificates = Arc::new(Certificates::new(set).unwrap());
    let live = Live::new(config, None, &metrics, folder.path());
    let cache = Arc::new(Cache::open(&live.config.cache, folder.path()));
    let (changes, _) = Changes::new();
    let store = crate::acme::store::open(folder.path(), None).await.unwrap();
    let answers = crate::acme::answers::Answers::new(store.clone());
    let history = Arc::new(crate::acme::history::History::open(folder.path()));
    let acme = crate::acme::Acme::new(folder.path(), store, history, answers.clone());
    let shared = Shared::new(
        live,
        certificates,
        (acme, answers),
        (cache, changes),
        metrics,
        access_log,
    );
    (Arc::new(shared), asked)
}
