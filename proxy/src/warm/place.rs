//! Where a site is, and which references lead to its pages.

use std::net::SocketAddr;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::cache::key::Key;
use crate::downstream::split_authority;
use crate::status::{SiteStatus, Status};

/// A site of the running proxy.
#[derive(Debug, Clone)]
pub struct Place {
    /// The name that its pages are served by, with a port where one was named.
    pub name: String,
    /// Every host whose pages are served by that name.
    names: Vec<Box<str>>,
    port: Option<u16>,
    front: Key,
    /// What the operator should know of the port.
    pub note: Option<String>,
}

/// No site has the name that was asked for.
#[derive(Debug, thiserror::Error)]
#[error("no site has the name {name:?}; {known}")]
pub struct UnknownSite {
    name: String,
    known: String,
}

/// Where a reference leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leads {
    /// To a page of the site, by the scheme and name that its pages are served by.
    Here(Key),
    /// To another site.
    Elsewhere,
    /// To nothing that could be fetched.
    Nowhere,
}

impl Place {
    /// Finds the site that has a name. `site` may carry the port that visitors name, which is part of
    /// what a page is stored by. Where it does not, it is the usual one, or the one that the proxy
    /// listens on where only this machine can be a visitor.
    pub fn find(status: &Status, site: &str) -> Result<Self, UnknownSite> {
        let unknown = || UnknownSite {
            name: site.to_owned(),
            known: match site.starts_with('*') {
                true => "each host below a wildcard is warmed by itself: name one".to_owned(),
                false => known(status),
            },
        };
        let (host, port) = split_authority(site).ok_or_else(unknown)?;
        let found = SiteStatus::taking(&status.sites, &host).ok_or_else(unknown)?;
        let (canonical, scheme) = (found.served_as(&host), found.scheme());
        let (port, note) = match port {
            Some(_) => (port, None),
            None => unnamed(status, scheme, canonical),
        };
        let name = authority(canonical, port);
        let front = Key::new(scheme, &name, "/").ok_or_else(unknown)?;
        let mut names: Vec<Box<str>> = vec![canonical.into()];
        let others = found.names.iter().filter(|name| *name != canonical);
        let others = others.filter(|name| found.served_as(name) == canonical);
        names.extend(others.map(|name| name.as_str().into()));
        Ok(Self {
            name,
            names,
            port,
            front,
            note,
        })
    }

    /// The front page.
    pub fn front(&self) -> &Key {
        &self.front
    }

    /// Where `reference`, which stands in the document `from`, leads. A page that it names by
    /// another name of the site is the page that visitors are sent to from there.
    pub fn leads(&self, from: &Key, reference: &str) -> Leads {
        let reference = reference.trim();
        if reference.is_empty() || reference.len() > LONGEST {
            return Leads::Nowhere;
        }
        let Some(key) = from.resolve(&escaped(reference)) else {
            return Leads::Nowhere;
        };
        let Some((scheme, authority)) = key.origin().split_once("://") else {
            return Leads::Nowhere;
        };
        if !matches!(scheme, "http" | "https") {
            return Leads::Nowhere;
        }
        match split_authority(authority) {
            Some((host, port))
                if self.names.contains(&host) && (port.is_none() || port == self.port) =>
            {
                let (scheme, path) = (self.scheme(), key.path_and_query());
                Key::new(scheme, &self.name, path).map_or(Leads::Nowhere, Leads::Here)
            }
            _ => Leads::Elsewhere,
        }
    }

    fn scheme(&self) -> &str {
        let scheme = self.front.origin().split_once("://");
        scheme.map_or("https", |(scheme, _)| scheme)
    }
}

/// The port where the operator named none, and what is to be said of it.
fn unnamed(status: &Status, scheme: &str, name: &str) -> (Option<u16>, Option<String>) {
    let listening = || {
        let mut listeners = status.listeners.iter();
        std::iter::from_fn(move || {
            listeners.find_map(|listener| {
                let (role, address) = listener.split_once(' ')?;
                let address = address.parse::<SocketAddr>().ok()?;
                (role == scheme).then_some(address)
            })
        })
    };
    let usual = if scheme == "https" { 443 } else { 80 };
    let Some(port) = listening().next().map(|address| address.port()) else {
        return (None, None);
    };
    if listening().any(|address| address.port() == usual) {
        return (None, None);
    }
    if listening().all(|address| address.ip().is_loopback()) {
        return (Some(port), None);
    }
    let note = format!(
        "the proxy listens on port {port}: where visitors name it, warm {}",
        authority(name, Some(port))
    );
    (None, Some(note))
}

