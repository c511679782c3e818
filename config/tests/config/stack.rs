//! `stack.toml` and `service.toml`: every example is sound, every bad file has its message checked in
//! (`stack/bad`, `stack/bad-kinds`), and written values arrive. The kinds of service of these tests are in `stack/kinds`.

use std::path::{Path, PathBuf};

use sovereign_config::Report;
use sovereign_config::stack::catalogue::{self, Archived, Catalogue, Takes};
use sovereign_config::stack::model::{Engine, ImageSource, ProxyAs, Role, Stack, Value};
use sovereign_config::stack::{self, template};

use crate::{package, toml_files};

#[test]
fn every_example_is_sound() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("wiki")).expect("writable");
    let examples = package().join("examples/stack");
    for name in ["wiki/compose.yaml", "sovereign-proxy"] {
        // The program is no part of the repository.
        let content = std::fs::read(examples.join(name)).unwrap_or_default();
        std::fs::write(folder.path().join(name), content).expect("writable");
    }
    let files = toml_files(&examples);
    assert!(files.len() >= 4);
    for file in files {
        let copy = folder.path().join(file.file_name().expect("a file"));
        std::fs::copy(&file, &copy).expect("writable");
        if let Err(report) = stack::load(&copy, &kinds()) {
            panic!("{report}");
        }
    }
}

#[test]
fn every_bad_file_says_what_is_wrong() {
    compare("bad", |name, text| parse(name, text).err());
}

#[test]
fn every_bad_kind_says_what_is_wrong() {
    compare("bad-kinds", |name, text| catalogue::parse(name, text).err());
}

#[test]
fn the_template_is_sound_but_for_who_may_read_the_secrets() {
    let text = template();
    let report = parse("stack.toml", &text).expect_err("nobody may read the secrets");
    let keys: Vec<_> = report.problems.iter().map(|one| one.key.as_str()).collect();
    assert_eq!(keys, ["stack.recipients"], "{report}");
    let stack = parse("stack.toml", &filled(&text)).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(
        (stack.hosts.len(), stack.sites.len(), stack.services.len()),
        (1, 1, 1)
    );
}

#[test]
fn the_template_shows_the_real_defaults() {
    let text = template();
    // A comment begins with "# ", a key that is commented out with "#" alone, an example with "#  ".
    let all: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if !key.starts_with([' ', '[']) => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let all = parse("stack.toml", &filled(&all)).unwrap_or_else(|report| panic!("{report}"));
    let plain = parse("stack.toml", &filled(&text)).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(plain, all);
}

/// The template with somebody who may read the secrets.
fn filled(text: &str) -> String {
    let recipients = |line: &str| line.trim_start_matches('#').starts_with("recipients = ");
    let lines = text.lines().map(|line| match recipients(line) {
        true => format!("recipients = \"{RECIPIENT}\"\n"),
        false => format!("{line}\n"),
    });
    lines.collect()
}

#[test]
fn full_example_and_template_name_every_key() {
    let full = std::fs::read_to_string(package().join("examples/stack/full.toml")).expect("there");
    let template = template();
    let schema = stack::schema(&kinds());
    let mut seen = 0;
    let tables = ["Stack", "Datacentre", "Host", "StackSite", "Service"];
    for table in tables
        .iter()
        .map(|name| &schema["$defs"][name])
        .chain([&schema])
    {
        for key in table["properties"].as_object().expect("a table").keys() {
            seen += 1;
            for (name, text) in [("full.toml", &full), ("the template", &template)] {
                let there = [format!("{key} "), format!("{key}]"), format!(".{key}.")];
                assert!(
                    there.iter().any(|way| text.contains(way)),
                    "{name} lacks {key}"
                );
            }
        }
    }
    assert!(seen > 20);
}

