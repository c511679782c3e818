//! `sovereign open`: the page for administrators of a service, through an SSH tunnel to its port on its host. Nothing
//! of it is exposed: the tunnel begins on the loopback address of this machine and ends on that of the host.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use sovereign_config::stack::catalogue::{self, Definition};
use sovereign_config::stack::model::Service;

use crate::args::Open;
use crate::context::{Context, Loaded, Outcome};
use crate::failure::{Hinted, Wrong};
use crate::running::{self, Running};
use crate::ssh::{Input, LOOK, Remote};

/// How often it is looked whether the connection still stands.
const LOOKS: Duration = Duration::from_secs(15);

/// Runs it.
pub async fn run(args: &Open, ctx: &Context) -> Result<Outcome, anyhow::Error> {
    let loaded = ctx.load()?;
    let service = loaded.service(&args.service)?;
    let kind = kind(&loaded, service);
    let Some(inner) = kind.visited_port(&service.options) else {
        let hint = format!("`sovereign exec {}` runs a command in it", service.name);
        return Err(Wrong::new(
            format!("{} has no pages: nobody visits it", service.name),
            hint,
        )
        .into());
    };
    let host = loaded.host(&service.host)?;
    let task = ctx
        .printer
        .task(format!("{}: looking for {}", host.name, service.name));
    let running = running::find(ctx.access().as_ref(), host, &service.name).await?;
    let there = match service.kind.as_str() {
        // There the option says where it is found on its host.
        catalogue::CUSTOM => inner,
        _ => published(&running, inner).await?,
    };
    let here = free(args.port)?;
    let ssh = ctx.access().session(host).await?;
    ssh.tunnel(here, there).await?;
    drop(task);
    ctx.printer.print(&format!(
        "http://127.0.0.1:{here}{}\n",
        page(service, &kind)
    ))?;
    if let Some(name) = service
        .site
        .and_then(|site| loaded.stack.sites.get(site)?.names.first())
    {
        ctx.printer.say(&format!("where a page leads to https://{name}, that is reached through the proxy, not through this tunnel"));
    }
    ctx.printer.say("Ctrl-C closes it");
    until_closed(ssh.as_ref()).await
}

fn kind(loaded: &Loaded, service: &Service) -> Definition {
    loaded
        .catalogue
        .get(&service.kind)
        .cloned()
        .unwrap_or_else(catalogue::custom)
}

/// The path of its page: below its place on its site, where it has been told that it is there.
fn page(service: &Service, kind: &Definition) -> String {
    let below = service.path.trim_end_matches('/');
    format!("{below}{}", kind.open.as_deref().unwrap_or("/"))
}

/// The port on the host that leads to a port of a container: the engine is asked, for it knows.
async fn published(running: &Running, inner: u16) -> anyhow::Result<u16> {
    let wanted = format!("{inner}/tcp");
    for found in running.in_force() {
        let argv = ["docker", "port", &found.id, &wanted];
        let output = running.remote.output(&argv, Input::nothing(), LOOK).await?;
        if let Some(port) = port(&output.text()).filter(|_| output.code == 0) {
            return Ok(port);
        }
    }
    if running.parts().is_empty() {
        return Err(running.not_running().into());
    }
    let text = format!(
        "{} publishes port {inner} of none of its containers",
        running.service
    );
    Err(Hinted::new(
        text,
        format!(
            "`sovereign status --service {}` shows how it is",
            running.service
        ),
    )
    .into())
}

/// Reads what `docker port` prints: `127.0.0.1:20016`, a line for each address.
fn port(printed: &str) -> Option<u16> {
    printed
        .lines()
        .find_map(|line| line.rsplit_once(':')?.1.trim().parse().ok())
}

/// This port of this machine, or one that is free.
fn free(wanted: Option<u16>) -> Result<u16, Hinted> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted.unwrap_or(0)));
    let port = bound
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port());
    port.map_err(|error| {
        let what = wanted.map_or_else(|| "a port".to_owned(), |port| format!("port {port}"));
        let text = format!("{what} of this machine cannot be listened at: {error}");
        Hinted::new(text, "without --port, any that is free is taken")
    })
}

/// Waits for Ctrl-C, or for the connection to end.
async fn until_closed(ssh: &dyn Remote) -> anyhow::Result<Outcome> {
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(Outcome::Done),
            () = tokio::time::sleep(LOOKS) => {}
        }
        ssh.run(&["true"], Input::nothing(), LOOK).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_says_of_ports() {
        for (printed, expected) in [
            ("127.0.0.1:20016\n", Some(20016)),
            ("0.0.0.0:20016\n[::]:20016\n", Some(20016)),
            ("", None),
            ("Error: No public port '2368/tcp' published\n", None),
        ] {
            assert_eq!(port(printed), expected, "{printed}");
        }
    }

    #[test]
    fn a_port_that_is_taken_is_named() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let text = free(Some(port)).unwrap_err().to_string();
        assert!(
            text.starts_with(&format!(
                "port {port} of this machine cannot be listened at: "
            )),
            "{text}"
        );
        assert!(free(None).is_ok());
    }
}
