//! Which site and which route take a request: by host, then by the longest path pattern.
//!
//! A router is made from a checked configuration and never changes; a reload makes a new one.

// Who is let in where a route asks for a client's certificate.
mod guard;
// Which of a site's languages a client understands.
mod languages;
// How many requests an upstream works on at once.
mod turns;

use std::collections::HashMap;
use std::sync::Arc;

use http::{Method, StatusCode};
use sovereign_config::model::{self, Action, CacheRules, HeaderChanges, PathPattern, Tls, Until};

use crate::downstream::{Connection, RequestHead};
use crate::metrics::SiteMetrics;
use crate::pool::Pool;
use crate::tls::{Certificates, TlsFacts};

use guard::{Guard, Guards};
pub use guard::{Refusal, introduce};
use turns::Turns;

/// Every site of one configuration.
pub struct Router {
    sites: Vec<Arc<Site>>,
    by_name: HashMap<Box<str>, Arc<Site>>,
    /// By `example.org` for `*.example.org`.
    wildcards: HashMap<Box<str>, Arc<Site>>,
    any: Option<Arc<Site>>,
    /// The port to name in redirects to `https`, where the client named one itself.
    https_port: Option<u16>,
}

/// A site as it runs.
pub struct Site {
    /// How it was configured.
    pub config: model::Site,
    /// Its routes, the longest pattern first; the last one takes everything.
    routes: Vec<Arc<Route>>,
    /// Who is let in where.
    guards: Guards,
    /// Its counters.
    pub metrics: SiteMetrics,
    /// Counts up with every reload: what was prepared for another configuration is made anew.
    pub generation: u64,
}

/// A route as it runs.
pub struct Route {
    /// Its place among the routes of its configuration.
    pub number: u64,
    /// Its pattern, for the log.
    pub label: Box<str>,
    pattern: PathPattern,
    /// Where clients are sent by their language; empty where nobody is, and answers do not vary by it.
    languages: Vec<(String, String)>,
    /// What it does.
    pub action: Action,
    /// Where it sends requests.
    pub pool: Option<Arc<Pool>>,
    /// What the operator says about caching here.
    pub cache: CacheRules,
    /// The site's changes to requests, then the route's own.
    pub request_headers: [HeaderChanges; 2],
    /// The site's changes to responses, then the route's own.
    pub response_headers: [HeaderChanges; 2],
    /// Whose turn it is; `None`: everybody's.
    pub(crate) turns: Option<Turns>,
    /// Who is let in; `None`: everybody.
    guard: Option<Arc<Guard>>,
}

/// What is to be done with a request.
pub enum Routed<'a> {
    /// Serve it here.
    Here(&'a Arc<Site>, &'a Arc<Route>),
    /// Send the client to another URL.
    Elsewhere {
        /// The site that says so.
        site: &'a Arc<Site>,
        /// 308, or as the route says.
        status: StatusCode,
        /// The URL.
        location: String,
        /// The word for the log.
        reason: &'static str,
        /// Clients who understand another language may be sent elsewhere.
        by_language: bool,
    },
    /// The client showed no certificate that is let in here.
    Refused(&'a Arc<Site>, &'a Arc<Route>, Refusal),
    /// This host is not served on this connection (RFC 9110 section 15.5.20).
    Misdirected(&'static str),
}

impl Router {
    /// Builds the router of a configuration; `pool` makes or finds the pool of a list of upstreams.
    pub fn new(
        config: &model::Proxy,
        generation: u64,
        metrics: impl Fn(&str) -> SiteMetrics,
        pool: impl Fn(&model::Site, &[model::Upstream]) -> Option<Arc<Pool>>,
    ) -> Self {
        let sites: Vec<_> = config
            .sites
            .iter()
            .map(|site| Arc::new(Site::new(site, generation, &metrics, &pool)))
            .collect();
        let (mut by_name, mut wildcards) = (HashMap::new(), HashMap::new());
        for site in &sites {
            for name in site.config.names.iter().filter(|name| *name != "*") {
                match name.strip_prefix("*.") {
                    Some(parent) => wildcards.insert(Box::from(parent), site.clone()),
                    None => by_name.insert(Box::from(name.as_str()), site.clone()),
                };
            }
        }
        let any = sites
            .iter()
            .find(|site| site.config.canonical() == "*")
            .cloned();
        Self {
            by_name,
            wildcards,
            any,
            https_port: config.listen.https.first().map(|address| address.port()),
            sites,
        }
    }

