//! A terminal at which the operator sits: what a program shows there, and what is typed. Stands alone because a command
//! asks, draws and colours at a terminal only, and what it does there can be seen in no other way.

use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::machine::Outcome;
use crate::wait::{eventually, within};

/// A terminal, and the program that runs there.
#[derive(Debug)]
pub struct Terminal {
    line: String,
    child: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Ends with the terminal.
    keeper: JoinHandle<()>,
    /// Up to where it has been read.
    read: usize,
}

/// How long anything may take to be shown.
const PATIENCE: Duration = Duration::from_secs(120);

impl Terminal {
    /// Starts a line of a shell at a terminal of this size, by a command that runs `script` on a machine.
    pub(super) fn start(
        columns: u16,
        rows: u16,
        line: &str,
        command: impl FnOnce(&[&str]) -> std::process::Command,
    ) -> Self {
        let inner = format!("stty cols {columns} rows {rows}; cd /root/stack; exec env {line}");
        let script = ["--quiet", "--return", "--command", &inner, "/dev/null"];
        let mut command = Command::from(command(&[&["script"], &script[..]].concat()));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("no terminal for `{line}`: {error}"));
        let (keys, out) = (child.stdin.take(), child.stdout.take());
        let shown = Arc::default();
        let keeper = tokio::spawn(keep(out.expect("it is a pipe"), Arc::clone(&shown)));
        Self {
            line: line.to_owned(),
            child,
            keys: keys.expect("it is a pipe"),
            shown,
            keeper,
            read: 0,
        }
    }

    /// Waits until this is shown, after what was waited for before.
    pub async fn until(&mut self, text: &str) {
        let what = format!("`{}` shows {text:?}", self.line);
        let (shown, from) = (Arc::clone(&self.shown), self.read);
        self.read = eventually(&what, PATIENCE, || {
            let all = lock(&shown);
            let rest = String::from_utf8_lossy(&all[from..]).into_owned();
            let place = all[from..]
                .windows(text.len())
                .position(|part| part == text.as_bytes());
            std::future::ready(place.map(|place| from + place + text.len()).ok_or(rest))
        })
        .await;
    }

    /// Types this; `\r` is Enter, `\x03` Ctrl-C.
    pub async fn types(&mut self, keys: &str) {
        let typed = async {
            self.keys.write_all(keys.as_bytes()).await?;
            self.keys.flush().await
        };
        typed
            .await
            .unwrap_or_else(|error| panic!("`{}` reads no more: {error}", self.line));
    }

    /// All that was shown so far, with what steers the terminal.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&lock(&self.shown)).into_owned()
    }

    /// Waits for its end.
    pub async fn end(mut self) -> Outcome {
        let what = format!("`{}` at a terminal ends", self.line);
        let status = within(&what, PATIENCE, self.child.wait())
            .await
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        // What it showed last may still be on its way.
        let _ = within(&what, PATIENCE, &mut self.keeper).await;
        Outcome {
            code: status.code().unwrap_or(-1),
            stdout: self.shown(),
            stderr: String::new(),
            what,
        }
    }
}

async fn keep(mut out: ChildStdout, shown: Arc<Mutex<Vec<u8>>>) {
    let mut part = [0; 4096];
    while let Ok(read @ 1..) = out.read(&mut part).await {
        lock(&shown).extend(&part[..read]);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
