//! One request, from its head to its line in the log:
//!
//! ```text
//! route -> cache -> upstream -> response -> log
//! ```
//!
//! [`hit`] answers what lies fresh in the store, at once and on the spot. All else goes through
//! [`serve`], which may wait: for an upstream, for another request's fetch, for a restart.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use sovereign_config::model::Action;
use tracing::Instrument as _;

use crate::access_log::{Record, Told};
use crate::cache::clock;
use crate::cache::coding;
use crate::cache::conditional::{self, Condition};
use crate::cache::control::RequestDirectives;
use crate::cache::key::Key;
use crate::cache::reuse::{self, Reuse};
use crate::cache::status::{CacheStatus, Forward};
use crate::cache::{Entry, Lookup, comes_in_pieces, session_cookie, storable};
use crate::downstream::{BodyLength, Connection, Downstream, RequestHead, ResponseHead};
use crate::response::{self, Failure};
use crate::route::{Route, Routed, Site};
use crate::shared::{Live, Shared};
use crate::upstream::{self, Purpose};

// What the cache may answer, what fills it, what is learnt in passing, what an answer says has changed,
// and what is told of certificates.
mod aside;
mod cached;
mod changed;
mod feed;
mod fetch;

thread_local! {
    /// The text of the key that is being looked up: written anew each time, allocated once.
    static KEY: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Answers a request out of the store, if it can be done now; else nothing has happened.
pub async fn hit<D: Downstream>(
    shared: &Arc<Shared>,
    connection: &Arc<Connection>,
    head: &RequestHead,
    client: &mut D,
) -> bool {
    if shared.answers.token(head.target.path()).is_some() {
        return false;
    }
    let live = shared.live();
    let Routed::Here(site, route) = live.router.route(connection, head, &shared.certificates)
    else {
        return false;
    };
    if bypass(route, head).is_some() || head.upgrade || !client.body_done() {
        return false;
    }
    if feed::asked(&live, site, head).is_some() {
        return false;
    }
    let found = KEY.with_borrow_mut(|key| {
        key.clear();
        Key::write(key, connection.scheme(), head)?;
        let found = match shared.cache.lookup(key, &head.headers) {
            Lookup::OnDisk => shared.cache.load_now(key, &head.headers)?,
            found => found,
        };
        if let Lookup::Found(entry, _) = &found {
            shared.cache.used(key, entry);
        }
        Some(found)
    });
    let Some(Lookup::Found(entry, freshness)) = found else {
        return false;
    };
    let directives = directives(head);
    let now = clock::now();
    if for_origin(head, &entry) || comes_in_pieces(head, &entry) {
        return false;
    }
    let (age, ttl, refresh) = match reuse::decide(&freshness, &directives, now) {
        Reuse::Fresh { age, ttl } | Reuse::Stale { age, ttl } => (age, ttl, false),
        Reuse::StaleWhileRevalidate { age, ttl } => (age, ttl, true),
        Reuse::Validate(_) | Reuse::OnlyIfCached(_) => return false,
    };
    let exchange = Exchange {
        shared,
        live: &live,
        connection,
        head,
        site,
        route,
        id: None,
    };
    if refresh && entry.may_refresh() {
        exchange.refresh(&entry);
    }
    let status = CacheStatus {
        ttl: Some(ttl),
        detail: refresh.then_some("stale-while-revalidate"),
        ..CacheStatus::default()
    };
    let told = exchange.stored(client, &entry, status, age).await;
    exchange.log(client, &told);
    true
}

/// Serves a request, and gives the client's side back where the response was sent as it should be.
pub async fn serve<D: Downstream>(
    shared: &Arc<Shared>,
    connection: &Arc<Connection>,
    head: RequestHead,
    mut client: D,
) -> Option<D> {
    if let Some(answer) = challenge(shared, &head).await {
        let told = Told::own(StatusCode::OK, "acme-challenge");
        let sent = answer_with(&mut client, &head.method, answer).await;
        shared.log(&Record::new(connection, &head, None, &client, &told));
        return sent.is_ok().then_some(client);
    }
    let live = shared.live();
    let (site, route) = match live.router.route(connection, &head, &shared.certificates) {
        Routed::Here(site, route) => (site, route),
        Routed::Refused(site, route, refusal) => {
            let told = Told::own(StatusCode::FORBIDDEN, refusal.as_str());
            let (mut answer, body) = response::refused(refusal);
            response::finish(
                &mut answer.headers,
                site,
                Some(route),
                connection.tls.is_some(),
            );
            say_own(&mut answer, Some(refusal.as_str()));
            let sent = answer_with(&mut client, &head.method, (answer, body)).await;
            let place = Some((site, Some(route)));
            shared.log(&Record::new(connection, &head, place, &client, &told));
            return sent.is_ok().then_some(client);
        }
        Routed::Misdirected(reason) => {
            let status = StatusCode::MISDIRECTED_REQUEST;
            let told = Told::own(status, reason);
            let answer = (response::plain_head(status), response::plain_body(status));
            let sent = answer_with(&mut client, &head.method, answer).await;
            shared.log(&Record::new(connection, &head, None, &client, &told));
            return sent.is_ok().then_some(client);
        }
        Routed::Elsewhere {
            site,
            status,
            location,
            reason,
            by_language,
        } => {
            let told = Told::own(status, reason);
            let (mut answer, body) = response::redirect(status, &location);
            response::finish(&mut answer.headers, site, None, connection.tls.is_some());
            if by_language {
                response::vary_by_language(&mut answer.headers);
            }
            say_own(&mut answer, Some(reason));
            let sent = answer_with(&mut client, &head.method, (answer, body)).await;
            shared.log(&Record::new(
                connection,
                &head,
                Some((site, None)),
                &client,
                &told,
            ));
            return sent.is_ok().then_some(client);
        }
    };
    let id = shared.request_id();
    let exchange = Exchange {
        shared,
        live: &live,
        connection,
        head: &head,
        site,
        route,
        id: Some(&id),
    };
    // Before anything that could name the target, with the secret in it.
    if let Some(form) = feed::asked(&live, site, &head) {
        return Box::pin(exchange.feed(client, form)).await;
    }
    let span =
        tracing::debug_span!("request", id = &*id, method = %head.method, target = %head.target);
    exchange.serve(client).instrument(span).await
}

/// The answer to an authority's challenge (HTTP-01): before any site has its say, since the question
/// comes over plain HTTP and before there is a certificate. `None`: no challenge, or one of somebody else.
async fn challenge(shared: &Shared, head: &RequestHead) -> Option<(ResponseHead, Bytes)> {
    let token = shared.answers.token(head.target.path())?;
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return None;
    }
    // Boxed: it may ask other proxies, and requests that are none of this must not carry that.
    let body = Box::pin(shared.answers.http(token)).await?;
    let mut answer = response::plain_head(StatusCode::OK);
    let octets = "application/octet-stream";
    response::put(&mut answer.headers, header::CONTENT_TYPE, octets);
    Some((answer, Bytes::from(body)))
}

