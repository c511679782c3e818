//! `proxy.toml` as it is typed, before anything is checked. The one source of which keys there
//! are: the JSON Schema is made from these types, their doc comments are its descriptions, and
//! `shape` walks the file against it. Every key is optional here, so that one bad key hides no other.

// What concerns certificates from authorities.
mod certificates;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::shape::Refused;

pub(crate) use certificates::{
    Ca, Certificates, Challenge, Dns, Eab, Etcd, Feed, KeyKind, SiteCertificates, TlsPolicy,
    TsigAlgorithm, Until,
};

/// Keys that a later version will know.
pub(crate) const REFUSED: &[Refused] = &[
    Refused::later("tor", "remove the table"),
    Refused::later("site[].onion", "remove the key"),
];

/// The configuration of one proxy. Everything but one `[[site]]` with its names and its upstream has a default.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "proxy.toml")]
pub(crate) struct File {
    /// The folder of certificates, keys and sockets, made with mode 0700. A relative path counts from the folder of this file. Default: "/var/lib/sovereign-proxy".
    pub(crate) state: Option<String>,
    /// The socket of the admin API. Default: "unix:STATE/admin.sock".
    #[schemars(title = "a socket such as unix:/run/sovereign-proxy/admin.sock")]
    pub(crate) admin: Option<String>,
    /// How long a stopping proxy waits for requests under way, 0s to 1h. Default: "30s".
    pub(crate) drain: Option<Duration>,
    /// Proxies in front of this one, whose Forwarded and X-Forwarded-* fields are believed. Default: none.
    #[schemars(title = "an address block such as 10.0.0.0/8")]
    pub(crate) trusted: Option<OneOrMany<String>>,
    /// Where the proxy listens.
    pub(crate) listen: Option<Listen>,
    /// The bounds of the cache.
    pub(crate) cache: Option<CacheBounds>,
    /// What clients may take.
    pub(crate) limits: Option<Limits>,
    /// Where logs go.
    pub(crate) log: Option<Log>,
    /// Authorities that speak ACME, tried in this order; to name one is to agree to its terms of service. Default: Let's Encrypt, once its terms are agreed to.
    #[schemars(title = "tables such as [[acme]]")]
    pub(crate) acme: Option<Vec<Ca>>,
    /// What all certificates from authorities have in common.
    pub(crate) certificates: Option<Certificates>,
    /// The sites. At least one.
    #[schemars(required, title = "at least one [[site]]")]
    pub(crate) site: Option<Vec<Site>>,
}

/// Where the proxy listens. An address is written with its port; `[::]` takes IPv4 as well.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listen {
    /// Plain HTTP. Default: `"[::]:80"`.
    #[schemars(title = "an address such as [::]:80")]
    pub(crate) http: Option<OneOrMany<String>>,
    /// HTTP over TLS. Default: `"[::]:443"`, or none where every site has tls = "off".
    #[schemars(title = "an address such as [::]:443")]
    pub(crate) https: Option<OneOrMany<String>>,
    /// Prometheus metrics. Default: off.
    #[schemars(title = "an address such as 127.0.0.1:9180")]
    pub(crate) metrics: Option<String>,
}

/// The bounds of the cache.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CacheBounds {
    /// Memory that the cache may take for all it does: "0", which turns the cache off, or 8MiB to 1TiB. Default: "256MiB".
    pub(crate) memory: Option<Size>,
    /// The disk that stored responses may take, in the folder `cache` of `state`: "0" keeps them in memory only, else 16MiB to 1024TiB. Default: "10GiB".
    pub(crate) disk: Option<Size>,
    /// The largest body that is stored, 1KiB or more and at most a quarter of `disk`, or without a disk a sixteenth of `memory`. Default: "1GiB", or that much.
    pub(crate) max_object: Option<Size>,
}

/// What clients may take.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    /// Open client connections; further ones wait in the kernel's queue. Default: 20000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) connections: Option<u32>,
    /// The size of a request's head, 1KiB to 1MiB; more is answered 431. Default: "64KiB".
    pub(crate) header_bytes: Option<Size>,
    /// Fields in a request's head; more is answered 431. Default: 200.
    #[schemars(range(min = 10, max = 10_000))]
    pub(crate) header_count: Option<u32>,
    /// How long a client may take to send a request's head or to finish a TLS handshake, 100ms to 5m. Default: "10s".
    pub(crate) header_timeout: Option<Duration>,
    /// How long a kept connection may stay without a request, 100ms to 1h. Default: "75s".
    pub(crate) idle_timeout: Option<Duration>,
}

