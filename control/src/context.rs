//! What every command works with: the stack that is meant, the printer, and the ways to secrets, lock and hosts.
//! Stands alone so that a command is its own steps and nothing else.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use sovereign_config::stack::catalogue::{Catalogue, SecretRule};
use sovereign_config::stack::model::{Host, Service, Stack, Value};
use sovereign_config::{Report, stack};

use crate::args::{Common, Which};
use crate::catalogue::{catalogue, secret_key};
use crate::failure::{Wrong, nearest};
use crate::lock::Lock;
use crate::printer::{Printer, Unasked};
use crate::secrets::{Need, Safe, Secrets};
use crate::ssh::Access;

/// The host keys that `sovereign host add` has written down, beside `stack.toml`.
pub const KNOWN_HOSTS: &str = "known_hosts";
/// Names another OpenSSH configuration than the operator's usual one.
pub const SSH_CONFIG: &str = "SOVEREIGN_SSH_CONFIG";

/// What a command works with.
#[derive(Debug)]
pub struct Context {
    /// Prints and asks.
    pub printer: Printer,
    /// Standard output is for JSON.
    pub json: bool,
    path: PathBuf,
    identity: Option<PathBuf>,
    yes: bool,
    confirm: Vec<String>,
    access: OnceLock<Arc<Access>>,
}

/// A stack, and the kinds of service it is made of.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The stack.
    pub stack: Stack,
    /// The kinds of service there are.
    pub catalogue: Catalogue,
}

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done, or nothing to do.
    Done,
    /// Done as far as it could be, and something is not as it should be.
    Differs,
    /// Something would change, and that was asked.
    WouldChange,
    /// As a command ended that was run for the operator.
    Code(u8),
}

impl Outcome {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Differs => 1,
            Self::WouldChange => 3,
            Self::Code(code) => code,
        }
    }
}

impl Context {
    /// For a command with these arguments.
    pub fn new(common: Common<'_>, printer: Printer) -> Self {
        Self {
            printer,
            json: common.json,
            path: common.stack.to_owned(),
            identity: common.identity.map(Path::to_owned),
            yes: common.yes,
            confirm: common.confirm.to_owned(),
            access: OnceLock::new(),
        }
    }

    /// Where `stack.toml` lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of `stack.toml`: relative paths count from it.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// The identity that was named, where one was.
    pub fn identity(&self) -> Option<&Path> {
        self.identity.as_deref()
    }

    /// Reads and checks the stack.
    pub fn load(&self) -> Result<Loaded, Report> {
        let catalogue = catalogue()?;
        let stack = stack::load(&self.path, &catalogue)?;
        Ok(Loaded { stack, catalogue })
    }

    /// How hosts are reached.
    pub fn access(&self) -> &Arc<Access> {
        self.access.get_or_init(|| Arc::new(self.new_access()))
    }

    /// How hosts are reached, over connections of its own.
    pub fn new_access(&self) -> Access {
        let access = Access::new(&self.path.with_file_name(KNOWN_HOSTS));
        let config = std::env::var_os(SSH_CONFIG).filter(|config| !config.is_empty());
        match config {
            Some(config) => access.with_config(Path::new(&config)),
            None => access,
        }
    }

    /// What the tags mean.
    pub fn lock(&self) -> Result<Lock, crate::lock::Error> {
        Lock::load(&Lock::path(&self.path))
    }

    /// The file of secrets.
    pub fn safe(&self, stack: &Stack) -> Safe {
        Safe::new(
            &stack.secrets,
            &stack.recipients,
            self.identity(),
            &self.printer,
        )
    }

    /// The secrets of a stack, with those that are made at first need. Those are written down where `keep` says so;
    /// else they are only good for a look.
    pub async fn secrets(&self, loaded: &Loaded, keep: bool) -> anyhow::Result<Secrets> {
        let needs = loaded.needs();
        if needs.is_empty() && !loaded.names_secrets() {
            return Ok(Secrets::default());
        }
        let safe = self.safe(&loaded.stack);
        let (secrets, made) = waiting(move || {
            let mut secrets = safe.load()?;
            let made = secrets.ensure(&needs)?;
            if keep && !made.is_empty() {
                safe.save(&secrets)?;
            }
            Ok::<_, crate::secrets::Error>((secrets, made))
        })
        .await?;
        if keep && !made.is_empty() {
            let place = self.safe(&loaded.stack).path().display().to_string();
            self.printer
                .say(&format!("made {}, in {place}", made.join(", ")));
        }
        Ok(secrets)
    }

    /// Whether it is asked whether to go on.
    pub fn asks(&self) -> bool {
        !self.yes
    }

    /// Whether to go on, unless `--yes` has said so.
    pub async fn confirm(&self, question: &str) -> Result<(), Unasked> {
        if self.yes {
            return Ok(());
        }
        self.printer
            .confirm(question, "--yes goes on without asking")
            .await
    }

