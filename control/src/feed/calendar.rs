//! The calendar: a day for each entry, that on which something has to be done by, or else that on which it was first
//! seen. Pure.

use sovereign_config::feeds::Lines;
use time::OffsetDateTime;

use super::Entry;

/// The calendar of a stack.
pub fn calendar(stack: &str, entries: &[Entry]) -> String {
    let mut lines = Lines::default();
    for head in HEAD {
        lines.plain(head);
    }
    lines.text("X-WR-CALNAME", &format!("{stack}: what needs attention"));
    for entry in entries {
        lines.plain("BEGIN:VEVENT");
        lines.plain(&format!("UID:{}", entry.id));
        lines.plain(&format!("DTSTAMP:{}", moment(entry.first)));
        let day = day(entry.due.unwrap_or(entry.first));
        lines.plain(&format!("DTSTART;VALUE=DATE:{day}"));
        lines.text("SUMMARY", &entry.title);
        lines.text("DESCRIPTION", &entry.text);
        lines.plain(&format!("CATEGORIES:{}", entry.kind));
        lines.plain("TRANSP:TRANSPARENT");
        lines.plain("END:VEVENT");
    }
    lines.plain("END:VCALENDAR");
    lines.finish()
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
fn moment(time: OffsetDateTime) -> String {
    let (hour, minute, second) = time.to_offset(time::UtcOffset::UTC).to_hms();
    format!("{}T{hour:02}{minute:02}{second:02}Z", day(time))
}

const HEAD: [&str; 4] = [
    "BEGIN:VCALENDAR",
    "VERSION:2.0",
    "PRODID:-//Sovereign Stack//sovereign//EN",
    "CALSCALE:GREGORIAN",
];
