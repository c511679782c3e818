//! Somebody or something was at the files of the cache. Whatever is left of them, no byte of an answer
//! is wrong and no visitor sees an error; what was not touched is still a hit.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use http::Method;
use http_body_util::BodyExt as _;
use sovereign_tests::client::empty;
use sovereign_tests::proxy::Launch;
use sovereign_tests::truth::{Dice, Reading, path, read_all, store_all};
use sovereign_tests::{Client, Lab, Proxy, Target, Truth};

use super::{HOST, assert_calm, settle, sites};

/// Little memory, so that what is read is read from disk, and segments of a
/// mebibyte, so that there are many.
const BOUNDS: &str = "memory = \"16MiB\"\ndisk = \"64MiB\"";

/// A proxy with a filled cache.
struct Filled {
    lab: Lab,
    truth: Truth,
    proxy: Proxy,
    target: Target,
    paths: Vec<String>,
}

impl Filled {
    /// About 40 MiB, in small and large, all of it on disk.
    async fn new(launch: Launch) -> Self {
        let lab = Lab::alone().await;
        let truth = Truth::start().await;
        let mut proxy = Proxy::prepare(&lab, launch, "", &sites(&truth, BOUNDS));
        proxy.start_again(&lab).await;
        let target = proxy.http(HOST);
        let mut dice = Dice::fresh();
        let mut paths: Vec<_> = (0..1_200)
            .map(|number| path(100 + dice.below(30 << 10), &format!("small-{number}")))
            .collect();
        paths.extend((0..30).map(|number| {
            let size = (500 << 10) + dice.below(500 << 10);
            path(size, &format!("large-{number}"))
        }));
        store_all(&target, &paths).await.assert_no_hits();
        settle(&proxy).await;
        read_all(&target, &paths).await.assert_all_hits();
        Self {
            lab,
            truth,
            proxy,
            target,
            paths,
        }
    }

    /// Every file that holds responses, in the order of their names.
    fn files(&self) -> Vec<PathBuf> {
        let holds = ["segments", "objects"].map(|part| files(&self.proxy.cache().join(part)));
        let found = holds.concat();
        assert!(found.len() > 20, "too few files to prove much: {found:?}");
        found
    }

    /// Reads everything, until it is stored again; gives how many were not hits.
    async fn missed(&self) -> usize {
        store_all(&self.target, &self.paths).await.missed.len()
    }

    /// Reads everything over and over until all are hits; gives how many were not. Memory answers for a
    /// record on disk until it gives it up, so what is damaged under the daemon's hands may show in a
    /// later pass; but once, as what is stored then is sound.
    async fn missed_once_each(&self) -> usize {
        let (mut all, mut passes) = (BTreeSet::new(), Vec::new());
        loop {
            let missed = store_all(&self.target, &self.paths).await.missed;
            passes.push(missed.len());
            if missed.is_empty() {
                println!("missed in each pass: {passes:?}");
                return all.len();
            }
            for path in missed {
                assert!(!all.contains(&path), "{path} came back, and did not stay");
                all.insert(path);
            }
        }
    }

    /// Reads every large body; gives how many ended too early, each of which is whole when it is next
    /// asked for.
    async fn cut_off(&self) -> usize {
        let mut cut = 0;
        for path in self.paths.iter().filter(|path| path.contains("large")) {
            if !right_as_far_as_it_goes(&self.target, path).await {
                cut += 1;
                let again = right_as_far_as_it_goes(&self.target, path).await;
                assert!(again, "{path} is cut off again and again");
            }
        }
        cut
    }

    /// How many responses this life of the daemon has found to be damaged.
    async fn found_damaged(&self) -> usize {
        let status = self.proxy.admin("/status").await;
        let found = status["cache"]["disk"]["corrupt"].as_u64();
        found.expect("a number") as usize
    }

    /// Kills the daemon, does something to its files, starts it, and reads everything twice: what was
    /// lost has come back the second time. Gives how many were lost.
    async fn over_a_kill(&mut self, harm: impl FnOnce(&Self)) -> usize {
        settle(&self.proxy).await;
        self.proxy.kill().await;
        harm(self);
        self.proxy.start_again(&self.lab).await;
        let missed = self.missed().await;
        assert_eq!(self.missed().await, 0, "what came back did not stay");
        missed
    }

