//! Raw values to a definition: what the types cannot say of a `service.toml`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::raw::{self, ArchiveKind, Kind, Written};
use super::{
    Archive, Archived, Choice, Definition, ImageRule, Limits, PublicPort, Rotation, SecretRule,
    Takes,
};
use crate::check::{Check, On, each};
use crate::problem::{Key, Problems, did_you_mean, one_of, quoted};
use crate::raw as proxy;
use crate::stack::model::Value;

/// Checks a whole file. The result is only sound where no problem was noted.
pub(super) fn service(raw: &raw::Service, problems: &mut Problems<'_>) -> Definition {
    let root = Key::root();
    let minute = Duration::from_secs(60);
    let second = Duration::from_secs(1);
    let patience = Check::of(problems, Path::new("/")).duration(
        &root.key("patience"),
        raw.patience.as_ref(),
        second,
        minute * 60 * 24,
    );
    laid_under(raw, problems);
    Definition {
        about: raw.about.clone().unwrap_or_default(),
        preset: raw.preset.clone(),
        port: raw.port,
        path: path(&root.key("path"), raw.path.as_deref(), problems).unwrap_or_else(|| "/".into()),
        two: raw.two.unwrap_or_default(),
        patience: patience.unwrap_or(minute * 5),
        needs: each(raw.needs.as_ref(), &root)
            .map(|(_, kind)| kind.clone())
            .collect(),
        open: path(&root.key("open"), raw.open.as_deref(), problems),
        options: named(raw.options.as_ref(), &root.key("options"), problems, option),
        secrets: named(raw.secrets.as_ref(), &root.key("secrets"), problems, secret),
        images: named(raw.images.as_ref(), &root.key("images"), problems, image),
        public: public(raw),
        archive: archives(raw, problems),
        rotates: rotations(raw, problems),
        proxy: raw
            .proxy
            .as_ref()
            .and_then(|table| toml::Table::try_from(table).ok())
            .unwrap_or_default(),
        limits: limits(raw.limits.as_ref(), &root.key("limits"), problems),
    }
}

/// Holds what is laid under a site against the checks of `proxy.toml`.
fn laid_under(raw: &raw::Service, problems: &mut Problems<'_>) {
    let written = raw.proxy.clone().unwrap_or_default();
    let part: raw::Proxy = serde_json::from_value(written.into()).unwrap_or_default();
    let site = proxy::Site {
        names: Some(proxy::OneOrMany::One("*".to_owned())),
        upstream: Some(proxy::OneOrMany::One("demo".to_owned())),
        preset: raw.preset.clone(),
        timeouts: part.timeouts,
        hold: part.hold,
        restarting: part.restarting,
        cache: part.cache,
        request_headers: part.request_headers,
        response_headers: part.response_headers,
        route: part.route,
        ..proxy::Site::default()
    };
    let file = proxy::File {
        limits: part.limits,
        site: Some(vec![site]),
        ..proxy::File::default()
    };
    let mut seen = problems.as_seen(|key| {
        let rest = match key.as_str() {
            "preset" => return Some(Key::written("site[0].preset".to_owned())),
            "proxy" => return Some(Key::written("site[0]".to_owned())),
            other => other.strip_prefix("proxy.")?,
        };
        let at_top = rest == "limits" || rest.starts_with("limits.");
        let way = if at_top {
            rest.to_owned()
        } else {
            format!("site[0].{rest}")
        };
        Some(Key::written(way))
    });
    crate::check::file(&file, Path::new("/"), On::Here, &mut seen);
    problems.take_in(seen, |_| {});
}

