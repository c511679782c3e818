//! What purges mean, what outlives the process, and what happens at the bounds.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use super::Verdict::{Hard, Valid};
use super::*;
use crate::eventually::eventually;

const SITE: u64 = 1;
const TAG: u64 = u64::MAX;
const PAGE: u64 = 3;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn soft(seconds: u64) -> Verdict {
    Verdict::Soft { since: at(seconds) }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("purges")
    }

    fn open(&self) -> Purges {
        Purges::open(Some(&self.path()))
    }

    /// How many records of the journal cannot be read.
    fn damaged(&self) -> u64 {
        let mut journal = Journal::new(&self.path());
        journal.open(&mut |_, _| {}).unwrap();
        journal.end();
        journal.damaged()
    }
}

#[test]
fn what_was_asked_for_before_a_purge_is_purged() {
    let purges = Purges::open(None);
    let early = purges.next_born();
    assert_eq!(purges.verdict(early, &[SITE, PAGE]), Valid);
    let epoch = purges.epoch();
    purges.purge(&[PAGE], false, at(100));
    assert_ne!(purges.epoch(), epoch);
    let late = purges.next_born();
    assert!(early < late);
    for (born, scopes, verdict, checks) in [
        (early, &[SITE, PAGE][..], soft(100), "asked for before"),
        (late, &[SITE, PAGE], Valid, "asked for after"),
        (early, &[SITE], Valid, "another page"),
        (early, &[], Valid, "no scope"),
    ] {
        assert_eq!(purges.verdict(born, scopes), verdict, "{checks}");
    }
    purges.purge(&[], true, at(100));
    assert_eq!(purges.verdict(early, &[SITE]), Valid, "nothing was named");
}

#[test]
fn several_purges_of_one_response() {
    let purges = Purges::open(None);
    let first = purges.next_born();
    purges.purge(&[SITE], false, at(300));
    let second = purges.next_born();
    // The clock was set back. What counts is the order.
    purges.purge(&[TAG], false, at(200));
    let third = purges.next_born();
    purges.purge(&[PAGE], true, UNIX_EPOCH - Duration::from_secs(9));
    let fourth = purges.next_born();
    purges.purge(&[PAGE], false, at(u64::MAX / 4));
    for (born, scopes, verdict, checks) in [
        (
            first,
            &[SITE, TAG][..],
            soft(200),
            "the earlier time of two",
        ),
        (second, &[SITE, TAG], soft(200), "the later purge alone"),
        (third, &[SITE, TAG], Valid, "after both"),
        (third, &[SITE, TAG, PAGE], Hard, "hard before soft"),
        (
            fourth,
            &[PAGE],
            soft(LATEST / 1000),
            "a soft one does not revive, nor a later one kill",
        ),
    ] {
        let found = purges.verdict(born, scopes);
        let found = match found {
            Verdict::Soft { since } => soft(since.duration_since(UNIX_EPOCH).unwrap().as_secs()),
            other => other,
        };
        assert_eq!(found, verdict, "{checks}");
    }
    assert_eq!(purges.verdict(third, &[PAGE]), Hard, "still");
}

#[test]
fn what_may_not_be_used_is_known_by_its_number() {
    let purges = Purges::open(None);
    assert_eq!(purges.hard_before(&[SITE, PAGE]), 0);
    purges.purge(&[SITE], false, at(1));
    let page = purges.purge(&[PAGE], true, at(2));
    let tag = purges.purge(&[TAG], true, at(3));
    for (scopes, number) in [(&[SITE][..], 0), (&[SITE, PAGE], page), (&[TAG, PAGE], tag)] {
        assert_eq!(purges.hard_before(scopes), number, "{scopes:?}");
    }
}

#[test]
fn a_purge_is_in_force_when_it_returns() {
    let folder = Folder::new();
    let purges = folder.open();
    std::thread::scope(|threads| {
        for thread in 0..4u64 {
            let purges = &purges;
            threads.spawn(move || {
                for round in 0..2000 {
                    let born = purges.next_born();
                    let (epoch, scope) = (purges.epoch(), thread << 60 | round);
                    assert_eq!(purges.verdict(born, &[scope]), Valid);
                    purges.purge(&[scope], round % 2 == 0, at(1));
                    assert_ne!(purges.epoch(), epoch);
                    assert_ne!(purges.verdict(born, &[scope]), Valid);
                    assert_eq!(purges.verdict(purges.next_born(), &[scope]), Valid);
                }
            });
        }
    });
}

