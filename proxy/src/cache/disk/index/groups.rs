//! The lists of scopes that records have, each held once: what a scope's records are counted by.

use hashbrown::HashMap;

/// Bits of a group's number.
pub(super) const GROUP_BITS: u32 = 24;
/// Lists of scopes that are told apart; records with further ones are stored without scopes.
pub(super) const GROUPS: usize = 1 << GROUP_BITS;
/// The group of records without scopes.
pub(super) const NO_SCOPES: u32 = 0;

/// The lists of scopes in use.
pub(super) struct Groups {
    numbers: HashMap<Box<[u64]>, u32>,
    list: Vec<Group>,
    free: Vec<u32>,
    counts: HashMap<u64, u64>,
    bytes: u64,
}

#[derive(Default, Clone)]
struct Group {
    scopes: Box<[u64]>,
    records: u64,
}

impl Groups {
    /// None.
    pub fn new() -> Self {
        Self {
            numbers: HashMap::new(),
            list: vec![Group::default()],
            free: Vec::new(),
            counts: HashMap::new(),
            bytes: 0,
        }
    }

    /// The group of a list of scopes, held for so many records; [`NO_SCOPES`] where there are too many.
    pub fn hold(&mut self, scopes: &[u64], records: u64) -> u32 {
        // A list that no record has would never be released.
        if scopes.is_empty() || records == 0 {
            return NO_SCOPES;
        }
        let number = match self.numbers.get(scopes) {
            Some(&number) => number,
            None => match self.add(scopes) {
                Some(number) => number,
                None => return NO_SCOPES,
            },
        };
        if let Some(group) = self.list.get_mut(number as usize) {
            group.records += records;
            for &scope in &group.scopes {
                *self.counts.entry(scope).or_default() += records;
            }
        }
        number
    }

    /// The lists for which `before` gives a number, and that number.
    pub fn outdated(&self, before: impl Fn(&[u64]) -> u64) -> HashMap<u32, u64> {
        let lists = self.numbers.iter();
        lists
            .map(|(scopes, group)| (*group, before(scopes)))
            .filter(|(_, before)| *before > 0)
            .collect()
    }

    /// How many records have a scope.
    pub fn count(&self, scope: u64) -> u64 {
        self.counts.get(&scope).copied().unwrap_or_default()
    }

    /// Bytes of memory that they take, about.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn add(&mut self, scopes: &[u64]) -> Option<u32> {
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.list.len() < GROUPS => {
                self.list.push(Group::default());
                self.list.len() as u32 - 1
            }
            None => return None,
        };
        self.list.get_mut(number as usize)?.scopes = scopes.into();
        self.numbers.insert(scopes.into(), number);
        self.bytes += group_bytes(scopes);
        Some(number)
    }

    /// So many records of a group are gone.
    pub fn release(&mut self, number: u32, records: u64) {
        let Some(group) = self.list.get_mut(number as usize) else {
            return;
        };
        group.records = group.records.saturating_sub(records);
        for scope in &group.scopes {
            if let Some(count) = self.counts.get_mut(scope) {
                *count = count.saturating_sub(records);
                if *count == 0 {
                    self.counts.remove(scope);
                }
            }
        }
        if group.records == 0 {
            let scopes = std::mem::take(&mut group.scopes);
            self.numbers.remove(&scopes);
            self.free.push(number);
            self.bytes = self.bytes.saturating_sub(group_bytes(&scopes));
        }
    }
}

/// About what a group takes: its list twice, its places in the tables, and its scopes' counts.
fn group_bytes(scopes: &[u64]) -> u64 {
    96 + 56 * scopes.len() as u64
}
