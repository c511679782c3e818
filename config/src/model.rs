//! The configuration after it has been checked: what the proxy runs on. Stands alone so that a
//! reader of the proxy sees every value it can meet, without how it was written or checked.
//!
//! A value of these types needs no second check: addresses are parsed, files have been read,
//! names are lower case, and durations lie inside their bounds.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

/// Everything a proxy needs to run.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// The folder of certificates, keys and sockets; the proxy makes it with mode 0700.
    pub state: PathBuf,
    /// The Unix socket of the admin API.
    pub admin: PathBuf,
    /// How long a stopping proxy waits for requests under way.
    pub drain: Duration,
    /// Peers whose `Forwarded` and `X-Forwarded-*` fields are believed.
    pub trusted: Vec<Network>,
    /// Where the proxy listens.
    pub listen: Listen,
    /// The bounds of the cache.
    pub cache: CacheBounds,
    /// What one client may take.
    pub limits: Limits,
    /// Where logs go.
    pub log: Log,
    /// The certificate authorities, in the order in which they are tried; at least one.
    pub acme: Vec<Ca>,
    /// What all certificates from authorities have in common.
    pub certificates: Certificates,
    /// The sites, in the order they were written; names are unique over all of them.
    pub sites: Vec<Site>,
}

/// Listening addresses; at least one of `http` and `https` is not empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listen {
    /// Plain HTTP.
    pub http: Vec<SocketAddr>,
    /// HTTP over TLS.
    pub https: Vec<SocketAddr>,
    /// Prometheus metrics; off where none is named.
    pub metrics: Option<SocketAddr>,
}

/// The bounds of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheBounds {
    /// Bytes of memory that the cache may take: stored responses, its index, bodies on their way; 0 turns the cache off.
    pub memory: u64,
    /// Bytes of disk that stored responses may take; 0 keeps them in memory only.
    pub disk: u64,
    /// The largest body that is stored, in bytes.
    pub max_object: u64,
}

/// What one client, and all together, may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open client connections; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Bytes of a request's head; more is answered 431.
    pub header_bytes: usize,
    /// Fields in a request's head; more is answered 431.
    pub header_count: usize,
    /// How long a client may take to send a request's head, and to finish a TLS handshake.
    pub header_timeout: Duration,
    /// How long a kept connection may stay without a request.
    pub idle_timeout: Duration,
}

/// A certificate authority that speaks ACME (RFC 8555).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ca {
    /// The URL of its directory, https.
    pub directory: String,
    /// What its own server is trusted by, as a PEM file; `None`: what the system trusts.
    pub roots: Option<PathBuf>,
    /// The directory where a dry run asks; `None` where it has none.
    pub staging: Option<String>,
    /// The profile of its certificates, where a site names no other.
    pub profile: Option<String>,
    /// The account at the authority that ours is bound to (RFC 8555 section 7.3.4).
    pub eab: Option<Eab>,
    /// Its terms of service are agreed to: an operator who names an authority does. Those of the default one
    /// wait for a word.
    pub agreed: bool,
}

/// An external account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eab {
    /// Its id.
    pub kid: String,
    /// The file of its MAC key, base64url; its owner alone reads it.
    pub key: PathBuf,
}

/// What all certificates from authorities have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates {
    /// Orders under way at once, 1 to 100.
    pub orders: usize,
    /// How a record is put into the DNS for DNS-01; `None`: that challenge is not used.
    pub dns: Option<Dns>,
    /// The resolver that is asked where names lead; `None`: the system's.
    pub resolver: Option<SocketAddr>,
    /// Where proxies under one name share what they have; `None`: nothing is shared.
    pub shared: Option<Etcd>,
    /// Where what happens to certificates can be read on a site.
    pub feed: Option<Feed>,
}

/// How a record is put into the DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dns {
    /// By updates (RFC 2136) that are signed (RFC 8945).
    Update {
        /// The primary server of the zone: host or address, and port.
        server: (String, u16),
        /// The zone; `None`: found by asking for its SOA record.
        zone: Option<String>,
        /// The name of the key.
        key_name: String,
        /// How it signs.
        algorithm: TsigAlgorithm,
        /// The file of the key, base64.
        key: PathBuf,
    },
    /// By a program: its path and arguments; `present` or `remove`, the record's name and its value are added.
    Hook(Vec<String>),
}

