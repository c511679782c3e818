//! What waits for a Bitcoin node. Stands alone because a node is the one service that may be well and of no use for
//! days: nothing that can do without it may have to wait with those that cannot.

use std::collections::BTreeMap;

use super::{Action, Step, Subject};
use crate::bitcoin;
use crate::desired::{DesiredHost, DesiredService};
use crate::observe::{ObservedHost, Slot};

/// The node that a service depends on, itself or through another one that it needs, by service.
pub(super) type Nodes<'h> = BTreeMap<&'h str, &'h DesiredService>;

/// The nodes that services of a host depend on.
pub(super) fn nodes(host: &DesiredHost) -> Nodes<'_> {
    let mut nodes = Nodes::new();
    // Those that others need stand before them.
    for service in &host.services {
        let of = |need: &String| {
            let mut others = host.services.iter();
            let node = others.find(|other| other.name == *need && other.kind == bitcoin::KIND);
            node.or_else(|| nodes.get(need.as_str()).copied())
        };
        if let Some(node) = service.needs.iter().find_map(of) {
            nodes.insert(&service.name, node);
        }
    }
    nodes
}

/// Waits for the nodes that these services depend on.
pub(super) fn awaited<'h>(
    waiting: impl Iterator<Item = &'h DesiredService>,
    nodes: &Nodes<'h>,
    seen: &ObservedHost,
) -> Vec<Step> {
    let mut awaited: BTreeMap<&str, (&DesiredService, Vec<&str>)> = BTreeMap::new();
    for service in waiting {
        let Some(node) = nodes.get(service.name.as_str()) else {
            continue;
        };
        let (_, names) = awaited.entry(&node.name).or_insert((node, Vec::new()));
        names.push(&service.name);
    }
    let step = |(node, names): (&DesiredService, Vec<&str>)| step(node, &names, seen);
    awaited.into_values().map(step).collect()
}

fn step(node: &DesiredService, waiting: &[&str], seen: &ObservedHost) -> Step {
    let current = seen.services.get(&node.name);
    let current = current.and_then(|service| service.current.as_ref());
    let action = Action::AwaitBitcoin {
        slot: current.map_or(Slot::A, |current| current.slot),
        patience: node.patience,
    };
    let need = if waiting.len() == 1 { "needs" } else { "need" };
    Step {
        why: vec![format!("{} {need} it", waiting.join(", "))],
        ..Step::of(Subject::Service(node.name.clone()), action)
    }
}
