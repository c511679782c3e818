//! The commands, one file each: they call the modules in the order of a deployment, and say what came of it.

// A stack to start from.
pub mod init;
// Problems of a stack.
pub mod check;
// Passwords and keys.
pub mod secret;
// Which images the tags mean.
pub mod lock;
// What `plan`, `deploy` and `rollback` have in common.
mod deployment;
// What would change.
pub mod plan;
// Changes it.
pub mod deploy;
// Back to a deployment of before.
pub mod rollback;
// Hosts: met, prepared, parted with.
pub mod host;
// How everything is.
pub mod status;
// What services say.
pub mod logs;
// A command in a container.
pub mod exec;
// Services again.
pub mod restart;
// Services no more.
pub mod down;
// The page for administrators.
pub mod open;
// What needs attention, for a reader and a calendar.
pub mod feed;

use crate::args::Command;
use crate::context::{Context, Outcome};

/// Does what was asked.
pub async fn perform(command: &Command, ctx: &Context) -> Result<Outcome, anyhow::Error> {
    match command {
        Command::Init(args) => init::run(args, ctx).await,
        Command::Check(args) => check::run(args, ctx).await,
        Command::Secret(args) => secret::run(args, ctx).await,
        Command::Lock(args) => lock::run(args, ctx).await,
        Command::Plan(args) => plan::run(args, ctx).await,
        Command::Deploy(args) => deploy::run(args, ctx).await,
        Command::Rollback(args) => rollback::run(args, ctx).await,
        Command::Host(args) => host::run(args, ctx).await,
        Command::Status(args) => status::run(args, ctx).await,
        Command::Logs(args) => logs::run(args, ctx).await,
        Command::Exec(args) => exec::run(args, ctx).await,
        Command::Restart(args) => restart::run(args, ctx).await,
        Command::Down(args) => down::run(args, ctx).await,
        Command::Open(args) => open::run(args, ctx).await,
        Command::Feed(args) => feed::run(args, ctx).await,
    }
}
