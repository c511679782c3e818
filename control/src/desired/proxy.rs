//! `proxy.toml` of a host: its sites, what its services ask of the whole proxy, and the operator's keys over them.
//! Stands alone because it decides which host serves which site.

use sovereign_config::model;
use sovereign_config::stack::model::{Host, ProxyAs, Role, Site, Stack};
use sovereign_config::{Problem, Report};
use toml::{Table, Value};

use super::ports::Ports;
use super::site::{self, Seen};
use super::{DesiredProxy, File, Inputs, RenderError};
use super::{context, named, revision, rules, run};

/// The configuration in the folder of its revision.
pub(super) const CONFIG: &str = "proxy.toml";

const HEAD: &str =
    "# Written by sovereign from stack.toml; the next deployment writes it anew.\n\n";

/// The proxy of a host as it should be.
pub(super) fn render(
    inputs: Inputs<'_>,
    host: &Host,
    ports: &Ports,
) -> Result<DesiredProxy, RenderError> {
    let (mut table, shown) = configuration(inputs, host, ports)?;
    let sent = named::send(&mut table, inputs.sources, &host.name)?;
    let (http, https) = run::addresses(&table);
    let text = toml::to_string_pretty(&table).map_err(|source| RenderError::Toml {
        host: host.name.clone(),
        source: Box::new(source),
    })?;
    let image = match host.proxy {
        ProxyAs::Systemd => None,
        ProxyAs::Container => Some(context::image(inputs.lock, "proxy", run::IMAGE)?),
    };
    let mut files = match &image {
        None => run::unit(&http, &https),
        Some(image) => run::container(&image.pinned),
    };
    files.extend(sent);
    let configuration = File {
        mode: 0o600,
        ..File::plain(format!("{HEAD}{text}"))
    };
    files.insert(CONFIG.to_owned(), configuration);
    let proxy = DesiredProxy {
        runs: host.proxy,
        program: inputs.program.clone(),
        revision: revision::of(&files, image.iter()),
        files,
        image,
    };
    match check(&proxy) {
        Ok(_) => Ok(proxy),
        Err(report) => Err(RenderError::Proxy {
            host: host.name.clone(),
            problems: problems(inputs.stack, &shown, &report),
        }),
    }
}

/// What the proxy says of its configuration, by the keys of `stack.toml` where they are from there. `shown`: its
/// sites, by their places in the stack.
fn problems(stack: &Stack, shown: &[usize], report: &Report) -> Vec<String> {
    let said = |problem: &Problem| {
        let key = origin(stack, shown, &problem.key);
        let (found, wanted) = (&problem.found, &problem.wanted);
        let hint = problem.hint.iter().map(|hint| format!("\n  hint: {hint}"));
        let hint: String = hint.collect();
        format!("{key}: found {found}, wanted {wanted}{hint}")
    };
    report.problems.iter().map(said).collect()
}

/// Where a key of `proxy.toml` is from.
fn origin(stack: &Stack, shown: &[usize], key: &str) -> String {
    let first = |key: &str| key.split(['.', '[']).next().unwrap_or_default().to_owned();
    let of_site = key.strip_prefix("site[").and_then(|rest| {
        let (number, rest) = rest.split_once(']')?;
        let at = *shown.get(number.parse::<usize>().ok()?)?;
        Some((at, stack.sites.get(at)?, rest.trim_start_matches('.')))
    });
    match of_site {
        Some((at, site, rest)) => {
            let name = site.names.first().map_or("", String::as_str);
            let whose = if site.proxy.contains_key(&first(rest)) {
                format!("site[{at}].proxy of stack.toml")
            } else {
                format!("site[{at}] of stack.toml, by its services")
            };
            format!("{name}: {rest} ({whose})")
        }
        None if stack.proxy.contains_key(&first(key)) => format!("stack.proxy.{key}"),
        None => key.to_owned(),
    }
}

/// Reads a rendered configuration as the proxy will, with the files that are placed beside it.
pub fn check(proxy: &DesiredProxy) -> Result<model::Proxy, Report> {
    let content = proxy.files.get(CONFIG).map(|file| file.content.as_slice());
    let text = String::from_utf8_lossy(content.unwrap_or_default());
    let files = proxy.files.iter();
    let files = files.map(|(path, file)| (path.as_str(), file.content.as_slice()));
    sovereign_config::parse_elsewhere(CONFIG, &text, files.collect())
}

