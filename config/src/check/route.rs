//! Routes: paths, redirects, answers.

use http::{HeaderValue, StatusCode, Uri};

use super::cache::Layer;
use super::headers::Direction;
use super::{Check, MIB};
use crate::model::{Action, HeaderChanges, PathPattern, Tls};
use crate::problem::{Key, quoted};
use crate::raw;

/// A route before the rules of its site are laid under it.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) key: Key,
    pub(super) path: PathPattern,
    pub(super) languages: Vec<(String, String)>,
    pub(super) action: Action,
    pub(super) client_ca: Option<Vec<Vec<u8>>>,
    pub(super) at_once: Option<u32>,
    pub(super) cache: Layer,
    pub(super) request_headers: HeaderChanges,
    pub(super) response_headers: HeaderChanges,
}

impl Route {
    /// What lies under its rules for the cache: those of the site. What is shown to the bearers of certificates is
    /// not for all, and perhaps not for each of them: it is stored only where the route itself says so.
    pub(super) fn under(&self, site: &Layer) -> Layer {
        match self.client_ca {
            Some(_) => site.off(),
            None => site.clone(),
        }
    }
}

impl Check<'_, '_> {
    /// All routes of a site or preset.
    pub(super) fn routes(&mut self, key: &Key, raw: Option<&Vec<raw::Route>>) -> Vec<Route> {
        let mut routes: Vec<Route> = Vec::new();
        for (index, raw) in raw.into_iter().flatten().enumerate() {
            let route = self.route(&key.item(index), raw);
            let earlier = routes.iter().find(|other| other.path == route.path);
            if let (Some(earlier), Some(path)) = (earlier, raw.path.as_deref()) {
                let line = self.problems.line(&earlier.key.key("path"));
                let found = format!("{} a second time", quoted(path));
                let hint = format!("it is first named in line {line}");
                self.problems.add_with_hint(
                    &route.key.key("path"),
                    found,
                    "one route for each path",
                    hint,
                );
            }
            routes.push(route);
        }
        routes
    }

    fn route(&mut self, key: &Key, raw: &raw::Route) -> Route {
        self.one_action(key, raw);
        let action = if let Some(redirect) = &raw.redirect {
            self.redirect(&key.key("redirect"), redirect)
        } else if let Some(answer) = &raw.answer {
            self.answer(&key.key("answer"), answer)
        } else {
            let tls = raw.upstream_tls.as_ref();
            Action::Forward(self.upstreams(key, raw.upstream.as_ref(), tls))
        };
        let request = key.key("request_headers");
        let response = key.key("response_headers");
        Route {
            path: match &raw.path {
                Some(text) => self.path(&key.key("path"), text),
                None => PathPattern::Prefix(key.as_str().to_owned()),
            },
            languages: self.languages(&key.key("languages"), raw),
            action,
            client_ca: self.roots(&key.key("client_ca"), raw.client_ca.as_deref()),
            at_once: raw.at_once,
            cache: self.cache_layer(&key.key("cache"), raw.cache.as_ref()),
            request_headers: self.headers(
                &request,
                raw.request_headers.as_ref(),
                Direction::Request,
            ),
            response_headers: self.headers(
                &response,
                raw.response_headers.as_ref(),
                Direction::Response,
            ),
            key: key.clone(),
        }
    }

    /// A client's certificate comes by TLS alone.
    pub(super) fn over_tls(&mut self, routes: &[Route], tls: &Tls) {
        if *tls != Tls::Off {
            return;
        }
        for route in routes.iter().filter(|route| route.client_ca.is_some()) {
            let found = "client_ca beside tls = \"off\"";
            self.problems
                .add(&route.key.key("client_ca"), found, "a site with TLS");
        }
    }

