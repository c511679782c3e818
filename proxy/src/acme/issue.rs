//! Has one authority issue a certificate, looks at it, and puts it where the old one lies.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use sovereign_config::model::Challenge;

use super::ca::Ca;
use super::challenge::{Options, Prover};
use super::entry::{Entry, Have, Issued, Reason, date};
use super::failure::{Failure, Outcome};
use super::history::challenge_name;
use super::keeper::Acme;
use super::order::{self, Asked, Obtained};
use super::run::sum;
use super::ways::blocked;
use crate::causes;
use crate::tls::kept::{self, About, Facts, Kept, Unfit, is_alone, is_of_a_root, judge};
use crate::tls::wanted::Wanted;

/// What one authority is asked for.
pub(super) struct Ask<'a> {
    pub ca: &'a Ca,
    pub wanted: &'a Wanted,
    /// What is there.
    pub have: Option<&'a Have>,
    pub prover: &'a Arc<Prover>,
    /// What can be tried for each name.
    pub ways: &'a HashMap<String, Options>,
    /// Another authority can be asked after this one.
    pub another: bool,
}

impl Acme {
    /// Has a certificate issued, and puts it in place. `failures`: of the authorities that were asked before.
    pub(super) async fn have_issued(
        &self,
        ask: &Ask<'_>,
        reason: &Reason,
        failures: &[(Arc<Ca>, Failure)],
    ) -> Result<(), Failure> {
        self.has_room().await?;
        let obtained = self.ask(ask).await?;
        let challenge = obtained.challenge;
        let judged = self.judged(ask.ca, ask.wanted, obtained).await;
        let count = |failure: &Failure| self.count(ask.ca, challenge, failure.outcome);
        let (kept, facts) = judged.inspect_err(count)?;
        self.count(ask.ca, challenge, Outcome::Issued);
        self.tell_of_skew();
        let text = self.story(ask, reason, challenge, &facts, failures);
        let what = reason.what();
        let issued = Issued {
            kept,
            challenge,
            what,
            text,
        };
        self.put(ask.wanted, ask.ca, issued).await
    }

    /// Whether what will be issued could be written: each order counts against the authority's limits.
    async fn has_room(&self) -> Result<(), Failure> {
        let written = match self.store.write(ROOM, &[0; ROOM_BYTES]).await {
            Ok(()) => self.store.remove(ROOM).await,
            failed => failed,
        };
        written.map_err(|error| Failure::new(Outcome::Ours, causes::chain(&error)))
    }

    /// Writes what was issued. It is held until that has succeeded, however the attempt ends.
    pub(super) async fn put(
        &self,
        wanted: &Wanted,
        ca: &Ca,
        issued: Issued,
    ) -> Result<(), Failure> {
        self.hold(&wanted.id, Some(issued.clone()));
        let (name, content) = (kept::name(&wanted.id), issued.kept.to_pem());
        let written = self.store.write(&name, content.as_bytes()).await;
        written.map_err(|error| {
            let why = causes::chain(&error);
            // Served all the same.
            self.written.notify_one();
            let text = format!(
                "a certificate was issued and waits to be written, served from memory until then: {why}"
            );
            Failure::new(Outcome::Ours, text)
        })?;
        self.hold(&wanted.id, None);
        self.written.notify_one();
        tracing::info!(names = wanted.names.join(", "), "{}", issued.text);
        self.note(wanted, issued.what, Some(ca), issued.challenge, issued.text);
        Ok(())
    }

    fn hold(&self, id: &str, issued: Option<Issued>) {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.iter_mut().find(|entry| &*entry.wanted.id == id) {
            entry.issued = issued;
        }
    }

    /// What was issued before and is still to be written, with who issued it; what the configuration does
    /// not ask for any more is let go.
    pub(super) fn held(&self, wanted: &Wanted, cas: &[Arc<Ca>]) -> Option<(Arc<Ca>, Issued)> {
        let mut entries = self.entries.lock();
        let mut entries = entries.iter_mut();
        let entry = entries.find(|entry| entry.wanted.id == wanted.id)?;
        let issued = entry.issued.as_ref()?;
        let about = &issued.kept.about;
        let ca = cas
            .iter()
            .find(|ca| ca.config.directory == about.directory)
            .filter(|_| judge(&issued.kept, wanted, self.clock.now()).is_ok());
        match ca {
            Some(ca) => Some((ca.clone(), issued.clone())),
            None => {
                entry.issued = None;
                self.written.notify_one();
                None
            }
        }
    }

    /// What was issued and is still to be written, by id: it is served from memory.
    pub fn unwritten(&self) -> Vec<(Box<str>, Kept)> {
        let entries = self.entries.lock();
        let one = |entry: &Entry| {
            let issued = entry.issued.as_ref()?;
            Some((entry.wanted.id.clone(), issued.kept.clone()))
        };
        entries.iter().filter_map(one).collect()
    }

