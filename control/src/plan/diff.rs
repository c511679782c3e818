//! How files change, for people. Stands alone because it is the one place that decides what of a file is shown: of a
//! secret nothing, of bytes that are no text their number.

use std::collections::BTreeSet;

use similar::{ChangeTag, TextDiff};

use super::FileDiff;
use crate::desired::{File, Files};

/// How many unchanged lines stand around a change.
const AROUND: usize = 2;
/// How many lines of one file are shown at most.
const MOST: usize = 60;

/// The files that differ; where nothing was there before, nothing is to be compared.
pub(super) fn diff(old: &Files, new: &Files) -> Vec<FileDiff> {
    if old.is_empty() {
        Vec::new()
    } else {
        between(old, new)
    }
}

/// The files that differ, in the order of their paths.
pub(super) fn between(old: &Files, new: &Files) -> Vec<FileDiff> {
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let change = |path: &String| {
        let lines = changed(old.get(path), new.get(path))?;
        Some(FileDiff {
            path: path.clone(),
            lines,
        })
    };
    paths.into_iter().filter_map(change).collect()
}

fn changed(old: Option<&File>, new: Option<&File>) -> Option<Vec<String>> {
    match (old, new) {
        (None, None) => None,
        (None, Some(_)) => Some(vec!["new".to_owned()]),
        (Some(_), None) => Some(vec!["no longer there".to_owned()]),
        (Some(old), Some(new)) if old.content == new.content => {
            let differs = old.mode != new.mode;
            differs.then(|| vec![format!("mode {:o} -> {:o}", old.mode, new.mode)])
        }
        (Some(old), Some(new)) if old.secret || new.secret => {
            Some(vec!["changed; a secret is not shown".to_owned()])
        }
        (Some(old), Some(new)) => Some(texts(&old.content, &new.content)),
    }
}

fn texts(old: &[u8], new: &[u8]) -> Vec<String> {
    match (std::str::from_utf8(old), std::str::from_utf8(new)) {
        (Ok(before), Ok(after)) => lines(before, after),
        _ => vec![format!("{} bytes -> {} bytes", old.len(), new.len())],
    }
}

fn lines(old: &str, new: &str) -> Vec<String> {
    let diff = TextDiff::from_lines(old, new);
    let mut lines = Vec::new();
    for (at, group) in diff.grouped_ops(AROUND).iter().enumerate() {
        if at > 0 {
            lines.push("...".to_owned());
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            lines.push(shown(sign, change.value()));
        }
    }
    if lines.len() > MOST {
        let left = lines.len() - MOST;
        lines.truncate(MOST);
        lines.push(format!("... {left} more lines"));
    }
    lines
}

/// A line as a terminal may see it: without what would steer the terminal.
fn shown(sign: char, line: &str) -> String {
    let text = line.trim_end_matches(['\n', '\r']).replace('\t', "    ");
    let text = text.replace(char::is_control, "?");
    format!("{sign} {text}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str, secret: bool) -> File {
        File {
            mode: 0o644,
            content: content.into(),
            secret,
        }
    }

    fn between(old: Option<File>, new: Option<File>) -> Vec<String> {
        let files = |file: Option<File>| {
            let other = ("other".to_owned(), self::file("same", false));
            let file = file.map(|file| ("a".to_owned(), file));
            std::iter::once(other).chain(file).collect::<Files>()
        };
        let diffs = diff(&files(old), &files(new));
        diffs.into_iter().flat_map(|diff| diff.lines).collect()
    }

    #[test]
    fn what_is_shown_of_a_change() {
        let text = |content| Some(file(content, false));
        let secret = |content| Some(file(content, true));
        let many: String = (0..200).map(|line| format!("{line}\n")).collect();
        assert_eq!(
            between(text("a\nb\nc\nd\ne\n"), text("a\nb\nX\nd\ne\n")),
            ["  a", "  b", "- c", "+ X", "  d", "  e"]
        );
        assert_eq!(between(text("a\x1b[2J\n"), text("b\n")), ["- a?[2J", "+ b"]);
        assert_eq!(
            between(secret("one"), secret("two")),
            ["changed; a secret is not shown"]
        );
        assert_eq!(between(None, secret("two")), ["new"]);
        assert_eq!(between(text("one"), None), ["no longer there"]);
        assert!(between(text("one"), text("one")).is_empty());
        assert_eq!(
            between(text(""), text(&many)).last().map(String::as_str),
            Some("... 140 more lines")
        );
    }

    #[test]
    fn what_is_new_as_a_whole_is_not_compared() {
        let new = Files::from([("a".to_owned(), file("x", false))]);
        assert!(diff(&Files::new(), &new).is_empty());
    }
}
