//! What is said while a plan is applied: a line for each step that is done, and a bar for what takes long. Stands
//! alone so that applying knows nothing of a terminal.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::apply::{At, Watch};
use crate::plan::{Action, Step};
use crate::printer::{Printer, Task};
use crate::show;

/// Tells an operator what is done.
pub(in crate::commands) struct Progress {
    printer: Printer,
    /// By host: which step is under way.
    under_way: Mutex<HashMap<String, (At, Task)>>,
}

impl Progress {
    /// With this printer.
    pub(in crate::commands) fn new(printer: Printer) -> Self {
        Self {
            printer,
            under_way: Mutex::default(),
        }
    }

    fn under_way(&self) -> std::sync::MutexGuard<'_, HashMap<String, (At, Task)>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for Progress {
    fn begins(&self, host: &str, at: At, step: &Step) {
        let task = self.printer.task(format!("{host}: {}", show::line(step)));
        self.under_way().insert(host.to_owned(), (at, task));
    }

    fn moved(&self, host: &str, done: u64, of: u64) {
        if let Some((_, task)) = self.under_way().get(host) {
            task.bytes(done, of);
        }
    }

    fn ends(&self, host: &str, step: &Step, done: bool) {
        // Its bar goes before its line comes.
        let Some((at, _)) = self.under_way().remove(host) else {
            return;
        };
        let place = format!("{host}: {}/{}", at.step, at.of);
        match (&step.action, done) {
            (Action::Archive, _) => self
                .printer
                .say(&format!("{place} {}", step.why.join("; "))),
            (_, true) => self.printer.say(&format!("{place} {}", show::line(step))),
            (_, false) => self
                .printer
                .say(&format!("{place} {}: failed", show::line(step))),
        }
    }
}
