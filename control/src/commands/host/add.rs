//! `sovereign host add`: the one moment when a host is not known yet. Its key is shown for a person to compare, written
//! down, and from then on nothing else is accepted in its place.

use std::collections::BTreeSet;

use sovereign_config::stack::model;

use super::file::{NewHost, StackFile};
use crate::args::HostAdd;
use crate::catalogue::catalogue;
use crate::context::{Context, KNOWN_HOSTS, Outcome, waiting};
use crate::failure::{Hinted, Wrong, tell};
use crate::ssh::keys::HostKey;
use crate::ssh::{Input, LOOK, Remote as _};

/// Runs it.
pub(super) async fn run(args: &HostAdd, ctx: &Context) -> Result<Outcome, anyhow::Error> {
    let mut file = read(ctx).await?;
    let is_new = file.destination(&args.name).is_none();
    if is_new {
        add(&mut file, args)?;
    } else {
        same(&file, args)?;
    }
    let stack = file.check(&catalogue()?)?;
    let unknown = || {
        Hinted::new(
            format!("stack.toml does not hold {} after all", args.name),
            "look at its [[host]] tables",
        )
    };
    let host = stack
        .hosts
        .iter()
        .find(|host| host.name == args.name)
        .ok_or_else(unknown)?;
    meet(host, args, ctx).await?;
    let path = ctx.path().display().to_string();
    if is_new {
        waiting(move || file.write()).await?;
        ctx.printer.say(&format!("added {} to {path}", args.name));
    }
    try_it(host, ctx).await
}

async fn read(ctx: &Context) -> anyhow::Result<StackFile> {
    let path = ctx.path().to_owned();
    waiting(move || StackFile::read(&path)).await
}

fn add(file: &mut StackFile, args: &HostAdd) -> anyhow::Result<()> {
    let Some(ssh) = args.destination.as_deref() else {
        let text = format!("stack.toml has no host {}", args.name);
        let hint = format!(
            "say where ssh finds it: `sovereign host add {} root@ADDRESS`",
            args.name
        );
        return Err(Wrong::new(text, hint).into());
    };
    let primary = file.primary().map(str::to_owned);
    let Some(datacentre) = args.datacentre.clone().or(primary) else {
        let hint = "add a [[datacentre]] with role = \"primary\" to stack.toml, or name one with --datacentre";
        return Err(Wrong::new("stack.toml has no primary data centre", hint).into());
    };
    file.add(NewHost {
        name: &args.name,
        datacentre: &datacentre,
        ssh,
        address: args.address.as_deref(),
    })
}

/// A host that is in the file already stays as it is there.
fn same(file: &StackFile, args: &HostAdd) -> Result<(), Wrong> {
    let known = file.destination(&args.name).unwrap_or_default();
    let other = args
        .destination
        .as_deref()
        .filter(|destination| *destination != known);
    if let Some(other) = other {
        let text = format!(
            "stack.toml has a host {} already, at {known}, not {other}",
            args.name
        );
        return Err(Wrong::new(text, "change `ssh` there, or take another name"));
    }
    if args.datacentre.is_some() || args.address.is_some() {
        let text = format!("stack.toml has a host {} already", args.name);
        return Err(Wrong::new(text, "change `datacentre` and `address` there"));
    }
    Ok(())
}

/// Has its key compared, and writes it down.
async fn meet(host: &model::Host, args: &HostAdd, ctx: &Context) -> anyhow::Result<()> {
    let access = ctx.access();
    let pinned: BTreeSet<String> = access.pinned(host).await?.into_iter().collect();
    let keys = {
        let _task = ctx
            .printer
            .task(format!("{}: asking for its key", host.name));
        access.scan(host).await?
    };
    let chosen = match &args.fingerprint {
        Some(wanted) => named(host, &keys, wanted)?,
        None => keys,
    };
    if !pinned.is_empty() {
        if chosen.iter().any(|key| pinned.contains(&key.line())) {
            ctx.printer
                .say(&format!("{}: its key is written down already", host.name));
            return Ok(());
        }
        return Err(changed(host, &chosen).into());
    }
    if args.fingerprint.is_none() {
        ctx.printer.say(&shown(host, &chosen));
        ctx.printer
            .confirm(
                "Is this what the host's console shows?",
                "--fingerprint SHA256:... takes it where it shows this key",
            )
            .await?;
    }
    access.pin(host, &chosen).await?;
    let place = ctx.path().with_file_name(KNOWN_HOSTS);
    ctx.printer.say(&format!(
        "{}: wrote its key down in {}",
        host.name,
        place.display()
    ));
    Ok(())
}

