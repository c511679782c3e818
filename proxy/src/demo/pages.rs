//! The pages: files of `proxy/demo`, embedded when the daemon is built, laid into one layout.
//!
//! A page file begins with `key: value` lines, then an empty line, then HTML.

use std::fmt::Write as _;
use std::sync::LazyLock;

use bytes::Bytes;
use include_dir::{Dir, include_dir};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Duration, OffsetDateTime};

use super::answer::{self, Content, fingerprint};
use hyper::StatusCode;

/// When the origin last rendered its pages: twice a minute, and not for each request, so that a cache that asks again
/// sooner can be answered 304.
pub(super) fn rendering(now: OffsetDateTime) -> OffsetDateTime {
    now - Duration::seconds(now.unix_timestamp().rem_euclid(RENDERED_EVERY))
}

pub(super) fn home(rendered: OffsetDateTime) -> String {
    lay_out(&Page::read("pages/home.html"), rendered)
}

pub(super) fn clock(rendered: OffsetDateTime) -> String {
    lay_out(&Page::read("pages/clock.html"), rendered)
}

pub(super) fn private(rendered: OffsetDateTime) -> String {
    lay_out(&Page::read("pages/private.html"), rendered)
}

pub(super) fn missing(rendered: OffsetDateTime) -> String {
    lay_out(&Page::read("pages/missing.html"), rendered)
}

/// A page that nobody has read yet, because its visitor made the address up: letters and digits, 32 at most.
pub(super) fn unseen(token: &str, rendered: OffsetDateTime) -> Option<String> {
    let good =
        (1..=32).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let page = Page::read("pages/unseen.html");
    good.then(|| lay_out(&page, rendered).replace("{{token}}", token))
}

/// The list of the articles.
pub(super) fn articles(rendered: OffsetDateTime) -> String {
    let mut list = String::new();
    for Article { slug, page } in ARTICLES.iter() {
        // Writing to a string cannot fail.
        let _ = writeln!(
            list,
            "<li><article>\n<p class=\"byline\">{}</p>\n<h2><a href=\"/articles/{slug}\">{}</a></h2>\n<p>{}</p>\n</article></li>",
            byline(page),
            page.title,
            page.summary,
        );
    }
    lay_out(&Page::read("pages/articles.html"), rendered).replace("{{articles}}", &list)
}

/// One article.
pub(super) fn article(slug: &str, rendered: OffsetDateTime) -> Option<String> {
    let Article { page, .. } = ARTICLES.iter().find(|article| article.slug == slug)?;
    let main = format!(
        "<article class=\"article\">\n<h1>{}</h1>\n<p class=\"byline\">{}</p>\n<p class=\"summary\">{}</p>\n{}\
         <p class=\"rendered\">The origin rendered this page at <strong>{}</strong>. Load it again: while the time stays, \
         the copy comes from the cache.</p>\n<p><a href=\"/articles/\">All articles</a></p>\n</article>",
        page.title,
        byline(page),
        page.summary,
        page.main,
        readable(rendered),
    );
    let page = Page {
        main: &main,
        section: "articles",
        ..*page
    };
    Some(lay_out(&page, rendered))
}

/// A file that is sent as it is, by its path on the site.
pub(super) fn file(path: &str) -> Option<Content> {
    let name = path.strip_prefix('/')?;
    if !name.starts_with("assets/") && !BARE_FILES.contains(&name) {
        return None;
    }
    let (content_type, cache) = match name.rsplit_once('.')?.1 {
        "css" => ("text/css; charset=utf-8", answer::ASSET),
        "js" => ("text/javascript; charset=utf-8", answer::ASSET),
        "svg" => ("image/svg+xml", answer::ASSET),
        "png" => ("image/png", answer::ASSET),
        "txt" => (answer::TEXT, answer::FEED),
        _ => return None,
    };
    Some(Content {
        status: StatusCode::OK,
        content_type,
        cache,
        body: Bytes::from_static(FILES.get_file(name)?.contents()),
    })
}

