//! What sitemaps and feeds list: sitemaps and sitemap indexes (sitemaps.org, 0.9), RSS 0.9 to 2.0,
//! Atom (RFC 4287), and sitemaps as plain text, each also packed by gzip.
//!
//! Only the predefined entities are expanded: a document may declare its own, and then a few bytes
//! become gigabytes.

use std::io::Read as _;

use quick_xml::Reader;
use quick_xml::escape::{resolve_xml_entity, unescape};
use quick_xml::events::{BytesStart, Event};

/// The URLs that a document lists, as it writes them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// What it is; `None` where it is nothing that lists URLs.
    pub kind: Option<Kind>,
    /// At most as many as were wanted, in the document's order.
    pub urls: Vec<String>,
    /// Whether it was read to its end.
    pub whole: bool,
}

/// What lists URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A sitemap: of pages.
    Sitemap,
    /// A sitemap index: of sitemaps.
    Index,
    /// A feed: of articles.
    Feed,
}

/// Reads a document, and gives at most `most` of its URLs. Blocking: the largest allowed document
/// takes some seconds.
pub fn read(body: &[u8], most: usize) -> Listing {
    if !body.starts_with(GZIP) {
        return unpacked(body, most);
    }
    let mut plain = Vec::new();
    let packed = flate2::read::MultiGzDecoder::new(body);
    // What was unpacked before an error is read all the same.
    let sound = packed.take(UNPACKED).read_to_end(&mut plain).is_ok();
    let mut listing = unpacked(&plain, most);
    listing.whole &= sound && (plain.len() as u64) < UNPACKED;
    listing
}

fn unpacked(body: &[u8], most: usize) -> Listing {
    // URLs are ASCII: what another encoding garbles is not read here.
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.starts_with('<') {
        xml(text, most)
    } else {
        lines(text, most)
    }
}

/// A sitemap as plain text: a URL on each line. Anything else is none.
fn lines(text: &str, most: usize) -> Listing {
    let is_url = |line: &&str| line.starts_with("http://") || line.starts_with("https://");
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .peekable();
    let mut urls = Vec::new();
    while let Some(url) = lines.next_if(is_url).filter(|_| urls.len() < most) {
        urls.push(url.to_owned());
    }
    Listing {
        kind: (!urls.is_empty()).then_some(Kind::Sitemap),
        whole: !urls.is_empty() && lines.next().is_none(),
        urls,
    }
}

fn xml(text: &str, most: usize) -> Listing {
    let mut reader = Reader::from_str(text);
    let mut listing = Listing::default();
    let mut path: Vec<Tag> = Vec::new();
    let mut content = Content::default();
    loop {
        // A document that is cut off or malformed has said something until there.
        let Ok(event) = reader.read_event() else {
            return listing;
        };
        match event {
            Event::Start(element) => {
                if path.len() >= DEPTH {
                    return listing;
                }
                path.push(Tag::of(&element));
                content = Content::default();
                if path.len() == 1 {
                    listing.kind = kind(&path);
                }
                listing.urls.extend(linked(&path, &element));
            }
            Event::Empty(element) => {
                path.push(Tag::of(&element));
                listing.urls.extend(linked(&path, &element));
                path.pop();
            }
            Event::Text(text) if is_url(&path) => content.add(&text),
            Event::CData(text) if is_url(&path) => content.add(&text),
            Event::GeneralRef(entity) if is_url(&path) => match entity.resolve_char_ref() {
                Ok(Some(character)) => content.add(character.encode_utf8(&mut [0; 4])),
                _ => match resolve_xml_entity(&entity) {
                    Some(character) => content.add(character),
                    None => content.unusable = true,
                },
            },
            Event::End(_) => {
                if is_url(&path) {
                    listing.urls.extend(std::mem::take(&mut content).url());
                }
                path.pop();
            }
            Event::Eof => {
                listing.whole = path.is_empty() && listing.kind.is_some();
                return listing;
            }
            _ => {}
        }
        if listing.kind.is_none() && !path.is_empty() {
            return listing;
        }
        if listing.urls.len() >= most {
            return listing;
        }
    }
}

/// The elements that matter here, whatever their namespace's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Urlset,
    Url,
    Sitemapindex,
    Sitemap,
    Loc,
    Rss,
    Rdf,
    Channel,
    Item,
    Feed,
    Entry,
    Link,
    Other,
}

