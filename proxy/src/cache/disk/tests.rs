//! The durable tier as a whole: what is written is found, whatever happened in between.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;

const MIB: u64 = 1024 * 1024;

fn settings(folder: &Path) -> Settings {
    Settings {
        folder: folder.join("cache"),
        limit: 16 * MIB,
        index_limit: 16 * MIB,
        queue_limit: 32 * MIB,
    }
}

async fn open(folder: &Path) -> Disk {
    let disk = Disk::open(settings(folder)).unwrap();
    disk.loaded().await;
    disk
}

fn record(key: &str, born: u64, body: &[u8]) -> NewRecord {
    NewRecord {
        key: key.into(),
        variant: 0,
        born,
        lane: 0,
        scopes: Box::new([]),
        meta: Bytes::from(format!("meta of {key} {born}")),
        body: Bytes::copy_from_slice(body),
    }
}

/// Bytes that differ from place to place.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
}

async fn newest(disk: &Disk, key: &str) -> Option<(Bytes, Bytes)> {
    for place in disk.places(key) {
        if let Some(record) = disk.read(place, key).await {
            return Some((record.meta.clone(), body(&record).await));
        }
    }
    None
}

async fn body(record: &Record) -> Bytes {
    match &record.body {
        RecordBody::Whole(bytes) => bytes.clone(),
        RecordBody::Large(stored) => all(stored).await.unwrap(),
    }
}

async fn all(stored: &StoredBody) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < stored.len() {
        bytes.extend_from_slice(&stored.read(bytes.len() as u64..stored.len()).await?);
    }
    Ok(bytes.into())
}

#[tokio::test]
async fn what_is_written_is_read() {
    let folder = TempDir::new().unwrap();
    let disk = open(folder.path()).await;
    let lengths = [
        0, 1, 15, 16, 65_535, 65_536, 65_537, 262_144, 262_145, 700_000,
    ];
    for (born, length) in lengths.into_iter().enumerate() {
        let key = format!("https://example.org/{length}");
        assert!(disk.write(record(&key, born as u64, &pattern(length))));
    }
    disk.flush().await;
    for (born, length) in lengths.into_iter().enumerate() {
        let key = format!("https://example.org/{length}");
        let (meta, body) = newest(&disk, &key).await.unwrap();
        assert_eq!(meta, format!("meta of {key} {born}"));
        assert_eq!(body, pattern(length), "{length}");
        assert!(disk.has(&key));
        let place = disk.places(&key)[0];
        assert!(disk.try_read(place, &key).unwrap().is_some(), "{length}");
        assert!(disk.try_read(place, "another key").unwrap().is_none());
    }
    assert!(!disk.has("https://example.org/"));
    assert_eq!(disk.usage().records, lengths.len() as u64);
    assert_eq!(disk.usage().health, Health::Good);
}

#[tokio::test]
async fn a_restart_finds_what_was_sealed() {
    restart(true).await;
}

#[tokio::test]
async fn a_restart_finds_what_was_not_sealed() {
    restart(false).await;
}

async fn restart(close: bool) {
    let folder = TempDir::new().unwrap();
    let disk = open(folder.path()).await;
    for number in 0..500 {
        let key = format!("key {number}");
        let mut new = record(&key, number, &pattern(number as usize * 40));
        new.scopes = Box::new([7, number % 3]);
        assert!(disk.write(new));
    }
    disk.write(record("key 3", 1000, b"newer"));
    disk.flush().await;
    disk.forget("key 4");
    disk.flush().await;
    if close {
        disk.close().await;
    }
    drop(disk);
    let disk = open(folder.path()).await;
    assert_eq!(disk.last_born(), 1000);
    for number in 0..500 {
        let found = newest(&disk, &format!("key {number}")).await;
        match number {
            3 => assert_eq!(found.unwrap().1, "newer"),
            4 => assert!(found.is_none()),
            _ => assert_eq!(found.unwrap().1, pattern(number * 40)),
        }
    }
    assert_eq!(disk.usage().records, 499);
    assert_eq!(disk.count(7), 498);
    assert_eq!(disk.usage().corrupt, 0);
}

/// Writes to the kernel, for as long as it may.
#[derive(Default)]
struct Trouble {
    /// The error that every write ends with, if any.
    errno: Arc<Mutex<Option<i32>>>,
}

