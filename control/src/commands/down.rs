//! `sovereign down`: services no more. Their containers go and their data stays, unless it is to be destroyed, which
//! takes the name of each, typed.

// What would be done, found out before anything is.
mod taking;

use std::collections::BTreeSet;

use crate::args::Down;
use crate::context::{Context, Outcome};
use crate::failure::tell;
use taking::Taking;

/// Runs it.
pub async fn run(args: &Down, ctx: &Context) -> Result<Outcome, anyhow::Error> {
    let loaded = ctx.load()?;
    let mut outcome = Outcome::Done;
    let mut takings = Vec::new();
    let names: BTreeSet<&String> = args.services.iter().collect();
    for name in names {
        let service = loaded.service(name)?;
        let task = ctx
            .printer
            .task(format!("{}: looking at {name}", service.host));
        let looked = Taking::look(ctx, &loaded, service, args.purge).await;
        drop(task);
        match looked {
            Ok(taking) => takings.push(taking),
            Err(error) => {
                tell(&error, &ctx.printer);
                outcome = Outcome::Differs;
            }
        }
    }
    takings.retain(|taking| {
        ctx.printer.say(&taking.text());
        !taking.is_nothing()
    });
    if args.dry_run || takings.is_empty() {
        return Ok(outcome);
    }
    if !takings.iter().all(Taking::destroys) {
        ctx.confirm("Take them down?").await?;
    }
    for taking in takings.iter().filter(|taking| taking.destroys()) {
        let what = format!("The data of {} will be gone for good.", taking.service);
        ctx.confirm_name(&what, &taking.service).await?;
    }
    for taking in takings {
        match taking.take(ctx).await {
            Ok(()) => ctx.printer.say(&taking.done()),
            Err(error) => {
                tell(&error, &ctx.printer);
                outcome = Outcome::Differs;
            }
        }
    }
    Ok(outcome)
}
