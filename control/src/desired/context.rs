//! What templates see: values of the service, its site, its host, its options and images. Stands alone because the
//! names in it are what all templates are written against.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, Value, context};
use sovereign_config::stack::catalogue::Definition;
use sovereign_config::stack::model::{self, Engine, Host, Service, Site};

use super::functions::{self, Volumes};
use super::{Image, Inputs, RenderError};
use crate::catalogue;

/// The template that others import: what all Compose files have in common.
const SHARED: [(&str, &str); 1] = [("compose", "compose.jinja")];

/// A service and what belongs to it, ready to be rendered.
pub(super) struct Subject<'i> {
    inputs: Inputs<'i>,
    pub(super) service: &'i Service,
    pub(super) definition: &'i Definition,
    host: &'i Host,
    site: Option<&'i Site>,
    pub(super) port: u16,
    /// Pinned, by the name that templates call them.
    pub(super) images: BTreeMap<String, Image>,
    /// What templates asked for.
    pub(super) volumes: Volumes,
}

impl<'i> Subject<'i> {
    /// Finds everything that belongs to a service.
    pub(super) fn new(
        inputs: Inputs<'i>,
        service: &'i Service,
        port: u16,
    ) -> Result<Self, RenderError> {
        let unknown = || RenderError::UnknownKind {
            service: service.name.clone(),
            kind: service.kind.clone(),
        };
        let definition = inputs.catalogue.get(&service.kind).ok_or_else(unknown)?;
        let mut hosts = inputs.stack.hosts.iter();
        let host = hosts.find(|host| host.name == service.host);
        let subject = Self {
            inputs,
            service,
            definition,
            host: host.ok_or_else(unknown)?,
            site: service.site.and_then(|at| inputs.stack.sites.get(at)),
            port,
            images: pinned(inputs, service, definition)?,
            volumes: Volumes::default(),
        };
        subject.secrets_are_there()?;
        Ok(subject)
    }

    /// Renders a template. `open`: it becomes a secret file and may hold secrets.
    pub(super) fn render(&self, file: &str, text: &str, open: bool) -> Result<String, RenderError> {
        let environment = self.environment(open)?;
        let rendered = environment.render_named_str(file, text, ());
        rendered.map_err(|source| self.template(file, source))
    }

    /// Whether the next version of it may start beside it: not in a Swarm, which changes services by itself.
    pub(super) fn may_be_two(&self) -> bool {
        self.definition.two && self.host.engine == Engine::Docker
    }

    fn template(&self, file: &str, source: minijinja::Error) -> RenderError {
        RenderError::Template {
            service: self.service.name.clone(),
            kind: self.service.kind.clone(),
            file: file.to_owned(),
            source,
        }
    }

    fn environment(&self, open: bool) -> Result<Environment<'static>, RenderError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_syntax(syntax());
        let name = &self.service.name;
        functions::add(&mut environment, name, self.port, &self.volumes);
        functions::add_secrets(&mut environment, name, self.inputs.secrets, open);
        for (name, file) in SHARED {
            let text = catalogue::shared(file).unwrap_or_default();
            let added = environment.add_template(name, text);
            added.map_err(|source| self.template(file, source))?;
        }
        for (name, value) in self.values(open)? {
            environment.add_global(name, value);
        }
        Ok(environment)
    }

    fn values(&self, open: bool) -> Result<Vec<(&'static str, Value)>, RenderError> {
        let service = self.service;
        let limits = &self.definition.limits;
        let option = |name: &str| match service.options.get(name) {
            Some(model::Value::Text(text)) if !text.is_empty() => Some(text.clone()),
            _ => None,
        };
        let images = self.images.iter();
        let images = images.map(|(name, image)| (name.as_str(), image.pinned.as_str()));
        let mut values = vec![
            (
                "service",
                context! { name => &service.name, kind => &service.kind },
            ),
            ("options", Value::from_pairs(self.options(open))),
            ("images", Value::from_pairs(images)),
            (
                "published",
                Value::from(format!("${{SOVEREIGN_PORT:-{}}}", self.port)),
            ),
            ("target", Value::from(self.definition.port)),
            (
                "patience",
                Value::from(format!("{}s", self.definition.patience.as_secs().max(1))),
            ),
            (
                "memory",
                Value::from(option("memory").or_else(|| limits.memory.clone())),
            ),
            (
                "cpus",
                Value::from(option("cpus").or_else(|| limits.cpus.clone())),
            ),
            (
                "host",
                context! { name => &self.host.name, address => &self.host.address },
            ),
            ("needs", Value::from_pairs(self.needs()?)),
        ];
        if let Some(site) = self.site {
            values.push(("site", site_value(self.inputs, site, service)));
        }
        Ok(values)
    }

    fn options(&self, open: bool) -> BTreeMap<String, Value> {
        let mut options = catalogue::options(self.service);
        for (name, value) in self.service.options.iter().filter(|_| open) {
            if let model::Value::Secret(key) = value
                && let Some(secret) = self.inputs.secrets.get(key)
            {
                options.insert(name.clone(), Value::from(secret.as_str()));
            }
        }
        options
    }

    /// What it needs on its host: the first service of each kind.
    fn needs(&self) -> Result<BTreeMap<&'i str, Value>, RenderError> {
        let find = |kind: &'i String| {
            let found = needed(self.inputs, self.service, kind)?;
            let options = Value::from_pairs(catalogue::options(found));
            let value = context! { name => &found.name, options => options };
            Ok((kind.as_str(), value))
        };
        self.definition.needs.iter().map(find).collect()
    }

    fn secrets_are_there(&self) -> Result<(), RenderError> {
        let service = &self.service.name;
        let own = self.definition.secrets.keys();
        let own = own.map(|name| catalogue::secret_key(service, name));
        let own: Vec<_> = own.collect();
        let chosen = self
            .service
            .options
            .values()
            .filter_map(|value| match value {
                model::Value::Secret(name) => Some(name.clone()),
                _ => None,
            });
        let mut all = own.iter().cloned().chain(chosen);
        if let Some(name) = all.find(|name| !self.inputs.secrets.contains_key(name)) {
            let service = service.clone();
            return Err(RenderError::NoSecret { service, name });
        }
        // What is made here is a password; that of an application is read by the line.
        let is_long = |name: &&String| self.inputs.secrets[*name].contains(char::is_control);
        match own.iter().find(is_long) {
            None => Ok(()),
            Some(name) => Err(RenderError::SecretLines {
                service: service.clone(),
                name: name.clone(),
            }),
        }
    }
}

