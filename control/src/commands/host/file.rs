//! `stack.toml`, changed: a host is added or taken out, and everything else stays as the operator wrote it, comments
//! too. The text that comes of it is checked before it is written.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sovereign_config::stack::{self, catalogue::Catalogue, model::Stack};
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use crate::failure::Wrong;
use crate::replace::replace;

/// A file that is changed.
#[derive(Debug)]
pub(super) struct StackFile {
    path: PathBuf,
    document: DocumentMut,
}

/// A host that is added.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewHost<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// Its data centre.
    pub(super) datacentre: &'a str,
    /// Where SSH finds it.
    pub(super) ssh: &'a str,
    /// Where other hosts reach its proxy, where that is another place.
    pub(super) address: Option<&'a str>,
}

impl StackFile {
    /// Reads the file.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text = format!("there is no {}", path.display());
                return Err(Wrong::new(text, "`sovereign init` writes one to start from").into());
            }
            read => read.with_context(|| format!("reading {}", path.display()))?,
        };
        let document = text
            .parse()
            .with_context(|| format!("reading {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            document,
        })
    }

    /// The name of the primary data centre, where there is one.
    pub(super) fn primary(&self) -> Option<&str> {
        let centres = self.document.get("datacentre")?.as_array_of_tables()?;
        let primary = centres
            .iter()
            .find(|centre| text(centre, "role") == Some("primary"))?;
        text(primary, "name")
    }

    /// Where SSH finds the host of this name.
    pub(super) fn destination(&self, name: &str) -> Option<&str> {
        let hosts = self.document.get("host")?.as_array_of_tables()?;
        text(
            hosts.iter().find(|host| text(host, "name") == Some(name))?,
            "ssh",
        )
    }

    /// Adds a host, after the last one.
    pub(super) fn add(&mut self, host: NewHost<'_>) -> anyhow::Result<()> {
        let mut table = Table::new();
        table.decor_mut().set_prefix("\n");
        for (key, text) in [
            ("name", host.name),
            ("datacentre", host.datacentre),
            ("ssh", host.ssh),
        ] {
            table.insert(key, value(text));
        }
        if let Some(address) = host.address {
            table.insert("address", value(address));
        }
        // A table without a position stands after the one before it; one that is the first, at the end.
        let hosts = self
            .document
            .entry("host")
            .or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
        let hosts = hosts.as_array_of_tables_mut();
        let hosts = hosts.with_context(|| {
            format!("{}: `host` is not written as [[host]]", self.path.display())
        })?;
        hosts.push(table);
        Ok(())
    }

    /// Takes a host out; whether it was there.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let Some(hosts) = self
            .document
            .get_mut("host")
            .and_then(Item::as_array_of_tables_mut)
        else {
            return false;
        };
        let before = hosts.len();
        hosts.retain(|host| text(host, "name") != Some(name));
        hosts.len() < before
    }

    /// The stack that the changed text makes; every problem of it, where it makes none.
    pub(super) fn check(&self, kinds: &Catalogue) -> anyhow::Result<Stack> {
        let base = self.path.parent().unwrap_or(Path::new(""));
        let name = self.path.display().to_string();
        Ok(stack::parse(
            &name,
            &self.document.to_string(),
            base,
            kinds,
        )?)
    }

    /// Writes it, all or nothing, with the mode it had.
    pub(super) fn write(&self) -> anyhow::Result<()> {
        let written = || -> io::Result<()> {
            let mode = std::fs::metadata(&self.path)?.permissions().mode() & 0o777;
            replace(&self.path, self.document.to_string().as_bytes(), mode)
        };
        written().with_context(|| format!("writing {}", self.path.display()))
    }
}

fn text<'t>(table: &'t Table, key: &str) -> Option<&'t str> {
    table.get(key)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STACK: &str = "\
# Ours.
[stack]
name = \"example\" # short

[[datacentre]]
name = \"home\"
role = \"primary\"

# The one in the cellar.
[[host]]
name = \"h1\" # old
datacentre = \"home\"
ssh = \"root@192.0.2.1\"

[[site]]
names = [\"www.example.org\"]

[[site.service]]
use = \"static\"
options = { folder = \"site\" }
# The end.
";

    fn file(text: &str) -> StackFile {
        StackFile {
            path: "stack.toml".into(),
            document: text.parse().unwrap(),
        }
    }

    #[test]
    fn a_host_is_added_after_the_last_one_and_comments_stay() {
        let mut changed = file(STACK);
        assert_eq!(
            (changed.primary(), changed.destination("h1")),
            (Some("home"), Some("root@192.0.2.1"))
        );
        changed
            .add(NewHost {
                name: "h2",
                datacentre: "home",
                ssh: "root@192.0.2.2:2222",
                address: Some("h2.example"),
            })
            .unwrap();
        let host = "\n[[host]]\nname = \"h2\"\ndatacentre = \"home\"\nssh = \"root@192.0.2.2:2222\"\naddress = \"h2.example\"\n";
        let expected = STACK.replace("\n[[site]]", &format!("{host}\n[[site]]"));
        assert_eq!(changed.document.to_string(), expected);
        assert!(changed.remove("h2") && !changed.remove("h3"));
        assert_eq!(changed.document.to_string(), STACK);
    }

    #[test]
    fn the_first_host_stands_at_the_end() {
        let mut changed = file("[[datacentre]]\nname = \"home\"\nrole = \"primary\"\n");
        changed
            .add(NewHost {
                name: "h1",
                datacentre: "home",
                ssh: "h1",
                address: None,
            })
            .unwrap();
        assert!(
            changed
                .document
                .to_string()
                .ends_with("\n[[host]]\nname = \"h1\"\ndatacentre = \"home\"\nssh = \"h1\"\n")
        );
        assert!(changed.check(&Catalogue::new()).is_ok());
        assert!(changed.remove("h1"));
        assert!(changed.check(&Catalogue::new()).is_err());
    }

    #[test]
    fn it_is_written_with_the_mode_it_had() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stack.toml");
        std::fs::write(&path, STACK).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let mut file = StackFile::read(&path).unwrap();
        file.remove("h1");
        file.write().unwrap();
        assert!(!std::fs::read_to_string(&path).unwrap().contains("h1"));
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o640
        );
        assert!(StackFile::read(&folder.path().join("other.toml")).is_err());
    }
}
