//! The program under test, run as an operator runs it: by its command line and a configuration file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::client::Target;
use crate::lab::Lab;
use crate::port::free_address;
use crate::process::Process;
use crate::wait::{eventually, within};

/// Longer than any command takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `sovereign-proxy`.
#[derive(Debug)]
pub struct Proxy {
    /// What it was started with, without the sites.
    frame: String,
    config: PathBuf,
    state: PathBuf,
    http: SocketAddr,
    https: SocketAddr,
    launch: Launch,
    /// Where the two outputs of all its lives go.
    logs: (PathBuf, PathBuf),
    process: Option<Process>,
}

/// How the program is started, beside its configuration.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// What goes before the command line: a program that runs another one, and its arguments.
    pub launcher: Vec<OsString>,
    /// Variables added to the environment.
    pub environment: Vec<(&'static str, OsString)>,
}

impl Launch {
    /// Starts the program on a configuration file.
    fn start(&self, lab: &Lab, config: &Path) -> Process {
        let name = config.parent().map(name_of).unwrap_or_default();
        let mut line = self.launcher.iter().cloned().chain([program().into()]);
        let first = line.next().unwrap_or_default();
        Process::start(lab, &name, first, |command| {
            command
                .args(line)
                .args(["run", "--config"])
                .arg(config)
                .envs(self.environment.iter().map(|(name, value)| (name, value)));
        })
    }
}

impl Proxy {
    /// Starts one. `sites` is the configuration from the first table on: `[[site]]`, and `[cache]`,
    /// `[limits]` where a session wants them otherwise.
    pub async fn start(lab: &Lab, sites: &str) -> Self {
        Self::start_with(lab, "", sites).await
    }

    /// The same, with keys of the top level.
    pub async fn start_with(lab: &Lab, top: &str, sites: &str) -> Self {
        Self::start_in(lab, &[], top, sites).await
    }

