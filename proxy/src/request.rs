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
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use sovereign_config::model::Action;
use tracing::Instrument as _;

use crate::access_log::{Record, Told};
use crate::cache::conditional::{self, Condition};
use crate::cache::control::RequestDirectives;
use crate::cache::key::Key;
use crate::cache::reuse::{self, Reuse};
use crate::cache::status::{CacheStatus, Forward};
use crate::cache::{Entry, Lookup, comes_in_pieces, session_cookie, storable, update};
use crate::downstream::{BodyLength, Connection, Downstream, RequestHead, ResponseHead};
use crate::response::{self, Failure};
use crate::route::{Route, Routed, Site};
use crate::shared::{Live, Shared};
use crate::upstream::{self, Purpose};

// What the cache may answer, and what fills it.
mod cached;
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
    let live = shared.live();
    let Routed::Here(site, route) = live.router.route(connection, head) else {
        return false;
    };
    if bypass(route, head).is_some() || head.upgrade || !client.body_done() {
        return false;
    }
    let found = KEY.with_borrow_mut(|key| {
        key.clear();
        Key::write(key, connection.scheme(), &head.host, head.target.as_str())
            .then(|| shared.cache.lookup(key, &head.headers))
    });
    let Some(Lookup::Found(entry)) = found else {
        return false;
    };
    let directives = directives(head);
    let now = SystemTime::now();
    if for_origin(head, &entry) || comes_in_pieces(head) {
        return false;
    }
    let (age, ttl, refresh) = match reuse::decide(&entry.freshness, &directives, now) {
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
    let live = shared.live();
    let (site, route) = match live.router.route(connection, &head) {
        Routed::Here(site, route) => (site, route),
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
        } => {
            let told = Told::own(status, reason);
            let (mut answer, body) = response::redirect(status, &location);
            response::finish(&mut answer.headers, site, None, connection.tls.is_some());
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
    let span =
        tracing::debug_span!("request", id = &*id, method = %head.method, target = %head.target);
    exchange.serve(client).instrument(span).await
}

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
        let key = Key::new(
            self.connection.scheme(),
            &self.head.host,
            self.head.target.as_str(),
        );
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
            self.head.headers.clone(),
            self.connection,
            self.route,
            &self.live.config.trusted,
            self.id.unwrap_or_default(),
        );
        let hold = self.site.config.hold;
        let purpose = Purpose::Client(self.dress(key, forward, detail));
        let course = upstream::course(self.site, pool, &self.head.method, hold, purpose);
        let mut client = self.shared.upstreams.pass(client, request, &course).await?;
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

    /// What is done to the head of a response that is passed through. What the request has made
    /// outdated is gone before the client can know that it was answered (RFC 9111 section 4.4).
    fn dress(
        &self,
        key: &Key,
        forward: Forward,
        detail: Option<&'static str>,
    ) -> Box<dyn Fn(&mut ResponseHead) + Send + Sync> {
        let (cache, site, route) = (
            self.shared.cache.clone(),
            self.site.clone(),
            self.route.clone(),
        );
        let (method, key) = (self.head.method.clone(), key.clone());
        let tls = self.connection.tls.is_some();
        Box::new(move |head| {
            for key in update::invalidated(&method, &key, head.status, &head.headers) {
                cache.invalidate(key.as_str());
            }
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
