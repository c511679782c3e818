//! What was forgotten while the index was still being loaded, so that it is not loaded after that.

use hashbrown::HashSet;

/// Hashes that are remembered at most. With more, nothing further is loaded: a cache may lose what it
/// has, but not bring back what was to go.
const MOST: usize = 262_144;

/// The hashes.
#[derive(Default)]
pub(super) enum Forgotten {
    /// Loading goes on, and these are not loaded.
    Some(HashSet<u64>),
    /// There were too many.
    All,
    /// Everything is loaded, and nothing has to be remembered.
    #[default]
    Ended,
}

impl Forgotten {
    /// Loading begins.
    pub fn begin() -> Self {
        Self::Some(HashSet::new())
    }

    /// A hash is forgotten.
    pub fn add(&mut self, hash: u64) {
        if let Self::Some(hashes) = self {
            hashes.insert(hash);
            if hashes.len() > MOST {
                *self = Self::All;
            }
        }
    }

    /// Whether a hash is not to be loaded.
    pub fn has(&self, hash: u64) -> bool {
        match self {
            Self::Some(hashes) => hashes.contains(&hash),
            Self::All => true,
            Self::Ended => false,
        }
    }

    /// Everything is loaded.
    pub fn end(&mut self) {
        *self = Self::Ended;
    }
}
