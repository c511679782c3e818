//! How long a response is fresh (items 1 to 5).

use std::time::Duration;

use sovereign_tests::eventually;
use sovereign_tests::script::{Gate, Say};

use super::{NOT_REUSED, Stage, age, check, each, ensure, is_hit, reused};

/// Ten hours ago: a heuristic would make it an hour of freshness.
const CHANGED: &str = "last-modified: {-36000}";
const NOW: &str = "date: {+0}";

/// Item 1 (9111 4.2.1, 5.2.2.10).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[rustfmt::skip]
async fn item_1_where_a_lifetime_comes_from() {
    check(&[
        // s-maxage, whichever is longer, in any order, over one line or several.
        (&["cache-control: s-maxage=3600, max-age=7200"], Some(3600)),
        (&["cache-control: max-age=7200, s-maxage=3600"], Some(3600)),
        (&["cache-control: s-maxage=7200, max-age=3600"], Some(7200)),
        (&["cache-control: max-age=3600, s-maxage=7200"], Some(7200)),
        (&["cache-control: s-maxage=3600, max-age=0"], Some(3600)),
        (&["cache-control: max-age=3600, s-maxage=0"], NOT_REUSED),
        (&["cache-control: s-maxage=0, max-age=3600"], NOT_REUSED),
        (&["cache-control: max-age=0", "cache-control: s-maxage=3600"], Some(3600)),
        (&["cache-control: s-maxage=3600", "x-between: 1", "cache-control: max-age=0"], Some(3600)),
        (&["cache-control: s-maxage=0", "cache-control: max-age=3600"], NOT_REUSED),
        (&["cache-control: s-maxage=3600", NOW, "expires: {-3600}", CHANGED], Some(3600)),
        (&["cache-control: s-maxage=0", NOW, "expires: {+3600}", CHANGED], NOT_REUSED),
        // max-age before Expires.
        (&["cache-control: max-age=3600", NOW, "expires: {-3600}"], Some(3600)),
        (&["cache-control: max-age=3600", NOW, "expires: {+7200}"], Some(3600)),
        (&["cache-control: max-age=3600", "expires: 0"], Some(3600)),
        (&["cache-control: max-age=0", NOW, "expires: {+3600}", CHANGED], NOT_REUSED),
        // Expires before a heuristic.
        (&[NOW, "expires: {+7200}", CHANGED], Some(7200)),
        (&[NOW, "expires: {-7200}", CHANGED], NOT_REUSED),
        (&["cache-control: public", NOW, "expires: {+7200}"], Some(7200)),
        // A heuristic where there is nothing else.
        (&[NOW, CHANGED], Some(3600)),
        (&["cache-control: foo", NOW, CHANGED], Some(3600)),
    ])
    .await;
}

