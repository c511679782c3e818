//! What a response that goes past the flights tells the store all the same: a POST whose answer is what
//! a GET would bring (RFC 9110 section 9.3.3), a GET whose answers were not fit for sharing until now,
//! a part of a representation (RFC 9111 section 3.3),
//! and a HEAD that freshens what a GET brought, or shows
//! that it is outdated (RFC 9111 section 4.3.5).

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};

use super::{Dress, Exchange};
use crate::access_log::Told;
use crate::cache::clock;
use crate::cache::conditional::{self, Validators};
use crate::cache::control::RequestDirectives;
use crate::cache::freshness::{Freshness, Policy};
use crate::cache::key::Key;
use crate::cache::parts::{Answer, Parts};
use crate::cache::purge::Verdict;
use crate::cache::range::{ByteRange, storable_part};
use crate::cache::reuse::{self, Reuse};
use crate::cache::status::{CacheStatus, Forward};
use crate::cache::storable::stored_headers;
use crate::cache::tee::{self, Allowance, Collected, Tee};
use crate::cache::update::{self, Head};
use crate::cache::vary::{Vary, variant_key};
use crate::cache::{self, Body, Cache, Entry, Flight, KeptParts, Origin, Question, counted};
use crate::downstream::{BodyLength, Downstream, ResponseHead};
use crate::response::{self, Failure};
use crate::upstream::{self, Purpose};

/// An exchange that may change what is stored for its target.
struct Lesson {
    cache: Arc<Cache>,
    question: Question,
    asked: Watch,
    /// From the response's head on: what the request itself made outdated is behind it.
    answered: OnceLock<Watch>,
}

/// Notices what becomes outdated from its beginning on.
struct Watch {
    cache: Arc<Cache>,
    flight: Arc<Flight>,
}

