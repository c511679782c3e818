//! Questions, and what is typed. Where nobody can be asked, that is an error which names the flag that answers.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;

use age::secrecy::SecretString;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::{Printer, clean};

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unasked {
    /// There is no terminal to ask at.
    #[error("there is no terminal to ask at: {question}")]
    NoTerminal {
        /// What was to be asked.
        question: String,
        /// The way out.
        way: Option<String>,
    },
    /// The answer was no.
    #[error("nothing was changed: the answer was no")]
    No,
    /// Another name was typed.
    #[error("nothing was changed: that is not the name `{name}`")]
    OtherName {
        /// The one that was asked for.
        name: String,
    },
    /// The question was broken off.
    #[error("broken off")]
    Interrupted,
    /// The terminal does not work.
    #[error("asking at the terminal")]
    Terminal(#[source] io::Error),
    /// What was typed is too long.
    #[error("what was typed has more than {LONGEST} bytes")]
    Long,
}

impl Unasked {
    /// The way out.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoTerminal { way, .. } => way.clone(),
            _ => None,
        }
    }
}

impl Printer {
    /// Whether there is somebody to ask.
    pub fn can_ask(&self) -> bool {
        let caught = self.with_caught(|caught| !caught.answers.is_empty());
        caught.unwrap_or_else(|| io::stdin().is_terminal() && io::stderr().is_terminal())
    }

    /// Whether to go on. `way` names the flag that says so beforehand.
    pub async fn confirm(&self, question: &str, way: &str) -> Result<(), Unasked> {
        match self.ask_whether(question, way).await? {
            true => Ok(()),
            false => Err(Unasked::No),
        }
    }

    /// Has the name of something typed, before it is destroyed.
    pub async fn confirm_name(&self, what: &str, name: &str, way: &str) -> Result<(), Unasked> {
        let answer = self
            .line(format!("{what}\nType `{name}` to go on: "), way)
            .await?;
        if answer == name {
            Ok(())
        } else {
            Err(Unasked::OtherName {
                name: name.to_owned(),
            })
        }
    }

    /// A text; an empty answer is the default. Where there is none, it is asked until there is an answer.
    pub async fn ask(
        &self,
        question: &str,
        default: Option<&str>,
        way: &str,
    ) -> Result<String, Unasked> {
        let asked = match default {
            Some(default) => format!("{question} [{default}] "),
            None => format!("{question} "),
        };
        loop {
            let answer = self.line(asked.clone(), way).await?;
            match default {
                Some(default) if answer.is_empty() => return Ok(default.to_owned()),
                None if answer.is_empty() => {}
                _ => return Ok(answer),
            }
        }
    }

    /// Yes, or no where nothing is typed.
    pub async fn ask_whether(&self, question: &str, way: &str) -> Result<bool, Unasked> {
        let answer = self.line(format!("{question} [y/N] "), way).await?;
        Ok(["y", "yes"].contains(&answer.to_ascii_lowercase().as_str()))
    }

    /// Something that is not shown while it is typed.
    pub async fn ask_secret(&self, question: &str, way: &str) -> Result<SecretString, Unasked> {
        let (printer, question, way) = (self.clone(), question.to_owned(), way.to_owned());
        aside(move || printer.secret_now(&question, &way)).await
    }

    async fn line(&self, question: String, way: &str) -> Result<String, Unasked> {
        let (printer, way) = (self.clone(), way.to_owned());
        aside(move || printer.line_now(&question, &way)).await
    }

    /// Asks on this thread, which waits meanwhile.
    pub(crate) fn line_now(&self, question: &str, way: &str) -> Result<String, Unasked> {
        if !self.can_ask() {
            return Err(no_terminal(question, way));
        }
        if let Some(answer) = self.answer() {
            self.tell(&format!("{}\n", clean(question)));
            return answer;
        }
        let mut line = String::new();
        // The bars stand aside from the question to the answer.
        let read = self.0.bars.suspend(|| {
            io::stderr().write_all(clean(question).as_bytes())?;
            let stdin = io::stdin().lock();
            stdin.take(LONGEST as u64).read_line(&mut line)
        });
        match read {
            Ok(0) => Err(Unasked::Interrupted),
            Ok(_) => Ok(line.trim().to_owned()),
            Err(error) => Err(Unasked::Terminal(error)),
        }
    }

