//! Whole walks over sites that are a table of pages.

use std::collections::HashMap;
use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::*;
use crate::admin::fetch::Answer;
use crate::admin::fetch::Wish;
use crate::status::SiteStatus;

#[tokio::test]
async fn every_page_that_sitemaps_and_feeds_list_is_fetched_once() {
    let site = Site::new(&[
        (
            "/robots.txt",
            "User-agent: *\nDisallow: /private\nSitemap: https://a.example/index.xml",
        ),
        (
            "/index.xml",
            "<sitemapindex><sitemap><loc>https://www.a.example/one.xml</loc></sitemap>\
             <sitemap><loc>/two.txt</loc></sitemap><sitemap><loc>/index.xml</loc></sitemap>\
             <sitemap><loc>https://cdn.example/x.xml</loc></sitemap></sitemapindex>",
        ),
        (
            "/one.xml",
            "<urlset><url><loc>http://a.example/a</loc></url><url><loc>/private/b</loc></url>\
             <url><loc>https://b.example/</loc></url><url><loc>/</loc></url></urlset>",
        ),
        (
            "/two.txt",
            "https://www.a.example/c\nhttps://www.a.example/a\n",
        ),
        (
            "/",
            "<link rel=alternate type=application/atom+xml href=/news.xml>",
        ),
        (
            "/news.xml",
            "<feed><entry><link href='/c'/></entry><entry><link href='/d?x&amp;y'/></entry></feed>",
        ),
        (
            "/rss/",
            "<rss><channel><item><link>/e#comments</link></item></channel></rss>",
        ),
        ("/feed", "<html><body>nothing"),
        ("/a", "a"),
        ("/c", "c"),
        ("/d?x&y", "d"),
        ("/e", "e"),
    ]);
    let report = site.warm().await.unwrap();
    let mut fetched = site.fetched();
    fetched.sort();
    assert_eq!(
        fetched,
        ["/", "/a", "/c", "/d?x&y", "/e", "/news.xml", "/rss/"]
    );
    assert_eq!((report.pages, report.fetched, report.failed), (7, 7, 0));
    assert_eq!((report.elsewhere, report.forbidden), (2, 1));
    assert!(report.notes.is_empty(), "{:?}", report.notes);
    assert!(report.is_success());
}

#[tokio::test]
async fn a_site_that_lists_nothing_has_a_front_page() {
    let site = Site::new(&[("/", "hello")]);
    let report = site.warm().await.unwrap();
    assert_eq!(site.fetched(), ["/"]);
    assert_eq!((report.pages, report.fetched), (1, 1));
}

#[tokio::test]
async fn what_the_cache_says_is_counted() {
    let site = Site::listing()
        .says("/", "cache-status", "sovereign; hit; ttl=30")
        .says(
            "/a",
            "cache-status",
            "sovereign; fwd=uri-miss; fwd-status=200; stored; ttl=9",
        )
        .says(
            "/b",
            "cache-status",
            "sovereign; fwd=uri-miss; detail=private",
        )
        .says("/c", "cache-status", "other; hit, sovereign; hit")
        .says("/feed", "cache-status", "sovereign; fwd=uri-miss")
        .page("/feed", |page| {
            page.body = Bytes::from_static(b"<feed></feed>")
        });
    let report = site.warm().await.unwrap();
    assert_eq!((report.already, report.fetched), (1, 4));
    let not_stored: Vec<_> = report.not_stored.into_iter().collect();
    let reasons = [
        "no cache",
        "not to be stored when last asked for",
        "private",
    ];
    assert_eq!(not_stored, reasons.map(|reason| (reason.to_owned(), 1)));
}

#[tokio::test]
async fn a_page_that_the_search_was_the_first_to_read_was_not_there_already() {
    let site = Site::new(&[("/", "front")]).stores();
    let report = site.warm().await.unwrap();
    assert_eq!((report.fetched, report.already), (1, 0));
    let report = site.warm().await.unwrap();
    assert_eq!((report.fetched, report.already), (0, 1));
}

