//! Deployments of before, and the way back: what a host's own record says becomes what should be on it. Stands alone
//! because a way back must not need what may be lost or wrong on this machine: neither secrets, nor the lock file, nor
//! what `stack.toml` says now. Of that, only how a service is run is asked, where it is still there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use sovereign_config::stack::catalogue::Catalogue;
use sovereign_config::stack::model::{Engine, Host, ProxyAs, Service, Stack};

use crate::desired::{
    DesiredHost, DesiredProxy, DesiredService, Files, Image, Program, Revision, SLOT_B,
};
use crate::host::Whose;
use crate::observe::{DeployedProxy, Deployment, ObservedHost};
use crate::plan::pins;
use crate::{catalogue, engine, lock};

/// The files of how many of the last deployments lie on a host.
const KEPT: usize = 10;
/// How long a service may take until it is healthy where nobody says.
const PATIENCE: Duration = Duration::from_secs(300);
/// How a Compose file asks for its port.
const PORT: &str = "${SOVEREIGN_PORT:-";

/// Why a host cannot go back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing was deployed before the last deployment.
    #[error("{host}: there is no deployment before the last one")]
    None {
        /// The host.
        host: String,
    },
    /// There is none of this number, or its files have gone.
    #[error("{host}: there is no way back to deployment {number}")]
    Gone {
        /// The host.
        host: String,
        /// Which.
        number: u64,
        /// To which there is one.
        there: Vec<u64>,
    },
    /// An image of it that was sent is neither on the host nor here.
    #[error(
        "{host}: {image} of deployment {number} is not on the host any more, and cannot be sent"
    )]
    NoImage {
        /// The host.
        host: String,
        /// Which deployment.
        number: u64,
        /// What it is called on the host.
        image: String,
        /// Why it cannot.
        source: Box<engine::Error>,
    },
    /// A folder of it is not there any more.
    #[error("{host}: the files of {what} of deployment {number} are not there any more")]
    Lost {
        /// The host.
        host: String,
        /// Which deployment.
        number: u64,
        /// What of it.
        what: String,
    },
}

impl Error {
    /// The way out.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::None { .. } => Some("`sovereign deploy` goes by stack.toml".to_owned()),
            Self::Gone { there, .. } if there.is_empty() => {
                Some("`sovereign deploy` goes by stack.toml".to_owned())
            }
            Self::Gone { there, .. } => {
                let there: Vec<String> = there.iter().map(u64::to_string).collect();
                Some(format!("there is one to {}", there.join(", ")))
            }
            Self::NoImage { image, .. } => Some(format!(
                "`docker pull` or `docker load` it on this machine (its id begins with {}); `sovereign rollback --list` shows other deployments",
                image.rsplit(':').next().unwrap_or(image)
            )),
            Self::Lost { .. } => Some("`sovereign rollback --list` shows the others".to_owned()),
        }
    }
}

/// The deployments that a host can go back to, oldest first; the last one is what was deployed last.
pub fn kept(seen: &ObservedHost) -> &[Deployment] {
    let all = &seen.deployments;
    &all[all.len().saturating_sub(KEPT)..]
}

/// The deployment that is meant: this one, or the one before the last.
pub fn target<'o>(
    host: &str,
    seen: &'o ObservedHost,
    to: Option<u64>,
) -> Result<&'o Deployment, Error> {
    let kept = kept(seen);
    match to {
        None => kept.iter().rev().nth(1).ok_or_else(|| Error::None {
            host: host.to_owned(),
        }),
        Some(number) => kept
            .iter()
            .find(|one| one.number == number)
            .ok_or_else(|| Error::Gone {
                host: host.to_owned(),
                number,
                there: kept.iter().map(|one| one.number).collect(),
            }),
    }
}

/// The folders that make up a deployment.
pub fn folders(deployment: &Deployment) -> Vec<(Whose, Revision)> {
    let services = deployment.services.iter();
    let services =
        services.map(|(name, revision)| (Whose::Service(name.clone()), revision.clone()));
    let proxy = deployment
        .proxy
        .iter()
        .map(|proxy| (Whose::Proxy, proxy.revision.clone()));
    services.chain(proxy).collect()
}

/// What a host is rendered from on its way back.
#[derive(Clone, Copy)]
pub struct Back<'b> {
    /// The host.
    pub host: &'b Host,
    /// As it is.
    pub seen: &'b ObservedHost,
    /// Where it goes back to.
    pub deployment: &'b Deployment,
    /// The files of that, as they lie on the host.
    pub files: &'b BTreeMap<Whose, Files>,
    /// The stack, for how services are run.
    pub stack: &'b Stack,
    /// The kinds of service there are.
    pub catalogue: &'b Catalogue,
}

