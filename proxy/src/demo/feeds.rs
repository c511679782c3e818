//! The feed (Atom) and the site map, made from the articles.

use std::fmt::Write as _;

use hyper::StatusCode;

use super::answer::{self, Content};
use super::pages::ARTICLES;

/// The Atom feed of a site that visitors reach under `base`.
pub(super) fn feed(base: &str) -> Content {
    let updated = ARTICLES
        .first()
        .map_or("2026-01-01", |article| article.page.date);
    let mut xml = format!(
        r#"<?xml version="1.0" encoding="utf-8"?>
<feed xmlns="http://www.w3.org/2005/Atom">
<title>Sovereign Stack demonstration</title>
<id>{FEED_ID}</id>
<updated>{updated}T00:00:00Z</updated>
<author><name>Sovereign Stack</name></author>
<link rel="self" type="application/atom+xml" href="{base}/feed.xml"/>
<link rel="alternate" type="text/html" href="{base}/articles/"/>
"#
    );
    for article in ARTICLES.iter() {
        let (slug, page) = (article.slug, &article.page);
        // Writing to a string cannot fail.
        let _ = write!(
            xml,
            r#"<entry>
<title>{}</title>
<id>{FEED_ID}/{slug}</id>
<updated>{}T00:00:00Z</updated>
<link rel="alternate" type="text/html" href="{base}/articles/{slug}"/>
<summary>{}</summary>
<content type="html">{}</content>
</entry>
"#,
            escaped(page.title),
            page.date,
            escaped(page.summary),
            escaped(page.main),
        );
    }
    xml.push_str("</feed>\n");
    content("application/atom+xml; charset=utf-8", xml)
}

/// The pages worth finding on a site that visitors reach under `base`.
pub(super) fn sitemap(base: &str) -> Content {
    let mut xml = String::from(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<urlset xmlns=\"http://www.sitemaps.org/schemas/sitemap/0.9\">\n",
    );
    for path in ["/", "/articles/", "/clock"] {
        let _ = writeln!(xml, "<url><loc>{base}{path}</loc></url>");
    }
    for article in ARTICLES.iter() {
        let (slug, date) = (article.slug, article.page.date);
        let _ = writeln!(
            xml,
            "<url><loc>{base}/articles/{slug}</loc><lastmod>{date}</lastmod></url>"
        );
    }
    xml.push_str("</urlset>\n");
    content("application/xml; charset=utf-8", xml)
}

fn content(content_type: &'static str, xml: String) -> Content {
    Content {
        status: StatusCode::OK,
        content_type,
        cache: answer::FEED,
        body: xml.into(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Names the feed wherever it is served: an id must not change with the address.
const FEED_ID: &str = "tag:sovereign-stack.example,2026:demonstration";