#[test]
fn they_outlive_the_process() {
    let folder = Folder::new();
    let (early, late) = {
        let purges = folder.open();
        assert_eq!(purges.error(), None);
        let early = purges.next_born();
        purges.purge(&[PAGE, TAG], false, at(5));
        purges.purge(&[SITE], true, at(6));
        (early, purges.next_born())
    };
    // Dropped without a flush; the clock of the next process is wrong.
    assert_eq!(folder.damaged(), 0);
    let purges = Purges::open_at(Some(&folder.path()), UNIX_EPOCH, MOST_SCOPES);
    assert_eq!((purges.error(), scopes(&purges)), (None, 3));
    assert_eq!(purges.verdict(early, &[PAGE]), soft(5));
    assert_eq!(purges.verdict(early, &[PAGE, SITE]), Hard);
    assert_eq!(purges.verdict(late, &[SITE, PAGE, TAG]), Valid);
    assert!(purges.next_born() > early);
    // A number given after the last purge may be given again; such a response came before whatever is purged from here on.
    purges.purge(&[PAGE], false, at(4));
    assert_ne!(purges.verdict(early, &[PAGE]), Valid);
}

#[tokio::test]
async fn they_outlive_being_killed() {
    let folder = Folder::new();
    let purges = folder.open();
    let born = purges.next_born();
    purges.purge(&[PAGE], false, at(5));
    purges.flush().unwrap();
    purges.purge(&[SITE], true, at(5));
    // Nobody flushes this one; the thread writes it by itself.
    eventually("it is written", async || {
        fs::metadata(folder.path()).unwrap().len() == 3 * 32
    })
    .await;
    std::mem::forget(purges);
    let purges = folder.open();
    assert_eq!(purges.verdict(born, &[PAGE]), soft(5));
    assert_eq!(purges.verdict(born, &[SITE]), Hard);
}

#[test]
fn beyond_the_bound_the_oldest_are_purged_for_everything() {
    let folder = Folder::new();
    let mut born = Vec::new();
    let check = |purges: &Purges, born: &[u64]| {
        assert!(scopes(purges) <= 8);
        assert_eq!(
            purges.verdict(born[0], &[77]),
            soft(4),
            "older than what was folded"
        );
        assert_eq!(purges.verdict(born[4], &[77]), soft(4), "so is this");
        assert_eq!(purges.verdict(born[5], &[77]), Valid, "younger");
        for (scope, born) in (0..9).zip(born).skip(5) {
            assert_eq!(purges.verdict(*born, &[scope]), soft(scope));
            assert_eq!(purges.verdict(*born, &[scope - 1]), Valid);
        }
        assert_eq!(
            purges.verdict(born[0], &[100]),
            Hard,
            "a hard one stays itself"
        );
        assert_eq!(purges.verdict(born[4], &[4]), soft(4));
    };
    {
        let purges = Purges::open_at(Some(&folder.path()), at(0), 8);
        let first = purges.next_born();
        purges.purge(&[100], true, at(0));
        purges.flush().unwrap();
        for scope in 0..9u64 {
            born.push(if scope == 0 {
                first
            } else {
                purges.next_born()
            });
            purges.purge(&[scope], false, at(scope));
        }
        check(&purges, &born);
    }
    check(&Purges::open_at(Some(&folder.path()), at(0), 8), &born);
    // A smaller table than the one that the journal is of.
    let purges = Purges::open_at(Some(&folder.path()), at(0), 1);
    assert!(scopes(&purges) <= 1);
    for (scope, born) in (0..).zip(&born) {
        assert_ne!(purges.verdict(*born, &[scope]), Valid, "{scope}");
    }
    assert_eq!(purges.verdict(born[0], &[100]), Hard);
}

#[test]
fn too_many_hard_purges_leave_nothing_of_their_age() {
    let purges = Purges::open_at(None, at(0), 4);
    let mut born = Vec::new();
    for scope in 0..6 {
        born.push(purges.next_born());
        purges.purge(&[scope], true, at(scope));
    }
    assert!(scopes(&purges) <= 4);
    for (scope, born) in (0..).zip(&born) {
        assert_eq!(purges.verdict(*born, &[scope]), Hard, "{scope}");
    }
    assert_eq!(purges.verdict(born[0], &[77]), Hard);
    assert_eq!(purges.verdict(born[4], &[77]), Valid);
    // More at once than there is room for.
    let before = purges.next_born();
    purges.purge(&(100..200).collect::<Vec<_>>(), true, at(9));
    assert!(scopes(&purges) <= 4);
    assert!((100..200).all(|scope| purges.verdict(before, &[scope]) == Hard));
}

