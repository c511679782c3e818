//! A site and the preset under it.

use std::time::Duration;

use http::StatusCode;

use super::cache::Layer;
use super::headers::Direction;
use super::route::Route;
use super::{Check, DAY, HOUR, KIB, MINUTE, ZERO, each};
use crate::model::{self, Action, HeaderChanges, PathPattern};
use crate::problem::Key;
use crate::raw;

/// What a site and a preset can both say; only what was written.
#[derive(Debug, Default)]
pub(super) struct Rules {
    connect: Option<Duration>,
    first_byte: Option<Duration>,
    idle: Option<Duration>,
    hold: Option<Duration>,
    restarting: Option<Vec<model::Restarting>>,
    cache: Layer,
    request_headers: HeaderChanges,
    response_headers: HeaderChanges,
    routes: Vec<Route>,
}

/// The keys that a site and a preset share, as typed.
pub(super) struct Written<'r> {
    pub(super) timeouts: Option<&'r raw::Timeouts>,
    pub(super) hold: Option<&'r raw::Duration>,
    pub(super) restarting: Option<&'r Vec<raw::Restarting>>,
    pub(super) cache: Option<&'r raw::CacheRules>,
    pub(super) request_headers: Option<&'r raw::HeaderChanges>,
    pub(super) response_headers: Option<&'r raw::HeaderChanges>,
    pub(super) route: Option<&'r Vec<raw::Route>>,
}

impl Check<'_, '_> {
    /// One site, with its preset laid under it.
    pub(super) fn site(&mut self, key: &Key, raw: &raw::Site) -> model::Site {
        let written = Written {
            timeouts: raw.timeouts.as_ref(),
            hold: raw.hold.as_ref(),
            restarting: raw.restarting.as_ref(),
            cache: raw.cache.as_ref(),
            request_headers: raw.request_headers.as_ref(),
            response_headers: raw.response_headers.as_ref(),
            route: raw.route.as_ref(),
        };
        let own = self.rules(key, &written);
        let preset = self.preset(&key.key("preset"), raw.preset.as_deref());
        self.cache_has_effect(&key.key("cache"), &own.cache, &preset.cache);
        let names = self.names(&key.key("names"), raw);
        let tls = self.tls(key, raw, &names);
        self.over_tls(&own.routes, &tls);
        let cache = own.cache.over(&preset.cache);
        let site = model::Site {
            preset: raw.preset.clone(),
            certificates: self.site_certificates(key, raw, &tls, &names),
            tls_policy: self.tls_policy(key, raw, &tls),
            hsts: self.hsts(&key.key("hsts"), raw.hsts.as_ref(), &tls),
            names,
            tls,
            upstream: self.upstreams(key, raw.upstream.as_ref(), raw.upstream_tls.as_ref()),
            timeouts: model::Timeouts {
                connect: own
                    .connect
                    .or(preset.connect)
                    .unwrap_or(Duration::from_secs(5)),
                first_byte: own.first_byte.or(preset.first_byte).unwrap_or(MINUTE),
                idle: own.idle.or(preset.idle).unwrap_or(MINUTE),
            },
            hold: own.hold.or(preset.hold).unwrap_or(Duration::from_secs(15)),
            unavailable: raw
                .unavailable
                .as_deref()
                .and_then(|name| self.text_file(&key.key("unavailable"), name, 256 * KIB)),
            restarting: own.restarting.or(preset.restarting).unwrap_or_default(),
            request_headers: own.request_headers.over(&preset.request_headers),
            response_headers: own.response_headers.over(&preset.response_headers),
            routes: self.laid_over(own.routes, preset.routes, &cache),
            cache: cache.rules(),
        };
        self.has_upstream(key, raw, &site);
        site
    }

