//! The cache on disk: what a request pays for it, and what a start does.
//!
//! `write` is what the caller pays (the thread that writes works meanwhile); `stored` is the whole way of a
//! record to its file.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use sovereign_proxy::cache::disk::{Disk, NewRecord, Settings};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Records for the start; fewer where only the bench itself is tested.
const MILLION: u64 = 1_000_000;
const FEW: u64 = 1_000;
/// Records that are read in turn.
const PAGES: u64 = 1000;
const PAGE: usize = 16 * 1024;

fn settings(folder: &TempDir) -> Settings {
    Settings {
        folder: folder.path().join("cache"),
        limit: 8 << 30,
        index_limit: 256 << 20,
        queue_limit: 64 << 20,
    }
}

fn record(number: u64, body: usize) -> NewRecord {
    NewRecord {
        key: key(number),
        variant: 0,
        born: number,
        lane: 0,
        scopes: Box::new([1, 2, 100 + number % 1000]),
        meta: Bytes::from_static(&[7; 300]),
        body: Bytes::from(vec![number as u8; body]),
    }
}

fn key(number: u64) -> Box<str> {
    format!("GET https://www.example.org/some/path/to/page-{number}").into()
}

/// Writes records, however many may wait at once.
async fn fill(disk: &Disk, records: impl Iterator<Item = NewRecord>) {
    for record in records {
        while !disk.write(record.clone()) {
            disk.flush().await;
        }
    }
    disk.flush().await;
}

fn disk_tier(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime starts");
    let folder = TempDir::new().expect("a folder for the bench is made");
    let disk = Disk::open(settings(&folder)).expect("an empty folder opens");
    runtime.block_on(fill(&disk, (0..PAGES).map(|number| record(number, PAGE))));
    let mut group = criterion.benchmark_group("disk");

    let mut number = 0;
    group.bench_function("try_read 16 KiB", |bencher| {
        let keys: Vec<_> = (0..PAGES).map(key).collect();
        bencher.iter(|| {
            number = (number + 1) % keys.len();
            let place = disk.places(&keys[number])[0];
            let record = disk.try_read(place, &keys[number]);
            assert!(record.is_ok_and(|record| record.is_some()));
        });
    });
    group.bench_function("miss", |bencher| {
        let key = key(u64::MAX);
        bencher.iter(|| assert!(!disk.has(black_box(&key))));
    });
    group.bench_function("write 16 KiB", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut taken = Duration::ZERO;
            for number in 0..rounds {
                let record = record(PAGES + number % PAGES, PAGE);
                let begun = Instant::now();
                let stored = disk.write(record);
                taken += begun.elapsed();
                if !stored || number % 1000 == 999 {
                    runtime.block_on(disk.flush());
                }
            }
            taken
        });
    });
    group.bench_function("stored 16 KiB", |bencher| {
        bencher.iter_custom(|rounds| {
            let records = (0..rounds).map(|number| record(PAGES + number % PAGES, PAGE));
            let begun = Instant::now();
            runtime.block_on(fill(&disk, records));
            begun.elapsed()
        });
    });
    group.finish();

    // `cargo bench` says so; without it each bench runs once, to see that it does.
    let records = match std::env::args().any(|argument| argument == "--bench") {
        true => MILLION,
        false => FEW,
    };
    let full = TempDir::new().expect("a folder for the bench is made");
    runtime.block_on(async {
        let disk = Disk::open(settings(&full)).expect("an empty folder opens");
        fill(&disk, (0..records).map(|number| record(number, 500))).await;
        disk.close().await;
    });
    let mut group = criterion.benchmark_group("disk");
    group.sample_size(10);
    group.bench_function(format!("open with {records} records"), |bencher| {
        bencher.iter_custom(|rounds| {
            let mut taken = Duration::ZERO;
            for _ in 0..rounds {
                let begun = Instant::now();
                let disk = Disk::open(settings(&full)).expect("the folder opens");
                runtime.block_on(disk.loaded());
                taken += begun.elapsed();
                assert_eq!(disk.usage().records, records);
                runtime.block_on(disk.close());
            }
            taken
        });
    });
    group.finish();
}

criterion_group!(benches, disk_tier);
criterion_main!(benches);
