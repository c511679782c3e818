//! How many stored responses each scope has: what a purge says that it concerned, where no disk tier counts.

use std::collections::HashMap;

use parking_lot::Mutex;

/// Counts by scope. As large as what is counted: a scope that nothing has takes no room.
pub struct Census(Box<[Mutex<HashMap<u64, u64>>]>);

impl Census {
    /// Counts one response, with these scopes, each once.
    pub fn add(&self, scopes: &[u64]) {
        for scope in scopes {
            *self.shard(*scope).lock().entry(*scope).or_default() += 1;
        }
    }

    /// Takes back what [`add`](Self::add) counted. A scope that was not counted is left out.
    pub fn sub(&self, scopes: &[u64]) {
        for scope in scopes {
            let mut shard = self.shard(*scope).lock();
            match shard.get_mut(scope) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    shard.remove(scope);
                }
            }
        }
    }

    /// Responses with that scope.
    pub fn count(&self, scope: u64) -> u64 {
        let shard = self.shard(scope).lock();
        shard.get(&scope).copied().unwrap_or_default()
    }

    fn shard(&self, scope: u64) -> &Mutex<HashMap<u64, u64>> {
        // A scope is a hash: its highest bits are as good as any. There are as many shards.
        &self.0[(scope >> (u64::BITS - SHARDS.ilog2())) as usize]
    }
}

impl Default for Census {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }
}

/// A power of two.
const SHARDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting() {
        let census = Census::default();
        let (one, other) = ([1, u64::MAX, 3], [1, 4]);
        census.add(&one);
        census.add(&other);
        census.add(&other);
        assert_eq!(
            [1, 3, 4, u64::MAX, 5].map(|scope| census.count(scope)),
            [3, 1, 2, 1, 0]
        );
        census.sub(&other);
        assert_eq!(
            [1, 3, 4, u64::MAX].map(|scope| census.count(scope)),
            [2, 1, 1, 1]
        );
        census.sub(&one);
        census.sub(&other);
        assert_eq!([1, 3, 4, u64::MAX].map(|scope| census.count(scope)), [0; 4]);
        assert!(
            census.0.iter().all(|shard| shard.lock().is_empty()),
            "nothing takes no room"
        );
        census.sub(&other);
        assert_eq!(census.count(1), 0, "never below zero");
    }
}
