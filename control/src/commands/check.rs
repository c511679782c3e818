//! `sovereign check`: every problem of a stack, in one run.

use anyhow::Context as _;
use sovereign_config::Report;
use sovereign_config::stack;

use crate::args::Check;
use crate::catalogue::catalogue;
use crate::context::{Context, Loaded, Outcome, waiting};
use crate::desired::{Sources, rehearse};
use crate::lock::{Lock, resolve};

/// Runs it.
pub async fn run(args: &Check, ctx: &Context) -> Result<Outcome, anyhow::Error> {
    if args.schema {
        let schema = stack::schema(&catalogue()?);
        ctx.printer
            .json(&schema)
            .context("writing to standard output")?;
        return Ok(Outcome::Done);
    }
    match ctx.load() {
        Ok(loaded) => sound(&loaded, ctx).await,
        Err(report) => wrong(report, ctx),
    }
}

async fn sound(loaded: &Loaded, ctx: &Context) -> Result<Outcome, anyhow::Error> {
    let notes = notes(loaded, ctx).await?;
    if ctx.json {
        let none: [(); 0] = [];
        let file = ctx.path().display().to_string();
        let about =
            serde_json::json!({ "file": file, "ok": true, "problems": none, "notes": notes });
        ctx.printer.json(&about)?;
    } else {
        ctx.printer
            .print(&format!("{}: no problems\n", ctx.path().display()))?;
        for note in notes {
            ctx.printer.print(&format!("note: {note}\n"))?;
        }
    }
    Ok(Outcome::Done)
}

fn wrong(report: Report, ctx: &Context) -> Result<Outcome, anyhow::Error> {
    if !ctx.json {
        return Err(report.into());
    }
    ctx.printer.json(&serde_json::json!({
        "file": report.file,
        "ok": false,
        "problems": report.problems,
        "notes": [],
    }))?;
    Ok(Outcome::Code(crate::failure::WRONG))
}

/// What is no problem, and has to be done before a deployment.
async fn notes(loaded: &Loaded, ctx: &Context) -> Result<Vec<String>, anyhow::Error> {
    let (stack, folder, path) = (
        loaded.stack.clone(),
        ctx.folder().to_owned(),
        Lock::path(ctx.path()),
    );
    let read = move || {
        let sources = Sources::read(&stack, &folder)?;
        Ok::<_, anyhow::Error>((sources, Lock::load(&path)?))
    };
    let (sources, lock) = waiting(read).await?;
    rehearse(&loaded.stack, &loaded.catalogue, &sources)?;
    let used = resolve::used(&loaded.stack, &loaded.catalogue, &sources)?;
    let used = used.into_keys().collect();
    let missing = lock.missing(&used, loaded.stack.images, None)?;
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let names = missing.into_iter().collect::<Vec<_>>().join(", ");
    Ok(vec![format!(
        "which images these mean is not known yet; `sovereign lock` finds out: {names}"
    )])
}
