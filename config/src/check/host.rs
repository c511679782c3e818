//! Host names and address blocks.

use std::net::IpAddr;

use super::Check;
use crate::model::Network;
use crate::problem::{Key, quoted};

impl Check<'_, '_> {
    /// A site's name in lower case: a host name, an address, or `*`.
    pub(super) fn name(&mut self, key: &Key, text: &str) -> String {
        let lower = text.to_ascii_lowercase();
        let bare = lower
            .strip_prefix('[')
            .and_then(|inner| inner.strip_suffix(']'))
            .unwrap_or(&lower);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return address.to_string();
        }
        if lower == "*" || is_host(&lower) {
            return lower;
        }
        let wanted = "a host name such as www.example.org";
        match name_hint(&lower) {
            Some(hint) => self.problems.add_with_hint(key, quoted(text), wanted, hint),
            None => self.problems.add(key, quoted(text), wanted),
        }
        String::new()
    }

    /// An address block in CIDR form; a single address is a block of its own.
    pub(super) fn network(&mut self, key: &Key, text: &str) -> Option<Network> {
        let wanted = "an address block such as 10.0.0.0/8";
        let Some(network) = parse_network(text) else {
            self.problems.add(key, quoted(text), wanted);
            return None;
        };
        let start = first_address(network);
        if start == network.address {
            return Some(network);
        }
        let hint = format!("the block is written {start}/{}", network.prefix);
        self.problems.add_with_hint(key, quoted(text), wanted, hint);
        None
    }
}

/// Whether `text` is a host name in lower case, as certificates and DNS take it.
pub(super) fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits only would be taken for an IPv4 address.
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253 && text.split('.').all(label) && !last.bytes().all(|b| b.is_ascii_digit())
}

fn name_hint(text: &str) -> Option<String> {
    if text.contains("://") {
        Some("write the name alone, without a scheme".to_owned())
    } else if !text.is_ascii() {
        Some("write it in punycode: xn--...".to_owned())
    } else if let Some(rest) = text.strip_prefix("*.") {
        Some(format!(
            "name each host, such as www.{rest}; only \"*\" alone stands for others"
        ))
    } else if let Some((host, _)) = text.split_once(':').filter(|(host, _)| is_host(host)) {
        Some(format!(
            "write {host} without a port; [listen] sets the ports"
        ))
    } else if let Some(host) = text.strip_suffix('.').filter(|host| is_host(host)) {
        Some(format!("write {host} without a dot at the end"))
    } else {
        text.contains('_')
            .then(|| "host names hold letters, digits, hyphens and dots".to_owned())
    }
}

fn parse_network(text: &str) -> Option<Network> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) if prefix.bytes().all(|b| b.is_ascii_digit()) => (
            address.parse::<IpAddr>().ok()?,
            Some(prefix.parse::<u8>().ok()?),
        ),
        Some(_) => return None,
        None => (text.parse::<IpAddr>().ok()?, None),
    };
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.unwrap_or(bits);
    // `Network::contains` compares mapped addresses as IPv4, so the prefix has to be IPv4's, too.
    match address.to_canonical() {
        canonical if canonical == address => {
            (prefix <= bits).then_some(Network { address, prefix })
        }
        canonical => (96..=128).contains(&prefix).then(|| Network {
            address: canonical,
            prefix: prefix - 96,
        }),
    }
}

fn first_address(network: Network) -> IpAddr {
    match network.address {
        IpAddr::V4(address) => {
            let host_bits = 32 - u32::from(network.prefix);
            let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let host_bits = 128 - u32::from(network.prefix);
            let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_what_they_should() {
        let table = [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "11.1.2.3", false),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "192.0.2.1", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("2001:db8::/32", "2001:db8:1::", true),
            ("2001:db8::/32", "2001:db9::", false),
        ];
        for (block, address, inside) in table {
            let network = parse_network(block).expect("a block");
            let address = address.parse().expect("an address");
            assert_eq!(network.contains(address), inside, "{block} {address}");
        }
    }

    #[test]
    fn bad_networks_are_refused() {
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10/8",
            "::/129",
            "::ffff:0:0/90",
        ] {
            assert_eq!(parse_network(text), None, "{text}");
        }
    }

    #[test]
    fn host_names_are_told_from_what_is_none() {
        for name in [
            "localhost",
            "example.org",
            "a.b-c.example",
            "xn--bcher-kva.example",
        ] {
            assert!(is_host(name), "{name}");
        }
        for name in [
            "",
            "-a.example",
            "a-.example",
            "a..b",
            "a_b",
            "1.2.3",
            "example.org.",
            "a b",
        ] {
            assert!(!is_host(name), "{name}");
        }
    }
}
