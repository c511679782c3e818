//! The rules of the firewall, as nftables reads them. Pure; stands alone because a mistake here locks an operator out.
//!
//! Two ways lead in. What is for the host itself passes `input`. What an engine publishes of a container never does: it
//! is led on to the container before, and passes `forward`; so the same ports are let through there, and no other, by
//! the port that the visitor asked for. What containers and the host ask of others is not touched.

use std::collections::BTreeSet;
use std::net::IpAddr;

/// The name of the table.
pub const TABLE: &str = "sovereign";

/// What is let in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Open {
    /// TCP ports, for everybody.
    pub tcp: BTreeSet<u16>,
    /// UDP ports, for everybody.
    pub udp: BTreeSet<u16>,
    /// The other hosts of a Swarm, which reach its own ports.
    pub swarm: Vec<IpAddr>,
}

impl Open {
    /// Whether this port of the host is let in.
    pub fn has(&self, protocol: &str, port: u16) -> bool {
        match protocol {
            "tcp" => self.tcp.contains(&port),
            "udp" => self.udp.contains(&port),
            _ => false,
        }
    }

    /// The table, in place of the one that is there.
    pub fn rules(&self) -> String {
        let (tcp, udp) = (list(&self.tcp), list(&self.udp));
        let swarm: String = self.swarm.iter().map(|address| swarm(*address)).collect();
        format!(
            "# Written by `sovereign host prepare`, which writes it anew.\n\
             table inet {TABLE}\n\
             delete table inet {TABLE}\n\
             table inet {TABLE} {{\n\
             \tchain input {{\n\
             \t\ttype filter hook input priority filter; policy drop;\n\
             \t\tct state established,related accept\n\
             \t\tct state invalid drop\n\
             \t\tiifname \"lo\" accept\n\
             \t\tmeta l4proto {{ icmp, ipv6-icmp }} accept\n\
             \t\tudp sport 67 udp dport 68 accept\n\
             \t\tip6 saddr fe80::/10 udp dport 546 accept\n\
             \t\ttcp dport {{ {tcp} }} accept\n\
             \t\tudp dport {{ {udp} }} accept\n\
             {swarm}\
             \t}}\n\
             \tchain forward {{\n\
             \t\ttype filter hook forward priority filter - 5; policy accept;\n\
             \t\tct state established,related accept\n\
             \t\tiifname {{ \"docker0\", \"docker_gwbridge\" }} accept\n\
             \t\tiifname \"br-*\" accept\n\
             \t\tct status dnat meta l4proto tcp ct original proto-dst {{ {tcp} }} accept\n\
             \t\tct status dnat meta l4proto udp ct original proto-dst {{ {udp} }} accept\n\
             \t\tct status dnat drop\n\
             \t\toifname {{ \"docker0\", \"docker_gwbridge\" }} drop\n\
             \t\toifname \"br-*\" drop\n\
             \t}}\n\
             }}\n"
        )
    }
}

/// What the hosts of a Swarm say to each other: management, gossip, and the network between containers.
fn swarm(address: IpAddr) -> String {
    let family = if address.is_ipv4() { "ip" } else { "ip6" };
    format!(
        "\t\t{family} saddr {address} tcp dport {{ 2377, 7946 }} accept\n\
         \t\t{family} saddr {address} udp dport {{ 4789, 7946 }} accept\n\
         \t\t{family} saddr {address} meta l4proto esp accept\n"
    )
}

fn list(ports: &BTreeSet<u16>) -> String {
    ports
        .iter()
        .map(u16::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
