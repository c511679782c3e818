//! What is rendered, as text: kept in `expected`, and written anew with `UPDATE_EXPECTED=1`, to be read in the diff.

// What proxies are told, and what is refused.
mod told;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::LazyLock;

use sovereign_config::stack::catalogue::{Catalogue, Takes};
use sovereign_config::stack::model::{
    Datacentre, Engine, Host, ImageSource, ProxyAs, Role, Service, Site, Stack, Value,
};

use super::*;
use crate::catalogue::{self, images, secret_key};

/// All kinds, read once.
fn catalogue() -> Catalogue {
    static ALL: LazyLock<Catalogue> =
        LazyLock::new(|| catalogue::catalogue().expect("a sound catalogue"));
    ALL.clone()
}

/// A stack to be rendered, and what it is rendered from.
struct Bench {
    stack: Stack,
    catalogue: Catalogue,
    sources: Sources,
}

impl Bench {
    fn new() -> Self {
        let page = File {
            mode: 0o644,
            content: b"<h1>Hello</h1>\n".to_vec(),
            secret: false,
        };
        let files = Files::from([("files/index.html".to_owned(), page)]);
        Self {
            stack: stack(),
            catalogue: catalogue(),
            sources: Sources::default().with("static", files),
        }
    }

    /// One service of this kind, with what it needs, and a site where it is visited.
    fn of(kind: &str, options: &[(&str, Value)]) -> Self {
        let mut bench = Self::new();
        for needed in bench.catalogue[kind].needs.clone() {
            bench = bench.service(&needed, &[], None, "/");
        }
        let site = bench.catalogue[kind].port.map(|_| 0);
        bench.service(kind, options, site, "/")
    }

