//! What is shown while pages are fetched: a bar on a terminal, once it is worth looking at.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A progress bar that appears late, or never.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    /// `None` once it is shown, or where it never is.
    appears: parking_lot::Mutex<Option<Instant>>,
}

impl Progress {
    /// On standard error, where that is a terminal, after two seconds.
    pub fn on_terminal() -> Self {
        let appears = std::io::stderr()
            .is_terminal()
            .then(|| Instant::now() + SOON);
        Self {
            appears: parking_lot::Mutex::new(appears),
            ..Self::none()
        }
    }

    /// Shows nothing.
    pub fn none() -> Self {
        Self {
            bar: ProgressBar::hidden().with_style(style(SEARCHING)),
            appears: parking_lot::Mutex::new(None),
        }
    }

    /// So many pages have been found so far.
    pub fn searched(&self, pages: usize) {
        self.bar.set_message(format!("looking for pages: {pages}"));
        self.appear();
    }

    /// So many pages are to be fetched.
    pub fn begin(&self, pages: usize) {
        self.bar.set_style(style(FETCHING));
        self.bar.set_length(pages as u64);
        self.bar.set_position(0);
    }

    /// One of them has been.
    pub fn step(&self) {
        self.bar.inc(1);
        self.appear();
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }

    fn appear(&self) {
        let mut appears = self.appears.lock();
        if appears.is_some_and(|at| at <= Instant::now()) {
            *appears = None;
            self.bar
                .set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
            self.bar.tick();
        }
    }
}

/// The templates are ours, and sound.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

const SOON: Duration = Duration::from_secs(2);
const SEARCHING: &str = "{msg}";
const FETCHING: &str = "{bar:40} {pos} of {len} pages, {eta} left";
