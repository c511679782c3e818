//! How long a response is fresh, how old it is, and what may be done with it afterwards (RFC 9111, 4.2).
//!
//! Computed once when a response is stored or freshened; a hit only compares numbers.

use std::time::{Duration, SystemTime};

use http::header::{AGE, DATE, EXPIRES, LAST_MODIFIED, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use sovereign_config::model::CacheRules;

use super::clock;
use super::control::{Directives, ResponseControl, delta_seconds};
use super::date;

/// What the operator adds to what the origin says. All absent for a request with one of the site's session cookies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// A lifetime for responses that give none, or give zero while calling themselves public.
    pub lifetime: Option<Duration>,
    /// How long after that lifetime a response may be served while it is refreshed.
    pub stale: Option<Duration>,
    /// How long a stale response may stand in for a failing upstream where the origin gave no `stale-if-error`.
    pub stale_if_error: Option<Duration>,
}

impl From<&CacheRules> for Policy {
    fn from(rules: &CacheRules) -> Self {
        Self {
            lifetime: rules.lifetime,
            stale: rules.stale,
            stale_if_error: Some(rules.stale_if_error),
        }
    }
}

/// Where a lifetime comes from, in order of precedence (RFC 9111, 4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `s-maxage`.
    SMaxage,
    /// `max-age`.
    MaxAge,
    /// `Expires` minus `Date`.
    Expires,
    /// The operator's default.
    Operator,
    /// A tenth of the time since the last change.
    Heuristic,
    /// There is none: stale at once.
    None,
}

impl Source {
    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SMaxage => "s-maxage",
            Self::MaxAge => "max-age",
            Self::Expires => "expires",
            Self::Operator => "operator",
            Self::Heuristic => "heuristic",
            Self::None => "none",
        }
    }

    /// Whether the origin itself said it.
    pub fn is_explicit(self) -> bool {
        matches!(self, Self::SMaxage | Self::MaxAge | Self::Expires)
    }
}

/// What is kept beside a stored response to judge each use of it. Copy, and free of allocation to consult.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// Where the lifetime comes from.
    pub source: Source,
    /// How old the response may become while fresh.
    pub lifetime: Duration,
    /// How old it was on arrival: the corrected initial age (RFC 9111, 4.2.3).
    pub initial_age: Duration,
    /// When it arrived, by our clock.
    pub received: SystemTime,
    /// How long past its lifetime it may be served while being refreshed; zero where that is forbidden (RFC 5861, 3).
    pub stale_while_revalidate: Duration,
    /// How long past its lifetime it may stand in for an error, where the origin said so (RFC 5861, 4).
    pub stale_if_error: Option<Duration>,
    /// The operator's bound for the same, where the origin said nothing and nothing forbids it.
    pub operator_stale_if_error: Option<Duration>,
    /// Validate before every use.
    pub no_cache: bool,
    /// Never serve stale: `must-revalidate`, `proxy-revalidate`, `s-maxage` or `no-cache` (RFC 9111, 4.2.4).
    pub no_stale: bool,
    /// No validation while fresh, even on reload (RFC 8246).
    pub immutable: bool,
}

impl Freshness {
    /// Judges a response requested at `requested` and received at `received` (RFC 9111, 4.2.1 to 4.2.3).
    ///
    /// The operator's additions count where the origin gave no lifetime, or gave zero while calling the response public, and never
    /// beside `Set-Cookie`.
    pub fn of(
        status: StatusCode,
        headers: &HeaderMap,
        control: &ResponseControl,
        requested: SystemTime,
        received: SystemTime,
        policy: &Policy,
    ) -> Self {
        let said = &control.directives;
        let date = date::field(headers, &DATE, received).unwrap_or(received);
        let policy = if headers.contains_key(SET_COOKIE) {
            &Policy::default()
        } else {
            policy
        };

        let (mut source, mut lifetime) = explicit(headers, control, date, received);
        let operators = is_heuristically_cacheable(status)
            && (!source.is_explicit() || says_public_but_zero(said));
        match policy.lifetime.filter(|_| operators) {
            Some(default) => (source, lifetime) = (Source::Operator, whole(default)),
            None if source == Source::None => {
                if let Some(guess) = heuristic(status, headers, said, date, received) {
                    (source, lifetime) = (Source::Heuristic, guess);
                }
            }
            None => {}
        }

        let never_stale = said.must_revalidate || said.proxy_revalidate || said.no_cache;
        let no_stale = never_stale || said.s_maxage.is_some();
        let window = match said.stale_while_revalidate {
            Some(explicit) => Some(seconds(explicit)),
            None => policy.stale.filter(|_| operators).map(whole),
        };
        Self {
            source,
            lifetime,
            initial_age: initial_age(headers, date, requested, received),
            received,
            stale_while_revalidate: window.filter(|_| !never_stale).unwrap_or_default(),
            stale_if_error: said.stale_if_error.filter(|_| !no_stale).map(seconds),
            operator_stale_if_error: match said.stale_if_error {
                None if !no_stale => policy.stale_if_error.map(whole),
                _ => None,
            },
            no_cache: said.no_cache,
            no_stale,
            immutable: said.immutable,
        }
    }

