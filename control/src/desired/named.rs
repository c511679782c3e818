//! Files of this machine that keys of `proxy.toml` name: certificates and their keys, authorities, pages. They travel
//! beside the configuration, which then names them where they lie. Stands alone because it is the one place that
//! knows which keys these are.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};
use sovereign_config::stack::model::Stack;
use toml::{Table, Value};

use super::{File, Files, RenderError, Sources};

/// The keys that name a file, and whether nobody else may read it.
const KEYS: [(&str, bool); 15] = [
    ("site.tls.cert", false),
    ("site.tls.key", true),
    ("site.unavailable", false),
    ("site.upstream_tls.roots", false),
    ("site.route.upstream_tls.roots", false),
    ("site.route.client_ca", false),
    ("site.route.answer.file", false),
    ("acme.roots", false),
    ("acme.eab.key", true),
    ("certificates.dns.key", true),
    ("certificates.shared.roots", false),
    ("certificates.shared.cert", false),
    ("certificates.shared.key", true),
    ("certificates.shared.password", true),
    ("certificates.feed.secret", true),
];
/// How much of a file's own name is kept.
const MOST_LETTERS: usize = 40;

/// The files that a stack names for its proxies, as it writes them.
pub(super) fn of_stack(stack: &Stack) -> BTreeSet<String> {
    let sites = stack.sites.iter();
    let sites = sites.map(|site| Value::Table(site.proxy.clone()));
    let mut table = stack.proxy.clone();
    table.insert("site".to_owned(), Value::Array(sites.collect()));
    let mut names = BTreeSet::new();
    each(&mut table, &mut |name, _| {
        names.insert(name.clone());
    });
    names
}

/// Has a configuration name the files that it needs where they are placed, relative to its own folder; gives them.
pub(super) fn send(table: &mut Table, sources: &Sources, host: &str) -> Result<Files, RenderError> {
    let mut files = Files::new();
    let mut lacking = None;
    each(table, &mut |name, secret| {
        let Some(content) = sources.named(name) else {
            lacking.get_or_insert_with(|| name.clone());
            return;
        };
        let (mode, place) = (if secret { 0o600 } else { 0o644 }, place(name, secret));
        let content = content.to_vec();
        files.insert(
            place.clone(),
            File {
                mode,
                content,
                secret,
            },
        );
        *name = place;
    });
    match lacking {
        None => Ok(files),
        Some(name) => Err(RenderError::NoSource {
            service: format!("the proxy of {host}"),
            path: name.into(),
        }),
    }
}

/// Where a file lies beside the configuration: by its own name, and one of its kind however many have that.
fn place(name: &str, secret: bool) -> String {
    let folder = if secret { "secrets" } else { "files" };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let own = name.rsplit('/').next().unwrap_or_default();
    let own: String = own
        .chars()
        .map(|c| if plain(c) { c } else { '-' })
        .take(MOST_LETTERS)
        .collect();
    let digest = Sha256::digest(name.as_bytes());
    let digits: String = digest[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{folder}/{digits}-{own}")
}

/// Each name of a file in a configuration.
fn each(table: &mut Table, what: &mut impl FnMut(&mut String, bool)) {
    for (key, secret) in KEYS {
        let way: Vec<&str> = key.split('.').collect();
        if let Some(value) = table.get_mut(way[0]) {
            below(value, &way[1..], &mut |name| what(name, secret));
        }
    }
}

/// What lies at the end of this way, in each of the tables of a list.
fn below(value: &mut Value, way: &[&str], what: &mut impl FnMut(&mut String)) {
    match (value, way) {
        (Value::Array(list), _) => list.iter_mut().for_each(|one| below(one, way, what)),
        (Value::Table(table), [key, rest @ ..]) => {
            if let Some(value) = table.get_mut(*key) {
                below(value, rest, what);
            }
        }
        (Value::String(name), []) => what(name),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;

    /// The ways to all keys of `proxy.toml` that name a file, as the schema tells them.
    fn told(schema: &Json, at: &Json, way: &str, found: &mut BTreeSet<String>) {
        if let Some(name) = at["$ref"].as_str() {
            let name = name.trim_start_matches("#/$defs/");
            return told(schema, &schema["$defs"][name], way, found);
        }
        for part in ["anyOf", "oneOf", "allOf"] {
            for one in at[part].as_array().into_iter().flatten() {
                told(schema, one, way, found);
            }
        }
        if at["items"].is_object() {
            told(schema, &at["items"], way, found);
        }
        let title = at["title"].as_str().unwrap_or_default();
        let about = at["description"].as_str().unwrap_or_default();
        let is_file = title.starts_with("the path of a") && title.ends_with("file");
        if is_file || about.starts_with("An HTML file") || about.starts_with("A file of") {
            found.insert(way.to_owned());
        }
        for (name, inner) in at["properties"].as_object().into_iter().flatten() {
            let dot = if way.is_empty() { "" } else { "." };
            told(schema, inner, &format!("{way}{dot}{name}"), found);
        }
    }

    #[test]
    fn every_key_that_names_a_file_is_known() {
        let schema = sovereign_config::schema();
        let mut found = BTreeSet::new();
        told(&schema, &schema, "", &mut found);
        let known = KEYS.iter().map(|(key, _)| (*key).to_owned()).collect();
        assert_eq!(found, known);
    }

    #[test]
    fn files_are_named_where_they_lie() {
        let mut table: Table =
            "[[site]]\nnames = \"a\"\ntls = { cert = \"../tls/a b.pem\", key = \"/k\" }\n\
                                [[site.route]]\npath = \"/x\"\nclient_ca = \"/k\"\n"
                .parse()
                .expect("a table");
        let sources = Sources::default()
            .with_named("../tls/a b.pem", b"cert".to_vec())
            .with_named("/k", b"key".to_vec());
        let files = send(&mut table, &sources, "h1").expect("all are there");
        let shown: Vec<String> = files
            .iter()
            .map(|(path, file)| format!("{path} {file:?} {}", file.secret))
            .collect();
        assert_eq!(
            shown,
            [
                "files/399a8038-k 644 3 bytes false",
                "files/7789faeb-a-b.pem 644 4 bytes false",
                "secrets/399a8038-k 600 3 bytes true",
            ]
        );
        let site = &table["site"][0];
        assert_eq!(site["tls"]["key"].as_str(), Some("secrets/399a8038-k"));
        assert_eq!(
            site["route"][0]["client_ca"].as_str(),
            Some("files/399a8038-k")
        );
        let mut table: Table = "[[acme]]\nroots = \"r.pem\"\n".parse().expect("a table");
        let error = send(&mut table, &sources, "h1").expect_err("a file that was not read");
        assert_eq!(error.to_string(), "the proxy of h1: r.pem was not read");
    }
}
