//! What is said of certificates, for a person.

use super::{EventStatus, Overview, Trial};
use crate::status::{Cell, CertificateStatus, Look, OrderStatus, Table, Tone};
use crate::status::{left, names, notices, printable};

/// The certificates in a table, then what is wrong with them in full, then what happened last.
pub fn list(overview: &Overview, look: Look) -> String {
    let mut text = String::new();
    if overview.certificates.is_empty() {
        text.push_str("no certificates: no site has TLS\n");
    } else {
        certificates(&overview.certificates).render(look, &mut text);
    }
    for certificate in &overview.certificates {
        if let Some(order) = &certificate.order {
            text.push_str(&trouble(order));
        }
    }
    let notices = notices(&overview.acme);
    if !notices.is_empty() {
        text.push('\n');
    }
    for (name, notice) in notices {
        text.push_str(&format!("{name}: {}\n", notice.text));
    }
    text.push_str(&events(&overview.events, look));
    text
}

fn certificates(certificates: &[CertificateStatus]) -> Table {
    let mut table = Table::headed(&["names", "source", "ends", "left", "state", "renewal", "by"]);
    for certificate in certificates {
        let order = certificate.order.as_ref();
        let state = order.map_or("-", |order| &order.state);
        let state = match order.is_some_and(|order| order.last_error.is_some()) {
            true => Cell::toned(state, Tone::Bad),
            false => state.into(),
        };
        let text = |part: Option<&String>| part.map_or("-", String::as_str).into();
        table.rows.push(vec![
            names(&certificate.names).into(),
            certificate.source.as_str().into(),
            text(Some(&certificate.not_after).filter(|end| !end.is_empty())),
            left(certificate),
            state,
            text(order.and_then(|order| order.due.as_ref())),
            text(order.and_then(|order| order.challenge.as_ref())),
        ]);
    }
    table
}

/// Why a certificate is not as it should be, in full: a table would cut it.
fn trouble(order: &OrderStatus) -> String {
    let next = order.next_attempt.as_ref();
    let next = next
        .map(|next| format!("; next attempt {next}"))
        .unwrap_or_default();
    let (what, text) = match &order.last_error {
        Some(error) => ("the last attempt failed", error),
        None if matches!(order.state.as_str(), "good" | "ordering" | "due") => {
            return String::new();
        }
        None => (order.state.as_str(), &order.text),
    };
    let lines: Vec<_> = text.lines().map(printable).collect();
    let names = names(&order.names);
    format!("\n{names}: {what}{next}\n  {}\n", lines.join("\n  "))
}

fn events(events: &[EventStatus], look: Look) -> String {
    if events.is_empty() {
        return String::new();
    }
    let mut table = Table::headed(&["when", "names", "what", "more"]);
    for event in events.iter().rev().take(SHOWN) {
        table.rows.push(vec![
            event.time.as_str().into(),
            names(&event.names).into(),
            event.what.as_str().into(),
            event.text.as_str().into(),
        ]);
    }
    let mut text = String::from("\nWhat happened, the latest first\n");
    table.render(look, &mut text);
    text
}

/// How a dry run went, one line a certificate.
pub fn trials(trials: &[Trial]) -> String {
    let mut text = String::new();
    for trial in trials {
        let authority = trial.authority.as_deref().unwrap_or("no authority");
        let challenge = trial.challenge.as_deref();
        let by = challenge.map(|by| format!(" by {by}")).unwrap_or_default();
        let word = if trial.ok { "works" } else { "fails" };
        let names = trial.names.join(", ");
        text.push_str(&format!("{word}: {names} ({authority}{by})\n"));
        for line in trial.text.lines() {
            text.push_str(&format!("  {line}\n"));
        }
    }
    printable(&text)
}

/// How many events a person is shown.
const SHOWN: usize = 5;
