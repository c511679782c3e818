//! What will expire and what happened, as a calendar (RFC 5545) that other programs subscribe to.
//! Pure: the same values make the same text. A certificate's entries keep their UIDs over renewals, so
//! that they move; an alarm rings only for one that was not renewed in time.

use std::time::{Duration, SystemTime};

use sovereign_config::feeds::Lines;

use super::feed::{self, Standing};
use super::history::Event;

/// The calendar.
pub fn calendar(events: &[Event], certificates: &[Standing], now: SystemTime) -> String {
    let mut lines = Lines::default();
    for head in HEAD {
        lines.plain(head);
    }
    for certificate in certificates {
        if let Some(due) = certificate.due {
            renewal(&mut lines, certificate, due, now);
        }
        lapse(&mut lines, certificate);
    }
    for event in events {
        happened(&mut lines, event);
    }
    lines.plain("END:VCALENDAR");
    lines.finish()
}

/// When a certificate is to be renewed; where that is over and it was not, as the text says why.
fn renewal(lines: &mut Lines, certificate: &Standing, due: SystemTime, now: SystemTime) {
    let subject = feed::subject(&certificate.names);
    let summary = match due < now {
        false => format!("{subject}: certificate is renewed"),
        true => format!("{subject}: certificate is overdue for renewal"),
    };
    begin(
        lines,
        &uid(&["due", &certificate.id]),
        certificate.obtained,
        due,
    );
    lines.text("SUMMARY", &summary);
    lines.text("DESCRIPTION", &feed::outlook(certificate));
    lines.plain("CATEGORIES:renewal");
    lines.plain("END:VEVENT");
}

fn lapse(lines: &mut Lines, certificate: &Standing) {
    let summary = format!("{}: certificate lapses", feed::subject(&certificate.names));
    let (id, obtained) = (&certificate.id, certificate.obtained);
    begin(lines, &uid(&["lapse", id]), obtained, certificate.lapses);
    lines.text("SUMMARY", &summary);
    lines.text("DESCRIPTION", &feed::outlook(certificate));
    lines.plain("CATEGORIES:lapse");
    let lifetime = certificate
        .lapses
        .duration_since(obtained)
        .unwrap_or_default();
    let alarms = match lifetime > LONG {
        true => ["-P7D", "-P1D"],
        false => ["-P1D", "-PT6H"],
    };
    for trigger in alarms {
        lines.plain("BEGIN:VALARM");
        lines.plain("ACTION:DISPLAY");
        lines.plain(&format!("TRIGGER:{trigger}"));
        lines.text("DESCRIPTION", &summary);
        lines.plain("END:VALARM");
    }
    lines.plain("END:VEVENT");
}

fn happened(lines: &mut Lines, event: &Event) {
    let id = feed::event_id(event);
    begin(lines, id.trim_start_matches(URN), event.at, event.at);
    lines.text("SUMMARY", &feed::title(event));
    lines.text("DESCRIPTION", &feed::described(event));
    lines.plain(&format!("CATEGORIES:{}", event.what.as_str()));
    lines.plain("END:VEVENT");
}

fn uid(parts: &[&str]) -> String {
    feed::stable_id(parts).trim_start_matches(URN).into()
}

/// The head of an entry that takes no time of the day.
fn begin(lines: &mut Lines, uid: &str, stamp: SystemTime, start: SystemTime) {
    lines.plain("BEGIN:VEVENT");
    lines.plain(&format!("UID:{uid}"));
    lines.plain(&format!("DTSTAMP:{}", basic(stamp)));
    lines.plain(&format!("DTSTART:{}", basic(start)));
    lines.plain("TRANSP:TRANSPARENT");
}

