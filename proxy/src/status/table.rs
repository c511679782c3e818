//! Tables for a terminal: aligned, cut to its width, and coloured where it shows colours.

use std::io::IsTerminal as _;

/// How wide the terminal is, and whether it shows colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// In characters; longer cells are cut, with an ellipsis. `None` cuts nothing.
    pub width: Option<usize>,
    /// Words of good and bad news are coloured as well.
    pub colour: bool,
}

impl Look {
    /// Without colour or bounds: for files and pipes.
    pub const PLAIN: Self = Self {
        width: None,
        colour: false,
    };

    /// As suits standard output.
    pub fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        if !stdout.is_terminal() {
            return Self::PLAIN;
        }
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let width = rustix::termios::tcgetwinsize(&stdout)
            .ok()
            .map(|size| usize::from(size.ws_col))
            .filter(|width| *width >= 40);
        Self {
            width,
            colour: !refused,
        }
    }
}

/// Aligned columns, two spaces apart.
pub(crate) struct Table {
    pub(crate) rows: Vec<Vec<Cell>>,
    /// Columns of numbers.
    right: Vec<bool>,
}

/// What stands in one place.
pub(crate) struct Cell {
    pub(crate) text: String,
    tone: Tone,
}

/// A hint of colour for a cell whose words say the same.
#[derive(Clone, Copy)]
pub(crate) enum Tone {
    Plain,
    Good,
    Warn,
    Bad,
    Dim,
}

impl Table {
    pub(crate) fn new(rows: Vec<Vec<Cell>>) -> Self {
        Self {
            rows,
            right: Vec::new(),
        }
    }

    /// A `>` before a heading marks a column of numbers.
    pub(crate) fn headed(headings: &[&str]) -> Self {
        let heading = |name: &&str| Cell::toned(name.trim_start_matches('>'), Tone::Dim);
        Self {
            rows: vec![headings.iter().map(heading).collect()],
            right: headings.iter().map(|name| name.starts_with('>')).collect(),
        }
    }

    pub(crate) fn row(&mut self, name: &str, value: Cell) {
        self.rows.push(vec![name.into(), value]);
    }

    pub(crate) fn render(&self, look: Look, text: &mut String) {
        let widths = self.widths(look.width);
        for row in &self.rows {
            let mut line = String::new();
            for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
                if index > 0 {
                    line.push_str(GAP);
                }
                let shown = fit(&cell.text, *width);
                let padding = " ".repeat(width - shown.chars().count());
                let shown = paint(&shown, cell.tone, look.colour);
                if self.right.get(index) == Some(&true) {
                    line.push_str(&padding);
                    line.push_str(&shown);
                } else {
                    line.push_str(&shown);
                    line.push_str(&padding);
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }

    /// What each column needs; where that is too much, the widest give way.
    fn widths(&self, limit: Option<usize>) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let needed = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.text.chars().count())
                .max()
                .unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..columns).map(needed).collect();
        let gaps = GAP.len() * columns.saturating_sub(1);
        while limit.is_some_and(|limit| widths.iter().sum::<usize>() + gaps > limit) {
            match widths.iter_mut().max() {
                Some(widest) if *widest > NARROWEST => *widest -= 1,
                _ => break,
            }
        }
        widths
    }
}

impl Cell {
    /// Errors of upstreams come from outside: what steers a terminal is taken out.
    pub(crate) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        let text = printable(&text.into()).replace('\n', " ");
        Self { text, tone }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// Text from outside, on lines of its own: what steers a terminal is taken out.
pub(crate) fn printable(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\n', " ")
}

fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}\u{2026}")
}

fn paint(text: &str, tone: Tone, colour: bool) -> String {
    let code = match tone {
        _ if !colour => return text.to_owned(),
        Tone::Plain => return text.to_owned(),
        Tone::Good => 32,
        Tone::Warn => 33,
        Tone::Bad => 31,
        Tone::Dim => 2,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

const GAP: &str = "  ";
/// Below this a column says nothing any more.
const NARROWEST: usize = 8;
