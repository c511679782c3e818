//! `sovereign lock`: which images the tags mean, found out and written down.

use std::collections::BTreeSet;
use std::sync::Arc;

use sovereign_config::stack::model::{Host, ImageSource};

use crate::args;
use crate::context::{Context, Loaded, Outcome, waiting};
use crate::desired::Sources;
use crate::lock::resolve::{self, Engine};
use crate::lock::{Change, Error, Lock};
use crate::printer::{Cell, Table, Tone};
use crate::ssh::{Connect as _, Remote};

/// Runs it.
pub async fn run(args: &args::Lock, ctx: &Context) -> Result<Outcome, anyhow::Error> {
    let loaded = ctx.load()?;
    if let Some(name) = &args.host {
        loaded.host(name)?;
    }
    let path = Lock::path(ctx.path());
    let before = Lock::load(&path)?;
    let (stack, folder) = (loaded.stack.clone(), ctx.folder().to_owned());
    let sources = waiting(move || Sources::read(&stack, &folder)).await?;
    let used = resolve::used(&loaded.stack, &loaded.catalogue, &sources)?;
    let used: BTreeSet<String> = used.into_keys().collect();
    let again = args.update.as_ref().map(Option::as_deref);
    let missing = before.missing(&used, loaded.stack.images, again)?;
    let mut lock = before.clone();
    let found = find_out(&missing, args.host.as_deref(), &loaded, ctx, &mut lock).await;
    if found.is_ok() {
        lock.images.retain(|reference, _| used.contains(reference));
    }
    // What was found out before something failed is kept.
    if lock != before {
        lock.save(&path)?;
    }
    found?;
    show(&before, &lock, ctx)?;
    Ok(Outcome::Done)
}

async fn find_out(
    missing: &BTreeSet<String>,
    host: Option<&str>,
    loaded: &Loaded,
    ctx: &Context,
    lock: &mut Lock,
) -> Result<(), Error> {
    if missing.is_empty() {
        return Ok(());
    }
    let remote;
    let engine = match loaded.stack.images {
        ImageSource::Local => Engine::Here("docker"),
        ImageSource::Registry => {
            remote = first(host, &loaded.stack.hosts, ctx).await?;
            Engine::Host(remote.as_ref())
        }
    };
    for reference in missing {
        let locked = engine.resolve(reference, &ctx.printer).await?;
        lock.images.insert(reference.clone(), locked);
    }
    Ok(())
}

/// The host that is named, else the first that answers.
async fn first(
    named: Option<&str>,
    hosts: &[Host],
    ctx: &Context,
) -> Result<Arc<dyn Remote>, Error> {
    let mut why = None;
    let wanted = hosts
        .iter()
        .filter(|host| named.is_none_or(|name| host.name == name));
    for host in wanted {
        match ctx.access().connect(host).await {
            Ok(remote) => return Ok(remote),
            Err(error) => {
                if let Some(before) = why.replace(error) {
                    ctx.printer.warn(&before.to_string());
                }
            }
        }
    }
    Err(match why {
        Some(source) => Error::NoAnswer { source },
        None => Error::NoHost {
            name: named.unwrap_or("in stack.toml").to_owned(),
        },
    })
}

fn show(before: &Lock, lock: &Lock, ctx: &Context) -> Result<(), anyhow::Error> {
    let changes = before.changes(lock);
    if ctx.json {
        let images: Vec<_> = lock.images.values().collect();
        ctx.printer
            .json(&serde_json::json!({ "images": images, "changes": changes }))?;
        return Ok(());
    }
    if changes.is_empty() {
        let count = lock.images.len();
        let images = if count == 1 { "image" } else { "images" };
        ctx.printer.print(&format!(
            "{}: {count} {images}, nothing new\n",
            crate::lock::FILE
        ))?;
        return Ok(());
    }
    let mut table = Table::plain();
    for change in &changes {
        table.row(row(change));
    }
    ctx.printer.table(&table)?;
    let moved = changes
        .iter()
        .any(|change| matches!(change, Change::Moved { .. }));
    ctx.printer.say(if moved {
        "`sovereign plan` shows which services this changes"
    } else {
        "written to sovereign.lock"
    });
    Ok(())
}

fn row(change: &Change) -> [Cell; 3] {
    match change {
        Change::Added { reference, now } => [
            Cell::toned("+", Tone::Good),
            reference.as_str().into(),
            now.as_str().into(),
        ],
        Change::Moved {
            reference,
            before,
            now,
        } => {
            let both = format!("{before} -> {now}");
            [
                Cell::toned("~", Tone::Warn),
                reference.as_str().into(),
                both.into(),
            ]
        }
        Change::Removed { reference } => [
            Cell::toned("-", Tone::Bad),
            reference.as_str().into(),
            "no service runs it".into(),
        ],
    }
}
