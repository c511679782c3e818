//! How the running proxy is asked for one page after another: at a set rate, and with patience where
//! the site asks for it.

use std::time::{Duration, SystemTime};

use http::{HeaderName, StatusCode, header};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::place::{Leads, Place};
use crate::admin::fetch::{Answer, Wish};
use crate::admin::{Client, ClientError};
use crate::cache::key::Key;

/// What gives pages: the running proxy, or a double in a test.
pub trait Source: Sync {
    /// Fetches a page through the cache. [`ClientError::Refused`] means that there is no response;
    /// any other error, that nobody is there who could be asked.
    fn fetch(&self, wish: &Wish) -> impl Future<Output = Result<Answer, ClientError>> + Send;
}

impl Source for Client {
    async fn fetch(&self, wish: &Wish) -> Result<Answer, ClientError> {
        Self::fetch(self, wish).await
    }
}

/// Asks for the pages of one site.
pub struct Asker<'a, S> {
    source: &'a S,
    place: &'a Place,
    pace: Pace,
}

/// A response of the site, and where it was found.
#[derive(Debug)]
pub struct Found {
    /// The page that the redirects led to.
    pub key: Key,
    /// What came.
    pub answer: Answer,
}

/// What our own cache says of a response.
#[derive(Debug, PartialEq, Eq)]
pub enum Cached {
    /// The store had it.
    Already,
    /// The store has it now.
    Stored,
    /// The store did not take it, for this reason.
    No(String),
}

impl Found {
    /// Whether the store had it, or has it now.
    pub fn cached(&self) -> Cached {
        cached(&self.answer)
    }
}

/// Why a page did not come.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Nobody can be asked.
    #[error(transparent)]
    Lost(ClientError),
    /// The site says so: 404, 403 and the like.
    #[error("{0}")]
    Missing(String),
    /// The site cannot answer at the moment: 5xx, 429, or no response.
    #[error("{0}")]
    Unwell(String),
}

impl<'a, S: Source> Asker<'a, S> {
    /// Asks `source` for pages of `place`. At most `rate` requests in a second reach the site.
    pub fn new(source: &'a S, place: &'a Place, rate: f64) -> Self {
        Self {
            source,
            place,
            pace: Pace::new(rate),
        }
    }

    /// Fetches a page. Waits for its turn, follows redirects on the site (`HOPS` at the most), and
    /// asks again (`TRIES` times in all) where the site says that it has too much to do. A redirect
    /// to another site is a page too.
    pub async fn get(
        &self,
        key: &Key,
        encoding: Option<&str>,
        body: bool,
    ) -> Result<Found, Trouble> {
        let mut key = key.clone();
        for _ in 0..HOPS {
            let answer = self.patiently(&key, encoding, body).await?;
            let target = answer
                .status
                .is_redirection()
                .then(|| answer.field(&header::LOCATION))
                .flatten()
                .map(|location| self.place.leads(&key, location));
            match target {
                Some(Leads::Here(next)) if next != key => key = next,
                Some(Leads::Here(_)) => break,
                Some(Leads::Elsewhere | Leads::Nowhere) | None => return Ok(Found { key, answer }),
            }
        }
        Err(Trouble::Missing("it leads in circles".to_owned()))
    }

    async fn patiently(
        &self,
        key: &Key,
        encoding: Option<&str>,
        body: bool,
    ) -> Result<Answer, Trouble> {
        let wish = Wish {
            url: key.as_str().to_owned(),
            encoding: encoding.map(str::to_owned),
            body,
        };
        let mut pause = FIRST_PAUSE;
        for left in (0..TRIES).rev() {
            self.pace.turn().await;
            let answer = match self.source.fetch(&wish).await {
                Ok(answer) => answer,
                Err(ClientError::Refused(why)) => return Err(Trouble::Unwell(why)),
                Err(error @ ClientError::Silent { .. }) => {
                    return Err(Trouble::Unwell(error.to_string()));
                }
                Err(error) => return Err(Trouble::Lost(error)),
            };
            if cached(&answer) == Cached::Already {
                self.pace.give_back();
            }
            let status = answer.status;
            let busy = matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
            );
            if busy && left > 0 {
                let asked = answer
                    .field(&header::RETRY_AFTER)
                    .and_then(|value| retry_after(value, SystemTime::now()));
                let wait = asked.unwrap_or(pause);
                if wait > LONGEST_PAUSE {
                    let wait = wait.as_secs();
                    let why = format!("{status}: it wants to be asked again in {wait} s");
                    return Err(Trouble::Unwell(why));
                }
                self.pace.rest(wait);
                pause *= 2;
                continue;
            }
            return match status.as_u16() {
                429 | 500.. => Err(Trouble::Unwell(status.to_string())),
                400.. => Err(Trouble::Missing(status.to_string())),
                _ => Ok(answer),
            };
        }
        Err(Trouble::Unwell("it was not asked".to_owned()))
    }
}

