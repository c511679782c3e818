//! The rules of a service for the proxy: what its kind says, in the shape of a `[[site]]`, and the same as routes
//! where it stands below a path. Stands alone because it works on tables of TOML alone: what the keys mean is
//! checked where the proxy reads them.

use toml::{Table, Value};

use super::RenderError;
use super::context::Subject;
use crate::catalogue;

/// Keys of a site that a route has as well.
const OF_ROUTES: [&str; 3] = ["cache", "request_headers", "response_headers"];
/// Paths that belong to a name as a whole, wherever a service stands under it.
const WELL_KNOWN: &str = "/.well-known/";

/// What a service adds to the configuration of a proxy.
pub(super) struct Rules {
    /// Keys of its site.
    pub(super) site: Table,
    /// Keys of `[limits]`.
    pub(super) limits: Table,
}

/// The rules of a service: those of `service.toml`, with its template over them.
pub(super) fn of(subject: &Subject<'_>) -> Result<Rules, RenderError> {
    let mut site = subject.definition.proxy.clone();
    if let Some(text) = catalogue::proxy_template(&subject.service.kind) {
        let rendered = subject.render("proxy.toml", text, false)?;
        let table = rendered.parse::<Table>();
        let table = table.map_err(|source| RenderError::ProxyTemplate {
            service: subject.service.name.clone(),
            kind: subject.service.kind.clone(),
            source: Box::new(source),
        })?;
        lay(&mut site, table);
    }
    let limits = match site.remove("limits") {
        Some(Value::Table(limits)) => limits,
        _ => Table::new(),
    };
    Ok(Rules { site, limits })
}