    fn assert_calm(&self) {
        assert_calm(&self.proxy);
        assert_eq!(self.truth.version(), 1);
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(kind) if kind.is_file() => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// Turns one bit of one byte of a file round.
fn flip(path: &Path, dice: &mut Dice) {
    let file = File::options().read(true).write(true).open(path);
    let file = file.expect("the file is ours");
    let length = file.metadata().expect("the file is ours").len();
    if length == 0 {
        return;
    }
    // The beginning is a case of its own: nothing of the answer has been sent yet.
    let within = match dice.below(3) {
        0 => length.min(64 << 10),
        _ => length,
    };
    let at = dice.throw() % within;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte is there");
    byte[0] ^= 1 << dice.below(8);
    file.write_all_at(&byte, at).expect("the file is ours");
}

/// Turns a bit round in every tenth file; gives how many that were.
fn flip_a_tenth(filled: &Filled, turn: usize, dice: &mut Dice) -> usize {
    let files = filled.files();
    let mine: Vec<_> = files.iter().skip(turn).step_by(10).collect();
    for file in &mine {
        flip(file, dice);
    }
    mine.len()
}

/// More of them than one in a hundred: a tenth of all files at a time, until each has had its turn,
/// under the daemon's hands and while it is away. A large body is sent while it is read, so what is
/// wrong in the middle of it ends its answer there; the bytes before that are right, and the next who
/// asks gets all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_byte_is_flipped() {
    let mut filled = Filled::new(Launch::default()).await;
    let mut dice = Dice::fresh();
    let (mut flipped, mut found, mut lost, mut cut) = (0, 0, 0, 0);
    for turn in 0..10 {
        if turn % 2 == 0 {
            let before = filled.found_damaged().await;
            flipped += flip_a_tenth(&filled, turn, &mut dice);
            let short = filled.cut_off().await;
            let missed = filled.missed_once_each().await;
            let damaged = filled.found_damaged().await - before;
            assert!(
                missed + short <= damaged,
                "{missed} missed and {short} cut off, where {damaged} were damaged"
            );
            (found, lost, cut) = (found + damaged, lost + missed, cut + short);
        } else {
            let flip = |filled: &Filled| flipped += flip_a_tenth(filled, turn, &mut dice);
            lost += filled.over_a_kill(flip).await;
            assert_eq!(filled.over_a_kill(|_| {}).await, 0, "it was not kept");
        }
    }
    println!(
        "{flipped} bytes flipped: of {} responses, {lost} were lost, {cut} cut off",
        filled.paths.len()
    );
    // A byte belongs to one response, or to the table that is made anew from the responses themselves.
    assert!(found > 0, "nothing was hit: nothing is proved");
    assert!(cut <= flipped, "{flipped} bytes cut {cut} answers off");
    assert!(lost <= flipped, "{flipped} bytes cost {lost} responses");
    let disk = filled.proxy.status().await["cache"]["disk"].clone();
    assert_eq!(disk["health"], "good", "{disk}");
    filled.assert_calm();
}

/// Reads a page; false where it ends too early. Fails the test where a byte is wrong.
async fn right_as_far_as_it_goes(target: &Target, path: &str) -> bool {
    let client = Client::h1(target);
    let request = client.request(Method::GET, path, &[], empty());
    let (head, mut body) = client.send(request).await.into_parts();
    let mut reading = Reading::begin(path, head.status, &head.headers);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        if let Some(bytes) = frame.data_ref() {
            reading.feed(bytes);
        }
    }
    reading.end();
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_cut_short_emptied_and_swapped() {
    let mut filled = Filled::new(Launch::default()).await;
    let mut dice = Dice::fresh();
    let all = filled.paths.len();
    let resize = |path: &Path, length: u64| {
        let file = File::options().write(true).open(path);
        file.and_then(|file| file.set_len(length))
            .expect("the file is ours");
    };
    for turn in 0..4 {
        let lost = filled
            .over_a_kill(|filled| {
                for file in filled.files().iter().skip(turn).step_by(8) {
                    let length = fs::metadata(file).expect("it is there").len();
                    resize(file, dice.throw() % (length + 1));
                }
            })
            .await;
        println!("cut short: {lost} lost");
        assert!(lost < all / 2, "{lost} of {all} were lost");
    }
    let lost = filled
        .over_a_kill(|filled| {
            for file in filled.files().iter().step_by(8) {
                resize(file, 0);
            }
        })
        .await;
    println!("emptied: {lost} lost");
    assert!(lost < all / 2, "{lost} of {all} were lost");
    // Each takes the name of the next one; with it, of a larger or smaller one of another kind.
    let lost = filled
        .over_a_kill(|filled| {
            for pair in filled.files().chunks(2) {
                if let [one, other] = pair {
                    let aside = one.with_extension("aside");
                    fs::rename(one, &aside).expect("the file is ours");
                    fs::rename(other, one).expect("the file is ours");
                    fs::rename(&aside, other).expect("the file is ours");
                }
            }
        })
        .await;
    println!("swapped: {lost} lost");
    // Grown by nothing, and by noise.
    let lost = filled
        .over_a_kill(|filled| {
            for (number, file) in filled.files().iter().enumerate() {
                let length = fs::metadata(file).expect("it is there").len();
                resize(file, length + 5000);
                if number % 2 == 0 {
                    for _ in 0..10 {
                        flip_beyond(file, length, &mut dice);
                    }
                }
            }
        })
        .await;
    println!("grown: {lost} lost");
    assert!(lost < all / 2, "{lost} of {all} were lost");
    filled.assert_calm();
}

fn flip_beyond(path: &Path, length: u64, dice: &mut Dice) {
    let file = File::options().write(true).open(path);
    let noise = dice.throw().to_le_bytes();
    file.and_then(|file| file.write_all_at(&noise, length + dice.throw() % 4000))
        .expect("the file is ours");
}

/// Files that cannot be read: by their mode, or because they are no files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_cannot_be_read() {
    // Root reads everything; so the daemon is started without that right.
    let bound = "--bounding-set=-dac_override,-dac_read_search";
    let launch = Launch {
        launcher: ["setpriv", bound, "--"].map(Into::into).to_vec(),
        ..Launch::default()
    };
    let mut filled = Filled::new(launch).await;
    let all = filled.paths.len();
    let mut touched = Vec::new();
    let lost = filled
        .over_a_kill(|filled| {
            for (number, file) in filled.files().iter().enumerate().step_by(8) {
                touched.push(file.clone());
                match number / 8 % 4 {
                    0 => fs::set_permissions(file, fs::Permissions::from_mode(0o000)),
                    1 => fs::remove_file(file).and_then(|()| fs::create_dir(file)),
                    2 => fs::remove_file(file).and_then(|()| symlink(file, file)),
                    _ => fs::remove_file(file).and_then(|()| pipe(file)),
                }
                .expect("the file is ours");
            }
        })
        .await;
    println!(
        "{} files cannot be read: {lost} of {all} lost",
        touched.len()
    );
    assert!(lost > 0 && lost < all / 2, "{lost} of {all} were lost");
    // The same to a daemon that has the file in its index, and perhaps in its hands.
    for file in filled.files().iter().skip(3).step_by(8) {
        fs::set_permissions(file, fs::Permissions::from_mode(0o000)).expect("the file is ours");
    }
    let lost = filled.missed().await;
    println!("under its hands: {lost} of {all} lost");
    assert!(lost < all / 2, "{lost} of {all} were lost");
    assert_eq!(filled.missed().await, 0, "what came back did not stay");
    filled.proxy.assert_no_panic();
}

