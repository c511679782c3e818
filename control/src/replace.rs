//! A file of this machine, replaced as a whole: whoever reads it finds the old one or the new one, never half of it,
//! also after a power cut. Stands alone because everything that is kept beside `stack.toml` is written in this way.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The mode of what everybody may read.
pub const OPEN: u32 = 0o644;
/// The mode of what its owner alone may read.
pub const OWN: u32 = 0o600;

/// Writes a file with this mode, in place of the one that is there. Waits for the disk: not for an async thread.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    if !folder.is_dir() {
        let text = format!("there is no folder {}", folder.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    // Nobody else's until it is whole, and gone where this does not come to its end.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_there_with_its_mode_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for (content, mode) in [("one", OWN), ("two", OPEN), ("", 0o640)] {
            replace(&path, content.as_bytes(), mode).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
            let written = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(written & 0o777, mode);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let none = folder.path().join("none");
        let error = replace(&none.join("a"), b"", OPEN).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("there is no folder {}", none.display())
        );
    }
}