    /// The same, counted by [`clock::now`] from here on.
    #[must_use]
    pub fn steady(self) -> Self {
        Self {
            received: clock::from_wall(self.received),
            ..self
        }
    }

    /// The current age (RFC 9111, 4.2.3); its whole seconds are the `Age` field.
    pub fn current_age(&self, now: SystemTime) -> Duration {
        // A clock that was set back must not make a response younger than it was on arrival.
        self.initial_age + now.duration_since(self.received).unwrap_or_default()
    }

    /// Whole seconds of freshness left; zero or negative when stale (RFC 9211, 2.5).
    pub fn ttl(&self, now: SystemTime) -> i64 {
        let age = i64::try_from(self.current_age(now).as_secs()).unwrap_or(i64::MAX);
        i64::try_from(self.lifetime.as_secs())
            .unwrap_or(i64::MAX)
            .saturating_sub(age)
    }

    /// Whether it is fresh (RFC 9111, 4.2).
    pub fn is_fresh(&self, now: SystemTime) -> bool {
        self.lifetime > self.current_age(now)
    }

    /// The same, stale from now on: for a HEAD that says otherwise (RFC 9111, 4.3.5), or a soft purge.
    #[must_use]
    pub fn expired(self, now: SystemTime) -> Self {
        Self {
            lifetime: self.lifetime.min(whole(self.current_age(now))),
            ..self
        }
    }
}

/// Whether a response of this status may be stored, and its lifetime guessed, without the origin saying so (RFC 9110, 15.1).
pub fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

/// The lifetime that the origin states (RFC 9111, 4.2.1).
fn explicit(
    headers: &HeaderMap,
    control: &ResponseControl,
    date: SystemTime,
    received: SystemTime,
) -> (Source, Duration) {
    if let Some(given) = control.directives.s_maxage {
        (Source::SMaxage, seconds(given))
    } else if let Some(given) = control.directives.max_age {
        (Source::MaxAge, seconds(given))
    } else if !control.targeted && headers.contains_key(EXPIRES) {
        // What is no date has already expired (RFC 9111, 5.3).
        let expires = date::field(headers, &EXPIRES, received);
        let lifetime = expires
            .and_then(|e| e.duration_since(date).ok())
            .unwrap_or_default();
        (Source::Expires, whole(lifetime.min(LONGEST_LIFETIME)))
    } else {
        (Source::None, Duration::ZERO)
    }
}

/// `public, max-age=0` and nothing that forbids more: "I leave it to whoever knows the site", as some applications say it.
fn says_public_but_zero(said: &Directives) -> bool {
    let restricted = said.no_cache
        || said.no_store
        || said.private
        || said.must_revalidate
        || said.proxy_revalidate
        || said.unreadable;
    said.public && said.max_age == Some(0) && said.s_maxage.is_none() && !restricted
}

/// A tenth of the time from the last change to the response (RFC 9111, 4.2.2).
fn heuristic(
    status: StatusCode,
    headers: &HeaderMap,
    said: &Directives,
    date: SystemTime,
    received: SystemTime,
) -> Option<Duration> {
    if !(is_heuristically_cacheable(status) || said.public) {
        return None;
    }
    let modified = date::field(headers, &LAST_MODIFIED, received)?;
    let unchanged = date.duration_since(modified).ok()?;
    Some(whole((unchanged / 10).min(LONGEST_GUESS)))
}

/// The corrected initial age (RFC 9111, 4.2.3).
fn initial_age(
    headers: &HeaderMap,
    date: SystemTime,
    requested: SystemTime,
    received: SystemTime,
) -> Duration {
    // `Date` has whole seconds: what is less than one of them is no age.
    let apparent = whole(received.duration_since(date).unwrap_or_default());
    let delay = received.duration_since(requested).unwrap_or_default();
    let first = headers
        .get(AGE)
        .and_then(|line| line.as_bytes().split(|b| *b == b',').next());
    let stated = first
        .and_then(|age| delta_seconds(age.trim_ascii()))
        .map(seconds);
    apparent
        .max(stated.unwrap_or_default() + delay)
        .min(LONGEST_LIFETIME)
}

fn seconds(number: u32) -> Duration {
    Duration::from_secs(number.into())
}

/// Without the fraction of a second: then a lifetime and the `Age` shown agree about what is fresh.
fn whole(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}

/// No sum of these overflows.
const LONGEST_LIFETIME: Duration = Duration::from_secs(1 << 31);
/// A guess should not outlive a day: RFC 9111 asks for caution, and an origin that means more can say so.
const LONGEST_GUESS: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests;
