//! Turns the file as typed into the model that the proxy runs on: texts become addresses, durations
//! and header fields, files are read, presets are laid under their sites. Notes every problem and
//! goes on with a stand-in, which nobody sees: one problem is enough for a report instead of a model.

// The authorities that certify names.
mod authority;
// What the operator adds to caching, in layers.
mod cache;
// What all certificates from authorities have in common.
mod certificates;
// How a record is put into the DNS.
mod dns;
// Header fields that may be set and removed.
mod headers;
// Host names and address blocks.
pub(crate) mod host;
// The preset that a site names.
mod preset;
// Whether names that are to be certified can be proved.
mod provable;
// Routes: paths, redirects, answers.
mod route;
// A site and the preset under it.
mod site;
// How a site's connections are secured, and the files that this needs.
mod tls;
// Upstream URLs.
mod upstream;
// Durations, sizes, addresses, files.
mod value;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model;
use crate::problem::{Key, Problems, quoted};
use crate::raw;

/// Checks a whole file. The result is only sound where no problem was noted.
pub(crate) fn file(
    raw: &raw::File,
    base: &Path,
    on: On<'_>,
    problems: &mut Problems<'_>,
) -> model::Proxy {
    let mut check = Check {
        problems,
        base,
        on,
        own_authority: raw.acme.is_some(),
    };
    let root = Key::root();
    let state = check.state(raw);
    let listen = check.listen(raw);
    let sites = check.sites(raw);
    let proxy = model::Proxy {
        admin: check.admin(raw, &state),
        state,
        drain: check
            .duration(&root.key("drain"), raw.drain.as_ref(), ZERO, HOUR)
            .unwrap_or(Duration::from_secs(30)),
        trusted: check.trusted(raw),
        cache: check.cache_bounds(raw),
        limits: check.limits(raw),
        log: check.log(raw),
        acme: check.authorities(raw),
        certificates: check.certificates(raw, &sites),
        sites,
        listen,
    };
    check.unique_names(&proxy.sites);
    check.provable(raw, &proxy);
    check.reachable(raw);
    proxy
}

/// Files by their paths.
pub(crate) type Given = BTreeMap<PathBuf, Vec<u8>>;

/// The machine whose proxy will read a configuration.
#[derive(Clone, Copy)]
pub(crate) enum On<'f> {
    /// This one.
    Here,
    /// Another one. Programs that are named lie there; files are these, or are taken there from here.
    Elsewhere(&'f Given),
}

/// What every check needs: where problems go, and the folder that relative paths count from.
pub(crate) struct Check<'c, 't> {
    pub(crate) problems: &'c mut Problems<'t>,
    pub(crate) base: &'c Path,
    pub(crate) on: On<'c>,
    /// The operator names an authority: it may certify any name.
    own_authority: bool,
}

impl<'c, 't> Check<'c, 't> {
    /// For the checks of another file that has values of the same kinds.
    pub(crate) fn of(problems: &'c mut Problems<'t>, base: &'c Path) -> Self {
        Self {
            problems,
            base,
            on: On::Here,
            own_authority: false,
        }
    }
}

impl Check<'_, '_> {
    fn state(&mut self, raw: &raw::File) -> PathBuf {
        match raw.state.as_deref() {
            Some("") => {
                self.problems.add(
                    &Key::root().key("state"),
                    "an empty path",
                    "the path of a folder",
                );
                PathBuf::new()
            }
            Some(path) => self.base.join(path),
            None => PathBuf::from("/var/lib/sovereign-proxy"),
        }
    }

