//! What is in force on a host, and deployments of before. Stands alone because each of these files is replaced as a
//! whole, and read by every command.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Host, Lying, LyingService, Whose};
use crate::desired::{Files, Revision};
use crate::observe::{Current, DeployedProxy, Deployment, Disk};
use crate::ssh::{Error, Input, LOOK};

/// How many deployments are written down.
const WRITTEN: usize = 50;
/// The files of how many of the last deployments are kept.
const KEPT: usize = 10;
/// How many files go with one command.
const AT_ONCE: usize = 50;
/// How long the name of a revision or of a program is.
const DIGITS: usize = 12;
/// What the programs of the proxy are called before their digest.
const PROGRAM: &str = "sovereign-proxy-";

impl Host {
    /// Writes down what of a service is in force, all or nothing.
    pub async fn set_current(&self, service: &str, current: &Current) -> Result<(), Error> {
        self.write_json(
            &self.layout.current(&Whose::Service(service.to_owned())),
            current,
        )
        .await
    }

    /// Writes down what of the proxy is in force, all or nothing.
    pub async fn set_proxy(&self, current: &DeployedProxy) -> Result<(), Error> {
        self.write_json(&self.layout.current(&Whose::Proxy), current)
            .await
    }

    /// Removes the files of a service, all revisions; data lies in volumes and stays.
    pub async fn remove_service(&self, service: &str) -> Result<(), Error> {
        let home = self.layout.home(&Whose::Service(service.to_owned()));
        self.run(&["rm", "-rf", "--", &home]).await
    }

    /// Writes down a deployment, under the number after the last one of `before`, and gives that number.
    pub async fn record(
        &self,
        before: &[Deployment],
        deployment: Deployment,
    ) -> Result<u64, Error> {
        let number = before.last().map_or(1, |last| last.number + 1);
        let all: Vec<_> = before
            .iter()
            .cloned()
            .chain([Deployment {
                number,
                ..deployment
            }])
            .collect();
        let lines = all[all.len().saturating_sub(WRITTEN)..]
            .iter()
            .map(serde_json::to_string);
        let lines: Result<Vec<String>, _> = lines.collect();
        let lines = lines.map_err(|error| self.unwritable(&self.layout.deployments(), error))?;
        self.write(&self.layout.deployments(), &(lines.join("\n") + "\n"))
            .await?;
        Ok(number)
    }

    /// Removes revisions and programs that neither what is in force nor one of the last deployments names, and what
    /// was left half placed. Gives how many went.
    pub async fn prune(&self) -> Result<usize, Error> {
        let entries = self.list().await?;
        let (lying, _) = self.read_state_of(&entries).await?;
        let going: Vec<String> = going(&lying, &entries)
            .iter()
            .map(|path| format!("{}/{path}", self.layout.root()))
            .collect();
        for some in going.chunks(AT_ONCE) {
            let argv: Vec<&str> = ["rm", "-rf", "--"]
                .into_iter()
                .chain(some.iter().map(String::as_str))
                .collect();
            self.run(&argv).await?;
        }
        Ok(going.len())
    }

    /// Everything that is placed but the contents of revisions, and the folders of those that are in force.
    pub(super) async fn read_state(&self) -> Result<(Lying, Vec<String>), Error> {
        let entries = self.list().await?;
        self.read_state_of(&entries).await
    }

    async fn read_state_of(&self, entries: &[Entry]) -> Result<(Lying, Vec<String>), Error> {
        let small = entries
            .iter()
            .filter(|entry| !entry.folder && is_state(&entry.path));
        let small: Vec<String> = small.map(|entry| entry.path.clone()).collect();
        let files = self.fetch(&small).await?;
        let lying = lying(entries, &files);
        let folders = in_force(&lying)
            .into_iter()
            .map(|(whose, revision)| self.relative(&self.layout.revision(&whose, &revision)));
        let folders = folders
            .filter(|path| {
                entries
                    .iter()
                    .any(|entry| entry.folder && entry.path == *path)
            })
            .collect();
        Ok((lying, folders))
    }

    /// What lies under the root, three levels deep; the proxy's own state is its own.
    async fn list(&self) -> Result<Vec<Entry>, Error> {
        let root = self.layout.root();
        let (state, run) = (format!("{root}/proxy/state"), format!("{root}/proxy/run"));
        let find = [
            "find",
            root,
            "-mindepth",
            "1",
            "-maxdepth",
            "3",
            "-path",
            &state,
            "-prune",
            "-o",
            "-path",
            &run,
            "-prune",
            "-o",
            "-printf",
            "%y %P\\0",
        ];
        let output = self.remote.output(&find, Input::nothing(), LOOK).await?;
        // Where nothing was ever placed there is no root; and what goes while it is listed is no failure.
        if output.code != 0 && !output.stderr.contains("No such file or directory") {
            return Err(Error::failed(self.remote.name(), &find, &output));
        }
        Ok(entries(&output.stdout))
    }

    async fn write_json(&self, path: &str, value: &impl Serialize) -> Result<(), Error> {
        let text = serde_json::to_string(value).map_err(|error| self.unwritable(path, error))?;
        self.write(path, &(text + "\n")).await
    }

    /// Writes a small file: beside its place, to the disk, and then it takes the place.
    async fn write(&self, path: &str, text: &str) -> Result<(), Error> {
        let new = format!("{path}.new");
        let to = format!("of={new}");
        self.remote
            .run(
                &["dd", &to, "conv=fsync", "status=none"],
                Input::bytes(text.as_bytes()),
                LOOK,
            )
            .await?;
        self.run(&["mv", "-T", "--", &new, path]).await
    }

