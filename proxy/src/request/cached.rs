//! A request that the cache may answer: out of the store, or by a fetch that fills it and that others
//! may share.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use tracing::Instrument as _;

use super::fetch::Fetch;
use super::{Exchange, directives, for_origin};
use crate::access_log::Told;
use crate::cache::clock;
use crate::cache::coding::Coding;
use crate::cache::conditional::{self, Condition};
use crate::cache::control::RequestDirectives;
use crate::cache::key::Key;
use crate::cache::purge::Verdict;
use crate::cache::reuse::{self, Reuse};
use crate::cache::status::{CacheStatus, Forward};
use crate::cache::{self, Entry, Flight, Joined, Lookup, Outcome, Owner, scope};
use crate::downstream::{BodyLength, Downstream, RequestHead, ResponseHead};
use crate::response::{self, Failure};
use crate::upstream::Course;

/// How often a request looks again after it joined a fetch that turned out to be for another variant.
const LOOKS: usize = 3;

impl Exchange<'_> {
    /// Serves from the store or through a fetch that fills it.
    pub(super) async fn cached<D: Downstream>(&self, mut client: D, key: &Key) -> Option<D> {
        let cache = &self.shared.cache;
        let directives = directives(self.head);
        let mut names: Box<[HeaderName]> = Box::default();
        for _ in 0..LOOKS {
            let found = match cache.lookup(key.as_str(), &self.head.headers) {
                Lookup::OnDisk => cache.load(key.as_str(), &self.head.headers).await,
                found => found,
            };
            let now = clock::now();
            let (stale, mut forward) = match found {
                Lookup::UriMiss | Lookup::OnDisk => (None, Forward::UriMiss),
                Lookup::VaryMiss(by) => {
                    names = by;
                    (None, Forward::VaryMiss)
                }
                Lookup::Found(entry, _) if !cache::begins_well(&entry).await => {
                    (None, Forward::UriMiss)
                }
                Lookup::Found(entry, freshness) => {
                    match reuse::decide(&freshness, &directives, now) {
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
                    }
                }
            };
            if directives.only_if_cached {
                return self.only_if_cached(client).await;
            }
            if let Some(entry) = &stale
                && !entry.may_refresh()
                && let Some((age, ttl, by)) = entry.stands_in(cache.purges())
            {
                return self
                    .store_hit(client, entry, ttl, age, Some(by.as_str()))
                    .await;
            }
            if stale.is_none()
                && let Some((kept, ranges)) = self.kept_parts(key, &directives)
            {
                return self.serve_parts(client, &kept, ranges).await;
            }
            if forward == Forward::UriMiss && self.has_other_parts(key) {
                forward = Forward::Partial;
            }
            if let Some(detail) = self.goes_alone(key, stale.as_deref(), &directives) {
                return self.pass(client, key, forward, detail).await;
            }
            if self.head.method == Method::HEAD
                && let Some(stale) = stale
            {
                return self.head_through(client, key, stale, forward).await;
            }
            let Some(_waiting) = cache.take_turn(self.head) else {
                let failure = Failure::Busy;
                return self
                    .failed(
                        client,
                        failure,
                        Told::own(failure.status(), failure.as_str()),
                    )
                    .await;
            };
            let (flight, leads) = self.join(key, &names);
            if leads && self.is_there_now(key, stale.as_ref()) {
                cache.flights().abandon(&flight);
                continue;
            }
            if leads && !self.fill(key, stale.clone(), flight.clone()) {
                return self.pass(client, key, forward, Some("busy")).await;
            }
            match self.wait(&mut client, &flight, leads).await? {
                Outcome::Interim(_) | Outcome::NotShared => {
                    return self.pass(client, key, forward, Some("not-shared")).await;
                }
                Outcome::LookAgain => {}
                Outcome::OtherVariant(by) => names = by,
                Outcome::Landed(entry, status) => {
                    let now = clock::now();
                    let age = entry.stated().current_age(now).as_secs();
                    let status = CacheStatus {
                        forward: Some(forward),
                        forward_status: Some(status),
                        stored: true,
                        collapsed: !leads,
                        ttl: Some(entry.stated().ttl(now)),
                        detail: None,
                    };
                    let mut told = self.stored(&mut client, &entry, status, age).await;
                    told.course = flight.course();
                    return self.done(client, told);
                }
                // It was purged since it was asked for.
                Outcome::Live(live, _) if !leads && self.is_purged(&flight, &live) => {
                    return self.pass(client, key, forward, Some("purged")).await;
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
        } else if self.shared.cache.is_unshared(key.as_str()) {
            Some(None)
        } else {
            None
        }
    }

    fn is_purged(&self, flight: &Flight, live: &cache::LiveHead) -> bool {
        let purges = self.shared.cache.purges();
        let scopes = live.stored.as_ref().map(|shared| &*shared.scopes);
        purges.verdict(flight.born, scopes.unwrap_or_default()) == Verdict::Hard
    }

    fn join(&self, key: &Key, names: &[HeaderName]) -> (Arc<Flight>, bool) {
        let flights = self.shared.cache.flights();
        let purges = self.shared.cache.purges();
        if self.head.headers.contains_key(header::AUTHORIZATION) {
            return (flights.alone(key.as_str(), purges), true);
        }
        let scopes = || self.scopes(key);
        let variant = cache::vary::variant_key(names, &self.head.headers);
        let joined = if variant.is_empty() {
            flights.join(key.as_str(), purges, scopes)
        } else {
            // A space cannot stand in a URI, so no key is another one's variant.
            flights.join(&format!("{} {variant}", key.as_str()), purges, scopes)
        };
        match joined {
            Joined::Lead(flight) => (flight, true),
            Joined::Join(flight) => (flight, false),
        }
    }

    /// What can be said before there is a response of what it belongs to.
    fn scopes(&self, key: &Key) -> Box<[u64]> {
        scope::scopes_of(self.site.config.canonical(), key, &HeaderMap::new()).list
    }

    /// Whether another request's fetch ended between our look at the store and our flight.
    fn is_there_now(&self, key: &Key, stale: Option<&Arc<Entry>>) -> bool {
        match self.shared.cache.lookup(key.as_str(), &self.head.headers) {
            Lookup::Found(entry, _) => stale.is_none_or(|stale| !Arc::ptr_eq(stale, &entry)),
            Lookup::VaryMiss(_) | Lookup::UriMiss | Lookup::OnDisk => false,
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

    /// Fetches in a task of its own, so that it outlives the client that asked; false where too many
    /// do already, and the flight is closed.
    fn fill(&self, key: &Key, stale: Option<Arc<Entry>>, flight: Arc<Flight>) -> bool {
        let cache = &self.shared.cache;
        let (Some(pool), Some(place)) = (self.route.pool.clone(), cache.take_place()) else {
            cache.flights().abandon(&flight);
            return false;
        };
        let stale_stands_in = stale
            .as_ref()
            .and_then(|stale| stale.stands_in(cache.purges()));
        let fetch = Fetch {
            shared: self.shared.clone(),
            live: self.live.clone(),
            connection: self.connection.clone(),
            head: self.head.without_fields(Method::GET),
            headers: Arc::new(self.head.headers.clone()),
            site: self.site.clone(),
            route: self.route.clone(),
            pool,
            key: key.clone(),
            flight,
            hold: self.hold(stale_stands_in.is_some()),
            owner: self.owner(),
            _place: place,
        };
        let span = tracing::debug_span!("fetch", key = key.as_str());
        self.shared.tasks.spawn(fetch.run(stale).instrument(span));
        true
    }

    /// How long a restart is waited for: with something to show there is no reason to let a reader wait.
    pub(super) fn hold(&self, has_something: bool) -> Duration {
        match has_something {
            true => Duration::ZERO,
            false => self.site.config.hold,
        }
    }

    /// Refreshes in the background, once.
    pub(super) fn refresh(&self, entry: &Arc<Entry>) {
        let Some(key) = Key::of(self.connection.scheme(), self.head) else {
            return;
        };
        let flights = self.shared.cache.flights();
        let purges = self.shared.cache.purges();
        let scopes = || self.scopes(&key);
        let flight = if entry.variant.is_empty() {
            flights.lead(key.as_str(), purges, scopes)
        } else {
            let name = format!("{} {}", key.as_str(), entry.variant);
            flights.lead(&name, purges, scopes)
        };
        match flight {
            Some(flight) if self.is_there_now(&key, Some(entry)) => flights.abandon(&flight),
            Some(flight) => {
                // Where there is no place for it now, a later request will refresh it.
                self.fill(&key, Some(entry.clone()), flight);
            }
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
    pub(super) async fn stored<D: Downstream>(
        &self,
        client: &mut D,
        entry: &Arc<Entry>,
        status: CacheStatus<'static>,
        age: u64,
    ) -> Told {
        let tls = self.connection.tls.is_some();
        let dress = |coding| entry.dressed(self.site, self.route, tls, coding);
        let (chosen, missing) = cache::representation(self.head, entry, dress);
        if let Some(coding) = missing.filter(|coding| entry.wants(*coding)) {
            self.code(entry, coding);
        }
        match cache::serve(client, self.head, entry, &chosen, &status, age).await {
            Ok(sent) => Told::of(sent, &status),
            Err(_) => {
                client.close_after();
                Told::of(Failure::ClientGone.status(), &status)
            }
        }
    }

    /// Has a coding made that this reader would have liked.
    fn code(&self, entry: &Arc<Entry>, coding: Coding) {
        if let Some(key) = Key::of(self.connection.scheme(), self.head) {
            let lane = self.owner().lane;
            self.shared.cache.code(key.as_str(), lane, entry, coding);
        }
    }

    pub(super) fn owner(&self) -> Owner {
        Owner::new(self.site.config.canonical(), &self.route.cache)
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
        if live.stored.as_ref().is_ok_and(|shared| shared.compress) {
            cache::coding::vary(&mut head.headers);
        }
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
    pub(super) async fn stand_in<D: Downstream>(
        &self,
        client: D,
        stale: Option<Arc<Entry>>,
        failure: Failure,
        forward: Forward,
        course: Option<Arc<Course>>,
    ) -> Option<D> {
        if let Some(entry) = stale
            && let Some((age, ttl, by)) = entry.stands_in(self.shared.cache.purges())
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
}

fn for_origin_only(head: &RequestHead) -> bool {
    head.headers.contains_key(header::IF_MATCH)
        || head.headers.contains_key(header::IF_UNMODIFIED_SINCE)
}
