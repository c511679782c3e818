//! A site in `proxy.toml`: the rules of its services, and the operator's over them. Stands alone because a site is
//! the same on every host; only where its upstreams are differs.

use std::collections::BTreeMap;

use sovereign_config::stack::catalogue::{self, CUSTOM};
use sovereign_config::stack::model::{Host, Service, Site};
use toml::{Table, Value};

use super::context::Subject;
use super::ports::Ports;
use super::rules::{self, Rules};
use super::{Inputs, RenderError};

/// How long a mirror keeps pages that it cannot ask for again.
const MIRRORED: &str = "30d";

/// What a site has in common for all of its paths.
const COMMON: [&str; 3] = ["timeouts", "hold", "restarting"];

/// Where the upstreams of a site are, seen from a host.
#[derive(Clone, Copy)]
pub(super) enum Seen<'s> {
    /// From a host of its data centre, on which some of its services run, at these ports.
    AtHome(&'s Host, &'s Ports),
    /// From a mirror.
    Mirrored,
}

/// A site as a table of `proxy.toml`; what its services ask of the whole proxy is added to `limits`.
pub(super) fn render(
    inputs: Inputs<'_>,
    at: usize,
    seen: Seen<'_>,
    limits: &mut Table,
) -> Result<Table, RenderError> {
    let site = &inputs.stack.sites[at];
    let services = inputs.stack.services.iter();
    let services: Vec<&Service> = services
        .filter(|service| service.site == Some(at))
        .collect();
    each_in_its_place(site, &services)?;
    let mut table = Table::new();
    for service in services.iter().filter(|service| service.path == "/") {
        whole(inputs, site, service, seen, &mut table, limits)?;
    }
    for service in services.iter().filter(|service| service.path != "/") {
        part(inputs, site, service, seen, &mut table, limits)?;
    }
    rules::lay(&mut table, site.proxy.clone());
    if let Seen::Mirrored = seen {
        mirror(inputs, site, &mut table);
    }
    takes_every_path(&mut table);
    known_by_the_site(inputs, site, &mut table);
    let names = site.names.iter().map(String::as_str).map(Value::from);
    table.insert("names".to_owned(), Value::Array(names.collect()));
    Ok(table)
}

/// The service that a site consists of.
fn whole(
    inputs: Inputs<'_>,
    site: &Site,
    service: &Service,
    seen: Seen<'_>,
    table: &mut Table,
    limits: &mut Table,
) -> Result<(), RenderError> {
    let (preset, rules) = of_service(inputs, service, seen)?;
    if let Some(preset) = preset {
        table.insert("preset".to_owned(), Value::from(preset));
    }
    rules::widen_limits(limits, &rules.limits);
    rules::lay(table, local_routes(rules.site, seen, service));
    table.insert("upstream".to_owned(), upstream(inputs, site, service, seen));
    Ok(())
}

/// A service below a path.
fn part(
    inputs: Inputs<'_>,
    site: &Site,
    service: &Service,
    seen: Seen<'_>,
    table: &mut Table,
    limits: &mut Table,
) -> Result<(), RenderError> {
    let (preset, own) = of_service(inputs, service, seen)?;
    rules::widen_limits(limits, &own.limits);
    let mut all = rules::preset(preset.as_deref());
    rules::lay(&mut all, local_routes(own.site, seen, service));
    let upstream = upstream(inputs, site, service, seen);
    let routes = rules::mount(&all, service.path.trim_end_matches('/'), &upstream);
    let under = table.get("preset").and_then(Value::as_str);
    let mut wide = rules::preset(under);
    wide.retain(|key, _| COMMON.contains(&key));
    rules::lay(&mut wide, table.clone());
    rules::widen(&mut wide, &all);
    *table = wide;
    let routes = Table::from_iter([("route".to_owned(), Value::Array(routes))]);
    rules::lay(table, routes);
    Ok(())
}

/// The preset and the rules of a service.
fn of_service(
    inputs: Inputs<'_>,
    service: &Service,
    seen: Seen<'_>,
) -> Result<(Option<String>, Rules), RenderError> {
    if service.kind == CUSTOM {
        let empty = Rules {
            site: Table::new(),
            limits: Table::new(),
        };
        return Ok((None, empty));
    }
    let port = match seen {
        Seen::AtHome(_, ports) => ports.get(&service.name).copied(),
        Seen::Mirrored => None,
    };
    let subject = Subject::new(inputs, service, port.unwrap_or_default())?;
    Ok((subject.definition.preset.clone(), rules::of(&subject)?))
}

/// Where a service is elsewhere, so is all of it: its routes lead where it does.
fn local_routes(mut rules: Table, seen: Seen<'_>, service: &Service) -> Table {
    if is_here(seen, service) {
        return rules;
    }
    if let Some(Value::Array(routes)) = rules.get_mut("route") {
        for route in routes.iter_mut().filter_map(Value::as_table_mut) {
            route.remove("upstream");
        }
    }
    rules
}

fn is_here(seen: Seen<'_>, service: &Service) -> bool {
    matches!(seen, Seen::AtHome(host, _) if host.name == service.host)
}

