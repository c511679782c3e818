//! The catalogue without a host: every service is rendered as a deployment renders it, with its defaults and with each
//! of what may be chosen, and what comes of it is held against `docker compose config` and against what the
//! applications document.

// What the applications document.
mod documented;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sovereign_config::stack::catalogue::{Archived, Catalogue, Definition, Takes};
use sovereign_config::stack::model::Stack;
use sovereign_config::stack::{self};
use sovereign_control::catalogue;
use sovereign_control::desired::{
    DesiredService, File, Files, Image, Inputs, PROXY_IMAGE, Program, Sources, render,
};
use sovereign_tests::Lab;
use sovereign_tests::lab::component;

/// Compose v2, the very one that the machines have.
const COMPOSE: &str = "machine/layer/usr/libexec/docker/cli-plugins/docker-compose";
/// What every secret here begins with.
const SECRET: &str = "NobodySeesThis";

/// Options of which not one alone is chosen, or whose values no list has.
const MORE: [(&str, &str); 12] = [
    ("ghost", "languages = [\"en\", \"de\", \"pt-BR\"]"),
    (
        "ghost",
        "languages = [\"en\", \"de\"], database = \"mysql\"",
    ),
    ("gitea", "database = \"postgres\", ssh_port = 2222"),
    ("forgejo", "database = \"postgres\", ssh_port = 2222"),
    (
        "nextcloud",
        "database = \"postgres\", upload = \"2G\", admin = \"o'hara $1\"",
    ),
    (
        "bitcoin",
        "chain = \"testnet4\", public = true, prune = 1000",
    ),
    (
        "bitcoin",
        "chain = \"regtest\", public = true, txindex = true, dbcache = 4",
    ),
    (
        "lightning",
        "public = true, announce = \"node.example.org:9735\", alias = \"a $b\"",
    ),
    (
        "nostr",
        "allow = [\"7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e\"], title = \"a \\\"b\\\" $c\"",
    ),
    (
        "radicale",
        "user = \"grace\", more = { secret = \"others\" }",
    ),
    (
        "static",
        "folder = \"site\", listing = true, single_page = true",
    ),
    ("btcpay", "image = \"btcpay.example/server:1\""),
];

/// A service of a stack, as it was rendered.
struct Rendered {
    /// For messages.
    what: String,
    definition: Definition,
    service: DesiredService,
    /// What `docker compose config` says.
    config: Value,
    /// Ports that are open to everybody.
    public: Vec<u16>,
}

