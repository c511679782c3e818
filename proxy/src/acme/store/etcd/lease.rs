//! The right to be the only one over all proxies: a key that goes with a lease of etcd, which is kept
//! alive as long as the holder lives and can reach the etcd.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::Inner;
use super::calls::{self, Put};
use super::gateway::Trouble;
use crate::acme::store::lease::{Claim, Lease};

/// `None`: another proxy has it.
pub(super) async fn take(
    inner: &Arc<Inner>,
    name: &str,
    claim: Claim,
) -> Result<Option<Lease>, Trouble> {
    let asked = Instant::now();
    let lease = calls::grant(&inner.gateway, TTL).await?;
    let key = inner.key(&format!("leases/{name}"));
    let created = calls::create(&inner.gateway, &key, holder().as_bytes(), &lease).await;
    let ours = match &created {
        Ok(Put::Done(_)) => true,
        // Asked twice, since the first answer was lost.
        Ok(Put::Differs(there)) => there.as_ref().is_some_and(|there| there.lease == lease),
        Err(_) => false,
    };
    if !ours {
        // It ends by itself otherwise.
        let _ = calls::revoke(&inner.gateway, &lease).await;
        return created.map(|_| None);
    }
    let (held, observed) = watch::channel(true);
    let (keeper, dropped) = oneshot::channel::<()>();
    let inner = Arc::clone(inner);
    tokio::spawn(async move {
        keep(&inner, &lease, asked, held, dropped).await;
        // Another holder in this process comes after the end of this one in etcd.
        drop(claim);
    });
    Ok(Some(Lease::kept(observed, keeper)))
}

/// Keeps it alive until it is dropped, and says when it is lost.
async fn keep(
    inner: &Inner,
    lease: &str,
    asked: Instant,
    held: watch::Sender<bool>,
    mut dropped: oneshot::Receiver<()>,
) {
    // It counts as lost a while before others can have it.
    let mut lost_at = asked + TTL - MARGIN;
    loop {
        let pause = BEAT.min(lost_at.saturating_duration_since(Instant::now()));
        tokio::select! {
            _ = &mut dropped => {
                // It ends by itself otherwise.
                let _ = calls::revoke(&inner.gateway, lease).await;
                return;
            }
            () = tokio::time::sleep(pause) => {}
        }
        let asked = Instant::now();
        let beat = calls::keep_alive(&inner.gateway, lease);
        match tokio::time::timeout_at(lost_at, beat).await {
            Ok(beat) => match inner.noted(beat) {
                Ok(true) => lost_at = asked + TTL - MARGIN,
                Ok(false) => break,
                Err(_) => {}
            },
            Err(_) => break,
        }
    }
    held.send_replace(false);
    // The claim ends when the holder does.
    let _ = dropped.await;
}

/// Who has it, for an operator who looks into etcd.
fn holder() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{} process {}", host.trim(), std::process::id())
}

const TTL: Duration = Duration::from_secs(15);
const BEAT: Duration = Duration::from_secs(3);
const MARGIN: Duration = Duration::from_secs(4);
