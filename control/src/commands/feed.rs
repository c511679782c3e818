//! `sovereign feed`: looks at everything, and writes what needs attention where the operator's reader and calendar find
//! it.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use time::OffsetDateTime;

use crate::args::{Feed, Which};
use crate::context::{Context, Outcome, waiting};
use crate::feed::{self, Memory};
use crate::replace::{OPEN, replace};
use crate::status::{Status, Survey};

/// Runs it.
pub async fn run(args: &Feed, ctx: &Context) -> Result<Outcome, anyhow::Error> {
    let survey = Survey::of(ctx, &Which::default()).await?;
    let status = {
        let _task = ctx.printer.task("looking at the hosts");
        let looks = survey.look(ctx.access().clone()).await;
        survey.status(&looks, OffsetDateTime::now_utc())
    };
    let told = status.attention.len();
    let (atom, ics) = (args.atom.clone(), args.ics.clone());
    let written = waiting(move || write(&status, atom.as_deref(), ics.as_deref())).await?;
    let things = if told == 1 { "thing" } else { "things" };
    for path in written {
        ctx.printer
            .say(&format!("{told} {things} in {}", path.display()));
    }
    Ok(Outcome::Done)
}

/// Writes both files, where they are wanted, with what those of before remember.
fn write(status: &Status, atom: Option<&Path>, ics: Option<&Path>) -> anyhow::Result<Vec<PathBuf>> {
    let before = |path: Option<&Path>| path.map(read).transpose().map(Option::flatten);
    let (old_atom, old_ics) = (before(atom)?, before(ics)?);
    let memory = Memory::read(old_atom.as_deref(), old_ics.as_deref());
    let now = OffsetDateTime::now_utc();
    let entries = feed::entries(status, &memory, now);
    let mut written = Vec::new();
    if let Some(path) = atom {
        put(path, &feed::atom(&status.stack, &entries, &memory, now))?;
        written.push(path.to_owned());
    }
    if let Some(path) = ics {
        put(path, &feed::calendar(&status.stack, &entries))?;
        written.push(path.to_owned());
    }
    Ok(written)
}

fn read(path: &Path) -> anyhow::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read
            .map(Some)
            .with_context(|| format!("reading {}", path.display())),
    }
}

/// A reader never sees half of it.
fn put(path: &Path, text: &str) -> anyhow::Result<()> {
    replace(path, text.as_bytes(), OPEN).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_written_anew_only_in_what_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (atom, ics) = (folder.path().join("a.xml"), folder.path().join("a.ics"));
        let status = Status {
            stack: "example".to_owned(),
            at: String::new(),
            hosts: Vec::new(),
            services: Vec::new(),
            attention: Vec::new(),
        };
        assert_eq!(
            write(&status, Some(&atom), Some(&ics)).unwrap(),
            [atom.clone(), ics.clone()]
        );
        let before = std::fs::read_to_string(&atom).unwrap();
        write(&status, Some(&atom), None).unwrap();
        assert_eq!(std::fs::read_to_string(&atom).unwrap(), before);
        let nowhere = folder.path().join("none/a.xml");
        let text = format!("{:#}", write(&status, Some(&nowhere), None).unwrap_err());
        assert!(
            text.starts_with(&format!("writing {}", nowhere.display())),
            "{text}"
        );
    }
}
