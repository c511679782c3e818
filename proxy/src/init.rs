//! The first process of a container: the parent of whichever daemon is in force. Stands alone because
//! it serves nothing and knows nothing of sites.
//!
//! The end of process 1 is the end of its container, but an upgrade ends the old daemon. So process 1 is
//! no daemon: it starts one, and stays.
//!
//! ```text
//! process 1 -- starts --> daemon -- upgrade --> successor -- upgrade --> ...
//!    |  ^------ "MAINPID=n" (NOTIFY_SOCKET), as systemd is told ------'
//!    '-- SIGTERM, SIGINT, SIGHUP to the one in force; reaps all; ends with its code
//! ```

// Which daemon is in force, by what was said and who has ended.
mod succession;
// The socket where daemons say it.
mod told;

use std::fs;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, test_kill_process, wait};
use sovereign_config::model::Proxy;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, timeout_at};

use crate::app::init_logging;
use crate::handover;

use succession::{Ended, Succession};
use told::{News, Told};

/// How long another daemon has to come forward when the one in force has failed: one that was taking
/// over just then does.
const GRACE: Duration = Duration::from_secs(2);
/// How often daemons are looked for while one is left that has handed over: it may be the parent of the
/// one in force, and would hear of its end in our place.
const LOOK: Duration = Duration::from_millis(100);

/// Why there is no daemon.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The runtime, or a signal.
    #[error("preparing process 1")]
    Prepare(#[source] io::Error),
    /// The log.
    #[error("opening the log: {0}")]
    Log(String),
    /// The socket where daemons say which one is in force.
    #[error("opening {path}")]
    Socket {
        /// Where it was to be.
        path: String,
        /// Why it is not.
        source: io::Error,
    },
    /// Another process 1 has the folder.
    #[error(
        "the state folder {0} is in use by another sovereign-proxy: stop it, or name another folder by `state`"
    )]
    InUse(String),
    /// The daemon did not start.
    #[error("starting {program}")]
    Start {
        /// What was to be started.
        program: String,
        /// Why it was not.
        source: io::Error,
    },
}

/// Whether this process is the first of its container.
pub fn is_first() -> bool {
    std::process::id() == 1
}

