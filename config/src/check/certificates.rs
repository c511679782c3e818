//! `[certificates]`: what all certificates from authorities have in common.

use std::path::PathBuf;

use http::Uri;

use super::{Check, each};
use crate::model;
use crate::problem::{Key, quoted};
use crate::raw;

impl Check<'_, '_> {
    /// What all certificates have in common; `sites` is complete.
    pub(super) fn certificates(
        &mut self,
        raw: &raw::File,
        sites: &[model::Site],
    ) -> model::Certificates {
        let key = Key::root().key("certificates");
        let default = raw::Certificates::default();
        let all = raw.certificates.as_ref().unwrap_or(&default);
        model::Certificates {
            // The schema bounds it.
            orders: all.orders.unwrap_or(4) as usize,
            dns: all
                .dns
                .as_ref()
                .and_then(|dns| self.dns(&key.key("dns"), dns)),
            resolver: all
                .resolver
                .as_deref()
                .and_then(|text| self.address(&key.key("resolver"), text)),
            shared: all
                .shared
                .as_ref()
                .and_then(|etcd| self.etcd(&key.key("shared"), etcd)),
            feed: all
                .feed
                .as_ref()
                .and_then(|feed| self.feed(&key.key("feed"), feed, sites)),
        }
    }

    fn feed(&mut self, key: &Key, raw: &raw::Feed, sites: &[model::Site]) -> Option<model::Feed> {
        let site = raw.site.as_deref().map(str::to_ascii_lowercase);
        if let Some(site) = &site {
            self.feed_site(&key.key("site"), site, sites);
        }
        let path = raw.path.as_deref();
        if let Some(path) = path {
            self.feed_path(&key.key("path"), path);
        }
        let secret = self.secret(
            &key.key("secret"),
            raw.secret.as_deref(),
            "a secret of 16 to 128 letters, digits, - and _",
            |text| {
                let known = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
                (16..=128).contains(&text.len()) && text.bytes().all(known)
            },
        );
        Some(model::Feed {
            site: site?,
            path: path?.to_owned(),
            secret: secret?,
        })
    }

    fn feed_site(&mut self, key: &Key, name: &str, sites: &[model::Site]) {
        let list = Key::root().key("site");
        let of_name = |site: &&model::Site| site.names.iter().any(|own| own == name);
        let (found, hint) = match sites.iter().find(of_name) {
            Some(site) if site.tls == model::Tls::Off => {
                let hint = "the secret would pass in the clear";
                (
                    format!("{}, which has tls = \"off\"", quoted(name)),
                    hint.to_owned(),
                )
            }
            Some(site) if site.names.first().is_some_and(|first| first == name) => return,
            Some(site) => {
                let first = site.names.first().map_or("", String::as_str);
                (quoted(name), format!("its first name is {first}"))
            }
            // What was left out of the sites may be the one.
            None if self.problems.is_incomplete(&list) => return,
            None => {
                let names = sites.iter().filter_map(|site| site.names.first());
                let names: Vec<&str> = names
                    .map(String::as_str)
                    .filter(|n| !n.is_empty())
                    .collect();
                (quoted(name), format!("the sites are {}", names.join(", ")))
            }
        };
        self.problems
            .add_with_hint(key, found, "the first name of a site with TLS", hint);
    }

    fn feed_path(&mut self, key: &Key, path: &str) {
        let known = |b: u8| b.is_ascii_alphanumeric() || b"/-_.~".contains(&b);
        let sound = path.starts_with('/')
            && !path.ends_with('/')
            && !path.contains("//")
            && !path.split('/').any(|part| part == "." || part == "..")
            && path.len() <= 256
            && path.bytes().all(known);
        if !sound {
            let wanted = "a path such as /news";
            let hint = "it begins with a slash and ends without one";
            self.problems.add_with_hint(key, quoted(path), wanted, hint);
        }
    }

    fn etcd(&mut self, key: &Key, raw: &raw::Etcd) -> Option<model::Etcd> {
        let (cert, user) = (("cert", raw.cert.is_some()), ("user", raw.user.is_some()));
        self.together(key, cert, ("key", raw.key.is_some()));
        self.together(key, user, ("password", raw.password.is_some()));
        let cert = self.pem(&key.key("cert"), raw.cert.as_deref(), "CERTIFICATE");
        let own = self.private_key(&key.key("key"), raw.key.as_deref());
        let password: Option<PathBuf> = self.secret(
            &key.key("password"),
            raw.password.as_deref(),
            "a password in one line",
            |text| !text.is_empty() && !text.contains(['\n', '\r']),
        );
        Some(model::Etcd {
            endpoints: self.endpoints(&key.key("etcd"), raw),
            prefix: self.prefix(&key.key("prefix"), raw.prefix.as_deref()),
            roots: self.pem(&key.key("roots"), raw.roots.as_deref(), "CERTIFICATE"),
            identity: cert.zip(own),
            user: raw.user.clone().zip(password),
        })
    }

    fn endpoints(&mut self, key: &Key, raw: &raw::Etcd) -> Vec<String> {
        if matches!(&raw.etcd, Some(raw::OneOrMany::Many(list)) if list.is_empty())
            && !self.problems.is_incomplete(key)
        {
            self.problems.add(key, "an empty list", ENDPOINT);
        }
        each(raw.etcd.as_ref(), key)
            .filter_map(|(key, text)| self.endpoint(&key, text))
            .collect()
    }

    fn prefix(&mut self, key: &Key, text: Option<&str>) -> String {
        let prefix = text.unwrap_or("/sovereign");
        let sound = prefix.starts_with('/')
            && !prefix.ends_with('/')
            && prefix.len() <= 200
            && prefix.bytes().all(|b| b.is_ascii_graphic());
        if !sound {
            let hint = "it begins with a slash and ends without one";
            let wanted = "a prefix such as /sovereign";
            self.problems
                .add_with_hint(key, quoted(prefix), wanted, hint);
        }
        prefix.to_owned()
    }

    /// Two keys that mean nothing alone.
    fn together(&mut self, key: &Key, one: (&str, bool), other: (&str, bool)) {
        let (there, missing) = match (one.1, other.1) {
            (true, false) => (one.0, other.0),
            (false, true) => (other.0, one.0),
            _ => return,
        };
        if !self.problems.is_incomplete(&key.key(missing)) {
            let hint = format!("{there} means nothing without it");
            self.problems
                .add_with_hint(&key.key(missing), "nothing", "both or none", hint);
        }
    }

    /// A member of the cluster. Private keys pass there, so plain http stays on this host.
    fn endpoint(&mut self, key: &Key, text: &str) -> Option<String> {
        let bare = text.strip_suffix('/').unwrap_or(text);
        let uri = bare.parse::<Uri>().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
        let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        let near = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
        let scheme = uri.as_ref().and_then(Uri::scheme_str).unwrap_or_default();
        let hint = match scheme {
            _ if bare.contains('@') => "a user goes into user and password",
            "http" if !near => "private keys pass there: use https, or a tunnel from 127.0.0.1",
            "http" | "https" if bare.matches('/').count() == 2 && !bare.contains(['?', '#']) => {
                return Some(bare.to_owned());
            }
            "http" | "https" => "write the address alone, without a path",
            _ => "begin with https://",
        };
        self.problems
            .add_with_hint(key, quoted(text), ENDPOINT, hint);
        None
    }
}

const ENDPOINT: &str = "a URL such as https://10.0.0.1:2379";
