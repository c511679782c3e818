//! `sovereign deploy`: changes the hosts to what the stack says.

use crate::args::Deploy;
use crate::commands::deployment;
use crate::context::{Context, Outcome};

/// Runs it.
pub async fn run(args: &Deploy, ctx: &Context) -> Result<Outcome, anyhow::Error> {
    let planned = deployment::make(&args.scope.which, !args.dry_run, ctx).await?;
    if args.dry_run {
        deployment::show_plan(&planned.plan, ctx)?;
        return Ok(deployment::shown(&planned.plan));
    }
    deployment::carry_out(planned, "Deploy this?", ctx).await
}