/// Makes the head of a response ready for the client.
type Dress = Box<dyn Fn(&mut ResponseHead) + Send + Sync>;

/// A request with all that is known about it.
struct Exchange<'a> {
    shared: &'a Arc<Shared>,
    live: &'a Arc<Live>,
    connection: &'a Arc<Connection>,
    head: &'a RequestHead,
    site: &'a Arc<Site>,
    route: &'a Arc<Route>,
    /// Given to what goes to an upstream.
    id: Option<&'a str>,
}

impl Exchange<'_> {
    async fn serve<D: Downstream>(&self, mut client: D) -> Option<D> {
        if let Action::Answer {
            status,
            body,
            content_type,
        } = &self.route.action
        {
            let answer = response::answer(*status, content_type, body);
            let told = Told::own(*status, "answer");
            return self.answered(client, answer, told).await;
        }
        let key = Key::of(self.connection.scheme(), self.head);
        let (Some(key), Some(_)) = (key, &self.route.pool) else {
            client.close_after();
            let failure = Failure::BadRequest;
            return self
                .failed(client, failure, Told::own(failure.status(), "target"))
                .await;
        };
        match bypass(self.route, self.head) {
            Some((forward, detail)) => self.pass(client, &key, forward, Some(detail)).await,
            None if self.head.upgrade => {
                self.pass(client, &key, Forward::Bypass, Some("upgrade"))
                    .await
            }
            // What such a body means to the origin is not part of the key.
            None if !client.body_done() => {
                self.pass(client, &key, Forward::Bypass, Some("request-body"))
                    .await
            }
            None => self.cached(client, &key).await,
        }
    }

    /// Passes an exchange through, past the store.
    async fn pass<D: Downstream>(
        &self,
        client: D,
        key: &Key,
        forward: Forward,
        detail: Option<&'static str>,
    ) -> Option<D> {
        let status = CacheStatus {
            forward: Some(forward),
            detail,
            ..CacheStatus::default()
        };
        let Some(pool) = &self.route.pool else {
            return None;
        };
        let request = upstream::request(
            self.head,
            self.headers_for_origin(key),
            self.connection,
            self.route,
            &self.live.config.trusted,
            self.id.unwrap_or_default(),
        );
        let (hold, place) = (self.site.config.hold, (self.site, self.route));
        let (dress, method) = (self.dress(key, forward, detail), &self.head.method);
        let upstreams = &self.shared.upstreams;
        let (mut client, course) = if let Some(stored) = self.stored_get(key) {
            let course = upstream::course(place, pool, method, hold, Purpose::Fill);
            let tee = self.learns_from_head(client, key, stored, dress);
            let tee = upstreams.pass(tee, request, &course).await?;
            (tee.into_inner(), course)
        } else if self.may_learn(key) {
            let course = upstream::course(place, pool, method, hold, Purpose::Fill);
            let tee = self.learns_in_passing(client, key, dress);
            let tee = upstreams.pass(tee, request, &course).await?;
            (tee.into_inner(), course)
        } else {
            let purpose = Purpose::Client(dress);
            let course = upstream::course(place, pool, method, hold, purpose);
            (upstreams.pass(client, request, &course).await?, course)
        };
        let sent = course
            .status()
            .and_then(|status| StatusCode::from_u16(status).ok());
        let mut told = Told::of(sent.unwrap_or(StatusCode::BAD_GATEWAY), &status);
        told.course = Some(course.clone());
        match course.failure() {
            None => self.done(client, told),
            Some(failure) if client.started() => {
                client.close_after();
                told.detail = Some(failure.as_str());
                self.broken(client, told)
            }
            Some(failure) => {
                told.status = failure.status().as_u16();
                told.detail = Some(failure.as_str());
                self.failed(client, failure, told).await
            }
        }
    }

    /// Whether the answer may be something to store although it is passed through: what a GET would
    /// bring (RFC 9110 section 9.3.3), a part, or what was not fit for sharing a moment ago.
    fn may_learn(&self, key: &Key) -> bool {
        let rules = &self.route.cache;
        let method = &self.head.method;
        (*method == Method::POST
            || (*method == Method::GET
                && (self.head.headers.contains_key(header::RANGE)
                    || self.shared.cache.is_unshared(key.as_str()))))
            && rules.enabled
            && !self.head.upgrade
            && session_cookie(&self.head.headers, &rules.session_cookies).is_none()
    }

    /// What is stored for the target of a HEAD that is passed through.
    fn stored_get(&self, key: &Key) -> Option<Arc<Entry>> {
        if self.head.method != Method::HEAD || !self.route.cache.enabled {
            return None;
        }
        match self.shared.cache.lookup(key.as_str(), &self.head.headers) {
            Lookup::Found(entry, _) => Some(entry),
            _ => None,
        }
    }

    /// The fields of a request that is passed through: a tag that only our coded form of a page has is
    /// put back into the origin's own.
    fn headers_for_origin(&self, key: &Key) -> HeaderMap {
        let mut headers = self.head.headers.clone();
        if headers.contains_key(header::IF_MATCH)
            && let Lookup::Found(entry, _) = self.shared.cache.lookup(key.as_str(), &headers)
            && let Some(tag) = entry.validators.strong_etag().filter(|_| entry.compress)
        {
            coding::for_origin(&mut headers, tag);
        }
        headers
    }

    /// What is done to the head of a response that is passed through. What the request has made
    /// outdated is gone before the client can know that it was answered (RFC 9111 section 4.4).
    fn dress(&self, key: &Key, forward: Forward, detail: Option<&'static str>) -> Dress {
        let (shared, site, route) = (self.shared.clone(), self.site.clone(), self.route.clone());
        let (method, key) = (self.head.method.clone(), key.clone());
        let tls = self.connection.tls.is_some();
        Box::new(move |head| {
            let stored = (&*shared.cache, &shared.changes);
            let (place, asked) = ((&*site, &*route), (&method, &key));
            changed::heed(stored, place, asked, head.status, &head.headers);
            response::date(&mut head.headers);
            let status = CacheStatus {
                forward: Some(forward),
                forward_status: Some(head.status.as_u16()),
                detail,
                ..CacheStatus::default()
            };
            if let Ok(value) = HeaderValue::from_str(&status.to_string()) {
                head.headers.append(response::CACHE_STATUS, value);
            }
            response::finish(&mut head.headers, &site, Some(&route), tls);
        })
    }

    /// Says what went wrong, in the site's own words where it has some.
    async fn failed<D: Downstream>(&self, client: D, failure: Failure, told: Told) -> Option<D> {
        if failure == Failure::ClientGone {
            return self.broken(client, told);
        }
        let html = accepts_html(self.head);
        let mut answer = response::failed(failure.status(), self.site, html);
        if told.cache != "none" {
            let word = format!("sovereign; fwd={}; detail={}", told.cache, failure.as_str());
            if let Ok(value) = HeaderValue::from_str(&word) {
                answer.0.headers.insert(response::CACHE_STATUS, value);
            }
        }
        self.answered(client, answer, told).await
    }

    async fn answered<D: Downstream>(
        &self,
        mut client: D,
        (mut head, body): (ResponseHead, Bytes),
        told: Told,
    ) -> Option<D> {
        let tls = self.connection.tls.is_some();
        response::finish(&mut head.headers, self.site, Some(self.route), tls);
        say_own(&mut head, told.detail);
        match answer_with(&mut client, &self.head.method, (head, body)).await {
            Ok(()) => self.done(client, told),
            Err(_) => self.broken(client, told),
        }
    }

    fn done<D: Downstream>(&self, client: D, told: Told) -> Option<D> {
        self.log(&client, &told);
        Some(client)
    }

    /// The response could not be sent as it should: the connection, or the stream, ends with it.
    fn broken<D: Downstream>(&self, client: D, told: Told) -> Option<D> {
        self.log(&client, &told);
        None
    }

    fn log<D: Downstream>(&self, client: &D, told: &Told) {
        let place = Some((self.site, Some(self.route)));
        let mut record = Record::new(self.connection, self.head, place, client, told);
        record.id = self.id;
        self.shared.log(&record);
    }
}