/// Each member of a table, checked; names are those that templates can write.
fn named<R, T>(
    raw: Option<&BTreeMap<String, R>>,
    key: &Key,
    problems: &mut Problems<'_>,
    one: impl Fn(&R, &Key, &mut Problems<'_>) -> Option<T>,
) -> BTreeMap<String, T> {
    let mut found = BTreeMap::new();
    for (name, raw) in raw.into_iter().flatten() {
        let key = key.key(name);
        let starts = name.starts_with(|c: char| c.is_ascii_lowercase());
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !starts || !name.chars().all(plain) {
            let wanted = "a name of small letters, digits and _, such as database_password";
            problems.add(&key, quoted(name), wanted);
        }
        if let Some(value) = one(raw, &key, problems) {
            found.insert(name.clone(), value);
        }
    }
    found
}

fn option(raw: &raw::Choice, key: &Key, problems: &mut Problems<'_>) -> Option<Choice> {
    let kind = raw.kind?;
    let misplaced = [
        (
            "values",
            raw.values.is_some() && kind != Kind::Choice,
            "choice",
        ),
        ("min", raw.min.is_some() && kind != Kind::Number, "number"),
        ("max", raw.max.is_some() && kind != Kind::Number, "number"),
    ];
    for (name, _, of) in misplaced.iter().filter(|(_, wrong, _)| *wrong) {
        let wanted = format!("it beside type = \"{of}\" only");
        problems.add(&key.key(name), format!("`{name}`"), wanted);
    }
    let takes = match kind {
        Kind::Text => Takes::Text,
        Kind::Secret => Takes::Secret,
        Kind::Switch => Takes::Switch,
        Kind::List => Takes::List,
        Kind::Number => Takes::Number {
            least: raw.min.unwrap_or(0),
            most: raw.max.unwrap_or(i64::MAX),
        },
        Kind::Choice => Takes::Choice(values(raw, key, problems)),
    };
    let default = raw.default.as_ref().and_then(|written| {
        let fitting = fitting(&takes, written);
        let nothing_to_choose = takes == Takes::Choice(Vec::new());
        if fitting.is_none() && !nothing_to_choose {
            let found = match written {
                Written::Text(text) => quoted(text),
                Written::Number(number) => number.to_string(),
                Written::Switch(switch) => switch.to_string(),
                Written::List(_) => "a list".to_owned(),
            };
            problems.add(&key.key("default"), found, wanted(&takes));
        }
        fitting
    });
    Some(Choice {
        about: raw.about.clone().unwrap_or_default(),
        takes,
        default,
    })
}

fn values(raw: &raw::Choice, key: &Key, problems: &mut Problems<'_>) -> Vec<String> {
    let key = key.key("values");
    let values = raw.values.clone().unwrap_or_default();
    if values.is_empty() && !problems.is_incomplete(&key) {
        problems.add(&key, "nothing", "a list of what there is to choose from");
    }
    values
}

/// The default, where it is what may be written. A secret may only be left empty.
fn fitting(takes: &Takes, written: &Written) -> Option<Value> {
    match (takes, written) {
        (Takes::Text, Written::Text(text)) => Some(Value::Text(text.clone())),
        (Takes::Secret, Written::Text(text)) if text.is_empty() => Some(Value::Text(String::new())),
        (Takes::Choice(values), Written::Text(text)) if values.contains(text) => {
            Some(Value::Text(text.clone()))
        }
        (Takes::Number { least, most }, Written::Number(number)) => (least..=most)
            .contains(&number)
            .then_some(Value::Number(*number)),
        (Takes::Switch, Written::Switch(switch)) => Some(Value::Switch(*switch)),
        (Takes::List, Written::List(list)) => Some(Value::List(list.clone())),
        _ => None,
    }
}

fn wanted(takes: &Takes) -> String {
    match takes {
        Takes::Text => "text".to_owned(),
        Takes::Secret => "\"\", since a secret has no place here".to_owned(),
        Takes::Number {
            least,
            most: i64::MAX,
        } => format!("a whole number from {least}"),
        Takes::Number { least, most } => format!("a whole number from {least} to {most}"),
        Takes::Switch => "true or false".to_owned(),
        Takes::List => "a list".to_owned(),
        Takes::Choice(values) => one_of(
            &values
                .iter()
                .map(|word| format!("{word:?}"))
                .collect::<Vec<_>>(),
        ),
    }
}

// A name that all rules for the members of a table share has this form.
#[allow(clippy::unnecessary_wraps)]
fn secret(raw: &raw::Secret, _: &Key, _: &mut Problems<'_>) -> Option<SecretRule> {
    Some(SecretRule {
        length: raw.length.unwrap_or(32).into(),
    })
}

fn image(raw: &raw::Image, key: &Key, problems: &mut Problems<'_>) -> Option<ImageRule> {
    let (key, name, when) = match raw {
        raw::Image::Always(name) => (key.clone(), name, None),
        raw::Image::Table(table) => (key.key("image"), table.image.as_ref()?, table.when.clone()),
    };
    let name = &name.0;
    // An expression in a template's braces may stand in it.
    let braced = name.contains("{{");
    let tagged = name
        .rsplit('/')
        .next()
        .is_some_and(|last| last.contains(':') || last.contains('@'));
    if !braced && (name.is_empty() || name.contains(char::is_whitespace) || !tagged) {
        let hint = "without a tag it would change by itself; the lock file pins what the tag means";
        problems.add_with_hint(&key, quoted(name), "an image such as ghost:5-alpine", hint);
    }
    Some(ImageRule {
        image: name.clone(),
        when,
    })
}

/// A port that is left out was noted already.
fn public(raw: &raw::Service) -> Vec<PublicPort> {
    let list = raw.public.iter().flatten();
    let ports = list.filter_map(|raw| {
        Some(PublicPort {
            port: raw.port.clone()?,
            when: raw.when.clone(),
        })
    });
    ports.collect()
}

fn archives(raw: &raw::Service, problems: &mut Problems<'_>) -> Vec<Archive> {
    let root = Key::root().key("archive");
    let list = raw.archive.iter().flatten().enumerate();
    list.filter_map(|(index, raw)| archive(raw, &root.item(index), problems))
        .collect()
}

fn archive(raw: &raw::Archive, key: &Key, problems: &mut Problems<'_>) -> Option<Archive> {
    let empty = raw.command.as_ref().is_none_or(Vec::is_empty);
    let is_volume = matches!(raw.kind?, ArchiveKind::Volume);
    for (name, lacks, there, of_volume, wanted) in [
        (
            "what",
            raw.what.is_none(),
            raw.what.is_some(),
            true,
            "the name of a volume",
        ),
        (
            "service",
            raw.service.is_none(),
            raw.service.is_some(),
            false,
            "the name of a service of compose.yaml",
        ),
        (
            "command",
            empty,
            raw.command.is_some(),
            false,
            "a command and its arguments",
        ),
    ] {
        let key = key.key(name);
        if is_volume == of_volume && lacks && !problems.is_incomplete(&key) {
            problems.add(&key, "nothing", wanted);
        } else if is_volume != of_volume && there {
            let kind = if of_volume { "volume" } else { "dump" };
            problems.add(
                &key,
                format!("`{name}`"),
                format!("it beside kind = \"{kind}\" only"),
            );
        }
    }
    let what = if is_volume {
        Archived::Volume(raw.what.clone()?)
    } else {
        Archived::Dump {
            service: raw.service.clone()?,
            command: raw.command.clone()?,
        }
    };
    Some(Archive {
        what,
        when: raw.when.clone(),
    })
}

fn rotations(raw: &raw::Service, problems: &mut Problems<'_>) -> Vec<Rotation> {
    let root = Key::root().key("rotate");
    let secrets: Vec<&str> = raw
        .secrets
        .iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    let list = raw.rotate.iter().flatten().enumerate();
    list.filter_map(|(index, raw)| rotation(raw, &secrets, &root.item(index), problems))
        .collect()
}

/// A key that is left out was noted already.
fn rotation(
    raw: &raw::Rotate,
    secrets: &[&str],
    key: &Key,
    problems: &mut Problems<'_>,
) -> Option<Rotation> {
    let (secret, command) = (raw.secret.clone()?, raw.command.clone()?);
    if !secrets.contains(&secret.as_str()) && !problems.is_incomplete(&Key::root().key("secrets")) {
        let wanted = "the name of a secret in [secrets]";
        match did_you_mean(&secret, secrets.iter().copied()) {
            Some(meant) => {
                let hint = format!("did you mean {meant:?}?");
                problems.add_with_hint(&key.key("secret"), quoted(&secret), wanted, hint);
            }
            None => problems.add(&key.key("secret"), quoted(&secret), wanted),
        }
    }
    if command.is_empty() && !problems.is_incomplete(&key.key("command")) {
        let wanted = "a command and its arguments";
        problems.add(&key.key("command"), "nothing", wanted);
    }
    Some(Rotation {
        secret,
        service: raw.service.clone()?,
        command,
        when: raw.when.clone(),
    })
}

fn limits(raw: Option<&raw::Resources>, key: &Key, problems: &mut Problems<'_>) -> Limits {
    let Some(raw) = raw else {
        return Limits::default();
    };
    let amount = |text: &str| {
        let number = text.strip_suffix(['b', 'k', 'm', 'g']).unwrap_or(text);
        number.parse::<u64>().is_ok_and(|number| number > 0)
    };
    let number = |text: &str| {
        text.parse::<f64>()
            .is_ok_and(|number| number > 0.0 && number < 1e4)
    };
    if let Some(text) = raw.memory.as_deref().filter(|text| !amount(text)) {
        let wanted = "an amount such as 512m or 1g";
        problems.add(&key.key("memory"), quoted(text), wanted);
    }
    if let Some(text) = raw.cpus.as_deref().filter(|text| !number(text)) {
        problems.add(&key.key("cpus"), quoted(text), "a number such as 2 or 0.5");
    }
    Limits {
        memory: raw.memory.clone(),
        cpus: raw.cpus.clone(),
    }
}

/// An absolute path.
fn path(key: &Key, text: Option<&str>, problems: &mut Problems<'_>) -> Option<String> {
    let text = text?;
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '#';
    if !text.starts_with('/') || text.contains(odd) {
        problems.add(key, quoted(text), "a path such as /health");
    }
    Some(text.to_owned())
}
