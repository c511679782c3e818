//! Lengths of time, sizes and dates, as they are written everywhere. Pure.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A length of time in its two largest units: `2 h 3 min`.
pub fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {minutes} min"),
        (1..100, ..) => format!("{days} d {hours} h"),
        _ => format!("{days} d"),
    }
}

/// An estimate, no finer than it is: `about 3 h`.
pub fn about(seconds: u64) -> String {
    match seconds {
        0..90 => "about a minute".to_owned(),
        90..5_400 => format!("about {} min", (seconds + 30) / 60),
        5_400..172_800 => format!("about {} h", (seconds + 1800) / 3600),
        _ => format!("about {} days", (seconds + 43_200) / 86_400),
    }
}

/// How long ago that was, where it is a time of the past.
pub fn ago(now: OffsetDateTime, then: &str) -> Option<String> {
    let then = OffsetDateTime::parse(then, &Rfc3339).ok()?;
    // Before this an engine writes that something never happened.
    let seconds = u64::try_from((now - then).whole_seconds().max(0)).ok()?;
    (then.year() > 1).then(|| span(seconds))
}

/// A size: `41.2 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut amount = bytes as f64;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && amount < 100.0);
    format!("{amount:.decimals$} {}", UNITS[unit])
}

/// A time, to the second.
pub fn rfc3339(time: OffsetDateTime) -> String {
    let whole = time.replace_nanosecond(0).unwrap_or(time);
    whole.format(&Rfc3339).unwrap_or_default()
}

/// `n day`, `n days`.
pub fn days(days: i64) -> String {
    let unit = if days.abs() == 1 { "day" } else { "days" };
    format!("{days} {unit}")
}

/// What was said of a host, without its name before it, in one line.
pub fn without_host(why: &str, host: &str) -> String {
    let rest = why
        .strip_prefix(host)
        .and_then(|rest| rest.strip_prefix(": "))
        .unwrap_or(why);
    line(rest)
}

/// In one line, and without what steers a terminal.
pub fn line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        for (seconds, exact, rough) in [
            (0, "0 s", "about a minute"),
            (59, "59 s", "about a minute"),
            (61, "1 min", "about a minute"),
            (3_599, "59 min", "about 60 min"),
            (7_380, "2 h 3 min", "about 2 h"),
            (183_600, "2 d 3 h", "about 2 days"),
            (8_640_000, "100 d", "about 100 days"),
        ] {
            assert_eq!(
                (span(seconds).as_str(), about(seconds).as_str()),
                (exact, rough)
            );
        }
    }

    #[test]
    fn times_and_sizes() {
        let now = OffsetDateTime::parse("2026-03-01T12:00:00Z", &Rfc3339).unwrap();
        assert_eq!(
            ago(now, "2026-03-01T09:57:00.123456789Z").unwrap(),
            "2 h 2 min"
        );
        assert_eq!(ago(now, "2026-03-01T12:00:05Z").unwrap(), "0 s");
        assert_eq!(ago(now, "0001-01-01T00:00:00Z"), None);
        assert_eq!(ago(now, ""), None);
        assert_eq!(
            (size(0), size(1536), size(41 << 30)),
            ("0 B".into(), "1.5 KiB".into(), "41.0 GiB".into())
        );
        assert_eq!(without_host("h1: it is\n off", "h1"), "it is off");
    }
}
