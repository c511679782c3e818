//! What a message says about caching: `Cache-Control`, and `CDN-Cache-Control` where it takes its place.
//!
//! Everything is parsed once, when a response arrives; what a hit needs of it is copied into [`Freshness`](super::freshness::Freshness).

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName};

use self::dictionary::{Item, dictionary};

mod dictionary;

/// `CDN-Cache-Control` (RFC 9213, 3.1).
pub const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// The largest number of seconds told apart; greater ones count as this many (RFC 9111, 1.2.2).
pub const LONGEST: u32 = 1 << 31;

/// The directives of a response (RFC 9111, 5.2.2; RFC 5861; RFC 8246). Ages in seconds, at most [`LONGEST`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Directives {
    /// `max-age`; zero where it cannot be read.
    pub max_age: Option<u32>,
    /// `s-maxage`; zero where it cannot be read.
    pub s_maxage: Option<u32>,
    /// `stale-while-revalidate`; zero where it cannot be read.
    pub stale_while_revalidate: Option<u32>,
    /// `stale-if-error`; zero where it cannot be read.
    pub stale_if_error: Option<u32>,
    /// `no-store`.
    pub no_store: bool,
    /// `no-cache` for the whole response.
    pub no_cache: bool,
    /// `private` for the whole response.
    pub private: bool,
    /// `public`.
    pub public: bool,
    /// `must-revalidate`.
    pub must_revalidate: bool,
    /// `proxy-revalidate`.
    pub proxy_revalidate: bool,
    /// `must-understand`.
    pub must_understand: bool,
    /// `immutable`.
    pub immutable: bool,
    /// Some part could not be read: what was given as a lifetime is no statement of the origin's to build upon.
    pub unreadable: bool,
}

/// What a response says about caching, from whichever field decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseControl {
    /// The directives.
    pub directives: Directives,
    /// `CDN-Cache-Control` decided: `Cache-Control` and `Expires` do not count (RFC 9213, 2.2).
    pub targeted: bool,
    /// Fields named by `no-cache="..."`: not to be reused (RFC 9111, 5.2.2.4).
    pub no_cache_fields: Vec<HeaderName>,
    /// Fields named by `private="..."`: not to be stored (RFC 9111, 5.2.2.7).
    pub private_fields: Vec<HeaderName>,
}

impl ResponseControl {
    /// Reads the fields of a response (RFC 9111, 5.2.2; RFC 9213, 2).
    pub fn of(headers: &HeaderMap) -> Self {
        targeted(headers).unwrap_or_else(|| {
            let mut control = Self::default();
            each_directive(headers, |name, value, trusted| {
                control.apply(name, value, trusted)
            });
            control
        })
    }

    /// Takes up one directive of `Cache-Control`. Behind a quote that never closes only what restricts counts.
    fn apply(&mut self, name: &[u8], value: Value<'_>, sound: bool) {
        let said = &mut self.directives;
        let lifetime = value.seconds().filter(|_| sound);
        match name {
            b"no-store" => said.no_store = true,
            b"no-cache" => match value.field_names() {
                Some(names) => self.no_cache_fields.extend(names),
                None => said.no_cache = true,
            },
            b"private" => match value.field_names() {
                Some(names) => self.private_fields.extend(names),
                None => said.private = true,
            },
            b"must-revalidate" => said.must_revalidate = true,
            b"proxy-revalidate" => said.proxy_revalidate = true,
            b"max-age" => {
                said.unreadable |= lifetime.is_none();
                said.max_age.get_or_insert(lifetime.unwrap_or(0));
            }
            b"s-maxage" => {
                said.unreadable |= lifetime.is_none();
                said.s_maxage.get_or_insert(lifetime.unwrap_or(0));
            }
            b"stale-while-revalidate" => {
                said.stale_while_revalidate
                    .get_or_insert(lifetime.unwrap_or(0));
            }
            b"stale-if-error" => {
                said.stale_if_error.get_or_insert(lifetime.unwrap_or(0));
            }
            b"public" => said.public |= sound,
            b"must-understand" => said.must_understand |= sound,
            b"immutable" => said.immutable |= sound,
            _ => {}
        }
    }
}

/// The directives of a request (RFC 9111, 5.2.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// `max-age`; zero where it cannot be read.
    pub max_age: Option<u32>,
    /// `min-fresh`.
    pub min_fresh: Option<u32>,
    /// `max-stale`; [`LONGEST`] where it names no number.
    pub max_stale: Option<u32>,
    /// `no-cache`.
    pub no_cache: bool,
    /// `no-store`.
    pub no_store: bool,
    /// `only-if-cached`.
    pub only_if_cached: bool,
}

impl RequestDirectives {
    /// Reads the fields of a request. Does not allocate (RFC 9111, 5.2.1).
    pub fn of(headers: &HeaderMap) -> Self {
        let mut said = Self::default();
        each_directive(headers, |name, value, _| match name {
            b"no-cache" => said.no_cache = true,
            b"no-store" => said.no_store = true,
            b"only-if-cached" => said.only_if_cached = true,
            b"max-age" => {
                said.max_age.get_or_insert(value.seconds().unwrap_or(0));
            }
            b"min-fresh" => said.min_fresh = said.min_fresh.or(value.seconds()),
            b"max-stale" => {
                let any = matches!(value, Value::Absent).then_some(LONGEST);
                said.max_stale = said.max_stale.or(any).or(value.seconds());
            }
            _ => {}
        });
        said
    }
}

/// What follows a directive's name.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    /// Nothing.
    Absent,
    /// A token, or what stood between quotes without any backslash.
    Text(&'a [u8]),
    /// Neither.
    Unreadable,
}