#[test]
fn the_journal_does_not_grow_without_end() {
    let folder = Folder::new();
    let purges = folder.open();
    let born = purges.next_born();
    for round in 0..100 {
        for _ in 0..100 {
            purges.purge(&[PAGE], false, at(round));
        }
        purges.flush().unwrap();
        assert!(fs::metadata(folder.path()).unwrap().len() <= (SLACK + 3) * 32);
    }
    drop(purges);
    assert_eq!(folder.open().verdict(born, &[PAGE]), soft(99));
}

#[test]
fn without_a_usable_file_they_hold_in_memory() {
    let folder = Folder::new();
    let path = folder.0.path().join("missing").join("purges");
    let purges = Purges::open(Some(&path));
    let born = purges.next_born();
    purges.purge(&[PAGE], false, at(1));
    assert_eq!(purges.verdict(born, &[PAGE]), soft(1));
    assert!(purges.flush().is_err());
    assert!(
        purges
            .error()
            .is_some_and(|error| error.contains("No such file")),
        "{:?}",
        purges.error()
    );
    // More than waits for a file.
    for scope in 0..2 * MOST_WAITING as u64 {
        purges.purge(&[scope], true, at(2));
    }
    assert!(purges.inner.changes.lock().waiting.len() <= MOST_WAITING);
    // Somebody mends it.
    fs::create_dir(path.parent().unwrap()).unwrap();
    purges.flush().unwrap();
    assert_eq!(purges.error(), None);
    drop(purges);
    let purges = Purges::open(Some(&path));
    assert_eq!(purges.verdict(born, &[PAGE]), Hard);
    assert_eq!(scopes(&purges), 2 * MOST_WAITING);
    // The folder goes while it runs.
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    purges.purge(&[PAGE], false, at(1));
    assert!(purges.flush().is_err());
    fs::create_dir(path.parent().unwrap()).unwrap();
    purges.flush().unwrap();
    drop(purges);
    assert_eq!(
        Purges::open(Some(&path)).verdict(born, &[7]),
        Hard,
        "all of it is back"
    );
    // A folder in the file's place.
    let purges = Purges::open(Some(folder.0.path()));
    assert!(purges.error().is_some());
    purges.purge(&[PAGE], false, at(1));
    assert!(purges.flush().is_err());
}

#[tokio::test]
async fn what_could_not_be_written_is_written_later() {
    let folder = Folder::new();
    let purges = folder.open();
    purges.flush().unwrap();
    let born = purges.next_born();
    // So many that the file is written anew, which fails when they are no longer waiting.
    let obstacle = folder.0.path().join("purges.new");
    fs::create_dir(&obstacle).unwrap();
    purges.purge(&[PAGE; 2 * SLACK as usize], false, at(1));
    eventually("it fails", async || purges.error().is_some()).await;
    fs::remove_dir(&obstacle).unwrap();
    purges.flush().unwrap();
    assert_eq!(purges.error(), None);
    drop(purges);
    assert_eq!(folder.open().verdict(born, &[PAGE]), soft(1));
}

#[test]
fn a_damaged_journal_loses_what_is_damaged() {
    let folder = Folder::new();
    let born = {
        let purges = folder.open();
        // Into a file that is there, each is appended.
        purges.flush().unwrap();
        let born = purges.next_born();
        for scope in 1..=3 {
            purges.purge(&[scope], false, at(scope));
        }
        born
    };
    let mut bytes = fs::read(folder.path()).unwrap();
    bytes[2 * 32 + 5] ^= 1;
    bytes.extend_from_slice(&[0; 40]);
    fs::write(folder.path(), &bytes).unwrap();
    assert_eq!(folder.damaged(), 3, "one flipped, one of zeros, one torn");
    let purges = folder.open();
    assert_eq!(
        [1, 2, 3].map(|scope| purges.verdict(born, &[scope])),
        [soft(1), Valid, soft(3)]
    );
    drop(purges);
    assert_eq!(folder.damaged(), 0, "written anew");
    let purges = folder.open();
    assert_eq!(scopes(&purges), 2);
    drop(purges);
    fs::write(folder.path(), "something else").unwrap();
    let purges = folder.open();
    assert_eq!((purges.error(), scopes(&purges)), (None, 0));
    assert_eq!(
        fs::read(folder.0.path().join("purges.set-aside")).unwrap(),
        b"something else"
    );
    purges.flush().unwrap();
    drop(purges);
    assert_eq!(folder.damaged(), 0);
}

