//! Builds the daemon from its configuration, keeps what all connections share, and takes it down.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parking_lot::Mutex;
use sovereign_config::model;
use tokio::net::UnixListener;
use tokio::sync::watch;

use crate::access_log::AccessLog;
use crate::acme::{self, Acme, Answers, History};
use crate::admin;
use crate::cache::Cache;
use crate::certs::Published;
use crate::changes::Changes;
use crate::handover::{self, Handover};
use crate::listener::{self, Listener, Role};
use crate::metrics::Metrics;
use crate::shared::{Live, Shared};
use crate::status::ReloadStatus;
use crate::tls::{self, Certificates, TlsError};

pub(crate) use life::init_logging;

mod certificates;
mod control;
mod demonstration;
mod life;
mod program;
mod refresh;
mod report;
mod state;

/// How long a start waits for the cache's index.
const LOADING: Duration = Duration::from_secs(2);

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

/// The daemon: what its connections share, and what only its life needs.
pub struct App {
    shared: Arc<Shared>,
    /// The state folder is ours.
    lock: state::Lock,
    listeners: Mutex<Vec<Listener>>,
    admin: Arc<UnixListener>,
    /// Ends the admin API, and tells when its last answer has been sent.
    admin_stop: watch::Sender<bool>,
    admin_task: Mutex<Option<tokio::task::JoinHandle<()>>>,
    demonstration: Option<demonstration::Demonstration>,
    stop: watch::Sender<Option<Stop>>,
    started: Instant,
    config_path: Option<PathBuf>,
    args: Vec<OsString>,
    program: Arc<program::Program>,
    last_reload: Mutex<Option<ReloadStatus>>,
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
        let lock = state::Lock::take(&config.state, &mut handover)?;
        let cache = open_cache(&config).await?;
        let certificates = Arc::new(load_certificates(&config).await?);
        let keeper = keeper(&config, &certificates).await?;
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
        let demo = demonstration::socket(&config.state);
        let feed = published(&config).await?;
        let mut live = Live::new(config, None, &metrics, &demo);
        live.feed = feed;
        let (changes, announced) = Changes::new();
        let stored = (cache, changes);
        let app = Arc::new(Self {
            shared: Arc::new(Shared::new(
                live,
                certificates,
                keeper,
                stored,
                metrics,
                access_log,
            )),
            lock,
            listeners: Mutex::new(listeners),
            admin,
            admin_stop: watch::Sender::new(false),
            admin_task: Mutex::default(),
            demonstration,
            stop: watch::Sender::new(None),
            started: Instant::now(),
            config_path,
            args,
            program: program::Program::running(),
            last_reload: Mutex::default(),
        });
        app.serve_demonstration();
        if handover.has_predecessor() {
            tokio::spawn(app.clone().hear_predecessor());
        }
        handover
            .ready()
            .await
            .context("taking over from the running daemon")?;
        app.serve_admin();
        app.tell_of_terms();
        tokio::spawn(app.clone().refresh_changed(announced));
        for listener in &*app.listeners.lock() {
            listener.accept(&app.shared);
        }
        Ok((app, bound))
    }
}

/// Builds the set of certificates of a configuration; files are read off the runtime's threads.
async fn load_set(
    config: &model::Proxy,
    load: impl FnOnce(&[model::Site], &Path) -> Result<tls::Set, TlsError> + Send + 'static,
) -> anyhow::Result<tls::Set> {
    let (sites, state) = (config.sites.clone(), config.state.clone());
    let set = tokio::task::spawn_blocking(move || load(&sites, &state))
        .await
        .context("loading certificates")??;
    for warning in set.warnings() {
        tracing::warn!("{warning}");
    }
    Ok(set)
}

/// Opens the cache with what an earlier process has left. A large one goes on loading while requests
/// are answered.
async fn open_cache(config: &model::Proxy) -> anyhow::Result<Arc<Cache>> {
    let (bounds, state) = (config.cache.clone(), config.state.clone());
    let cache = tokio::task::spawn_blocking(move || Cache::open(&bounds, &state))
        .await
        .context("opening the cache")?;
    let cache = Arc::new(cache);
    let loading = cache.clone();
    let loading = tokio::spawn(async move { loading.loaded().await });
    let opening = cache.clone();
    tokio::spawn(async move { opening.keep_opening().await });
    if tokio::time::timeout(LOADING, loading).await.is_err() {
        tracing::info!("the cache is still being loaded; what is not found yet is fetched");
    }
    Ok(cache)
}

/// Who keeps certificates from authorities, and what these come for.
async fn keeper(
    config: &model::Proxy,
    certificates: &Certificates,
) -> anyhow::Result<(Arc<Acme>, Arc<Answers>)> {
    let store = acme::store::open(&config.state, config.certificates.shared.as_ref())
        .await
        .context("opening the store of certificates")?;
    let state = config.state.clone();
    let history = tokio::task::spawn_blocking(move || History::open(&state)).await?;
    let answers = Answers::new(store.clone());
    certificates.challenged_by(answers.clone());
    let keeper = Acme::new(&config.state, store, Arc::new(history), answers.clone());
    keeper.take(config);
    Ok((keeper, answers))
}

/// The feed on a site, with its secret.
async fn published(config: &model::Proxy) -> anyhow::Result<Option<Arc<Published>>> {
    let feed = Published::read(config).await;
    feed.context("reading the secret of certificates.feed")
}

async fn load_certificates(config: &model::Proxy) -> anyhow::Result<Certificates> {
    Ok(Certificates::new(load_set(config, tls::Set::load).await?)?)
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
