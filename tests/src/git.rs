//! Git over HTTP at both ends: repositories served by Git's own `http-backend`, as a forge serves them, and the
//! program `git` as a person runs it.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{ChildStdin, ChildStdout, Command};

use crate::client::{Body, Target};
use crate::lab::{Lab, system_program};
use crate::origin::Origin;
use crate::wait::within;

/// Longer than Git takes for anything here.
const PATIENCE: Duration = Duration::from_secs(300);

/// Serves the bare repositories of a folder, without a question who somebody is.
pub async fn serve(folder: &Path) -> Origin {
    let folder: Arc<Path> = folder.into();
    Origin::start(move |request| backend(folder.clone(), request)).await
}

/// Runs `git http-backend` (CGI, RFC 3875) on a request, both bodies streamed.
async fn backend(folder: Arc<Path>, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let field = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let mut command = git();
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", &*folder)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", head.method.as_str())
        .env("PATH_INFO", head.uri.path())
        .env("QUERY_STRING", head.uri.query().unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    for (variable, name) in [
        ("CONTENT_TYPE", "content-type"),
        ("CONTENT_LENGTH", "content-length"),
        ("HTTP_CONTENT_ENCODING", "content-encoding"),
        ("GIT_PROTOCOL", "git-protocol"),
    ] {
        if let Some(value) = field(name) {
            command.env(variable, value);
        }
    }
    let mut child = command.spawn().expect("git starts");
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    tokio::spawn(feed(body, stdin.expect("it is piped")));
    let answer = answer(BufReader::new(stdout.expect("it is piped"))).await;
    // It is waited for, so that nothing is left of it.
    tokio::spawn(async move { child.wait().await });
    answer
}

async fn feed(mut body: Incoming, mut stdin: ChildStdin) {
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else {
            continue;
        };
        // A program that has heard enough is no concern of the client's.
        if stdin.write_all(&data).await.is_err() {
            return;
        }
    }
}

async fn answer(mut stdout: BufReader<ChildStdout>) -> Response<Body> {
    let mut answer = Response::new(());
    loop {
        let mut line = String::new();
        stdout
            .read_line(&mut line)
            .await
            .expect("a CGI head is text");
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        if name == "Status" {
            let status = value.split(' ').next().and_then(|code| code.parse().ok());
            *answer.status_mut() = status.unwrap_or(StatusCode::BAD_GATEWAY);
        } else {
            let name: HeaderName = name.parse().expect("a field's name");
            let value: HeaderValue = value.parse().expect("a field's value");
            answer.headers_mut().append(name, value);
        }
    }
    let pieces = stream::unfold(stdout, |mut stdout| async move {
        let mut piece = vec![0; 64 << 10];
        match stdout.read(&mut piece).await {
            Ok(0) => None,
            Ok(length) => {
                piece.truncate(length);
                Some((Ok(Frame::data(Bytes::from(piece))), stdout))
            }
            Err(error) => Some((Err(error), stdout)),
        }
    });
    answer.map(|()| StreamBody::new(pieces).boxed_unsync())
}

/// Somebody who works with Git.
pub struct Person {
    home: PathBuf,
    /// Arguments before the command.
    standing: Vec<String>,
}

impl Person {
    /// One who reaches a forge at `target`, over HTTP in this version (`HTTP/1.1`, `HTTP/2`), and trusts `roots`.
    pub fn new(lab: &Lab, target: &Target, roots: &Path, version: &str) -> Self {
        let (host, address) = (&target.host, target.address);
        let settings = [
            format!(
                "http.curloptResolve={host}:{}:{}",
                address.port(),
                address.ip()
            ),
            format!("http.sslCAInfo={}", roots.display()),
            format!("http.version={version}"),
            "http.proxy=".to_owned(),
            "user.name=Ada".to_owned(),
            "user.email=ada@forge.test".to_owned(),
            // What is sent is random: nobody is to spend time on making it smaller.
            "core.compression=0".to_owned(),
            "core.bigFileThreshold=1m".to_owned(),
        ];
        let standing = settings.into_iter().flat_map(|one| ["-c".to_owned(), one]);
        Self {
            home: lab.folder("person"),
            standing: standing.collect(),
        }
    }

    /// Where the work lies.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Runs `git`, which has to succeed.
    pub async fn git(&self, arguments: &[&str]) -> Output {
        let what = format!("git {}", arguments.join(" "));
        let mut command = git();
        command
            .args(&self.standing)
            .args(arguments)
            .current_dir(&self.home)
            .stdin(Stdio::null());
        let output = within(&what, PATIENCE, command.output()).await;
        let output = output.expect("git starts");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{what}: {told}");
        output
    }
}

/// Git, with no settings of this machine's.
fn git() -> Command {
    let mut command = Command::new(system_program("git"));
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"GIT_") {
            command.env_remove(name);
        }
    }
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .kill_on_drop(true);
    command
}
