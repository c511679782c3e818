//! The kinds of service there are: folders of `services`, built in. Stands alone because it is the one place that
//! knows how a folder becomes a definition, templates, images and archives; what is in the folders is data.

use std::collections::BTreeMap;
use std::path::Path;

use include_dir::{Dir, DirEntry, include_dir};
use minijinja::{Environment, UndefinedBehavior};
use sovereign_config::Report;
use sovereign_config::stack::catalogue::{Archived, Catalogue, Definition, Rotation, parse};
use sovereign_config::stack::model::{Service, Value};

static FOLDER: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/services");

/// What a folder says of itself.
const DEFINITION: &str = "service.toml";
/// What a folder adds to the configuration of the proxy.
const PROXY: &str = "proxy.toml";

/// An expression or a name of the catalogue that does not hold for a service.
#[derive(Debug, thiserror::Error)]
#[error("{kind}: evaluating `{expression}` over the options of {service}")]
pub struct ExpressionError {
    kind: String,
    expression: String,
    service: String,
    source: minijinja::Error,
}

/// All kinds, as their folders define them.
pub fn catalogue() -> Result<Catalogue, Report> {
    let mut catalogue = Catalogue::new();
    for folder in FOLDER.dirs() {
        let kind = folder.path().display().to_string();
        let name = format!("services/{kind}/{DEFINITION}");
        let file = FOLDER.get_file(Path::new(&kind).join(DEFINITION));
        if let Some(text) = file.and_then(|file| file.contents_utf8()) {
            catalogue.insert(kind, parse(&name, text)?);
        }
    }
    Ok(catalogue)
}

/// The templates of a kind, by the path at which they are placed.
pub fn templates(kind: &str) -> BTreeMap<String, &'static str> {
    let mut found = BTreeMap::new();
    if let Some(folder) = FOLDER.get_dir(kind) {
        collect(folder, kind, &mut found);
    }
    found.retain(|path, _| path != DEFINITION && path != PROXY);
    found
}

/// What a kind adds to the configuration of the proxy: a template with the keys of its `[proxy]`.
pub fn proxy_template(kind: &str) -> Option<&'static str> {
    text(&format!("{kind}/{PROXY}"))
}

/// What templates share: a file beside the folders.
pub fn shared(name: &str) -> Option<&'static str> {
    text(name)
}

/// The images that a service runs, by the name that its template calls them: the reference by tag. An option
/// `image` names another in place of `app`, and `NAME_image` in place of NAME.
pub fn images(
    definition: &Definition,
    service: &Service,
) -> Result<BTreeMap<String, String>, ExpressionError> {
    let mut images = BTreeMap::new();
    for (name, rule) in &definition.images {
        if holds(rule.when.as_deref(), service)? {
            let own = named_image(name, service);
            images.insert(name.clone(), own.unwrap_or_else(|| rule.image.clone()));
        }
    }
    Ok(images)
}

/// What is archived of a service.
pub fn archives<'d>(
    definition: &'d Definition,
    service: &Service,
) -> Result<Vec<&'d Archived>, ExpressionError> {
    let mut archives = Vec::new();
    for archive in &definition.archive {
        if holds(archive.when.as_deref(), service)? {
            archives.push(&archive.what);
        }
    }
    Ok(archives)
}

/// How the secrets of a service are changed where something of it keeps them by itself, in this order.
pub fn rotations(
    definition: &Definition,
    service: &Service,
) -> Result<Vec<Rotation>, ExpressionError> {
    let mut rotations = Vec::new();
    for rotation in &definition.rotates {
        if holds(rotation.when.as_deref(), service)? {
            rotations.push(rotation.clone());
        }
    }
    Ok(rotations)
}

/// The TCP ports of its host at which a service is reached from outside, past the proxy.
pub fn public_ports(
    definition: &Definition,
    service: &Service,
) -> Result<Vec<u16>, ExpressionError> {
    let mut ports = Vec::new();
    for public in &definition.public {
        if holds(public.when.as_deref(), service)? {
            let number = i64::try_from(evaluate(&public.port, service)?).ok();
            ports.extend(
                number
                    .and_then(|number| u16::try_from(number).ok())
                    .filter(|port| *port != 0),
            );
        }
    }
    Ok(ports)
}

/// The name in the secrets file of a secret that was made for a service.
pub fn secret_key(service: &str, name: &str) -> String {
    format!("{service}.{name}")
}

/// The options as templates and expressions see them; what the secrets file holds is not among them.
pub fn options(service: &Service) -> BTreeMap<String, minijinja::Value> {
    let seen = |value: &Value| match value {
        Value::Text(text) => Some(minijinja::Value::from(text.as_str())),
        Value::Number(number) => Some(minijinja::Value::from(*number)),
        Value::Switch(on) => Some(minijinja::Value::from(*on)),
        Value::List(list) => Some(minijinja::Value::from(list.clone())),
        Value::Secret(_) => None,
    };
    let options = service.options.iter();
    options
        .filter_map(|(name, value)| Some((name.clone(), seen(value)?)))
        .collect()
}

