//! Builds the daemon from its configuration, keeps what all connections share, and takes it down.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sovereign_config::model;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;

use crate::access_log::{AccessLog, Record};
use crate::admin;
use crate::cache::Cache;
use crate::downstream::Connection;
use crate::handover::{self, Handover};
use crate::listener::{self, Listener, Role};
use crate::metrics::Metrics;
use crate::route::Router;
use crate::status::ReloadStatus;
use crate::tls::{self, Certificates};
use crate::upstream::{Pool, Upstreams};

mod control;
mod demonstration;
mod life;
mod report;

/// What the daemon is started with.
pub struct Start {
    /// The file that a reload reads again; without one a reload is refused.
    pub config_path: Option<PathBuf>,
    /// The configuration.
    pub config: model::Proxy,
    /// Our own arguments, for the program that an upgrade starts.
    pub args: Vec<OsString>,
    /// Called once, when connections are accepted.
    pub on_ready: Box<dyn FnOnce(&Bound) + Send>,
}

/// The addresses that were bound.
#[derive(Debug, Clone)]
pub struct Bound {
    /// Plain HTTP.
    pub http: Vec<SocketAddr>,
    /// HTTP over TLS.
    pub https: Vec<SocketAddr>,
    /// The admin API.
    pub admin: PathBuf,
}

/// What all connections share.
pub struct App {
    live: ArcSwap<Live>,
    /// The certificates in force.
    pub certificates: Arc<Certificates>,
    /// What is stored.
    pub cache: Arc<Cache>,
    /// The way to the upstreams.
    pub upstreams: Upstreams,
    /// What is counted.
    pub metrics: Metrics,
    /// Connections, requests and fetches under way: what a drain waits for.
    pub tasks: TaskTracker,
    access_log: AccessLog,
    listeners: Mutex<Vec<Listener>>,
    admin: Arc<UnixListener>,
    /// Ends the admin API, and tells when its last answer has been sent.
    admin_stop: watch::Sender<bool>,
    admin_task: Mutex<Option<tokio::task::JoinHandle<()>>>,
    demonstration: Option<demonstration::Demonstration>,
    drain: watch::Sender<bool>,
    stop: watch::Sender<Option<Stop>>,
    started: Instant,
    config_path: Option<PathBuf>,
    args: Vec<OsString>,
    last_reload: Mutex<Option<ReloadStatus>>,
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
    generation: u64,
}

/// How the daemon is to end.
#[derive(Debug, Clone, Copy)]
pub struct Stop {
    /// How long requests under way may take.
    pub deadline: Duration,
    /// Another process has taken over.
    pub replaced: bool,
}