    /// The sites, in the order of the configuration.
    pub fn sites(&self) -> &[Arc<Site>] {
        &self.sites
    }

    /// The site that takes a host.
    fn site(&self, host: &str) -> Option<&Arc<Site>> {
        let below = |host: &str| self.wildcards.get(host.split_once('.')?.1);
        self.by_name
            .get(host)
            .or_else(|| below(host))
            .or(self.any.as_ref())
    }

    /// Finds what takes a request. `certificates` are those in force: a site may wait for its first.
    pub fn route(
        &self,
        connection: &Connection,
        head: &RequestHead,
        certificates: &Certificates,
    ) -> Routed<'_> {
        let Some(site) = self.site(&head.host) else {
            return Routed::Misdirected("unknown-host");
        };
        match (&connection.tls, &site.config.tls) {
            (None, Tls::Off) => {}
            (None, Tls::Acme) if site.waits_in_the_clear(&head.host, certificates) => {}
            (None, _) => return self.to_https(site, head),
            (Some(_), Tls::Off) => return Routed::Misdirected("not-over-tls"),
            (Some(tls), _) if !tls.names.covers(&head.host) => {
                return Routed::Misdirected("not-covered");
            }
            (Some(_), _) => {}
        }
        let canonical = site.canonical(&head.host);
        if canonical != &*head.host {
            let location = url(connection.scheme(), canonical, head.port, head);
            return elsewhere(site, StatusCode::PERMANENT_REDIRECT, location, "canonical");
        }
        let route = site.route(head.target.path());
        let tls = connection.tls.as_ref();
        let client = tls.and_then(|tls| tls.client.as_deref());
        let own = route.guard.as_deref();
        if let Err(refusal) = site.guards.let_in(own, head.target.path(), client) {
            let asked = self.asked_for_certificate(site, connection, head);
            return match refusal {
                // The client may have a good one, and was not asked for it in this handshake.
                _ if !asked => Routed::Misdirected("other-site"),
                refusal => Routed::Refused(site, route, refusal),
            };
        }
        if let Some(location) = route.by_language(head) {
            return Routed::Elsewhere {
                site,
                status: StatusCode::FOUND,
                location,
                reason: "language",
                by_language: true,
            };
        }
        match &route.action {
            Action::Redirect { to, status } => elsewhere(site, *status, target(to, head), "route"),
            _ => Routed::Here(site, route),
        }
    }

    /// Whether the handshake of this connection was that of `site`: a connection that was opened for another
    /// site may carry requests for this one (RFC 9113 section 9.1.1), but asked for no certificate, or for
    /// that of somebody else.
    fn asked_for_certificate(
        &self,
        site: &Arc<Site>,
        connection: &Connection,
        head: &RequestHead,
    ) -> bool {
        let of_site = |tls: &TlsFacts| match tls.sni.as_deref() {
            Some(name) => self
                .site(name.strip_suffix('.').unwrap_or(name))
                .is_some_and(|asked| Arc::ptr_eq(asked, site)),
            // A client that connects to an address sends no name.
            None => head.host.parse::<std::net::IpAddr>().is_ok(),
        };
        connection.id == Connection::INTERNAL || connection.tls.as_ref().is_none_or(of_site)
    }

    fn to_https<'a>(&self, site: &'a Arc<Site>, head: &RequestHead) -> Routed<'a> {
        let host = site.canonical(&head.host);
        let port = head.port.and(self.https_port).filter(|port| *port != 443);
        let location = url("https", host, port, head);
        elsewhere(site, StatusCode::PERMANENT_REDIRECT, location, "https")
    }
}

