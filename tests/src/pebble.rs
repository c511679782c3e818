//! Pebble: a real authority that speaks ACME, with a root of its own that nobody else trusts.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Answer, Client, Target};
use crate::faketime;
use crate::lab::{Lab, component, system_program};
use crate::port::free_address;
use crate::process::Process;
use crate::proxy::Proxy;
use crate::wait::eventually;

/// How an authority behaves.
#[derive(Debug, Clone)]
pub struct Manner {
    /// Of 100 good nonces, how many it rejects.
    pub nonces_rejected: u32,
    /// It sleeps up to so many seconds before it looks at a challenge.
    pub sleep: Option<u32>,
    /// How long certificates are valid, in seconds.
    pub validity: u64,
    /// The same for its profile `shortlived`. An order that names no profile gets any: without it
    /// there is one only.
    pub shortlived: Option<u64>,
    /// The account without which it makes none: an id and a MAC key.
    pub account: Option<(&'static str, &'static str)>,
    /// Of 100 proofs that it remembers, how many spare another one.
    pub reuse: u32,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            nonces_rejected: 0,
            sleep: None,
            validity: 90 * DAY,
            shortlived: None,
            account: None,
            reuse: 0,
        }
    }
}

/// A running authority.
#[derive(Debug)]
pub struct Pebble {
    address: SocketAddr,
    management: SocketAddr,
    own: PathBuf,
    root: PathBuf,
    log: PathBuf,
    _process: Process,
}

impl Pebble {
    /// Starts one that asks `dns` where names lead, and looks at challenges on the ports of `proxy`.
    pub async fn start(lab: &Lab, proxy: &Proxy, dns: SocketAddr, manner: &Manner) -> Self {
        let identity = Identity::make(&lab.folder("authority"));
        Self::start_at(lab, free_address(), identity, proxy, dns, manner).await
    }

    /// The same, at an address and with a name that are known before.
    pub async fn start_at(
        lab: &Lab,
        address: SocketAddr,
        identity: Identity,
        proxy: &Proxy,
        dns: SocketAddr,
        manner: &Manner,
    ) -> Self {
        let folder = lab.folder("pebble");
        let management = free_address();
        let config = folder.join("config.json");
        let text = config_of(address, management, &identity, proxy, manner);
        fs::write(&config, text.to_string()).expect("the folder is ours");
        // Its log tells what it was asked: each one has a file of its own.
        let name = folder.file_name().expect("it has a name").to_string_lossy();
        let mut process = Process::start(lab, &name, component("pebble/pebble"), |command| {
            command
                .arg(format!("-config={}", config.display()))
                .arg(format!("-dnsserver={dns}"))
                .env("PEBBLE_WFE_NONCEREJECT", manner.nonces_rejected.to_string())
                .env("PEBBLE_AUTHZREUSE", manner.reuse.to_string());
            match manner.sleep {
                Some(seconds) => command.env("PEBBLE_VA_SLEEPTIME", seconds.to_string()),
                None => command.env("PEBBLE_VA_NOSLEEP", "1"),
            };
        });
        eventually("pebble listens", Duration::from_secs(30), || {
            process.assert_running();
            async {
                tokio::net::TcpStream::connect(management).await?;
                tokio::net::TcpStream::connect(address).await
            }
        })
        .await;
        let target = Target::tls(management, "localhost", &identity.ca);
        let root = folder.join("root.pem");
        let pem = Client::h1(&target).get("/roots/0").await.expect(200);
        fs::write(&root, &pem.body).expect("the folder is ours");
        Self {
            address,
            management,
            own: identity.ca,
            root,
            log: process.stdout().to_owned(),
            _process: process,
        }
    }

    /// Its `[[acme]]` table; `more` is added.
    pub fn table(&self, more: &str) -> String {
        table(self.address, &self.own, more)
    }

    /// The URL of its directory.
    pub fn directory(&self) -> String {
        directory(self.address)
    }

    /// The certificate that vouches for its own server, as PEM.
    pub fn vouched(&self) -> Vec<u8> {
        fs::read(&self.own).expect("it was made")
    }