impl Back<'_> {
    /// What should be on the host.
    pub fn desired(&self) -> Result<DesiredHost, Error> {
        let services = self.deployment.services.iter();
        let services: Result<Vec<DesiredService>, Error> = services
            .map(|(name, revision)| self.service(name, revision))
            .collect();
        let mut services = services?;
        // Those that others need first, as the stack has them.
        services.sort_by_key(|service| self.place(&service.name));
        let proxy = match &self.deployment.proxy {
            Some(proxy) => self.proxy(proxy, &services)?,
            None => return Err(self.lost("the proxy")),
        };
        Ok(DesiredHost {
            name: self.host.name.clone(),
            engine: self.host.engine,
            services,
            proxy,
        })
    }

    fn service(&self, name: &str, revision: &Revision) -> Result<DesiredService, Error> {
        let files = self.files(&Whose::Service(name.to_owned()))?.clone();
        let known = self.known(name);
        let kind = known.and_then(|service| self.catalogue.get(&service.kind));
        let site = known.and_then(|service| self.stack.sites.get(service.site?));
        let mut names = site.into_iter().flat_map(|site| &site.names);
        Ok(DesiredService {
            name: name.to_owned(),
            kind: known
                .map(|service| service.kind.clone())
                .unwrap_or_default(),
            site: names.next().cloned().unwrap_or_default(),
            revision: revision.clone(),
            options: self
                .deployment
                .options
                .get(name)
                .cloned()
                .unwrap_or_default(),
            images: pins(&files).into_iter().map(image).collect(),
            port: port(&files),
            two: kind.is_some_and(|kind| kind.two) && self.host.engine == Engine::Docker,
            patience: kind.map_or(PATIENCE, |kind| kind.patience.max(PATIENCE)),
            volumes: Vec::new(),
            archives: Vec::new(),
            needs: known.map(|service| self.needs(service)).unwrap_or_default(),
            rotations: kind
                .zip(known)
                .and_then(|(kind, service)| catalogue::rotations(kind, service).ok())
                .unwrap_or_default(),
            files,
        })
    }

    fn proxy(
        &self,
        proxy: &DeployedProxy,
        services: &[DesiredService],
    ) -> Result<DesiredProxy, Error> {
        if !self.seen.programs.contains(&proxy.program) {
            return Err(self.lost(&format!("the program {}", proxy.program)));
        }
        let files = self.files(&Whose::Proxy)?.clone();
        let image = pins(&files).into_iter().map(image).next();
        let runs = if image.is_some() {
            ProxyAs::Container
        } else {
            ProxyAs::Systemd
        };
        let program = Program {
            path: PathBuf::new(),
            version: "of that deployment".to_owned(),
            digest: proxy.program.clone(),
        };
        let revision = proxy.revision.clone();
        let mut desired = DesiredProxy {
            runs,
            program,
            files,
            revision,
            image,
        };
        // Where a service ran then does not matter: the plan puts in where it runs.
        for port in services
            .iter()
            .filter(|service| service.two)
            .filter_map(|service| service.port)
        {
            desired.move_upstream(port + SLOT_B, port);
        }
        Ok(desired)
    }

    fn files(&self, whose: &Whose) -> Result<&Files, Error> {
        let files = self.files.get(whose).filter(|files| !files.is_empty());
        files.ok_or_else(|| self.lost(&whose.to_string()))
    }

    fn lost(&self, what: &str) -> Error {
        Error::Lost {
            host: self.host.name.clone(),
            number: self.deployment.number,
            what: what.to_owned(),
        }
    }

    /// The services beside it whose kinds it needs.
    fn needs(&self, service: &Service) -> Vec<String> {
        let kind = self.catalogue.get(&service.kind);
        let kinds = kind.map_or(&[][..], |kind| &kind.needs);
        let beside = |kind: &String| {
            let mut others = self.stack.services.iter();
            others.find(|other| other.host == service.host && other.kind == *kind)
        };
        let needed = kinds.iter().filter_map(beside);
        needed.map(|other| other.name.clone()).collect()
    }

    fn known(&self, name: &str) -> Option<&Service> {
        let mut services = self.stack.services.iter();
        services.find(|service| service.name == name && service.host == self.host.name)
    }

    /// How many kinds a service waits for: one that needs nothing comes first.
    fn place(&self, name: &str) -> usize {
        let kind = self
            .known(name)
            .and_then(|service| self.catalogue.get(&service.kind));
        kind.map_or(0, |kind| depth(self.catalogue, &kind.needs, 0))
    }
}

/// Kinds that need kinds that need kinds; a circle of them ends somewhere.
fn depth(catalogue: &Catalogue, needs: &[String], at: usize) -> usize {
    const MOST: usize = 8;
    if at == MOST {
        return at;
    }
    let needed = needs.iter().map(|kind| {
        let needs = catalogue.get(kind).map_or(&[][..], |kind| &kind.needs);
        1 + depth(catalogue, needs, at + 1)
    });
    needed.max().unwrap_or(0)
}

/// An image of before, as its Compose file names it. It lies on the host, or is pulled again, or sent again, by the
/// beginning of its id, which is in its name.
fn image(pinned: String) -> Image {
    let id = lock::local_id(&pinned).map(str::to_owned);
    Image {
        reference: pinned.clone(),
        sent: id.is_some(),
        pinned,
        id,
    }
}

/// The images of a host that were sent to it, and are not there any more.
pub fn unsent<'d>(
    desired: &'d DesiredHost,
    seen: &'d ObservedHost,
) -> impl Iterator<Item = &'d Image> {
    let services = desired.services.iter().flat_map(|service| &service.images);
    let all = services.chain(&desired.proxy.image);
    all.filter(|image| image.sent && !seen.images.contains(&image.pinned))
}

/// The port that a Compose file asks for, unless it is told another.
fn port(files: &Files) -> Option<u16> {
    let mut texts = files.iter().filter(|(path, _)| path.ends_with(".yaml"));
    texts.find_map(|(_, file)| {
        let text = String::from_utf8_lossy(&file.content);
        let (_, rest) = text.split_once(PORT)?;
        rest.split_once('}')?.0.parse().ok()
    })
}

#[cfg(test)]
mod tests;