    /// What a site or a preset says.
    pub(super) fn rules(&mut self, key: &Key, raw: &Written<'_>) -> Rules {
        let default = raw::Timeouts::default();
        let timeouts = raw.timeouts.unwrap_or(&default);
        let times = key.key("timeouts");
        let least = Duration::from_millis(10);
        Rules {
            connect: self.duration(
                &times.key("connect"),
                timeouts.connect.as_ref(),
                least,
                MINUTE * 5,
            ),
            first_byte: self.duration(
                &times.key("first_byte"),
                timeouts.first_byte.as_ref(),
                least,
                HOUR,
            ),
            idle: self.duration(&times.key("idle"), timeouts.idle.as_ref(), least, DAY),
            hold: self.duration(&key.key("hold"), raw.hold, ZERO, MINUTE * 5),
            restarting: raw
                .restarting
                .map(|list| self.restarting(&key.key("restarting"), list)),
            cache: self.cache_layer(&key.key("cache"), raw.cache),
            request_headers: self.headers(
                &key.key("request_headers"),
                raw.request_headers,
                Direction::Request,
            ),
            response_headers: self.headers(
                &key.key("response_headers"),
                raw.response_headers,
                Direction::Response,
            ),
            routes: self.routes(&key.key("route"), raw.route),
        }
    }

    fn restarting(&mut self, key: &Key, list: &[raw::Restarting]) -> Vec<model::Restarting> {
        let one = |(index, raw): (usize, &raw::Restarting)| {
            let key = key.item(index).key("without");
            let without = raw
                .without
                .as_deref()
                .and_then(|name| self.field(&key, name, None));
            let status = StatusCode::from_u16(raw.status?).ok()?;
            Some(model::Restarting { status, without })
        };
        list.iter().enumerate().filter_map(one).collect()
    }

    /// The site's routes, then those of the preset whose path the site does not name.
    fn laid_over(
        &mut self,
        own: Vec<Route>,
        preset: Vec<Route>,
        cache: &Layer,
    ) -> Vec<model::Route> {
        for route in &own {
            let under = route.under(cache);
            self.cache_has_effect(&route.key.key("cache"), &route.cache, &under);
        }
        let paths: Vec<PathPattern> = own.iter().map(|route| route.path.clone()).collect();
        let rest = preset
            .into_iter()
            .filter(|route| !paths.contains(&route.path));
        own.into_iter()
            .chain(rest)
            .map(|route| model::Route {
                cache: route.cache.over(&route.under(cache)).rules(),
                client_ca: route.client_ca,
                at_once: route.at_once,
                path: route.path,
                languages: route.languages,
                action: route.action,
                request_headers: route.request_headers,
                response_headers: route.response_headers,
            })
            .collect()
    }

    fn names(&mut self, key: &Key, raw: &raw::Site) -> Vec<String> {
        let names: Vec<(Key, String)> = each(raw.names.as_ref(), key)
            .map(|(key, text)| {
                let name = self.name(&key, text);
                (key, name)
            })
            .collect();
        if names.is_empty() && raw.names.is_some() && !self.problems.is_incomplete(key) {
            self.problems.add(key, "an empty list", "at least one name");
        }
        if names.len() > 1
            && let Some((star, _)) = names.iter().find(|(_, name)| name == "*")
        {
            let hint = "\"*\" already takes every host that no other site names";
            self.problems
                .add_with_hint(star, "\"*\" beside other names", "\"*\" alone", hint);
        }
        names.into_iter().map(|(_, name)| name).collect()
    }

    /// An upstream may be left out only where no request needs it.
    fn has_upstream(&mut self, key: &Key, raw: &raw::Site, site: &model::Site) {
        let upstream = key.key("upstream");
        let left_out = self.problems.is_incomplete(&upstream) || self.problems.is_incomplete(key);
        if raw.upstream.is_some() || left_out {
            return;
        }
        let takes_all = |path: &PathPattern| match path {
            PathPattern::Exact(_) => false,
            PathPattern::Prefix(prefix) => prefix == "/",
            PathPattern::Glob(glob) => glob == "/*",
        };
        let own = raw.route.as_deref().unwrap_or_default();
        let hands_on = |route: &raw::Route| {
            route.redirect.is_none() && route.answer.is_none() && route.upstream.is_none()
        };
        let mut of_preset = site.routes.iter().skip(own.len());
        let needed = own.iter().any(hands_on)
            || of_preset
                .any(|route| matches!(&route.action, Action::Forward(list) if list.is_empty()));
        let served = !needed && site.routes.iter().any(|route| takes_all(&route.path));
        if !served && !self.problems.is_incomplete(&key.key("route")) {
            self.problems.add_with_hint(
                &upstream,
                "nothing",
                "a URL such as http://127.0.0.1:2368",
                "only a site whose routes take every path can do without",
            );
        }
    }
}
