//! `sovereign host remove`: a host is taken out of `stack.toml` and its key is forgotten. Nothing is done to the host
//! itself, so that it is refused while anything runs there that nobody would then look after.

use std::collections::BTreeSet;

use sovereign_config::stack::model::{self, ProxyAs};

use super::file::StackFile;
use crate::args::HostRemove;
use crate::context::{Context, Loaded, Outcome, waiting};
use crate::engine;
use crate::failure::{Hinted, chain};
use crate::ssh::Connect as _;

/// Runs it.
pub(super) async fn run(args: &HostRemove, ctx: &Context) -> Result<Outcome, anyhow::Error> {
    let loaded = ctx.load()?;
    let host = loaded.host(&args.name)?.clone();
    if args.key {
        ctx.confirm(&format!("Forget the key of {}?", host.name))
            .await?;
        ctx.access().unpin(&host).await?;
        ctx.printer.say(&format!("forgot the key of {}", host.name));
        return Ok(Outcome::Done);
    }
    is_unused(&loaded, &host.name)?;
    let looked = {
        let _task = ctx
            .printer
            .task(format!("{}: looking what runs there", host.name));
        running(&host, ctx).await
    };
    let question = match looked {
        Ok(running) if running.is_empty() => {
            format!("Take {} out of stack.toml, and forget its key?", host.name)
        }
        Ok(running) => return Err(runs(&host.name, &running).into()),
        Err(error) => {
            ctx.printer.warn(&format!(
                "it cannot be seen whether anything runs there: {}",
                chain(&error)
            ));
            format!(
                "Take {} out of stack.toml all the same, and forget its key?",
                host.name
            )
        }
    };
    let path = ctx.path().to_owned();
    let mut file = waiting(move || StackFile::read(&path)).await?;
    file.remove(&host.name);
    file.check(&loaded.catalogue)?;
    ctx.confirm(&question).await?;
    waiting(move || file.write()).await?;
    ctx.access().unpin(&host).await?;
    ctx.printer.say(&format!(
        "took {} out of {}, and forgot its key",
        host.name,
        ctx.path().display()
    ));
    ctx.printer.say(&format!(
        "what lies on {} stays: volumes, and its proxy, which goes on serving",
        host.name
    ));
    ctx.printer.hint(stop_proxy(host.proxy));
    Ok(Outcome::Done)
}

/// No service of the stack is on it, also not one that would only move elsewhere because it names no host.
fn is_unused(loaded: &Loaded, host: &str) -> Result<(), Hinted> {
    let on_it = loaded
        .stack
        .services
        .iter()
        .filter(|service| service.host == host);
    let on_it: Vec<&str> = on_it.map(|service| service.name.as_str()).collect();
    if on_it.is_empty() {
        return Ok(());
    }
    let hint = "`sovereign down` stops them; then take them out of stack.toml, or give them another `host`";
    Err(Hinted::new(
        format!("stack.toml has services on {host}: {}", on_it.join(", ")),
        hint,
    ))
}

/// The services that run on it.
async fn running(host: &model::Host, ctx: &Context) -> Result<BTreeSet<String>, engine::Error> {
    let remote = ctx.access().connect(host).await?;
    let found = engine::of(host.engine, remote).containers().await?;
    Ok(found.into_iter().filter_map(|one| one.service).collect())
}

/// How its proxy is stopped, by hand: this command knows the host no more.
fn stop_proxy(how: ProxyAs) -> &'static str {
    match how {
        ProxyAs::Systemd => {
            "`systemctl disable --now sovereign-proxy.socket sovereign-proxy` there stops the proxy"
        }
        ProxyAs::Container => {
            "`docker compose --project-name sovereign_proxy down` there stops the proxy"
        }
    }
}

fn runs(host: &str, running: &BTreeSet<String>) -> Hinted {
    let names: Vec<&str> = running.iter().map(String::as_str).collect();
    let hint = format!(
        "`sovereign deploy --host {host}` stops what is no longer in stack.toml, and keeps its data"
    );
    Hinted::new(
        format!("services still run on {host}: {}", names.join(", ")),
        hint,
    )
}
