//! The durable tier as the cache has it: there, not wanted, or not yet to be opened. A disk that cannot be
//! written to at the start is no reason to fail.

use std::sync::OnceLock;

use parking_lot::Mutex;

use super::disk::{Disk, Health, Settings, Usage};
use crate::causes;

/// The durable tier, where there is one.
pub(super) struct Tier {
    settings: Option<Settings>,
    disk: OnceLock<Disk>,
    /// Why it could not be opened.
    error: Mutex<Option<(Health, String)>>,
}

impl Tier {
    /// The tier with these settings, not open yet; `None` for none.
    pub fn new(settings: Option<Settings>) -> Self {
        Self {
            settings,
            disk: OnceLock::new(),
            error: Mutex::default(),
        }
    }

    /// Opens it, unless there is none or it is open. Blocks.
    pub fn open(&self) -> Result<(), String> {
        let Some(settings) = self.settings.clone().filter(|_| self.is_missing()) else {
            return Ok(());
        };
        match Disk::open(settings) {
            Ok(disk) => {
                // One task opens it, so it was not open before.
                let _ = self.disk.set(disk);
                *self.error.lock() = None;
                Ok(())
            }
            Err(error) => {
                let text = causes::chain(&error);
                *self.error.lock() = Some((error.health(), text.clone()));
                Err(text)
            }
        }
    }

    /// The disk, where it is open.
    pub fn disk(&self) -> Option<&Disk> {
        self.disk.get()
    }

    /// There should be one, but it is not open.
    pub fn is_missing(&self) -> bool {
        self.settings.is_some() && self.disk().is_none()
    }

    /// What it holds; `None` where there is none.
    pub fn usage(&self) -> Option<Usage> {
        if let Some(disk) = self.disk() {
            return Some(disk.usage());
        }
        let error = self.error.lock().clone();
        Some(Usage {
            bytes: 0,
            limit: self.settings.as_ref()?.limit,
            records: 0,
            index_bytes: 0,
            queued_bytes: 0,
            waiting: 0,
            not_stored: 0,
            corrupt: 0,
            health: error
                .as_ref()
                .map_or(Health::Failing, |(health, _)| *health),
            last_error: error.map(|(_, error)| error),
        })
    }
}
