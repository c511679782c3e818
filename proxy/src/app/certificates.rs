//! Certificates while the daemon runs: the operator's files are looked at, certificates of the local
//! authority are signed anew in time, and what lies on disk is put in force.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::time::MissedTickBehavior;

use super::App;
use crate::acme::Installed;
use crate::tls::{Warning, Watched};

/// How often the operator's files are looked at.
const LOOK: Duration = Duration::from_secs(3);

/// How long after a failure certificates of the local authority are not tried again.
const AGAIN: Duration = Duration::from_secs(60 * 60);

/// What was seen of the operator's files.
#[derive(Default)]
struct Seen {
    /// Another state than that in force, a moment ago.
    changed: Option<Watched>,
    /// A state that could not be put in force.
    failed: Option<Watched>,
}

impl App {
    /// Puts in force what lies on disk now for the configuration in force. An operator's file that
    /// cannot be used any more is no reason to stop: what it held before stays. Says whether there
    /// is no such file.
    pub(super) async fn refresh_certificates(&self) -> anyhow::Result<bool> {
        let _turn = self.shared.certificates.turn().await;
        let live = self.shared.live();
        let certificates = self.shared.certificates.clone();
        let known = certificates.warnings();
        let unwritten = self.shared.acme.unwritten();
        let load = move || {
            let config = &live.config;
            certificates.load_holding(&config.sites, &config.state, &unwritten)
        };
        let set = tokio::task::spawn_blocking(load)
            .await
            .context("loading certificates")??;
        let warnings = set.warnings().iter().map(ToString::to_string);
        for warning in warnings.filter(|warning| !known.contains(warning)) {
            tracing::warn!("{warning}");
        }
        let held = |warning: &Warning| matches!(warning, Warning::Held { .. });
        let all_good = !set.warnings().iter().any(held);
        self.shared.certificates.swap(set);
        Ok(all_good)
    }

    /// What is done once a certificate of an authority was written, or could not be.
    pub(super) fn installed(self: &Arc<Self>) -> Installed {
        let app = self.clone();
        Arc::new(move || {
            let app = app.clone();
            Box::pin(async move {
                if let Err(error) = app.refresh_certificates().await {
                    tracing::error!("putting new certificates in force: {error:#}");
                }
            })
        })
    }

    /// Heeds the operator's files and the lifetime of the local authority's certificates until the
    /// daemon ends.
    pub(super) async fn keep_certificates(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = Seen::default();
        let mut renewal = Instant::now();
        loop {
            ticks.tick().await;
            if let Some(changed) = self.changed_files(&mut seen).await {
                self.read_files_again(&mut seen, changed).await;
            }
            if Instant::now() >= renewal && self.shared.certificates.renew_due() {
                self.renew_local(&mut renewal).await;
            }
        }
    }

    /// The operator's files, if they have changed and have stayed as they are for one look: of a
    /// chain and its key, either may be replaced first.
    async fn changed_files(&self, seen: &mut Seen) -> Option<Watched> {
        let in_force = self.shared.certificates.watched();
        if in_force.is_empty() {
            return None;
        }
        let before = in_force.clone();
        let now = tokio::task::spawn_blocking(move || before.again()).await;
        let now = now.ok()?;
        if now == in_force || seen.failed.as_ref() == Some(&now) {
            seen.changed = None;
            return None;
        }
        if seen.changed.as_ref() == Some(&now) {
            seen.changed = None;
            return Some(now);
        }
        seen.changed = Some(now);
        None
    }

    async fn read_files_again(&self, seen: &mut Seen, changed: Watched) {
        match self.refresh_certificates().await {
            Ok(true) => tracing::info!("certificate files have changed and were read again"),
            // A warning has said what is wrong with which.
            Ok(false) => {}
            Err(error) => {
                tracing::error!("certificate files have changed; the old ones stay: {error:#}");
                seen.failed = Some(changed);
            }
        }
    }

    async fn renew_local(&self, renewal: &mut Instant) {
        match self.refresh_certificates().await {
            Ok(_) => tracing::info!("certificates of the local authority were renewed"),
            Err(error) => tracing::error!("renewing certificates: {error:#}"),
        }
        // Also after a success: where the clock makes each new one seem due, none is signed in a loop.
        *renewal = Instant::now() + AGAIN;
    }
}
