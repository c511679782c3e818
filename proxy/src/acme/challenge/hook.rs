//! The operator's program that puts a record into the DNS: called with its own arguments, then `present`
//! or `remove`, the record's name and its value. No shell reads any of it.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Why the program did not do what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// It is not there, or no program.
    #[error("cannot start {program}: {source}")]
    Start {
        /// Its path.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// It took too long.
    #[error("{program} took longer than {} s and was ended{}", LONGEST.as_secs(), said(.output))]
    Late {
        /// Its path.
        program: String,
        /// What it wrote.
        output: String,
    },
    /// It said that it failed.
    #[error("{program} failed ({status}){}", said(.output))]
    Failed {
        /// Its path.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote.
        output: String,
    },
}

/// What is asked of the program.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wish {
    /// The record is to be there.
    Present,
    /// It is to be gone; others of the same name stay.
    Remove,
}

/// Runs the program and waits for it. Dropped before it is done, it ends the program and what that
/// has started.
pub(super) async fn run(
    command: &[String],
    wish: Wish,
    name: &str,
    value: &str,
) -> Result<(), HookError> {
    let program = command.first().cloned().unwrap_or_default();
    let mut group = match start(command, wish, name, value) {
        Ok(child) => Group::new(child),
        Err(source) => return Err(HookError::Start { program, source }),
    };
    let stdout = group.child.stdout.take().map(keep);
    let stderr = group.child.stderr.take().map(keep);
    let ended = timeout(LONGEST, group.child.wait()).await;
    let Ok(ended) = ended else {
        drop(group);
        let output = output(stdout, stderr).await;
        return Err(HookError::Late { program, output });
    };
    group.over = true;
    let output = output(stdout, stderr).await;
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(HookError::Failed {
            program,
            status,
            output,
        }),
        Err(source) => Err(HookError::Start { program, source }),
    }
}

fn start(command: &[String], wish: Wish, name: &str, value: &str) -> std::io::Result<Child> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(std::io::ErrorKind::NotFound.into());
    };
    let wish = match wish {
        Wish::Present => "present",
        Wish::Remove => "remove",
    };
    Command::new(program)
        .args(arguments)
        .args([wish, name, value])
        .env_clear()
        .env("PATH", PATH)
        .env("LANG", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// The program with all that it starts.
struct Group {
    child: Child,
    id: Option<Pid>,
    over: bool,
}

impl Group {
    fn new(child: Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self {
            id: id.and_then(Pid::from_raw),
            child,
            over: false,
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Until the program has been waited for, its number is nobody else's.
        if let Some(id) = self.id.filter(|_| !self.over) {
            // It may have ended by itself in between.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

/// Keeps the beginning of what is written, and lets the rest pass, so that the writer never waits.
fn keep(mut from: impl AsyncRead + Unpin + Send + 'static) -> JoinHandle<Vec<u8>> {
    tokio::spawn(async move {
        let mut kept = Vec::new();
        let mut buffer = [0; 1024];
        let all = async {
            while let Ok(read @ 1..) = from.read(&mut buffer).await {
                let room = KEPT - kept.len();
                kept.extend_from_slice(&buffer[..read.min(room)]);
            }
        };
        // What the program leaves running may hold its output open for ever.
        let _ = timeout(LONGEST + LAST_WORDS, all).await;
        kept
    })
}

/// What was written, on one line.
async fn output(
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
) -> String {
    let mut text = String::new();
    for mut part in stderr.into_iter().chain(stdout) {
        let Ok(Ok(part)) = timeout(LAST_WORDS, &mut part).await else {
            part.abort();
            continue;
        };
        for word in String::from_utf8_lossy(&part).split_whitespace() {
            text.push(' ');
            text.extend(word.chars().filter(|c| !c.is_control()));
        }
    }
    text.trim_start().chars().take(SHOWN).collect()
}

fn said(output: &str) -> String {
    match output {
        "" => String::new(),
        output => format!(": {output}"),
    }
}

/// How long the program may take.
const LONGEST: Duration = Duration::from_secs(60);
/// How long its last words are waited for.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Bytes of each of its outputs that are kept.
const KEPT: usize = 4096;
/// Characters that are shown.
const SHOWN: usize = 500;
/// Where it finds other programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A program of shell lines in a folder of its own.
    fn program(folder: &tempfile::TempDir, lines: &str) -> Vec<String> {
        let path = folder.path().join("hook");
        std::fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&path, mode).unwrap();
        vec![path.to_str().unwrap().to_owned(), "a b".to_owned()]
    }

    #[tokio::test]
    async fn it_gets_its_arguments_as_they_are_and_little_else() {
        let folder = tempfile::tempdir().unwrap();
        let lines = r#"printf '%s|' "$@" > "$0.out"; env | grep -v '^_=\|^PWD=\|^SHLVL=\|^OLDPWD=' | sort >> "$0.out""#;
        let command = program(&folder, lines);
        run(
            &command,
            Wish::Present,
            "_acme-challenge.a.example",
            "x;$(y)",
        )
        .await
        .unwrap();
        let got = std::fs::read_to_string(folder.path().join("hook.out")).unwrap();
        let wanted =
            format!("a b|present|_acme-challenge.a.example|x;$(y)|LANG=C.UTF-8\nPATH={PATH}\n");
        assert_eq!(got, wanted);
    }

    #[tokio::test]
    async fn a_failure_says_what_the_program_said() {
        let folder = tempfile::tempdir().unwrap();
        let command = program(&folder, "echo out; echo 'no such\n zone' >&2; exit 3");
        let error = run(&command, Wish::Remove, "n", "v").await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.ends_with("hook failed (exit status: 3): no such zone out"),
            "{text}"
        );

        let error = run(&["/nonexistent/hook".to_owned()], Wish::Remove, "n", "v").await;
        let text = error.unwrap_err().to_string();
        assert!(
            text.starts_with("cannot start /nonexistent/hook: "),
            "{text}"
        );
    }

    #[tokio::test]
    async fn much_output_and_what_is_left_running_hold_nothing_up() {
        let folder = tempfile::tempdir().unwrap();
        let lines = "head -c 1000000 /dev/zero | tr '\\0' x; sleep 30 & exit 1";
        let command = program(&folder, lines);
        let began = std::time::Instant::now();
        let error = run(&command, Wish::Present, "n", "v").await.unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(10));
        assert!(error.to_string().len() < 700);
    }
}
