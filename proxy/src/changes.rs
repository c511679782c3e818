//! What applications announce of their sites: the first "everything changed" counts at once, and those
//! that follow within a second count together at its end. What readers ask for most is then fetched
//! anew, before they ask.
//!
//! Requests announce; the daemon, which may make requests of its own, fetches.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::cache::Cache;
use crate::cache::scope::Scope;

/// Whole-site purges are this far apart at least.
const APART: Duration = Duration::from_secs(1);
/// Announcements that wait for the daemon; there is at most one for each site and second.
const WAITING: usize = 256;

/// Announcements, on their way to the daemon.
pub struct Changes {
    sites: Mutex<HashMap<u64, Announced>>,
    sender: mpsc::Sender<Change>,
}

/// A site whose pages have changed.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// The site's scope.
    pub scope: u64,
    /// When it counts; where that is not now, it has yet to be purged.
    pub due: Option<Instant>,
}

struct Announced {
    last: Instant,
    waits: bool,
}

impl Changes {
    /// Announcements, and the end at which the daemon takes them.
    pub fn new() -> (Self, mpsc::Receiver<Change>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let changes = Self {
            sites: Mutex::default(),
            sender,
        };
        (changes, receiver)
    }

    /// All pages of a site have changed.
    pub fn whole_site(&self, cache: &Cache, name: &str) {
        let scope = Scope::site(name);
        let change = {
            let now = Instant::now();
            let mut sites = self.sites.lock();
            // One for each site of a configuration, so it stays small.
            let known = sites.get_mut(&scope);
            match known {
                Some(site) if site.waits => return,
                Some(site) if now.duration_since(site.last) < APART => {
                    site.waits = true;
                    Change {
                        scope,
                        due: Some(site.last + APART),
                    }
                }
                _ => {
                    let site = Announced {
                        last: now,
                        waits: false,
                    };
                    sites.insert(scope, site);
                    Change { scope, due: None }
                }
            }
        };
        if change.due.is_none() {
            cache.purge(&[scope], false);
        }
        if self.sender.try_send(change).is_err() && change.due.is_some() {
            // Nobody would come back to it.
            self.due(cache, scope);
        }
    }

    /// The time has come for a change that had to wait.
    pub fn due(&self, cache: &Cache, scope: u64) {
        let site = Announced {
            last: Instant::now(),
            waits: false,
        };
        self.sites.lock().insert(scope, site);
        cache.purge(&[scope], false);
    }
}