impl Exchange<'_> {
    /// Looks at an answer that is passed through, and stores it where it may be stored after all.
    pub(super) fn learns_in_passing<D: Downstream>(
        &self,
        client: D,
        key: &Key,
        dress: Dress,
    ) -> Tee<D> {
        let lesson = Arc::new(self.lesson(key));
        let (judging, dressing) = (lesson.clone(), lesson.clone());
        Tee::new(
            client,
            move |head, length| judging.judge(head, length),
            move |head| {
                dress(head);
                dressing.answered.get_or_init(|| dressing.watch());
            },
            move |collected| lesson.store(collected),
        )
    }

    /// Looks at the answer to a HEAD that is passed through, for what it says of the stored response.
    pub(super) fn learns_from_head<D: Downstream>(
        &self,
        client: D,
        key: &Key,
        stored: Arc<Entry>,
        dress: Dress,
    ) -> Tee<D> {
        let lesson = Arc::new(self.lesson(key));
        let (judging, old) = (lesson.clone(), stored.clone());
        Tee::new(
            client,
            move |head, _| judging.compare(&old, head),
            dress,
            move |collected| lesson.freshen(&stored, &collected),
        )
    }

    /// Answers a HEAD for which there is only a stale response: by asking with a HEAD, which never
    /// brings the body along.
    pub(super) async fn head_through<D: Downstream>(
        &self,
        client: D,
        key: &Key,
        stale: Arc<Entry>,
        forward: Forward,
    ) -> Option<D> {
        let pool = self.route.pool.as_ref()?;
        let cache = &self.shared.cache;
        let stands_in = stale.stands_in(cache.purges()).is_some();
        let request = upstream::request(
            self.head,
            self.head.headers.clone(),
            self.connection,
            self.route,
            &self.live.config.trusted,
            self.id.unwrap_or_default(),
        );
        let hold = self.hold(stands_in);
        let place = (self.site, self.route);
        let course = upstream::course(place, pool, &Method::HEAD, hold, Purpose::Fill);
        let lesson = Arc::new(self.lesson(key));
        let dress = self.dress(key, forward, None);
        let (judging, old) = (lesson.clone(), stale.clone());
        let (merging, older) = (stale.clone(), stale.clone());
        let client = Tee::new(
            client,
            move |head, _| judging.judge_head(&old, head),
            move |head| {
                // What it says, and what it leaves unsaid, is said of the stored response.
                if freshens(&merging, head) {
                    let mut merged = merging.head.headers.clone();
                    update::merge(&mut merged, &head.headers);
                    head.headers = merged;
                }
                dress(head);
            },
            move |collected| lesson.freshen(&older, &collected),
        );
        let tee = self.shared.upstreams.pass(client, request, &course).await?;
        let (refused, mut client) = (tee.refused(), tee.into_inner());
        let failure = match refused {
            true => Some(Failure::ServerError),
            false => course.failure(),
        };
        let status = CacheStatus {
            forward: Some(forward),
            ..CacheStatus::default()
        };
        match failure {
            Some(failure) if !client.started() => {
                let course = Some(course);
                self.stand_in(client, Some(stale), failure, forward, course)
                    .await
            }
            failure => {
                let sent = course.status().unwrap_or(502);
                let sent = StatusCode::from_u16(sent).unwrap_or(StatusCode::BAD_GATEWAY);
                let mut told = Told::of(sent, &status);
                told.course = Some(course);
                match failure {
                    None => self.done(client, told),
                    Some(failure) => {
                        client.close_after();
                        told.detail = Some(failure.as_str());
                        self.broken(client, told)
                    }
                }
            }
        }
    }

    /// Parts that answer the request while they are fresh, and the ranges that it asks for.
    pub(super) fn kept_parts(
        &self,
        key: &Key,
        directives: &RequestDirectives,
    ) -> Option<(Arc<KeptParts>, Vec<ByteRange>)> {
        let headers = &self.head.headers;
        if !headers.contains_key(header::RANGE) || conditional::has_condition(headers) {
            return None;
        }
        let kept = self.shared.cache.parts(key.as_str(), headers)?;
        let now = clock::now();
        match (
            reuse::decide(&kept.freshness, directives, now),
            kept.parts.answer(&self.head.method, headers),
        ) {
            (Reuse::Fresh { .. }, Answer::Ranges(ranges)) => Some((kept, ranges)),
            _ => None,
        }
    }

    /// Whether parts are kept, but not those that are asked for.
    pub(super) fn has_other_parts(&self, key: &Key) -> bool {
        let headers = &self.head.headers;
        headers.contains_key(header::RANGE)
            && self.shared.cache.parts(key.as_str(), headers).is_some()
    }

    /// Answers out of parts.
    pub(super) async fn serve_parts<D: Downstream>(
        &self,
        mut client: D,
        kept: &KeptParts,
        ranges: Vec<ByteRange>,
    ) -> Option<D> {
        let now = clock::now();
        let mut headers = kept.parts.fields().clone();
        headers.remove(header::AGE);
        let tls = self.connection.tls.is_some();
        response::finish(&mut headers, self.site, Some(self.route), tls);
        let status = CacheStatus {
            ttl: Some(kept.freshness.ttl(now)),
            detail: Some("part"),
            ..CacheStatus::default()
        };
        let age = kept.freshness.current_age(now).as_secs();
        match cache::serve_parts(&mut client, headers, &kept.parts, ranges, &status, age).await {
            Ok(sent) => self.done(client, Told::of(sent, &status)),
            Err(_) => {
                client.close_after();
                self.broken(client, Told::of(Failure::ClientGone.status(), &status))
            }
        }
    }

    fn lesson(&self, key: &Key) -> Lesson {
        let cache = &self.shared.cache;
        let question = Question::get(
            key.clone(),
            Arc::new(self.head.headers.clone()),
            Policy::from(&self.route.cache),
            self.owner(),
        );
        Lesson {
            cache: cache.clone(),
            question: Question {
                method: self.head.method.clone(),
                holds_parts: true,
                ..question
            },
            asked: Watch::new(cache, key),
            answered: OnceLock::new(),
        }
    }
}

impl Lesson {
    fn watch(&self) -> Watch {
        Watch::new(&self.cache, &self.question.key)
    }

    fn key(&self) -> &str {
        self.question.key.as_str()
    }

