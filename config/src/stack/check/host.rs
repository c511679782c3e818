//! Data centres and hosts, and the home of each site.

use std::net::IpAddr;

use super::Check;
use crate::check::host::is_host;
use crate::problem::{Key, quoted};
use crate::stack::{model, raw};

impl Check<'_, '_> {
    /// The data centres: one of them is the primary.
    pub(super) fn datacentres(&mut self, raw: &raw::File) -> Vec<model::Datacentre> {
        let key = Key::root().key("datacentre");
        let list = raw.datacentre.iter().flatten().enumerate();
        let found: Vec<model::Datacentre> = list
            .map(|(index, raw)| model::Datacentre {
                name: match raw.name.as_deref() {
                    Some(name) => self.label(&key.item(index).key("name"), name),
                    None => String::new(),
                },
                role: match raw.role {
                    Some(raw::Role::Primary) => model::Role::Primary,
                    Some(raw::Role::Mirror) | None => model::Role::Mirror,
                },
            })
            .collect();
        self.nonempty(&key, raw.datacentre.as_deref());
        self.unique(
            keys(&found, &key, |datacentre| &datacentre.name)
                .iter()
                .map(|(key, name)| (key, *name)),
            "",
        );
        self.one_primary(raw, &key);
        found
    }

    fn one_primary(&mut self, raw: &raw::File, key: &Key) {
        let list = raw.datacentre.as_deref().unwrap_or_default();
        let unsure = |index: usize| {
            let one = key.item(index);
            self.problems.is_incomplete(&one) || self.problems.is_incomplete(&one.key("role"))
        };
        let any_unsure = (0..list.len()).any(unsure) || self.problems.is_incomplete(key);
        let is_primary =
            |(_, one): &(usize, &raw::Datacentre)| one.role == Some(raw::Role::Primary);
        let mut primaries = list
            .iter()
            .enumerate()
            .filter(is_primary)
            .map(|(index, _)| index);
        let wanted = "exactly one with role = \"primary\"";
        let Some(first) = primaries.next() else {
            let silent = list.is_empty() || any_unsure || list.iter().any(|one| one.role.is_none());
            if !silent {
                let hint = "services run in the primary; mirrors serve its sites from their caches";
                self.problems.add_with_hint(key, "no primary", wanted, hint);
            }
            return;
        };
        let line = self.problems.line(&key.item(first).key("role"));
        for other in primaries {
            let hint = format!("the first is in line {line}");
            self.problems.add_with_hint(
                &key.item(other).key("role"),
                "another primary",
                wanted,
                hint,
            );
        }
    }

    /// The hosts.
    pub(super) fn hosts(
        &mut self,
        raw: &raw::File,
        datacentres: &[model::Datacentre],
    ) -> Vec<model::Host> {
        let key = Key::root().key("host");
        let list = raw.host.iter().flatten().enumerate();
        let found: Vec<model::Host> = list
            .map(|(index, raw)| self.host(&key.item(index), raw, datacentres))
            .collect();
        self.nonempty(&key, raw.host.as_deref());
        self.unique(
            keys(&found, &key, |host| &host.name)
                .iter()
                .map(|(key, name)| (key, *name)),
            "",
        );
        let destinations: Vec<String> = found
            .iter()
            .map(|host| match host.port {
                Some(port) if !host.ssh.is_empty() => format!("{}:{port}", host.ssh),
                _ => host.ssh.clone(),
            })
            .collect();
        let places: Vec<Key> = (0..found.len())
            .map(|index| key.item(index).key("ssh"))
            .collect();
        self.unique(
            places.iter().zip(destinations.iter().map(String::as_str)),
            "; two hosts are two machines",
        );
        self.reached_by_mirrors(raw, &found, datacentres);
        found
    }

