//! Whether a stored response may answer a request now (RFC 9111, 4).

use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::control::RequestDirectives;
use super::freshness::Freshness;
use super::status::Forward;

/// What to do with a stored response that the request selects. `age` is for `Age`, `ttl` for `Cache-Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Serve it.
    Fresh {
        /// Its age in whole seconds.
        age: u64,
        /// Seconds of freshness left.
        ttl: i64,
    },
    /// Serve it although stale: the client's `max-stale` allows it (RFC 9111, 5.2.1.2).
    Stale {
        /// Its age in whole seconds.
        age: u64,
        /// Seconds of freshness left, below one.
        ttl: i64,
    },
    /// Serve it and refresh it in the background, once (RFC 5861, 3).
    StaleWhileRevalidate {
        /// Its age in whole seconds.
        age: u64,
        /// Seconds of freshness left, below one.
        ttl: i64,
    },
    /// Ask the origin first.
    Validate(Reason),
    /// `only-if-cached` and nothing fits: answer 504 (RFC 9111, 5.2.1.7).
    OnlyIfCached(Reason),
}

/// Why the origin is asked although there is a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It is stale.
    Stale,
    /// The response said `no-cache`.
    NoCache,
    /// The request said `no-cache`.
    RequestNoCache,
    /// Older than the request's `max-age`.
    RequestMaxAge,
    /// Less fresh than the request's `min-fresh`.
    RequestMinFresh,
}

impl Reason {
    /// In the terms of `Cache-Status`: `stale` or `request` (RFC 9211, 2.2).
    pub fn forward(self) -> Forward {
        match self {
            Self::Stale | Self::NoCache => Forward::Stale,
            Self::RequestNoCache | Self::RequestMaxAge | Self::RequestMinFresh => Forward::Request,
        }
    }
}

/// Judges a stored response for a request. Does not allocate (RFC 9111, 4 and 5.2.1; RFC 5861, 3; RFC 8246).
pub fn decide(freshness: &Freshness, request: &RequestDirectives, now: SystemTime) -> Reuse {
    let current = freshness.current_age(now);
    let (age, ttl) = (current.as_secs(), freshness.ttl(now));
    let left = freshness.lifetime.saturating_sub(current);
    let stale_for = current.saturating_sub(freshness.lifetime);
    let too_old = request.max_age.is_some_and(|most| current > seconds(most));

    let reason = if freshness.no_cache {
        Reason::NoCache
    } else if !left.is_zero() {
        if request.no_cache && !freshness.immutable {
            Reason::RequestNoCache
        } else if too_old && !freshness.immutable {
            Reason::RequestMaxAge
        } else if request.min_fresh.is_some_and(|least| left < seconds(least)) {
            Reason::RequestMinFresh
        } else {
            return Reuse::Fresh { age, ttl };
        }
    } else if request.no_cache {
        Reason::RequestNoCache
    } else {
        // Without `max-stale`, `max-age` asks for something fresh (RFC 9111, 5.2.1.1), as `min-fresh` always does.
        let wants_fresh = request.min_fresh.is_some()
            || too_old
            || (request.max_age.is_some() && request.max_stale.is_none());
        if !wants_fresh && stale_for < freshness.stale_while_revalidate {
            return Reuse::StaleWhileRevalidate { age, ttl };
        }
        let tolerated = request
            .max_stale
            .is_some_and(|most| stale_for <= seconds(most));
        if !wants_fresh && tolerated && !freshness.no_stale {
            return Reuse::Stale { age, ttl };
        }
        Reason::Stale
    };
    if request.only_if_cached {
        Reuse::OnlyIfCached(reason)
    } else {
        Reuse::Validate(reason)
    }
}

/// How a stored response may stand in for an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// Serve it.
    Serve {
        /// Its age in whole seconds.
        age: u64,
        /// Seconds of freshness left; negative when stale.
        ttl: i64,
        /// On whose word.
        by: Allowed,
    },
    /// Pass the error on.
    Refuse(Refused),
}

/// Who allows a stored response to stand in for an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Allowed {
    /// It is fresh; only the client wanted it validated.
    Fresh,
    /// `stale-if-error` of the origin (RFC 5861, 4).
    StaleIfError,
    /// The operator's bound.
    Operator,
    /// The operator lets a mirror serve what it has.
    Mirror,
}

impl Allowed {
    /// The word for logs, metrics and `Cache-Status`'s `detail`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh-on-error",
            Self::StaleIfError => "stale-if-error",
            Self::Operator => "stale-by-operator",
            Self::Mirror => "stale-by-mirror",
        }
    }
}

