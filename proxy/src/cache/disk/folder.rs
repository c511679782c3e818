//! The folder: its parts, whose it is, and in which format.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::seed::Seed;
use super::{OpenError, start};

/// The first line of the file that tells the format.
const FORMAT: &str = "sovereign-cache 1";
/// How long another process may take to let go of the folder.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(3);
/// How long it is left alone between two tries: at first, and later on.
const LOCK_TRIES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));
/// What the folder is made of, but for its lock.
const PARTS: [&str; 4] = ["format", "segments", "objects", "tmp"];

/// A folder in a known format.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    /// The key of all its sums.
    pub seed: Seed,
}

/// One file that holds records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FileName {
    /// The number in its name.
    pub number: u64,
    /// It is one large body, not a segment.
    pub object: bool,
}

impl Folder {
    /// Opens it or makes it; what it cannot read it sets aside. Waits up to `patience` for another process
    /// to let go of it. Gives the lock, which lasts as long as the file is open.
    pub fn open(root: &Path, patience: Duration) -> Result<(Self, File), OpenError> {
        let step = |step| move |source| OpenError::Folder { step, source };
        make(root).map_err(step("make the folder"))?;
        let mut lock = take_lock(root, patience)?;
        let seed = match read_format(root) {
            Ok(seed) => seed,
            Err(Unreadable::Fresh) => {
                write_format(root, new_seed()).map_err(step("write the format"))?
            }
            Err(Unreadable::Foreign(why)) => {
                tracing::warn!(
                    folder = %root.display(),
                    "the cache on disk is set aside and begins empty: {why}"
                );
                set_aside(root).map_err(step("set the old folder aside"))?;
                make(root).map_err(step("make the folder"))?;
                lock = take_lock(root, patience)?;
                write_format(root, new_seed()).map_err(step("write the format"))?
            }
        };
        let folder = Self {
            root: root.to_path_buf(),
            seed,
        };
        folder
            .empty_tmp()
            .map_err(step("empty the folder for unfinished files"))?;
        Ok((folder, lock))
    }

    /// Gives up what lies in a folder, where there is one. Waits up to `patience` for another process to let go.
    pub fn give_up(root: &Path, patience: Duration) -> Result<(), OpenError> {
        let step = |step| move |source| OpenError::Folder { step, source };
        if !root.exists() {
            return Ok(());
        }
        let _lock = take_lock(root, patience)?;
        let aside = set_aside(root).map_err(step("set the folder aside"))?;
        // Much may lie there, and nobody waits for its end.
        start("cache-remove", move || {
            if let Err(error) = remove_all(&aside) {
                tracing::warn!(folder = %aside.display(), "{error}: remove it by hand");
            }
        })
    }

    /// Takes the lock again, if nobody has it.
    pub fn try_lock(&self) -> io::Result<File> {
        make(&self.root)?;
        let file = lock_file(&self.root)?;
        file.try_lock()?;
        Ok(file)
    }

    /// Makes what every folder has, after it was removed. Gives the lock.
    pub fn restore(&self) -> io::Result<File> {
        let lock = self.try_lock()?;
        if !self.root.join("format").exists() {
            write_format(&self.root, self.seed)?;
        }
        Ok(lock)
    }

    /// Where a file is.
    pub fn path(&self, file: FileName) -> PathBuf {
        let FileName { number, object } = file;
        let part = if object { "objects" } else { "segments" };
        self.root
            .join(part)
            .join(format!("{:02x}", number & 0xff))
            .join(format!("{number:016x}"))
    }

    /// Where an unfinished file of this process is.
    pub fn unfinished(&self, number: u64) -> PathBuf {
        let process = std::process::id();
        self.root.join("tmp").join(format!("{process}-{number}"))
    }