impl Site {
    fn new(
        config: &model::Site,
        generation: u64,
        metrics: &impl Fn(&str) -> SiteMetrics,
        pool: &impl Fn(&model::Site, &[model::Upstream]) -> Option<Arc<Pool>>,
    ) -> Self {
        let catch_all = model::Route {
            path: PathPattern::Glob("*".into()),
            languages: Vec::new(),
            action: Action::Forward(Vec::new()),
            client_ca: None,
            at_once: None,
            cache: config.cache.clone(),
            request_headers: HeaderChanges::default(),
            response_headers: HeaderChanges::default(),
        };
        let mut routes: Vec<_> = config
            .routes
            .iter()
            .chain([&catch_all])
            .flat_map(by_path)
            .zip(1..)
            .map(|(route, number)| Arc::new(Route::new(config, &route, number, pool)))
            .collect();
        routes.sort_by_key(|route| std::cmp::Reverse(route.pattern.literal_len()));
        let patterns = routes.iter().map(|route| (&route.pattern, &route.guard));
        Self {
            guards: Guards::of(patterns),
            metrics: metrics(config.canonical()),
            config: config.clone(),
            routes,
            generation,
        }
    }

    /// The route with the longest pattern that takes `path`.
    pub fn route(&self, path: &str) -> &Arc<Route> {
        self.routes
            .iter()
            .find(|route| route.pattern.matches(path))
            // The catch-all is among the routes and takes every path.
            .unwrap_or(&self.routes[self.routes.len() - 1])
    }

    /// The name under which a host that this site takes is served: its first name, unless only a wildcard
    /// takes the host.
    fn canonical<'h>(&'h self, host: &'h str) -> &'h str {
        let first = self.config.canonical();
        let is_name = |name: &String| name == host;
        if first == host || first.starts_with('*') || !self.config.names.iter().any(is_name) {
            host
        } else {
            first
        }
    }

    /// Whether plain HTTP answers until the first certificate is there.
    fn waits_in_the_clear(&self, host: &str, certificates: &Certificates) -> bool {
        let below = || Some(format!("*.{}", host.split_once('.')?.1));
        self.config.certificates.until == Until::Http
            && (certificates.is_provisional(host)
                || below().is_some_and(|name| certificates.is_provisional(&name)))
    }

    /// The pools of its routes, each once.
    pub fn pools(&self) -> Vec<&Arc<Pool>> {
        let mut pools: Vec<&Arc<Pool>> = Vec::new();
        for pool in self.routes.iter().filter_map(|route| route.pool.as_ref()) {
            if !pools.iter().any(|known| Arc::ptr_eq(known, pool)) {
                pools.push(pool);
            }
        }
        pools
    }
}

impl Route {
    fn new(
        site: &model::Site,
        route: &model::Route,
        number: u64,
        pool: &impl Fn(&model::Site, &[model::Upstream]) -> Option<Arc<Pool>>,
    ) -> Self {
        let upstreams = match &route.action {
            Action::Forward(own) if !own.is_empty() => own,
            _ => &site.upstream,
        };
        let (PathPattern::Exact(label) | PathPattern::Prefix(label) | PathPattern::Glob(label)) =
            &route.path;
        Self {
            number,
            label: label.as_str().into(),
            pattern: route.path.clone(),
            languages: route.languages.clone(),
            action: route.action.clone(),
            pool: pool(site, upstreams),
            turns: route.at_once.map(Turns::new),
            guard: route
                .client_ca
                .as_ref()
                .map(|roots| Arc::new(Guard::new(roots))),
            cache: route.cache.clone(),
            request_headers: [site.request_headers.clone(), route.request_headers.clone()],
            response_headers: [
                site.response_headers.clone(),
                route.response_headers.clone(),
            ],
        }
    }

    /// Where a client is sent that asks for the path in another language than this path's own.
    fn by_language(&self, head: &RequestHead) -> Option<String> {
        if self.languages.is_empty() || !matches!(head.method, Method::GET | Method::HEAD) {
            return None;
        }
        let to = languages::lookup(&self.languages, &head.headers)?;
        (to != &*self.label).then(|| target(to, head))
    }

    /// Whether clients are sent elsewhere by their language, so that what the others get varies by it.
    pub fn varies_by_language(&self) -> bool {
        !self.languages.is_empty()
    }

