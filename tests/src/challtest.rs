//! Pebble's DNS server: every name leads here, unless a session says otherwise.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::json;

use crate::client::{Client, Target};
use crate::lab::{Lab, component};
use crate::port::free_address;
use crate::process::Process;
use crate::wait::eventually;

/// A running server.
#[derive(Debug)]
pub struct ChallTest {
    address: SocketAddr,
    management: SocketAddr,
    _process: Process,
}

impl ChallTest {
    /// Starts one for which every name has the address 127.0.0.1.
    pub async fn start(lab: &Lab) -> Self {
        let (address, management) = (free_address(), free_address());
        let program = component("pebble/pebble-challtestsrv");
        let mut process = Process::start(lab, "challtestsrv", program, |command| {
            command
                .arg(format!("-dnsserver={address}"))
                .arg(format!("-management={management}"))
                .args(["-defaultIPv4=127.0.0.1", "-defaultIPv6="])
                .args(["-http01=", "-https01=", "-tlsalpn01=", "-doh="]);
        });
        eventually("the DNS listens", Duration::from_secs(30), || {
            process.assert_running();
            tokio::net::TcpStream::connect(management)
        })
        .await;
        Self {
            address,
            management,
            _process: process,
        }
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it is told what to answer.
    pub fn management(&self) -> SocketAddr {
        self.management
    }

    /// Lets a name lead to this address alone.
    pub async fn lead(&self, host: &str, to: IpAddr) {
        let client = Client::h1(&Target::plain(self.management, "dns.test"));
        let host = format!("{host}.");
        let body = json!({ "host": host, "addresses": [to.to_string()] });
        client
            .post_json("/clear-a", &[], &json!({ "host": host }))
            .await
            .expect(200);
        client.post_json("/add-a", &[], &body).await.expect(200);
    }
}
