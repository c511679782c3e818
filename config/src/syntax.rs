//! Mistakes in the syntax of the file. Stands alone because the parser goes on after a mistake and
//! then stumbles over what follows from it: that is left out, so that each problem is a real one.

use std::ops::Range;

use toml::de::{DeTable, DeValue, Error};

use crate::problem::{Key, Problems};

/// Notes the syntax errors. `tables` says where each table starts: one with a syntax error in it
/// may lack keys for that reason alone.
pub(crate) fn note(
    text: &str,
    file: &DeTable<'_>,
    errors: &[Error],
    mut tables: Vec<(usize, Key)>,
    problems: &mut Problems<'_>,
) {
    tables.sort_by_key(|(start, _)| *start);
    let end = text.len()..text.len();
    let mut errors: Vec<(Range<usize>, &str)> = errors
        .iter()
        .map(|error| (error.span().unwrap_or(end.clone()), error.message()))
        .collect();
    errors.sort_by_key(|(span, _)| span.start);
    if let Some((start, message)) = unclosed(file, &errors) {
        errors.retain(|(span, _)| span.start < start);
        errors.push((start..start + 1, message));
        problems.swallow(start);
        tables
            .iter()
            .for_each(|(_, table)| problems.leave_out(table));
    }
    let line_start = |offset: usize| {
        text.get(..offset)
            .and_then(|before| before.rfind('\n'))
            .map_or(0, |at| at + 1)
    };
    // The first mistake of a line is the one to mend; others often follow from it.
    errors.dedup_by_key(|(span, _)| line_start(span.start));
    for (span, message) in errors {
        let (found, wanted) = in_words(message);
        let header = text[line_start(span.start)..].trim_start().starts_with('[');
        for (index, (start, table)) in tables.iter().enumerate() {
            let next = tables
                .get(index + 1)
                .map_or(usize::MAX, |(start, _)| *start);
            if header || (*start..next).contains(&span.start) {
                problems.leave_out(table);
            }
        }
        problems.add_syntax(span, found.to_owned(), wanted.to_owned());
    }
}

/// Where a list or inline table begins that is never closed, and what the parser says of it.
fn unclosed<'e>(
    file: &DeTable<'_>,
    errors: &[(Range<usize>, &'e str)],
) -> Option<(usize, &'e str)> {
    let open = |message: &str| {
        message.starts_with("unclosed inline table")
            || (message.starts_with("unclosed array")
                && !message.starts_with("unclosed array table"))
    };
    let found = errors.iter().filter(|(_, message)| open(message));
    found
        .filter_map(|(span, message)| Some((around(file, span.start)?, *message)))
        .min()
}

/// Where the outermost value in brackets begins that reaches up to `offset`.
fn around(table: &DeTable<'_>, offset: usize) -> Option<usize> {
    table.values().find_map(|value| {
        let span = value.span();
        match value.get_ref() {
            DeValue::Array(list) => {
                // Tables under headers form a list, too, but not one that begins before its first.
                let in_brackets = list.iter().all(|item| span.start < item.span().start);
                if in_brackets && span.start < offset && offset <= span.end {
                    return Some(span.start);
                }
                let mut tables = list.iter().filter_map(|item| item.get_ref().as_table());
                tables.find_map(|table| around(table, offset))
            }
            DeValue::Table(table) => {
                let deeper = around(table, offset);
                deeper.or(
                    (span.start < offset && offset <= span.end && table.is_empty())
                        .then_some(span.start),
                )
            }
            _ => None,
        }
    })
}

/// The parser's message as what was found and what was wanted.
fn in_words(message: &str) -> (&str, &str) {
    match message.split_once(", expected ") {
        Some(("string values must be quoted", _)) => (
            "text without quotes",
            "a quoted text, a number, true or false",
        ),
        Some(("invalid basic string", "`\"`")) => {
            ("text without an end", "a quotation mark in the same line")
        }
        Some(("key with no value", _)) => ("a key without a value", "key = value"),
        Some(("extra comma in array", _)) => ("a comma too many", "one comma between values"),
        Some((found, wanted)) => (found, wanted),
        None if message == "duplicate key" => ("a key for the second time", "each key once"),
        None => (message, "valid TOML"),
    }
}
