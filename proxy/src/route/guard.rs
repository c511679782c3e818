//! Who is let in where a route asks for a client's certificate.
//!
//! Stands alone because two things have to hold together: what a certificate is worth, and which path a
//! request means. Applications read paths in ways of their own: they decode, merge slashes, do not heed
//! letter case. A guard that only looked at the path as received would be walked around by `/%61dmin`;
//! so a path has to pass the guards of all its readings.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use sovereign_config::model::PathPattern;

use crate::tls::{ClientCertificate, client_is_of};

/// The certificate that a client has shown (RFC 9440).
const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The client showed no certificate.
    NoCertificate,
    /// It showed one of another authority, or one that is not in force.
    OtherCertificate,
}

impl Refusal {
    /// The word for log and header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoCertificate => "no-client-certificate",
            Self::OtherCertificate => "client-certificate",
        }
    }
}

/// The authorities whose certificates a route lets in.
pub struct Guard {
    /// As DER.
    roots: Vec<Vec<u8>>,
    /// Certificates that were found good, and when: to look again at each request would cost more than to answer it.
    known: Mutex<HashMap<Box<[u8]>, Instant>>,
}

impl Guard {
    /// A guard that trusts these authorities, which are DER.
    pub fn new(roots: &[Vec<u8>]) -> Self {
        Self {
            roots: roots.to_vec(),
            known: Mutex::default(),
        }
    }

    /// Whether a client is let in. Looked at anew every minute: a certificate may lapse, or its authority be
    /// taken out of the configuration, while the connection lives on.
    fn check(&self, client: Option<&ClientCertificate>) -> Result<(), Refusal> {
        let client = client.ok_or(Refusal::NoCertificate)?;
        if let Some(at) = self.known.lock().get(&*client.leaf)
            && at.elapsed() < KNOWN_FOR
        {
            return Ok(());
        }
        if client.leaf.len() > LONGEST || !client_is_of(&client.chain, &self.roots) {
            return Err(Refusal::OtherCertificate);
        }
        let mut known = self.known.lock();
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(Box::from(&*client.leaf), Instant::now());
        Ok(())
    }
}

/// The guards of a site.
pub struct Guards {
    /// The patterns of all routes in lower case, the longest first; empty where nothing is guarded.
    all: Vec<(PathPattern, Option<Arc<Guard>>)>,
}

impl Guards {
    /// The guards of these routes, the longest pattern first.
    pub fn of<'r>(
        routes: impl Iterator<Item = (&'r PathPattern, &'r Option<Arc<Guard>>)> + Clone,
    ) -> Self {
        let any = routes.clone().any(|(_, guard)| guard.is_some());
        let lower = |pattern: &PathPattern| match pattern {
            PathPattern::Exact(path) => PathPattern::Exact(path.to_lowercase()),
            PathPattern::Prefix(prefix) => PathPattern::Prefix(prefix.to_lowercase()),
            PathPattern::Glob(glob) => PathPattern::Glob(glob.to_lowercase()),
        };
        let all = routes.filter(|_| any);
        Self {
            all: all
                .map(|(pattern, guard)| (lower(pattern), guard.clone()))
                .collect(),
        }
    }

    /// Whether a client gets past the guard `own` of the route that takes its path, and past those of all other
    /// ways in which the path can be read.
    pub fn let_in(
        &self,
        own: Option<&Guard>,
        path: &str,
        client: Option<&ClientCertificate>,
    ) -> Result<(), Refusal> {
        if self.all.is_empty() {
            return Ok(());
        }
        own.map_or(Ok(()), |guard| guard.check(client))?;
        // Most paths have one reading, which leads to the guard that was asked just now.
        let ask = |guard: &Arc<Guard>| match own {
            Some(own) if std::ptr::eq(own, &**guard) => Ok(()),
            _ => guard.check(client),
        };
        let Readings::Ways(ways) = Readings::of(path) else {
            let mut guards = self.all.iter().filter_map(|(_, guard)| guard.as_ref());
            return guards.try_for_each(ask);
        };
        ways.iter().try_for_each(|way| {
            let first = self.all.iter().find(|(pattern, _)| pattern.matches(way));
            first
                .and_then(|(_, guard)| guard.as_ref())
                .map_or(Ok(()), ask)
        })
    }
}

