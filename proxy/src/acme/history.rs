//! What happened to certificates: the last 500 events, in memory and in `acme/history.json` below the
//! state folder. Stands alone: the feed, the calendar and the commands read it.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sovereign_config::model::Challenge;

use crate::tls::disk;

/// Something that happened to a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When; of one that was said again and again, the last time.
    pub at: SystemTime,
    /// The first time: what an event is known by stays while `at` moves.
    pub first: SystemTime,
    /// The certificate's id; empty where it concerns none.
    pub id: Box<str>,
    /// Its names.
    pub names: Vec<String>,
    /// What happened.
    pub what: What,
    /// The authority, by the URL of its directory.
    pub directory: Option<String>,
    /// How control of the names was proved, or was to be.
    pub challenge: Option<Challenge>,
    /// It, in the operator's words; one sentence.
    pub text: String,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A first certificate is there.
    Issued,
    /// A new one has taken the place of one that came near its end.
    Renewed,
    /// A new one has taken the place of one that did not fit any more: its names, its key, revoked.
    Replaced,
    /// A certificate could not be had.
    Failed,
    /// Something must be done before one can be ordered.
    Waiting,
    /// This machine's clock differs from the authority's.
    Clock,
}

impl What {
    /// The word for it, in metrics, JSON and the feed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Renewed => "renewed",
            Self::Replaced => "replaced",
            Self::Failed => "failed",
            Self::Waiting => "waiting",
            Self::Clock => "clock",
        }
    }
}

/// The last events, the oldest first.
#[derive(Debug)]
pub struct History {
    kept: Arc<Kept>,
}

#[derive(Debug)]
struct Kept {
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Event>,
    /// Something is not on disk yet.
    unwritten: bool,
    /// Somebody is writing.
    writing: bool,
}

impl History {
    /// Reads what an earlier process noted. A file that cannot be read is said in the log and set
    /// aside: the history begins anew. Blocks for the time of a small read.
    pub fn open(state: &Path) -> Self {
        let folder = state.join("acme");
        let events = read(&folder).unwrap_or_else(|error| {
            tracing::warn!(%error, file = %folder.join(FILE).display(), "the history of certificates cannot be read and begins anew");
            let _ = std::fs::rename(folder.join(FILE), folder.join("history.json.bad"));
            VecDeque::new()
        });
        let state = Mutex::new(State {
            events,
            ..State::default()
        });
        Self {
            kept: Arc::new(Kept { folder, state }),
        }
    }

    /// Adds an event and has it written. An event that says what the last one of its certificate
    /// said takes its place: an authority that is down for a week makes one entry.
    pub fn note(&self, event: Event) {
        let write = {
            let mut state = self.kept.state.lock();
            state.add(bounded(event));
            state.unwritten = true;
            !std::mem::replace(&mut state.writing, true)
        };
        if !write {
            return;
        }
        let kept = Arc::clone(&self.kept);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || kept.write())),
            Err(_) => kept.write(),
        }
    }

    /// All events, the oldest first.
    pub fn list(&self) -> Vec<Event> {
        self.kept.state.lock().events.iter().cloned().collect()
    }
}

impl State {
    fn add(&mut self, mut event: Event) {
        let same = |old: &Event| {
            (&old.id, old.what, &old.directory, &old.text)
                == (&event.id, event.what, &event.directory, &event.text)
        };
        let last = self.events.iter().rposition(|old| old.id == event.id);
        let again = last.filter(|last| same(&self.events[*last]));
        if let Some(old) = again.and_then(|last| self.events.remove(last)) {
            event.first = old.first;
        }
        self.events.push_back(event);
        while self.events.len() > MOST {
            self.events.pop_front();
        }
    }
}

impl Kept {
    /// Writes until nothing is unwritten.
    fn write(&self) {
        loop {
            let text = {
                let mut state = self.state.lock();
                if !std::mem::take(&mut state.unwritten) {
                    state.writing = false;
                    return;
                }
                encode(&state.events)
            };
            let written = disk::make_private_folder(&self.folder)
                .and_then(|()| disk::write_private(&self.folder, FILE, &text));
            if let Err(error) = written {
                tracing::warn!(%error, "the history of certificates is kept in memory only");
            }
        }
    }
}

fn read(folder: &Path) -> io::Result<VecDeque<Event>> {
    let path = folder.join(FILE);
    let size = match std::fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(VecDeque::new()),
        other => other?.len(),
    };
    if size > MOST_FILE {
        return Err(io::Error::other(format!("it has {size} bytes")));
    }
    let written: Vec<Written> = serde_json::from_slice(&std::fs::read(&path)?)?;
    let skip = written.len().saturating_sub(MOST);
    Ok(written.into_iter().skip(skip).map(Event::from).collect())
}

fn encode(events: &VecDeque<Event>) -> Vec<u8> {
    let written: Vec<Written> = events.iter().map(Written::from).collect();
    // Numbers, strings and lists of them always become JSON.
    serde_json::to_vec(&written).unwrap_or_default()
}

/// What an event takes at most.
fn bounded(mut event: Event) -> Event {
    if let Some((end, _)) = event.text.char_indices().nth(MOST_TEXT) {
        event.text.truncate(end);
        event.text.push('…');
    }
    event.names.truncate(MOST_NAMES);
    event
}

/// An event as it lies on disk.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    /// Milliseconds since 1970.
    at: u64,
    /// As `at`; absent where an older version wrote it.
    #[serde(default)]
    first: Option<u64>,
    id: Box<str>,
    names: Vec<String>,
    what: What,
    directory: Option<String>,
    challenge: Option<String>,
    text: String,
}

