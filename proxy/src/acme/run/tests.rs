//! Attempts at a certificate whose authority nobody answers for.

use rcgen::{CertificateParams, KeyPair};
use sovereign_config::model::{self, KeyKind};

use super::*;
use crate::acme::answers::Answers;
use crate::acme::entry::{Entry, Issued};
use crate::acme::history::History;
use crate::acme::plan::Plan;
use crate::tls::kept::{About, Kept};

const ID: &str = "a.example";
const DIRECTORY: &str = "https://127.0.0.1:1/directory";

fn wanted() -> Wanted {
    Wanted {
        id: ID.into(),
        site: ID.into(),
        names: vec![ID.to_owned()],
        key: KeyKind::Ecdsa,
        pin_key: false,
        profile: None,
        challenges: Vec::new(),
        until: Default::default(),
    }
}

/// A keeper of one certificate, by an authority that nobody answers for.
async fn keeper(agreed: bool) -> (Arc<Acme>, tempfile::TempDir) {
    let state = tempfile::tempdir().expect("a folder");
    let store = crate::acme::store::open(state.path(), None);
    let store = store.await.expect("opens");
    let answers = Answers::new(store.clone());
    let history = Arc::new(History::open(state.path()));
    let acme = Acme::new(state.path(), store.clone(), history, answers);
    let config = model::Ca {
        directory: DIRECTORY.to_owned(),
        roots: None,
        staging: None,
        profile: None,
        eab: None,
        agreed,
    };
    let ca = Ca::new(config, store, acme.clock.clone());
    let plan = Plan {
        cas: vec![Arc::new(ca)],
        prover: acme.plan.load().prover.clone(),
        orders: 1,
    };
    acme.plan.store(Arc::new(plan));
    acme.entries.lock().push(Entry::new(wanted()));
    (acme, state)
}

fn issued() -> Issued {
    let mut params = CertificateParams::new(vec![ID.to_owned()]).expect("names");
    params.not_before = time::OffsetDateTime::now_utc() - time::Duration::days(1);
    params.not_after = params.not_before + time::Duration::days(90);
    let key = KeyPair::generate().expect("a key");
    let leaf = params.self_signed(&key).expect("signed");
    let about = About {
        directory: DIRECTORY.to_owned(),
        names: vec![ID.to_owned()],
        ..About::default()
    };
    Issued {
        kept: Kept::new(about, leaf.pem(), key.serialize_pem()),
        challenge: None,
        what: What::Issued,
        text: "a certificate".to_owned(),
    }
}

/// Nothing can be written where certificates lie.
fn spoil(state: &tempfile::TempDir) {
    let folder = state.path().join("certs/acme");
    std::fs::remove_dir(&folder).expect("it is empty");
    std::fs::write(&folder, "").expect("written");
}

fn last(acme: &Acme) -> (What, String) {
    let list = acme.history.list();
    let event = list.last().expect("an event");
    (event.what, event.text.clone())
}

/// What a full disk did not take was thrown away, and another ordered a minute later.
#[tokio::test]
async fn what_cannot_be_written_is_held_and_not_ordered_again() {
    let (acme, state) = keeper(true).await;
    spoil(&state);
    let ca = acme.plan.load().cas[0].clone();
    let put = acme.put(&wanted(), &ca, issued()).await;
    let failure = put.expect_err("nothing can be written");
    assert_eq!(failure.outcome, Outcome::Ours);
    // It is put in force all the same.
    let unwritten = || acme.unwritten().into_iter().map(|(id, _)| id.into_string());
    assert_eq!(unwritten().collect::<Vec<_>>(), [ID]);
    let told = tokio::time::timeout(Duration::ZERO, acme.written.notified());
    assert!(told.await.is_ok());
    let ended = acme.order(ID, Reason::Missing).await;
    let Ended::Failed(text, wait) = ended else {
        panic!("it is written");
    };
    assert!(text.contains("issued and waits to be written"), "{text}");
    assert!(wait <= UNTIL_WRITTEN, "{wait:?}");
    assert_eq!(last(&acme), (What::Failed, text));
    std::fs::remove_file(state.path().join("certs/acme")).expect("it is ours");
    // An order would fail: nobody answers.
    let ended = acme.order(ID, Reason::Missing).await;
    assert!(matches!(ended, Ended::Issued));
    assert_eq!(last(&acme).0, What::Issued);
    assert!(!acme.is_held(ID) && unwritten().next().is_none());
    acme.read(ID).await;
    assert!(acme.have(ID).is_some_and(|have| have.replace.is_none()));
}

#[tokio::test]
async fn nothing_is_ordered_that_could_not_be_written() {
    let (acme, state) = keeper(true).await;
    let order = async || match acme.order(ID, Reason::Missing).await {
        Ended::Failed(text, _) => text,
        _ => panic!("nobody answers"),
    };
    spoil(&state);
    let text = order().await;
    assert!(text.contains("the state folder"), "{text}");
}

/// Without a word each certificate was looked at, and told of, each minute; each look read a file.
#[tokio::test]
async fn a_word_is_waited_for_and_heeded_without_a_look_at_the_disk() {
    let (acme, state) = keeper(false).await;
    let next = || acme.entries.lock()[0].next;
    acme.clone().attempt(ID.into(), Reason::Missing).await;
    let wait = next().map(|at| at - Instant::now());
    assert!(wait > Some(Duration::from_secs(30 * 60)), "{wait:?}");
    assert!(!acme.report().authorities[0].agreed);
    acme.agree(DIRECTORY).await.expect("agreed to");
    assert!(state.path().join("acme/agreed").exists());
    std::fs::remove_file(state.path().join("acme/agreed")).expect("it is ours");
    assert!(acme.report().authorities[0].agreed);
    assert_eq!(next(), None);
    let ended = acme.order(ID, Reason::Missing).await;
    assert!(matches!(ended, Ended::Failed(..)), "nobody answers");
}

/// After a defect an order was begun again every 100 ms.
#[tokio::test]
async fn a_defect_is_not_met_again_and_again() {
    let (acme, _state) = keeper(true).await;
    acme.entries.lock()[0].asked = true;
    let met = tokio::spawn({
        let acme = acme.clone();
        async move {
            let _free = Free(&acme, ID);
            panic!("a defect");
        }
    });
    met.await.expect_err("it panics");
    let entries = acme.entries.lock();
    let wait = entries[0].next.map(|at| at - Instant::now());
    assert!(wait > Some(AFTER_DEFECT / 2), "{wait:?}");
    assert!(!entries[0].asked && entries[0].last_error.is_some());
}
