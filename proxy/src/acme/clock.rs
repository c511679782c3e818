//! What time it is: this machine's clock, put right by what authorities say. A machine whose clock is
//! wrong must neither call a good certificate lapsed nor order anew because of it.
//!
//! Evidence is the `Date` of an authority's answer. It is void once this machine's clock has jumped:
//! it was set, or the machine slept.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

/// This machine's clock, and what authorities say of it.
#[derive(Debug)]
pub(super) struct Clock(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Seconds by which each authority's clock is ahead of ours.
    evidence: BTreeMap<String, i64>,
    /// When the two clocks of this machine were last compared.
    seen: (Instant, SystemTime),
}

impl Clock {
    pub fn new() -> Self {
        Self(Mutex::new(State {
            evidence: BTreeMap::new(),
            seen: (Instant::now(), SystemTime::now()),
        }))
    }

    /// An answer of `host` was dated `date`.
    pub fn learn(&self, host: &str, date: SystemTime) {
        self.learn_at(host, date, SystemTime::now());
    }

    fn learn_at(&self, host: &str, date: SystemTime, now: SystemTime) {
        let skew = signed_seconds(date, now);
        let mut state = self.0.lock();
        if state.evidence.len() < MOST_HOSTS || state.evidence.contains_key(host) {
            state.evidence.insert(host.to_owned(), skew);
        }
    }

    /// How many seconds the authorities are ahead of us: the middle one of what they say. `None`:
    /// nobody has said anything since the start, or since the clock jumped.
    pub fn skew(&self) -> Option<i64> {
        let state = self.0.lock();
        let mut skews: Vec<i64> = state.evidence.values().copied().collect();
        // Of two the one nearer to our own clock: one liar among two moves nothing far.
        skews.sort_unstable_by_key(|skew| (*skew, skew.unsigned_abs()));
        match skews.len() {
            0 => None,
            2 => skews.into_iter().min_by_key(|skew| skew.unsigned_abs()),
            count => skews.get(count / 2).copied(),
        }
    }

    /// What time it is, as far as is known.
    pub fn now(&self) -> SystemTime {
        corrected(SystemTime::now(), self.skew())
    }

    /// Our own clock for a time by the corrected one.
    pub fn is_confirmed(&self) -> bool {
        self.skew().is_some()
    }

    /// Compares the clock with the time that has passed. A jump is returned, in seconds, and what
    /// authorities said is forgotten.
    pub fn tick(&self) -> Option<i64> {
        self.tick_at(Instant::now(), SystemTime::now())
    }

    fn tick_at(&self, instant: Instant, now: SystemTime) -> Option<i64> {
        let mut state = self.0.lock();
        let (then, wall) = std::mem::replace(&mut state.seen, (instant, now));
        let expected = wall + instant.saturating_duration_since(then);
        let jump = signed_seconds(now, expected);
        if jump.unsigned_abs() < JUMP {
            return None;
        }
        state.evidence.clear();
        Some(jump)
    }
}

/// A clock put right by what authorities say. A small skew is the network's delay, and nothing that a certificate's dates feel.
pub(crate) fn corrected(now: SystemTime, skew: Option<i64>) -> SystemTime {
    let skew = skew.filter(|skew| skew.unsigned_abs() >= FELT).unwrap_or(0);
    let by = Duration::from_secs(skew.unsigned_abs());
    let corrected = if skew < 0 {
        now.checked_sub(by)
    } else {
        now.checked_add(by)
    };
    corrected.unwrap_or(now)
}

fn signed_seconds(a: SystemTime, b: SystemTime) -> i64 {
    let seconds = |by: Duration| i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
    match a.duration_since(b) {
        Ok(ahead) => seconds(ahead),
        Err(behind) => -seconds(behind.duration()),
    }
}

/// A jump of the clock, in seconds.
const JUMP: u64 = 60;
/// From here on the authorities' clock is believed in place of ours.
const FELT: u64 = 5 * 60;
/// Above this many seconds the operator is told.
pub(super) const TOLD: u64 = 60 * 60;
const MOST_HOSTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;

    fn at(hours: i64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs((1_000_000 + hours) as u64 * HOUR as u64)
    }

    #[test]
    fn the_middle_authority_is_believed() {
        for (says, wanted) in [
            (&[][..], None),
            (&[-48][..], Some(-48)),
            (&[0, 48][..], Some(0)),
            (&[-48, -47][..], Some(-47)),
            (&[-48, -48, 1000][..], Some(-48)),
        ] {
            let clock = Clock::new();
            for (index, hours) in says.iter().enumerate() {
                clock.learn_at(&format!("ca{index}"), at(*hours), at(0));
            }
            assert_eq!(
                clock.skew(),
                wanted.map(|hours: i64| hours * HOUR),
                "{says:?}"
            );
        }
    }

    #[test]
    fn a_clock_that_is_two_days_ahead_is_put_right_and_a_second_is_not() {
        assert_eq!(corrected(at(48), Some(-48 * HOUR)), at(0));
        assert_eq!(corrected(at(0), Some(48 * HOUR)), at(48));
        assert_eq!(corrected(at(0), Some(1)), at(0));
        assert_eq!(corrected(at(0), None), at(0));
    }

    #[test]
    fn a_jump_is_told_once_and_voids_what_was_said() {
        let clock = Clock::new();
        let (start, wall) = (Instant::now(), SystemTime::now());
        clock.learn_at("ca", wall, wall);
        let later = |seconds| Duration::from_secs(seconds);
        assert_eq!(clock.tick_at(start + later(60), wall + later(60)), None);
        assert!(clock.is_confirmed());
        let jump = clock.tick_at(start + later(120), wall + later(120 + 7200));
        assert!(
            jump.is_some_and(|jump| (7199..=7201).contains(&jump)),
            "{jump:?}"
        );
        assert!(!clock.is_confirmed());
        assert_eq!(
            clock.tick_at(start + later(180), wall + later(180 + 7200)),
            None
        );
    }
}
