//! `sovereign host prepare`: what a host needs, shown first. All hosts are looked at, and worked on, at once.

use std::sync::Arc;

use sovereign_config::stack::catalogue::CUSTOM;
use sovereign_config::stack::model::{self, Stack};
use tokio::task::JoinSet;

use crate::args::HostPrepare;
use crate::context::{Context, Loaded, Outcome, waiting};
use crate::desired::Sources;
use crate::failure::tell;
use crate::prepare::{self, Preparation, Wanted};
use crate::printer::Printer;
use crate::ssh::Connect;

/// Runs it.
pub(super) async fn run(args: &HostPrepare, ctx: &Context) -> Result<Outcome, anyhow::Error> {
    let loaded = ctx.load()?;
    let sources = sources(&loaded, ctx).await?;
    let mut outcome = Outcome::Done;
    let mut looks = JoinSet::new();
    for name in &args.names {
        let host = loaded.host(name)?.clone();
        let wanted = Wanted::of(&loaded, &sources, &host)?;
        let connect: Arc<dyn Connect> = ctx.access().clone();
        looks.spawn(async move { (host.clone(), look(connect.as_ref(), &host, &wanted).await) });
    }
    let mut work = Vec::new();
    while let Some(look) = looks.join_next().await {
        match look? {
            (host, Ok(plan)) => work.push((host, plan)),
            (_, Err(error)) => {
                tell(&error, &ctx.printer);
                outcome = Outcome::Differs;
            }
        }
    }
    work.sort_by_key(|(host, _)| args.names.iter().position(|name| *name == host.name));
    for (_, plan) in &work {
        ctx.printer.print(&(plan.text() + "\n"))?;
        if plan.blocked.is_some() {
            outcome = Outcome::Differs;
        }
    }
    work.retain(|(_, plan)| !plan.steps.is_empty());
    if args.dry_run || work.is_empty() {
        return Ok(outcome);
    }
    if !args.yes {
        ctx.printer
            .confirm("Do this?", "--yes goes on without asking")
            .await?;
    }
    Ok(if all(work, ctx).await {
        outcome
    } else {
        Outcome::Differs
    })
}

async fn look(
    connect: &dyn Connect,
    host: &model::Host,
    wanted: &Wanted,
) -> anyhow::Result<Preparation> {
    let remote = connect.connect(host).await?;
    let facts = prepare::look(remote, host.engine).await?;
    Ok(prepare::plan(&facts, wanted))
}

/// Works on all hosts; whether all of it was done.
async fn all(work: Vec<(model::Host, Preparation)>, ctx: &Context) -> bool {
    let mut done = JoinSet::new();
    for (host, plan) in work {
        let (connect, again): (Arc<dyn Connect>, Arc<dyn Connect>) =
            (ctx.access().clone(), Arc::new(ctx.new_access()));
        let printer = ctx.printer.clone();
        done.spawn(
            async move { one(&host, &plan, connect.as_ref(), again.as_ref(), &printer).await },
        );
    }
    let mut all = true;
    while let Some(one) = done.join_next().await {
        match one {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tell(&error, &ctx.printer);
                all = false;
            }
            Err(_) => all = false,
        }
    }
    all
}

async fn one(
    host: &model::Host,
    plan: &Preparation,
    connect: &dyn Connect,
    again: &dyn Connect,
    printer: &Printer,
) -> anyhow::Result<()> {
    let remote = connect.connect(host).await?;
    for step in &plan.steps {
        let _task = printer.task(format!("{}: {}", host.name, step.what));
        let applied = prepare::apply(step, host, remote.as_ref(), again).await;
        applied.map_err(|error| {
            anyhow::Error::new(error).context(format!("{}: preparing it stopped", host.name))
        })?;
        printer.say(&format!("{}: {}", host.name, step.what));
    }
    printer.say(&format!("{} has what it needs", host.name));
    Ok(())
}

/// The operator's own Compose files, for the ports that they publish.
async fn sources(loaded: &Loaded, ctx: &Context) -> anyhow::Result<Sources> {
    let custom = loaded
        .stack
        .services
        .iter()
        .filter(|service| service.kind == CUSTOM)
        .cloned()
        .collect();
    let stack = Stack {
        services: custom,
        ..loaded.stack.clone()
    };
    let folder = ctx.folder().to_owned();
    waiting(move || Sources::read(&stack, &folder)).await
}
