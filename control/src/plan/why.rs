//! Why something has to be done, in the operator's words. Stands alone because a plan is read for its reasons: what
//! the operator changed, or what is not as it was left.

use std::collections::{BTreeMap, BTreeSet};

use super::FileDiff;
use crate::desired::{DesiredService, Files, Image, Revision};
use crate::observe::{Container, Health, ObservedService, Slot};

/// Where secrets lie, and those of them that are mounted one by one.
const SECRETS: &str = "secrets/";
const MOUNTED: &str = "mounted/";
/// How many digits of a digest are shown.
const DIGITS: usize = 12;

/// Options of a service, as the operator reads them.
pub(super) type Options = BTreeMap<String, String>;

/// Why a service whose files or images differ has to change.
pub(super) fn changed(
    service: &DesiredService,
    seen: &ObservedService,
    before: Option<&Options>,
    diff: &[FileDiff],
) -> Vec<String> {
    let mut why = options(before, &service.options);
    why.extend(images(&seen.files, &service.images));
    why.extend(secrets(diff));
    if why.is_empty() {
        why.extend(files(diff));
    }
    if why.is_empty() {
        why.push(format!("revision {} is another one", service.revision));
    }
    why
}

/// Files that changed, by name.
pub(super) fn files(diff: &[FileDiff]) -> Vec<String> {
    let paths = diff.iter().map(|file| file.path.as_str());
    match paths.collect::<Vec<_>>()[..] {
        [] => Vec::new(),
        [path] => vec![format!("{path} changed")],
        [ref most @ .., last] => vec![format!("{} and {last} changed", most.join(", "))],
    }
}

/// Secrets that changed, by the name of their file.
fn secrets(diff: &[FileDiff]) -> Vec<String> {
    let paths = diff
        .iter()
        .filter_map(|file| file.path.strip_prefix(SECRETS));
    paths
        .map(|path| format!("secret `{}` changed", path.trim_start_matches(MOUNTED)))
        .collect()
}

/// Options that changed; where nobody knows what they were, nothing is said of them.
fn options(old: Option<&Options>, new: &Options) -> Vec<String> {
    let Some(old) = old else {
        return Vec::new();
    };
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let reason = |name: &String| {
        let (before, after) = (old.get(name), new.get(name));
        let shown = |value: Option<&String>| {
            value.map_or_else(|| "not set".to_owned(), |value| one_line(value))
        };
        (before != after).then(|| {
            format!(
                "option `{name}` changed: {} -> {}",
                shown(before),
                shown(after)
            )
        })
    };
    names.into_iter().filter_map(reason).collect()
}

/// Images that are other ones than before. Those of before stand in the Compose files, pinned.
fn images(old: &Files, new: &[Image]) -> Vec<String> {
    let before = pins(old);
    let reason = |image: &Image| {
        let of_this: Vec<&String> = before
            .iter()
            .filter(|pin| repository(pin) == repository(&image.pinned))
            .collect();
        if of_this.contains(&&image.pinned) || before.is_empty() {
            return None;
        }
        Some(match of_this[..] {
            [pin] => format!(
                "image {} is another one ({} -> {})",
                image.reference,
                digits(pin),
                digits(&image.pinned)
            ),
            _ => format!("image {} is new", image.reference),
        })
    };
    new.iter().filter_map(reason).collect()
}

/// The images that Compose files name.
pub(crate) fn pins(files: &Files) -> Vec<String> {
    let yaml = files.iter().filter(|(path, _)| path.ends_with(".yaml"));
    let texts = yaml.map(|(_, file)| String::from_utf8_lossy(&file.content).into_owned());
    let mut pins: Vec<String> = texts
        .flat_map(|text| text.lines().filter_map(pin).collect::<Vec<_>>())
        .collect();
    pins.sort();
    pins.dedup();
    pins
}

