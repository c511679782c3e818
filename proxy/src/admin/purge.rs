//! What a purge names, as it was written and as it was checked, and what came of it. Stands alone because both ends of the admin
//! API share it.

use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::cache::key::Key;
use crate::cache::scope::{MOST_FOLDERS, Scope, TAG_BYTES};
use crate::status::SiteStatus;

/// The body of `POST /purge`: what to purge, as somebody wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PurgeRequest {
    /// Pages, each by its whole URL.
    pub urls: Vec<String>,
    /// All below these URLs, each ending in `/`.
    pub prefixes: Vec<String>,
    /// All with one of these tags.
    pub tags: Vec<String>,
    /// Beside tags, the sites whose tags are meant, all of them where none is named. Else sites to purge as a whole. Each by any of
    /// its names.
    pub sites: Vec<String>,
    /// It must not be used again, not even while it is fetched anew.
    pub hard: bool,
}

/// What to purge, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purge {
    /// The scopes of all that was named, each once.
    pub scopes: Box<[u64]>,
    /// The pages that were named one by one, and the front pages of the folders.
    pub pages: Box<[Key]>,
    /// It must not be used again.
    pub hard: bool,
}

/// What a purge came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// Stored responses that it concerned.
    pub purged: u64,
    /// The same in words.
    pub message: String,
}

impl Purged {
    /// So many responses were purged, and what that means for them.
    pub fn new(purged: u64, hard: bool) -> Self {
        let what = match purged {
            0 => "purged nothing: no stored response is concerned".to_owned(),
            1 => "purged 1 stored response".to_owned(),
            _ => format!("purged {purged} stored responses"),
        };
        let then = match (purged, hard) {
            (0, _) => "",
            (1, true) => " (hard: it is not served again)",
            (_, true) => " (hard: they are not served again)",
            (1, false) => " (soft: it is served once more while it is fetched anew)",
            (_, false) => " (soft: they are served once more while they are fetched anew)",
        };
        let message = what + then;
        Self { purged, message }
    }

    /// The same where the purge could not be written: it is in force, but a restart would forget it.
    #[must_use]
    pub fn until_restart(mut self, error: &std::io::Error) -> Self {
        self.message.push_str(&format!(
            "; this could not be written to the state folder ({error}) and will be forgotten at the next start"
        ));
        self
    }
}

impl PurgeRequest {
    /// How many things it names.
    pub fn len(&self) -> usize {
        self.urls.len() + self.prefixes.len() + self.tags.len() + self.sites.len()
    }

    /// Whether it names nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks it against the sites of this proxy. The error has every problem, one below the other, each with the way out.
    pub fn check(&self, sites: &[SiteStatus]) -> Result<Purge, String> {
        if self.is_empty() {
            return Err(
                "nothing was named to be purged\n  hint: give URLs, prefixes, tags or sites".into(),
            );
        }
        if self.len() > MOST_ITEMS {
            return Err(format!(
                "{} things were named to be purged, and {MOST_ITEMS} is the most at once\n  \
                 hint: one prefix, tag or site purges any number of pages",
                self.len()
            ));
        }
        let mut problems = Vec::new();
        let urls: Box<[Key]> = sound(
            &mut problems,
            self.urls.iter().map(|text| page(text, sites)),
        )
        .into();
        let prefixes = self.prefixes.iter().map(|text| prefix(text, sites));
        let prefixes = sound(&mut problems, prefixes);
        let tags = sound(&mut problems, self.tags.iter().map(|text| tag(text)));
        let named = self.sites.iter().map(|text| site(text, sites));
        let mut named = sound(&mut problems, named);
        if !(self.sites.is_empty() || self.urls.is_empty() && self.prefixes.is_empty()) {
            problems.push(Problem {
                subject: shown(&self.sites.join(", ")),
                found: "a site beside URLs or prefixes would be purged as a whole".into(),
                hint: "leave the site out, or purge it by itself".into(),
            });
        }
        if !tags.is_empty() && self.sites.is_empty() {
            named = sites.iter().map(canonical).collect();
        }
        if tags.len() * named.len() > MOST_SCOPES {
            problems.push(Problem {
                subject: format!("{} tags of {} sites", tags.len(), named.len()),
                found: "too many at once".into(),
                hint: "name the sites whose tags are meant, or fewer tags".into(),
            });
        }
        if !problems.is_empty() {
            return Err(all(&problems));
        }
        let mut scopes: Vec<u64> = urls.iter().map(|key| Scope::url(key.as_str())).collect();
        scopes.extend(prefixes.iter().map(|key| Scope::prefix(key.as_str())));
        if tags.is_empty() {
            scopes.extend(named.iter().map(|site| Scope::site(site)));
        }
        for site in named {
            scopes.extend(tags.iter().map(|tag| Scope::tag(site, tag.as_bytes())));
        }
        scopes.sort_unstable();
        scopes.dedup();
        Ok(Purge {
            scopes: scopes.into(),
            pages: urls.into_iter().chain(prefixes).collect(),
            hard: self.hard,
        })
    }
}

