//! The only place that prints, and the only one that asks. Results go to standard output; what happens meanwhile,
//! warnings and questions go to standard error. Stands alone so that everything above it can be tested without a
//! terminal.

// Aligned columns.
mod table;
// Questions, and what is typed.
mod ask;
// Bars for what takes long.
mod task;
// A screen that is drawn again and again.
mod screen;

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressDrawTarget};
use tokio::sync::watch;

pub use ask::Unasked;
pub use screen::Screen;
pub use table::{Cell, Look, Table, Tone, paint};
pub use task::Task;

/// Prints and asks; clones print to the same place.
#[derive(Debug, Clone)]
pub struct Printer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Standard output.
    out: Look,
    /// Standard error.
    err: Look,
    /// Bars on a terminal; hidden elsewhere.
    bars: MultiProgress,
    /// Whoever reads standard output has seen enough.
    left: watch::Sender<bool>,
    /// Where it goes instead, in tests.
    caught: Option<Mutex<Caught>>,
}

/// What was printed, and what will be answered.
#[derive(Debug, Default)]
struct Caught {
    out: String,
    err: String,
    answers: VecDeque<String>,
}

impl Default for Printer {
    fn default() -> Self {
        Self::new()
    }
}

impl Printer {
    /// To standard output and error.
    pub fn new() -> Self {
        let target = match table::steers(&io::stderr()) {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        Self(Arc::new(Inner {
            out: Look::of(&io::stdout()),
            err: Look::of(&io::stderr()),
            bars: MultiProgress::with_draw_target(target),
            left: watch::Sender::default(),
            caught: None,
        }))
    }

    /// To memory, with these answers to what will be asked: for tests. Without any, it is as if there were no terminal.
    pub fn caught(answers: &[&str]) -> Self {
        let answers = answers.iter().map(|answer| (*answer).to_owned()).collect();
        let caught = Mutex::new(Caught {
            answers,
            ..Caught::default()
        });
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        Self(Arc::new(Inner {
            out: Look::PLAIN,
            err: Look::PLAIN,
            bars,
            left: watch::Sender::default(),
            caught: Some(caught),
        }))
    }

    /// What was printed to standard output and to standard error since this was asked last; empty outside tests.
    pub fn take(&self) -> (String, String) {
        self.with_caught(|caught| {
            (
                std::mem::take(&mut caught.out),
                std::mem::take(&mut caught.err),
            )
        })
        .unwrap_or_default()
    }

    /// How standard output looked when this began.
    pub fn look(&self) -> Look {
        self.0.out
    }

    /// A result, as it is, to standard output. A reader that has seen enough is no failure.
    pub fn print(&self, text: &str) -> io::Result<()> {
        if self
            .with_caught(|caught| caught.out.push_str(text))
            .is_some()
        {
            return Ok(());
        }
        self.0.bars.suspend(|| {
            let mut stdout = io::stdout().lock();
            match stdout
                .write_all(text.as_bytes())
                .and_then(|()| stdout.flush())
            {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    self.0.left.send_replace(true);
                    Ok(())
                }
                written => written,
            }
        })
    }

    /// Waits until whoever reads standard output has seen enough: what goes on by itself ends then.
    pub async fn reader_leaves(&self) {
        // The sender lives as long as this does.
        let _ = self.0.left.subscribe().wait_for(|left| *left).await;
    }

    /// A result as a table.
    pub fn table(&self, table: &Table) -> io::Result<()> {
        self.print(&table.render(self.look()))
    }

    /// A result as JSON.
    pub fn json(&self, value: &impl serde::Serialize) -> io::Result<()> {
        let text = serde_json::to_string_pretty(value)?;
        self.print(&(text + "\n"))
    }

    /// What happens, a line for people.
    pub fn say(&self, line: &str) {
        self.tell(&format!("{}\n", clean(line)));
    }

    /// What should be looked at, and does not stop anything.
    pub fn warn(&self, text: &str) {
        self.label("warning:", Tone::Warn, text);
    }

    /// What stopped it.
    pub fn error(&self, text: &str) {
        self.label("error:", Tone::Bad, text);
    }

    /// The way out.
    pub fn hint(&self, text: &str) {
        self.label("hint:", Tone::Link, text);
    }

    fn label(&self, label: &str, tone: Tone, text: &str) {
        let label = paint(label, tone, self.0.err.colour);
        self.tell(&format!("{label} {}\n", clean(text)));
    }

    /// To standard error; where that is closed, nobody wants to know.
    fn tell(&self, text: &str) {
        if self
            .with_caught(|caught| caught.err.push_str(text))
            .is_none()
        {
            self.0.bars.suspend(|| {
                let _ = io::stderr().lock().write_all(text.as_bytes());
            });
        }
    }

    fn with_caught<T>(&self, what: impl FnOnce(&mut Caught) -> T) -> Option<T> {
        let caught = self.0.caught.as_ref()?;
        Some(what(
            &mut caught.lock().unwrap_or_else(PoisonError::into_inner),
        ))
    }
}

/// What hosts say comes from outside: what steers a terminal is taken out. Lines and tabs stay.
fn clean(text: &str) -> String {
    let steers = |c: char| c.is_control() && c != '\n' && c != '\t';
    text.replace(turns, "").replace(steers, "\u{fffd}")
}

/// What turns the direction of writing, and so can show another text than there is.
fn turns(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests;
