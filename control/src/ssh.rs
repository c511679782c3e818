//! A connection to a host through the system's OpenSSH, and what is done through it: commands as lists of
//! arguments, each with a deadline. Stands alone so that everything above it speaks to a `Remote`, which in tests is
//! a double.

// What went wrong, in the operator's words, and the way out.
mod error;
// What a command reads.
mod input;
// Host keys: who a host is before it is trusted.
pub mod keys;
// What every connection goes by.
mod config;
// Opening connections.
mod connect;
// Commands over a connection.
mod session;
// A host that answers as a test has written down.
#[cfg(test)]
pub mod double;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sovereign_config::stack::model;

pub use connect::Access;
pub use error::{Error, Refusal, seconds};
pub use input::{Input, Progress};
pub use session::Ssh;

/// How long a connection may take until commands can be sent over it: a host that does not answer is given up sooner;
/// this has room for a hand that goes to a hardware key.
pub const CONNECT: Duration = Duration::from_secs(20);
/// How long a command may take that only looks.
pub const LOOK: Duration = Duration::from_secs(15);
/// What a command may print, unless it is read as a stream; more of it is an error.
pub const OUTPUT: usize = 64 << 20;

/// How long so many bytes may take on a slow line.
pub fn transfer(bytes: u64) -> Duration {
    const SLOW: u64 = 64 << 10;
    Duration::from_secs(120 + bytes / SLOW)
}

/// Is told each line of what a command prints.
pub type Each<'a> = &'a mut (dyn FnMut(&str) + Send + 'a);

/// Opens connections to hosts.
#[async_trait]
pub trait Connect: Send + Sync {
    /// A connection to this host; the one that is open already, where one is.
    async fn connect(&self, host: &model::Host) -> Result<Arc<dyn Remote>, Error>;
}

/// A host that runs commands.
#[async_trait]
pub trait Remote: Send + Sync {
    /// The name of the host, as `stack.toml` has it.
    fn name(&self) -> &str;

    /// Runs a command to its end. A code other than 0 is in the answer, not an error. Where the deadline passes, the
    /// command is ended on the host too.
    async fn output(
        &self,
        argv: &[&str],
        input: Input<'_>,
        deadline: Duration,
    ) -> Result<Output, Error>;

    /// Runs a command to its end; a code other than 0 is an error with what the host said.
    async fn run(
        &self,
        argv: &[&str],
        input: Input<'_>,
        deadline: Duration,
    ) -> Result<Output, Error> {
        let output = self.output(argv, input, deadline).await?;
        match output.code {
            0 => Ok(output),
            _ => Err(Error::failed(self.name(), argv, &output)),
        }
    }

    /// Runs a command and hands on what it prints, standard output and error, line by line; gives its code. It is
    /// ended on the host when this is dropped.
    async fn lines(&self, argv: &[&str], each: Each<'_>) -> Result<i32, Error>;

    /// Starts a command that repeats its first line of input, as `tee` does, and keeps it running for as long as what
    /// this gives is held. Gives nothing where it ended before that, with `busy` as its code.
    async fn hold(&self, argv: &[&str], line: &str, busy: i32) -> Result<Option<Held>, Error>;
}

/// What a command left.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    /// Its exit code.
    pub code: i32,
    /// What it printed, whole.
    pub stdout: Vec<u8>,
    /// The last of what it printed on standard error, for messages.
    pub stderr: String,
}

impl Output {
    /// What it printed, as text, without the newline at its end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }
}

/// A command that runs on a host for as long as this is held; it ends with this process, however that ends.
#[derive(Debug)]
pub struct Held {
    /// Writes a sign of life now and then; dropping it closes the command's input.
    beat: Option<tokio::task::JoinHandle<()>>,
}

impl Held {
    /// One that holds nothing, for a double.
    pub fn nothing() -> Self {
        Self { beat: None }
    }

    /// Whether the command still runs, as far as is known.
    pub fn holds(&self) -> bool {
        self.beat.as_ref().is_none_or(|beat| !beat.is_finished())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(beat) = &self.beat {
            beat.abort();
        }
    }
}
