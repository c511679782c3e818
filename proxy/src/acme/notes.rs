//! What is noted while certificates are kept: in the history, in the log, in what is counted.

use sovereign_config::model::Challenge;

use super::ca::Ca;
use super::clock::TOLD;
use super::failure::Outcome;
use super::history::{Event, What};
use super::keeper::Acme;
use crate::tls::wanted::Wanted;

impl Acme {
    /// Says that this machine's clock is wrong, when it is.
    pub(super) fn tell_of_skew(&self) {
        let Some(skew) = self.clock.skew().filter(|skew| skew.unsigned_abs() >= TOLD) else {
            return;
        };
        let told = self.told.lock().replace(skew);
        if told.is_some_and(|told| told.abs_diff(skew) < TOLD) {
            return;
        }
        let text = skewed(skew);
        tracing::warn!("{text}");
        self.note_clock(text);
    }

    /// Something happened to a certificate.
    pub(super) fn note(
        &self,
        wanted: &Wanted,
        what: What,
        ca: Option<&Ca>,
        challenge: Option<Challenge>,
        text: String,
    ) {
        let now = self.clock.now();
        self.history.note(Event {
            at: now,
            first: now,
            id: wanted.id.clone(),
            names: wanted.names.clone(),
            what,
            directory: ca.map(|ca| ca.config.directory.clone()),
            challenge,
            text,
        });
    }

    /// One more attempt.
    pub(super) fn count(&self, ca: &Ca, challenge: Option<Challenge>, outcome: Outcome) {
        let key = (ca.name.clone(), challenge, outcome);
        *self.attempts.lock().entry(key).or_default() += 1;
    }
}

/// A wrong clock, in words.
pub(super) fn skewed(skew: i64) -> String {
    let hours = skew.unsigned_abs() as f64 / 3600.0;
    let way = if skew < 0 { "ahead of" } else { "behind" };
    format!(
        "this machine's clock is {hours:.1} hours {way} the authorities': set it; certificates are judged by theirs until then"
    )
}
