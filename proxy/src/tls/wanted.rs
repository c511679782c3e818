//! Which certificates the configuration asks of an authority.

use std::hash::Hasher as _;

use sovereign_config::model::{Challenge, KeyKind, Site, Tls, Until};
use twox_hash::XxHash3_64;

use super::names::address;

/// A certificate that the configuration asks of an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What it is called in files, logs and metrics: its first name, fit for a file.
    pub id: Box<str>,
    /// The canonical name of its site.
    pub site: Box<str>,
    /// Host names in lower case, wildcards, addresses without brackets; at least one.
    pub names: Vec<String>,
    /// Its kind of key.
    pub key: KeyKind,
    /// The key stays over renewals.
    pub pin_key: bool,
    /// The authority's profile; `None`: what the authority's table says, or its own default.
    pub profile: Option<String>,
    /// The challenges that may be used; empty: all.
    pub challenges: Vec<Challenge>,
    /// What is served until it is there.
    pub until: Until,
}

/// All of them, in the order of the sites.
pub fn wanted(sites: &[Site]) -> Vec<Wanted> {
    sites.iter().flat_map(of_site).collect()
}

/// Those of one site: one for all its names, or one for each.
pub(super) fn of_site(site: &Site) -> Vec<Wanted> {
    let names = names(site);
    if site.tls != Tls::Acme || names.is_empty() {
        return Vec::new();
    }
    if site.certificates.each {
        let each = names.into_iter().map(|name| one(site, vec![name]));
        return each.collect();
    }
    vec![one(site, names)]
}

fn one(site: &Site, names: Vec<String>) -> Wanted {
    let settings = &site.certificates;
    Wanted {
        id: id(names.first().map_or("", String::as_str)),
        site: site.names.first().map_or("", String::as_str).into(),
        names,
        key: settings.key,
        pin_key: settings.pin_key,
        profile: settings.profile.clone(),
        challenges: settings.challenges.clone(),
        until: settings.until,
    }
}

/// What an authority can certify of a site's names, each once. `*` is no name.
fn names(site: &Site) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(site.names.len());
    for name in site.names.iter().filter(|name| *name != "*") {
        let name = match address(name) {
            Some(ip) => ip.to_string(),
            None => name.to_ascii_lowercase(),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Names are unique over all sites, so ids are; `_`, which no host name has, stands for `*`.
fn id(name: &str) -> Box<str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
    let safe: String = name
        .chars()
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    if safe.is_empty() || safe.starts_with('.') {
        return format!("_{safe}").into();
    }
    if safe.len() <= LONGEST {
        return safe.into();
    }
    // What is cut off is told apart by its hash. All of it is ASCII.
    let mut hash = XxHash3_64::new();
    hash.write(safe.as_bytes());
    format!("{}-{:016x}", &safe[..LONGEST], hash.finish()).into()
}

/// A file's name has room for 255 bytes; a temporary file's is longer than the id, and a host name
/// may have 253.
const LONGEST: usize = 180;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::fixtures::site;
    use super::*;

    #[test]
    fn a_site_asks_for_one_certificate_or_for_one_a_name() {
        let together = site(&["www.a.example", "a.example", "203.0.113.9"], Tls::Acme);
        let mut each = site(&["*.b.example", "b.example", "[2001:db8::1]"], Tls::Acme);
        each.certificates.each = true;
        each.certificates.key = KeyKind::Rsa;
        let sites = [together, each, site(&["c.example"], Tls::Local)];

        let wanted = wanted(&sites);
        let ids: Vec<_> = wanted.iter().map(|one| &*one.id).collect();
        assert_eq!(
            ids,
            ["www.a.example", "_.b.example", "b.example", "2001:db8::1"]
        );
        assert_eq!(
            wanted[0].names,
            ["www.a.example", "a.example", "203.0.113.9"]
        );
        assert_eq!(wanted[1].names, ["*.b.example"]);
        assert_eq!(wanted[3].names, ["2001:db8::1"]);
        assert!(wanted[1..].iter().all(|one| &*one.site == "*.b.example"));
        assert_eq!(
            (wanted[0].key, wanted[1].key),
            (KeyKind::Ecdsa, KeyKind::Rsa)
        );
    }

    #[test]
    fn a_name_is_asked_for_once_and_every_host_is_no_name() {
        let names = [
            "A.example",
            "a.example",
            "*",
            "::ffff:192.0.2.1",
            "192.0.2.1",
        ];
        assert_eq!(
            wanted(&[site(&names, Tls::Acme)])[0].names,
            ["a.example", "192.0.2.1"]
        );
        assert!(wanted(&[site(&["*"], Tls::Acme)]).is_empty());
        assert!(wanted(&[site(&[], Tls::Acme)]).is_empty());
    }

    #[test]
    fn an_id_is_a_file_name_and_nothing_else() {
        for (name, wanted) in [
            ("a.example", "a.example"),
            ("*.a.example", "_.a.example"),
            ("2001:db8::1", "2001:db8::1"),
            ("../../etc", "_.._.._etc"),
            ("..", "_.."),
            ("", "_"),
        ] {
            assert_eq!(&*id(name), wanted);
        }
        let long = |last| id(&format!("{}{last}", "a.".repeat(125)));
        assert!(long("x").len() < 200);
        assert_ne!(long("x"), long("y"));
        assert_eq!(long("x"), long("x"));
    }
}