impl Tag {
    fn of(element: &BytesStart<'_>) -> Self {
        match element.local_name().into_inner() {
            "urlset" => Self::Urlset,
            "url" => Self::Url,
            "sitemapindex" => Self::Sitemapindex,
            "sitemap" => Self::Sitemap,
            "loc" => Self::Loc,
            "rss" => Self::Rss,
            "RDF" => Self::Rdf,
            "channel" => Self::Channel,
            "item" => Self::Item,
            "feed" => Self::Feed,
            "entry" => Self::Entry,
            "link" => Self::Link,
            _ => Self::Other,
        }
    }
}

fn kind(path: &[Tag]) -> Option<Kind> {
    match path {
        [Tag::Urlset] => Some(Kind::Sitemap),
        [Tag::Sitemapindex] => Some(Kind::Index),
        [Tag::Rss | Tag::Rdf | Tag::Feed] => Some(Kind::Feed),
        _ => None,
    }
}

/// Whether what stands in this element is a URL.
fn is_url(path: &[Tag]) -> bool {
    use Tag::{Channel, Item, Link, Loc, Rdf, Rss, Sitemap, Sitemapindex, Url, Urlset};
    matches!(
        path,
        [Urlset, Url, Loc]
            | [Sitemapindex, Sitemap, Loc]
            | [Rss, Channel, Item, Link]
            | [Rdf, Item, Link]
    )
}

/// The page that an entry of an Atom feed stands for (RFC 4287 section 4.2.7.2).
fn linked(path: &[Tag], element: &BytesStart<'_>) -> Option<String> {
    if path != [Tag::Feed, Tag::Entry, Tag::Link] {
        return None;
    }
    let value = |name: &str| {
        let attribute = element.try_get_attribute(name).ok()??;
        Some(unescape(&attribute.value).ok()?.into_owned())
    };
    let relation = value("rel");
    let wanted = relation.is_none_or(|relation| relation == "alternate");
    value("href").filter(|href| wanted && href.len() <= LONGEST)
}

/// The text of an element.
#[derive(Debug, Default)]
struct Content {
    text: String,
    unusable: bool,
}

impl Content {
    fn add(&mut self, text: &str) {
        self.unusable |= self.text.len() + text.len() > LONGEST;
        if !self.unusable {
            self.text.push_str(text);
        }
    }

    fn url(self) -> Option<String> {
        let url = self.text.trim();
        (!self.unusable && !url.is_empty()).then(|| url.to_owned())
    }
}

