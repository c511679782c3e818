//! The real components by themselves, with nothing between: where one of these fails, the fault is
//! not the proxy's.

use http::Method;
use sovereign_tests::client::whole;
use sovereign_tests::origin::reply;
use sovereign_tests::websocket::{Said, WebSocket};
use sovereign_tests::{Chromium, Client, Etcd, Lab, NostrRelay, Origin, Radicale, Target};

use crate::blog::{PNG, SECRET, blog};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ghost_serves_its_posts_and_keeps_its_secret() {
    let _lab = Lab::open().await;
    let blog = blog().await;
    let direct = blog.ghost.direct();
    let page = direct.get("/for-members/").await.expect(200);
    assert!(page.text().contains("Everyone reads this.") && !page.text().contains(SECRET));
    assert_eq!(direct.get(&blog.picture).await.expect(200).body, PNG);

    let member = blog.ghost.add_member("grace@example.com").await;
    let path = blog.ghost.sign_in_path(&member).await;
    let cookie = direct.get(&path).await.expect(302).cookies();
    let page = direct
        .get_with("/for-members/", &[("cookie", &cookie)])
        .await
        .expect(200);
    assert!(page.text().contains(SECRET), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn radicale_keeps_a_calendar() {
    let lab = Lab::open().await;
    let radicale = Radicale::start(&lab).await;
    let client = Client::h1(&Target::plain(radicale.address(), "calendar.test"));
    let owner = [("authorization", "Basic YWRhOg==")];
    let method = Method::from_bytes(b"MKCALENDAR").expect("a method");
    client
        .ask(method, "/ada/rounds/", &owner, whole(""))
        .await
        .expect(201);
    client.get_with("/ada/rounds/", &owner).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_relay_relays() {
    let lab = Lab::open().await;
    let relay = NostrRelay::start(&lab).await;
    let mut socket = WebSocket::open(&Target::plain(relay.address(), "relay.test"), "/").await;
    socket.say(r#"["REQ","all",{"kinds":[1]}]"#).await;
    assert_eq!(socket.hear().await, Said::Text(r#"["EOSE","all"]"#.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_browser_runs_scripts_and_takes_pictures() {
    let lab = Lab::open().await;
    let page =
        "<!doctype html><h1>1</h1><script>document.querySelector('h1').innerText = 1 + 1</script>";
    let origin =
        Origin::start(
            move |_| async move { reply(200, [("content-type", "text/html")], whole(page)) },
        )
        .await;
    let mut browser = Chromium::start(&lab, &[("shown.test", origin.address())]).await;
    browser.open("http://shown.test/").await;
    browser
        .sees("document.querySelector('h1').innerText === '2'")
        .await;
    browser.screenshot(&lab.path().join("picture.png")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_answers_when_it_is_not_frozen() {
    let lab = Lab::open().await;
    let etcd = Etcd::start(&lab).await;
    etcd.freeze();
    etcd.thaw();
    let client = Client::h1(&Target::plain(etcd.address(), "etcd.test"));
    let health = client.get("/health").await.expect(200).json();
    assert_eq!(health["health"], "true", "{health}");
}
