//! What has to be done on a host, in its order: what is needed is brought first, new services are started before the
//! proxy learns of them, what is no longer needed is stopped after it has, and what has to wait for a Bitcoin node comes
//! last. Stands alone because this order is what keeps sites up.

use std::collections::{BTreeMap, BTreeSet};

use sovereign_config::stack::model::{Engine, ProxyAs};

use super::service::{self, Decision};
use super::why::Options;
use super::{Action, Filter, HostPlan, Step, Subject, node, proxy};
use crate::archive;
use crate::desired::{Desired, DesiredHost, DesiredService, Revision};
use crate::observe::{DeployedProxy, EngineState, Observed, ObservedHost, ObservedProxy, Slot};

/// Plans a host.
pub(super) fn plan(
    host: &DesiredHost,
    desired: &Desired,
    observed: &Observed,
    filter: &Filter,
) -> HostPlan {
    let blocked = |why: String, hint: Option<String>| HostPlan {
        host: host.name.clone(),
        steps: Vec::new(),
        blocked: Some((why, hint)),
        unchanged: 0,
        locked_by: None,
    };
    match observed.hosts.iter().find(|(name, _)| *name == host.name) {
        None => blocked("was not looked at".to_owned(), None),
        Some((_, Err(unseen))) => blocked(unseen.why.clone(), unseen.hint.clone()),
        Some((_, Ok(seen))) => match engine_is_missing(host, seen) {
            Some((why, hint)) => blocked(why, Some(hint)),
            None => Planning {
                host,
                seen,
                filter,
                desired,
                observed,
            }
            .plan(),
        },
    }
}

/// Why the engine cannot be worked with, and the way out. A host that runs nothing in containers needs none.
fn engine_is_missing(host: &DesiredHost, seen: &ObservedHost) -> Option<(String, String)> {
    let contained = host.proxy.runs == ProxyAs::Container
        || !host.services.is_empty()
        || !seen.services.is_empty();
    let prepare = format!(
        "`sovereign host prepare {}` installs what a host needs",
        host.name
    );
    match &seen.engine {
        _ if !contained => None,
        EngineState::Missing => Some(("there is no engine on it".to_owned(), prepare)),
        EngineState::Down(why) => {
            let hint = "start the engine on the host: `systemctl start docker`";
            Some((
                format!("its engine does not answer: {why}"),
                hint.to_owned(),
            ))
        }
        EngineState::NoManager { why, hint } => Some((why.clone(), hint.clone())),
        EngineState::Up(_) if seen.compose.is_none() => {
            Some(("there is no Compose on it".to_owned(), prepare))
        }
        EngineState::Up(_) => None,
    }
}

/// A host that is being planned.
struct Planning<'p> {
    host: &'p DesiredHost,
    seen: &'p ObservedHost,
    filter: &'p Filter,
    desired: &'p Desired,
    observed: &'p Observed,
}

/// A service, and what becomes of it.
type Decided<'p> = (&'p DesiredService, Decision);