    /// The certificate that signs what it issues.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How often its log has these words.
    pub fn said(&self, words: &str) -> usize {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains(words)).count()
    }

    /// How many accounts it has.
    pub fn accounts(&self) -> usize {
        self.said("accounts in memory")
    }

    /// How many orders it was asked for.
    pub fn orders(&self) -> usize {
        self.said("Added order")
    }

    /// How many certificates it has issued.
    pub fn issued(&self) -> usize {
        self.said("Issued certificate")
    }

    /// How many orders were under way at the busiest moment.
    pub fn most_orders_at_once(&self) -> usize {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let (mut now, mut most) = (0usize, 0);
        for line in log.lines() {
            now += usize::from(line.contains("Added order"));
            now = now.saturating_sub(usize::from(line.contains("Issued certificate")));
            most = most.max(now);
        }
        most
    }

    /// From now on it wants a certificate renewed in this window.
    pub async fn wants_renewal(&self, pem: &str, start: &str, end: &str) {
        let info = json!({ "suggestedWindow": { "start": start, "end": end } });
        let body = json!({ "Certificate": pem, "ARIResponse": info.to_string() });
        self.manage("/set-renewal-info/", &body).await.expect(200);
    }

    async fn manage(&self, path: &str, body: &Value) -> Answer {
        let target = Target::tls(self.management, "localhost", &self.own);
        let client = Client::h1(&target).with("user-agent", "the lab");
        client.post_json(path, &[], body).await
    }
}

/// The `[[acme]]` table of an authority at `address` whose server `roots` vouches for.
pub fn table(address: SocketAddr, roots: &Path, more: &str) -> String {
    let (directory, roots) = (directory(address), roots.display());
    format!("[[acme]]\ndirectory = \"{directory}\"\nroots = \"{roots}\"\n{more}\n")
}

fn directory(address: SocketAddr) -> String {
    format!("https://{address}/dir")
}

fn config_of(
    address: SocketAddr,
    management: SocketAddr,
    identity: &Identity,
    proxy: &Proxy,
    manner: &Manner,
) -> Value {
    let (http, https) = proxy.ports();
    let mut pebble = json!({
        "listenAddress": address.to_string(),
        "managementListenAddress": management.to_string(),
        "certificate": identity.cert,
        "privateKey": identity.key,
        "httpPort": http,
        "tlsPort": https,
        "ocspResponderURL": "",
        "retryAfter": { "authz": 1, "order": 1 },
        "keyAlgorithm": "ecdsa",
        "externalAccountBindingRequired": manner.account.is_some(),
        "profiles": {
            "default": { "description": "the usual", "validityPeriod": manner.validity },
        },
    });
    if let Some(validity) = manner.shortlived {
        let profile = json!({ "description": "a few days", "validityPeriod": validity });
        pebble["profiles"]["shortlived"] = profile;
    }
    if let Some((id, key)) = manner.account {
        pebble["externalAccountMACKeys"] = json!({ id: key });
    }
    json!({ "pebble": pebble })
}

/// Who a server on the loopback interface is, and who vouches for it.
#[derive(Debug)]
pub struct Identity {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The server's.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Identity {
    /// Makes one, for `localhost` and 127.0.0.1.
    pub fn make(folder: &Path) -> Self {
        certify(folder, "localhost")
    }
}

/// The same for another host.
pub fn certify(folder: &Path, host: &str) -> Identity {
    vouch(folder, "the lab", &format!("DNS:{host},IP:127.0.0.1"))
}

/// The authority `who`, and somebody whom it vouches for, with these subject alternative names.
pub fn vouch(folder: &Path, who: &str, names: &str) -> Identity {
    let file = |name: &str| folder.join(name);
    let text = |path: &Path| path.to_str().expect("the path is text").to_owned();
    let (ca, ca_key) = (file("ca.pem"), file("ca-key.pem"));
    let (cert, key) = (file("cert.pem"), file("key.pem"));
    openssl(&["-subj", &format!("/CN={who}")], &ca, &ca_key);
    let subject = format!("/CN={who}'s");
    let names = format!("subjectAltName={names}");
    let by = [
        "-CA",
        &text(&ca),
        "-CAkey",
        &text(&ca_key),
        "-subj",
        &subject,
    ];
    let what = [
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-addext",
        &names,
    ];
    openssl(&[&by[..], &what[..]].concat(), &cert, &key);
    Identity { ca, cert, key }
}

fn openssl(more: &[&str], cert: &Path, key: &Path) {
    // Made a month ago, so that it is good for somebody whose clock is behind as well.
    let output = Command::new(system_program("openssl"))
        .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "90"])
        .args(["-pkeyopt", "ec_paramgen_curve:P-256"])
        .envs(faketime::environment("-30d"))
        .args(more)
        .arg("-keyout")
        .arg(key)
        .arg("-out")
        .arg(cert)
        .output()
        .expect("openssl starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

const DAY: u64 = 24 * 60 * 60;
