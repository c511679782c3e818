//! Structured-field dictionaries, read strictly (RFC 8941, 4.2.2): what `CDN-Cache-Control` is written in.
//!
//! Alone in its file because it knows nothing of caching; values are kept only as far as directives have them.

use http::HeaderName;

use super::LONGEST;

/// The value of a member, without its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// A boolean, or a member without a value.
    Boolean(bool),
    /// An integer.
    Integer(i64),
    /// A string, as it stands between its quotes.
    Text(&'a [u8]),
    /// Any other type: no directive has one.
    Other,
}

impl Item<'_> {
    /// Seconds; none where it is no integer. Negative ones are stale.
    pub(super) fn seconds(&self) -> Option<u32> {
        match *self {
            Self::Integer(number) => {
                Some(u32::try_from(number.max(0)).unwrap_or(LONGEST).min(LONGEST))
            }
            _ => None,
        }
    }

    /// A flag; none where it is no boolean.
    pub(super) fn flag(&self) -> Option<bool> {
        match *self {
            Self::Boolean(flag) => Some(flag),
            _ => None,
        }
    }

    /// A flag, or the fields it is limited to (RFC 9213, 2.1).
    pub(super) fn flag_or_fields(&self) -> Option<(bool, Vec<HeaderName>)> {
        match *self {
            Self::Boolean(flag) => Some((flag, Vec::new())),
            Self::Text(text) => Some(match super::value(text).field_names() {
                Some(names) => (false, names),
                None => (true, Vec::new()),
            }),
            _ => None,
        }
    }
}

/// Calls `each` for every member of a dictionary. None where `text` is no dictionary, or `each` refuses a member.
pub(super) fn dictionary<'a>(
    text: &'a [u8],
    mut each: impl FnMut(&'a [u8], Item<'a>) -> Option<()>,
) -> Option<()> {
    let mut scan = Scan { rest: text };
    scan.spaces();
    while !scan.rest.is_empty() {
        let key = scan.key()?;
        let item = if scan.eat(b'=') {
            scan.item_or_list()?
        } else {
            Item::Boolean(true)
        };
        scan.parameters()?;
        each(key, item)?;
        scan.rest = scan.rest.trim_ascii_start();
        if scan.rest.is_empty() {
            break;
        }
        if !scan.eat(b',') {
            return None;
        }
        scan.rest = scan.rest.trim_ascii_start();
        if scan.rest.is_empty() {
            return None;
        }
    }
    Some(())
}

/// What is left to read.
struct Scan<'a> {
    rest: &'a [u8],
}

impl<'a> Scan<'a> {
    fn eat(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn spaces(&mut self) {
        self.take(|b| b == b' ');
    }

    /// The longest beginning whose bytes are all `wanted`.
    fn take(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self
            .rest
            .iter()
            .position(|b| !wanted(*b))
            .unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        self.rest
            .first()
            .filter(|b| b.is_ascii_lowercase() || **b == b'*')?;
        Some(self.take(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.' | b'*')
        }))
    }

    fn parameters(&mut self) -> Option<()> {
        while self.eat(b';') {
            self.spaces();
            self.key()?;
            if self.eat(b'=') {
                self.bare_item()?;
            }
        }
        Some(())
    }

    fn item_or_list(&mut self) -> Option<Item<'a>> {
        if !self.eat(b'(') {
            return self.bare_item();
        }
        loop {
            self.spaces();
            if self.eat(b')') {
                return Some(Item::Other);
            }
            self.bare_item()?;
            self.parameters()?;
            if !matches!(self.rest.first(), Some(b' ' | b')')) {
                return None;
            }
        }
    }

    fn bare_item(&mut self) -> Option<Item<'a>> {
        match *self.rest.first()? {
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b'?' => {
                self.eat(b'?');
                let flag = self.eat(b'1');
                (flag || self.eat(b'0')).then_some(Item::Boolean(flag))
            }
            b':' => {
                self.eat(b':');
                self.take(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='));
                self.eat(b':').then_some(Item::Other)
            }
            first if first.is_ascii_alphabetic() || first == b'*' => {
                self.take(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&b));
                Some(Item::Other)
            }
            _ => None,
        }
    }

    fn string(&mut self) -> Option<Item<'a>> {
        self.eat(b'"');
        let whole = self.rest;
        loop {
            self.take(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\');
            if self.eat(b'\\') {
                if !(self.eat(b'"') || self.eat(b'\\')) {
                    return None;
                }
                continue;
            }
            let length = whole.len() - self.rest.len();
            return self.eat(b'"').then_some(Item::Text(&whole[..length]));
        }
    }

    fn number(&mut self) -> Option<Item<'a>> {
        let negative = self.eat(b'-');
        let digits = self.take(|b| b.is_ascii_digit());
        if self.eat(b'.') {
            let fraction = self.take(|b| b.is_ascii_digit());
            let sound = (1..=12).contains(&digits.len()) && (1..=3).contains(&fraction.len());
            return sound.then_some(Item::Other);
        }
        if !(1..=15).contains(&digits.len()) {
            return None;
        }
        let number = digits
            .iter()
            .fold(0i64, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        Some(Item::Integer(if negative { -number } else { number }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Vec<(String, String)>> {
        let mut members = Vec::new();
        dictionary(text.as_bytes(), |key, item| {
            members.push((
                String::from_utf8_lossy(key).into_owned(),
                format!("{item:?}"),
            ));
            Some(())
        })?;
        Some(members)
    }

    /// RFC 8941, 3.2, 3.3 and 4.2.2.
    #[test]
    #[rustfmt::skip]
    fn strict() {
        for (text, sound) in [
            ("", true),
            ("a", true),
            ("  a=1,\tb=?0 , c=\"x\\\"y\", d=tok/en:x, e=:aGk=:, f=-1.5", true),
            ("a=(1 \"b\" c;q=1);p, b;p=?1; q=tok", true),
            ("*a.b_c-d*=1", true),
            ("a=()", true),
            ("a=999999999999999", true),
            // Item 28: lower-case keys.
            ("Max-Age=1", false),
            // Item 28: an unknown type.
            ("max-age=10000, &&&&&", false),
            ("a =1", false),
            ("a= 1", false),
            ("a=", false),
            ("a,", false),
            (",a", false),
            ("a,,b", false),
            ("a b", false),
            ("a=1000000000000000", false),
            ("a=-", false),
            ("a=1.", false),
            ("a=1.2345", false),
            ("a=?2", false),
            ("a=\"x", false),
            ("a=\"\\x\"", false),
            ("a=\"\u{e9}\"", false),
            ("a=:x", false),
            ("a=(1", false),
            ("a=(1,2)", false),
            ("a;", false),
            ("a=@1", false),
            ("1a", false),
        ] {
            assert_eq!(read(text).is_some(), sound, "{text}");
        }
    }

    /// RFC 9213, 2.1: integers are clamped as delta-seconds are, negative ones stale.
    #[test]
    #[rustfmt::skip]
    fn seconds() {
        for (item, seconds) in [
            (Item::Integer(60), Some(60)),
            (Item::Integer(-1), Some(0)),
            (Item::Integer(999_999_999_999_999), Some(LONGEST)),
            (Item::Boolean(true), None),
            (Item::Text(b"60"), None),
            (Item::Other, None),
        ] {
            assert_eq!(item.seconds(), seconds, "{item:?}");
        }
    }
}