/// One thing that cannot be purged as it was written, and how to write it.
struct Problem {
    subject: String,
    found: String,
    hint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n  hint: {}", self.subject, self.found, self.hint)
    }
}

/// What is sound; what is not goes to the problems.
fn sound<T>(
    problems: &mut Vec<Problem>,
    checked: impl Iterator<Item = Result<T, Problem>>,
) -> Vec<T> {
    checked
        .filter_map(|item| item.map_err(|problem| problems.push(problem)).ok())
        .collect()
}

fn all(problems: &[Problem]) -> String {
    let mut lines = vec!["nothing was purged:".to_owned()];
    lines.extend(problems.iter().take(MOST_SHOWN).map(Problem::to_string));
    match problems.len().saturating_sub(MOST_SHOWN) {
        0 => {}
        1 => lines.push("and another one".to_owned()),
        more => lines.push(format!("and {more} others")),
    }
    lines.join("\n")
}

/// The key that a page is stored under.
fn page(text: &str, sites: &[SiteStatus]) -> Result<Key, Problem> {
    let text = text.trim();
    let problem = |found: &str, hint: String| Problem {
        subject: shown(text),
        found: found.to_owned(),
        hint: shown(&hint),
    };
    let Some((scheme, rest)) = text.split_once("://") else {
        let mut hosts = sites.iter().map(canonical);
        let host = hosts.find(|name| !name.starts_with('*'));
        let host = host.unwrap_or("www.example.org");
        let hint = match text.strip_prefix('/') {
            Some(_) | None if text.is_empty() => format!("https://{host}/"),
            Some(path) => format!("https://{host}/{path}"),
            None => format!("https://{text}"),
        };
        return Err(problem("not a whole URL", hint));
    };
    if !["http", "https"]
        .map(|known| scheme.eq_ignore_ascii_case(known))
        .contains(&true)
    {
        let found = "only what came over http or https is stored";
        return Err(problem(found, format!("https://{rest}")));
    }
    if let Some((sent, _)) = text.split_once('#') {
        return Err(problem(
            "browsers do not send what begins with #",
            sent.to_owned(),
        ));
    }
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if let Some((_, host)) = host.rsplit_once('@') {
        let found = "a user name is no part of what is stored";
        return Err(problem(found, format!("{scheme}://{host}{path}")));
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        let found = "not as browsers send it";
        return Err(problem(
            found,
            format!("{scheme}://{host}{}", utf8_percent_encode(path, NOT_SENT)),
        ));
    }
    let path = match path.strip_prefix('/') {
        Some(_) => path.to_owned(),
        None => format!("/{path}"),
    };
    let Some(key) = Key::new(scheme, host, &path) else {
        let hint = match host.is_ascii() {
            true => "a name, perhaps with a port, as in https://www.example.org:8443/",
            false => "write the host as browsers send it, beginning with xn--",
        };
        return Err(problem("no such host can be", hint.to_owned()));
    };
    let (scheme, host) = key.origin().split_once("://").unwrap_or_default();
    // The last colon of an address in brackets is no port's.
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    if bare.contains('*') {
        let hint = "one of its hosts, or the site as a whole".to_owned();
        return Err(problem("a wildcard is no host", hint));
    }
    let Some(site) = SiteStatus::taking(sites, bare) else {
        return Err(problem(
            "no site of this proxy has that name",
            there_are(sites),
        ));
    };
    // A site that waits for its first certificate stores under both.
    let wanted = Some(site.scheme()).filter(|_| !site.in_the_clear);
    let wanted = wanted.unwrap_or(scheme);
    let called = Some(site.served_as(bare)).filter(|name| *name != bare);
    if scheme == wanted && called.is_none() {
        return Ok(key);
    }
    let port = port.filter(|_| scheme == wanted);
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    let name = called.unwrap_or(name);
    let found = "the site redirects from there, and stores nothing under it";
    Err(problem(found, format!("{wanted}://{name}{port}{path}")))
}

