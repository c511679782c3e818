//! The calendar: a day for each entry, that on which something has to be done by, or else that on which it was first
//! seen. Pure.

use time::OffsetDateTime;

use super::Entry;

/// The calendar of a stack.
pub fn calendar(stack: &str, entries: &[Entry]) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| fold(&mut text, &format!("{name}:{value}"));
    line("BEGIN", "VCALENDAR");
    line("VERSION", "2.0");
    line("PRODID", "-//Sovereign Stack//sovereign//EN");
    line(
        "X-WR-CALNAME",
        &escaped(&format!("{stack}: what needs attention")),
    );
    for entry in entries {
        line("BEGIN", "VEVENT");
        line("UID", &entry.id);
        line("DTSTAMP", &moment(entry.first));
        line("DTSTART;VALUE=DATE", &day(entry.due.unwrap_or(entry.first)));
        line("SUMMARY", &escaped(&entry.title));
        line("DESCRIPTION", &escaped(&entry.text));
        line("CATEGORIES", entry.kind);
        line("TRANSP", "TRANSPARENT");
        line("END", "VEVENT");
    }
    line("END", "VCALENDAR");
    text
}

/// At most 75 bytes a line; what is longer goes on after a space.
fn fold(text: &mut String, line: &str) {
    let mut room = MOST;
    for c in line.chars() {
        if c.len_utf8() > room {
            text.push_str("\r\n ");
            room = MOST - 1;
        }
        room -= c.len_utf8();
        text.push(c);
    }
    text.push_str("\r\n");
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\\' | ';' | ',' => escaped.extend(['\\', c]),
            c if c.is_control() => {}
            c => escaped.push(c),
        }
    }
    escaped
}

fn day(time: OffsetDateTime) -> String {
    let time = time.to_offset(time::UtcOffset::UTC);
    format!(
        "{:04}{:02}{:02}",
        time.year(),
        u8::from(time.month()),
        time.day()
    )
}

/// `20260301T120000Z`
pub(super) fn moment(time: OffsetDateTime) -> String {
    let (hour, minute, second) = time.to_offset(time::UtcOffset::UTC).to_hms();
    format!("{}T{hour:02}{minute:02}{second:02}Z", day(time))
}

const MOST: usize = 75;
