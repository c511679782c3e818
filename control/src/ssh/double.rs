//! Hosts for tests: one that answers as it is told and writes down what it was asked, and one that is this machine, so
//! that the commands themselves are tried.

use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::input::Source;
use super::{Each, Error, Held, Input, Output, Remote};

/// A host that answers as it is told.
#[derive(Debug, Default)]
pub struct Double {
    name: String,
    answers: Mutex<Vec<(String, Answer)>>,
    asked: Mutex<Vec<Asked>>,
}

/// What it answers.
#[derive(Debug, Clone)]
enum Answer {
    Output(Output),
    Cut,
    Missing,
}

/// What it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The arguments, with a space between.
    pub argv: String,
    /// What was sent.
    pub input: Vec<u8>,
}

impl Double {
    /// A host of this name, which says yes to everything, in no words.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Answers commands that begin like this; the last one told wins.
    pub fn on(self, begins: &str, stdout: &str) -> Self {
        self.with(
            begins,
            Answer::Output(Output {
                stdout: stdout.into(),
                ..Output::default()
            }),
        )
    }

    /// Fails commands that begin like this.
    pub fn fails(self, begins: &str, code: i32, stderr: &str) -> Self {
        self.with(
            begins,
            Answer::Output(Output {
                code,
                stderr: stderr.to_owned(),
                ..Output::default()
            }),
        )
    }

    /// The connection is lost during commands that begin like this.
    pub fn cut(self, begins: &str) -> Self {
        self.with(begins, Answer::Cut)
    }

    /// There is no such program.
    pub fn lacks(self, begins: &str) -> Self {
        self.with(begins, Answer::Missing)
    }

    /// Everything that it was asked, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The commands that it was asked, in order.
    pub fn commands(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.argv).collect()
    }

    fn with(self, begins: &str, answer: Answer) -> Self {
        self.answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((begins.to_owned(), answer));
        self
    }

    fn answer(&self, argv: &[&str], input: Vec<u8>) -> Result<Output, Error> {
        let line = argv.join(" ");
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = answers
            .iter()
            .rev()
            .find(|(begins, _)| line.starts_with(begins))
            .map(|(_, answer)| answer.clone());
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Asked {
                argv: line.clone(),
                input,
            });
        match answer {
            None => Ok(Output::default()),
            Some(Answer::Output(output)) => Ok(output),
            Some(Answer::Cut) => Err(Error::Lost {
                host: self.name.clone(),
                command: line,
                source: None,
            }),
            Some(Answer::Missing) => Err(Error::Missing {
                host: self.name.clone(),
                program: argv[0].to_owned(),
            }),
        }
    }
}

#[async_trait]
impl Remote for Double {
    fn name(&self) -> &str {
        &self.name
    }

    async fn output(&self, argv: &[&str], input: Input<'_>, _: Duration) -> Result<Output, Error> {
        let input = bytes(input).await;
        self.answer(argv, input)
    }

    async fn lines(&self, argv: &[&str], each: Each<'_>) -> Result<i32, Error> {
        let output = self.answer(argv, Vec::new())?;
        output.text().lines().for_each(each);
        Ok(output.code)
    }

    async fn hold(&self, argv: &[&str], line: &str, busy: i32) -> Result<Option<Held>, Error> {
        let output = self.answer(argv, line.into())?;
        match output.code {
            0 => Ok(Some(Held::nothing())),
            code if code == busy => Ok(None),
            _ => Err(Error::failed(&self.name, argv, &output)),
        }
    }
}

/// This machine, as if it were a host.
#[derive(Debug)]
pub struct Here;

#[async_trait]
impl Remote for Here {
    fn name(&self) -> &str {
        "here"
    }

    async fn output(&self, argv: &[&str], input: Input<'_>, _: Duration) -> Result<Output, Error> {
        let input = bytes(input).await;
        let mut child = start(argv);
        let mut stdin = child.stdin.take().expect("it is piped");
        let (_, output) = tokio::join!(
            async {
                let _ = stdin.write_all(&input).await;
                drop(stdin);
            },
            child.wait_with_output()
        );
        let output = output.expect("it ends");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(Output {
            code: output.status.code().unwrap_or(137),
            stdout: output.stdout,
            stderr,
        })
    }

    async fn lines(&self, argv: &[&str], each: Each<'_>) -> Result<i32, Error> {
        let output = self.output(argv, Input::nothing(), Duration::ZERO).await?;
        output.text().lines().for_each(each);
        Ok(output.code)
    }

    async fn hold(&self, argv: &[&str], line: &str, busy: i32) -> Result<Option<Held>, Error> {
        let mut child = start(argv);
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin
            .write_all(format!("{line}\n").as_bytes())
            .await
            .expect("it is written");
        let mut answer = vec![0; line.len() + 1];
        let greeted = child
            .stdout
            .as_mut()
            .expect("it is piped")
            .read_exact(&mut answer)
            .await
            .is_ok();
        if greeted {
            let beat = tokio::spawn(async move {
                let _kept = (stdin, child.wait().await);
            });
            return Ok(Some(Held { beat: Some(beat) }));
        }
        drop(stdin);
        let code = child.wait().await.expect("it ends").code().unwrap_or(137);
        assert_eq!(code, busy, "{argv:?}");
        Ok(None)
    }
}

fn start(argv: &[&str]) -> tokio::process::Child {
    let mut command = Command::new(argv[0]);
    command
        .args(&argv[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command.spawn().expect("the program is there")
}

/// Everything that a command would read.
pub async fn bytes(input: Input<'_>) -> Vec<u8> {
    let mut all = Vec::new();
    match input.source {
        Source::Nothing => {}
        Source::Bytes(bytes) => all.extend_from_slice(bytes),
        Source::File(path) => all = std::fs::read(path).expect("it is there"),
        Source::Stream(mut stream) => {
            stream.read_to_end(&mut all).await.expect("it is read");
        }
    }
    if let Some(progress) = input.progress {
        progress(all.len() as u64);
    }
    all
}

/// A host of `stack.toml`, as plain as can be.
pub fn host(name: &str) -> sovereign_config::stack::model::Host {
    use sovereign_config::stack::model::{Engine, Host, ProxyAs};
    Host {
        name: name.to_owned(),
        datacentre: "home".to_owned(),
        ssh: format!("root@{name}"),
        port: None,
        address: name.to_owned(),
        engine: Engine::Docker,
        proxy: ProxyAs::Systemd,
    }
}
