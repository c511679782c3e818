//! What a command on a host reads from its standard input. Stands alone so that a caller need not care how it gets
//! there.

use std::fmt;
use std::path::Path;

use tokio::io::AsyncRead;

/// Is told how many bytes were sent so far.
pub type Progress<'a> = &'a (dyn Fn(u64) + Send + Sync);

/// What a command reads.
#[derive(Default)]
pub struct Input<'a> {
    /// Where it comes from.
    pub(super) source: Source<'a>,
    /// Who is told.
    pub(super) progress: Option<Progress<'a>>,
}

/// Where input comes from.
#[derive(Default)]
pub(super) enum Source<'a> {
    /// Nowhere.
    #[default]
    Nothing,
    /// Memory.
    Bytes(&'a [u8]),
    /// A file of this machine.
    File(&'a Path),
    /// A stream.
    Stream(Box<dyn AsyncRead + Send + Unpin + 'a>),
}

impl<'a> Input<'a> {
    /// Nothing.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// These bytes.
    pub fn bytes(bytes: &'a [u8]) -> Self {
        Self {
            source: Source::Bytes(bytes),
            progress: None,
        }
    }

    /// A file of this machine, as a stream.
    pub fn file(path: &'a Path) -> Self {
        Self {
            source: Source::File(path),
            progress: None,
        }
    }

    /// What is read from here until its end.
    pub fn stream(from: impl AsyncRead + Send + Unpin + 'a) -> Self {
        Self {
            source: Source::Stream(Box::new(from)),
            progress: None,
        }
    }

    /// Tells `progress` how many bytes were sent, now and then.
    pub fn watched(self, progress: Progress<'a>) -> Self {
        Self {
            progress: Some(progress),
            ..self
        }
    }
}

/// What is sent is shown to nobody: it may be a secret.
impl fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.source {
            Source::Nothing => "nothing",
            Source::Bytes(_) => "bytes",
            Source::File(_) => "a file",
            Source::Stream(_) => "a stream",
        })
    }
}
