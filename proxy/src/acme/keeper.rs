//! Keeps the certificates that the configuration asks for: looks at what is due, has it ordered, and looks
//! again. One loop decides; each order and each question for renewal information is a task of its own, and
//! ends with the loop.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_core::future::BoxFuture;
use parking_lot::Mutex;
use sovereign_config::model::{self, Challenge, Listen};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::answers::Answers;
use super::challenge::Prover;
use super::clock::{Clock, TOLD};
use super::entry::{Entry, Reason, look_at};
use super::failure::Outcome;
use super::history::{Event, History, What};
use super::plan::Plan;
use super::store::Store;
use super::when;
use crate::tls::kept::{self, Kept};

/// Called after a certificate was written, or could not be: puts what lies in the state folder in force, and what
/// is [unwritten](Acme::unwritten).
pub type Installed = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// How often an authority was asked, by a challenge, with an outcome.
type Counted = BTreeMap<(String, Option<Challenge>, Outcome), u64>;

/// The keeper of certificates from authorities.
pub struct Acme {
    pub(super) state: PathBuf,
    pub(super) store: Arc<dyn Store>,
    pub(super) history: Arc<History>,
    pub(super) answers: Arc<Answers>,
    pub(super) clock: Arc<Clock>,
    pub(super) plan: ArcSwap<Plan>,
    pub(super) entries: Mutex<Vec<Entry>>,
    pub(super) attempts: Mutex<Counted>,
    /// The loop has something to look at.
    pub(super) wake: Notify,
    /// Something was written that is to be put in force.
    pub(super) written: Notify,
    /// Counts attempts that came to an end.
    pub(super) ended: watch::Sender<u64>,
    /// The skew of the clock that the operator was told of.
    pub(super) told: Mutex<Option<i64>>,
    /// Questions for renewal information under way at once.
    pub(super) looks: Semaphore,
    /// When this process began.
    pub(super) begun: Instant,
    /// What lies in the store has not been looked at since it changed.
    pub(super) stale: AtomicBool,
    /// Another process is about to take over: nothing new is begun.
    paused: watch::Sender<bool>,
}

impl Acme {
    /// One that keeps nothing yet: see [`take`](Self::take) and [`keep`](Self::keep).
    pub fn new(
        state: &Path,
        store: Arc<dyn Store>,
        history: Arc<History>,
        answers: Arc<Answers>,
    ) -> Arc<Self> {
        let (none, listen) = (no_certificates(), Listen::default());
        let plan = Plan {
            cas: Vec::new(),
            prover: Arc::new(Prover::new(&none, &listen, answers.clone())),
            orders: none.orders,
        };
        Arc::new(Self {
            state: state.to_owned(),
            store,
            history,
            answers,
            clock: Arc::new(Clock::new()),
            plan: ArcSwap::from_pointee(plan),
            entries: Mutex::default(),
            attempts: Mutex::default(),
            wake: Notify::new(),
            written: Notify::new(),
            ended: watch::Sender::new(0),
            told: Mutex::default(),
            looks: Semaphore::new(LOOKS),
            begun: Instant::now(),
            stale: AtomicBool::new(true),
            paused: watch::Sender::new(false),
        })
    }