/// Where logs go.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    /// The access log: "stdout", "off" or the absolute path of a file. Default: "stdout".
    #[schemars(title = "\"stdout\", \"off\" or an absolute path")]
    pub(crate) access: Option<String>,
    /// How lines look. Default: "auto".
    pub(crate) format: Option<LogFormat>,
    /// A level (off, error, warn, info, debug, trace), or `target=level` pairs with commas between them. Default: "info".
    pub(crate) level: Option<String>,
}

/// How log lines look.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Readable on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// Readable.
    Text,
}

/// One site: its names, what stands behind it, and how it is treated.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Site {
    /// Host names without port; the first is canonical. "*.example.org" takes every name one label below it, and "*" every host that no other site names: these are served under the name that was asked for.
    #[schemars(required, title = "host names such as www.example.org")]
    pub(crate) names: Option<OneOrMany<String>>,
    /// A named set of rules that knows the application: "btcpay", "forge", "ghost", "nextcloud", "nostr" or "radicale". Keys written here win over it. Default: none.
    #[schemars(title = "the name of a preset")]
    pub(crate) preset: Option<String>,
    /// How connections are secured. Default: "acme", or "local" for "*" and, where no `[[acme]]` is named, for names that no public authority certifies, such as localhost, nas.local and 192.168.1.5.
    pub(crate) tls: Option<Tls>,
    /// Which versions of TLS are spoken. Default: "intermediate".
    pub(crate) tls_policy: Option<TlsPolicy>,
    /// Its certificates from an authority.
    pub(crate) certificates: Option<SiteCertificates>,
    /// The servers behind the site; several take turns. Required unless a route takes every path.
    #[schemars(title = "a URL such as http://127.0.0.1:2368")]
    pub(crate) upstream: Option<OneOrMany<String>>,
    /// How the servers of `upstream` are known, where its URLs begin with https.
    pub(crate) upstream_tls: Option<UpstreamTls>,
    /// Strict-Transport-Security: true (one year), false, or a lifetime of 0s to 3650d. Default: true where `tls` names files, false otherwise.
    pub(crate) hsts: Option<Hsts>,
    /// How long upstreams may take.
    pub(crate) timeouts: Option<Timeouts>,
    /// How long a request waits for an upstream that restarts, 0s to 5m; "0s" holds nothing. Default: "15s".
    pub(crate) hold: Option<Duration>,
    /// An HTML file of at most 256KiB for requests that could not be served. Default: a built-in page.
    pub(crate) unavailable: Option<String>,
    /// Responses of the upstream that mean "restarting, ask again". Default: none.
    #[schemars(title = "a list such as [{ status = 503 }]")]
    pub(crate) restarting: Option<Vec<Restarting>>,
    /// What the operator adds to what the origin says about caching.
    pub(crate) cache: Option<CacheRules>,
    /// Fields to set on and remove from requests.
    pub(crate) request_headers: Option<HeaderChanges>,
    /// Fields to set on and remove from responses.
    pub(crate) response_headers: Option<HeaderChanges>,
    /// What happens below certain paths; the pattern with the most literal characters wins.
    #[schemars(title = "tables such as [[site.route]]")]
    pub(crate) route: Option<Vec<Route>>,
}

/// What a preset may say: the keys of a site but its names, upstream and TLS.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Preset {
    /// As in a site.
    pub(crate) timeouts: Option<Timeouts>,
    /// As in a site.
    pub(crate) hold: Option<Duration>,
    /// As in a site.
    pub(crate) restarting: Option<Vec<Restarting>>,
    /// As in a site.
    pub(crate) cache: Option<CacheRules>,
    /// As in a site.
    pub(crate) request_headers: Option<HeaderChanges>,
    /// As in a site.
    pub(crate) response_headers: Option<HeaderChanges>,
    /// As in a site.
    pub(crate) route: Option<Vec<Route>>,
}

