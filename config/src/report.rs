//! Every problem of one file, as one error. Stands alone because commands print it, as text for a
//! person and as JSON for a program, without knowing how it came about.

use std::fmt;

use serde::Serialize;

use crate::problem::Problem;

/// Every problem of one file, in the order in which they stand there; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The file, as it was named.
    pub file: String,
    /// The problems, in file order.
    pub problems: Vec<Problem>,
}

impl Report {
    /// A report of a file that could not be read at all.
    pub(crate) fn unreadable(file: &str, found: String, hint: Option<String>) -> Self {
        Self {
            file: file.to_owned(),
            problems: vec![Problem {
                file: file.to_owned(),
                line: None,
                column: None,
                key: String::new(),
                found,
                wanted: "a file of TOML text".to_owned(),
                hint,
            }],
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        let count = self.problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        write!(f, "{count} {noun} in {}", self.file)
    }
}

impl std::error::Error for Report {}
