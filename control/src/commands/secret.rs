//! `sovereign secret`: passwords and keys of a stack. A value comes from the terminal or standard input and goes
//! into the encrypted file; `get` alone shows one.

use std::io::{IsTerminal as _, Read as _};

use age::secrecy::{ExposeSecret as _, SecretString};
use anyhow::Context as _;
use zeroize::Zeroizing;

use crate::args::{Secret, SecretCommand, SecretIdentity, SecretName};
use crate::context::{Context, Loaded, Outcome, waiting};
use crate::failure::Hinted;
use crate::printer::{Cell, Printer, Table, Tone};
use crate::secrets::{Error, Identity, Secrets, Shown};

/// Runs it.
pub async fn run(args: &Secret, ctx: &Context) -> Result<Outcome, anyhow::Error> {
    match &args.what {
        SecretCommand::Set(args) => set(args, ctx).await?,
        SecretCommand::Get(args) => get(args, ctx).await?,
        SecretCommand::List(_) => list(ctx).await?,
        SecretCommand::Rotate(args) => rotate(args, ctx).await?,
        SecretCommand::Seal(_) => seal(ctx).await?,
        SecretCommand::Identity(args) => identity(args, ctx).await?,
    }
    Ok(Outcome::Done)
}

async fn set(args: &SecretName, ctx: &Context) -> Result<(), anyhow::Error> {
    let loaded = ctx.load()?;
    let value = value(&args.name, &ctx.printer).await?;
    let name = args.name.clone();
    let there = change(&loaded, ctx, move |secrets| secrets.set(&name, value)).await?;
    let done = if there { "replaced" } else { "set" };
    let users = loaded.users(&args.name);
    ctx.printer.say(&match users.as_slice() {
        [] => format!(
            "{} is {done}. Nothing uses it yet: an option of stack.toml does as {{ secret = \"{}\" }}",
            args.name, args.name
        ),
        users => format!("{} is {done}. `sovereign deploy` brings it to {}", args.name, users.join(", ")),
    });
    Ok(())
}

/// The value alone, with a newline: for a person, a pipe, or `$(...)`.
async fn get(args: &SecretName, ctx: &Context) -> Result<(), anyhow::Error> {
    let loaded = ctx.load()?;
    let (safe, name) = (ctx.safe(&loaded.stack), args.name.clone());
    let line = waiting(move || {
        let secrets = safe.load()?;
        let value = secrets.value(&name)?.expose_secret();
        Ok::<_, Error>(Zeroizing::new(format!("{value}\n")))
    });
    let line = line.await.map_err(|error| not_yet(error, args, &loaded))?;
    ctx.printer.print(&line)?;
    Ok(())
}

/// One that the stack needs and that is not there has another way out than one that nobody knows.
fn not_yet(error: anyhow::Error, args: &SecretName, loaded: &Loaded) -> anyhow::Error {
    let name = &args.name;
    let unknown = matches!(error.downcast_ref(), Some(Error::Unknown { .. }));
    let hint = match () {
        () if unknown && loaded.needs().iter().any(|need| need.name == *name) => {
            "the first `sovereign deploy` makes it".to_owned()
        }
        () if unknown && loaded.named().contains(&name.as_str()) => {
            format!("`sovereign secret set {name}` sets it")
        }
        () => return error,
    };
    Hinted::new(format!("{name} is not set yet"), hint).into()
}

async fn rotate(args: &SecretName, ctx: &Context) -> Result<(), anyhow::Error> {
    let loaded = ctx.load()?;
    let name = args.name.clone();
    change(&loaded, ctx, move |secrets| secrets.rotate(&name)).await?;
    let users = loaded.users(&args.name);
    ctx.printer.say(&match users.as_slice() {
        [] => format!("{} is another one now. Nothing uses it", args.name),
        users => {
            format!(
                "{} is another one now. `sovereign deploy` brings it to {}",
                args.name,
                users.join(", ")
            )
        }
    });
    Ok(())
}

async fn seal(ctx: &Context) -> Result<(), anyhow::Error> {
    let loaded = ctx.load()?;
    change(&loaded, ctx, |_| Ok(())).await?;
    let place = ctx.safe(&loaded.stack).path().display().to_string();
    let count = loaded.stack.recipients.len();
    let readers = if count == 1 {
        "recipient"
    } else {
        "recipients"
    };
    ctx.printer
        .say(&format!("{place} is encrypted to {count} {readers}"));
    Ok(())
}

/// Reads the file, changes something, and writes it.
async fn change<T: Send + 'static>(
    loaded: &Loaded,
    ctx: &Context,
    what: impl FnOnce(&mut Secrets) -> Result<T, Error> + Send + 'static,
) -> Result<T, anyhow::Error> {
    let safe = ctx.safe(&loaded.stack);
    waiting(move || {
        let mut secrets = safe.load()?;
        let done = what(&mut secrets)?;
        safe.save(&secrets)?;
        Ok::<_, Error>(done)
    })
    .await
}

