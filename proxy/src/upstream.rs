//! The side behind us: pools of upstream servers, and the passage of one exchange to one of them.
//!
//! Every exchange, a client's or the cache's own, passes the one Pingora `HttpProxy`, which brings
//! connection pools, HTTP/1.1 and HTTP/2, streaming both ways, upgrades and trailers. It enters as a
//! custom session (`passage`), so any [`Downstream`] will do, and QUIC will need nothing more.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use sovereign_config::model::Network;
use tokio::sync::watch;

use crate::downstream::{Connection, Downstream, RequestHead};
use crate::fields::{drop_hop_by_hop, has_token};
use crate::pool::Pool;
use crate::route::{self, Route, Site};

pub use course::{Course, Purpose};

mod course;
mod gateway;
mod passage;

/// Connections kept to all upstreams together, where they are not in use.
const KEPT: usize = 512;
/// More tries than any hold has room for: the hold's own deadline ends them.
const MAX_TRIES: usize = 10_000;

/// The way to the upstreams, shared by all sites; kept connections live on over reloads.
pub struct Upstreams {
    proxy: Arc<HttpProxy<gateway::Gateway>>,
    /// Never true: our own drain says when to stop, not Pingora's.
    running: watch::Receiver<bool>,
    _keep: watch::Sender<bool>,
}

impl Upstreams {
    /// Makes ready; connects to nothing yet.
    pub fn new() -> Self {
        let conf = ServerConf {
            upstream_keepalive_pool_size: KEPT,
            max_retries: MAX_TRIES,
            ..ServerConf::default()
        };
        let (keep, running) = watch::channel(false);
        Self {
            proxy: Arc::new(http_proxy(&Arc::new(conf), gateway::Gateway)),
            running,
            _keep: keep,
        }
    }

    /// Takes one exchange to an upstream and back, and gives the client's side back. How it went
    /// stands in `course`; where [`Course::failure`] is set and nothing was started, the client still
    /// waits for an answer.
    pub async fn pass<D: Downstream>(
        &self,
        client: D,
        request: Parts,
        course: &Arc<Course>,
    ) -> Option<D> {
        let (session, slot) = passage::Passage::new(client, request, course.clone());
        let session = ServerSession::new_custom(Box::new(session));
        self.proxy.process_new_http(session, &self.running).await;
        course.ends_turn();
        slot.take()
    }
}

impl Default for Upstreams {
    fn default() -> Self {
        Self::new()
    }
}

