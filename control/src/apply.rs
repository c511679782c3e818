//! Does what a plan says, and nothing else: each host's steps in their order, all hosts at once. Stands alone because
//! here nothing is chosen: what may be done where something fails stands in the plan too, and whoever is cut off at
//! any moment leaves a host that the next plan takes up.

// One step on a host.
mod step;
// The proxy: started, reloaded, upgraded.
mod proxy;
// A Bitcoin node: waited for.
mod node;
// What can go wrong with a step.
mod error;

use std::sync::Arc;

use sovereign_config::stack::model;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::engine::{self, Engine};
use crate::host::{Host, Locking, Lying};
use crate::observe::{Observed, ObservedHost, ObservedProxy};
use crate::plan::{HostPlan, Plan, Step};
use crate::ssh::Connect;

pub use error::StepError;

/// What everything is done with.
#[derive(Clone)]
pub struct Tools {
    /// The way to the hosts.
    pub connect: Arc<dyn Connect>,
    /// Who deploys: `user@machine`.
    pub by: String,
    /// Hears what is done.
    pub watch: Arc<dyn Watch>,
    /// Turns true where the operator wants it to end after the step under way.
    pub stop: watch::Receiver<bool>,
}

/// Hears what is done, while it is done.
pub trait Watch: Send + Sync {
    /// A step begins.
    fn begins(&self, host: &str, at: At, step: &Step);
    /// So many of so many bytes of the step under way are done.
    fn moved(&self, host: &str, done: u64, of: u64);
    /// A Bitcoin node is waited for: which block of how many it is at, where it says, and what else there is to say.
    fn waits(&self, host: &str, blocks: Option<(u64, u64)>, at: &str);
    /// The step under way is done, or has failed.
    fn ends(&self, host: &str, step: &Step, done: bool);
}

/// Which step of how many, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// Which.
    pub step: usize,
    /// Of how many.
    pub of: usize,
}

/// What became of each host that had something to do.
#[derive(Debug, Default)]
pub struct Applied {
    /// By host, in the order of the plan.
    pub hosts: Vec<(String, Outcome)>,
}

/// What became of a host.
#[derive(Debug)]
pub enum Outcome {
    /// All steps are done.
    Done {
        /// How many.
        steps: usize,
    },
    /// The operator ended it between two steps.
    Stopped {
        /// How many steps were done.
        done: usize,
        /// How many there are.
        of: usize,
    },
    /// A step failed; those after it were not done.
    Failed(Failure),
}

/// A step that failed.
#[derive(Debug)]
pub struct Failure {
    /// Which; none where it failed before the first.
    pub at: Option<(At, Box<Step>)>,
    /// Why.
    pub error: StepError,
}

impl Applied {
    /// Whether everything was done everywhere.
    pub fn is_done(&self) -> bool {
        self.hosts
            .iter()
            .all(|(_, outcome)| matches!(outcome, Outcome::Done { .. }))
    }
}

/// Applies a plan. Hosts that have nothing to do are left alone.
pub async fn apply(
    plan: &Plan,
    observed: &Observed,
    hosts: &[model::Host],
    tools: &Tools,
) -> Applied {
    let mut running = JoinSet::new();
    let busy = plan.hosts.iter().filter(|host| !host.steps.is_empty());
    for (place, plan) in busy.cloned().enumerate() {
        let Some(host) = hosts.iter().find(|host| host.name == plan.host).cloned() else {
            continue;
        };
        let (tools, seen) = (tools.clone(), seen(observed, &host.name));
        running.spawn(async move {
            let outcome = reach(&host, &plan, &seen, &tools).await;
            (place, host.name, outcome)
        });
    }
    let mut ended = Vec::new();
    while let Some(one) = running.join_next().await {
        ended.extend(one.ok());
    }
    ended.sort_by_key(|(place, ..)| *place);
    Applied {
        hosts: ended
            .into_iter()
            .map(|(_, host, outcome)| (host, outcome))
            .collect(),
    }
}

/// What a host's plan was made from.
fn seen(observed: &Observed, host: &str) -> ObservedHost {
    let seen = observed.hosts.iter().find(|(name, _)| name == host);
    let seen = seen.and_then(|(_, seen)| seen.as_ref().ok());
    seen.cloned().unwrap_or_default()
}

/// A host, and everything that is done there.
pub(crate) struct Ground {
    pub(crate) host: Host,
    pub(crate) engine: Box<dyn Engine>,
}

async fn reach(host: &model::Host, plan: &HostPlan, seen: &ObservedHost, tools: &Tools) -> Outcome {
    match tools.connect.connect(host).await {
        Ok(remote) => {
            let engine = engine::of(host.engine, Arc::clone(&remote));
            let ground = Ground {
                host: Host::new(remote),
                engine,
            };
            on_host(&ground, plan, seen, tools).await
        }
        Err(error) => Outcome::Failed(Failure {
            at: None,
            error: error.into(),
        }),
    }
}

/// Does a host's steps, under its lock. `seen` is what they were planned from.
pub(crate) async fn on_host(
    ground: &Ground,
    plan: &HostPlan,
    seen: &ObservedHost,
    tools: &Tools,
) -> Outcome {
    let early = |error| Outcome::Failed(Failure { at: None, error });
    let lock = match ground.host.lock(&tools.by).await {
        Ok(Locking::Ours(lock)) => lock,
        Ok(Locking::Theirs(who)) => {
            return early(StepError::Locked {
                host: plan.host.clone(),
                who,
            });
        }
        Err(error) => return early(error.into()),
    };
    match ground.host.read().await {
        Ok(lying) if is_still(&lying, seen) => {}
        Ok(_) => {
            return early(StepError::Overtaken {
                host: plan.host.clone(),
            });
        }
        Err(error) => return early(error.into()),
    }
    let of = plan.steps.len();
    for (done, step) in plan.steps.iter().enumerate() {
        if *tools.stop.borrow() {
            return Outcome::Stopped { done, of };
        }
        let at = At { step: done + 1, of };
        let failed = |error| {
            Outcome::Failed(Failure {
                at: Some((at, Box::new(step.clone()))),
                error,
            })
        };
        if !lock.holds() {
            return failed(StepError::LockLost {
                host: plan.host.clone(),
            });
        }
        tools.watch.begins(&plan.host, at, step);
        let result = step::run(ground, step, &seen.deployments, tools).await;
        tools.watch.ends(&plan.host, step, result.is_ok());
        if let Err(error) = result {
            return failed(error);
        }
    }
    Outcome::Done { steps: of }
}

/// Whether nobody has put anything else in force meanwhile.
fn is_still(lying: &Lying, seen: &ObservedHost) -> bool {
    let lies = lying.services.iter();
    let lies = lies.filter_map(|(name, service)| Some((name, service.current.as_ref()?)));
    let was = seen.services.iter();
    let was = was.filter_map(|(name, service)| Some((name, service.current.as_ref()?)));
    let proxy = seen.proxy.as_ref().map(ObservedProxy::deployed);
    lying.deployments == seen.deployments && lies.eq(was) && lying.proxy == proxy
}

#[cfg(test)]
mod double;
#[cfg(test)]
mod tests;
