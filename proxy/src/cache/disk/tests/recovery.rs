//! What is found when a folder is opened again: after a restart, after damage, and beside what is not ours.

use std::collections::BTreeMap;

use super::*;

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
async fn a_removed_folder_is_made_again() {
    let folder = TempDir::new().unwrap();
    let disk = open(folder.path()).await;
    fill(&disk, "before", 0, 100).await;
    fs::remove_dir_all(folder.path().join("cache")).unwrap();
    eventually("what is gone is not counted", async || {
        disk.usage().records == 0
    })
    .await;
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
    eventually("it has the folder again", async || {
        first.usage().health == Health::Good
    })
    .await;
    assert_eq!(newest(&first, "both").await.unwrap().1, "second");
    assert_eq!(newest(&first, "second").await.unwrap().1, "second");
    assert!(first.write(record("again", 6, b"again")));
    first.flush().await;
    assert_eq!(newest(&first, "again").await.unwrap().1, "again");
}
