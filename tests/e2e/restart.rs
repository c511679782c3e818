//! Ghost restarts while visitors read.

use std::time::{Duration, Instant};

use sovereign_tests::load::{Get, Load, Record, Report};
use sovereign_tests::{Client, Lab, Proxy, eventually};

use crate::blog::{Blog, HOST, POSTS, blog, front};

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
    // Pages are stale long before Ghost is back. The hold is twice the usual: on a busy machine Ghost
    // is away for longer than the 10 s that are meant.
    let more = "hold = \"30s\"\ncache = { lifetime = \"2s\" }";
    let proxy = front(&lab, blog, more).await;
    let visitor = Client::h2(&proxy.https(HOST));
    for number in 0..POSTS {
        visitor.get(&format!("/post-{number}/")).await.expect(200);
    }

    // A neighbour on the machine can stall anybody for 50 ms. A proxy that stalls does it each time.
    let mut slowest = Duration::MAX;
    for restart in 0..3 {
        let report = over_a_restart(blog, &proxy, restart).await;
        report.assert_none_failed();
        assert!(report.records.len() >= 2_000);
        let missed = report
            .records
            .iter()
            .find(|record| is_cached(record) && !record.cache_status.contains("; hit"));
        assert!(missed.is_none(), "not from the cache: {missed:?}");
        let held = report.quantile(1.0, |record| !is_cached(record));
        assert!(
            held > Duration::from_secs(1),
            "no request was held ({held:.1?}): Ghost was never away"
        );
        slowest = slowest.min(report.quantile(1.0, is_cached));
        if slowest < CACHED {
            break;
        }
    }
    assert!(slowest < CACHED, "a cached page took {slowest:.1?}");
    proxy.assert_no_panic();
}

/// 145 requests a second while Ghost is away for about 10 s, and a little before and after.
async fn over_a_restart(blog: &Blog, proxy: &Proxy, restart: usize) -> Report {
    // One of 25 is for a page that nobody has read: it is held.
    let load = Load::new(&proxy.https(HOST), 145, move |number| {
        let page = format!("/post-{}/", number % POSTS);
        Get::path(match number % 25 {
            24 => format!("{page}?nobody-read={restart}-{number}"),
            _ => page,
        })
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
    report
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
