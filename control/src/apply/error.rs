//! What can go wrong with a step, in the operator's words, with the way out. Stands alone because what a failure says
//! is what the operator works from: which version serves now is always in it.

use crate::{bitcoin, engine, ssh};

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The host, the connection, or a command on it.
    #[error(transparent)]
    Host(#[from] ssh::Error),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The new one did not come up; the one before is in force again.
    #[error("{what} did not come up; the version before serves again")]
    PutBack {
        /// What was started.
        what: String,
        /// Why it did not.
        source: Box<StepError>,
    },
    /// The new one did not come up, and neither did the one before.
    #[error("{what} did not come up, and the version before did not either: {again}")]
    Down {
        /// What was started.
        what: String,
        /// Why the one before did not.
        again: String,
        /// Why the new one did not.
        source: Box<StepError>,
    },
    /// The new one did not come up; the one before was not touched.
    #[error("{what} did not come up; the version before goes on serving")]
    Kept {
        /// What was started.
        what: String,
        /// Why it did not.
        source: Box<StepError>,
    },
    /// There was no other one before, and the new one did not come up.
    #[error("{what} did not come up; there is no other version to go back to")]
    First {
        /// What was started.
        what: String,
        /// Why it did not.
        source: Box<StepError>,
    },
    /// A secret could not be changed in a part that keeps it by itself.
    #[error("{secret} was not changed in {part} of {service}, which goes on as it is")]
    NotRotated {
        /// Of what.
        service: String,
        /// Which secret.
        secret: String,
        /// In which part.
        part: String,
        /// Why.
        source: Box<StepError>,
    },
    /// A Bitcoin node could not be asked.
    #[error(transparent)]
    Node(#[from] bitcoin::Error),
    /// A Bitcoin node does not have the whole chain yet.
    #[error("{node} does not have the whole chain yet: {at}")]
    Behind {
        /// Its name.
        node: String,
        /// How far it is.
        at: String,
    },
    /// Somebody else deploys to the host.
    #[error("{host}: another deployment runs: {who}")]
    Locked {
        /// The host.
        host: String,
        /// Who, and since when.
        who: String,
    },
    /// The lock is not held any more.
    #[error("{host}: the lock of the host was lost")]
    LockLost {
        /// The host.
        host: String,
    },
    /// Somebody else changed what is in force between looking and applying.
    #[error("{host}: somebody else changed what runs there after this plan was made")]
    Overtaken {
        /// The host.
        host: String,
    },
}

impl StepError {
    /// The way out.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Host(error) => error.hint(),
            Self::Engine(error) => error.hint(),
            Self::PutBack { what, source }
            | Self::Kept { what, source }
            | Self::First { what, source } => {
                source.known_cause().or_else(|| Some(look_into(what)))
            }
            Self::Down { what, .. } => Some(look_into(what)),
            Self::NotRotated { service, source, .. } => match source.as_ref() {
                Self::Engine(engine::Error::NotRunning { .. }) => Some(format!(
                    "it has to run for that: `sovereign restart {service}`, then run it again"
                )),
                source => source.hint().or_else(|| Some(look_into(service))),
            },
            Self::Node(bitcoin::Error::Engine { source, .. }) => source.hint(),
            Self::Node(_) => None,
            Self::Behind { .. } => Some(
                "what does not need it is done; `sovereign status` shows how far it is. Once it is there, run it again"
                    .to_owned(),
            ),
            Self::Locked { .. } => Some(
                "wait for it, then run it again; where it was cut off, the host lets go of its lock within a minute"
                    .to_owned(),
            ),
            Self::Overtaken { .. } => {
                Some("run it again: the plan is then made of what is there now".to_owned())
            }
            // That it is to be run again is said of every deployment that does not come to its end.
            Self::LockLost { .. } => None,
        }
    }

    /// The way out where the host said something that is known; that it did not get healthy is not that.
    fn known_cause(&self) -> Option<String> {
        match self {
            Self::Engine(engine::Error::Unhealthy { .. }) => None,
            other => other.hint(),
        }
    }

    /// Whether the host cannot be reached any more.
    pub(super) fn is_cut_off(&self) -> bool {
        match self {
            Self::Host(error) | Self::Engine(engine::Error::Remote(error)) => error.is_cut_off(),
            Self::NotRotated { source, .. } => source.is_cut_off(),
            _ => false,
        }
    }
}

fn look_into(what: &str) -> String {
    match what {
        "the proxy" => "`journalctl -u sovereign-proxy` on the host, or `docker logs` of its container, says more".to_owned(),
        service => format!("`sovereign logs {service}` says more; mend it, then run it again"),
    }
}
