//! Certificates from authorities by ACME (RFC 8555): had, renewed and replaced while everything runs.
//!
//! ```text
//! configuration -> take -> keeper: what is due (when, clock) -> order (ca, account, http, challenge)
//!                                     |                            |
//!                                  history <- store <- judge <-----+
//!                                               |
//!                                           installed: the TLS set is loaded anew
//! ```
//!
//! Nothing here serves a connection but [`Answers`]; whatever goes wrong, the certificate in force
//! goes on being served.

// Nonces that are refused; a macro, so it comes first.
#[macro_use]
mod nonces;
// The authorities: their servers, their accounts, what they answer.
mod account;
mod ca;
mod http;
mod jws;
pub mod terms;
mod trust;
// One certificate from one authority, and why it could not be had.
mod failure;
mod issue;
mod order;
mod proof;
// What is wanted and what is there; when to act; the loop that does.
mod clock;
mod entry;
mod keeper;
mod look;
mod notes;
mod plan;
mod rehearse;
mod run;
mod ways;
mod when;
// What the operator is shown, and can have done.
mod commands;
mod report;
// Who proves control of a name, and how.
pub mod answers;
pub mod challenge;
// What lies on disk, or is shared.
pub mod store;
// What happened, as an Atom feed and an iCalendar.
pub mod calendar;
pub mod feed;
pub mod history;

pub use answers::Answers;
pub(crate) use clock::corrected;
pub use failure::Outcome;
pub use history::History;
pub use keeper::{Acme, Installed};
pub use report::{Attempts, Authority, CertificateReport, DryRun, Report, Standing};
pub use store::Store;
