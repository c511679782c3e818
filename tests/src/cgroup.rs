//! A bound on memory that the kernel keeps: a control group of the test's own, for one daemon.
//!
//! Both versions of the interface are known, since machines differ. Making a group takes root; where
//! it cannot be made the test fails and says so.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A control group with a bound on memory; it goes with its guard, and what still runs in it is killed.
#[derive(Debug)]
pub struct MemoryGroup {
    folder: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl MemoryGroup {
    /// A group whose processes may take `limit` bytes together, page cache and kernel buffers included.
    pub fn new(limit: u64) -> Self {
        static SERIAL: AtomicUsize = AtomicUsize::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{serial}", std::process::id());
        let (base, version) = base().unwrap_or_else(|| {
            panic!(
                "no control group for memory can be made here: neither {ONE} nor {TWO} is there with the memory \
                 controller; run the tests as root on a machine that has one"
            )
        });
        clear_away(&base);
        let folder = base.join(name);
        fs::create_dir(&folder).unwrap_or_else(|error| {
            panic!(
                "no control group at {}: {error}; run the tests as root",
                folder.display()
            )
        });
        let group = Self { folder, version };
        match version {
            Version::One => group.write("memory.limit_in_bytes", &limit.to_string()),
            Version::Two => {
                group.write("memory.max", &limit.to_string());
                // Else memory would only move to where it is not counted.
                let _ = fs::write(group.folder.join("memory.swap.max"), "0");
            }
        }
        group
    }

    /// What goes before a command line so that the program runs in the group from its first moment.
    pub fn launcher(&self) -> Vec<OsString> {
        let enter = format!("echo $$ > '{}/cgroup.procs'", self.folder.display());
        ["sh", "-c", &format!("{enter} && exec \"$@\""), "sh"]
            .map(OsString::from)
            .to_vec()
    }

    /// The bytes that processes hold by themselves now, without the page cache, which the kernel takes
    /// back whenever it likes.
    pub fn held(&self) -> u64 {
        let name = match self.version {
            Version::One => "rss",
            Version::Two => "anon",
        };
        let text = self.read("memory.stat");
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
            .unwrap_or_else(|| panic!("memory.stat has no {name}: {text}"))
    }

    /// How often the kernel has killed a process for want of memory.
    pub fn killed(&self) -> u64 {
        let file = match self.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        let text = self.read(file);
        text.lines()
            .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
            .unwrap_or_else(|| panic!("{file} has no oom_kill: {text}"))
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.folder.join(file);
        fs::write(&path, text)
            .unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()));
    }

    fn read(&self, file: &str) -> String {
        let path = self.folder.join(file);
        fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()))
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Its own processes first: the folder cannot go while one is there.
        for _ in 0..100 {
            let running = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
            for pid in running.lines().filter_map(|line| line.parse().ok()) {
                if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        eprintln!("a control group is left behind: {}", self.folder.display());
    }
}

/// How the name of a group begins; the id of its process follows.
const PREFIX: &str = "sovereign-test-";

/// Removes groups whose process is gone: one that was killed could not do it.
fn clear_away(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name
            .strip_prefix(PREFIX)
            .and_then(|name| name.split('-').next());
        if let Some(process) = process
            && !Path::new("/proc").join(process).exists()
        {
            // Where something still runs in it, it stays.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

const ONE: &str = "/sys/fs/cgroup/memory";
const TWO: &str = "/sys/fs/cgroup";

fn base() -> Option<(PathBuf, Version)> {
    if Path::new(ONE).join("memory.limit_in_bytes").exists()
        || Path::new(ONE).join("memory.usage_in_bytes").exists()
    {
        return Some((ONE.into(), Version::One));
    }
    let controllers = fs::read_to_string(Path::new(TWO).join("cgroup.controllers")).ok()?;
    if !controllers.split_whitespace().any(|name| name == "memory") {
        return None;
    }
    // Where it is switched on already this changes nothing.
    let _ = fs::write(Path::new(TWO).join("cgroup.subtree_control"), "+memory");
    Some((TWO.into(), Version::Two))
}
