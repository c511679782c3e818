//! `Cache-Status` (RFC 9211): how a response was come by, in the words that the log and the metrics use too.

use std::fmt::{self, Write as _};
use std::io::Write as _;

/// How we are named in `Cache-Status`.
pub const NAME: &str = "sovereign";

/// Why a request went to the upstream (RFC 9211, 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forward {
    /// The cache was told not to handle the request.
    Bypass,
    /// The method's semantics require it.
    Method,
    /// Nothing is stored for the URI.
    UriMiss,
    /// Something is stored for the URI, but not for the request's varying fields.
    VaryMiss,
    /// The request's `Cache-Control` asked for it.
    Request,
    /// What is stored is stale.
    Stale,
    /// Only a part is stored.
    Partial,
}

impl Forward {
    /// Every reason, for registering metrics.
    pub const ALL: [Self; 7] = [
        Self::Bypass,
        Self::Method,
        Self::UriMiss,
        Self::VaryMiss,
        Self::Request,
        Self::Stale,
        Self::Partial,
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// One member of `Cache-Status`; `Display` writes it without allocating.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStatus<'a> {
    /// Why the request was forwarded; none for a hit (RFC 9211, 2.1 and 2.2).
    pub forward: Option<Forward>,
    /// The status of the upstream's answer (RFC 9211, 2.3).
    pub forward_status: Option<u16>,
    /// The response was stored (RFC 9211, 2.6).
    pub stored: bool,
    /// The request waited for another one's answer (RFC 9211, 2.7).
    pub collapsed: bool,
    /// Seconds of freshness left (RFC 9211, 2.5).
    pub ttl: Option<i64>,
    /// More about it (RFC 9211, 2.8).
    pub detail: Option<&'a str>,
}

impl CacheStatus<'_> {
    /// The one word for the access log and the metric: `hit`, or why it was forwarded.
    pub fn word(&self) -> &'static str {
        self.forward.map_or("hit", Forward::as_str)
    }

    /// Appends the member to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        // Writing into memory does not fail.
        let _ = write!(out, "{self}");
    }
}

impl fmt::Display for CacheStatus<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)?;
        match self.forward {
            None => f.write_str("; hit")?,
            Some(reason) => write!(f, "; fwd={}", reason.as_str())?,
        }
        if let Some(status) = self.forward_status {
            write!(f, "; fwd-status={status}")?;
        }
        if self.stored {
            f.write_str("; stored")?;
        }
        if self.collapsed {
            f.write_str("; collapsed")?;
        }
        if let Some(ttl) = self.ttl {
            write!(f, "; ttl={}", ttl.clamp(-LARGEST, LARGEST))?;
        }
        match self.detail {
            Some(detail) if is_token(detail) => write!(f, "; detail={detail}"),
            Some(detail) => {
                f.write_str("; detail=\"")?;
                for c in detail.chars() {
                    match c {
                        '"' | '\\' => write!(f, "\\{c}")?,
                        ' '..='~' => f.write_char(c)?,
                        _ => f.write_char('?')?,
                    }
                }
                f.write_char('"')
            }
            None => Ok(()),
        }
    }
}

/// Whether it can stand without quotes (RFC 8941, 3.3.4).
fn is_token(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '*')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&b))
}

/// The largest integer of a structured field (RFC 8941, 3.3.1).
const LARGEST: i64 = 999_999_999_999_999;

#[cfg(test)]
mod tests {
    use super::*;

    /// Item 29.
    #[test]
    #[rustfmt::skip]
    fn members() {
        let none = CacheStatus::default();
        let forward = Some(Forward::UriMiss);
        for (status, text, word) in [
            (CacheStatus { ttl: Some(30), ..none }, "sovereign; hit; ttl=30", "hit"),
            (CacheStatus { ttl: Some(-5), ..none }, "sovereign; hit; ttl=-5", "hit"),
            (
                CacheStatus {
                    forward,
                    forward_status: Some(200),
                    stored: true,
                    collapsed: true,
                    ttl: None,
                    detail: Some("no-store"),
                },
                "sovereign; fwd=uri-miss; fwd-status=200; stored; collapsed; detail=no-store",
                "uri-miss",
            ),
            (
                CacheStatus { forward: Some(Forward::Stale), detail: Some("a \"b\\\u{e9}"), ..none },
                "sovereign; fwd=stale; detail=\"a \\\"b\\\\?\"",
                "stale",
            ),
            (
                CacheStatus { ttl: Some(i64::MIN), ..none },
                "sovereign; hit; ttl=-999999999999999",
                "hit",
            ),
        ] {
            let mut out = Vec::new();
            status.write(&mut out);
            assert_eq!(String::from_utf8_lossy(&out), text);
            assert_eq!(status.word(), word);
        }
        for reason in Forward::ALL {
            assert!(is_token(reason.as_str()), "{reason:?}");
        }
    }
}