/// How a DNS update is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TsigAlgorithm {
    /// HMAC-SHA256.
    Sha256,
    /// HMAC-SHA384.
    Sha384,
    /// HMAC-SHA512.
    Sha512,
}

/// A store that several proxies share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etcd {
    /// Its members, as URLs, http or https.
    pub endpoints: Vec<String>,
    /// What all keys begin with.
    pub prefix: String,
    /// What its servers are trusted by, as a PEM file.
    pub roots: Option<PathBuf>,
    /// Who we are: a certificate and its key, as PEM files.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Who we are: a user, and the file of the password.
    pub user: Option<(String, PathBuf)>,
}

/// Where what happens to certificates can be read on a site: `PATH/SECRET/certificates.atom`, and `.ics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    /// The canonical name of the site.
    pub site: String,
    /// An absolute path without a slash at its end.
    pub path: String,
    /// The file of the secret, 16 to 128 letters, digits, `-` and `_`.
    pub secret: PathBuf,
}

/// A site's certificates from an authority.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SiteCertificates {
    /// One for each name, in place of one for all.
    pub each: bool,
    /// Its kind of key.
    pub key: KeyKind,
    /// The key stays over renewals.
    pub pin_key: bool,
    /// The challenges that may be used, the first that can work first; empty: all.
    pub challenges: Vec<Challenge>,
    /// The authority's profile; `None`: the authority's own default, or what `[[acme]]` names.
    pub profile: Option<String>,
    /// What is served until the first certificate is there.
    pub until: Until,
}

/// A kind of key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256.
    #[default]
    Ecdsa,
    /// RSA with 2048 bits.
    Rsa,
}

/// A way to prove control of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Challenge {
    /// A file over plain HTTP (RFC 8555 section 8.3).
    Http01,
    /// A certificate in a TLS handshake (RFC 8737).
    TlsAlpn01,
    /// A record in the DNS (RFC 8555 section 8.4).
    Dns01,
    /// A record in the DNS that stays (draft-ietf-acme-dns-persist).
    DnsPersist01,
}

impl Challenge {
    /// All of them, the one that costs least first.
    pub const ALL: [Self; 4] = [
        Self::Http01,
        Self::TlsAlpn01,
        Self::Dns01,
        Self::DnsPersist01,
    ];
}

/// What is served until the first certificate is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Until {
    /// A certificate of the local authority.
    #[default]
    Local,
    /// Plain HTTP answers in place of redirecting.
    Http,
}

/// Which versions and suites of TLS are spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TlsPolicy {
    /// TLS 1.3, and 1.2 with forward secrecy and authenticated encryption.
    #[default]
    Intermediate,
    /// TLS 1.3 only.
    Modern,
}

/// Where logs go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The access log.
    pub access: LogTarget,
    /// How lines look.
    pub format: LogFormat,
    /// A `tracing` filter: a level, or `target=level` pairs.
    pub level: String,
}

/// Where one log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Appended to a file.
    File(PathBuf),
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Readable on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// Readable.
    Text,
}

/// One site: names, what stands behind them, and how it is treated.
#[derive(Debug, Clone)]
pub struct Site {
    /// Host names in lower case, without port; the first is canonical. `*.example.org` takes every name one label
    /// below `example.org`, and `*` every host that no other site names.
    pub names: Vec<String>,
    /// The preset's name, where one was named.
    pub preset: Option<String>,
    /// How its connections are secured.
    pub tls: Tls,
    /// Its certificates, where they come from an authority.
    pub certificates: SiteCertificates,
    /// Which versions of TLS it speaks.
    pub tls_policy: TlsPolicy,
    /// `Strict-Transport-Security`, ready to send; `None` sends none.
    pub hsts: Option<HeaderValue>,
    /// Where requests go that no route sends elsewhere; balanced in turn. Empty only where routes answer everything.
    pub upstream: Vec<Upstream>,
    /// How long upstreams may take.
    pub timeouts: Timeouts,
    /// How long a request waits for an upstream that restarts; zero holds nothing.
    pub hold: Duration,
    /// The page for a request that could not be served, as HTML; `None` uses the built-in one.
    pub unavailable: Option<String>,
    /// Responses of the upstream that mean "restarting, ask again".
    pub restarting: Vec<Restarting>,
    /// What the operator adds to the cache's rules.
    pub cache: CacheRules,
    /// Fields set on and removed from requests, before those of the route.
    pub request_headers: HeaderChanges,
    /// Fields set on and removed from responses, before those of the route.
    pub response_headers: HeaderChanges,
    /// Routes of the site, then those of its preset.
    pub routes: Vec<Route>,
}

