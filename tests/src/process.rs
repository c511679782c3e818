//! One process that a session started: its own group, its own logs, and gone with its guard.
//!
//! It is gone as well when the test binary itself is killed: `setpriv` ties it to the thread that
//! forked it, which is why one thread, that lives as long as the binary, forks them all.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getrlimit, kill_process, kill_process_group, setrlimit,
};

use crate::lab::Lab;

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    pid: Pid,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `program`, with arguments and environment added by `dress`; it logs into the lab's folder.
    pub fn start(
        lab: &Lab,
        name: &str,
        program: impl AsRef<Path>,
        dress: impl FnOnce(&mut Command),
    ) -> Self {
        let (stdout, stderr) = lab.logs_of(name);
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        command.arg(program.as_ref());
        dress(&mut command);
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(append(&stdout))
            .stderr(append(&stderr));
        let child = fork(command).unwrap_or_else(|error| {
            panic!(
                "{name} ({}) does not start: {error}",
                program.as_ref().display()
            )
        });
        let pid = Pid::from_child(&child);
        Self {
            name: name.to_owned(),
            child,
            pid,
            stdout,
            stderr,
        }
    }

    /// The id that it was started with.
    pub fn id(&self) -> Pid {
        self.pid
    }

    /// Where its standard output goes.
    pub fn stdout(&self) -> &Path {
        &self.stdout
    }

    /// Where its standard error goes.
    pub fn stderr(&self) -> &Path {
        &self.stderr
    }

    /// How it ended, where it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Fails the test where it has ended: for use in loops that wait for it to be ready.
    pub fn assert_running(&mut self) {
        if let Some(status) = self.ended() {
            panic!("{} ended by itself: {status}", self.name);
        }
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal)
            .unwrap_or_else(|error| panic!("{}: {signal:?} not sent: {error}", self.name));
    }

    /// How it ended by itself, or a failed test after `deadline`.
    pub async fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let end = Instant::now() + deadline;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(
                Instant::now() < end,
                "{} still runs after {deadline:?}",
                self.name
            );
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    }

    /// Asks it to end, and waits for that.
    pub async fn stop(mut self, deadline: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(deadline).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The whole group: also what it has started and left behind.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Takes as many open files as the system allows: the usual soft limit of 1,024 is less than a
/// session with a thousand clients needs.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, wanted).expect("up to the hard limit is allowed");
}

fn append(path: &Path) -> File {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap_or_else(|error| panic!("no log at {}: {error}", path.display()))
}

/// Forks on the one thread that lives as long as the test binary.
fn fork(command: Command) -> io::Result<Child> {
    type Job = (Command, mpsc::Sender<io::Result<Child>>);
    static FORKER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let forker = FORKER.get_or_init(|| {
        let (jobs, inbox) = mpsc::channel::<Job>();
        std::thread::Builder::new()
            .name("forker".into())
            .spawn(move || {
                for (mut command, reply) in inbox {
                    let _ = reply.send(command.spawn());
                }
            })
            .expect("a thread can be started");
        jobs
    });
    let (reply, answer) = mpsc::channel();
    forker
        .send((command, reply))
        .expect("the forker lives as long as the binary");
    answer.recv().expect("the forker answers every job")
}
