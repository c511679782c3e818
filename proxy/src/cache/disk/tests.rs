//! The durable tier as a whole: what is written is found, whatever happened in between.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::eventually::eventually;

mod eviction;
mod objects;
mod recovery;
mod trouble;

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

#[tokio::test]
async fn what_is_older_than_its_scopes_allow_is_swept() {
    let folder = TempDir::new().unwrap();
    let disk = open(folder.path()).await;
    for (key, born, scope) in [("other", 1, 1), ("old", 2, 2), ("new", 9, 2)] {
        let mut new = record(key, born, b"body");
        new.scopes = Box::new([scope, 7]);
        assert!(disk.write(new));
    }
    disk.flush().await;
    disk.sweep(|scopes| if scopes.contains(&2) { 5 } else { 0 });
    let there = ["other", "old", "new"].map(|key| disk.has(key));
    assert_eq!(there, [true, false, true]);
    assert_eq!([1, 2, 7].map(|scope| disk.count(scope)), [1, 1, 2]);
}
