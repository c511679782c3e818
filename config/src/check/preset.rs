//! The preset that a site names: its file is read and checked like the operator's own.

use std::path::Path;

use super::site::{Rules, Written};
use super::{Check, On};
use crate::problem::{Key, Problems, did_you_mean, quoted};
use crate::report::Report;
use crate::{presets, raw, schema, shape};

impl Check<'_, '_> {
    /// The rules of the preset of this name.
    pub(super) fn preset(&mut self, key: &Key, name: Option<&str>) -> Rules {
        let Some(name) = name else {
            return Rules::default();
        };
        let Some(text) = presets::text(name) else {
            self.unknown_preset(key, name);
            return Rules::default();
        };
        rules(name, text).unwrap_or_else(|report| {
            // Every preset is parsed by a test; this says so where one was changed without it.
            let found = format!("a broken preset ({report})");
            self.problems.add(key, found, "a preset without problems");
            Rules::default()
        })
    }

    fn unknown_preset(&mut self, key: &Key, name: &str) {
        let names = presets::names();
        let hint = match did_you_mean(name, names.iter().copied()) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None => "without a preset, the site's own keys say everything".to_owned(),
        };
        let wanted = format!("one of {}", names.join(", "));
        self.problems.add_with_hint(key, quoted(name), wanted, hint);
    }
}

fn rules(name: &str, text: &str) -> Result<Rules, Report> {
    let file = format!("presets/{name}.toml");
    let mut problems = Problems::new(&file, text);
    let raw: raw::Preset = shape::read(&schema::preset(), text, &[], &mut problems);
    let written = Written {
        timeouts: raw.timeouts.as_ref(),
        hold: raw.hold.as_ref(),
        restarting: raw.restarting.as_ref(),
        cache: raw.cache.as_ref(),
        request_headers: raw.request_headers.as_ref(),
        response_headers: raw.response_headers.as_ref(),
        route: raw.route.as_ref(),
    };
    let mut check = Check {
        problems: &mut problems,
        base: Path::new("/"),
        on: On::Here,
        own_authority: false,
    };
    let rules = check.rules(&Key::root(), &written);
    let problems = problems.into_list();
    if problems.is_empty() {
        return Ok(rules);
    }
    Err(Report { file, problems })
}