impl Writes for Trouble {
    fn write(&self, file: &File, pieces: &[io::IoSlice<'_>], offset: u64) -> io::Result<()> {
        let errno = *self.errno.lock();
        match errno {
            None => Kernel.write(file, pieces, offset),
            Some(errno) => {
                // What fails has got some way before.
                let part = pieces.get(..pieces.len() / 2).unwrap_or_default();
                Kernel.write(file, part, offset)?;
                Err(io::Error::from_raw_os_error(errno))
            }
        }
    }
}

/// Bytes that the folder takes on disk, as the kernel counts them.
fn du(path: &Path) -> u64 {
    let metadata = fs::symlink_metadata(path).unwrap();
    let own = metadata.blocks() * 512;
    match metadata.is_dir() {
        true => own + entries(path).iter().map(|path| du(path)).sum::<u64>(),
        false => own,
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(_) => Vec::new(),
    }
}

fn data_files(folder: &Path, part: &str) -> Vec<PathBuf> {
    let folders = entries(&folder.join("cache").join(part));
    let mut files: Vec<_> = folders.iter().flat_map(|folder| entries(folder)).collect();
    files.sort_by_key(|path| path.file_name().unwrap().to_owned());
    files
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 20 s: {what}");
}

/// A folder with a few records in one segment, closed; their keys and bodies.
async fn small_segment(folder: &Path, close: bool) -> BTreeMap<String, Vec<u8>> {
    let disk = open(folder).await;
    let mut written = BTreeMap::new();
    for (number, length) in [300, 0, 17, 900].into_iter().enumerate() {
        let key = format!("key {number}");
        let body = pattern(length);
        assert!(disk.write(record(&key, number as u64 + 1, &body)));
        written.insert(key, body);
    }
    disk.flush().await;
    if close {
        disk.close().await;
    }
    written
}

/// Opens a damaged copy and looks what of `written` is there: right, or not at all. How many are there.
async fn survivors(
    file: &Path,
    bytes: &[u8],
    folder: &Path,
    written: &BTreeMap<String, Vec<u8>>,
) -> usize {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, bytes).unwrap();
    let disk = open(folder).await;
    let mut found = 0;
    for (key, body) in written {
        if let Some((meta, read)) = newest(&disk, key).await {
            assert_eq!(read, body);
            assert!(meta.starts_with(format!("meta of {key} ").as_bytes()));
            found += 1;
        }
    }
    found
}

#[tokio::test]
async fn no_flipped_byte_is_served_and_the_other_records_are_found() {
    for close in [true, false] {
        let folder = TempDir::new().unwrap();
        let written = small_segment(folder.path(), close).await;
        let file = data_files(folder.path(), "segments").pop().unwrap();
        let good = fs::read(&file).unwrap();
        assert_eq!(survivors(&file, &good, folder.path(), &written).await, 4);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            let found = survivors(&file, &bad, folder.path(), &written).await;
            let least = if at < format::HEADER { 0 } else { 3 };
            assert!(
                found >= least,
                "{found} of 4 with byte {at} of {} flipped",
                good.len()
            );
        }
    }
}

#[tokio::test]
async fn a_segment_that_is_cut_off_anywhere_keeps_what_is_whole() {
    let folder = TempDir::new().unwrap();
    let written = small_segment(folder.path(), true).await;
    let file = data_files(folder.path(), "segments").pop().unwrap();
    let good = fs::read(&file).unwrap();
    let mut before = 0;
    for length in 0..=good.len() {
        let found = survivors(&file, &good[..length], folder.path(), &written).await;
        assert!(
            found >= before,
            "{found} of 4 in {length} bytes, {before} in fewer"
        );
        before = found;
    }
    assert_eq!(before, 4);
}

