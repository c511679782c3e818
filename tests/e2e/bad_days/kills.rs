//! `kill -9` at random moments of a load that writes, over and over on one folder: what was stored and
//! complete is a hit in the next life, and no byte of anything is ever wrong.
//!
//! What is stored is told by no clock. It was seen as a hit, and after that the daemon said that nothing
//! waits to be written; that may be a moment before the kill.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sovereign_tests::proxy::Launch;
use sovereign_tests::truth::{Asker, Dice, check, is_hit, is_stored, path, read_all};
use sovereign_tests::{Lab, Proxy, Target, Truth};
use tokio::task::JoinSet;

use super::{HOST, assert_calm, settle, sites};

/// Lives, where `SOVEREIGN_KILLS` does not say how many: a thousand take minutes.
const LIVES: usize = 200;
/// After so many lives everything is read, not a sample.
const ALL: usize = 100;
/// Who writes at once.
const WRITERS: usize = 4;
/// A life lasts so long from its first request, in milliseconds.
const LIFE: std::ops::Range<usize> = 5..60;
/// One life in so many ends after all that it has stored is on disk, whether it was seen as a hit or not.
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
    let mut all = Lives::default();

    for life in 0..lives {
        let begun = Instant::now();
        proxy.start_again_at_once(&lab).await;
        all.starting += begun.elapsed();
        let target = proxy.http(HOST);
        let sample = all.sample(life, &mut dice);
        all.read(life, &target, &sample).await;
        let kept = one_life(&mut proxy, &target, life, &mut dice).await;
        all.keep(kept);
    }
    proxy.start_again(&lab).await;
    let kept = all.paths.clone();
    all.read(lives, &proxy.http(HOST), &kept).await;
    println!("{lives} lives, {}", all.summary(lives));
    assert!(kept.len() > lives, "too little was written to prove much");
    let few = &all.lost[..all.lost.len().min(10)];
    assert!(few.is_empty(), "lost: {}, such as {few:?}", all.lost.len());
    assert_calm(&proxy);
}

/// A response that has to be there in all later lives.
#[derive(Debug)]
struct Kept {
    path: String,
    /// From when it was first seen as a hit until the daemon said that nothing waits.
    lag: Duration,
    /// From then until the kill.
    spare: Duration,
}

/// All lives so far.
#[derive(Default)]
struct Lives {
    paths: Vec<String>,
    kept: HashMap<String, Kept>,
    /// In which life it was not there, and what is known of it.
    lost: Vec<(usize, String)>,
    read: usize,
    starting: Duration,
}

impl Lives {
    /// What is read at the beginning of a life.
    fn sample(&self, life: usize, dice: &mut Dice) -> Vec<String> {
        let paths = &self.paths;
        if life.is_multiple_of(ALL) {
            return paths.clone();
        }
        // The latest have had the least time; beside them, any.
        let latest = paths.iter().rev().take(10);
        let any = (0..10).filter_map(|_| paths.get(dice.below(paths.len().max(1))));
        latest.chain(any).cloned().collect()
    }

    async fn read(&mut self, life: usize, target: &Target, paths: &[String]) {
        let tally = read_all(target, paths).await;
        self.read += paths.len();
        let lost = tally
            .missed
            .iter()
            .map(|path| (life, format!("{:?}", self.kept[path])));
        self.lost.extend(lost);
    }

    fn keep(&mut self, kept: Vec<Kept>) {
        for kept in kept {
            self.paths.push(kept.path.clone());
            self.kept.insert(kept.path.clone(), kept);
        }
    }

    fn summary(&self, lives: usize) -> String {
        let mut lags: Vec<_> = self.kept.values().map(|kept| kept.lag).collect();
        lags.sort_unstable();
        let lag = |part: usize| lags.get(lags.len() * part / 100).or(lags.last());
        let [half, most, all] = [50, 99, 100].map(|part| lag(part).copied().unwrap_or_default());
        let least = self.kept.values().map(|kept| kept.spare).min();
        format!(
            "{} responses kept, {} read again, {:.1?} a start; known to be on disk {half:.1?} after the first hit, \
             99 of 100 {most:.1?}, all {all:.1?}, and {:.1?} before a kill; lost: {}",
            self.paths.len(),
            self.read,
            self.starting / lives as u32,
            least.unwrap_or_default(),
            self.lost.len()
        )
    }
}

