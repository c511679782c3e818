//! Knot: a DNS server that takes signed updates of its zone, from Debian.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::lab::{Lab, system_program};
use crate::port::free_address;
use crate::process::Process;
use crate::wait::eventually;

/// A running server.
#[derive(Debug)]
pub struct Knot {
    address: SocketAddr,
    config: PathBuf,
    zone: String,
    key: PathBuf,
    log: PathBuf,
    _process: Process,
}

impl Knot {
    /// Starts one with a zone in which every name leads to 127.0.0.1, and that takes TXT records signed
    /// with the key `acme`.
    pub async fn start(lab: &Lab, zone: &str) -> Self {
        let folder = lab.folder("knot");
        let address = free_address();
        let key = folder.join("tsig.key");
        fs::write(&key, SECRET).expect("the folder is ours");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("the file is ours");
        let records = format!(
            "$ORIGIN {zone}.\n$TTL 60\n@ SOA ns1 admin 1 3600 600 86400 60\n@ NS ns1\n\
             ns1 A 127.0.0.1\n@ A 127.0.0.1\n* A 127.0.0.1\n"
        );
        fs::write(folder.join("zone"), records).expect("the folder is ours");
        let config = folder.join("knot.conf");
        let text = CONFIG
            .replace("{folder}", &folder.display().to_string())
            .replace("{address}", &format!("{}@{}", address.ip(), address.port()))
            .replace("{zone}", zone);
        fs::write(&config, text).expect("the folder is ours");
        let mut process = Process::start(lab, "knot", system_program("knotd"), |command| {
            command.arg("-c").arg(&config);
        });
        eventually("knot listens", Duration::from_secs(30), || {
            process.assert_running();
            tokio::net::TcpStream::connect(address)
        })
        .await;
        Self {
            address,
            config,
            zone: zone.to_owned(),
            key,
            log: process.stderr().to_owned(),
            _process: process,
        }
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The `dns` key of `[certificates]`.
    pub fn update(&self) -> String {
        let (server, key) = (self.address, self.key.display());
        format!(
            "dns = {{ server = \"{server}\", key_name = \"acme\", algorithm = \"hmac-sha256\", key = \"{key}\" }}\n"
        )
    }

    /// All records of the zone, as its own tool shows them.
    pub fn records(&self) -> String {
        let output = std::process::Command::new(system_program("knotc"))
            .arg("-c")
            .arg(&self.config)
            .args(["zone-read", &self.zone])
            .output()
            .expect("knotc starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

const SECRET: &str = "ELJea43kcFyv1sbRjjBMFW6UJu3L6D7fEtiALWlW06U=\n";
const CONFIG: &str = r#"server:
    rundir: "{folder}"
    listen: {address}
    background-workers: 1
    udp-workers: 1
    tcp-workers: 1
database:
    storage: "{folder}"
key:
  - id: acme
    algorithm: hmac-sha256
    secret: "ELJea43kcFyv1sbRjjBMFW6UJu3L6D7fEtiALWlW06U="
acl:
  - id: update
    key: acme
    action: update
    update-type: [TXT]
zone:
  - domain: {zone}
    storage: "{folder}"
    file: "zone"
    acl: update
    journal-content: none
    zonefile-sync: -1
log:
  - target: stderr
    any: info
"#;