/// A named pipe: who opens it to read waits for somebody to write.
fn pipe(path: &Path) -> std::io::Result<()> {
    use rustix::fs::{FileType, Mode, mknodat};
    let (kind, mode) = (FileType::Fifo, Mode::RUSR | Mode::WUSR);
    Ok(mknodat(rustix::fs::CWD, path, kind, mode, 0)?)
}

/// The folder goes while the daemon runs: all is asked for anew and stored anew, and is there after
/// the next start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_folder_is_removed() {
    let mut filled = Filled::new(Launch::default()).await;
    fs::remove_dir_all(filled.proxy.cache()).expect("the folder is ours");
    filled.missed().await;
    // What went into the old file was given up; it is noticed within moments.
    super::disk_is(&filled.proxy, "the disk is good again", |disk| {
        disk["health"] == "good"
    })
    .await;
    for _ in 0..50 {
        filled.missed().await;
        settle(&filled.proxy).await;
        if files(&filled.proxy.cache()).len() > 20 {
            break;
        }
    }
    filled.missed().await;
    let lost = filled.over_a_kill(|_| {}).await;
    println!("{lost} of {} lost", filled.paths.len());
    assert!(
        lost < filled.paths.len() / 2,
        "nothing was stored anew: {lost} lost"
    );

    // The same between two lives, and only parts of it.
    for part in ["segments", "objects", "tmp", "format", ""] {
        let lost = filled
            .over_a_kill(|filled| {
                let path = filled.proxy.cache().join(part);
                if path.is_dir() {
                    fs::remove_dir_all(path).expect("the folder is ours");
                } else if path.is_file() {
                    fs::remove_file(path).expect("the file is ours");
                }
            })
            .await;
        println!("without {part:?}: {lost} lost");
        settle(&filled.proxy).await;
        assert_eq!(filled.over_a_kill(|_| {}).await, 0, "after {part:?}");
    }
    filled.proxy.assert_no_panic();
}