/// What gzip begins with (RFC 1952 section 2.3.1).
const GZIP: &[u8] = b"\x1f\x8b";
/// As large as a sitemap may be unpacked (sitemaps.org), in bytes.
const UNPACKED: u64 = 50 * 1024 * 1024;
/// Far deeper than any of these formats.
const DEPTH: usize = 64;
/// The longest URL that is followed, in bytes; sitemaps.org allows 2,048.
const LONGEST: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    #[rustfmt::skip]
    fn documents() {
        use Kind::{Feed, Index, Sitemap};
        type Listed<'a> = (Option<Kind>, &'a [&'a str], bool);
        let table: &[(&str, Listed<'_>)] = &[
            ("<?xml version='1.0'?><!-- x --><urlset xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'>\
              <url><loc> https://a.example/?a=1&amp;b=2 </loc><lastmod>2026</lastmod></url>\
              <url><loc><![CDATA[https://a.example/c&d]]></loc></url></urlset>",
             (Some(Sitemap), &["https://a.example/?a=1&b=2", "https://a.example/c&d"], true)),
            ("\u{feff}<s:urlset xmlns:s='x' xmlns:i='y'><s:url><s:loc>/p</s:loc><i:image><i:loc>/i</i:loc></i:image></s:url></s:urlset>",
             (Some(Sitemap), &["/p"], true)),
            ("<urlset><url><loc>/&#x41;&#66;</loc></url></urlset>", (Some(Sitemap), &["/AB"], true)),
            ("<urlset><url><loc>/a</loc></url><url><loc>/b</lo", (Some(Sitemap), &["/a"], false)),
            ("<urlset><url><loc>/a</loc></url></wrong>", (Some(Sitemap), &["/a"], false)),
            ("<urlset/>", (None, &[], false)),
            ("<urlset></urlset>", (Some(Sitemap), &[], true)),
            ("<urlset><url><loc></loc></url></urlset>", (Some(Sitemap), &[], true)),
            ("<sitemapindex><sitemap><loc>/s.xml</loc></sitemap></sitemapindex>", (Some(Index), &["/s.xml"], true)),
            ("<rss version='2.0'><channel><link>/no</link><item><link>/a</link><guid>/no</guid></item></channel></rss>",
             (Some(Feed), &["/a"], true)),
            ("<rss xmlns:atom='a'><channel><atom:link href='/no'/><item><atom:link href='/no'/><link>/a</link></item></channel></rss>",
             (Some(Feed), &["/a"], true)),
            ("<rdf:RDF><channel><link>/no</link></channel><item><link>/a</link></item></rdf:RDF>", (Some(Feed), &["/a"], true)),
            ("<feed><link href='/no'/><entry><link href='/a?x&amp;y'/><link rel='self' href='/no'/>\
              <link rel='alternate' href='/b'></link><link rel='enclosure' href='/no'/></entry></feed>",
             (Some(Feed), &["/a?x&y", "/b"], true)),
            ("<!DOCTYPE html><html><body><p>Not found<br></body></html>", (None, &[], false)),
            ("https://a.example/1\r\n\r\n https://a.example/2\n", (Some(Sitemap), &["https://a.example/1", "https://a.example/2"], true)),
            ("not found", (None, &[], false)),
            ("", (None, &[], false)),
            ("<", (None, &[], false)),
        ];
        for (text, (kind, urls, whole)) in table {
            let listing = read(text.as_bytes(), 100);
            assert_eq!(listing.kind, *kind, "{text}");
            assert_eq!(listing.urls, *urls, "{text}");
            assert_eq!(listing.whole, *whole, "{text}");
        }
    }

    #[test]
    fn entities_of_its_own_are_not_expanded() {
        let text = "<!DOCTYPE urlset [<!ENTITY x 'https://a.example/x'><!ENTITY f SYSTEM 'file:///etc/passwd'>]>\
                    <urlset><url><loc>&x;</loc></url><url><loc>/a&f;</loc></url><url><loc>/b</loc></url></urlset>";
        assert_eq!(read(text.as_bytes(), 100).urls, ["/b"]);
    }

    #[test]
    fn depth_length_and_number_are_bounded() {
        let deep = "<urlset>".repeat(100_000);
        assert!(!read(deep.as_bytes(), 100).whole);

        let long = "x".repeat(LONGEST + 1);
        let text =
            format!("<urlset><url><loc>/{long}</loc></url><url><loc>/b</loc></url></urlset>");
        assert_eq!(read(text.as_bytes(), 100).urls, ["/b"]);

        let many = format!("<urlset>{}</urlset>", "<url><loc>/a</loc></url>".repeat(50));
        let listing = read(many.as_bytes(), 10);
        assert_eq!((listing.urls.len(), listing.whole), (10, false));
        let lines = "https://a.example/\n".repeat(50);
        let listing = read(lines.as_bytes(), 10);
        assert_eq!((listing.urls.len(), listing.whole), (10, false));
    }

    #[test]
    fn packed_documents() {
        let pack = |text: &[u8]| {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packed.write_all(text).unwrap();
            packed.finish().unwrap()
        };
        let packed = pack(b"<urlset><url><loc>/a</loc></url></urlset>");
        let listing = read(&packed, 100);
        assert_eq!(listing.urls, ["/a"]);
        assert!(listing.whole);
        let cut = read(&packed[..packed.len() - 9], 100);
        assert!(!cut.whole);
        assert_eq!(read(b"\x1f\x8b", 100).kind, None);

        // What unpacks to more than is allowed is read until there.
        let mut bomb = b"<urlset><url><loc>/a</loc></url>".to_vec();
        bomb.resize(UNPACKED as usize + 10, b' ');
        bomb.extend_from_slice(b"</urlset>");
        let listing = read(&pack(&bomb), 100);
        assert_eq!(listing.urls, ["/a"]);
        assert!(!listing.whole);
    }
}
