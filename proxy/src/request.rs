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
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use sovereign_config::model::Action;
use tracing::Instrument as _;

use crate::access_log::Record;
use crate::app::{App, Live};
use crate::cache::conditional::{self, Condition};
use crate::cache::control::RequestDirectives;
use crate::cache::key::Key;
use crate::cache::reuse::{self, OnError, Reuse};
use crate::cache::status::{CacheStatus, Forward};
use crate::cache::{
    self, Entry, Fill, Filled, Flight, Joined, Lookup, Outcome, session_cookie, storable,
};
use crate::downstream::{BodyLength, Connection, Downstream, RequestHead, ResponseHead};
use crate::response::{self, Failure};
use crate::route::{Route, Routed, Site};
use crate::upstream::{self, Course, Dressing, Invalidates, Purpose};

/// How often a request looks again after it joined a fetch that turned out to be for another variant.
const LOOKS: usize = 3;

thread_local! {
    /// The text of the key that is being looked up: written anew each time, allocated once.
    static KEY: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Answers a request out of the store, if it can be done now; else nothing has happened.
pub async fn hit<D: Downstream>(
    app: &Arc<App>,
    connection: &Arc<Connection>,
    head: &RequestHead,
    client: &mut D,
) -> bool {
    let live = app.live();
    let Routed::Here(site, route) = live.router.route(connection, head) else {
        return false;
    };
    if bypass(route, head).is_some() || head.upgrade {
        return false;
    }
    let found = KEY.with_borrow_mut(|key| {
        key.clear();
        Key::write(key, connection.scheme(), &head.host, head.target.as_str())
            .then(|| app.cache.lookup(key, &head.headers))
    });
    let Some(Lookup::Found(entry)) = found else {
        return false;
    };
    let directives = directives(head);
    let now = SystemTime::now();
    if for_origin(head, &entry) {
        return false;
    }
    let (age, ttl, refresh) = match reuse::decide(&entry.freshness, &directives, now) {
        Reuse::Fresh { age, ttl } | Reuse::Stale { age, ttl } => (age, ttl, false),
        Reuse::StaleWhileRevalidate { age, ttl } => (age, ttl, true),
        Reuse::Validate(_) | Reuse::OnlyIfCached(_) => return false,
    };
    let exchange = Exchange {
        app,
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
    app: &Arc<App>,
    connection: &Arc<Connection>,
    head: RequestHead,
    mut client: D,
) -> Option<D> {
    let live = app.live();
    let (site, route) = match live.router.route(connection, &head) {
        Routed::Here(site, route) => (site, route),
        Routed::Misdirected(reason) => {
            let status = StatusCode::MISDIRECTED_REQUEST;
            let told = Told::own(status, reason);
            let answer = (response::plain_head(status), response::plain_body(status));
            let sent = answer_with(&mut client, &head.method, answer).await;
            app.log(&Record::new(connection, &head, None, &client, &told));
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
            app.log(&Record::new(
                connection,
                &head,
                Some((site, None)),
                &client,
                &told,
            ));
            return sent.is_ok().then_some(client);
        }
    };
    let id = app.request_id();
    let exchange = Exchange {
        app,
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
    app: &'a Arc<App>,
    live: &'a Arc<Live>,
    connection: &'a Arc<Connection>,
    head: &'a RequestHead,
    site: &'a Arc<Site>,
    route: &'a Arc<Route>,
    /// Given to what goes to an upstream.
    id: Option<&'a str>,
}

/// What the log is told of an exchange.
#[derive(Default)]
pub struct Told {
    /// The status that was sent, or that says what went wrong.
    pub status: u16,
    /// The cache's word: `hit`, or why it asked the upstream; `none` where it had no part.
    pub cache: &'static str,
    /// More of the cache, or what went wrong.
    pub detail: Option<&'static str>,
    /// The response was stored.
    pub stored: bool,
    /// It waited for another request's fetch.
    pub collapsed: bool,
    /// The exchange with an upstream, where there was one.
    pub course: Option<Arc<Course>>,
}

impl Told {
    fn own(status: StatusCode, detail: &'static str) -> Self {
        Self {
            status: status.as_u16(),
            cache: "none",
            detail: Some(detail),
            ..Self::default()
        }
    }

    fn of(status: StatusCode, cache: &CacheStatus<'static>) -> Self {
        Self {
            status: status.as_u16(),
            cache: cache.word(),
            detail: cache.detail,
            stored: cache.stored,
            collapsed: cache.collapsed,
            ..Self::default()
        }
    }
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
            None => self.cached(client, &key).await,
        }
    }

    /// Serves from the store or through a fetch that fills it.
    async fn cached<D: Downstream>(&self, mut client: D, key: &Key) -> Option<D> {
        let cache = &self.app.cache;
        let directives = directives(self.head);
        let mut names: Box<[HeaderName]> = Box::default();
        for _ in 0..LOOKS {
            let now = SystemTime::now();
            let (stale, forward) = match cache.lookup(key.as_str(), &self.head.headers) {
                Lookup::UriMiss => (None, Forward::UriMiss),
                Lookup::VaryMiss(by) => {
                    names = by;
                    (None, Forward::VaryMiss)
                }
                Lookup::Found(entry) => match reuse::decide(&entry.freshness, &directives, now) {
                    Reuse::Fresh { age, ttl } | Reuse::Stale { age, ttl } => {
                        if !for_origin(self.head, &entry) {
                            return self.store_hit(client, &entry, ttl, age, None).await;
                        }
                        (None, Forward::Request)
                    }
                    Reuse::StaleWhileRevalidate { age, ttl } => {
                        if entry.may_refresh() {
                            self.refresh(&entry);
                        }
                        let detail = Some("stale-while-revalidate");
                        return self.store_hit(client, &entry, ttl, age, detail).await;
                    }
                    Reuse::OnlyIfCached(_) => return self.only_if_cached(client).await,
                    Reuse::Validate(reason) => (Some(entry), reason.forward()),
                },
            };
            if directives.only_if_cached {
                return self.only_if_cached(client).await;
            }
            if let Some(entry) = &stale
                && !entry.may_refresh()
                && let OnError::Serve { age, ttl, by } =
                    reuse::on_error(&entry.freshness, now, false)
            {
                return self
                    .store_hit(client, entry, ttl, age, Some(by.as_str()))
                    .await;
            }
            if let Some(detail) = self.goes_alone(key, stale.as_deref(), &directives) {
                return self.pass(client, key, forward, detail).await;
            }
            let (flight, leads) = self.join(key, &names);
            if leads && self.is_there_now(key, stale.as_ref()) {
                cache.flights().close(&flight);
                continue;
            }
            if leads {
                self.fill(key, stale.clone(), flight.clone());
            }
            match self.wait(&mut client, &flight, leads).await? {
                Outcome::Interim(_) | Outcome::NotShared => {
                    return self.pass(client, key, forward, Some("not-shared")).await;
                }
                Outcome::OtherVariant(by) => names = by,
                Outcome::Landed(entry, status) => {
                    let age = entry.freshness.current_age(SystemTime::now()).as_secs();
                    let status = CacheStatus {
                        forward: Some(forward),
                        forward_status: Some(status),
                        stored: true,
                        collapsed: !leads,
                        ttl: Some(entry.freshness.ttl(SystemTime::now())),
                        detail: None,
                    };
                    let mut told = self.stored(&mut client, &entry, status, age).await;
                    told.course = flight.course();
                    return self.done(client, told);
                }
                Outcome::Live(live, reader) => {
                    let status = CacheStatus {
                        forward: Some(forward),
                        forward_status: Some(live.head.status.as_u16()),
                        stored: live.stored.is_ok(),
                        collapsed: !leads,
                        ttl: live.stored.as_ref().ok().map(|shared| shared.ttl),
                        detail: live.stored.as_ref().err().copied(),
                    };
                    let mut told = Told::of(live.head.status, &status);
                    told.course = flight.course();
                    return self.stream(client, &live, reader, &status, told).await;
                }
                Outcome::Failed(failure) => {
                    let course = flight.course();
                    return self.stand_in(client, stale, failure, forward, course).await;
                }
            }
        }
        self.pass(client, key, Forward::VaryMiss, Some("vary"))
            .await
    }

    /// Why a request that the store cannot answer is not worth a shared fetch; the inner word is for `Cache-Status`.
    fn goes_alone(
        &self,
        key: &Key,
        stale: Option<&Entry>,
        directives: &RequestDirectives,
    ) -> Option<Option<&'static str>> {
        let headers = &self.head.headers;
        if directives.no_store {
            Some(Some("request-no-store"))
        } else if for_origin_only(self.head) {
            Some(Some("precondition"))
        } else if stale.is_none() && self.head.method == Method::HEAD {
            Some(Some("head"))
        } else if stale.is_none() && headers.contains_key(header::RANGE) {
            Some(Some("range"))
        } else if self.app.cache.is_unshared(key.as_str()) {
            Some(None)
        } else {
            None
        }
    }

    fn join(&self, key: &Key, names: &[HeaderName]) -> (Arc<Flight>, bool) {
        let flights = self.app.cache.flights();
        if self.head.headers.contains_key(header::AUTHORIZATION) {
            return (flights.alone(), true);
        }
        let variant = cache::vary::variant_key(names, &self.head.headers);
        let joined = if variant.is_empty() {
            flights.join(key.as_str())
        } else {
            // A space cannot stand in a URI, so no key is another one's variant.
            flights.join(&format!("{} {variant}", key.as_str()))
        };
        match joined {
            Joined::Lead(flight) => (flight, true),
            Joined::Join(flight) => (flight, false),
        }
    }

    /// Whether another request's fetch ended between our look at the store and our flight.
    fn is_there_now(&self, key: &Key, stale: Option<&Arc<Entry>>) -> bool {
        match self.app.cache.lookup(key.as_str(), &self.head.headers) {
            Lookup::Found(entry) => stale.is_none_or(|stale| !Arc::ptr_eq(stale, &entry)),
            Lookup::VaryMiss(_) | Lookup::UriMiss => false,
        }
    }

    /// Waits for a flight, handing interim responses on; `None` where the client goes away.
    async fn wait<D: Downstream>(
        &self,
        client: &mut D,
        flight: &Arc<Flight>,
        leads: bool,
    ) -> Option<Outcome> {
        let mut seen = 0;
        loop {
            let outcome = tokio::select! {
                biased;
                outcome = flight.outcome(&self.head.headers, leads, &mut seen) => outcome,
                _ = client.gone() => {
                    let failure = Failure::ClientGone;
                    self.log(client, &Told::own(failure.status(), failure.as_str()));
                    return None;
                }
            };
            match outcome {
                // A client that cannot take it goes without.
                Outcome::Interim(head) => client.interim(&head).await.ok()?,
                outcome => return Some(outcome),
            }
        }
    }

    /// Fetches in a task of its own, so that it outlives the client that asked.
    fn fill(&self, key: &Key, stale: Option<Arc<Entry>>, flight: Arc<Flight>) {
        let Some(pool) = self.route.pool.clone() else {
            return;
        };
        let stands_in = stale.as_ref().is_some_and(|stale| {
            matches!(
                reuse::on_error(&stale.freshness, SystemTime::now(), false),
                OnError::Serve { .. }
            )
        });
        // With something to show there is no reason to let a reader wait for a restart.
        let hold = if stands_in {
            Duration::ZERO
        } else {
            self.site.config.hold
        };
        let fetch = Fetch {
            app: self.app.clone(),
            live: self.live.clone(),
            connection: self.connection.clone(),
            head: self.head.without_fields(Method::GET),
            headers: Arc::new(self.head.headers.clone()),
            site: self.site.clone(),
            route: self.route.clone(),
            pool,
            key: key.clone(),
            flight,
            hold,
        };
        let span = tracing::debug_span!("fetch", key = key.as_str());
        self.app.tasks.spawn(fetch.run(stale).instrument(span));
    }

    /// Refreshes in the background, once.
    fn refresh(&self, entry: &Arc<Entry>) {
        let Some(key) = Key::new(
            self.connection.scheme(),
            &self.head.host,
            self.head.target.as_str(),
        ) else {
            return;
        };
        let flights = self.app.cache.flights();
        let flight = if entry.variant.is_empty() {
            flights.lead(key.as_str())
        } else {
            flights.lead(&format!("{} {}", key.as_str(), entry.variant))
        };
        match flight {
            Some(flight) if self.is_there_now(&key, Some(entry)) => flights.close(&flight),
            Some(flight) => self.fill(&key, Some(entry.clone()), flight),
            None => {}
        }
    }

    async fn store_hit<D: Downstream>(
        &self,
        mut client: D,
        entry: &Arc<Entry>,
        ttl: i64,
        age: u64,
        detail: Option<&'static str>,
    ) -> Option<D> {
        let status = CacheStatus {
            ttl: Some(ttl),
            detail,
            ..CacheStatus::default()
        };
        let told = self.stored(&mut client, entry, status, age).await;
        self.done(client, told)
    }

    /// Sends a stored response.
    async fn stored<D: Downstream>(
        &self,
        client: &mut D,
        entry: &Arc<Entry>,
        status: CacheStatus<'static>,
        age: u64,
    ) -> Told {
        let dressed = entry.dressed(self.site, self.route, self.connection.tls.is_some());
        match cache::serve(client, self.head, entry, &dressed, &status, age).await {
            Ok(sent) => Told::of(sent, &status),
            Err(_) => {
                client.close_after();
                Told::of(Failure::ClientGone.status(), &status)
            }
        }
    }

    /// A response on its way, to one of its readers.
    async fn stream<D: Downstream>(
        &self,
        mut client: D,
        live: &cache::LiveHead,
        mut reader: cache::Reader,
        status: &CacheStatus<'static>,
        mut told: Told,
    ) -> Option<D> {
        let mut head = cache::stream_head(&live.head, status);
        let tls = self.connection.tls.is_some();
        response::finish(&mut head.headers, self.site, Some(self.route), tls);
        if self.is_not_modified(&head) {
            head.status = StatusCode::NOT_MODIFIED;
            told.status = 304;
        }
        let length = BodyLength::of(&self.head.method, &head, live.length);
        if client.start(head, length).await.is_err() {
            told.status = Failure::ClientGone.status().as_u16();
            return self.broken(client, told);
        }
        if length == BodyLength::None {
            return match client.finish(None).await {
                Ok(()) => self.done(client, told),
                Err(_) => self.broken(client, told),
            };
        }
        loop {
            let sent = match reader.next().await {
                Ok(Ok(piece)) => client.data(piece).await,
                Ok(Err(trailers)) => {
                    let ended = client.finish(trailers).await;
                    if ended.is_ok() {
                        return self.done(client, told);
                    }
                    ended
                }
                Err(failure) => {
                    told.detail = Some(failure.as_str());
                    return self.broken(client, told);
                }
            };
            if sent.is_err() {
                told.status = Failure::ClientGone.status().as_u16();
                return self.broken(client, told);
            }
        }
    }

    /// The client's own condition, against a response that has just come (RFC 9111 section 4.3.2).
    fn is_not_modified(&self, head: &ResponseHead) -> bool {
        head.status == StatusCode::OK
            && conditional::has_condition(&self.head.headers)
            && conditional::evaluate(
                &self.head.method,
                &self.head.headers,
                head.status,
                &conditional::Validators::of(&head.headers, SystemTime::now()),
            ) == Condition::NotModified
    }

    /// The upstream gave nothing: what is stored stands in where it may.
    async fn stand_in<D: Downstream>(
        &self,
        client: D,
        stale: Option<Arc<Entry>>,
        failure: Failure,
        forward: Forward,
        course: Option<Arc<Course>>,
    ) -> Option<D> {
        if let Some(entry) = stale
            && let OnError::Serve { age, ttl, by } =
                reuse::on_error(&entry.freshness, SystemTime::now(), false)
        {
            entry.refresh_failed();
            return self
                .store_hit(client, &entry, ttl, age, Some(by.as_str()))
                .await;
        }
        let status = CacheStatus {
            forward: Some(forward),
            detail: Some(failure.as_str()),
            ..CacheStatus::default()
        };
        let mut told = Told::of(failure.status(), &status);
        told.course = course;
        self.failed(client, failure, told).await
    }

    async fn only_if_cached<D: Downstream>(&self, client: D) -> Option<D> {
        let status = StatusCode::GATEWAY_TIMEOUT;
        let answer = response::failed(status, self.site, false);
        self.answered(client, answer, Told::own(status, "only-if-cached"))
            .await
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
        let dressing = Dressing {
            route: self.route.clone(),
            tls: self.connection.tls.is_some(),
            forward,
            detail,
            invalidates: Invalidates {
                cache: self.app.cache.clone(),
                method: self.head.method.clone(),
                target: key.clone(),
            },
        };
        let hold = self.site.config.hold;
        let purpose = Purpose::Client(dressing);
        let course = upstream::course(self.site, pool, &self.head.method, hold, purpose);
        let mut client = self.app.upstreams.pass(client, request, &course).await?;
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

    /// Says what went wrong, in the site's own words where it has some.
    async fn failed<D: Downstream>(&self, client: D, failure: Failure, told: Told) -> Option<D> {
        if failure == Failure::ClientGone {
            return self.broken(client, told);
        }
        let html = accepts_html(self.head);
        let mut answer = response::failed(failure.status(), self.site, html);
        if told.cache != "none" {
            let word = format!("sovereign; fwd={}; detail={}", told.cache, failure.as_str());
            if let Ok(value) = http::HeaderValue::from_str(&word) {
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
        self.app.log(&record);
    }
}

/// A fetch that fills the cache, with all it needs to outlive its request.
struct Fetch {
    app: Arc<App>,
    live: Arc<Live>,
    connection: Arc<Connection>,
    /// Without its fields, which the fill shares.
    head: RequestHead,
    headers: Arc<HeaderMap>,
    site: Arc<Site>,
    route: Arc<Route>,
    pool: Arc<upstream::Pool>,
    key: Key,
    flight: Arc<Flight>,
    hold: Duration,
}

impl Fetch {
    async fn run(self, mut stale: Option<Arc<Entry>>) {
        loop {
            let (filled, failure) = self.once(stale.clone()).await;
            match filled {
                Filled::Done => {}
                Filled::AskAgain if stale.is_some() => {
                    stale = None;
                    continue;
                }
                Filled::AskAgain | Filled::Broken | Filled::StaleStandsIn => {
                    if let Some(stale) = &stale {
                        stale.refresh_failed();
                    }
                    self.flight.failed(failure);
                }
            }
            self.app.cache.flights().close(&self.flight);
            return;
        }
    }

    async fn once(&self, stale: Option<Arc<Entry>>) -> (Filled, Failure) {
        let fill = Fill::new(
            self.app.cache.clone(),
            self.flight.clone(),
            self.key.clone(),
            self.headers.clone(),
            self.route.policy,
            stale,
        );
        let request = upstream::request(
            &self.head,
            fill.upstream_headers(),
            &self.connection,
            &self.route,
            &self.live.config.trusted,
            &self.app.request_id(),
        );
        let course = upstream::course(
            &self.site,
            &self.pool,
            &Method::GET,
            self.hold,
            Purpose::Fill,
        );
        self.flight.takes(course.clone());
        let filled = match self.app.upstreams.pass(fill, request, &course).await {
            Some(fill) => fill.filled(),
            None => Filled::Broken,
        };
        (filled, course.failure().unwrap_or(Failure::Internal))
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

fn for_origin_only(head: &RequestHead) -> bool {
    head.headers.contains_key(header::IF_MATCH)
        || head.headers.contains_key(header::IF_UNMODIFIED_SINCE)
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