#[tokio::test]
async fn a_page_that_is_missing_is_counted_and_said() {
    let site = Site::listing().status("/b", 404).status("/c", 410);
    let report = site.warm().await.unwrap();
    assert_eq!((report.pages, report.fetched, report.failed), (4, 2, 2));
    let mut said: Vec<_> = report
        .failures
        .iter()
        .map(|failure| format!("{} {}", failure.url, failure.why))
        .collect();
    said.sort();
    assert_eq!(
        said,
        [
            "https://www.a.example/b 404 Not Found",
            "https://www.a.example/c 410 Gone"
        ]
    );
    assert_eq!(report.stopped, None);
    assert!(report.is_success());
}

#[tokio::test]
async fn a_site_that_is_unwell_is_left_in_peace() {
    let lines: String = (0..100)
        .map(|n| format!("https://www.a.example/{n}\n"))
        .collect();
    let mut site = Site::new(&[("/sitemap.xml", &lines)]).status("/", 500);
    for n in 0..100 {
        site = site.status(&format!("/{n}"), 500);
    }
    let report = site.warm().await.unwrap();
    // The other worker may have had one under way.
    assert!((20..=21).contains(&report.failed), "{}", report.failed);
    assert_eq!(
        report.stopped.as_deref(),
        Some("20 pages in a row failed, the last one: 500 Internal Server Error")
    );
    assert!(!report.is_success());
}

#[tokio::test]
async fn a_site_that_asks_for_time_gets_it_and_is_asked_again() {
    let site = Site::listing().busy("/a", 2).says("/a", "retry-after", "0");
    let report = site.warm().await.unwrap();
    assert_eq!((report.fetched, report.failed), (4, 0));

    let site = Site::new(&[("/", "front")])
        .busy("/", 9)
        .says("/", "retry-after", "100000");
    let report = site.warm().await.unwrap();
    assert_eq!(
        report.failures[0].why,
        "503 Service Unavailable: it wants to be asked again in 100000 s"
    );
    assert!(!report.is_success());
}

#[tokio::test]
async fn redirects_are_followed_on_the_site_only() {
    let site = Site::listing()
        .redirects("/a", "/a/")
        .status("/a/", 200)
        .redirects("/b", "https://b.example/")
        .redirects("/c", "/c");
    let report = site.warm().await.unwrap();
    assert!(site.fetched().contains(&"/a/".to_owned()));
    assert_eq!((report.fetched, report.failed), (3, 1));
    assert_eq!(report.failures[0].why, "it leads in circles");
}

#[tokio::test]
async fn nothing_is_fetched_where_it_is_not_known_what_may_be() {
    let site = Site::new(&[("/", "front")]).status("/robots.txt", 500);
    let error = site.warm().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "https://www.a.example/robots.txt could not be read (500 Internal Server Error), \
         so that it is not known which pages may be fetched"
    );
    assert_eq!(site.requests(), ["/robots.txt"]);

    let site = Site::new(&[
        ("/robots.txt", "User-agent: *\nDisallow: /"),
        ("/", "front"),
    ]);
    let report = site.warm().await.unwrap();
    assert_eq!((report.pages, report.forbidden), (0, 1));
    assert_eq!(site.requests(), ["/robots.txt", "/sitemap.xml"]);
    assert!(!report.is_success());
}

#[tokio::test]
async fn a_sitemap_that_does_not_come_or_is_none_is_said() {
    let site = Site::new(&[
        (
            "/robots.txt",
            "Sitemap: /gone.xml\nSitemap: /broken.xml\nSitemap: /page.html",
        ),
        ("/", "front"),
        ("/broken.xml", "<urlset><url><loc>/a</loc></url><url>"),
        ("/page.html", "<html>"),
        ("/a", "a"),
    ]);
    let report = site.warm().await.unwrap();
    assert_eq!(
        report.notes,
        [
            "https://www.a.example/gone.xml was not read: 404 Not Found",
            "https://www.a.example/broken.xml was read in part: it is malformed or too long",
            "https://www.a.example/page.html is neither a sitemap nor a feed",
        ]
    );
    assert_eq!(report.fetched, 2);
}

