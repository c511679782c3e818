//! Asks authorities when they want their certificates renewed (RFC 9773): which is how they say that they
//! have revoked one, or will.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::entry::Life as _;
use super::keeper::Acme;
use super::when;

impl Acme {
    /// Why a certificate is renewed earlier than its age asks for; empty where it is not.
    pub(super) fn authoritys_wish(&self, id: &str) -> String {
        let entries = self.entries.lock();
        let entry = entries.iter().find(|entry| &*entry.wanted.id == id);
        let wish = entry.and_then(|entry| {
            let (have, renewal) = (entry.have.as_ref()?, entry.renewal.as_ref()?);
            let own = when::due(have.facts.life(), None, 1.0);
            (renewal.window.end < own).then_some(renewal)
        });
        let Some(renewal) = wish else {
            return String::new();
        };
        let why = renewal.explanation.as_ref().map(|url| format!(" ({url})"));
        format!(
            ", early because its authority wants it renewed{}",
            why.unwrap_or_default()
        )
    }

    /// Asks the authority that issued a certificate when it wants it renewed.
    pub(super) async fn look(self: Arc<Self>, id: Box<str>) {
        let Some(have) = self.have(&id) else { return };
        let plan = self.plan.load_full();
        let ca = plan
            .cas
            .iter()
            .find(|ca| ca.config.directory == have.about.directory);
        let Some(ca) = ca.filter(|ca| ca.rest().until.is_none()) else {
            return;
        };
        let _turn = self.looks.acquire().await;
        let answer = ca.renewal(&have.facts).await;
        self.tell_of_skew();
        let again = match &answer {
            Ok(Some(renewal)) => renewal.again,
            Ok(None) => when::look_again(None),
            Err(failure) => {
                tracing::debug!(id, authority = ca.name, "{failure}");
                when::look_again(failure.retry_after.or(Some(LOOK_FAILED)))
            }
        };
        let mut entries = self.entries.lock();
        let Some(entry) = entries.iter_mut().find(|entry| entry.wanted.id == id) else {
            return;
        };
        entry.look = Some(Instant::now() + again);
        if let Ok(renewal) = answer {
            entry.renewal = renewal;
        }
        drop(entries);
        self.wake.notify_one();
    }
}

const LOOK_FAILED: Duration = Duration::from_secs(10 * 60);
