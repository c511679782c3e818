//! Files below the state folder: the store of a proxy that stands alone, and what one that shares
//! serves from.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::lease::{Claims, Lease};
use super::lent::Lent;
use super::referee::Referee;
use super::{MOST_BYTES, Store, StoreError, check_name, check_size, is_lent};
use crate::tls::disk;

/// The local files. The state folder is locked by one process, so that a lease needs to hold in
/// this process only.
#[derive(Debug, Clone)]
pub struct Files {
    state: PathBuf,
    lent: Arc<Lent>,
    claims: Claims,
}

impl Files {
    /// Makes the folders where they are missing, and takes away what a write that was cut off left.
    pub async fn open(state: &Path) -> Result<Self, StoreError> {
        let files = Self {
            state: state.into(),
            lent: Arc::default(),
            claims: Claims::default(),
        };
        let state = files.state.clone();
        blocking(&files.state, move || prepare(&state)).await?;
        Ok(files)
    }

    pub(super) fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The names that begin with `prefix`, sorted.
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        // The folder that all of them lie in.
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        check_name(&format!("{folder}/_"))?;
        let (state, folder) = (self.state.clone(), folder.to_owned());
        let mut names = blocking(&self.state, move || {
            let mut names = Vec::new();
            list(&state, &folder, 0, &mut names).map(|()| names)
        })
        .await?;
        names.retain(|name| name.starts_with(prefix));
        names.sort();
        Ok(names)
    }

    fn path(&self, name: &str) -> Result<PathBuf, StoreError> {
        check_name(name)?;
        Ok(self.state.join(name))
    }
}

#[async_trait]
impl Store for Files {
    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(name)?;
        if is_lent(name) {
            return Ok(self.lent.get(name));
        }
        let content = blocking(&self.state, move || read(&path)).await?;
        match content {
            Some(content) if content.len() > MOST_BYTES => {
                Err(StoreError::TooLarge { name: name.into() })
            }
            content => Ok(content),
        }
    }

    async fn write(&self, name: &str, content: &[u8]) -> Result<(), StoreError> {
        let path = self.path(name)?;
        check_size(name, content)?;
        let content = content.to_vec();
        blocking(&self.state, move || write(&path, &content)).await
    }

    async fn remove(&self, name: &str) -> Result<(), StoreError> {
        let path = self.path(name)?;
        if is_lent(name) {
            self.lent.remove(name);
            return Ok(());
        }
        blocking(&self.state, move || remove(&path)).await
    }

    async fn lend(&self, name: &str, content: &[u8], ttl: Duration) -> Result<(), StoreError> {
        check_name(name)?;
        check_size(name, content)?;
        self.lent.put(name, content, ttl)
    }

    async fn lease(&self, name: &str) -> Result<Option<Lease>, StoreError> {
        check_name(&format!("leases/{name}"))?;
        Ok(self.claims.take(name).map(Lease::of))
    }

    async fn catch_up(&self, _name: &str) -> Result<(), StoreError> {
        Ok(())
    }

    async fn changed(&self) {
        std::future::pending().await
    }

    fn trouble(&self) -> Option<String> {
        None
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn judged_by(&self, _: Arc<dyn Referee>) {}
}

/// Off the async threads: files block.
async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(StoreError::Read {
            path: path.into(),
            source: io::Error::other(error),
        })
    })
}

fn prepare(state: &Path) -> Result<(), StoreError> {
    for folder in ["certs/acme", "acme", "acme/accounts"] {
        let folder = state.join(folder);
        make_folder(&folder)?;
        for entry in fs::read_dir(&folder)
            .map_err(unreadable(&folder))?
            .flatten()
        {
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                // Best effort: it is in nobody's way.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let mut content = Vec::new();
    let read = fs::File::open(path)
        .and_then(|file| file.take(MOST_BYTES as u64 + 1).read_to_end(&mut content));
    match read {
        Ok(_) => Ok(Some(content)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(unreadable(path)(error)),
    }
}

fn write(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    // A checked name has a folder and a last part, both UTF-8.
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Err(StoreError::Name {
            name: path.display().to_string(),
        });
    };
    make_folder(folder)?;
    disk::write_private(folder, name, content).map_err(|error| StoreError::Write {
        path: path.into(),
        source: io::Error::other(error),
    })
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if !is_absent(&error) => Err(StoreError::Write {
            path: path.into(),
            source: error,
        }),
        _ => Ok(()),
    }
}

/// What lies in a folder and those below it, by name.
fn list(
    state: &Path,
    folder: &str,
    depth: usize,
    names: &mut Vec<String>,
) -> Result<(), StoreError> {
    let path = state.join(folder);
    let entries = match fs::read_dir(&path) {
        Err(error) if is_absent(&error) => return Ok(()),
        entries => entries.map_err(unreadable(&path))?,
    };
    for entry in entries {
        let entry = entry.map_err(unreadable(&path))?;
        let Some(name) = entry.file_name().to_str().map(|n| format!("{folder}/{n}")) else {
            continue;
        };
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if check_name(&name).is_err() || names.len() >= MOST_NAMES {
            continue;
        }
        match is_folder {
            true if depth < DEEPEST => list(state, &name, depth + 1, names)?,
            true => {}
            false => names.push(name),
        }
    }
    Ok(())
}

fn make_folder(path: &Path) -> Result<(), StoreError> {
    disk::make_private_folder(path).map_err(|error| StoreError::Write {
        path: path.into(),
        source: io::Error::other(error),
    })
}

/// Nothing is there, nor can be: a part of the path is a file.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Read {
        path: path.into(),
        source,
    }
}

