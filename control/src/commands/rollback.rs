//! `sovereign rollback`: back to a deployment of before, by each host's own record.

use std::sync::Arc;

use sovereign_config::stack::model::Host as HostModel;

use crate::args::{Rollback, Which};
use crate::commands::deployment::{self, Planned};
use crate::context::{Context, Loaded, Outcome};
use crate::desired::{Desired, DesiredHost};
use crate::engine;
use crate::failure::{chain, hint};
use crate::history::{self, Back};
use crate::host::Host;
use crate::observe::{Observed, ObservedHost, Unseen, observe};
use crate::plan::{Filter, HostPlan, plan};
use crate::printer::{Cell, Table};

/// Runs it.
pub async fn run(args: &Rollback, ctx: &Context) -> Result<Outcome, anyhow::Error> {
    let loaded = ctx.load()?;
    loaded.check(&Which {
        host: args.host.clone(),
        ..Which::default()
    })?;
    let named = |host: &&HostModel| args.host.is_empty() || args.host.contains(&host.name);
    let hosts: Vec<HostModel> = loaded.stack.hosts.iter().filter(named).cloned().collect();
    let observed = {
        let _task = ctx.printer.task("looking at the hosts");
        observe(&hosts, deployment::connect(ctx)).await
    };
    if args.list {
        return list(&observed, ctx);
    }
    let planned = planned(args.to, hosts, observed, &loaded, ctx).await;
    if args.dry_run {
        deployment::show_plan(&planned.plan, ctx)?;
        return Ok(deployment::shown(&planned.plan));
    }
    deployment::carry_out(planned, "Go back to this?", ctx).await
}

async fn planned(
    to: Option<u64>,
    hosts: Vec<HostModel>,
    observed: Observed,
    loaded: &Loaded,
    ctx: &Context,
) -> Planned {
    let (mut desired, mut blocked) = (Vec::new(), Vec::new());
    for (host, (_, seen)) in hosts.iter().zip(&observed.hosts) {
        match back(host, seen, to, loaded, ctx).await {
            Ok(one) => desired.push(one),
            Err(why) => blocked.push(HostPlan {
                host: host.name.clone(),
                steps: Vec::new(),
                blocked: Some((why.why, why.hint)),
                unchanged: 0,
                locked_by: None,
            }),
        }
    }
    let (desired, filter) = (Desired { hosts: desired }, Filter::default());
    let mut plan = plan(&desired, &observed, &filter);
    plan.hosts.extend(blocked);
    Planned {
        hosts,
        desired,
        observed,
        filter,
        plan,
    }
}

/// What should be on a host, or why it cannot go back.
async fn back(
    host: &HostModel,
    seen: &Result<ObservedHost, Unseen>,
    to: Option<u64>,
    loaded: &Loaded,
    ctx: &Context,
) -> Result<DesiredHost, Unseen> {
    let seen = seen.as_ref().map_err(Clone::clone)?;
    let target =
        history::target(&host.name, seen, to).map_err(|error| unseen(&error, error.hint()))?;
    let remote = deployment::connect(ctx)
        .connect(host)
        .await
        .map_err(|error| unseen(&error, error.hint()))?;
    let files = Host::new(Arc::clone(&remote))
        .files_of(&history::folders(target))
        .await;
    let files = files.map_err(|error| unseen(&error, error.hint()))?;
    let (stack, catalogue) = (&loaded.stack, &loaded.catalogue);
    let back = Back {
        host,
        seen,
        deployment: target,
        files: &files,
        stack,
        catalogue,
    };
    let desired = back
        .desired()
        .map_err(|error| unseen(&error, error.hint()))?;
    // What cannot be brought is said before anything is done.
    for image in history::unsent(&desired, seen) {
        if let Err(source) = engine::is_here(image).await {
            let error = history::Error::NoImage {
                host: host.name.clone(),
                number: target.number,
                image: image.pinned.clone(),
                source: Box::new(source),
            };
            return Err(unseen(&error, error.hint()));
        }
    }
    Ok(desired)
}

fn unseen(error: &(dyn std::error::Error + 'static), way: Option<String>) -> Unseen {
    Unseen {
        why: chain(error),
        hint: way.or_else(|| hint(error)),
    }
}

/// The deployments that one can go back to, the last one first.
fn list(observed: &Observed, ctx: &Context) -> Result<Outcome, anyhow::Error> {
    let mut table = Table::headed(&["HOST", ">NUMBER", "WHEN", "BY", "SERVICES"]);
    let mut json = Vec::new();
    let (mut outcome, mut any) = (Outcome::Done, false);
    let answers = observed.hosts.iter().any(|(_, seen)| seen.is_ok());
    for (name, seen) in &observed.hosts {
        match seen {
            Ok(seen) => {
                let kept = history::kept(seen);
                any |= !kept.is_empty();
                kept.iter().rev().for_each(|one| table.row(row(name, one)));
                json.push(serde_json::json!({ "host": name, "deployments": kept }));
            }
            Err(unseen) => {
                outcome = Outcome::Differs;
                ctx.printer.error(&unseen.why);
                unseen.hint.iter().for_each(|hint| ctx.printer.hint(hint));
                json.push(
                    serde_json::json!({ "host": name, "error": unseen.why, "hint": unseen.hint }),
                );
            }
        }
    }
    match ctx.json {
        true => ctx.printer.json(&json)?,
        false if any => ctx.printer.table(&table)?,
        false if answers => ctx
            .printer
            .say("nothing was deployed yet on the hosts that answer"),
        false => {}
    }
    Ok(outcome)
}

fn row(host: &str, one: &crate::observe::Deployment) -> [Cell; 5] {
    let services: Vec<&str> = one.services.keys().map(String::as_str).collect();
    let number = one.number.to_string();
    [
        host.into(),
        number.into(),
        one.at.as_str().into(),
        one.by.as_str().into(),
        services.join(", ").into(),
    ]
}