/// Says in a request's fields who the client is, where it showed a certificate, so that what is stored under
/// `Vary: Client-Cert` is told apart. An upstream sees it only behind a guard.
pub fn introduce(headers: &mut HeaderMap, client: Option<&ClientCertificate>) {
    let Some(client) = client else {
        return;
    };
    // A byte sequence of RFC 9651 section 3.3.5.
    let value = format!(":{}:", BASE64_STANDARD.encode(&client.leaf));
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(CLIENT_CERT, value);
    }
}

/// How a path may be read by what stands behind, letter case aside.
#[derive(Debug, PartialEq, Eq)]
enum Readings<'p> {
    /// In these ways.
    Ways(Vec<Cow<'p, str>>),
    /// It climbs up its own tree, as no browser's does: it may mean anything.
    Any,
}

impl<'p> Readings<'p> {
    /// The readings of a path as received.
    fn of(path: &'p str) -> Self {
        let odd =
            |byte: u8| byte.is_ascii_uppercase() || b"%\\;".contains(&byte) || !byte.is_ascii();
        let plain = !path.bytes().any(odd) && !path.ends_with('.');
        if plain && !["//", "/.", "./"].iter().any(|odd| path.contains(odd)) {
            return Self::Ways(vec![Cow::Borrowed(path)]);
        }
        // `/a%2Fb` is one segment to some and two to others.
        let soft = decoded(path.as_bytes(), |byte| byte != b'/' && byte != b'\\');
        let mut hard = decoded(path.as_bytes(), |_| true);
        // Some decode once more, in front of what they front.
        for _ in 0..2 {
            hard = decoded(&hard, |_| true);
        }
        let Some(hard) = resolved(&String::from_utf8_lossy(&hard)) else {
            return Self::Any;
        };
        let soft = String::from_utf8_lossy(&soft).into_owned();
        let ways = [path.to_owned(), soft, hard];
        Self::Ways(
            ways.into_iter()
                .map(|way| Cow::Owned(way.to_lowercase()))
                .collect(),
        )
    }
}

/// A path without empty segments, `.`, parameters, and what stands for a slash; `None` where it has a `..`.
fn resolved(path: &str) -> Option<String> {
    let mut clean = String::with_capacity(path.len() + 1);
    for segment in path.split(['/', '\\']) {
        let segment = segment.split(';').next().unwrap_or_default();
        let segment = segment.trim_matches(|c: char| c.is_whitespace() || c.is_control());
        if segment == ".." {
            return None;
        }
        let segment = segment.trim_end_matches('.');
        if !segment.is_empty() {
            clean.push('/');
            clean.push_str(segment);
        }
    }
    if clean.is_empty() || path.ends_with(['/', '\\']) {
        clean.push('/');
    }
    Some(clean)
}

/// The bytes that a text stands for; `%2F` stays where `takes` does not take what it stands for.
fn decoded(text: &[u8], takes: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        if let (b'%', [high, low, after @ ..]) = (*first, after)
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
            && takes(high << 4 | low)
        {
            out.push(high << 4 | low);
            rest = after;
        } else {
            out.push(*first);
        }
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}

