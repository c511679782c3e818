//! A dry run: everything that an order does, asked of an authority's staging. Nothing is kept.

use super::entry::Life as _;
use super::history::challenge_name;
use super::issue::Ask;
use super::keeper::Acme;
use super::report::DryRun;
use super::ways::Ways;
use crate::tls::wanted::Wanted;

impl Acme {
    /// What ordering this certificate would come to: asked of an authority's staging, with all its
    /// challenges; nothing is kept.
    pub(super) async fn rehearse(&self, wanted: &Wanted) -> DryRun {
        let plan = self.plan.load_full();
        let staging = plan
            .cas
            .iter()
            .find_map(|ca| Some((ca.clone(), ca.staging()?)));
        let mut outcome = DryRun {
            id: wanted.id.clone(),
            names: wanted.names.clone(),
            directory: None,
            challenge: None,
            ok: false,
            text: String::new(),
        };
        let Some((ca, staging)) = staging else {
            outcome.text = "no authority of the configuration has a place for dry runs: name one by `staging` in its [[acme]]".to_owned();
            return outcome;
        };
        if !ca.is_agreed() {
            outcome.text = format!(
                "the terms of {} are not agreed to: run `sovereign-proxy certs agree`",
                ca.name
            );
            return outcome;
        }
        outcome.directory = Some(staging.config.directory.clone());
        let mut ways = Ways::default();
        let ask = Ask {
            ca: &staging,
            wanted,
            have: None,
            prover: &plan.prover,
            ways: ways.of(&plan.prover, wanted, staging.is_public()).await,
            another: false,
        };
        let judged = match self.ask(&ask).await {
            Ok(obtained) => {
                let challenge = obtained.challenge;
                let judged = self.judged(&staging, wanted, obtained).await;
                judged.map(|(_, facts)| (challenge, facts))
            }
            Err(failure) => Err(failure),
        };
        match judged {
            Ok((challenge, facts)) => {
                outcome.ok = true;
                outcome.challenge = challenge.map(|one| challenge_name(one).to_owned());
                let (begin, end) = facts.life();
                let days = end.duration_since(begin).unwrap_or_default().as_secs() / DAY;
                outcome.text =
                    format!("{} would issue a certificate for {days} days", staging.name);
            }
            Err(failure) => outcome.text = format!("{}: {failure}", staging.name),
        }
        outcome
    }
}

const DAY: u64 = 24 * 60 * 60;
