//! Files that only their owner may read, written whole or not at all: a power cut leaves the old
//! file or the new one, never half of one.
//!
//! All of it blocks; certificates are loaded at start and on reload, off the async threads.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use super::error::TlsError;

/// A whole file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read {
        path: path.into(),
        source,
    })
}

/// A whole file of at most `most` bytes; a larger one is cut one byte above, where it parses no more.
pub(crate) fn read_bounded(path: &Path, most: usize) -> Result<Vec<u8>, TlsError> {
    let read = || {
        let mut content = Vec::new();
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        File::open(path)?
            .take(most.saturating_add(1))
            .read_to_end(&mut content)?;
        Ok(content)
    };
    read().map_err(|source| TlsError::Read {
        path: path.into(),
        source,
    })
}

/// Whether users outside the file's group can read it. A group that may is a choice that
/// distributions make, as Debian does with `ssl-cert`.
pub(super) fn world_readable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0)
}

/// Whether there is nothing at `path`, or a folder with nothing in it.
pub(super) fn is_vacant(path: &Path) -> Result<bool, TlsError> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(source) => Err(TlsError::Read {
            path: path.into(),
            source,
        }),
    }
}

/// Makes a folder, and those above it, with mode 0700. Folders that exist are left as they are.
pub(crate) fn make_private_folder(path: &Path) -> Result<(), TlsError> {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE_FOLDER)
        .create(path);
    made.map_err(at(path))
}

/// Replaces the file `name` in `folder`, mode 0600.
pub(crate) fn write_private(folder: &Path, name: &str, content: &[u8]) -> Result<(), TlsError> {
    let path = folder.join(name);
    let write = || {
        // A temporary file is made with mode 0600, which it keeps.
        let mut file = tempfile::Builder::new()
            .prefix(&format!(".{name}-"))
            .tempfile_in(folder)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|error| error.error)?;
        sync_folder(folder)
    };
    write().map_err(at(&path))
}

/// Makes the folder `parent/name` with these files in it, all at once. False, and nothing is
/// changed, where there is such a folder already with something in it.
pub(super) fn create_private_folder(
    parent: &Path,
    name: &str,
    files: &[(&str, &[u8])],
) -> Result<bool, TlsError> {
    let path = parent.join(name);
    let create = || {
        let draft = tempfile::Builder::new()
            .prefix(&format!(".{name}-"))
            .permissions(Permissions::from_mode(PRIVATE_FOLDER))
            .tempdir_in(parent)?;
        for (file, content) in files {
            write_new(&draft.path().join(file), content)?;
        }
        sync_folder(draft.path())?;
        match fs::rename(draft.path(), &path) {
            Ok(()) => {
                // It has another name now; there is nothing left to clean up.
                let _ = draft.keep();
                sync_folder(parent).map(|()| true)
            }
            Err(error) if is_taken(&error) => Ok(false),
            Err(error) => Err(error),
        }
    };
    create().map_err(at(&path))
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.set_permissions(Permissions::from_mode(PRIVATE_FILE))?;
    file.write_all(content)?;
    file.sync_all()
}

/// Makes a rename inside the folder outlive a power cut.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn is_taken(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty};
    matches!(error.kind(), AlreadyExists | DirectoryNotEmpty)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> TlsError {
    move |source| TlsError::Write {
        path: path.into(),
        source,
    }
}

const PRIVATE_FOLDER: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;
