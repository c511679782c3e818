//! `sovereign init`: a few questions, a `stack.toml` that has no problems, and the operator's identity.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;
use sovereign_config::stack;
use sovereign_config::stack::catalogue::{Catalogue, Definition};

use super::secret::make_identity;
use crate::args::Init;
use crate::catalogue::catalogue;
use crate::context::{Context, Outcome, waiting};
use crate::failure::{Hinted, Wrong};
use crate::secrets::Identity;

/// Runs it.
pub async fn run(args: &Init, ctx: &Context) -> Result<Outcome, anyhow::Error> {
    if args.file.exists() {
        return Err(exists(&args.file).into());
    }
    let catalogue = catalogue()?;
    let answers = answers(args, &catalogue, ctx).await?;
    // What was answered is checked before a key is made: with a recipient that nobody has.
    check(&args.file, &answers.fill(NOBODY), &catalogue)?;
    let identity = Identity::find(ctx.identity())?;
    let recipient = if identity.exists() {
        let printer = ctx.printer.clone();
        waiting(move || identity.recipient(&printer)).await?
    } else {
        make_identity(identity, args.passphrase, ctx).await?
    };
    let text = answers.fill(&recipient);
    check(&args.file, &text, &catalogue)?;
    write(&args.file, &text)?;
    ctx.printer.print(&next(&args.file))?;
    Ok(Outcome::Done)
}

/// What the first stack is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answers {
    name: String,
    ssh: String,
    site: String,
    kind: String,
}

async fn answers(
    args: &Init,
    catalogue: &Catalogue,
    ctx: &Context,
) -> Result<Answers, anyhow::Error> {
    let kinds = kinds(catalogue);
    if !args.yes && ctx.printer.can_ask() {
        ctx.printer.say(
            "What is empty takes what stands in brackets. All of it can be changed in the file.",
        );
    }
    let name = answer(
        &args.name,
        "What is the stack called?",
        "sovereign",
        args.yes,
        ctx,
    )
    .await?;
    let question = "Where does ssh find the first host? [user@]host[:port]";
    let ssh = answer(&args.ssh, question, "root@192.0.2.1", args.yes, ctx).await?;
    let site = answer(
        &args.site,
        "What is the first site called?",
        "www.example.org",
        args.yes,
        ctx,
    )
    .await?;
    let question = format!("What does it run? One of {}", kinds.join(", "));
    let kind = answer(&args.kind, &question, "ghost", args.yes, ctx).await?;
    if !kinds.contains(&kind.as_str()) {
        let hint = format!(
            "there is {}; others can be added in the file",
            kinds.join(", ")
        );
        return Err(Wrong::new(format!("a stack does not start with `{kind}`"), hint).into());
    }
    Ok(Answers {
        name,
        ssh,
        site,
        kind,
    })
}

async fn answer(
    given: &Option<String>,
    question: &str,
    default: &str,
    yes: bool,
    ctx: &Context,
) -> Result<String, anyhow::Error> {
    match given {
        Some(given) => Ok(given.clone()),
        None if yes => Ok(default.to_owned()),
        None => Ok(ctx
            .printer
            .ask(
                question,
                default,
                "--yes takes defaults for what is not given",
            )
            .await?),
    }
}

/// The kinds that can be a site's first service: those that are visited, and need no more than a name.
fn kinds(catalogue: &Catalogue) -> Vec<&str> {
    let starts = |kind: &Definition| {
        let set = kind.options.values().all(|option| option.default.is_some());
        kind.port.is_some() && kind.needs.is_empty() && set
    };
    let kinds = catalogue.iter().filter(|(_, kind)| starts(kind));
    kinds.map(|(name, _)| name.as_str()).collect()
}

impl Answers {
    /// The template, with these answers in the place of its examples.
    fn fill(&self, recipient: &str) -> String {
        let service = if self.kind == "ghost" {
            "blog"
        } else {
            &self.kind
        };
        let lines = [
            (NAME, format!("name = {}", quoted(&self.name))),
            (RECIPIENTS, format!("recipients = [{}]", quoted(recipient))),
            (SSH, format!("ssh = {}", quoted(&self.ssh))),
            (ADDRESS, ADDRESS.replace("192.0.2.1", host_of(&self.ssh))),
            (SITE, format!("names = {}", names(&self.site))),
            (USE, format!("use = {}", quoted(&self.kind))),
            (SERVICE, format!("name = {}", quoted(service))),
        ];
        let fill = |line: &str| {
            let filled = lines.iter().find(|(example, _)| *example == line);
            filled.map_or_else(|| line.to_owned(), |(_, filled)| filled.clone()) + "\n"
        };
        stack::template().lines().map(fill).collect()
    }
}

/// A site, and the name that people leave the `www.` out of.
fn names(site: &str) -> String {
    let bare = site.strip_prefix("www.").filter(|bare| bare.contains('.'));
    let names: Vec<String> = std::iter::once(site).chain(bare).map(quoted).collect();
    format!("[{}]", names.join(", "))
}

fn host_of(ssh: &str) -> &str {
    let host = ssh.rsplit_once('@').map_or(ssh, |(_, host)| host);
    host.split(':')
        .next()
        .filter(|host| !host.is_empty())
        .unwrap_or("192.0.2.1")
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn check(file: &Path, text: &str, catalogue: &Catalogue) -> Result<(), anyhow::Error> {
    let base = file.parent().unwrap_or(Path::new(""));
    stack::parse(&file.display().to_string(), text, base, catalogue)?;
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<(), anyhow::Error> {
    let mut options = OpenOptions::new();
    let opened = options.write(true).create_new(true).open(file);
    let mut opened = match opened {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(exists(file).into());
        }
        opened => opened.with_context(|| format!("opening {}", file.display()))?,
    };
    opened
        .write_all(text.as_bytes())
        .with_context(|| format!("writing {}", file.display()))
}

fn exists(file: &Path) -> Hinted {
    let shown = file.display();
    let hint = format!(
        "`sovereign check --stack {shown}` says whether it is sound; `sovereign init FILE` writes another"
    );
    Hinted::new(format!("{shown} exists, and is not replaced"), hint)
}

fn next(file: &Path) -> String {
    let at = match file.to_str() {
        Some(crate::args::STACK) => String::new(),
        _ => format!(" --stack {}", file.display()),
    };
    format!(
        "wrote {}. Next:\n  \
         sovereign host add h1{at}      its key is shown, and written down\n  \
         sovereign host prepare h1{at}  what a host needs: engine, firewall, updates\n  \
         sovereign lock{at}             which images the tags mean\n  \
         sovereign deploy{at}\n",
        file.display()
    )
}

/// A recipient whose key nobody has.
const NOBODY: &str = "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq";

// Lines of the template that are filled in; a test holds them to be there.
const NAME: &str = "#name = \"sovereign\"";
const RECIPIENTS: &str = "#recipients = [\"age1...\"]";
const SSH: &str = "ssh = \"root@192.0.2.1\"";
const ADDRESS: &str = "#address = \"192.0.2.1\"";
const SITE: &str = "names = [\"www.example.org\", \"example.org\"]";
const USE: &str = "use = \"ghost\"";
const SERVICE: &str = "name = \"blog\"";

#[cfg(test)]
mod tests;
