use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use sovereign_config::stack::model;

use super::*;
use crate::observe::Slot;
use crate::ssh::double::Double;
use crate::ssh::{Each, Held, Output, Remote};

/// As Bitcoin Core 29 answers it.
const SYNCING: &str = r#"{
  "chain": "main",
  "blocks": 412004,
  "headers": 880123,
  "bestblockhash": "00000000000000000396beb4ea43bd0cc5ae0ab0c2ef9eb2d3e4a0a5d9a0a5b1",
  "bits": "180526fd",
  "target": "0000000000000000000526fd0000000000000000000000000000000000000000",
  "difficulty": 213492501107.0,
  "time": 1463445913,
  "mediantime": 1463443141,
  "verificationprogress": 0.1127499381,
  "initialblockdownload": true,
  "chainwork": "0000000000000000000000000000000000000000001c1b8b1d6bb8a8c5f1e6a7",
  "size_on_disk": 71203120312,
  "pruned": false,
  "warnings": ["This is a pre-release test build"]
}"#;
/// As the regtest node of the tests answers it; warnings are a text in older versions.
const REGTEST: &str = r#"{"chain":"regtest","blocks":101,"headers":101,"verificationprogress":0.9999,"initialblockdownload":true,
  "size_on_disk":30312,"pruned":true,"prune_target_size":576716800,"warnings":""}"#;
const NETWORK: &str = r#"{"version":290000,"subversion":"/Satoshi:29.0.0/","protocolversion":70016,"connections":9,
  "connections_in":0,"connections_out":9,"networkactive":true,"warnings":[]}"#;

/// Seconds, and how far it is.
type Looks<'l> = &'l [(u64, f64)];

fn project() -> Project {
    Project::service("node", Slot::A)
}

async fn seen(double: Double) -> Result<Seen, Error> {
    let double = double.on("docker ps", "c0ffee\n");
    look(
        engine::of(model::Engine::Docker, Arc::new(double)).as_ref(),
        &project(),
    )
    .await
}

fn exec(question: &str) -> String {
    format!(
        "docker exec --interactive c0ffee bitcoin-cli -conf=/etc/bitcoin/bitcoin.conf -datadir=/home/bitcoin/.bitcoin -rpcclienttimeout=8 {question}"
    )
}

#[tokio::test]
async fn a_node_on_its_way() {
    let double = Double::new("h1")
        .on(&exec("getblockchaininfo"), SYNCING)
        .on(&exec("getnetworkinfo"), NETWORK);
    let Seen::Answers(node) = seen(double).await.unwrap() else {
        panic!("it answers")
    };
    assert_eq!(node.to_string(), "11.2 %, block 412004 of 880123, 9 peers");
    assert!(!node.synced);
    assert_eq!(node.warnings, ["This is a pre-release test build"]);
    assert_eq!(node.version, "/Satoshi:29.0.0/");
}

#[tokio::test]
async fn a_private_chain_is_whole_though_its_last_block_is_old() {
    let double = Double::new("h1")
        .on(&exec("getblockchaininfo"), REGTEST)
        .on(&exec("getnetworkinfo"), NETWORK);
    let Seen::Answers(node) = seen(double).await.unwrap() else {
        panic!("it answers")
    };
    assert!(node.synced && node.pruned && node.warnings.is_empty());
    assert_eq!(node.to_string(), "block 101, 9 peers");
}

#[tokio::test]
async fn a_node_that_starts_says_what_it_is_at() {
    let warming = "error code: -28\nerror message:\nLoading block index…\n";
    let double = Double::new("h1").fails(&exec("getblockchaininfo"), 28, warming);
    assert_eq!(
        seen(double).await.unwrap(),
        Seen::Starting {
            said: "Loading block index…".to_owned()
        }
    );
    let closed = "error: timeout on transient error: Could not connect to the server 127.0.0.1:8332\n\nMake sure the bitcoind server is running\n";
    let double = Double::new("h1").fails(&exec("getblockchaininfo"), 1, closed);
    assert!(matches!(seen(double).await.unwrap(), Seen::Starting { .. }));
}

#[tokio::test]
async fn what_cannot_be_asked_says_why() {
    let refused = "error: Authorization failed: Incorrect rpcuser or rpcpassword\n";
    let double = Double::new("h1").fails(&exec("getblockchaininfo"), 1, refused);
    let text = seen(double).await.unwrap_err().to_string();
    assert_eq!(
        text,
        "the Bitcoin node sovereign-node does not answer `getblockchaininfo`: error: Authorization failed: Incorrect rpcuser or rpcpassword"
    );
    let double = Double::new("h1").on(&exec("getblockchaininfo"), "{}");
    assert!(matches!(
        seen(double).await.unwrap_err(),
        Error::Garbled { .. }
    ));
    let gone = look(
        engine::of(model::Engine::Docker, Arc::new(Double::new("h1"))).as_ref(),
        &project(),
    )
    .await;
    assert!(matches!(gone.unwrap_err(), Error::Engine { .. }));
}