/// The last of the `Cache-Status` lines is our own (RFC 9211 section 2).
fn cached(answer: &Answer) -> Cached {
    let said = answer
        .headers
        .get_all(&CACHE_STATUS)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .rfind(|said| said.starts_with("sovereign"));
    let Some(said) = said else {
        return Cached::No("no cache".to_owned());
    };
    let mut members = said.split(';').map(str::trim).skip(1);
    let parameters: Vec<&str> = members.by_ref().collect();
    if parameters.contains(&"hit") {
        return Cached::Already;
    }
    if parameters.contains(&"stored") {
        return Cached::Stored;
    }
    let value = |name: &str| {
        let mut found = parameters.iter();
        found.find_map(|parameter| parameter.strip_prefix(name)?.strip_prefix('='))
    };
    // Without a word of its own, the cache goes by what the site said the last time.
    let reason = value("detail").unwrap_or("not to be stored when last asked for");
    Cached::No(reason.trim_matches('"').to_owned())
}

/// The time between requests, all workers together.
struct Pace {
    gap: Duration,
    state: Mutex<Turns>,
}

struct Turns {
    next: Instant,
    rests_until: Instant,
}

impl Pace {
    fn new(rate: f64) -> Self {
        let now = Instant::now();
        Self {
            gap: Duration::try_from_secs_f64(1.0 / rate).unwrap_or(LONGEST_PAUSE),
            state: Mutex::new(Turns {
                next: now,
                rests_until: now,
            }),
        }
    }

    /// Waits for the next turn.
    async fn turn(&self) {
        let mut at = {
            let mut state = self.state.lock();
            let at = state.next.max(Instant::now());
            state.next = at + self.gap;
            at
        };
        // A rest may be called for while somebody waits.
        loop {
            sleep_until(at).await;
            let rests_until = self.state.lock().rests_until;
            if rests_until <= at {
                return;
            }
            at = rests_until;
        }
    }

    /// A turn that cost the site nothing does not count.
    fn give_back(&self) {
        let mut state = self.state.lock();
        if let Some(earlier) = state.next.checked_sub(self.gap) {
            state.next = earlier.max(state.rests_until);
        }
    }

    /// Nobody's turn comes for so long.
    fn rest(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut state = self.state.lock();
        state.rests_until = state.rests_until.max(until);
        state.next = state.next.max(until);
    }
}

/// `Retry-After`, in seconds or as a date (RFC 9110 section 10.2.3).
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// Redirects that are followed.
const HOPS: usize = 5;
/// How often a page is asked for, where the site has too much to do.
const TRIES: u32 = 3;
/// Where the site does not say how long it needs; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Who needs longer is not waited for.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn when_to_come_again() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (value, want) in [
            ("120", Some(120)),
            ("0", Some(0)),
            ("Sun, 06 Nov 1994 08:50:00 GMT", Some(23)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(retry_after(value, now), want.map(Duration::from_secs), "{value}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn turns_are_apart_and_a_rest_holds_for_who_waits_already() {
        let pace = Pace::new(10.0);
        let begun = Instant::now();
        for _ in 0..5 {
            pace.turn().await;
        }
        let since = |begun: Instant| begun.elapsed().as_millis() / 10 * 10;
        assert_eq!(since(begun), 400);
        tokio::join!(pace.turn(), async { pace.rest(Duration::from_secs(3)) });
        assert_eq!(since(begun), 3400);
        // A stored page costs no time, but a rest is a rest.
        for _ in 0..5 {
            pace.turn().await;
            pace.give_back();
        }
        assert_eq!(since(begun), 3400);
        pace.rest(Duration::from_secs(1));
        pace.give_back();
        pace.turn().await;
        assert_eq!(since(begun), 4400);
    }
}
