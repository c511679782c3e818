//! File systems that only one daemon sees: small, read-only, frozen, as a bad day needs them.
//!
//! They live in a mount namespace of the test's own, which a process holds open: a daemon that is
//! killed finds them again. Making one takes root; where it cannot be made the test fails and says so.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::lab::{Lab, system_program};
use crate::process::Process;
use crate::wait::eventually;

/// A mount namespace; its mounts go with its guard.
#[derive(Debug)]
pub struct Mounts {
    holder: Process,
}

impl Mounts {
    /// A namespace that sees what everybody sees.
    pub async fn open(lab: &Lab) -> Self {
        let holder = Process::start(lab, "mounts", system_program("unshare"), |command| {
            command.args(["--mount", "--"]);
            command.args(["sh", "-c", "echo open; exec sleep infinity"]);
        });
        let mut mounts = Self { holder };
        eventually("a mount namespace", Duration::from_secs(10), || {
            mounts.holder.assert_running();
            let said = std::fs::read_to_string(mounts.holder.stdout()).unwrap_or_default();
            std::future::ready(if said.contains("open") {
                Ok(())
            } else {
                Err("unshare has not opened one; run the tests as root")
            })
        })
        .await;
        mounts
    }

    /// What goes before a command line so that the program sees the mounts.
    pub fn launcher(&self) -> Vec<OsString> {
        let pid = self.holder.id().as_raw_nonzero().to_string();
        let nsenter = system_program("nsenter").into_os_string();
        [nsenter, "-t".into(), pid.into(), "-m".into(), "--".into()].to_vec()
    }

    /// Where the test finds a path of the namespace.
    pub fn inside(&self, path: &Path) -> PathBuf {
        let pid = self.holder.id().as_raw_nonzero();
        let below = path.strip_prefix("/").unwrap_or(path);
        Path::new(&format!("/proc/{pid}/root")).join(below)
    }

    /// Mounts an empty file system of `size` bytes, in memory, over a folder.
    pub fn tmpfs(&self, folder: &Path, size: u64) {
        let size = format!("size={size},mode=0700");
        self.run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs"], &[folder]);
    }

    /// Mounts an empty file system of `size` bytes, in `image`, over a folder: one that can be frozen.
    pub fn ext4(&self, image: &Path, folder: &Path, size: u64) {
        std::fs::File::create(image)
            .and_then(|file| file.set_len(size))
            .unwrap_or_else(|error| panic!("no image at {}: {error}", image.display()));
        self.run("mkfs.ext4", &["-q"], &[image]);
        self.run("mount", &["-o", "loop"], &[image, folder]);
    }

    /// Runs a command that has to succeed inside: options, then paths.
    pub fn run(&self, program: &str, options: &[&str], paths: &[&Path]) {
        let launcher = self.launcher();
        let output = Command::new(&launcher[0])
            .args(&launcher[1..])
            .arg(system_program(program))
            .args(options)
            .args(paths)
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("{program} does not start: {error}"));
        assert!(
            output.status.success(),
            "{program} {options:?} {paths:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Freezes the file system of a folder for `time`: whoever writes to it waits until that is over.
    pub fn freeze(&self, folder: &Path, time: Duration) -> Frozen {
        let launcher = self.launcher();
        let script = format!(
            "fsfreeze -f \"$1\" && echo frozen && sleep {}; fsfreeze -u \"$1\"",
            time.as_secs_f32()
        );
        // Not tied to the test as other processes are: what waits for a frozen file system cannot even
        // be killed, so it thaws whatever becomes of us.
        let mut thawing = Command::new(&launcher[0])
            .args(&launcher[1..])
            .args(["sh", "-c", &script, "sh"])
            .arg(folder)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("fsfreeze does not start: {error}"));
        let mut said = String::new();
        if let Some(output) = thawing.stdout.take() {
            let _ = BufReader::new(output).read_line(&mut said);
        }
        assert_eq!(
            said.trim(),
            "frozen",
            "{} cannot be frozen",
            folder.display()
        );
        Frozen(thawing)
    }
}

/// A file system that is frozen for a while; its guard waits until it is not.
#[derive(Debug)]
pub struct Frozen(Child);

impl Frozen {
    /// Whether it still is.
    pub fn still(&mut self) -> bool {
        self.0
            .try_wait()
            .expect("a child can be waited for")
            .is_none()
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = self.0.wait();
    }
}