#[tokio::test]
async fn files_in_each_others_place_are_not_read() {
    let folder = TempDir::new().unwrap();
    small_segment(folder.path(), true).await;
    let disk = open(folder.path()).await;
    disk.write(record("other", 9, b"other"));
    disk.close().await;
    drop(disk);
    let files = data_files(folder.path(), "segments");
    let [first, second] = &files[..] else {
        panic!("{files:?}");
    };
    let held = fs::read(first).unwrap();
    fs::rename(second, first).unwrap();
    fs::write(second, held).unwrap();
    let disk = open(folder.path()).await;
    assert_eq!(disk.usage().records, 0);
    assert_eq!(disk.usage().corrupt, 2);
    assert!(disk.write(record("other", 10, b"again")));
    disk.flush().await;
    assert_eq!(newest(&disk, "other").await.unwrap().1, "again");
}

#[tokio::test]
async fn what_is_no_file_of_ours_is_passed_over() {
    let folder = TempDir::new().unwrap();
    let written = small_segment(folder.path(), true).await;
    let part = folder.path().join("cache/segments");
    fs::create_dir_all(part.join("77/0000000000000077")).unwrap();
    fs::create_dir_all(part.join("78")).unwrap();
    fs::write(part.join("78/0000000000000078"), b"").unwrap();
    fs::write(part.join("78/0000000000000178"), vec![7; 5000]).unwrap();
    fs::write(part.join("78/notes"), b"hello").unwrap();
    fs::write(part.join("stray"), b"hello").unwrap();
    std::os::unix::fs::symlink("0000000000000278", part.join("78/0000000000000278")).unwrap();
    let disk = open(folder.path()).await;
    assert_eq!(disk.usage().records, 4);
    for (key, body) in &written {
        assert_eq!(newest(&disk, key).await.unwrap().1, body);
    }
    assert!(disk.write(record("new", 10, b"new")));
    disk.flush().await;
    assert_eq!(newest(&disk, "new").await.unwrap().1, "new");
}

#[tokio::test]
async fn a_folder_of_another_format_is_set_aside() {
    let formats = [
        "sovereign-cache 2\nseed 0123456789abcdef\n",
        "",
        "sovereign-cache 1\nseed 12\n",
    ];
    let folder = TempDir::new().unwrap();
    for format in formats {
        small_segment(folder.path(), true).await;
        fs::write(folder.path().join("cache/format"), format).unwrap();
        let disk = open(folder.path()).await;
        assert_eq!(disk.usage().records, 0, "{format:?}");
        let aside = folder.path().join("cache.set-aside");
        assert_eq!(fs::read_to_string(aside.join("format")).unwrap(), format);
        assert_eq!(entries(&aside.join("segments")).len(), 1);
    }
    small_segment(folder.path(), true).await;
    fs::remove_file(folder.path().join("cache/format")).unwrap();
    assert_eq!(open(folder.path()).await.usage().records, 0);
}

#[tokio::test]
async fn only_the_owner_may_look_into_the_folder() {
    let folder = TempDir::new().unwrap();
    small_segment(folder.path(), true).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&folder.path().join("cache")), 0o700);
    for file in data_files(folder.path(), "segments") {
        assert_eq!(mode(&file), 0o600);
    }
}

#[tokio::test]
async fn a_folder_is_opened_by_one_at_a_time() {
    let folder = TempDir::new().unwrap();
    let disk = open(folder.path()).await;
    let again = || Folder::open(&folder.path().join("cache"), Duration::ZERO);
    assert!(matches!(again(), Err(OpenError::InUse)));
    disk.close().await;
    drop(again().unwrap());
    open(folder.path()).await;
}

#[tokio::test]
async fn a_key_keeps_its_32_newest_variants() {
    let folder = TempDir::new().unwrap();
    let disk = open(folder.path()).await;
    for variant in 0..33 {
        let new = NewRecord {
            variant,
            ..record("key", variant + 1, b"body")
        };
        assert!(disk.write(new));
    }
    disk.flush().await;
    let born: Vec<_> = disk.places("key").iter().map(Place::born).collect();
    let newest: Vec<_> = (2..=33).rev().collect();
    assert_eq!(born, newest);
    assert_eq!(disk.usage().records, 32);
    drop(disk);
    assert_eq!(open(folder.path()).await.places("key").len(), 32);
}

