//! Services: what they are, where they run, and what was chosen for them.

use std::collections::BTreeMap;

use super::Check;
use crate::problem::{Key, quoted};
use crate::stack::catalogue::{CUSTOM, Choice, Definition, Takes};
use crate::stack::{model, raw};

/// A service as typed, and where it was written.
struct Entry<'r> {
    key: Key,
    site: Option<usize>,
    raw: &'r raw::Service,
    /// The data centre it runs in, where that is known.
    home: Option<&'r str>,
}

impl Check<'_, '_> {
    /// All services, those of sites first.
    pub(super) fn services(
        &mut self,
        raw: &raw::File,
        homes: &[Option<String>],
        primary: Option<&str>,
        hosts: &[model::Host],
    ) -> Vec<model::Service> {
        let root = Key::root();
        let mut entries: Vec<Entry<'_>> = Vec::new();
        for (site, (table, home)) in raw.site.iter().flatten().zip(homes).enumerate() {
            let list = root.key("site").item(site).key("service");
            let services = table.service.iter().flatten().enumerate();
            entries.extend(services.map(|(index, raw)| Entry {
                key: list.item(index),
                site: Some(site),
                raw,
                home: home.as_deref(),
            }));
        }
        let lone = raw.service.iter().flatten().enumerate();
        entries.extend(lone.map(|(index, raw)| Entry {
            key: root.key("service").item(index),
            site: None,
            raw,
            home: primary,
        }));
        let services: Vec<model::Service> = entries
            .iter()
            .map(|entry| self.service(entry, hosts))
            .collect();
        self.names_apart(&entries, &services);
        self.paths_apart(&entries, &services);
        self.together(&entries, &services);
        self.needs(&entries, &services);
        services
    }

    fn service(&mut self, entry: &Entry<'_>, hosts: &[model::Host]) -> model::Service {
        let Entry { key, raw, .. } = entry;
        let kind = raw.kind.clone().unwrap_or_default();
        let definition = self.definition(&kind).cloned();
        let options = definition
            .as_ref()
            .map(|definition| self.options(&key.key("options"), raw, definition))
            .unwrap_or_default();
        if let (Some(definition), Some(_)) = (&definition, entry.site) {
            self.is_visited(key, &kind, definition, &options);
        }
        model::Service {
            name: match raw.name.as_deref() {
                Some(name) => self.label(&key.key("name"), name),
                None if self.problems.is_incomplete(&key.key("name")) => String::new(),
                None => kind.clone(),
            },
            path: self.under_site(&key.key("path"), raw.path.as_deref()),
            host: self.runs_on(entry, hosts),
            compose: self.compose(&key.key("compose"), raw, &kind),
            site: entry.site,
            options,
            kind,
        }
    }

    /// Every option, with its default where nothing is written.
    fn options(
        &mut self,
        key: &Key,
        raw: &raw::Service,
        definition: &Definition,
    ) -> BTreeMap<String, model::Value> {
        let mut options = BTreeMap::new();
        for (name, choice) in &definition.options {
            let written = raw.options.as_ref().and_then(|options| options.get(name));
            let value = match written {
                Some(written) => self.option(&key.key(name), written, choice),
                None => choice.default.clone(),
            };
            options.extend(value.map(|value| (name.clone(), value)));
        }
        options
    }

    fn option(
        &mut self,
        key: &Key,
        written: &raw::OptionValue,
        choice: &Choice,
    ) -> Option<model::Value> {
        // The schema has seen to it that these fit together.
        Some(match written {
            raw::OptionValue::Switch(switch) => model::Value::Switch(*switch),
            raw::OptionValue::Number(number) => model::Value::Number(*number),
            raw::OptionValue::Text(text) if choice.takes == Takes::List => {
                model::Value::List(vec![text.clone()])
            }
            raw::OptionValue::Text(text) => model::Value::Text(text.clone()),
            raw::OptionValue::List(list) => model::Value::List(list.clone()),
            raw::OptionValue::Secret(reference) => {
                let name = reference.secret.as_deref()?;
                let inner = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
                if name.is_empty() || !name.chars().all(inner) {
                    let wanted = "the name of a secret: letters, digits and _ - . /";
                    // Nothing of it is shown: it may be the secret itself.
                    let hint = "sovereign secret set NAME puts one into the secrets file";
                    self.problems.add_with_hint(
                        &key.key("secret"),
                        "text that is no name",
                        wanted,
                        hint,
                    );
                }
                model::Value::Secret(name.to_owned())
            }
        })
    }

