//! Files of a revision: placed so that a cut-off leaves nothing half, and read back. Stands alone because a tar stream
//! is how they travel, both ways.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::time::Duration;

use tar::{Archive, Builder, EntryType, Header};
use time::OffsetDateTime;

use super::{Host, Whose};
use crate::desired::{File, Files, Revision};
use crate::ssh::{Error, Input, LOOK};

/// How long placing or reading files may take.
const TRAVEL: Duration = Duration::from_secs(300);
/// Up to how many files are brought to the disk one by one; more of them by writing out the whole file system.
const ONE_BY_ONE: usize = 64;
/// The folder whose files are shown to nobody.
const SECRETS: &str = "secrets/";

impl Host {
    /// Places the files of a revision. Until the last file is written and on the disk, nothing of it can be seen at
    /// its place.
    pub async fn place(
        &self,
        whose: &Whose,
        revision: &Revision,
        files: &Files,
    ) -> Result<(), Error> {
        let home = self.layout.home(whose);
        let at = self.layout.revision(whose, revision);
        let (new, old) = (
            format!("{home}/.{revision}.new"),
            format!("{home}/.{revision}.old"),
        );
        self.run(&["rm", "-rf", "--", &new, &old]).await?;
        // Not `install -d`, which does not say that a disk is full.
        let root = self.layout.root();
        self.run(&["mkdir", "-p", "-m", "0700", "--", root, &home, &new])
            .await?;
        self.unpack(&new, files).await?;
        if self
            .remote
            .output(&["test", "-e", &at], Input::nothing(), LOOK)
            .await?
            .code
            == 0
        {
            self.run(&["mv", "-T", "--", &at, &old]).await?;
        }
        self.run(&["mv", "-T", "--", &new, &at]).await?;
        self.run(&["rm", "-rf", "--", &old]).await
    }

    async fn unpack(&self, into: &str, files: &Files) -> Result<(), Error> {
        let name = self.remote.name();
        let here = |source| Error::Here {
            host: name.to_owned(),
            step: "packing the files".to_owned(),
            source,
        };
        let packed = pack(files).map_err(here)?;
        let argv = ["tar", "-x", "-p", "--no-same-owner", "-f", "-", "-C", into];
        self.remote
            .run(&argv, Input::bytes(&packed), TRAVEL)
            .await?;
        let paths: Vec<String> = files.keys().map(|path| format!("{into}/{path}")).collect();
        let mut argv = vec!["sync"];
        match paths.len() {
            0..=ONE_BY_ONE => argv.extend(paths.iter().map(String::as_str)),
            _ => argv.extend(["-f", into]),
        }
        self.remote
            .run(&argv, Input::nothing(), TRAVEL)
            .await
            .map(drop)
    }

    /// Reads these files and folders, relative to the root.
    pub(super) async fn fetch(&self, paths: &[String]) -> Result<Files, Error> {
        if paths.is_empty() {
            return Ok(Files::new());
        }
        let mut argv = vec!["tar", "-c", "-f", "-", "-C", self.layout.root(), "--"];
        argv.extend(paths.iter().map(String::as_str));
        let output = self.remote.run(&argv, Input::nothing(), TRAVEL).await?;
        unpack(&output.stdout).map_err(|error| Error::garbled(self.remote.name(), &argv, error))
    }

    /// Takes the files of a revision out of what was fetched.
    pub(super) fn of_folder(
        &self,
        fetched: &mut Files,
        whose: &Whose,
        revision: Option<&Revision>,
    ) -> Files {
        let Some(revision) = revision else {
            return Files::new();
        };
        let folder = format!("{}/", self.relative(&self.layout.revision(whose, revision)));
        let inside = fetched
            .iter()
            .filter_map(|(path, file)| Some((path.strip_prefix(&folder)?, file)));
        inside
            .map(|(path, file)| {
                (
                    path.to_owned(),
                    File {
                        secret: path.starts_with(SECRETS),
                        ..file.clone()
                    },
                )
            })
            .collect()
    }

    pub(super) fn relative(&self, path: &str) -> String {
        path.strip_prefix(self.layout.root())
            .unwrap_or(path)
            .trim_start_matches('/')
            .to_owned()
    }
}

/// Files as a tar stream, owned by root; the same files always give the same bytes.
fn pack(files: &Files) -> io::Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    for folder in folders(files) {
        let mode = if format!("{folder}/").starts_with(SECRETS) {
            0o700
        } else {
            0o755
        };
        archive.append_data(
            &mut header(EntryType::Directory, mode, 0),
            format!("{folder}/"),
            io::empty(),
        )?;
    }
    for (path, file) in files {
        let mut header = header(EntryType::Regular, file.mode, file.content.len());
        archive.append_data(&mut header, path, file.content.as_slice())?;
    }
    archive.into_inner()
}

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_uid(0);
    header.set_gid(0);
    // What serves files tells versions of one apart by its time, and by its size at most.
    header.set_mtime(
        OffsetDateTime::now_utc()
            .unix_timestamp()
            .try_into()
            .unwrap_or(0),
    );
    header
}

/// The folders that files lie in, outer ones first.
fn folders(files: &Files) -> BTreeSet<String> {
    let ends = files.keys().flat_map(|path| {
        path.match_indices('/')
            .map(|(end, _)| path[..end].to_owned())
    });
    ends.collect()
}

/// The files in a tar stream; what is no file is left out.
fn unpack(stream: &[u8]) -> io::Result<Files> {
    let mut files = BTreeMap::new();
    for entry in Archive::new(stream).entries()? {
        let mut entry = entry?;
        if entry.header().entry_type() != EntryType::Regular {
            continue;
        }
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mode = entry.header().mode()? & 0o7777;
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        files.insert(
            path,
            File {
                mode,
                content,
                secret: false,
            },
        );
    }
    Ok(files)
}