impl DesiredProxy {
    /// Moves an upstream on this host to another port.
    pub(crate) fn move_upstream(&mut self, from: u16, to: u16) {
        let quoted = |port| format!("\"http://127.0.0.1:{port}\"");
        if let Some(file) = self.files.get_mut(CONFIG) {
            let text = String::from_utf8_lossy(&file.content);
            file.content = text.replace(&quoted(from), &quoted(to)).into_bytes();
        }
    }
}

/// The configuration, and which sites are in it, by their places in the stack.
fn configuration(
    inputs: Inputs<'_>,
    host: &Host,
    ports: &Ports,
) -> Result<(Table, Vec<usize>), RenderError> {
    let mut limits = Table::new();
    let (mut sites, mut shown) = (Vec::new(), Vec::new());
    for (at, site) in inputs.stack.sites.iter().enumerate() {
        if let Some(seen) = seen_from(inputs.stack, host, ports, at, site) {
            sites.push(Value::Table(site::render(inputs, at, seen, &mut limits)?));
            shown.push(at);
        }
    }
    if sites.is_empty() {
        sites.push(Value::Table(no_site()));
    }
    let mut table = places(host.proxy);
    if let Some(trusted) = mirrors(inputs.stack, host) {
        table.insert("trusted".to_owned(), trusted);
    }
    if !limits.is_empty() {
        table.insert("limits".to_owned(), Value::Table(limits));
    }
    rules::lay(&mut table, inputs.stack.proxy.clone());
    table.insert("site".to_owned(), Value::Array(sites));
    Ok((table, shown))
}

/// Whether a host serves a site, and where its upstreams are then: a mirror serves all sites of the primary, any
/// other host those of which it runs a service.
fn seen_from<'s>(
    stack: &Stack,
    host: &'s Host,
    ports: &'s Ports,
    at: usize,
    site: &Site,
) -> Option<Seen<'s>> {
    let role = |name: &str| {
        let mut centres = stack.datacentres.iter();
        centres
            .find(|centre| centre.name == name)
            .map(|centre| centre.role)
    };
    let of_site = |host: &str| {
        let mut services = stack.services.iter();
        services.any(|service| service.site == Some(at) && service.host == host)
    };
    if of_site(&host.name) {
        return Some(Seen::AtHome(host, ports));
    }
    let mirror = role(&host.datacentre) == Some(Role::Mirror);
    if mirror && role(&site.datacentre) == Some(Role::Primary) {
        return Some(Seen::Mirrored);
    }
    // A site of routes alone has no service; every host of its data centre serves it.
    let anywhere = stack.hosts.iter().any(|host| of_site(&host.name));
    (!anywhere && site.datacentre == host.datacentre).then_some(Seen::AtHome(host, ports))
}

/// Where the proxy keeps what it keeps.
fn places(runs: ProxyAs) -> Table {
    let place = run::place(runs);
    Table::from_iter([
        ("state".to_owned(), Value::from(place.state)),
        (
            "admin".to_owned(),
            Value::from(format!("unix:{}", place.admin)),
        ),
    ])
}

/// The addresses of mirrors, which say on whose behalf they ask.
fn mirrors(stack: &Stack, host: &Host) -> Option<Value> {
    let is = |host: &Host, role: Role| {
        let mut centres = stack.datacentres.iter();
        centres.any(|centre| centre.name == host.datacentre && centre.role == role)
    };
    if !is(host, Role::Primary) {
        return None;
    }
    let others = stack.hosts.iter();
    let others = others.filter(|other| other.name != host.name && is_address(&other.address));
    let list: Vec<Value> = others
        .map(|other| Value::from(other.address.as_str()))
        .collect();
    (!list.is_empty()).then_some(Value::Array(list))
}

fn is_address(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
}

/// A host that nobody visits: whoever comes is told so.
fn no_site() -> Table {
    let routes = Value::Array(vec![Value::Table(site::nothing())]);
    Table::from_iter([
        ("names".to_owned(), Value::from("*")),
        ("tls".to_owned(), Value::from("local")),
        ("route".to_owned(), routes),
    ])
}
