//! Waiting for a condition instead of for a time.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Tries until `attempt` succeeds, and fails the test with its last word once `deadline` has passed.
/// An attempt that hangs is cut off at the deadline too.
pub async fn eventually<T, E, F>(
    what: &str,
    deadline: Duration,
    mut attempt: impl FnMut() -> F,
) -> T
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let end = Instant::now() + deadline;
    let mut last = "not one attempt came to an end".to_owned();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, attempt()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(word)) => last = word.to_string(),
            Err(_) => {}
        }
        assert!(
            Instant::now() < end,
            "{what}: not within {deadline:?}; last: {last}"
        );
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

/// The value, or a failed test once `deadline` has passed.
pub async fn within<T>(what: &str, deadline: Duration, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(deadline, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {deadline:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn eventually_gives_the_first_success() {
        let mut left = 3;
        let value = eventually("a countdown", Duration::from_secs(5), || {
            left -= 1;
            std::future::ready(if left == 0 {
                Ok("done")
            } else {
                Err("not yet")
            })
        })
        .await;
        assert_eq!(value, "done");
    }

    #[tokio::test]
    #[should_panic(expected = "last: never")]
    async fn eventually_fails_with_the_last_word() {
        eventually("the impossible", Duration::from_millis(50), || {
            std::future::ready(Err::<(), _>("never"))
        })
        .await;
    }

    #[tokio::test]
    #[should_panic(expected = "not within")]
    async fn an_attempt_that_hangs_is_cut_off() {
        eventually("a hang", Duration::from_millis(50), || {
            std::future::pending::<Result<(), String>>()
        })
        .await;
    }
}
