//! `sovereign exec`: a command in a container of a service. What is typed goes to it and what it prints comes back as it
//! is, and so does its exit code.

use std::io::{self, IsTerminal as _};

use crate::args::Exec;
use crate::context::{Context, Outcome};
use crate::running;

/// What a code is given as that no process can end with.
const OTHER: u8 = 255;

/// Runs it.
pub async fn run(args: &Exec, ctx: &Context) -> Result<Outcome, anyhow::Error> {
    let loaded = ctx.load()?;
    let service = loaded.service(&args.service)?;
    let host = loaded.host(&service.host)?;
    let access = ctx.access();
    let task = ctx
        .printer
        .task(format!("{}: looking for {}", host.name, service.name));
    let running = running::find(access.as_ref(), host, &service.name).await?;
    let part = running.part(args.part.as_deref())?;
    let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let command: Vec<&str> = args.command.iter().map(String::as_str).collect();
    let argv = running
        .engine
        .exec_argv(&running.project(), &part, &command, terminal)
        .await?;
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    // From here on the terminal is the command's.
    drop(task);
    let code = access
        .session(host)
        .await?
        .interactive(&argv, terminal)
        .await?;
    Ok(Outcome::Code(u8::try_from(code).unwrap_or(OTHER)))
}
