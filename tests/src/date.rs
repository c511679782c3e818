//! Dates as origins write them, relative to a moment, so that a table of responses can be plain text.

use std::time::{SystemTime, UNIX_EPOCH};

/// `line` with each `{+60}` or `{-60}` replaced by the date so many seconds from `now`: an
/// IMF-fixdate, or with `{rfc850 -60}` and `{asctime -60}` one of the two older forms (RFC 9110,
/// 5.6.7). What is in braces and no such place stays as it is.
pub fn dated(line: &str, now: SystemTime) -> String {
    let now = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let place = after
            .split_once('}')
            .and_then(|(place, behind)| Some((written(place, now)?, behind)));
        match place {
            Some((date, behind)) => {
                out.push_str(&date);
                rest = behind;
            }
            None => {
                out.push('{');
                rest = after;
            }
        }
    }
    out + rest
}

/// What stands for one place.
fn written(place: &str, now: i64) -> Option<String> {
    let (form, offset) = place.split_once(' ').unwrap_or(("", place));
    if !offset.starts_with(['+', '-']) {
        return None;
    }
    let at = now.checked_add(offset.parse().ok()?)?;
    let (days, clock) = (at.div_euclid(86_400), at.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    // 1970-01-01 was a Thursday.
    let weekday = DAYS[(days + 4).rem_euclid(7) as usize];
    let short = &weekday[..3];
    let clock = format!(
        "{:02}:{:02}:{:02}",
        clock / 3600,
        clock / 60 % 60,
        clock % 60
    );
    match form {
        "" => Some(format!("{short}, {day:02} {month} {year:04} {clock} GMT")),
        "rfc850" => Some(format!(
            "{weekday}, {day:02}-{month}-{:02} {clock} GMT",
            year % 100
        )),
        "asctime" => Some(format!("{short} {month} {day:2} {clock} {year:04}")),
        _ => None,
    }
}

/// Year, month and day of a day since 1970, counted off year by year: simple, and quick enough.
fn civil(mut days: i64) -> (i64, &'static str, i64) {
    let mut year = 1970;
    while days < 0 || days >= year_length(year) {
        if days < 0 {
            year -= 1;
            days += year_length(year);
        } else {
            days -= year_length(year);
            year += 1;
        }
    }
    for (name, length) in MONTHS {
        let length = match name {
            "Feb" => length + year_length(year) - 365,
            _ => length,
        };
        if days < length {
            return (year, name, days + 1);
        }
        days -= length;
    }
    unreachable!("the months make up the year")
}

fn year_length(year: i64) -> i64 {
    match (year % 4, year % 100, year % 400) {
        (_, _, 0) => 366,
        (_, 0, _) => 365,
        (0, _, _) => 366,
        _ => 365,
    }
}

#[rustfmt::skip]
const DAYS: [&str; 7] = [
    "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday",
];
#[rustfmt::skip]
const MONTHS: [(&str, i64); 12] = [
    ("Jan", 31), ("Feb", 28), ("Mar", 31), ("Apr", 30), ("May", 31), ("Jun", 30),
    ("Jul", 31), ("Aug", 31), ("Sep", 30), ("Oct", 31), ("Nov", 30), ("Dec", 31),
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    #[rustfmt::skip]
    fn places_become_dates() {
        // Sun, 06 Nov 1994 08:49:37 GMT
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (line, wanted) in [
            ("date: {+0}", "date: Sun, 06 Nov 1994 08:49:37 GMT"),
            ("{rfc850 +0}", "Sunday, 06-Nov-94 08:49:37 GMT"),
            ("{asctime +0}", "Sun Nov  6 08:49:37 1994"),
            ("{-3600}, {+86400}", "Sun, 06 Nov 1994 07:49:37 GMT, Mon, 07 Nov 1994 08:49:37 GMT"),
            ("{-784111777}", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("{+167095923}", "Tue, 22 Feb 2000 08:21:40 GMT"),
            ("{+167700723}", "Tue, 29 Feb 2000 08:21:40 GMT"),
            ("{-850000000}", "Thu, 30 Nov 1967 09:42:57 GMT"),
            ("x: {60} {a", "x: {60} {a"),
        ] {
            assert_eq!(dated(line, now), wanted);
        }
    }
}