/// Item 2 (9111 1.2.2, 4.2.1, 5.2; 9110 5.6.4).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[rustfmt::skip]
async fn item_2_how_directives_are_read() {
    check(&[
        // Names without case.
        (&["cache-control: MaX-aGe=3600"], Some(3600)),
        (&["cache-control: S-MAXAGE=3600, MAX-AGE=0"], Some(3600)),
        (&["cache-control: max-age=3600, No-Store"], NOT_REUSED),
        // Unknown directives.
        (&["cache-control: foobar, max-age=3600"], Some(3600)),
        (&["cache-control: foo=bar, max-age=3600, x"], Some(3600)),
        (&["cache-control: foo=1;max-age=0, max-age=3600"], Some(3600)),
        (&["cache-control: xmax-age=3600"], NOT_REUSED),
        (&["cache-control: max-agex=3600"], NOT_REUSED),
        (&["cache-control: , ,max-age=3600,,"], Some(3600)),
        // What stands in a quoted value of another directive.
        (&["cache-control: ext=\"max-age=3600\""], NOT_REUSED),
        (&["cache-control: ext=\"a, max-age=3600, b\""], NOT_REUSED),
        (&["cache-control: max-age=3600, ext=\"a, no-store, b\""], Some(3600)),
        (&["cache-control: ext=\"a, max-age=0, b\", max-age=3600"], Some(3600)),
        (&["cache-control: ext=\"a\\\", max-age=0, \\\"b\", max-age=3600"], Some(3600)),
        // Leading zeros, and more than can be counted.
        (&["cache-control: max-age=0003600"], Some(3600)),
        (&["cache-control: max-age=000"], NOT_REUSED),
        (&["cache-control: max-age=2147483648"], Some(1 << 31)),
        (&["cache-control: max-age=2147483649"], Some(1 << 31)),
        (&["cache-control: max-age=4294967296"], Some(1 << 31)),
        (&["cache-control: max-age=4294967297"], Some(1 << 31)),
        (&["cache-control: max-age=18446744073709551617"], Some(1 << 31)),
        (&["cache-control: max-age=99999999999999999999999999999999999999999"], Some(1 << 31)),
        (&["cache-control: s-maxage=99999999999999999999, max-age=0"], Some(1 << 31)),
        // What cannot be read means stale, whatever else there is.
        (&["cache-control: max-age=-3600", NOW, "expires: {+3600}", CHANGED], NOT_REUSED),
        (&["cache-control: max-age='3600'", NOW, "expires: {+3600}", CHANGED], NOT_REUSED),
        (&["cache-control: max-age=3600.0", NOW, "expires: {+3600}", CHANGED], NOT_REUSED),
        (&["cache-control: max-age=a3600", NOW, "expires: {+3600}", CHANGED], NOT_REUSED),
        (&["cache-control: max-age=3600a", NOW, "expires: {+3600}", CHANGED], NOT_REUSED),
        (&["cache-control: max-age=3 600", NOW, "expires: {+3600}", CHANGED], NOT_REUSED),
        (&["cache-control: max-age", NOW, "expires: {+3600}", CHANGED], NOT_REUSED),
        (&["cache-control: max-age=", NOW, "expires: {+3600}", CHANGED], NOT_REUSED),
        (&["cache-control: max-age =3600", NOW, "expires: {+3600}", CHANGED], NOT_REUSED),
        (&["cache-control: max-age= 3600", NOW, "expires: {+3600}", CHANGED], NOT_REUSED),
        (&["cache-control: s-maxage=-1, max-age=3600"], NOT_REUSED),
        (&["cache-control: s-maxage='3600', max-age=3600"], NOT_REUSED),
        (&["cache-control: max-age=\"3600\""], Some(3600)),
        // The first of several; the second never.
        (&["cache-control: max-age=0, max-age=3600"], NOT_REUSED),
        (&["cache-control: max-age=0", "cache-control: max-age=3600"], NOT_REUSED),
        (&["cache-control: max-age=x, max-age=3600"], NOT_REUSED),
        (&["cache-control: s-maxage=0, s-maxage=3600"], NOT_REUSED),
        (&["cache-control: max-age=3600, max-age=7200"], Some(3600)),
    ])
    .await;
}

/// Item 3 (9110 5.6.7, 6.6.1; 9111 5.3). 2050-08-18 is a Thursday.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_3_how_expires_is_read() {
    let stage = Stage::open().await;
    #[rustfmt::skip]
    let readable = [
        "Thu, 18 Aug 2050 02:01:18 GMT", "thu, 18 aug 2050 02:01:18 gmt", "THU, 18 AUG 2050 02:01:18 GMT",
        "Thursday, 18-Aug-50 02:01:18 GMT", "thursday, 18-aug-50 02:01:18 gmt", "THURSDAY, 18-AUG-50 02:01:18 GMT",
        "Thu Aug 18 02:01:18 2050", "thu aug 18 02:01:18 2050", "Mon Aug  1 02:01:18 2050",
        // The century slides: what is less than fifty years ahead is ahead.
        "{rfc850 +3600}", "{rfc850 +1500000000}",
    ];
    #[rustfmt::skip]
    let expired = [
        // Another zone, or none.
        "Thu, 18 Aug 2050 02:01:18 UTC", "Thu, 18 Aug 2050 02:01:18 EST", "Thu, 18 Aug 2050 02:01:18 +0000",
        "Thu, 18 Aug 2050 02:01:18", "Thu, 18 Aug 2050 02:01:18 GMT+1", "Thu, 18 Aug 2050 02:01:18 Z",
        "Thursday, 18-Aug-50 02:01:18 UTC", "Thu Aug 18 02:01:18 2050 GMT",
        // Without its comma.
        "Thu 18 Aug 2050 02:01:18 GMT", "Thursday 18-Aug-50 02:01:18 GMT",
        // One form's parts in another.
        "Thu, 18-Aug-2050 02:01:18 GMT", "Thursday, 18-Aug-2050 02:01:18 GMT", "Thu, 18 Aug 50 02:01:18 GMT",
        "18 Aug 2050 02:01:18 GMT", "Thu, Aug 18 2050 02:01:18 GMT", "2050-08-18T02:01:18Z",
        // One digit of the hour, of the day; two spaces.
        "Thu, 18 Aug 2050 2:01:18 GMT", "Thursday, 18-Aug-50 2:01:18 GMT", "Thu Aug 18 2:01:18 2050",
        "Thu, 1 Aug 2050 02:01:18 GMT", "Thu,  18 Aug 2050 02:01:18 GMT", "Thu, 18 Aug  2050 02:01:18 GMT",
        "Thu, 18 Aug 2050  02:01:18 GMT", "Thu, 18 Aug 2050 02:01:18  GMT", "Thu,18 Aug 2050 02:01:18 GMT",
        // Hours and days that are none.
        "Thu, 18 Aug 2050 24:01:18 GMT", "Thu, 32 Aug 2050 02:01:18 GMT", "Thu, 18 Foo 2050 02:01:18 GMT",
        "Thu, 18 Aug 2050 02.01.18 GMT",
        // No date at all.
        "0", "-1", "", "never", "2544487278", "\"Thu, 18 Aug 2050 02:01:18 GMT\"",
        // Two in one line.
        "Thu, 18 Aug 2050 02:01:18 GMT, Thu, 18 Aug 2050 02:01:18 GMT",
        // The century slides: what seems more than fifty years ahead is long past.
        "{rfc850 +1640000000}",
    ];
    let rows = readable
        .map(|date| (date, true))
        .into_iter()
        .chain(expired.map(|date| (date, false)));
    each(
        rows,
        async |(date, wanted)| {
            // Were it no matter what it says, there would be a heuristic.
            let expires = format!("expires: {date}");
            let found = stage.reuse(Say::ok(&[NOW, &expires, CHANGED])).await?;
            // A heuristic would have made it an hour; the nearest of these is one too.
            let fresh = found.is_some_and(|left| date.contains("+3600") || left > 7200);
            ensure(
                fresh == *wanted && fresh == found.is_some(),
                format!("{found:?} seconds left"),
            )
        },
        |(date, wanted)| format!("{date:?}, readable: {wanted}"),
    )
    .await;
}

