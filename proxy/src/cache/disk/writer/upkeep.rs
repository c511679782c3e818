//! What the thread looks after from time to time: whether the disk works again, how much fits on it, and
//! whether its files are still there.

use std::io::IoSlice;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::super::health::Health;
use super::super::load;
use super::Writer;

/// A disk that was full is tried with more after so long: at first, and at most.
pub(super) const RAISE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));
/// Segments that are used also where the disk is full with other things.
const LEAST_SEGMENTS: u64 = 4;
/// What a probe writes.
const PROBE: usize = 64 * 1024;

impl Writer {
    pub(super) fn tick(&mut self) {
        self.shared.condition.tick();
        if self.resumes {
            self.resume();
        }
        if self.released {
            return;
        }
        if self.shared.queue.is_stuck() {
            self.shared
                .condition
                .slow("more is to be stored than it takes");
        }
        self.look_after_files();
        if self.shared.condition.is_ailing() {
            self.probe();
        } else if self.raise.is_some_and(|at| Instant::now() >= at) {
            self.raise_ceiling();
        }
    }

    /// The disk has less room than the limit says: what fits is what is there, but for a little.
    fn lower_ceiling(&mut self) {
        let segment = self.shared.segment_size;
        let fits = self.shared.used().saturating_sub(2 * segment);
        let fits = fits.max(LEAST_SEGMENTS * segment);
        self.shared.ceiling.store(fits, Ordering::Relaxed);
        self.raise = Some(Instant::now() + self.raise_after);
        self.raise_after = RAISE.1.min(self.raise_after * 2);
    }

    /// There may be room again.
    fn raise_ceiling(&mut self) {
        let fits = self.shared.ceiling.load(Ordering::Relaxed);
        let fits = fits.saturating_add(self.shared.segment_size);
        let enough = fits >= self.shared.settings.limit;
        let fits = if enough { u64::MAX } else { fits };
        self.shared.ceiling.store(fits, Ordering::Relaxed);
        self.raise = (!enough).then(|| Instant::now() + RAISE.0);
        if enough {
            self.raise_after = RAISE.0;
        }
    }

    /// Notices where somebody removed what is written to.
    fn look_after_files(&mut self) {
        let is_linked = |file: &std::fs::File| {
            let metadata = file.metadata();
            metadata.is_ok_and(|metadata| metadata.nlink() > 0)
        };
        let before = self.actives.len();
        self.actives
            .retain(|_, active| is_linked(&active.open.file));
        let mut lost = self.actives.len() < before;
        let mut lock = self.shared.lock.lock();
        if !lock.as_ref().is_some_and(is_linked) {
            lost = true;
            match self.shared.folder.restore() {
                Ok(new) => *lock = Some(new),
                Err(error) => {
                    // Somebody else has it, or it cannot be made: that is tried again.
                    self.shared
                        .condition
                        .failed("make the folder again", &error);
                    self.shared.paused.store(true, Ordering::Release);
                    (self.released, self.resumes) = (true, true);
                    *lock = None;
                }
            }
        }
        drop(lock);
        if lost {
            load::forget_missing(&self.shared);
        }
    }

    /// Tries whether the disk takes something again.
    fn probe(&mut self) {
        let full = self.shared.condition.health() == Health::Full;
        if full && self.shared.loaded.is_set() {
            self.lower_ceiling();
            let victim = self.shared.catalogue.lock().victim(0);
            if let Some(victim) = victim {
                // Nothing can be moved, as there is no room.
                self.stop_appending(&victim);
                self.remove(victim.name);
            }
        }
        let path = self.shared.folder.unfinished(0);
        let tried = self.shared.folder.create(&path).and_then(|file| {
            let bytes = vec![0; PROBE];
            self.shared.writes.write(&file, &[IoSlice::new(&bytes)], 0)
        });
        let _ = std::fs::remove_file(&path);
        match tried {
            Ok(()) => self.shared.condition.works(),
            Err(error) => self.shared.condition.failed("write to the folder", &error),
        }
    }
}
