//! Which pages a site has: what its sitemaps and feeds list, as far as its `robots.txt` allows.

use std::collections::{HashSet, VecDeque};

use super::ask::{Asker, Cached, Found, Source, Trouble};
use super::html;
use super::listing::{self, Kind, Listing};
use super::place::{Leads, Place};
use super::robots::Robots;
use super::{Progress, WarmError};
use crate::cache::key::Key;

/// The pages of a site, each once, the front page first.
#[derive(Debug, Default)]
pub struct Pages {
    /// What may be fetched.
    pub keys: Vec<Key>,
    /// URLs that lead to other sites.
    pub elsewhere: u64,
    /// Pages that `robots.txt` asks to leave alone.
    pub forbidden: u64,
    /// Those that the search itself was the first to ask for.
    pub fresh: HashSet<Key>,
    /// What the operator should know of the search, one sentence each.
    pub notes: Vec<String>,
}

/// Looks for the pages of `place`.
pub async fn pages<S: Source>(
    asker: &Asker<'_, S>,
    place: &Place,
    progress: &Progress,
) -> Result<Pages, WarmError> {
    let mut search = Search {
        asker,
        place,
        progress,
        robots: robots(asker, place).await?,
        pages: Pages::default(),
        seen: HashSet::new(),
        documents: VecDeque::new(),
        asked: HashSet::new(),
        read: 0,
    };
    search.run().await?;
    Ok(search.pages)
}

/// The site's `robots.txt`. Where it has none, everything may be fetched; where it cannot be had at the
/// moment, nothing (RFC 9309 section 2.3.1).
async fn robots<S: Source>(asker: &Asker<'_, S>, place: &Place) -> Result<Robots, WarmError> {
    let Some(key) = place.front().resolve("/robots.txt") else {
        return Ok(Robots::default());
    };
    match asker.get(&key, None, true).await {
        Ok(Found { answer, .. }) if answer.status.is_success() => Ok(Robots::read(&answer.body)),
        Ok(_) | Err(Trouble::Missing(_)) => Ok(Robots::default()),
        Err(Trouble::Unwell(why)) => Err(WarmError::Robots { key, why }),
        Err(Trouble::Lost(error)) => Err(error.into()),
    }
}

struct Search<'a, S> {
    asker: &'a Asker<'a, S>,
    place: &'a Place,
    progress: &'a Progress,
    robots: Robots,
    pages: Pages,
    seen: HashSet<Key>,
    documents: VecDeque<Document>,
    asked: HashSet<Key>,
    /// Sitemaps and feeds that were asked for.
    read: usize,
}

/// Something that may list pages.
struct Document {
    key: Key,
    /// Sitemap indexes that led to it.
    depth: usize,
    /// The site named it, so that the operator should know where it is missing.
    named: bool,
    /// Feeds are pages as well, which sitemaps are not; so `robots.txt` speaks of them.
    feed: bool,
}

