//! One certificate that the configuration asks for: what is there, and what is to be done about it. Decides
//! by values alone; the loop acts.

use std::collections::HashMap;
use std::time::SystemTime;

use sovereign_config::model::{Challenge, KeyKind};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::ca::Renewal;
use super::history::What;
use super::when;
use crate::tls::kept::{About, Facts, Kept, Unfit, judge};
use crate::tls::wanted::Wanted;

/// A certificate that the configuration asks for.
pub(super) struct Entry {
    pub wanted: Wanted,
    pub have: Option<Have>,
    /// What was issued and is not written yet; none is ordered meanwhile.
    pub issued: Option<Issued>,
    /// When its authority wants it renewed.
    pub renewal: Option<Renewal>,
    /// When to ask it; `None`: at once.
    pub look: Option<Instant>,
    /// It is being ordered.
    pub running: bool,
    /// The operator wants it now.
    pub asked: bool,
    /// Not before.
    pub next: Option<Instant>,
    /// Its start has been put off once, because many were due.
    pub spread: bool,
    /// Authorities that do not want it, until when; and how often in a row.
    pub refused: HashMap<String, (Instant, u32)>,
    pub failures: u32,
    pub last_error: Option<String>,
    /// What must happen first.
    pub waiting: Option<String>,
    /// Attempts that came to an end.
    pub ended: u64,
}

/// What is there. Nothing shows it whole: it has a key.
#[derive(Clone)]
pub(super) struct Have {
    pub about: About,
    pub facts: Facts,
    /// Why another one must take its place at once, if so.
    pub replace: Option<String>,
    /// Its key, for one that is pinned.
    pub key_pem: String,
}

/// What was issued, and what is said of it once it is written.
#[derive(Clone)]
pub(super) struct Issued {
    pub kept: Kept,
    pub challenge: Option<Challenge>,
    pub what: What,
    pub text: String,
}

/// Why a certificate is ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reason {
    /// There is none.
    Missing,
    /// It has lapsed.
    Lapsed,
    /// By a clock that nobody has confirmed it has lapsed.
    Doubtful,
    /// What is wanted has changed.
    Changed(String),
    /// Its time has come.
    Time,
    /// The operator wants it, or it is there and only to be written.
    Asked,
}

impl Reason {
    /// What happened, once it is there.
    pub fn what(&self) -> What {
        match self {
            Self::Missing => What::Issued,
            Self::Changed(_) => What::Replaced,
            _ => What::Renewed,
        }
    }
}

impl Entry {
    pub fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            have: None,
            issued: None,
            renewal: None,
            look: None,
            running: false,
            asked: false,
            next: None,
            spread: false,
            refused: HashMap::new(),
            failures: 0,
            last_error: None,
            waiting: None,
            ended: 0,
        }
    }

    /// Takes what lies in the store. `true`: it is another certificate than before.
    pub fn take(&mut self, have: Option<Have>) -> bool {
        let serial = |have: &Option<Have>| have.as_ref().map(|have| have.facts.leaf.clone());
        let other = serial(&self.have) != serial(&have);
        if other {
            self.renewal = None;
            self.look = None;
            self.spread = false;
        }
        self.have = have;
        other
    }

    /// Why it is to be ordered now. `confirmed`: somebody else has confirmed the clock.
    pub fn reason(&self, now: SystemTime, confirmed: bool) -> Option<Reason> {
        let Some(have) = &self.have else {
            return Some(Reason::Missing);
        };
        if self.asked || self.issued.is_some() {
            return Some(Reason::Asked);
        }
        if let Some(why) = &have.replace {
            return Some(Reason::Changed(why.clone()));
        }
        match (now > have.facts.not_after, confirmed) {
            (true, true) => return Some(Reason::Lapsed),
            (true, false) => return Some(Reason::Doubtful),
            _ => {}
        }
        (self.due().is_some_and(|due| due <= now)).then_some(Reason::Time)
    }

    /// When it is renewed. `None`: there is none.
    pub fn due(&self) -> Option<SystemTime> {
        let have = self.have.as_ref()?;
        let window = self.renewal.as_ref().map(|renewal| renewal.window);
        let dice = when::dice(&[self.wanted.id.as_bytes(), &have.facts.serial]);
        Some(when::due(have.facts.life(), window, dice))
    }

    /// Whether it must be had though the shared store cannot be reached.
    pub fn is_urgent(&self, now: SystemTime) -> bool {
        let urgent = |have: &Have| when::is_urgent(have.facts.life(), now);
        // What is issued already needs no right to order.
        self.asked || self.issued.is_some() || self.have.as_ref().is_none_or(urgent)
    }
}

/// When a certificate begins and lapses.
pub(super) trait Life {
    fn life(&self) -> (SystemTime, SystemTime);
}