    fn service(
        mut self,
        kind: &str,
        options: &[(&str, Value)],
        site: Option<usize>,
        path: &str,
    ) -> Self {
        let definition = &self.catalogue[kind];
        let default = |(name, choice): (&String, &sovereign_config::stack::catalogue::Choice)| {
            Some((name.clone(), choice.default.clone()?))
        };
        let mut all: BTreeMap<String, Value> =
            definition.options.iter().filter_map(default).collect();
        if kind == "static" {
            all.insert("folder".into(), text("site"));
        }
        all.extend(
            options
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone())),
        );
        self.stack.services.push(Service {
            name: kind.to_owned(),
            kind: kind.to_owned(),
            site,
            path: path.to_owned(),
            host: "h1".into(),
            options: all,
            compose: None,
        });
        self
    }

    fn render(&self) -> Result<Desired, RenderError> {
        self.render_with(&self.secrets())
    }

    fn render_with(&self, secrets: &BTreeMap<String, String>) -> Result<Desired, RenderError> {
        let (lock, program) = (self.lock(), program());
        render(Inputs {
            stack: &self.stack,
            catalogue: &self.catalogue,
            secrets,
            lock: &lock,
            program: &program,
            sources: &self.sources,
        })
    }

    fn secrets(&self) -> BTreeMap<String, String> {
        let services = self.stack.services.iter();
        let own = |service: &Service| {
            let names = self.catalogue[&service.kind].secrets.keys();
            let key = |name: &String| {
                let key = secret_key(&service.name, name);
                (key.clone(), format!("SECRET-{key}"))
            };
            names.map(key).collect::<Vec<_>>()
        };
        services.flat_map(own).collect()
    }

    fn lock(&self) -> BTreeMap<String, Image> {
        let services = self.stack.services.iter();
        let named = services.flat_map(|service| {
            let images = images(&self.catalogue[&service.kind], service).expect("images");
            images.into_values()
        });
        let pinned = |reference: String| {
            let name = reference.split(':').next().unwrap_or_default();
            let image = Image {
                pinned: format!("{name}@sha256:{}", "0".repeat(64)),
                id: None,
                sent: false,
                reference: reference.clone(),
            };
            (reference, image)
        };
        named.chain([run::IMAGE.to_owned()]).map(pinned).collect()
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn list(list: &[&str]) -> Value {
    Value::List(list.iter().map(|item| (*item).to_owned()).collect())
}

fn program() -> Program {
    Program {
        path: "/usr/local/bin/sovereign-proxy".into(),
        version: "0.1.0".into(),
        digest: "0".repeat(64),
    }
}

fn stack() -> Stack {
    Stack {
        name: "example".into(),
        secrets: "secrets.age".into(),
        recipients: Vec::new(),
        images: ImageSource::Registry,
        program: None,
        proxy: toml::Table::new(),
        datacentres: vec![Datacentre {
            name: "home".into(),
            role: Role::Primary,
        }],
        hosts: vec![host("h1", "home", "192.0.2.1")],
        sites: vec![site(&["www.example.org", "example.org"])],
        services: Vec::new(),
    }
}

fn host(name: &str, datacentre: &str, address: &str) -> Host {
    Host {
        name: name.into(),
        datacentre: datacentre.into(),
        ssh: format!("root@{address}"),
        port: None,
        address: address.into(),
        engine: Engine::Docker,
        proxy: ProxyAs::Systemd,
    }
}

fn site(names: &[&str]) -> Site {
    Site {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        datacentre: "home".into(),
        proxy: toml::Table::new(),
    }
}

/// Everything, as text.
fn show(desired: &Desired) -> String {
    let mut shown = String::new();
    for host in &desired.hosts {
        for service in &host.services {
            let _ = writeln!(
                shown,
                "#### {}: {} ({})",
                host.name, service.name, service.kind
            );
            let _ = writeln!(
                shown,
                "## port {:?}, volumes {:?}",
                service.port, service.volumes
            );
            for archive in &service.archives {
                let _ = writeln!(shown, "## archive: {archive}");
            }
            show_files(&mut shown, &service.files);
        }
        let _ = writeln!(shown, "#### {}: proxy", host.name);
        show_files(&mut shown, &host.proxy.files);
    }
    shown
}

fn show_files(shown: &mut String, files: &Files) {
    for (path, file) in files {
        let secret = if file.secret { ", secret" } else { "" };
        let _ = writeln!(shown, "==== {path} ({:o}{secret})", file.mode);
        let content = String::from_utf8_lossy(&file.content);
        let _ = writeln!(shown, "{}", content.trim_end());
    }
}

/// The proxies of all hosts take what was rendered for them.
fn proxies_are_sound(desired: &Desired, what: &str) {
    for host in &desired.hosts {
        if let Err(report) = check_proxy(&host.proxy) {
            panic!("{what}: {report}");
        }
    }
}

/// What nobody may read is in secret files alone.
fn secrets_are_kept(desired: &Desired, what: &str) {
    let services = desired.hosts.iter().flat_map(|host| &host.services);
    for service in services {
        for (path, file) in &service.files {
            let content = String::from_utf8_lossy(&file.content);
            assert!(
                file.secret || !content.contains("SECRET-"),
                "{what}: {path}"
            );
        }
    }
}

fn is_expected(name: &str, desired: &Desired) {
    proxies_are_sound(desired, name);
    secrets_are_kept(desired, name);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/desired/expected");
    let path = folder.join(format!("{name}.txt"));
    let found = show(desired);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(&path, &found).expect("written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{name} differs; UPDATE_EXPECTED=1 writes it anew:\n{found}"
    );
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

fn rendered(bench: &Bench, what: &str) -> Desired {
    bench
        .render()
        .unwrap_or_else(|error| panic!("{what}: {}", chain(&error)))
}

#[test]
fn every_kind_with_defaults() {
    for kind in catalogue().keys() {
        is_expected(kind, &rendered(&Bench::of(kind, &[]), kind));
    }
}

/// Every kind, with each of the values that it may choose from.
fn each_choice() -> Vec<(String, Bench)> {
    let mut all = Vec::new();
    for (kind, definition) in &catalogue() {
        all.push((kind.clone(), Bench::of(kind, &[])));
        for (name, choice) in &definition.options {
            let values = match &choice.takes {
                Takes::Choice(values) => values.iter().map(|value| text(value)).collect(),
                Takes::Switch => vec![Value::Switch(true), Value::Switch(false)],
                _ => continue,
            };
            for value in values {
                let what = format!("{kind} with {name} = {value:?}");
                all.push((what, Bench::of(kind, &[(name, value)])));
            }
        }
    }
    all
}

#[test]
fn every_kind_with_each_choice() {
    for (what, bench) in each_choice() {
        let desired = rendered(&bench, &what);
        proxies_are_sound(&desired, &what);
        secrets_are_kept(&desired, &what);
    }
}

#[test]
fn ghost_in_several_languages() {
    let languages = ("languages", list(&["en", "de"]));
    let desired = rendered(&Bench::of("ghost", &[languages]), "ghost");
    is_expected("ghost-languages", &desired);
    let proxy = check_proxy(&desired.hosts[0].proxy).expect("a sound configuration");
    let sent: Vec<_> = proxy.sites[0]
        .routes
        .iter()
        .filter(|route| !route.languages.is_empty())
        .collect();
    assert_eq!(sent.len(), 1, "readers of the first page alone are sent");
    let to = |tag: &str, to: &str| (tag.to_owned(), to.to_owned());
    let wanted = [
        to("*", "/en/{query}"),
        to("de", "/de/{query}"),
        to("en", "/en/{query}"),
    ];
    assert_eq!(sent[0].languages, wanted);
}

#[test]
fn languages_below_a_path_stay_below_it() {
    let languages = ("languages", list(&["en", "de"]));
    let bench = Bench::new().service("static", &[], Some(0), "/").service(
        "ghost",
        &[languages],
        Some(0),
        "/blog/",
    );
    let desired = rendered(&bench, "ghost below a path");
    let proxy = check_proxy(&desired.hosts[0].proxy).expect("a sound configuration");
    let mut routes = proxy.sites[0].routes.iter();
    let sent = routes.find(|route| !route.languages.is_empty());
    let targets = sent
        .map(|route| route.languages.clone())
        .unwrap_or_default();
    let targets: Vec<String> = targets.into_iter().map(|(_, to)| to).collect();
    let wanted = ["/blog/en/{query}", "/blog/de/{query}", "/blog/en/{query}"];
    assert_eq!(targets, wanted);
}

#[test]
fn what_changes_a_secret_finds_it_in_a_file_of_its_name() {
    let mut rotated = BTreeMap::new();
    for (kind, bench) in each_choice() {
        let desired = rendered(&bench, &kind);
        for service in &desired.hosts[0].services {
            for rotation in &service.rotations {
                let key = secret_key(&service.name, &rotation.secret);
                let file = &service.files[&format!("secrets/{}", rotation.secret)];
                let content = String::from_utf8_lossy(&file.content);
                assert_eq!(content, format!("SECRET-{key}"), "{kind}: {rotation:?}");
                rotated.insert(key, rotation.service.clone());
            }
        }
    }
    // Every password that a database keeps, in each of the kinds that have one.
    for (kind, definition) in &catalogue() {
        let names = definition.secrets.keys();
        for name in names.filter(|name| name.starts_with("database_")) {
            let key = secret_key(kind, name);
            assert!(rotated.contains_key(&key), "nothing changes {key}");
        }
    }
}

#[test]
fn a_relay_that_knows_names_and_takes_events_of_some() {
    let key = "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e";
    let options = [
        ("names", list(&[&format!("alice={key}")])),
        ("allow", list(&[key])),
        ("title", text("A \"relay\" for $5")),
    ];
    is_expected(
        "nostr-names",
        &rendered(&Bench::of("nostr", &options), "nostr"),
    );
}

#[test]
fn a_forge_with_a_database_and_ssh() {
    let options = [
        ("database", text("postgres")),
        ("ssh_port", Value::Number(2222)),
    ];
    is_expected(
        "forgejo-postgres",
        &rendered(&Bench::of("forgejo", &options), "forgejo"),
    );
}

#[test]
fn a_site_of_several_services_and_its_mirror() {
    let mut bench = Bench::new()
        .service("ghost", &[], Some(0), "/")
        .service("static", &[], Some(0), "/files")
        .service("nostr", &[], Some(0), "/relay/")
        .service("radicale", &[], Some(1), "/")
        .service("bitcoin", &[("chain", text("regtest"))], None, "/");
    bench.stack.sites.push(site(&["calendar.example.org"]));
    bench.stack.sites[0].proxy = "hsts = true\n[cache]\nlifetime = \"10m\"\n[[route]]\npath = \"/ghost/\"\ncache = \"bypass\"\nresponse_headers = { set = { X-Robots-Tag = \"noindex\" } }\n".parse().expect("a table");
    bench.stack.proxy = "drain = \"1m\"\n[[acme]]\ndirectory = \"https://ca.example/directory\"\n"
        .parse()
        .expect("a table");
    bench.stack.datacentres.push(Datacentre {
        name: "office".into(),
        role: Role::Mirror,
    });
    let mut mirror = host("h2", "office", "192.0.2.2");
    mirror.proxy = ProxyAs::Container;
    bench.stack.hosts.push(mirror);
    is_expected("several", &rendered(&bench, "several"));
}

#[test]
fn what_others_need_comes_first() {
    let mut bench = Bench::of("btcpay", &[]);
    bench.stack.services.reverse();
    let desired = rendered(&bench, "btcpay");
    let names: Vec<_> = desired.hosts[0]
        .services
        .iter()
        .map(|service| &*service.name)
        .collect();
    assert_eq!(names, ["bitcoin", "lightning", "btcpay"]);
}

#[test]
fn a_custom_service_is_placed_as_it_is() {
    let mut bench = Bench::new();
    let compose = "services:\n  web:\n    image: wiki:2\n    ports: [\"127.0.0.1:8080:80\"]\n";
    let file = File {
        mode: 0o644,
        content: compose.into(),
        secret: false,
    };
    bench.catalogue.insert(
        "custom".into(),
        sovereign_config::stack::catalogue::custom(),
    );
    bench = bench.service("custom", &[("port", Value::Number(8080))], Some(0), "/");
    bench.sources =
        Sources::default().with("custom", Files::from([("operator.yaml".to_owned(), file)]));
    assert_eq!(bench.sources.images("custom"), ["wiki:2"]);
    let error = bench.render().expect_err("an image that is not locked");
    assert_eq!(error.to_string(), "custom: wiki:2 is not in the lock file");
    let mut lock = bench.lock();
    let image = Image {
        reference: "wiki:2".into(),
        pinned: "wiki@sha256:1".into(),
        id: None,
        sent: false,
    };
    lock.insert("wiki:2".into(), image);
    let program = program();
    let inputs = Inputs {
        stack: &bench.stack,
        catalogue: &bench.catalogue,
        secrets: &BTreeMap::new(),
        lock: &lock,
        program: &program,
        sources: &bench.sources,
    };
    is_expected("custom", &render(inputs).expect("rendered"));
}