/// The request as the upstream gets it. `headers` are the client's, hop-by-hop fields included.
///
/// What a client says of itself in forwarding fields is dropped, unless its address is trusted
/// (RFC 7239 section 8.1); `Forwarded` and the older fields then say the same. A client without an
/// address gets none: `Forwarded` says `unknown` (RFC 7239 section 6.2), the older fields are left out.
pub fn request(
    head: &RequestHead,
    mut headers: HeaderMap,
    connection: &Connection,
    route: &Route,
    trusted: &[Network],
    id: &str,
) -> Parts {
    let upgrade = head
        .upgrade
        .then(|| headers.get(header::UPGRADE).cloned())
        .flatten();
    let trailers = has_token(&headers, &header::TE, "trailers");
    drop_hop_by_hop(&mut headers);
    introduce(&mut headers, connection, route);
    forwarding(&mut headers, head, connection, trusted);
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    for changes in &route.request_headers {
        crate::response::change(&mut headers, changes);
    }
    if let Some(upgrade) = upgrade {
        headers.insert(header::UPGRADE, upgrade);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if !headers.contains_key(header::HOST)
        && let Ok(host) = HeaderValue::from_str(&authority(head, connection))
    {
        headers.insert(header::HOST, host);
    }
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = head.method.clone();
    parts.uri = Uri::from(head.target.clone());
    // What is spoken to the upstream is decided with the connection to it.
    parts.version = Version::HTTP_11;
    parts.headers = headers;
    parts
}

/// Who the client is, for routes that ask for its certificate (RFC 9440); what it says of itself is dropped.
fn introduce(headers: &mut HeaderMap, connection: &Connection, route: &Route) {
    for name in OF_CLIENTS {
        headers.remove(name);
    }
    if route.is_guarded() {
        let tls = connection.tls.as_ref();
        route::introduce(headers, tls.and_then(|tls| tls.client.as_deref()));
    }
}

/// Fields that say who a client is. To applications that read them as CGI does, the underscore is a hyphen.
const OF_CLIENTS: [&str; 4] = [
    "client-cert",
    "client-cert-chain",
    "client_cert",
    "client_cert_chain",
];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// How fields begin that say what a proxy has seen.
const OF_PROXIES: &str = "x-forwarded";
/// Fields of the same kind that applications are known to believe.
const BELIEVED: [&str; 19] = [
    "cf-connecting-ip",
    "client-ip",
    "fastly-client-ip",
    "forwarded-for",
    "front-end-https",
    "true-client-ip",
    "x-arr-ssl",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-host",
    "x-http-host-override",
    "x-original-host",
    "x-original-uri",
    "x-original-url",
    "x-proxy-host",
    "x-rewrite-url",
    "x-scheme",
    "x-url-scheme",
    "x-real-ip",
];
/// Fields by which frameworks let a request pass for one of another method. With a safe method they
/// would have one visitor's request stored for all.
const OTHER_METHOD: [&str; 4] = [
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-forwarded-method",
];

fn forwarding(
    headers: &mut HeaderMap,
    head: &RequestHead,
    connection: &Connection,
    trusted: &[Network],
) {
    let peer = connection.peer.map(|_| connection.peer_ip());
    let believed = peer.is_some_and(|peer| trusted.iter().any(|network| network.contains(peer)));
    let mut chain = String::new();
    let mut real = peer;
    let (mut proto, mut host) = (connection.scheme().to_owned(), authority(head, connection));
    if believed {
        let earlier = joined(headers, &FORWARDED_FOR);
        real = client_behind(&earlier, trusted).or(peer);
        if !earlier.is_empty() {
            chain = earlier + ", ";
        }
        proto = single(headers, &FORWARDED_PROTO).unwrap_or(proto);
        host = single(headers, &FORWARDED_HOST).unwrap_or(host);
    } else {
        for name in BELIEVED {
            headers.remove(name);
        }
        let of_proxies: Vec<_> = headers
            .keys()
            .filter(|name| name.as_str().starts_with(OF_PROXIES))
            .cloned()
            .collect();
        for name in of_proxies {
            headers.remove(name);
        }
        if is_safe(&head.method) {
            for name in OTHER_METHOD {
                headers.remove(name);
            }
        }
    }
    let node = match peer {
        None => "unknown".to_owned(),
        Some(IpAddr::V4(ip)) => ip.to_string(),
        Some(IpAddr::V6(ip)) => format!("\"[{ip}]\""),
    };
    let chain = peer.map(|peer| format!("{chain}{peer}"));
    let ours = format!(
        "for={node};host=\"{}\";proto={}",
        authority(head, connection),
        connection.scheme()
    );
    let forwarded = match joined(headers, &header::FORWARDED) {
        earlier if believed && !earlier.is_empty() => format!("{earlier}, {ours}"),
        _ => ours,
    };
    for (name, value) in [
        (FORWARDED_FOR, chain),
        (FORWARDED_PROTO, Some(proto)),
        (FORWARDED_HOST, Some(host)),
        (REAL_IP, real.map(|real| real.to_string())),
        (header::FORWARDED, Some(forwarded)),
    ] {
        match value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            Some(value) => headers.insert(name, value),
            None => headers.remove(name),
        };
    }
}

/// Host and port as the upstream is told them: what the key of a stored response has, so without the
/// scheme's default port.
fn authority(head: &RequestHead, connection: &Connection) -> String {
    let default = if connection.tls.is_some() { 443 } else { 80 };
    if head.port != Some(default) {
        return head.authority();
    }
    RequestHead {
        port: None,
        ..head.without_fields(head.method.clone())
    }
    .authority()
}

/// The address that the trusted proxies in front of us saw: the last one in the chain that is not theirs.
fn client_behind(chain: &str, trusted: &[Network]) -> Option<IpAddr> {
    let mut hops = chain
        .rsplit(',')
        .map_while(|hop| hop.trim().parse::<IpAddr>().ok());
    hops.find(|hop| !trusted.iter().any(|network| network.contains(*hop)))
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let values: Vec<_> = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    values.join(", ")
}

fn single(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    (values.next().is_none() && !value.contains(',')).then(|| value.trim().to_owned())
}

/// Whether a request may be sent again although an upstream has seen it: it changes nothing
/// (RFC 9110 section 9.2.1).
pub fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// What an exchange needs of its site.
pub fn course(
    (site, route): (&Arc<Site>, &Arc<Route>),
    pool: &Arc<Pool>,
    method: &Method,
    hold: Duration,
    purpose: Purpose,
) -> Arc<Course> {
    Arc::new(Course::new(
        (site.clone(), route.clone()),
        pool.clone(),
        is_safe(method),
        Instant::now() + hold,
        purpose,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_behind_trusted_proxies() {
        let trusted = [Network {
            address: IpAddr::from([10, 0, 0, 0]),
            prefix: 8,
        }];
        let table = [
            ("", None),
            ("192.0.2.1", Some([192, 0, 2, 1])),
            ("192.0.2.1, 10.0.0.2", Some([192, 0, 2, 1])),
            ("198.51.100.9, 192.0.2.1, 10.0.0.2", Some([192, 0, 2, 1])),
            ("192.0.2.1, nonsense, 10.0.0.2", None),
        ];
        for (chain, want) in table {
            assert_eq!(
                client_behind(chain, &trusted),
                want.map(IpAddr::from),
                "{chain}"
            );
        }
    }
}
