//! The Atom feed. Pure.

use sovereign_config::feeds::xml;
use time::OffsetDateTime;

use super::{Entry, Memory, stable_id};
use crate::status::words::rfc3339;

/// The feed of a stack.
pub fn atom(stack: &str, entries: &[Entry], memory: &Memory, now: OffsetDateTime) -> String {
    let mut feed = String::from(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<feed xmlns=\"http://www.w3.org/2005/Atom\">\n",
    );
    element(
        &mut feed,
        1,
        "title",
        &format!("{stack}: what needs attention"),
    );
    element(
        &mut feed,
        1,
        "id",
        &format!("urn:uuid:{}", stable_id(&[stack, "feed"])),
    );
    element(
        &mut feed,
        1,
        "updated",
        &rfc3339(memory.updated(entries).unwrap_or(now)),
    );
    feed.push_str("  <author><name>sovereign</name></author>\n");
    for entry in entries {
        feed.push_str("  <entry>\n");
        element(&mut feed, 2, "id", &format!("urn:uuid:{}", entry.id));
        element(&mut feed, 2, "title", &entry.title);
        element(&mut feed, 2, "published", &rfc3339(entry.first));
        element(&mut feed, 2, "updated", &rfc3339(entry.first));
        feed.push_str(&format!("    <category term=\"{}\"/>\n", entry.kind));
        feed.push_str(&format!(
            "    <content type=\"text\">{}</content>\n  </entry>\n",
            xml(&entry.text)
        ));
    }
    feed.push_str("</feed>\n");
    feed
}

fn element(feed: &mut String, depth: usize, name: &str, text: &str) {
    feed.push_str(&format!(
        "{}<{name}>{}</{name}>\n",
        "  ".repeat(depth),
        xml(text)
    ));
}
