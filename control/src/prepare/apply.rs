//! Doing what the plan says, step by step, and nothing else. The firewall is the one step that can shut the door behind
//! us: the host opens it again by itself unless a new connection has come through.

use std::time::Duration;

use sovereign_config::stack::model;
use tokio::time::timeout;

use super::firewall::TABLE;
use super::{Act, Step};
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
        Act::Run { argv, deadline } => {
            let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
            remote
                .run(&argv, Input::nothing(), *deadline)
                .await
                .map(drop)
                .map_err(failed)
        }
        Act::Write { path, text } => write(remote, path, text).await.map_err(failed),
        Act::Guard { rules } => {
            load(remote, rules).await.map_err(failed)?;
            check(host, remote, again).await
        }
    }
}

/// Writes a file beside its place; then it takes the place.
async fn write(remote: &dyn Remote, path: &str, text: &str) -> Result<(), ssh::Error> {
    let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
    let new = format!("{path}{NEW}");
    let to = format!("of={new}");
    remote
        .run(
            &["install", "-d", "-m", "0755", "--", folder],
            Input::nothing(),
            LOOK,
        )
        .await?;
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
async fn load(remote: &dyn Remote, rules: &str) -> Result<(), ssh::Error> {
    remote
        .run(
            &["nft", "--check", "-f", "-"],
            Input::bytes(rules.as_bytes()),
            LOOK,
        )
        .await?;
    let unit = format!("--unit={UNDO}");
    let undo = [
        "systemd-run",
        "--quiet",
        "--collect",
        &unit,
        UNDONE_AFTER,
        "/usr/sbin/nft",
        "delete",
        "table",
        "inet",
        TABLE,
    ];
    remote.run(&undo, Input::nothing(), LOOK).await?;
    remote
        .run(&["nft", "-f", "-"], Input::bytes(rules.as_bytes()), LOOK)
        .await
        .map(drop)
}

/// Opens a new connection. Where none comes about, the rules go at once, over the one that is still open.
async fn check(host: &model::Host, remote: &dyn Remote, again: &dyn Connect) -> Result<(), Error> {
    let late = || ssh::Error::Late {
        host: host.name.clone(),
        command: "a new connection".to_owned(),
        after: CONNECT * 2,
    };
    let new = timeout(CONNECT * 2, again.connect(host))
        .await
        .unwrap_or_else(|_| Err(late()));
    let came = match new {
        Ok(new) => new.run(&["true"], Input::nothing(), LOOK).await.map(drop),
        Err(error) => Err(error),
    };
    let timer = format!("{UNDO}.timer");
    match came {
        Ok(()) => {
            let stop = ["systemctl", "stop", &timer];
            let failed = |source| Error::Step {
                what: "keeping the firewall in force".to_owned(),
                source,
            };
            remote
                .run(&stop, Input::nothing(), LOOK)
                .await
                .map(drop)
                .map_err(failed)
        }
        Err(source) => {
            // Where this does not come through either, the host does it by itself.
            let _ = remote
                .output(
                    &["nft", "delete", "table", "inet", TABLE],
                    Input::nothing(),
                    Duration::from_secs(5),
                )
                .await;
            Err(Error::LockedOut {
                source: Box::new(source),
            })
        }
    }
}