/// How long a certificate counts as good before it is looked at again.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// Certificates that are remembered as good.
const MOST_KNOWN: usize = 1024;
/// A larger certificate would not fit into a field that upstreams take.
const LONGEST: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn ways(path: &str) -> Vec<String> {
        match Readings::of(path) {
            Readings::Ways(ways) => ways.into_iter().map(Cow::into_owned).collect(),
            Readings::Any => vec!["any".to_owned()],
        }
    }

    #[test]
    fn a_plain_path_has_one_reading() {
        for path in ["/", "/admin", "/admin/a.css", "/a~b/c_d-e"] {
            assert_eq!(ways(path), [path]);
        }
    }

    #[test]
    fn a_path_in_disguise_is_read_as_what_it_stands_for() {
        for path in [
            "/%61dmin/x",
            "/%2561dmin/x",
            "/%25%36%31dmin/x",
            "//admin//x",
            "/./admin/x",
            "/%2e/admin/x",
            "/admin%2Fx",
            "/admin%5cx",
            "/admin\\x",
            "/admin;a=b/x",
            "/;/admin/x",
            "/ADMIN/x",
            "/%41DMIN/x",
            "/admin%20/x",
            "/admin%00/x",
            "/admin./x",
            "/admin/%0ax",
        ] {
            let all = ways(path);
            assert!(all.iter().any(|way| way == "/admin/x"), "{path}: {all:?}");
        }
    }

    #[test]
    fn a_path_that_climbs_may_mean_anything() {
        for path in [
            "/a/../admin",
            "/a/%2e%2E/admin",
            "/a/.%2e/admin",
            "/a/%252e%252e/admin",
            "/a/..;/admin",
            "/a\\..\\admin",
            "/..",
        ] {
            assert_eq!(ways(path), ["any"], "{path}");
        }
    }

    #[test]
    fn a_path_passes_the_guards_of_all_its_readings() {
        let guard = Some(Arc::new(Guard::new(&[])));
        let prefix = |path: &str| PathPattern::Prefix(path.to_owned());
        let routes = [
            (prefix("/Admin/public"), None),
            (prefix("/Admin"), guard),
            (PathPattern::Glob("*".to_owned()), None),
        ];
        let guards = Guards::of(routes.iter().map(|(pattern, guard)| (pattern, guard)));
        // What the route that takes the path as received says is `own`, which is asked first.
        let let_in = |path: &str| guards.let_in(None, path, None).is_ok();
        for path in [
            "/",
            "/administration",
            "/Admin/public/a",
            "/admin/PUBLIC/a",
            "/x%20y",
        ] {
            assert!(let_in(path), "{path}");
        }
        for path in [
            "/admin",
            "/Admin/x",
            "/%41dmin",
            "/Admin/public/../x",
            "/x/..",
        ] {
            assert!(!let_in(path), "{path}");
        }
        let none = [(prefix("/a"), None)];
        let open = Guards::of(none.iter().map(|(pattern, guard)| (pattern, guard)));
        assert_eq!(open.let_in(None, "/a/../b", None), Ok(()));
    }

    #[test]
    fn odd_bytes_are_no_trouble() {
        for path in ["/%", "/%f", "/%ff%fe", "/%zz", "/%%41", "/%e4", "/;"] {
            assert!(!ways(path).is_empty(), "{path}");
        }
    }

    #[test]
    fn no_certificate_is_refused() {
        let guard = Guard::new(&[]);
        assert_eq!(guard.check(None), Err(Refusal::NoCertificate));
        let nobody = ClientCertificate {
            leaf: Vec::new().into(),
            chain: Vec::new(),
        };
        assert_eq!(guard.check(Some(&nobody)), Err(Refusal::OtherCertificate));
    }

    #[test]
    fn who_the_client_is_replaces_what_it_says_of_itself() {
        let mut headers = HeaderMap::new();
        headers.insert(CLIENT_CERT, HeaderValue::from_static(":c3RyYW5nZXI=:"));
        let client = ClientCertificate {
            leaf: vec![0x30, 0].into(),
            chain: Vec::new(),
        };
        introduce(&mut headers, Some(&client));
        assert_eq!(headers[CLIENT_CERT], ":MAA=:");
    }
}