/// The articles, newest first.
pub(super) static ARTICLES: LazyLock<Vec<Article>> = LazyLock::new(|| {
    let files = FILES.get_dir("articles").into_iter().flat_map(Dir::files);
    let mut articles: Vec<Article> = files
        .filter_map(|file| {
            let slug = file.path().file_stem()?.to_str()?;
            let page = Page::parse(file.contents_utf8()?);
            Some(Article { slug, page })
        })
        .collect();
    articles.sort_by(|a, b| b.page.date.cmp(a.page.date));
    articles
});

/// An article and the last part of its address.
pub(super) struct Article {
    pub(super) slug: &'static str,
    pub(super) page: Page<'static>,
}

/// What a page file says.
#[derive(Clone, Copy, Default)]
pub(super) struct Page<'a> {
    pub(super) title: &'a str,
    pub(super) summary: &'a str,
    /// `YYYY-MM-DD`; articles only.
    pub(super) date: &'a str,
    /// The entry of the navigation that it belongs to.
    section: &'a str,
    /// Its script, if it has one.
    script: &'a str,
    pub(super) main: &'a str,
}

impl Page<'static> {
    fn read(name: &str) -> Self {
        let file = FILES.get_file(name).and_then(|file| file.contents_utf8());
        Self::parse(file.unwrap_or_default())
    }
}

impl<'a> Page<'a> {
    fn parse(text: &'a str) -> Self {
        let (head, main) = text.split_once("\n\n").unwrap_or_default();
        let mut page = Self {
            main,
            ..Self::default()
        };
        for (key, value) in head.lines().filter_map(|line| line.split_once(": ")) {
            match key {
                "title" => page.title = value,
                "summary" => page.summary = value,
                "date" => page.date = value,
                "section" => page.section = value,
                "script" => page.script = value,
                _ => {}
            }
        }
        page
    }
}

fn lay_out(page: &Page<'_>, rendered: OffsetDateTime) -> String {
    let script = match page.script {
        "" => String::new(),
        name => format!("<script src=\"/assets/{name}?v={{{{version}}}}\" defer></script>\n"),
    };
    LAYOUT
        .replace("{{script}}", &script)
        .replace("{{version}}", &VERSION)
        .replace("{{title}}", page.title)
        .replace("{{summary}}", page.summary)
        .replace(
            &format!("data-section=\"{}\"", page.section),
            "aria-current=\"true\"",
        )
        .replace("{{rendered}}", &readable(rendered))
        .replace("{{rendered_iso}}", &stamp(rendered))
        .replace("{{main}}", page.main.trim_end())
}

fn byline(page: &Page<'_>) -> String {
    format!("<time datetime=\"{0}\">{0}</time>", page.date)
}

fn readable(at: OffsetDateTime) -> String {
    at.format(READABLE).unwrap_or_default()
}

/// The time as in `2026-11-01T09:30:00Z`.
pub(super) fn stamp(at: OffsetDateTime) -> String {
    at.format(STAMP).unwrap_or_default()
}

/// Changes with the assets, so that a browser that kept old ones asks for the new.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let assets = FILES.get_dir("assets").into_iter().flat_map(Dir::files);
    let sum = assets.fold(0_u64, |sum, file| {
        sum.wrapping_add(fingerprint(file.contents()))
    });
    format!("{sum:016x}")
});

/// Everything under `proxy/demo`. The image of the hills was computed for this site.
static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/demo");
const LAYOUT: &str = include_str!("../../demo/layout.html");
/// Files outside `assets` that have an address.
const BARE_FILES: &[&str] = &["image.svg", "image.png", "robots.txt"];
/// Seconds. Longer than a page stays fresh, so that both a 304 and a new page can be seen.
const RENDERED_EVERY: i64 = 30;
const READABLE: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
const STAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
