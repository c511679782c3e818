//! Tests of lifetimes, ages, and what the operator adds to them. Each row says what it checks.
#![allow(clippy::unwrap_used)]

use std::time::UNIX_EPOCH;

use http::{HeaderName, HeaderValue};

use super::*;

/// A Monday; `Date` in the tables below is this second.
const DATE_TEXT: &str = "Mon, 05 Jan 2026 00:00:00 GMT";
const DAY_BEFORE: &str = "Sun, 04 Jan 2026 00:00:00 GMT";
const YEARS_BEFORE: &str = "Sun, 04 Jan 2015 00:00:00 GMT";
const MINUTE_AFTER: &str = "Mon, 05 Jan 2026 00:01:00 GMT";

fn received() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_767_571_200)
}

fn fields(lines: &[&str]) -> HeaderMap {
    let line = |line: &&str| {
        let (name, value) = line.split_once(": ").unwrap();
        (
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        )
    };
    lines.iter().map(line).collect()
}

fn judge(status: u16, lines: &[&str], policy: Policy) -> Freshness {
    let headers = fields(lines);
    let control = ResponseControl::of(&headers);
    let status = StatusCode::from_u16(status).unwrap();
    Freshness::of(status, &headers, &control, received(), received(), &policy)
}

const CC_60: &str = "cache-control: max-age=60";

#[test]
#[rustfmt::skip]
fn lifetimes() {
    use Source::{Expires, Heuristic, MaxAge, None, SMaxage};
    let (date, later) = (format!("date: {DATE_TEXT}"), format!("expires: {MINUTE_AFTER}"));
    let (same, before) = (format!("expires: {DATE_TEXT}"), format!("expires: {DAY_BEFORE}"));
    let changed = format!("last-modified: {DAY_BEFORE}");
    let long_ago = format!("last-modified: {YEARS_BEFORE}");
    let (date, later, changed) = (date.as_str(), later.as_str(), changed.as_str());
    type Row<'a> = (u16, &'a [&'a str], Source, u64, &'a str);
    let rows: &[Row<'_>] = &[
        (200, &["cache-control: max-age=9, s-maxage=1"], SMaxage, 1, "item 1: s-maxage wins"),
        (200, &["cache-control: s-maxage=9", CC_60], SMaxage, 9, "item 1: over several lines"),
        (200, &[CC_60, &before, date], MaxAge, 60, "item 1: max-age before Expires"),
        (200, &["cache-control: max-age=0", later, date], MaxAge, 0, "item 1"),
        (200, &[later, date], Expires, 60, "item 1: Expires minus Date"),
        (200, &[later], Expires, 60, "item 3: without Date, the time of receipt"),
        (200, &[later, "date: nonsense"], Expires, 60, "item 3: Date unreadable"),
        (200, &[&same, date], Expires, 0, "item 4: Expires = Date"),
        (200, &[&before, date], Expires, 0, "item 3: in the past"),
        (200, &["expires: 0", date, changed], Expires, 0, "item 3: 0 has expired"),
        (200, &[later, later, date], Expires, 0, "item 3: two lines"),
        (200, &[date, changed], Heuristic, 8640, "item 5: a tenth"),
        (200, &[changed], Heuristic, 8640, "item 5: against the time of receipt"),
        (200, &[date, &long_ago], Heuristic, 86_400, "a guess has its bound"),
        (200, &[date], None, 0, "item 5: no Last-Modified"),
        (200, &["last-modified: x"], None, 0, "item 5: no Last-Modified"),
        (302, &[date, changed], None, 0, "item 5: not this status"),
        (302, &[date, changed, "cache-control: public"], Heuristic, 8640, "item 5: public"),
        (500, &[date, changed], None, 0, "item 5: not this status"),
        (200, &["cdn-cache-control: max-age=5", CC_60, &before], MaxAge, 5, "item 28"),
        (200, &["cdn-cache-control: public", CC_60, later], None, 0, "item 28: Expires too"),
    ];
    for (status, lines, source, lifetime, checks) in rows {
        let found = judge(*status, lines, Policy::default());
        assert_eq!((found.source, found.lifetime.as_secs()), (*source, *lifetime), "{checks}");
    }
    for status in [200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501] {
        assert_eq!(judge(status, &[changed], Policy::default()).source, Heuristic, "item 5");
    }
}

/// Item 4.
#[test]
#[rustfmt::skip]
fn ages() {
    let before = format!("date: {DAY_BEFORE}");
    let later = format!("date: {MINUTE_AFTER}");
    for (lines, delay, age, checks) in [
        (&["age: 10"][..], 0, 10, "Age"),
        (&["age: 10"], 3, 13, "Age and the response's delay"),
        (&["age: 10, 20"], 0, 10, "the first member"),
        (&["age: 10", "age: 20"], 0, 10, "the first line"),
        (&["age: x, 20"], 0, 0, "no integer"),
        (&["age: -5"], 0, 0, "negative"),
        (&["age: 7.0"], 0, 0, "fractional"),
        (&["age: 99999999999999999999"], 0, 1 << 31, "clamped"),
        (&[before.as_str()], 0, 86_400, "apparent age"),
        (&[before.as_str(), "age: 90000"], 0, 90_000, "the greater of both"),
        (&[before.as_str(), "age: 5"], 0, 86_400, "the greater of both"),
        (&[later.as_str()], 0, 0, "a Date ahead of our clock"),
        (&[], 0, 0, "nothing known"),
    ] {
        let headers = fields(lines);
        let control = ResponseControl::of(&headers);
        let requested = received() - Duration::from_secs(delay);
        let found = Freshness::of(
            StatusCode::OK, &headers, &control, requested, received(), &Policy::default(),
        );
        assert_eq!(found.current_age(received()).as_secs(), age, "{checks}");
        let second = received() + Duration::from_secs(1);
        assert_eq!(found.current_age(second).as_secs(), age + 1, "{checks}: time in store");
    }
    let set_back = judge(200, &["age: 10"], Policy::default());
    assert_eq!(set_back.current_age(UNIX_EPOCH).as_secs(), 10, "a clock set back");
}