    fn host(
        &mut self,
        key: &Key,
        raw: &raw::Host,
        datacentres: &[model::Datacentre],
    ) -> model::Host {
        let datacentre = raw.datacentre.clone().unwrap_or_default();
        if raw.datacentre.is_some() {
            self.datacentre(&key.key("datacentre"), &datacentre, datacentres);
        }
        let destination = raw
            .ssh
            .as_deref()
            .and_then(|text| self.destination(&key.key("ssh"), text));
        let destination = destination.unwrap_or_default();
        model::Host {
            name: match raw.name.as_deref() {
                Some(name) => self.label(&key.key("name"), name),
                None => String::new(),
            },
            datacentre,
            address: match raw.address.as_deref() {
                Some(text) => self.reached_at(&key.key("address"), text),
                None => destination.host.clone(),
            },
            ssh: match destination.user {
                Some(user) => format!("{user}@{}", destination.host),
                None => destination.host,
            },
            port: destination.port,
            engine: match raw.engine {
                None | Some(raw::Engine::Docker) => model::Engine::Docker,
                Some(raw::Engine::Swarm) => model::Engine::Swarm,
            },
            proxy: match raw.proxy {
                None | Some(raw::ProxyAs::Systemd) => model::ProxyAs::Systemd,
                Some(raw::ProxyAs::Container) => model::ProxyAs::Container,
            },
        }
    }

    /// The name of a data centre leads to one.
    fn datacentre(&mut self, key: &Key, name: &str, datacentres: &[model::Datacentre]) -> bool {
        let known = datacentres.iter().map(|one| one.name.as_str());
        if known.clone().any(|one| one == name) {
            return true;
        }
        let all = Key::root().key("datacentre");
        let unsure = self.problems.is_incomplete(&all) || known.clone().any(str::is_empty);
        if !unsure && !datacentres.is_empty() {
            self.leads_nowhere(key, name, "the name of a [[datacentre]]", known);
        }
        false
    }

    fn destination(&mut self, key: &Key, text: &str) -> Option<Destination> {
        let found = destination(text);
        if found.is_none() {
            let hint = if text.contains("://") {
                "write it without a scheme"
            } else {
                "[user@]host[:port], an IPv6 address in brackets, or an alias of ~/.ssh/config"
            };
            let wanted = "a destination such as root@192.0.2.1";
            self.problems.add_with_hint(key, quoted(text), wanted, hint);
        }
        found
    }

    fn reached_at(&mut self, key: &Key, text: &str) -> String {
        let lower = text.to_ascii_lowercase();
        if !is_host(&lower) && lower.parse::<IpAddr>().is_err() {
            let hint = "without scheme, port and brackets";
            self.problems
                .add_with_hint(key, quoted(text), "a host name or an address", hint);
        }
        lower
    }

    /// A mirror asks the primary's hosts: an alias of OpenSSH's tells it nothing.
    fn reached_by_mirrors(
        &mut self,
        raw: &raw::File,
        hosts: &[model::Host],
        datacentres: &[model::Datacentre],
    ) {
        let of = |role| datacentres.iter().filter(move |one| one.role == role);
        let mirrored = of(model::Role::Mirror)
            .any(|mirror| hosts.iter().any(|host| host.datacentre == mirror.name));
        let Some(primary) = of(model::Role::Primary).next().filter(|_| mirrored) else {
            return;
        };
        let alias = |name: &str| !name.contains('.') && name.parse::<IpAddr>().is_err();
        for (index, (host, raw)) in hosts.iter().zip(raw.host.iter().flatten()).enumerate() {
            let key = Key::root().key("host").item(index).key("address");
            let unsure = raw.address.is_some()
                || self.problems.is_incomplete(&key)
                || host.address.is_empty();
            if host.datacentre == primary.name && !unsure && alias(&host.address) {
                let hint = format!("{} is only known to OpenSSH here", quoted(&host.address));
                let wanted = "where the mirrors reach it: a host name or an address";
                self.problems.add_with_hint(&key, "nothing", wanted, hint);
            }
        }
    }

