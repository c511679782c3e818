//! One attempt to have a certificate: the authorities in their order, until one issues it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ca::Ca;
use super::entry::{Have, Reason};
use super::failure::{Failure, Outcome};
use super::history::What;
use super::issue::Ask;
use super::keeper::Acme;
use super::store::{Lease, StoreError};
use super::ways::Ways;
use super::when;
use crate::tls::kept;
use crate::tls::wanted::Wanted;

/// How an attempt ended.
enum Ended {
    /// A certificate was written.
    Issued,
    /// Nothing is to be done any more: another proxy did it, or the clock was wrong.
    NotDue,
    /// Something must happen first, which is looked for again after a while.
    Waiting(String, Duration),
    /// The terms of no authority are agreed to.
    Unagreed(String),
    /// No authority issued one.
    Failed(String, Duration),
}

impl Acme {
    /// Has a certificate ordered, and notes what came of it. `entry.running` has been set.
    pub(super) async fn attempt(self: Arc<Self>, id: Box<str>, reason: Reason) {
        // However this ends, also when it panics or is dropped, the entry is free again.
        let _free = Free(&self, &id);
        let ended = match self.claim(&id, &reason).await {
            Ok(lease) => self.under_lease(&id, reason, lease).await,
            Err(ended) => ended,
        };
        self.read(&id).await;
        let mut entries = self.entries.lock();
        let Some(entry) = entries.iter_mut().find(|entry| entry.wanted.id == id) else {
            return;
        };
        entry.waiting = None;
        let now = Instant::now();
        match ended {
            Ended::Issued | Ended::NotDue => {
                entry.asked = false;
                entry.failures = 0;
                entry.next = None;
                entry.last_error = None;
                entry.issued = None;
                entry.refused.clear();
            }
            Ended::Waiting(text, wait) => {
                entry.waiting = Some(text);
                entry.asked = false;
                entry.next = Some(now + wait);
            }
            Ended::Unagreed(text) => {
                entry.waiting = Some(text);
                entry.asked = false;
                // A word that came meanwhile found nothing to wake.
                let agreed = self.plan.load().cas.iter().any(|ca| ca.is_agreed());
                entry.next = (!agreed).then(|| now + UNTIL_AGREED);
            }
            Ended::Failed(text, wait) => {
                entry.asked = false;
                entry.failures = entry.failures.saturating_add(1);
                entry.last_error = Some(text);
                entry.next = Some(now + wait);
            }
        }
    }

    /// The right to order this certificate; `None` where it is had without asking.
    async fn claim(&self, id: &str, reason: &Reason) -> Result<Option<Lease>, Ended> {
        let urgent = self.is_urgent(id);
        // Just after a start what others have may not have been seen yet.
        if let Some(trouble) = self.store.trouble()
            && (!urgent || self.begun.elapsed() < YOUNG)
        {
            let text = format!(
                "the shared store cannot be reached, and another proxy may be ordering: {trouble}"
            );
            return Err(Ended::Waiting(text, WITHOUT_STORE));
        }
        match self.lease(id).await {
            Ok(Some(lease)) => Ok(Some(lease)),
            Ok(None) => {
                let text = match self.store.is_shared() {
                    true => "another proxy is ordering it",
                    // By what the configuration said before.
                    false => "it is being ordered already",
                };
                Err(Ended::Waiting(text.to_owned(), WHILE_ANOTHER))
            }
            Err(error) if urgent => {
                tracing::warn!(id, ?reason, "ordering without the shared store: {error}");
                Ok(None)
            }
            Err(error) => Err(Ended::Waiting(error.to_string(), WITHOUT_STORE)),
        }
    }

    /// The lease, and whatever the one who had it before has written.
    async fn lease(&self, id: &str) -> Result<Option<Lease>, StoreError> {
        let lease = self.store.lease(&format!("orders/{id}")).await?;
        if lease.is_some() {
            self.store.catch_up(&kept::name(id)).await?;
        }
        Ok(lease)
    }

    fn is_urgent(&self, id: &str) -> bool {
        let now = self.clock.now();
        let entries = self.entries.lock();
        let entry = entries.iter().find(|entry| &*entry.wanted.id == id);
        entry.is_some_and(|entry| entry.is_urgent(now))
    }