/// Item 4: fresh means older than the age, not as old; the ttl says the same.
#[test]
#[rustfmt::skip]
fn fresh_until() {
    let found = judge(200, &[CC_60, "age: 10"], Policy::default());
    for (later, fresh, ttl) in [(0, true, 50), (49_999, true, 1), (50_000, false, 0), (70_500, false, -20)] {
        let now = received() + Duration::from_millis(later);
        assert_eq!((found.is_fresh(now), found.ttl(now)), (fresh, ttl), "{later} ms");
    }
    let now = received() + Duration::from_millis(1500);
    assert!(!found.expired(now).is_fresh(now), "item 18: stale from now on");
}

/// Item 31, and what some applications mean by `public, max-age=0`.
#[test]
#[rustfmt::skip]
fn what_the_operator_adds() {
    use Source::{Expires, Heuristic, MaxAge, None, Operator, SMaxage};
    let hour = Some(Duration::from_secs(3600));
    let policy = Policy { lifetime: hour, stale: hour, stale_if_error: hour };
    let changed = format!("last-modified: {DAY_BEFORE}");
    type Row<'a> = (u16, &'a [&'a str], Source, bool, &'a str);
    let rows: &[Row<'_>] = &[
        (200, &[], Operator, true, "no lifetime given"),
        (200, &[&changed], Operator, true, "before a guess"),
        (404, &[], Operator, true, "a status that may be stored unasked"),
        (500, &[], None, false, "an error is not kept for the operator's sake"),
        (200, &["cache-control: public, max-age=0"], Operator, true, "public but zero"),
        (200, &["cache-control: max-age=0"], MaxAge, false, "zero, not public"),
        (200, &["cache-control: public, max-age=1"], MaxAge, false, "explicit"),
        (200, &["cache-control: public, max-age=x"], MaxAge, false, "unreadable is not zero"),
        (200, &["cache-control: public, max-age=0, s-maxage=0"], SMaxage, false, "explicit"),
        (200, &["cache-control: public, max-age=0, no-cache"], MaxAge, false, "no-cache"),
        (200, &["cache-control: public, max-age=0, no-store"], MaxAge, false, "no-store"),
        (200, &["cache-control: public, max-age=0, must-revalidate"], MaxAge, false, "forbidden"),
        (200, &["cache-control: public, max-age=0, proxy-revalidate"], MaxAge, false, "forbidden"),
        (200, &["cache-control: public, max-age=0, private"], MaxAge, false, "private"),
        (200, &["expires: 0"], Expires, false, "explicit"),
        (200, &["set-cookie: a=b"], None, false, "item 31: Set-Cookie"),
        (200, &["set-cookie: a=b", "cache-control: public, max-age=0"], MaxAge, false, "item 31"),
        (200, &["set-cookie: a=b", &changed], Heuristic, false, "item 31: Set-Cookie"),
    ];
    for (status, lines, source, window, checks) in rows {
        let found = judge(*status, lines, policy);
        assert_eq!(found.source, *source, "{checks}");
        // The window belongs to the lifetime it follows.
        let expected = if *window { 3600 } else { 0 };
        assert_eq!(found.stale_while_revalidate.as_secs(), expected, "{checks}");
    }
}

/// Items 19 and 20.
#[test]
#[rustfmt::skip]
fn windows() {
    let policy = Policy { stale_if_error: Some(Duration::from_secs(99)), ..Policy::default() };
    type Row<'a> = (&'a str, u64, Option<u64>, Option<u64>, bool, &'a str);
    let rows: &[Row<'_>] = &[
        ("max-age=1", 0, None, Some(99), false, "the site's bound"),
        ("max-age=1, stale-if-error=5", 0, Some(5), None, false, "5861 4"),
        ("max-age=1, stale-if-error=x", 0, Some(0), None, false, "unreadable is none"),
        ("max-age=1, stale-while-revalidate=5", 5, None, Some(99), false, "5861 3"),
        ("s-maxage=1, stale-while-revalidate=5", 5, None, None, true, "the origin's own window"),
        ("s-maxage=1, stale-if-error=5", 0, None, None, true, "item 19: s-maxage"),
        ("max-age=1, stale-while-revalidate=5, must-revalidate", 0, None, None, true, "item 19"),
        ("max-age=1, stale-if-error=5, proxy-revalidate", 0, None, None, true, "item 19"),
        ("max-age=1, stale-if-error=5, no-cache", 0, None, None, true, "item 19"),
        ("max-age=1, no-cache=\"a\"", 0, None, Some(99), false, "item 6: only the field"),
    ];
    for (line, swr, sie, operator, no_stale, checks) in rows {
        let found = judge(200, &[&format!("cache-control: {line}")], policy);
        let secs = |d: Option<Duration>| d.map(|d| d.as_secs());
        assert_eq!(found.stale_while_revalidate.as_secs(), *swr, "{checks}");
        assert_eq!(secs(found.stale_if_error), *sie, "{checks}");
        assert_eq!(secs(found.operator_stale_if_error), *operator, "{checks}");
        assert_eq!(found.no_stale, *no_stale, "{checks}");
    }
}
