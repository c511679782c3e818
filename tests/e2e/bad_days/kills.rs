//! `kill -9` at random moments of a load that writes, over and over on one folder: what was stored and
//! complete is a hit in the next life, and no byte of anything is ever wrong.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sovereign_tests::proxy::Launch;
use sovereign_tests::truth::{Asker, Dice, check, is_hit, is_stored, path, read_all};
use sovereign_tests::{Lab, Proxy, Target, Truth};
use tokio::task::JoinSet;

use super::{HOST, SETTLED, assert_calm, sites};

/// Lives, where `SOVEREIGN_KILLS` does not say how many: a thousand take minutes.
const LIVES: usize = 200;
/// After so many lives everything is read, not a sample.
const ALL: usize = 100;
/// Who writes at once.
const WRITERS: usize = 4;
/// A hit may come out of memory a moment before the disk has it.
const SEEN: Duration = Duration::from_millis(150);
/// A life lasts so long from its first request, in milliseconds.
const LIFE: std::ops::Range<usize> = 5..60;
/// One life in so many ends well after its last response was complete.
const QUIET: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_a_thousand_times() {
    let lives = std::env::var("SOVEREIGN_KILLS").map_or(LIVES, |text| {
        text.parse().expect("SOVEREIGN_KILLS is a number")
    });
    let lab = Lab::alone().await;
    let truth = Truth::start().await;
    let sites = sites(&truth, "memory = \"64MiB\"\ndisk = \"4GiB\"");
    let mut proxy = Proxy::prepare(&lab, Launch::default(), "", &sites);
    let mut dice = Dice::fresh();
    let mut kept: Vec<String> = Vec::new();
    // How long each of them had, and whether it had been seen as a hit.
    let mut last: HashMap<String, (Duration, bool)> = HashMap::new();
    let (mut lost, mut read, mut starting) = (Vec::new(), 0, Duration::ZERO);

    for life in 0..lives {
        let begun = Instant::now();
        proxy.start_again_at_once(&lab).await;
        starting += begun.elapsed();
        let target = proxy.http(HOST);
        let sample: Vec<_> = match life % ALL {
            0 => kept.clone(),
            // The latest have had the least time; beside them, any.
            _ => {
                let latest = kept.iter().rev().take(10).cloned().collect::<Vec<_>>();
                let any = (0..10).filter_map(|_| kept.get(dice.below(kept.len().max(1))).cloned());
                latest.iter().cloned().chain(any).collect()
            }
        };
        let tally = read_all(&target, &sample).await;
        read += sample.len();
        lost.extend(tally.missed.into_iter().map(|path| {
            let had = last.get(&path).copied();
            (life, path, had)
        }));
        for (path, had, seen_hit) in one_life(&mut proxy, &target, life, &mut dice).await {
            last.insert(path.clone(), (had, seen_hit));
            kept.push(path);
        }
    }
    proxy.start_again(&lab).await;
    let tally = read_all(&proxy.http(HOST), &kept).await;
    let after_all = |path: String| {
        let had = last.get(&path).copied();
        (lives, path, had)
    };
    lost.extend(tally.missed.into_iter().map(after_all));
    println!(
        "{lives} lives, {} responses kept, {} read again, {:.1?} a start; lost: {}",
        kept.len(),
        read + kept.len(),
        starting / lives as u32,
        lost.len()
    );
    assert!(kept.len() > lives, "too little was written to prove much");
    let few = &lost[..lost.len().min(10)];
    assert!(lost.is_empty(), "lost: {}, such as {few:?}", lost.len());
    assert_calm(&proxy);
}

/// What was written in one life, and had to be there after it: each with how long it had been complete,
/// and whether it had been seen as a hit.
async fn one_life(
    proxy: &mut Proxy,
    target: &Target,
    life: usize,
    dice: &mut Dice,
) -> Vec<(String, Duration, bool)> {
    let (killed, enough) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let mut writers = JoinSet::new();
    for lane in 0..WRITERS {
        let (target, killed, enough) = (target.clone(), killed.clone(), enough.clone());
        let mut dice = Dice::new(dice.throw());
        writers.spawn(async move {
            let (mut asker, mut complete) = (Asker::new(&target), Vec::new());
            for number in 0.. {
                if enough.load(Ordering::SeqCst) {
                    break;
                }
                let path = path(size(&mut dice), &format!("{life}-{lane}-{number}"));
                let (mut seen_hit, mut stored) = (false, false);
                for _ in 0..1 + dice.below(2) {
                    match asker.get(&path).await {
                        Ok(answer) => {
                            check(&path, &answer).unwrap_or_else(|wrong| panic!("{wrong}"));
                            seen_hit |= is_hit(&answer);
                            stored |= is_hit(&answer) || is_stored(&answer);
                        }
                        Err(_) if killed.load(Ordering::SeqCst) => return complete,
                        Err(error) => panic!("{path}: {error}"),
                    }
                }
                if stored {
                    complete.push((path, Instant::now(), seen_hit));
                }
            }
            complete
        });
    }
    tokio::time::sleep(Duration::from_millis(
        (LIFE.start + dice.below(LIFE.len())) as u64,
    ))
    .await;
    let mut complete = Vec::new();
    if dice.below(QUIET) == 0 {
        enough.store(true, Ordering::SeqCst);
        complete.extend(writers.join_all().await.into_iter().flatten());
        writers = JoinSet::new();
        super::settle().await;
    }
    let end = Instant::now();
    killed.store(true, Ordering::SeqCst);
    proxy.kill().await;
    enough.store(true, Ordering::SeqCst);
    complete.extend(writers.join_all().await.into_iter().flatten());
    complete
        .into_iter()
        .filter(|(_, at, seen_hit)| (*seen_hit && *at + SEEN <= end) || *at + SETTLED <= end)
        .map(|(path, at, seen_hit)| (path, end - at, seen_hit))
        .collect()
}

/// Mostly small, as pages are, and now and then one that streams to a file of its own.
fn size(dice: &mut Dice) -> usize {
    match dice.below(100) {
        0..70 => 200 + dice.below(8 << 10),
        70..95 => (8 << 10) + dice.below(56 << 10),
        95..99 => (64 << 10) + dice.below(240 << 10),
        _ => (512 << 10) + dice.below(3 << 19),
    }
}
