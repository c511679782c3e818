//! The place of one session: a folder of its own, its logs, and its turn on the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A session's place. Open it first, so that it is the last to go.
#[derive(Debug)]
pub struct Lab {
    folder: TempDir,
    serial: AtomicUsize,
    _turn: Option<Turn>,
}

impl Lab {
    /// A place for a session that runs beside others.
    pub async fn open() -> Self {
        Self::with(Some(Turn::shared().await))
    }

    /// A place for a session that measures: no other session runs meanwhile.
    pub async fn alone() -> Self {
        Self::with(Some(Turn::alone().await))
    }

    /// A place for components that several sessions share: it takes no turn of its own, and stays
    /// until the test binary ends. Nobody drops it then, so the next run clears it away.
    pub fn standing() -> Self {
        let lab = Self::with_prefix("standing-", None);
        lock(&STANDING_LOGS).push(lab.path().join("logs"));
        lab
    }

    fn with(turn: Option<Turn>) -> Self {
        Self::with_prefix("", turn)
    }

    fn with_prefix(prefix: &str, turn: Option<Turn>) -> Self {
        let folder = temporary(prefix);
        fs::create_dir(folder.path().join("logs")).expect("the folder is ours");
        Self {
            folder,
            serial: AtomicUsize::new(0),
            _turn: turn,
        }
    }

    /// The folder of the session.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A new folder inside, named after `name`.
    pub fn folder(&self, name: &str) -> PathBuf {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let path = self.path().join(format!("{name}-{serial}"));
        fs::create_dir_all(&path).expect("the folder is ours");
        path
    }

    /// A new file inside, holding `text`.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder("files").join(name);
        fs::write(&path, text).expect("the folder is ours");
        path
    }

    /// Where the two outputs of a component go.
    pub(crate) fn logs_of(&self, name: &str) -> (PathBuf, PathBuf) {
        let logs = self.path().join("logs");
        (
            logs.join(format!("{name}.stdout")),
            logs.join(format!("{name}.stderr")),
        )
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.folder.disable_cleanup(true);
            eprintln!("the session's folder is kept: {}", self.path().display());
            // What it shares with others may have been at fault as well.
            let shared = lock(&STANDING_LOGS).clone();
            for folder in shared.into_iter().chain([self.path().join("logs")]) {
                for log in files(&folder) {
                    eprintln!("--- {}\n{}", log.display(), tail(&log, 40));
                }
            }
        }
    }
}

/// A component that `tests/run` prepares, by its path below the components' folder.
pub fn component(path: &str) -> PathBuf {
    let base = std::env::var_os("SOVEREIGN_CACHE")
        .map(PathBuf::from)
        .or_else(|| {
            std::env::var_os("XDG_CACHE_HOME")
                .map(|cache| Path::new(&cache).join("sovereign-stack"))
        })
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache/sovereign-stack")))
        .expect("SOVEREIGN_CACHE or HOME is set");
    let full = base.join("components").join(path);
    assert!(
        full.exists(),
        "{} is missing: run `tests/run --prepare`",
        full.display()
    );
    full
}

/// A program of the system that `tests/run` installs.
pub fn system_program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // The administrator's folders are not on everybody's path, and MariaDB lies there.
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/bin".into()])
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| panic!("{name} is missing: run `tests/run --prepare`"))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

fn tail(path: &Path, lines: usize) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The logs of standing labs.
static STANDING_LOGS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// How every folder of a test begins; what it is for follows, if anything, then the id of the process.
const FOLDER: &str = "sovereign-";

/// A folder that goes with its guard, or at the start of a test once this process is gone: it may be killed, and a
/// session that has failed leaves its folder to be read.
pub(crate) fn temporary(what: &str) -> TempDir {
    static CLEARED: Once = Once::new();
    CLEARED.call_once(clear_away);
    tempfile::Builder::new()
        .prefix(&format!("{FOLDER}{what}{}-", std::process::id()))
        .tempdir()
        .expect("a temporary folder can be made")
}

/// Removes the folders of tests whose process is gone.
fn clear_away() {
    for folder in files(&std::env::temp_dir()) {
        let name = folder.file_name().map(|name| name.to_string_lossy());
        if let Some(process) = name.as_deref().and_then(process_of)
            && !Path::new("/proc").join(process.to_string()).exists()
        {
            let _ = fs::remove_dir_all(&folder);
        }
    }
}

/// The id of the process whose folder is called so.
fn process_of(name: &str) -> Option<u32> {
    let (head, _) = name.strip_prefix(FOLDER)?.rsplit_once('-')?;
    head.rsplit('-').next()?.parse().ok()
}

/// A session's turn: any number share the machine, or one has it alone.
#[derive(Debug)]
enum Turn {
    Shared,
    Alone,
}

/// How many sessions run; `None` while one runs alone.
static RUNNING: Mutex<Option<usize>> = Mutex::new(Some(0));

impl Turn {
    async fn shared() -> Self {
        Self::take(|running| running.map(|count| Some(count + 1)), Self::Shared).await
    }

    async fn alone() -> Self {
        Self::take(|running| (running == Some(0)).then_some(None), Self::Alone).await
    }

    async fn take(next: impl Fn(Option<usize>) -> Option<Option<usize>>, turn: Self) -> Self {
        let end = Instant::now() + Duration::from_secs(1200);
        loop {
            {
                let mut running = lock(&RUNNING);
                if let Some(changed) = next(*running) {
                    *running = changed;
                    return turn;
                }
            }
            assert!(Instant::now() < end, "this session's turn never came");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut running = lock(&RUNNING);
        *running = match self {
            Self::Alone => Some(0),
            Self::Shared => running.map(|count| count - 1),
        };
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What it holds is right even where somebody panicked.
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::process_of;

    #[test]
    fn a_folder_says_whose_it_is() {
        for (name, process) in [
            ("sovereign-812-aB3dE9", Some(812)),
            ("sovereign-cluster-812-aB3dE9", Some(812)),
            ("sovereign-standing-812-123456", Some(812)),
            ("sovereign-proxy", None),
            ("sovereign-stack-target", None),
            ("another-812-aB3dE9", None),
        ] {
            assert_eq!(process_of(name), process, "{name}");
        }
    }
}