impl Planning<'_> {
    fn plan(&self) -> HostPlan {
        let decided = self.decided();
        let gone = self.gone();
        let (proxy, in_force) = self.proxy(&decided);
        let kept = decided
            .iter()
            .filter(|(_, decision)| !decision.is_change())
            .count();
        let kept_proxy = self.filter.takes_proxy(self.host) && proxy.is_empty();
        let mut work = self.work(&decided, &gone, proxy, in_force.as_ref());
        let mut steps = Vec::new();
        if !work.is_empty() {
            steps.extend(self.archive(&work));
            steps.append(&mut work);
            steps.push(self.record(decided.iter(), &gone, in_force));
        } else if self.is_unrecorded(&decided, in_force.as_ref()) {
            steps.push(Step {
                why: vec!["was cut off before it was written down".to_owned()],
                ..self.record(decided.iter(), &gone, in_force)
            });
        }
        let unchanged = kept + usize::from(kept_proxy);
        HostPlan {
            host: self.host.name.clone(),
            steps,
            blocked: None,
            unchanged,
            locked_by: self.seen.locked_by.clone(),
        }
    }

    /// Everything but what comes before and after all.
    fn work(
        &self,
        decided: &[Decided<'_>],
        gone: &[&str],
        proxy: Vec<Step>,
        in_force: Option<&DeployedProxy>,
    ) -> Vec<Step> {
        let nodes = node::nodes(self.host);
        let is_late = |(service, decision): &&Decided<'_>| {
            decision.can_wait() && nodes.contains_key(service.name.as_str())
        };
        let (late, soon): (Vec<&Decided<'_>>, Vec<&Decided<'_>>) =
            decided.iter().partition(is_late);
        let (brought, changed): (Vec<Step>, Vec<Step>) = proxy.into_iter().partition(brings);
        let mut work = self.images(decided);
        work.extend(soon.iter().filter_map(|one| place(one)));
        work.extend(brought);
        work.sort_by_key(place_in_order);
        work.extend(
            soon.iter()
                .flat_map(|(service, decision)| decision.start(service)),
        );
        work.extend(changed);
        work.extend(
            soon.iter()
                .filter_map(|(service, decision)| decision.finish(service)),
        );
        work.extend(gone.iter().map(|name| self.remove(name)));
        if late.is_empty() {
            return work;
        }
        // What is done is written down before a wait that nobody can tell the end of.
        if !work.iter().all(brings) {
            work.push(Step {
                why: vec!["what follows waits for a Bitcoin node".to_owned()],
                ..self.record(soon.into_iter(), gone, in_force.cloned())
            });
        }
        let waiting = late.iter().map(|(service, _)| *service);
        work.extend(node::awaited(waiting, &nodes, self.seen));
        for one @ (service, decision) in late {
            work.extend(place(one));
            work.extend(decision.start(service));
            work.extend(decision.finish(service));
        }
        work
    }

    /// What becomes of each service that is meant.
    fn decided(&self) -> Vec<Decided<'_>> {
        let meant = self
            .host
            .services
            .iter()
            .filter(|service| self.filter.takes(service));
        let decided = meant.map(|service| {
            let seen = self.seen.services.get(&service.name);
            let options = self.options().get(&service.name);
            let mut decision = service::decide(service, seen, options);
            decision.why.extend(self.moved(service));
            decision.why.extend(self.open_to_all(service));
            (service, decision)
        });
        decided.collect()
    }

    /// A Swarm knows no port of 127.0.0.1 alone.
    fn open_to_all(&self, service: &DesiredService) -> Option<String> {
        let fresh = !self.seen.services.contains_key(&service.name);
        let port = service
            .port
            .filter(|_| fresh && self.host.engine == Engine::Swarm)?;
        Some(format!(
            "a Swarm publishes port {port} on all addresses: only a firewall keeps others out"
        ))
    }

    /// A service that is new here and ran on another host has no data here.
    fn moved(&self, service: &DesiredService) -> Option<String> {
        if self.seen.services.contains_key(&service.name) {
            return None;
        }
        let others = self
            .observed
            .hosts
            .iter()
            .filter(|(name, _)| *name != self.host.name);
        let mut others = others.filter_map(|(name, seen)| Some((name, seen.as_ref().ok()?)));
        let (from, _) = others.find(|(_, seen)| seen.services.contains_key(&service.name))?;
        Some(format!(
            "moves here from {from}; its data stays there, and it begins without any"
        ))
    }

    /// Services that lie here and that the stack has no longer, or has on another host.
    fn gone(&self) -> Vec<&str> {
        let names = self.seen.services.keys().map(String::as_str);
        let is_here = |name: &str| {
            self.host
                .services
                .iter()
                .any(|service| service.name == name)
        };
        names
            .filter(|name| !is_here(name) && self.filter.is_whole_host())
            .collect()
    }

    /// What is done with the proxy, and what is in force of it then.
    fn proxy(&self, decided: &[Decided<'_>]) -> (Vec<Step>, Option<DeployedProxy>) {
        let seen = self.seen.proxy.as_ref();
        if !self.filter.takes_proxy(self.host) {
            return (Vec::new(), seen.map(ObservedProxy::deployed));
        }
        let wanted = self.host.proxy_with(&self.beside(decided));
        let steps = proxy::steps(&wanted, self.seen);
        (steps, Some(proxy::deployed(&wanted)))
    }

    /// Which services run in slot b once everything is done.
    fn beside(&self, decided: &[Decided<'_>]) -> BTreeSet<String> {
        let seen = self.seen.services.iter();
        let seen = seen
            .filter_map(|(name, service)| Some((name.as_str(), service.current.as_ref()?.slot)));
        let after = decided
            .iter()
            .map(|(service, decision)| (service.name.as_str(), decision.slot));
        let slots: BTreeMap<&str, Slot> = seen.chain(after).collect();
        let beside = slots.into_iter().filter(|(_, slot)| *slot == Slot::B);
        beside.map(|(name, _)| name.to_owned()).collect()
    }

    /// Images that are not there yet.
    fn images(&self, decided: &[Decided<'_>]) -> Vec<Step> {
        let mut named = BTreeSet::new();
        let mut steps = Vec::new();
        for (service, _) in decided.iter().filter(|(_, decision)| decision.starts()) {
            let subject = Subject::Service(service.name.clone());
            let lacking = service.images.iter().filter(|image| !self.seen.has(image));
            let lacking = lacking.filter(|image| named.insert(image.pinned.clone()));
            steps.extend(
                lacking.map(|image| Step::of(subject.clone(), Action::Image(image.clone()))),
            );
        }
        steps
    }

    /// An archive is taken where something that changes has data.
    fn archive(&self, work: &[Step]) -> Option<Step> {
        let touches = |step: &Step| match (&step.action, &step.subject) {
            (
                Action::Start { .. } | Action::StartBeside { .. } | Action::Remove,
                Subject::Service(name),
            ) => self.seen.services.contains_key(name),
            _ => false,
        };
        let step = || Step {
            why: vec![archive::NOT_SET_UP.to_owned()],
            ..Step::of(Subject::Host, Action::Archive)
        };
        work.iter().any(touches).then(step)
    }

    fn remove(&self, name: &str) -> Step {
        let elsewhere = self
            .desired
            .hosts
            .iter()
            .find(|host| host.services.iter().any(|service| service.name == name));
        let why = match elsewhere {
            Some(host) => format!("is on {} now", host.name),
            None => "the stack has it no longer".to_owned(),
        };
        let data = format!("its data stays in the volumes sovereign-{name}-*");
        Step {
            why: vec![why, data],
            ..Step::of(Subject::Service(name.to_owned()), Action::Remove)
        }
    }

    /// Whether what is in force was never written down: a deployment was cut off at its very end.
    fn is_unrecorded(&self, decided: &[Decided<'_>], proxy: Option<&DeployedProxy>) -> bool {
        let services = decided
            .iter()
            .map(|(service, _)| (&service.name, &service.revision));
        let services: BTreeMap<&String, &Revision> = services.collect();
        let last = self.seen.deployments.last();
        self.filter.is_whole_host()
            && last.is_none_or(|last| {
                !last.services.iter().eq(services) || last.proxy.as_ref() != proxy
            })
    }

    /// What is in force once everything is done.
    fn record<'d>(
        &self,
        decided: impl Iterator<Item = &'d Decided<'d>> + Clone,
        gone: &[&str],
        proxy: Option<DeployedProxy>,
    ) -> Step {
        let seen = self
            .seen
            .services
            .iter()
            .filter(|(name, _)| !gone.contains(&name.as_str()));
        let before = seen.filter_map(|(name, service)| {
            Some((name.clone(), service.current.as_ref()?.revision.clone()))
        });
        let after = decided
            .clone()
            .map(|(service, _)| (service.name.clone(), service.revision.clone()));
        let services: BTreeMap<String, Revision> = before.chain(after).collect();
        let kept = self
            .options()
            .iter()
            .filter(|(name, _)| services.contains_key(*name));
        let kept = kept.map(|(name, options)| (name.clone(), options.clone()));
        let after = decided.map(|(service, _)| (service.name.clone(), service.options.clone()));
        let options = kept.chain(after).collect();
        Step::of(
            Subject::Host,
            Action::Record {
                services,
                options,
                proxy,
            },
        )
    }

    /// The options that services were deployed with last.
    fn options(&self) -> &BTreeMap<String, Options> {
        const NONE: &BTreeMap<String, Options> = &BTreeMap::new();
        self.seen
            .deployments
            .last()
            .map_or(NONE, |last| &last.options)
    }
}

/// The files of a service, where they are not there yet.
fn place((service, decision): &Decided<'_>) -> Option<Step> {
    let place = Action::Place {
        revision: service.revision.clone(),
        files: service.files.clone(),
    };
    decision.place.then(|| Step {
        diff: decision.diff.clone(),
        ..Step::of(Subject::Service(service.name.clone()), place)
    })
}

/// Whether a step only brings something to the host, so that nothing that runs is touched.
fn brings(step: &Step) -> bool {
    matches!(
        step.action,
        Action::Image(_) | Action::Place { .. } | Action::PlaceProgram(_)
    )
}

/// Images before files: they take longest, and most often fail.
fn place_in_order(step: &Step) -> usize {
    match step.action {
        Action::Image(_) => 0,
        Action::PlaceProgram(_) => 1,
        _ => 2,
    }
}