    fn lane(&self) -> u64 {
        self.question.owner.lane
    }

    /// Stored if it may be, and if it is short enough to be kept in memory.
    fn judge(&self, head: &ResponseHead, length: BodyLength) -> tee::Verdict {
        let most = match length {
            BodyLength::None => 0,
            BodyLength::Exact(length) => length,
            BodyLength::Unknown => self.cache.max_in_memory(),
            BodyLength::Upgrade => return tee::Verdict::Pass,
        };
        // What was purged after it was asked for may be what it says.
        let born = self.asked.flight.born;
        let wanted = self
            .question
            .keeps(head, SystemTime::now(), born)
            .is_some_and(|(_, origin)| !self.asked.is_purged(&origin.scopes))
            && most <= self.cache.max_in_memory()
            && !self.asked.is_outdated();
        match wanted.then(|| self.cache.take_room(most)).flatten() {
            Some(room) => tee::Verdict::Collect(Allowance {
                most,
                room: Some(room),
            }),
            None => tee::Verdict::Pass,
        }
    }

    /// Stores a response that was passed through.
    fn store(&self, collected: Collected) {
        let Collected {
            head,
            received,
            body,
            room: Some(room),
        } = collected
        else {
            return;
        };
        let Some(watch) = self.answered.get() else {
            return;
        };
        let kept = self.question.keeps(&head, received, watch.flight.born);
        let Some((judged, origin)) = kept else {
            return;
        };
        if watch.is_outdated() || watch.is_purged(&origin.scopes) {
            return;
        }
        // It has grown while it came, and may hold twice what is counted.
        let body = Vec::from(body).into_boxed_slice();
        let freshness = judged.freshness;
        let mut head = ResponseHead {
            status: head.status,
            headers: stored_headers(&head.headers, &judged.control, received),
        };
        if head.status == StatusCode::PARTIAL_CONTENT {
            let part = counted(body, room);
            let Some((headers, whole)) =
                self.keep_part(head.headers, part, freshness, received, &origin)
            else {
                return;
            };
            // The last part was what was missing.
            head = ResponseHead {
                status: StatusCode::OK,
                headers,
            };
            let Some(room) = self.cache.take_room(whole.len() as u64) else {
                return;
            };
            let body = Body::Memory(counted(whole, room));
            let request = &self.question.request;
            let entry = Entry::new(head, body, freshness, request, received, origin);
            self.cache.remove(self.key());
            return self.cache.insert(self.key(), self.lane(), Arc::new(entry));
        }
        let body = Body::Memory(counted(body, room));
        let request = &self.question.request;
        let entry = Entry::new(head, body, freshness, request, received, origin);
        self.cache.insert(self.key(), self.lane(), Arc::new(entry));
        self.cache.unmark_unshared(self.key());
    }

    /// Keeps a part beside those of the same representation; gives the whole where nothing is missing any
    /// more (RFC 9111 section 3.4).
    fn keep_part(
        &self,
        headers: HeaderMap,
        body: Bytes,
        freshness: Freshness,
        received: SystemTime,
        origin: &Origin,
    ) -> Option<(HeaderMap, Bytes)> {
        let (key, request) = (self.key(), &self.question.request);
        let validators = Validators::of(&headers, received);
        let part = storable_part(&headers, &validators)?;
        let Vary::By(names) = Vary::of(&headers) else {
            return None;
        };
        let kept = self.cache.parts(key, request);
        let joined =
            kept.and_then(|kept| kept.parts.with(&headers, &validators, &part, body.clone()));
        let parts = match joined {
            Some(joined) => joined,
            None => Parts::new(headers, validators, &part, body)?,
        };
        let whole = parts
            .whole()
            .filter(|(_, body)| body.len() as u64 <= self.cache.max_in_memory());
        if whole.is_none() {
            self.cache.keep_parts(
                key,
                KeptParts {
                    parts,
                    freshness: freshness.steady(),
                    variant: variant_key(&names, request),
                    names,
                    origin: origin.clone(),
                },
            );
        }
        whole
    }

