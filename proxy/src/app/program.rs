//! Which program runs: its path, and the digest of its file, by which whoever deploys it looks whether it
//! is the one that was deployed.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest::{Context, SHA256};

use crate::handover;

/// The file of the running program, whatever lies at its path by now.
const ITSELF: &str = "/proc/self/exe";

/// The program of this process.
pub(super) struct Program {
    /// Where it was started from; a symbolic link is kept.
    pub(super) path: Option<PathBuf>,
    digest: OnceLock<String>,
}

impl Program {
    /// Finds it. Its digest is computed beside what is served.
    pub(super) fn running() -> Arc<Self> {
        let program = Arc::new(Self {
            path: handover::program().ok(),
            digest: OnceLock::new(),
        });
        let computed = program.clone();
        tokio::task::spawn_blocking(move || match digest() {
            Ok(digest) => drop(computed.digest.set(digest)),
            Err(error) => tracing::warn!(%error, "reading {ITSELF} for its digest"),
        });
        program
    }

    /// The SHA-256 of its file in hexadecimal, once it is known.
    pub(super) fn digest(&self) -> Option<String> {
        self.digest.get().cloned()
    }
}

fn digest() -> io::Result<String> {
    let mut file = File::open(ITSELF)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => context.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let digest = context.finish();
    let bytes = digest.as_ref().iter();
    Ok(bytes.map(|byte| format!("{byte:02x}")).collect())
}
