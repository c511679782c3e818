//! One machine: a Debian with a service manager, a shell to reach it by and an engine, in namespaces and
//! control groups of its own. It ends with its guard, and with the test's process, however that ends.

use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::groups::Groups;
use super::lan::Lan;
use crate::lab::{Lab, component, system_program};
use crate::process::Process;
use crate::wait::{eventually, within};

/// A machine that has booted.
#[derive(Debug)]
pub struct Machine {
    name: String,
    address: Ipv4Addr,
    journal: PathBuf,
    /// Its first process, as it is known outside.
    pid: i32,
    process: Process,
    // After the process: they can only go when nothing runs in them.
    _groups: Groups,
}

/// What is on a machine when it boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// What a host of a stack has: an engine with Compose.
    Host,
    /// The same, and its engine has every image of `Image::of`, as long as it is not started again: at its end it
    /// lets go of everything that is mounted where its layers are.
    Stocked,
    /// What a hoster delivers: a shell. Packages that it lacks are in `/srv/packages`, where its apt finds them.
    Bare,
}

/// How a command ended, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What was run.
    pub what: String,
    /// The exit code; 128 and the signal's number where one ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Outcome {
    /// Itself, or a failed test where it ended otherwise.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "{}\n--- stdout\n{}\n--- stderr\n{}",
            self.what, self.stdout, self.stderr
        );
        self
    }
}

/// What a machine is made of.
pub(super) struct Plan<'a> {
    pub(super) name: &'a str,
    pub(super) make: Make,
    pub(super) address: Ipv4Addr,
    pub(super) serial: usize,
    /// Where its disk is to be.
    pub(super) disk: PathBuf,
    /// Whose key opens it, as `authorized_keys` has it.
    pub(super) key: &'a str,
    /// What it sees of outside: a path there, and where.
    pub(super) binds: Vec<(PathBuf, PathBuf)>,
    /// A unit of its own, by its name and text, that starts with it.
    pub(super) unit: Option<(&'a str, &'a str)>,
}

/// Room on a machine and in its `/var/lib/sovereign`; taken from the real disk only as it is written.
const DISK: u64 = 24 << 30;
const STATE: u64 = 4 << 30;
/// A busy machine boots several at once.
const BOOT: Duration = Duration::from_secs(60);
/// No command takes longer, or it hangs.
const DEADLINE: Duration = Duration::from_secs(900);
const BOOT_SCRIPT: &str = include_str!("boot.sh");