/// Why a stored response may not stand in for an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// `must-revalidate`, `proxy-revalidate`, `s-maxage` or `no-cache` forbid it (RFC 9111, 4.2.4).
    Forbidden,
    /// Stale for longer than is allowed.
    TooOld,
}

/// Whether the response may stand in after a failed connection, a timeout, or an answer that [`is_error`] (RFC 9111, 4.2.4; RFC 5861, 4).
/// With `mirror` the operator has said that any age will do, whatever the origin forbids.
pub fn on_error(freshness: &Freshness, now: SystemTime, mirror: bool) -> OnError {
    let current = freshness.current_age(now);
    let stale_for = current.saturating_sub(freshness.lifetime);
    let within = |window: Option<Duration>| window.is_some_and(|window| stale_for < window);

    let by = if freshness.is_fresh(now) && !freshness.no_cache {
        Allowed::Fresh
    } else if within(freshness.stale_if_error) {
        Allowed::StaleIfError
    } else if within(freshness.operator_stale_if_error) {
        Allowed::Operator
    } else if mirror {
        Allowed::Mirror
    } else if freshness.no_stale {
        return OnError::Refuse(Refused::Forbidden);
    } else {
        return OnError::Refuse(Refused::TooOld);
    };
    OnError::Serve {
        age: current.as_secs(),
        ttl: freshness.ttl(now),
        by,
    }
}

/// Whether an answer of the upstream counts as an error that a stored response may stand in for: 500, 502, 503, 504 (RFC 5861, 4).
pub fn is_error(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502..=504)
}

