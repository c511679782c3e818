//! What all connections share: the configuration in force, the cache, the way to the upstreams, and
//! what is counted and logged. The daemon builds it; listeners, protocols and requests use it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sovereign_config::model;
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;

use crate::access_log::{AccessLog, Record};
use crate::acme::{Acme, Answers};
use crate::cache::Cache;
use crate::certs::{Known, Published};
use crate::changes::Changes;
use crate::downstream::Connection;
use crate::metrics::{self, Metrics};
use crate::pool::Pool;
use crate::route::Router;
use crate::tls::Certificates;
use crate::upstream::Upstreams;

/// What all connections share.
pub struct Shared {
    live: ArcSwap<Live>,
    /// The certificates in force.
    pub certificates: Arc<Certificates>,
    /// Who keeps those from authorities.
    pub acme: Arc<Acme>,
    /// What authorities come for when they look whether a name is ours.
    pub answers: Arc<Answers>,
    /// What is stored.
    pub cache: Arc<Cache>,
    /// What applications announce of their sites.
    pub changes: Changes,
    /// The way to the upstreams.
    pub upstreams: Upstreams,
    /// What is counted.
    pub metrics: Metrics,
    /// Connections, requests and fetches under way: what a drain waits for.
    pub tasks: TaskTracker,
    /// One line for each request.
    pub access_log: AccessLog,
    drain: watch::Sender<bool>,
    connection_ids: AtomicU64,
    request_ids: AtomicU64,
    /// Tells this process's request ids from another one's.
    id_prefix: u32,
}

/// What a reload replaces.
pub struct Live {
    /// The configuration.
    pub config: model::Proxy,
    /// Its sites and routes.
    pub router: Router,
    /// Room for client connections.
    pub connections: Arc<Semaphore>,
    /// What happens to certificates, on a site.
    pub feed: Option<Arc<Published>>,
    generation: u64,
}

impl Shared {
    /// What a daemon with this configuration shares.
    pub fn new(
        live: Live,
        certificates: Arc<Certificates>,
        (acme, answers): (Arc<Acme>, Arc<Answers>),
        (cache, changes): (Arc<Cache>, Changes),
        metrics: Metrics,
        access_log: AccessLog,
    ) -> Self {
        access_log.hide(live.feed.clone());
        Self {
            cache,
            changes,
            live: ArcSwap::from_pointee(live),
            certificates,
            acme,
            answers,
            upstreams: Upstreams::new(),
            metrics,
            tasks: TaskTracker::new(),
            access_log,
            drain: watch::Sender::new(false),
            connection_ids: AtomicU64::new(1),
            request_ids: AtomicU64::new(1),
            id_prefix: process_tag(),
        }
    }

    /// The configuration in force.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// What one client may take.
    pub fn limits(&self) -> model::Limits {
        self.live.load().config.limits.clone()
    }

    /// Takes another configuration; requests under way keep theirs.
    pub fn take(&self, live: Live) {
        self.access_log.hide(live.feed.clone());
        self.live.store(Arc::new(live));
    }

    /// Lets no new task in, and tells connections to end as soon as they can.
    pub fn begin_drain(&self) {
        self.drain.send_replace(true);
        self.tasks.close();
    }

    /// Turns true when connections are to end as soon as they can.
    pub fn drain_signal(&self) -> watch::Receiver<bool> {
        self.drain.subscribe()
    }

    /// A number for a new connection.
    pub fn connection_id(&self) -> u64 {
        self.connection_ids.fetch_add(1, Ordering::Relaxed)
    }

    /// An id for a request: unique on this host, and not to be guessed from another one.
    pub fn request_id(&self) -> Box<str> {
        let number = self.request_ids.fetch_add(1, Ordering::Relaxed);
        format!("{:08x}{number:08x}", self.id_prefix).into()
    }

    /// Counts a request that has been answered, and logs it.
    pub fn log(&self, record: &Record<'_>) {
        self.metrics.total.inc();
        record.count();
        match record.id {
            Some(id) => self.access_log.log(record, id),
            None => self.access_log.log(record, &self.request_id()),
        }
    }

    /// Logs a request that was refused before it was a request.
    pub fn log_refused(&self, connection: &Connection, status: http::StatusCode, reason: &str) {
        let id = self.request_id();
        self.access_log
            .refused(connection, status.as_u16(), reason, &id);
    }

    /// Everything that is counted, in Prometheus' text format.
    pub fn metrics_text(&self) -> String {
        self.metrics.cache(&self.cache.usage());
        self.metrics.text() + &metrics::certificates::text(&self.certs().overview())
    }

    /// What is known of certificates.
    pub fn certs(&self) -> Known {
        Known {
            served: self.certificates.list(),
            wanted: self.acme.report(),
            events: self.acme.history().list(),
        }
    }
}

impl Live {
    /// Makes a configuration ready; pools that it shares with the one before go on. `demo` is the
    /// socket of the demonstration site.
    pub fn new(
        config: model::Proxy,
        before: Option<&Self>,
        metrics: &Metrics,
        demo: &Path,
    ) -> Self {
        let known: Mutex<Vec<Arc<Pool>>> = Mutex::new(match before {
            Some(before) => before
                .router
                .sites()
                .iter()
                .flat_map(|site| site.pools().into_iter().cloned())
                .collect(),
            None => Vec::new(),
        });
        let generation = before.map_or(0, |before| before.generation + 1);
        let pool = |site: &model::Site, upstreams: &[model::Upstream]| {
            if upstreams.is_empty() {
                return None;
            }
            let mut known = known.lock();
            let same = known
                .iter()
                .find(|pool| pool.is_for(upstreams, &site.timeouts));
            Some(match same {
                Some(pool) => pool.clone(),
                None => {
                    let pool = Arc::new(Pool::new(upstreams, &site.timeouts, demo));
                    known.push(pool.clone());
                    pool
                }
            })
        };
        let router = Router::new(&config, generation, |name| metrics.site(name), pool);
        let connections = match before {
            Some(before) if before.config.limits.connections == config.limits.connections => {
                before.connections.clone()
            }
            _ => Arc::new(Semaphore::new(config.limits.connections)),
        };
        Self {
            config,
            router,
            connections,
            feed: None,
            generation,
        }
    }
}

fn process_tag() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) as u32
}