    /// Whether only those are let in who show a certificate.
    pub fn is_guarded(&self) -> bool {
        self.guard.is_some()
    }
}

/// A route with languages as two: the path itself, where they count, and what lies below.
fn by_path(route: &model::Route) -> Vec<model::Route> {
    let (PathPattern::Prefix(path), false) = (&route.path, route.languages.is_empty()) else {
        return vec![route.clone()];
    };
    let itself = model::Route {
        path: PathPattern::Exact(path.clone()),
        ..route.clone()
    };
    let below = model::Route {
        languages: Vec::new(),
        ..route.clone()
    };
    vec![itself, below]
}

fn elsewhere<'a>(
    site: &'a Arc<Site>,
    status: StatusCode,
    location: String,
    reason: &'static str,
) -> Routed<'a> {
    Routed::Elsewhere {
        site,
        status,
        location,
        reason,
        by_language: false,
    }
}

fn url(scheme: &str, host: &str, port: Option<u16>, head: &RequestHead) -> String {
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    match port {
        Some(port) => format!("{scheme}://{host}:{port}{}", head.target),
        None => format!("{scheme}://{host}{}", head.target),
    }
}

/// Fills a redirect's pattern in.
fn target(pattern: &str, head: &RequestHead) -> String {
    let query = head
        .target
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let path = pattern
        .replace("{path}", head.target.path())
        .replace("{query}", &query);
    // A path that begins with two slashes would be read as another host.
    if path.starts_with("//") {
        format!("/{}", path.trim_start_matches('/'))
    } else {
        path
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use http::{HeaderMap, Version};

    use super::*;
    use crate::metrics::Metrics;
    use crate::tls::{Alpn, ClientCertificate, CoveredNames, Set};

    /// A connection of a browser that asked for `sni`, and whether it has shown a certificate that is not let in.
    fn connection(sni: &str, has_certificate: bool) -> Connection {
        let client = ClientCertificate {
            leaf: vec![0x30, 0].into(),
            chain: vec![vec![0x30, 0].into()],
        };
        Connection {
            id: 1,
            peer: None,
            tls: Some(TlsFacts {
                sni: Some(sni.into()),
                version: "TLSv1.3",
                cipher: "",
                alpn: Alpn::H2,
                group: "",
                resumed: false,
                names: Arc::new(CoveredNames::everything()),
                client: has_certificate.then(|| Arc::new(client)),
            }),
        }
    }

    /// Who came by a connection to another site, with the certificate for that one, was refused for good.
    #[test]
    fn a_certificate_for_another_site_is_asked_for_again() {
        let text: String = ["open", "inner"]
            .map(|name| {
                format!(
                    "[[site]]\nnames = \"{name}.example\"\ntls = \"local\"\n\
                     upstream = \"http://127.0.0.1:1\"\n\
                     [[site.route]]\npath = \"/admin\"\n"
                )
            })
            .concat();
        let mut config = sovereign_config::parse("t", &text, Path::new("/nowhere")).expect("valid");
        config.sites[1].routes[0].client_ca = Some(vec![vec![0x30, 0]]);
        let metrics = Metrics::new().expect("metrics");
        let router = Router::new(&config, 1, |name| metrics.site(name), |_, _| None);
        let certificates = Certificates::new(Set::default()).expect("no certificates");
        let head = RequestHead {
            method: Method::GET,
            host: "inner.example".into(),
            port: None,
            target: "/admin".parse().expect("a path"),
            version: Version::HTTP_2,
            headers: HeaderMap::new(),
            upgrade: false,
            received: Instant::now(),
        };
        for (sni, has_certificate, wanted) in [
            ("open.example", false, "other-site"),
            ("open.example", true, "other-site"),
            ("inner.example", false, "no-client-certificate"),
            ("inner.example", true, "client-certificate"),
        ] {
            let connection = connection(sni, has_certificate);
            let word = match router.route(&connection, &head, &certificates) {
                Routed::Misdirected(word) => word,
                Routed::Refused(_, _, refusal) => refusal.as_str(),
                _ => "let in",
            };
            assert_eq!(word, wanted, "{sni} {has_certificate}");
        }
    }
}
