//! What goes into a command and what comes out of it, each bounded. Stands alone because it knows nothing of SSH, and
//! so is tested with plain streams.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::ssh::Each;
use crate::ssh::input::{Input, Progress, Source};

/// What is sent at once.
const CHUNK: usize = 64 << 10;
/// What is kept of standard error: its end.
const TOLD: usize = 8 << 10;
/// How long a line may be; a longer one is handed on in pieces.
const LINE: usize = 64 << 10;

/// Sends all input and closes the pipe. A command that ends before it has read everything is no error here: its code
/// says what is wrong.
pub(super) async fn feed(to: Option<impl AsyncWrite + Unpin>, input: Input<'_>) -> io::Result<()> {
    let Some(to) = to else { return Ok(()) };
    let progress = input.progress;
    match input.source {
        Source::Nothing => Ok(()),
        Source::Bytes(bytes) => copy(bytes, to, progress).await,
        Source::File(path) => copy(tokio::fs::File::open(path).await?, to, progress).await,
        Source::Stream(stream) => copy(stream, to, progress).await,
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    progress: Option<Progress<'_>>,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut sent = 0;
    loop {
        let read = from.read(&mut chunk).await?;
        if read == 0 {
            let _ = to.shutdown().await;
            return Ok(());
        }
        if to.write_all(&chunk[..read]).await.is_err() {
            return Ok(());
        }
        sent += read as u64;
        if let Some(progress) = progress {
            progress(sent);
        }
    }
}

/// Reads to the end; nothing where that is more than `limit` bytes.
pub(super) async fn whole(
    from: Option<impl AsyncRead + Unpin>,
    limit: usize,
) -> io::Result<Option<Vec<u8>>> {
    let mut all = Vec::new();
    if let Some(from) = from {
        from.take(limit as u64 + 1).read_to_end(&mut all).await?;
    }
    Ok((all.len() <= limit).then_some(all))
}

/// Reads to the end and keeps the end.
pub(super) async fn end(from: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let Some(mut from) = from else {
        return Ok(String::new());
    };
    let mut kept = Vec::new();
    let mut chunk = vec![0; TOLD];
    loop {
        let read = from.read(&mut chunk).await?;
        if read == 0 {
            return Ok(String::from_utf8_lossy(&kept).into_owned());
        }
        kept.extend_from_slice(&chunk[..read]);
        let over = kept.len().saturating_sub(TOLD);
        kept.drain(..over);
    }
}

/// Hands on lines of both streams as they come, until both have ended.
pub(super) async fn lines(
    stdout: Option<impl AsyncRead + Unpin>,
    stderr: Option<impl AsyncRead + Unpin>,
    each: Each<'_>,
) -> io::Result<()> {
    let (mut one, mut two) = (Split::new(stdout), Split::new(stderr));
    while one.open() || two.open() {
        tokio::select! {
            read = one.read(), if one.open() => one.hand_on(read?, each),
            read = two.read(), if two.open() => two.hand_on(read?, each),
        }
    }
    Ok(())
}

/// A stream that is cut into lines.
struct Split<R> {
    from: Option<R>,
    chunk: Vec<u8>,
    rest: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Split<R> {
    fn new(from: Option<R>) -> Self {
        Self {
            from,
            chunk: vec![0; CHUNK],
            rest: Vec::new(),
        }
    }

    fn open(&self) -> bool {
        self.from.is_some()
    }

    async fn read(&mut self) -> io::Result<usize> {
        match &mut self.from {
            Some(from) => from.read(&mut self.chunk).await,
            None => Ok(0),
        }
    }

    fn hand_on(&mut self, read: usize, each: Each<'_>) {
        self.rest.extend_from_slice(&self.chunk[..read]);
        if read == 0 {
            self.from = None;
        }
        let mut from = 0;
        while let Some(end) = self.rest[from..].iter().position(|byte| *byte == b'\n') {
            line(&self.rest[from..from + end], each);
            from += end + 1;
        }
        self.rest.drain(..from);
        if !self.rest.is_empty() && (read == 0 || self.rest.len() >= LINE) {
            line(&self.rest, each);
            self.rest.clear();
        }
    }
}

fn line(bytes: &[u8], each: Each<'_>) {
    each(String::from_utf8_lossy(bytes).trim_end_matches('\r'));
}

#[cfg(test)]
mod tests;