/// The key with this fingerprint.
fn named(host: &model::Host, keys: &[HostKey], wanted: &str) -> Result<Vec<HostKey>, Hinted> {
    let found: Vec<HostKey> = keys
        .iter()
        .filter(|key| key.fingerprint == wanted)
        .cloned()
        .collect();
    if found.is_empty() {
        let hint = "another machine may answer in its place: compare at the host's console with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`";
        return Err(Hinted::new(
            format!(
                "{} shows no key with that fingerprint, but\n{}",
                host.name,
                listed(keys)
            ),
            hint,
        ));
    }
    Ok(found)
}

fn changed(host: &model::Host, keys: &[HostKey]) -> Hinted {
    let name = &host.name;
    let text = format!(
        "{name} shows another key than the one that is written down:\n{}",
        listed(keys)
    );
    let hint = format!(
        "either it was set up anew, or another machine answers in its place. Compare at its console; only where it is \
         right: `sovereign host remove {name} --key`, then this again"
    );
    Hinted::new(text, hint)
}

fn shown(host: &model::Host, keys: &[HostKey]) -> String {
    format!(
        "{} ({}) shows\n{}\nAt its console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
        host.name,
        host.ssh,
        listed(keys)
    )
}

fn listed(keys: &[HostKey]) -> String {
    let lines: Vec<String> = keys
        .iter()
        .map(|key| format!("  {:<20} {}", key.kind, key.fingerprint))
        .collect();
    lines.join("\n")
}

/// Tries to log in. What is written down stays, whatever comes of it.
async fn try_it(host: &model::Host, ctx: &Context) -> anyhow::Result<Outcome> {
    let tried = async {
        let ssh = ctx.access().session(host).await?;
        ssh.run(&["id", "-u"], Input::nothing(), LOOK).await
    };
    let name = &host.name;
    match tried.await {
        Ok(output) if output.text() == "0" => {
            ctx.printer.say(&format!("{name}: logged in as root"));
            ctx.printer.hint(&format!(
                "`sovereign host prepare {name}` installs what it needs; it shows what, and asks"
            ));
            Ok(Outcome::Done)
        }
        Ok(_) => {
            ctx.printer
                .warn(&format!("{name}: logged in, and not as root"));
            ctx.printer
                .hint("deployments need root: let `ssh` in stack.toml begin with root@");
            Ok(Outcome::Differs)
        }
        Err(error) => {
            tell(&anyhow::Error::new(error), &ctx.printer);
            Ok(Outcome::Differs)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::double::host;

    fn key(kind: &str, fingerprint: &str) -> HostKey {
        HostKey {
            name: "h1".to_owned(),
            kind: kind.to_owned(),
            key: "AAAA".to_owned(),
            fingerprint: fingerprint.to_owned(),
        }
    }

    #[test]
    fn keys_are_shown_to_be_compared() {
        let keys = [
            key("ssh-ed25519", "SHA256:abc"),
            key("ecdsa-sha2-nistp256", "SHA256:def"),
        ];
        assert_eq!(
            shown(&host("h1"), &keys),
            "h1 (root@h1) shows\n  ssh-ed25519          SHA256:abc\n  ecdsa-sha2-nistp256  SHA256:def\n\
             At its console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"
        );
        assert_eq!(
            named(&host("h1"), &keys, "SHA256:def").unwrap(),
            [keys[1].clone()]
        );
        let text = named(&host("h1"), &keys, "SHA256:xyz")
            .unwrap_err()
            .to_string();
        assert!(
            text.starts_with("h1 shows no key with that fingerprint, but\n  ssh-ed25519"),
            "{text}"
        );
    }
}
