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
    /// By host: the step under way.
    under_way: Mutex<HashMap<String, UnderWay>>,
}

/// A step that is being done.
struct UnderWay {
    /// Where: `h1: 3/7`.
    place: String,
    what: String,
    task: Task,
    /// It was said that it waits for something.
    waits: bool,
}

impl Progress {
    /// With this printer.
    pub(in crate::commands) fn new(printer: Printer) -> Self {
        Self {
            printer,
            under_way: Mutex::default(),
        }
    }

    fn under_way(&self) -> std::sync::MutexGuard<'_, HashMap<String, UnderWay>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for Progress {
    fn begins(&self, host: &str, at: At, step: &Step) {
        let what = show::line(step);
        let under_way = UnderWay {
            place: format!("{host}: {}/{}", at.step, at.of),
            task: self.printer.task(format!("{host}: {what}")),
            what,
            waits: false,
        };
        self.under_way().insert(host.to_owned(), under_way);
    }

    fn moved(&self, host: &str, done: u64, of: u64) {
        if let Some(under_way) = self.under_way().get(host) {
            under_way.task.bytes(done, of);
        }
    }

    fn waits(&self, host: &str, blocks: Option<(u64, u64)>, at: &str) {
        let mut all = self.under_way();
        let Some(under_way) = all.get_mut(host) else {
            return;
        };
        // Where there is no bar, this is all there is to see for a while.
        if !std::mem::replace(&mut under_way.waits, true) {
            let UnderWay { place, what, .. } = under_way;
            self.printer.say(&format!("{place} {what}: {at} ..."));
        }
        if let Some((done, of)) = blocks {
            under_way.task.count(done, of);
        }
        under_way.task.at(at);
    }

    fn ends(&self, host: &str, step: &Step, done: bool) {
        // Its bar goes before its line comes.
        let Some(UnderWay { place, what, .. }) = self.under_way().remove(host) else {
            return;
        };
        match (&step.action, done) {
            (Action::Archive, _) => self
                .printer
                .say(&format!("{place} {}", step.why.join("; "))),
            (_, true) => self.printer.say(&format!("{place} {what}")),
            (_, false) => self.printer.say(&format!("{place} {what}: failed")),
        }
    }
}