    /// What is part of a site answers visitors.
    fn is_visited(
        &mut self,
        key: &Key,
        kind: &str,
        definition: &Definition,
        options: &BTreeMap<String, model::Value>,
    ) {
        if definition.is_visited(options) {
            return;
        }
        let port = key.key("options").key("port");
        if definition.options.contains_key("port") {
            if !self.problems.is_incomplete(&port) {
                let wanted = "the port on which it answers visitors";
                self.problems.add(&port, "none", wanted);
            }
            return;
        }
        let found = format!("{}, which nobody visits", quoted(kind));
        let hint = "write it as a [[service]], outside of sites";
        self.problems.add_with_hint(
            &key.key("use"),
            found,
            "a service that answers visitors",
            hint,
        );
    }

    /// Where under its site a service is; empty where that cannot be told.
    fn under_site(&mut self, key: &Key, text: Option<&str>) -> String {
        let text = text.unwrap_or("/");
        let inner = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
        let steps = text.split('/').any(|step| step == "." || step == "..");
        if !text.starts_with('/') || text.contains("//") || steps || !text.chars().all(inner) {
            self.problems
                .add(key, quoted(text), "a path such as /blog/");
        }
        text.to_owned()
    }

    /// The host that a service runs on: the written one, or the first of its data centre.
    fn runs_on(&mut self, entry: &Entry<'_>, hosts: &[model::Host]) -> String {
        let key = entry.key.key("host");
        let Some(name) = entry.raw.host.as_deref() else {
            let first = hosts
                .iter()
                .find(|host| Some(host.datacentre.as_str()) == entry.home)
                .filter(|_| !self.problems.is_incomplete(&key));
            return first.map(|host| host.name.clone()).unwrap_or_default();
        };
        let Some(host) = hosts.iter().find(|host| host.name == name) else {
            let known = hosts.iter().map(|host| host.name.as_str());
            let all = Key::root().key("host");
            let unsure = self.problems.is_incomplete(&all) || known.clone().any(str::is_empty);
            if !unsure && !hosts.is_empty() {
                self.leads_nowhere(&key, name, "the name of a [[host]]", known);
            }
            return String::new();
        };
        if let (Some(_), Some(home)) = (entry.site, entry.home)
            && host.datacentre != home
            && !host.datacentre.is_empty()
        {
            let found = format!("{}, a host of {}", quoted(name), quoted(&host.datacentre));
            let wanted = format!("a host of {}, where its site is", quoted(home));
            self.problems.add(&key, found, wanted);
        }
        host.name.clone()
    }

    /// The Compose file of a `custom` service.
    fn compose(&mut self, key: &Key, raw: &raw::Service, kind: &str) -> Option<std::path::PathBuf> {
        const MOST: u64 = 1 << 20;
        let name = raw.compose.as_deref()?;
        if kind == CUSTOM {
            let mut check = crate::check::Check::of(self.problems, self.base);
            let (path, _) = check.content(key, name, MOST)?;
            return Some(path);
        }
        if self.definition(kind).is_some() {
            let found = format!("compose beside use = {}", quoted(kind));
            let hint = "a kind of the catalogue brings its own Compose file";
            self.problems
                .add_with_hint(key, found, "it beside use = \"custom\" only", hint);
        }
        None
    }

