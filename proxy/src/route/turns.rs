//! How many requests of a route an upstream works on at once: `at_once`. Stands alone because it knows neither
//! requests nor upstreams.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How long a request waits for its turn: visitors of a page have patience for so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many wait for each that is answered. Further ones would hardly have their turn in time.
const WAITING: usize = 16;

/// The turns of one route.
#[derive(Debug)]
pub struct Turns {
    free: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Turns {
    /// So many at once.
    pub fn new(at_once: u32) -> Self {
        let at_once = at_once as usize;
        Self {
            free: Arc::new(Semaphore::new(at_once)),
            waiting: Semaphore::new(at_once.saturating_mul(WAITING)),
        }
    }

    /// The next turn, which ends when it is dropped. `None`: too many wait, or this one has waited too long.
    pub async fn take(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(turn) = self.free.clone().try_acquire_owned() {
            return Some(turn);
        }
        let _place = self.waiting.try_acquire().ok()?;
        timeout(PATIENCE, self.free.clone().acquire_owned())
            .await
            .ok()?
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_after_the_other_and_not_for_ever() {
        let turns = Arc::new(Turns::new(2));
        let first = turns.take().await.expect("it is free");
        let _second = turns.take().await.expect("it is free");
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take().await }
        });
        tokio::task::yield_now().await;
        drop(first);
        let third = waiting.await.expect("it ends").expect("the first one's");
        // Who has waited too long is told so.
        assert!(turns.take().await.is_none());
        drop(third);
        assert!(turns.take().await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_wait_than_will_have_their_turn() {
        let turns = Arc::new(Turns::new(1));
        let _busy = turns.take().await.expect("it is free");
        let wait = || {
            let turns = turns.clone();
            tokio::spawn(async move { turns.take().await.is_some() })
        };
        let all: Vec<_> = (0..WAITING).map(|_| wait()).collect();
        while turns.waiting.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let begun = tokio::time::Instant::now();
        assert!(turns.take().await.is_none());
        assert!(begun.elapsed().is_zero(), "it has waited");
        for one in all {
            assert!(!one.await.expect("it ends"));
        }
    }
}