/// Item 3: two lines of it; what it is computed against (9110 6.6.1; 9111 5.3).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[rustfmt::skip]
async fn item_3_expires_beside_date() {
    check(&[
        (&[NOW, "expires: {+7200}", "expires: {+7200}", CHANGED], NOT_REUSED),
        (&[NOW, "expires: {+7200}", "expires: 0", CHANGED], NOT_REUSED),
        // An origin whose clock is ahead.
        (&["date: {+7200}", "expires: {+10800}"], Some(3600)),
        (&["date: {+7200}", "expires: {+7000}", CHANGED], NOT_REUSED),
        // One whose clock is behind: what it gave out an hour and a half ago, for two.
        (&["date: {-5400}", "expires: {+1800}"], Some(1800)),
        // No Date that could be read.
        (&["expires: {+7200}"], Some(7200)),
        (&["date: 0", "expires: {+7200}"], Some(7200)),
        (&["date: Thu, 18 Aug 2050 02:01:18 UTC", "expires: {+7200}"], Some(7200)),
        (&["date: yesterday", "expires: {-60}", CHANGED], NOT_REUSED),
        (&["date: yesterday", "cache-control: max-age=3600"], Some(3600)),
        (&["date: yesterday", CHANGED], Some(3600)),
    ])
    .await;
}

/// Item 4 (9111 4.2.3, 5.1): what is on arrival.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[rustfmt::skip]
async fn item_4_how_old_a_response_is_on_arrival() {
    const HOUR: &str = "cache-control: max-age=3600";
    check(&[
        (&[HOUR, "age: 1800"], Some(1800)),
        (&[HOUR, "age: 3600"], NOT_REUSED),
        (&[HOUR, "age: 7200"], NOT_REUSED),
        (&["cache-control: s-maxage=3600", "age: 7200"], NOT_REUSED),
        (&[NOW, "expires: {+3600}", "age: 1800"], Some(1800)),
        // The first member of the first line.
        (&[HOUR, "age: 1800, 0"], Some(1800)),
        (&[HOUR, "age: 0, 7200"], Some(3600)),
        (&[HOUR, "age: 7200, 0"], NOT_REUSED),
        (&[HOUR, "age: 1800", "age: 0"], Some(1800)),
        (&[HOUR, "age: 0", "age: 7200"], Some(3600)),
        (&[HOUR, "age: 7200", "age: 0"], NOT_REUSED),
        // What is no number of seconds is ignored.
        (&[HOUR, "age: abc"], Some(3600)),
        (&[HOUR, "age: -7200"], Some(3600)),
        (&[HOUR, "age: 7200.0"], Some(3600)),
        (&[HOUR, "age: 7200s"], Some(3600)),
        (&[HOUR, "age: 0x2000"], Some(3600)),
        (&[HOUR, "age: \"7200\""], Some(3600)),
        (&[HOUR, "age: "], Some(3600)),
        // A huge one is clamped, never wrapped.
        (&[HOUR, "age: 2147483649"], NOT_REUSED),
        (&[HOUR, "age: 4294967297"], NOT_REUSED),
        (&[HOUR, "age: 18446744073709551617"], NOT_REUSED),
        (&[HOUR, "age: 99999999999999999999999999999999"], NOT_REUSED),
        // The apparent age, and the greater of both.
        (&[HOUR, "date: {-1800}"], Some(1800)),
        (&[HOUR, "date: {-7200}"], NOT_REUSED),
        (&[HOUR, "date: {-1800}", "age: 2700"], Some(900)),
        (&[HOUR, "date: {-2700}", "age: 1800"], Some(900)),
        (&[HOUR, "date: {+1800}"], Some(3600)),
        (&[HOUR, "date: {+1800}", "age: 1800"], Some(1800)),
        // A lifetime of nothing.
        (&["cache-control: max-age=0", CHANGED], NOT_REUSED),
        (&[NOW, "expires: {+0}", CHANGED], NOT_REUSED),
        (&["date: {-60}", "expires: {-60}", CHANGED], NOT_REUSED),
    ])
    .await;
}

