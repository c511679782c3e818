//! One line of a log: who says it, and what, without what steers a terminal. Pure but for its printing.

use crate::printer::{Printer, Tone, paint};

/// Prints lines, with who says them.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    printer: Printer,
    width: usize,
    /// Each is an object of JSON.
    json: bool,
}

impl Lines {
    /// Names are at most this long.
    pub(super) fn new(printer: &Printer, longest: usize, json: bool) -> Self {
        Self {
            printer: printer.clone(),
            width: longest,
            json,
        }
    }

    /// Prints a line that an engine gave of a project.
    pub(super) fn tell(&self, service: &str, project: &str, text: &str) {
        // Compose steers terminals before the name already.
        let text = plain(text);
        let (part, rest) = split(&text, project);
        // A reader that has gone ends this by itself.
        let _ = self.printer.print(&match self.json {
            true => {
                let line = serde_json::json!({ "service": service, "part": part, "text": rest });
                format!("{line}\n")
            }
            false => self.line(service, part.as_deref(), rest),
        });
    }

    /// For a person.
    fn line(&self, service: &str, part: Option<&str>, text: &str) -> String {
        let who = match part {
            Some(part) => format!("{service}/{part}"),
            None => service.to_owned(),
        };
        let pad = " ".repeat((self.width + PART).saturating_sub(who.chars().count()));
        let who = paint(&who, Tone::Link, self.printer.look().colour);
        format!("{who}{pad} | {text}\n")
    }
}

/// Compose writes `app-1  | text`, a Swarm `PROJECT_app.1.ID@node    | text`; what it says itself has neither.
fn split<'t>(text: &'t str, project: &str) -> (Option<String>, &'t str) {
    let Some((who, rest)) = text.split_once(" |") else {
        return (None, text);
    };
    let who = who.trim();
    let task = who
        .strip_prefix(project)
        .and_then(|task| task.strip_prefix('_'));
    let part = match task {
        Some(task) => task.split('.').next().unwrap_or(task),
        None => who
            .rsplit_once('-')
            .filter(|(_, number)| number.bytes().all(|b| b.is_ascii_digit()))
            .map_or(who, |(part, _)| part),
    };
    if part.is_empty() || part.contains(char::is_whitespace) || part.len() > 64 {
        return (None, text);
    }
    (
        Some(part.to_owned()),
        rest.strip_prefix(' ').unwrap_or(rest),
    )
}

/// Without colours, and without what else steers a terminal.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' if chars.peek() == Some(&'[') => {
                chars.next();
                // A control sequence ends with a letter, or one of a few signs.
                while chars.next_if(|c| !('\x40'..='\x7e').contains(c)).is_some() {}
                chars.next();
            }
            '\t' => plain.push('\t'),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain
}

/// Room for the name of a part.
const PART: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_it() {
        let project = "sovereign-blog";
        #[rustfmt::skip]
        let table = [
            ("app-1  | up and running",                     Some("app"),    "up and running"),
            ("app-de-1  | a | b",                           Some("app-de"), "a | b"),
            ("db-1  | ",                                    Some("db"),     ""),
            ("sovereign-blog_app.1.x2k@node    | listening", Some("app"),   "listening"),
            ("no such container",                           None,           "no such container"),
            ("it says this |that",                          None,           "it says this |that"),
        ];
        for (text, part, rest) in table {
            assert_eq!(
                split(text, project),
                (part.map(str::to_owned), rest),
                "{text}"
            );
        }
    }

    #[test]
    fn what_steers_a_terminal_goes() {
        for (text, shown) in [
            ("\x1b[32mINFO\x1b[0m ready", "INFO ready"),
            ("a\x1b[2J\x1b[1;1Hb", "ab"),
            ("a\x1b]0;title\x07b", "a]0;titleb"),
            ("one\rtwo\tthree", "onetwo\tthree"),
            ("\x1b[", ""),
        ] {
            assert_eq!(plain(text), shown);
        }
    }

    #[test]
    fn lines_are_aligned() {
        let printer = Printer::caught(&[]);
        let lines = Lines::new(&printer, 5, false);
        lines.tell("blog", "sovereign-blog", "\x1b[2Kapp-1  | hello");
        lines.tell("relay", "sovereign-relay", "app-1  | hello");
        assert_eq!(
            printer.take().0,
            "blog/app        | hello\nrelay/app       | hello\n"
        );
        Lines::new(&printer, 5, true).tell("blog", "sovereign-blog", "app-1  | a \"b\"\x1b[0m");
        assert_eq!(
            printer.take().0,
            "{\"part\":\"app\",\"service\":\"blog\",\"text\":\"a \\\"b\\\"\"}\n"
        );
    }
}
