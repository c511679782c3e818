//! One deployment at a time: a lock on the host that is held by an open command, so that it ends with the process
//! that took it. Stands alone because a host that was cut off keeps such a command until it notices: a lock whose
//! holder gives no sign of life is taken over.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Host;
use crate::ssh::{Error, Held, Input, LOOK};

/// What `flock` ends with where somebody else holds the lock.
const BUSY: i32 = 75;
/// The same, as an argument.
const BUSY_WORD: &str = "75";
/// How long, in seconds, whoever takes the lock waits for those who only ask who has it.
const WAIT: &str = "1";
/// How old the last sign of life may be: several beats of a held command, and the time until a cut is noticed.
const SIGN: &str = "-30 seconds";

/// The lock of a host; it is let go when this is dropped.
#[derive(Debug)]
pub struct Lock {
    held: Held,
}

/// What came of asking for the lock.
#[derive(Debug)]
pub enum Locking {
    /// It is ours.
    Ours(Lock),
    /// Somebody has it: who, and since when.
    Theirs(String),
}

impl Lock {
    /// Whether it is still held, as far as is known.
    pub fn holds(&self) -> bool {
        self.held.holds()
    }
}

impl Host {
    /// Takes the lock in this name: `user@machine`.
    pub async fn lock(&self, who: &str) -> Result<Locking, Error> {
        self.run(&["install", "-d", "-m", "0700", "--", self.layout.root()])
            .await?;
        let line = format!("{} since {}", who.replace(char::is_control, " "), now());
        if let Some(held) = self.take(&line).await? {
            return Ok(Locking::Ours(Lock { held }));
        }
        self.let_go_of_the_dead().await?;
        match self.take(&line).await? {
            Some(held) => Ok(Locking::Ours(Lock { held })),
            None => Ok(Locking::Theirs(
                self.holder()
                    .await?
                    .unwrap_or_else(|| "somebody".to_owned()),
            )),
        }
    }

    /// Who holds the lock, and since when; nobody, where it is free or its holder gives no sign of life.
    pub async fn holder(&self) -> Result<Option<String>, Error> {
        let lock = self.layout.lock();
        // `-s` asks without keeping another one out who asks too; who takes it waits for as long as this lasts.
        let code = self
            .remote
            .output(
                &["flock", "-n", "-s", "-E", BUSY_WORD, &lock, "true"],
                Input::nothing(),
                LOOK,
            )
            .await?
            .code;
        if code != BUSY || !self.found(&lock, &["-newermt", SIGN]).await? {
            return Ok(None);
        }
        let output = self
            .remote
            .output(&["head", "-n", "1", "--", &lock], Input::nothing(), LOOK)
            .await?;
        Ok(Some(output.text())
            .filter(|line| !line.is_empty())
            .or_else(|| Some("somebody".to_owned())))
    }

    /// `tee` writes who holds it into the lock, and back to us: then it is ours. It ends when its input does.
    async fn take(&self, line: &str) -> Result<Option<Held>, Error> {
        let lock = self.layout.lock();
        self.remote
            .hold(
                &[
                    "flock", "-w", WAIT, "-E", BUSY_WORD, &lock, "tee", "--", &lock,
                ],
                line,
                BUSY,
            )
            .await
    }

    /// A lock without a sign of life is struck out: whoever still has it open has been cut off.
    async fn let_go_of_the_dead(&self) -> Result<(), Error> {
        self.found(&self.layout.lock(), &["-not", "-newermt", SIGN, "-delete"])
            .await
            .map(drop)
    }

    /// Whether the file is as these conditions say, by the host's own clock.
    async fn found(&self, path: &str, conditions: &[&str]) -> Result<bool, Error> {
        let mut find = vec!["find", path, "-maxdepth", "0"];
        find.extend(conditions);
        find.push("-print");
        let output = self.remote.output(&find, Input::nothing(), LOOK).await?;
        Ok(output.code == 0 && !output.text().is_empty())
    }
}

/// The time of now, to the second.
fn now() -> String {
    let now = OffsetDateTime::now_utc()
        .replace_nanosecond(0)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    now.format(&Rfc3339).unwrap_or_default()
}
