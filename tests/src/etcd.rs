//! etcd: what several proxies share, from Debian.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;

use crate::lab::{Lab, system_program};
use crate::port::free_address;
use crate::process::Process;
use crate::wait::eventually;

/// A cluster of one.
#[derive(Debug)]
pub struct Etcd {
    address: SocketAddr,
    process: Process,
}

impl Etcd {
    /// Starts an empty one.
    pub async fn start(lab: &Lab) -> Self {
        let folder = lab.folder("etcd");
        let (address, peers) = (free_address(), free_address());
        let mut process = Process::start(lab, "etcd", system_program("etcd"), |command| {
            command
                .arg("--name=one")
                .arg(format!("--data-dir={}", folder.join("data").display()))
                .arg(format!("--listen-client-urls=http://{address}"))
                .arg(format!("--advertise-client-urls=http://{address}"))
                .arg(format!("--listen-peer-urls=http://{peers}"))
                .arg(format!("--initial-advertise-peer-urls=http://{peers}"))
                .arg(format!("--initial-cluster=one=http://{peers}"))
                // Tests do not pull the plug.
                .arg("--unsafe-no-fsync");
        });
        eventually("etcd answers", Duration::from_secs(60), || {
            process.assert_running();
            healthy(address)
        })
        .await;
        Self { address, process }
    }

    /// Its address, as `etcd` in `[certificates.shared]` takes it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// It answers nobody until [`thaw`](Self::thaw); what is sent to it is kept.
    pub fn freeze(&self) {
        self.process.signal(Signal::STOP);
    }

    /// It answers again.
    pub fn thaw(&self) {
        self.process.signal(Signal::CONT);
    }
}

async fn healthy(address: SocketAddr) -> Result<(), String> {
    let mut stream = tokio::net::TcpStream::connect(address)
        .await
        .map_err(|error| error.to_string())?;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = exchange.await.map_err(|error| error.to_string())?;
    let well = answer.contains("\"health\":\"true\"") || answer.contains("\"health\": \"true\"");
    well.then_some(()).ok_or(answer)
}
