//! Something that may take long: after two seconds a terminal shows that it goes on, and how far it is. Elsewhere it
//! shows nothing.

use std::borrow::Cow;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;

use super::Printer;

/// What goes on; it disappears when this is dropped.
#[derive(Debug)]
pub struct Task {
    bar: ProgressBar,
    /// Shows it once it has taken long enough.
    shown: Option<JoinHandle<()>>,
}

impl Printer {
    /// Something that may take long, in a few words: `h1: blog: pulling ghost:5-alpine`.
    pub fn task(&self, label: impl Into<Cow<'static, str>>) -> Task {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_style(style(SPINNER));
        bar.set_prefix(super::clean(&label.into()));
        let bars = self.0.bars.clone();
        let shown = tokio::runtime::Handle::try_current()
            .ok()
            .filter(|_| !bars.is_hidden());
        let shown = shown.map(|runtime| {
            let bar = bar.clone();
            runtime.spawn(async move {
                tokio::time::sleep(PATIENCE).await;
                let bar = bars.add(bar);
                bar.enable_steady_tick(TICK);
            })
        });
        Task { bar, shown }
    }
}

impl Task {
    /// So many of so many bytes are done.
    pub fn bytes(&self, done: u64, of: u64) {
        self.measure(done, of, BYTES);
    }

    /// So many of so many are done.
    pub fn count(&self, done: u64, of: u64) {
        self.measure(done, of, COUNT);
    }

    /// What it is at.
    pub fn at(&self, what: &str) {
        self.bar.set_message(super::clean(what));
    }

    fn measure(&self, done: u64, of: u64, as_what: &str) {
        if self.bar.length().is_none() {
            self.bar.set_style(style(as_what));
        }
        self.bar.set_length(of);
        self.bar.set_position(done);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(shown) = &self.shown {
            shown.abort();
        }
        self.bar.finish_and_clear();
    }
}

/// A test holds the templates to be sound.
fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    style
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
        .tick_chars("|/-\\ ")
}

/// What is done sooner needs no bar.
const PATIENCE: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(200);
const SPINNER: &str = "{spinner} {prefix}  {elapsed}  {msg}";
const BYTES: &str = "{spinner} {prefix}  [{bar:24}] {bytes} of {total_bytes}, {eta} left  {msg}";
const COUNT: &str = "{spinner} {prefix}  [{bar:24}] {pos} of {len}  {msg}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_sound() {
        for template in [SPINNER, BYTES, COUNT] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[tokio::test]
    async fn what_is_no_terminal_shows_nothing() {
        let printer = Printer::caught(&[]);
        let task = printer.task("h1: pulling");
        task.bytes(1, 2);
        task.at("layer 3");
        drop(task);
        assert_eq!(printer.take(), (String::new(), String::new()));
    }
}
