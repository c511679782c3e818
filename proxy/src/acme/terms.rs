//! Whose terms of service have been agreed to on the command line, for the authority that nobody named in
//! the configuration: `acme/agreed` below the state folder. Naming an authority in the configuration agrees
//! to its terms.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::tls::{TlsError, disk};

/// One authority's terms.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Agreed {
    /// The authority's directory.
    directory: String,
    /// When, in seconds since 1970.
    at: u64,
}

/// Whether the terms of the authority with this directory were agreed to. Reads a small file.
pub fn is_agreed(state: &Path, directory: &str) -> bool {
    read(state).iter().any(|one| one.directory == directory)
}

/// Keeps the word that its terms are agreed to. Writes a small file.
pub fn agree(state: &Path, directory: &str) -> Result<(), TlsError> {
    let mut agreed = read(state);
    agreed.retain(|one| one.directory != directory);
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    agreed.push(Agreed {
        directory: directory.to_owned(),
        at: since.unwrap_or_default().as_secs(),
    });
    let folder = state.join(FOLDER);
    disk::make_private_folder(&folder)?;
    // Strings and numbers always become JSON.
    let text = serde_json::to_vec_pretty(&agreed).unwrap_or_default();
    disk::write_private(&folder, FILE, &text)
}

/// A file that is damaged says nothing: the operator is asked again.
fn read(state: &Path) -> Vec<Agreed> {
    let path = state.join(FOLDER).join(FILE);
    let text = disk::read_bounded(&path, MOST_BYTES).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

const FOLDER: &str = "acme";
const FILE: &str = "agreed";
const MOST_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_kept_for_one_authority() {
        let folder = tempfile::tempdir().expect("a folder");
        let (state, one, other) = (folder.path(), "https://a.example/d", "https://b.example/d");
        assert!(!is_agreed(state, one));
        agree(state, one).expect("kept");
        agree(state, one).expect("kept again");
        assert!(is_agreed(state, one) && !is_agreed(state, other));
        assert_eq!(read(state).len(), 1);
        std::fs::write(state.join("acme/agreed"), "{").expect("damaged");
        assert!(!is_agreed(state, one));
    }
}