    /// The same, for what is not shown. It is asked at the terminal itself: standard input may be a file.
    pub(crate) fn secret_now(&self, question: &str, way: &str) -> Result<SecretString, Unasked> {
        if self.0.caught.is_some() {
            let answer = self.answer().filter(Result::is_ok);
            let answer = answer.unwrap_or_else(|| Err(no_terminal(question, way)));
            return answer.map(SecretString::from);
        }
        let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty");
        let terminal = terminal.map_err(|_| no_terminal(question, way))?;
        self.0
            .bars
            .suspend(|| Silent::start(terminal)?.read(&clean(question)))
    }

    fn answer(&self) -> Option<Result<String, Unasked>> {
        let next = self.with_caught(|caught| caught.answers.pop_front())?;
        Some(next.ok_or(Unasked::Interrupted))
    }
}

/// On a thread that may wait.
async fn aside<T: Send + 'static>(
    what: impl FnOnce() -> Result<T, Unasked> + Send + 'static,
) -> Result<T, Unasked> {
    let done = tokio::task::spawn_blocking(what).await;
    done.unwrap_or_else(|error| Err(Unasked::Terminal(io::Error::other(error))))
}

fn no_terminal(question: &str, way: &str) -> Unasked {
    let question = question
        .trim()
        .trim_end_matches("[y/N]")
        .trim_end_matches(':')
        .trim_end();
    let way = Some(way.to_owned()).filter(|way| !way.is_empty());
    Unasked::NoTerminal {
        question: question.replace('\n', " "),
        way,
    }
}

/// A terminal that shows nothing of what is typed, until this is dropped. It hands on each key at once, Ctrl-C too, so
/// that the terminal is put right before anything ends.
struct Silent {
    terminal: File,
    before: Termios,
}

impl Silent {
    fn start(terminal: File) -> Result<Self, Unasked> {
        let failed = |error: rustix::io::Errno| Unasked::Terminal(error.into());
        let before = tcgetattr(terminal.as_fd()).map_err(failed)?;
        let mut silent = before.clone();
        silent
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(terminal.as_fd(), OptionalActions::Flush, &silent).map_err(failed)?;
        Ok(Self { terminal, before })
    }

    fn read(mut self, question: &str) -> Result<SecretString, Unasked> {
        let failed = Unasked::Terminal;
        self.terminal
            .write_all(question.as_bytes())
            .map_err(failed)?;
        let mut typed = Zeroizing::new(Vec::with_capacity(LONGEST));
        loop {
            let mut key = [0];
            let read = self.terminal.read(&mut key).map_err(failed)?;
            match Key::of(key[0]) {
                _ if read == 0 => return Err(self.ended(Unasked::Interrupted)),
                Key::Break => return Err(self.ended(Unasked::Interrupted)),
                Key::Enter => break,
                Key::Back => back(&mut typed),
                Key::Clear => typed.clear(),
                Key::Other(_) if typed.len() == LONGEST => return Err(self.ended(Unasked::Long)),
                Key::Other(byte) => typed.push(byte),
            }
        }
        let text = std::str::from_utf8(&typed).map(SecretString::from);
        let not_text =
            |_| Unasked::Terminal(io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"));
        self.newline();
        text.map_err(not_text)
    }

    fn ended(&mut self, why: Unasked) -> Unasked {
        self.newline();
        why
    }

    fn newline(&mut self) {
        let _ = self.terminal.write_all(b"\n");
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal.as_fd(), OptionalActions::Flush, &self.before);
    }
}

/// What a key means.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    Enter,
    Back,
    Clear,
    Break,
    Other(u8),
}

impl Key {
    fn of(byte: u8) -> Self {
        match byte {
            b'\n' | b'\r' => Self::Enter,
            0x08 | 0x7f => Self::Back,
            0x15 => Self::Clear,
            0x00 | 0x03 | 0x04 | 0x1c => Self::Break,
            other => Self::Other(other),
        }
    }
}

/// Takes back a character, which may have several bytes.
fn back(typed: &mut Vec<u8>) {
    while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
}

/// The most that is typed at once, in bytes.
const LONGEST: usize = 4096;
