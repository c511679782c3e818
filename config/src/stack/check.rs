//! Turns `stack.toml` as typed into the model: names lead somewhere, what is left out gets its default, options are
//! those of the catalogue, and what is meant for proxies is held against the checks of `proxy.toml`. Notes every
//! problem and goes on, as the checks of `proxy.toml` do.

// Data centres and hosts.
mod host;
// Services and their options.
mod service;
// What the proxies will be told.
mod proxy;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::catalogue::{self, Catalogue, Definition};
use super::{model, raw};
use crate::check::each;
use crate::problem::{Key, Problems, did_you_mean, quoted};

/// Checks a whole file. The result is only sound where no problem was noted.
pub(super) fn file(
    raw: &raw::File,
    base: &Path,
    catalogue: &Catalogue,
    problems: &mut Problems<'_>,
) -> model::Stack {
    let mut check = Check {
        problems,
        base,
        catalogue,
        custom: catalogue::custom(),
    };
    let default = raw::Stack::default();
    let stack = raw.stack.as_ref().unwrap_or(&default);
    let key = Key::root().key("stack");
    let datacentres = check.datacentres(raw);
    let hosts = check.hosts(raw, &datacentres);
    let homes = check.homes(raw, &datacentres, &hosts);
    let primary = datacentres
        .iter()
        .find(|one| one.role == model::Role::Primary)
        .map(|one| one.name.as_str());
    let services = check.services(raw, &homes, primary, &hosts);
    let names = check.proxies(raw, &services);
    let sites = raw.site.iter().flatten().enumerate();
    let sites = sites.map(|(index, site)| model::Site {
        names: names.get(index).cloned().unwrap_or_default(),
        datacentre: homes.get(index).cloned().flatten().unwrap_or_default(),
        proxy: table(site.proxy.as_ref()),
    });
    let sites = sites.collect();
    model::Stack {
        name: match stack.name.as_deref() {
            Some(name) => check.label(&key.key("name"), name),
            None => "sovereign".to_owned(),
        },
        secrets: check.secrets(&key.key("secrets"), stack.secrets.as_deref()),
        recipients: check.recipients(&key.key("recipients"), stack, &services),
        images: match stack.images {
            None | Some(raw::Images::Registry) => model::ImageSource::Registry,
            Some(raw::Images::Local) => model::ImageSource::Local,
        },
        program: check.program(&key.key("proxy").key("program"), stack),
        proxy: table(proxy::without_program(stack.proxy.as_ref()).as_ref()),
        datacentres,
        hosts,
        sites,
        services,
    }
}

/// What every check needs.
struct Check<'c, 't> {
    problems: &'c mut Problems<'t>,
    base: &'c Path,
    catalogue: &'c Catalogue,
    custom: Definition,
}

impl Check<'_, '_> {
    /// The kind of service of this name.
    fn definition(&self, kind: &str) -> Option<&Definition> {
        let custom = (kind == catalogue::CUSTOM).then_some(&self.custom);
        self.catalogue.get(kind).or(custom)
    }

    /// A name that can be part of the name of a container, a volume and a folder.
    fn label(&mut self, key: &Key, text: &str) -> String {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let sound = text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-');
        if !sound || !(1..=MOST_LETTERS).contains(&text.len()) {
            let wanted = format!(
                "1 to {MOST_LETTERS} small letters, digits and hyphens, none of them at an end"
            );
            self.problems.add(key, quoted(text), wanted);
        }
        text.to_owned()
    }

    /// Each of these names is there once.
    fn unique<'k>(&mut self, names: impl Iterator<Item = (&'k Key, &'k str)>, hint: &str) {
        let mut first: HashMap<&str, &Key> = HashMap::new();
        for (key, name) in names.filter(|(_, name)| !name.is_empty()) {
            if let Some(earlier) = first.get(name) {
                let found = format!("{} a second time", quoted(name));
                let line = self.problems.line(earlier);
                let hint = format!("it is first named in line {line}{hint}");
                self.problems
                    .add_with_hint(key, found, "each name once", hint);
            } else {
                first.insert(name, key);
            }
        }
    }

    /// A name that leads nowhere.
    fn leads_nowhere<'n>(
        &mut self,
        key: &Key,
        name: &str,
        wanted: &str,
        known: impl Iterator<Item = &'n str> + Clone,
    ) {
        let mut all: Vec<&str> = Vec::new();
        for name in known.clone().filter(|name| !name.is_empty()) {
            if !all.contains(&name) {
                all.push(name);
            }
        }
        match did_you_mean(name, known) {
            Some(meant) => {
                let hint = format!("did you mean {meant:?}?");
                self.problems.add_with_hint(key, quoted(name), wanted, hint);
            }
            None if all.is_empty() => self.problems.add(key, quoted(name), wanted),
            None => {
                let hint = format!("there is {}", all.join(", "));
                self.problems.add_with_hint(key, quoted(name), wanted, hint);
            }
        }
    }

    fn secrets(&mut self, key: &Key, text: Option<&str>) -> PathBuf {
        if text == Some("") {
            self.problems
                .add(key, "an empty path", "the path of a file");
        }
        self.base.join(text.unwrap_or("secrets.age"))
    }

    /// Who may read the secrets: somebody, where there are any.
    fn recipients(
        &mut self,
        key: &Key,
        stack: &raw::Stack,
        services: &[model::Service],
    ) -> Vec<String> {
        let recipients: Vec<String> = each(stack.recipients.as_ref(), key)
            .map(|(key, text)| self.recipient(&key, text))
            .collect();
        let around = key.parent();
        let left_out = self.problems.is_incomplete(key) || self.problems.is_incomplete(&around);
        if !recipients.is_empty() || left_out {
            return recipients;
        }
        let keeps = |service: &&model::Service| {
            let made = |definition: &Definition| !definition.secrets.is_empty();
            let named = |value: &model::Value| matches!(value, model::Value::Secret(_));
            service.options.values().any(named) || self.definition(&service.kind).is_some_and(made)
        };
        if let Some(service) = services.iter().find(keeps) {
            let hint = format!(
                "service {} has secrets; `sovereign secret identity` makes a key and says its recipient",
                quoted(&service.name)
            );
            let wanted = "who may read the secrets: at least one age1...";
            self.problems.add_with_hint(key, "nothing", wanted, hint);
        }
        recipients
    }

    fn recipient(&mut self, key: &Key, text: &str) -> String {
        let wanted = "a recipient such as age1...";
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.+_".contains(c);
        if text.to_ascii_uppercase().starts_with("AGE-") {
            // Nothing of it is shown: it may be the key itself.
            let hint = "who reads this file reads all secrets: make another key, and write its recipient here";
            self.problems
                .add_with_hint(key, "a private key", wanted, hint);
        } else if !text.starts_with("age1") || !text.chars().all(inner) || text.len() < 16 {
            self.problems.add(key, quoted(text), wanted);
        }
        text.to_owned()
    }
}

/// A table of `proxy.toml` as TOML.
fn table(raw: Option<&raw::Table>) -> toml::Table {
    // What TOML cannot hold does not come from TOML.
    raw.and_then(|raw| toml::Table::try_from(raw).ok())
        .unwrap_or_default()
}

/// Docker bounds names by 63 letters; project, volume and slot are added to ours.
const MOST_LETTERS: usize = 32;
