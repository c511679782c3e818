//! What will expire and what happened, as an Atom feed (RFC 4287), so that an operator is told without
//! e-mail. Pure: the same values make the same text, and an entry keeps its id, so that a reader sees
//! each once.
//!
//! ```text
//! each certificate in force                                    since it was obtained
//! it is past the time of its renewal and comes near its end    14, 7, 3 and 1 days before, and at the end
//! each event of the history                                    when it happened
//! ```

use std::fmt::Write as _;
use std::hash::Hasher as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sovereign_config::feeds::xml;
use time::OffsetDateTime;
use twox_hash::XxHash3_64;

use super::history::{Event, What};

/// A certificate in force, as the feed and the calendar tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its id: stays over renewals.
    pub id: Box<str>,
    /// The names it is for.
    pub names: Vec<String>,
    /// Who signed it, in words: the host of the authority.
    pub authority: String,
    /// When it was obtained.
    pub obtained: SystemTime,
    /// When it is to be renewed; `None`: it renews by other means, or not at all.
    pub due: Option<SystemTime>,
    /// When it lapses.
    pub lapses: SystemTime,
    /// Why it could not be renewed so far.
    pub trouble: Option<String>,
}

/// The feed, the latest first. `self_url` is where it is read.
pub fn atom(
    events: &[Event],
    certificates: &[Standing],
    self_url: &str,
    now: SystemTime,
) -> String {
    let mut entries: Vec<Entry> = events.iter().map(happened).collect();
    for certificate in certificates {
        entries.push(in_force(certificate));
        entries.extend(reminders(certificate, now));
    }
    entries.sort_by(|a, b| b.updated.cmp(&a.updated).then_with(|| a.id.cmp(&b.id)));
    let updated = entries.first().map_or(now, |entry| entry.updated);
    let mut feed = String::with_capacity(1024 + entries.len() * 512);
    feed.push_str("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<feed xmlns=\"http://www.w3.org/2005/Atom\">\n");
    element(&mut feed, "  ", "title", "Certificates");
    element(&mut feed, "  ", "id", &stable_id(&["feed", self_url]));
    element(&mut feed, "  ", "updated", &rfc3339(updated));
    feed.push_str("  <author><name>sovereign-proxy</name></author>\n");
    let url = xml(self_url);
    line(
        &mut feed,
        format_args!("  <link rel=\"self\" type=\"application/atom+xml\" href=\"{url}\"/>"),
    );
    for entry in &entries {
        entry.write(&mut feed);
    }
    feed.push_str("</feed>\n");
    feed
}

struct Entry {
    id: String,
    updated: SystemTime,
    title: String,
    category: &'static str,
    text: String,
}

impl Entry {
    fn write(&self, feed: &mut String) {
        feed.push_str("  <entry>\n");
        element(feed, "    ", "id", &self.id);
        element(feed, "    ", "title", &self.title);
        element(feed, "    ", "updated", &rfc3339(self.updated));
        line(
            feed,
            format_args!("    <category term=\"{}\"/>", self.category),
        );
        line(
            feed,
            format_args!("    <content type=\"text\">{}</content>", xml(&self.text)),
        );
        feed.push_str("  </entry>\n");
    }
}

fn happened(event: &Event) -> Entry {
    Entry {
        id: event_id(event),
        updated: event.at,
        title: title(event),
        category: event.what.as_str(),
        text: described(event),
    }
}

fn in_force(certificate: &Standing) -> Entry {
    let obtained = seconds(certificate.obtained).to_string();
    Entry {
        id: stable_id(&["in force", &certificate.id, &obtained]),
        updated: certificate.obtained,
        title: format!(
            "{}: certificate until {}",
            subject(&certificate.names),
            day(certificate.lapses)
        ),
        category: "certificate",
        text: outlook(certificate),
    }
}

