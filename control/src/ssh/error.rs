//! What can go wrong between here and a command on a host, in the operator's words, with the way out. Stands alone
//! because the text of a failure is what an operator works from.

use std::fmt;
use std::io;
use std::time::Duration;

use super::Output;

/// What of a host's answer is shown: its last lines.
const LINES: usize = 8;

/// A step on a host that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection came about.
    #[error("{host}: no SSH connection: {refusal}{}", also(.said))]
    Refused {
        /// The host.
        host: String,
        /// Why.
        refusal: Refusal,
        /// What `ssh` said.
        said: String,
    },
    /// The command ended with a code other than 0.
    #[error("{host}: `{command}` failed with exit code {code}{}", also(.said))]
    Failed {
        /// The host.
        host: String,
        /// The program and what it was asked for.
        command: String,
        /// Its exit code.
        code: i32,
        /// What it said last.
        said: String,
    },
    /// The program is not there.
    #[error("{host}: there is no program `{program}`")]
    Missing {
        /// The host.
        host: String,
        /// The program.
        program: String,
    },
    /// The command took too long, and was ended.
    #[error("{host}: `{command}` was not done after {}", seconds(.after))]
    Late {
        /// The host.
        host: String,
        /// The program and what it was asked for.
        command: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The connection ended while the command ran.
    #[error("{host}: the SSH connection was lost during `{command}`")]
    Lost {
        /// The host.
        host: String,
        /// The program and what it was asked for.
        command: String,
        /// What the connection says of it.
        #[source]
        source: Option<openssh::Error>,
    },
    /// The command printed more than anybody reads.
    #[error("{host}: `{command}` printed more than {limit} bytes")]
    Flood {
        /// The host.
        host: String,
        /// The program and what it was asked for.
        command: String,
        /// How much is read.
        limit: usize,
    },
    /// What the host answered is not what was asked for.
    #[error("{host}: the answer of `{command}` cannot be read: {why}")]
    Garbled {
        /// The host.
        host: String,
        /// The program and what it was asked for.
        command: String,
        /// What is wrong with it.
        why: String,
    },
    /// Something on this machine.
    #[error("{host}: {step}")]
    Here {
        /// The host it was for.
        host: String,
        /// What was tried.
        step: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No known key of this host.
    UnknownKey,
    /// The host shows another key than the known one.
    ChangedKey,
    /// It does not answer.
    Silent,
    /// It answers, but not here.
    Closed,
    /// Its name is unknown.
    NoName,
    /// It does not let us in.
    Denied,
    /// A jump host on the way does not let it through.
    Jump,
    /// It closes the connection at once.
    Broken,
    /// Something else; `ssh` says what.
    Other,
}

impl Error {
    /// A command that ended with a code other than 0; what it read is not in it.
    pub fn failed(host: &str, argv: &[&str], output: &Output) -> Self {
        let said = if output.stderr.trim().is_empty() {
            output.text()
        } else {
            output.stderr.clone()
        };
        Self::Failed {
            host: host.to_owned(),
            command: command(argv),
            code: output.code,
            said: last(&said, LINES),
        }
    }

    /// An answer that cannot be read.
    pub fn garbled(host: &str, argv: &[&str], why: impl ToString) -> Self {
        Self::Garbled {
            host: host.to_owned(),
            command: command(argv),
            why: why.to_string(),
        }
    }

    /// Whether the host cannot be reached, as opposed to something on it having failed.
    pub fn is_cut_off(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Lost { .. })
    }

    /// The way out, where one is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { host, refusal, .. } => refusal.hint(host),
            Self::Failed { said, .. } => hint_of(said),
            Self::Missing { host, .. } => Some(format!(
                "`sovereign host prepare {host}` installs what a host needs"
            )),
            Self::Late { .. } => Some(
                "the host may be busy or its disk slow; run it again, it takes up where it stopped"
                    .to_owned(),
            ),
            Self::Lost { .. } => {
                Some("run it again once the host answers: it takes up where it stopped".to_owned())
            }
            Self::Flood { .. } | Self::Garbled { .. } | Self::Here { .. } => None,
        }
    }
}

