//! An error with its causes, in one line: an error itself says its own step only.

use std::error::Error;

/// The error, then what led to it.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        line.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use std::{fmt, io};

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{step}")]
    struct Step<E: Error + fmt::Debug + 'static> {
        step: &'static str,
        source: E,
    }

    #[test]
    fn an_error_is_told_with_all_its_causes() {
        let source = Step {
            step: "reading b",
            source: io::Error::other("it is gone"),
        };
        let step = "doing a";
        let error = Step { step, source };
        assert_eq!(chain(&error), "doing a: reading b: it is gone");
    }
}