/// A reference as it is sent: characters that a URI does not have are percent-encoded (RFC 3987
/// section 3.1). What is encoded already stays.
pub fn escaped(reference: &str) -> String {
    utf8_percent_encode(reference, UNSAFE).to_string()
}

fn authority(host: &str, port: Option<u16>) -> String {
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    match port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

fn known(status: &Status) -> String {
    let names: Vec<_> = status
        .sites
        .iter()
        .filter_map(|site| site.names.first())
        .map(String::as_str)
        .collect();
    match names.as_slice() {
        [] => "the running proxy has no site".to_owned(),
        names if names.len() > LISTED => format!(
            "its sites are {}, and {} more",
            names[..LISTED].join(", "),
            names.len() - LISTED
        ),
        names => format!("its sites are {}", names.join(", ")),
    }
}

/// What `PathAndQuery` refuses, and what browsers encode.
const UNSAFE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');
/// The longest reference that is followed, in bytes.
const LONGEST: usize = 8 * 1024;
/// How many sites an error names.
const LISTED: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn sites_are_found_by_any_of_their_names() {
        let status = status(&[("off", &["www.a.example", "a.example"]), ("local", &["b.example"])]);
        let table = [
            ("www.a.example",   Ok("http://www.a.example/")),
            ("A.example",       Ok("http://www.a.example/")),
            ("b.example",       Ok("https://b.example/")),
            ("b.example:8443",  Ok("https://b.example:8443/")),
            ("b.example:443",   Ok("https://b.example/")),
            ("c.example",       Err("no site has the name \"c.example\"; its sites are www.a.example, b.example")),
            ("https://b.example/", Err("no site has the name \"https://b.example/\"; its sites are www.a.example, b.example")),
            ("",                Err("no site has the name \"\"; its sites are www.a.example, b.example")),
        ];
        finds(&status, &table);
    }

    #[test]
    #[rustfmt::skip]
    fn a_host_below_a_wildcard_is_asked_for_itself() {
        let status = status(&[
            ("local", &["*.a.example"]),
            ("off", &["own.a.example"]),
            ("local", &["*.b.example", "b.example"]),
            ("local", &["c.example", "*.c.example", "d.example"]),
        ]);
        let known = "its sites are *.a.example, own.a.example, *.b.example, c.example";
        finds(&status, &[
            ("x.a.example",   Ok("https://x.a.example/")),
            ("own.a.example", Ok("http://own.a.example/")),
            ("b.example",     Ok("https://b.example/")),
            ("x.c.example",   Ok("https://x.c.example/")),
            ("d.example",     Ok("https://c.example/")),
            ("a.example",     Err(&format!("no site has the name \"a.example\"; {known}"))),
            ("x.y.a.example", Err(&format!("no site has the name \"x.y.a.example\"; {known}"))),
            ("*.a.example",   Err("no site has the name \"*.a.example\"; each host below a wildcard is warmed by itself: name one")),
        ]);
        for (site, here, elsewhere) in [
            ("x.a.example", "https://x.a.example/y", "https://y.a.example/"),
            ("x.c.example", "https://x.c.example/y", "https://c.example/"),
            ("c.example",   "https://d.example/y",   "https://x.c.example/"),
            ("b.example",   "https://b.example/y",   "https://x.b.example/"),
        ] {
            let place = Place::find(&status, site).unwrap();
            let page = Leads::Here(place.front().resolve("/y").unwrap());
            assert_eq!(place.leads(place.front(), here), page, "{site}");
            assert_eq!(place.leads(place.front(), elsewhere), Leads::Elsewhere, "{site}");
        }
    }

    fn finds(status: &Status, table: &[(&str, Result<&str, &str>)]) {
        for (name, want) in table {
            let found = Place::find(status, name);
            let found = found.map(|place| place.front().as_str().to_owned());
            let want = want.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(found.map_err(|error| error.to_string()), want, "{name}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn the_port_that_visitors_name() {
        let note = Some("the proxy listens on port 8443: where visitors name it, warm a.example:8443");
        let table: &[(&[&str], &str, &str, Option<&str>)] = &[
            (&["http [::]:80", "https [::]:443"],                              "a.example",      "https://a.example/",      None),
            (&["https [::]:8443", "https [::]:443"],                           "a.example",      "https://a.example/",      None),
            (&["http 127.0.0.1:443", "https 127.0.0.1:8443", "https [::1]:8443"], "a.example",   "https://a.example:8443/", None),
            (&["https 127.0.0.1:8443", "https 0.0.0.0:8443"],                  "a.example",      "https://a.example/",      note),
            (&["https 0.0.0.0:8443"],                                          "a.example:8443", "https://a.example:8443/", None),
            (&["https 127.0.0.1:8443"],                                        "a.example:443",  "https://a.example/",      None),
            (&[],                                                              "a.example",      "https://a.example/",      None),
            (&["https ?"],                                                     "a.example",      "https://a.example/",      None),
        ];
        for (listeners, site, front, note) in table {
            let status = Status {
                listeners: listeners.iter().map(|&listener| listener.to_owned()).collect(),
                ..status(&[("local", &["a.example"])])
            };
            let place = Place::find(&status, site).unwrap();
            assert_eq!(place.front().as_str(), *front, "{listeners:?}");
            assert_eq!(place.note.as_deref(), *note, "{listeners:?}");
        }
    }

    #[test]
    fn a_site_that_takes_every_host_is_asked_for_the_one_that_was_named() {
        let status = status(&[("local", &["*"]), ("off", &["b.example"])]);
        let place = Place::find(&status, "x.example").unwrap();
        assert_eq!(place.front().as_str(), "https://x.example/");
        assert_eq!(
            place.leads(place.front(), "https://y.example/"),
            Leads::Elsewhere
        );
        let place = Place::find(&status, "b.example").unwrap();
        assert_eq!(place.front().as_str(), "http://b.example/");
    }

    #[test]
    #[rustfmt::skip]
    fn references() {
        let status = status(&[("local", &["www.a.example", "a.example"])]);
        let place = Place::find(&status, "a.example").unwrap();
        let table = [
            ("/x",                           Some("https://www.a.example/x")),
            (" /x#y\n",                      Some("https://www.a.example/x")),
            ("y?z",                          Some("https://www.a.example/feeds/y?z")),
            ("https://www.a.example/x",      Some("https://www.a.example/x")),
            ("http://A.example/x",           Some("https://www.a.example/x")),
            ("//a.example",                  Some("https://www.a.example/")),
            ("https://a.example:443/",       Some("https://www.a.example/")),
            ("/caf\u{e9}/a b|\"<>",          Some("https://www.a.example/caf%C3%A9/a%20b%7C%22%3C%3E")),
            ("/caf%C3%A9?q=%20&r=[1]",       Some("https://www.a.example/caf%C3%A9?q=%20&r=[1]")),
            ("https://a.example:8443/",      None),
            ("https://a.example.evil/x",     None),
            ("https://b.example/x",          None),
        ];
        let from = Key::new("https", "www.a.example", "/feeds/atom").unwrap();
        for (reference, want) in table {
            let want = want.map_or(Leads::Elsewhere, |want| Leads::Here(place.front().resolve(want).unwrap()));
            assert_eq!(place.leads(&from, reference), want, "{reference}");
        }
        for reference in ["", "mailto:x@a.example", "ftp://a.example/", "javascript:void(0)", "https://user@a.example/"] {
            assert_eq!(place.leads(&from, reference), Leads::Nowhere, "{reference}");
        }
    }

    fn status(sites: &[(&str, &[&str])]) -> Status {
        let site = |(tls, names): &(&str, &[&str])| SiteStatus {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            tls: (*tls).to_owned(),
            ..SiteStatus::default()
        };
        Status {
            sites: sites.iter().map(site).collect(),
            ..Status::default()
        }
    }
}
