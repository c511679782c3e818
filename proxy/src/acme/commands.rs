//! What the operator sees of certificates from authorities, and can have done.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::ca::Ca;
use super::entry::{Entry, Reason, date};
use super::keeper::Acme;
use super::plan::Plan;
use super::report::{Attempts, Authority, CertificateReport, DryRun, Report, Standing};
use super::terms;
use crate::causes;
use crate::tls::wanted::Wanted;

impl Acme {
    /// Everything at this moment.
    pub fn report(&self) -> Report {
        let plan = self.plan.load();
        let agreed = plan.cas.iter().any(|ca| ca.is_agreed());
        let (now, confirmed) = (self.clock.now(), self.clock.is_confirmed());
        let entries = self.entries.lock();
        let certificates = entries
            .iter()
            .map(|entry| of(entry, &plan, now, confirmed, agreed));
        let certificates = certificates.collect();
        drop(entries);
        let attempts = self.attempts.lock();
        let attempts = attempts
            .iter()
            .map(|((authority, challenge, outcome), count)| Attempts {
                authority: authority.clone(),
                challenge: *challenge,
                outcome: *outcome,
                count: *count,
            });
        Report {
            certificates,
            authorities: plan.cas.iter().map(|ca| authority(ca)).collect(),
            attempts: attempts.collect(),
            skew: self.clock.skew(),
            store_trouble: self.store.trouble(),
        }
    }

    /// Has the certificates of these names ordered now, or all; returns when that is done, or goes on without
    /// being waited for. An `Err` says what could not be had.
    pub async fn renew_now(&self, names: &[String]) -> Result<String, String> {
        let chosen = self.chosen(names)?;
        let ids: Vec<Box<str>> = chosen.into_iter().map(|wanted| wanted.id).collect();
        let mut ended = self.ended.subscribe();
        let plan = self.plan.load_full();
        for ca in &plan.cas {
            ca.forgive();
        }
        let mut targets = Vec::with_capacity(ids.len());
        for entry in self
            .entries
            .lock()
            .iter_mut()
            .filter(|e| ids.contains(&e.wanted.id))
        {
            entry.asked = true;
            entry.next = None;
            entry.refused.clear();
            // One that is under way is the one that was asked for.
            targets.push((entry.wanted.id.clone(), entry.ended + 1));
        }
        self.wake.notify_one();
        let done = async {
            while !self.have_ended(&targets) {
                if ended.changed().await.is_err() {
                    return;
                }
            }
        };
        let all = ids.len();
        if tokio::time::timeout(WAITED, done).await.is_err() {
            return Ok(format!(
                "{all} certificates are being ordered; `sovereign-proxy certs` shows how they stand"
            ));
        }
        let failed: Vec<String> = self
            .entries
            .lock()
            .iter()
            .filter_map(|entry| {
                let error = entry.last_error.as_ref().or(entry.waiting.as_ref())?;
                ids.contains(&entry.wanted.id)
                    .then(|| format!("{}: {error}", entry.wanted.id))
            })
            .collect();
        match failed.len() {
            0 if all == 1 => Ok("1 certificate is renewed".to_owned()),
            0 => Ok(format!("{all} certificates are renewed")),
            count => Err(format!(
                "{count} of {all} are not renewed: {}",
                failed.join("; ")
            )),
        }
    }

    /// What ordering these certificates, or all, would come to: asked of the authority's staging; nothing is
    /// kept.
    pub async fn dry_run(&self, names: &[String]) -> Result<Vec<DryRun>, String> {
        let chosen = self.chosen(names)?;
        let mut outcomes = Vec::with_capacity(chosen.len());
        for wanted in chosen {
            outcomes.push(self.rehearse(&wanted).await);
        }
        Ok(outcomes)
    }

    /// Agrees to the terms of the authority with this directory.
    pub async fn agree(&self, directory: &str) -> Result<String, String> {
        let plan = self.plan.load_full();
        let ca = plan.cas.iter().find(|ca| ca.config.directory == directory);
        let Some(ca) = ca else {
            return Err(format!("{directory} is no authority of the configuration"));
        };
        let (state, url) = (self.state.clone(), directory.to_owned());
        let kept = tokio::task::spawn_blocking(move || terms::agree(&state, &url)).await;
        let kept = kept.map_err(|error| error.to_string())?;
        kept.map_err(|error| causes::chain(&error))?;
        // A reload meanwhile may have put another one in its place.
        for ca in &self.plan.load().cas {
            if ca.config.directory == directory {
                ca.set_agreed(true);
            }
        }
        for entry in &mut *self.entries.lock() {
            entry.waiting = None;
            entry.next = None;
        }
        self.wake.notify_one();
        Ok(format!(
            "the terms of {} are agreed to; certificates are ordered now",
            ca.name
        ))
    }