    fn names_apart(&mut self, entries: &[Entry<'_>], services: &[model::Service]) {
        let keys: Vec<Key> = entries.iter().map(|entry| entry.key.key("name")).collect();
        let named = || {
            keys.iter()
                .zip(services)
                .map(|(key, service)| (key, service.name.as_str()))
        };
        self.unique(named(), "; `name` tells services apart");
        // While one version takes over from another, both run: the second is called NAME-b.
        for (key, name) in named() {
            let second = name.strip_suffix("-b").unwrap_or_default();
            if services
                .iter()
                .any(|other| other.name == second && !second.is_empty())
            {
                let found = format!("{} beside {}", quoted(name), quoted(second));
                let hint = format!(
                    "{} is what the next version of {second} is called while it takes over",
                    quoted(name)
                );
                self.problems
                    .add_with_hint(key, found, "another name", hint);
            }
        }
    }

    /// One path of a site leads to one service.
    fn paths_apart(&mut self, entries: &[Entry<'_>], services: &[model::Service]) {
        let mut seen: Vec<(Option<usize>, &str, &Key)> = Vec::new();
        for (entry, service) in entries.iter().zip(services) {
            let key = entry.key.key("path");
            let path = service.path.trim_end_matches('/');
            let unsure = service.path.is_empty() || self.problems.is_incomplete(&key);
            if entry.site.is_none() || unsure {
                continue;
            }
            let same = |(site, other, _): &&(_, &str, _)| *site == entry.site && *other == path;
            if let Some((_, _, earlier)) = seen.iter().find(same) {
                let hint = format!(
                    "it is that of the service in line {}",
                    self.problems.line(earlier)
                );
                let found = format!("{} a second time", quoted(&service.path));
                self.problems
                    .add_with_hint(&key, found, "a path of its own in its site", hint);
            }
            seen.push((entry.site, path, &entry.key));
        }
    }

    /// The services of a site are on one host: its proxy reaches them at 127.0.0.1.
    fn together(&mut self, entries: &[Entry<'_>], services: &[model::Service]) {
        let known = |service: &&model::Service| !service.host.is_empty();
        for (entry, service) in entries
            .iter()
            .zip(services)
            .filter(|(_, service)| known(service))
        {
            let first = services
                .iter()
                .filter(known)
                .find(|other| other.site == service.site);
            if let (Some(_), Some(first)) = (service.site, first)
                && first.host != service.host
            {
                let wanted = format!(
                    "{}, where the other services of the site run",
                    quoted(&first.host)
                );
                let hint = "a proxy reaches the services of its sites on its own host";
                self.problems.add_with_hint(
                    &entry.key.key("host"),
                    quoted(&service.host),
                    wanted,
                    hint,
                );
            }
        }
    }

    /// What a service needs is on its host.
    fn needs(&mut self, entries: &[Entry<'_>], services: &[model::Service]) {
        let unsure = services
            .iter()
            .any(|service| service.kind.is_empty() || service.host.is_empty());
        if unsure || self.services_left_out(entries) {
            return;
        }
        for (entry, service) in entries.iter().zip(services) {
            let needs = self
                .definition(&service.kind)
                .map(|definition| definition.needs.clone());
            for need in needs.unwrap_or_default() {
                let there =
                    |other: &model::Service| other.kind == need && other.host == service.host;
                if services.iter().any(there) {
                    continue;
                }
                let found = format!(
                    "{} without {} on {}",
                    quoted(&service.kind),
                    quoted(&need),
                    quoted(&service.host)
                );
                let wanted = format!("a service with use = {} on the same host", quoted(&need));
                let hint = format!(
                    "add a [[service]] with use = {} and host = {}",
                    quoted(&need),
                    quoted(&service.host)
                );
                self.problems
                    .add_with_hint(&entry.key.key("use"), found, wanted, hint);
            }
        }
    }

    fn services_left_out(&self, entries: &[Entry<'_>]) -> bool {
        let root = Key::root();
        let lists = entries.iter().map(|entry| entry.key.parent());
        let mut lists = lists.chain([root.key("service"), root.key("site")]);
        lists.any(|list| self.problems.is_incomplete(&list))
    }
}
