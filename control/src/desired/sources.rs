//! What is read from this machine before anything is rendered: the folder of a static site, the Compose file of a
//! custom service, the files that proxies are told of. Stands alone because rendering is a pure function, and this is where its input comes from.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use sovereign_config::stack::model::{Service, Stack, Value};

use super::{File, Files, custom, named};

/// The option that names a folder of this machine, beside `stack.toml`.
pub(super) const FOLDER: &str = "folder";
/// Below it lies what such a folder holds.
const PLACE: &str = "files";
/// How many files a service may bring along, and how many bytes.
const MOST_FILES: usize = 10_000;
const MOST_BYTES: u64 = 64 << 20;

/// Files of this machine.
#[derive(Clone, Default, PartialEq)]
pub struct Sources {
    /// By the service that brings them along.
    brought: BTreeMap<String, Files>,
    /// By the name that `stack.toml` has for them.
    named: BTreeMap<String, Vec<u8>>,
}

/// Why they could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The system says no.
    #[error("{service}: reading {}", path.display())]
    Read {
        /// The service, or `stack.toml`.
        service: String,
        /// What was to be read.
        path: PathBuf,
        /// Why it was not.
        source: io::Error,
    },
    /// More than is sent with every deployment.
    #[error("{service}: {} holds more than {MOST_FILES} files or 64 MiB", path.display())]
    TooMuch {
        /// The service.
        service: String,
        /// The folder.
        path: PathBuf,
    },
    /// A name that is not UTF-8, or a link, which may lead anywhere.
    #[error("{service}: {} is neither a file nor a folder", path.display())]
    Strange {
        /// The service.
        service: String,
        /// What it is about.
        path: PathBuf,
    },
}

impl Sources {
    /// Reads what the services of a stack bring along, and what it names for its proxies. Relative paths count from `base`, the folder of `stack.toml`.
    pub fn read(stack: &Stack, base: &Path) -> Result<Self, SourceError> {
        let mut sources = Self::default();
        for service in &stack.services {
            if let Some(files) = files_of(service, base)? {
                sources.brought.insert(service.name.clone(), files);
            }
        }
        for name in named::of_stack(stack) {
            let path = base.join(&name);
            let content =
                std::fs::read(&path).map_err(|source| unread("stack.toml", &path, source))?;
            sources.named.insert(name, content);
        }
        Ok(sources)
    }

    /// These files for this service.
    pub fn with(mut self, service: &str, files: Files) -> Self {
        self.brought.insert(service.to_owned(), files);
        self
    }

    /// This file under this name.
    pub fn with_named(mut self, name: &str, content: Vec<u8>) -> Self {
        self.named.insert(name.to_owned(), content);
        self
    }

    /// What a service brings along.
    pub fn of(&self, service: &str) -> Option<&Files> {
        self.brought.get(service)
    }

    /// A file that `stack.toml` names for its proxies.
    pub fn named(&self, name: &str) -> Option<&[u8]> {
        self.named.get(name).map(Vec::as_slice)
    }

    /// The images of a custom service, by tag, as its Compose file names them.
    pub fn images(&self, service: &str) -> Vec<String> {
        let file = self
            .of(service)
            .and_then(|files| files.get(custom::OPERATOR));
        file.map_or_else(Vec::new, |file| {
            custom::images(&String::from_utf8_lossy(&file.content))
        })
    }

    /// The TCP ports that a custom service publishes on all addresses of its host.
    pub fn published(&self, service: &str) -> Vec<u16> {
        let file = self
            .of(service)
            .and_then(|files| files.get(custom::OPERATOR));
        file.map_or_else(Vec::new, |file| {
            custom::published(&String::from_utf8_lossy(&file.content))
        })
    }
}

fn files_of(service: &Service, base: &Path) -> Result<Option<Files>, SourceError> {
    if let Some(path) = &service.compose {
        let content = std::fs::read(path).map_err(|source| unread(&service.name, path, source))?;
        return Ok(Some(Files::from([(
            custom::OPERATOR.to_owned(),
            File::plain(content),
        )])));
    }
    match service.options.get(FOLDER) {
        Some(Value::Text(folder)) if !folder.is_empty() => {
            let mut reading = Reading::new(service, base.join(folder));
            reading.folder(&reading.root.clone(), PLACE)?;
            Ok(Some(reading.files))
        }
        _ => Ok(None),
    }
}

/// A folder that is being read.
struct Reading<'s> {
    service: &'s Service,
    root: PathBuf,
    files: Files,
    bytes: u64,
}

impl<'s> Reading<'s> {
    fn new(service: &'s Service, root: PathBuf) -> Self {
        let files = Files::new();
        Self {
            service,
            root,
            files,
            bytes: 0,
        }
    }

    fn folder(&mut self, folder: &Path, place: &str) -> Result<(), SourceError> {
        let service = self.service;
        let entries =
            std::fs::read_dir(folder).map_err(|source| unread(&service.name, folder, source))?;
        for entry in entries {
            let entry = entry.map_err(|source| unread(&service.name, folder, source))?;
            let path = entry.path();
            let kind = entry
                .file_type()
                .map_err(|source| unread(&service.name, &path, source))?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|_| kind.is_dir() || kind.is_file()) else {
                return Err(SourceError::Strange {
                    service: service.name.clone(),
                    path,
                });
            };
            let place = format!("{place}/{name}");
            match kind.is_dir() {
                true if name == ".git" => {}
                true => self.folder(&path, &place)?,
                false => self.file(&path, place)?,
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, place: String) -> Result<(), SourceError> {
        let service = self.service;
        let size = std::fs::metadata(path)
            .map_err(|source| unread(&service.name, path, source))?
            .len();
        self.bytes += size;
        if self.bytes > MOST_BYTES || self.files.len() >= MOST_FILES {
            return Err(SourceError::TooMuch {
                service: service.name.clone(),
                path: self.root.clone(),
            });
        }
        let content = std::fs::read(path).map_err(|source| unread(&service.name, path, source))?;
        self.files.insert(place, File::plain(content));
        Ok(())
    }
}

fn unread(service: &str, path: &Path, source: io::Error) -> SourceError {
    SourceError::Read {
        service: service.to_owned(),
        path: path.to_owned(),
        source,
    }
}
