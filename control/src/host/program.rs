//! Programs: sent, checked, and only then given their name. Stands alone because a program is large and its progress is
//! shown.

use std::path::Path;
use std::time::Duration;

use super::Host;
use crate::ssh::{Error, Input, LOOK, Progress, Remote, transfer};

/// How long the host may take to check a program.
const CHECK: Duration = Duration::from_secs(60);

impl Host {
    /// Places a program of the proxy (its digest in full), checks it there, and makes it executable.
    pub async fn place_program(
        &self,
        from: &Path,
        digest: &str,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let at = self.layout.program(digest);
        let bin = self.layout.programs();
        let home = self.layout.home(&super::Whose::Proxy);
        self.run(&[
            "install",
            "-d",
            "-m",
            "0700",
            "--",
            self.layout.root(),
            &home,
        ])
        .await?;
        // A unit shows this folder, by itself, to a user who is not root; what it lies in stays closed.
        self.run(&["install", "-d", "-m", "0755", "--", &bin])
            .await?;
        place(self.remote.as_ref(), from, digest, &at, progress).await
    }
}

/// Sends a program of this machine beside its place, checks it there, and gives it the place; the folder is there.
pub async fn place(
    remote: &dyn Remote,
    from: &Path,
    digest: &str,
    at: &str,
    progress: Progress<'_>,
) -> Result<(), Error> {
    let here = |source| Error::Here {
        host: remote.name().to_owned(),
        step: format!("reading {}", from.display()),
        source,
    };
    let new = format!("{at}.new");
    let size = tokio::fs::metadata(from).await.map_err(here)?.len();
    let to = format!("of={new}");
    let write = [
        "dd",
        &to,
        "bs=1M",
        "iflag=fullblock",
        "conv=fsync",
        "status=none",
    ];
    remote
        .run(&write, Input::file(from).watched(progress), transfer(size))
        .await?;
    checked(remote, &new, digest).await?;
    let run = async |argv: &[&str]| remote.run(argv, Input::nothing(), LOOK).await.map(drop);
    run(&["chmod", "0755", "--", &new]).await?;
    run(&["mv", "-T", "--", &new, at]).await
}

async fn checked(remote: &dyn Remote, path: &str, digest: &str) -> Result<(), Error> {
    let sum = ["sha256sum", "--", path];
    let output = remote.run(&sum, Input::nothing(), CHECK.max(LOOK)).await?;
    match output.text().split_whitespace().next() {
        Some(found) if found == digest => Ok(()),
        found => Err(Error::garbled(
            remote.name(),
            &sum,
            format!("{} instead of {digest}", found.unwrap_or("nothing")),
        )),
    }
}