/// How a site's connections are secured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// Certificates from the authorities of [`Proxy::acme`].
    Acme,
    /// A certificate of the proxy's own local authority.
    Local,
    /// Plain HTTP only.
    Off,
    /// A certificate chain and its key, both PEM; the files existed when checked.
    Files {
        /// The chain, leaf first.
        cert: PathBuf,
        /// The private key.
        key: PathBuf,
    },
}

/// One upstream server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// How it is spoken to.
    pub scheme: UpstreamScheme,
    /// Where it listens.
    pub address: UpstreamAddress,
    /// How it is known, where TLS is spoken.
    pub tls: UpstreamTls,
}

/// How an upstream behind TLS is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct UpstreamTls {
    /// The name that its certificate is for, and that it is told; `None`: its host.
    pub name: Option<String>,
    /// Authorities that are trusted beside the system's: a PEM file that was read, as DER.
    pub roots: Vec<Vec<u8>>,
}

/// The protocol spoken to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamScheme {
    /// HTTP/1.1.
    Http,
    /// HTTP/1.1 or HTTP/2 over TLS, as negotiated.
    Https,
    /// HTTP/2 without TLS.
    H2c,
}

/// Where an upstream listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UpstreamAddress {
    /// A host, by name or address (IPv6 without brackets), and a port.
    Tcp(String, u16),
    /// A Unix socket.
    Unix(PathBuf),
    /// The demonstration site inside the proxy.
    Demo,
}

/// How long an upstream may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// To accept a connection, TLS included.
    pub connect: Duration,
    /// From the request sent to the first byte of its response.
    pub first_byte: Duration,
    /// Between two reads or writes of a body or an upgraded connection.
    pub idle: Duration,
}

/// A response that means "restarting": the status, and a field whose absence tells it from a real answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restarting {
    /// The status that announces it.
    pub status: StatusCode,
    /// It only counts where this field is absent.
    pub without: Option<HeaderName>,
}

/// What the operator adds to what the origin says about caching.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRules {
    /// False: nothing is looked up or stored.
    pub enabled: bool,
    /// A lifetime for responses that give none, or give zero while calling themselves public.
    pub lifetime: Option<Duration>,
    /// How long after its lifetime a response may be served while it is refreshed in the background.
    pub stale: Option<Duration>,
    /// How long a stale response may stand in for an upstream that fails and gave no `stale-if-error`.
    pub stale_if_error: Duration,
    /// Cookies that mark one visitor's session: a request with one of them bypasses the cache in both directions.
    pub session_cookies: BTreeSet<String>,
    /// Stored pages are compressed for clients that can read it.
    pub compress: bool,
    /// What is stored on disk is never given up for another site's.
    pub keep: bool,
    /// The response field by which the application says what has changed.
    pub invalidate_by: Option<HeaderName>,
}

/// Fields to set and to remove; removal comes first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    /// Replaced, or added where absent.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Removed.
    pub remove: Vec<HeaderName>,
}

/// What happens below one path.
#[derive(Debug, Clone)]
pub struct Route {
    /// Which paths it takes.
    pub path: PathPattern,
    /// Where those are sent who ask for the path itself, by language tags in lower case; `*` stands for all others,
    /// and a target that is the path itself for staying. Empty where nobody is sent, and with a pattern that is a glob.
    pub languages: Vec<(String, String)>,
    /// What is done with them.
    pub action: Action,
    /// Only clients with a certificate of one of these authorities are let in: a PEM file that was read, as DER.
    pub client_ca: Option<Vec<Vec<u8>>>,
    /// How many of its requests the upstream works on at once; `None`: any number.
    pub at_once: Option<u32>,
    /// What the operator adds to caching here: the site's rules with the route's laid over them.
    pub cache: CacheRules,
    /// Fields set on and removed from requests.
    pub request_headers: HeaderChanges,
    /// Fields set on and removed from responses.
    pub response_headers: HeaderChanges,
}

