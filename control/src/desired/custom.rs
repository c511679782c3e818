//! A service of the operator's own Compose file. It is placed as it is, but for its images, which are pinned; a file
//! beside it adds the labels by which it is known again. Stands alone because no template of ours renders it: it is
//! read line by line, and what is not understood is refused.

use std::collections::BTreeMap;

use sovereign_config::stack::catalogue;
use sovereign_config::stack::model::{Engine, Service};

use super::context::{image, shown_options, site_name};
use super::{DesiredService, File, Files, Image, Inputs, RenderError, revision};

/// What the operator's Compose file is called on the host.
pub(super) const OPERATOR: &str = "operator.yaml";
/// What is laid over it.
const LABELS: &str = "labels.yaml";
/// A custom service as it should be.
pub(super) fn render(inputs: Inputs<'_>, service: &Service) -> Result<DesiredService, RenderError> {
    let mut hosts = inputs.stack.hosts.iter();
    if hosts.any(|host| host.name == service.host && host.engine == Engine::Swarm) {
        return Err(RenderError::Swarm {
            service: service.name.clone(),
            kind: service.kind.clone(),
        });
    }
    let text = operator(inputs, service)?;
    let images = pins(inputs, service, &text)?;
    let files = files(service, &text, &images)?;
    let definition = catalogue::custom();
    let images: Vec<Image> = images.into_values().collect();
    Ok(DesiredService {
        name: service.name.clone(),
        kind: service.kind.clone(),
        site: site_name(inputs, service),
        revision: revision::of(&files, images.iter()),
        files,
        options: shown_options(service),
        images,
        port: definition.visited_port(&service.options),
        two: false,
        patience: definition.patience,
        volumes: Vec::new(),
        archives: Vec::new(),
        needs: Vec::new(),
        rotations: Vec::new(),
    })
}

/// The images that a Compose file names.
pub(super) fn images(text: &str) -> Vec<String> {
    let named = text.lines().filter_map(named_image);
    named.map(|(_, image)| image.to_owned()).collect()
}

/// The ports that a Compose file publishes on all addresses of its host: items such as `- "8080:80"`.
pub(super) fn published(text: &str) -> Vec<u16> {
    let items = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- "));
    let item = |item: &str| {
        let (host, inner) = item.trim().trim_matches(['"', '\'']).split_once(':')?;
        inner.trim_end_matches("/tcp").parse::<u16>().ok()?;
        host.parse::<u16>().ok()
    };
    items.filter_map(item).collect()
}

fn operator(inputs: Inputs<'_>, service: &Service) -> Result<String, RenderError> {
    let files = inputs.sources.of(&service.name);
    let file = files.and_then(|files| files.get(OPERATOR));
    let file = file.ok_or_else(|| RenderError::NoSource {
        service: service.name.clone(),
        path: service.compose.clone().unwrap_or_default(),
    })?;
    String::from_utf8(file.content.clone()).map_err(|_| wrong(service, "bytes that are not UTF-8"))
}

fn pins(
    inputs: Inputs<'_>,
    service: &Service,
    text: &str,
) -> Result<BTreeMap<String, Image>, RenderError> {
    let found = images(text);
    if let Some(variable) = found.iter().find(|image| image.contains('$')) {
        return Err(wrong(
            service,
            &format!("an image with a variable, {variable}"),
        ));
    }
    let pin = |reference: String| {
        let pinned = image(inputs.lock, &service.name, &reference)?;
        Ok((reference, pinned))
    };
    found.into_iter().map(pin).collect()
}

fn files(
    service: &Service,
    text: &str,
    images: &BTreeMap<String, Image>,
) -> Result<Files, RenderError> {
    let parts = parts(text);
    if parts.is_empty() || images.is_empty() {
        return Err(wrong(service, "no service"));
    }
    let labels: String = parts
        .iter()
        .map(|part| labels(&service.name, part))
        .collect();
    let include = format!("include:\n  - path: [\"./{OPERATOR}\", \"./{LABELS}\"]\n");
    Ok(Files::from([
        ("compose.yaml".to_owned(), File::plain(include)),
        (OPERATOR.to_owned(), File::plain(pinned(text, images))),
        (
            LABELS.to_owned(),
            File::plain(format!("services:\n{labels}")),
        ),
    ]))
}

fn labels(service: &str, part: &str) -> String {
    format!(
        "  {part}:\n    labels:\n      sovereign.service: \"{service}\"\n      \
         sovereign.revision: \"${{SOVEREIGN_REVISION:-}}\"\n"
    )
}

/// The names of the services in a Compose file: the keys one step below `services:`.
fn parts(text: &str) -> Vec<&str> {
    let depth = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let lines = text
        .lines()
        .skip_while(|line| line.trim_end() != "services:")
        .skip(1);
    let body = lines.filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    let body: Vec<&str> = body.take_while(|line| depth(line) > 0).collect();
    let step = body.first().map_or(0, |line| depth(line));
    let keys = body.iter().filter(|line| depth(line) == step);
    keys.filter_map(|line| line.trim().strip_suffix(':'))
        .map(|key| key.trim_matches(['"', '\'']))
        .collect()
}

fn pinned(text: &str, images: &BTreeMap<String, Image>) -> String {
    let line = |line: &str| match named_image(line) {
        Some((start, image)) => {
            let pinned = images
                .get(image)
                .map_or(image, |image| image.pinned.as_str());
            format!("{start}{}\n", serde_json::Value::from(pinned))
        }
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// A line that names an image: what stands before it, and the image.
fn named_image(line: &str) -> Option<(&str, &str)> {
    let value = line.trim_start().strip_prefix("image:")?;
    let value = value.split(" #").next().unwrap_or_default().trim();
    let start = &line
        [..line.len() - line.trim_start().len() + "image: ".len().min(line.trim_start().len())];
    let image = value.trim_matches(['"', '\'']);
    (!image.is_empty()).then_some((start, image))
}

fn wrong(service: &Service, what: &str) -> RenderError {
    RenderError::Custom {
        service: service.name.clone(),
        what: what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
name: wiki
services:
  # The wiki.
  app:
    image: \"wiki:2\"  # pinned
    ports: [\"127.0.0.1:8080:80\"]
  'db':
    image: postgres:16-alpine

volumes:
  data:
";

    #[test]
    fn services_and_images_are_found() {
        assert_eq!(parts(FILE), ["app", "db"]);
        assert_eq!(images(FILE), ["wiki:2", "postgres:16-alpine"]);
        assert!(parts("services: {a: {image: b}}").is_empty());
    }

    #[test]
    fn images_are_pinned_where_they_stand() {
        let image = Image {
            reference: "wiki:2".into(),
            pinned: "wiki@sha256:1".into(),
            id: None,
            sent: false,
        };
        let pinned = pinned(FILE, &BTreeMap::from([("wiki:2".to_owned(), image)]));
        assert!(
            pinned.contains("    image: \"wiki@sha256:1\"\n    ports:"),
            "{pinned}"
        );
        assert!(
            pinned.contains("    image: \"postgres:16-alpine\"\n"),
            "{pinned}"
        );
    }

    #[test]
    fn ports_on_all_addresses_are_found() {
        let text = "services:\n  app:\n    image: a:1\n    ports:\n      - \"8080:80\"\n      - 127.0.0.1:9000:90\n      \
                    - '7000:70/tcp'\n      - \"5353:53/udp\"\n      - 6000:60\n    volumes:\n      - data:/data\n";
        assert_eq!(published(text), [8080, 7000, 6000]);
    }
}
