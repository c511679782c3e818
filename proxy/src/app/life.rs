//! The daemon's life: signals, draining, and the end.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sovereign_config::model::{Log, LogFormat};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::{App, Stop};
use crate::admin;
use crate::handover::{News, announce, watchdog};

/// How long the admin API may take for the answers under way at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Sends our own log to standard error, readable on a terminal, else JSON.
pub fn init_logging(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&log.level)
        .with_context(|| format!("log.level: {:?} is no filter", log.level))?;
    let json = match log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second daemon in one process, in a test, keeps the first one's log.
    let _ = if json {
        lines.json().flatten_event(true).try_init()
    } else {
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        lines.with_ansi(colour).with_target(false).try_init()
    };
    Ok(())
}

/// Takes as many open files as the system allows: a connection is one, and the usual soft limit of
/// 1,024 is for programs of another time.
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, limit = ?limit.current, "the limit of open files stays");
    }
}

impl App {
    /// Serves until a signal or the admin API says stop, then drains.
    pub(super) async fn live_until_stopped(self: &Arc<Self>) {
        let mut stop = self.stop.subscribe();
        let background = tokio::spawn(self.clone().keep_certificates());
        let keeper = tokio::spawn(self.shared.acme.clone().keep(self.installed()));
        let watchdog = tokio::spawn(watchdog());
        let signals = tokio::spawn(self.clone().obey_signals());
        let how = stop.wait_for(Option::is_some).await;
        let how = how.ok().and_then(|how| *how).unwrap_or(Stop {
            deadline: Duration::ZERO,
            replaced: false,
        });
        background.abort();
        keeper.abort();
        self.drain_connections(how).await;
        signals.abort();
        watchdog.abort();
        // Whoever asked for this end still waits to hear of it.
        self.admin_stop.send_replace(true);
        let answers = self.admin_task.lock().take();
        if let Some(answers) = answers {
            let _ = tokio::time::timeout(LAST_ANSWERS, answers).await;
        }
        if !how.replaced {
            admin::remove(&self.shared.live().config.admin);
        }
        if !how.replaced {
            self.shared.cache.close().await;
        }
        self.shared.access_log.close();
    }

    async fn obey_signals(self: Arc<Self>) {
        let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
            signal(SignalKind::hangup()),
        ) else {
            tracing::error!(
                "signals cannot be received: stop the daemon by `sovereign-proxy drain`"
            );
            return;
        };
        loop {
            tokio::select! {
                _ = terminate.recv() => self.stop_once(),
                _ = interrupt.recv() => self.stop_once(),
                _ = hangup.recv() => match self.reload().await {
                    Ok(done) => tracing::info!("{done}"),
                    Err(report) => tracing::error!("the configuration was not taken: {report}"),
                },
            }
        }
    }

    /// Begins to drain; the second time, ends at once.
    fn stop_once(&self) {
        let stopping = self.stop.borrow().is_some();
        let deadline = if stopping {
            Duration::ZERO
        } else {
            self.shared.live().config.drain
        };
        self.stop.send_replace(Some(Stop {
            deadline,
            replaced: false,
        }));
    }

    async fn drain_connections(&self, how: Stop) {
        if !how.replaced {
            announce(News::Stopping);
        }
        // Let go as well: who comes now is refused at once, or served by whoever else has the socket.
        for listener in self.listeners.lock().drain(..) {
            listener.stop();
        }
        self.shared.begin_drain();
        let open = self.shared.metrics.connections.get();
        tracing::info!(connections = open, deadline = ?how.deadline, "draining");
        let mut stop = self.stop.subscribe();
        let at_once = stop.wait_for(|how| how.is_some_and(|how| how.deadline.is_zero()));
        let waited = tokio::select! {
            waited = tokio::time::timeout(how.deadline, self.shared.tasks.wait()) => waited.is_ok(),
            _ = at_once, if !how.deadline.is_zero() => false,
        };
        if waited {
            tracing::info!("drained");
        } else {
            tracing::warn!(
                connections = self.shared.metrics.connections.get(),
                "the drain's deadline has passed; closing what is still open"
            );
        }
    }
}