fn pin(line: &str) -> Option<String> {
    let line = line.trim_start().trim_start_matches("- ");
    let value = line
        .strip_prefix("image:")?
        .trim()
        .trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

fn repository(pinned: &str) -> &str {
    match pinned.split_once('@') {
        Some((name, _)) => name,
        None => pinned.rsplit_once(':').map_or(pinned, |(name, _)| name),
    }
}

/// The end of a pinned reference, short: `sha256:0123456789ab`.
fn digits(pinned: &str) -> String {
    match pinned.split_once("@sha256:") {
        Some((_, digest)) => format!("sha256:{}", digest.get(..DIGITS).unwrap_or(digest)),
        None => pinned
            .rsplit_once(':')
            .map_or(pinned, |(_, tag)| tag)
            .to_owned(),
    }
}

/// Why a service that should run in this revision does not do so well; nothing where it does.
pub(super) fn unwell(seen: &ObservedService, slot: Slot, revision: &Revision) -> Vec<String> {
    let containers = seen.running.get(&slot).map_or(&[][..], Vec::as_slice);
    if containers.is_empty() {
        return vec!["is not running".to_owned()];
    }
    let is_other = |other: &Revision| !other.0.is_empty() && other != revision;
    let other = |container: &&Container| container.revision.as_ref().is_some_and(is_other);
    if let Some(other) = containers.iter().find(other) {
        let runs = other
            .revision
            .as_ref()
            .map_or("", |revision| revision.0.as_str());
        return vec![format!(
            "`{}` runs revision {runs}, not the one that should run",
            other.part
        )];
    }
    containers.iter().filter_map(ill).collect()
}

/// How a container is not well.
fn ill(container: &Container) -> Option<String> {
    let part = &container.part;
    match &container.health {
        Health::Healthy | Health::Running => None,
        Health::Starting => Some(format!("`{part}` is not healthy yet")),
        Health::Unhealthy(said) if said.trim().is_empty() => {
            Some(format!("`{part}` is not healthy"))
        }
        Health::Unhealthy(said) => Some(format!("`{part}` is not healthy: {}", one_line(said))),
        Health::Exited(code) => Some(format!(
            "`{part}` is not running: it ended with code {code}"
        )),
    }
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::File;

    fn files(path: &str, text: &str) -> Files {
        Files::from([(
            path.to_owned(),
            File {
                mode: 0o644,
                content: text.into(),
                secret: false,
            },
        )])
    }

    fn image(reference: &str, pinned: &str) -> Image {
        Image {
            reference: reference.into(),
            pinned: pinned.into(),
            id: None,
            sent: false,
        }
    }

    #[test]
    fn images_that_are_other_ones() {
        let old = "services:\n  app:\n    image: \"ghost@sha256:aaaaaaaaaaaaaaaa\"\n  db:\n    image: sovereign.local/db:1234\n";
        let cases = [
            (image("ghost:5", "ghost@sha256:aaaaaaaaaaaaaaaa"), None),
            (
                image("ghost:5", "ghost@sha256:bbbbbbbbbbbbbbbb"),
                Some("image ghost:5 is another one (sha256:aaaaaaaaaaaa -> sha256:bbbbbbbbbbbb)"),
            ),
            (
                image("db:2", "sovereign.local/db:5678"),
                Some("image db:2 is another one (1234 -> 5678)"),
            ),
            (
                image("redis:7", "redis@sha256:cc"),
                Some("image redis:7 is new"),
            ),
        ];
        for (image, wanted) in cases {
            let found = images(&files("compose.yaml", old), &[image]);
            assert_eq!(found.first().map(String::as_str), wanted);
        }
    }

    #[test]
    fn options_that_changed() {
        let of = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect::<Options>()
        };
        let old = of(&[("database", "mariadb"), ("languages", "en"), ("old", "1")]);
        let new = of(&[("database", "mysql"), ("languages", "en"), ("new", "true")]);
        let wanted = [
            "option `database` changed: mariadb -> mysql",
            "option `new` changed: not set -> true",
            "option `old` changed: 1 -> not set",
        ];
        assert_eq!(options(Some(&old), &new), wanted);
        assert!(options(None, &new).is_empty());
    }
}
