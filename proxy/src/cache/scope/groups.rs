//! Lists of strings as a structured field, which `Cache-Groups` and `Cache-Group-Invalidation` are (RFC 9875, 2 and 3; RFC 9651, 4.2).
//!
//! Parameters are read, as they decide where a member ends, and have no meaning. A field with anything else in it is ignored whole.

use http::{HeaderMap, HeaderName};

/// The strings of a field over all its lines; none where it is absent or cannot be read.
pub(super) fn members(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let mut lines = headers.get_all(name).iter();
    let Some(first) = lines.next() else {
        return Vec::new();
    };
    let mut text = first.as_bytes().to_vec();
    for line in lines {
        text.extend_from_slice(b", ");
        text.extend_from_slice(line.as_bytes());
    }
    Reader { rest: &text }.list().unwrap_or_default()
}

/// What is left to read.
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn list(mut self) -> Option<Vec<String>> {
        let mut found = Vec::new();
        self.skip(|byte| byte == b' ');
        while !self.rest.is_empty() {
            found.push(self.string()?);
            self.parameters()?;
            self.skip(is_blank);
            if self.rest.is_empty() {
                break;
            }
            self.take(b',')?;
            self.skip(is_blank);
            // A comma has something behind it.
            self.rest.first()?;
        }
        Some(found)
    }

    fn string(&mut self) -> Option<String> {
        self.take(b'"')?;
        let mut text = String::new();
        loop {
            match self.next()? {
                b'"' => return Some(text),
                b'\\' => match self.next()? {
                    byte @ (b'"' | b'\\') => text.push(char::from(byte)),
                    _ => return None,
                },
                byte @ b' '..=b'~' => text.push(char::from(byte)),
                _ => return None,
            }
        }
    }

    fn parameters(&mut self) -> Option<()> {
        while self.take(b';').is_some() {
            self.skip(|byte| byte == b' ');
            let first = self.next()?;
            if !(first.is_ascii_lowercase() || first == b'*') {
                return None;
            }
            self.skip(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.*".contains(&b));
            if self.take(b'=').is_some() {
                self.value()?;
            }
        }
        Some(())
    }

    fn value(&mut self) -> Option<()> {
        match *self.rest.first()? {
            b'"' => self.string().map(drop),
            b'-' | b'0'..=b'9' => self.number(3),
            b'@' => {
                self.next();
                self.number(0)
            }
            b'?' => {
                self.next();
                matches!(self.next()?, b'0' | b'1').then_some(())
            }
            b':' => {
                self.next();
                self.skip(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
                self.take(b':')
            }
            b'%' => self.display_string(),
            b'*' | b'a'..=b'z' | b'A'..=b'Z' => {
                self.skip(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&b));
                Some(())
            }
            _ => None,
        }
    }

    /// With at most so many digits behind the point.
    fn number(&mut self, decimals: usize) -> Option<()> {
        let _ = self.take(b'-');
        let whole = self.skip(|byte| byte.is_ascii_digit());
        if decimals > 0 && self.take(b'.').is_some() {
            let decimal = self.skip(|byte| byte.is_ascii_digit());
            let sound = (1..=12).contains(&whole) && (1..=decimals).contains(&decimal);
            return sound.then_some(());
        }
        (1..=15).contains(&whole).then_some(())
    }

    fn display_string(&mut self) -> Option<()> {
        self.take(b'%')?;
        self.take(b'"')?;
        let mut text = Vec::new();
        loop {
            match self.next()? {
                b'"' => return str::from_utf8(&text).ok().map(|_| ()),
                b'%' => {
                    let digits = [self.next()?, self.next()?];
                    let lower = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
                    if !digits.iter().all(lower) {
                        return None;
                    }
                    text.push(u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?);
                }
                byte @ b' '..=b'~' => text.push(byte),
                _ => return None,
            }
        }
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// The next byte, if it is this one.
    fn take(&mut self, wanted: u8) -> Option<()> {
        self.rest = self.rest.strip_prefix(&[wanted])?;
        Some(())
    }

    /// How many bytes were skipped.
    fn skip(&mut self, skipped: impl Fn(u8) -> bool) -> usize {
        let count = self.rest.iter().take_while(|byte| skipped(**byte)).count();
        self.rest = self.rest.get(count..).unwrap_or_default();
        count
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9651, 4.2.
    #[test]
    #[rustfmt::skip]
    fn lists_of_strings() {
        for (text, wanted) in [
            ("", Some(&[][..])),
            ("  ", Some(&[])),
            ("\"\"", Some(&[""])),
            (" \"a\" , \"b\"\t,\t\"a\" ", Some(&["a", "b", "a"])),
            ("\"a,b\", \"c;d\"", Some(&["a,b", "c;d"])),
            ("\"\\\"\\\\\"", Some(&["\"\\"])),
            ("\"a\";p, \"b\"; q=1;r=-2.345;s=tok/en:;t=\"x,\";u=?1;v=:YQ==:;w=@-5;*x=*;y=%\"%c3%a9\"", Some(&["a", "b"])),
            ("\"a\",", None),
            ("\"a\", ", None),
            (",\"a\"", None),
            ("\"a\" \"b\"", None),
            ("\"a", None),
            ("\"a\\", None),
            ("\"a\\b\"", None),
            ("\"\u{e9}\"", None),
            ("a", None),
            ("1", None),
            ("(\"a\")", None),
            ("\"a\", b", None),
            ("\"a\";P", None),
            ("\"a\";", None),
            ("\"a\";p=", None),
            ("\"a\";p=?2", None),
            ("\"a\";p=:a", None),
            ("\"a\";p=1.2345", None),
            ("\"a\";p=1.", None),
            ("\"a\";p=1234567890123456", None),
            ("\"a\";p=@1.5", None),
            ("\"a\";p=-", None),
            ("\"a\";p=%\"%C3\"", None),
            ("\"a\";p=%\"%c3\"", None),
            ("\"a\" ;p", None),
            ("\t\"a\"", None),
        ] {
            let wanted: Option<Vec<String>> = wanted.map(|list| list.iter().map(|s| (*s).to_owned()).collect());
            assert_eq!(Reader { rest: text.as_bytes() }.list(), wanted, "{text}");
        }
    }
}
