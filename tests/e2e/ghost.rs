//! A real Ghost behind the proxy: what visitors, members and the owner get is what Ghost itself
//! gives, and nobody gets what was made for somebody else.

use http::Method;
use sovereign_tests::client::{empty, whole};
use sovereign_tests::{Answer, Client, Lab};

use crate::blog::{HOST, SECRET, blog, front};

/// The fields that an answer has to share with Ghost's own.
const SAME_FIELDS: [&str; 3] = ["content-type", "etag", "last-modified"];

#[track_caller]
fn assert_same(path: &str, own: &Answer, proxied: &Answer) {
    assert_eq!(proxied.status, own.status, "{path}: {proxied}");
    let (own_text, text) = (own.text(), proxied.text());
    let (own_text, made) = without_build_date(&own_text);
    let (text, _) = without_build_date(&text);
    for field in SAME_FIELDS {
        // An answer that says when it was made has another tag each time.
        if !(made && field == "etag") {
            assert_eq!(
                proxied.header(field),
                own.header(field),
                "{field} of {path}"
            );
        }
    }
    let same = if made {
        text == own_text
    } else {
        proxied.body == own.body
    };
    assert!(
        same,
        "{path}: {} bytes, of Ghost itself {}",
        proxied.body.len(),
        own.body.len()
    );
}

/// A feed without the second in which Ghost made it, and whether there was one.
fn without_build_date(text: &str) -> (String, bool) {
    let parts = text.split_once("<lastBuildDate>");
    match parts.and_then(|(before, rest)| Some((before, rest.split_once("</lastBuildDate>")?.1))) {
        Some((before, after)) => (before.to_owned() + after, true),
        None => (text.to_owned(), false),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visitor_gets_what_ghost_gives() {
    let lab = Lab::open().await;
    let blog = blog().await;
    let proxy = front(&lab, blog, "").await;
    let direct = blog.ghost.direct();
    let clients = [
        Client::h1(&proxy.https(HOST)),
        Client::h2(&proxy.https(HOST)),
    ];

    for path in [
        "/",
        "/post-0/",
        "/for-members/",
        "/author/owner/",
        "/rss/",
        "/sitemap-posts.xml",
        "/robots.txt",
        "/public/cards.min.css",
        "/favicon.ico",
        &blog.picture,
        "/there-is-no-such-page/",
        "/post-0",
    ] {
        let own = direct.get(path).await;
        for client in &clients {
            // Twice: from Ghost, and from the cache where it may be kept.
            for _ in 0..2 {
                assert_same(path, &own, &client.get(path).await);
            }
        }
    }
    assert_eq!(direct.get(&blog.picture).await.body, crate::blog::PNG);
    assert!(
        direct
            .get("/post-0/")
            .await
            .text()
            .contains("post number 0")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_come_from_the_cache_and_the_editor_never_does() {
    let lab = Lab::open().await;
    let proxy = front(&lab, blog().await, "").await;
    let visitor = Client::h2(&proxy.https(HOST));

    for path in ["/", "/post-1/", "/rss/", "/sitemap.xml"] {
        visitor.get(path).await.expect(200);
        let again = visitor.get(path).await.expect(200);
        assert!(
            again.header("cache-status").contains("hit"),
            "{path}: {again}"
        );
        assert!(!again.header("age").is_empty(), "{path}: {again}");
    }
    for path in [
        "/ghost/",
        "/ghost/api/admin/site/",
        "/members/api/member/",
        "/p/none/",
    ] {
        for _ in 0..2 {
            let answer = visitor.get(path).await;
            assert!(
                !answer.header("cache-status").contains("hit"),
                "{path}: {answer}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_members_page_is_never_shown_to_another_visitor() {
    let lab = Lab::open().await;
    let blog = blog().await;
    let proxy = front(&lab, blog, "").await;
    let stranger = Client::h2(&proxy.https(HOST));
    let member = blog.ghost.add_member("ada@example.com").await;

    // A stranger's page is in the cache before the member comes.
    let teaser = stranger.get("/for-members/").await.expect(200);
    assert!(!teaser.text().contains(SECRET));

    // The member logs in through the proxy, over TLS and HTTP/2.
    let path = blog.ghost.sign_in_path(&member).await;
    let signed_in = stranger.get(&path).await.expect(302);
    let cookie = signed_in.cookies();
    assert!(cookie.contains("ghost-members-ssr="), "{signed_in}");

    for client in [
        Client::h1(&proxy.https(HOST)),
        Client::h2(&proxy.https(HOST)),
    ] {
        let page = client
            .get_with("/for-members/", &[("cookie", &cookie)])
            .await
            .expect(200);
        assert!(page.text().contains(SECRET), "the member's page: {page}");
        assert!(!page.header("cache-status").contains("hit"), "{page}");
        // Not even a stranger who comes right behind, on the same connection, sees it.
        for _ in 0..2 {
            let page = client.get("/for-members/").await.expect(200);
            assert!(
                !page.text().contains(SECRET),
                "the member's page went to a stranger: {page}"
            );
        }
    }

    // A page that nobody has asked for is first seen by the member: nothing of it may stay.
    let fresh = "/for-members/?first=member";
    let page = stranger
        .get_with(fresh, &[("cookie", &cookie)])
        .await
        .expect(200);
    assert!(page.text().contains(SECRET), "{page}");
    let page = stranger.get(fresh).await.expect(200);
    assert!(
        !page.text().contains(SECRET),
        "the member's page was kept: {page}"
    );

    // Who the member is, is what Ghost itself says.
    let who = "/members/api/member/";
    let own = blog
        .ghost
        .direct()
        .get_with(who, &[("cookie", &cookie)])
        .await
        .expect(200);
    let proxied = stranger
        .get_with(who, &[("cookie", &cookie)])
        .await
        .expect(200);
    assert_eq!(proxied.json()["email"], "ada@example.com");
    assert_eq!(proxied.json()["email"], own.json()["email"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owner_works_through_the_proxy() {
    let lab = Lab::open().await;
    let blog = blog().await;
    let proxy = front(&lab, blog, "").await;
    let origin = blog.ghost.origin();

    for client in [
        Client::h1(&proxy.https(HOST)),
        Client::h2(&proxy.https(HOST)),
    ] {
        let login = blog.ghost.log_in(&client).await;
        assert!(
            login
                .header("set-cookie")
                .to_ascii_lowercase()
                .contains("secure"),
            "Ghost is not told that the visitor came by https: {login}"
        );
        let cookie = login.cookies();
        let fields = [("cookie", cookie.as_str()), ("origin", origin.as_str())];
        let me = client
            .get_with("/ghost/api/admin/users/me/", &fields)
            .await
            .expect(200);
        assert_eq!(
            me.json()["users"][0]["email"],
            sovereign_tests::Ghost::OWNER
        );

        // A page that the owner looks at while logged in is neither taken from the cache nor put there.
        let page = client
            .get_with("/post-2/?preview", &fields)
            .await
            .expect(200);
        assert!(!page.header("cache-status").contains("hit"), "{page}");

        // The session ends where the owner says so.
        client
            .ask(
                Method::DELETE,
                "/ghost/api/admin/session/",
                &fields,
                empty(),
            )
            .await
            .expect(204);
        client
            .get_with("/ghost/api/admin/users/me/", &fields)
            .await
            .expect(403);
    }
    Client::h2(&proxy.https(HOST))
        .ask(
            Method::POST,
            "/ghost/api/admin/session/",
            &[("origin", &origin)],
            whole("{}"),
        )
        .await
        .expect(401);
}
