//! `sovereign host prepare`: what a host needs, shown first. All hosts are looked at, and worked on, at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use sovereign_config::stack::catalogue::CUSTOM;
use sovereign_config::stack::model::{self, Stack};
use tokio::task::JoinSet;

use crate::args::HostPrepare;
use crate::context::{Context, Loaded, Outcome, waiting};
use crate::desired::Sources;
use crate::failure::{Hinted, tell};
use crate::prepare::{self, Facts, Preparation, Wanted};
use crate::printer::Printer;
use crate::ssh::Connect;

/// A host, what is wanted of it, and what is there.
struct Seen {
    host: model::Host,
    wanted: Wanted,
    facts: Facts,
}

/// Runs it.
pub(super) async fn run(args: &HostPrepare, ctx: &Context) -> Result<Outcome, anyhow::Error> {
    let loaded = ctx.load()?;
    let (seen, mut whole) = look_at_all(args, &loaded, ctx).await?;
    let work = plans(args, seen).await?;
    for (_, plan) in &work {
        ctx.printer.print(&(plan.text() + "\n"))?;
        whole &= plan.blocked.is_none();
    }
    let work: Vec<_> = work
        .into_iter()
        .filter(|(_, plan)| !plan.steps.is_empty())
        .collect();
    if !args.dry_run && !work.is_empty() {
        ctx.confirm("Do this?").await?;
        whole &= all(work, ctx).await;
    }
    Ok(if whole {
        Outcome::Done
    } else {
        Outcome::Differs
    })
}

/// Looks at all hosts that are named, and gives those that were seen in that order; whether it was all of them.
async fn look_at_all(
    args: &HostPrepare,
    loaded: &Loaded,
    ctx: &Context,
) -> anyhow::Result<(Vec<Seen>, bool)> {
    let sources = sources(loaded, ctx).await?;
    let mut looks = JoinSet::new();
    let names: BTreeSet<&String> = args.names.iter().collect();
    for name in names {
        let host = loaded.host(name)?.clone();
        let wanted = Wanted::of(loaded, &sources, &host)?;
        let connect: Arc<dyn Connect> = ctx.access().clone();
        looks.spawn(async move {
            let facts = look(connect.as_ref(), &host).await?;
            anyhow::Ok(Seen {
                host,
                wanted,
                facts,
            })
        });
    }
    let (mut all, mut whole) = (Vec::new(), true);
    while let Some(look) = looks.join_next().await {
        match look? {
            Ok(seen) => all.push(seen),
            Err(error) => {
                tell(&error, &ctx.printer);
                whole = false;
            }
        }
    }
    all.sort_by_key(|seen| args.names.iter().position(|name| *name == seen.host.name));
    Ok((all, whole))
}

async fn look(connect: &dyn Connect, host: &model::Host) -> anyhow::Result<Facts> {
    let remote = connect.connect(host).await?;
    Ok(prepare::look(remote, host.engine).await?)
}

/// What is to be done to each. A file that is named is sent wherever Compose is missing; that of this machine only
/// where the distribution has none.
async fn plans(args: &HostPrepare, seen: Vec<Seen>) -> anyhow::Result<Vec<(Seen, Preparation)>> {
    let lacks = |seen: &Seen| prepare::lacks_compose(&seen.facts);
    let plugin = match args.compose.is_some() || seen.iter().any(lacks) {
        true => prepare::find(args.compose.as_deref()).await?,
        false => None,
    };
    let plan = |mut seen: Seen| {
        if args.compose.is_some() || lacks(&seen) {
            seen.wanted.compose.clone_from(&plugin);
        }
        let plan = prepare::plan(&seen.facts, &seen.wanted);
        (seen, plan)
    };
    Ok(seen.into_iter().map(plan).collect())
}

/// Works on all hosts; whether all of it was done.
async fn all(work: Vec<(Seen, Preparation)>, ctx: &Context) -> bool {
    let mut done = JoinSet::new();
    for (seen, plan) in work {
        let (connect, again): (Arc<dyn Connect>, Arc<dyn Connect>) =
            (ctx.access().clone(), Arc::new(ctx.new_access()));
        let printer = ctx.printer.clone();
        done.spawn(
            async move { one(&seen, &plan, connect.as_ref(), again.as_ref(), &printer).await },
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

/// Does what the plan says, and looks again.
async fn one(
    seen: &Seen,
    plan: &Preparation,
    connect: &dyn Connect,
    again: &dyn Connect,
    printer: &Printer,
) -> anyhow::Result<()> {
    let host = &seen.host;
    let remote = connect.connect(host).await?;
    for step in &plan.steps {
        let _task = printer.task(format!("{}: {}", host.name, step.what));
        let applied = prepare::apply(step, host, remote.as_ref(), again).await;
        applied.map_err(|error| {
            anyhow::Error::new(error).context(format!("{}: preparing it stopped", host.name))
        })?;
        printer.say(&format!("{}: {}", host.name, step.what));
    }
    let left = prepare::plan(&look(connect, host).await?, &seen.wanted);
    if left.blocked.is_none() && left.steps.is_empty() {
        printer.say(&format!("{} has what it needs", host.name));
        return Ok(());
    }
    let hint = format!("`sovereign host prepare {} --dry-run` shows it", host.name);
    let why = left.blocked.map(|(why, _)| why).into_iter();
    let left: Vec<String> = why
        .chain(left.steps.into_iter().map(|step| step.what))
        .collect();
    let what = format!("{}: still to be done: {}", host.name, left.join(", "));
    Err(Hinted::new(what, hint).into())
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