    /// Where a certificate came from, and why.
    fn story(
        &self,
        ask: &Ask<'_>,
        reason: &Reason,
        challenge: Option<Challenge>,
        facts: &Facts,
        failures: &[(Arc<Ca>, Failure)],
    ) -> String {
        let by = challenge
            .map(|c| format!(" by {}", challenge_name(c)))
            .unwrap_or_default();
        let (name, end) = (&ask.ca.name, date(facts.not_after));
        let mut text = format!("certificate from {name}{by}, valid until {end}");
        match reason {
            Reason::Changed(why) => {
                text.push_str(&format!(", because of the one before: {why}"));
            }
            Reason::Time => text.push_str(&self.authoritys_wish(&ask.wanted.id)),
            Reason::Asked => text.push_str(", as the operator asked"),
            _ => {}
        }
        if !failures.is_empty() {
            text.push_str(&format!("; before it was asked: {}", sum(failures)));
        }
        text
    }

    /// Asks one authority; a challenge that did not work is replaced by the next one in another order.
    pub(super) async fn ask(&self, ask: &Ask<'_>) -> Result<Obtained, Failure> {
        if let Some(failure) = blocked(ask.ways) {
            return Err(failure);
        }
        let mut tried = HashSet::new();
        loop {
            let failure = match order::obtain(&asked(ask, &tried)).await {
                Ok(obtained) => {
                    ask.ca.worked();
                    return Ok(obtained);
                }
                Err(failure) => failure,
            };
            let challenge = failure.challenge.as_ref().map(|(_, challenge)| *challenge);
            self.count(ask.ca, challenge, failure.outcome);
            let Some((name, challenge)) = failure.challenge.clone() else {
                return Err(failure);
            };
            tried.insert((name.clone(), challenge));
            let left = ask.ways.get(&name).is_some_and(|options| {
                options
                    .usable
                    .iter()
                    .any(|way| !tried.contains(&(name.clone(), *way)))
            });
            if !left || tried.len() >= MOST_TRIED {
                return Err(failure);
            }
            tracing::warn!(
                authority = ask.ca.name,
                name,
                "trying the next challenge: {failure}"
            );
        }
    }

    /// Whether what was issued is what was asked for.
    pub(super) async fn judged(
        &self,
        ca: &Ca,
        wanted: &Wanted,
        obtained: Obtained,
    ) -> Result<(Kept, Facts), Failure> {
        let now = self.clock.now();
        let about = About {
            directory: ca.config.directory.clone(),
            obtained: now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            profile: obtained.profile,
            names: wanted.names.clone(),
            challenge: obtained.challenge.map(|one| challenge_name(one).to_owned()),
        };
        let kept = Kept::new(about, obtained.chain, obtained.key);
        // As it will be read again.
        let judged = Kept::parse(&kept.to_pem()).and_then(|kept| {
            let facts = judge(&kept, wanted, now)?;
            Ok((kept, facts))
        });
        let (kept, facts) = judged.map_err(not_used)?;
        if is_alone(&kept) {
            is_of_a_root(&facts, &ca.signers().await?).map_err(not_used)?;
        }
        Ok((kept, facts))
    }
}

fn not_used(unfit: Unfit) -> Failure {
    let text = format!("what it issued is not used, the one in force stays: {unfit}");
    Failure::new(Outcome::Unfit, text)
}

fn asked<'a>(ask: &Ask<'a>, tried: &'a HashSet<(String, Challenge)>) -> Asked<'a> {
    let wanted = ask.wanted;
    let same = |have: &&Have| have.about.directory == ask.ca.config.directory;
    Asked {
        ca: ask.ca,
        wanted,
        replaces: ask.have.filter(same).map(|have| &have.facts),
        pinned: ask
            .have
            .filter(|_| wanted.pin_key)
            .map(|have| &*have.key_pem),
        prover: ask.prover,
        ways: ask.ways,
        tried,
        patience: match ask.another {
            true => PATIENCE,
            false => PATIENCE_WITH_THE_LAST,
        },
    }
}

/// How long an authority may make no progress where another one could be asked: so that the next is used
/// within half a minute.
const PATIENCE: Duration = Duration::from_secs(20);
const PATIENCE_WITH_THE_LAST: Duration = Duration::from_secs(120);
/// Where certificates lie: what stands in the way of one stands in the way of this.
const ROOM: &str = "certs/acme/room";
/// More than a chain with its key.
const ROOM_BYTES: usize = 32 * 1024;
/// Each is an order that the authority counts as failed.
const MOST_TRIED: usize = 4;
