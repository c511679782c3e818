//! `sovereign plan`: what a deployment would change, and why.

use crate::args::Plan;
use crate::commands::deployment;
use crate::context::{Context, Outcome};

/// Runs it.
pub async fn run(args: &Plan, ctx: &Context) -> Result<Outcome, anyhow::Error> {
    let planned = deployment::make(&args.scope.which, false, ctx).await?;
    deployment::show_plan(&planned.plan, ctx)?;
    Ok(match deployment::shown(&planned.plan) {
        Outcome::Done if args.exit_code && planned.plan.has_steps() => Outcome::WouldChange,
        outcome => outcome,
    })
}