#[tokio::test]
async fn waiting_ends_with_the_chain_or_with_the_time() {
    let ready = Double::new("h1")
        .on("docker ps", "c0ffee\n")
        .on(&exec("getblockchaininfo"), REGTEST)
        .on(&exec("getnetworkinfo"), NETWORK);
    let engine = engine::of(model::Engine::Docker, Arc::new(ready));
    let waited = wait(
        engine.as_ref(),
        &project(),
        Duration::from_secs(60),
        &mut |_, _| {},
    )
    .await
    .unwrap();
    assert_eq!(waited, Waited::Synced);
    let behind = Double::new("h1")
        .on("docker ps", "c0ffee\n")
        .on(&exec("getblockchaininfo"), SYNCING)
        .on(&exec("getnetworkinfo"), NETWORK);
    let engine = engine::of(model::Engine::Docker, Arc::new(behind));
    let mut told = 0;
    let (gap, patience) = (Duration::from_millis(5), Duration::from_millis(100));
    let mut each = |_: &Seen, left: Option<Duration>| {
        assert_eq!(left, None);
        told += 1;
    };
    let waited = wait_every(gap, engine.as_ref(), &project(), patience, &mut each)
        .await
        .unwrap();
    assert_eq!(waited, Waited::Behind);
    assert!((2..=21).contains(&told), "{told}");
}

/// A host with a node that checks so much of the chain from one look to the next, from a half of it.
struct Syncing {
    pace: f64,
    looks: AtomicU32,
}

#[async_trait]
impl Remote for Syncing {
    fn name(&self) -> &str {
        "h1"
    }

    async fn output(&self, argv: &[&str], _: Input<'_>, _: Duration) -> Result<Output, ssh::Error> {
        let stdout = match argv {
            [.., "getblockchaininfo"] => {
                let looks = self.looks.fetch_add(1, Ordering::Relaxed);
                let progress = (0.5 + self.pace * f64::from(looks)).min(1.0);
                let blocks = if progress < 1.0 { 5 } else { 10 };
                let progress = format!("\"verificationprogress\":{progress}");
                format!("{{\"chain\":\"main\",\"blocks\":{blocks},\"headers\":10,{progress}}}")
            }
            [.., "getnetworkinfo"] => NETWORK.to_owned(),
            _ => "c0ffee\n".to_owned(),
        };
        Ok(Output {
            stdout: stdout.into(),
            ..Output::default()
        })
    }

    async fn lines(&self, _: &[&str], _: Each<'_>) -> Result<i32, ssh::Error> {
        unreachable!("nothing is read as a stream")
    }

    async fn hold(&self, _: &[&str], _: &str, _: i32) -> Result<Option<Held>, ssh::Error> {
        unreachable!("nothing is held")
    }
}

#[tokio::test(start_paused = true)]
async fn what_takes_longer_than_there_is_patience_is_not_waited_for() {
    let half_an_hour = Duration::from_secs(1800);
    // How much a look brings; how it ends, and after how many seconds.
    let table = [
        (0.005, Waited::Synced, 500),
        (0.0000001, Waited::Behind, 55),
        (0.0, Waited::Behind, 1800),
    ];
    for (pace, ends, after) in table {
        let looks = AtomicU32::new(0);
        let engine = engine::of(model::Engine::Docker, Arc::new(Syncing { pace, looks }));
        let since = Instant::now();
        let waited = wait(engine.as_ref(), &project(), half_an_hour, &mut |_, _| {}).await;
        assert_eq!(waited.unwrap(), ends, "{pace}");
        assert_eq!(since.elapsed().as_secs(), after, "{pace}");
    }
}

#[test]
fn an_estimate_needs_two_looks_that_differ() {
    let node = |progress: f64| Node {
        chain: "main".to_owned(),
        blocks: 1,
        headers: 2,
        progress,
        synced: false,
        pruned: false,
        size: 0,
        peers: 0,
        version: String::new(),
        warnings: Vec::new(),
    };
    let left = |looks: &[(u64, f64)]| {
        let mut trail = Trail::default();
        looks
            .iter()
            .for_each(|(at, progress)| trail.add(Duration::from_secs(*at), &node(*progress)));
        trail.left().map(|left| left.as_secs())
    };
    #[rustfmt::skip]
    let table: [(Looks<'_>, Option<u64>); 8] = [
        (&[],                                   None),
        (&[(0, 0.5)],                           None),
        (&[(0, 0.5), (1, 0.6)],                 None),        // too close
        (&[(0, 0.5), (5, 0.5)],                 None),        // nothing came
        (&[(0, 0.5), (10, 0.6)],                Some(40)),
        (&[(0, 0.1), (100, 0.5), (1000, 0.6)],  None),        // what is too old is forgotten
        (&[(0, 0.5), (10, 0.50000001)],         None),        // more than a year
        (&[(0, 0.9), (10, 0.2), (20, 0.3)],     Some(70)),    // it begins anew
    ];
    for (looks, expected) in table {
        let found = left(looks);
        assert_eq!(found, expected, "{looks:?}");
    }
}