#[tokio::test]
async fn an_older_record_does_not_replace_a_newer_one() {
    let folder = TempDir::new().unwrap();
    let disk = open(folder.path()).await;
    disk.write(record("key", 9, b"newer"));
    disk.flush().await;
    disk.write(record("key", 8, b"older"));
    disk.flush().await;
    assert_eq!(newest(&disk, "key").await.unwrap().1, "newer");
    assert_eq!(disk.places("key").len(), 1);
    drop(disk);
    let disk = open(folder.path()).await;
    assert_eq!(newest(&disk, "key").await.unwrap().1, "newer");
}

#[tokio::test]
async fn what_is_forgotten_stays_forgotten() {
    let folder = TempDir::new().unwrap();
    let disk = open(folder.path()).await;
    for (born, key) in ["written", "waits", "place", "stays"]
        .into_iter()
        .enumerate()
    {
        let mut new = record(key, born as u64, b"body");
        new.scopes = Box::new([1, 2, 2]);
        disk.write(new);
        if key == "written" {
            disk.flush().await;
            disk.forget(key);
        }
    }
    disk.forget("waits");
    disk.flush().await;
    let place = disk.places("place")[0];
    disk.forget_place(place, "stays");
    assert!(disk.has("place"));
    disk.forget_place(place, "place");
    disk.flush().await;
    for restart in [false, true] {
        for key in ["written", "waits", "place"] {
            assert!(!disk.has(key), "{key}, {restart}");
        }
        assert!(disk.has("stays"));
        assert_eq!((disk.count(1), disk.count(2), disk.count(3)), (1, 1, 0));
    }
    drop(disk);
    let disk = open(folder.path()).await;
    for key in ["written", "waits", "place"] {
        assert!(newest(&disk, key).await.is_none(), "{key}");
    }
    assert_eq!(newest(&disk, "stays").await.unwrap().1, "body");
}

/// Writes so many records of 40 KiB.
async fn fill(disk: &Disk, name: &str, lane: u64, count: u64) {
    let body = pattern(40 * 1024);
    for number in 0..count {
        let mut new = record(&format!("{name} {number}"), number, &body);
        new.lane = lane;
        disk.write(new);
        if number % 100 == 99 {
            disk.flush().await;
        }
    }
    disk.flush().await;
}

fn found(disk: &Disk, name: &str, count: u64) -> usize {
    (0..count)
        .filter(|number| disk.has(&format!("{name} {number}")))
        .count()
}

#[tokio::test]
async fn what_was_used_outlasts_a_scan_within_the_limit() {
    let folder = TempDir::new().unwrap();
    let disk = open(folder.path()).await;
    fill(&disk, "used", 0, 50).await;
    for number in 0..50 {
        disk.hit(&format!("used {number}"), 0);
    }
    for round in 0..5 {
        fill(&disk, &format!("scan {round}"), 0, 300).await;
        let (bytes, counted) = (du(&folder.path().join("cache")), disk.usage().bytes);
        assert!(bytes <= 16 * MIB, "{bytes}");
        assert!(
            counted >= bytes && counted <= 16 * MIB,
            "{counted} counted, {bytes} taken"
        );
    }
    assert_eq!(found(&disk, "used", 50), 50);
    assert_eq!(found(&disk, "scan 0", 300), 0);
    assert!(found(&disk, "scan 4", 300) > 200);
    for number in 0..50 {
        let (_, body) = newest(&disk, &format!("used {number}")).await.unwrap();
        assert_eq!(body, pattern(40 * 1024));
    }
    drop(disk);
    let disk = open(folder.path()).await;
    assert_eq!(found(&disk, "used", 50), 50);
    assert_eq!(disk.usage().corrupt, 0);
}

#[tokio::test]
async fn what_was_moved_and_is_not_used_again_goes() {
    let folder = TempDir::new().unwrap();
    let disk = open(folder.path()).await;
    fill(&disk, "once", 0, 120).await;
    for number in 0..120 {
        disk.hit(&format!("once {number}"), 0);
    }
    fill(&disk, "scan", 0, 400).await;
    assert_eq!(found(&disk, "once", 120), 120);
    // Three times as much that is used as there is room for.
    for round in 0..3 {
        let name = format!("later {round}");
        fill(&disk, &name, 0, 400).await;
        for number in 0..400 {
            disk.hit(&format!("{name} {number}"), 0);
        }
    }
    fill(&disk, "scan", 0, 400).await;
    assert_eq!(found(&disk, "once", 120), 0);
}