#[test]
fn the_schema_knows_the_options_of_each_kind() {
    let schema = stack::schema(&kinds());
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    assert_eq!(
        schema["required"],
        serde_json::json!(["datacentre", "host"])
    );
    assert!(!schema.to_string().contains("null"));
    let service = &schema["$defs"]["Service"];
    let used = service["properties"]["use"]["enum"]
        .as_array()
        .expect("kinds");
    assert!(used.contains(&"ghost".into()) && used.contains(&"custom".into()));
    let rules = service["allOf"].as_array().expect("one rule for each kind");
    let of = |kind: &str| {
        let is = |rule: &&serde_json::Value| rule["if"]["properties"]["use"]["const"] == kind;
        &rules.iter().find(is).expect(kind)["then"]
    };
    let database = &of("ghost")["properties"]["options"]["properties"]["database"];
    assert_eq!(database["enum"], serde_json::json!(["mariadb", "mysql"]));
    assert_eq!(database["default"], "mariadb");
    assert_eq!(of("radicale")["required"], serde_json::json!(["options"]));
    assert_eq!(of("custom")["required"], serde_json::json!(["compose"]));
    // Every reference leads somewhere, and every key is described.
    let text = schema.to_string();
    for way in text
        .split("\"$ref\":\"#")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
    {
        assert!(schema.pointer(way).is_some(), "{way}");
    }
    for (name, table) in schema["$defs"].as_object().expect("definitions") {
        assert!(table["description"].is_string(), "{name}");
        for (key, property) in table["properties"].as_object().into_iter().flatten() {
            assert!(property["description"].is_string(), "{name}.{key}");
        }
    }
}

#[test]
fn written_values_arrive() {
    let text =
        std::fs::read_to_string(package().join("examples/stack/mirror.toml")).expect("there");
    let stack = parse("stack.toml", &text).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(
        (stack.name.as_str(), stack.images),
        ("example", ImageSource::Local)
    );
    assert_eq!(stack.secrets, Path::new("/nonexistent/secrets.age"));
    assert_eq!(stack.recipients, [RECIPIENT]);
    assert_eq!(stack.proxy.to_string(), "[cache]\ndisk = \"50GiB\"\n");
    assert_eq!(stack.datacentres[1].role, Role::Mirror);
    let host = &stack.hosts[1];
    assert_eq!(
        (host.ssh.as_str(), host.port),
        ("admin@h2.example.org", Some(2222))
    );
    assert_eq!(
        (host.address.as_str(), host.engine, host.proxy),
        ("h2.example.org", Engine::Docker, ProxyAs::Container)
    );
    let site = &stack.sites[0];
    assert_eq!((site.names.len(), site.datacentre.as_str()), (2, "home"));
    assert_eq!(site.proxy["hsts"].as_bool(), Some(true));
    assert_eq!(site.proxy["route"][0]["redirect"].as_str(), Some("/rss/"));
    let names: Vec<_> = stack
        .services
        .iter()
        .map(|one| (one.name.as_str(), one.host.as_str(), one.site))
        .collect();
    assert_eq!(
        names,
        [
            ("blog", "h1", Some(0)),
            ("nostr", "h2", Some(1)),
            ("radicale", "h2", Some(2))
        ]
    );
    let blog = &stack.services[0];
    assert_eq!(blog.options["database"], Value::Text("mysql".to_owned()));
    assert_eq!(blog.options["languages"], Value::List(vec![]));
    assert_eq!(
        stack.services[2].options["password"],
        Value::Secret("radicale".to_owned())
    );
}

/// It was once read as the one field of a secret.
#[test]
fn a_list_of_one_text_is_a_list() {
    let written = "use = \"ghost\"";
    let text = filled(&template());
    let text = text.replace(
        written,
        &format!("{written}\noptions = {{ languages = [\"en\"] }}"),
    );
    let stack = parse("stack.toml", &text).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(
        stack.services[0].options["languages"],
        Value::List(vec!["en".to_owned()])
    );
}