    fn unwritable(&self, path: &str, error: serde_json::Error) -> Error {
        Error::Here {
            host: self.remote.name().to_owned(),
            step: format!("writing {path}"),
            source: error.into(),
        }
    }
}

/// Something that lies under the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// It is a folder.
    pub(super) folder: bool,
    /// Its path, relative to the root.
    pub(super) path: String,
}

/// Reads what `find` prints.
fn entries(printed: &[u8]) -> Vec<Entry> {
    let lines = printed
        .split(|byte| *byte == 0)
        .map(String::from_utf8_lossy);
    let parts: Vec<_> = lines
        .filter_map(|line| {
            line.split_once(' ')
                .map(|(kind, path)| (kind == "d", path.to_owned()))
        })
        .collect();
    parts
        .into_iter()
        .map(|(folder, path)| Entry { folder, path })
        .collect()
}

/// Whether a path is of a file that says what is in force.
fn is_state(path: &str) -> bool {
    match path.split('/').collect::<Vec<_>>()[..] {
        ["deployments"] | ["proxy", "current"] => true,
        ["services", _, file] => file == "current",
        _ => false,
    }
}

/// Puts together what lies there.
fn lying(entries: &[Entry], files: &Files) -> Lying {
    let mut lying = Lying {
        proxy: json(files, "proxy/current"),
        deployments: deployments(files),
        ..Lying::default()
    };
    for entry in entries {
        match (entry.folder, &entry.path.split('/').collect::<Vec<_>>()[..]) {
            (true, ["services", name]) => {
                lying.services.entry((*name).to_owned()).or_default();
            }
            (true, ["services", name, revision]) if is_digits(revision) => {
                service(&mut lying, name)
                    .revisions
                    .insert(Revision((*revision).to_owned()));
            }
            (false, ["services", name, "current"]) => {
                service(&mut lying, name).current = json(files, &entry.path)
            }
            (true, ["proxy", revision]) if is_digits(revision) => {
                lying
                    .proxy_revisions
                    .insert(Revision((*revision).to_owned()));
            }
            (false, ["proxy", "bin", program]) => lying.programs.extend(program_digits(program)),
            (false, ["lock"]) => lying.lockable = true,
            _ => {}
        }
    }
    lying
}

fn service<'a>(lying: &'a mut Lying, name: &str) -> &'a mut LyingService {
    lying.services.entry(name.to_owned()).or_default()
}

/// A small file as a value. One that cannot be read counts as not there: the next deployment writes it anew.
fn json<T: DeserializeOwned>(files: &Files, path: &str) -> Option<T> {
    serde_json::from_slice(&files.get(path)?.content).ok()
}

fn deployments(files: &Files) -> Vec<Deployment> {
    let text = files
        .get("deployments")
        .map(|file| String::from_utf8_lossy(&file.content))
        .unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn is_digits(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn program_digits(file: &str) -> Option<String> {
    let digits = file.strip_prefix(PROGRAM)?;
    is_digits(digits).then(|| digits.to_owned())
}

/// Which revisions are in force.
fn in_force(lying: &Lying) -> Vec<(Whose, Revision)> {
    let services = lying.services.iter().filter_map(|(name, service)| {
        let revision = service.current.as_ref()?.revision.clone();
        Some((Whose::Service(name.clone()), revision))
    });
    let proxy = lying
        .proxy
        .iter()
        .map(|proxy| (Whose::Proxy, proxy.revision.clone()));
    services.chain(proxy).collect()
}

/// What may go: paths relative to the root.
fn going(lying: &Lying, entries: &[Entry]) -> Vec<String> {
    let last = &lying.deployments[lying.deployments.len().saturating_sub(KEPT)..];
    let mut kept: BTreeSet<String> = in_force(lying)
        .iter()
        .map(|(whose, revision)| kept_path(whose, revision))
        .collect();
    for deployment in last {
        let services = deployment.services.iter();
        kept.extend(
            services.map(|(name, revision)| kept_path(&Whose::Service(name.clone()), revision)),
        );
        kept.extend(
            deployment
                .proxy
                .iter()
                .map(|proxy| kept_path(&Whose::Proxy, &proxy.revision)),
        );
    }
    let programs = last
        .iter()
        .filter_map(|deployment| deployment.proxy.as_ref())
        .chain(&lying.proxy);
    kept.extend(programs.map(|proxy| format!("proxy/bin/{PROGRAM}{}", proxy.program)));
    entries
        .iter()
        .filter(|entry| may_go(entry) && !kept.contains(&entry.path))
        .map(|entry| entry.path.clone())
        .collect()
}

fn kept_path(whose: &Whose, revision: &Revision) -> String {
    match whose {
        Whose::Service(name) => format!("services/{name}/{revision}"),
        Whose::Proxy => format!("proxy/{revision}"),
    }
}

/// Whether this is of a kind that goes once nothing names it: revisions, programs, and what is half placed.
fn may_go(entry: &Entry) -> bool {
    let half =
        |name: &str| name.starts_with('.') && (name.ends_with(".new") || name.ends_with(".old"));
    match (entry.folder, &entry.path.split('/').collect::<Vec<_>>()[..]) {
        (true, ["services", _, name] | ["proxy", name]) => is_digits(name) || half(name),
        (false, ["proxy", "bin", name]) => name.starts_with(PROGRAM),
        _ => false,
    }
}

/// Reads what `df --output=size,avail` prints.
pub(super) fn disk(printed: &str) -> Option<Disk> {
    let mut numbers = printed.lines().nth(1)?.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(size)), Some(Ok(free))) => Some(Disk { size, free }),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
