//! What the files of before say: when each thing was first seen. They are read as they were written here; what cannot
//! be read is as if it had not been there.

use std::collections::BTreeMap;

use quick_xml::Reader;
use quick_xml::events::Event;
use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime, Time};

use super::Entry;

/// When each thing was first seen, by its id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    seen: BTreeMap<String, OffsetDateTime>,
    /// When the feed changed last.
    updated: Option<OffsetDateTime>,
}

impl Memory {
    /// From the feed and the calendar of before.
    pub fn read(atom: Option<&str>, calendar: Option<&str>) -> Self {
        let mut memory = Self::default();
        memory
            .seen
            .extend(calendar.into_iter().flat_map(in_calendar));
        if let Some(atom) = atom {
            memory.in_atom(atom);
        }
        memory
    }

    /// When this was first seen.
    pub(super) fn first(&self, id: &str) -> Option<OffsetDateTime> {
        self.seen.get(id).copied()
    }

    /// When the feed changed last, where it still holds the same.
    pub(super) fn updated(&self, entries: &[Entry]) -> Option<OffsetDateTime> {
        let same = entries.len() == self.seen.len()
            && entries
                .iter()
                .all(|entry| self.seen.contains_key(&entry.id));
        self.updated.filter(|_| same)
    }

    /// Reads the ids and times of a feed.
    fn in_atom(&mut self, text: &str) {
        let mut reader = Reader::from_str(text);
        let (mut element, mut entry): (String, Option<String>) = (String::new(), None);
        let mut inside = false;
        loop {
            match reader.read_event() {
                Ok(Event::Start(start)) => {
                    element = start.name().as_ref().to_owned();
                    inside |= element == "entry";
                }
                Ok(Event::End(end)) => {
                    if end.name().as_ref() == "entry" {
                        (inside, entry) = (false, None);
                    }
                    element.clear();
                }
                Ok(Event::Text(said)) => {
                    let said = said.to_string();
                    let when = || OffsetDateTime::parse(&said, &Rfc3339).ok();
                    match (element.as_str(), inside, &entry) {
                        ("id", true, _) => {
                            entry = Some(said.trim_start_matches("urn:uuid:").to_owned())
                        }
                        ("published", true, Some(id)) => {
                            self.seen.extend(when().map(|when| (id.clone(), when)))
                        }
                        ("updated", false, _) => self.updated = when(),
                        _ => {}
                    }
                }
                Ok(Event::Eof) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

/// Reads the ids and times of a calendar. Neither is long enough to be folded.
fn in_calendar(text: &str) -> Vec<(String, OffsetDateTime)> {
    let mut found = Vec::new();
    let mut id = None;
    for line in text.lines() {
        match line.trim_end().split_once(':') {
            Some(("UID", value)) => id = Some(value.to_owned()),
            Some(("DTSTAMP", value)) => found.extend(id.take().zip(moment(value))),
            _ => {}
        }
    }
    found
}

/// Reads `20260301T120000Z`.
fn moment(text: &str) -> Option<OffsetDateTime> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u16>().ok();
    let small = |from: usize, to: usize| u8::try_from(number(from, to)?).ok();
    let date = Date::from_calendar_date(
        i32::from(number(0, 4)?),
        Month::try_from(small(4, 6)?).ok()?,
        small(6, 8)?,
    )
    .ok()?;
    let time = Time::from_hms(small(9, 11)?, small(11, 13)?, small(13, 15)?).ok()?;
    Some(date.with_time(time).assume_utc())
}
