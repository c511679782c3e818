//! What lies on a host and where: rendered files by revision, what is in force, programs, deployments of before, and
//! the lock. Stands alone so that nothing else knows a path of a host.

// Paths.
mod layout;
// Files of a revision: there and back.
mod files;
// Programs.
mod program;
// What is in force, and deployments of before.
mod state;
// One deployment at a time.
mod lock;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::desired::{Files, Revision};
use crate::observe::{Current, DeployedProxy, Deployment, Disk};
use crate::ssh::{Error, Input, LOOK, Remote};

pub use layout::{Layout, ROOT, Whose};
pub use lock::{Lock, Locking};
pub use program::place;

/// What lies on a host.
#[derive(Clone)]
pub struct Host {
    /// The way there.
    remote: Arc<dyn Remote>,
    /// Where everything lies.
    layout: Layout,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.remote.name(), self.layout.root())
    }
}

/// Everything that was placed, as it lies there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Lying {
    /// Services by name.
    pub services: BTreeMap<String, LyingService>,
    /// The proxy, where one was placed: what is in force.
    pub proxy: Option<DeployedProxy>,
    /// The proxy's files of that revision.
    pub proxy_files: Files,
    /// Revisions of the proxy's configuration that lie there whole.
    pub proxy_revisions: BTreeSet<Revision>,
    /// Digests of the proxy's programs, 12 digits.
    pub programs: BTreeSet<String>,
    /// Deployments of before, oldest first.
    pub deployments: Vec<Deployment>,
    /// There is a lock file.
    pub lockable: bool,
}

/// A service as it lies there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LyingService {
    /// What is in force.
    pub current: Option<Current>,
    /// The files of that revision.
    pub files: Files,
    /// Revisions that lie there whole.
    pub revisions: BTreeSet<Revision>,
}

impl Host {
    /// Over this connection, at the usual place.
    pub fn new(remote: Arc<dyn Remote>) -> Self {
        Self {
            remote,
            layout: Layout::default(),
        }
    }

    /// At another place than the usual one.
    pub fn at(self, layout: Layout) -> Self {
        Self { layout, ..self }
    }

    /// The way there.
    pub fn remote(&self) -> &dyn Remote {
        self.remote.as_ref()
    }

    /// Where things lie.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Reads everything that was placed.
    pub async fn read(&self) -> Result<Lying, Error> {
        let (mut lying, folders) = self.read_state().await?;
        let mut files = self.fetch(&folders).await?;
        for (name, service) in &mut lying.services {
            let revision = service.current.as_ref().map(|current| &current.revision);
            service.files = self.of_folder(&mut files, &Whose::Service(name.clone()), revision);
        }
        let revision = lying.proxy.as_ref().map(|proxy| &proxy.revision);
        lying.proxy_files = self.of_folder(&mut files, &Whose::Proxy, revision);
        Ok(lying)
    }

    /// Reads the files of these revisions; those that are not there are left out.
    pub async fn files_of(
        &self,
        wanted: &[(Whose, Revision)],
    ) -> Result<BTreeMap<Whose, Files>, Error> {
        let mut there = Vec::new();
        for (whose, revision) in wanted {
            let folder = self.layout.revision(whose, revision);
            let found = self
                .remote
                .output(&["test", "-d", &folder], Input::nothing(), LOOK)
                .await?;
            if found.code == 0 {
                there.push(self.relative(&folder));
            }
        }
        let mut files = self.fetch(&there).await?;
        let of = |(whose, revision): &(Whose, Revision)| {
            (
                whose.clone(),
                self.of_folder(&mut files, whose, Some(revision)),
            )
        };
        Ok(wanted.iter().map(of).collect())
    }

    /// The disk that everything lies on.
    pub async fn disk(&self) -> Result<Disk, Error> {
        let look = ["df", "-B1", "--output=size,avail", "--", self.layout.root()];
        let output = self.remote.output(&look, Input::nothing(), LOOK).await?;
        if output.code == 0 {
            return state::disk(&output.text())
                .ok_or_else(|| Error::garbled(self.remote.name(), &look, output.text()));
        }
        // Nothing was ever placed: it will lie on the disk of the system.
        let look = ["df", "-B1", "--output=size,avail", "--", "/"];
        let output = self.remote.run(&look, Input::nothing(), LOOK).await?;
        state::disk(&output.text())
            .ok_or_else(|| Error::garbled(self.remote.name(), &look, output.text()))
    }

    /// A command that answers nothing.
    async fn run(&self, argv: &[&str]) -> Result<(), Error> {
        self.remote
            .run(argv, Input::nothing(), LOOK)
            .await
            .map(drop)
    }
}

#[cfg(test)]
mod tests;