/// The service of this kind that another one needs on its host.
pub(super) fn needed<'i>(
    inputs: Inputs<'i>,
    service: &Service,
    kind: &str,
) -> Result<&'i Service, RenderError> {
    let mut beside = inputs.stack.services.iter();
    let found = beside.find(|other| other.host == service.host && other.kind == kind);
    found.ok_or_else(|| RenderError::Needs {
        service: service.name.clone(),
        kind: kind.to_owned(),
        host: service.host.clone(),
    })
}

/// Its options as the operator reads them; of a secret only its name.
pub(super) fn shown_options(service: &Service) -> BTreeMap<String, String> {
    let shown = |value: &model::Value| match value {
        model::Value::Text(text) => text.clone(),
        model::Value::Number(number) => number.to_string(),
        model::Value::Switch(on) => on.to_string(),
        model::Value::List(list) => list.join(", "),
        model::Value::Secret(name) => format!("the secret {name}"),
    };
    let options = service.options.iter();
    options
        .map(|(name, value)| (name.clone(), shown(value)))
        .collect()
}

/// The name of its site; empty where it has none.
pub(super) fn site_name(inputs: Inputs<'_>, service: &Service) -> String {
    let site = service.site.and_then(|at| inputs.stack.sites.get(at));
    let name = site.and_then(|site| site.names.first());
    name.cloned().unwrap_or_default()
}

/// The URL of a site, without a slash at its end.
pub(super) fn site_url(inputs: Inputs<'_>, site: &Site) -> String {
    let off = site.proxy.get("tls").and_then(toml::Value::as_str) == Some("off");
    let (scheme, usual, key) = if off {
        ("http", ":80", "http")
    } else {
        ("https", ":443", "https")
    };
    let name = site.names.first().map_or("", String::as_str);
    let listen = inputs
        .stack
        .proxy
        .get("listen")
        .and_then(|listen| listen.get(key));
    let first = match listen {
        Some(toml::Value::Array(list)) => list.first().and_then(toml::Value::as_str),
        other => other.and_then(toml::Value::as_str),
    };
    let port = first.and_then(|address| address.rfind(':').map(|at| &address[at..]));
    let port = port.filter(|port| *port != usual).unwrap_or("");
    format!("{scheme}://{name}{port}")
}

fn site_value(inputs: Inputs<'_>, site: &Site, service: &Service) -> Value {
    let origin = site_url(inputs, site);
    let path = service.path.trim_end_matches('/');
    context! {
        names => site.names.iter().map(Value::from).collect::<Vec<_>>(),
        name => site.names.first().map(String::as_str),
        path => if path.is_empty() { "/" } else { path },
        below => path,
        url => format!("{origin}{path}"),
        origin => &origin,
    }
}

/// Lines that hold a block alone leave no trace, and a file keeps the end of its last line.
fn syntax() -> SyntaxConfig {
    let mut syntax = SyntaxConfig::builder();
    syntax
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(true);
    syntax.build().unwrap_or_default()
}

fn pinned(
    inputs: Inputs<'_>,
    service: &Service,
    definition: &Definition,
) -> Result<BTreeMap<String, Image>, RenderError> {
    let find = |(name, reference): (String, String)| {
        let image = image(inputs.lock, &service.name, &reference)?;
        Ok((name, image))
    };
    let images = catalogue::images(definition, service)?;
    images.into_iter().map(find).collect()
}

/// An image as the lock file pins it.
pub(super) fn image(
    lock: &BTreeMap<String, Image>,
    service: &str,
    reference: &str,
) -> Result<Image, RenderError> {
    let found = lock.get(reference).cloned();
    found.ok_or_else(|| RenderError::NotLocked {
        service: service.to_owned(),
        reference: reference.to_owned(),
    })
}

/// The volumes that templates asked for, in alphabetical order.
pub(super) fn listed(volumes: &Volumes) -> Vec<String> {
    let volumes: &Arc<_> = volumes;
    let seen = volumes.lock().unwrap_or_else(|held| held.into_inner());
    seen.iter().cloned().collect()
}
