//! Keeps the certificates in local files and those in etcd in step.
//!
//! ```text
//! every 2 s:  what has changed in etcd -> judge -> local files      (take, offer or ignore)
//!             what is owed             -> etcd, over what was seen there
//! ```
//!
//! What is owed: certificates that were written here and are not known to be in etcd. At the start,
//! and where the etcd is another or went back in time, that is all of them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::calls::{self, Entry, Page, Put};
use super::gateway::{Kind, Trouble};
use super::{Inner, MOST_KEYS};
use crate::acme::store::referee::Verdict;
use crate::acme::store::{MOST_BYTES, Store as _, StoreError, is_shared};

/// How far both are in step.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Which etcd it is; empty before it was asked.
    cluster: String,
    /// Changes before this revision have been looked at.
    since: i64,
    /// The latest revision that we have heard of.
    latest: i64,
    /// The revisions of the keys that have been looked at.
    seen: HashMap<String, i64>,
    owed: BTreeSet<String>,
}

impl Progress {
    /// A certificate is to go to etcd.
    pub(super) fn owe(&mut self, name: &str) {
        if self.owed.len() < MOST_NAMES {
            self.owed.insert(name.into());
        }
    }

    /// A certificate is neither here nor there any more.
    pub(super) fn forget(&mut self, name: &str) {
        self.owed.remove(name);
        self.seen.remove(name);
    }

    /// Everything is looked at again.
    pub(super) fn start_over(&mut self) {
        self.cluster.clear();
        (self.since, self.latest) = (0, 0);
        self.seen.clear();
    }

    fn see(&mut self, name: &str, revision: i64) {
        if self.seen.len() < MOST_NAMES || self.seen.contains_key(name) {
            self.seen.insert(name.into(), revision);
        }
    }
}

/// Keeps step until it is dropped.
pub(super) async fn keep(inner: Arc<Inner>) {
    let mut pause = BEAT;
    loop {
        pause = match inner.noted(step(&inner).await) {
            Ok(()) => BEAT,
            Err(_) => (pause * 2).min(LONGEST_PAUSE),
        };
        tokio::time::sleep(pause).await;
    }
}

async fn step(inner: &Inner) -> Result<(), Trouble> {
    pull(inner).await?;
    let owed: Vec<String> = inner.progress.lock().owed.iter().cloned().collect();
    for name in owed {
        push(inner, &name).await?;
    }
    Ok(())
}

/// Brings what is owed for one certificate to etcd, where that can be done at once.
pub(super) async fn pay(inner: &Inner, name: &str) {
    if inner.noted(push(inner, name).await).is_err() {
        // An older one of this name may have been paid meanwhile.
        inner.progress.lock().owe(name);
    }
}

/// Looks at what has changed in etcd.
async fn pull(inner: &Inner) -> Result<(), Trouble> {
    let prefix = inner.key("certs/");
    loop {
        let (since, heard) = {
            let progress = inner.progress.lock();
            (progress.since, progress.latest)
        };
        let page = calls::changes(&inner.gateway, &prefix, since, MOST_KEYS).await?;
        if !begin(inner, &page, heard).await? {
            continue;
        }
        for entry in &page.entries {
            arrive(inner, entry).await?;
        }
        let last = page.entries.last().map(|entry| entry.revision);
        let mut progress = inner.progress.lock();
        progress.since = match last {
            // Keys of one revision may stand on both sides of the border. A revision has at most
            // some hundred.
            Some(last) if page.more && last > since => last,
            Some(last) => last + 1,
            None => since,
        };
        if !page.more {
            return Ok(());
        }
    }
}

/// False: it is another etcd, or one that went back in time; everything is looked at again. `heard`: the
/// latest revision that was known when the question was asked; a write of ours may have raced with it.
async fn begin(inner: &Inner, page: &Page, heard: i64) -> Result<bool, Trouble> {
    {
        let mut progress = inner.progress.lock();
        let same = progress.cluster == page.cluster;
        if same && page.revision >= heard {
            progress.latest = progress.latest.max(page.revision);
            return Ok(true);
        }
        progress.start_over();
        progress.cluster.clone_from(&page.cluster);
    }
    let here = inner.files.list("certs/").await.map_err(local)?;
    let mut progress = inner.progress.lock();
    for name in here.iter().filter(|name| is_shared(name)) {
        progress.owe(name);
    }
    Ok(false)
}

/// Something has changed in etcd: by us, or by another.
async fn arrive(inner: &Inner, entry: &Entry) -> Result<(), Trouble> {
    let Some(name) = inner.name(&entry.key).filter(|name| is_shared(name)) else {
        return Ok(());
    };
    if inner.progress.lock().seen.get(&name) == Some(&entry.revision) {
        return Ok(());
    }
    if !look(inner, &name).await? {
        // Removed meanwhile, or too large for anything of ours.
        inner.progress.lock().see(&name, entry.revision);
    }
    Ok(())
}

