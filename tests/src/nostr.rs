//! A Nostr relay, from PyPI.

use std::net::SocketAddr;
use std::time::Duration;

use crate::lab::{Lab, component};
use crate::port::free_address;
use crate::process::Process;
use crate::wait::eventually;

/// A relay with nothing stored.
#[derive(Debug)]
pub struct NostrRelay {
    address: SocketAddr,
    _process: Process,
}

impl NostrRelay {
    /// Starts one. It checks signatures, and takes events of any age.
    pub async fn start(lab: &Lab) -> Self {
        let folder = lab.folder("nostr");
        let address = free_address();
        let config = lab.file(
            "nostr.yaml",
            format!(
                "DEBUG: false
relay_name: a relay that stays up
storage:
  sqlalchemy.url: sqlite+aiosqlite:///{folder}/nostr.sqlite3
  validators:
    - nostr_relay.validators.is_not_too_large
    - nostr_relay.validators.is_signed
gunicorn:
  bind: {address}
  workers: 1
",
                folder = folder.display()
            ),
        );
        let mut process = Process::start(
            lab,
            "nostr",
            component("nostr-relay/bin/python"),
            |command| {
                command
                    .args(["-c", "from nostr_relay.cli import main; main()", "--config"])
                    .arg(config)
                    .args(["serve"])
                    .current_dir(&folder)
                    .env("HOME", &folder);
            },
        );
        eventually("the relay listens", Duration::from_secs(60), || {
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
