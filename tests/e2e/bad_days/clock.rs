//! The clock is set back, and forward: a response is no fresher for it than it said, and a purge stays
//! a purge.

use std::path::PathBuf;

use sovereign_tests::faketime::{launch, set};
use sovereign_tests::truth::{Asker, check, is_hit, path, read_all};
use sovereign_tests::{Answer, Lab, Proxy, Truth, eventually};

use super::{HOST, PATIENCE, assert_calm, settle};

/// A proxy whose wall clock is off by what a file says; its steady clock is not.
fn prepare(lab: &Lab, truth: &Truth) -> (Proxy, PathBuf) {
    let (launch, offset) = launch(lab);
    let proxy = Proxy::prepare(lab, launch, "", &truth.site(HOST, ""));
    (proxy, offset)
}

async fn ask(proxy: &Proxy, path: &str) -> Answer {
    let answer = Asker::new(&proxy.http(HOST)).get(path).await;
    let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
    check(path, &answer).unwrap_or_else(|wrong| panic!("{wrong}\n{answer}"));
    answer
}

async fn goes_stale(proxy: &Proxy, path: &str, when: &str) {
    let what = format!("what was fresh is stale {when}");
    eventually(&what, PATIENCE, || async {
        let answer = ask(proxy, path).await;
        (!is_hit(&answer)).then_some(()).ok_or(answer)
    })
    .await;
}

/// The daemon believes the file, or nothing is proved.
async fn clock_is_off(proxy: &Proxy, hours: i64) {
    eventually("the clock is off", PATIENCE, || async {
        // An answer that nobody keeps has the time of the daemon, where the origin gives none; ours does.
        let answer = Asker::new(&proxy.http("nobody.test")).get("/").await?;
        let date = answer.header("date").to_owned();
        let here = std::time::SystemTime::now();
        let there = minute_of(&date).ok_or(format!("no date: {answer}"))?;
        let wanted = minute_of_time(here, hours);
        ((there - wanted).rem_euclid(1440) <= 2 || (wanted - there).rem_euclid(1440) <= 2)
            .then_some(())
            .ok_or(date)
    })
    .await;
}

/// The minute of the day in a `Date`, such as `Sun, 22 Nov 2026 18:04:31 GMT`.
fn minute_of(date: &str) -> Option<i64> {
    let mut time = date.split(' ').nth(4)?.split(':');
    let hours: i64 = time.next()?.parse().ok()?;
    let minutes: i64 = time.next()?.parse().ok()?;
    Some(hours * 60 + minutes)
}

/// The minute of the day so many hours after `time`.
fn minute_of_time(time: std::time::SystemTime, hours: i64) -> i64 {
    let since = time.duration_since(std::time::UNIX_EPOCH);
    let minutes = since.map_or(0, |since| since.as_secs() / 60) as i64;
    (minutes + hours * 60).rem_euclid(1440)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clock_is_set_back_an_hour() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let (mut proxy, offset) = prepare(&lab, &truth);
    proxy.start_again(&lab).await;
    clock_is_off(&proxy, 0).await;

    let (short, long) = (path(5_000, "short?age=3"), path(5_000, "long?age=7200"));
    for path in [&short, &long] {
        assert!(!is_hit(&ask(&proxy, path).await));
    }
    settle(&proxy).await;
    set(&offset, "-1h");
    clock_is_off(&proxy, -1).await;
    for path in [&short, &long] {
        let answer = ask(&proxy, path).await;
        let age = answer.header("age").parse().unwrap_or(0);
        assert!(age <= 60, "{age} seconds old: {answer}");
    }
    // It was to be fresh for three seconds, not for an hour and three seconds.
    goes_stale(&proxy, &short, "in the same life").await;
    assert!(is_hit(&ask(&proxy, &long).await));

    // In the next life there is no steady clock to go by: it was stored in what is now the future.
    let short = path(5_000, "short-again?age=3");
    set(&offset, "+0");
    clock_is_off(&proxy, 0).await;
    ask(&proxy, &short).await;
    settle(&proxy).await;
    proxy.kill().await;
    set(&offset, "-1h");
    proxy.start_again(&lab).await;
    clock_is_off(&proxy, -1).await;
    goes_stale(&proxy, &short, "in the next life").await;
    // What is stored now is a hit now, and after the clock was put right and the daemon killed.
    let fresh = path(5_000, "fresh");
    ask(&proxy, &fresh).await;
    assert!(is_hit(&ask(&proxy, &fresh).await));
    settle(&proxy).await;
    proxy.kill().await;
    set(&offset, "+0");
    proxy.start_again(&lab).await;
    let answer = ask(&proxy, &fresh).await;
    assert!(is_hit(&answer), "{answer}");
    assert_calm(&proxy);
}

/// What was stored before is older than the purge, whatever the clock says; what was stored after is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_holds_though_the_clock_was_set_back() {
    let lab = Lab::open().await;
    let truth = Truth::start().await;
    let (mut proxy, offset) = prepare(&lab, &truth);
    proxy.start_again(&lab).await;
    let target = proxy.http(HOST);
    let paths: Vec<_> = (0..20).map(|n| path(5_000, &format!("{n}"))).collect();
    read_all(&target, &paths).await;
    settle(&proxy).await;

    set(&offset, "-1h");
    clock_is_off(&proxy, -1).await;
    let purge = proxy.command(&["purge", "--hard", "--site", HOST]).await;
    assert!(
        purge.status.success(),
        "{}",
        sovereign_tests::proxy::said(&purge)
    );
    let (gone, stays) = paths.split_at(10);
    read_all(&target, gone).await.assert_no_hits();
    settle(&proxy).await;
    proxy.kill().await;
    proxy.start_again(&lab).await;
    clock_is_off(&proxy, -1).await;
    read_all(&target, gone).await.assert_all_hits();
    read_all(&target, stays).await.assert_no_hits();
    settle(&proxy).await;
    proxy.kill().await;
    set(&offset, "+0");
    proxy.start_again(&lab).await;
    read_all(&target, &paths).await.assert_all_hits();
    assert_calm(&proxy);
}