    /// A HEAD's: what it shows to be outdated is so from now on.
    fn judge_head(&self, stale: &Entry, head: &ResponseHead) -> tee::Verdict {
        let stands_in = || stale.stands_in(self.cache.purges()).is_some();
        if reuse::is_error(head.status) && stands_in() {
            return tee::Verdict::Refuse;
        }
        self.compare(stale, head)
    }

    fn compare(&self, stale: &Entry, head: &ResponseHead) -> tee::Verdict {
        match update::head(&stale.head.headers, head.status, &head.headers) {
            Head::Freshens => tee::Verdict::Collect(Allowance {
                most: 0,
                room: None,
            }),
            Head::Outdates => {
                // It may still stand in for an error, and the next GET is asked with its validators.
                let outdated = Arc::new(stale.outdated(SystemTime::now()));
                self.cache.refresh(self.key(), self.lane(), outdated);
                tee::Verdict::Pass
            }
            Head::Unrelated => tee::Verdict::Pass,
        }
    }

    /// Freshens what is stored by a HEAD's response.
    fn freshen(&self, stale: &Entry, collected: &Collected) {
        if self.question.directives.no_store || self.asked.is_outdated() {
            return;
        }
        let (fields, received) = (&collected.head.headers, collected.received);
        let born = self.asked.flight.born;
        let Some((fresh, may_stay)) = self.question.freshens(stale, fields, received, born) else {
            return;
        };
        if self.asked.is_purged(&fresh.scopes) {
            return;
        }
        match may_stay {
            true => self.cache.refresh(self.key(), self.lane(), fresh),
            false => self.cache.remove(self.key()),
        }
    }
}

impl Watch {
    fn new(cache: &Arc<Cache>, key: &Key) -> Self {
        Self {
            flight: cache.flights().alone(key.as_str(), cache.purges()),
            cache: cache.clone(),
        }
    }

    fn is_outdated(&self) -> bool {
        self.flight.is_outdated()
    }

    fn is_purged(&self, scopes: &[u64]) -> bool {
        self.cache.purges().verdict(self.flight.born, scopes) == Verdict::Hard
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.cache.flights().close(&self.flight);
    }
}

fn freshens(stored: &Entry, head: &ResponseHead) -> bool {
    update::head(&stored.head.headers, head.status, &head.headers) == Head::Freshens
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use http::HeaderValue;
    use sovereign_config::model::CacheBounds;

    use super::*;
    use crate::cache::{Lookup, Owner};

    fn lesson(cache: &Arc<Cache>) -> Lesson {
        let key = Key::new("https", "a.example", "/").expect("a key");
        let owner = Owner {
            site: "a.example".into(),
            lane: 0,
            compress: false,
        };
        Lesson {
            asked: Watch::new(cache, &key),
            answered: OnceLock::new(),
            question: Question::get(key, Arc::default(), Policy::default(), owner),
            cache: cache.clone(),
        }
    }

    /// An entry held the room for the longest body for as long as it was stored.
    #[test]
    fn what_is_stored_in_passing_holds_no_more_room_than_it_has_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        let bounds = CacheBounds {
            memory: 64 << 20,
            disk: 0,
            max_object: 1 << 20,
        };
        let cache = Arc::new(Cache::open(&bounds, folder.path()));
        let lesson = lesson(&cache);
        let mut head = ResponseHead::new(StatusCode::OK);
        let fresh = HeaderValue::from_static("public, max-age=600");
        head.headers.insert(header::CACHE_CONTROL, fresh);
        let tee::Verdict::Collect(allowance) = lesson.judge(&head, BodyLength::Unknown) else {
            panic!("it may be stored")
        };
        assert_eq!(cache.room_taken(), 1 << 20);
        lesson.answered.get_or_init(|| lesson.watch());
        lesson.store(Collected {
            head,
            received: SystemTime::now(),
            body: BytesMut::zeroed(2048),
            room: allowance.room,
        });
        let found = cache.lookup(lesson.key(), &HeaderMap::new());
        assert!(matches!(found, Lookup::Found(..)));
        assert_eq!(cache.room_taken(), 2048);
    }
}