/// The key of a folder.
fn prefix(text: &str, sites: &[SiteStatus]) -> Result<Key, Problem> {
    let text = text.trim();
    let key = page(text, sites)?;
    let problem = |found: String, hint: String| Problem {
        subject: shown(text),
        found,
        hint,
    };
    let path = key.path_and_query();
    if let Some((folder, _)) = text.split_once('?') {
        let found = "a prefix has no query";
        let hint = format!("{}, or purge the URL for this page alone", shown(folder));
        return Err(problem(found.into(), hint));
    }
    if !text.ends_with('/') {
        let found = "a prefix ends in /";
        let hint = format!("{}/, or purge the URL for this page alone", shown(text));
        return Err(problem(found.into(), hint));
    }
    let folders = path.matches('/').count();
    if folders > MOST_FOLDERS {
        let found = format!("{folders} folders deep, and a prefix can be {MOST_FOLDERS}");
        let hint = "a shorter prefix purges this one too".to_owned();
        return Err(problem(found, hint));
    }
    Ok(key)
}

fn tag(text: &str) -> Result<&str, Problem> {
    let tag = text.trim();
    let found = match tag.len() {
        0 => "an empty tag",
        length if length > TAG_BYTES => "a response with so long a tag is not stored",
        _ => return Ok(tag),
    };
    Err(Problem {
        subject: format!("tag '{}'", shown(tag)),
        found: found.into(),
        hint: format!("a tag as the application sends it, 1 to {TAG_BYTES} bytes"),
    })
}

/// The first name of the site that has this one.
fn site<'a>(text: &str, sites: &'a [SiteStatus]) -> Result<&'a str, Problem> {
    let name = text.trim().to_ascii_lowercase();
    let found = SiteStatus::named(sites, &name).map(canonical);
    found.ok_or_else(|| Problem {
        subject: format!("site '{}'", shown(&name)),
        found: "no site of this proxy has that name".into(),
        hint: there_are(sites),
    })
}

fn canonical(site: &SiteStatus) -> &str {
    site.names.first().map_or("", String::as_str)
}

fn there_are(sites: &[SiteStatus]) -> String {
    let names: Vec<&str> = sites.iter().map(canonical).take(MOST_SHOWN).collect();
    match sites.len().saturating_sub(MOST_SHOWN) {
        0 if names.is_empty() => "it has no site".to_owned(),
        0 => format!("it has {}", names.join(", ")),
        more => format!("it has {} and {more} others", names.join(", ")),
    }
}

/// Fit for a terminal: no control characters, and not too long.
fn shown(text: &str) -> String {
    let visible = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut shown: String = text.chars().take(MOST_CHARACTERS).map(visible).collect();
    if text.chars().nth(MOST_CHARACTERS).is_some() {
        shown.push_str("...");
    }
    shown
}

