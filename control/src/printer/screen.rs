//! A screen that is drawn again and again, on a terminal. Plain control sequences that every terminal knows: one table
//! that is replaced every two seconds needs no more. The terminal is put right when this is dropped.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;

/// The terminal's other screen, until this is dropped.
#[derive(Debug)]
pub struct Screen(());

/// The other screen, without a cursor; lines that are too long are cut, not wrapped.
const BEGIN: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const END: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// To the first place; the rest of a line goes; the rest of the screen goes.
const HOME: &str = "\x1b[H";
const LINE: &str = "\x1b[K";
const BELOW: &str = "\x1b[J";
/// Where a terminal does not say how high it is.
const HEIGHT: usize = 24;

impl Screen {
    /// Where standard output is a terminal.
    pub fn start() -> io::Result<Option<Self>> {
        if !io::stdout().is_terminal() {
            return Ok(None);
        }
        write(BEGIN)?;
        Ok(Some(Self(())))
    }

    /// Shows this, in place of what was shown.
    pub fn draw(&self, text: &str) -> io::Result<()> {
        let stdout = io::stdout();
        let height = rustix::termios::tcgetwinsize(stdout.as_fd())
            .map_or(0, |size| usize::from(size.ws_row));
        write(&frame(text, if height == 0 { HEIGHT } else { height }))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = write(END);
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// A whole screen, without a newline at its end: that would move it up.
fn frame(text: &str, height: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut frame = String::from(HOME);
    let shown = if lines.len() > height {
        height.saturating_sub(1)
    } else {
        lines.len()
    };
    for (index, line) in lines[..shown].iter().enumerate() {
        let newline = if index == 0 { "" } else { "\r\n" };
        let _ = write!(frame, "{newline}{line}{LINE}");
    }
    if shown < lines.len() {
        let _ = write!(frame, "\r\n({} more lines){LINE}", lines.len() - shown);
    }
    frame.push_str(BELOW);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_the_screen() {
        assert_eq!(frame("a\nb\n", 3), "\x1b[Ha\x1b[K\r\nb\x1b[K\x1b[J");
        assert_eq!(
            frame("a\nb\nc\nd\n", 3),
            "\x1b[Ha\x1b[K\r\nb\x1b[K\r\n(2 more lines)\x1b[K\x1b[J"
        );
        assert_eq!(frame("", 3), "\x1b[H\x1b[J");
    }
}
