//! Doing what the plan says, step by step, and nothing else. The firewall is the one step that can shut the door behind
//! us: the host opens it again by itself unless a new connection has come through.

use std::time::Duration;

use sovereign_config::stack::model;
use tokio::time::timeout;

use super::{Act, Step};
use crate::host::place;
use crate::ssh::{self, CONNECT, Connect, Input, LOOK, Remote};

/// What opens the door again, where we cannot.
const UNDO: &str = "sovereign-firewall-undo";
/// After how long.
const UNDONE_AFTER: &str = "--on-active=60s";
/// The new files of a folder come beside those of before.
const NEW: &str = ".new";

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The step, and what the host said.
    #[error("{what}")]
    Step {
        /// What was to be done.
        what: String,
        /// Why it was not.
        #[source]
        source: ssh::Error,
    },
    /// The firewall lets nobody in.
    #[error("with the firewall in force no new connection comes through; it was taken back")]
    LockedOut {
        /// What came of the connection.
        #[source]
        source: Box<ssh::Error>,
    },
}

impl Error {
    /// The way out.
    pub fn hint(&self) -> Option<String> {
        match self {
            // What the host said brings its own.
            Self::Step { .. } => None,
            Self::LockedOut { .. } => Some(
                "the host is reached as before; new connections have to come to the port of SSH that the plan lets in: look at ~/.ssh/config, and at what stands in between"
                    .to_owned(),
            ),
        }
    }
}

/// Does a step. `again` opens a connection that is not the one that is open.
pub async fn apply(
    step: &Step,
    host: &model::Host,
    remote: &dyn Remote,
    again: &dyn Connect,
) -> Result<(), Error> {
    let failed = |source| Error::Step {
        what: step.what.clone(),
        source,
    };
    match &step.act {
        Act::Run { argv, deadline } => remote
            .run(&words(argv), Input::nothing(), *deadline)
            .await
            .map(drop)
            .map_err(failed),
        Act::Write { path, text } => write(remote, path, text).await.map_err(failed),
        Act::Send { from, digest, path } => {
            folder(remote, path).await.map_err(failed)?;
            place(remote, from, digest, path, &|_| {})
                .await
                .map_err(failed)
        }
        Act::Guard { rules, undo } => {
            load(remote, rules, undo).await.map_err(failed)?;
            check(host, remote, again, undo).await
        }
    }
}

fn words(argv: &[String]) -> Vec<&str> {
    argv.iter().map(String::as_str).collect()
}

/// The folder that a file goes to.
async fn folder(remote: &dyn Remote, path: &str) -> Result<(), ssh::Error> {
    let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
    let make = ["install", "-d", "-m", "0755", "--", folder];
    remote.run(&make, Input::nothing(), LOOK).await.map(drop)
}

/// Writes a file beside its place; then it takes the place.
async fn write(remote: &dyn Remote, path: &str, text: &str) -> Result<(), ssh::Error> {
    let new = format!("{path}{NEW}");
    let to = format!("of={new}");
    folder(remote, path).await?;
    remote
        .run(
            &["dd", &to, "conv=fsync", "status=none"],
            Input::bytes(text.as_bytes()),
            LOOK,
        )
        .await?;
    remote
        .run(&["chmod", "0644", "--", &new], Input::nothing(), LOOK)
        .await?;
    remote
        .run(&["mv", "-T", "--", &new, path], Input::nothing(), LOOK)
        .await
        .map(drop)
}

/// Tries the rules, sees to it that the host takes them back by itself, and loads them.
async fn load(remote: &dyn Remote, rules: &str, undo: &[String]) -> Result<(), ssh::Error> {
    let rules = || Input::bytes(rules.as_bytes());
    remote
        .run(&["nft", "--check", "-f", "-"], rules(), LOOK)
        .await?;
    // One of a run that was interrupted must neither be in the way nor come in between.
    let timer = format!("{UNDO}.timer");
    remote
        .output(&["systemctl", "stop", &timer], Input::nothing(), LOOK)
        .await?;
    let unit = format!("--unit={UNDO}");
    let later = ["systemd-run", "--quiet", "--collect", &unit, UNDONE_AFTER];
    remote
        .run(&[&later[..], &words(undo)].concat(), Input::nothing(), LOOK)
        .await?;
    remote
        .run(&["nft", "-f", "-"], rules(), LOOK)
        .await
        .map(drop)
}

/// Opens a new connection. Where none comes about, the rules go at once, over the one that is still open.
async fn check(
    host: &model::Host,
    remote: &dyn Remote,
    again: &dyn Connect,
    undo: &[String],
) -> Result<(), Error> {
    match comes_through(host, again).await {
        Ok(()) => {
            let timer = format!("{UNDO}.timer");
            let kept = remote
                .run(&["systemctl", "stop", &timer], Input::nothing(), LOOK)
                .await;
            kept.map(drop).map_err(|source| Error::Step {
                what: "keeping the firewall in force".to_owned(),
                source,
            })
        }
        Err(source) => {
            // Where this does not come through either, the host does it by itself.
            let _ = remote
                .output(&words(undo), Input::nothing(), Duration::from_secs(5))
                .await;
            Err(Error::LockedOut {
                source: Box::new(source),
            })
        }
    }
}

async fn comes_through(host: &model::Host, again: &dyn Connect) -> Result<(), ssh::Error> {
    let late = || ssh::Error::Late {
        host: host.name.clone(),
        command: "a new connection".to_owned(),
        after: CONNECT * 2,
    };
    let new = timeout(CONNECT * 2, again.connect(host))
        .await
        .map_err(|_| late())??;
    new.run(&["true"], Input::nothing(), LOOK).await.map(drop)
}
