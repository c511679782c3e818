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
use crate::printer::Unasked;
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
    ctx.printer.print(&next(&args.file, &answers))?;
    Ok(Outcome::Done)
}

/// What the first stack is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answers {
    name: String,
    ssh: String,
    site: String,
    kind: String,
    /// The terms of the public authority are agreed to.
    agreed: bool,
}

async fn answers(
    args: &Init,
    catalogue: &Catalogue,
    ctx: &Context,
) -> Result<Answers, anyhow::Error> {
    let kinds = kinds(catalogue);
    let asking = Asking { args, ctx };
    if asking.can_ask() {
        ctx.printer
            .say("Enter takes what stands in brackets. All of it can be changed in the file.");
    }
    let name = asking
        .of(&args.name, "What is the stack called?", "sovereign")
        .await?;
    let question = "Where does ssh find the first host? [user@]host[:port], such as";
    let ssh = asking.needed(&args.ssh, question, "root@192.0.2.1").await?;
    let question = "What is the first site called? Such as";
    let site = asking
        .needed(&args.site, question, "www.example.org")
        .await?;
    let question = format!("What does it run? One of {}", kinds.join(", "));
    let kind = asking.of(&args.kind, &question, "ghost").await?;
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
        agreed: args.agree || asking.whether(TERMS).await?,
    })
}

/// Asks for what is not given.
struct Asking<'a> {
    args: &'a Init,
    ctx: &'a Context,
}

impl Asking<'_> {
    fn can_ask(&self) -> bool {
        !self.args.yes && self.ctx.printer.can_ask()
    }

    /// Something that can be left as it is.
    async fn of(
        &self,
        given: &Option<String>,
        question: &str,
        default: &str,
    ) -> Result<String, Unasked> {
        match given {
            Some(given) => Ok(given.clone()),
            None if self.args.yes => Ok(default.to_owned()),
            None => self.ctx.printer.ask(question, Some(default), WAY).await,
        }
    }

    /// Something that only the operator knows: an example is taken where nothing is to be asked.
    async fn needed(
        &self,
        given: &Option<String>,
        question: &str,
        example: &str,
    ) -> Result<String, Unasked> {
        match given {
            Some(given) => Ok(given.clone()),
            None if self.args.yes => Ok(example.to_owned()),
            None => {
                let question = format!("{question} {example}:");
                self.ctx.printer.ask(&question, None, WAY).await
            }
        }
    }

    /// Something that nobody agrees to by silence.
    async fn whether(&self, question: &str) -> Result<bool, Unasked> {
        match self.can_ask() {
            true => self.ctx.printer.ask_whether(question, WAY).await,
            false => Ok(false),
        }
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
        let text: String = stack::template().lines().map(fill).collect();
        match self.agreed {
            true => text.replacen(PROGRAM, &format!("{PROGRAM}{AUTHORITY}"), 1),
            false => text,
        }
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

/// What to do now, in this order, and what it is for.
fn next(file: &Path, answers: &Answers) -> String {
    let at = match file.to_str() {
        Some(crate::args::STACK) => String::new(),
        _ => format!(" --stack {}", file.display()),
    };
    let steps = [
        (
            "host add h1",
            "its key is shown, to be compared, and written down",
        ),
        (
            "host prepare h1",
            "what a host needs: engine, firewall, updates",
        ),
        ("lock", "which images the tags mean"),
        ("plan", "what would change; `deploy` changes it"),
    ];
    let lines = steps.map(|(what, why)| (format!("  sovereign {what}{at}"), why));
    let width = lines.iter().map(|(line, _)| line.len()).max().unwrap_or(0);
    let lines = lines.map(|(line, why)| format!("{line:width$}  {why}\n"));
    let (file, site) = (file.display(), &answers.site);
    let mut text = format!("wrote {file}. Look at it; then\n{}", lines.concat());
    text.push_str(&format!(
        "{site} has to lead to the host: an A or AAAA record in your DNS.\n"
    ));
    if !answers.agreed {
        text.push_str(
            "Until an authority is named below [stack.proxy], browsers do not know its certificate.\n",
        );
    }
    text
}

const WAY: &str = "--yes takes defaults for what is not given";
const TERMS: &str = "Certificates come from Let's Encrypt, once you agree to its terms: \
    https://letsencrypt.org/repository/\nDo you?";
/// To name an authority is to agree to its terms.
const AUTHORITY: &str = "
# Who gives certificates. To name an authority is to agree to its terms: https://letsencrypt.org/repository/
[[stack.proxy.acme]]
directory = \"https://acme-v02.api.letsencrypt.org/directory\"
";
/// A recipient whose key nobody has.
const NOBODY: &str = "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq";

// Lines of the template that are filled in; a test holds them to be there.
const NAME: &str = "#name = \"sovereign\"";
const RECIPIENTS: &str = "#recipients = [\"age1...\"]";
const SSH: &str = "ssh = \"root@192.0.2.1\"";
const ADDRESS: &str = "#address = \"192.0.2.1\"";
const SITE: &str = "names = [\"www.example.org\", \"example.org\"]";
const USE: &str = "use = \"ghost\"";
const PROGRAM: &str = "#   program = \"sovereign-proxy\"\n";
const SERVICE: &str = "name = \"blog\"";

#[cfg(test)]
mod tests;