    /// The same, with variables added to its environment.
    pub async fn start_in(
        lab: &Lab,
        environment: &[(&'static str, &Path)],
        top: &str,
        sites: &str,
    ) -> Self {
        let launch = Launch {
            environment: environment
                .iter()
                .map(|(name, value)| (*name, value.into()))
                .collect(),
            ..Launch::default()
        };
        let mut proxy = Self::prepare(lab, launch, top, sites);
        proxy.start_again(lab).await;
        proxy
    }

    /// Everything of a proxy but its process: a session changes what it will find, then starts it with
    /// [`Proxy::start_again`].
    pub fn prepare(lab: &Lab, launch: Launch, top: &str, sites: &str) -> Self {
        // Where nothing is served over TLS there is nothing to listen for.
        let in_tls = sites.matches("[[site]]").count() > sites.matches("tls = \"off\"").count();
        Self::prepare_with(lab, launch, top, sites, in_tls)
    }

    /// The same for sites that are yet to be written, some of them in TLS: what they name may have to
    /// know the proxy's ports.
    pub fn prepare_empty(lab: &Lab, launch: Launch) -> Self {
        Self::prepare_with(lab, launch, "", "", true)
    }

    fn prepare_with(lab: &Lab, launch: Launch, top: &str, sites: &str, in_tls: bool) -> Self {
        let folder = lab.folder("proxy");
        let (http, https) = (free_address(), free_address());
        let state = folder.join("state");
        let secure = match in_tls {
            true => format!("https = [\"{https}\"]"),
            false => String::new(),
        };
        let frame = format!(
            r#"state = "{state}"
admin = "unix:{state}/admin.sock"
{top}

[listen]
http = ["{http}"]
{secure}

[log]
access = "stdout"
format = "json"
"#,
            state = state.display()
        );
        let config = folder.join("proxy.toml");
        fs::write(&config, format!("{frame}\n{sites}")).expect("the folder is ours");
        Self {
            frame,
            config,
            state,
            http,
            https,
            launch,
            logs: lab.logs_of(&name_of(&folder)),
            process: None,
        }
    }

    /// Starts it, with its own configuration, state and addresses, and waits until it is ready.
    pub async fn start_again(&mut self, lab: &Lab) {
        let process = self.process.insert(self.launch.start(lab, &self.config));
        let socket = self.state.join("admin.sock");
        eventually("the proxy is ready", PATIENCE, || {
            process.assert_running();
            admin(socket.clone(), "/status")
        })
        .await;
    }

    /// The same, waiting no longer than until it takes connections.
    pub async fn start_again_at_once(&mut self, lab: &Lab) {
        let process = self.process.insert(self.launch.start(lab, &self.config));
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(self.http).await.is_err() {
            process.assert_running();
            assert!(Instant::now() < end, "the proxy takes no connections");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Kills it, with no chance to do anything more, and whatever has come of it by upgrades; gives
    /// back once nothing of it runs.
    pub async fn kill(&mut self) {
        let process = self.process.take().expect("the proxy has been started");
        // The whole group is killed with the guard.
        drop(process);
        eventually("nobody listens any more", PATIENCE, || async {
            match TcpStream::connect(self.http).await {
                Ok(_) => Err("somebody does"),
                Err(_) => Ok(()),
            }
        })
        .await;
    }

    /// Asks it to end as a service manager does, and waits until it has, without an error.
    pub async fn stop(&mut self) {
        let process = self.process.take().expect("the proxy has been started");
        let status = process.stop(PATIENCE).await;
        assert!(
            status.success(),
            "the proxy ended with {status}: {}",
            self.log()
        );
    }

    /// Its plain address, asked for `host`.
    pub fn http(&self, host: &str) -> Target {
        Target::plain(self.http, host)
    }

    /// Its TLS address, asked for `host`; the proxy's own authority is trusted, and nobody else.
    pub fn https(&self, host: &str) -> Target {
        Target::tls(self.https, host, &self.root_ca())
    }

    /// Its ports: plain, and TLS.
    pub fn ports(&self) -> (u16, u16) {
        (self.http.port(), self.https.port())
    }

    /// Where it listens for TLS.
    pub fn secure_address(&self) -> SocketAddr {
        self.https
    }

    /// The certificate of its local authority.
    pub fn root_ca(&self) -> PathBuf {
        self.state.join("ca/root.pem")
    }

    /// Its folder of certificates, keys and sockets.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Its configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The folder of the durable cache.
    pub fn cache(&self) -> PathBuf {
        self.state.join("cache")
    }

    /// Replaces the sites in the configuration file; nothing else happens until a reload.
    pub fn write_sites(&self, sites: &str) {
        fs::write(&self.config, format!("{}\n{sites}", self.frame)).expect("the folder is ours");
    }

    /// Runs a command of the program on this proxy's configuration, whatever comes of it.
    pub async fn command(&self, arguments: &[&str]) -> Output {
        let config = self.config.to_str().expect("the path is text");
        cli(&[arguments, &["--config", config]].concat()).await
    }

    /// `sovereign-proxy reload`, which has to succeed.
    pub async fn reload(&self) {
        succeed("reload", &self.command(&["reload"]).await);
    }

    /// `sovereign-proxy upgrade`, which has to succeed.
    pub async fn upgrade(&self) {
        succeed("upgrade", &self.command(&["upgrade"]).await);
    }

    /// `sovereign-proxy drain`, which has to succeed.
    pub async fn drain(&self) {
        succeed("drain", &self.command(&["drain"]).await);
    }

    /// `sovereign-proxy status --json`.
    pub async fn status(&self) -> Value {
        let output = self.command(&["status", "--json"]).await;
        succeed("status --json", &output);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!(
                "status --json is not JSON ({error}): {}",
                String::from_utf8_lossy(&output.stdout)
            )
        })
    }

    /// The process that serves now, which after an upgrade is another one.
    pub async fn pid(&self) -> Pid {
        let status = self.status().await;
        status["pid"]
            .as_i64()
            .and_then(|pid| Pid::from_raw(pid as i32))
            .unwrap_or_else(|| panic!("status names no pid: {status}"))
    }

    /// The process that was started: the launcher, where there is one.
    pub fn started(&self) -> Pid {
        let process = self.process.as_ref().expect("the proxy has been started");
        process.id()
    }

    /// An answer of the admin API, as JSON.
    pub async fn admin(&self, path: &str) -> Value {
        let answer = self.try_admin(path).await;
        answer.unwrap_or_else(|error| panic!("admin {path}: {error}"))
    }

    /// The same of a daemon that may not be there, or not yet.
    pub async fn try_admin(&self, path: &str) -> Result<Value, String> {
        let body = admin(self.state.join("admin.sock"), path).await?;
        serde_json::from_str(&body).map_err(|error| format!("not JSON ({error}): {body}"))
    }

    /// All its metrics, as text.
    pub async fn metrics(&self) -> String {
        let answer = admin(self.state.join("admin.sock"), "/metrics").await;
        answer.unwrap_or_else(|error| panic!("admin /metrics: {error}"))
    }

    /// A number among its metrics.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.metrics().await;
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .and_then(|number| number.trim().parse().ok())
    }

    /// The access log so far: one object a request.
    pub fn access_log(&self) -> Vec<Value> {
        json_lines(&self.logs.0)
            .into_iter()
            .filter(|line| line.get("status").is_some())
            .collect()
    }

    /// The access log's lines for one path, once there is one: a line is written after its answer.
    pub async fn logged(&self, path: &str) -> Vec<Value> {
        eventually(
            &format!("a line of the access log for {path}"),
            Duration::from_secs(10),
            || {
                let lines: Vec<_> = self
                    .access_log()
                    .into_iter()
                    .filter(|line| {
                        line.as_object().is_some_and(|fields| {
                            fields.values().any(|value| value.as_str() == Some(path))
                        })
                    })
                    .collect();
                std::future::ready(if lines.is_empty() {
                    Err("none yet")
                } else {
                    Ok(lines)
                })
            },
        )
        .await
    }

    /// What the daemon says about itself.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.logs.1).unwrap_or_default()
    }