    /// Makes a file that does not exist yet, and the folders above it.
    pub fn create(&self, path: &Path) -> io::Result<File> {
        let create = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
        };
        match create() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make_parent(path)?;
                create()
            }
            result => result,
        }
    }

    /// Moves a finished file to its place.
    pub fn finish(&self, from: &Path, file: FileName) -> io::Result<()> {
        let to = self.path(file);
        match fs::rename(from, &to) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make_parent(&to)?;
                fs::rename(from, &to)
            }
            result => result,
        }
    }

    /// All files that hold records, in no order; and the last error, where not all could be listed.
    pub fn files(&self) -> (Vec<FileName>, Option<io::Error>) {
        let mut files = Vec::new();
        let mut last_error = None;
        let mut listed = |folder: &Path| {
            list(folder).unwrap_or_else(|error| {
                last_error = Some(error);
                Vec::new()
            })
        };
        for (part, object) in [("segments", false), ("objects", true)] {
            for folder in listed(&self.root.join(part)) {
                for path in listed(&folder) {
                    let name = path.file_name().and_then(|name| name.to_str());
                    let number = name.and_then(|name| u64::from_str_radix(name, 16).ok());
                    files.extend(number.map(|number| FileName { number, object }));
                }
            }
        }
        (files, last_error)
    }

    fn empty_tmp(&self) -> io::Result<()> {
        for path in list(&self.root.join("tmp"))? {
            match fs::remove_file(path) {
                Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => break,
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Why there is no seed.
enum Unreadable {
    /// The folder is new.
    Fresh,
    /// It holds something else.
    Foreign(String),
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), make)
}

fn take_lock(root: &Path, patience: Duration) -> Result<File, OpenError> {
    let step = |step| move |source| OpenError::Folder { step, source };
    let file = lock_file(root).map_err(step("open its lock"))?;
    let deadline = Instant::now() + patience;
    let (mut wait, longest) = LOCK_TRIES;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(wait);
                wait = longest.min(wait * 2);
            }
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse),
            Err(TryLockError::Error(source)) => return Err(step("lock it")(source)),
        }
    }
}

fn lock_file(root: &Path) -> io::Result<File> {
    let path = root.join("lock");
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    match opened {
        // What is there can be read all the same.
        Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => {
            File::open(&path).map_err(|_| error)
        }
        opened => opened,
    }
}

fn read_format(root: &Path) -> Result<Seed, Unreadable> {
    let foreign = |why: String| Unreadable::Foreign(why);
    let text = match fs::read(root.join("format")) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|error| foreign(error.to_string()))?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let used = PARTS.iter().any(|part| root.join(part).exists());
            return Err(match used {
                false => Unreadable::Fresh,
                true => foreign("its file \"format\" is gone".to_owned()),
            });
        }
        Err(error) => {
            return Err(foreign(format!(
                "its file \"format\" cannot be read: {error}"
            )));
        }
    };
    let mut lines = text.lines();
    match lines.next() {
        Some(FORMAT) => {}
        other => {
            let other: String = other.unwrap_or_default().chars().take(40).collect();
            return Err(foreign(format!("its format is {other:?}, not {FORMAT:?}")));
        }
    }
    lines
        .next()
        .and_then(|line| line.strip_prefix("seed "))
        .filter(|digits| digits.len() == 16)
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .map(Seed)
        .ok_or_else(|| foreign("its file \"format\" tells no seed".to_owned()))
}

/// A random state is keyed by the operating system's random numbers.
fn new_seed() -> Seed {
    Seed(RandomState::new().build_hasher().finish())
}

fn write_format(root: &Path, seed: Seed) -> io::Result<Seed> {
    let new = root.join("format.new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    io::Write::write_all(
        &mut file,
        format!("{FORMAT}\nseed {:016x}\n", seed.0).as_bytes(),
    )?;
    file.sync_all()?;
    fs::rename(new, root.join("format"))?;
    Ok(seed)
}

/// Renames the folder; where it cannot be renamed, being a mount, its parts are moved to a folder in it. Gives
/// where they are.
fn set_aside(root: &Path) -> io::Result<PathBuf> {
    let mut name = root.file_name().unwrap_or_default().to_owned();
    name.push(".set-aside");
    let aside = root.with_file_name(name);
    remove_all(&aside)?;
    if fs::rename(root, &aside).is_ok() {
        return Ok(aside);
    }
    let aside = root.join("set-aside");
    remove_all(&aside)?;
    make(&aside)?;
    for part in PARTS {
        match fs::rename(root.join(part), aside.join(part)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

fn remove_all(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What is in a folder; nothing where it does not exist.
fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect()
}
