//! Large bodies, in files of their own.

use super::*;

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
