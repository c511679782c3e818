//! Several machines and the one they are managed from, as an operator has them: each a whole Debian with
//! its own service manager, shell, engine, disk and address, joined by a network that can be cut.
//!
//! They are namespaces: booted in seconds, invisible to the system, which they change nothing of, and gone
//! with the session or with the test's process, however that ends. `h1`, `h2` ... have 10.77.0.11 and so on,
//! `management` has 10.77.0.1. Making them takes root; where they cannot be made the test fails and says so.

mod groups;
mod images;
mod inside;
mod lan;
mod machine;
mod terminal;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub use images::Image;
pub use inside::Inside;
pub use machine::{Machine, Make, Outcome};
pub use terminal::Terminal;

use crate::lab::{Lab, temporary};
use crate::process::Process;
use crate::proxy;
use lan::Lan;
use machine::{Plan, first_child, make_key};

/// Where programs are, on every Debian.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Who is asked for names.
const NAMES: (&str, &str) = (
    "names.service",
    "[Service]\nExecStart=/usr/sbin/dnsmasq --keep-in-foreground --user=root --no-hosts --no-resolv --local=/#/ --hostsdir=/etc/names\n",
);

/// The machines of a session. What it is made of goes in this order.
#[derive(Debug)]
pub struct Cluster {
    inside: Inside,
    management: Machine,
    machines: Vec<Machine>,
    lan: Lan,
    home: PathBuf,
    names: PathBuf,
    serial: AtomicUsize,
    // Not in the lab's folder: disks are large, and of no use once nothing runs on them.
    _disks: TempDir,
}

impl Cluster {
    /// Boots `count` machines, `h1` and on, and the managing one, which trusts their keys and whose key
    /// opens them.
    pub async fn start(lab: &Lab, count: u8) -> Self {
        Self::of(lab, &vec![Make::Host; usize::from(count)]).await
    }

    /// The same with machines of these makes.
    pub async fn of(lab: &Lab, makes: &[Make]) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "the machines of this test are namespaces and control groups, which only root can make: run the tests as root"
        );
        static SERIAL: AtomicUsize = AtomicUsize::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let disks = temporary("cluster-");
        let (home, names) = (lab.folder("home"), lab.folder("names"));
        let key = set_up_home(&home);
        let lan = Lan::open(lab).await;
        let plan = |name, make, address, binds, unit| Plan {
            name,
            make,
            address,
            serial,
            disk: disks.path().join(name),
            key: &key,
            binds,
            unit,
        };
        let names_of: Vec<_> = (1..=makes.len())
            .map(|number| format!("h{number}"))
            .collect();
        let hosts = names_of.iter().zip(makes).zip(11..);
        let hosts = hosts.map(|((name, make), last)| {
            let address = Ipv4Addr::new(10, 77, 0, last);
            Machine::boot(lab, &lan, plan(name, *make, address, Vec::new(), None))
        });
        let address = Ipv4Addr::new(10, 77, 0, 1);
        let seen = seen_of_outside(&home, &names);
        let management = plan("management", Make::Stocked, address, seen, Some(NAMES));
        let management = Machine::boot(lab, &lan, management);
        let (management, machines) =
            tokio::join!(management, futures_util::future::join_all(hosts));
        let cluster = Self {
            inside: Inside::of(&management.process_folder().join("ns/net")),
            management,
            machines,
            lan,
            home,
            names,
            serial: AtomicUsize::new(0),
            _disks: disks,
        };
        cluster.trust();
        cluster
    }

    /// A machine by its name.
    pub fn machine(&self, name: &str) -> &Machine {
        self.machines
            .iter()
            .find(|machine| machine.name() == name)
            .unwrap_or_else(|| panic!("there is no machine {name}"))
    }

    /// All but the managing one.
    pub fn machines(&self) -> &[Machine] {
        &self.machines
    }

    /// The managing one.
    pub fn management(&self) -> &Machine {
        &self.management
    }

    /// Where the test's own clients connect from within the network.
    pub fn inside(&self) -> &Inside {
        &self.inside
    }

    /// The folder that is the operator's home, `/root` of the managing machine.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Writes a file of the operator's, by its path below their home.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.home.join(path);
        fs::create_dir_all(path.parent().expect("it lies below the home"))
            .and_then(|()| fs::write(&path, text))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Makes the operator know the keys that the machines show now, and no other.
    pub fn trust(&self) {
        let line = |machine: &Machine| format!("{} {}\n", machine.address(), machine.public_key());
        let known: String = self.machines.iter().map(line).collect();
        self.write(".ssh/known_hosts", known);
    }

    /// Puts an image that the managing machine's engine has into the registry that the machines ask for names
    /// without a registry of their own, such as `busybox:1`.
    pub async fn publish(&self, image: &str) {
        let place = match image.contains('/') {
            true => image.to_owned(),
            false => format!("library/{image}"),
        };
        let script = format!(
            "systemctl start docker-registry
             curl -fsS --retry 100 --retry-delay 1 --retry-connrefused --retry-max-time 30 http://10.77.0.1:5000/v2/
             docker tag {image} 10.77.0.1:5000/{place}
             docker push -q 10.77.0.1:5000/{place}
             docker rmi 10.77.0.1:5000/{place}"
        );
        self.management.shell(&script).await;
    }

    /// Gives a name to a machine's address, for everybody in the network; any other name does not exist.
    pub fn name(&self, name: &str, machine: &str) {
        let line = format!("{} {name}\n", self.machine(machine).address());
        // Written elsewhere and moved: what reads it never finds half a line.
        let made = self.home.join(".name");
        fs::write(&made, line)
            .and_then(|()| fs::rename(&made, self.names.join(name)))
            .expect("the folders are ours");
    }

    /// Pulls a machine's cable.
    pub fn cut(&self, name: &str) {
        self.lan.cut(self.machine(name).name());
    }

    /// Puts it back.
    pub fn heal(&self, name: &str) {
        self.lan.heal(self.machine(name).name());
    }

    /// Runs `sovereign` as the operator does, in the folder `stack` of their home.
    pub async fn sovereign(&self, arguments: &[&str]) -> Outcome {
        let what = format!("sovereign {}", arguments.join(" "));
        machine::finish(self.sovereign_command(arguments), what).await
    }

    /// Starts `sovereign` without waiting for it.
    pub fn begin(&self, lab: &Lab, arguments: &[&str]) -> Begun {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let line = self.sovereign_command(arguments);
        let name = format!("sovereign-{serial}");
        let process = Process::start(lab, &name, line.get_program(), |command| {
            command.args(line.get_args());
        });
        Begun { process }
    }

    /// Runs a line of a shell at a terminal of the operator's, in the folder `stack` of their home.
    pub fn terminal(&self, columns: u16, rows: u16, line: &str) -> Terminal {
        Terminal::start(columns, rows, line, |argv| {
            self.management
                .command(&[&["env", "TERM=xterm"], argv].concat())
        })
    }

    fn sovereign_command(&self, arguments: &[&str]) -> std::process::Command {
        fs::create_dir_all(self.home.join("stack")).expect("the folder is ours");
        let start = "cd /root/stack && exec sovereign \"$@\"";
        let line = [&["sh", "-c", start, "sovereign"], arguments].concat();
        self.management.command(&line)
    }
}

