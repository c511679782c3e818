//! The time by which stored responses age. The system's clock may be set back, and a page that was fresh
//! for a minute must not become fresh for an hour by that; so ages are counted by a clock that goes on.
//!
//! What other machines say (`Date`, `Expires`) is compared with the system's clock all the same.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// Where both clocks stood when the process first asked.
static START: OnceLock<(SystemTime, Instant)> = OnceLock::new();

/// The time now: the system's clock, but where that was set back, as much later than at the start as has
/// really passed.
pub fn now() -> SystemTime {
    let wall = SystemTime::now();
    let (start, then) = *START.get_or_init(|| (wall, Instant::now()));
    let passed = start.checked_add(then.elapsed()).unwrap_or(start);
    wall.max(passed)
}

/// A time of the system's clock in the time of this one.
pub fn from_wall(wall: SystemTime) -> SystemTime {
    moved(wall, SystemTime::now(), now())
}

/// A time of this clock in the time of the system's clock.
pub fn to_wall(steady: SystemTime) -> SystemTime {
    moved(steady, now(), SystemTime::now())
}

/// What is as long before (or after) `to` as `time` is before (or after) `from`.
fn moved(time: SystemTime, from: SystemTime, to: SystemTime) -> SystemTime {
    let moved = match from.duration_since(time) {
        Ok(before) => to.checked_sub(before),
        Err(after) => to.checked_add(Duration::min(after.duration(), FARTHEST)),
    };
    moved.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Some three hundred years.
const FARTHEST: Duration = Duration::from_secs(10_000_000_000);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_move_with_their_clock() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (time, from, to, wanted) in [
            (90, 100, 200, 190),
            (110, 100, 200, 210),
            (100, 100, 50, 50),
        ] {
            assert_eq!(moved(at(time), at(from), at(to)), at(wanted));
        }
        let _ = moved(at(u64::from(u32::MAX)), at(0), at(0));
    }

    #[test]
    fn it_does_not_go_back() {
        let first = now();
        assert!(now() >= first);
        let wall = SystemTime::now();
        let back = to_wall(from_wall(wall));
        let off = wall
            .duration_since(back)
            .unwrap_or_else(|late| late.duration());
        assert!(off < Duration::from_secs(5), "{off:?}");
    }
}
