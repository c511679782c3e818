//! How a record is put into the DNS: by signed updates, or by a program.

use super::host::is_host;
use super::{Check, On};
use crate::model::{self, TsigAlgorithm};
use crate::problem::{Key, quoted};
use crate::raw;

impl Check<'_, '_> {
    /// One of the two ways.
    pub(super) fn dns(&mut self, key: &Key, raw: &raw::Dns) -> Option<model::Dns> {
        if self.problems.is_incomplete(&key.key("server"))
            || self.problems.is_incomplete(&key.key("hook"))
        {
            return None;
        }
        match (raw.server.as_deref(), raw.hook.as_deref()) {
            (Some(server), hook) => {
                if hook.is_some() {
                    let found = "hook beside server";
                    self.problems
                        .add(&key.key("hook"), found, "one of server and hook");
                }
                self.update(key, raw, server)
            }
            (None, Some(hook)) => {
                self.hook_alone(key, raw);
                self.hook(&key.key("hook"), hook)
            }
            (None, None) => {
                let wanted = "a server such as ns1.example.org, or hook = [\"/path/program\"]";
                self.problems.add(&key.key("server"), "nothing", wanted);
                None
            }
        }
    }

    fn update(&mut self, key: &Key, raw: &raw::Dns, server: &str) -> Option<model::Dns> {
        self.signed(key, raw);
        let server = self.dns_server(&key.key("server"), server);
        let mut name = |name: &str, text: Option<&str>, wanted| {
            text.map(|text| self.dns_name(&key.key(name), text, wanted))
        };
        let zone = name("zone", raw.zone.as_deref(), "a zone such as example.org");
        let key_name = name("key_name", raw.key_name.as_deref(), "the name of a key");
        let wanted = "a key in base64";
        let path = self.secret(&key.key("key"), raw.key.as_deref(), wanted, is_base64);
        Some(model::Dns::Update {
            server: server?,
            zone,
            key_name: key_name?,
            algorithm: match raw.algorithm {
                None | Some(raw::TsigAlgorithm::Sha256) => TsigAlgorithm::Sha256,
                Some(raw::TsigAlgorithm::Sha384) => TsigAlgorithm::Sha384,
                Some(raw::TsigAlgorithm::Sha512) => TsigAlgorithm::Sha512,
            },
            key: path?,
        })
    }

    fn signed(&mut self, key: &Key, raw: &raw::Dns) {
        for (name, is_there, wanted) in [
            ("key_name", raw.key_name.is_some(), "the name of a key"),
            ("key", raw.key.is_some(), "the path of a file"),
        ] {
            if !is_there && !self.problems.is_incomplete(&key.key(name)) {
                let hint = "servers take updates that are signed";
                self.problems
                    .add_with_hint(&key.key(name), "nothing", wanted, hint);
            }
        }
    }

    /// What only an update knows has no effect beside a hook.
    fn hook_alone(&mut self, key: &Key, raw: &raw::Dns) {
        let idle = [
            ("zone", raw.zone.is_some()),
            ("key_name", raw.key_name.is_some()),
            ("algorithm", raw.algorithm.is_some()),
            ("key", raw.key.is_some()),
        ];
        for (name, _) in idle.into_iter().filter(|(_, is_there)| *is_there) {
            let hint = "the program knows by itself where the record goes";
            let found = format!("{name} beside hook");
            self.problems
                .add_with_hint(&key.key(name), found, "a hook alone", hint);
        }
    }

    fn hook(&mut self, key: &Key, hook: &[String]) -> Option<model::Dns> {
        use std::os::unix::fs::PermissionsExt;
        let wanted = "a program such as /usr/local/bin/dns-record, then its arguments";
        let Some(program) = hook.first() else {
            if !self.problems.is_incomplete(key) {
                self.problems.add(key, "an empty list", wanted);
            }
            return None;
        };
        let found = match std::fs::metadata(program) {
            _ if !program.starts_with('/') => "which is no absolute path",
            _ if matches!(self.on, On::Elsewhere(_)) => {
                return Some(model::Dns::Hook(hook.to_vec()));
            }
            Err(_) => "which does not exist or may not be read",
            Ok(meta) if !meta.is_file() => "which is no file",
            Ok(meta) if meta.permissions().mode() & 0o111 == 0 => "which is not executable",
            Ok(_) => return Some(model::Dns::Hook(hook.to_vec())),
        };
        self.problems.add(
            &key.item(0),
            format!("{}, {found}", quoted(program)),
            wanted,
        );
        None
    }

    /// A host or an address, and perhaps a port.
    fn dns_server(&mut self, key: &Key, text: &str) -> Option<(String, u16)> {
        const DNS: u16 = 53;
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<std::net::IpAddr>() {
            return Some((address.to_string(), DNS));
        }
        if let Ok(address) = text.parse::<std::net::SocketAddr>() {
            return Some((address.ip().to_string(), address.port()));
        }
        let lower = text.to_ascii_lowercase();
        let (host, port) = match lower.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)),
            None => (lower.as_str(), Some(DNS)),
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        match port {
            Some(port) if is_host(host) => Some((host.to_owned(), port)),
            _ => {
                let wanted = "a server such as ns1.example.org or 192.0.2.53:53";
                self.problems.add(key, quoted(text), wanted);
                None
            }
        }
    }

    /// A name as the DNS takes it: wider than that of a host. A dot at its end is of no account.
    fn dns_name(&mut self, key: &Key, text: &str, wanted: &str) -> String {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let known = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(known);
        if name.len() > 253 || !name.split('.').all(label) {
            self.problems.add(key, quoted(text), wanted);
        }
        name
    }
}

fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let known = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    !body.is_empty() && text.len().is_multiple_of(4) && body.bytes().all(known)
}