/// What a route does.
#[derive(Debug, Clone)]
pub enum Action {
    /// Hands the request on, to these upstreams or, where empty, to the site's.
    Forward(Vec<Upstream>),
    /// Sends the client elsewhere.
    Redirect {
        /// An absolute URL or an absolute path; `{path}` and `{query}` stand for the request's own (`{query}` with its `?`).
        to: String,
        /// 301, 302, 303, 307 or 308.
        status: StatusCode,
    },
    /// Answers by itself.
    Answer {
        /// The status.
        status: StatusCode,
        /// The body, with its file already read.
        body: Vec<u8>,
        /// `Content-Type`.
        content_type: HeaderValue,
    },
}

/// A path pattern. Compared with the path as received, percent-encoding included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathPattern {
    /// The path itself and nothing else. No configuration writes it: the proxy tells the path of a route with languages
    /// from what lies below.
    Exact(String),
    /// The path itself and everything below it, on segment borders; `/` takes all.
    Prefix(String),
    /// A pattern for the whole path in which `*` stands for any characters, `/` included.
    Glob(String),
}

/// An address block in CIDR form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Its first address.
    pub address: IpAddr,
    /// How many leading bits count.
    pub prefix: u8,
}

impl Network {
    /// Whether `ip` lies inside; IPv4 addresses mapped into IPv6 count as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address.to_canonical(), ip.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let bits = 32 - u32::from(self.prefix.min(32));
                u32::from(net).checked_shr(bits).unwrap_or(0)
                    == u32::from(ip).checked_shr(bits).unwrap_or(0)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let bits = 128 - u32::from(self.prefix.min(128));
                u128::from(net).checked_shr(bits).unwrap_or(0)
                    == u128::from(ip).checked_shr(bits).unwrap_or(0)
            }
            _ => false,
        }
    }
}

impl PathPattern {
    /// Whether `path` (no query) is taken.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => path.strip_prefix(prefix.as_str()).is_some_and(|rest| {
                rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/')
            }),
            Self::Glob(pattern) => glob(pattern.as_bytes(), path.as_bytes()),
        }
    }

    /// Its weight among patterns that match: the number of literal characters. The longest wins.
    pub fn literal_len(&self) -> usize {
        match self {
            Self::Exact(path) | Self::Prefix(path) => path.len(),
            Self::Glob(pattern) => pattern.bytes().filter(|byte| *byte != b'*').count(),
        }
    }
}

impl Upstream {
    /// The upstream as a person writes it: `http://127.0.0.1:2368`, `http+unix:///run/app.sock`, `demo`.
    pub fn display(&self) -> String {
        let scheme = match self.scheme {
            UpstreamScheme::Http => "http",
            UpstreamScheme::Https => "https",
            UpstreamScheme::H2c => "h2c",
        };
        match &self.address {
            UpstreamAddress::Tcp(host, port) if host.contains(':') => {
                format!("{scheme}://[{host}]:{port}")
            }
            UpstreamAddress::Tcp(host, port) => format!("{scheme}://{host}:{port}"),
            UpstreamAddress::Unix(path) => format!("{scheme}+unix://{}", path.display()),
            UpstreamAddress::Demo => "demo".into(),
        }
    }
}

impl Site {
    /// The name that the others redirect to. Where it begins with `*` there is none, and every host is served as
    /// it was asked for.
    pub fn canonical(&self) -> &str {
        &self.names[0]
    }
}

/// Iterative matching with one point of return: linear for one star, quadratic at worst, never exponential.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            back = Some((p + 1, t));
            p += 1;
        } else if p < pattern.len() && pattern[p] == text[t] {
            p += 1;
            t += 1;
        } else if let Some((star, from)) = back {
            p = star;
            t = from + 1;
            back = Some((star, from + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}
