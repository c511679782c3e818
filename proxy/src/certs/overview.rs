//! What the daemon knows of certificates, put together: those in force, and what is done to keep them
//! up. Pure, but for the clock.

use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Attempts, EventStatus, Form, Overview, Trial};
use crate::acme::calendar::calendar;
use crate::acme::feed::{Standing, atom};
use crate::acme::history::{Event, challenge_name};
use crate::acme::{Authority, CertificateReport, DryRun, Report, corrected};
use crate::status::{AcmeStatus, AuthorityStatus, CertificateStatus, OrderStatus};
use crate::tls::{CertificateInfo, Source};

/// All that is known at one moment.
pub struct Known {
    /// The certificates in force.
    pub served: Vec<CertificateInfo>,
    /// Those that are wanted of authorities.
    pub wanted: Report,
    /// What happened, the oldest first.
    pub events: Vec<Event>,
}

impl Known {
    /// For `certs`.
    pub fn overview(&self) -> Overview {
        let attempts = self.wanted.attempts.iter().map(|attempts| Attempts {
            authority: attempts.authority.clone(),
            challenge: attempts.challenge.map_or("none", challenge_name).to_owned(),
            outcome: attempts.outcome.as_str().to_owned(),
            count: attempts.count,
        });
        Overview {
            certificates: certificates(&self.served, &self.wanted),
            acme: acme(&self.wanted),
            attempts: attempts.collect(),
            events: self.events.iter().map(event).collect(),
        }
    }

    /// To be subscribed to; `url` is where it was read.
    pub fn feed(&self, form: Form, url: &str) -> String {
        let standings = self.standings();
        let now = now(&self.wanted);
        match form {
            Form::Atom => atom(&self.events, &standings, url, now),
            Form::Calendar => calendar(&self.events, &standings, now),
        }
    }

    /// What will expire, unless something is done or fails to be done. What the local authority
    /// signs is no news: it is signed anew whenever that is needed.
    fn standings(&self) -> Vec<Standing> {
        let ordered = self.wanted.certificates.iter().filter_map(ordered);
        let files = self.served.iter().filter_map(|info| match &info.source {
            Source::Files(path) => Some(Standing {
                id: format!("file {}", path.display()).into(),
                names: info.names.clone(),
                authority: info.issuer.clone(),
                obtained: info.not_before,
                due: None,
                lapses: info.not_after,
                trouble: None,
            }),
            _ => None,
        });
        ordered.chain(files).collect()
    }
}

fn ordered(certificate: &CertificateReport) -> Option<Standing> {
    Some(Standing {
        id: certificate.id.clone(),
        names: certificate.names.clone(),
        authority: host(certificate.directory.as_deref()?).to_owned(),
        obtained: certificate.obtained.unwrap_or(SystemTime::UNIX_EPOCH),
        due: certificate.due,
        lapses: certificate.not_after?,
        trouble: certificate.last_error.clone(),
    })
}

/// The certificates in force with what is done for each, then those that are not there yet.
pub fn certificates(served: &[CertificateInfo], wanted: &Report) -> Vec<CertificateStatus> {
    let now = now(wanted);
    let mut list: Vec<_> = served
        .iter()
        .map(|info| in_force(info, wanted, now))
        .collect();
    for order in &wanted.certificates {
        let is_told = |status: &CertificateStatus| {
            let told = status.order.as_ref();
            told.is_some_and(|told| *told.id == *order.id)
        };
        if !list.iter().any(is_told) {
            list.push(CertificateStatus {
                names: order.names.clone(),
                source: "none".to_owned(),
                order: Some(of_order(order)),
                ..CertificateStatus::default()
            });
        }
    }
    list
}

fn in_force(info: &CertificateInfo, wanted: &Report, now: SystemTime) -> CertificateStatus {
    let (source, is_ordered) = match &info.source {
        Source::Files(path) => (path.display().to_string(), false),
        Source::Acme { directory, .. } => (format!("acme {}", host(directory)), true),
        Source::Temporary => ("temporary".to_owned(), true),
        _ => ("local CA".to_owned(), false),
    };
    let is_for = |order: &&CertificateReport| {
        is_ordered && order.names.iter().any(|name| info.names.contains(name))
    };
    let order = wanted.certificates.iter().find(is_for);
    CertificateStatus {
        names: info.names.clone(),
        source,
        issuer: info.issuer.clone(),
        not_after: text(info.not_after),
        days_left: days_left(info.not_after, now),
        order: order.map(of_order),
    }
}

fn of_order(order: &CertificateReport) -> OrderStatus {
    OrderStatus {
        id: order.id.to_string(),
        names: order.names.clone(),
        state: order.standing.as_str().to_owned(),
        text: order.text.clone(),
        authority: order.directory.clone(),
        challenge: order.challenge.clone(),
        profile: order.profile.clone(),
        obtained: order.obtained.map(text),
        due: order.due.map(text),
        window: order.window.map(|(from, until)| (text(from), text(until))),
        explanation: order.explanation.clone(),
        next_attempt: order.next_attempt.map(text),
        failures: order.failures,
        last_error: order.last_error.clone(),
    }
}

/// What holds up certificates of authorities, as a whole.
pub fn acme(wanted: &Report) -> AcmeStatus {
    let is_any_wanted = !wanted.certificates.is_empty();
    let authorities = wanted.authorities.iter().filter(|_| is_any_wanted);
    AcmeStatus {
        authorities: authorities.map(authority).collect(),
        // They are ahead of us by as much as we are behind them.
        clock_skew_seconds: wanted.skew.map(i64::saturating_neg),
        store_trouble: wanted.store_trouble.clone(),
    }
}

fn authority(authority: &Authority) -> AuthorityStatus {
    AuthorityStatus {
        directory: authority.directory.clone(),
        name: authority.name.clone(),
        agreed: authority.agreed,
        terms: authority.terms.clone(),
        trouble: authority.trouble.clone(),
        until: authority.until.map(text),
    }
}

fn event(event: &Event) -> EventStatus {
    EventStatus {
        time: text(event.at),
        names: event.names.clone(),
        what: event.what.as_str().to_owned(),
        authority: event.directory.clone(),
        challenge: event.challenge.map(|by| challenge_name(by).to_owned()),
        text: event.text.clone(),
    }
}

impl From<DryRun> for Trial {
    fn from(run: DryRun) -> Self {
        Self {
            names: run.names,
            authority: run.directory,
            challenge: run.challenge,
            ok: run.ok,
            text: run.text,
        }
    }
}

/// This machine's clock, put right by what authorities say: no certificate counts as lapsed because
/// the clock is wrong.
fn now(wanted: &Report) -> SystemTime {
    corrected(SystemTime::now(), wanted.skew)
}

/// Whole days; negative once it has lapsed.
fn days_left(not_after: SystemTime, now: SystemTime) -> i64 {
    match not_after.duration_since(now) {
        Ok(left) => (left.as_secs() / DAY) as i64,
        Err(past) => -((past.duration().as_secs() / DAY) as i64) - 1,
    }
}

/// The host of an authority's directory, which is what people call it.
pub fn host(directory: &str) -> &str {
    let rest = directory
        .split_once("://")
        .map_or(directory, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

/// RFC 3339; the certificates of far futures have no date that it could write.
fn text(time: SystemTime) -> String {
    let Ok(since) = time.duration_since(SystemTime::UNIX_EPOCH) else {
        return String::new();
    };
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    let time = OffsetDateTime::from_unix_timestamp(seconds);
    time.ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}

const DAY: u64 = 24 * 60 * 60;
