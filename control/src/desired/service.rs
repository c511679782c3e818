//! The files of a service: every template of its folder, rendered. Stands alone because what a service is on a host
//! follows from here alone.

use std::collections::BTreeSet;

use sovereign_config::stack::catalogue::{Archived, CUSTOM};
use sovereign_config::stack::model::{Service, Value};

use super::context::{Subject, listed, needed, shown_options, site_name};
use super::ports::Ports;
use super::{DesiredService, File, Files, Inputs, RenderError, custom, revision};
use crate::catalogue;

/// Files below it hold secrets.
const SECRETS: &str = "secrets/";
/// Files below it are read in the container by somebody other than root. On the host only root gets as far as the
/// folder that they lie in.
const MOUNTED: &str = "secrets/mounted/";

/// The services of a host, those that others need first.
pub(super) fn in_order<'i>(
    inputs: Inputs<'i>,
    host: &str,
) -> Result<Vec<&'i Service>, RenderError> {
    let services = inputs.stack.services.iter();
    let mut left: Vec<&Service> = services.filter(|service| service.host == host).collect();
    let mut ordered: Vec<&Service> = Vec::new();
    let mut there = BTreeSet::new();
    while !left.is_empty() {
        let (mut ready, mut waiting) = (Vec::new(), Vec::new());
        for service in left {
            let needs = needs(inputs, service)?;
            let list = if needs.is_subset(&there) {
                &mut ready
            } else {
                &mut waiting
            };
            list.push(service);
        }
        if let ([], Some(stuck)) = (ready.as_slice(), waiting.first()) {
            return Err(RenderError::Circle {
                service: stuck.name.clone(),
            });
        }
        there.extend(ready.iter().map(|service| service.name.as_str()));
        ordered.extend(ready);
        left = waiting;
    }
    Ok(ordered)
}

/// A service as it should be.
pub(super) fn render(
    inputs: Inputs<'_>,
    service: &Service,
    ports: &Ports,
) -> Result<DesiredService, RenderError> {
    if service.kind == CUSTOM {
        return custom::render(inputs, service);
    }
    let port = ports.get(&service.name).copied().unwrap_or_default();
    let subject = Subject::new(inputs, service, port)?;
    fits_its_place(service)?;
    let mut files = brought_along(inputs, service)?;
    for (path, text) in catalogue::templates(&service.kind) {
        files.insert(path.clone(), file(&subject, &path, text)?);
    }
    let definition = subject.definition;
    let images: Vec<_> = subject.images.values().cloned().collect();
    Ok(DesiredService {
        name: service.name.clone(),
        kind: service.kind.clone(),
        site: site_name(inputs, service),
        revision: revision::of(&files, images.iter()),
        port: (definition.port.is_some() || is_published(&files)).then_some(port),
        files,
        options: shown_options(service),
        images,
        two: subject.may_be_two(),
        patience: definition.patience,
        volumes: listed(&subject.volumes),
        archives: archives(&subject)?,
        needs: needs(inputs, service)?
            .into_iter()
            .map(str::to_owned)
            .collect(),
        rotations: catalogue::rotations(definition, service)?,
    })
}

/// Whether something of it is found at its port: visited by the proxy, or by us alone.
fn is_published(files: &Files) -> bool {
    let compose = files
        .get("compose.yaml")
        .map(|file| String::from_utf8_lossy(&file.content));
    compose.is_some_and(|text| text.contains("SOVEREIGN_PORT"))
}

fn needs<'i>(inputs: Inputs<'i>, service: &'i Service) -> Result<BTreeSet<&'i str>, RenderError> {
    let definition = inputs.catalogue.get(&service.kind);
    let kinds = definition.map_or(&[][..], |definition| &definition.needs);
    let find = |kind: &String| Ok(needed(inputs, service, kind)?.name.as_str());
    kinds.iter().map(find).collect()
}

/// Whether its templates know of a site, and of a path below one, shows in what they ask for.
fn fits_its_place(service: &Service) -> Result<(), RenderError> {
    let texts = catalogue::templates(&service.kind);
    let asks = |what: &str| texts.values().any(|text| text.contains(what));
    let (name, kind) = (service.name.clone(), service.kind.clone());
    if service.site.is_none() && asks("site.") {
        return Err(RenderError::NoSite {
            service: name,
            kind,
        });
    }
    let proxy = catalogue::proxy_template(&service.kind).unwrap_or_default();
    let mut ways = ["site.path", "site.below", "site.url"].into_iter();
    let knows_path = ways.any(|what| asks(what) || proxy.contains(what));
    if service.path != "/" && !knows_path {
        let path = service.path.clone();
        return Err(RenderError::Below {
            service: name,
            kind,
            path,
        });
    }
    Ok(())
}

/// Files of this machine that belong to it.
fn brought_along(inputs: Inputs<'_>, service: &Service) -> Result<Files, RenderError> {
    if let Some(files) = inputs.sources.of(&service.name) {
        return Ok(files.clone());
    }
    match service.options.get(super::sources::FOLDER) {
        Some(Value::Text(path)) if !path.is_empty() => Err(RenderError::NoSource {
            service: service.name.clone(),
            path: path.into(),
        }),
        _ => Ok(Files::new()),
    }
}

fn file(subject: &Subject<'_>, path: &str, text: &str) -> Result<File, RenderError> {
    let secret = path.starts_with(SECRETS);
    let content = subject.render(path, text, secret)?.into_bytes();
    let mode = match path {
        path if path.starts_with(MOUNTED) => 0o444,
        path if path.starts_with(SECRETS) => 0o600,
        _ if text.starts_with("#!") => 0o755,
        _ => 0o644,
    };
    Ok(File {
        mode,
        content,
        secret,
    })
}

/// What is archived, in words. A volume stands for those of its languages as well: `content`, `content-de`.
fn archives(subject: &Subject<'_>) -> Result<Vec<String>, RenderError> {
    let mut words = Vec::new();
    for archived in catalogue::archives(subject.definition, subject.service)? {
        match archived {
            Archived::Volume(name) => {
                let first = format!("sovereign-{}-{name}", subject.service.name);
                let more = format!("{first}-");
                let volumes = listed(&subject.volumes).into_iter();
                let ours = volumes.filter(|volume| *volume == first || volume.starts_with(&more));
                words.extend(ours.map(|volume| format!("volume {volume}")));
            }
            Archived::Dump { service, .. } => words.push(format!("dump of {service}")),
        }
    }
    Ok(words)
}
