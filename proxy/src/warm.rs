//! `sovereign-proxy warm`: has the running proxy fetch a site's pages through its own cache, before
//! visitors ask for them.
//!
//! ```text
//! robots.txt -> sitemaps, feeds -> pages -> POST /fetch, two at a time -> report
//! ```
//!
//! Stands alone on the command's side of the admin API; the daemon's side is [`crate::internal`].

// One page after another, at a set rate.
pub mod ask;
// Which pages there are.
pub mod find;
mod html;
mod listing;
mod place;
mod robots;
// What is said of it, and when.
mod progress;
mod report;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::admin::{Client, ClientError};
use crate::cache::key::Key;
use crate::causes;
use crate::status::Status;

use ask::{Asker, Cached, Found, Source, Trouble};
use find::Pages;

pub use place::{Place, UnknownSite};
pub use progress::Progress;
pub use report::{Failure, Report};

/// What is to be warmed, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// A name of the site, with the port that visitors name where it is not the usual one.
    pub site: String,
    /// Requests in a second, at the most.
    pub rate: f64,
    /// The `Accept-Encoding` to ask for pages with; none where it is `None`.
    pub encoding: Option<String>,
    /// Only finds the pages.
    pub dry_run: bool,
}

/// Why nothing could be warmed.
#[derive(Debug, thiserror::Error)]
pub enum WarmError {
    /// There is no such site.
    #[error(transparent)]
    Site(#[from] UnknownSite),
    /// The daemon cannot be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Whether pages may be fetched is not known.
    #[error("{} could not be read ({why}), so that it is not known which pages may be fetched", key.as_str())]
    Robots {
        /// Its URL.
        key: Key,
        /// What came instead.
        why: String,
    },
}

/// Warms a site of the daemon behind `client`.
pub async fn run(
    client: &Client,
    options: &Options,
    progress: &Progress,
) -> Result<Report, WarmError> {
    let status = client.status().await?;
    warm(client, &status, options, progress).await
}

async fn warm<S: Source>(
    source: &S,
    status: &Status,
    options: &Options,
    progress: &Progress,
) -> Result<Report, WarmError> {
    let begun = Instant::now();
    let place = Place::find(status, &options.site)?;
    let asker = Asker::new(source, &place, options.rate);
    let pages = find::pages(&asker, &place, progress).await;
    let mut pages = pages.inspect_err(|_| progress.end())?;
    if let Some(note) = &place.note {
        pages.notes.insert(0, note.clone());
    }
    let mut report = Report {
        site: place.name.clone(),
        pages: pages.keys.len() as u64,
        elsewhere: pages.elsewhere,
        forbidden: pages.forbidden,
        ..Report::default()
    };
    if options.dry_run {
        let urls = pages.keys.iter().map(|key| key.as_str().to_owned());
        report.urls = Some(urls.collect());
        report.notes = pages.notes;
    } else {
        report = fetch(&asker, options, pages, report, progress).await;
    }
    progress.end();
    report.seconds = begun.elapsed().as_secs_f64();
    Ok(report)
}

/// Fetches every page, a few at a time.
async fn fetch<S: Source>(
    asker: &Asker<'_, S>,
    options: &Options,
    pages: Pages,
    report: Report,
    progress: &Progress,
) -> Report {
    progress.begin(pages.keys.len());
    let next = AtomicUsize::new(0);
    let tally = Mutex::new(Tally {
        report: Report {
            notes: pages.notes,
            ..report
        },
        fresh: pages.fresh,
        in_a_row: 0,
    });
    let worker = async || {
        while let Some(key) = pages.keys.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = asker.get(key, options.encoding.as_deref(), false).await;
            tally.lock().count(key, outcome);
            progress.step();
            if tally.lock().report.stopped.is_some() {
                return;
            }
        }
    };
    tokio::join!(worker(), worker());
    tally.into_inner().report
}

struct Tally {
    report: Report,
    /// Pages that were not stored when the search read them.
    fresh: HashSet<Key>,
    /// How many pages in a row could not be had.
    in_a_row: usize,
}

impl Tally {
    fn count(&mut self, key: &Key, outcome: Result<Found, Trouble>) {
        let report = &mut self.report;
        let trouble = match outcome {
            Ok(found) => {
                self.in_a_row = 0;
                match found.cached() {
                    // The search for pages was the first to ask for it.
                    Cached::Already if self.fresh.contains(key) => report.fetched += 1,
                    Cached::Already => report.already += 1,
                    Cached::Stored => report.fetched += 1,
                    Cached::No(reason) => {
                        report.fetched += 1;
                        // A reason is one of a few words, whatever the site says.
                        if report.not_stored.len() < REASONS {
                            *report.not_stored.entry(reason).or_default() += 1;
                        }
                    }
                }
                return;
            }
            Err(trouble) => trouble,
        };
        report.failed += 1;
        let why = match &trouble {
            Trouble::Lost(error) => causes::chain(error),
            trouble => trouble.to_string(),
        };
        match trouble {
            Trouble::Missing(_) => self.in_a_row = 0,
            Trouble::Unwell(_) => {
                self.in_a_row += 1;
                if self.in_a_row >= IN_A_ROW {
                    let last = format!("{IN_A_ROW} pages in a row failed, the last one: {why}");
                    report.stopped.get_or_insert(last);
                }
            }
            Trouble::Lost(_) => {
                report.stopped.get_or_insert(why.clone());
            }
        }
        report.failures.push(Failure {
            url: key.as_str().to_owned(),
            why,
        });
    }
}

/// Pages that the site cannot give, after each other, until it is left in peace.
const IN_A_ROW: usize = 20;
/// How many reasons are told apart.
const REASONS: usize = 50;