    /// What happened.
    pub fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// Orders and renews until it is dropped; `installed` is called after certificates were written, once
    /// for all that were written meanwhile.
    pub async fn keep(self: Arc<Self>, installed: Installed) {
        let mut tasks = JoinSet::new();
        tasks.spawn(self.clone().install(installed));
        tasks.spawn(self.clone().hear_others());
        loop {
            self.tell_of_jumps();
            if self.stale.swap(false, Ordering::AcqRel) {
                self.read_all().await;
            }
            let next = self.begin_what_is_due(&mut tasks);
            tokio::select! {
                _ = tokio::time::sleep(next) => {}
                () = self.wake.notified() => {}
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    /// Begins nothing new from now on, and returns when nothing is under way, or after some seconds.
    pub async fn pause(&self) {
        self.paused.send_replace(true);
        let mut ended = self.ended.subscribe();
        let quiet = async {
            while self.entries.lock().iter().any(|entry| entry.running) {
                if ended.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(PAUSE, quiet).await.is_err() {
            tracing::warn!(
                "an order for a certificate is cut off by the handover, and begun again"
            );
        }
    }

    /// Goes on.
    pub fn resume(&self) {
        self.paused.send_replace(false);
        self.wake.notify_one();
    }

    async fn install(self: Arc<Self>, installed: Installed) {
        loop {
            self.written.notified().await;
            installed().await;
        }
    }

    /// Another proxy wrote a certificate: it is put in force, and not ordered here.
    async fn hear_others(self: Arc<Self>) {
        loop {
            self.store.changed().await;
            self.stale.store(true, Ordering::Release);
            self.written.notify_one();
            self.wake.notify_one();
        }
    }

    fn tell_of_jumps(&self) {
        let Some(jump) = self.clock.tick() else {
            return;
        };
        let (by, way) = (jump.unsigned_abs(), if jump < 0 { "back" } else { "ahead" });
        let text =
            format!("this machine's clock went {way} by {by} s: it was set, or the machine slept");
        tracing::warn!("{text}");
        if by >= TOLD {
            self.note_clock(text);
        }
        for entry in &mut *self.entries.lock() {
            entry.look = None;
        }
    }

    pub(super) fn note_clock(&self, text: String) {
        let now = self.clock.now();
        self.history.note(Event {
            at: now,
            first: now,
            id: "".into(),
            names: Vec::new(),
            what: What::Clock,
            directory: None,
            challenge: None,
            text,
        });
    }

    /// Looks at everything that lies in the store.
    async fn read_all(&self) {
        let wanted: Vec<_> = self
            .entries
            .lock()
            .iter()
            .map(|e| e.wanted.clone())
            .collect();
        for wanted in wanted {
            self.read(&wanted.id).await;
        }
    }

    /// Looks at what lies in the store for one certificate.
    pub(super) async fn read(&self, id: &str) {
        let content = match self.store.read(&kept::name(id)).await {
            Ok(content) => content,
            Err(error) => return tracing::error!(id, "reading a certificate: {error}"),
        };
        let kept = content
            .and_then(|content| String::from_utf8(content).ok())
            .and_then(|text| Kept::parse(&text).ok());
        let now = self.clock.now();
        let plan = self.plan.load();
        let mut entries = self.entries.lock();
        let Some(entry) = entries.iter_mut().find(|entry| &*entry.wanted.id == id) else {
            return;
        };
        let mut have = kept.and_then(|kept| look_at(&kept, &entry.wanted, now));
        if let Some(have) = &mut have {
            let changed = plan.changed(&have.about, entry.wanted.profile.as_deref());
            have.replace = have.replace.take().or(changed);
        }
        if entry.take(have) {
            tracing::debug!(id, "the certificate that is kept is another one");
        }
    }

    /// Begins orders and questions whose time has come, and returns how long until the next look.
    fn begin_what_is_due(self: &Arc<Self>, tasks: &mut JoinSet<()>) -> Duration {
        if *self.paused.borrow() {
            return LOOK;
        }
        let (now, instant) = (self.clock.now(), Instant::now());
        let confirmed = self.clock.is_confirmed();
        let plan = self.plan.load();
        let mut entries = self.entries.lock();
        let mut next = LOOK;
        let mut due = Vec::new();
        for (index, entry) in entries
            .iter_mut()
            .enumerate()
            .filter(|(_, entry)| !entry.running)
        {
            if entry.have.is_some() && entry.look.is_none_or(|look| look <= instant) {
                entry.look = Some(instant + LOOK_TRIED);
                tasks.spawn(self.clone().look(entry.wanted.id.clone()));
            }
            let Some(reason) = entry.reason(now, confirmed) else {
                next = next.min(until(entry.due(), now));
                continue;
            };
            match entry.next {
                Some(at) if at > instant && !entry.asked => next = next.min(at - instant),
                _ => due.push((index, reason)),
            }
        }
        self.spread(&mut entries, &mut due, plan.orders);
        let running = entries.iter().filter(|entry| entry.running).count();
        due.sort_by_key(|(_, reason)| rank(reason));
        for (index, reason) in due.into_iter().take(plan.orders.saturating_sub(running)) {
            let Some(entry) = entries.get_mut(index) else {
                continue;
            };
            entry.running = true;
            tasks.spawn(self.clone().attempt(entry.wanted.id.clone(), reason));
        }
        next.max(SOONEST)
    }

    /// Puts renewals off a little where many are due together, once.
    fn spread(&self, entries: &mut [Entry], due: &mut Vec<(usize, Reason)>, at_once: usize) {
        let many = due
            .iter()
            .filter(|(_, reason)| *reason == Reason::Time)
            .count();
        due.retain(|(index, reason)| {
            let Some(entry) = entries.get_mut(*index) else {
                return false;
            };
            if *reason != Reason::Time || std::mem::replace(&mut entry.spread, true) {
                return true;
            }
            let wait = when::spread(many, at_once, when::throw());
            entry.next = Some(Instant::now() + wait);
            wait.is_zero()
        });
    }
}

impl std::fmt::Debug for Acme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acme").finish_non_exhaustive()
    }
}

/// Who has nothing comes first, then who has nothing good.
fn rank(reason: &Reason) -> u8 {
    match reason {
        Reason::Missing => 0,
        Reason::Lapsed => 1,
        Reason::Asked => 2,
        Reason::Changed(_) => 3,
        Reason::Time => 4,
        Reason::Doubtful => 5,
    }
}

fn until(due: Option<std::time::SystemTime>, now: std::time::SystemTime) -> Duration {
    due.and_then(|due| due.duration_since(now).ok())
        .unwrap_or(LOOK)
}

fn no_certificates() -> model::Certificates {
    model::Certificates {
        orders: 1,
        dns: None,
        resolver: None,
        shared: None,
        feed: None,
    }
}

/// The wall clock is looked at this often: a machine that slept, or whose clock was set, is noticed.
const LOOK: Duration = Duration::from_secs(60);
/// Several hundred certificates are not asked about all at once.
const LOOKS: usize = 2;
const SOONEST: Duration = Duration::from_millis(100);
/// After a question for renewal information that has no answer yet.
const LOOK_TRIED: Duration = Duration::from_secs(60 * 60);
/// How long orders under way may hold up a handover.
const PAUSE: Duration = Duration::from_secs(10);
