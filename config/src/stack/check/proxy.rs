//! What the proxies will be told: built from the stack as a deployment builds it, and held against the checks of
//! `proxy.toml`. Its problems come back under the keys and lines of `stack.toml`.

use serde_json::Value;

use super::Check;
use crate::check::{Given, On};
use crate::problem::{Key, Problem, Problems};
use crate::raw::{self as proxy, OneOrMany};
use crate::stack::raw::Table;
use crate::stack::{model, raw};

/// A key of `[stack.proxy]` that `proxy.toml` does not have.
const PROGRAM: &str = "program";

/// `[stack.proxy]` without what is not of `proxy.toml`.
pub(super) fn without_program(table: Option<&Table>) -> Option<Table> {
    let mut table = table?.clone();
    table.remove(PROGRAM);
    Some(table)
}

impl Check<'_, '_> {
    /// Checks what all proxies together will be told. Gives the names of each site.
    pub(super) fn proxies(
        &mut self,
        raw: &raw::File,
        services: &[model::Service],
    ) -> Vec<Vec<String>> {
        let mut seen = self.problems.as_seen(as_proxy);
        let root = Key::root();
        self.stands_for(&mut seen, &root, &root.key("stack").key("proxy"));
        let sites: Vec<proxy::Site> = raw
            .site
            .iter()
            .flatten()
            .enumerate()
            .map(|(index, site)| self.site(&mut seen, index, site, services))
            .collect();
        let stack = raw.stack.as_ref().and_then(|stack| stack.proxy.as_ref());
        let file = proxy::File {
            site: (!sites.is_empty()).then_some(sites),
            ..typed(without_program(stack))
        };
        let checked = crate::check::file(&file, self.base, On::Elsewhere(&Given::new()), &mut seen);
        self.problems.take_in(seen, reword);
        checked.sites.into_iter().map(|site| site.names).collect()
    }

    /// A site as its host's `proxy.toml` will have it.
    fn site(
        &self,
        seen: &mut Problems<'_>,
        index: usize,
        raw: &raw::Site,
        services: &[model::Service],
    ) -> proxy::Site {
        let key = Key::root().key("site").item(index);
        let part: proxy::Site = typed(raw.proxy.clone());
        let own = part.route.iter().flatten().count();
        self.stands_for(seen, &key, &key.key("proxy"));
        self.stands_for(seen, &key.key("upstream"), &key.key("service"));
        if self.problems.is_incomplete(&key.key("service")) {
            seen.leave_out(&key.key("upstream"));
        }
        let of_site = services
            .iter()
            .filter(|service| service.site == Some(index));
        let mut root: Option<&model::Service> = None;
        let mut below: Vec<(Key, &str)> = Vec::new();
        for (position, service) in of_site.enumerate() {
            let path = service.path.trim_end_matches('/');
            if service.path.is_empty() {
                seen.leave_out(&key.key("upstream"));
            } else if path.is_empty() {
                root = root.or(Some(service));
            } else if below
                .iter()
                .all(|(_, other)| other.trim_end_matches('/') != path)
            {
                let written = key.key("service").item(position).key("path");
                below.push((written, &service.path));
            }
        }
        let mut routes = part.route.unwrap_or_default();
        for (position, (written, path)) in below.into_iter().enumerate() {
            let route = key.key("route").item(own + position);
            self.stands_for(seen, &route.key("path"), &written);
            routes.push(proxy::Route {
                path: Some(path.to_owned()),
                upstream: Some(service_upstream()),
                ..proxy::Route::default()
            });
        }
        proxy::Site {
            names: raw.names.as_ref().map(|names| match names {
                OneOrMany::One(name) => OneOrMany::One(name.clone()),
                OneOrMany::Many(names) => OneOrMany::Many(names.clone()),
            }),
            upstream: root.map(|_| service_upstream()),
            preset: root.and_then(|root| self.definition(&root.kind)?.preset.clone()),
            route: (!routes.is_empty()).then_some(routes),
            ..part
        }
    }

    /// What the check of `proxy.toml` says of `there` is said of `here`.
    fn stands_for(&self, seen: &mut Problems<'_>, there: &Key, here: &Key) {
        let (written, offset) = self.problems.place_of(here);
        seen.place(there.clone(), written, offset);
    }

    /// The program of the proxy, where it is not the one beside `sovereign`.
    pub(super) fn program(&mut self, key: &Key, stack: &raw::Stack) -> Option<std::path::PathBuf> {
        let name = stack.proxy.as_ref()?.get(PROGRAM)?.as_str()?;
        let path = self.base.join(name);
        if !path.is_file() {
            let found = format!("{}, where there is no file", crate::problem::quoted(name));
            let hint = "a relative path counts from the folder of this file";
            self.problems
                .add_with_hint(key, found, "the path of a program", hint);
        }
        Some(path)
    }
}

/// Where the proxy reaches a service; which port that is depends on the other services of its host.
fn service_upstream() -> OneOrMany<String> {
    OneOrMany::One("http://127.0.0.1:20000".to_owned())
}

/// A table that the schema has seen, as its type.
fn typed<T: serde::de::DeserializeOwned + Default>(table: Option<Table>) -> T {
    table
        .and_then(|table| serde_json::from_value(Value::Object(table)).ok())
        .unwrap_or_default()
}

/// Where a key of `stack.toml` is in the `proxy.toml` that comes of it.
fn as_proxy(key: &Key) -> Option<Key> {
    let way = key.as_str();
    if way == "stack.proxy" {
        return Some(Key::root());
    }
    if let Some(rest) = way.strip_prefix("stack.proxy.") {
        return Some(Key::written(rest.to_owned()));
    }
    if way == "site" {
        return Some(key.clone());
    }
    let (index, rest) = way.strip_prefix("site[")?.split_once(']')?;
    let rest = match rest.strip_prefix(".proxy") {
        Some(rest) => rest,
        None if rest.is_empty() || rest.starts_with(".names") => rest,
        None => return None,
    };
    Some(Key::written(format!("site[{index}]{rest}")))
}

/// What the check of `proxy.toml` calls the lack of an upstream is here the lack of a service.
fn reword(problem: &mut Problem) {
    if problem.key.ends_with("].service") && problem.found == "nothing" {
        problem.found = "no service at /".to_owned();
        problem.wanted = "a [[site.service]] with path = \"/\"".to_owned();
    }
}
