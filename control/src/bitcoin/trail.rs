//! What is left until a node has the whole chain, from several looks at it. Pure, and honest: without two looks that
//! differ there is no estimate, and none that goes beyond a year.

use std::collections::VecDeque;
use std::time::Duration;

use super::Node;

/// Looks at a node, each with its time.
#[derive(Debug, Clone, Default)]
pub struct Trail(VecDeque<(Duration, f64)>);

/// How far back it goes: blocks come in bursts, and differ.
const BACK: Duration = Duration::from_secs(600);
/// Looks that are closer together than this say nothing.
const APART: Duration = Duration::from_secs(2);
/// How many are kept.
const KEPT: usize = 400;
/// What is further away is not known.
const FAR: f64 = 365.0 * 86_400.0;

impl Trail {
    /// A look, at a time that counts from any beginning.
    pub fn add(&mut self, at: Duration, node: &Node) {
        // While it only learns of blocks, it has checked nothing that says how fast it is.
        if node.blocks == 0 || self.0.back().is_some_and(|(_, last)| node.progress < *last) {
            self.0.clear();
        }
        self.0.push_back((at, node.progress));
        while self.0.len() > KEPT
            || self
                .0
                .front()
                .is_some_and(|(first, _)| at.saturating_sub(*first) > BACK)
        {
            self.0.pop_front();
        }
    }

    /// How long it takes at the pace of these looks.
    pub fn left(&self) -> Option<Duration> {
        let ((before, was), (now, is)) = (self.0.front()?, self.0.back()?);
        let gap = now.checked_sub(*before).filter(|gap| *gap >= APART)?;
        let pace = (is - was) / gap.as_secs_f64();
        let left = (1.0 - is) / pace;
        (pace > 0.0 && left.is_finite() && left < FAR)
            .then(|| Duration::from_secs_f64(left.max(0.0)))
    }
}