impl<S: Source> Search<'_, S> {
    async fn run(&mut self) -> Result<(), WarmError> {
        self.page(self.place.front().clone());
        let front = self.place.front().clone();
        for sitemap in std::mem::take(&mut self.robots.sitemaps) {
            self.document(&front, &sitemap, 0, true, false);
        }
        self.document(&front, "/sitemap.xml", 0, false, false);
        if self.robots.allows("/") {
            match self.asker.get(&front, None, true).await {
                Ok(found) => {
                    self.fresh(&found);
                    let Found { key, answer } = found;
                    for feed in html::feeds(&answer.body) {
                        self.document(&key, &feed, 0, true, true);
                    }
                }
                // It is among the pages, where this is said.
                Err(Trouble::Missing(_) | Trouble::Unwell(_)) => {}
                Err(Trouble::Lost(error)) => return Err(error.into()),
            }
        }
        for guess in FEEDS {
            self.document(&front, guess, 0, false, true);
        }
        while let Some(document) = self.documents.pop_front() {
            if self.read >= DOCUMENTS {
                self.limit(format!(
                    "more than {DOCUMENTS} sitemaps and feeds: the others were left out"
                ));
                break;
            }
            self.read += 1;
            self.read(document).await?;
            self.progress.searched(self.pages.keys.len());
        }
        Ok(())
    }

    /// Takes a document in, once.
    fn document(&mut self, from: &Key, reference: &str, depth: usize, named: bool, feed: bool) {
        match self.place.leads(from, reference) {
            Leads::Here(key) => {
                if feed && !self.robots.allows(key.path_and_query()) {
                    self.pages.forbidden += u64::from(named);
                } else if self.asked.len() <= DOCUMENTS && self.asked.insert(key.clone()) {
                    self.documents.push_back(Document {
                        key,
                        depth,
                        named,
                        feed,
                    });
                }
            }
            Leads::Elsewhere => self.pages.elsewhere += 1,
            Leads::Nowhere => {}
        }
    }

    async fn read(&mut self, document: Document) -> Result<(), WarmError> {
        let found = match self.asker.get(&document.key, None, true).await {
            Ok(found) if found.answer.status.is_success() => found,
            Ok(_) => return Ok(()),
            Err(Trouble::Lost(error)) => return Err(error.into()),
            Err(trouble) => {
                if document.named {
                    self.note(format!("{} was not read: {trouble}", document.key.as_str()));
                }
                return Ok(());
            }
        };
        self.fresh(&found);
        let Found { key, answer } = found;
        self.asked.insert(key.clone());
        let (body, cut) = (answer.body, answer.cut);
        let listing = tokio::task::spawn_blocking(move || listing::read(&body, PAGES + 1))
            .await
            .unwrap_or_default();
        self.take(&document, &key, &listing);
        let problem = match (listing.kind, listing.whole && !cut) {
            (None, _) if !document.named => None,
            (None, _) => Some("is neither a sitemap nor a feed"),
            (_, false) if self.pages.keys.len() < PAGES => {
                Some("was read in part: it is malformed or too long")
            }
            _ => None,
        };
        if let Some(problem) = problem {
            self.note(format!("{} {problem}", key.as_str()));
        }
        Ok(())
    }

    fn take(&mut self, document: &Document, key: &Key, listing: &Listing) {
        match listing.kind {
            Some(Kind::Index) if document.depth < DEPTH => {
                for sitemap in &listing.urls {
                    self.document(key, sitemap, document.depth + 1, true, false);
                }
            }
            Some(Kind::Index) => {
                let key = key.as_str();
                self.note(format!(
                    "{key} was left out: it lies more than {DEPTH} indexes deep"
                ));
            }
            Some(Kind::Sitemap | Kind::Feed) => {
                if document.feed && listing.kind == Some(Kind::Feed) {
                    self.page(key.clone());
                }
                for page in &listing.urls {
                    match self.place.leads(key, page) {
                        Leads::Here(page) => self.page(page),
                        Leads::Elsewhere => self.pages.elsewhere += 1,
                        Leads::Nowhere => {}
                    }
                }
            }
            None => {}
        }
    }

    fn fresh(&mut self, found: &Found) {
        if found.cached() == Cached::Stored {
            self.pages.fresh.insert(found.key.clone());
        }
    }

    fn page(&mut self, key: Key) {
        if self.seen.len() >= PAGES {
            if !self.seen.contains(&key) {
                self.limit(format!("more than {PAGES} pages: the others were left out"));
            }
        } else if self.seen.insert(key.clone()) {
            if self.robots.allows(key.path_and_query()) {
                self.pages.keys.push(key);
            } else {
                self.pages.forbidden += 1;
            }
        }
    }

    /// Notes that there was more than is looked at, before anything else.
    fn limit(&mut self, note: String) {
        if !self.pages.notes.contains(&note) {
            self.pages.notes.truncate(NOTES - 1);
            self.pages.notes.insert(0, note);
        }
    }

    fn note(&mut self, note: String) {
        if self.pages.notes.len() < NOTES && !self.pages.notes.contains(&note) {
            self.pages.notes.push(note);
        }
    }
}

/// Where feeds are, on sites that do not say so.
const FEEDS: [&str; 3] = ["/rss/", "/feed", "/atom.xml"];
/// As many as one sitemap may list (sitemaps.org).
const PAGES: usize = 50_000;
/// Sitemaps and feeds.
const DOCUMENTS: usize = 200;
/// How deep indexes may lie in each other.
const DEPTH: usize = 3;
const NOTES: usize = 10;
