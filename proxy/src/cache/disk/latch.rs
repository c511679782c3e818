//! Something that happens once, for threads and tasks to wait for.

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

/// Not happened, or happened for good.
#[derive(Default)]
pub(super) struct Latch {
    set: Mutex<bool>,
    threads: Condvar,
    tasks: Notify,
}

impl Latch {
    /// It has happened.
    pub fn set(&self) {
        *self.set.lock() = true;
        self.threads.notify_all();
        self.tasks.notify_waiters();
    }

    /// Whether it has.
    pub fn is_set(&self) -> bool {
        *self.set.lock()
    }

    /// Waits for it, on a thread that may wait.
    pub fn wait(&self) {
        let mut set = self.set.lock();
        while !*set {
            self.threads.wait(&mut set);
        }
    }

    /// Waits for it, in a task.
    pub async fn done(&self) {
        loop {
            let changed = self.tasks.notified();
            if self.is_set() {
                return;
            }
            changed.await;
        }
    }
}
