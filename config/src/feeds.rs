//! How both programs write what an operator's reader and calendar take in: text within XML, as an Atom feed has it (RFC
//! 4287), and the lines of a calendar (RFC 5545). Stands alone because these rules are the same whatever is told.

/// As text or as a value of an attribute, without the characters that XML has no way to write.
pub fn xml(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => written.push_str("&amp;"),
            '<' => written.push_str("&lt;"),
            '>' => written.push_str("&gt;"),
            '"' => written.push_str("&quot;"),
            '\'' => written.push_str("&apos;"),
            '\t' | '\n' => written.push(c),
            '\u{fffe}' | '\u{ffff}' => {}
            c if c.is_control() => {}
            c => written.push(c),
        }
    }
    written
}

/// The content lines of a calendar: at most 75 bytes each, with CRLF at the end (RFC 5545, 3.1).
#[derive(Debug, Default)]
pub struct Lines {
    text: String,
}

impl Lines {
    /// A property of text.
    pub fn text(&mut self, name: &str, text: &str) {
        let mut line = format!("{name}:");
        for c in text.chars() {
            match c {
                '\\' | ';' | ',' => line.extend(['\\', c]),
                '\n' => line.push_str("\\n"),
                c if c.is_control() => {}
                c => line.push(c),
            }
        }
        self.plain(&line);
    }

    /// A line as it is, folded where it is long: never inside a character.
    pub fn plain(&mut self, line: &str) {
        let (mut rest, mut room) = (line, 75);
        while rest.len() > room {
            // A character has at most four bytes: there is always a border.
            let end = rest.floor_char_boundary(room);
            self.text.push_str(&rest[..end]);
            self.text.push_str("\r\n ");
            // The space counts.
            (rest, room) = (&rest[end..], 74);
        }
        self.text.push_str(rest);
        self.text.push_str("\r\n");
    }

    /// All of them.
    pub fn finish(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_cannot_write_is_left_out() {
        let text = "a & <b> \"c\" 'd'\n\te\u{0}\u{b}\u{fffe}\r é 𝄞";
        let written = "a &amp; &lt;b&gt; &quot;c&quot; &apos;d&apos;\n\te é 𝄞";
        assert_eq!(xml(text), written);
    }

    /// Lines of at most 75 bytes, folded between characters, CRLF and nothing else.
    #[test]
    fn lines_are_folded_and_can_be_read_again() {
        for filler in 0..8 {
            let text = format!("{}{}", "a".repeat(filler), "é𝄞\r\n\\;,ü€".repeat(40));
            let mut lines = Lines::default();
            lines.text("SUMMARY", &text);
            let written = lines.finish();
            for line in written.split("\r\n") {
                assert!(line.len() <= 75 && !line.contains(['\r', '\n']), "{line:?}");
            }
            let whole = written.replace("\r\n ", "");
            let value = whole
                .strip_prefix("SUMMARY:")
                .and_then(|rest| rest.strip_suffix("\r\n"));
            let value = value.expect("one property").replace("\\n", "\n");
            let value = value
                .replace("\\;", ";")
                .replace("\\,", ",")
                .replace("\\\\", "\\");
            assert_eq!(value, text.replace('\r', ""));
        }
    }
}
