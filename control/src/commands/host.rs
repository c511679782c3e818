//! `sovereign host`: hosts are met, prepared, and parted with.

// A host is met: its key, and its place in stack.toml.
mod add;
// A host is parted with.
mod remove;
// What a host needs.
mod prepare;
// stack.toml, changed with its comments.
mod file;

use crate::args::{Host, HostCommand};
use crate::context::{Context, Outcome};

/// Runs it.
pub async fn run(args: &Host, ctx: &Context) -> Result<Outcome, anyhow::Error> {
    match &args.what {
        HostCommand::Add(args) => add::run(args, ctx).await,
        HostCommand::Remove(args) => remove::run(args, ctx).await,
        HostCommand::Prepare(args) => prepare::run(args, ctx).await,
    }
}