/// `20261122T211632Z`
fn basic(time: SystemTime) -> String {
    let (year, month, day) = feed::utc(time).to_calendar_date();
    let (hour, minute, second) = feed::utc(time).to_hms();
    let month = u8::from(month);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

const HEAD: [&str; 7] = [
    "BEGIN:VCALENDAR",
    "VERSION:2.0",
    "PRODID:-//Sovereign Stack//sovereign-proxy//EN",
    "CALSCALE:GREGORIAN",
    "NAME:Certificates",
    "X-WR-CALNAME:Certificates",
    "REFRESH-INTERVAL;VALUE=DURATION:PT6H",
];
const URN: &str = "urn:uuid:";
/// Certificates that live longer are told of a week ahead.
const LONG: Duration = Duration::from_secs(21 * 86_400);

#[cfg(test)]
mod tests {
    use super::super::feed::tests::{at, failed, standing};
    use super::*;

    #[test]
    fn the_whole_calendar() {
        let calendar = calendar(&[failed()], &[standing(None)], at(62));
        let wanted = "BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//Sovereign Stack//sovereign-proxy//EN
CALSCALE:GREGORIAN
NAME:Certificates
X-WR-CALNAME:Certificates
REFRESH-INTERVAL;VALUE=DURATION:PT6H
BEGIN:VEVENT
UID:0
DTSTAMP:20260101T000000Z
DTSTART:20260302T000000Z
TRANSP:TRANSPARENT
SUMMARY:www.example.org and 1 more: certificate is overdue for renewal
DESCRIPTION:The certificate for www.example.org\\, example.org was obtained from ca.example on 2026-01-01 00:00 UTC and lapses on 2026-04-01 00:00 UTC. It is due for renewal on 2026-03-02 00:00 UTC.
CATEGORIES:renewal
END:VEVENT
BEGIN:VEVENT
UID:1
DTSTAMP:20260101T000000Z
DTSTART:20260401T000000Z
TRANSP:TRANSPARENT
SUMMARY:www.example.org and 1 more: certificate lapses
DESCRIPTION:The certificate for www.example.org\\, example.org was obtained from ca.example on 2026-01-01 00:00 UTC and lapses on 2026-04-01 00:00 UTC. It is due for renewal on 2026-03-02 00:00 UTC.
CATEGORIES:lapse
BEGIN:VALARM
ACTION:DISPLAY
TRIGGER:-P7D
DESCRIPTION:www.example.org and 1 more: certificate lapses
END:VALARM
BEGIN:VALARM
ACTION:DISPLAY
TRIGGER:-P1D
DESCRIPTION:www.example.org and 1 more: certificate lapses
END:VALARM
END:VEVENT
BEGIN:VEVENT
UID:2
DTSTAMP:20260303T000000Z
DTSTART:20260303T000000Z
TRANSP:TRANSPARENT
SUMMARY:www.example.org: no certificate could be had
DESCRIPTION:port 80 of <www.example.org> leads to \"another\" machine\\;\\nit's not ours\\nNames: www.example.org\\nAuthority: https://ca.example/directory?a=1&b=2\\nChallenge: http-01
CATEGORIES:failed
END:VEVENT
END:VCALENDAR
";
        let mut number = 0;
        let numbered = unfolded(&calendar).into_iter().map(|line| {
            if !line.starts_with("UID:") {
                return line;
            }
            number += 1;
            format!("UID:{}", number - 1)
        });
        assert_eq!(numbered.map(|line| line + "\n").collect::<String>(), wanted);
    }

    /// RFC 5545, 3.1: lines of at most 75 bytes, folded between characters, CRLF and nothing else.
    #[test]
    fn lines_are_folded() {
        for filler in 0..8 {
            let mut event = failed();
            event.text = format!("{}{}", "a".repeat(filler), "é𝄞\r\n\\;,ü€".repeat(40));
            let calendar = calendar(&[event.clone()], &[], at(62));
            for line in calendar.split("\r\n") {
                assert!(line.len() <= 75 && !line.contains(['\r', '\n']), "{line:?}");
            }
            assert!(calendar.ends_with("END:VCALENDAR\r\n"));
            let lines = unfolded(&calendar);
            let text = lines
                .iter()
                .find_map(|line| line.strip_prefix("DESCRIPTION:"));
            let text = text.expect("a description").replace("\\n", "\n");
            let text = text
                .replace("\\;", ";")
                .replace("\\,", ",")
                .replace("\\\\", "\\");
            assert_eq!(text, feed::described(&event).replace('\r', ""));
        }
    }

    /// A renewal moves the entries of a certificate; it makes no others.
    #[test]
    fn uids_stay_over_renewals() {
        let uids = |certificate: &Standing| {
            let calendar = calendar(&[], std::slice::from_ref(certificate), at(1));
            let lines = unfolded(&calendar).into_iter();
            lines
                .filter(|line| line.starts_with("UID:"))
                .collect::<Vec<_>>()
        };
        let first = standing(None);
        let mut renewed = standing(Some("later"));
        (renewed.obtained, renewed.lapses, renewed.due) = (at(60), at(150), Some(at(120)));
        assert_eq!(uids(&first), uids(&renewed));
        let mut other = standing(None);
        other.id = "example.net".into();
        assert!(uids(&other).iter().all(|uid| !uids(&first).contains(uid)));
    }

    #[test]
    fn a_certificate_of_six_days_rings_later() {
        let mut short = standing(None);
        (short.due, short.lapses) = (None, at(6));
        let calendar = calendar(&[], &[short], at(1));
        assert!(!calendar.contains("-P7D") && calendar.contains("TRIGGER:-PT6H\r\n"));
        assert_eq!(
            calendar.matches("BEGIN:VEVENT").count(),
            1,
            "no time of renewal is known"
        );
    }

    fn unfolded(calendar: &str) -> Vec<String> {
        let whole = calendar.replace("\r\n ", "");
        whole.split_terminator("\r\n").map(Into::into).collect()
    }
}
