//! The feeds that a page names: `<link rel="alternate" type="application/rss+xml" href="...">`.
//!
//! A scan for one tag and no parser of HTML: what it takes for a link in a script costs one request.

use std::borrow::Cow;

/// The `href` of each feed that `page` names, as written and without character references; at most
/// [`FEEDS`], from the first [`SCANNED`] bytes.
pub fn feeds(page: &[u8]) -> Vec<String> {
    let page = String::from_utf8_lossy(&page[..page.len().min(SCANNED)]);
    let mut feeds = Vec::new();
    let mut left = &*page;
    while let Some(at) = left.find('<') {
        left = &left[at + 1..];
        if let Some(comment) = left.strip_prefix("!--") {
            left = comment.find("-->").map_or("", |end| &comment[end..]);
            continue;
        }
        let Some(tag) = strip_name(left) else {
            continue;
        };
        let (attributes, rest) = attributes(tag);
        left = rest;
        let feed = feed(&attributes);
        if let Some(feed) = feed.filter(|feed| !feeds.contains(feed)) {
            feeds.push(feed);
        }
        if feeds.len() == FEEDS {
            break;
        }
    }
    feeds
}

/// What follows the name of a `link` tag.
fn strip_name(tag: &str) -> Option<&str> {
    let (name, rest) = tag.split_at_checked("link".len())?;
    let ends = rest.starts_with(|next: char| next.is_ascii_whitespace() || next == '/');
    (name.eq_ignore_ascii_case("link") && ends).then_some(rest)
}

/// The attributes of a tag, and what follows it.
fn attributes(mut tag: &str) -> (Vec<(&str, &str)>, &str) {
    let mut attributes = Vec::new();
    loop {
        tag = tag.trim_start_matches(|next: char| next.is_ascii_whitespace() || next == '/');
        if let Some(rest) = tag.strip_prefix('>') {
            return (attributes, rest);
        }
        if tag.is_empty() || attributes.len() == ATTRIBUTES {
            return (attributes, tag);
        }
        // An equals sign that nothing stands before is a name, so that each turn takes something.
        let ends = |next: char| next.is_ascii_whitespace() || "=>/".contains(next);
        let first = tag.chars().next().map_or(0, char::len_utf8);
        let end = tag[first..].find(ends).map_or(tag.len(), |at| first + at);
        let (name, rest) = tag.split_at(end);
        let Some(value) = rest.trim_start().strip_prefix('=') else {
            attributes.push((name, ""));
            tag = rest;
            continue;
        };
        let value = value.trim_start();
        let (value, rest) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => value[1..].split_once(quote).unwrap_or((&value[1..], "")),
            _ => {
                let ends = |next: char| next.is_ascii_whitespace() || next == '>';
                value.split_at(value.find(ends).unwrap_or(value.len()))
            }
        };
        attributes.push((name, value));
        tag = rest;
    }
}

fn feed(attributes: &[(&str, &str)]) -> Option<String> {
    let value = |wanted: &str| {
        let found = attributes
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.trim())
    };
    let alternate = value("rel")?
        .split_ascii_whitespace()
        .any(|relation| relation.eq_ignore_ascii_case("alternate"));
    let kind = value("type")?.split(';').next()?.trim();
    let is_feed = ["application/rss+xml", "application/atom+xml"]
        .iter()
        .any(|feed| kind.eq_ignore_ascii_case(feed));
    let href = value("href").filter(|href| !href.is_empty() && href.len() <= LONGEST)?;
    (alternate && is_feed).then(|| {
        // An unknown reference leaves it as it is.
        let href = quick_xml::escape::unescape(href).unwrap_or(Cow::Borrowed(href));
        href.into_owned()
    })
}

/// How much of a page is looked at, in bytes: feeds stand in its head.
const SCANNED: usize = 256 * 1024;
const FEEDS: usize = 10;
const ATTRIBUTES: usize = 32;
const LONGEST: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn pages() {
        let table: &[(&str, &[&str])] = &[
            ("<!DOCTYPE html><head><LINK REL=\"alternate\" type='application/rss+xml' title=\"a > b\" HREF=/rss/></head>", &["/rss/"]),
            ("<link rel=alternate type=application/atom+xml href=/a.xml><link rel=stylesheet href=/x.css>", &["/a.xml"]),
            ("<link href='/f?a=1&amp;b=2' type='application/rss+xml; charset=utf-8' rel='home alternate' />", &["/f?a=1&b=2"]),
            ("<link rel='alternate' hreflang='de' href='/de/'>", &[]),
            ("<link rel='alternate' type='application/json' href='/x'>", &[]),
            ("<!-- <link rel='alternate' type='application/rss+xml' href='/x'> --><link rel='alternate' type='application/rss+xml' href='/y'>", &["/y"]),
            ("<linker rel='alternate' type='application/rss+xml' href='/x'>", &[]),
            ("<link rel='alternate' type='application/rss+xml' href='/a'><link rel='alternate' type='application/rss+xml' href='/a'>", &["/a"]),
            ("<link rel='alternate' type='application/rss+xml' href=''>", &[]),
            ("<link rel='alternate' type='application/rss+xml' href='/x", &["/x"]),
            ("<link =\u{e9}= == >", &[]),
            ("<link \u{e9} rel", &[]),
            ("<l\u{e9}nk <lin", &[]),
            ("<link", &[]),
            ("<!--", &[]),
            ("", &[]),
        ];
        for (page, want) in table {
            assert_eq!(feeds(page.as_bytes()), *want, "{page}");
        }
    }

    #[test]
    fn nothing_is_unbounded() {
        let many: String = (0..100)
            .map(|n| format!("<link rel=alternate type=application/rss+xml href=/{n}>"))
            .collect();
        assert_eq!(feeds(many.as_bytes()).len(), FEEDS);
        let far = " ".repeat(SCANNED) + &many;
        assert!(feeds(far.as_bytes()).is_empty());
        assert!(feeds(("<link ".to_owned() + &"= ".repeat(SCANNED)).as_bytes()).is_empty());
    }
}