impl From<&Event> for Written {
    fn from(event: &Event) -> Self {
        Self {
            at: milliseconds(event.at),
            first: Some(milliseconds(event.first)),
            id: event.id.clone(),
            names: event.names.clone(),
            what: event.what,
            directory: event.directory.clone(),
            challenge: event.challenge.map(|one| challenge_name(one).into()),
            text: event.text.clone(),
        }
    }
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(LATEST)
}

impl From<Written> for Event {
    fn from(written: Written) -> Self {
        let name = written.challenge.as_deref();
        let time = |at: u64| UNIX_EPOCH + Duration::from_millis(at.min(LATEST));
        Self {
            at: time(written.at),
            first: time(written.first.unwrap_or(written.at)),
            id: written.id,
            names: written.names,
            what: written.what,
            directory: written.directory,
            challenge: Challenge::ALL
                .into_iter()
                .find(|one| Some(challenge_name(*one)) == name),
            text: written.text,
        }
    }
}

/// A challenge by the name that ACME gives it.
pub fn challenge_name(challenge: Challenge) -> &'static str {
    match challenge {
        Challenge::Http01 => "http-01",
        Challenge::TlsAlpn01 => "tls-alpn-01",
        Challenge::Dns01 => "dns-01",
        Challenge::DnsPersist01 => "dns-persist-01",
    }
}

const FILE: &str = "history.json";
/// Two years of a hundred certificates of ninety days that all renew.
const MOST: usize = 500;
const MOST_TEXT: usize = 2000;
const MOST_NAMES: usize = 100;
/// More than the largest events can fill.
const MOST_FILE: u64 = 32 << 20;
/// The end of the year 9999, in milliseconds.
const LATEST: u64 = 253_402_300_799_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::feed::event_id;

    fn event(number: u64, text: &str) -> Event {
        let at = UNIX_EPOCH + Duration::from_millis(1_767_225_600_123 + number);
        Event {
            at,
            first: at,
            id: format!("{}.example", number % 3).into(),
            names: vec!["www.example.org".into(), "*.example.org".into()],
            what: What::Renewed,
            directory: Some("https://ca.example/directory".into()),
            challenge: Challenge::ALL.get((number % 5) as usize).copied(),
            text: text.into(),
        }
    }

    #[test]
    fn what_is_noted_outlives_the_process() {
        let folder = tempfile::tempdir().expect("a folder");
        let history = History::open(folder.path());
        assert!(history.list().is_empty());
        for number in 0..9 {
            history.note(event(number, &format!("number {number}")));
        }
        let noted = history.list();
        assert_eq!(noted.len(), 9);
        assert_eq!(History::open(folder.path()).list(), noted);
        let mode = |name: &str| {
            use std::os::unix::fs::PermissionsExt as _;
            let path = folder.path().join(name);
            std::fs::metadata(path)
                .expect("it is there")
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!((mode("acme"), mode("acme/history.json")), (0o700, 0o600));
    }

    #[test]
    fn it_is_bounded() {
        let folder = tempfile::tempdir().expect("a folder");
        let history = History::open(folder.path());
        for number in 0..MOST as u64 + 20 {
            let mut state = history.kept.state.lock();
            state.add(bounded(event(
                number,
                &format!("{number} {}", "é".repeat(3000)),
            )));
        }
        let mut last = event(1, "the last");
        last.names = vec!["a".into(); 1000];
        history.note(last);
        let list = History::open(folder.path()).list();
        assert_eq!(list.len(), MOST);
        assert!(
            list.iter()
                .all(|one| one.text.chars().count() <= MOST_TEXT + 1)
        );
        let newest = list.last().expect("some");
        assert_eq!(
            (newest.text.as_str(), newest.names.len()),
            ("the last", MOST_NAMES)
        );
    }

    /// An authority that was down for a week filled the history with itself.
    #[test]
    fn the_same_again_is_one_event() {
        let folder = tempfile::tempdir().expect("a folder");
        let history = History::open(folder.path());
        for number in [0, 3, 6] {
            history.note(event(number, "the authority is down"));
        }
        history.note(event(1, "the authority is down"));
        history.note(event(9, "it answers again"));
        history.note(event(12, "the authority is down"));
        let list = history.list();
        let at: Vec<_> = list.iter().map(|one| one.at).collect();
        assert_eq!(at, [6, 1, 9, 12].map(|number| event(number, "").at));
        // A reader knows it again while its time moves.
        let first: Vec<_> = list.iter().map(|one| one.first).collect();
        assert_eq!(first, [0, 1, 9, 12].map(|number| event(number, "").at));
        assert_eq!(event_id(&list[0]), event_id(&event(0, &list[0].text)));
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("acme/history.json");
        std::fs::create_dir(folder.path().join("acme")).expect("made");
        for damaged in [
            &b"[{\"at\":1"[..],
            b"",
            b"\xff\xfe",
            b"{}",
            b"[{\"at\":-1}]",
        ] {
            std::fs::write(&path, damaged).expect("written");
            let history = History::open(folder.path());
            assert!(history.list().is_empty(), "{damaged:?}");
            assert!(!path.exists() && path.with_extension("json.bad").exists());
            history.note(event(0, "again"));
            assert_eq!(History::open(folder.path()).list().len(), 1);
        }
    }

    #[tokio::test]
    async fn it_is_written_off_the_async_threads() {
        let folder = tempfile::tempdir().expect("a folder");
        let history = History::open(folder.path());
        for number in 0..50 {
            history.note(event(number, &format!("number {number}")));
        }
        let written = async {
            while History::open(folder.path()).list() != history.list() {
                tokio::task::yield_now().await;
            }
        };
        let written = tokio::time::timeout(Duration::from_secs(10), written).await;
        written.expect("everything is on disk");
    }
}