impl Rendered {
    /// The parts of its Compose file by their names.
    fn parts(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.config["services"].as_object().into_iter().flatten()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_service_with_every_choice_is_what_compose_and_its_application_take() {
    let lab = Lab::open().await;
    let catalogue = catalogue::catalogue().expect("a sound catalogue");
    let mut kinds = std::collections::BTreeSet::new();
    for (kind, options) in choices(&catalogue) {
        let folder = lab.folder("stack");
        for one in rendered(&folder, &catalogue, &kind, &options) {
            ports_are_for_the_proxy_alone(&one);
            parts_are_bounded_and_watched(&one);
            data_and_secrets_are_in_their_places(&one);
            commands_find_their_containers(&one);
            documented::settings_are_those_of_the_application(&one);
            kinds.insert(one.service.kind);
        }
    }
    let all: std::collections::BTreeSet<_> = catalogue.keys().cloned().collect();
    assert_eq!(kinds, all);
}

/// Kinds with options, as `stack.toml` writes them.
fn choices(catalogue: &Catalogue) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (kind, definition) in catalogue {
        let need = if kind == "static" {
            "folder = \"site\""
        } else {
            ""
        };
        all.push((kind.clone(), need.to_owned()));
        let dot = if need.is_empty() { "" } else { ", " };
        for (name, choice) in &definition.options {
            let values: Vec<String> = match &choice.takes {
                Takes::Choice(values) => values.iter().map(|value| format!("{value:?}")).collect(),
                Takes::Switch => vec!["true".to_owned(), "false".to_owned()],
                _ => continue,
            };
            let written = values
                .iter()
                .map(|value| format!("{need}{dot}{name} = {value}"));
            all.extend(written.map(|options| (kind.clone(), options)));
        }
    }
    let more = MORE
        .iter()
        .map(|(kind, options)| ((*kind).to_owned(), (*options).to_owned()));
    all.extend(more);
    all
}

/// A stack of this service and what it needs, rendered by the program's own way and read by Compose.
fn rendered(folder: &Path, catalogue: &Catalogue, kind: &str, options: &str) -> Vec<Rendered> {
    let what = format!("{kind} with {options}");
    std::fs::create_dir_all(folder.join("site")).expect("the folder is ours");
    std::fs::write(folder.join("site/index.html"), "<h1>Hello</h1>\n").expect("it is ours");
    let text = stack_of(catalogue, kind, options);
    let stack = stack::parse("stack.toml", &text, folder, catalogue)
        .unwrap_or_else(|report| panic!("{what}: {report}"));
    let sources = Sources::read(&stack, folder).unwrap_or_else(|error| panic!("{what}: {error}"));
    let program = Program {
        path: "sovereign-proxy".into(),
        version: "0".into(),
        digest: "0".repeat(64),
    };
    let desired = render(Inputs {
        stack: &stack,
        catalogue,
        secrets: &secrets(catalogue, &stack),
        lock: &lock(catalogue, &stack),
        program: &program,
        sources: &sources,
    });
    let desired = desired.unwrap_or_else(|error| panic!("{what}: {error}"));
    let services = desired.hosts.into_iter().flat_map(|host| host.services);
    let one = |service: DesiredService| {
        let definition = catalogue[&service.kind].clone();
        let mut typed = stack.services.iter();
        let typed = typed
            .find(|typed| typed.name == service.name)
            .expect("one of ours");
        Rendered {
            what: what.clone(),
            public: catalogue::public_ports(&definition, typed).expect("ports"),
            config: read_by_compose(&folder.join("rendered"), &service.files, &what),
            definition,
            service,
        }
    };
    services.map(one).collect()
}

fn stack_of(catalogue: &Catalogue, kind: &str, options: &str) -> String {
    let mut text = format!(
        "[stack]\nrecipients = [\"age1{}\"]\n[[datacentre]]\nname = \"home\"\nrole = \"primary\"\n\
         [[host]]\nname = \"h1\"\ndatacentre = \"home\"\nssh = \"root@192.0.2.1\"\n",
        "q".repeat(58)
    );
    for need in &catalogue[kind].needs {
        text.push_str(&format!("[[service]]\nuse = \"{need}\"\n"));
    }
    let visited = catalogue[kind].port.is_some();
    let table = if visited { "site.service" } else { "service" };
    if visited {
        text.push_str("[[site]]\nnames = [\"www.example.org\", \"example.org\"]\n");
    }
    text.push_str(&format!(
        "[[{table}]]\nuse = \"{kind}\"\noptions = {{ {options} }}\n"
    ));
    text
}

fn secrets(catalogue: &Catalogue, stack: &Stack) -> BTreeMap<String, String> {
    let own = stack.services.iter().flat_map(|service| {
        let names = catalogue[&service.kind].secrets.keys();
        names.map(|name| catalogue::secret_key(&service.name, name))
    });
    own.chain(["others".to_owned()])
        .enumerate()
        .map(|(number, name)| (name, format!("{SECRET}{number}")))
        .collect()
}

fn lock(catalogue: &Catalogue, stack: &Stack) -> BTreeMap<String, Image> {
    let images = stack.services.iter().flat_map(|service| {
        let images = catalogue::images(&catalogue[&service.kind], service).expect("images");
        images.into_values()
    });
    let pinned = |reference: String| {
        let name = reference
            .rsplit_once(':')
            .map_or(&*reference, |(name, _)| name);
        let image = Image {
            pinned: format!("{name}@sha256:{}", "0".repeat(64)),
            id: None,
            sent: false,
            reference: reference.clone(),
        };
        (reference, image)
    };
    images.chain([PROXY_IMAGE.to_owned()]).map(pinned).collect()
}

/// Lays the files down and has Compose read them, as on a host.
fn read_by_compose(folder: &Path, files: &Files, what: &str) -> Value {
    let _ = std::fs::remove_dir_all(folder);
    for (path, File { content, .. }) in files {
        let path = folder.join(path);
        let above = path.parent().expect("a folder");
        std::fs::create_dir_all(above).expect("the folder is ours");
        std::fs::write(&path, content).expect("the folder is ours");
    }
    let output = Command::new(component(COMPOSE))
        .args(["--file", "compose.yaml", "config", "--format", "json"])
        .current_dir(folder)
        .env_clear()
        .env("SOVEREIGN_REVISION", "0123456789ab")
        .output()
        .unwrap_or_else(|error| panic!("docker-compose does not start: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.trim().is_empty(),
        "{what}: {said}"
    );
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// What is published is published on 127.0.0.1, but for what the service says is open to everybody.
fn ports_are_for_the_proxy_alone(one: &Rendered) {
    let what = &one.what;
    let mut open = Vec::new();
    let mut visited = false;
    for port in one
        .parts()
        .flat_map(|(_, part)| part["ports"].as_array().into_iter().flatten())
    {
        let published: u16 = port["published"]
            .as_str()
            .and_then(|port| port.parse().ok())
            .unwrap_or_else(|| panic!("{what}: {port}"));
        match port["host_ip"].as_str() {
            Some("127.0.0.1") => visited |= Some(published) == one.service.port,
            None => open.push(published),
            Some(other) => panic!("{what}: published on {other}"),
        }
    }
    assert_eq!(open, one.public, "{what}");
    assert!(
        visited || one.definition.port.is_none(),
        "{what}: the proxy finds nothing"
    );
}

fn parts_are_bounded_and_watched(one: &Rendered) {
    assert!(one.parts().next().is_some(), "{}", one.what);
    for (name, part) in one.parts() {
        let what = format!("{}: {name}", one.what);
        let test = part["healthcheck"]["test"].as_array();
        assert!(
            test.is_some_and(|test| test.len() > 1 && test[0] == "CMD"),
            "{what}: no health check"
        );
        let memory = part["deploy"]["resources"]["limits"]["memory"].as_str();
        assert!(
            memory.is_some_and(|bytes| bytes != "0"),
            "{what}: no bound on memory"
        );
        assert_eq!(part["restart"], "unless-stopped", "{what}");
        assert!(
            part["stop_grace_period"].is_string(),
            "{what}: nobody says how long it may take to stop"
        );
        assert_eq!(
            part["labels"]["sovereign.service"], *one.service.name,
            "{what}"
        );
        assert_eq!(
            part["labels"]["sovereign.revision"], "0123456789ab",
            "{what}"
        );
        assert_eq!(part["security_opt"][0], "no-new-privileges:true", "{what}");
        assert!(
            part["logging"]["options"]["max-size"].is_string(),
            "{what}: its log has no bound"
        );
        let image = part["image"].as_str().unwrap_or_default();
        assert!(image.contains("@sha256:"), "{what}: {image} is not pinned");
        assert!(
            part["privileged"].is_null() && part["network_mode"].is_null(),
            "{what}"
        );
    }
}

/// Volumes have the same names whatever version runs, and what is secret is below `secrets/` alone.
fn data_and_secrets_are_in_their_places(one: &Rendered) {
    let (what, name) = (&one.what, &one.service.name);
    let volumes = one.config["volumes"].as_object().into_iter().flatten();
    for (_, volume) in volumes {
        let called = volume["name"].as_str().unwrap_or_default();
        let own = one.service.volumes.iter().any(|own| own == called);
        let needed = volume["external"] == true && called.starts_with("sovereign-");
        assert!(
            own || needed,
            "{what}: the volume {called:?} is not one of {name}"
        );
    }
    for (path, file) in &one.service.files {
        let open = !String::from_utf8_lossy(&file.content).contains(SECRET);
        assert!(
            open || (file.secret && path.starts_with("secrets/")),
            "{what}: {path} holds a secret"
        );
    }
    for (part, config) in one.parts() {
        for word in ["command", "entrypoint", "healthcheck", "labels"] {
            let text = config[word].to_string();
            assert!(
                !text.contains(SECRET),
                "{what}: {word} of {part} holds a secret"
            );
        }
    }
}

/// What is archived and what changes secrets runs in a part that is there, where the secret is.
fn commands_find_their_containers(one: &Rendered) {
    let what = &one.what;
    let part = |name: &str| one.config["services"].get(name);
    for archive in &one.definition.archive {
        if let Archived::Dump { service, .. } = &archive.what {
            let there = part(service).is_some();
            assert!(
                there || archive.when.is_some(),
                "{what}: no {service} to dump from"
            );
        }
    }
    for rotation in &one.service.rotations {
        let secrets = part(&rotation.service).map(|part| part["secrets"].clone());
        let target = format!("/run/secrets/{}", rotation.secret);
        let mut secrets = secrets.iter().filter_map(Value::as_array).flatten();
        let there = secrets
            .any(|secret| secret["source"] == *rotation.secret && secret["target"] == *target);
        assert!(
            there,
            "{what}: {} has no {}",
            rotation.service, rotation.secret
        );
    }
}
