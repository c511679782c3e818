//! What `plan`, `deploy` and `rollback` have in common: everything that a plan is made of, and what is done with one.
//! Stands alone so that each of the three is its own few steps.

// What is said while a plan is applied.
mod progress;

use std::sync::Arc;

use anyhow::Context as _;
use sovereign_config::stack::model::Host;
use tokio::sync::watch;

use crate::apply::{self, Applied, Failure, Outcome as Became, Tools};
use crate::args::Which;
use crate::context::{Context, Loaded, Outcome, waiting};
use crate::desired::{self, Desired, Inputs, Sources};
use crate::failure::{Hinted, chain};
use crate::observe::{Observed, observe};
use crate::plan::{Filter, Plan, plan};
use crate::ssh::Connect;
use crate::verify::verify;
use crate::{program, show};

pub(super) use progress::Progress;

/// A plan, and what it was made of.
pub(super) struct Planned {
    /// Hosts that are meant.
    pub(super) hosts: Vec<Host>,
    /// What should be on them.
    pub(super) desired: Desired,
    /// What is.
    pub(super) observed: Observed,
    /// What of it is meant.
    pub(super) filter: Filter,
    /// What has to be done.
    pub(super) plan: Plan,
}

/// Makes a plan of a stack. `keep`: secrets that are made at first need are written down.
pub(super) async fn make(which: &Which, keep: bool, ctx: &Context) -> anyhow::Result<Planned> {
    let loaded = ctx.load()?;
    loaded.check(which)?;
    let hosts = meant(&loaded, which);
    // While the hosts are looked at, everything else is read: a person may have to type a passphrase.
    let (meant, way) = (hosts.clone(), connect(ctx));
    let looking = tokio::spawn(async move { observe(&meant, way).await });
    let (desired, filter) = (rendered(&loaded, keep, ctx).await?, filter(&loaded, which));
    let _task = ctx.printer.task("looking at the hosts");
    let observed = looking.await.context("looking at the hosts")?;
    let plan = plan(&desired, &observed, &filter);
    Ok(Planned {
        hosts,
        desired,
        observed,
        filter,
        plan,
    })
}

/// How hosts are reached.
pub(super) fn connect(ctx: &Context) -> Arc<dyn Connect> {
    Arc::clone(ctx.access()) as Arc<dyn Connect>
}

fn meant(loaded: &Loaded, which: &Which) -> Vec<Host> {
    let hosts = loaded.stack.hosts.iter();
    let meant = hosts.filter(|host| which.host.is_empty() || which.host.contains(&host.name));
    meant.cloned().collect()
}

/// A site may be named by any of its names.
fn filter(loaded: &Loaded, which: &Which) -> Filter {
    let sites = loaded.stack.sites.iter();
    let sites = sites.filter(|site| site.names.iter().any(|name| which.site.contains(name)));
    Filter {
        hosts: which.host.iter().cloned().collect(),
        services: which.service.iter().cloned().collect(),
        sites: sites
            .filter_map(|site| site.names.first().cloned())
            .collect(),
    }
}

async fn rendered(loaded: &Loaded, keep: bool, ctx: &Context) -> anyhow::Result<Desired> {
    let lock = ctx.lock()?.images(loaded.stack.images);
    let (stack, folder) = (loaded.stack.clone(), ctx.folder().to_owned());
    let sources = waiting(move || Sources::read(&stack, &folder)).await?;
    let program = program::find(&loaded.stack, ctx.folder()).await?;
    let secrets = ctx.secrets(loaded, keep).await?.values();
    Ok(desired::render(Inputs {
        stack: &loaded.stack,
        catalogue: &loaded.catalogue,
        secrets: &secrets,
        lock: &lock,
        program: &program,
        sources: &sources,
    })?)
}

/// Shows a plan.
pub(super) fn show_plan(plan: &Plan, ctx: &Context) -> anyhow::Result<()> {
    match ctx.json {
        true => ctx.printer.json(&show::json(plan))?,
        false => ctx.printer.print(&show::text(plan, ctx.printer.look()))?,
    }
    Ok(())
}

/// How a command ends that only showed a plan.
pub(super) fn shown(plan: &Plan) -> Outcome {
    let left_out = plan.hosts.iter().any(|host| host.blocked.is_some());
    if left_out {
        Outcome::Differs
    } else {
        Outcome::Done
    }
}

/// Shows a plan, asks, applies it, and looks again.
pub(super) async fn carry_out(
    planned: Planned,
    question: &str,
    ctx: &Context,
) -> anyhow::Result<Outcome> {
    if !ctx.json {
        show_plan(&planned.plan, ctx)?;
    } else if planned.plan.has_steps() && ctx.asks() {
        // Nobody agrees to what they have not seen.
        ctx.printer
            .say(&show::text(&planned.plan, ctx.printer.look()));
    }
    if planned.plan.has_steps() {
        for name in planned.plan.destroys() {
            ctx.confirm_name(&format!("This destroys the data of {name}."), name)
                .await?;
        }
        ctx.confirm(question).await?;
    }
    let applied = applied(&planned, ctx).await?;
    for (host, became) in &applied.hosts {
        tell(host, became, ctx);
    }
    let left = left(&planned, &applied, ctx).await;
    if ctx.json {
        ctx.printer.json(&json(&planned.plan, &applied, &left))?;
    }
    tell_left(&applied, &left, ctx)?;
    let done = applied.is_done() && left.is_done();
    Ok(if done {
        Outcome::Done
    } else {
        Outcome::Differs
    })
}

