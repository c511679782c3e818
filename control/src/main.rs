//! `sovereign`: reads its arguments, does one thing, and ends with 0 (done), 1 (failed, or something differs),
//! 2 (wrong usage or configuration), 3 (something would change, where that was asked).

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use sovereign_control::args::Cli;
use sovereign_control::commands;
use sovereign_control::context::Context;
use sovereign_control::failure::{self, FAILED};
use sovereign_control::printer::Printer;

/// How long what was broken off has to let go.
const LEAVING: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let printer = Printer::new();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            printer.error(&format!("starting the runtime: {error}"));
            return ExitCode::from(FAILED);
        }
    };
    let context = Context::new(cli.command.common(), printer.clone());
    let code = match runtime.block_on(commands::perform(&cli.command, &context)) {
        Ok(outcome) => outcome.code(),
        Err(error) => failure::tell(&error, &printer),
    };
    // What was broken off lets go of its connections, which else would outlive this process, and tunnels with them.
    // A question that nobody answers any more waits on a thread of its own, and is not waited for.
    runtime.shutdown_timeout(LEAVING);
    ExitCode::from(code)
}
