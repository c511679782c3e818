//! Why a certificate could not be had: whose it is to mend, and when to ask again.

use std::fmt;
use std::time::Duration;

use instant_acme::{Error, Problem};
use sovereign_config::model::Challenge;

use super::http::Session;
use super::trust::HttpError;
use crate::causes;

/// What came of asking an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// A certificate.
    Issued,
    /// It cannot be reached, or says that it is out of order.
    Down,
    /// It does not answer, or comes to no end.
    Hangs,
    /// What it answers makes no sense.
    Garbled,
    /// It asks to be asked less.
    Limited,
    /// It does not want to, and says why.
    Refused,
    /// It was not convinced that the names are ours.
    Unproved,
    /// What it issued is not what was asked for.
    Unfit,
    /// Nothing was asked: no challenge can work.
    Blocked,
    /// Something here is in the way, as a disk that is full: before anything was asked, or what was
    /// issued cannot be kept.
    Ours,
}

impl Outcome {
    /// The word for it, in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Down => "down",
            Self::Hangs => "hangs",
            Self::Garbled => "garbled",
            Self::Limited => "limited",
            Self::Refused => "refused",
            Self::Unproved => "unproved",
            Self::Unfit => "unfit",
            Self::Blocked => "blocked",
            Self::Ours => "ours",
        }
    }

    /// Whether the authority is out of order for every certificate alike.
    pub(super) fn is_the_authoritys(self) -> bool {
        matches!(self, Self::Down | Self::Hangs | Self::Garbled)
    }

    /// Whether another authority could do better.
    pub(super) fn is_worth_another(self) -> bool {
        !matches!(self, Self::Blocked | Self::Ours)
    }
}

/// Why a certificate could not be had.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub outcome: Outcome,
    /// In the operator's words; one sentence without a full stop.
    pub text: String,
    /// The challenge that did not work, and for which name.
    pub challenge: Option<(String, Challenge)>,
    /// How long the authority wants to be left alone.
    pub retry_after: Option<Duration>,
    /// The last part of the problem's type, where the authority named one: `rateLimited`.
    pub kind: Option<String>,
}

impl Failure {
    pub fn new(outcome: Outcome, text: impl Into<String>) -> Self {
        Self {
            outcome,
            text: text.into(),
            challenge: None,
            retry_after: None,
            kind: None,
        }
    }

    /// What instant-acme says went wrong at `step`: "asking for an order".
    pub fn of(error: Error, step: &str, session: &Session) -> Self {
        let last = session.last();
        let mut failure = match error {
            Error::Api(problem) => Self::of_problem(&problem, last.status, step),
            Error::Other(other) => match other.downcast_ref::<HttpError>() {
                Some(error) => Self::of_http(error, step),
                None => Self::new(Outcome::Garbled, format!("{step}: {other}")),
            },
            Error::Timeout(_) => Self::new(Outcome::Hangs, format!("{step}: no end of it")),
            Error::Json(_) => Self::of_status(last.status, step),
            other => Self::new(Outcome::Garbled, format!("{step}: {other}")),
        };
        if matches!(failure.outcome, Outcome::Limited | Outcome::Down) {
            failure.retry_after = last.retry_after;
        }
        failure
    }

    pub fn of_http(error: &HttpError, step: &str) -> Self {
        let outcome = match error {
            HttpError::Silent(_) => Outcome::Hangs,
            HttpError::Garbled(_) | HttpError::TooLarge | HttpError::Url(_) => Outcome::Garbled,
            HttpError::Roots { .. } | HttpError::Setup(_) => Outcome::Ours,
            _ => Outcome::Down,
        };
        Self::new(outcome, format!("{step}: {}", causes::chain(error)))
    }

    /// An answer without a problem document.
    pub fn of_status(status: u16, step: &str) -> Self {
        let (outcome, text) = match status {
            429 => (Outcome::Limited, "asked to be asked less (429)".to_owned()),
            500.. => (Outcome::Down, format!("answered with status {status}")),
            200..300 => (
                Outcome::Garbled,
                "answered something else than ACME".to_owned(),
            ),
            _ => (
                Outcome::Garbled,
                format!("answered with status {status} and something else than ACME"),
            ),
        };
        Self::new(outcome, format!("{step}: it {text}"))
    }

    pub fn of_problem(problem: &Problem, status: u16, step: &str) -> Self {
        let kind = kind(problem);
        let outcome = match (kind, status) {
            (Some("rateLimited"), _) | (_, 429) => Outcome::Limited,
            (Some("serverInternal" | "badNonce"), _) | (_, 500..) => Outcome::Down,
            _ => Outcome::Refused,
        };
        let mut failure = Self::new(outcome, format!("{step}: it said {:?}", words(problem)));
        failure.kind = kind.map(str::to_owned);
        failure
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The last part of a problem's type.
pub(super) fn kind(problem: &Problem) -> Option<&str> {
    let name = problem.r#type.as_deref()?;
    name.strip_prefix("urn:ietf:params:acme:error:")
}

/// What a problem says: its detail, and that of the names it is about.
pub(super) fn words(problem: &Problem) -> String {
    let mut words = problem
        .detail
        .clone()
        .or_else(|| problem.r#type.clone())
        .unwrap_or_else(|| "no reason".to_owned());
    for one in problem.subproblems.iter().take(MOST_SUBPROBLEMS) {
        words.push_str(&format!("; {one}"));
    }
    // What an authority says is shown as text, in one line.
    words
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MOST_WORDS)
        .collect()
}

const MOST_SUBPROBLEMS: usize = 5;
const MOST_WORDS: usize = 600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_authority_says_decides_who_is_asked_next_and_when() {
        let of = |kind: &str, status| {
            let text =
                format!(r#"{{"type":"urn:ietf:params:acme:error:{kind}","detail":"why\nnot"}}"#);
            let problem: Problem = serde_json::from_str(&text).expect("a problem");
            Failure::of_problem(&problem, status, "asking")
        };
        for (kind, status, wanted) in [
            ("rateLimited", 429, Outcome::Limited),
            ("rateLimited", 403, Outcome::Limited),
            ("malformed", 429, Outcome::Limited),
            ("serverInternal", 500, Outcome::Down),
            ("malformed", 503, Outcome::Down),
            ("rejectedIdentifier", 400, Outcome::Refused),
            ("unauthorized", 403, Outcome::Refused),
        ] {
            assert_eq!(of(kind, status).outcome, wanted, "{kind} {status}");
        }
        let one = of("rejectedIdentifier", 400);
        assert_eq!(one.text, r#"asking: it said "why not""#);
        assert_eq!(one.kind.as_deref(), Some("rejectedIdentifier"));
    }

    #[test]
    fn an_answer_without_a_problem_is_judged_by_its_status() {
        for (status, wanted) in [
            (200, Outcome::Garbled),
            (404, Outcome::Garbled),
            (429, Outcome::Limited),
            (500, Outcome::Down),
            (0, Outcome::Garbled),
        ] {
            assert_eq!(
                Failure::of_status(status, "asking").outcome,
                wanted,
                "{status}"
            );
        }
    }
}
