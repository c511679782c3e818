//! Free ports for programs that have to be told theirs.
//!
//! They are taken from below the kernel's ephemeral range: between choosing a port and binding it,
//! no outgoing connection of some other test can be given it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 15_000;
const COUNT: u16 = 15_000;

/// An address on the loopback interface where nothing listens, never given out twice by one process.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two test processes at once begin at different places.
    let start = (std::process::id() as u16).wrapping_mul(37) % COUNT;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (start + step) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!(
        "no port is free between {FIRST} and {}",
        u32::from(FIRST) + u32::from(COUNT)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_can_be_bound() {
        let (one, two) = (free_address(), free_address());
        assert_ne!(one, two);
        assert!(TcpListener::bind(one).is_ok() && TcpListener::bind(two).is_ok());
    }
}
