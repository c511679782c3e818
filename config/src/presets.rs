//! Presets: named sets of rules that know an application. Data, not code: each is a file of the
//! folder `presets`, built in, with the keys of a `[[site]]`; adding one is adding a file.

use std::path::Path;

use include_dir::{Dir, include_dir};

static FOLDER: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/presets");

/// The names of all presets, in alphabetical order.
pub fn names() -> Vec<&'static str> {
    let stem = |path: &'static Path| path.file_stem().and_then(|stem| stem.to_str());
    let mut names: Vec<&str> = FOLDER
        .files()
        .filter_map(|file| stem(file.path()))
        .collect();
    names.sort_unstable();
    names
}

/// What a preset is for: the comment at the top of its file.
pub fn description(name: &str) -> Option<String> {
    let comment = text(name)?.lines().map_while(|line| line.strip_prefix('#'));
    Some(comment.map(str::trim).collect::<Vec<_>>().join(" "))
}

/// The text of a preset's file.
pub fn text(name: &str) -> Option<&'static str> {
    FOLDER.get_file(format!("{name}.toml"))?.contents_utf8()
}
