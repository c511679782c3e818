//! Ghost restarts while visitors read.

use std::time::{Duration, Instant};

use sovereign_tests::load::{Get, Load, Record};
use sovereign_tests::{Client, Lab, eventually};

use crate::blog::{HOST, POSTS, blog, front};

/// The number that is promised: a cached page does not notice a restart.
const CACHED: Duration = Duration::from_millis(50);

/// Whether the page of this request was in the cache before Ghost went away.
fn is_cached(record: &Record) -> bool {
    !record.get.path.contains('?')
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_requests_over_a_restart_and_none_fails() {
    let lab = Lab::alone().await;
    let blog = blog().await;
    // Twice the usual hold: on a busy machine Ghost boots for longer than the 10 s that are usual.
    let proxy = front(&lab, blog, "hold = \"30s\"").await;
    let visitor = Client::h2(&proxy.https(HOST));
    for number in 0..POSTS {
        visitor.get(&format!("/post-{number}/")).await.expect(200);
    }

    // 145 requests a second. One of 25 is for a page that nobody has read: it is held.
    let load = Load::new(&proxy.https(HOST), 145, |number| match number % 25 {
        24 => Get::path(format!("/post-{}/?nobody-read={number}", number % POSTS)),
        _ => Get::path(format!("/post-{}/", number % POSTS)),
    })
    .checked(|get, answer| {
        let number = &get.path["/post-".len()..][..1];
        let right = answer
            .text()
            .contains(&format!("This is post number {number}."));
        match answer.status.as_u16() {
            200 if right => Ok(()),
            200 => Err("answered another page".into()),
            status => Err(format!("answered {status}")),
        }
    })
    .start();
    let seen = async |count| {
        eventually("the load goes on", Duration::from_secs(60), || {
            let done = load.done();
            std::future::ready((done >= count).then_some(()).ok_or(done))
        })
        .await;
    };
    seen(150).await;
    let away = Instant::now();
    blog.ghost.stop().await;
    // With its boot, Ghost is away for about 10 s.
    seen(1_000).await;
    blog.ghost.spawn(&blog.lab);
    blog.ghost.serves().await;
    let away = away.elapsed();
    let at_return = load.done();
    seen(at_return.max(1_850) + 150).await;
    let report = load.stop().await;

    println!(
        "Ghost was away for {away:.1?}, until {at_return} requests were done; of cached pages the slowest took {:.1?}; {}",
        report.quantile(1.0, is_cached),
        report.summary()
    );
    assert!(report.records.len() >= 2_000);
    report.assert_none_failed();
    let slowest = report.quantile(1.0, is_cached);
    assert!(
        slowest < CACHED,
        "a cached page took {slowest:.1?}; median {:.1?}, 99% {:.1?}",
        report.quantile(0.5, is_cached),
        report.quantile(0.99, is_cached),
    );
    let held = report.quantile(1.0, |record| !is_cached(record));
    assert!(
        held > Duration::from_millis(500),
        "no request was held ({held:.1?}): Ghost was never away"
    );
    proxy.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ghosts_own_page_about_booting_is_not_shown() {
    let lab = Lab::alone().await;
    let blog = blog().await;
    let proxy = front(&lab, blog, "hold = \"60s\"").await;
    let visitor = Client::h1(&proxy.https(HOST));

    blog.ghost.stop().await;
    blog.ghost.spawn(&blog.lab);
    // Ghost answers 503 without Retry-After while it boots; the visitor waits instead.
    let page = visitor.get("/post-3/?while-it-boots").await.expect(200);
    assert!(page.text().contains("This is post number 3."), "{page}");
    blog.ghost.serves().await;
}