#[tokio::test]
async fn a_lane_gives_way_to_nobody_but_itself() {
    let folder = TempDir::new().unwrap();
    let disk = open(folder.path()).await;
    fill(&disk, "kept", 7, 120).await;
    fill(&disk, "shared", 0, 800).await;
    assert_eq!(found(&disk, "kept", 120), 120);
    assert!(found(&disk, "shared", 800) > 150);
    // The lane takes all there is, then its own.
    fill(&disk, "more", 7, 800).await;
    assert_eq!(found(&disk, "shared", 800), 0);
    assert_eq!(found(&disk, "kept", 120), 0);
    assert!(found(&disk, "more", 800) > 300);
    let refused = disk.usage().not_stored;
    fill(&disk, "late", 0, 100).await;
    // The room that the last segment left is for anybody.
    let stored = found(&disk, "late", 100) as u64;
    assert!(stored < 26, "{stored}");
    assert!(disk.usage().not_stored >= refused + 100 - 26);
    assert!(found(&disk, "more", 800) > 300);
    assert!(du(&folder.path().join("cache")) <= 16 * MIB);
}

#[tokio::test]
async fn the_index_stays_within_its_limit() {
    let folder = TempDir::new().unwrap();
    let settings = Settings {
        index_limit: MIB / 2,
        ..settings(folder.path())
    };
    let disk = Disk::open(settings).unwrap();
    for number in 0..30_000 {
        disk.write(record(&format!("key {number}"), number, b""));
        if number % 1000 == 0 {
            disk.flush().await;
        }
    }
    disk.flush().await;
    let usage = disk.usage();
    assert!(usage.index_bytes <= MIB / 2 / 16 * 17, "{usage:?}");
    assert!(usage.records > 3000, "{usage:?}");
    assert!(disk.has("key 29999"));
}

#[tokio::test]
async fn a_body_is_read_while_it_comes_and_stored_when_it_is_whole() {
    let folder = TempDir::new().unwrap();
    let disk = open(folder.path()).await;
    let whole = pattern(3_000_001);
    let mut spool = disk.spool(0, None).await.unwrap();
    let tail = spool.tail();
    let mut appended = 0;
    for piece in whole.chunks(70_001) {
        spool.append(Bytes::copy_from_slice(piece)).await.unwrap();
        appended += piece.len() as u64;
        assert!(appended - tail.written() < 256 * 1024);
    }
    spool.flush().await.unwrap();
    assert_eq!(tail.written(), whole.len() as u64);
    let mut read = Vec::new();
    while (read.len() as u64) < tail.written() {
        read.extend_from_slice(&tail.read(read.len() as u64, 100_000).await.unwrap());
    }
    assert!(read == whole);
    assert!(!disk.has("large"));
    let stored = spool.commit(record("large", 5, b"")).await.unwrap();
    assert!(all(&stored).await.unwrap() == whole);
    assert_eq!(
        stored.read(65_530..65_550).await.unwrap(),
        whole[65_530..65_550]
    );
    assert_eq!(
        stored.read(2_999_999..9_000_000).await.unwrap(),
        whole[2_999_999..]
    );
    assert_eq!(stored.read(9_000_000..9_000_001).await.unwrap(), "");
    assert_eq!(newest(&disk, "large").await.unwrap().0, "meta of large 5");
    let mut updated = record("large", 6, b"");
    updated.scopes = Box::new([3]);
    stored.update(&disk, updated).await.unwrap();
    assert_eq!(disk.count(3), 1);
    drop(disk);
    let disk = open(folder.path()).await;
    assert_eq!((disk.last_born(), disk.count(3)), (6, 1));
    let (meta, body) = newest(&disk, "large").await.unwrap();
    assert_eq!(meta, "meta of large 6");
    assert!(body == whole);
    disk.forget("large");
    disk.flush().await;
    assert!(data_files(folder.path(), "objects").is_empty());
    // Who reads it goes on.
    assert!(all(&stored).await.unwrap() == whole);
}