    /// Fails the test where the daemon has panicked.
    pub fn assert_no_panic(&self) {
        let log = self.log();
        assert!(!log.contains("panicked at"), "the proxy panicked:\n{log}");
    }

    /// Sends a signal to the process that serves now.
    pub async fn signal(&self, signal: Signal) {
        kill_process(self.pid().await, signal).expect("the proxy runs");
    }

    /// Waits until the process that was started ends, and gives its exit code (128 + n for signal n).
    pub async fn ended(&mut self, deadline: Duration) -> i32 {
        let process = self.process.as_mut().expect("the proxy has been started");
        let status = process.wait(deadline).await;
        status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal))
            .expect("it ended by one or the other")
    }

    /// Asks it to end as a service manager does, and gives the exit code.
    pub async fn terminate(mut self, deadline: Duration) -> i32 {
        let process = self.process.as_ref().expect("the proxy has been started");
        process.signal(Signal::TERM);
        self.ended(deadline).await
    }

    /// What the process that serves now holds in memory for itself, in bytes.
    pub async fn memory(&self) -> u64 {
        memory_of(self.pid().await)
    }
}

/// What a process holds in memory for itself, in bytes. The pages of the program's own file do not count: in a
/// build for tests they are most of it, and the kernel may take them back.
pub fn memory_of(process: Pid) -> u64 {
    let pid = process.as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .expect("the kernel counts memory");
    let kib: u64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("the kernel writes numbers");
    kib * 1024
}

/// Runs the program with these arguments, to its end.
pub async fn cli(arguments: &[&str]) -> Output {
    let what = format!("sovereign-proxy {}", arguments.join(" "));
    let mut command = tokio::process::Command::from(Command::new(program()));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    within(&what, PATIENCE, command.output())
        .await
        .unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// One `[[site]]`, on a certificate of the local authority, in front of `upstream`; `more` is added.
pub fn site(host: &str, upstream: &str, more: &str) -> String {
    format!(
        "[[site]]\nnames = [\"{host}\"]\ntls = \"local\"\nupstream = [\"{upstream}\"]\n{more}\n"
    )
}

/// What a command said, as text: standard output, then standard error.
pub fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The program: `SOVEREIGN_PROXY`, or the one that was built beside this test.
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("SOVEREIGN_PROXY") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    test.ancestors()
        .skip(1)
        .map(|folder| folder.join("sovereign-proxy"))
        .find(|program| program.is_file())
        .unwrap_or_else(|| {
            panic!(
                "sovereign-proxy has not been built beside {}: `cargo build --workspace --bins`, or run `tests/run`",
                test.display()
            )
        })
}

/// The last part of a folder's path.
fn name_of(folder: &Path) -> String {
    folder
        .file_name()
        .map_or(String::new(), |name| name.to_string_lossy().into_owned())
}

fn succeed(what: &str, output: &Output) {
    assert!(
        output.status.success(),
        "{what}: {}\n{}",
        output.status,
        said(output)
    );
}

fn json_lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// The body of an answer of the admin API.
async fn admin(socket: PathBuf, path: &str) -> Result<String, String> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = exchange.await.map_err(|error| error.to_string())?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(unchunked(head, body)),
        _ => Err(answer),
    }
}

/// The body without its chunk borders, where it has them.
fn unchunked(head: &str, body: &str) -> String {
    let fields: BTreeMap<_, _> = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    if fields.get("transfer-encoding").map(String::as_str) != Some("chunked") {
        return body.to_owned();
    }
    let mut whole = String::new();
    let mut rest = body;
    while let Some((size, after)) = rest.split_once("\r\n") {
        let Ok(size @ 1..) = usize::from_str_radix(size.trim(), 16) else {
            break;
        };
        whole.push_str(&after[..size]);
        rest = after[size..].trim_start_matches("\r\n");
    }
    whole
}