/// Its port on this host; elsewhere the proxy of its host.
fn upstream(inputs: Inputs<'_>, site: &Site, service: &Service, seen: Seen<'_>) -> Value {
    match seen {
        Seen::AtHome(host, ports) if host.name == service.host => {
            let port = ports.get(&service.name).copied().unwrap_or_default();
            Value::from(rules::local(own_port(service).unwrap_or(port)))
        }
        _ => Value::from(through(inputs, site, &service.host)),
    }
}

/// A custom service says itself where it answers.
fn own_port(service: &Service) -> Option<u16> {
    let custom = service.kind == CUSTOM;
    custom.then(|| catalogue::custom().visited_port(&service.options))?
}

/// The proxy of a host, as an upstream for a site.
fn through(inputs: Inputs<'_>, site: &Site, host: &str) -> String {
    let off = site.proxy.get("tls").and_then(Value::as_str) == Some("off");
    let scheme = if off { "http" } else { "https" };
    let mut hosts = inputs.stack.hosts.iter();
    let host = hosts.find(|other| other.name == host);
    let address = host.map_or("", |host| host.address.as_str());
    if address.contains(':') && !address.starts_with('[') {
        return format!("{scheme}://[{address}]");
    }
    format!("{scheme}://{address}")
}

/// What a mirror changes: everything comes from the proxy of the primary, and what came once is kept.
fn mirror(inputs: Inputs<'_>, site: &Site, table: &mut Table) {
    let preset = table.get("preset").and_then(Value::as_str);
    let under = rules::preset(preset);
    let bypass = [table.get("cache"), under.get("cache")];
    if bypass
        .iter()
        .flatten()
        .next()
        .and_then(|cache| cache.as_str())
        != Some("bypass")
    {
        let kept = [
            ("keep", Value::Boolean(true)),
            ("stale", Value::from(MIRRORED)),
            ("stale_if_error", Value::from(MIRRORED)),
        ];
        let mut cache = Table::from_iter(kept.map(|(key, value)| (key.to_owned(), value)));
        if let Some(Value::Table(own)) = table.remove("cache") {
            rules::lay(&mut cache, own);
        }
        table.insert("cache".to_owned(), Value::Table(cache));
    }
    let mut services = inputs.stack.services.iter();
    let of_site = |service: &&Service| {
        let at = service.site.and_then(|at| inputs.stack.sites.get(at));
        at.is_some_and(|at| at.names == site.names)
    };
    let Some(service) = services.find(of_site) else {
        return;
    };
    let upstream = Value::from(through(inputs, site, &service.host));
    if let Some(Value::Array(routes)) = table.get_mut("route") {
        let routes = routes.iter_mut().filter_map(Value::as_table_mut);
        for route in routes.filter(|route| route.contains_key("upstream")) {
            route.insert("upstream".to_owned(), upstream.clone());
        }
    }
    table.insert("upstream".to_owned(), upstream);
}

/// The proxy of another host shows the certificate of the site, whatever its address is.
fn known_by_the_site(inputs: Inputs<'_>, site: &Site, table: &mut Table) {
    let Some(name) = site.names.iter().find(|name| *name != "*") else {
        return;
    };
    // Of a wildcard, any name below it.
    let name = name.replace('*', "www");
    let hosts = inputs.stack.hosts.iter();
    let proxies: Vec<String> = hosts
        .map(|host| through(inputs, site, &host.name))
        .filter(|upstream| upstream.starts_with("https:"))
        .collect();
    let know = |of: &mut Table| {
        let upstream = of.get("upstream").and_then(Value::as_str);
        let ours = upstream.is_some_and(|upstream| proxies.iter().any(|proxy| proxy == upstream));
        if ours && !of.contains_key("upstream_tls") {
            let known = Table::from_iter([("name".to_owned(), Value::from(name.as_str()))]);
            of.insert("upstream_tls".to_owned(), Value::Table(known));
        }
    };
    know(table);
    if let Some(Value::Array(routes)) = table.get_mut("route") {
        routes
            .iter_mut()
            .filter_map(Value::as_table_mut)
            .for_each(know);
    }
}

/// A site without a service for the rest of its paths says that there is nothing.
fn takes_every_path(table: &mut Table) {
    let all = |route: &Table| matches!(route.get("path").and_then(Value::as_str), Some("/" | "/*"));
    if table.contains_key("upstream") || rules::routes(table).any(all) {
        return;
    }
    let routes = Value::Array(vec![Value::Table(nothing())]);
    rules::lay(table, Table::from_iter([("route".to_owned(), routes)]));
}

/// A route that answers 404.
pub(super) fn nothing() -> Table {
    let answer = Table::from_iter([
        ("status".to_owned(), Value::from(404)),
        ("body".to_owned(), Value::from("Not found\n")),
    ]);
    Table::from_iter([
        ("path".to_owned(), Value::from("/")),
        ("answer".to_owned(), Value::Table(answer)),
    ])
}

fn each_in_its_place(site: &Site, services: &[&Service]) -> Result<(), RenderError> {
    let mut places: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let place = service.path.trim_end_matches('/');
        if let Some(first) = places.insert(place, service) {
            return Err(RenderError::SamePlace {
                site: site.names.first().cloned().unwrap_or_default(),
                first: first.name.clone(),
                second: service.name.clone(),
                path: service.path.clone(),
            });
        }
    }
    Ok(())
}
