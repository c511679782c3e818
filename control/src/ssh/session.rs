//! Commands over a connection. Stands alone because this is where every command gets its deadline, its bounds and its
//! words for a failure.

// What is sent and what comes back.
mod pipes;

use std::process::Stdio as Local;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use openssh::{Child, ForwardType, Session, Socket, Stdio};
use sovereign_config::stack::model;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::RwLock;
use tokio::time::{Instant, timeout};

use super::connect::{Way, here};
use super::error::command;
use super::input::Source;
use super::{CONNECT, Each, Error, Held, Input, LOOK, OUTPUT, Output, Remote};

/// How long the host has to end a command after its deadline, and to say so.
const GRACE: Duration = Duration::from_secs(8);
/// After how long the host kills what does not end by itself.
const KILL: &str = "5";
/// What `timeout` ends with where the deadline passed.
const TIMED_OUT: i32 = 124;
/// What is given where a command was killed, by the convention of shells.
const KILLED: i32 = 137;
/// What a shell, and `timeout`, end with where there is no such program.
const NOT_FOUND: i32 = 127;
/// How often a held command gets a sign of life.
pub const BEAT: Duration = Duration::from_secs(5);
/// The one script that is ever sent, without a value in it: runs its arguments and ends them when its input ends. SSH
/// has no other way to end a command that prints nothing once the one who asked has gone.
const LEASH: &str = "exec 3<&0; \"$@\" </dev/null & command=$!; \
    { cat <&3; kill \"$command\"; } >/dev/null 2>&1 & watch=$!; \
    wait \"$command\"; code=$?; kill \"$watch\" 2>/dev/null; exit \"$code\"";

/// A connection to a host.
#[derive(Debug)]
pub struct Ssh {
    host: model::Host,
    way: Arc<Way>,
    session: RwLock<Arc<Session>>,
}

type Running = Child<Arc<Session>>;

impl Ssh {
    pub(super) async fn connect(host: model::Host, way: Arc<Way>) -> Result<Self, Error> {
        let session = RwLock::new(Arc::new(way.open(&host).await?));
        Ok(Self { host, way, session })
    }

    /// Leads a port of this machine, on its loopback address, to one of the host's for as long as the connection is
    /// open.
    pub async fn tunnel(&self, local: u16, remote: u16) -> Result<(), Error> {
        let port = |port: u16| Socket::TcpSocket {
            host: "127.0.0.1".into(),
            port,
        };
        let session = Arc::clone(&*self.session.read().await);
        let opened = timeout(
            CONNECT,
            session.request_port_forward(ForwardType::Local, port(local), port(remote)),
        )
        .await;
        let source = match opened {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => std::io::Error::other(error),
            Err(_) => std::io::ErrorKind::TimedOut.into(),
        };
        Err(here(
            &self.host,
            &format!("no tunnel from port {local} to port {remote} there"),
            source,
        ))
    }

    /// Runs a command with this process's input and output, over the same connection; gives its code.
    pub async fn interactive(&self, argv: &[&str], terminal: bool) -> Result<i32, Error> {
        let session = Arc::clone(&*self.session.read().await);
        let mut ssh = tokio::process::Command::new("ssh");
        ssh.arg("-S")
            .arg(session.control_socket())
            .args(self.way.arguments(&self.host).await?)
            // Without it, `ssh` adds that a connection was closed, which is not.
            .args(["-o", "LogLevel=ERROR"]);
        ssh.arg(if terminal { "-t" } else { "-T" })
            .arg(&self.host.ssh)
            .arg("--")
            .args(argv.iter().map(|word| quote(word)));
        ssh.stdin(Local::inherit())
            .stdout(Local::inherit())
            .stderr(Local::inherit());
        let status = ssh
            .status()
            .await
            .map_err(|source| here(&self.host, "`ssh` cannot be run", source))?;
        Ok(status.code().unwrap_or(KILLED))
    }