fn seconds(number: u32) -> Duration {
    Duration::from_secs(number.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::header::CACHE_CONTROL;
    use http::{HeaderMap, HeaderValue};

    use super::super::control::ResponseControl;
    use super::super::freshness::Policy;
    use super::*;

    fn field(line: &str) -> HeaderMap {
        HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_str(line).unwrap())])
    }

    fn stored(line: &str, bound: Option<u64>) -> Freshness {
        let (headers, bound) = (field(line), bound.map(Duration::from_secs));
        let policy = Policy {
            stale_if_error: bound,
            ..Policy::default()
        };
        let control = ResponseControl::of(&headers);
        Freshness::of(
            StatusCode::OK,
            &headers,
            &control,
            UNIX_EPOCH,
            UNIX_EPOCH,
            &policy,
        )
    }

    fn after(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    #[rustfmt::skip]
    fn decisions() {
        use Reason::*;
        use Reuse::{OnlyIfCached, Validate};
        let fresh = |age: u64, ttl| Reuse::Fresh { age, ttl };
        let stale = |age: u64, ttl| Reuse::Stale { age, ttl };
        let window = |age: u64, ttl| Reuse::StaleWhileRevalidate { age, ttl };
        // (response, its age, request, decision, what it checks)
        let rows: &[(&str, u64, &str, Reuse, &str)] = &[
            ("max-age=60", 20, "", fresh(20, 40), "9111 4.2"),
            ("max-age=60", 59, "", fresh(59, 1), "9111 4.2"),
            ("max-age=60", 60, "", Validate(Stale), "item 4: as old as its lifetime"),
            ("max-age=0", 0, "", Validate(Stale), "item 4: zero"),
            ("max-age=60, no-cache", 1, "", Validate(NoCache), "item 6: even beside max-age"),
            ("max-age=60, no-cache=\"a\"", 1, "", fresh(1, 59), "item 6: only the field"),
            ("max-age=1, stale-while-revalidate=9", 9, "", window(9, -8), "item 20: inside"),
            ("max-age=1, stale-while-revalidate=9", 10, "", Validate(Stale), "item 20: after"),
            ("max-age=1, stale-while-revalidate=9, must-revalidate", 2, "", Validate(Stale), "item 20"),
            ("max-age=1, stale-while-revalidate=9", 2, "max-age=0", Validate(Stale), "a reload waits"),
            ("max-age=1, stale-while-revalidate=9", 2, "no-cache", Validate(RequestNoCache), "so here"),
            ("max-age=1, stale-while-revalidate=9", 2, "min-fresh=1", Validate(Stale), "so here"),
            ("max-age=60", 1, "no-cache", Validate(RequestNoCache), "item 24: no-cache"),
            ("max-age=60", 1, "max-age=0", Validate(RequestMaxAge), "item 24: max-age"),
            ("max-age=60", 10, "max-age=10", fresh(10, 50), "item 24: max-age"),
            ("max-age=60", 11, "max-age=10", Validate(RequestMaxAge), "item 24: max-age"),
            ("max-age=60", 20, "min-fresh=40", fresh(20, 40), "item 24: min-fresh"),
            ("max-age=60", 20, "min-fresh=41", Validate(RequestMinFresh), "item 24: min-fresh"),
            ("max-age=60", 70, "max-stale=10", stale(70, -10), "item 24: max-stale"),
            ("max-age=60", 71, "max-stale=10", Validate(Stale), "item 24: max-stale"),
            ("max-age=60", 9999, "max-stale", stale(9999, -9939), "item 24: any staleness"),
            ("max-age=60", 70, "max-stale, max-age=65", Validate(Stale), "too old all the same"),
            ("max-age=60", 70, "max-stale, max-age=75", stale(70, -10), "5.2.1.1: both"),
            ("max-age=60, must-revalidate", 70, "max-stale", Validate(Stale), "item 19"),
            ("max-age=60, proxy-revalidate", 70, "max-stale", Validate(Stale), "item 19"),
            ("s-maxage=60", 70, "max-stale", Validate(Stale), "item 19"),
            ("max-age=60", 1, "only-if-cached", fresh(1, 59), "item 24: something fits"),
            ("max-age=60", 70, "only-if-cached", OnlyIfCached(Stale), "item 24: nothing fits"),
            ("max-age=60", 1, "only-if-cached, no-cache", OnlyIfCached(RequestNoCache), "item 24"),
            ("max-age=60, immutable", 1, "max-age=0", fresh(1, 59), "item 27"),
            ("max-age=60, immutable", 1, "no-cache", fresh(1, 59), "item 27"),
            ("max-age=60, immutable", 61, "", Validate(Stale), "item 27: only while fresh"),
            ("max-age=60, immutable", 61, "no-cache", Validate(RequestNoCache), "item 27"),
            ("max-age=60, immutable, no-cache", 1, "", Validate(NoCache), "item 6 before item 27"),
        ];
        for (response, age, request, wanted, checks) in rows {
            let directives = RequestDirectives::of(&field(request));
            let found = decide(&stored(response, None), &directives, after(*age));
            assert_eq!(found, *wanted, "{checks}: {response}; {age} s; {request}");
        }
    }

    /// Item 19.
    #[test]
    #[rustfmt::skip]
    fn standing_in_for_errors() {
        use Allowed::*;
        use Refused::*;
        type Row<'a> = (&'a str, Option<u64>, u64, bool, Result<Allowed, Refused>, &'a str);
        let rows: &[Row<'_>] = &[
            ("max-age=1, stale-if-error=9", None, 9, false, Ok(StaleIfError), "inside its window"),
            ("max-age=1, stale-if-error=9", None, 10, false, Err(TooOld), "after its window"),
            ("max-age=1, stale-if-error=9", Some(99), 20, false, Err(TooOld), "the origin's word counts"),
            ("max-age=1", Some(99), 20, false, Ok(Operator), "the site's own bound"),
            ("max-age=1", Some(9), 20, false, Err(TooOld), "the site's own bound"),
            ("max-age=1", None, 20, false, Err(TooOld), "no bound"),
            ("max-age=1, must-revalidate", Some(99), 2, false, Err(Forbidden), "forbidden"),
            ("max-age=1, proxy-revalidate", Some(99), 2, false, Err(Forbidden), "forbidden"),
            ("s-maxage=1, stale-if-error=9", Some(99), 2, false, Err(Forbidden), "forbidden"),
            ("max-age=1, no-cache", Some(99), 2, false, Err(Forbidden), "forbidden"),
            ("max-age=9, no-cache", Some(99), 2, false, Err(Forbidden), "forbidden even while fresh"),
            ("max-age=1, must-revalidate", None, 2, true, Ok(Mirror), "a mirror may"),
            ("max-age=1, no-cache", None, 9999, true, Ok(Mirror), "a mirror may"),
            ("max-age=9, must-revalidate", None, 2, false, Ok(Fresh), "it is not stale"),
        ];
        for (response, bound, age, mirror, wanted, checks) in rows {
            let found = match on_error(&stored(response, *bound), after(*age), *mirror) {
                OnError::Serve { age: shown, by, .. } => {
                    assert_eq!(shown, *age, "item 21");
                    Ok(by)
                }
                OnError::Refuse(why) => Err(why),
            };
            assert_eq!(found, *wanted, "{checks}: {response}; {age} s");
        }
        for (status, error) in [(500, true), (501, false), (502, true), (503, true), (504, true), (505, false), (404, false)] {
            assert_eq!(is_error(StatusCode::from_u16(status).unwrap()), error, "5861 4: {status}");
        }
    }
}
