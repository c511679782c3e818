//! Which of several stored responses to one URI a request selects (RFC 9111, 4.1).

use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, COOKIE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};

/// What a response varies by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vary {
    /// These request fields: sorted, each once; none at all for most responses.
    By(Box<[HeaderName]>),
    /// Something no request can match: `*`, a member that is no field name, or too many (RFC 9110, 12.5.5).
    Star,
}

impl Vary {
    /// Reads `Vary` (RFC 9110, 12.5.5).
    pub fn of(response: &HeaderMap) -> Self {
        let mut names = Vec::new();
        for member in members(response, &VARY) {
            match HeaderName::from_bytes(member) {
                Ok(name) if member != b"*" && names.len() < MOST_NAMES => names.push(name),
                _ => return Self::Star,
            }
        }
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        Self::By(names.into())
    }
}

/// The values of `names` in a request, normalised: equal texts select the same response. Empty where `names` is (RFC 9111, 4.1).
/// It is what to keep of the stored request, and can be part of a variant's key.
pub fn variant_key(names: &[HeaderName], request: &HeaderMap) -> Box<str> {
    let mut key = String::new();
    // Only ASCII comes out: `escape` sees to it.
    normalise(names, request, &mut |byte| key.push(char::from(byte)));
    key.into()
}

/// Whether `request` selects the response stored with `variant`, its [`variant_key`]. Does not allocate.
pub fn selects(names: &[HeaderName], variant: &str, request: &HeaderMap) -> bool {
    let mut expected = variant.bytes();
    let mut equal = true;
    normalise(names, request, &mut |byte| {
        equal = equal && expected.next() == Some(byte)
    });
    equal && expected.next().is_none()
}

/// Fields that select the response stored with `variant`, for a request of our own. What the variant
/// was made of is not all in it, but enough of it to make the same one.
pub fn request_for(names: &[HeaderName], variant: &str) -> HeaderMap {
    let mut request = HeaderMap::new();
    for (name, line) in names.iter().zip(variant.lines()) {
        let Some(rest) = line.strip_prefix(name.as_str()) else {
            continue;
        };
        let value = match rest.split_at_checked(1) {
            Some(("=", values)) => unescape(values),
            Some(("~", weighed)) => unweighed(weighed),
            _ => continue,
        };
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            request.insert(name, value);
        }
    }
    request
}

/// The members of a list, over all lines, without white space and empty ones. Not for fields whose members may be quoted.
pub(super) fn members<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).iter();
    let members = lines.flat_map(|line| line.as_bytes().split(|b| *b == b','));
    members
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// One line a name: `name` where the field is absent, `name=values` as they stand, `name~values` where they are weighed.
/// Neither names nor values can contain a line break.
fn normalise(names: &[HeaderName], request: &HeaderMap, out: &mut impl FnMut(u8)) {
    for name in names {
        name.as_str().bytes().for_each(&mut *out);
        if request.contains_key(name) {
            let weighs = *name == ACCEPT_LANGUAGE || *name == ACCEPT_ENCODING;
            if !(weighs && weighed(name, request, out)) {
                out(b'=');
                verbatim(name, request, out);
            }
        }
        out(b'\n');
    }
}

/// All lines, joined; without white space round the members of a list, but with that inside quotes (RFC 9111, 4.1).
fn verbatim(name: &HeaderName, request: &HeaderMap, out: &mut impl FnMut(u8)) {
    // HTTP/2 may split a cookie into lines that mean one (RFC 9113, 8.2.3).
    let joint: &[u8] = if *name == COOKIE { b"; " } else { b"," };
    for (index, line) in request.get_all(name).iter().enumerate() {
        if index > 0 {
            joint.iter().copied().for_each(&mut *out);
        }
        let mut rest = line.as_bytes();
        loop {
            let end = list_member(rest);
            rest[..end]
                .trim_ascii()
                .iter()
                .for_each(|byte| escape(*byte, out));
            if end == rest.len() {
                break;
            }
            out(b',');
            rest = &rest[end + 1..];
        }
    }
}

/// Where the first member of a list ends: at a comma outside quotes.
fn list_member(text: &[u8]) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    let end = text.iter().position(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return true,
            _ => {}
        }
        false
    });
    end.unwrap_or(text.len())
}