    /// Starts a command, over a new connection where the old one has gone.
    async fn spawn(&self, argv: &[&str], stdin: Feed) -> Result<Running, Error> {
        let session = Arc::clone(&*self.session.read().await);
        match start(&session, argv, stdin).await {
            Err(openssh::Error::Disconnected) => {}
            started => return started.map_err(|source| self.lost(argv, source)),
        }
        let session = self.again(&session).await?;
        start(&session, argv, stdin)
            .await
            .map_err(|source| self.lost(argv, source))
    }

    /// Opens the connection again, unless somebody else has done so already.
    async fn again(&self, gone: &Arc<Session>) -> Result<Arc<Session>, Error> {
        let mut session = self.session.write().await;
        if Arc::ptr_eq(&session, gone) {
            *session = Arc::new(self.way.open(&self.host).await?);
        }
        Ok(Arc::clone(&session))
    }

    /// Sends input, reads what comes, and waits for the end.
    async fn drive(&self, argv: &[&str], input: Input<'_>, sent: &[&str]) -> Result<Output, Error> {
        let stdin = if matches!(input.source, Source::Nothing) {
            Feed::Nothing
        } else {
            Feed::Piped
        };
        let mut child = self.spawn(sent, stdin).await?;
        let (stdin, stdout, stderr) = (
            child.stdin().take(),
            child.stdout().take(),
            child.stderr().take(),
        );
        let fed = async {
            let fed = pipes::feed(stdin, input).await;
            fed.map_err(|source| Error::Here {
                host: self.host.name.clone(),
                step: format!("reading what `{}` is sent", command(argv)),
                source,
            })
        };
        let read = async {
            let read = pipes::whole(stdout, OUTPUT)
                .await
                .map_err(|source| self.lost(argv, openssh::Error::ChildIo(source)))?;
            read.ok_or_else(|| Error::Flood {
                host: self.host.name.clone(),
                command: command(argv),
                limit: OUTPUT,
            })
        };
        let told = async {
            pipes::end(stderr)
                .await
                .map_err(|source| self.lost(argv, openssh::Error::ChildIo(source)))
        };
        let ((), stdout, stderr) = tokio::try_join!(fed, read, told)?;
        let code = self.code(argv, child.wait().await).await?;
        if code == NOT_FOUND && stderr.starts_with("timeout: ") {
            return Err(Error::Missing {
                host: self.host.name.clone(),
                program: argv.first().copied().unwrap_or_default().to_owned(),
            });
        }
        Ok(Output {
            code,
            stdout,
            stderr,
        })
    }

    /// The exit code; what ended without one was killed, or the connection was lost.
    async fn code(
        &self,
        argv: &[&str],
        ended: Result<std::process::ExitStatus, openssh::Error>,
    ) -> Result<i32, Error> {
        match ended {
            Ok(status) => Ok(status.code().unwrap_or(KILLED)),
            Err(openssh::Error::Remote(_)) => Ok(NOT_FOUND),
            Err(openssh::Error::RemoteProcessTerminated) => {
                let session = Arc::clone(&*self.session.read().await);
                match timeout(Duration::from_secs(1), session.check()).await {
                    Ok(Ok(())) => Ok(KILLED),
                    _ => Err(self.lost(argv, openssh::Error::Disconnected)),
                }
            }
            Err(source) => Err(self.lost(argv, source)),
        }
    }

    fn lost(&self, argv: &[&str], source: openssh::Error) -> Error {
        Error::Lost {
            host: self.host.name.clone(),
            command: command(argv),
            source: Some(source),
        }
    }

    fn late(&self, argv: &[&str], after: Duration) -> Error {
        Error::Late {
            host: self.host.name.clone(),
            command: command(argv),
            after,
        }
    }
}

#[async_trait]
impl Remote for Ssh {
    fn name(&self) -> &str {
        &self.host.name
    }

    async fn output(
        &self,
        argv: &[&str],
        input: Input<'_>,
        deadline: Duration,
    ) -> Result<Output, Error> {
        let since = Instant::now();
        let limit = deadline.as_secs().max(1).to_string();
        let sent = [&["timeout", "-k", KILL, limit.as_str()], argv].concat();
        let Ok(output) = timeout(deadline + GRACE, self.drive(argv, input, &sent)).await else {
            return Err(self.late(argv, deadline));
        };
        let output = output?;
        if matches!(output.code, TIMED_OUT | KILLED) && since.elapsed() >= deadline {
            return Err(self.late(argv, deadline));
        }
        Ok(output)
    }

