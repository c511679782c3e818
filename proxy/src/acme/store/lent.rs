//! Short-lived values of this process: answers to challenges, in memory until their time is over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::StoreError;

/// What is lent.
#[derive(Debug, Default)]
pub(super) struct Lent(Mutex<BTreeMap<Box<str>, Loan>>);

/// Until when, and what.
type Loan = (Instant, Vec<u8>);

impl Lent {
    /// Lends a value until `ttl` has passed, in place of what had its name.
    pub(super) fn put(&self, name: &str, content: &[u8], ttl: Duration) -> Result<(), StoreError> {
        let now = Instant::now();
        let until = now + ttl.min(LONGEST);
        let mut lent = self.0.lock();
        lent.retain(|_, (until, _)| *until > now);
        if lent.len() >= MOST && !lent.contains_key(name) {
            return Err(StoreError::Full { most: MOST });
        }
        lent.insert(name.into(), (until, content.into()));
        Ok(())
    }

    /// What is lent under a name.
    pub(super) fn get(&self, name: &str) -> Option<Vec<u8>> {
        let lent = self.0.lock();
        let (until, content) = lent.get(name)?;
        (*until > Instant::now()).then(|| content.clone())
    }

    /// Ends a loan. False: there was none.
    pub(super) fn remove(&self, name: &str) -> bool {
        self.0.lock().remove(name).is_some()
    }
}

/// A hundred orders of a hundred names.
const MOST: usize = 10_000;
/// Longer than any order takes.
const LONGEST: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loan_ends() {
        let lent = Lent::default();
        let long = Duration::from_secs(60);
        lent.put("challenges/a", b"1", long).expect("room");
        lent.put("challenges/b", b"2", Duration::ZERO)
            .expect("room");
        assert_eq!(lent.get("challenges/a").as_deref(), Some(&b"1"[..]));
        assert_eq!(lent.get("challenges/b"), None, "its time is over");
        lent.put("challenges/a", b"4", long).expect("room");
        assert_eq!(lent.get("challenges/a").as_deref(), Some(&b"4"[..]));
        assert!(lent.remove("challenges/a"));
        assert!(!lent.remove("challenges/a"));
        assert_eq!(lent.get("challenges/a"), None);
    }

    #[test]
    fn loans_are_bounded() {
        let lent = Lent::default();
        let long = Duration::from_secs(60);
        for number in 0..MOST {
            lent.put(&format!("a/{number}"), b"", long).expect("room");
        }
        assert!(lent.put("a/more", b"", long).is_err());
        lent.put("a/0", b"again", long).expect("its own place");
    }
}