/// A `sovereign` that was started, to be waited for or killed.
#[derive(Debug)]
pub struct Begun {
    process: Process,
}

impl Begun {
    /// What it has printed so far: both outputs.
    pub fn said(&self) -> (String, String) {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        (read(self.process.stdout()), read(self.process.stderr()))
    }

    /// Sends it a signal: to it alone, not to what it has started. Nothing where it has ended.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = first_child(&self.process).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for its end.
    pub async fn wait(&mut self, deadline: Duration) -> Outcome {
        let status = self.process.wait(deadline).await;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        let (stdout, stderr) = self.said();
        Outcome {
            what: "sovereign".into(),
            code: status.code().unwrap_or_else(|| 128 + signal.unwrap_or(0)),
            stdout,
            stderr,
        }
    }
}

/// The operator's home: a key without a passphrase, and what `ssh` is to do. Gives the key's public half.
fn set_up_home(home: &Path) -> String {
    let folder = home.join(".ssh");
    fs::create_dir_all(&folder).expect("the folder is ours");
    let key = folder.join("id_ed25519");
    make_key(&key, "operator");
    // Asks nobody: a test has no terminal.
    fs::write(
        folder.join("config"),
        "Host *\n  BatchMode yes\n  StrictHostKeyChecking yes\n",
    )
    .expect("the folder is ours");
    fs::read_to_string(key.with_extension("pub")).expect("the key is ours")
}

/// What the managing machine sees of outside: the home, the names, and the programs under test.
fn seen_of_outside(home: &Path, names: &Path) -> Vec<(PathBuf, PathBuf)> {
    let proxy = proxy::program();
    let sovereign = std::env::var_os("SOVEREIGN")
        .map_or_else(|| proxy.with_file_name("sovereign"), PathBuf::from);
    assert!(
        sovereign.is_file(),
        "{} has not been built: `cargo build --workspace --bins`, or run `tests/run`",
        sovereign.display()
    );
    vec![
        (home.to_owned(), "/root".into()),
        (names.to_owned(), "/etc/names".into()),
        (sovereign, "/usr/local/bin/sovereign".into()),
        (proxy, "/usr/local/bin/sovereign-proxy".into()),
    ]
}