#[tokio::test]
async fn indexes_and_documents_are_bounded() {
    let nested: Vec<(String, String)> = (0..9)
        .map(|n| {
            let next = n + 1;
            let text =
                format!("<sitemapindex><sitemap><loc>/i{next}</loc></sitemap></sitemapindex>");
            (format!("/i{n}"), text)
        })
        .collect();
    let mut pages: Vec<(&str, &str)> = vec![("/robots.txt", "Sitemap: /i0"), ("/", "front")];
    pages.extend(
        nested
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str())),
    );
    let site = Site::new(&pages);
    let report = site.warm().await.unwrap();
    assert!(site.requests().contains(&"/i3".to_owned()));
    assert!(!site.requests().contains(&"/i4".to_owned()));
    assert!(
        report.notes[0].contains("indexes deep"),
        "{:?}",
        report.notes
    );

    let many: String = (0..1000)
        .map(|n| format!("<sitemap><loc>/s{n}</loc></sitemap>"))
        .collect();
    let many = format!("<sitemapindex>{many}</sitemapindex>");
    let site = Site::new(&[
        ("/robots.txt", "Sitemap: /i"),
        ("/i", &many),
        ("/", "front"),
    ]);
    let report = site.warm().await.unwrap();
    assert!(site.requests().len() < 210, "{}", site.requests().len());
    let said = |note: &String| note.contains("more than 200 sitemaps");
    assert!(report.notes.iter().any(said), "{:?}", report.notes);
}

#[tokio::test]
async fn a_dry_run_fetches_no_page() {
    let site = Site::listing();
    let options = Options {
        dry_run: true,
        ..options()
    };
    let report = warm(&site, &status(), &options, &Progress::none()).await;
    let want = ["", "a", "b", "c"].map(|page| format!("https://www.a.example/{page}"));
    assert_eq!(report.unwrap().urls.unwrap(), want);
    assert!(site.fetched().is_empty());
}

#[tokio::test]
async fn a_daemon_that_is_gone_ends_it() {
    let text = "https://www.a.example/a\nhttps://www.a.example/b\n";
    let site = Site::new(&[
        ("/sitemap.xml", text),
        ("/", "front"),
        ("/a", "a"),
        ("/b", "b"),
    ]);
    // The documents, and one page.
    let report = site.with_life(7).warm().await.unwrap();
    assert_eq!(report.fetched, 1);
    // The other worker may have had one under way.
    assert!((1..=2).contains(&report.failed), "{}", report.failed);
    assert!(
        report
            .stopped
            .unwrap()
            .starts_with("no sovereign-proxy answers")
    );

    let error = Site::new(&[]).with_life(0).warm().await.unwrap_err();
    assert!(matches!(
        error,
        WarmError::Client(ClientError::Absent { .. })
    ));
}

const SITEMAP: &str = "<urlset><url><loc>/a</loc></url><url><loc>/b</loc></url>\
                       <url><loc>/c</loc></url></urlset>";

/// The site `www.a.example`, and what it was asked for.
struct Site {
    pages: HashMap<String, Page>,
    asked: Mutex<Vec<(String, bool)>>,
    lives_for: AtomicUsize,
    stores: bool,
}

#[derive(Default)]
struct Page {
    status: Option<u16>,
    /// So many times it answers 503 first.
    busy: AtomicUsize,
    fields: HeaderMap,
    body: Bytes,
}

impl Site {
    fn new(pages: &[(&str, &str)]) -> Self {
        let page = |(path, body): &(&str, &str)| {
            let page = Page {
                body: Bytes::copy_from_slice(body.as_bytes()),
                ..Page::default()
            };
            ((*path).to_owned(), page)
        };
        Self {
            pages: pages.iter().map(page).collect(),
            asked: Mutex::default(),
            lives_for: AtomicUsize::new(usize::MAX),
            stores: false,
        }
    }

