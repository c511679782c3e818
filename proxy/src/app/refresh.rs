//! After an application has announced that its site has changed: what readers ask for most is fetched
//! anew, a few pages at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, header};
use tokio::sync::{Semaphore, mpsc};

use super::App;
use crate::cache::key::Key;
use crate::cache::vary;
use crate::changes::Change;
use crate::internal;

/// Pages that are fetched anew after a site has changed.
const HOTTEST: usize = 100;
/// How many at once: the site's readers come first.
const AT_ONCE: usize = 4;
/// How often a predecessor is listened to.
const PREDECESSOR: Duration = Duration::from_secs(1);
/// What tells visitors apart is not sent again for nobody.
const PERSONAL: [HeaderName; 2] = [header::COOKIE, header::AUTHORIZATION];
/// What is kept of a response that nobody reads, in bytes.
const UNREAD: usize = 0;

impl App {
    /// Heeds announcements until the daemon ends.
    pub(super) async fn refresh_changed(self: Arc<Self>, mut changes: mpsc::Receiver<Change>) {
        while let Some(change) = changes.recv().await {
            let app = self.clone();
            // At most one for each site and second.
            tokio::spawn(async move {
                if let Some(due) = change.due {
                    tokio::time::sleep_until(due.into()).await;
                    app.shared.changes.due(&app.shared.cache, change.scope);
                }
                app.fetch_hottest(change.scope).await;
            });
        }
    }

    /// Takes in what the daemon before this one still purges while it drains: what a POST that it answers
    /// has changed is stored here.
    pub(super) async fn hear_predecessor(self: Arc<Self>) {
        let until = Instant::now() + self.shared.live().config.drain + PREDECESSOR;
        while Instant::now() < until {
            tokio::time::sleep(PREDECESSOR).await;
            let cache = self.shared.cache.clone();
            let flushed = tokio::task::spawn_blocking(move || cache.purges().flush()).await;
            if let Ok(Err(error)) = flushed {
                tracing::debug!(%error, "the journal of purges was not read");
            }
        }
    }

    async fn fetch_hottest(&self, scope: u64) {
        let cache = self.shared.cache.clone();
        let hottest = tokio::task::spawn_blocking(move || cache.hottest(scope, HOTTEST)).await;
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        for (key, entry) in hottest.unwrap_or_default() {
            if entry.names.iter().any(|name| PERSONAL.contains(name)) {
                continue;
            }
            let Ok(turn) = at_once.clone().acquire_owned().await else {
                return;
            };
            let shared = self.shared.clone();
            let headers = vary::request_for(&entry.names, &entry.variant);
            drop(entry);
            tokio::spawn(async move {
                if let Some((scheme, host, target)) = Key::split(&key) {
                    let mut headers = headers;
                    ask_origin(&mut headers);
                    if let Err(error) =
                        internal::fetch(&shared, scheme, host, target, headers, UNREAD).await
                    {
                        tracing::debug!(%key, %error, "a page was not fetched anew");
                    }
                }
                drop(turn);
            });
        }
    }
}

/// Asks for what is no older than this request.
fn ask_origin(headers: &mut HeaderMap) {
    let validate = http::HeaderValue::from_static("no-cache");
    headers.insert(header::CACHE_CONTROL, validate);
}
