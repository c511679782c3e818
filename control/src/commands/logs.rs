//! `sovereign logs`: what services say, across hosts, each line with who says it.

// One line, with who says it.
mod line;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sovereign_config::stack::model;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::args::{Logs as Args, Which};
use crate::context::{Context, Outcome};
use crate::engine::{Logs, Project};
use crate::failure::{Wrong, tell};
use crate::running::{self, Running};
use crate::ssh::Connect;
use line::Lines;

/// How long after a service has ended it is looked whether it runs again.
const AGAIN: Duration = Duration::from_secs(2);
/// What was said meanwhile, as the engine counts it.
const MEANWHILE: &str = "3s";

/// Runs it.
pub async fn run(args: &Args, ctx: &Context) -> Result<Outcome, anyhow::Error> {
    check_since(args.since.as_deref())?;
    let loaded = ctx.load()?;
    let which = Which {
        host: args.host.clone(),
        service: args.services.clone(),
        site: Vec::new(),
    };
    loaded.check(&which)?;
    let meant: Vec<&model::Service> = loaded
        .stack
        .services
        .iter()
        .filter(|service| loaded.has(&which, service))
        .collect();
    if meant.is_empty() {
        return Err(Wrong::new(
            "no service is meant by that",
            "`sovereign status` shows which service is on which host",
        )
        .into());
    }
    let names: BTreeSet<&str> = meant.iter().map(|service| service.name.as_str()).collect();
    let longest = names.iter().map(|name| name.len()).max().unwrap_or(0);
    let lines = Lines::new(&ctx.printer, longest, ctx.json);
    let mut logs = JoinSet::new();
    for service in meant {
        let reader = Reader {
            connect: ctx.access().clone(),
            host: loaded.host(&service.host)?.clone(),
            service: service.name.clone(),
            part: args.part.clone(),
            follow: args.follow,
            lines: args.lines,
            since: args.since.clone(),
            times: args.times,
            to: lines.clone(),
        };
        logs.spawn(reader.read());
    }
    drop(loaded);
    until_the_last(logs, ctx).await
}

/// Waits for all; one that fails is told at once, and the others go on.
async fn until_the_last(
    mut logs: JoinSet<anyhow::Result<()>>,
    ctx: &Context,
) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::Done;
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(outcome),
            () = ctx.printer.reader_leaves() => return Ok(outcome),
            next = logs.join_next() => match next {
                None => return Ok(outcome),
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => {
                    tell(&error, &ctx.printer);
                    outcome = Outcome::Differs;
                }
                Some(Err(_)) => outcome = Outcome::Differs,
            },
        }
    }
}

/// Reads what a service says.
struct Reader {
    connect: Arc<dyn Connect>,
    host: model::Host,
    service: String,
    part: Option<String>,
    follow: bool,
    lines: u32,
    since: Option<String>,
    times: bool,
    to: Lines,
}

impl Reader {
    async fn read(self) -> anyhow::Result<()> {
        let running = running::find(self.connect.as_ref(), &self.host, &self.service).await?;
        if running.projects().is_empty() && !self.follow {
            return Err(running.not_running().into());
        }
        let first = Logs {
            part: self.part.as_deref(),
            follow: self.follow,
            tail: Some(self.lines),
            since: self.since.as_deref(),
            times: self.times,
        };
        self.of(&running, &first).await?;
        if self.follow {
            self.go_on(&first).await?;
        }
        Ok(())
    }

    /// A service that is restarted or replaced goes on in other containers.
    async fn go_on(&self, first: &Logs<'_>) -> anyhow::Result<()> {
        loop {
            sleep(AGAIN).await;
            let running = running::find(self.connect.as_ref(), &self.host, &self.service).await?;
            if !running.parts().is_empty() {
                self.of(
                    &running,
                    &Logs {
                        tail: None,
                        since: Some(MEANWHILE),
                        ..*first
                    },
                )
                .await?;
            }
        }
    }

    async fn of(&self, running: &Running, which: &Logs<'_>) -> anyhow::Result<()> {
        if running.projects().is_empty() {
            return Ok(());
        }
        if let Some(part) = which
            .part
            .filter(|part| running.in_force().all(|one| one.container.part != **part))
        {
            let mut parts: Vec<&str> = running
                .in_force()
                .map(|one| one.container.part.as_str())
                .collect();
            parts.dedup();
            let hint = format!("there is {}", parts.join(", "));
            return Err(Wrong::new(format!("{} has no part {part}", self.service), hint).into());
        }
        let project: Project = running.project();
        let mut each = |text: &str| self.to.tell(&self.service, project.name(), text);
        Ok(running.engine.logs(&project, which, &mut each).await?)
    }
}

/// A time as the engine reads it: a length such as `10m`, or a date.
fn check_since(since: Option<&str>) -> Result<(), Wrong> {
    let Some(text) = since else { return Ok(()) };
    let date = |text: &str| {
        text.len() >= 10 && text.as_bytes()[4] == b'-' && text.is_ascii() && !text.contains(' ')
    };
    let length = |text: &str| {
        let ends = text.ends_with(['s', 'm', 'h']);
        let starts = text.starts_with(|first: char| first.is_ascii_digit());
        let one = |c: char| c.is_ascii_digit() || ".hms".contains(c);
        starts && ends && text.chars().all(one)
    };
    if length(text) || date(text) {
        return Ok(());
    }
    Err(Wrong::new(
        format!("--since {text} is no time"),
        "10m, 2h, 1h30m, or a time such as 2026-01-31T12:00:00Z",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_lengths_or_dates() {
        for text in [
            "10m",
            "2h",
            "1h30m",
            "90s",
            "1.5h",
            "2026-01-31",
            "2026-01-31T12:00:00Z",
        ] {
            assert!(check_since(Some(text)).is_ok(), "{text}");
        }
        for text in [
            "",
            "10",
            "m",
            "2d",
            "yesterday",
            "-1h",
            "2026-01-31 12:00",
            "--help",
        ] {
            assert!(check_since(Some(text)).is_err(), "{text}");
        }
    }
}