/// One for each border that it has passed while it should have been renewed.
fn reminders(certificate: &Standing, now: SystemTime) -> impl Iterator<Item = Entry> {
    let subject = subject(&certificate.names);
    let from = overdue_from(certificate);
    REMINDERS.into_iter().filter_map(move |before| {
        let at = certificate.lapses.checked_sub(before)?;
        if at > now || (at < from && before > Duration::ZERO) {
            return None;
        }
        let (lapses, days) = (seconds(certificate.lapses), before.as_secs() / DAY);
        Some(Entry {
            id: stable_id(&[
                "reminder",
                &certificate.id,
                &lapses.to_string(),
                &days.to_string(),
            ]),
            updated: at,
            title: match days {
                0 => format!("{subject}: certificate has lapsed"),
                1 => format!("{subject}: certificate lapses within a day"),
                days => format!("{subject}: certificate lapses within {days} days"),
            },
            category: "lapse",
            text: outlook(certificate),
        })
    })
}

/// From when on it should have been renewed.
fn overdue_from(certificate: &Standing) -> SystemTime {
    let lifetime = certificate.lapses.duration_since(certificate.obtained);
    let third = lifetime.unwrap_or_default() / 3;
    let usual = certificate.lapses.checked_sub(third);
    certificate.due.or(usual).unwrap_or(UNIX_EPOCH)
}

/// What is to be expected of a certificate.
pub(super) fn outlook(certificate: &Standing) -> String {
    let mut text = format!(
        "The certificate for {} was obtained from {} on {} and lapses on {}.",
        listed(&certificate.names),
        certificate.authority,
        moment(certificate.obtained),
        moment(certificate.lapses),
    );
    if let Some(due) = certificate.due {
        let _ = write!(text, " It is due for renewal on {}.", moment(due));
    }
    if let Some(trouble) = &certificate.trouble {
        let _ = write!(text, " It could not be renewed so far: {trouble}");
    }
    text
}

/// An event in a few words.
pub(super) fn title(event: &Event) -> String {
    let what = match event.what {
        What::Issued => "first certificate",
        What::Renewed => "certificate renewed",
        What::Replaced => "certificate replaced",
        What::Failed => "no certificate could be had",
        What::Waiting => "something must be done",
        What::Clock => "the clock of this machine is wrong",
    };
    match event.names.is_empty() {
        true => what.into(),
        false => format!("{}: {what}", subject(&event.names)),
    }
}

/// An event in full.
pub(super) fn described(event: &Event) -> String {
    let mut text = event.text.clone();
    if !event.names.is_empty() {
        let _ = write!(text, "\nNames: {}", listed(&event.names));
    }
    if let Some(directory) = &event.directory {
        let _ = write!(text, "\nAuthority: {directory}");
    }
    if let Some(challenge) = event.challenge {
        let challenge = super::history::challenge_name(challenge);
        let _ = write!(text, "\nChallenge: {challenge}");
    }
    text
}

/// The id of an event: the same in every rendering of the same history, and when it was said again.
pub(super) fn event_id(event: &Event) -> String {
    let at = event.first.duration_since(UNIX_EPOCH).unwrap_or_default();
    let at = at.as_millis().to_string();
    stable_id(&["event", &at, &event.id, event.what.as_str(), &event.text])
}

