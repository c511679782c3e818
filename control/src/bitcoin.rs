//! What a Bitcoin node says of itself. Stands alone because it is the one service whose state is more than well or not:
//! it may be well and still have days to go.
//!
//! It is asked with the node's own `bitcoin-cli`, in its own container, through the engine. That client reads the cookie
//! that the node leaves there, so that the RPC password is neither read nor sent for a look, no port is forwarded, and
//! it is the same with Compose and in a Swarm. The answers are the JSON of the RPC itself; of the crates for it,
//! `bitcoincore-rpc` is no longer maintained, and `corepc-client` has one module for each version of the node, while
//! the few fields that are read here have been the same in all of them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::engine::{self, Engine, Project};
use crate::ssh::{self, Input};

// What is left, from looks.
mod trail;

pub use trail::Trail;

/// The folder of the catalogue that is a node.
pub const KIND: &str = "bitcoin";
/// Its container.
const PART: &str = "bitcoind";
/// Its client, where its configuration and its cookie lie.
const CLI: [&str; 4] = [
    "bitcoin-cli",
    "-conf=/etc/bitcoin/bitcoin.conf",
    "-datadir=/home/bitcoin/.bitcoin",
    "-rpcclienttimeout=8",
];
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(12);
/// That there is no answer.
const SILENT: &str = "it does not answer yet";
/// What the client ends with while the node reads what it has on its disk.
const WARMING_UP: i32 = 28;
/// How often a node is asked that is waited for.
const LOOKS: Duration = Duration::from_secs(5);
/// After how many looks its pace is believed: then nobody waits for what takes longer than there is patience.
const BELIEVED: u32 = 12;

/// What a node says.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Seen {
    /// It answers.
    Answers(Node),
    /// It starts: what it is at.
    Starting {
        /// In its own words.
        said: String,
    },
}

/// A node that answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    /// `main`, `testnet4`, `signet`, `regtest`.
    pub chain: String,
    /// Blocks that it has checked.
    pub blocks: u64,
    /// Blocks that it knows of.
    pub headers: u64,
    /// How much of the chain it has checked, by its own estimate, 0 to 1.
    pub progress: f64,
    /// It has checked all that it knows of.
    pub synced: bool,
    /// It keeps the last blocks only.
    pub pruned: bool,
    /// What the chain takes of the disk, in bytes.
    pub size: u64,
    /// Other nodes that it is connected to.
    pub peers: u64,
    /// What it is: `/Satoshi:29.0.0/`.
    pub version: String,
    /// What it warns of.
    pub warnings: Vec<String>,
}

/// Why a node could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its host, its engine or its container.
    #[error("asking the Bitcoin node {project}")]
    Engine {
        /// The project it runs in.
        project: String,
        /// Why.
        #[source]
        source: engine::Error,
    },
    /// It refuses to answer.
    #[error("the Bitcoin node {project} does not answer `{question}`: {said}")]
    Refused {
        /// The project it runs in.
        project: String,
        /// What it was asked.
        question: String,
        /// What its client said.
        said: String,
    },
    /// It answers something else.
    #[error("what the Bitcoin node {project} answers to `{question}` cannot be read")]
    Garbled {
        /// The project it runs in.
        project: String,
        /// What it was asked.
        question: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// How waiting for a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// It has the whole chain.
    Synced,
    /// The time is over, or will not do.
    Behind,
}

/// Asks a node how it is.
pub async fn look(engine: &dyn Engine, project: &Project) -> Result<Seen, Error> {
    let chain: Chain = match ask(engine, project, "getblockchaininfo").await? {
        Answer::Value(chain) => chain,
        Answer::Starting(said) => return Ok(Seen::Starting { said }),
    };
    let network = match ask(engine, project, "getnetworkinfo").await? {
        Answer::Value(network) => network,
        Answer::Starting(said) => return Ok(Seen::Starting { said }),
    };
    Ok(Seen::Answers(node(chain, network)))
}

/// Waits until a node has the whole chain, for as long as this, and tells how far it is, with what is left. Where its
/// pace says that this takes longer, it is not waited for any more.
pub async fn wait(
    engine: &dyn Engine,
    project: &Project,
    patience: Duration,
    each: &mut (dyn FnMut(&Seen, Option<Duration>) + Send),
) -> Result<Waited, Error> {
    wait_every(LOOKS, engine, project, patience, each).await
}

