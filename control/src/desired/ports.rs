//! Ports on 127.0.0.1 where the proxy reaches services: a pure function of the names on a host, so that every run
//! finds the same ones. Stands alone because a change here moves every service.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use sovereign_config::stack::model::Stack;

use super::RenderError;

/// The first port of slot a.
const FIRST: u16 = 20_000;
/// How much higher the ports of slot b are.
pub const SLOT_B: u16 = 10_000;
/// How many ports a service has, beginning at its own: one for each of its languages, say.
pub(super) const EACH: u16 = 16;
/// How many services a host has at the most.
const PLACES: u16 = SLOT_B / EACH;

/// The first port of each service on a host, by its name.
pub(super) type Ports = BTreeMap<String, u16>;

/// The ports of a host.
pub(super) fn of_host(stack: &Stack, host: &str) -> Result<Ports, RenderError> {
    let on_host = stack.services.iter().filter(|service| service.host == host);
    let mut names: Vec<&str> = on_host.map(|service| service.name.as_str()).collect();
    names.sort_unstable();
    assign(&names).ok_or_else(|| RenderError::Ports {
        host: host.to_owned(),
        most: PLACES,
    })
}

/// Each name has the place of its hash, or the next one that is free; names come in alphabetical order.
fn assign(names: &[&str]) -> Option<Ports> {
    let mut ports = Ports::new();
    for name in names {
        let wanted = hash(name);
        let place = (0..PLACES)
            .map(|step| FIRST + (wanted + step) % PLACES * EACH)
            .find(|port| ports.values().all(|taken| taken != port))?;
        ports.insert((*name).to_owned(), place);
    }
    Some(ports)
}

fn hash(name: &str) -> u16 {
    let digest = Sha256::digest(name.as_bytes());
    u16::from_be_bytes([digest[0], digest[1]]) % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_apart_and_the_same_each_time() {
        let names: Vec<String> = (0..PLACES).map(|number| format!("s{number}")).collect();
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.sort_unstable();
        let ports = assign(&names).expect("room for all");
        let mut all: Vec<u16> = ports.values().copied().collect();
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[1] - pair[0] == EACH));
        assert!(all[0] >= FIRST && all[all.len() - 1] + EACH <= FIRST + SLOT_B);
        assert_eq!(assign(&names), Some(ports));
        names.push("zz");
        assert_eq!(assign(&names), None);
    }

    #[test]
    fn a_name_keeps_its_port_beside_others() {
        let alone = assign(&["blog"]).expect("a port");
        let beside = assign(&["blog", "relay"]).expect("ports");
        assert_eq!(alone["blog"], beside["blog"]);
    }
}