/// How connections are secured.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Tls {
    /// Without files.
    Named(TlsName),
    /// With a certificate of the operator's own.
    Files(TlsFiles),
}

/// How connections are secured without files.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TlsName {
    /// Certificates from the authorities of `[[acme]]`.
    Acme,
    /// A certificate of the proxy's own local authority.
    Local,
    /// Plain HTTP only.
    Off,
}

/// A certificate of the operator's own.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "{ cert = \"FILE\", key = \"FILE\" }")]
pub(crate) struct TlsFiles {
    /// The certificate chain in PEM, leaf first.
    #[schemars(required, title = "the path of a PEM file")]
    pub(crate) cert: Option<String>,
    /// The private key in PEM, readable by its owner or group only.
    #[schemars(required, title = "the path of a PEM file")]
    pub(crate) key: Option<String>,
}

/// Strict-Transport-Security.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Hsts {
    /// One year, or not at all.
    Switch(bool),
    /// For this long.
    Lifetime(Duration),
}

/// How long upstreams may take.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Timeouts {
    /// To accept a connection, TLS included, 10ms to 5m. Default: "5s".
    pub(crate) connect: Option<Duration>,
    /// From the request sent to the first byte of its response, 10ms to 1h. Default: "60s".
    pub(crate) first_byte: Option<Duration>,
    /// Between two reads or writes of a body or an upgraded connection, 10ms to 1d. Default: "60s".
    pub(crate) idle: Option<Duration>,
}

/// How upstreams behind TLS are known.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpstreamTls {
    /// The name that their certificates are for, which they are told as well (SNI). Default: the host of the URL.
    #[schemars(title = "a host name such as www.example.org")]
    pub(crate) name: Option<String>,
    /// A PEM file of authorities that are trusted beside those of the system. Default: none.
    #[schemars(title = "the path of a PEM file")]
    pub(crate) roots: Option<String>,
}

/// A response that means "restarting, ask again".
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Restarting {
    /// The status that announces it.
    #[schemars(required, range(min = 400, max = 599))]
    pub(crate) status: Option<u16>,
    /// It only counts where this header field is absent. Default: it always counts.
    #[schemars(title = "a header field such as retry-after")]
    pub(crate) without: Option<String>,
}

/// What the operator adds to what the origin says about caching.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum CacheRules {
    /// In one word.
    Named(CacheName),
    /// One by one.
    Rules(CacheTable),
}

/// Caching in one word.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CacheName {
    /// Nothing is looked up or stored.
    Bypass,
}

/// What the operator adds to what the origin says about caching, one by one.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CacheTable {
    /// False: nothing is looked up or stored. Default: true.
    pub(crate) enabled: Option<bool>,
    /// A lifetime for responses that give none, or give zero while calling themselves public, 0s to 365d. Default: none.
    pub(crate) lifetime: Option<Duration>,
    /// How long after its lifetime a response may be served while it is refreshed in the background, 0s to 365d. Default: what the response says.
    pub(crate) stale: Option<Duration>,
    /// How long a stale response may stand in for an upstream that fails, 0s to 365d. Default: "1d".
    pub(crate) stale_if_error: Option<Duration>,
    /// Cookies that mark one visitor's session; a request with one of them bypasses the cache. Added to those of the preset. Default: none.
    #[schemars(title = "the name of a cookie")]
    pub(crate) session_cookies: Option<OneOrMany<String>>,
    /// Whether pages are compressed for clients that can read it, once, where the upstream did not. Default: true.
    pub(crate) compress: Option<bool>,
    /// Whether what is stored on disk for the site is never given up for another site's. Default: false.
    pub(crate) keep: Option<bool>,
    /// A response field by which the application says what has changed: "/*", or paths with commas between them. Default: none.
    #[schemars(title = "a header field such as x-cache-invalidate")]
    pub(crate) invalidate_by: Option<String>,
}

/// Header fields to set and to remove; removal comes first.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeaderChanges {
    /// Fields that are replaced, or added where absent.
    #[schemars(title = "fields such as { X-Frame-Options = \"DENY\" }")]
    pub(crate) set: Option<BTreeMap<String, HeaderText>>,
    /// Fields that are removed.
    #[schemars(title = "the name of a header field")]
    pub(crate) remove: Option<OneOrMany<String>>,
}