/// What a certificate is called: its first name.
pub(super) fn subject(names: &[String]) -> String {
    match names {
        [] => "unnamed".into(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

fn listed(names: &[String]) -> String {
    match names.get(..MOST_LISTED) {
        Some(some) if names.len() > MOST_LISTED => {
            format!("{} and {} more", some.join(", "), names.len() - MOST_LISTED)
        }
        _ => names.join(", "),
    }
}

/// A UUID (version 8) that the same parts always make.
pub(super) fn stable_id(parts: &[&str]) -> String {
    let half = |seed: u64| {
        let mut hasher = XxHash3_64::with_seed(seed);
        for part in parts {
            hasher.write(part.as_bytes());
            hasher.write(&[0]);
        }
        hasher.finish()
    };
    let (high, low) = (half(1), half(2));
    let high = (high & !0xf000) | 0x8000;
    let low = (low & !(0b11 << 62)) | (0b10 << 62);
    format!(
        "urn:uuid:{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff,
    )
}

/// Between 1970 and 9999, which is what four digits can write.
pub(super) fn utc(time: SystemTime) -> OffsetDateTime {
    let seconds = i64::try_from(seconds(time)).unwrap_or(0);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

pub(super) fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs().min(LAST_SECOND)
}

/// `2026-11-22T21:16:32Z`
fn rfc3339(time: SystemTime) -> String {
    let (date, (hour, minute, second)) = (day(time), utc(time).to_hms());
    format!("{date}T{hour:02}:{minute:02}:{second:02}Z")
}

/// `2026-11-22`
fn day(time: SystemTime) -> String {
    let (year, month, day) = utc(time).to_calendar_date();
    format!("{year:04}-{:02}-{day:02}", u8::from(month))
}

/// `2026-11-22 21:16 UTC`
fn moment(time: SystemTime) -> String {
    let (hour, minute, _) = utc(time).to_hms();
    format!("{} {hour:02}:{minute:02} UTC", day(time))
}

fn element(feed: &mut String, indent: &str, name: &str, text: &str) {
    line(feed, format_args!("{indent}<{name}>{}</{name}>", xml(text)));
}

fn line(feed: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = feed.write_fmt(text);
    feed.push('\n');
}

const DAY: u64 = 86_400;
/// How long before its end a certificate that was not renewed is told of again.
const REMINDERS: [Duration; 5] = [
    Duration::from_secs(14 * DAY),
    Duration::from_secs(7 * DAY),
    Duration::from_secs(3 * DAY),
    Duration::from_secs(DAY),
    Duration::ZERO,
];
const MOST_LISTED: usize = 20;
/// 9999-12-31T23:59:59Z
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
pub(super) mod tests {
    use quick_xml::Reader;
    use quick_xml::events::Event as Xml;
    use sovereign_config::model::Challenge;

    use super::*;

    /// 2026-01-01T00:00:00Z.
    const START: u64 = 1_767_225_600;

    pub(in crate::acme) fn at(days: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(START + days * DAY)
    }

    pub(in crate::acme) fn standing(trouble: Option<&str>) -> Standing {
        Standing {
            id: "www.example.org".into(),
            names: vec!["www.example.org".into(), "example.org".into()],
            authority: "ca.example".into(),
            obtained: at(0),
            due: Some(at(60)),
            lapses: at(90),
            trouble: trouble.map(Into::into),
        }
    }

    pub(in crate::acme) fn failed() -> Event {
        Event {
            at: at(61),
            first: at(61),
            id: "www.example.org".into(),
            names: vec!["www.example.org".into()],
            what: What::Failed,
            directory: Some("https://ca.example/directory?a=1&b=2".into()),
            challenge: Some(Challenge::Http01),
            text: "port 80 of <www.example.org> leads to \"another\" machine;\u{7}\nit's not ours"
                .into(),
        }
    }

    #[test]
    fn the_whole_feed() {
        let feed = atom(
            &[failed()],
            &[standing(None)],
            "https://www.example.org/f/certificates.atom?a&b",
            at(62),
        );
        let wanted = r#"<?xml version="1.0" encoding="utf-8"?>
<feed xmlns="http://www.w3.org/2005/Atom">
  <title>Certificates</title>
  <id>FEED</id>
  <updated>2026-03-03T00:00:00Z</updated>
  <author><name>sovereign-proxy</name></author>
  <link rel="self" type="application/atom+xml" href="https://www.example.org/f/certificates.atom?a&amp;b"/>
  <entry>
    <id>EVENT</id>
    <title>www.example.org: no certificate could be had</title>
    <updated>2026-03-03T00:00:00Z</updated>
    <category term="failed"/>
    <content type="text">port 80 of &lt;www.example.org&gt; leads to &quot;another&quot; machine;
it&apos;s not ours
Names: www.example.org
Authority: https://ca.example/directory?a=1&amp;b=2
Challenge: http-01</content>
  </entry>
  <entry>
    <id>STANDING</id>
    <title>www.example.org and 1 more: certificate until 2026-04-01</title>
    <updated>2026-01-01T00:00:00Z</updated>
    <category term="certificate"/>
    <content type="text">The certificate for www.example.org, example.org was obtained from ca.example on 2026-01-01 00:00 UTC and lapses on 2026-04-01 00:00 UTC. It is due for renewal on 2026-03-02 00:00 UTC.</content>
  </entry>
</feed>
"#;
        let ids = ids(&feed);
        let wanted = wanted
            .replace("FEED", &ids[0])
            .replace("EVENT", &ids[1])
            .replace("STANDING", &ids[2]);
        assert_eq!(feed, wanted);
    }

    /// Well-formed, with the elements that RFC 4287 asks for, each where it belongs.
    #[test]
    fn another_reader_takes_it() {
        let mut nasty = failed();
        nasty.text = "]]> &amp; <!-- \u{0}\u{b}\u{fffe} é 𝄞".into();
        let feed = atom(
            &[failed(), nasty],
            &[standing(Some("<no>"))],
            "a\"<'b",
            at(89),
        );
        let mut reader = Reader::from_str(&feed);
        reader.config_mut().check_end_names = true;
        let mut path: Vec<String> = Vec::new();
        let mut seen: Vec<String> = Vec::new();
        loop {
            match reader.read_event().expect("well-formed") {
                Xml::Start(tag) => {
                    path.push(tag.name().as_ref().to_owned());
                    seen.push(path.join("/"));
                }
                Xml::End(_) => drop(path.pop()),
                Xml::Eof => break,
                _ => {}
            }
        }
        let count = |name: &str| seen.iter().filter(|one| *one == name).count();
        for name in [
            "feed",
            "feed/id",
            "feed/title",
            "feed/updated",
            "feed/author/name",
        ] {
            assert_eq!(count(name), 1, "{name}");
        }
        let entries = count("feed/entry");
        assert_eq!(
            entries,
            2 + 1 + 4,
            "two events, one certificate, at 14, 7, 3 and 1 days"
        );
        for name in ["id", "title", "updated", "content"] {
            assert_eq!(count(&format!("feed/entry/{name}")), entries, "{name}");
        }
    }

    /// What a reader has seen it knows again, and what is new has another id.
    #[test]
    fn ids_stay_and_differ() {
        let certificates = [standing(None)];
        let early = ids(&atom(&[failed()], &certificates, "u", at(62)));
        let late = ids(&atom(&[failed()], &certificates, "u", at(90)));
        assert!(
            early.iter().all(|id| late.contains(id)),
            "{early:?} {late:?}"
        );
        assert_eq!(late.len(), early.len() + 5, "every reminder");
        let mut all = late.clone();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), late.len());
        assert!(
            late.iter().all(|id| id.len() == 45 && &id[23..24] == "8"),
            "{late:?}"
        );
    }

    #[test]
    fn reminders_come_only_where_it_should_have_been_renewed() {
        let on = |day: u64, due: Option<u64>| {
            let mut certificate = standing(None);
            certificate.due = due.map(at);
            reminders(&certificate, at(day))
                .map(|entry| entry.title)
                .collect::<Vec<_>>()
        };
        assert!(on(75, Some(60)).is_empty());
        assert_eq!(
            on(76, Some(60)),
            ["www.example.org and 1 more: certificate lapses within 14 days"]
        );
        assert_eq!(
            on(84, Some(80)).len(),
            1,
            "7 days, since at 14 it was not due"
        );
        assert_eq!(on(91, None).len(), 5);
        let mut short = standing(None);
        (short.due, short.lapses) = (Some(at(4)), at(6));
        assert_eq!(reminders(&short, at(5)).count(), 1, "one day");
    }

    #[test]
    fn times_that_no_calendar_has() {
        let far = UNIX_EPOCH + Duration::from_secs(1 << 60);
        assert_eq!(rfc3339(far), "9999-12-31T23:59:59Z");
        assert_eq!(
            rfc3339(UNIX_EPOCH - Duration::from_secs(9)),
            "1970-01-01T00:00:00Z"
        );
    }

    fn ids(feed: &str) -> Vec<String> {
        let parts = feed.split("<id>").skip(1);
        parts
            .map(|part| part.split("</id>").next().unwrap_or_default().to_owned())
            .collect()
    }
}
