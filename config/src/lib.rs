//! The typed configuration of Sovereign Stack. It knows nothing of the programs that use it.
//!
//! `proxy.toml` is read in three steps, and each of them notes every problem and goes on:
//! `shape` holds the text against the schema of the `raw` types, `check` turns raw values into the
//! `model`, and the `Report` says everything that is wrong, in file order.
//!
//! ```
//! let text = "[[site]]\nnames = \"a.example\"\nupsteam = \"http://127.0.0.1:2368\"\n";
//! let report = sovereign_config::parse("proxy.toml", text, "/etc".as_ref()).unwrap_err();
//! assert_eq!(
//!     report.to_string(),
//!     "proxy.toml:3: site[0].upsteam: found an unknown key, wanted a known one\n  \
//!      hint: did you mean `upstream`?\n1 problem in proxy.toml"
//! );
//! ```

// The file as typed, and the schema made from it.
mod raw;
mod schema;
// Text to raw values: mistakes in the syntax, then unknown keys, types, bounds.
mod shape;
mod syntax;
// Raw values to the model: meaning, files, cross-checks.
mod check;
// Rules that know an application.
pub mod presets;
// What a program runs on.
pub mod model;
// The other file: what a stack is deployed from.
pub mod stack;
// How both programs write feeds and calendars.
pub mod feeds;
// What is wrong, one by one and all together.
mod problem;
mod report;

use std::collections::BTreeMap;
use std::path::Path;

use check::On;

pub use problem::Problem;
pub use report::Report;

/// Reads and checks a configuration file. Relative paths in it count from its own folder.
pub fn load(path: &Path) -> Result<model::Proxy, Report> {
    let text = text(path, "sovereign-proxy init writes a file to start from")?;
    let base = path.parent().unwrap_or(Path::new(""));
    parse(&path.display().to_string(), &text, base)
}

/// The text of a file; where there is none, `start` says how to come by one.
fn text(path: &Path, start: &str) -> Result<String, Report> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let found = if missing {
            "no such file".to_owned()
        } else {
            error.to_string()
        };
        Report::unreadable(&name, found, missing.then(|| start.to_owned()))
    })?;
    String::from_utf8(bytes)
        .map_err(|_| Report::unreadable(&name, "bytes that are not UTF-8".to_owned(), None))
}

/// Checks the text of a configuration file. `name` is what problems call the file, and `base` the
/// folder that relative paths count from.
pub fn parse(name: &str, text: &str, base: &Path) -> Result<model::Proxy, Report> {
    checked(name, text, base, On::Here)
}

/// The same for the configuration of another machine. The files that it names are `files`, by their paths relative to
/// its own folder; programs that it names are looked for there, not here.
pub fn parse_elsewhere(
    name: &str,
    text: &str,
    files: BTreeMap<&str, &[u8]>,
) -> Result<model::Proxy, Report> {
    let base = Path::new("/");
    let files = files.into_iter();
    let given = files.map(|(path, content)| (base.join(path), content.to_vec()));
    checked(name, text, base, On::Elsewhere(&given.collect()))
}

fn checked(name: &str, text: &str, base: &Path, on: On<'_>) -> Result<model::Proxy, Report> {
    let mut problems = problem::Problems::new(name, text);
    let raw: raw::File = shape::read(&schema::file(), text, raw::REFUSED, &mut problems);
    let proxy = check::file(&raw, base, on, &mut problems);
    let problems = problems.into_list();
    if problems.is_empty() {
        return Ok(proxy);
    }
    Err(Report {
        file: name.to_owned(),
        problems,
    })
}

/// The JSON Schema of `proxy.toml` (draft 2020-12), for editors and documentation.
pub fn schema() -> serde_json::Value {
    schema::file()
}

/// A file to start from: five live lines, and every other key commented out with its default.
pub fn template() -> String {
    include_str!("template.toml").to_owned()
}