    fn have_ended(&self, targets: &[(Box<str>, u64)]) -> bool {
        let entries = self.entries.lock();
        targets.iter().all(|(id, count)| {
            let entry = entries.iter().find(|entry| entry.wanted.id == *id);
            entry.is_none_or(|entry| entry.ended >= *count && !entry.running && !entry.asked)
        })
    }

    /// The certificates that cover any of these names; all where none is named.
    fn chosen(&self, names: &[String]) -> Result<Vec<Wanted>, String> {
        let entries = self.entries.lock();
        if entries.is_empty() {
            return Err("no site has tls = \"acme\"".to_owned());
        }
        let is_of = |entry: &Entry, name: &String| {
            *name == *entry.wanted.id || entry.wanted.names.contains(name)
        };
        let stranger = |name: &&String| !entries.iter().any(|entry| is_of(entry, name));
        if let Some(name) = names.iter().find(stranger) {
            return Err(format!("no certificate from an authority covers {name}"));
        }
        let chosen = entries
            .iter()
            .filter(|entry| names.is_empty() || names.iter().any(|name| is_of(entry, name)));
        Ok(chosen.map(|entry| entry.wanted.clone()).collect())
    }
}

fn authority(ca: &Ca) -> Authority {
    let rest = ca.rest();
    Authority {
        directory: ca.config.directory.clone(),
        name: ca.name.clone(),
        agreed: ca.is_agreed(),
        terms: ca.terms(),
        trouble: rest.until.and(rest.text),
        until: rest.until.map(wall),
    }
}

fn of(
    entry: &Entry,
    plan: &Plan,
    now: SystemTime,
    confirmed: bool,
    agreed: bool,
) -> CertificateReport {
    let have = entry.have.as_ref();
    let reason = entry.reason(now, confirmed);
    let standing = standing(entry, reason.as_ref(), agreed);
    let window = entry.renewal.as_ref().map(|renewal| renewal.window);
    let open = reason.is_some() && !entry.running;
    CertificateReport {
        id: entry.wanted.id.clone(),
        site: entry.wanted.site.clone(),
        names: entry.wanted.names.clone(),
        text: text(entry, reason.as_ref(), standing, plan),
        standing,
        directory: have.map(|have| have.about.directory.clone()),
        challenge: have.and_then(|have| have.about.challenge.clone()),
        profile: have.and_then(|have| have.about.profile.clone()),
        obtained: have.map(|have| have.about.obtained_at()),
        not_after: have.map(|have| have.facts.not_after),
        due: entry.due(),
        window: window.map(|window| (window.start, window.end)),
        explanation: entry
            .renewal
            .as_ref()
            .and_then(|renewal| renewal.explanation.clone()),
        next_attempt: entry.next.filter(|_| open).map(wall),
        failures: entry.failures,
        last_error: entry.last_error.clone(),
    }
}

fn standing(entry: &Entry, reason: Option<&Reason>, agreed: bool) -> Standing {
    match reason {
        None => Standing::Good,
        Some(_) if entry.running => Standing::Ordering,
        Some(Reason::Lapsed) => Standing::Lapsed,
        Some(Reason::Doubtful) => Standing::Doubtful,
        Some(_) if entry.waiting.is_some() || !agreed => Standing::Waiting,
        Some(_) if entry.last_error.is_some() => Standing::Failing,
        Some(Reason::Missing) => Standing::Missing,
        Some(_) => Standing::Due,
    }
}

fn text(entry: &Entry, reason: Option<&Reason>, standing: Standing, plan: &Plan) -> String {
    let have = entry.have.as_ref();
    let end = have
        .map(|have| date(have.facts.not_after))
        .unwrap_or_default();
    let error = entry.waiting.clone().or_else(|| entry.last_error.clone());
    let because = error
        .clone()
        .map(|error| format!(": {error}"))
        .unwrap_or_default();
    match standing {
        Standing::Good => {
            let due = entry.due().map(date).unwrap_or_default();
            format!("valid until {end}, renewed on {due}")
        }
        Standing::Ordering => "being ordered".to_owned(),
        Standing::Missing => "not there yet".to_owned(),
        Standing::Failing | Standing::Waiting => match error {
            Some(error) => error,
            None => {
                let name = plan
                    .cas
                    .first()
                    .map(|ca| ca.name.as_str())
                    .unwrap_or("the authority");
                format!("the terms of {name} are not agreed to: run `sovereign-proxy certs agree`")
            }
        },
        Standing::Lapsed => format!("lapsed on {end}{because}"),
        Standing::Doubtful => format!(
            "by this machine's clock it lapsed on {end}; no authority has confirmed that clock, which may be wrong{because}"
        ),
        Standing::Due => match reason {
            Some(Reason::Changed(why)) => format!("to be replaced: {why}"),
            _ => format!("valid until {end}, about to be renewed"),
        },
    }
}

/// A moment that lies ahead, by the wall clock.
fn wall(at: Instant) -> SystemTime {
    SystemTime::now() + at.saturating_duration_since(Instant::now())
}

/// How long a command waits for orders.
const WAITED: Duration = Duration::from_secs(90);
