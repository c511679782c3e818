//! Tables for a terminal: aligned, cut to its width, and coloured where it shows colours.

use std::io::IsTerminal;
use std::os::fd::AsFd;

/// How wide a terminal is, and whether it shows colours.
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

    /// As suits this stream.
    pub fn of(stream: &(impl IsTerminal + AsFd)) -> Self {
        if !stream.is_terminal() {
            return Self::PLAIN;
        }
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let width = rustix::termios::tcgetwinsize(stream.as_fd())
            .ok()
            .map(|size| usize::from(size.ws_col))
            .filter(|width| *width > 0);
        Self {
            width,
            colour: !refused && steers(stream),
        }
    }
}

/// Whether a stream is a terminal that knows more than plain text.
pub(super) fn steers(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Aligned columns, two spaces apart.
#[derive(Debug, Clone, Default)]
pub struct Table {
    rows: Vec<Vec<Cell>>,
    /// Columns of numbers, which are aligned to the right.
    right: Vec<bool>,
}

/// One field of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

/// Whether a word is good or bad news; the word says it without colour too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// Neither.
    #[default]
    Plain,
    /// As it should be; something that comes.
    Good,
    /// To be looked at; something that changes.
    Warn,
    /// Not as it should be; something that goes.
    Bad,
    /// Beside the point.
    Dim,
    /// The way on.
    Link,
}

impl Table {
    /// Without a heading.
    pub fn plain() -> Self {
        Self::default()
    }

    /// A `>` before a heading marks a column of numbers.
    pub fn headed(headings: &[&str]) -> Self {
        let heading = |name: &&str| Cell::toned(name.trim_start_matches('>'), Tone::Dim);
        Self {
            rows: vec![headings.iter().map(heading).collect()],
            right: headings.iter().map(|name| name.starts_with('>')).collect(),
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The whole as text, with a newline after each row; as a list where it does not fit otherwise.
    pub fn render(&self, look: Look) -> String {
        let widths = self.widths(look.width);
        if let (Some(limit), false) = (look.width, self.right.is_empty())
            && total(&widths) > limit
        {
            return self.list(look.colour, limit);
        }
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).enumerate();
            let cells = cells.map(|(index, (cell, width))| {
                let right = self.right.get(index) == Some(&true);
                cell.render(*width, right, look.colour)
            });
            let line = cells.collect::<Vec<_>>().join(GAP);
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// What each column needs; where that is too much, the widest give way.
    fn widths(&self, limit: Option<usize>) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let needed = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(Cell::width).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..columns).map(needed).collect();
        while limit.is_some_and(|limit| total(&widths) > limit) {
            match widths.iter_mut().max() {
                Some(widest) if *widest > NARROWEST => *widest -= 1,
                _ => break,
            }
        }
        widths
    }
}

impl Table {
    /// Each row as a list: its first cell, and under it the others with their headings.
    fn list(&self, colour: bool, limit: usize) -> String {
        let Some((headings, rows)) = self.rows.split_first() else {
            return String::new();
        };
        let width = headings.iter().skip(1).map(Cell::width).max().unwrap_or(0);
        let room = limit.saturating_sub(width + 2 * GAP.len()).max(NARROWEST);
        let mut text = String::new();
        for row in rows {
            for (index, (heading, cell)) in headings.iter().zip(row).enumerate() {
                if index > 0 {
                    let heading = heading.text.to_lowercase();
                    text.push_str(&format!("{GAP}{heading:width$}{GAP}"));
                }
                text.push_str(&cell.render(cell.width().min(room), false, colour));
                text.push('\n');
            }
        }
        text
    }
}

/// What columns take, with the gaps between them.
fn total(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1)
}

impl Cell {
    fn width(&self) -> usize {
        self.text.chars().count()
    }

    /// What hosts say comes from outside: what steers a terminal is taken out.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        let text = text
            .into()
            .replace(super::turns, "")
            .replace(char::is_control, " ");
        Self { text, tone }
    }

    fn render(&self, width: usize, right: bool, colour: bool) -> String {
        let shown = fit(&self.text, width);
        let padding = " ".repeat(width.saturating_sub(shown.chars().count()));
        let shown = paint(&shown, self.tone, colour);
        if right {
            padding + &shown
        } else {
            shown + &padding
        }
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

fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}\u{2026}")
}

/// A text in the colour of its tone.
pub fn paint(text: &str, tone: Tone, colour: bool) -> String {
    let code = match tone {
        _ if !colour || text.is_empty() => return text.to_owned(),
        Tone::Plain => return text.to_owned(),
        Tone::Good => 32,
        Tone::Warn => 33,
        Tone::Bad => 31,
        Tone::Dim => 2,
        Tone::Link => 36,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

const GAP: &str = "  ";
/// Below this a column says nothing any more.
const NARROWEST: usize = 8;