/// Looks at the certificate that stands in etcd under a name. False: there is none.
pub(super) async fn look(inner: &Inner, name: &str) -> Result<bool, Trouble> {
    let there = match calls::get(&inner.gateway, &inner.key(name)).await {
        Err(trouble) if trouble.kind == Kind::TooLarge => None,
        there => there?,
    };
    let Some(there) = there else {
        return Ok(false);
    };
    decide(inner, name, &there).await?;
    Ok(true)
}

/// What becomes of a certificate that stands in etcd.
async fn decide(inner: &Inner, name: &str, there: &Entry) -> Result<(), Trouble> {
    let taken = {
        let _decided = inner.deciding.lock().await;
        let ours = inner.files.read(name).await.map_err(local)?;
        let verdict = match &ours {
            Some(ours) if *ours == there.value => None,
            _ if there.value.len() > MOST_BYTES => Some(Verdict::Ignore),
            ours => Some(judge(inner, name, ours.as_deref(), &there.value).await?),
        };
        if verdict == Some(Verdict::Take) {
            inner.files.write(name, &there.value).await.map_err(local)?;
        }
        let mut progress = inner.progress.lock();
        progress.see(name, there.revision);
        match verdict {
            Some(Verdict::Offer) => progress.owe(name),
            _ => {
                progress.owed.remove(name);
            }
        }
        verdict == Some(Verdict::Take)
    };
    if taken {
        tracing::info!(name, "another proxy has obtained a certificate");
        inner.arrived.notify_one();
    }
    Ok(())
}

/// Signatures are checked: not on an async thread.
async fn judge(
    inner: &Inner,
    name: &str,
    ours: Option<&[u8]>,
    theirs: &[u8],
) -> Result<Verdict, Trouble> {
    let referee = Arc::clone(&*inner.referee.lock());
    let (name, ours, theirs) = (name.to_owned(), ours.map(<[u8]>::to_vec), theirs.to_vec());
    let judged =
        tokio::task::spawn_blocking(move || referee.judge(&name, ours.as_deref(), &theirs));
    judged
        .await
        .map_err(|error| Trouble::here(error.to_string()))
}

/// Brings a certificate to etcd, over what was seen there; what was not seen is judged first.
async fn push(inner: &Inner, name: &str) -> Result<(), Trouble> {
    let Some(ours) = inner.files.read(name).await.map_err(local)? else {
        inner.progress.lock().forget(name);
        return Ok(());
    };
    let over = inner.progress.lock().seen.get(name).copied().unwrap_or(0);
    match calls::put_over(&inner.gateway, &inner.key(name), &ours, over).await? {
        Put::Done(revision) => {
            let mut progress = inner.progress.lock();
            progress.see(name, revision);
            progress.latest = progress.latest.max(revision);
            progress.owed.remove(name);
            Ok(())
        }
        Put::Differs(Some(there)) => decide(inner, name, &there).await,
        // Somebody removed it: next time it is made anew.
        Put::Differs(None) => {
            inner.progress.lock().seen.remove(name);
            Ok(())
        }
    }
}

fn local(error: StoreError) -> Trouble {
    let mut text = error.to_string();
    if let Some(source) = std::error::Error::source(&error) {
        text = format!("{text}: {source}");
    }
    Trouble::here(text)
}

/// How often what has changed is asked for.
const BEAT: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Far above what one proxy serves.
const MOST_NAMES: usize = 100_000;

#[cfg(test)]
mod tests {
    use sovereign_config::model;

    use super::*;
    use crate::acme::store::etcd::Shared;
    use crate::acme::store::files::Files;

    /// A write that overtook the question looked like an etcd that went back in time.
    #[tokio::test]
    async fn a_write_that_overtakes_a_question_is_no_step_back() {
        let state = tempfile::tempdir().expect("a folder");
        let files = Files::open(state.path()).await.expect("opens");
        let config = model::Etcd {
            endpoints: vec!["http://127.0.0.1:1".into()],
            prefix: "/stack".into(),
            roots: None,
            identity: None,
            user: None,
        };
        let shared = Shared::open(files, &config);
        let inner = &shared.inner;
        // Asked at revision 5; meanwhile a write of ours made it 6.
        let page = Page {
            cluster: "17".into(),
            revision: 5,
            entries: Vec::new(),
            more: false,
        };
        {
            let mut progress = inner.progress.lock();
            progress.cluster = "17".into();
            (progress.since, progress.latest) = (5, 6);
        }
        assert!(begin(inner, &page, 5).await.expect("begins"));
        assert_eq!(inner.progress.lock().latest, 6);
        assert!(!begin(inner, &page, 6).await.expect("a restored one"));
        assert_eq!(inner.progress.lock().since, 0);
    }
}