impl Machine {
    /// Boots one, and waits until its shell and its engine are there.
    pub(super) async fn boot(lab: &Lab, lan: &Lan, plan: Plan<'_>) -> Self {
        plan.lay_out();
        let groups = Groups::new(plan.name, plan.serial);
        let mut process = Process::start(lab, plan.name, "/bin/sh", |command| {
            command.args(["-c", &groups.script(), "sh"]);
            command
                .arg(system_program("unshare"))
                .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]);
            command.args(["--fork", "--kill-child", "--", "bash", "-c", BOOT_SCRIPT]);
            command
                .args(["boot.sh", plan.name, &plan.address.to_string()])
                .args([
                    &plan.disk,
                    &component("machine/base"),
                    &component(plan.make.layer()),
                    &plan.make.engine(),
                ]);
            for (source, target) in &plan.binds {
                command.args([source, target]);
            }
            command.env("PATH", super::PATH);
        });
        let pid = eventually(plan.name, Duration::from_secs(10), || {
            let ended = process.ended();
            assert!(
                ended.is_none(),
                "{} does not boot: {}",
                plan.name,
                read(process.stderr())
            );
            std::future::ready(first_child(&process))
        })
        .await;
        lan.plug(plan.name, pid);
        let mut machine = Self {
            name: plan.name.to_owned(),
            address: plan.address,
            journal: process.stdout().with_extension("journal"),
            pid,
            process,
            _groups: groups,
        };
        machine.ready(plan.make.units()).await;
        machine
    }

    async fn ready(&mut self, units: &[&str]) {
        let what = format!("{} has booted", self.name);
        eventually(&what, BOOT, || {
            let ended = self.process.ended();
            assert!(
                ended.is_none(),
                "{} ended while it booted: {}",
                self.name,
                read(self.process.stderr())
            );
            let up = self.command(&[&["systemctl", "is-active"], units].concat());
            async {
                let outcome = finish(up, "systemctl".into()).await;
                if outcome.code == 0 {
                    Ok(())
                } else {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Err(format!("{} {}", outcome.stdout, outcome.stderr))
                }
            }
        })
        .await;
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address in the cluster's network.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The key that its shell shows, as `known_hosts` has it.
    pub fn public_key(&self) -> String {
        let text = read(&self.inside("/etc/ssh/ssh_host_ed25519_key.pub"));
        let words: Vec<_> = text.split(' ').take(2).collect();
        words.join(" ")
    }

    /// Gives it another key, as a machine has that was set up anew, or one in the middle.
    pub async fn renew_key(&self) {
        let script = "rm /etc/ssh/ssh_host_*; ssh-keygen -q -t ed25519 -N '' -C '' -f /etc/ssh/ssh_host_ed25519_key; systemctl restart ssh";
        self.shell(script).await;
    }

    /// Runs a command there as root, and waits for it.
    pub async fn run(&self, arguments: &[&str]) -> Outcome {
        finish(self.command(arguments), arguments.join(" ")).await
    }

    /// Runs a script there that has to succeed; gives what it printed.
    pub async fn shell(&self, script: &str) -> String {
        self.run(&["sh", "-euc", script]).await.expect(0).stdout
    }

    /// The command line that runs something there: to start, to feed, to kill.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(system_program("nsenter"));
        command.args(["-t", &self.pid.to_string()]);
        command.args(["--all", "--root", "--wd", "--", "/usr/bin/env", "-i"]);
        command.args([&format!("PATH={}", super::PATH), "HOME=/root", "USER=root"]);
        command.args(["LANG=C.UTF-8", "TERM=dumb"]);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// The folder under `/proc` of its first process, where its namespaces are.
    pub(super) fn process_folder(&self) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string())
    }

    /// Where the test finds a path of the machine.
    pub fn inside(&self, path: &str) -> PathBuf {
        self.process_folder()
            .join("root")
            .join(path.trim_start_matches('/'))
    }

    /// Fills `/var/lib/sovereign` to the last block.
    pub async fn full_disk(&self) {
        // What the file system had set aside for writes under way is free once they are done: again, then.
        let script = "cd /var/lib/sovereign
            fallocate -l $(( $(df --output=avail -B1 . | tail -n1) - 2000000 )) .full
            for _ in 1 2 3; do
                dd if=/dev/zero of=.full-too bs=4096 oflag=append conv=notrunc status=none 2>/dev/null || sync .full-too
            done
            if head -c 16384 /dev/zero >.full-not; then ls -l >&2; df . >&2; exit 1; fi
            rm .full-not";
        self.shell(script).await;
    }

    /// Gives the room back.
    pub async fn free_disk(&self) {
        self.shell("rm -f /var/lib/sovereign/.full /var/lib/sovereign/.full-too")
            .await;
    }

    /// Stops the engine; the containers end with it.
    pub async fn stop_engine(&self) {
        self.shell("systemctl stop docker.socket docker.service containerd.service")
            .await;
    }

    /// Starts it again.
    pub async fn start_engine(&self) {
        self.shell("systemctl start containerd.service docker.socket docker.service")
            .await;
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The lab shows it, and it is gone with the machine.
            let said = self
                .command(&["journalctl", "--no-pager", "--lines=200"])
                .output();
            if let Ok(said) = said {
                let _ = fs::write(&self.journal, said.stdout);
            }
        }
    }
}

