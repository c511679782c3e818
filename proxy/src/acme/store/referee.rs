//! Which of two certificates under one name stays, where another proxy wrote one.

use std::fmt::Debug;
use std::time::SystemTime;

use sovereign_config::model::KeyKind;

use crate::tls::kept::{Facts, Kept, judge};
use crate::tls::wanted::Wanted;

/// Decides whether what another proxy wrote takes the place of what is here. It is asked off the
/// network, and not for the same content.
pub trait Referee: Send + Sync + Debug {
    /// `ours`: `None` where there is nothing yet.
    fn judge(&self, name: &str, ours: Option<&[u8]>, theirs: &[u8]) -> Verdict;
}

/// What becomes of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Theirs goes into the local files.
    Take,
    /// Ours stays, and is offered to the others. Only where their referee would take it: two who
    /// offer each other theirs never come to an end.
    Offer,
    /// Ours stays here, theirs there.
    Ignore,
}

/// The certificate that was obtained last wins: it was replaced for a reason, be it that it lapses
/// earlier. One that is not whole, or lacks a name that the other has, wins never.
#[derive(Debug, Clone, Copy, Default)]
pub struct Newest;

impl Referee for Newest {
    fn judge(&self, _name: &str, ours: Option<&[u8]>, theirs: &[u8]) -> Verdict {
        match (ours.and_then(sound), sound(theirs)) {
            (None, None) => Verdict::Ignore,
            (None, Some(_)) => Verdict::Take,
            (Some(_), None) => Verdict::Offer,
            (Some(ours), Some(theirs)) if theirs.wins_over(&ours) => Verdict::Take,
            (Some(ours), Some(theirs)) if ours.wins_over(&theirs) => Verdict::Offer,
            _ => Verdict::Ignore,
        }
    }
}

/// A certificate that is in order.
struct Sound {
    obtained: SystemTime,
    facts: Facts,
}

impl Sound {
    /// Never both ways.
    fn wins_over(&self, other: &Self) -> bool {
        // The bytes decide where both were obtained in the same second.
        let rank = |one: &'_ Self| (one.obtained, one.facts.not_after, one.facts.leaf.clone());
        let (own, others) = (&self.facts.names, &other.facts.names);
        rank(self) > rank(other) && others.iter().all(|name| own.contains(name))
    }
}

/// Looks at key, chain, the names it was asked for, and at the dates by the word of who obtained it,
/// since the clock here may be wrong.
fn sound(content: &[u8]) -> Option<Sound> {
    let kept = Kept::parse(std::str::from_utf8(content).ok()?).ok()?;
    let now = kept.about.obtained_at();
    [KeyKind::Ecdsa, KeyKind::Rsa].into_iter().find_map(|key| {
        let wanted = Wanted {
            id: "".into(),
            site: "".into(),
            names: kept.about.names.clone(),
            key,
            pin_key: false,
            profile: None,
            challenges: Vec::new(),
            until: Default::default(),
        };
        let facts = judge(&kept, &wanted, now).ok()?;
        Some(Sound {
            obtained: now,
            facts,
        })
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use time::{Duration as Span, OffsetDateTime};

    use super::*;
    use crate::tls::kept::About;

    const NAMES: &[&str] = &["www.example.org", "example.org"];
    /// 2026-01-01T00:00:00Z.
    const START: u64 = 1_767_225_600;
    const DAY: u64 = 86_400;

    /// A certificate that was obtained on one day and lapses on another.
    fn kept(names: &[&str], obtained: u64, lapses: i64) -> String {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let start = OffsetDateTime::from_unix_timestamp(START as i64).expect("a time");
        let mut params = CertificateParams::new(names.clone()).expect("names");
        params.not_before = start;
        params.not_after = start + Span::days(lapses);
        let key = KeyPair::generate().expect("a key");
        let leaf = params.self_signed(&key).expect("signed");
        let about = About {
            directory: "https://ca.example/directory".into(),
            obtained: START + obtained * DAY,
            names,
            ..About::default()
        };
        Kept::new(about, leaf.pem(), key.serialize_pem()).to_pem()
    }

    #[test]
    fn the_last_one_wins_where_it_is_sound() {
        let old = kept(NAMES, 10, 90);
        let new = kept(NAMES, 70, 160);
        let short = kept(NAMES, 80, 86);
        let fewer = kept(&NAMES[..1], 71, 160);
        let early = kept(NAMES, 100, 90);
        let torn = &new[..new.len() / 2];
        let (key, from) = (
            new.rfind("-----BEGIN").expect("a key"),
            old.rfind("-----BEGIN").expect("a key"),
        );
        let wrong_key = format!("{}{}", &new[..key], &old[from..]);
        let rows: &[(Option<&str>, &str, Verdict, &str)] = &[
            (None, &old, Verdict::Take, "nothing here"),
            (Some("damaged"), &old, Verdict::Take, "nothing good here"),
            (Some(&old), &new, Verdict::Take, "renewed there"),
            (Some(&new), &old, Verdict::Offer, "renewed here"),
            (
                Some(&new),
                &short,
                Verdict::Take,
                "replaced there by one that lapses earlier",
            ),
            (Some(&short), &new, Verdict::Offer, "and here"),
            (
                Some(&old),
                &fewer,
                Verdict::Ignore,
                "newer, but lacks a name",
            ),
            (
                Some(&fewer),
                &old,
                Verdict::Ignore,
                "the same from the other side",
            ),
            (Some(&old), torn, Verdict::Offer, "cut off"),
            (Some(&old), &wrong_key, Verdict::Offer, "another's key"),
            (
                Some(&old),
                &early,
                Verdict::Offer,
                "lapsed when it was obtained, as it says",
            ),
            (None, "damaged", Verdict::Ignore, "nothing good anywhere"),
            (None, torn, Verdict::Ignore, "nothing good anywhere"),
        ];
        for (ours, theirs, wanted, why) in rows {
            let ours = ours.map(str::as_bytes);
            assert_eq!(
                Newest.judge("certs/acme/a.pem", ours, theirs.as_bytes()),
                *wanted,
                "{why}"
            );
        }
    }

    /// Two who both offered would write without end.
    #[test]
    fn at_most_one_side_offers() {
        let all = [
            kept(NAMES, 10, 90),
            kept(NAMES, 10, 90),
            kept(&NAMES[1..], 10, 90),
            kept(NAMES, 11, 20),
        ];
        for one in &all {
            for other in &all {
                let here = Newest.judge("", Some(one.as_bytes()), other.as_bytes());
                let there = Newest.judge("", Some(other.as_bytes()), one.as_bytes());
                let wanted = match here {
                    Verdict::Offer => Verdict::Take,
                    Verdict::Take => Verdict::Offer,
                    Verdict::Ignore => Verdict::Ignore,
                };
                assert_eq!(there, wanted);
            }
        }
    }
}
