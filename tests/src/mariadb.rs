//! A MariaDB server of the session's own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::lab::{Lab, system_program};
use crate::port::free_address;
use crate::process::Process;
use crate::wait::eventually;

/// A running server, with one user that may do everything from this machine.
#[derive(Debug)]
pub struct MariaDb {
    address: SocketAddr,
    socket: PathBuf,
    _process: Process,
}

impl MariaDb {
    /// The user that [`MariaDb::start`] makes.
    pub const USER: &str = "sovereign";
    /// That user's password.
    pub const PASSWORD: &str = "sovereign";

    /// A new server with empty databases.
    pub async fn start(lab: &Lab) -> Self {
        let folder = lab.folder("mariadb");
        let data = folder.join("data");
        let socket = folder.join("sock");
        let address = free_address();
        run(Command::new(system_program("mariadb-install-db"))
            .args(["--no-defaults", "--auth-root-authentication-method=normal"])
            .args(["--skip-test-db", "--skip-name-resolve"])
            .arg(format!("--datadir={}", data.display())));
        let mut process = Process::start(lab, "mariadb", system_program("mariadbd"), |command| {
            command.arg("--no-defaults");
            if rustix::process::geteuid().is_root() {
                command.arg("--user=root");
            }
            command
                .arg(format!("--datadir={}", data.display()))
                .arg(format!("--tmpdir={}", folder.display()))
                .arg(format!("--socket={}", socket.display()))
                .arg(format!("--port={}", address.port()))
                // Tests do not pull the plug: nothing is flushed, and little memory is taken.
                .args(["--bind-address=127.0.0.1", "--skip-name-resolve"])
                .args(["--performance-schema=off", "--skip-log-bin"])
                .args([
                    "--innodb-buffer-pool-size=64M",
                    "--innodb-flush-log-at-trx-commit=0",
                ]);
        });
        let sql = format!(
            "CREATE USER IF NOT EXISTS {user}@'127.0.0.1' IDENTIFIED BY '{password}';
             GRANT ALL ON *.* TO {user}@'127.0.0.1';",
            user = Self::USER,
            password = Self::PASSWORD,
        );
        eventually("MariaDB answers", Duration::from_secs(30), || {
            process.assert_running();
            std::future::ready(query(&socket, &sql))
        })
        .await;
        Self {
            address,
            socket,
            _process: process,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs SQL as root, and gives what was printed.
    pub fn run(&self, sql: &str) -> String {
        query(&self.socket, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}

fn query(socket: &std::path::Path, sql: &str) -> Result<String, String> {
    let output = Command::new(system_program("mariadb"))
        .args([
            "--no-defaults",
            "--user=root",
            "--batch",
            "--connect-timeout=5",
        ])
        .arg(format!("--socket={}", socket.display()))
        .arg(format!("--execute={sql}"))
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("the program starts");
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
