//! What needs attention, as an Atom feed (RFC 4287) and as a calendar (RFC 5545), so that an operator is told without
//! e-mail and without anybody else. Stands alone because it is pure: the same trouble makes the same entry, with the
//! time when it was first seen, so that a reader shows it once.
//!
//! What is no longer the matter is no longer in it. When something was first seen stands in the files themselves: they
//! are read before they are written, and nothing else is kept.

// The feed.
mod atom;
// The calendar.
mod calendar;
// What the files of before say.
mod memory;

use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::status::{Attention, Status};

pub use atom::atom;
pub use calendar::calendar;
pub use memory::Memory;

/// Something that is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// A UUID that stays while it is the same trouble.
    pub id: String,
    /// What is the matter.
    pub title: String,
    /// That, and the way out.
    pub text: String,
    /// What it is about, in a word.
    pub kind: &'static str,
    /// When it was first seen.
    pub first: OffsetDateTime,
    /// Until when something has to be done.
    pub due: Option<OffsetDateTime>,
}

/// What is told of a status, the latest first.
pub fn entries(status: &Status, memory: &Memory, now: OffsetDateTime) -> Vec<Entry> {
    let mut entries: Vec<Entry> = status
        .attention
        .iter()
        .map(|one| entry(&status.stack, one, memory, now))
        .collect();
    entries.sort_by(|a, b| b.first.cmp(&a.first).then_with(|| a.id.cmp(&b.id)));
    entries.dedup_by(|a, b| a.id == b.id);
    entries
}

fn entry(stack: &str, one: &Attention, memory: &Memory, now: OffsetDateTime) -> Entry {
    let id = stable_id(&[stack, &one.id]);
    let text = match &one.hint {
        Some(hint) => format!("{}\n{hint}", one.what),
        None => one.what.clone(),
    };
    Entry {
        first: memory
            .first(&id)
            .unwrap_or_else(|| now.replace_nanosecond(0).unwrap_or(now)),
        title: crate::status::words::line(&one.what),
        kind: one.kind.word(),
        due: one
            .due
            .as_deref()
            .and_then(|due| OffsetDateTime::parse(due, &Rfc3339).ok()),
        text,
        id,
    }
}

/// A UUID (version 8) that the same parts always make.
fn stable_id(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.finalize()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}

#[cfg(test)]
mod tests;
