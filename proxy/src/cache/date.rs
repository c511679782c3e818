//! HTTP dates (RFC 9110, 5.6.7): three forms read, strictly; one written.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};

/// Reads an IMF-fixdate, RFC 850 or asctime date; `now` places the two-digit year of RFC 850 (RFC 9110, 5.6.7).
pub fn parse(text: &[u8], now: SystemTime) -> Option<SystemTime> {
    imf_fixdate(text)
        .or_else(|| asctime(text))
        .or_else(|| rfc850(text, now))
}

/// Reads the one line of the field `name`; none where there are several or it is no date.
pub fn field(headers: &HeaderMap, name: &HeaderName, now: SystemTime) -> Option<SystemTime> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    parse(line.as_bytes().trim_ascii(), now)
}

/// Writes `time` as an IMF-fixdate. Times before 1970 or after 9999 become the nearest that can be written (RFC 9110, 5.6.7).
pub fn format(time: SystemTime) -> HeaderValue {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
        .min(LAST_SECOND);
    let (days, clock) = (seconds / DAY, seconds % DAY);
    let (year, month, day) = civil(days);
    let pair = |number: u64| [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8];
    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    // 1970-01-01 was a Thursday, the fourth name.
    text[0..3].copy_from_slice(&DAYS[((days + 3) % 7) as usize].as_bytes()[..3]);
    text[5..7].copy_from_slice(&pair(day));
    text[8..11].copy_from_slice(MONTHS[(month - 1) as usize].as_bytes());
    text[12..14].copy_from_slice(&pair(year / 100));
    text[14..16].copy_from_slice(&pair(year));
    text[17..19].copy_from_slice(&pair(clock / 3600));
    text[20..22].copy_from_slice(&pair(clock / 60 % 60));
    text[23..25].copy_from_slice(&pair(clock % 60));
    // Letters, digits, a comma, colons and spaces: always a field value.
    HeaderValue::from_bytes(&text)
        .unwrap_or_else(|_| HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf_fixdate(text: &[u8]) -> Option<SystemTime> {
    let text: &[u8; 29] = text.try_into().ok()?;
    known(&text[0..3], DAYS.map(|d| &d[..3]))?;
    shape(text, &[(3, b", "), (7, b" "), (11, b" "), (16, b" ")])?;
    if !text[25..].eq_ignore_ascii_case(b" GMT") {
        return None;
    }
    let month = known(&text[8..11], MONTHS)? + 1;
    let year = digits(&text[12..14])? * 100 + digits(&text[14..16])?;
    moment(year, month, digits(&text[5..7])?, &text[17..25])
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850(text: &[u8], now: SystemTime) -> Option<SystemTime> {
    let comma = text.iter().position(|b| *b == b',')?;
    known(&text[..comma], DAYS)?;
    let text: &[u8; 24] = text[comma..].try_into().ok()?;
    shape(text, &[(0, b", "), (4, b"-"), (8, b"-"), (11, b" ")])?;
    if !text[20..].eq_ignore_ascii_case(b" GMT") {
        return None;
    }
    let month = known(&text[5..8], MONTHS)? + 1;
    let (day, short) = (digits(&text[2..4])?, digits(&text[9..11])?);
    let today = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
        .min(LAST_SECOND);
    let this_year = civil(today / DAY).0;
    // The century in which it lies nearest to today: at most 50 years ahead, less than 50 back.
    let year = this_year - 49 + (short + 100 - (this_year - 49) % 100) % 100;
    let at = |year| moment(year, month, day, &text[12..20]);
    let latest = now.checked_add(Duration::from_secs(50 * 31_556_952));
    if year == this_year + 50
        && at(year).is_none_or(|time| latest.is_some_and(|latest| time > latest))
    {
        return at(year - 100);
    }
    at(year)
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(text: &[u8]) -> Option<SystemTime> {
    let text: &[u8; 24] = text.try_into().ok()?;
    known(&text[0..3], DAYS.map(|d| &d[..3]))?;
    shape(text, &[(3, b" "), (7, b" "), (10, b" "), (19, b" ")])?;
    let month = known(&text[4..7], MONTHS)? + 1;
    let day = match &text[8..10] {
        [b' ', one] => digits(&[b'0', *one])?,
        two => digits(two)?,
    };
    let year = digits(&text[20..22])? * 100 + digits(&text[22..24])?;
    moment(year, month, day, &text[11..19])
}

/// Which of `names` it is, in any letter case.
fn known<const N: usize>(text: &[u8], names: [&str; N]) -> Option<u64> {
    names
        .iter()
        .zip(0..)
        .find(|(name, _)| text.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, i)| i)
}

/// Whether these bytes stand at these places.
fn shape(text: &[u8], fixed: &[(usize, &[u8])]) -> Option<()> {
    fixed
        .iter()
        .all(|(at, bytes)| text[*at..].starts_with(bytes))
        .then_some(())
}

/// A number of two digits.
fn digits(text: &[u8]) -> Option<u64> {
    match text {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => {
            Some(u64::from(tens - b'0') * 10 + u64::from(ones - b'0'))
        }
        _ => None,
    }
}

/// A day and `08:49:37`; a leap second is the first of the next minute.
fn moment(year: u64, month: u64, day: u64, clock: &[u8]) -> Option<SystemTime> {
    shape(clock, &[(2, b":"), (5, b":")])?;
    let (hour, minute, second) = (
        digits(&clock[0..2])?,
        digits(&clock[3..5])?,
        digits(&clock[6..8])?,
    );
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let longest = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !(1..=longest).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = hour * 3600 + minute * 60 + second;
    // Days since 0000-03-01, so that a leap day ends its year.
    let (shifted, index) = if month > 2 {
        (year, month - 3)
    } else {
        (year.checked_sub(1)?, month + 9)
    };
    let days =
        shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + (153 * index + 2) / 5 + day
            - 1;
    match days.checked_sub(EPOCH_DAYS) {
        Some(days) => UNIX_EPOCH.checked_add(Duration::from_secs(days * DAY + seconds)),
        None => UNIX_EPOCH
            .checked_sub(Duration::from_secs((EPOCH_DAYS - days) * DAY))?
            .checked_add(Duration::from_secs(seconds)),
    }
}

/// Year, month and day of a day since 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + EPOCH_DAYS;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let index = (5 * of_year + 2) / 153;
    let day = of_year - (153 * index + 2) / 5 + 1;
    let month = if index < 10 { index + 3 } else { index - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

const DAY: u64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: u64 = 719_468;
/// 9999-12-31T23:59:59Z, the last that four digits can write.
const LAST_SECOND: u64 = 253_402_300_799;
const DAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// 2026-01-01T00:00:00Z.
    const NOW: u64 = 1_767_225_600;

    #[test]
    #[rustfmt::skip]
    fn three_forms_and_nothing_else() {
        let rows: &[(&str, Option<u64>, &str)] = &[
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777), "9110 5.6.7: IMF-fixdate"),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777), "9110 5.6.7: RFC 850"),
            ("Sun Nov  6 08:49:37 1994", Some(784_111_777), "9110 5.6.7: asctime"),
            ("Sun Nov 16 08:49:37 1994", Some(784_975_777), "9110 5.6.7: asctime, two digits"),
            ("THU, 18 AUG 2050 02:01:18 gMT", Some(2_544_400_878), "item 3: letter case"),
            ("thu aug 18 02:01:18 2050", Some(2_544_400_878), "item 3: letter case"),
            ("Thu, 29 Feb 2024 00:00:00 GMT", Some(1_709_164_800), "a leap day"),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0), "the first second"),
            ("Sat, 31 Dec 2016 23:59:60 GMT", Some(1_483_228_800), "9110 5.6.7: a leap second"),
            ("Thu, 18 Aug 2050 02:01:18 UTC", None, "item 3: another zone"),
            ("Thu, 18 Aug 2050 02:01:18 +0000", None, "item 3: another zone"),
            ("Thu, 18 Aug 2050 02:01:18", None, "item 3: no zone"),
            ("Thu 18 Aug 2050 02:01:18 GMT", None, "item 3: no comma"),
            ("Thu, 18-Aug-2050 02:01:18 GMT", None, "item 3: dashes, four-digit year"),
            ("Thu, 18 Aug 50 02:01:18 GMT", None, "item 3: two-digit year"),
            ("Thu, 18 Aug 2050 2:01:18 GMT", None, "item 3: one-digit hour"),
            ("Thu, 18  Aug  2050 02:01:18 GMT", None, "item 3: double spaces"),
            ("Thu, 18 Aug 2050 02.01.18 GMT", None, "9110 5.6.7: colons"),
            ("Thu, 8 Aug 2050 02:01:18 GMT", None, "9110 5.6.7: two-digit day"),
            ("Foo, 18 Aug 2050 02:01:18 GMT", None, "9110 5.6.7: day names"),
            ("Thu, 18-Aug-50 02:01:18 GMT", None, "9110 5.6.7: RFC 850 has long day names"),
            ("Thu, 31 Apr 2050 02:01:18 GMT", None, "no such day"),
            ("Thu, 29 Feb 2023 02:01:18 GMT", None, "no such day"),
            ("Thu, 00 Aug 2050 02:01:18 GMT", None, "no such day"),
            ("Thu, 18 Aug 2050 24:01:18 GMT", None, "no such hour"),
            ("Thu, 18 Aug 2050 02:60:18 GMT", None, "no such minute"),
            ("Thu, 18 Aug 2050 02:01:61 GMT", None, "no such second"),
            ("0", None, "item 3: 0"),
            ("-1", None, "item 3"),
            ("", None, "item 3"),
            ("\u{e9}hu, 18 Aug 2050 02:01:18 GMT", None, "bytes that are no ASCII"),
            ("Thursday, ", None, "cut off"),
        ];
        for (text, seconds, checks) in rows {
            assert_eq!(parse(text.as_bytes(), at(NOW)), seconds.map(at), "{checks}: {text}");
        }
    }

    /// Item 3; RFC 9110, 5.6.7: never more than 50 years ahead.
    #[test]
    #[rustfmt::skip]
    fn sliding_century() {
        for (now, short, wanted) in [
            (NOW, "75", "Tue, 01 Jan 2075 00:00:00 GMT"),
            (NOW, "76", "Wed, 01 Jan 2076 00:00:00 GMT"),
            (NOW, "77", "Sat, 01 Jan 1977 00:00:00 GMT"),
            (NOW - 86_400, "76", "Thu, 01 Jan 1976 00:00:00 GMT"),
            (NOW, "00", "Sat, 01 Jan 2000 00:00:00 GMT"),
            (4_086_201_600, "05", "Thu, 01 Jan 2105 00:00:00 GMT"),
        ] {
            let text = format!("Monday, 01-Jan-{short} 00:00:00 GMT");
            let found = parse(text.as_bytes(), at(now));
            assert_eq!(found, parse(wanted.as_bytes(), at(now)), "{text} at {now}");
            assert!(found.is_some());
        }
        let later_that_year = parse(b"Monday, 01-Jul-76 00:00:00 GMT", at(NOW));
        assert_eq!(later_that_year, parse(b"Thu, 01 Jul 1976 00:00:00 GMT", at(NOW)));
    }

    #[test]
    #[rustfmt::skip]
    fn dates_before_1970_and_of_year_zero() {
        let parsed = parse(b"Wed, 31 Dec 1969 23:59:59 GMT", at(NOW));
        assert_eq!(parsed, Some(UNIX_EPOCH - Duration::from_secs(1)));
        // The date many frameworks send as "expired" must not panic either.
        assert!(parse(b"Mon, 01 Jan 0001 00:00:00 GMT", at(NOW)).is_some());
        assert!(parse(b"Mon, 01 Jan 0000 00:00:00 GMT", at(NOW)).is_none());
    }

    #[test]
    #[rustfmt::skip]
    fn what_is_written_reads_back() {
        for seconds in (0..=LAST_SECOND).step_by(40_000_000_007 / 97).chain([NOW, LAST_SECOND]) {
            let text = format(at(seconds));
            assert_eq!(imf_fixdate(text.as_bytes()), Some(at(seconds)), "{text:?}");
        }
        assert_eq!(format(at(784_111_777)), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(format(UNIX_EPOCH - Duration::from_secs(9)), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(format(at(LAST_SECOND + 9)), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    /// Item 3: two lines are no date.
    #[test]
    #[rustfmt::skip]
    fn one_line() {
        let mut headers = HeaderMap::new();
        headers.append(http::header::EXPIRES, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert_eq!(field(&headers, &http::header::EXPIRES, at(NOW)), Some(at(784_111_777)));
        headers.append(http::header::EXPIRES, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert_eq!(field(&headers, &http::header::EXPIRES, at(NOW)), None);
    }
}
