//! Upstream URLs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Check, each};
use crate::model::{Upstream, UpstreamAddress, UpstreamScheme, UpstreamTls};
use crate::problem::{Key, did_you_mean, quoted};
use crate::raw::{self, OneOrMany};

impl Check<'_, '_> {
    /// One or several upstreams, the value of `upstream` in the table `of`, with how they are known.
    pub(super) fn upstreams(
        &mut self,
        of: &Key,
        raw: Option<&OneOrMany<String>>,
        tls: Option<&raw::UpstreamTls>,
    ) -> Vec<Upstream> {
        let key = &of.key("upstream");
        let tls_key = of.key("upstream_tls");
        let known = tls.map(|tls| self.upstream_tls(&tls_key, tls));
        let mut upstreams = self.plain_upstreams(key, raw);
        let Some(known) = known else {
            return upstreams;
        };
        let secured = |upstream: &&mut Upstream| upstream.scheme == UpstreamScheme::Https;
        let mut any = false;
        for upstream in upstreams.iter_mut().filter(secured) {
            upstream.tls = known.clone();
            any = true;
        }
        if !any && !self.problems.is_incomplete(key) && !upstreams.is_empty() {
            let found = "upstream_tls beside no https upstream";
            let wanted = "an upstream such as https://10.0.0.1";
            self.problems.add(&tls_key, found, wanted);
        } else if raw.is_none() && !self.problems.is_incomplete(key) {
            let found = "upstream_tls without upstream";
            self.problems
                .add(&tls_key, found, "upstream in the same table");
        }
        upstreams
    }

    fn upstream_tls(&mut self, key: &Key, raw: &raw::UpstreamTls) -> UpstreamTls {
        let name = raw.name.as_deref().map(|text| {
            let name = text.to_ascii_lowercase();
            if !super::host::is_host(&name) && name.parse::<IpAddr>().is_err() {
                let wanted = "a host name such as www.example.org";
                self.problems.add(&key.key("name"), quoted(text), wanted);
            }
            name
        });
        let roots = self.roots(&key.key("roots"), raw.roots.as_deref());
        UpstreamTls {
            name,
            roots: roots.unwrap_or_default(),
        }
    }

    fn plain_upstreams(&mut self, key: &Key, raw: Option<&OneOrMany<String>>) -> Vec<Upstream> {
        if let Some(OneOrMany::Many(list)) = raw
            && list.is_empty()
            && !self.problems.is_incomplete(key)
        {
            self.problems.add(key, "an empty list", WANTED);
        }
        each(raw, key)
            .filter_map(|(key, text)| self.upstream(&key, text))
            .collect()
    }

    fn upstream(&mut self, key: &Key, text: &str) -> Option<Upstream> {
        match parse(text) {
            Ok(upstream) => {
                if let UpstreamAddress::Unix(path) = &upstream.address {
                    self.socket_fits(key, path);
                }
                Some(upstream)
            }
            Err(hint) if hint.is_empty() => {
                self.problems.add(key, quoted(text), WANTED);
                None
            }
            Err(hint) => {
                self.problems.add_with_hint(key, quoted(text), WANTED, hint);
                None
            }
        }
    }
}

/// Reads a URL; the error is a hint, which may be empty.
fn parse(text: &str) -> Result<Upstream, String> {
    if text == "demo" {
        return Ok(Upstream {
            scheme: UpstreamScheme::Http,
            address: UpstreamAddress::Demo,
            tls: UpstreamTls::default(),
        });
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(match authority(text) {
            Some(_) => format!("begin with the scheme: http://{text}"),
            None => String::new(),
        });
    };
    let scheme = match scheme {
        "http" => UpstreamScheme::Http,
        "https" => UpstreamScheme::Https,
        "h2c" => UpstreamScheme::H2c,
        "http+unix" => return unix(rest),
        "http+onion" => return Err("onion upstreams are not in this version".to_owned()),
        other => {
            return Err(match did_you_mean(other, SCHEMES) {
                Some(meant) => format!("did you mean {meant}://?"),
                None => format!("the schemes are {}", SCHEMES.join(", ")),
            });
        }
    };
    let host = rest.strip_suffix('/').unwrap_or(rest);
    if host.contains('@') {
        return Err("a user name or password has no place here; set the authorization field in request_headers".to_owned());
    }
    if host.contains(['/', '?', '#']) {
        return Err("end it after the host and port; the path of the request is kept".to_owned());
    }
    let (host, port) = authority(host).ok_or_else(String::new)?;
    let default = if scheme == UpstreamScheme::Https {
        443
    } else {
        80
    };
    Ok(Upstream {
        scheme,
        address: UpstreamAddress::Tcp(host, port.unwrap_or(default)),
        tls: UpstreamTls::default(),
    })
}

fn unix(path: &str) -> Result<Upstream, String> {
    if path.starts_with('/') && path.len() > 1 && !path.ends_with('/') {
        let address = UpstreamAddress::Unix(path.into());
        return Ok(Upstream {
            scheme: UpstreamScheme::Http,
            address,
            tls: UpstreamTls::default(),
        });
    }
    Err("a socket is written http+unix:///run/app.sock, with three slashes".to_owned())
}

/// Host and port; an IPv6 address loses its brackets.
fn authority(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(inner) => {
            let (address, rest) = inner.split_once(']')?;
            (address.parse::<Ipv6Addr>().ok()?.to_string(), rest)
        }
        None => {
            let end = text.find(':').unwrap_or(text.len());
            let (host, rest) = text.split_at(end);
            let host = host.to_ascii_lowercase();
            // Names in container networks may hold an underscore, which DNS names may not.
            let known =
                host.parse::<Ipv4Addr>().is_ok() || super::host::is_host(&host.replace('_', "-"));
            (known.then_some(host)?, rest)
        }
    };
    let port = match port.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse().ok().filter(|port| *port != 0)?)
        }
        Some(_) => return None,
        None if port.is_empty() => None,
        None => return None,
    };
    Some((host, port))
}

const WANTED: &str = "a URL such as http://127.0.0.1:2368";
const SCHEMES: [&str; 4] = ["http", "https", "h2c", "http+unix"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_read_and_display() {
        let table = [
            ("http://127.0.0.1:2368", "http://127.0.0.1:2368"),
            ("http://App_1", "http://app_1:80"),
            ("https://example.org/", "https://example.org:443"),
            ("h2c://[::1]:50051", "h2c://[::1]:50051"),
            ("http+unix:///run/app.sock", "http+unix:///run/app.sock"),
            ("demo", "demo"),
        ];
        for (text, shown) in table {
            assert_eq!(
                parse(text).map(|upstream| upstream.display()),
                Ok(shown.to_owned())
            );
        }
    }

    #[test]
    fn what_is_no_upstream_is_refused() {
        for text in [
            "",
            "http://",
            "http://a b",
            "http://a:0",
            "http://a:65536",
            "http://a:+1",
            "http://[::1",
            "http://1.2.3",
            "http://a/b",
            "http://u:p@a",
            "ftp://a",
            "http+unix://run/a",
            "localhost:80",
            "http://::1:80",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