impl Life for Facts {
    fn life(&self) -> (SystemTime, SystemTime) {
        (self.not_before, self.not_after)
    }
}

/// What lies in the store, looked at. `None`: nothing that could be served.
pub(super) fn look_at(kept: &Kept, wanted: &Wanted, now: SystemTime) -> Option<Have> {
    let obtained = kept.about.obtained_at();
    // As it was meant when it was had: what is wanted now comes second.
    let meant = |key| Wanted {
        names: match kept.about.names.is_empty() {
            true => wanted.names.clone(),
            false => kept.about.names.clone(),
        },
        key,
        ..wanted.clone()
    };
    let other = match wanted.key {
        KeyKind::Ecdsa => KeyKind::Rsa,
        KeyKind::Rsa => KeyKind::Ecdsa,
    };
    let facts = judge(kept, &meant(wanted.key), obtained)
        .or_else(|_| judge(kept, &meant(other), obtained))
        .or_else(|_| judge(kept, &meant(wanted.key), now))
        .ok()?;
    let replace = match judge(kept, wanted, now) {
        // Dates are judged apart: by them alone nothing is replaced before its authority was asked.
        Ok(_) | Err(Unfit::Lapsed { .. } | Unfit::NotYetValid { .. }) => None,
        Err(unfit) => Some(unfit.to_string()),
    };
    Some(Have {
        about: kept.about.clone(),
        facts,
        replace,
        key_pem: kept.key_pem().to_owned(),
    })
}

/// A day, as a person writes it.
pub(super) fn date(when: SystemTime) -> String {
    OffsetDateTime::from(when).date().to_string()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::acme::when::Window;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn day(day: u32) -> SystemTime {
        UNIX_EPOCH + DAY * (20_000 + day)
    }

    fn entry() -> Entry {
        let mut entry = Entry::new(Wanted {
            id: "a.example".into(),
            site: "a.example".into(),
            names: vec!["a.example".to_owned()],
            key: KeyKind::Ecdsa,
            pin_key: false,
            profile: None,
            challenges: Vec::new(),
            until: Default::default(),
        });
        let facts = Facts {
            names: entry.wanted.names.clone(),
            issuer: "an authority".to_owned(),
            not_before: day(0),
            not_after: day(90),
            serial: vec![1],
            authority_key_id: vec![2],
            leaf: vec![3],
            key: KeyKind::Ecdsa,
        };
        entry.take(Some(Have {
            about: About::default(),
            facts,
            replace: None,
            key_pem: String::new(),
        }));
        entry
    }

    fn window(start: SystemTime, end: SystemTime) -> Option<Renewal> {
        Some(Renewal {
            window: Window { start, end },
            explanation: None,
            again: DAY,
        })
    }

    #[test]
    fn a_certificate_is_ordered_for_a_reason_and_only_then() {
        let is_ordered = |change: &dyn Fn(&mut Entry), now, confirmed| {
            let mut entry = entry();
            change(&mut entry);
            entry.reason(now, confirmed)
        };
        let as_it_is = |_: &mut Entry| {};
        assert_eq!(is_ordered(&as_it_is, day(1), true), None);
        assert_eq!(is_ordered(&as_it_is, day(56), true), None);
        assert_eq!(is_ordered(&as_it_is, day(61), false), Some(Reason::Time));
        assert_eq!(is_ordered(&as_it_is, day(91), true), Some(Reason::Lapsed));
        assert_eq!(
            is_ordered(&as_it_is, day(91), false),
            Some(Reason::Doubtful)
        );
        let gone = |entry: &mut Entry| entry.have = None;
        assert_eq!(is_ordered(&gone, day(1), true), Some(Reason::Missing));
        let asked = |entry: &mut Entry| entry.asked = true;
        assert_eq!(is_ordered(&asked, day(1), true), Some(Reason::Asked));
        let revoked = |entry: &mut Entry| entry.renewal = window(day(0), day(1));
        assert_eq!(is_ordered(&revoked, day(2), true), Some(Reason::Time));
        let later = |entry: &mut Entry| entry.renewal = window(day(70), day(72));
        assert_eq!(is_ordered(&later, day(65), true), None);
    }

    #[test]
    fn another_certificate_is_asked_about_anew() {
        let mut entry = entry();
        entry.renewal = window(day(0), day(1));
        let same = entry.have.clone();
        assert!(!entry.take(same.clone()) && entry.renewal.is_some());
        let mut other = same.expect("it has one");
        other.facts.leaf = vec![4];
        assert!(entry.take(Some(other)) && entry.renewal.is_none());
    }

    #[test]
    fn without_the_shared_store_only_what_is_urgent_is_ordered() {
        let mut entry = entry();
        assert!(!entry.is_urgent(day(61)) && entry.is_urgent(day(76)));
        entry.take(None);
        assert!(entry.is_urgent(day(1)));
    }
}
