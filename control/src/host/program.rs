//! Programs of the proxy: sent, checked, and only then given their name. Stands alone because a program is large and
//! its progress is shown.

use std::path::Path;
use std::time::Duration;

use super::Host;
use crate::ssh::{Error, Input, LOOK, Progress, transfer};

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
        let new = format!("{at}.new");
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
        let here = |source| Error::Here {
            host: self.remote.name().to_owned(),
            step: format!("reading {}", from.display()),
            source,
        };
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
        self.remote
            .run(&write, Input::file(from).watched(progress), transfer(size))
            .await?;
        self.checked(&new, digest).await?;
        self.run(&["chmod", "0755", "--", &new]).await?;
        self.run(&["mv", "-T", "--", &new, &at]).await
    }

    async fn checked(&self, path: &str, digest: &str) -> Result<(), Error> {
        let sum = ["sha256sum", "--", path];
        let output = self
            .remote
            .run(&sum, Input::nothing(), CHECK.max(LOOK))
            .await?;
        match output.text().split_whitespace().next() {
            Some(found) if found == digest => Ok(()),
            found => Err(Error::garbled(
                self.remote.name(),
                &sum,
                format!("{} instead of {digest}", found.unwrap_or("nothing")),
            )),
        }
    }
}
