//! One problem of a configuration file, and the collector that every check adds to. Stands alone
//! so that reading, shape and meaning all report in one way, and none of them stops at the first.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// One thing that is wrong, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file, as it was named.
    pub file: String,
    /// The line, counted from 1; none where the file could not be read.
    pub line: Option<usize>,
    /// The column in characters, counted from 1.
    pub column: Option<usize>,
    /// The key, such as `site[0].upstream[1]`; empty for a mistake in the file's syntax.
    pub key: String,
    /// What stands there.
    pub found: String,
    /// What should stand there.
    pub wanted: String,
    /// How to mend it.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " found {}, wanted {}", self.found, self.wanted)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// The way to a value: `site[0].upstream[1]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Key(String);

impl Key {
    /// The file itself.
    pub(crate) fn root() -> Self {
        Self::default()
    }

    /// A key of this table.
    pub(crate) fn key(&self, name: &str) -> Self {
        let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let name = if !name.is_empty() && name.chars().all(bare) {
            name.to_owned()
        } else {
            format!("{:?}", shortened(name))
        };
        if self.0.is_empty() {
            Self(name)
        } else {
            Self(format!("{}.{name}", self.0))
        }
    }

    /// A member of this list.
    pub(crate) fn item(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The table or list around it.
    pub(crate) fn parent(&self) -> Self {
        Self(self.0[..self.0.rfind(['.', '[']).unwrap_or(0)].to_owned())
    }

    /// The way that is written so.
    pub(crate) fn written(text: String) -> Self {
        Self(text)
    }

    /// The way as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where a value stands. The written key differs from the one checks use where an earlier member
/// of a list was left out.
struct Place {
    written: Key,
    offset: usize,
}

/// Collects problems, and knows where every key stands in the file.
pub(crate) struct Problems<'t> {
    file: &'t str,
    text: &'t str,
    places: HashMap<Key, Place>,
    incomplete: HashSet<Key>,
    broken_lines: HashSet<usize>,
    swallowed: usize,
    list: Vec<(usize, Problem)>,
}

impl<'t> Problems<'t> {
    /// A collector for one file.
    pub(crate) fn new(file: &'t str, text: &'t str) -> Self {
        Self {
            file,
            text,
            places: HashMap::new(),
            incomplete: HashSet::new(),
            broken_lines: HashSet::new(),
            swallowed: usize::MAX,
            list: Vec::new(),
        }
    }

    /// Notes where `key` stands, and how it is written.
    pub(crate) fn place(&mut self, key: Key, written: Key, offset: usize) {
        self.places.insert(key, Place { written, offset });
    }

    /// Notes that something was left out of `key`, so that nobody calls it missing as well.
    pub(crate) fn leave_out(&mut self, key: &Key) {
        self.incomplete.insert(key.clone());
    }

    /// Whether `key`, or something in it, was left out because of a problem already noted.
    pub(crate) fn is_incomplete(&self, key: &Key) -> bool {
        self.incomplete.contains(key)
    }

    /// Notes a problem with the value of `key`, or with its absence from the table around it.
    pub(crate) fn add(&mut self, key: &Key, found: impl Into<String>, wanted: impl Into<String>) {
        self.note(key, found.into(), wanted.into(), None);
    }

    /// The same, with a way to mend it.
    pub(crate) fn add_with_hint(
        &mut self,
        key: &Key,
        found: impl Into<String>,
        wanted: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.note(key, found.into(), wanted.into(), Some(hint.into()));
    }

    /// Notes a problem at a place in the file rather than with a known key.
    pub(crate) fn add_at(
        &mut self,
        offset: usize,
        key: String,
        found: String,
        wanted: String,
        hint: Option<String>,
    ) {
        let (line, column) = self.position(offset);
        let problem = Problem {
            file: self.file.to_owned(),
            line: Some(line),
            column: Some(column),
            key,
            found,
            wanted,
            hint,
        };
        self.list.push((offset, problem));
    }