    /// The data centre of each site: one where services run, and where there is a host to run them.
    pub(super) fn homes(
        &mut self,
        raw: &raw::File,
        datacentres: &[model::Datacentre],
        hosts: &[model::Host],
    ) -> Vec<Option<String>> {
        let primary = datacentres
            .iter()
            .find(|one| one.role == model::Role::Primary);
        let sites = raw.site.iter().flatten().enumerate();
        sites
            .map(|(index, site)| {
                let site_key = Key::root().key("site").item(index);
                let key = site_key.key("datacentre");
                let home = match site.datacentre.as_deref() {
                    Some(name) => self
                        .datacentre(&key, name, datacentres)
                        .then(|| name.to_owned())?,
                    None if self.problems.is_incomplete(&key) => return None,
                    None => primary?.name.clone(),
                };
                let found = datacentres.iter().find(|one| one.name == home);
                let mirror = found.filter(|one| one.role == model::Role::Mirror);
                if let (Some(_), Some(primary)) = (mirror, primary) {
                    let found = format!("{}, a mirror", quoted(&home));
                    let hint = "a mirror's proxies serve every site of the primary";
                    let wanted = format!("the primary, {}", quoted(&primary.name));
                    self.problems.add_with_hint(&key, found, wanted, hint);
                    return None;
                }
                let unsure = self.problems.is_incomplete(&Key::root().key("host"))
                    || hosts.is_empty()
                    || hosts.iter().any(|host| host.datacentre.is_empty());
                if !unsure && !hosts.iter().any(|host| host.datacentre == home) {
                    let found = format!("{}, where there is no host", quoted(&home));
                    let hint = format!("add a [[host]] with datacentre = {}", quoted(&home));
                    self.problems
                        .add_with_hint(&key, found, "a data centre with a host", hint);
                }
                Some(home)
            })
            .collect()
    }

    fn nonempty<T>(&mut self, key: &Key, list: Option<&[T]>) {
        if list.is_some_and(<[T]>::is_empty) && !self.problems.is_incomplete(key) {
            let wanted = format!("at least one [[{}]]", key.as_str());
            self.problems.add(key, "an empty list", wanted);
        }
    }
}

/// The names of a list, and where they stand.
fn keys<'l, T>(list: &'l [T], key: &Key, name: impl Fn(&'l T) -> &'l str) -> Vec<(Key, &'l str)> {
    let one = |(index, member)| (key.item(index).key("name"), name(member));
    list.iter().enumerate().map(one).collect()
}

/// Where OpenSSH finds a host.
#[derive(Debug, Default, PartialEq, Eq)]
struct Destination {
    user: Option<String>,
    host: String,
    port: Option<u16>,
}

/// Reads `[user@]host[:port]`. Nothing in it begins with a hyphen: OpenSSH would take it for an option.
fn destination(text: &str) -> Option<Destination> {
    let plain = |text: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        !text.is_empty() && !text.starts_with('-') && text.chars().all(inner)
    };
    let (user, place) = match text.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, text),
    };
    if user.is_some_and(|user| !plain(user)) {
        return None;
    }
    let (host, port) = match place.strip_prefix('[') {
        Some(inner) => {
            let (address, rest) = inner.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (
                address,
                rest.strip_prefix(':')
                    .or_else(|| rest.is_empty().then_some(""))?,
            )
        }
        None if place.parse::<std::net::Ipv6Addr>().is_ok() => (place, ""),
        None => {
            let (host, port) = place.split_once(':').unwrap_or((place, ""));
            if !plain(host) || place.ends_with(':') {
                return None;
            }
            (host, port)
        }
    };
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    let port = match port {
        "" => None,
        port => Some(
            port.parse::<u16>()
                .ok()
                .filter(|port| digits && *port != 0)?,
        ),
    };
    Some(Destination {
        user: user.map(str::to_owned),
        host: host.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read_and_options_are_refused() {
        for (text, user, host, port) in [
            ("h1", None, "h1", None),
            ("root@10.77.0.11", Some("root"), "10.77.0.11", None),
            (
                "root@host.example:2222",
                Some("root"),
                "host.example",
                Some(2222),
            ),
            ("[2001:db8::1]:22", None, "2001:db8::1", Some(22)),
            ("admin@[2001:db8::1]", Some("admin"), "2001:db8::1", None),
            ("2001:db8::1", None, "2001:db8::1", None),
        ] {
            let found = destination(text).expect(text);
            assert_eq!(
                (found.user.as_deref(), found.host.as_str(), found.port),
                (user, host, port)
            );
        }
        for text in [
            "",
            "-oProxyCommand=x",
            "root@-x",
            "-l@h",
            "h:",
            "h:0",
            "h:70000",
            "a b",
            "ssh://h",
            "@h",
            "[h]:22",
            "[::1]22",
            "h:+1",
        ] {
            assert_eq!(destination(text), None, "{text}");
        }
    }
}