const DEEPEST: usize = 4;
const MOST_NAMES: usize = 100_000;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    async fn opened() -> (tempfile::TempDir, Files) {
        let state = tempfile::tempdir().expect("a folder");
        let files = Files::open(state.path()).await.expect("opens");
        (state, files)
    }

    #[tokio::test]
    async fn what_is_written_is_read_by_its_owner_alone() {
        let (state, files) = opened().await;
        let name = "certs/acme/www.example.org.pem";
        assert_eq!(files.read(name).await.expect("read"), None);
        for content in [&b"one"[..], b"two", b""] {
            files.write(name, content).await.expect("written");
            assert_eq!(
                files.read(name).await.expect("read").as_deref(),
                Some(content)
            );
        }
        files
            .write("acme/accounts/a.json", b"{}")
            .await
            .expect("written");
        for (path, wanted) in [
            (name, 0o600),
            ("certs/acme", 0o700),
            ("certs", 0o700),
            ("acme/accounts", 0o700),
        ] {
            let metadata = std::fs::metadata(state.path().join(path)).expect("it is there");
            assert_eq!(metadata.permissions().mode() & 0o777, wanted, "{path}");
        }
        files.remove(name).await.expect("removed");
        files.remove(name).await.expect("nothing to remove");
        assert_eq!(files.read(name).await.expect("read"), None);
    }

    #[tokio::test]
    async fn names_cannot_lead_out() {
        let (_state, files) = opened().await;
        let long = format!("certs/{}", "a".repeat(240));
        for name in [
            "",
            "/",
            "certs",
            "/etc/passwd",
            "certs/",
            "certs//a",
            "certs/../a",
            "certs/./a",
            "../a",
            "certs/.a",
            "certs/a\0",
            "certs/a\nb",
            "certs/a b",
            "certs/é",
            "certs\\..\\a",
            long.as_str(),
        ] {
            let refused =
                |done: Result<(), StoreError>| matches!(done, Err(StoreError::Name { .. }));
            assert!(refused(files.read(name).await.map(drop)), "{name:?}");
            assert!(refused(files.write(name, b"").await), "{name:?}");
            assert!(refused(files.remove(name).await), "{name:?}");
            assert!(
                refused(files.lend(name, b"", Duration::MAX).await),
                "{name:?}"
            );
        }
        assert!(files.list("certs/../").await.is_err());
        assert!(files.lease("../a").await.is_err());
    }

    #[tokio::test]
    async fn values_are_bounded() {
        let (state, files) = opened().await;
        let large = vec![0; MOST_BYTES + 1];
        let too_large =
            |done: Result<(), StoreError>| matches!(done, Err(StoreError::TooLarge { .. }));
        assert!(too_large(files.write("certs/a", &large).await));
        assert!(too_large(
            files.lend("challenges/a", &large, Duration::MAX).await
        ));
        std::fs::write(state.path().join("certs/a"), &large).expect("written");
        assert!(too_large(files.read("certs/a").await.map(drop)));
        files
            .write("certs/a", &large[1..])
            .await
            .expect("it has room");
        assert_eq!(
            files
                .read("certs/a")
                .await
                .expect("read")
                .map(|read| read.len()),
            Some(MOST_BYTES)
        );
    }

    #[tokio::test]
    async fn lists_are_sorted_and_leave_out_what_is_not_whole() {
        let (state, files) = opened().await;
        for name in [
            "certs/acme/b.pem",
            "certs/acme/a.pem",
            "certs/z.pem",
            "acme/c.json",
        ] {
            files.write(name, b"").await.expect("written");
        }
        let halves = ["certs/acme/.a.pem-x1", "acme/.history.json-x1"];
        let halves = halves.map(|half| state.path().join(half));
        for half in &halves {
            std::fs::write(half, "half").expect("written");
        }
        let all = ["certs/acme/a.pem", "certs/acme/b.pem", "certs/z.pem"];
        assert_eq!(files.list("certs/").await.expect("listed"), all);
        assert_eq!(files.list("certs/acme/a").await.expect("listed"), all[..1]);
        assert!(files.list("certs/none/").await.expect("listed").is_empty());
        // A write that was cut off is cleared away at the next start.
        Files::open(state.path()).await.expect("opens");
        assert!(!halves.iter().any(|half| half.exists()));
        assert_eq!(files.list("certs/").await.expect("listed"), all);
    }

    #[tokio::test]
    async fn a_lease_has_one_holder() {
        let (_state, files) = opened().await;
        let held = files.lease("www").await.expect("asked").expect("free");
        assert!(files.lease("www").await.expect("asked").is_none());
        assert!(files.lease("other").await.expect("asked").is_some());
        drop(held);
        assert!(files.lease("www").await.expect("asked").is_some());
    }

    #[tokio::test]
    async fn errors_name_the_file() {
        let (state, files) = opened().await;
        std::fs::create_dir_all(state.path().join("certs/acme/a.pem")).expect("made");
        let error = files.read("certs/acme/a.pem").await.expect_err("a folder");
        assert!(error.to_string().contains("certs/acme/a.pem"), "{error}");
        assert!(files.write("certs/acme/a.pem", b"").await.is_err());
        files.write("certs/file", b"").await.expect("written");
        assert_eq!(files.read("certs/file/below").await.expect("read"), None);
        assert!(files.write("certs/file/below", b"").await.is_err());
    }
}
