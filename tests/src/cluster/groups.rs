//! The control groups of one machine: the service manager inside makes its own below them, and the engine
//! one for each container. They stand alone because they outlive their processes: whoever makes them has to
//! take them away, and those of a test that was killed fall to the next.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const ROOT: &str = "/sys/fs/cgroup";
/// How the name of each begins; the id of the test's process follows.
const PREFIX: &str = "sovereign-cluster-";

/// One group in each hierarchy; gone with its guard, once nothing runs in it.
#[derive(Debug)]
pub(super) struct Groups {
    folders: Vec<PathBuf>,
}

impl Groups {
    pub(super) fn new(machine: &str, serial: usize) -> Self {
        let hierarchies = hierarchies();
        assert!(
            !hierarchies.is_empty(),
            "no control groups below {ROOT}: the machines of this test cannot be made here"
        );
        let name = format!("{PREFIX}{}-{serial}-{machine}", std::process::id());
        let folders: Vec<_> = hierarchies.iter().map(|base| base.join(&name)).collect();
        // The guard first: it takes away what was made before a failure.
        let groups = Self { folders };
        for (base, folder) in hierarchies.iter().zip(&groups.folders) {
            clear_away(base);
            fs::create_dir(folder).unwrap_or_else(|error| {
                panic!(
                    "no control group at {}: {error}; run the tests as root",
                    folder.display()
                )
            });
            inherit(base, folder, "cpuset.cpus");
            inherit(base, folder, "cpuset.mems");
        }
        groups
    }

    /// A script that enters all of them and becomes the program given as its arguments.
    pub(super) fn script(&self) -> String {
        let enter = |folder: &PathBuf| format!("echo $$ > '{}/cgroup.procs'\n", folder.display());
        let all: String = self.folders.iter().map(enter).collect();
        format!("set -e\n{all}exec \"$@\"")
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        let end = Instant::now() + Duration::from_secs(10);
        for folder in &self.folders {
            while folder.exists() && !remove(folder) && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(20));
            }
            if folder.exists() {
                eprintln!("left behind, as something runs in it: {}", folder.display());
            }
        }
    }
}

/// The folders of the hierarchies: one where version 2 has all controllers; else those of version 1, and
/// version 2 beside them without any.
fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    if root.join("cgroup.controllers").exists() {
        return vec![root.to_owned()];
    }
    let mut found: Vec<_> = fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        // Two controllers of one hierarchy: the names by themselves are links.
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .filter(|path| is_hierarchy(path))
        .collect();
    found.sort();
    found
}

fn is_hierarchy(path: &Path) -> bool {
    let files = ["cgroup.clone_children", "cgroup.controllers"];
    files.iter().any(|file| path.join(file).exists())
}

/// A new group of `cpuset` has neither processors nor memory, and nothing can enter it before it has.
fn inherit(base: &Path, folder: &Path, file: &str) {
    if base.join("cgroup.clone_children").exists()
        && let Ok(value) = fs::read_to_string(base.join(file))
    {
        let _ = fs::write(folder.join(file), value.trim());
    }
}

/// Removes a group with those below it; says whether that worked.
fn remove(folder: &Path) -> bool {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    fs::remove_dir(folder).is_ok()
}

/// Removes the groups of tests whose process is gone.
fn clear_away(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if let Some(process) = process
            && !Path::new("/proc").join(process).exists()
        {
            remove(&entry.path());
        }
    }
}