    async fn lines(&self, argv: &[&str], each: Each<'_>) -> Result<i32, Error> {
        let sent = [&["sh", "-c", LEASH, "sovereign"], argv].concat();
        let started = timeout(LOOK, self.spawn(&sent, Feed::Piped)).await;
        let mut child = started.map_err(|_| self.late(argv, LOOK))??;
        // Held open until the end: the command lives as long as its input is not at its end.
        let leash = child.stdin().take();
        let (stdout, stderr) = (child.stdout().take(), child.stderr().take());
        pipes::lines(stdout, stderr, each)
            .await
            .map_err(|source| self.lost(argv, openssh::Error::ChildIo(source)))?;
        let ended = child.wait().await;
        drop(leash);
        self.code(argv, ended).await
    }

    async fn hold(&self, argv: &[&str], line: &str, busy: i32) -> Result<Option<Held>, Error> {
        let held = async {
            let mut child = self.spawn(argv, Feed::Piped).await?;
            match self.greet(argv, &mut child, line).await? {
                true => Ok(Some(Held {
                    beat: Some(tokio::spawn(beat(child))),
                })),
                false => self.not_held(argv, child, busy).await,
            }
        };
        timeout(LOOK, held)
            .await
            .unwrap_or_else(|_| Err(self.late(argv, LOOK)))
    }
}

impl Ssh {
    /// Writes the line and waits until it comes back; whether it does.
    async fn greet(&self, argv: &[&str], child: &mut Running, line: &str) -> Result<bool, Error> {
        let lost = |source| self.lost(argv, openssh::Error::ChildIo(source));
        let text = format!("{line}\n");
        if let Some(stdin) = child.stdin() {
            // A command that has ended already does not read: its code says why.
            let _ = stdin.write_all(text.as_bytes()).await;
        }
        let Some(stdout) = child.stdout() else {
            return Ok(false);
        };
        let mut answer = vec![0; text.len()];
        match stdout.read_exact(&mut answer).await {
            Ok(_) => Ok(answer == text.as_bytes()),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(lost(error)),
        }
    }

    async fn not_held(
        &self,
        argv: &[&str],
        mut child: Running,
        busy: i32,
    ) -> Result<Option<Held>, Error> {
        let stderr = pipes::end(child.stderr().take()).await.unwrap_or_default();
        match self.code(argv, child.wait().await).await? {
            code if code == busy => Ok(None),
            code => Err(Error::failed(
                &self.host.name,
                argv,
                &Output {
                    code,
                    stdout: Vec::new(),
                    stderr,
                },
            )),
        }
    }
}

/// Gives the command a sign of life now and then, until it ends.
async fn beat(mut child: Running) {
    let (Some(mut stdin), Some(mut stdout)) = (child.stdin().take(), child.stdout().take()) else {
        return;
    };
    let mut echo = [0; 64];
    loop {
        tokio::select! {
            () = tokio::time::sleep(BEAT) => if stdin.write_all(b"\n").await.is_err() { return },
            read = stdout.read(&mut echo) => if !matches!(read, Ok(1..)) { return },
        }
    }
}

/// What a command's input is.
#[derive(Debug, Clone, Copy)]
enum Feed {
    Nothing,
    Piped,
}

async fn start(
    session: &Arc<Session>,
    argv: &[&str],
    stdin: Feed,
) -> Result<Running, openssh::Error> {
    let (program, arguments) = argv.split_first().ok_or(openssh::Error::InvalidCommand)?;
    let mut command = Session::to_command(Arc::clone(session), *program);
    command
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.stdin(match stdin {
        Feed::Nothing => Stdio::null(),
        Feed::Piped => Stdio::piped(),
    });
    command.spawn().await
}

/// A word as a POSIX shell reads it unchanged.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests;
