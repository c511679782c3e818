//! What goes, and what stays, where there is no room.

use super::*;

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