    /// At most one action, and nothing beside it that only a forwarded request knows.
    fn one_action(&mut self, key: &Key, raw: &raw::Route) {
        let actions: Vec<&str> = [
            ("redirect", raw.redirect.is_some()),
            ("answer", raw.answer.is_some()),
            ("upstream", raw.upstream.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_there)| is_there.then_some(name))
        .collect();
        let [first, rest @ ..] = actions.as_slice() else {
            return;
        };
        for other in rest {
            let found = format!("{other} beside {first}");
            let wanted = "one of redirect, answer and upstream";
            self.problems.add(&key.key(other), found, wanted);
        }
        if *first == "upstream" {
            return;
        }
        let idle = [
            ("at_once", raw.at_once.is_some()),
            ("cache", raw.cache.is_some()),
            ("upstream_tls", raw.upstream_tls.is_some()),
            ("request_headers", raw.request_headers.is_some()),
        ];
        for (name, _) in idle.into_iter().filter(|(_, is_there)| *is_there) {
            let found = format!("{name} beside {first}");
            let hint = "this route hands no request on, so it would have no effect";
            self.problems
                .add_with_hint(&key.key(name), found, "a route without it", hint);
        }
    }

    fn path(&mut self, key: &Key, text: &str) -> PathPattern {
        let hint = if !text.starts_with('/') {
            Some(format!(
                "begin with a slash: /{}",
                text.trim_start_matches('*')
            ))
        } else if text.contains(['?', '#']) {
            Some("a path ends before ? and #".to_owned())
        } else if text.bytes().any(|b| !b.is_ascii_graphic()) {
            Some(
                "paths are compared as received: write other characters as %20 and the like"
                    .to_owned(),
            )
        } else {
            None
        };
        if let Some(hint) = hint {
            self.problems.add_with_hint(
                key,
                quoted(text),
                "a path such as /admin or /files/*.zip",
                hint,
            );
        }
        if text.contains('*') {
            PathPattern::Glob(text.to_owned())
        } else {
            PathPattern::Prefix(text.to_owned())
        }
    }

    fn languages(&mut self, key: &Key, raw: &raw::Route) -> Vec<(String, String)> {
        let Some(table) = &raw.languages else {
            return Vec::new();
        };
        if table.is_empty() && !self.problems.is_incomplete(key) {
            let wanted = "targets such as { en = \"/en/\", \"*\" = \"/en/\" }";
            self.problems.add(key, "no language", wanted);
        }
        if raw.path.as_deref().is_some_and(|path| path.contains('*')) {
            let hint = "those are sent who ask for the path itself, and a pattern is none";
            let found = "languages beside a pattern";
            self.problems
                .add_with_hint(key, found, "a path without *", hint);
        }
        let mut languages: Vec<(String, String)> = Vec::new();
        for (tag, to) in table {
            let key = key.key(tag);
            let lower = tag.to_ascii_lowercase();
            if !is_language(tag) {
                let wanted = "a language tag such as de or pt-BR, or \"*\"";
                self.problems.add(&key, quoted(tag), wanted);
            } else if languages.iter().any(|(known, _)| *known == lower) {
                let found = format!("{} a second time", quoted(tag));
                self.problems.add(&key, found, "each language once");
            }
            self.redirect_target(&key, &to.0);
            languages.push((lower, to.0.clone()));
        }
        languages
    }

    fn redirect(&mut self, key: &Key, raw: &raw::Redirect) -> Action {
        let (key, to, status) = match raw {
            raw::Redirect::To(to) => (key.clone(), Some(to), None),
            raw::Redirect::Table(table) => (key.key("to"), table.to.as_ref(), table.status),
        };
        // Where it is missing, `shape` has said so.
        let to = to.map(|to| to.0.as_str());
        if let Some(to) = to {
            self.redirect_target(&key, to);
        }
        let to = to.unwrap_or_default();
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        Action::Redirect {
            to: to.to_owned(),
            status: status.unwrap_or(StatusCode::PERMANENT_REDIRECT),
        }
    }

    fn redirect_target(&mut self, key: &Key, to: &str) {
        if let Err(hint) = redirect_target(to) {
            let wanted = "a URL such as https://example.org{path}{query}, or an absolute path";
            self.problems.add_with_hint(key, quoted(to), wanted, hint);
        }
    }