    fn admin(&mut self, raw: &raw::File, state: &Path) -> PathBuf {
        let key = Key::root().key("admin");
        let Some(text) = raw.admin.as_deref() else {
            let path = state.join("admin.sock");
            self.socket_fits(&Key::root().key("state"), &path);
            return path;
        };
        match text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            Some(path) => {
                let path = self.base.join(path.strip_prefix("//").unwrap_or(path));
                self.socket_fits(&key, &path);
                path
            }
            None => {
                let wanted = "a socket such as unix:/run/sovereign-proxy/admin.sock";
                self.problems.add_with_hint(
                    &key,
                    quoted(text),
                    wanted,
                    "the admin API listens on a Unix socket only",
                );
                PathBuf::new()
            }
        }
    }

    fn trusted(&mut self, raw: &raw::File) -> Vec<model::Network> {
        let key = Key::root().key("trusted");
        each(raw.trusted.as_ref(), &key)
            .filter_map(|(key, text)| self.network(&key, text))
            .collect()
    }

    fn listen(&mut self, raw: &raw::File) -> model::Listen {
        let key = Key::root().key("listen");
        let default = raw::Listen::default();
        let listen = raw.listen.as_ref().unwrap_or(&default);
        let any = |port| SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port));
        let mut addresses =
            |raw: &Option<raw::OneOrMany<String>>, key: &Key, default: Vec<SocketAddr>| match raw {
                Some(list) => each(Some(list), key)
                    .filter_map(|(key, text)| self.address(&key, text))
                    .collect(),
                None => default,
            };
        let secured = if all_off(raw) { vec![] } else { vec![any(443)] };
        let http = addresses(&listen.http, &key.key("http"), vec![any(80)]);
        let https = addresses(&listen.https, &key.key("https"), secured);
        let metrics = listen
            .metrics
            .as_deref()
            .and_then(|text| self.address(&key.key("metrics"), text));
        self.distinct(&http, &https, metrics);
        model::Listen {
            http,
            https,
            metrics,
        }
    }

    /// One address can be bound once; port 0 is a different port every time.
    fn distinct(&mut self, http: &[SocketAddr], https: &[SocketAddr], metrics: Option<SocketAddr>) {
        let key = Key::root().key("listen");
        let mut seen: Vec<SocketAddr> = Vec::new();
        let named = http
            .iter()
            .map(|a| ("http", a))
            .chain(https.iter().map(|a| ("https", a)));
        for (name, address) in named.chain(metrics.iter().map(|a| ("metrics", a))) {
            if address.port() != 0 && seen.contains(address) {
                self.problems.add(
                    &key.key(name),
                    format!("{address} a second time"),
                    "an address of its own",
                );
            }
            seen.push(*address);
        }
    }

    fn cache_bounds(&mut self, raw: &raw::File) -> model::CacheBounds {
        let key = Key::root().key("cache");
        let default = raw::CacheBounds::default();
        let cache = raw.cache.as_ref().unwrap_or(&default);
        let memory = self.size_or_zero(
            &key.key("memory"),
            cache.memory.as_ref(),
            8 * MIB,
            MIB << 20,
        );
        let memory = memory.unwrap_or(256 * MIB);
        let disk = self.size_or_zero(&key.key("disk"), cache.disk.as_ref(), 16 * MIB, MIB << 30);
        let disk = disk.unwrap_or(10 << 30);
        // Else one body would push everything else out.
        let largest = match (memory, disk) {
            (0, _) => MIB << 20,
            (memory, 0) => memory / 16,
            (_, disk) => disk / 4,
        };
        let max_object = self.size(
            &key.key("max_object"),
            cache.max_object.as_ref(),
            KIB,
            largest,
        );
        model::CacheBounds {
            memory,
            disk,
            max_object: max_object.unwrap_or((1 << 30).min(largest)),
        }
    }

    fn limits(&mut self, raw: &raw::File) -> model::Limits {
        let key = Key::root().key("limits");
        let default = raw::Limits::default();
        let limits = raw.limits.as_ref().unwrap_or(&default);
        // Both fit: the schema bounds the counts and the next line the bytes.
        let count = |number: Option<u32>, default: u32| number.unwrap_or(default) as usize;
        let bytes = self.size(
            &key.key("header_bytes"),
            limits.header_bytes.as_ref(),
            KIB,
            MIB,
        );
        let header = self.duration(
            &key.key("header_timeout"),
            limits.header_timeout.as_ref(),
            TENTH,
            MINUTE * 5,
        );
        let idle = self.duration(
            &key.key("idle_timeout"),
            limits.idle_timeout.as_ref(),
            TENTH,
            HOUR,
        );
        model::Limits {
            connections: count(limits.connections, 20_000),
            header_bytes: bytes.unwrap_or(64 * KIB) as usize,
            header_count: count(limits.header_count, 200),
            header_timeout: header.unwrap_or(Duration::from_secs(10)),
            idle_timeout: idle.unwrap_or(Duration::from_secs(75)),
        }
    }

    fn log(&mut self, raw: &raw::File) -> model::Log {
        let key = Key::root().key("log");
        let default = raw::Log::default();
        let log = raw.log.as_ref().unwrap_or(&default);
        model::Log {
            access: self.log_target(&key.key("access"), log.access.as_deref()),
            format: match log.format {
                None | Some(raw::LogFormat::Auto) => model::LogFormat::Auto,
                Some(raw::LogFormat::Json) => model::LogFormat::Json,
                Some(raw::LogFormat::Text) => model::LogFormat::Text,
            },
            level: self.log_level(&key.key("level"), log.level.as_deref()),
        }
    }

    fn log_target(&mut self, key: &Key, text: Option<&str>) -> model::LogTarget {
        match text {
            None | Some("stdout") => model::LogTarget::Stdout,
            Some("off") => model::LogTarget::Off,
            Some(path) if path.starts_with('/') => model::LogTarget::File(path.into()),
            Some(other) => {
                self.problems.add(
                    key,
                    quoted(other),
                    "\"stdout\", \"off\" or an absolute path",
                );
                model::LogTarget::Off
            }
        }
    }

    fn log_level(&mut self, key: &Key, text: Option<&str>) -> String {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let text = text.unwrap_or("info");
        let target = |name: &str| {
            !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_:-".contains(c))
        };
        let directive = |part: &str| match part.split_once('=') {
            Some((name, level)) => target(name) && LEVELS.contains(&level),
            None => LEVELS.contains(&part),
        };
        if !text.split(',').all(|part| directive(part.trim())) {
            let wanted = "off, error, warn, info, debug or trace";
            self.problems.add_with_hint(
                key,
                quoted(text),
                wanted,
                "parts can differ: \"info,sovereign_proxy=debug\"",
            );
        }
        text.to_owned()
    }

    fn sites(&mut self, raw: &raw::File) -> Vec<model::Site> {
        let key = Key::root().key("site");
        if raw.site.as_ref().is_some_and(Vec::is_empty) && !self.problems.is_incomplete(&key) {
            self.problems
                .add(&key, "an empty list", "at least one [[site]]");
        }
        let sites = raw.site.iter().flatten().enumerate();
        sites
            .map(|(index, site)| self.site(&key.item(index), site))
            .collect()
    }

    /// A name belongs to one site.
    fn unique_names(&mut self, sites: &[model::Site]) {
        let mut first: HashMap<&str, Key> = HashMap::new();
        for (index, site) in sites.iter().enumerate() {
            let key = Key::root().key("site").item(index).key("names");
            for (position, name) in site
                .names
                .iter()
                .enumerate()
                .filter(|(_, name)| !name.is_empty())
            {
                let key = if site.names.len() == 1 {
                    key.clone()
                } else {
                    key.item(position)
                };
                match first.get(name.as_str()) {
                    Some(earlier) => {
                        let line = self.problems.line(earlier);
                        let found = format!("{} a second time", quoted(name));
                        self.problems.add_with_hint(
                            &key,
                            found,
                            "each name once",
                            format!("it is first named in line {line}"),
                        );
                    }
                    None => {
                        first.insert(name, key);
                    }
                }
            }
        }
    }

    /// Every site is reached by what is listened to, and every listener has a site.
    fn reachable(&mut self, raw: &raw::File) {
        let key = Key::root().key("listen");
        let sites = raw.site.iter().flatten().enumerate();
        let unsure = |(index, _)| {
            let site = Key::root().key("site").item(index);
            self.problems.is_incomplete(&site) || self.problems.is_incomplete(&site.key("tls"))
        };
        if sites.clone().any(unsure) || sites.count() == 0 || self.problems.is_incomplete(&key) {
            return;
        }
        let listen = raw.listen.as_ref();
        let http = listen.and_then(|listen| listen.http.as_ref());
        let https = listen.and_then(|listen| listen.https.as_ref());
        let empty = |list: &raw::OneOrMany<String>| matches!(list, raw::OneOrMany::Many(list) if list.is_empty());
        let named_none = |list: Option<&raw::OneOrMany<String>>, key: &Key| {
            list.is_some_and(empty) && !self.problems.is_incomplete(key)
        };
        let no_http = named_none(http, &key.key("http"));
        let no_https = named_none(https, &key.key("https"));
        if all_off(raw) && no_http && (https.is_none() || no_https) {
            self.problems
                .add(&key.key("http"), "no address to listen at", "at least one");
        } else if all_off(raw) && https.is_some() && !no_https {
            let hint = "remove the key, or take tls = \"off\" out of a [[site]]";
            self.problems.add_with_hint(
                &key.key("https"),
                "an address",
                "none, since every site has tls = \"off\"",
                hint,
            );
        } else if !all_off(raw) && no_https {
            let hint = "name an address, or write tls = \"off\" in every [[site]]";
            self.problems.add_with_hint(
                &key.key("https"),
                "no address",
                "one for the sites that use TLS",
                hint,
            );
        }
    }
}

/// Whether there are sites and none of them uses TLS.
fn all_off(raw: &raw::File) -> bool {
    let off = |site: &raw::Site| matches!(site.tls, Some(raw::Tls::Named(raw::TlsName::Off)));
    raw.site
        .as_ref()
        .is_some_and(|sites| !sites.is_empty() && sites.iter().all(off))
}

/// One value or each of a list, with its key.
pub(crate) fn each<'r, T>(
    raw: Option<&'r raw::OneOrMany<T>>,
    key: &Key,
) -> impl Iterator<Item = (Key, &'r T)> {
    let list: Vec<(Key, &T)> = match raw {
        None => Vec::new(),
        Some(raw::OneOrMany::One(one)) => vec![(key.clone(), one)],
        Some(raw::OneOrMany::Many(many)) => many
            .iter()
            .enumerate()
            .map(|(index, one)| (key.item(index), one))
            .collect(),
    };
    list.into_iter()
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const ZERO: Duration = Duration::ZERO;
const TENTH: Duration = Duration::from_millis(100);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