/// What was written in one life, and has to be there after it.
async fn one_life(proxy: &mut Proxy, target: &Target, life: usize, dice: &mut Dice) -> Vec<Kept> {
    let mut writers = Writers::start(target, life, dice);
    let mut safe = Vec::new();
    let time = Duration::from_millis((LIFE.start + dice.below(LIFE.len())) as u64);
    // How long it lasts is what is tried; nothing is waited for.
    let end = tokio::time::sleep(time);
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            known = writers.on_disk(proxy) => {
                let new = known.into_iter().skip(safe.len());
                safe.extend(new.map(|(path, seen)| (path, seen, Instant::now())));
            }
        }
    }
    if dice.below(QUIET) == 0 {
        let all = writers.finish().await;
        settle(proxy).await;
        // What the disk did not take is in memory only, and nobody says which that is.
        let disk = proxy.admin("/status").await["cache"]["disk"].clone();
        if disk["not_stored"] == 0 {
            let new = all.into_iter().skip(safe.len());
            safe.extend(new.map(|(path, seen)| (path, seen, Instant::now())));
        }
    }
    let end = Instant::now();
    writers.notes.killed.store(true, Ordering::SeqCst);
    proxy.kill().await;
    writers.finish().await;
    let kept = |(path, seen, known): (String, Instant, Instant)| Kept {
        path,
        lag: known - seen,
        spare: end - known,
    };
    safe.into_iter().map(kept).collect()
}

/// Those who write in one life.
struct Writers {
    tasks: JoinSet<()>,
    notes: Arc<Notes>,
}

/// What they note while they do.
#[derive(Default)]
struct Notes {
    killed: AtomicBool,
    enough: AtomicBool,
    /// What was seen as a hit, in the order in which it was.
    hits: Mutex<Vec<(String, Instant)>>,
    /// What was said to be stored, and not asked for again.
    stored: Mutex<Vec<(String, Instant)>>,
}

impl Writers {
    fn start(target: &Target, life: usize, dice: &mut Dice) -> Self {
        let notes = Arc::<Notes>::default();
        let mut tasks = JoinSet::new();
        for lane in 0..WRITERS {
            let asker = Asker::new(target);
            let dice = Dice::new(dice.throw());
            tasks.spawn(write(asker, format!("{life}-{lane}"), dice, notes.clone()));
        }
        Self { tasks, notes }
    }

    /// What has been seen as a hit so far, where after that nothing waits to be written; else nothing.
    async fn on_disk(&self, proxy: &Proxy) -> Vec<(String, Instant)> {
        let hits = self.notes.hits().clone();
        // The daemon may have begun to listen before it can be asked.
        let status = proxy.try_admin("/status").await.unwrap_or_default();
        let disk = &status["cache"]["disk"];
        let all = disk["health"] == "good" && disk["waiting"] == 0 && disk["not_stored"] == 0;
        if all { hits } else { Vec::new() }
    }

    /// Lets them end; gives all that they were told is stored, what was seen as a hit first.
    async fn finish(&mut self) -> Vec<(String, Instant)> {
        self.notes.enough.store(true, Ordering::SeqCst);
        while let Some(writer) = self.tasks.join_next().await {
            writer.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        }
        let stored = self
            .notes
            .stored
            .lock()
            .expect("no writer has failed")
            .clone();
        [self.notes.hits().clone(), stored].concat()
    }
}

impl Notes {
    fn hits(&self) -> std::sync::MutexGuard<'_, Vec<(String, Instant)>> {
        self.hits.lock().expect("no writer has failed")
    }

    fn note(&self, path: String, hit: bool) {
        let list = if hit { &self.hits } else { &self.stored };
        let mut list = list.lock().expect("no writer has failed");
        list.push((path, Instant::now()));
    }
}

/// Asks for one page after the other, once or twice, until it is enough or the daemon was killed.
async fn write(mut asker: Asker, name: String, mut dice: Dice, notes: Arc<Notes>) {
    for number in 0.. {
        if notes.enough.load(Ordering::SeqCst) {
            return;
        }
        let path = path(size(&mut dice), &format!("{name}-{number}"));
        let (mut hit, mut stored) = (false, false);
        for _ in 0..1 + dice.below(2) {
            match asker.get(&path).await {
                Ok(answer) => {
                    check(&path, &answer).unwrap_or_else(|wrong| panic!("{wrong}"));
                    hit |= is_hit(&answer);
                    stored |= is_stored(&answer);
                }
                Err(_) if notes.killed.load(Ordering::SeqCst) => return,
                Err(error) => panic!("{path}: {error}"),
            }
        }
        if hit || stored {
            notes.note(path, hit);
        }
    }
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