/// Starts the daemon, as this process was started, and stays until it or its last successor has ended;
/// gives the exit code.
pub fn run(config: &Proxy) -> Result<u8, InitError> {
    init_logging(&config.log).map_err(|error| InitError::Log(format!("{error:#}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(InitError::Prepare)?;
    runtime.block_on(async {
        // Before the daemon: what is said to it must not be lost.
        let mut signals = Signals::new().map_err(InitError::Prepare)?;
        let told = Told::open(&config.state)?;
        let first = start(told.path())?;
        tracing::info!(pid = first.as_raw_pid(), "process 1 has started the daemon");
        let parent = Parent {
            succession: Succession::new(first),
            told,
        };
        Ok(parent.stay(&mut signals).await)
    })
}

/// Starts the program of this process with its arguments.
fn start(notify: &Path) -> Result<Pid, InitError> {
    let failed = |program: &Path, source| InitError::Start {
        program: program.display().to_string(),
        source,
    };
    let program =
        handover::program().map_err(|error| failed(Path::new("sovereign-proxy"), error))?;
    let mut command = Command::new(&program);
    command
        .args(std::env::args_os().skip(1))
        .env("NOTIFY_SOCKET", notify);
    // They name this process; sockets and watchdog are the daemon's.
    for name in ["LISTEN_PID", "WATCHDOG_PID"] {
        command.env_remove(name);
    }
    // Not waited for through `Child`: process 1 reaps whatever ends.
    let child = command.spawn().map_err(|error| failed(&program, error))?;
    Ok(Pid::from_child(&child))
}

/// Process 1 and its daemons.
struct Parent {
    succession: Succession,
    told: Told,
}

impl Parent {
    /// Until no daemon is left.
    async fn stay(mut self, signals: &mut Signals) -> u8 {
        loop {
            tokio::select! {
                said = signals.recv() => match said {
                    Some(signal) => self.pass_on(signal),
                    None => {
                        self.reap();
                    }
                },
                news = self.told.recv() => self.hear(news),
                () = sleep(LOOK), if !self.succession.earlier().is_empty() => self.look(),
            }
            if let Some(code) = self.end_of_daemon(signals).await {
                return code;
            }
        }
    }

    /// The exit code, where the daemon in force has ended and none takes its place.
    async fn end_of_daemon(&mut self, signals: &mut Signals) -> Option<u8> {
        let ended = self.succession.ended()?;
        // What it said last may have said who goes on.
        while let Some(news) = self.told.try_recv() {
            self.hear(news);
        }
        self.succession.ended()?;
        if ended.is_failure() {
            tracing::error!("the daemon {ended}");
            if !self.reap() {
                return Some(ended.code());
            }
            tracing::info!("another process is left, which may be taking over");
            let deadline = Instant::now() + GRACE;
            while let Ok(news) = timeout_at(deadline, self.told.recv()).await {
                self.hear(news);
                self.succession.ended()?;
            }
        } else {
            self.let_drain(signals).await;
        }
        Some(ended.code())
    }

    /// Waits for daemons that have handed over and still answer somebody.
    async fn let_drain(&mut self, signals: &mut Signals) {
        loop {
            self.look();
            if self.succession.earlier().is_empty() {
                return;
            }
            tokio::select! {
                // Nothing serves any more: whoever asks again wants the end.
                Some(_) = signals.recv() => return,
                () = sleep(LOOK) => {}
            }
        }
    }

    fn hear(&mut self, news: News) {
        told::pass_on(&news);
        let before = self.succession.in_force();
        self.succession.hear(&news);
        let now = self.succession.in_force();
        if now != before {
            tracing::info!(pid = now.as_raw_pid(), "another daemon is in force");
        }
        if let Some((pid, signal)) = self.succession.tell_late() {
            tell(pid, signal);
        }
    }

    fn pass_on(&mut self, signal: Signal) {
        // A terminal tells all of its foreground, the daemon as well.
        if signal == Signal::INT && io::stdin().is_terminal() {
            self.succession.stop(signal);
            return;
        }
        if signal != Signal::HUP {
            self.succession.stop(signal);
        }
        tell(self.succession.in_force(), signal);
    }

    /// Takes leave of every process that has ended, ours or somebody else's; says whether any is left.
    fn reap(&mut self) -> bool {
        loop {
            let (pid, status) = match wait(WaitOptions::NOHANG) {
                Ok(Some(one)) => one,
                Err(Errno::INTR) => continue,
                left => return left.is_ok(),
            };
            let ended = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Ended::Exited(code),
                (None, Some(signal)) => Ended::Killed(signal),
                (None, None) => continue,
            };
            self.succession.reaped(pid, ended);
        }
    }

    /// Looks who is there. While one drains, the daemon in force may be its child, and it reaps it.
    fn look(&mut self) {
        self.reap();
        let is_gone = |pid| test_kill_process(pid).is_err();
        self.succession.forget(is_gone);
        if is_gone(self.succession.in_force()) {
            self.succession.vanished();
        }
    }
}

fn tell(pid: Pid, signal: Signal) {
    if let Err(error) = kill_process(pid, signal) {
        tracing::warn!(%error, pid = pid.as_raw_pid(), ?signal, "passing a signal on");
    }
}

/// The signals of process 1. Others have no meaning to the daemon and would kill it; process 1 is not
/// sent what it does not ask for.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    child: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            child: signal(SignalKind::child())?,
        })
    }

    /// The next one to pass on; `None`: a child has ended.
    async fn recv(&mut self) -> Option<Signal> {
        tokio::select! {
            _ = self.terminate.recv() => Some(Signal::TERM),
            _ = self.interrupt.recv() => Some(Signal::INT),
            _ = self.hangup.recv() => Some(Signal::HUP),
            _ = self.child.recv() => None,
        }
    }
}

/// Makes the folder of the socket as the daemon makes it.
fn private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}