    /// Notes a mistake in the syntax; other problems of that line follow from it and are dropped.
    pub(crate) fn add_syntax(&mut self, span: Range<usize>, found: String, wanted: String) {
        let first = self.position(span.start).0;
        let last = self.position(span.end.saturating_sub(1)).0;
        self.broken_lines.extend(first..=last.max(first));
        self.add_at(span.start, String::new(), found, wanted, None);
    }

    /// Notes that a bracket opened here was never closed: what follows was read as part of it.
    pub(crate) fn swallow(&mut self, offset: usize) {
        self.swallowed = self.swallowed.min(offset);
    }

    /// The line on which `key` stands, for a hint that points there.
    pub(crate) fn line(&self, key: &Key) -> usize {
        self.position(self.nearest(key).1).0
    }

    /// A collector for the same text under other keys: what stands at `key` here is at `to(key)` there, and is
    /// still called what the file calls it.
    pub(crate) fn as_seen(&self, to: impl Fn(&Key) -> Option<Key>) -> Problems<'t> {
        let mut other = Problems::new(self.file, self.text);
        for (key, place) in &self.places {
            if let Some(key) = to(key) {
                other.place(key, place.written.clone(), place.offset);
            }
        }
        other.incomplete = self.incomplete.iter().filter_map(to).collect();
        other
    }

    /// Adds what such a collector has found, in the words of this file.
    pub(crate) fn take_in(&mut self, other: Problems<'t>, reword: impl Fn(&mut Problem)) {
        let found = other.list.into_iter().map(|(offset, mut problem)| {
            reword(&mut problem);
            (offset, problem)
        });
        self.list.extend(found);
    }

    /// How `key` is written, and where it, or the nearest table around it, stands.
    pub(crate) fn place_of(&self, key: &Key) -> (Key, usize) {
        let (written, offset) = self.nearest(key);
        (Key(written), offset)
    }

    /// All problems in file order.
    pub(crate) fn into_list(self) -> Vec<Problem> {
        let mut list = self.list;
        list.retain(|(offset, problem)| {
            let follows = *offset >= self.swallowed
                || problem
                    .line
                    .is_some_and(|line| self.broken_lines.contains(&line));
            problem.key.is_empty() || !follows
        });
        list.sort_by(|a, b| (a.0, &a.1.key).cmp(&(b.0, &b.1.key)));
        list.into_iter().map(|(_, problem)| problem).collect()
    }

    fn note(&mut self, key: &Key, found: String, wanted: String, hint: Option<String>) {
        let (written, offset) = self.nearest(key);
        self.add_at(offset, written, found, wanted, hint);
    }

    /// The place of `key`, or of the nearest table around it that is written in the file.
    fn nearest(&self, key: &Key) -> (String, usize) {
        let mut around = key.0.as_str();
        loop {
            if let Some(place) = self.places.get(&Key(around.to_owned())) {
                let rest = &key.0[around.len()..];
                let written = place.written.as_str();
                let rest = rest.trim_start_matches('.');
                let dot = if written.is_empty() || rest.is_empty() || rest.starts_with('[') {
                    ""
                } else {
                    "."
                };
                return (format!("{written}{dot}{rest}"), place.offset);
            }
            match around.rfind(['.', '[']) {
                Some(end) => around = &around[..end],
                None if around.is_empty() => return (key.0.clone(), 0),
                None => around = "",
            }
        }
    }

    /// Line and column of a byte offset.
    fn position(&self, offset: usize) -> (usize, usize) {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        (line, before[start..].chars().count() + 1)
    }
}

/// Text from the file as a problem shows it: quoted, shortened, and without the password of a URL.
pub(crate) fn quoted(text: &str) -> String {
    format!("{:?}", shortened(&without_userinfo(text)))
}

/// The candidate that `word` was probably meant to be.
pub(crate) fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let lower = word.to_ascii_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&lower, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.84)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// `a, b or c`.
pub(crate) fn one_of(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [word] => word.clone(),
        [rest @ .., last] => format!("{} or {last}", rest.join(", ")),
    }
}

fn shortened(text: &str) -> String {
    const MOST: usize = 60;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST).chain("...".chars()).collect()
}

fn without_userinfo(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}"),
        None => text.to_owned(),
    }
}