    /// Has the name of what is destroyed typed, unless `--confirm` has it. `--yes` is not enough.
    pub async fn confirm_name(&self, what: &str, name: &str) -> Result<(), Unasked> {
        if self.confirm.iter().any(|given| given == name) {
            return Ok(());
        }
        let way = format!("--confirm {name} types it beforehand");
        self.printer.confirm_name(what, name, &way).await
    }

    /// Who runs this: `user@machine`.
    pub fn who() -> String {
        let user = ["USER", "LOGNAME"]
            .iter()
            .find_map(|name| std::env::var(name).ok());
        let user = user
            .filter(|user| !user.is_empty())
            .unwrap_or_else(|| "operator".to_owned());
        let machine = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        format!("{user}@{machine}")
    }
}

impl Loaded {
    /// The secrets that are made at first need.
    pub fn needs(&self) -> Vec<Need> {
        let of_service = |service: &Service| {
            let rules = self.catalogue.get(&service.kind).map(|kind| &kind.secrets);
            let rules = rules.into_iter().flatten();
            let need = |(name, rule): (&String, &SecretRule)| Need {
                name: secret_key(&service.name, name),
                length: rule.length,
            };
            rules.map(need).collect::<Vec<_>>()
        };
        self.stack.services.iter().flat_map(of_service).collect()
    }

    /// The services that use a secret, by its name in the file: their own, and those that `stack.toml` names.
    pub fn users(&self, secret: &str) -> Vec<&str> {
        let own = |service: &Service| {
            let kind = self.catalogue.get(&service.kind);
            kind.is_some_and(|kind| {
                kind.secrets
                    .keys()
                    .any(|name| secret_key(&service.name, name) == secret)
            })
        };
        let uses = |service: &&Service| own(service) || named(service).any(|name| name == secret);
        self.stack
            .services
            .iter()
            .filter(uses)
            .map(|service| service.name.as_str())
            .collect()
    }

    /// The secrets that `stack.toml` names, which nobody can make.
    pub fn named(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.stack.services.iter().flat_map(named).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn names_secrets(&self) -> bool {
        self.stack
            .services
            .iter()
            .any(|service| named(service).next().is_some())
    }

    /// The service of this name.
    pub fn service(&self, name: &str) -> Result<&Service, Wrong> {
        let mut services = self.stack.services.iter();
        let found = services.find(|service| service.name == name);
        let known = self
            .stack
            .services
            .iter()
            .map(|service| service.name.as_str());
        found.ok_or_else(|| unknown("service", name, known))
    }

    /// The host of this name.
    pub fn host(&self, name: &str) -> Result<&Host, Wrong> {
        let mut hosts = self.stack.hosts.iter();
        let found = hosts.find(|host| host.name == name);
        found.ok_or_else(|| {
            unknown(
                "host",
                name,
                self.stack.hosts.iter().map(|host| host.name.as_str()),
            )
        })
    }

    /// Says so where a part of the stack is named that is not there.
    pub fn check(&self, which: &Which) -> Result<(), Wrong> {
        which
            .host
            .iter()
            .try_for_each(|name| self.host(name).map(drop))?;
        which
            .service
            .iter()
            .try_for_each(|name| self.service(name).map(drop))?;
        let known = || {
            self.stack
                .sites
                .iter()
                .flat_map(|site| site.names.iter().map(String::as_str))
        };
        which
            .site
            .iter()
            .try_for_each(|name| match known().any(|site| site == name) {
                true => Ok(()),
                false => Err(unknown("site", name, known())),
            })
    }

    /// Whether a service is in this part of the stack.
    pub fn has(&self, which: &Which, service: &Service) -> bool {
        let site = service.site.and_then(|site| self.stack.sites.get(site));
        let in_site = |name: &String| site.is_some_and(|site| site.names.contains(name));
        (which.host.is_empty() || which.host.contains(&service.host))
            && (which.service.is_empty() || which.service.contains(&service.name))
            && (which.site.is_empty() || which.site.iter().any(in_site))
    }
}

/// The secrets that a service's options name.
fn named(service: &Service) -> impl Iterator<Item = &str> {
    service.options.values().filter_map(|value| match value {
        Value::Secret(name) => Some(name.as_str()),
        _ => None,
    })
}

fn unknown<'n>(what: &str, name: &str, known: impl Iterator<Item = &'n str>) -> Wrong {
    let known: Vec<&str> = known.collect();
    let hint = match (nearest(name, known.iter().copied()), known.as_slice()) {
        (Some(near), _) => format!("did you mean {near}?"),
        (None, []) => format!("stack.toml has no {what}s"),
        (None, known) => format!("there is {}", known.join(", ")),
    };
    Wrong::new(format!("there is no {what} {name}"), hint)
}

/// Does something that waits (for a disk, a person, hardware) beside the async threads.
pub async fn waiting<T: Send + 'static, E: Into<anyhow::Error> + Send + 'static>(
    what: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> anyhow::Result<T> {
    let done = tokio::task::spawn_blocking(what)
        .await
        .context("a thread of this program")?;
    done.map_err(Into::into)
}

#[cfg(test)]
mod tests;
