//! Ghost says that something has changed, and readers see it at once, although pages are kept for a day.

use std::time::{Duration, Instant};

use sovereign_tests::load::{Get, Load};
use sovereign_tests::{Client, Lab, eventually};

use crate::blog::{HOST, POSTS, blog, front};

/// What is promised: the time from Ghost's answer to the editor until the next reader sees the post.
const SEEN: Duration = Duration::from_secs(1);
/// A neighbour on the machine can stall anybody. A proxy that does not hear does so each time.
const TRIES: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_post_shows_at_once_on_pages_that_are_kept_for_a_day() {
    let lab = Lab::alone().await;
    let blog = blog().await;
    let proxy = front(&lab, blog, "").await;
    let reader = Client::h2(&proxy.https(HOST));
    let editor = Client::h2(&proxy.https(HOST));
    let cookie = blog.ghost.log_in(&editor).await.cookies();
    reader.get("/").await.expect(200);
    eventually(
        "the front page is kept",
        Duration::from_secs(10),
        async || {
            let answer = reader.get("/").await;
            let status = answer.header("cache-status").to_owned();
            let ttl: Option<i64> = status
                .split("ttl=")
                .nth(1)
                .and_then(|ttl| ttl.split(';').next()?.trim().parse().ok());
            match ttl {
                Some(ttl) if status.contains("; hit") && ttl > 80_000 => Ok(()),
                _ => Err(status),
            }
        },
    )
    .await;

    // Others read meanwhile, and nobody is disturbed.
    let load = Load::new(&proxy.https(HOST), 50, |number| match number % 2 {
        0 => Get::path("/"),
        _ => Get::path(format!("/post-{}/", number % POSTS)),
    })
    .start();
    let mut quickest = Duration::MAX;
    for number in 0..TRIES {
        let slug = format!("news-{number}-of-{}", proxy.https(HOST).address.port());
        let html = "<p>It has just happened.</p>";
        blog.ghost
            .publish_by(&editor, &cookie, &slug, html, "public")
            .await;
        let published = Instant::now();
        eventually(
            "the front page shows the post",
            Duration::from_secs(20),
            async || {
                let answer = reader.get("/").await;
                let shown = answer.text().contains(&format!("/{slug}/"));
                shown
                    .then_some(())
                    .ok_or(answer.header("cache-status").to_owned())
            },
        )
        .await;
        quickest = quickest.min(published.elapsed());
        println!("{slug} was seen after {:.0?}", published.elapsed());
        reader.get(&format!("/{slug}/")).await.expect(200);
    }
    let report = load.stop().await;
    report.assert_none_failed();
    assert!(quickest < SEEN, "a new post was seen after {quickest:.1?}");
    proxy.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_most_is_fetched_before_readers_ask() {
    let lab = Lab::alone().await;
    let blog = blog().await;
    let proxy = front(&lab, blog, "").await;
    let reader = Client::h1(&proxy.https(HOST));
    for _ in 0..3 {
        for number in 0..POSTS {
            reader.get(&format!("/post-{number}/")).await.expect(200);
        }
    }
    let cookie = blog.ghost.log_in(&reader).await.cookies();
    let slug = format!("fetched-{}", proxy.https(HOST).address.port());
    blog.ghost
        .publish_by(&reader, &cookie, &slug, "<p>New.</p>", "public")
        .await;
    // Nobody reads now, but the pages are fetched all the same.
    eventually(
        "all posts were fetched anew",
        Duration::from_secs(20),
        async || {
            let fetched = |path: String| {
                let log = proxy.access_log();
                log.iter()
                    .any(|line| line["client"] == "internal" && line["target"] == path.as_str())
            };
            let missing = (0..POSTS)
                .map(|number| format!("/post-{number}/"))
                .find(|path| !fetched(path.clone()));
            missing.map_or(Ok(()), Err)
        },
    )
    .await;
    let answer = reader.get("/post-0/").await;
    let status = answer.header("cache-status");
    assert!(
        status.contains("; hit") && !status.contains("detail="),
        "{status}"
    );
    proxy.assert_no_panic();
}