    /// A front page, and three that its sitemap lists.
    fn listing() -> Self {
        Self::new(&[
            ("/sitemap.xml", SITEMAP),
            ("/", "front"),
            ("/a", "a"),
            ("/b", "b"),
            ("/c", "c"),
        ])
    }

    fn page(mut self, path: &str, change: impl FnOnce(&mut Page)) -> Self {
        change(self.pages.entry(path.to_owned()).or_default());
        self
    }

    fn status(self, path: &str, status: u16) -> Self {
        self.page(path, |page| page.status = Some(status))
    }

    fn busy(self, path: &str, times: usize) -> Self {
        self.page(path, |page| page.busy = AtomicUsize::new(times))
    }

    fn says(self, path: &str, name: &'static str, value: &'static str) -> Self {
        let (name, value) = (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
        self.page(path, |page| {
            page.fields.append(name, value);
        })
    }

    fn redirects(self, path: &str, to: &'static str) -> Self {
        self.says(path, "location", to).status(path, 301)
    }

    fn with_life(self, requests: usize) -> Self {
        self.lives_for.store(requests, SeqCst);
        self
    }

    /// What was asked for once is stored.
    fn stores(mut self) -> Self {
        self.stores = true;
        self
    }

    async fn warm(&self) -> Result<Report, WarmError> {
        warm(self, &status(), &options(), &Progress::none()).await
    }

    /// What was asked for, in order.
    fn requests(&self) -> Vec<String> {
        self.asked
            .lock()
            .iter()
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// What was asked for as a page: without its body.
    fn fetched(&self) -> Vec<String> {
        let asked = self.asked.lock();
        let pages = asked.iter().filter(|(_, body)| !body);
        pages.map(|(path, _)| path.clone()).collect()
    }
}

impl Source for Site {
    async fn fetch(&self, wish: &Wish) -> Result<Answer, ClientError> {
        let life = self
            .lives_for
            .fetch_update(SeqCst, SeqCst, |life| life.checked_sub(1));
        if life.is_err() {
            let path = "/run/admin.sock".into();
            return Err(ClientError::Absent { path });
        }
        let path = wish.url.strip_prefix("https://www.a.example").unwrap();
        assert_eq!(wish.encoding.is_some(), !wish.body, "{path}");
        let hit = self.stores && self.requests().iter().any(|asked| asked == path);
        self.asked.lock().push((path.to_owned(), wish.body));
        let Some(page) = self.pages.get(path) else {
            return Ok(answer(404, HeaderMap::new(), Bytes::new()));
        };
        let busy = page
            .busy
            .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        let status = if busy.is_ok() {
            503
        } else {
            page.status.unwrap_or(200)
        };
        let body = if wish.body {
            page.body.clone()
        } else {
            Bytes::new()
        };
        let mut fields = page.fields.clone();
        if !fields.contains_key("cache-status") {
            let said = if hit {
                "sovereign; hit"
            } else {
                "sovereign; fwd=uri-miss; stored"
            };
            fields.insert("cache-status", HeaderValue::from_static(said));
        }
        Ok(answer(status, fields, body))
    }
}

fn answer(status: u16, headers: HeaderMap, body: Bytes) -> Answer {
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers,
        cut: false,
        body,
    }
}

fn options() -> Options {
    Options {
        site: "a.example".to_owned(),
        rate: 1e9,
        encoding: Some("br".to_owned()),
        dry_run: false,
    }
}

fn status() -> Status {
    let names = ["www.a.example", "a.example"];
    Status {
        sites: vec![SiteStatus {
            names: names.map(str::to_owned).to_vec(),
            tls: "local".to_owned(),
            ..SiteStatus::default()
        }],
        ..Status::default()
    }
}
