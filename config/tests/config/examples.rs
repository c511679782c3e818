//! What is shipped is sound: examples, template, presets, schema.

use std::path::Path;

use sovereign_config::{load, presets, schema, template};

use crate::{package, parse, toml_files, write_certificate};

#[test]
fn every_example_is_sound() {
    // The examples name a certificate, which does not belong in a repository.
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_certificate(folder.path());
    std::fs::create_dir(folder.path().join("files")).expect("writable");
    let examples = package().join("examples");
    for file in std::fs::read_dir(examples.join("files")).expect("there") {
        let from = file.expect("readable").path();
        let name = from.file_name().expect("a file");
        std::fs::copy(&from, folder.path().join("files").join(name)).expect("writable");
    }
    let files = toml_files(&examples);
    assert!(files.len() >= 5);
    for file in files {
        let copy = folder.path().join(file.file_name().expect("a file"));
        std::fs::copy(&file, &copy).expect("writable");
        if let Err(report) = load(&copy) {
            panic!("{report}");
        }
    }
}

#[test]
fn five_lines_are_five_lines() {
    let text = std::fs::read_to_string(package().join("examples/five-lines.toml")).expect("there");
    assert_eq!(text.lines().count(), 5);
}

#[test]
fn full_example_and_template_name_every_key() {
    let full = std::fs::read_to_string(package().join("examples/full.toml")).expect("there");
    let template = template();
    let names = |text: &str, key: &str| {
        let border = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        text.match_indices(key).any(|(at, _)| {
            let (before, after) = (
                text[..at].chars().next_back(),
                text[at + key.len()..].chars().next(),
            );
            border(before) && border(after)
        })
    };
    let mut seen = 0;
    for key in keys(&schema()) {
        seen += 1;
        assert!(names(&full, &key), "full.toml lacks {key}");
        assert!(names(&template, &key), "the template lacks {key}");
    }
    assert!(seen > 40);
}

/// Every property name of a schema.
fn keys(schema: &serde_json::Value) -> Vec<String> {
    match schema {
        serde_json::Value::Object(table) => {
            let own = table.get("properties").and_then(|own| own.as_object());
            let own = own.into_iter().flat_map(|own| own.keys().cloned());
            own.chain(table.values().flat_map(keys)).collect()
        }
        serde_json::Value::Array(list) => list.iter().flat_map(keys).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn template_has_five_live_lines_and_is_sound() {
    let text = template();
    let live = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert_eq!(live.count(), 5);
    parse(&text).expect("sound");
}

#[test]
fn template_shows_the_real_defaults() {
    // A comment begins with "# ", a key that is commented out with "#" alone.
    let text = template();
    let all: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') && !key.starts_with("unavailable") => {
                format!("{key}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let (plain, all) = (
        parse(&text).expect("sound"),
        parse(&all).unwrap_or_else(|report| panic!("{report}")),
    );
    let metrics = all.listen.metrics;
    assert!(metrics.is_some() && plain.listen.metrics.is_none());
    assert_eq!(
        (plain.state, plain.admin, plain.drain),
        (all.state, all.admin, all.drain)
    );
    assert_eq!(
        (plain.listen.http, plain.listen.https),
        (all.listen.http, all.listen.https)
    );
    assert_eq!(
        (plain.cache, plain.limits, plain.log),
        (all.cache, all.limits, all.log)
    );
    assert_eq!(plain.trusted, all.trusted);
    let (plain, all) = (&plain.sites[0], &all.sites[0]);
    assert_eq!(
        (&plain.tls, &plain.hsts, plain.hold),
        (&all.tls, &all.hsts, all.hold)
    );
    assert_eq!(plain.timeouts, all.timeouts);
    assert_eq!(plain.cache.enabled, all.cache.enabled);
    assert_eq!(plain.cache.stale_if_error, all.cache.stale_if_error);
}

#[test]
fn every_preset_is_sound_and_says_what_it_is_for() {
    assert_eq!(
        presets::names(),
        ["btcpay", "forge", "ghost", "nextcloud", "nostr", "radicale"]
    );
    for name in presets::names() {
        let text =
            format!("[[site]]\nnames = \"a.example\"\nupstream = \"demo\"\npreset = \"{name}\"\n");
        if let Err(report) = parse(&text) {
            panic!("{name}: {report}");
        }
        let description = presets::description(name).expect("a comment at the top");
        assert!(description.len() > 20, "{name}: {description}");
    }
}

#[test]
fn schema_describes_every_key_and_knows_no_null() {
    let schema = schema();
    assert!(!schema.to_string().contains("null"), "{schema}");
    for (name, table) in schema["$defs"].as_object().expect("definitions") {
        assert!(table["description"].is_string(), "{name}");
        for (key, property) in table["properties"].as_object().into_iter().flatten() {
            assert!(property["description"].is_string(), "{name}.{key}");
        }
    }
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["required"], serde_json::json!(["site"]));
}

#[test]
fn missing_file_has_its_own_message() {
    let report = load(Path::new("/nonexistent/proxy.toml")).expect_err("there is none");
    assert_eq!(
        report.to_string(),
        "/nonexistent/proxy.toml: found no such file, wanted a file of TOML text\n  \
         hint: sovereign-proxy init writes a file to start from\n1 problem in /nonexistent/proxy.toml"
    );
}
