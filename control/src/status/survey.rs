//! What is looked at, and looking at all of it at once. Stands alone because `status` and `feed` begin with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sovereign_config::stack::catalogue::CUSTOM;
use sovereign_config::stack::model::{Service, Stack};
use time::OffsetDateTime;
use tokio::task::JoinSet;

use super::gather::{self, Asked, Look, Pace};
use super::{Scope, Status};
use crate::args::Which;
use crate::context::{Context, Loaded, waiting};
use crate::desired::Sources;
use crate::lock::{Lock, resolve};
use crate::observe::Unseen;
use crate::ssh::Connect;

/// A stack, or a part of it, that is looked at.
#[derive(Debug, Clone)]
pub struct Survey {
    loaded: Loaded,
    lock: Lock,
    /// The images of each service, by tag.
    images: BTreeMap<String, BTreeSet<String>>,
    /// Only these services, where not all are meant.
    only: Option<BTreeSet<String>>,
    /// Who is asked.
    pub asked: Vec<Asked>,
}

impl Survey {
    /// Of this part of the stack.
    pub async fn of(ctx: &Context, which: &Which) -> anyhow::Result<Self> {
        let loaded = ctx.load()?;
        loaded.check(which)?;
        let images = images(&loaded, ctx).await?;
        let all = which.service.is_empty() && which.site.is_empty();
        let meant: Vec<&Service> = loaded
            .stack
            .services
            .iter()
            .filter(|service| loaded.has(which, service))
            .collect();
        let only: BTreeSet<String> = meant.iter().map(|service| service.name.clone()).collect();
        let has_one = |host: &str| all || meant.iter().any(|service| service.host == host);
        let named = |host: &String| which.host.is_empty() || which.host.contains(host);
        let hosts = loaded
            .stack
            .hosts
            .iter()
            .filter(|host| named(&host.name) && has_one(&host.name));
        let asked = hosts
            .map(|host| Asked {
                host: host.clone(),
                nodes: gather::nodes(&loaded, &host.name),
            })
            .collect();
        Ok(Self {
            lock: ctx.lock()?,
            images,
            only: (!all).then_some(only),
            asked,
            loaded,
        })
    }

    /// The name of the stack.
    pub fn stack(&self) -> &str {
        &self.loaded.stack.name
    }

    /// Looks at all hosts at once.
    pub async fn look(&self, connect: Arc<dyn Connect>) -> Vec<Look> {
        let mut looks = JoinSet::new();
        for (place, asked) in self.asked.iter().cloned().enumerate() {
            let connect = Arc::clone(&connect);
            looks.spawn(async move {
                (
                    place,
                    gather::look(connect, &asked, &mut Pace::once()).await,
                )
            });
        }
        let mut seen = BTreeMap::new();
        while let Some(look) = looks.join_next().await {
            seen.extend(look.ok());
        }
        let ended = |asked: &Asked| Look {
            host: asked.host.name.clone(),
            seen: Err(Unseen {
                why: "looking at it ended early".to_owned(),
                hint: None,
            }),
            nodes: BTreeMap::new(),
            updates: None,
        };
        let asked = self.asked.iter().enumerate();
        asked
            .map(|(place, asked)| seen.remove(&place).unwrap_or_else(|| ended(asked)))
            .collect()
    }

    /// What was seen, judged.
    pub fn status(&self, looks: &[Look], now: OffsetDateTime) -> Status {
        let scope = Scope {
            loaded: &self.loaded,
            lock: &self.lock,
            images: &self.images,
            only: self.only.as_ref(),
        };
        Status::of(scope, looks, now)
    }
}

/// The images of each service. Of what lies on this machine, only Compose files of the operator's are read for it.
async fn images(
    loaded: &Loaded,
    ctx: &Context,
) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let custom = loaded
        .stack
        .services
        .iter()
        .filter(|service| service.kind == CUSTOM)
        .cloned()
        .collect();
    let custom = Stack {
        services: custom,
        ..loaded.stack.clone()
    };
    let folder = ctx.folder().to_owned();
    // Where such a file cannot be read, a deployment says so; here its images are just not known.
    let sources =
        waiting(move || anyhow::Ok(Sources::read(&custom, &folder).unwrap_or_default())).await?;
    let mut images: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (reference, services) in resolve::used(&loaded.stack, &loaded.catalogue, &sources)? {
        for service in services {
            images.entry(service).or_default().insert(reference.clone());
        }
    }
    Ok(images)
}
