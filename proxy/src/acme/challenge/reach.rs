//! Whether a name leads here: asked as an authority would ask, before it is asked to, because a
//! failed challenge counts against the operator and a question of our own does not.
//!
//! What is found is only what can be seen from here. An answer by somebody else is proof that the
//! challenge would fail; no answer is none, since a router may keep a network from reaching itself.

mod http;
mod tls;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use sovereign_config::model::Listen;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::answers::Answers;
use super::super::jws;
use super::resolver::Resolver;

/// Which listener is to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// Port 80, for HTTP-01.
    Http,
    /// Port 443, for TLS-ALPN-01.
    Https,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reach {
    /// The question came back to us.
    Ours,
    /// Nobody answered: it may work or not. In the operator's words.
    Unknown(String),
    /// It cannot work. In the operator's words.
    Blocked(String),
}

/// What one address gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// Our own answer.
    Ours,
    /// Somebody else's: what it was.
    Other(String),
    /// None: why.
    Silent(String),
}

/// Who asks.
#[derive(Debug)]
pub(super) struct Reacher {
    answers: Arc<Answers>,
    resolver: Resolver,
    http: Vec<u16>,
    https: Vec<u16>,
}

impl Door {
    /// The port that authorities ask.
    pub(super) fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl Reacher {
    pub(super) fn new(answers: Arc<Answers>, resolver: Resolver, listen: &Listen) -> Self {
        Self {
            answers,
            resolver,
            http: ports(&listen.http),
            https: ports(&listen.https),
        }
    }

    /// Whether `name` leads to this door. An authority that the operator did not name asks from the
    /// public network: for that one a name must lead somewhere public.
    pub(super) async fn reach(&self, door: Door, name: &str, public_ca: bool) -> Reach {
        let addresses = match self.resolver.addresses(name).await {
            Ok(addresses) => addresses,
            Err(error) if public_ca => {
                return Reach::Blocked(format!("{name} leads nowhere: {error}"));
            }
            Err(error) => return Reach::Unknown(format!("{name}: {error}")),
        };
        let (public, private): (Vec<_>, Vec<_>) = addresses.into_iter().partition(is_public);
        let asked = match (public_ca, public.is_empty(), private.is_empty()) {
            (true, true, true) => return Reach::Blocked(nowhere(name)),
            (true, true, false) => return Reach::Blocked(only_private(name, &private)),
            (true, false, _) => public,
            (false, true, true) => return Reach::Unknown(nowhere(name)),
            (false, _, _) => public.into_iter().chain(private).collect(),
        };
        self.ask(door, name, asked, public_ca).await
    }

    async fn ask(
        &self,
        door: Door,
        name: &str,
        mut addresses: Vec<IpAddr>,
        public_ca: bool,
    ) -> Reach {
        addresses.truncate(ADDRESSES);
        let (probe, own) = match door {
            Door::Http => (
                http::Probe::new(&self.answers, name).await.map(Probe::Http),
                &self.http,
            ),
            Door::Https => (
                tls::Probe::new(&self.answers, name).await.map(Probe::Https),
                &self.https,
            ),
        };
        let probe = match probe {
            Ok(probe) => Arc::new(probe),
            Err(error) => return Reach::Unknown(error.to_string()),
        };
        let mut asked = JoinSet::new();
        for ip in addresses {
            let (probe, own) = (Arc::clone(&probe), own.clone());
            asked.spawn(async move { (ip, probe.at((ip, door.port()), &own, public_ca).await) });
        }
        judge(name, door.port(), asked.join_all().await)
    }
}

/// A question that only we can answer.
enum Probe {
    Http(http::Probe),
    Https(tls::Probe),
}

impl Probe {
    /// The port that authorities ask, then our own: what stands before us may lead one to the other, and an
    /// authority of the operator's own may ask there. A public one does not.
    async fn at(&self, (ip, port): (IpAddr, u16), own: &[u16], public_ca: bool) -> Seen {
        let first = self.look(SocketAddr::new(ip, port)).await;
        if first == Seen::Ours {
            return first;
        }
        for own in own.iter().filter(|own| **own != port).take(OWN) {
            if self.look(SocketAddr::new(ip, *own)).await == Seen::Ours {
                return match first {
                    Seen::Silent(why) | Seen::Other(why) if public_ca => {
                        Seen::Silent(format!("{why}; port {own} leads here"))
                    }
                    _ => Seen::Ours,
                };
            }
        }
        first
    }

    async fn look(&self, address: SocketAddr) -> Seen {
        let seen = async {
            match self {
                Self::Http(probe) => probe.look(address).await,
                Self::Https(probe) => probe.look(address).await,
            }
        };
        let late = Seen::Silent(format!("no answer within {} s", EACH.as_secs()));
        timeout(EACH, seen).await.unwrap_or(late)
    }
}

/// One address that leads elsewhere is enough to fail: the authority chooses which one it asks.
fn judge(name: &str, port: u16, mut seen: Vec<(IpAddr, Seen)>) -> Reach {
    seen.sort_by_key(|(ip, _)| *ip);
    let mut silent = Vec::new();
    let mut ours = false;
    for (ip, seen) in &seen {
        match seen {
            Seen::Ours => ours = true,
            Seen::Silent(why) => silent.push(format!("asked {ip}: {why}")),
            Seen::Other(what) => {
                return Reach::Blocked(format!(
                    "port {port} of {name} leads to another machine: asked {ip}, got {what}"
                ));
            }
        }
    }
    if ours {
        return Reach::Ours;
    }
    let silent = silent.join("; ");
    Reach::Unknown(format!(
        "port {port} of {name} cannot be reached from here: {silent}"
    ))
}

fn nowhere(name: &str) -> String {
    format!("{name} has no address in the DNS")
}

fn only_private(name: &str, addresses: &[IpAddr]) -> String {
    let first: Vec<_> = addresses.iter().take(3).map(IpAddr::to_string).collect();
    format!(
        "{name} leads to {} only, where nobody outside this network can come; \
         a challenge by DNS works without",
        first.join(", ")
    )
}

/// Whether the address can be asked from the public network.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_public(ip: &IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_documentation()
                || a == 0
                || a >= 224
                || (a == 100 && b & 0xc0 == 64))
        }
        IpAddr::V6(ip) => {
            let first = ip.segments()[0];
            // 2000::/3 is all that has been given out; 2001:db8::/32 is for documents.
            first & 0xe000 == 0x2000 && !(first == 0x2001 && ip.segments()[1] == 0xdb8)
        }
    }
}

fn ports(addresses: &[SocketAddr]) -> Vec<u16> {
    let ports: BTreeSet<_> = addresses.iter().map(SocketAddr::port).collect();
    ports.into_iter().filter(|port| *port != 0).collect()
}

/// Characters that nobody can guess.
fn secret() -> Option<String> {
    let mut bytes = [0; 24];
    let random = crate::tls::provider().secure_random;
    random.fill(&mut bytes).ok()?;
    Some(jws::base64(&bytes))
}

/// Addresses of a name that are asked.
const ADDRESSES: usize = 8;
/// Own ports that are asked at each.
const OWN: usize = 4;
/// How long each may take.
const EACH: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests;
