//! The names that a certificate covers, in the shape that a request's host is looked up in.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};

/// The hosts that a connection's certificate covers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CoveredNames {
    everything: bool,
    exact: HashSet<Box<str>>,
    /// `example.org` for `*.example.org`.
    wildcards: HashSet<Box<str>>,
    addresses: HashSet<IpAddr>,
}

impl CoveredNames {
    /// Host names, wildcards (`*.example.org`) and IP addresses, as a certificate lists them.
    pub fn new<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Self {
        let mut covered = Self::default();
        for name in names {
            covered.insert(name.as_ref());
        }
        covered
    }

    /// Covers every host: for the site that takes all hosts no other site names.
    pub fn everything() -> Self {
        Self {
            everything: true,
            ..Self::default()
        }
    }

    /// Whether a request for `host` belongs on the connection. `host` is without a port; IPv6
    /// addresses with or without brackets.
    pub fn covers(&self, host: &str) -> bool {
        if self.everything {
            return true;
        }
        if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return self.covers_lower(&host.to_ascii_lowercase());
        }
        self.covers_lower(host)
    }

    fn covers_lower(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        self.exact.contains(host)
            || (!self.wildcards.is_empty()
                && parent(host).is_some_and(|parent| self.wildcards.contains(parent)))
            || (!self.addresses.is_empty()
                && address(host).is_some_and(|ip| self.addresses.contains(&ip)))
    }

    /// Whether a site's name is covered: as [`covers`](Self::covers), and a wildcard by the same wildcard.
    pub(super) fn covers_site_name(&self, name: &str) -> bool {
        match name.strip_prefix("*.") {
            Some(parent) => self.everything || self.wildcards.contains(parent),
            None => self.covers(name),
        }
    }

    pub(super) fn insert(&mut self, name: &str) {
        let name = name.to_ascii_lowercase();
        if let Some(ip) = address(&name) {
            self.addresses.insert(ip);
        } else if let Some(parent) = name.strip_prefix("*.") {
            self.wildcards.insert(parent.into());
        } else {
            self.exact.insert(name.into());
        }
    }
}

/// What a wildcard over `host` would have to stand under: one label less, if two are left.
pub(super) fn parent(host: &str) -> Option<&str> {
    let (label, parent) = host.split_once('.')?;
    (!label.is_empty() && !parent.is_empty()).then_some(parent)
}

/// An IP address, with or without brackets; IPv4 mapped into IPv6 counts as IPv4.
pub(super) fn address(host: &str) -> Option<IpAddr> {
    let ip = match host.strip_prefix('[') {
        Some(rest) => IpAddr::V6(rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?),
        None => host.parse().ok()?,
    };
    Some(ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::CoveredNames;

    #[test]
    fn a_host_is_covered_by_name_by_wildcard_over_one_label_or_by_address() {
        let names = CoveredNames::new([
            "example.org",
            "WWW.Example.org",
            "*.blog.example.org",
            "203.0.113.9",
            "2001:db8::1",
        ]);
        for (host, covered) in [
            ("example.org", true),
            ("EXAMPLE.org", true),
            ("example.org.", true),
            ("www.example.org", true),
            ("mail.example.org", false),
            ("a.blog.example.org", true),
            ("A.BLOG.example.org", true),
            ("a.b.blog.example.org", false),
            ("blog.example.org", false),
            (".blog.example.org", false),
            ("*.blog.example.org", true),
            ("203.0.113.9", true),
            ("203.0.113.10", false),
            ("::ffff:203.0.113.9", true),
            ("2001:db8::1", true),
            ("2001:DB8:0::1", true),
            ("[2001:db8::1]", true),
            ("[2001:db8::1", false),
            ("[203.0.113.9]", false),
            ("[2001:db8::2]", false),
            ("org", false),
            ("", false),
            (".", false),
        ] {
            assert_eq!(names.covers(host), covered, "{host:?}");
        }
    }

    #[test]
    fn everything_covers_everything_and_nothing_covers_nothing() {
        assert!(CoveredNames::everything().covers("any.example"));
        assert!(CoveredNames::everything().covers("[::1]"));
        assert!(!CoveredNames::default().covers("any.example"));
        assert!(!CoveredNames::default().covers(""));
    }

    #[test]
    fn a_star_in_a_certificate_is_not_everything() {
        assert!(!CoveredNames::new(["*"]).covers("example.org"));
        assert!(!CoveredNames::new(["*.org"]).covers("a.example.org"));
    }

    #[test]
    fn a_wildcard_site_needs_the_same_wildcard() {
        let names = CoveredNames::new(["*.example.org", "a.example.com"]);
        assert!(names.covers_site_name("*.example.org"));
        assert!(names.covers_site_name("a.example.org"));
        assert!(!names.covers_site_name("*.example.com"));
        assert!(!names.covers_site_name("*.a.example.org"));
    }
}
