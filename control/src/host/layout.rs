//! Where things lie on a host. Pure, so that a path is made in one place.

use std::fmt;

use crate::desired::Revision;

/// Where everything lies.
pub const ROOT: &str = "/var/lib/sovereign";
/// How long the digits of a program are that name it.
const DIGITS: usize = 12;

/// Paths on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: String,
}

/// Whose files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// A service's, by name.
    Service(String),
    /// The proxy's.
    Proxy,
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => f.write_str(name),
            Self::Proxy => f.write_str("the proxy"),
        }
    }
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            root: ROOT.to_owned(),
        }
    }
}

impl Layout {
    /// Another place than the usual one, for tests.
    pub fn at(root: &str) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// The folder of everything.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The lock of the host.
    pub fn lock(&self) -> String {
        format!("{}/lock", self.root)
    }

    /// Deployments of before.
    pub fn deployments(&self) -> String {
        format!("{}/deployments", self.root)
    }

    /// The folder of a service or of the proxy, which holds those of its revisions.
    pub fn home(&self, whose: &Whose) -> String {
        match whose {
            Whose::Service(name) => format!("{}/services/{name}", self.root),
            Whose::Proxy => format!("{}/proxy", self.root),
        }
    }

    /// The folder of a revision.
    pub fn revision(&self, whose: &Whose, revision: &Revision) -> String {
        format!("{}/{revision}", self.home(whose))
    }

    /// The Compose file of a revision.
    pub fn compose(&self, whose: &Whose, revision: &Revision) -> String {
        format!("{}/compose.yaml", self.revision(whose, revision))
    }

    /// What is in force.
    pub fn current(&self, whose: &Whose) -> String {
        format!("{}/current", self.home(whose))
    }

    /// Where the proxy's programs lie.
    pub fn programs(&self) -> String {
        format!("{}/proxy/bin", self.root)
    }

    /// A program of the proxy, by its digest.
    pub fn program(&self, digest: &str) -> String {
        let digits = digest.get(..DIGITS).unwrap_or(digest);
        format!("{}/sovereign-proxy-{digits}", self.programs())
    }
}
