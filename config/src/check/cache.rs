//! What the operator adds to caching, in layers: preset, site, route. A layer holds only what was
//! written; the rules are complete once all layers are laid over one another.

use std::collections::BTreeSet;
use std::time::Duration;

use http::HeaderName;

use super::{Check, DAY, ZERO, each};
use crate::model::CacheRules;
use crate::problem::{Key, quoted};
use crate::raw;

/// What one table said.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer {
    enabled: Option<bool>,
    lifetime: Option<Duration>,
    stale: Option<Duration>,
    stale_if_error: Option<Duration>,
    session_cookies: BTreeSet<String>,
    compress: Option<bool>,
    keep: Option<bool>,
    invalidate_by: Option<HeaderName>,
}

impl Layer {
    /// This layer with `other` under it.
    pub(super) fn over(&self, other: &Self) -> Self {
        Self {
            enabled: self.enabled.or(other.enabled),
            lifetime: self.lifetime.or(other.lifetime),
            stale: self.stale.or(other.stale),
            stale_if_error: self.stale_if_error.or(other.stale_if_error),
            session_cookies: &self.session_cookies | &other.session_cookies,
            compress: self.compress.or(other.compress),
            keep: self.keep.or(other.keep),
            invalidate_by: self
                .invalidate_by
                .clone()
                .or_else(|| other.invalidate_by.clone()),
        }
    }

    /// This layer with the cache turned off.
    pub(super) fn off(&self) -> Self {
        Self {
            enabled: Some(false),
            ..self.clone()
        }
    }

    /// The complete rules, with the defaults under them.
    pub(super) fn rules(&self) -> CacheRules {
        CacheRules {
            enabled: self.enabled.unwrap_or(true),
            lifetime: self.lifetime,
            stale: self.stale,
            stale_if_error: self.stale_if_error.unwrap_or(DAY),
            session_cookies: self.session_cookies.clone(),
            compress: self.compress.unwrap_or(true),
            keep: self.keep.unwrap_or(false),
            invalidate_by: self.invalidate_by.clone(),
        }
    }

    /// Whether it asks for something that only a cache does, without turning the cache on.
    fn needs_cache(&self) -> bool {
        let any = self.lifetime.or(self.stale).or(self.stale_if_error);
        self.enabled.is_none() && any.is_some()
    }
}

impl Check<'_, '_> {
    /// One table, or the word `bypass`.
    pub(super) fn cache_layer(&mut self, key: &Key, raw: Option<&raw::CacheRules>) -> Layer {
        let table = match raw {
            None => return Layer::default(),
            Some(raw::CacheRules::Named(raw::CacheName::Bypass)) => {
                return Layer {
                    enabled: Some(false),
                    ..Layer::default()
                };
            }
            Some(raw::CacheRules::Rules(table)) => table,
        };
        let most = DAY * 365;
        Layer {
            enabled: table.enabled,
            lifetime: self.duration(&key.key("lifetime"), table.lifetime.as_ref(), ZERO, most),
            stale: self.duration(&key.key("stale"), table.stale.as_ref(), ZERO, most),
            stale_if_error: self.duration(
                &key.key("stale_if_error"),
                table.stale_if_error.as_ref(),
                ZERO,
                most,
            ),
            session_cookies: each(table.session_cookies.as_ref(), &key.key("session_cookies"))
                .filter_map(|(key, name)| self.cookie(&key, name))
                .collect(),
            compress: table.compress,
            keep: table.keep,
            invalidate_by: table
                .invalidate_by
                .as_deref()
                .and_then(|name| self.field(&key.key("invalidate_by"), name, None)),
        }
    }

    /// Rules in a layer over one that turned the cache off would be without effect.
    pub(super) fn cache_has_effect(&mut self, key: &Key, layer: &Layer, under: &Layer) {
        if layer.needs_cache() && under.enabled == Some(false) {
            let hint = "add enabled = true, or remove these rules";
            self.problems
                .add_with_hint(key, "rules without effect", "a cache that is on", hint);
        }
    }

    fn cookie(&mut self, key: &Key, name: &str) -> Option<String> {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if !name.is_empty() && name.bytes().all(token) {
            return Some(name.to_owned());
        }
        self.problems.add(key, quoted(name), "the name of a cookie");
        None
    }
}