fn holds(when: Option<&str>, service: &Service) -> Result<bool, ExpressionError> {
    let Some(expression) = when else {
        return Ok(true);
    };
    Ok(evaluate(expression, service)?.is_true())
}

/// What an expression comes to over the options of a service.
fn evaluate(expression: &str, service: &Service) -> Result<minijinja::Value, ExpressionError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let value = environment
        .compile_expression(expression)
        .and_then(|compiled| compiled.eval(options(service)));
    value.map_err(|source| ExpressionError {
        kind: service.kind.clone(),
        expression: expression.to_owned(),
        service: service.name.clone(),
        source,
    })
}

fn named_image(name: &str, service: &Service) -> Option<String> {
    let option = match name {
        "app" => "image".to_owned(),
        other => format!("{other}_image"),
    };
    match service.options.get(&option) {
        Some(Value::Text(image)) if !image.is_empty() => Some(image.clone()),
        _ => None,
    }
}

fn text(path: &str) -> Option<&'static str> {
    FOLDER.get_file(path)?.contents_utf8()
}

fn collect(folder: &'static Dir<'static>, kind: &str, found: &mut BTreeMap<String, &'static str>) {
    for entry in folder.entries() {
        match entry {
            DirEntry::Dir(inner) => collect(inner, kind, found),
            DirEntry::File(file) => {
                let path = file.path().strip_prefix(kind).unwrap_or(file.path());
                if let Some(text) = file.contents_utf8() {
                    found.insert(path.display().to_string(), text);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_is_a_kind_with_a_template() {
        let catalogue = catalogue().expect("a sound catalogue");
        for kind in FOLDER
            .dirs()
            .map(|folder| folder.path().display().to_string())
        {
            assert!(catalogue.contains_key(&kind), "{kind} has no {DEFINITION}");
            assert!(templates(&kind).contains_key("compose.yaml"), "{kind}");
        }
    }

    #[test]
    fn images_follow_the_options() {
        let catalogue = catalogue().expect("a sound catalogue");
        let with = |options: &[(&str, &str)]| {
            let text = |(name, value): &(&str, &str)| {
                ((*name).to_owned(), Value::Text((*value).to_owned()))
            };
            let service = Service {
                name: "blog".into(),
                kind: "ghost".into(),
                site: None,
                path: "/".into(),
                host: "h1".into(),
                options: options.iter().map(text).collect(),
                compose: None,
            };
            images(&catalogue["ghost"], &service).expect("images")
        };
        let names = |found: BTreeMap<String, String>| found.into_keys().collect::<Vec<_>>();
        assert_eq!(names(with(&[("database", "mariadb")])), ["app", "mariadb"]);
        assert_eq!(names(with(&[("database", "mysql")])), ["app", "mysql"]);
        let own = with(&[
            ("database", "mysql"),
            ("image", "a:1"),
            ("mysql_image", "b:2"),
        ]);
        assert_eq!((&*own["app"], &*own["mysql"]), ("a:1", "b:2"));
    }

    #[test]
    fn public_ports_follow_the_options() {
        let catalogue = catalogue().expect("a sound catalogue");
        let ports = |kind: &str, own: &[(&str, Value)]| {
            let defaults = catalogue[kind].options.iter();
            let mut options: BTreeMap<String, Value> = defaults
                .filter_map(|(name, choice)| Some((name.clone(), choice.default.clone()?)))
                .collect();
            options.extend(
                own.iter()
                    .map(|(name, value)| ((*name).to_owned(), value.clone())),
            );
            let service = Service {
                name: "it".into(),
                kind: kind.into(),
                site: None,
                path: "/".into(),
                host: "h1".into(),
                options,
                compose: None,
            };
            public_ports(&catalogue[kind], &service).expect("ports")
        };
        let on = Value::Switch(true);
        let chain = |name: &str| Value::Text(name.into());
        assert!(ports("bitcoin", &[]).is_empty());
        assert_eq!(ports("bitcoin", &[("public", on.clone())]), [8333]);
        assert_eq!(
            ports(
                "bitcoin",
                &[("public", on.clone()), ("chain", chain("testnet4"))]
            ),
            [48333]
        );
        assert_eq!(ports("lightning", &[("public", on)]), [9735]);
        for forge in ["gitea", "forgejo"] {
            assert!(ports(forge, &[]).is_empty());
            assert_eq!(ports(forge, &[("ssh_port", Value::Number(2222))]), [2222]);
        }
        for kind in catalogue.keys() {
            assert!(
                ports(kind, &[]).is_empty(),
                "{kind} is closed unless the operator opens it"
            );
        }
    }
}
