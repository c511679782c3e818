//! What is asked of an upstream, as far as it decides what becomes of the answer: whether that may be
//! stored, for how long, and what it belongs to. Judged alike whether a fetch of our own asks or a
//! request that passes by.

use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, Method};
use sovereign_config::model::CacheRules;

use super::control::{RequestDirectives, ResponseControl};
use super::entry::{Entry, Origin};
use super::freshness::{Freshness, Policy};
use super::key::Key;
use super::scope::{self, Scope};
use super::storable::{Exchange, NotStored, storable};
use super::update;
use crate::downstream::ResponseHead;

/// A request to an upstream whose answer the cache may keep.
pub struct Question {
    /// What it asks for.
    pub key: Key,
    /// How.
    pub method: Method,
    /// The client's fields: what varies is read from them.
    pub request: Arc<HeaderMap>,
    /// What they say to caches.
    pub directives: RequestDirectives,
    /// What the operator adds.
    pub policy: Policy,
    /// Whose the answer will be.
    pub owner: Owner,
    /// Who asks can hold a part of a representation.
    pub holds_parts: bool,
    /// When it was asked.
    pub requested: SystemTime,
}

/// Whose a response is.
#[derive(Debug, Clone)]
pub struct Owner {
    /// The canonical name of its site.
    pub site: Box<str>,
    /// What it may push out, and be pushed out by: 0 for all ordinary sites, a number of its own for a
    /// site whose stored responses are kept.
    pub lane: u64,
    /// Stored pages are compressed.
    pub compress: bool,
}

/// What the head of an answer says of it.
pub struct Judged {
    /// What it says to caches.
    pub control: ResponseControl,
    /// How long it may be used.
    pub freshness: Freshness,
    /// Whether it may be stored.
    pub storable: Result<(), NotStored>,
}

impl Owner {
    /// The owner of what a site stores under these rules.
    pub fn new(site: &str, rules: &CacheRules) -> Self {
        Self {
            lane: if rules.keep { Scope::site(site) } else { 0 },
            compress: rules.compress,
            site: site.into(),
        }
    }
}

impl Question {
    /// A GET with these fields, asked now.
    pub fn get(key: Key, request: Arc<HeaderMap>, policy: Policy, owner: Owner) -> Self {
        Self {
            key,
            method: Method::GET,
            directives: RequestDirectives::of(&request),
            request,
            policy,
            owner,
            holds_parts: false,
            requested: SystemTime::now(),
        }
    }

    /// Judges an answer by its head.
    pub(super) fn judge(&self, head: &ResponseHead, received: SystemTime) -> Judged {
        let control = ResponseControl::of(&head.headers);
        let freshness = Freshness::of(
            head.status,
            &head.headers,
            &control,
            self.requested,
            received,
            &self.policy,
        );
        let storable = self.storable(&self.method, head, &control, &freshness);
        Judged {
            control,
            freshness,
            storable,
        }
    }

    /// What a response with these fields belongs to; `None` where it names too many tags to be purged by
    /// all of them.
    pub fn origin(&self, born: u64, headers: &HeaderMap) -> Option<Origin> {
        let scopes = scope::scopes_of(&self.owner.site, &self.key, headers);
        (!scopes.too_many).then_some(Origin {
            born,
            scopes: scopes.list,
            compress: self.owner.compress,
        })
    }

    /// What an answer says and what it belongs to; `None` where it may not be stored.
    pub fn keeps(
        &self,
        head: &ResponseHead,
        received: SystemTime,
        born: u64,
    ) -> Option<(Judged, Origin)> {
        let judged = self.judge(head, received);
        let origin = self.origin(born, &head.headers)?;
        judged.storable.is_ok().then_some((judged, origin))
    }

    /// A stored response, freshened by these fields of a 304 or of the answer to a HEAD, and whether it may
    /// stay (RFC 9111, 4.3.4); `None` where it names too many tags.
    pub fn freshens(
        &self,
        stale: &Entry,
        fields: &HeaderMap,
        received: SystemTime,
        born: u64,
    ) -> Option<(Arc<Entry>, bool)> {
        let mut merged = stale.head.headers.clone();
        update::merge(&mut merged, fields);
        let origin = self.origin(born, &merged)?;
        let fresh = stale.refreshed(
            fields,
            &self.request,
            self.requested,
            received,
            &self.policy,
            origin,
        );
        let control = ResponseControl::of(&fresh.head.headers);
        // What is stored answers a GET, whatever has freshened it.
        let judged = self.storable(&Method::GET, &fresh.head, &control, fresh.stated());
        Some((Arc::new(fresh), judged.is_ok()))
    }

    fn storable(
        &self,
        method: &Method,
        head: &ResponseHead,
        control: &ResponseControl,
        freshness: &Freshness,
    ) -> Result<(), NotStored> {
        storable(&Exchange {
            method,
            target: &self.key,
            request: &self.request,
            directives: &self.directives,
            status: head.status,
            response: &head.headers,
            control,
            freshness,
            holds_parts: self.holds_parts,
        })
    }
}
