//! A plan as JSON. Stands alone because programs read it: a key, once here, keeps its meaning.

use serde_json::{Value, json as value};

use super::{Tally, subject, what};
use crate::plan::{Action, HostPlan, Plan, Step};

/// A plan as JSON.
///
/// ```text
/// { "summary": { "start", "change", "remove", "unchanged", "hosts", "left_out" },
///   "hosts": [ { "host", "unchanged", "blocked": null | { "why", "hint" }, "locked_by": null | WHO,
///                "steps": [ { "subject", "action", "what", "why": [], "destroys",
///                             "diff": [ { "path", "lines": [] } ] } ] } ] }
/// ```
pub fn json(plan: &Plan) -> Value {
    let tally = Tally::of(plan);
    value!({
        "summary": {
            "start": tally.start,
            "change": tally.change,
            "remove": tally.remove,
            "unchanged": tally.unchanged,
            "hosts": plan.hosts.len() - tally.blocked,
            "left_out": tally.blocked,
        },
        "hosts": plan.hosts.iter().map(host).collect::<Vec<_>>(),
    })
}

fn host(host: &HostPlan) -> Value {
    let blocked = host
        .blocked
        .as_ref()
        .map(|(why, hint)| value!({ "why": why, "hint": hint }));
    value!({
        "host": host.host,
        "unchanged": host.unchanged,
        "blocked": blocked,
        "locked_by": host.locked_by,
        "steps": host.steps.iter().map(step).collect::<Vec<_>>(),
    })
}

fn step(step: &Step) -> Value {
    let diff = step
        .diff
        .iter()
        .map(|file| value!({ "path": file.path, "lines": file.lines }));
    value!({
        "subject": subject(&step.subject),
        "action": action(&step.action),
        "what": what(&step.action),
        "why": step.why,
        "diff": diff.collect::<Vec<_>>(),
        "destroys": step.destroys,
    })
}

fn action(action: &Action) -> &'static str {
    match action {
        Action::Archive => "archive",
        Action::Image(image) if image.sent => "send-image",
        Action::Image(_) => "pull-image",
        Action::Place { .. } => "place",
        Action::AwaitBitcoin { .. } => "await-bitcoin",
        Action::Rotate { .. } => "rotate",
        Action::Start { .. } => "start",
        Action::StartBeside { .. } => "start-beside",
        Action::StopBeside { .. } => "stop-beside",
        Action::Remove => "remove",
        Action::PlaceProgram(_) => "place-program",
        Action::StartProxy(_) => "start-proxy",
        Action::ReloadProxy(_) => "reload-proxy",
        Action::UpgradeProxy(_) => "upgrade-proxy",
        Action::Record { .. } => "record",
    }
}