/// Item 4 (9111 4.2.3): the time that a response was on its way counts, where an `Age` came with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_4_the_delay_of_a_response_counts() {
    let stage = Stage::open().await;
    let gate = Gate::new();
    let lines = ["cache-control: max-age=3600", "age: 1800", NOW];
    let path = stage.page([Say::ok(&lines).held(&gate)]);
    let (first, ()) = tokio::join!(stage.get(&path), async {
        tokio::time::sleep(Duration::from_millis(2100)).await;
        gate.open();
    });
    assert!(!is_hit(&first.expect(200)));
    let second = stage.get(&path).await;
    assert!(is_hit(&second) && age(&second) >= 1802, "{second}");
}

/// Item 4 (9111 4.2.3): the time in the store counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_4_a_response_ages_in_the_store() {
    let stage = Stage::open().await;
    let path = stage.page([
        Say::ok(&["cache-control: max-age=3600", "age: 3597"]),
        Say::ok(&["cache-control: max-age=3600"]),
    ]);
    stage.get(&path).await.expect(200);
    eventually("it is stale", Duration::from_secs(30), || async {
        let answer = stage.get(&path).await;
        if !is_hit(&answer) {
            return Ok(());
        }
        assert!((3597..3600).contains(&age(&answer)), "{answer}");
        Err(answer)
    })
    .await;
    assert_eq!(stage.asked(&path), 2);
}

/// Item 5 (9111 4.2.2; 9110 15.1): statuses. A 206 is in `serving`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_5_which_statuses_are_guessed_at() {
    let stage = Stage::open().await;
    let guessed = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];
    #[rustfmt::skip]
    let others = [
        201, 202, 299, 302, 303, 307, 400, 402, 403, 406, 409, 413, 418, 422, 429, 451, 500, 502, 503, 504, 505, 599,
    ];
    let alone = [NOW, CHANGED];
    let public = ["cache-control: public", NOW, CHANGED];
    let unchanged = ["cache-control: public", NOW];
    let rows = guessed
        .map(|status| (status, &alone[..], Some(3600)))
        .into_iter()
        .chain(others.map(|status| (status, &alone[..], NOT_REUSED)))
        // Marked `public`, any.
        .chain(guessed.map(|status| (status, &public[..], Some(3600))))
        .chain(others.map(|status| (status, &public[..], Some(3600))))
        // Without Last-Modified, none.
        .chain(guessed.map(|status| (status, &unchanged[..], NOT_REUSED)))
        .chain(others.map(|status| (status, &unchanged[..], NOT_REUSED)));
    reused(&stage, rows).await;
}

/// Item 5 (9111 4.2.2): how long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[rustfmt::skip]
async fn item_5_how_long_a_guess_is() {
    check(&[
        (&[NOW, "last-modified: {-36000}"], Some(3600)),
        (&[NOW, "last-modified: {-72000}"], Some(7200)),
        (&["last-modified: {-36000}"], Some(3600)),
        (&[NOW, "last-modified: {rfc850 -36000}"], Some(3600)),
        (&[NOW, "last-modified: {asctime -36000}"], Some(3600)),
        // Against Date: older than it is fresh, younger than it is fresh.
        (&["date: {-1800}", "last-modified: {-37800}"], Some(1800)),
        (&["date: {-7200}", "last-modified: {-43200}"], NOT_REUSED),
        (&["date: {+7200}", "last-modified: {-28800}"], Some(3600)),
        (&[NOW, "last-modified: {-36000}", "age: 1800"], Some(1800)),
        (&[NOW, "last-modified: {-36000}", "age: 3600"], NOT_REUSED),
        // Changed now or later, or at a time that cannot be read; no change known.
        (&[NOW, "last-modified: {+0}"], NOT_REUSED),
        (&[NOW, "last-modified: {+36000}"], NOT_REUSED),
        (&[NOW, "last-modified: long ago"], NOT_REUSED),
        (&[NOW, "etag: \"a\""], NOT_REUSED),
        (&[NOW], NOT_REUSED),
    ])
    .await;
}