#[tokio::test]
async fn an_object_is_updated_any_number_of_times() {
    let folder = TempDir::new().unwrap();
    let disk = open(folder.path()).await;
    let mut spool = disk.spool(0, Some(100_000)).await.unwrap();
    spool.append(Bytes::from(pattern(100_000))).await.unwrap();
    let stored = spool.commit(record("large", 1, b"")).await.unwrap();
    // Of changing lengths, up to more than half of what is kept of them.
    for born in 2..200 {
        let mut new = record("large", born, b"");
        new.meta = Bytes::from(vec![born as u8; (born as usize * 337) % 40_000]);
        stored.update(&disk, new).await.unwrap();
        let (meta, body) = newest(&disk, "large").await.unwrap();
        assert_eq!(meta, vec![born as u8; (born as usize * 337) % 40_000]);
        assert_eq!(body.len(), 100_000);
    }
    drop(disk);
    let file = data_files(folder.path(), "objects").pop().unwrap();
    assert!(fs::metadata(&file).unwrap().len() < 300_000);
    let disk = open(folder.path()).await;
    let (meta, _) = newest(&disk, "large").await.unwrap();
    assert_eq!(meta, vec![199; (199 * 337) % 40_000]);
    disk.forget("large");
    let gone = stored.update(&disk, record("large", 300, b"")).await;
    assert_eq!(gone.unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[tokio::test]
async fn a_large_record_in_a_segment_is_updated_by_a_copy() {
    let folder = TempDir::new().unwrap();
    let disk = open(folder.path()).await;
    disk.write(record("key", 1, &pattern(400_000)));
    disk.flush().await;
    let found = disk.read(disk.places("key")[0], "key").await.unwrap();
    let RecordBody::Large(stored) = found.body else {
        panic!("400,000 bytes in one piece");
    };
    stored.update(&disk, record("key", 2, b"")).await.unwrap();
    disk.flush().await;
    let (meta, body) = newest(&disk, "key").await.unwrap();
    assert_eq!(meta, "meta of key 2");
    assert!(body == pattern(400_000));
}

#[tokio::test]
async fn a_body_that_is_given_up_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let disk = open(folder.path()).await;
    let before = disk.usage().bytes;
    let mut spool = disk.spool(0, None).await.unwrap();
    spool.append(Bytes::from(pattern(1_000_000))).await.unwrap();
    assert!(disk.usage().bytes >= before + 1_000_000);
    drop(spool);
    disk.flush().await;
    assert_eq!(disk.usage().bytes, before);
    assert!(entries(&folder.path().join("cache/tmp")).is_empty());
    assert!(disk.spool(0, Some(5 * MIB)).await.is_none());
    // What is left of a process that ended goes at the next start.
    let mut spool = disk.spool(0, None).await.unwrap();
    spool.append(Bytes::from(pattern(1_000_000))).await.unwrap();
    assert_eq!(entries(&folder.path().join("cache/tmp")).len(), 1);
    std::mem::forget(spool);
    disk.close().await;
    let _again = open(folder.path()).await;
    assert!(entries(&folder.path().join("cache/tmp")).is_empty());
}

#[tokio::test]
async fn a_body_longer_than_its_part_can_still_be_read() {
    let folder = TempDir::new().unwrap();
    let disk = open(folder.path()).await;
    let mut spool = disk.spool(0, None).await.unwrap();
    let tail = spool.tail();
    let piece = Bytes::from(pattern(200_000));
    let mut appended = 0;
    let error = loop {
        appended += piece.len() as u64;
        if let Err(error) = spool.append(piece.clone()).await {
            break error;
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    assert_eq!(tail.written(), appended);
    let mut read = 0;
    while read < appended {
        let bytes = tail.read(read, 90_000).await.unwrap();
        let at = (read % 200_000) as usize;
        let same = bytes.len().min(200_000 - at);
        assert!(same > 0 && bytes[..same] == piece[at..at + same], "{read}");
        read += bytes.len() as u64;
    }
    assert!(spool.append(piece).await.is_err());
    assert!(spool.commit(record("key", 1, b"")).await.is_err());
    disk.flush().await;
    assert!(entries(&folder.path().join("cache/tmp")).is_empty());
}

#[tokio::test]
async fn objects_go_and_stay_as_segments_do() {
    let folder = TempDir::new().unwrap();
    let disk = open(folder.path()).await;
    let body = Bytes::from(pattern(700_000));
    for number in 0..60 {
        let mut spool = disk.spool(0, Some(body.len() as u64)).await.unwrap();
        for piece in 0..10 {
            spool
                .append(body.slice(piece * 70_000..(piece + 1) * 70_000))
                .await
                .unwrap();
        }
        let key = format!("large {number}");
        spool.commit(record(&key, number, b"")).await.unwrap();
        disk.hit("large 0", 0);
        assert!(du(&folder.path().join("cache")) <= 16 * MIB);
    }
    assert!(newest(&disk, "large 0").await.unwrap().1 == body);
    assert!(newest(&disk, "large 59").await.unwrap().1 == body);
    assert!(!disk.has("large 1"));
    assert!(found(&disk, "large", 60) > 12);
    drop(disk);
    let disk = open(folder.path()).await;
    assert!(newest(&disk, "large 0").await.unwrap().1 == body);
    assert_eq!(disk.usage().corrupt, 0);
}

#[tokio::test]
async fn a_damaged_object_is_a_miss() {
    let folder = TempDir::new().unwrap();
    let disk = open(folder.path()).await;
    let mut spool = disk.spool(0, None).await.unwrap();
    spool.append(Bytes::from(pattern(200_000))).await.unwrap();
    spool.commit(record("large", 1, b"")).await.unwrap();
    drop(disk);
    let file = data_files(folder.path(), "objects").pop().unwrap();
    let good = fs::read(&file).unwrap();
    // In its header, its body, its sums and its record.
    for at in [3, 40, 64, 150_000, 200_070, good.len() - 20] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, bad).unwrap();
        let disk = open(folder.path()).await;
        for place in disk.places("large") {
            let Some(found) = disk.read(place, "large").await else {
                continue;
            };
            let RecordBody::Large(stored) = found.body else {
                panic!("an object in one piece");
            };
            assert!(all(&stored).await.is_err(), "{at}");
        }
        assert!(!disk.has("large"), "{at}");
        assert_eq!(disk.usage().corrupt, 1, "{at}");
        disk.flush().await;
        assert!(!file.exists(), "{at}");
    }
    for length in (0..good.len()).step_by(7777) {
        fs::write(&file, &good[..length]).unwrap();
        assert!(!open(folder.path()).await.has("large"), "{length}");
    }
}

#[tokio::test]
async fn a_full_disk_is_noticed_and_used_again() {
    troubled(28, Health::Full).await;
}

#[tokio::test]
async fn a_read_only_disk_is_noticed_and_used_again() {
    troubled(30, Health::ReadOnly).await;
}

#[tokio::test]
async fn a_failing_disk_is_noticed_and_used_again() {
    troubled(5, Health::Failing).await;
}

async fn troubled(errno: i32, health: Health) {
    let folder = TempDir::new().unwrap();
    let trouble = Trouble::default();
    let switch = trouble.errno.clone();
    let disk = Disk::open_with(settings(folder.path()), Box::new(trouble)).unwrap();
    fill(&disk, "before", 0, 100).await;
    let mut spool = disk.spool(0, None).await.unwrap();
    spool.append(Bytes::from(pattern(300_000))).await.unwrap();
    *switch.lock() = Some(errno);
    assert!(disk.write(record("lost", 1, b"body")));
    disk.flush().await;
    let usage = disk.usage();
    assert_eq!((usage.health, usage.not_stored), (health, 1));
    assert!(usage.last_error.is_some());
    assert!(!disk.write(record("refused", 2, b"body")));
    assert!(disk.spool(0, None).await.is_none());
    let tail = spool.tail();
    assert!(spool.append(Bytes::from(pattern(300_000))).await.is_err());
    assert_eq!(tail.written(), 600_000);
    assert!(newest(&disk, "before 99").await.is_some());
    *switch.lock() = None;
    eventually("it is good again", || disk.usage().health == Health::Good).await;
    assert!(disk.write(record("after", 3, b"body")));
    disk.flush().await;
    drop(disk);
    let disk = open(folder.path()).await;
    assert_eq!(newest(&disk, "after").await.unwrap().1, "body");
    assert!(newest(&disk, "before 99").await.is_some());
    assert!(!disk.has("lost"));
    assert_eq!(disk.usage().corrupt, 0);
}

#[tokio::test]
async fn a_removed_folder_is_made_again() {
    let folder = TempDir::new().unwrap();
    let disk = open(folder.path()).await;
    fill(&disk, "before", 0, 100).await;
    fs::remove_dir_all(folder.path().join("cache")).unwrap();
    eventually("what is gone is not counted", || disk.usage().records == 0).await;
    assert!(newest(&disk, "before 0").await.is_none());
    fill(&disk, "after", 0, 100).await;
    let mut spool = disk.spool(0, None).await.unwrap();
    spool.append(Bytes::from(pattern(300_000))).await.unwrap();
    spool.commit(record("large", 1, b"")).await.unwrap();
    drop(disk);
    let disk = open(folder.path()).await;
    assert_eq!(found(&disk, "after", 100), 100);
    assert!(disk.has("large"));
    assert!(!folder.path().join("cache.set-aside").exists());
}

#[tokio::test]
async fn a_file_that_is_gone_is_a_miss() {
    let folder = TempDir::new().unwrap();
    let disk = open(folder.path()).await;
    disk.write(record("key", 1, b"body"));
    disk.close().await;
    drop(disk);
    let disk = open(folder.path()).await;
    let place = disk.places("key")[0];
    assert_eq!(disk.try_read(place, "key").err(), Some(WouldBlock));
    fs::remove_file(&data_files(folder.path(), "segments")[0]).unwrap();
    assert!(disk.read(place, "key").await.is_none());
    assert!(!disk.has("key"));
    assert_eq!(disk.usage().corrupt, 0);
}

#[tokio::test]
async fn two_take_turns_with_a_folder() {
    let folder = TempDir::new().unwrap();
    let first = open(folder.path()).await;
    first.write(record("first", 1, b"first"));
    first.write(record("both", 2, b"first"));
    first.pause().await;
    assert_eq!(first.usage().health, Health::Paused);
    assert!(!first.write(record("refused", 3, b"")));
    assert!(first.spool(0, None).await.is_none());
    let second = open(folder.path()).await;
    assert_eq!(newest(&second, "first").await.unwrap().1, "first");
    second.write(record("second", 4, b"second"));
    second.write(record("both", 5, b"second"));
    second.flush().await;
    assert_eq!(newest(&first, "first").await.unwrap().1, "first");
    first.resume();
    // The other one still has it.
    first.flush().await;
    assert_eq!(first.usage().health, Health::Paused);
    second.close().await;
    eventually("it has the folder again", || {
        first.usage().health == Health::Good
    })
    .await;
    assert_eq!(newest(&first, "both").await.unwrap().1, "second");
    assert_eq!(newest(&first, "second").await.unwrap().1, "second");
    assert!(first.write(record("again", 6, b"again")));
    first.flush().await;
    assert_eq!(newest(&first, "again").await.unwrap().1, "again");
}

#[tokio::test]
async fn more_than_may_wait_is_refused() {
    let folder = TempDir::new().unwrap();
    let settings = Settings {
        queue_limit: 100_000,
        ..settings(folder.path())
    };
    let disk = Disk::open(settings).unwrap();
    let refused = (0..100)
        .filter(|&born| !disk.write(record("key", born, &pattern(60_000))))
        .count();
    assert!(refused > 0);
    assert_eq!(disk.usage().not_stored, refused as u64);
    disk.flush().await;
    assert_eq!(disk.usage().queued_bytes, 0);
    assert!(disk.write(record("key", 1000, b"body")));
    assert!(!disk.write(record("key", 1001, &pattern(800_000))));
    assert!(!disk.write(record(&"k".repeat(200_000), 1002, b"")));
}

#[tokio::test]
async fn a_disk_that_does_not_answer_is_slow() {
    let folder = TempDir::new().unwrap();
    let disk = open(folder.path()).await;
    let (release, hung) = std::sync::mpsc::channel::<()>();
    let work = move || hung.recv().is_ok();
    let answer = disk
        .shared
        .wait_for_disk(Duration::from_millis(1), work)
        .await;
    assert_eq!(answer, None);
    assert_eq!(disk.usage().health, Health::Slow);
    release.send(()).unwrap();
    assert!(disk.write(record("key", 1, b"body")));
}
