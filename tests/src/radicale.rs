//! Radicale: calendars over CalDAV, from Debian.

use std::net::SocketAddr;
use std::time::Duration;

use crate::lab::{Lab, system_program};
use crate::port::free_address;
use crate::process::Process;
use crate::wait::eventually;

/// A calendar server that believes every name.
#[derive(Debug)]
pub struct Radicale {
    address: SocketAddr,
    _process: Process,
}

impl Radicale {
    /// A server with an empty store.
    pub async fn start(lab: &Lab) -> Self {
        let store = lab.folder("radicale");
        let address = free_address();
        // Debian's own Python: another one that comes first on the path does not know its packages.
        let _ = system_program("python3");
        let mut process = Process::start(lab, "radicale", "/usr/bin/python3", |command| {
            command
                .args(["-m", "radicale", "--config="])
                .arg(format!("--server-hosts={address}"))
                .arg(format!("--storage-filesystem-folder={}", store.display()))
                .args(["--auth-type=none", "--rights-type=authenticated"]);
        });
        eventually("Radicale listens", Duration::from_secs(30), || {
            process.assert_running();
            tokio::net::TcpStream::connect(address)
        })
        .await;
        Self {
            address,
            _process: process,
        }
    }

    /// Its address, as an upstream is written.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