/// What browsers percent-encode, beside what is not ASCII (RFC 3986, 2.1).
const NOT_SENT: &AsciiSet = &CONTROLS.add(b' ');
/// Bytes of URLs in one request: a thousand of usual length.
pub const MOST_BYTES: usize = 256 * 1024;
/// Things named in one request.
pub const MOST_ITEMS: usize = 1000;
/// Tags times sites: a tenth of what can be purged before older purges are folded.
const MOST_SCOPES: usize = 10_000;
/// Problems, or sites, named in one text.
const MOST_SHOWN: usize = 20;
const MOST_CHARACTERS: usize = 300;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn sites() -> Vec<SiteStatus> {
        [
            (&["www.a.example", "a.example"][..], "files"),
            (&["plain.example"], "off"),
            (&["::1"], "off"),
        ]
        .map(|(names, tls)| SiteStatus {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            tls: tls.to_owned(),
            ..SiteStatus::default()
        })
        .into()
    }

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    #[rustfmt::skip]
    fn pages() {
        for (url, wanted) in [
            ("https://www.a.example/b?c/d", Ok("https://www.a.example/b?c/d")),
            (" HTTPS://WWW.A.example:443/B%20c\n", Ok("https://www.a.example/B%20c")),
            ("https://www.a.example", Ok("https://www.a.example/")),
            ("https://www.a.example?q", Ok("https://www.a.example/?q")),
            ("https://www.a.example:8443/", Ok("https://www.a.example:8443/")),
            ("http://plain.example/", Ok("http://plain.example/")),
            ("http://[::1]:8080/b", Ok("http://[::1]:8080/b")),
            ("http://[::1]/b", Ok("http://[::1]/b")),
            ("", Err(("not a whole URL", "https://www.a.example/"))),
            ("/b", Err(("not a whole URL", "https://www.a.example/b"))),
            ("www.a.example/b", Err(("not a whole URL", "https://www.a.example/b"))),
            ("ftp://www.a.example/b", Err(("http or https", "https://www.a.example/b"))),
            ("https://www.a.example/b#c", Err(("begins with #", "https://www.a.example/b"))),
            ("https://me:pw@www.a.example/b", Err(("a user name", "https://www.a.example/b"))),
            ("https://www.a.example/b \u{e9}", Err(("as browsers", "https://www.a.example/b%20%C3%A9"))),
            ("https://m\u{fc}ller.example/", Err(("no such host", "write the host as browsers send it, beginning with xn--"))),
            ("https:///b", Err(("no such host", "a name"))),
            ("https://a b/", Err(("no such host", "a name"))),
            ("https://www.a.example:x/", Err(("no such host", "a name"))),
            ("https://b.example/", Err(("no site", "it has www.a.example, plain.example, ::1"))),
            ("https://a.example/b", Err(("redirects", "https://www.a.example/b"))),
            ("http://a.example:8080/b", Err(("redirects", "https://www.a.example/b"))),
            ("https://a.example:8443/b", Err(("redirects", "https://www.a.example:8443/b"))),
            ("http://www.a.example/b", Err(("redirects", "https://www.a.example/b"))),
            ("https://plain.example/b", Err(("redirects", "http://plain.example/b"))),
        ] {
            let request = PurgeRequest { urls: strings(&[url]), ..PurgeRequest::default() };
            match (request.check(&sites()), wanted) {
                (Ok(purge), Ok(key)) => {
                    assert_eq!(purge.pages.iter().map(Key::as_str).collect::<Vec<_>>(), [key]);
                    assert_eq!(*purge.scopes, [Scope::url(key)]);
                }
                (Err(error), Err((found, hint))) => {
                    let (problem, given) = error.split_once("\n  hint: ").unwrap();
                    assert!(problem.starts_with(&format!("nothing was purged:\n{}: ", url.trim())), "{error}");
                    assert!(problem.contains(found), "{error}");
                    assert!(given.starts_with(hint), "{error}");
                    // What is hinted at as a URL is one that will do.
                    if given.starts_with("http") {
                        let request = PurgeRequest { urls: strings(&[given]), ..PurgeRequest::default() };
                        assert!(request.check(&sites()).is_ok(), "{given}");
                    }
                }
                (found, _) => panic!("{url}: {found:?}"),
            }
        }
    }

    /// Hosts that only a wildcard takes are stored as they were asked for.
    #[test]
    #[rustfmt::skip]
    fn pages_of_many_hosts() {
        let redirected = |to| Err(("redirects", to));
        for (names, url, wanted) in [
            (&["*"][..],                    "https://b.example:1/", Ok("https://b.example:1/")),
            (&["*.a.example"],              "https://x.a.example/", Ok("https://x.a.example/")),
            (&["*.a.example"],              "http://x.a.example/",  redirected("https://x.a.example/")),
            (&["*.a.example"],              "https://x.y.a.example/", Err(("no site", "it has *.a.example"))),
            (&["*.a.example"],              "https://a.example/",   Err(("no site", "it has *.a.example"))),
            (&["*.a.example"],              "https://*.a.example/", Err(("a wildcard", "one of its hosts"))),
            (&["*.a.example"],              "/b",                   Err(("not a whole URL", "https://www.example.org/b"))),
            (&["*.a.example", "a.example"], "https://a.example/",   Ok("https://a.example/")),
            (&["a.example", "*.a.example"], "https://x.a.example/", Ok("https://x.a.example/")),
            (&["a.example", "*.a.example", "b.example"], "https://b.example/", redirected("https://a.example/")),
        ] {
            let site = SiteStatus { names: strings(names), tls: "local".into(), ..SiteStatus::default() };
            // An exact name goes before a wildcard, whatever their order.
            let other = SiteStatus { names: strings(&["own.a.example"]), tls: "off".into(), ..SiteStatus::default() };
            let request = PurgeRequest { urls: strings(&[url]), ..PurgeRequest::default() };
            match (request.check(std::slice::from_ref(&site)), wanted) {
                (Ok(purge), Ok(key)) => assert_eq!(*purge.scopes, [Scope::url(key)]),
                (Err(error), Err((found, hint))) => {
                    assert!(error.contains(found) && error.contains(&format!("hint: {hint}")), "{error}");
                }
                (found, _) => panic!("{names:?}: {url}: {found:?}"),
            }
            let request = PurgeRequest { urls: strings(&["http://own.a.example/"]), ..PurgeRequest::default() };
            assert!(request.check(&[site, other]).is_ok());
        }
    }

    /// What was stored over plain HTTP, before the first certificate came, can be purged.
    #[test]
    #[rustfmt::skip]
    fn pages_of_a_site_that_waits_for_its_first_certificate() {
        let waiting = [SiteStatus {
            names: strings(&["www.a.example", "a.example"]),
            tls: "acme".into(),
            in_the_clear: true,
            ..SiteStatus::default()
        }];
        for (url, wanted) in [
            ("http://www.a.example/b",   Ok(())),
            ("https://www.a.example/b",  Ok(())),
            ("http://a.example:8080/b",  Err("hint: http://www.a.example:8080/b")),
        ] {
            let request = PurgeRequest { urls: strings(&[url]), ..PurgeRequest::default() };
            match (request.check(&waiting), wanted) {
                (Ok(purge), Ok(())) => assert_eq!(*purge.scopes, [Scope::url(url)]),
                (Err(error), Err(hint)) => assert!(error.ends_with(hint), "{error}"),
                (found, _) => panic!("{url}: {found:?}"),
            }
        }
    }

    #[test]
    #[rustfmt::skip]
    fn prefixes() {
        let deep = |folders: usize| format!("https://www.a.example/{}", "a/".repeat(folders - 1));
        for (url, wanted) in [
            ("https://www.a.example/", Ok("https://www.a.example/")),
            ("https://WWW.a.example:443/B/c/", Ok("https://www.a.example/B/c/")),
            (&deep(16), Ok(&*deep(16))),
            (&deep(17), Err("17 folders deep")),
            ("https://www.a.example", Err("ends in /\n  hint: https://www.a.example/, or purge the URL")),
            ("https://www.a.example/b", Err("ends in /\n  hint: https://www.a.example/b/, or purge the URL")),
            ("https://www.a.example/b/?c/", Err("no query\n  hint: https://www.a.example/b/, or purge the URL")),
            ("/b/", Err("not a whole URL")),
        ] {
            let request = PurgeRequest { prefixes: strings(&[url]), ..PurgeRequest::default() };
            match (request.check(&sites()), wanted) {
                (Ok(purge), Ok(key)) => assert_eq!(*purge.scopes, [Scope::prefix(key)]),
                (Err(error), Err(wanted)) => assert!(error.contains(wanted), "{error}"),
                (found, _) => panic!("{url}: {found:?}"),
            }
        }
    }

    #[test]
    fn tags_and_sites() {
        let scopes = |tags: &[&str], sites_named: &[&str]| {
            let request = PurgeRequest {
                tags: strings(tags),
                sites: strings(sites_named),
                hard: true,
                ..PurgeRequest::default()
            };
            request.check(&sites()).map(|purge| {
                assert!(purge.hard && purge.pages.is_empty());
                purge.scopes.into_vec()
            })
        };
        let sorted = |mut list: Vec<u64>| {
            list.sort_unstable();
            Ok(list)
        };
        let names = ["www.a.example", "plain.example", "::1"];
        let everywhere = names.map(|site| Scope::tag(site, b"t"));
        assert_eq!(scopes(&["t", " t "], &[]), sorted(everywhere.into()));
        let one = Scope::tag("www.a.example", b"t");
        assert_eq!(scopes(&["t"], &["A.example"]), Ok(vec![one]));
        let whole = ["www.a.example", "plain.example"].map(Scope::site);
        let named = ["a.example", "plain.example", "www.a.example"];
        assert_eq!(scopes(&[], &named), sorted(whole.into()));
        for (tags, sites, problem) in [
            (&[" "][..], &[][..], "tag '': an empty tag"),
            (&[&*"t".repeat(1025)], &[], "so long a tag"),
            (&["t"], &["b.example"], "site 'b.example': no site of this"),
            (&[], &["b.example"], "site 'b.example': no site of this"),
        ] {
            let error = scopes(tags, sites).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn every_problem_at_once_and_nothing_purged() {
        let request = PurgeRequest {
            urls: strings(&["/b", "https://www.a.example/", "https://\u{7}x\u{1b}[31m/"]),
            prefixes: strings(&["https://www.a.example/b"]),
            tags: strings(&[""]),
            sites: strings(&["b.example", "a.example"]),
            hard: false,
        };
        let wanted = "\
nothing was purged:
/b: not a whole URL
  hint: https://www.a.example/b
https://\u{fffd}x\u{fffd}[31m/: no such host can be
  hint: a name, perhaps with a port, as in https://www.example.org:8443/
https://www.a.example/b: a prefix ends in /
  hint: https://www.a.example/b/, or purge the URL for this page alone
tag '': an empty tag
  hint: a tag as the application sends it, 1 to 1024 bytes
site 'b.example': no site of this proxy has that name
  hint: it has www.a.example, plain.example, ::1
b.example, a.example: a site beside URLs or prefixes would be purged as a whole
  hint: leave the site out, or purge it by itself";
        assert_eq!(request.check(&sites()).unwrap_err(), wanted);
    }

    #[test]
    fn bounds() {
        let urls = |count: usize, url: &str| PurgeRequest {
            urls: vec![url.to_owned(); count],
            ..PurgeRequest::default()
        };
        let none = PurgeRequest::default().check(&sites()).unwrap_err();
        assert!(none.contains("nothing was named"), "{none}");
        let purge = urls(1000, "https://www.a.example/").check(&sites());
        assert_eq!(purge.unwrap().scopes.len(), 1);
        let many = urls(1001, "https://www.a.example/").check(&sites());
        assert!(many.unwrap_err().starts_with("1001 things"));
        let bad = urls(1000, "/b").check(&sites()).unwrap_err();
        assert_eq!(bad.lines().count(), 2 + 2 * MOST_SHOWN);
        assert!(bad.ends_with("\nand 980 others"), "{bad}");
        let long = urls(1, &"x".repeat(10_000)).check(&sites()).unwrap_err();
        assert!(long.len() < 1000, "{long}");
        let many_sites: Vec<_> = (0..101)
            .map(|n| SiteStatus {
                names: vec![n.to_string()],
                ..SiteStatus::default()
            })
            .collect();
        let request = PurgeRequest {
            tags: (0..100).map(|n| n.to_string()).collect(),
            ..PurgeRequest::default()
        };
        let error = request.check(&many_sites).unwrap_err();
        assert!(error.contains("100 tags of 101 sites"), "{error}");
        let scopes = request.check(&many_sites[..100]).unwrap().scopes;
        assert_eq!(scopes.len(), MOST_SCOPES);
    }

    #[test]
    #[rustfmt::skip]
    fn in_words() {
        for (purged, hard, wanted) in [
            (0, false, "purged nothing: no stored response is concerned"),
            (1, false, "purged 1 stored response (soft: it is served once more while it is fetched anew)"),
            (2, false, "purged 2 stored responses (soft: they are served once more while they are fetched anew)"),
            (1, true, "purged 1 stored response (hard: it is not served again)"),
            (2, true, "purged 2 stored responses (hard: they are not served again)"),
        ] {
            assert_eq!(Purged::new(purged, hard), Purged { purged, message: wanted.to_owned() });
        }
    }
}
