//! Errors for people: what failed, why, and the way out. Stands alone because it is the one place that knows every
//! kind of error, so that each can keep its own hint to itself.

use std::error::Error as StdError;
use std::fmt;

use sovereign_config::Report;

use crate::printer::{Printer, Unasked};
use crate::{desired, engine, lock, prepare, program, secrets, ssh};

/// An error of a command, with the way out.
#[derive(Debug)]
pub struct Hinted {
    message: String,
    hint: String,
}

/// Something was asked for that cannot be: the command ends as it does for wrong usage.
#[derive(Debug)]
pub struct Wrong(Hinted);

impl Hinted {
    /// What failed, and what to do.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: hint.into(),
        }
    }
}

impl Wrong {
    /// What was asked for, and what can be.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self(Hinted::new(message, hint))
    }
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Hinted {}
impl StdError for Wrong {}

/// Prints an error, its causes and the way out; gives the exit code.
pub fn tell(error: &anyhow::Error, printer: &Printer) -> u8 {
    if let Some(report) = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Report>())
    {
        printer.say(&report.to_string());
        return WRONG;
    }
    printer.error(&chain(error.as_ref()));
    if let Some(hint) = error.chain().find_map(hint) {
        printer.hint(&hint);
    }
    if error.chain().any(is_wrong_usage) {
        WRONG
    } else {
        FAILED
    }
}

/// Whether something was asked for that cannot be, as opposed to something having failed.
fn is_wrong_usage(error: &(dyn StdError + 'static)) -> bool {
    let secret = error
        .downcast_ref()
        .is_some_and(secrets::Error::is_wrong_usage);
    let image = error
        .downcast_ref()
        .is_some_and(lock::Error::is_wrong_usage);
    let stack = error
        .downcast_ref()
        .is_some_and(desired::RenderError::is_wrong_usage);
    error.is::<Wrong>() || secret || image || stack
}

/// An error with its causes, each said once: `reading a: no such file`. A cause of several lines begins a line of its
/// own.
pub fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        let said = said.trim_end();
        if !text.contains(said) {
            let several = said.contains('\n');
            text.push_str(if several { ":\n  " } else { ": " });
            text.push_str(&said.replace('\n', "\n  "));
        }
        cause = error.source();
    }
    text
}

/// The way out of one error, where it knows one.
pub fn hint(error: &(dyn StdError + 'static)) -> Option<String> {
    if let Some(Wrong(hinted)) = error.downcast_ref() {
        return Some(hinted.hint.clone());
    }
    if let Some(hinted) = error.downcast_ref::<Hinted>() {
        return Some(hinted.hint.clone());
    }
    if let Some(error) = error.downcast_ref::<ssh::Error>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<engine::Error>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<secrets::Error>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<lock::Error>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<desired::RenderError>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<program::Error>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<prepare::Error>() {
        return error.hint();
    }
    error.downcast_ref::<Unasked>().and_then(Unasked::hint)
}

/// What was probably meant by a name that is not known.
pub fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    const LIKE: f64 = 0.8;
    let near = known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(name, known), known));
    let near = near.filter(|(likeness, _)| *likeness > LIKE);
    Some(near.max_by(|a, b| a.0.total_cmp(&b.0))?.1)
}

/// The exit code of what failed.
pub const FAILED: u8 = 1;
/// The exit code of wrong usage, which clap uses as well, and of a configuration with problems.
pub const WRONG: u8 = 2;

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    fn told(error: anyhow::Error) -> (u8, String) {
        let printer = Printer::caught(&[]);
        let code = tell(&error, &printer);
        (code, printer.take().1)
    }

    #[test]
    fn causes_and_hints_are_found_at_any_depth() {
        let missing = secrets::Error::NoIdentity { path: "/a".into() };
        let error: anyhow::Result<()> = Err(missing).context("reading secrets");
        let (code, text) = told(error.unwrap_err());
        assert_eq!(code, FAILED);
        assert!(
            text.starts_with("error: reading secrets: there is no age identity at /a\nhint: "),
            "{text}"
        );
    }

    #[test]
    fn what_a_wrapper_repeats_is_said_once() {
        let inner = std::io::Error::other("no space");
        let error = anyhow::Error::new(inner).context("writing a: no space");
        assert_eq!(told(error).1, "error: writing a: no space\n");
    }

    #[test]
    fn a_cause_of_several_lines_begins_its_own() {
        let error = anyhow::anyhow!("one\ntwo").context("starting");
        assert_eq!(told(error).1, "error: starting:\n  one\n  two\n");
    }

    #[test]
    fn wrong_usage_has_its_own_code() {
        let (code, text) = told(Wrong::new("there is no service a", "there is b").into());
        assert_eq!(
            (code, text.as_str()),
            (2, "error: there is no service a\nhint: there is b\n")
        );
    }
}