#[test]
fn a_kind_arrives_as_it_is_written() {
    let kinds = kinds();
    let ghost = &kinds["ghost"];
    assert_eq!(
        (
            ghost.preset.as_deref(),
            ghost.port,
            ghost.path.as_str(),
            ghost.two
        ),
        (Some("ghost"), Some(2368), "/", true)
    );
    assert_eq!(ghost.patience.as_secs(), 300);
    assert_eq!(
        ghost.options["database"].takes,
        Takes::Choice(vec!["mariadb".to_owned(), "mysql".to_owned()])
    );
    assert_eq!(ghost.secrets["database_password"].length, 32);
    assert_eq!(ghost.images["app"].image, "ghost:5-alpine");
    assert_eq!(
        ghost.images["mysql"].when.as_deref(),
        Some("database == 'mysql'")
    );
    assert!(
        matches!(&ghost.archive[1].what, Archived::Dump { service, command } if service == "db" && command.len() == 3)
    );
    assert_eq!(ghost.proxy["hold"].as_str(), Some("30s"));
    assert_eq!(ghost.limits.memory.as_deref(), Some("1g"));
    assert_eq!(kinds["lightning"].needs, ["bitcoin"]);
    let custom = catalogue::custom();
    assert_eq!(
        custom.options.keys().collect::<Vec<_>>(),
        ["health", "port"]
    );
    let port = [("port".to_owned(), Value::Number(3000))].into();
    assert_eq!(
        (custom.visited_port(&port), custom.port),
        (Some(3000), None)
    );
}

#[test]
fn secrets_are_not_shown() {
    let text = std::fs::read_to_string(package().join("tests/config/stack/bad/options.toml"))
        .expect("there");
    let report = parse("stack.toml", &text).expect_err("bad").to_string();
    assert!(!report.contains("hunter"), "{report}");
    let text =
        std::fs::read_to_string(package().join("tests/config/stack/bad/many.toml")).expect("there");
    let report = parse("stack.toml", &text).expect_err("bad").to_string();
    assert!(!report.contains("AGE-SECRET-KEY"), "{report}");
}

#[test]
fn missing_file_has_its_own_message() {
    let report =
        stack::load(Path::new("/nonexistent/stack.toml"), &kinds()).expect_err("there is none");
    assert_eq!(
        report.to_string(),
        "/nonexistent/stack.toml: found no such file, wanted a file of TOML text\n  \
         hint: sovereign init writes a file to start from\n1 problem in /nonexistent/stack.toml"
    );
}

#[test]
fn broken_text_never_panics() {
    let full = std::fs::read_to_string(package().join("examples/stack/full.toml")).expect("there");
    for end in (0..full.len())
        .filter(|end| full.is_char_boundary(*end))
        .step_by(13)
    {
        for text in [
            full[..end].to_owned(),
            format!("{}{}", &full[..end], &full[(end + 5).min(full.len())..]),
        ] {
            if let Err(report) = parse("cut.toml", &text) {
                assert!(!report.problems.is_empty());
            }
        }
    }
}

const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kudh72xfs2mn2vr";

/// The kinds of service of these tests.
fn kinds() -> Catalogue {
    let one = |file: PathBuf| {
        let name = file
            .file_stem()
            .and_then(|name| name.to_str())
            .expect("plain names")
            .to_owned();
        let text = std::fs::read_to_string(&file).expect("readable");
        let definition = catalogue::parse(&name, &text).unwrap_or_else(|report| panic!("{report}"));
        (name, definition)
    };
    toml_files(&package().join("tests/config/stack/kinds"))
        .into_iter()
        .map(one)
        .collect()
}

/// Parses text as `stack.toml` in a folder that is not there.
fn parse(name: &str, text: &str) -> Result<Stack, Report> {
    stack::parse(name, text, Path::new("/nonexistent"), &kinds())
}

/// Compares what is said of each file of a folder with what is checked in beside it.
fn compare(folder: &str, report: impl Fn(&str, &str) -> Option<Report>) {
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut different = Vec::new();
    for file in toml_files(&package().join("tests/config/stack").join(folder)) {
        let name = file
            .file_name()
            .and_then(|name| name.to_str())
            .expect("plain names");
        let text = std::fs::read_to_string(&file).expect("readable");
        let report = report(name, &text)
            .unwrap_or_else(|| panic!("{name} is not bad"))
            .to_string();
        let expected = file.with_extension("txt");
        if update {
            std::fs::write(&expected, format!("{report}\n")).expect("writable");
        } else if std::fs::read_to_string(&expected)
            .unwrap_or_default()
            .trim_end()
            != report
        {
            different.push(report);
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n\n"));
}
