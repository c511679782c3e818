//! Files and calendars behind the preset `nextcloud`: what is large streams both ways, and clients find their way.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use sovereign_tests::client::{Body, empty, whole};
use sovereign_tests::origin::reply;
use sovereign_tests::proxy::site;
use sovereign_tests::wait::within;
use sovereign_tests::{Client, Lab, Origin, Proxy};

use super::Peak;

const HOST: &str = "cloud.test";
/// A film, in pieces.
const PIECE: usize = 64 << 10;
const PIECES: usize = 4800;
const PATIENCE: Duration = Duration::from_secs(60);

fn film() -> Body {
    let pieces = futures_util::stream::unfold(0, |number| async move {
        let piece = || Ok(Frame::data(Bytes::from(vec![7; PIECE])));
        (number < PIECES).then(|| (piece(), number + 1))
    });
    StreamBody::new(pieces).boxed_unsync()
}

/// Keeps nothing: counts what it is sent, and sends the film to whoever asks.
async fn origin() -> Origin {
    Origin::start(|request| async move {
        if request.method() == Method::GET {
            return reply(200, [], film());
        }
        let (mut body, mut length) = (request.into_body(), 0);
        while let Some(Ok(frame)) = body.frame().await {
            length += frame.data_ref().map_or(0, Bytes::len);
        }
        reply(201, [], whole(length.to_string()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_film_goes_up_and_down_in_little_memory() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let proxy = Proxy::start(&lab, &site(HOST, &origin.url(), "preset = \"nextcloud\"")).await;
    let target = proxy.https(HOST);
    let (path, size) = ("/remote.php/dav/files/ada/film.mkv", PIECE * PIECES);
    let length = size.to_string();

    for (client, fields) in [
        (
            Client::h1(&target),
            &[("content-length", length.as_str())][..],
        ),
        // Its length is not said: in chunks.
        (Client::h1(&target), &[]),
        (Client::h2(&target), &[]),
    ] {
        let peak = Peak::watch(&proxy).await;
        let request = client.request(Method::PUT, path, fields, film());
        let answer = within("the film is taken", PATIENCE, client.send(request)).await;
        assert_eq!(answer.status(), 201);
        let told = answer.into_body().collect().await.expect("a whole body");
        assert_eq!(told.to_bytes(), length, "{fields:?}");

        let request = client.request(Method::GET, path, &[], empty());
        let mut film = client.send(request).await.into_body();
        let mut read = 0;
        while let Some(frame) = within("more of the film", PATIENCE, film.frame()).await {
            read += frame
                .expect("a whole body")
                .data_ref()
                .map_or(0, Bytes::len);
        }
        assert_eq!(read, size);
        let grown = peak.grown().await;
        println!(
            "{} MiB up and down: grew by {} MiB",
            size >> 20,
            grown >> 20
        );
        assert!(grown < 40 << 20, "{fields:?}: grew by {} MiB", grown >> 20);
    }
    proxy.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calendars_and_address_books_are_found() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let proxy = Proxy::start(&lab, &site(HOST, &origin.url(), "preset = \"nextcloud\"")).await;
    let propfind = Method::from_bytes(b"PROPFIND").expect("a method");
    let target = proxy.https(HOST);
    for client in [Client::h1(&target), Client::h2(&target)] {
        for path in ["/.well-known/caldav", "/.well-known/carddav"] {
            for method in [Method::GET, propfind.clone()] {
                let fields = [("depth", "0")];
                let answer = client.ask(method, path, &fields, empty()).await.expect(301);
                assert_eq!(answer.header("location"), "/remote.php/dav/", "{path}");
            }
        }
        // Where they are sent, they are heard, with what DAV says in fields.
        let fields = [("destination", "https://cloud.test/b"), ("overwrite", "F")];
        let move_ = Method::from_bytes(b"MOVE").expect("a method");
        let path = "/remote.php/dav/files/ada/a";
        client.ask(move_, path, &fields, empty()).await.expect(201);
        let seen = origin.last();
        assert_eq!(seen.header("destination"), fields[0].1);
        assert_eq!(seen.header("overwrite"), "F");
        assert_eq!(seen.header("x-forwarded-proto"), "https");
        assert_eq!(seen.header("x-forwarded-host"), HOST);
    }
    assert_eq!(origin.hits(), 2, "redirects are the proxy's");
}