/// Applies it. The first Ctrl-C ends it after the step under way, the second at once.
async fn applied(planned: &Planned, ctx: &Context) -> anyhow::Result<Applied> {
    let (sender, stop) = watch::channel(false);
    let progress = Arc::new(Progress::new(ctx.printer.clone()));
    let tools = Tools {
        connect: connect(ctx),
        by: Context::who(),
        watch: progress,
        stop,
    };
    let applying = apply::apply(&planned.plan, &planned.observed, &planned.hosts, &tools);
    let interrupted = async {
        let _ = tokio::signal::ctrl_c().await;
        ctx.printer
            .say("ends after the step under way; Ctrl-C again ends at once");
        let _ = sender.send(true);
        let _ = tokio::signal::ctrl_c().await;
    };
    tokio::select! {
        applied = applying => Ok(applied),
        () = interrupted => Err(Hinted::new("broken off in the middle of a step", AGAIN).into()),
    }
}

/// What is still to be done where everything was to be done; a host that failed has said so already.
async fn left(planned: &Planned, applied: &Applied, ctx: &Context) -> Plan {
    let failed = |name: &str| {
        applied
            .hosts
            .iter()
            .any(|(host, became)| host == name && !matches!(became, Became::Done { .. }))
    };
    let blocked = planned
        .plan
        .hosts
        .iter()
        .filter(|host| host.blocked.is_some());
    let blocked: Vec<&str> = blocked.map(|host| host.host.as_str()).collect();
    let looked_at = |host: &&Host| !failed(&host.name) && !blocked.contains(&host.name.as_str());
    let hosts: Vec<Host> = planned.hosts.iter().filter(looked_at).cloned().collect();
    let mut left = match planned.plan.has_steps() {
        true => {
            let _task = ctx.printer.task("looking at the hosts again");
            verify(&planned.desired, &planned.filter, &hosts, connect(ctx)).await
        }
        false => planned.plan.clone(),
    };
    left.hosts
        .retain(|left| hosts.iter().any(|host| host.name == left.host));
    left.hosts.extend(
        planned
            .plan
            .hosts
            .iter()
            .filter(|host| host.blocked.is_some())
            .cloned(),
    );
    left
}

fn tell_left(applied: &Applied, left: &Plan, ctx: &Context) -> anyhow::Result<()> {
    if left.is_done() && applied.is_done() {
        if !applied.hosts.is_empty() && !ctx.json {
            ctx.printer.print("everything is as it should be\n")?;
        }
        return Ok(());
    }
    let differs = left.hosts.iter().any(|host| !host.steps.is_empty());
    if differs {
        ctx.printer
            .warn("looked at again, this differs from what it should be:");
        ctx.printer
            .say(show::text(left, ctx.printer.look()).trim_end());
    }
    for host in left.hosts.iter().filter(|host| host.blocked.is_some()) {
        ctx.printer.warn(&format!("{} was left out", host.host));
    }
    if !says_again(applied) {
        ctx.printer.hint(AGAIN);
    }
    Ok(())
}

/// Whether the way out of a failure said it already.
fn says_again(applied: &Applied) -> bool {
    let said = |became: &Became| match became {
        Became::Failed(failure) => failure.error.hint(),
        _ => None,
    };
    let mut hints = applied.hosts.iter().filter_map(|(_, became)| said(became));
    hints.any(|hint| hint.contains("run it again"))
}

/// What became of a host, where not everything was done.
fn tell(host: &str, became: &Became, ctx: &Context) {
    match became {
        Became::Done { .. } => {}
        Became::Stopped { done, of } => ctx
            .printer
            .warn(&format!("{host}: ended after {done} of {of} steps")),
        Became::Failed(failure) => {
            ctx.printer.error(&told(host, failure));
            if let Some(hint) = failure.error.hint() {
                ctx.printer.hint(&hint);
            }
        }
    }
}

/// Which host, which step, and what the host said.
fn told(host: &str, failure: &Failure) -> String {
    let said = chain(&failure.error);
    match &failure.at {
        None => said,
        Some((at, step)) => format!(
            "{host}: step {} of {}, {}:\n  {}",
            at.step,
            at.of,
            show::line(step),
            said.replace('\n', "\n  ")
        ),
    }
}

fn json(plan: &Plan, applied: &Applied, left: &Plan) -> serde_json::Value {
    let hosts = applied.hosts.iter().map(|(host, became)| match became {
        Became::Done { steps } => serde_json::json!({ "host": host, "outcome": "done", "steps": steps }),
        Became::Stopped { done, of } => {
            serde_json::json!({ "host": host, "outcome": "stopped", "steps": done, "of": of })
        }
        Became::Failed(failure) => serde_json::json!({
            "host": host,
            "outcome": "failed",
            "step": failure.at.as_ref().map(|(at, step)| serde_json::json!({ "number": at.step, "of": at.of, "what": show::line(step) })),
            "error": chain(&failure.error),
            "hint": failure.error.hint(),
        }),
    });
    serde_json::json!({
        "plan": show::json(plan),
        "hosts": hosts.collect::<Vec<_>>(),
        "left": show::json(left),
    })
}

const AGAIN: &str = "run it again: it takes up where this one ended";

#[cfg(test)]
mod tests;
