//! When a certificate is renewed, and when an authority that failed is asked again. Pure: the clock
//! and the dice are the caller's.

use std::hash::Hasher as _;
use std::time::{Duration, SystemTime};

use twox_hash::XxHash3_64;

/// The window in which an authority wants a certificate renewed (RFC 9773 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub start: SystemTime,
    pub end: SystemTime,
}

/// When the certificate that is valid between these times is renewed: at a point within the
/// authority's window or, without one, when two thirds of its life have passed. `dice` lies between 0 and 1
/// and stays the same for a certificate, so that looking again does not move the point.
///
/// A window far in the past is how an authority says that it has revoked, or will.
pub(super) fn due(
    (not_before, not_after): (SystemTime, SystemTime),
    window: Option<Window>,
    dice: f64,
) -> SystemTime {
    let life = not_after.duration_since(not_before).unwrap_or_default();
    let Some(window) = window else {
        // Earlier by up to a thirtieth of its life: three days of ninety.
        return not_before + life.mul_f64(2.0 / 3.0 - dice / 30.0);
    };
    let width = window.end.duration_since(window.start).unwrap_or_default();
    // Whatever the window says, time is left for a second try.
    let latest = not_before + life.mul_f64(LATEST);
    (window.start + width.mul_f64(dice)).min(latest)
}

/// When to look at the window again.
pub(super) fn look_again(retry_after: Option<Duration>) -> Duration {
    retry_after.map_or(LOOK, |after| after.clamp(SOONEST_LOOK, LATEST_LOOK))
}

/// How long to wait after this many failures in a row: twice as long each time, a day at most, and never
/// shorter than the authority asked for. `dice` spreads it downwards by a quarter.
pub(super) fn backoff(
    first: Duration,
    failures: u32,
    retry_after: Option<Duration>,
    dice: f64,
) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    let wait = first.saturating_mul(1 << doublings).min(LONGEST_BACKOFF);
    let asked = retry_after.unwrap_or_default().min(LONGEST_ASKED);
    wait.mul_f64(1.0 - dice / 4.0).max(asked)
}

/// How long the start of a renewal is put off where many are due at once. A first certificate waits for
/// nothing: its visitors do.
pub(super) fn spread(due: usize, at_once: usize, dice: f64) -> Duration {
    if due <= at_once {
        return Duration::ZERO;
    }
    let over = u32::try_from(due - at_once).unwrap_or(u32::MAX);
    SPREAD
        .saturating_mul(over)
        .min(LONGEST_SPREAD)
        .mul_f64(dice)
}

/// Whether a certificate must be had without the shared store: half of what was left when it became due
/// has passed.
pub(super) fn is_urgent(
    (not_before, not_after): (SystemTime, SystemTime),
    now: SystemTime,
) -> bool {
    let life = not_after.duration_since(not_before).unwrap_or_default();
    now >= not_before + life.mul_f64(URGENT)
}

/// Between 0 and 1, the same for the same words.
pub(super) fn dice(words: &[&[u8]]) -> f64 {
    let mut hash = XxHash3_64::new();
    for word in words {
        hash.write(word);
        hash.write_u8(0xff);
    }
    (hash.finish() >> 11) as f64 / (1u64 << 53) as f64
}

/// Between 0 and 1, never the same.
pub(super) fn throw() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    (RandomState::new().hash_one(0u8) >> 11) as f64 / (1u64 << 53) as f64
}

const LATEST: f64 = 0.9;
const URGENT: f64 = 5.0 / 6.0;
const LOOK: Duration = Duration::from_secs(6 * 60 * 60);
const SOONEST_LOOK: Duration = Duration::from_secs(60);
const LATEST_LOOK: Duration = Duration::from_secs(24 * 60 * 60);
const LONGEST_BACKOFF: Duration = Duration::from_secs(24 * 60 * 60);
/// What an authority may ask for at most: its longest limits are counted by the week.
const LONGEST_ASKED: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const SPREAD: Duration = Duration::from_millis(500);
const LONGEST_SPREAD: Duration = Duration::from_secs(10 * 60);

