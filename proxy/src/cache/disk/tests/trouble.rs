//! A disk that is full, slow or broken, and a queue that is full.

use super::*;

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
    eventually("it is good again", async || {
        disk.usage().health == Health::Good
    })
    .await;
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
    let usage = disk.usage();
    assert_eq!((usage.queued_bytes, usage.waiting), (0, 0));
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
