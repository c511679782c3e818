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
        let parent = lower.strip_prefix("*.").filter(|rest| rest.contains('.'));
        if lower == "*" || is_host(parent.unwrap_or(&lower)) {
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
pub(crate) fn is_host(text: &str) -> bool {
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

/// Whether public authorities certify `name` at all: a name below a public suffix, or a public address.
pub(super) fn is_certifiable(name: &str) -> bool {
    if let Ok(address) = name.parse::<IpAddr>() {
        return !PRIVATE
            .iter()
            .filter_map(|block| parse_network(block))
            .any(|block| block.contains(address));
    }
    let name = name.strip_prefix("*.").unwrap_or(name);
    let below = |suffix: &&str| {
        name.strip_suffix(*suffix)
            .is_some_and(|rest| rest.ends_with('.'))
    };
    name.contains('.') && name != "home.arpa" && !RESERVED.iter().any(below)
}

/// Names that no public DNS holds (RFC 6761, 6762, 7686, 8375, 9476), and those of onion services.
const RESERVED: &[&str] = &[
    "localhost",
    "test",
    "local",
    "internal",
    "home.arpa",
    "onion",
    "example",
    "invalid",
    "alt",
];

/// Addresses that lead to nobody in particular (RFC 6890).
const PRIVATE: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
    "::/128",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
    "ff00::/8",
    "2001:db8::/32",
];

fn name_hint(text: &str) -> Option<String> {
    if text.contains("://") {
        Some("write the name alone, without a scheme".to_owned())
    } else if !text.is_ascii() {
        Some("write it in punycode: xn--...".to_owned())
    } else if text.contains('*') {
        Some("a * stands for one whole label before two others, as in *.example.org, or alone for every host".to_owned())
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
    fn names_that_no_public_authority_certifies_are_known() {
        for name in [
            "www.example.org",
            "*.example.org",
            "example.org",
            "mytest.org",
            "9.9.9.9",
            "2620:fe::9",
        ] {
            assert!(is_certifiable(name), "{name}");
        }
        for name in [
            "localhost",
            "intranet",
            "a.localhost",
            "a.test",
            "nas.local",
            "*.nas.local",
            "*.local",
            "db.internal",
            "home.arpa",
            "nas.home.arpa",
            "abc.onion",
            "a.example",
            "a.invalid",
            "127.0.0.1",
            "192.168.1.5",
            "100.64.0.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(!is_certifiable(name), "{name}");
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
