//! `stack.toml`: data centres, hosts, sites, services. It is read in the same three steps as `proxy.toml`, against
//! a catalogue of the kinds of service there are, which the program brings.
//!
//! ```
//! use sovereign_config::stack::{self, catalogue::Catalogue};
//! let text = "[[datacentre]]\nname = \"home\"\nrole = \"primary\"\n[[host]]\nname = \"h1\"\ndatacentre = \"hme\"\nssh = \"h1\"\n";
//! let report = stack::parse("stack.toml", text, "/etc".as_ref(), &Catalogue::new()).unwrap_err();
//! assert_eq!(
//!     report.to_string(),
//!     "stack.toml:6: host[0].datacentre: found \"hme\", wanted the name of a [[datacentre]]\n  \
//!      hint: did you mean \"home\"?\n1 problem in stack.toml"
//! );
//! ```

// The file as typed, and the schema made from it.
mod raw;
mod schema;
// Raw values to the model: meaning, files, cross-checks.
mod check;
// The kinds of service that it may name.
pub mod catalogue;
// What a stack is deployed from.
pub mod model;

use std::path::Path;

use crate::Report;
use crate::problem::Problems;
use crate::shape;
use catalogue::Catalogue;

/// Reads and checks a stack. Relative paths in it count from its own folder.
pub fn load(path: &Path, catalogue: &Catalogue) -> Result<model::Stack, Report> {
    let text = crate::text(path, "sovereign init writes a file to start from")?;
    let base = path.parent().unwrap_or(Path::new(""));
    parse(&path.display().to_string(), &text, base, catalogue)
}

/// Checks the text of a stack. `name` is what problems call the file, and `base` the folder that relative paths
/// count from.
pub fn parse(
    name: &str,
    text: &str,
    base: &Path,
    catalogue: &Catalogue,
) -> Result<model::Stack, Report> {
    let mut problems = Problems::new(name, text);
    let raw: raw::File = shape::read(&schema::file(catalogue), text, raw::REFUSED, &mut problems);
    let stack = check::file(&raw, base, catalogue, &mut problems);
    let problems = problems.into_list();
    if problems.is_empty() {
        return Ok(stack);
    }
    Err(Report {
        file: name.to_owned(),
        problems,
    })
}

/// The JSON Schema of `stack.toml` (draft 2020-12) with the options of each kind of service.
pub fn schema(catalogue: &Catalogue) -> serde_json::Value {
    schema::file(catalogue)
}

/// A file to start from: a live blog on one host, and every other key commented out with its default.
pub fn template() -> String {
    include_str!("stack/template.toml").to_owned()
}