/// What happens below one path: at most one of `redirect`, `answer` and `upstream`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    /// The path itself and everything below it, or with `*`, which stands for any characters, a pattern for the whole path.
    #[schemars(required, title = "a path such as /admin or /files/*.zip")]
    pub(crate) path: Option<String>,
    /// Sends the client elsewhere.
    pub(crate) redirect: Option<Redirect>,
    /// Answers without an upstream.
    pub(crate) answer: Option<Answer>,
    /// Where those are sent who ask for the path itself, by the languages that they understand (Accept-Language); "*" stands for all others, and the path itself for staying. Default: nobody is sent.
    #[schemars(title = "targets such as { en = \"/en/\", de = \"/de/\", \"*\" = \"/en/\" }")]
    pub(crate) languages: Option<BTreeMap<String, RedirectTarget>>,
    /// Servers other than the site's.
    #[schemars(title = "a URL such as http://127.0.0.1:2368")]
    pub(crate) upstream: Option<OneOrMany<String>>,
    /// How these servers are known, where their URLs begin with https.
    pub(crate) upstream_tls: Option<UpstreamTls>,
    /// A PEM file of authorities: only clients with a certificate of one of them are let in. Nothing is cached below such a path unless the route's own `cache` says `enabled = true`. Default: none is asked for.
    #[schemars(title = "the path of a PEM file")]
    pub(crate) client_ca: Option<String>,
    /// How many of these requests the upstream works on at once, 1 to 10000; further ones wait up to 10 s for their turn and are answered 503 then. Default: no bound.
    #[schemars(range(min = 1, max = 10000))]
    pub(crate) at_once: Option<u32>,
    /// Laid over the site's.
    pub(crate) cache: Option<CacheRules>,
    /// In addition to the site's.
    pub(crate) request_headers: Option<HeaderChanges>,
    /// In addition to the site's.
    pub(crate) response_headers: Option<HeaderChanges>,
}

/// Sends the client elsewhere.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Redirect {
    /// With status 308.
    To(RedirectTarget),
    /// With a status of choice.
    Table(RedirectTable),
}

/// An absolute URL or an absolute path; `{path}` and `{query}` stand for the request's own, `{query}` with its question mark.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(title = "a URL or an absolute path")]
pub(crate) struct RedirectTarget(pub(crate) String);

/// Sends the client elsewhere with a status of choice.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RedirectTable {
    /// Where to.
    #[schemars(required)]
    pub(crate) to: Option<RedirectTarget>,
    /// The status. Default: 308.
    #[schemars(extend("enum" = [301, 302, 303, 307, 308]))]
    pub(crate) status: Option<u16>,
}

/// An answer without an upstream.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answer {
    /// The status. Default: 200.
    #[schemars(range(min = 200, max = 599))]
    pub(crate) status: Option<u16>,
    /// The body as text. Default: empty.
    pub(crate) body: Option<String>,
    /// A file of at most 1MiB that holds the body, read once at the start.
    pub(crate) file: Option<String>,
    /// Content-Type. Default: "text/plain; charset=utf-8".
    #[serde(rename = "type")]
    #[schemars(title = "a media type such as text/html")]
    pub(crate) content_type: Option<String>,
}

/// A length of time: a whole number and ms, s, m, h or d.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(title = "a duration such as 30s", extend("pattern" = "^[0-9]+(ms|s|m|h|d)$"))]
pub(crate) struct Duration(pub(crate) String);

/// A size: a whole number and B, KB, KiB, MB, MiB, GB, GiB, TB or TiB.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(title = "a size such as 256MiB", extend("pattern" = "^(0|[0-9]+([KMGT]i?)?B)$"))]
pub(crate) struct Size(pub(crate) String);

/// The value of a header field. It may be a secret, so problems never show it.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(title = "text", extend("writeOnly" = true))]
pub(crate) struct HeaderText(pub(crate) String);

/// One value, or a list of them.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(crate) enum OneOrMany<T> {
    /// One.
    One(T),
    /// A list.
    Many(Vec<T>),
}
