use super::*;
use crate::status::Kind;

fn at(text: &str) -> OffsetDateTime {
    OffsetDateTime::parse(text, &Rfc3339).unwrap()
}

fn status(attention: &[(&str, Kind, &str, Option<&str>)]) -> Status {
    let attention = attention.iter().map(|(id, kind, what, due)| Attention {
        id: (*id).to_owned(),
        kind: *kind,
        host: "h1".to_owned(),
        service: None,
        what: (*what).to_owned(),
        hint: Some("`sovereign status`, a & b; <c>".to_owned()),
        due: due.map(str::to_owned),
    });
    Status {
        stack: "example".to_owned(),
        at: String::new(),
        hosts: Vec::new(),
        services: Vec::new(),
        attention: attention.collect(),
    }
}

const FIRST: &str = "2026-03-01T12:00:00Z";
const LATER: &str = "2026-03-02T12:00:00Z";

fn both() -> Status {
    let end = Some("2026-03-09T08:00:00Z");
    status(&[
        (
            "h1/disk",
            Kind::Disk,
            "h1: the disk is nearly full: 1.0 GiB of 80.0 GiB are free",
            None,
        ),
        (
            "h1/certificate/a/2026-03-09",
            Kind::Certificate,
            "h1: the certificate of a lapses in 8 days",
            end,
        ),
    ])
}

#[test]
fn a_feed_is_as_it_should_be() {
    let entries = entries(&both(), &Memory::default(), at(FIRST));
    let text = atom("example", &entries, &Memory::default(), at(FIRST));
    snapshot("feed.xml", &text);
    let days = calendar("example", &entries);
    assert!(
        days.split_inclusive('\n')
            .all(|line| line.ends_with("\r\n"))
    );
    snapshot("feed.ics", &days.replace("\r\n", "\n"));
}

/// Compares with what is checked in; `SOVEREIGN_BLESS=1` writes that.
fn snapshot(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/feed/snapshots")
        .join(name);
    if std::env::var_os("SOVEREIGN_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == text,
        "{name} differs; SOVEREIGN_BLESS=1 writes it:\n{text}"
    );
}

#[test]
fn the_same_trouble_keeps_its_id_and_its_time() {
    let first = entries(&both(), &Memory::default(), at(FIRST));
    let (feed, days) = (
        atom("example", &first, &Memory::default(), at(FIRST)),
        calendar("example", &first),
    );
    for memory in [
        Memory::read(Some(&feed), None),
        Memory::read(None, Some(&days)),
        Memory::read(Some(&feed), Some(&days)),
    ] {
        assert_eq!(entries(&both(), &memory, at(LATER)), first);
    }
    // Nothing changed: not a byte of it does.
    let memory = Memory::read(Some(&feed), Some(&days));
    assert_eq!(atom("example", &first, &memory, at(LATER)), feed);
    // What is over is gone, and what is new is new.
    let other = status(&[
        ("h1/disk", Kind::Disk, "h1: 0.5 GiB are free", None),
        ("h2/host", Kind::Host, "h2: it is off", None),
    ]);
    let later = entries(&other, &memory, at(LATER));
    assert_eq!(
        later.iter().map(|entry| entry.first).collect::<Vec<_>>(),
        [at(LATER), at(FIRST)]
    );
    assert!(
        atom("example", &later, &memory, at(LATER))
            .contains("<updated>2026-03-02T12:00:00Z</updated>\n  <author>")
    );
}

#[test]
fn other_stacks_have_other_ids() {
    let id = |stack: &str| stable_id(&[stack, "h1/disk"]);
    assert_ne!(id("a"), id("b"));
    assert_eq!(id("a").len(), 36);
    assert_eq!((id("a").as_bytes()[14], id("a") == id("a")), (b'8', true));
}

#[test]
fn a_file_that_cannot_be_read_remembers_nothing() {
    for text in ["", "<feed><entry><id>urn:uuid:x", "<<<", "no xml"] {
        assert_eq!(Memory::read(Some(text), Some(text)).first("x"), None);
    }
    assert_eq!(
        Memory::read(None, Some("UID:x\r\nDTSTAMP:20261301T000000Z\r\n")),
        Memory::default()
    );
}

#[test]
fn long_lines_are_folded_between_characters() {
    let status = status(&[("x", Kind::Host, &"ä".repeat(120), None)]);
    let text = calendar("example", &entries(&status, &Memory::default(), at(FIRST)));
    assert!(text.split("\r\n").all(|line| line.len() <= 75));
    assert!(
        text.replace("\r\n ", "")
            .contains(&format!("SUMMARY:{}\r\n", "ä".repeat(120)))
    );
}