impl Make {
    /// What is laid over the least Debian.
    fn layer(self) -> &'static str {
        match self {
            Self::Host | Self::Stocked => "machine/layer",
            Self::Bare => "bare/layer",
        }
    }

    /// What runs once it has booted.
    fn units(self) -> &'static [&'static str] {
        match self {
            Self::Host | Self::Stocked => &["ssh", "docker"],
            Self::Bare => &["ssh"],
        }
    }

    /// The images that its engine has from the start.
    fn engine(self) -> PathBuf {
        match self {
            Self::Stocked => component("engine"),
            Self::Host | Self::Bare => PathBuf::new(),
        }
    }
}

impl Plan<'_> {
    /// The disk as the machine finds it.
    fn lay_out(&self) {
        for folder in ["root", "seed"] {
            fs::create_dir_all(self.disk.join(folder)).expect("the folder is ours");
        }
        for (name, size) in [("disk.img", DISK), ("state.img", STATE)] {
            let image = self.disk.join(name);
            fs::File::create(&image)
                .and_then(|file| file.set_len(size))
                .expect("the folder is ours");
            succeed(
                Command::new(system_program("mkfs.ext4"))
                    .args(["-q", "-m", "0", "-O", "^has_journal"])
                    .arg(&image),
            );
        }
        self.write("root/.ssh/authorized_keys", 0o600, self.key);
        // A registry on the managing machine stands in for the public one; there is no other.
        self.write(
            "etc/docker/daemon.json",
            0o644,
            r#"{ "registry-mirrors": ["http://10.77.0.1:5000"], "insecure-registries": ["10.77.0.0/16"] }"#,
        );
        self.write("etc/resolv.conf", 0o644, "nameserver 10.77.0.1\n");
        let ssh = self.disk.join("seed/etc/ssh");
        fs::create_dir_all(&ssh).expect("the folder is ours");
        make_key(&ssh.join("ssh_host_ed25519_key"), "");
        if let Some((name, text)) = self.unit {
            self.add_unit(name, text);
        }
    }

    /// The unit, and the link by which it is started.
    fn add_unit(&self, name: &str, text: &str) {
        self.write(&format!("etc/systemd/system/{name}"), 0o644, text);
        let wants = self
            .disk
            .join("seed/etc/systemd/system/multi-user.target.wants");
        fs::create_dir_all(&wants)
            .and_then(|()| symlink(format!("../{name}"), wants.join(name)))
            .expect("the folder is ours");
    }

    fn write(&self, path: &str, mode: u32, text: &str) {
        let path = self.disk.join("seed").join(path);
        fs::create_dir_all(path.parent().expect("it has a folder")).expect("the folder is ours");
        let mut file = fs::File::create(&path).expect("the folder is ours");
        file.write_all(text.as_bytes()).expect("the folder is ours");
        file.set_permissions(fs::Permissions::from_mode(mode))
            .expect("the file is ours");
    }
}

/// Makes a pair of keys for SSH.
pub(super) fn make_key(path: &Path, comment: &str) {
    succeed(
        Command::new(system_program("ssh-keygen"))
            .args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"])
            .arg(path),
    );
}

/// Runs a command to its end, off the threads that serve the session.
pub(super) async fn finish(mut command: Command, what: String) -> Outcome {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    let output = within(&what, DEADLINE, command.output())
        .await
        .unwrap_or_else(|error| panic!("{what} does not start: {error}"));
    let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
    Outcome {
        what,
        code: output
            .status
            .code()
            .unwrap_or_else(|| 128 + signal.unwrap_or(0)),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The id of the first child of a process.
pub(super) fn first_child(process: &Process) -> Result<i32, String> {
    let id = process.id().as_raw_nonzero();
    let path = format!("/proc/{id}/task/{id}/children");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let first = text.split_whitespace().next().ok_or("no child yet")?;
    first.parse().map_err(|_| format!("{path}: {text}"))
}

fn succeed(command: &mut Command) {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