/// Languages or codings by weight, and among equal weights by name: the order in which they were written has no meaning, nor has
/// their case (RFC 9110, 12.4.2, 12.5.3, 12.5.4). False, with nothing written, where they cannot be read or are too many.
fn weighed(name: &HeaderName, request: &HeaderMap, out: &mut impl FnMut(u8)) -> bool {
    let mut found = [(0u16, &b""[..]); MOST_WEIGHED];
    let mut count = 0;
    for member in members(request, name) {
        let (Some(entry), Some(slot)) = (weight(member), found.get_mut(count)) else {
            return false;
        };
        *slot = entry;
        count += 1;
    }
    let found = &mut found[..count];
    found.sort_unstable_by(|(a, one), (b, other)| {
        let lower = u8::to_ascii_lowercase;
        b.cmp(a)
            .then_with(|| one.iter().map(lower).cmp(other.iter().map(lower)))
    });
    out(b'~');
    for (weight, name) in found {
        name.iter().for_each(|byte| out(byte.to_ascii_lowercase()));
        out(b';');
        for divisor in [1000, 100, 10, 1] {
            out(b'0' + (*weight / divisor % 10) as u8);
        }
    }
    true
}

/// A member and its weight in thousandths (RFC 9110, 12.4.2).
pub(super) fn weight(member: &[u8]) -> Option<(u16, &[u8])> {
    let Some(semicolon) = member.iter().position(|b| *b == b';') else {
        return is_token(member).then_some((1000, member));
    };
    let name = member[..semicolon].trim_ascii_end();
    let weight = match member[semicolon + 1..].trim_ascii_start() {
        [b'q' | b'Q', b'=', weight @ ..] => weight,
        _ => return None,
    };
    let (whole, fraction) = match weight {
        [whole] => (whole, &b""[..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    let digits = [Some(whole)]
        .into_iter()
        .chain((0..3).map(|at| fraction.get(at)));
    let thousandths = digits
        .map(|d| *d.unwrap_or(&b'0'))
        .try_fold(0u16, |sum, digit| {
            digit
                .is_ascii_digit()
                .then(|| sum * 10 + u16::from(digit - b'0'))
        })?;
    (thousandths <= 1000 && is_token(name)).then_some((thousandths, name))
}

fn is_token(name: &[u8]) -> bool {
    !name.is_empty()
        && name
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'*' | b'_'))
}

/// A byte as ASCII that cannot be mistaken for another.
fn escape(byte: u8, out: &mut impl FnMut(u8)) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    if matches!(byte, b' '..=b'~') && byte != b'%' {
        return out(byte);
    }
    out(b'%');
    out(HEX[usize::from(byte >> 4)]);
    out(HEX[usize::from(byte & 15)]);
}

/// What [`escape`] was given.
fn unescape(text: &str) -> Vec<u8> {
    percent_encoding::percent_decode_str(text).collect()
}

/// A list that [`weighed`] puts in the same order: `de;1000en;0500` becomes `de;q=1.000,en;q=0.500`.
fn unweighed(text: &str) -> Vec<u8> {
    let mut list = Vec::new();
    let mut rest = text.as_bytes();
    while let Some(semicolon) = rest.iter().position(|byte| *byte == b';') {
        let Some(digits) = rest.get(semicolon + 1..semicolon + 5) else {
            break;
        };
        if !list.is_empty() {
            list.push(b',');
        }
        list.extend_from_slice(&rest[..semicolon]);
        list.extend_from_slice(b";q=");
        list.push(digits[0]);
        list.push(b'.');
        list.extend_from_slice(&digits[1..]);
        rest = &rest[semicolon + 5..];
    }
    list
}