    fn answer(&mut self, key: &Key, raw: &raw::Answer) -> Action {
        let body = match (&raw.body, &raw.file) {
            (Some(_), Some(_)) => {
                self.problems
                    .add(&key.key("file"), "file beside body", "one of body and file");
                Vec::new()
            }
            (Some(body), None) => body.clone().into_bytes(),
            (None, Some(file)) => self
                .content(&key.key("file"), file, MIB)
                .map(|(_, content)| content)
                .unwrap_or_default(),
            (None, None) => Vec::new(),
        };
        let status = raw
            .status
            .and_then(|status| StatusCode::from_u16(status).ok())
            .unwrap_or(StatusCode::OK);
        if matches!(status.as_u16(), 204 | 205 | 304) && !body.is_empty() {
            let wanted = format!("none, since a {} has no body", status.as_u16());
            let name = if raw.body.is_some() { "body" } else { "file" };
            self.problems.add(&key.key(name), "a body", wanted);
        }
        Action::Answer {
            status,
            body,
            content_type: self.content_type(&key.key("type"), raw),
        }
    }

    fn content_type(&mut self, key: &Key, raw: &raw::Answer) -> HeaderValue {
        let default = HeaderValue::from_static("text/plain; charset=utf-8");
        let Some(text) = raw.content_type.as_deref() else {
            return default;
        };
        let token = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
        };
        let media = text.split(';').next().unwrap_or_default().trim();
        let known = media
            .split_once('/')
            .is_some_and(|(kind, name)| token(kind) && token(name));
        match HeaderValue::from_str(text) {
            Ok(value) if known => value,
            _ => {
                self.problems.add(
                    key,
                    quoted(text),
                    "a media type such as text/html; charset=utf-8",
                );
                default
            }
        }
    }
}

/// Whether a text has the form of a language tag (RFC 5646 section 2.1), or stands for all.
fn is_language(tag: &str) -> bool {
    let mut subtags = tag.split('-');
    let primary = subtags.next().unwrap_or_default();
    let of = |text: &str, most: usize, sound: fn(&u8) -> bool| {
        (1..=most).contains(&text.len()) && text.bytes().all(|byte| sound(&byte))
    };
    tag == "*"
        || of(primary, 8, u8::is_ascii_alphabetic)
            && subtags.all(|subtag| of(subtag, 8, u8::is_ascii_alphanumeric))
}

/// Checks a target; the error is a hint. A visitor's path must never become the host.
fn redirect_target(to: &str) -> Result<(), String> {
    let filled = to.replace("{path}", "/p").replace("{query}", "?q");
    if filled.contains(['{', '}']) {
        return Err("only {path} and {query} are filled in".to_owned());
    }
    let rest = to
        .strip_prefix("https://")
        .or_else(|| to.strip_prefix("http://"));
    let host = rest.map(|rest| &rest[..rest.find(['/', '{', '?', '#']).unwrap_or(rest.len())]);
    match host {
        Some("") => return Err("name the host: the visitor's path must not become one".to_owned()),
        Some(host) if host.contains('@') => {
            return Err("a user name or password has no place here".to_owned());
        }
        Some(_) => {}
        None if !to.starts_with('/') => {
            return Err("begin with https:// or with one slash".to_owned());
        }
        None if to.starts_with("//") || to.starts_with("/{path}") || to.starts_with("/\\") => {
            return Err("two slashes at the start would send visitors to another host".to_owned());
        }
        None => {}
    }
    match filled.parse::<Uri>() {
        Ok(_) if filled.is_ascii() => Ok(()),
        _ => Err("write other characters as %20 and the like".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_told_from_what_is_none() {
        for tag in ["*", "de", "pt-BR", "zh-Hant-TW", "sr-Latn", "x-klingon"] {
            assert!(is_language(tag), "{tag}");
        }
        for tag in ["", "-", "de-", "de_AT", "*-CH", "d e", "1e", "deutschland"] {
            assert!(!is_language(tag), "{tag}");
        }
    }

    #[test]
    fn redirects_stay_on_the_host_they_name() {
        for to in [
            "/",
            "/new{query}",
            "/new{path}",
            "https://example.org",
            "https://example.org{path}{query}",
            "https://example.org:8443/a",
        ] {
            assert_eq!(redirect_target(to), Ok(()), "{to}");
        }
        for to in [
            "",
            "new",
            "//example.org",
            "/{path}",
            "{path}",
            "https://{path}",
            "https://u@a",
            "ftp://a",
            "/a b",
            "/{host}",
            "/\u{e4}",
        ] {
            assert!(redirect_target(to).is_err(), "{to}");
        }
    }
}