/// A preset as a table; empty where there is none.
pub(super) fn preset(name: Option<&str>) -> Table {
    let text = name.and_then(sovereign_config::presets::text);
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Lays `over` over `under`: tables key by key, routes by their path, anything else in whole.
pub(super) fn lay(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => lay(under, over),
            (Some(Value::Array(under)), Value::Array(over)) if key == "route" => {
                let path = |route: &Value| route.get("path").cloned();
                under.retain(|route| over.iter().all(|other| path(other) != path(route)));
                under.extend(over);
            }
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

/// The routes of a service below a path, all of which lead to `upstream`; preset included.
pub(super) fn mount(rules: &Table, path: &str, upstream: &Value) -> Vec<Value> {
    let mut base = Table::from_iter([
        ("path".to_owned(), Value::from(path)),
        ("upstream".to_owned(), upstream.clone()),
    ]);
    for key in OF_ROUTES {
        if let Some(value) = rules.get(key) {
            base.insert(key.to_owned(), turned_on(value.clone()));
        }
    }
    let own = routes(rules).map(|route| below(&base, route, path));
    let mut all = vec![Value::Table(base.clone())];
    all.extend(own);
    // A route of its own for `/` says what the whole of it does.
    let whole = |route: &Value| route.get("path").and_then(Value::as_str) == Some(path);
    if all.iter().filter(|route| whole(route)).count() > 1 {
        all.remove(0);
    }
    all
}

/// The routes of a table.
pub(super) fn routes(table: &Table) -> impl Iterator<Item = &Table> {
    let list = table.get("route").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_table)
}

/// One route, moved below a path, with the rules of its service under its own.
fn below(base: &Table, route: &Table, at: &str) -> Value {
    let mut moved = route.clone();
    let path = route.get("path").and_then(Value::as_str).unwrap_or("/");
    let path = match path {
        "/" => at.to_owned(),
        path if path.starts_with(WELL_KNOWN) => path.to_owned(),
        path => format!("{at}{path}"),
    };
    moved.insert("path".to_owned(), Value::from(path));
    if let Some(Value::Table(languages)) = moved.get_mut("languages") {
        languages.iter_mut().for_each(|(_, to)| move_target(to, at));
    }
    if let Some(redirect) = moved.get_mut("redirect") {
        match redirect {
            Value::Table(table) => table
                .get_mut("to")
                .into_iter()
                .for_each(|to| move_target(to, at)),
            to => move_target(to, at),
        }
        return Value::Table(moved);
    }
    if moved.contains_key("answer") {
        return Value::Table(moved);
    }
    let mut whole = base.clone();
    lay(&mut whole, moved);
    Value::Table(whole)
}

/// A target of this site leads below the path as well.
fn move_target(to: &mut Value, at: &str) {
    if let Value::String(to) = to
        && to.starts_with('/')
    {
        *to = format!("{at}{to}");
    }
}

/// Rules for a cache that also hold where the site around them has turned it off.
fn turned_on(cache: Value) -> Value {
    match cache {
        Value::Table(mut table)
            if table.contains_key("lifetime") || table.contains_key("stale") =>
        {
            table.entry("enabled").or_insert(Value::Boolean(true));
            Value::Table(table)
        }
        other => other,
    }
}

/// Widens `timeouts`, `hold` and `restarting` of a site, which it has in common for all of its paths.
pub(super) fn widen(site: &mut Table, other: &Table) {
    if let Some(Value::Table(times)) = other.get("timeouts") {
        let mut wide = table_of(site, "timeouts");
        keep_greatest(&mut wide, times, milliseconds);
        site.insert("timeouts".to_owned(), Value::Table(wide));
    }
    if let Some(hold) = other.get("hold") {
        let under = Table::from_iter([("hold".to_owned(), hold.clone())]);
        keep_greatest(site, &under, milliseconds);
    }
    if let Some(Value::Array(restarting)) = other.get("restarting") {
        let held = site
            .entry("restarting")
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(held) = held {
            let new: Vec<Value> = restarting
                .iter()
                .filter(|one| !held.contains(one))
                .cloned()
                .collect();
            held.extend(new);
        }
    }
}

/// Widens `[limits]`: the proxy has them in common for all sites.
pub(super) fn widen_limits(limits: &mut Table, other: &Table) {
    keep_greatest(limits, other, |value| {
        bytes(value).or_else(|| milliseconds(value))
    });
}

fn keep_greatest(held: &mut Table, other: &Table, measure: impl Fn(&Value) -> Option<u64>) {
    for (key, value) in other {
        let greater = held
            .get(key)
            .is_none_or(|before| measure(value) > measure(before));
        if greater {
            held.insert(key.clone(), value.clone());
        }
    }
}

fn table_of(table: &Table, key: &str) -> Table {
    match table.get(key) {
        Some(Value::Table(inner)) => inner.clone(),
        _ => Table::new(),
    }
}

fn milliseconds(value: &Value) -> Option<u64> {
    let units = [
        ("ms", 1),
        ("s", 1_000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ];
    measured(value, &units)
}

fn bytes(value: &Value) -> Option<u64> {
    let units = [
        ("", 1),
        ("B", 1),
        ("KB", 1_000),
        ("KiB", 1 << 10),
        ("MB", 1_000_000),
        ("MiB", 1 << 20),
        ("GB", 1_000_000_000),
        ("GiB", 1 << 30),
    ];
    measured(value, &units)
}

fn measured(value: &Value, units: &[(&str, u64)]) -> Option<u64> {
    let text = match value {
        Value::Integer(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return None,
    };
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = text[..text.len() - unit.len()].parse().ok()?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

/// The upstream of a service on its own host, as `proxy.toml` writes it.
pub(super) fn local(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        text.parse().expect("a table")
    }

    #[test]
    fn tables_are_laid_over_one_another() {
        let mut under = table(
            "a = 1\n[cache]\nstale = \"1d\"\n[[route]]\npath = \"/x\"\n[[route]]\npath = \"/y\"\n",
        );
        lay(
            &mut under,
            table("b = 2\n[cache]\nlifetime = \"1m\"\n[[route]]\npath = \"/x\"\nanswer = {}\n"),
        );
        let wanted = table(
            "a = 1\nb = 2\n[cache]\nstale = \"1d\"\nlifetime = \"1m\"\n[[route]]\npath = \"/y\"\n[[route]]\npath = \"/x\"\nanswer = {}\n",
        );
        assert_eq!(under, wanted);
        lay(&mut under, table("cache = \"bypass\""));
        assert_eq!(under["cache"], Value::from("bypass"));
    }

    #[test]
    fn the_wider_bound_holds() {
        let mut site = table("hold = \"30s\"\ntimeouts = { idle = \"2m\" }\n");
        widen(
            &mut site,
            &table("hold = \"1s\"\ntimeouts = { idle = \"1h\", first_byte = \"1s\" }\n"),
        );
        let wanted = table("hold = \"30s\"\ntimeouts = { idle = \"1h\", first_byte = \"1s\" }\n");
        assert_eq!(site, wanted);
        let mut limits = table("header_bytes = \"1MiB\"");
        widen_limits(
            &mut limits,
            &table("header_bytes = \"512KiB\"\nheader_count = 300\n"),
        );
        assert_eq!(
            limits,
            table("header_bytes = \"1MiB\"\nheader_count = 300\n")
        );
    }

    #[test]
    fn routes_move_below_a_path() {
        let rules = table(
            "cache = \"bypass\"\n[[route]]\npath = \"/admin/\"\n[[route]]\npath = \"/.well-known/caldav\"\nredirect = { to = \"/dav\", status = 301 }\n",
        );
        let moved = mount(&rules, "/cal", &Value::from("http://127.0.0.1:1"));
        let wanted = table(
            "[[route]]\npath = \"/cal\"\nupstream = \"http://127.0.0.1:1\"\ncache = \"bypass\"\n[[route]]\npath = \"/cal/admin/\"\nupstream = \"http://127.0.0.1:1\"\ncache = \"bypass\"\n[[route]]\npath = \"/.well-known/caldav\"\nredirect = { to = \"/cal/dav\", status = 301 }\n",
        );
        assert_eq!(Value::Array(moved), wanted["route"]);
    }
}