/// What is known of causes by what programs say.
fn hint_of(said: &str) -> Option<String> {
    const KNOWN: [(&str, &str); 4] = [
        (
            "No space left on device",
            "the host's disk is full: `docker system df` there says what images take; `sovereign status` shows disks",
        ),
        (
            "Permission denied",
            "the SSH user has to be root on the host",
        ),
        (
            "Cannot connect to the Docker daemon",
            "start the engine on the host: `systemctl start docker`",
        ),
        (
            "Read-only file system",
            "the host's file system is read-only: its disk may be failing; look at `dmesg` there",
        ),
    ];
    KNOWN
        .iter()
        .find(|(sign, _)| said.contains(sign))
        .map(|(_, hint)| (*hint).to_owned())
}

/// A duration for people.
pub fn seconds(duration: &Duration) -> String {
    match duration.as_secs() {
        whole @ 0..120 => format!("{whole} s"),
        whole => format!("{} min", whole / 60),
    }
}

/// What was said, on lines of its own.
fn also(said: &str) -> String {
    let said = said.trim();
    if said.is_empty() {
        String::new()
    } else {
        format!(": {said}")
    }
}

/// The last lines of a text.
pub(super) fn last(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A command as messages name it: as it would be typed, cut short.
pub(super) fn command(argv: &[&str]) -> String {
    const LONG: usize = 120;
    let whole = argv.join(" ");
    match whole.char_indices().nth(LONG) {
        None => whole,
        Some((end, _)) => format!("{} ...", &whole[..end]),
    }
}

impl Refusal {
    /// What `ssh` means by what it says.
    pub(super) fn of(said: &str) -> Self {
        const SIGNS: [(&str, Refusal); 14] = [
            // First: what was said before it is said of the jump host.
            ("UNKNOWN port 65535", Refusal::Jump),
            (
                "REMOTE HOST IDENTIFICATION HAS CHANGED",
                Refusal::ChangedKey,
            ),
            ("host key is known for", Refusal::UnknownKey),
            ("Host key verification failed", Refusal::UnknownKey),
            ("Permission denied (", Refusal::Denied),
            ("Too many authentication failures", Refusal::Denied),
            ("Could not resolve hostname", Refusal::NoName),
            ("Connection refused", Refusal::Closed),
            ("timed out", Refusal::Silent),
            ("Timeout, server", Refusal::Silent),
            ("No route to host", Refusal::Silent),
            ("Network is unreachable", Refusal::Silent),
            ("Connection reset", Refusal::Broken),
            ("Connection closed", Refusal::Broken),
        ];
        SIGNS
            .iter()
            .find(|(sign, _)| said.contains(sign))
            .map_or(Self::Other, |(_, refusal)| *refusal)
    }

    fn hint(self, host: &str) -> Option<String> {
        Some(match self {
            Self::UnknownKey => format!("`sovereign host add {host}` shows its key and writes it down"),
            Self::ChangedKey => format!(
                "either the host was set up anew, or another machine answers in its place. Compare the fingerprint at \
                 its console (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`); only where it is right: \
                 `sovereign host remove {host} --key`, then `sovereign host add {host}`"
            ),
            Self::Silent => "is it on, and is its address right? The other hosts go on without it".to_owned(),
            Self::Closed => "the host is there and no SSH server answers at this port: is `sshd` running, is the port right?".to_owned(),
            Self::NoName => "check `ssh` of this host in stack.toml, and `Host` in ~/.ssh/config".to_owned(),
            Self::Denied => "the key is not accepted: is it in the agent (`ssh-add -l`), and in authorized_keys on the host?".to_owned(),
            Self::Jump => "try `ssh` to the jump host first: it has to let you in, and its key has to be known, in ~/.ssh/known_hosts".to_owned(),
            Self::Broken | Self::Other => return None,
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownKey => "its host key is not known here",
            Self::ChangedKey => "it shows another host key than the known one",
            Self::Silent => "it does not answer",
            Self::Closed => "it refuses the connection",
            Self::NoName => "its name is not known",
            Self::Denied => "it does not let this user in",
            Self::Jump => "the way over a jump host is closed",
            Self::Broken => "it closed the connection",
            Self::Other => "ssh failed",
        })
    }
}

#[cfg(test)]
mod tests;