    async fn under_lease(&self, id: &str, reason: Reason, lease: Option<Lease>) -> Ended {
        let lost = async {
            match &lease {
                Some(lease) => lease.lost().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = self.order(id, reason) => ended,
            () = lost => {
                let text = "the right to order it was lost with the shared store".to_owned();
                Ended::Waiting(text, WHILE_ANOTHER)
            }
        }
    }

    async fn order(&self, id: &str, reason: Reason) -> Ended {
        let Some((wanted, have)) = self.still_wanted(id).await else {
            return Ended::NotDue;
        };
        let plan = self.plan.load_full();
        if let Some((ca, issued)) = self.held(&wanted, &plan.cas) {
            let Err(failure) = self.put(&wanted, &ca, issued).await else {
                return Ended::Issued;
            };
            return self.all_failed(&wanted, &plan.cas, &[(ca, failure)]);
        }
        // What was held may have been all there was to do, and was let go.
        if reason == Reason::Asked && !self.is_due(id) {
            return Ended::NotDue;
        }
        let cas: Vec<_> = plan
            .cas
            .iter()
            .filter(|ca| ca.is_agreed())
            .cloned()
            .collect();
        if cas.is_empty() {
            return self.wait_for_a_word(&wanted);
        }
        if reason == Reason::Doubtful && !self.is_due_after_asking(id, &cas).await {
            return Ended::NotDue;
        }
        let mut failures: Vec<(Arc<Ca>, Failure)> = Vec::new();
        let mut ways = Ways::default();
        for (index, ca) in cas.iter().enumerate() {
            if self.rests(id, ca).is_some() {
                continue;
            }
            let ask = Ask {
                ca,
                wanted: &wanted,
                have: have.as_ref(),
                prover: &plan.prover,
                ways: ways.of(&plan.prover, &wanted, ca.is_public()).await,
                another: cas.len() > index + 1,
            };
            let Err(failure) = self.have_issued(&ask, &reason, &failures).await else {
                return Ended::Issued;
            };
            self.note_failure(id, ca, &failure);
            let is_worth_another = failure.outcome.is_worth_another();
            failures.push((ca.clone(), failure));
            if !is_worth_another {
                break;
            }
        }
        self.all_failed(&wanted, &cas, &failures)
    }

    /// What is wanted and what is there. `None`: nothing is wanted any more, or another proxy has had it
    /// while the lease was waited for.
    async fn still_wanted(&self, id: &str) -> Option<(Wanted, Option<Have>)> {
        let leaf = |have: &Option<Have>| have.as_ref().map(|have| have.facts.leaf.clone());
        let before = leaf(&self.have(id));
        self.read(id).await;
        let wanted = self.wanted(id)?;
        let have = self.have(id);
        let fits = have.as_ref().is_some_and(|have| have.replace.is_none());
        // It may have come before the lease was had, and been looked at since.
        if fits && (leaf(&have) != before || !self.is_due(id)) {
            self.written.notify_one();
            return None;
        }
        Some((wanted, have))
    }

    fn wait_for_a_word(&self, wanted: &Wanted) -> Ended {
        let directory = self.plan.load().cas.first().map(|ca| ca.name.clone());
        let text = format!(
            "the terms of {} are not agreed to: run `sovereign-proxy certs agree`, or name an authority by [[acme]]",
            directory.unwrap_or_default()
        );
        self.note(wanted, What::Waiting, None, None, text.clone());
        Ended::Unagreed(text)
    }

    /// By our own clock it has lapsed, which nobody has confirmed: an authority is asked for the time.
    async fn is_due_after_asking(&self, id: &str, cas: &[Arc<Ca>]) -> bool {
        for ca in cas {
            let _ = ca.open().await;
            if self.clock.is_confirmed() {
                break;
            }
        }
        self.tell_of_skew();
        self.is_due(id)
    }

    fn is_due(&self, id: &str) -> bool {
        let (now, confirmed) = (self.clock.now(), self.clock.is_confirmed());
        let entries = self.entries.lock();
        let entry = entries.iter().find(|entry| &*entry.wanted.id == id);
        entry.is_some_and(|entry| entry.reason(now, confirmed).is_some())
    }

    fn note_failure(&self, id: &str, ca: &Ca, failure: &Failure) {
        ca.failed(failure);
        tracing::warn!(
            id,
            authority = ca.name,
            outcome = failure.outcome.as_str(),
            "{failure}"
        );
        let refused = !failure.outcome.is_the_authoritys() && failure.outcome.is_worth_another();
        if !refused {
            return;
        }
        let mut entries = self.entries.lock();
        let Some(entry) = entries.iter_mut().find(|entry| &*entry.wanted.id == id) else {
            return;
        };
        let directory = ca.config.directory.clone();
        let failures = entry
            .refused
            .get(&directory)
            .map_or(0, |(_, failures)| *failures)
            + 1;
        let first = when::FIRST_OF_CERTIFICATE;
        let wait = when::backoff(first, failures, failure.retry_after, when::throw());
        entry
            .refused
            .insert(directory, (Instant::now() + wait, failures));
    }

    /// How long an authority is not asked for this certificate.
    fn rests(&self, id: &str, ca: &Ca) -> Option<Instant> {
        let entries = self.entries.lock();
        let entry = entries.iter().find(|entry| &*entry.wanted.id == id);
        let refused = entry.and_then(|entry| entry.refused.get(&ca.config.directory));
        let refused = refused
            .map(|(until, _)| *until)
            .filter(|until| *until > Instant::now());
        ca.rest().until.max(refused)
    }

    fn all_failed(
        &self,
        wanted: &Wanted,
        cas: &[Arc<Ca>],
        failures: &[(Arc<Ca>, Failure)],
    ) -> Ended {
        let now = Instant::now();
        let ours = failures
            .last()
            .is_some_and(|(_, failure)| !failure.outcome.is_worth_another());
        let wait = if ours {
            let failed = self.failures(&wanted.id) + 1;
            let wait = when::backoff(when::FIRST_OF_OURS, failed, None, when::throw());
            // A write costs nobody anything.
            wait.min(match self.is_held(&wanted.id) {
                true => UNTIL_WRITTEN,
                false => LONGEST_OURS,
            })
        } else {
            let rests = cas
                .iter()
                .map(|ca| self.rests(&wanted.id, ca).unwrap_or(now));
            rests
                .min()
                .map_or(SOON, |until| until.saturating_duration_since(now))
                .max(SOON)
        };
        if failures.is_empty() {
            let names: Vec<_> = cas.iter().filter_map(|ca| ca.rest().text).collect();
            let text = match names.is_empty() {
                true => "every authority is left alone for now".to_owned(),
                false => names.join("; "),
            };
            let last = self.last_error(&wanted.id);
            return Ended::Waiting(last.unwrap_or(text), wait);
        }
        let text = sum(failures);
        let (ca, failure) = failures.last().map(|(ca, f)| (ca, f)).unzip();
        let challenge = failure.and_then(|f| f.challenge.as_ref()).map(|(_, c)| *c);
        let ca = ca.filter(|_| !ours);
        self.note(
            wanted,
            What::Failed,
            ca.map(|ca| &**ca),
            challenge,
            text.clone(),
        );
        Ended::Failed(text, wait)
    }

    fn wanted(&self, id: &str) -> Option<Wanted> {
        let entries = self.entries.lock();
        let entry = entries.iter().find(|entry| &*entry.wanted.id == id);
        entry.map(|entry| entry.wanted.clone())
    }

    /// What is there.
    pub(super) fn have(&self, id: &str) -> Option<Have> {
        let entries = self.entries.lock();
        let entry = entries.iter().find(|entry| &*entry.wanted.id == id);
        entry.and_then(|entry| entry.have.clone())
    }

    fn failures(&self, id: &str) -> u32 {
        let entries = self.entries.lock();
        let entry = entries.iter().find(|entry| &*entry.wanted.id == id);
        entry.map_or(0, |entry| entry.failures)
    }

    fn is_held(&self, id: &str) -> bool {
        let entries = self.entries.lock();
        let entry = entries.iter().find(|entry| &*entry.wanted.id == id);
        entry.is_some_and(|entry| entry.issued.is_some())
    }

    fn last_error(&self, id: &str) -> Option<String> {
        let entries = self.entries.lock();
        let entry = entries.iter().find(|entry| &*entry.wanted.id == id);
        entry.and_then(|entry| entry.last_error.clone())
    }
}

/// Frees an entry when an attempt ends.
struct Free<'a>(&'a Acme, &'a str);

impl Drop for Free<'_> {
    fn drop(&mut self) {
        let mut entries = self.0.entries.lock();
        if let Some(entry) = entries.iter_mut().find(|entry| &*entry.wanted.id == self.1) {
            entry.running = false;
            entry.ended += 1;
            if std::thread::panicking() {
                // Its time has come as before: without a pause it would be ordered again and again.
                entry.asked = false;
                entry.failures = entry.failures.saturating_add(1);
                entry.last_error = Some("ordering it met a defect of this program".to_owned());
                entry.next = Some(Instant::now() + AFTER_DEFECT);
            }
        }
        drop(entries);
        self.0.ended.send_modify(|ended| *ended += 1);
        self.0.wake.notify_one();
    }
}

/// What several authorities said.
pub(super) fn sum(failures: &[(Arc<Ca>, Failure)]) -> String {
    let one = |(ca, failure): &(Arc<Ca>, Failure)| match failure.outcome {
        Outcome::Blocked | Outcome::Ours => failure.text.clone(),
        _ => format!("{}: {failure}", ca.name),
    };
    failures.iter().map(one).collect::<Vec<_>>().join("; ")
}

const WITHOUT_STORE: Duration = Duration::from_secs(30);
const WHILE_ANOTHER: Duration = Duration::from_secs(10);
/// The word itself ends it.
const UNTIL_AGREED: Duration = Duration::from_secs(60 * 60);
const UNTIL_WRITTEN: Duration = Duration::from_secs(60);
const AFTER_DEFECT: Duration = Duration::from_secs(60 * 60);
const LONGEST_OURS: Duration = Duration::from_secs(60 * 60);
const SOON: Duration = Duration::from_secs(5);
/// What others have may take this long to be seen after a start.
const YOUNG: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
