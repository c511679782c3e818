//! A fetch that fills the cache, in a task of its own.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use tokio::sync::OwnedSemaphorePermit;

use crate::cache::freshness::Policy;
use crate::cache::key::Key;
use crate::cache::{Entry, Fill, Filled, Flight, Owner, Question};
use crate::downstream::{Connection, RequestHead};
use crate::pool::Pool;
use crate::response::Failure;
use crate::route::{Route, Site};
use crate::shared::{Live, Shared};
use crate::upstream::{self, Purpose};

/// A fetch that fills the cache, with all it needs to outlive its request.
pub struct Fetch {
    /// What all requests share.
    pub shared: Arc<Shared>,
    /// The configuration of the request.
    pub live: Arc<Live>,
    /// Where the request came from: the upstream is told.
    pub connection: Arc<Connection>,
    /// Without its fields, which the fill shares.
    pub head: RequestHead,
    /// The fields of the request.
    pub headers: Arc<HeaderMap>,
    /// The site.
    pub site: Arc<Site>,
    /// The route.
    pub route: Arc<Route>,
    /// The servers to ask.
    pub pool: Arc<Pool>,
    /// Where it is stored.
    pub key: Key,
    /// Who waits for it.
    pub flight: Arc<Flight>,
    /// How long a restart is waited for.
    pub hold: Duration,
    /// Whose the response will be.
    pub owner: Owner,
    /// Its place among all fetches.
    pub _place: OwnedSemaphorePermit,
}

impl Fetch {
    /// Fetches, and again where a 304 did not fit.
    pub async fn run(self, mut stale: Option<Arc<Entry>>) {
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
            return;
        }
    }

    async fn once(&self, stale: Option<Arc<Entry>>) -> (Filled, Failure) {
        let question = Question::get(
            self.key.clone(),
            self.headers.clone(),
            Policy::from(&self.route.cache),
            self.owner.clone(),
        );
        let cache = self.shared.cache.clone();
        let fill = Fill::new(cache, self.flight.clone(), question, stale);
        let request = upstream::request(
            &self.head,
            fill.upstream_headers(),
            &self.connection,
            &self.route,
            &self.live.config.trusted,
            &self.shared.request_id(),
        );
        let course = upstream::course(
            (&self.site, &self.route),
            &self.pool,
            &Method::GET,
            self.hold,
            Purpose::Fill,
        );
        self.flight.takes(course.clone());
        let filled = match self.shared.upstreams.pass(fill, request, &course).await {
            Some(fill) => fill.filled(),
            None => Filled::Broken,
        };
        (filled, course.failure().unwrap_or(Failure::Internal))
    }
}

impl Drop for Fetch {
    /// However it ends, nobody is left waiting for it.
    fn drop(&mut self) {
        self.shared.cache.flights().close(&self.flight);
        self.flight.failed(Failure::Internal);
    }
}
