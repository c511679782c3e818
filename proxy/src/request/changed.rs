//! What the answer to a request says has changed: the target of an unsafe method (RFC 9111 section
//! 4.4), groups of responses (RFC 9875 section 3), and what an application announces in a field of its
//! own, such as Ghost's `X-Cache-Invalidate`.

use http::{HeaderMap, Method, StatusCode};

use crate::cache::Cache;
use crate::cache::key::Key;
use crate::cache::scope::{Scope, invalidated_groups};
use crate::cache::update;
use crate::changes::Changes;
use crate::route::{Route, Site};

/// Announcements of one answer that are heeded; beyond them the whole site is taken to have changed.
const MOST_PATHS: usize = 100;

/// Takes out of the store what an answer makes outdated.
pub fn heed(
    (cache, changes): (&Cache, &Changes),
    (site, route): (&Site, &Route),
    (method, key): (&Method, &Key),
    status: StatusCode,
    headers: &HeaderMap,
) {
    let invalidated = update::invalidated(method, key, status, headers);
    for key in &invalidated {
        cache.invalidate(key.as_str());
    }
    if !invalidated.is_empty() {
        let groups = invalidated_groups(headers);
        let scopes: Vec<_> = groups
            .iter()
            .map(|group| Scope::group(key.origin(), group))
            .collect();
        cache.purge(&scopes, true);
    }
    let announced = route.cache.invalidate_by.as_ref();
    let Some(paths) = announced.and_then(|name| headers.get(name)) else {
        return;
    };
    match named(&String::from_utf8_lossy(paths.as_bytes()), key) {
        None => changes.whole_site(cache, site.config.canonical()),
        Some(scopes) => cache.purge(&scopes, false),
    }
}

/// The scopes of paths with commas between them; `None` where they come to the whole site. `/a/` is one
/// page, `/a/*` all below it.
fn named(paths: &str, key: &Key) -> Option<Vec<u64>> {
    let paths: Vec<&str> = paths
        .split(',')
        .map(str::trim)
        .filter(|path| path.starts_with('/'))
        .collect();
    if paths.len() > MOST_PATHS || paths.iter().any(|path| matches!(*path, "/*" | "/**")) {
        return None;
    }
    let scopes = paths
        .iter()
        .filter_map(|path| match path.strip_suffix('*') {
            Some(folder) if folder.ends_with('/') => {
                Some(Scope::prefix(&format!("{}{folder}", key.origin())))
            }
            _ => Some(Scope::url(key.resolve(path)?.as_str())),
        });
    Some(scopes.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn announcements() {
        let key = Key::new("https", "a.example", "/ghost/api/admin/posts/1/").expect("a key");
        let url = |path: &str| Scope::url(&format!("https://a.example{path}"));
        let folder = |path: &str| Scope::prefix(&format!("https://a.example{path}"));
        let table: &[(&str, Option<Vec<u64>>)] = &[
            ("/*", None),
            ("/a/, /*", None),
            ("", Some(vec![])),
            ("nonsense", Some(vec![])),
            ("/a/", Some(vec![url("/a/")])),
            ("/a/, /b/?x=1", Some(vec![url("/a/"), url("/b/?x=1")])),
            ("/tag/*", Some(vec![folder("/tag/")])),
            ("//other.example/", Some(vec![Scope::url("https://other.example/")])),
        ];
        for (paths, want) in table {
            assert_eq!(&named(paths, &key), want, "{paths}");
        }
        assert_eq!(named(&"/a/,".repeat(MOST_PATHS + 1), &key), None);
    }
}