/// Why a request goes past the store altogether.
fn bypass(route: &Route, head: &RequestHead) -> Option<(Forward, &'static str)> {
    if !matches!(route.action, Action::Forward(_)) {
        return Some((Forward::Bypass, "answer"));
    }
    if !route.cache.enabled {
        return Some((Forward::Bypass, "route"));
    }
    if !storable::answerable(&head.method) {
        return Some((Forward::Method, "method"));
    }
    if session_cookie(&head.headers, &route.cache.session_cookies).is_some() {
        return Some((Forward::Bypass, "session-cookie"));
    }
    None
}

fn directives(head: &RequestHead) -> RequestDirectives {
    if head.headers.contains_key(header::CACHE_CONTROL) || head.headers.contains_key(header::PRAGMA)
    {
        RequestDirectives::of(&head.headers)
    } else {
        RequestDirectives::default()
    }
}

/// Whether only the origin may judge the request's conditions (`If-Match`, `If-Unmodified-Since`).
fn for_origin(head: &RequestHead, entry: &Entry) -> bool {
    conditional::has_condition(&head.headers)
        && conditional::evaluate(
            &head.method,
            &head.headers,
            entry.head.status,
            &entry.validators,
        ) == Condition::ForOrigin
}

/// Whether the client is a browser that shows pages.
fn accepts_html(head: &RequestHead) -> bool {
    head.headers
        .get(header::ACCEPT)
        .is_some_and(|accept| memchr::memmem::find(accept.as_bytes(), b"text/html").is_some())
}

/// Says in `Cache-Status` that the answer is our own, where nothing has been said yet (RFC 9211 section 2).
fn say_own(head: &mut ResponseHead, detail: Option<&str>) {
    if head.headers.contains_key(response::CACHE_STATUS) {
        return;
    }
    let word = match detail {
        Some(detail) => format!("sovereign; detail={detail}"),
        None => "sovereign".to_owned(),
    };
    if let Ok(word) = HeaderValue::from_str(&word) {
        head.headers.insert(response::CACHE_STATUS, word);
    }
}

async fn answer_with<D: Downstream>(
    client: &mut D,
    method: &Method,
    (mut head, body): (ResponseHead, Bytes),
) -> io::Result<()> {
    let length = BodyLength::of(method, &head, Some(body.len() as u64));
    if *method == Method::HEAD {
        head.headers
            .insert(header::CONTENT_LENGTH, body.len().into());
    }
    client.respond(head, length, body).await
}