/// Runs the daemon until it is stopped; blocks.
pub fn run(start: Start) -> anyhow::Result<()> {
    // Before any thread: what was handed over is taken out of the environment.
    let handover = handover::receive().context("taking over from the running daemon")?;
    life::init_logging(&start.config.log)?;
    life::raise_open_files();
    tls::install();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let ended = runtime.block_on(async {
        let on_ready = start.on_ready;
        let (app, bound) =
            App::build(start.config_path, start.config, start.args, handover).await?;
        on_ready(&bound);
        app.live_until_stopped().await;
        Ok(())
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

impl App {
    /// Builds everything, starts accepting, and says where.
    pub async fn build(
        config_path: Option<PathBuf>,
        config: model::Proxy,
        args: Vec<OsString>,
        mut handover: Handover,
    ) -> anyhow::Result<(Arc<Self>, Bound)> {
        make_private(&config.state)?;
        let certificates = Arc::new(load_certificates(&config).await?);
        let metrics = Metrics::new().context("registering metrics")?;
        let access_log = AccessLog::open(&config.log, metrics.log_dropped.clone())
            .context("opening the access log")?;
        let listeners = listener::wanted(&config.listen)
            .into_iter()
            .map(|(role, address)| Listener::open(role, address, &mut handover))
            .collect::<Result<Vec<_>, _>>()?;
        let admin = Arc::new(admin_socket(&config.admin, &mut handover)?);
        let demonstration = demonstration::open(&config, &mut handover)?;
        for name in handover.close_rest() {
            tracing::info!(name, "a socket that was handed over is not used any more");
        }
        let bound = Bound {
            http: addresses(&listeners, Role::Http),
            https: addresses(&listeners, Role::Https),
            admin: config.admin.clone(),
        };
        let live = Live::new(config, None, &metrics, 0);
        let app = Arc::new(Self {
            cache: Arc::new(Cache::new(&live.config.cache)),
            live: ArcSwap::from_pointee(live),
            certificates,
            upstreams: Upstreams::new(),
            metrics,
            tasks: TaskTracker::new(),
            access_log,
            listeners: Mutex::new(listeners),
            admin,
            admin_stop: watch::Sender::new(false),
            admin_task: Mutex::default(),
            demonstration,
            drain: watch::Sender::new(false),
            stop: watch::Sender::new(None),
            started: Instant::now(),
            config_path,
            args,
            last_reload: Mutex::default(),
            connection_ids: AtomicU64::new(1),
            request_ids: AtomicU64::new(1),
            id_prefix: process_tag(),
        });
        app.serve_demonstration();
        handover
            .ready()
            .await
            .context("taking over from the running daemon")?;
        app.serve_admin();
        for listener in &*app.listeners.lock() {
            listener.accept(&app);
        }
        Ok((app, bound))
    }

    /// The configuration in force.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// What one client may take.
    pub fn limits(&self) -> model::Limits {
        self.live.load().config.limits.clone()
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
        let (bytes, _, objects) = self.cache.usage();
        self.metrics.cache_bytes.set(bytes as i64);
        self.metrics.cache_objects.set(objects as i64);
        self.metrics.text()
    }
}

impl Live {
    /// Makes a configuration ready; pools that it shares with the one before go on.
    fn new(
        config: model::Proxy,
        before: Option<&Self>,
        metrics: &Metrics,
        generation: u64,
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
        let demo = demonstration::socket(&config.state);
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
                    let pool = Arc::new(Pool::new(upstreams, &site.timeouts, &demo));
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
            generation,
        }
    }
}

/// Builds the set of certificates of a configuration; files are read off the runtime's threads.
async fn load_set(config: &model::Proxy) -> anyhow::Result<tls::Set> {
    let (sites, state) = (config.sites.clone(), config.state.clone());
    let set = tokio::task::spawn_blocking(move || tls::Set::load(&sites, &state))
        .await
        .context("loading certificates")??;
    for warning in set.warnings() {
        tracing::warn!("{warning}");
    }
    Ok(set)
}

async fn load_certificates(config: &model::Proxy) -> anyhow::Result<Certificates> {
    Ok(Certificates::new(load_set(config).await?)?)
}

fn admin_socket(path: &Path, handover: &mut Handover) -> anyhow::Result<UnixListener> {
    let name = format!("admin {}", path.display());
    let socket = match handover.take(&name) {
        Some(inherited) => admin::adopt(inherited, path)?,
        None => {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("making the folder {}", folder.display()))?;
            }
            admin::bind(path)?
        }
    };
    socket
        .set_nonblocking(true)
        .context("opening the admin socket")?;
    UnixListener::from_std(socket).context("opening the admin socket")
}

fn addresses(listeners: &[Listener], role: Role) -> Vec<SocketAddr> {
    listeners
        .iter()
        .filter(|listener| listener.role == role)
        .map(|listener| listener.address)
        .collect()
}

/// Makes the folder of the state, mode 0700: keys lie in it.
fn make_private(state: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let hint = || {
        format!(
            "making the state folder {}: name another one by `state`, or make it and give it to the user that runs the proxy",
            state.display()
        )
    };
    std::fs::create_dir_all(state).with_context(hint)?;
    std::fs::set_permissions(state, std::fs::Permissions::from_mode(0o700)).with_context(hint)
}

fn process_tag() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) as u32
}