/// After the first failure of an authority that is out of order.
pub(super) const FIRST_OF_AUTHORITY: Duration = Duration::from_secs(60);
/// After the first failure of a certificate: an authority that counts five failures an hour is not
/// brought to refuse.
pub(super) const FIRST_OF_CERTIFICATE: Duration = Duration::from_secs(5 * 60);
/// After the first attempt that cost the authority nothing.
pub(super) const FIRST_OF_OURS: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn day(day: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * (20_000 + day)
    }

    #[test]
    fn two_thirds_of_the_life_or_where_the_window_says() {
        let window = |start, end| {
            Some(Window {
                start: day(start),
                end: day(end),
            })
        };
        for (life, window, dice, wanted) in [
            // Without a window: two thirds, and up to a thirtieth earlier.
            (90, None, 0.0, day(60)),
            (90, None, 1.0, day(57)),
            (6, None, 0.0, day(4)),
            // Within the window.
            (90, window(40, 50), 0.0, day(40)),
            (90, window(40, 50), 0.5, day(45)),
            // In the past: at once, as after a revocation.
            (90, window(0, 0), 0.9, day(0)),
            // Later than is good for it, or upside down.
            (90, window(89, 95), 0.5, day(81)),
            (90, window(50, 40), 0.5, day(50)),
        ] {
            let due = due((day(0), day(life)), window, dice);
            let off = due
                .duration_since(wanted)
                .unwrap_or_else(|early| early.duration());
            assert!(
                off < Duration::from_secs(1),
                "{life} {window:?} {dice}: {off:?}"
            );
        }
    }

    #[test]
    fn the_window_is_looked_at_again_when_asked_within_reason() {
        for (asked, wanted) in [
            (None, LOOK),
            (Some(0), SOONEST_LOOK),
            (Some(3600), Duration::from_secs(3600)),
            (Some(u64::MAX), LATEST_LOOK),
        ] {
            assert_eq!(look_again(asked.map(Duration::from_secs)), wanted);
        }
    }

    #[test]
    fn each_failure_doubles_the_wait_up_to_a_day() {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        for (failures, asked, wanted) in [
            (1, None, minutes(1)),
            (2, None, minutes(2)),
            (8, None, minutes(128)),
            (u32::MAX, None, LONGEST_BACKOFF),
            (1, Some(minutes(30)), minutes(30)),
            (12, Some(minutes(30)), LONGEST_BACKOFF),
            (1, Some(Duration::MAX), LONGEST_ASKED),
        ] {
            assert_eq!(backoff(minutes(1), failures, asked, 0.0), wanted);
        }
        assert_eq!(backoff(minutes(4), 1, None, 1.0), minutes(3));
    }

    #[test]
    fn few_begin_at_once_and_many_are_spread() {
        assert_eq!(spread(4, 4, 1.0), Duration::ZERO);
        assert_eq!(spread(304, 4, 1.0), Duration::from_secs(150));
        assert_eq!(spread(304, 4, 0.5), Duration::from_secs(75));
        assert_eq!(spread(usize::MAX, 4, 1.0), LONGEST_SPREAD);
    }

    #[test]
    fn dice_are_the_same_for_the_same_words_and_spread_over_all() {
        let dice_of = |index: u32| dice(&[b"id", &index.to_be_bytes()]);
        assert_eq!(dice_of(1), dice_of(1));
        let low = (0..1000).filter(|index| dice_of(*index) < 0.5).count();
        assert!((400..600).contains(&low), "{low}");
        assert!((0..1000).all(|index| (0.0..1.0).contains(&dice_of(index))));
        assert!((0.0..1.0).contains(&throw()));
    }

    #[test]
    fn the_last_sixth_does_not_wait_for_the_shared_store() {
        let life = (day(0), day(90));
        assert!(!is_urgent(life, day(74)));
        assert!(is_urgent(life, day(76)));
    }
}
