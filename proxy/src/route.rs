//! Which site and which route take a request: by host, then by the longest path pattern.
//!
//! Pure: a router is made from a checked configuration and never changes; a reload makes a new one.

use std::collections::HashMap;
use std::sync::Arc;

use http::StatusCode;
use sovereign_config::model::{self, Action, CacheRules, HeaderChanges, PathPattern, Tls};

use crate::downstream::{Connection, RequestHead};
use crate::metrics::SiteMetrics;
use crate::pool::Pool;

/// Every site of one configuration.
pub struct Router {
    sites: Vec<Arc<Site>>,
    by_name: HashMap<Box<str>, Arc<Site>>,
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
    },
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
        let by_name = sites
            .iter()
            .flat_map(|site| {
                site.config
                    .names
                    .iter()
                    .filter(|name| *name != "*")
                    .map(|name| (Box::from(name.as_str()), site.clone()))
            })
            .collect();
        let any = sites
            .iter()
            .find(|site| site.config.canonical() == "*")
            .cloned();
        Self {
            by_name,
            any,
            https_port: config.listen.https.first().map(|address| address.port()),
            sites,
        }
    }

    /// The sites, in the order of the configuration.
    pub fn sites(&self) -> &[Arc<Site>] {
        &self.sites
    }

    /// Finds what takes a request.
    pub fn route(&self, connection: &Connection, head: &RequestHead) -> Routed<'_> {
        let Some(site) = self.by_name.get(&*head.host).or(self.any.as_ref()) else {
            return Routed::Misdirected("unknown-host");
        };
        match (&connection.tls, &site.config.tls) {
            (None, Tls::Off) => {}
            (None, _) => return self.to_https(site, head),
            (Some(_), Tls::Off) => return Routed::Misdirected("not-over-tls"),
            (Some(tls), _) if !tls.names.covers(&head.host) => {
                return Routed::Misdirected("not-covered");
            }
            (Some(_), _) => {}
        }
        let canonical = site.config.canonical();
        if canonical != "*" && canonical != &*head.host {
            let location = url(connection.scheme(), canonical, head.port, head);
            return elsewhere(site, StatusCode::PERMANENT_REDIRECT, location, "canonical");
        }
        let route = site.route(head.target.path());
        match &route.action {
            Action::Redirect { to, status } => elsewhere(site, *status, target(to, head), "route"),
            _ => Routed::Here(site, route),
        }
    }

    fn to_https<'a>(&self, site: &'a Arc<Site>, head: &RequestHead) -> Routed<'a> {
        let canonical = site.config.canonical();
        let host = if canonical == "*" {
            &head.host
        } else {
            canonical
        };
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
            action: Action::Forward(Vec::new()),
            cache: config.cache.clone(),
            request_headers: HeaderChanges::default(),
            response_headers: HeaderChanges::default(),
        };
        let mut routes: Vec<_> = config
            .routes
            .iter()
            .chain([&catch_all])
            .zip(1..)
            .map(|(route, number)| Arc::new(Route::new(config, route, number, pool)))
            .collect();
        routes.sort_by_key(|route| std::cmp::Reverse(route.pattern.literal_len()));
        Self {
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
        let (PathPattern::Prefix(label) | PathPattern::Glob(label)) = &route.path;
        Self {
            number,
            label: label.as_str().into(),
            pattern: route.path.clone(),
            action: route.action.clone(),
            pool: pool(site, upstreams),
            cache: route.cache.clone(),
            request_headers: [site.request_headers.clone(), route.request_headers.clone()],
            response_headers: [
                site.response_headers.clone(),
                route.response_headers.clone(),
            ],
        }
    }
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