async fn wait_every(
    gap: Duration,
    engine: &dyn Engine,
    project: &Project,
    patience: Duration,
    each: &mut (dyn FnMut(&Seen, Option<Duration>) + Send),
) -> Result<Waited, Error> {
    let since = Instant::now();
    let mut trail = Trail::default();
    for looks in 1_u32.. {
        let seen = look(engine, project).await?;
        if let Seen::Answers(node) = &seen {
            if node.synced {
                return Ok(Waited::Synced);
            }
            trail.add(since.elapsed(), node);
        }
        let left = trail.left();
        each(&seen, left);
        let in_vain = looks >= BELIEVED && left.is_some_and(|left| left > patience);
        if in_vain || since.elapsed() + gap > patience {
            break;
        }
        sleep(gap).await;
    }
    Ok(Waited::Behind)
}

/// What was answered.
enum Answer<T> {
    Value(T),
    Starting(String),
}

async fn ask<T: for<'a> Deserialize<'a>>(
    engine: &dyn Engine,
    project: &Project,
    question: &str,
) -> Result<Answer<T>, Error> {
    let argv = [&CLI[..], &[question]].concat();
    let failed = |source| Error::Engine {
        project: project.to_string(),
        source,
    };
    let asked = engine.exec(project, PART, &argv, Input::nothing(), PATIENCE);
    let output = match asked.await {
        // While it checks many blocks it may have no time to answer.
        Err(engine::Error::Remote(ssh::Error::Late { .. })) => {
            return Ok(Answer::Starting(SILENT.to_owned()));
        }
        asked => asked.map_err(failed)?,
    };
    let said = said(&output.stderr);
    match output.code {
        0 => {}
        WARMING_UP => return Ok(Answer::Starting(said)),
        _ if output.stderr.contains("Could not connect to the server") => {
            return Ok(Answer::Starting(SILENT.to_owned()));
        }
        _ => {
            return Err(Error::Refused {
                project: project.to_string(),
                question: question.to_owned(),
                said,
            });
        }
    }
    let garbled = |source| Error::Garbled {
        project: project.to_string(),
        question: question.to_owned(),
        source,
    };
    serde_json::from_slice(&output.stdout)
        .map(Answer::Value)
        .map_err(garbled)
}

/// The last line: before it stand the number of the error, and that it is one.
fn said(stderr: &str) -> String {
    let last = stderr.lines().map(str::trim).rfind(|line| !line.is_empty());
    last.unwrap_or("it gave no reason").to_owned()
}

/// What is read of `getblockchaininfo`.
#[derive(Debug, Deserialize)]
struct Chain {
    chain: String,
    blocks: u64,
    headers: u64,
    #[serde(rename = "verificationprogress")]
    progress: f64,
    #[serde(rename = "initialblockdownload", default)]
    downloading: bool,
    #[serde(default)]
    pruned: bool,
    #[serde(rename = "size_on_disk", default)]
    size: u64,
    #[serde(default)]
    warnings: Warnings,
}

/// What is read of `getnetworkinfo`.
#[derive(Debug, Deserialize)]
struct Network {
    #[serde(rename = "subversion", default)]
    version: String,
    #[serde(default)]
    connections: u64,
}

/// A text until version 27, a list since.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Warnings {
    One(String),
    Many(Vec<String>),
}

impl Default for Warnings {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

fn node(chain: Chain, network: Network) -> Node {
    let private = chain.chain == "regtest";
    let warnings = match chain.warnings {
        Warnings::One(text) => vec![text],
        Warnings::Many(list) => list,
    };
    Node {
        // A private chain may rest for years: its last block being old says nothing there.
        synced: chain.blocks >= chain.headers && (private || !chain.downloading),
        chain: chain.chain,
        blocks: chain.blocks,
        headers: chain.headers,
        progress: chain.progress.clamp(0.0, 1.0),
        pruned: chain.pruned,
        size: chain.size,
        peers: network.connections,
        version: network.version,
        warnings: warnings
            .into_iter()
            .filter(|text| !text.trim().is_empty())
            .collect(),
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peers = if self.peers == 1 { "peer" } else { "peers" };
        if self.synced {
            return write!(f, "block {}, {} {peers}", self.blocks, self.peers);
        }
        write!(
            f,
            "{}, block {} of {}, {} {peers}",
            self.percent(),
            self.blocks,
            self.headers,
            self.peers
        )
    }
}

impl Node {
    /// How much of the chain it has checked. Not rounded up: 100 % is for a node that is there.
    pub fn percent(&self) -> String {
        let percent = (self.progress * 1000.0).floor() / 10.0;
        format!("{percent:.1} %")
    }
}

#[cfg(test)]
mod tests;
