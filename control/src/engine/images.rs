//! Images: there or not, pulled by digest, or sent from the engine of this machine. Stands alone because this is the
//! one thing that involves two engines.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::docker::Docker;
use super::{Error, parse};
use crate::desired::Image;
use crate::ssh::{self, Input, LOOK, transfer};

/// How long a host may take to pull an image.
const PULL: Duration = Duration::from_secs(60 * 60);
/// How much is read of what the engine of this machine says of a failure.
const SAID: u64 = 4 << 10;

impl Docker {
    /// All that images on the host are called.
    pub async fn images(&self) -> Result<BTreeSet<String>, Error> {
        let argv = [
            "docker",
            "image",
            "ls",
            "--no-trunc",
            "--digests",
            "--format",
            "{{json .}}",
        ];
        let output = self.run(&argv, LOOK).await?;
        let images = parse::images(&String::from_utf8_lossy(&output.stdout));
        Ok(images.map_err(|error| ssh::Error::garbled(self.remote.name(), &argv, error))?)
    }

    /// Pulls an image by its digest.
    pub async fn pull(&self, pinned: &str) -> Result<(), Error> {
        self.run(&["docker", "pull", "--quiet", pinned], PULL)
            .await
            .map(drop)
    }

    /// Sends an image from the engine of this machine.
    pub async fn send(
        &self,
        image: &Image,
        progress: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<(), Error> {
        let what = named_here(image);
        let size = size_here(what).await?;
        let told = move |sent: u64| progress(sent.min(size), size);
        let mut save = save(what)?;
        let (stdout, stderr) = (save.stdout.take(), save.stderr.take());
        let input = stdout.map_or_else(Input::nothing, |stdout| {
            Input::stream(stdout).watched(&told)
        });
        let load = self.remote.run(&["docker", "load"], input, transfer(size));
        let (load, said) = tokio::join!(load, end_of(stderr));
        // What this machine's engine says comes first: the host only sees that the stream ends too early.
        let saved = save.wait().await.is_ok_and(|status| status.success());
        if !saved && !said.trim().is_empty() {
            return Err(Error::NoImage {
                image: what.to_owned(),
                said: said.trim().to_owned(),
            });
        }
        let name = parse::loaded(&load?.text()).unwrap_or_else(|| what.to_owned());
        self.is_what_was_sent(&name, image).await?;
        self.run(&["docker", "tag", &name, &image.pinned], LOOK)
            .await
            .map(drop)
    }

    /// Whether what was loaded is the image that the lock file names.
    async fn is_what_was_sent(&self, loaded: &str, image: &Image) -> Result<(), Error> {
        let argv = ["docker", "image", "inspect", "--format", "{{.Id}}", loaded];
        let found = self.run(&argv, LOOK).await?.text();
        match &image.id {
            Some(wanted) if *wanted != found => Err(Error::OtherImage {
                host: self.remote.name().to_owned(),
                image: image.reference.clone(),
                wanted: wanted.clone(),
                found,
            }),
            _ => Ok(()),
        }
    }
}

/// Whether the engine of this machine has an image that is sent.
pub async fn is_here(image: &Image) -> Result<(), Error> {
    size_here(named_here(image)).await.map(drop)
}

/// What the engine of this machine is asked for.
fn named_here(image: &Image) -> &str {
    image.id.as_deref().unwrap_or(&image.reference)
}

fn save(what: &str) -> Result<tokio::process::Child, Error> {
    let mut save = Command::new("docker");
    save.args(["image", "save", what])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    save.spawn().map_err(|error| Error::NoImage {
        image: what.to_owned(),
        said: format!("`docker` cannot be run: {error}"),
    })
}

/// The size of an image of this machine.
async fn size_here(what: &str) -> Result<u64, Error> {
    let none = |said: String| Error::NoImage {
        image: what.to_owned(),
        said,
    };
    let mut inspect = Command::new("docker");
    inspect
        .args(["image", "inspect", "--format", "{{.Size}}", what])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(LOOK, inspect.output())
        .await
        .map_err(|_| none("it does not answer".to_owned()))?;
    let output = output.map_err(|error| none(format!("`docker` cannot be run: {error}")))?;
    if !output.status.success() {
        return Err(none(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ));
    }
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    text.parse()
        .map_err(|_| none(format!("its size is said to be `{text}`")))
}

async fn end_of(stderr: Option<tokio::process::ChildStderr>) -> String {
    let mut said = Vec::new();
    if let Some(stderr) = stderr {
        let _ = stderr.take(SAID).read_to_end(&mut said).await;
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[cfg(test)]
mod tests;