impl<'a> Value<'a> {
    /// Delta-seconds (RFC 9111, 1.2.2), as a token or quoted.
    fn seconds(self) -> Option<u32> {
        match self {
            Self::Text(text) => delta_seconds(text),
            Self::Absent | Self::Unreadable => None,
        }
    }

    /// Field names. None where the directive means the whole response: without a list, with one that cannot be read, and with one
    /// that names fields without which the content cannot be understood.
    fn field_names(self) -> Option<Vec<HeaderName>> {
        let Self::Text(text) = self else { return None };
        let mut names = Vec::new();
        for name in text
            .split(|b| *b == b',')
            .map(<[u8]>::trim_ascii)
            .filter(|n| !n.is_empty())
        {
            let name = HeaderName::from_bytes(name).ok()?;
            if name == http::header::VARY || name.as_str().starts_with("content-") {
                return None;
            }
            names.push(name);
        }
        (!names.is_empty()).then_some(names)
    }
}

/// Reads delta-seconds: digits alone, clamped to [`LONGEST`] (RFC 9111, 1.2.2).
pub(super) fn delta_seconds(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0u32, |sum, digit| {
        sum.saturating_mul(10)
            .saturating_add(u32::from(digit - b'0'))
            .min(LONGEST)
    }))
}

/// Calls `each` with name, value and whether the line was sound so far, for every directive of `Cache-Control`. Names come in lower
/// case; those longer than any that we know are left out.
fn each_directive<'a>(headers: &'a HeaderMap, mut each: impl FnMut(&[u8], Value<'a>, bool)) {
    for line in headers.get_all(CACHE_CONTROL) {
        let mut rest = line.as_bytes();
        let mut sound = true;
        while !rest.is_empty() {
            let (end, closed) = member_end(rest, sound);
            sound &= closed;
            let member = rest[..end].trim_ascii();
            rest = rest.get(end + 1..).unwrap_or_default();
            let (name, value) = match member.iter().position(|b| *b == b'=') {
                Some(equals) => (&member[..equals], value(&member[equals + 1..])),
                None => (member, Value::Absent),
            };
            // White space before the sign is as wrong as behind it, but the name still tells what was meant.
            let bare = name.trim_ascii();
            let value = if bare.len() == name.len() {
                value
            } else {
                Value::Unreadable
            };
            let mut lower = [0; LONGEST_NAME];
            if let Some(lower) = lower.get_mut(..bare.len()) {
                lower.copy_from_slice(bare);
                lower.make_ascii_lowercase();
                each(lower, value, sound);
            }
        }
    }
}

/// Where the first member ends: at a comma outside quotes. A quote that never closes is a character like any other, and the line
/// unsound from there on, so that each byte is looked at no more than twice.
fn member_end(text: &[u8], heed_quotes: bool) -> (usize, bool) {
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b',' => return (at, true),
            b'"' if heed_quotes => match closing_quote(&text[at + 1..]) {
                Some(length) => at += length + 1,
                None => {
                    let comma = text[at..].iter().position(|b| *b == b',');
                    return (comma.map_or(text.len(), |c| at + c), false);
                }
            },
            _ => {}
        }
        at += 1;
    }
    (text.len(), true)
}

/// How far behind an opening quote the closing one stands (RFC 9110, 5.6.4).
fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    text.iter().position(|byte| {
        let closes = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        closes
    })
}

/// Takes the quotes off a value.
fn value(text: &[u8]) -> Value<'_> {
    let inner = match text {
        [b'"', inner @ .., b'"'] => inner,
        token if !token.is_empty() && !token[0].is_ascii_whitespace() => token,
        _ => return Value::Unreadable,
    };
    if inner.iter().any(|b| matches!(b, b'"' | b'\\')) {
        return Value::Unreadable;
    }
    Value::Text(inner)
}

/// Reads `CDN-Cache-Control`. None where it is absent, empty, no dictionary, or gives a directive a value of the wrong type: then it
/// is as if it were absent (RFC 9213, 2.1).
fn targeted(headers: &HeaderMap) -> Option<ResponseControl> {
    let mut lines = headers.get_all(CDN_CACHE_CONTROL).iter();
    let mut text = lines.next()?.as_bytes().to_vec();
    for line in lines {
        text.extend_from_slice(b", ");
        text.extend_from_slice(line.as_bytes());
    }
    let mut control = ResponseControl {
        targeted: true,
        ..ResponseControl::default()
    };
    let mut any = false;
    dictionary(&text, |key, item| {
        any = true;
        control.apply_targeted(key, item)
    })?;
    any.then_some(control)
}

impl ResponseControl {
    /// Takes up one member of the dictionary; the last of a name counts (RFC 8941, 3.2).
    fn apply_targeted(&mut self, key: &[u8], item: Item<'_>) -> Option<()> {
        let said = &mut self.directives;
        match key {
            b"max-age" => said.max_age = Some(item.seconds()?),
            b"s-maxage" => said.s_maxage = Some(item.seconds()?),
            b"stale-while-revalidate" => said.stale_while_revalidate = Some(item.seconds()?),
            b"stale-if-error" => said.stale_if_error = Some(item.seconds()?),
            b"no-store" => said.no_store = item.flag()?,
            b"public" => said.public = item.flag()?,
            b"must-revalidate" => said.must_revalidate = item.flag()?,
            b"proxy-revalidate" => said.proxy_revalidate = item.flag()?,
            b"must-understand" => said.must_understand = item.flag()?,
            b"immutable" => said.immutable = item.flag()?,
            b"no-cache" => (said.no_cache, self.no_cache_fields) = item.flag_or_fields()?,
            b"private" => (said.private, self.private_fields) = item.flag_or_fields()?,
            _ => {}
        }
        Some(())
    }
}

/// `stale-while-revalidate`.
const LONGEST_NAME: usize = 22;

#[cfg(test)]
mod tests;