/// More names than any honest response varies by.
const MOST_NAMES: usize = 64;
/// As many languages or codings are put in order on the stack; longer lists are compared as they stand.
const MOST_WEIGHED: usize = 24;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn fields(lines: &[(&'static str, &[u8])]) -> HeaderMap {
        let line = |&(name, value): &(&'static str, &[u8])| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_bytes(value).unwrap(),
            )
        };
        lines.iter().map(line).collect()
    }

    /// Item 14; RFC 9110, 12.5.5.
    #[test]
    #[rustfmt::skip]
    fn names() {
        let by = |names: &[&'static str]| {
            Vary::By(names.iter().map(|n| HeaderName::from_static(n)).collect())
        };
        for (lines, wanted, checks) in [
            (&[][..], by(&[]), "absent"),
            (&["Foo, bar", "foo"], by(&["bar", "foo"]), "sorted, each once"),
            (&[",", "", " ,Foo,, "], by(&["foo"]), "empty members"),
            (&["*"], Vary::Star, "star"),
            (&[", *"], Vary::Star, "star behind an empty member"),
            (&["", "*"], Vary::Star, "star on another line"),
            (&["Foo, *"], Vary::Star, "star behind a name"),
            (&["*, Foo"], Vary::Star, "star before a name"),
            (&["Foo Bar"], Vary::Star, "no name"),
            (&["\"foo\""], Vary::Star, "no name"),
        ] {
            let lines: Vec<_> = lines.iter().map(|l: &&str| ("vary", l.as_bytes())).collect();
            assert_eq!(Vary::of(&fields(&lines)), wanted, "{checks}");
        }
        let hostile = "a,".repeat(100_000);
        assert_eq!(Vary::of(&fields(&[("vary", hostile.as_bytes())])), Vary::Star, "too many");
    }

    /// Item 14.
    #[test]
    #[rustfmt::skip]
    fn selection() {
        const FOO: &str = "foo";
        const LANG: &str = "accept-language";
        const CODING: &str = "accept-encoding";
        type Side<'a> = &'a [(&'static str, &'a [u8])];
        let rows: &[(Side<'_>, Side<'_>, bool, &str)] = &[
            (&[(FOO, b"1")], &[(FOO, b"1")], true, "the same"),
            (&[(FOO, b"1")], &[(FOO, b"2")], false, "another"),
            (&[(FOO, b"1")], &[], false, "absent matches only absent"),
            (&[], &[(FOO, b"")], false, "absent matches only absent"),
            (&[], &[], true, "absent matches absent"),
            (&[(FOO, b"1"), ("other", b"1")], &[(FOO, b"1")], true, "not varied by"),
            (&[(FOO, b"1"), (FOO, b"2")], &[(FOO, b"1,2")], true, "lines are joined"),
            (&[(FOO, b"1, 2")], &[(FOO, b" 1 ,\t2 ")], true, "white space round members"),
            (&[(FOO, b"\"a, b\"")], &[(FOO, b"\"a,b\"")], false, "white space inside quotes"),
            (&[(FOO, b"\"\\\", a\"")], &[(FOO, b"\"\\\",a\"")], false, "and behind a quoted pair"),
            (&[(FOO, b"1,2")], &[(FOO, b"2,1")], false, "order has meaning in general"),
            (&[(FOO, b"a")], &[(FOO, b"A")], false, "case has meaning in general"),
            (&[(FOO, b"\xe9")], &[(FOO, b"\xe9")], true, "bytes that are no ASCII"),
            (&[(FOO, b"\xe9")], &[(FOO, b"%e9")], false, "and are not mistaken"),
            (&[(LANG, b"en, de")], &[(LANG, b"de,EN")], true, "case, order among equals"),
            (&[(LANG, b"en;q=0.5, de")], &[(LANG, b"de;q=1.0,en ; Q=0.500")], true, "weights"),
            (&[(LANG, b"en;q=0.5, de")], &[(LANG, b"en, de;q=0.5")], false, "other weights"),
            (&[(LANG, b"en")], &[(LANG, b"en-GB")], false, "another language"),
            (&[(LANG, b"en;x=1")], &[(LANG, b"en;X=1")], false, "unreadable: as it stands"),
            (&[(LANG, b"en")], &[(LANG, b"en;1000")], false, "unreadable is not mistaken"),
            (&[(CODING, b"gzip, br")], &[(CODING, b"br, gzip")], true, "a set of codings"),
            (&[(CODING, b"gzip, br")], &[(CODING, b"gzip, br;q=0")], false, "a coding refused"),
            (&[(CODING, b"gzip")], &[(CODING, b"gzip, br")], false, "another set"),
            (&[("cookie", b"a=1"), ("cookie", b"b=2")], &[("cookie", b"a=1; b=2")], true, "crumbs"),
        ];
        let names = [CODING, LANG, "cookie", FOO].map(HeaderName::from_static);
        for (stored, request, wanted, checks) in rows {
            let (stored, request) = (fields(stored), fields(request));
            let key = variant_key(&names, &stored);
            assert!(selects(&names, &key, &stored), "{checks}: itself");
            assert_eq!(selects(&names, &key, &request), *wanted, "{checks}");
            assert_eq!(key == variant_key(&names, &request), *wanted, "{checks}: keys");
        }
        assert_eq!(&*variant_key(&[], &fields(&[(FOO, b"1")])), "");
    }

    #[test]
    #[rustfmt::skip]
    fn values_cannot_imitate_other_fields() {
        let names = ["bar", "foo"].map(HeaderName::from_static);
        let one = variant_key(&names, &fields(&[("bar", b"1\tfoo=2")]));
        let other = variant_key(&names, &fields(&[("bar", b"1"), ("foo", b"2")]));
        assert_ne!(one, other);
    }

    /// A request of our own selects what it is meant to refresh.
    #[test]
    #[rustfmt::skip]
    fn requests_for_variants() {
        let names = [ACCEPT_ENCODING, ACCEPT_LANGUAGE, http::header::USER_AGENT];
        for lines in [
            &[][..],
            &[("accept-encoding", "gzip, deflate, br;q=0.5")],
            &[("accept-encoding", ""), ("accept-language", "DE, en;q=0.123, *;q=0")],
            &[("accept-language", "not a list at all"), ("user-agent", "a%20b \"c, d\"")],
        ] {
            let request: HeaderMap = lines.iter()
                .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()))
                .collect();
            let variant = variant_key(&names, &request);
            assert_eq!(variant_key(&names, &request_for(&names, &variant)), variant, "{lines:?}");
        }
    }
}