async fn list(ctx: &Context) -> Result<(), anyhow::Error> {
    let loaded = ctx.load()?;
    let safe = ctx.safe(&loaded.stack);
    let secrets = waiting(move || safe.load()).await?;
    let rows = rows(&loaded, &secrets);
    if ctx.json {
        ctx.printer.json(&rows)?;
        return Ok(());
    }
    let mut table = Table::headed(&["NAME", "SET", "HOW", "USED BY"]);
    for row in &rows {
        table.row(row.cells());
    }
    match rows.is_empty() {
        true => ctx.printer.say("the stack has no secrets"),
        false => ctx.printer.table(&table)?,
    }
    Ok(())
}

/// A secret in the list.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
struct Row {
    name: String,
    /// When, RFC 3339; empty where it is not there, or where that is not written down.
    set: String,
    how: How,
    used_by: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum How {
    Made,
    Given,
    /// The next deployment makes it.
    ToBeMade,
    /// Somebody has to set it.
    Missing,
}

/// What is in the file, what the next deployment makes, and what is missing.
fn rows(loaded: &Loaded, secrets: &Secrets) -> Vec<Row> {
    let used_by = |name: &str| loaded.users(name).into_iter().map(str::to_owned).collect();
    let absent = |name: &str, how| Row {
        name: name.to_owned(),
        set: String::new(),
        how,
        used_by: used_by(name),
    };
    let there = |shown: Shown| Row {
        used_by: used_by(&shown.name),
        name: shown.name,
        set: shown.set,
        how: if shown.made { How::Made } else { How::Given },
    };
    let mut rows: Vec<Row> = secrets.shown().into_iter().map(there).collect();
    let is_there = |name: &str| secrets.contains(name);
    let named = loaded.named();
    rows.extend(
        named
            .into_iter()
            .filter(|name| !is_there(name))
            .map(|name| absent(name, How::Missing)),
    );
    let needs = loaded.needs();
    let to_make = needs.iter().filter(|need| !is_there(&need.name));
    rows.extend(to_make.map(|need| absent(&need.name, How::ToBeMade)));
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows.dedup_by(|a, b| a.name == b.name);
    rows
}

impl Row {
    fn cells(&self) -> [Cell; 4] {
        let set = if self.set.is_empty() { "-" } else { &self.set };
        let how = match self.how {
            How::Made => Cell::from("made"),
            How::Given => Cell::from("given"),
            How::ToBeMade => Cell::toned("made by the next deployment", Tone::Dim),
            How::Missing => Cell::toned("missing", Tone::Bad),
        };
        let used_by = match self.used_by.is_empty() {
            true => Cell::toned("nothing", Tone::Dim),
            false => self.used_by.join(", ").into(),
        };
        [self.name.as_str().into(), set.into(), how, used_by]
    }
}

/// A value: typed where there is a terminal, else all of standard input without the newline at its end.
async fn value(name: &str, printer: &Printer) -> Result<SecretString, anyhow::Error> {
    if std::io::stdin().is_terminal() {
        let way = "or have it come on standard input";
        return Ok(printer
            .ask_secret(&format!("Value of {name}: "), way)
            .await?);
    }
    waiting(|| {
        let mut text = Zeroizing::new(String::with_capacity(4096));
        let stdin = std::io::stdin().lock();
        stdin
            .take(MOST)
            .read_to_string(&mut text)
            .context("reading standard input")?;
        let value = text
            .strip_suffix('\n')
            .map_or(text.as_str(), |text| text.trim_end_matches('\r'));
        Ok::<_, anyhow::Error>(SecretString::from(value.to_owned()))
    })
    .await
}

async fn identity(args: &SecretIdentity, ctx: &Context) -> Result<(), anyhow::Error> {
    let identity = Identity::find(ctx.identity())?;
    let recipient = if identity.exists() {
        let printer = ctx.printer.clone();
        waiting(move || identity.recipient(&printer)).await?
    } else {
        make_identity(identity, args.passphrase, ctx).await?
    };
    ctx.printer.print(&format!("{recipient}\n"))?;
    Ok(())
}

/// Makes the operator's identity, and gives its recipient.
pub(super) async fn make_identity(
    identity: Identity,
    protect: bool,
    ctx: &Context,
) -> Result<String, anyhow::Error> {
    let passphrase = if protect {
        Some(new_passphrase(&ctx.printer).await?)
    } else {
        None
    };
    let path = identity.path().display().to_string();
    let recipient = waiting(move || identity.make(passphrase)).await?;
    ctx.printer.say(&format!(
        "made the identity {path}: it reads the secrets of every stack that names its recipient. \
         Keep a copy of it in a safe place"
    ));
    Ok(recipient)
}

async fn new_passphrase(printer: &Printer) -> Result<SecretString, anyhow::Error> {
    let way = "run it where it can be typed, or without --passphrase";
    let first = printer
        .ask_secret("Passphrase of the new identity: ", way)
        .await?;
    let second = printer.ask_secret("Once more: ", way).await?;
    if first.expose_secret().is_empty() {
        return Err(Error::Passphrase("nothing was made: the passphrase is empty").into());
    }
    if first.expose_secret() != second.expose_secret() {
        return Err(Error::Passphrase("nothing was made: the two passphrases differ").into());
    }
    Ok(first)
}

/// More than a value may have, in bytes, so that one that is too long is noticed.
const MOST: u64 = 64 * 1024 + 2;

#[cfg(test)]
mod tests;