/// The journal is lost, the clock is behind, and the disk tier has not yet said what numbers its responses have.
#[test]
fn purges_before_the_disk_tier_is_loaded() {
    let folder = Folder::new();
    let purges = Purges::open_at(Some(&folder.path()), at(0), MOST_SCOPES);
    let stored = 1 << 50;
    purges.purge(&[PAGE], true, at(1));
    purges.flush().unwrap();
    let epoch = purges.epoch();
    assert_eq!(
        purges.verdict(stored, &[PAGE]),
        Valid,
        "not known to be older"
    );
    purges.raise(stored);
    assert_ne!(
        purges.epoch(),
        epoch,
        "what was found out before may be wrong"
    );
    assert_eq!(purges.verdict(stored, &[PAGE]), Hard);
    let late = purges.next_born();
    assert!(late > stored);
    assert_eq!(purges.verdict(late, &[PAGE]), Valid);
    // Nothing new: nothing is given a new number.
    purges.raise(stored);
    assert_eq!(purges.verdict(late, &[PAGE]), Valid);
    purges.purge(&[TAG], false, at(1));
    purges.flush().unwrap();
    purges.raise(stored + (1 << 40));
    assert_eq!(purges.verdict(stored + (1 << 40), &[TAG]), soft(1));
    drop(purges);
    let purges = folder.open();
    assert_eq!(purges.verdict(stored, &[PAGE]), Hard, "in the journal too");
    assert_eq!(purges.verdict(stored + (1 << 40), &[TAG]), soft(1));
    drop(purges);
    // What an earlier process purged keeps its number: what came after it is valid.
    let purges = Purges::open_at(Some(&folder.path()), at(0), MOST_SCOPES);
    purges.raise(stored + (1 << 45));
    assert_eq!(purges.verdict(stored + (1 << 45), &[PAGE, TAG]), Valid);
}

/// Numbers go on behind those of the process before, without the disk tier and without a journal.
#[test]
fn the_clock_makes_numbers_grow_from_process_to_process() {
    let before = Purges::open_at(None, at(1_000_000), 1);
    for _ in 0..1000 {
        before.next_born();
    }
    let after = Purges::open_at(None, at(1_000_001), 1);
    assert!(after.next_born() > before.next_born());
    let wrong = Purges::open_at(None, at(u64::MAX / 4), 1);
    assert!(wrong.next_born() < u64::MAX / 2 + 10, "numbers are left");
}

/// One process replaces the other: both write to one journal for a while.
#[test]
fn two_processes() {
    let folder = Folder::new();
    let old = Purges::open_at(Some(&folder.path()), at(1), MOST_SCOPES);
    old.purge(&[SITE], false, at(1));
    old.flush().unwrap();
    let new = Purges::open_at(Some(&folder.path()), at(2), MOST_SCOPES);
    let (at_old, at_new) = (old.next_born(), new.next_born());
    assert!(at_new > at_old);
    // A request that the old one still serves changes something.
    old.purge(&[PAGE], false, at(3));
    old.flush().unwrap();
    new.flush().unwrap();
    assert_eq!(
        new.verdict(at_new, &[PAGE]),
        soft(3),
        "although its number is greater"
    );
    assert_eq!(
        new.verdict(at_new, &[SITE]),
        Valid,
        "that was before its time"
    );
    new.purge(&[TAG], true, at(4));
    new.flush().unwrap();
    old.flush().unwrap();
    assert_eq!(old.verdict(at_old, &[TAG]), Hard);
    // None takes in its own again.
    let sizes = |_| {
        old.flush().unwrap();
        new.flush().unwrap();
        fs::metadata(folder.path()).unwrap().len()
    };
    let sizes: Vec<_> = (0..5).map(sizes).collect();
    assert_eq!(sizes[1], sizes[4], "{sizes:?}");
    // One writes the file anew, the other notices.
    let again = new.next_born();
    for _ in 0..SLACK * 2 {
        old.purge(&[PAGE], false, at(5));
    }
    old.flush().unwrap();
    old.purge(&[PAGE, 9], false, at(6));
    old.flush().unwrap();
    new.flush().unwrap();
    assert_eq!(new.verdict(again, &[9]), soft(6));
    assert_eq!(new.verdict(again, &[PAGE]), soft(6));
    assert_eq!(new.verdict(again, &[SITE]), Valid, "known already");
    drop((old, new));
    assert_eq!(folder.damaged(), 0);
    let third = folder.open();
    assert_eq!(third.verdict(at_new, &[TAG]), Hard);
    assert_eq!(third.verdict(again, &[9]), soft(6));
    assert_eq!(scopes(&third), 4);
}

/// How many scopes are purged.
fn scopes(purges: &Purges) -> usize {
    purges.inner.table.len()
}
