//! The harness of the end-to-end tests: real components, started and stopped as a session needs
//! them. It stands alone so that a test reads as what a person would do, and nothing else.
//!
//! A session opens a [`Lab`], starts components in it, and waits with [`eventually`]. Whatever it
//! started ends with it; where the session failed, the lab prints the tail of every log and stays.

// Waiting, and where a session takes place.
pub mod lab;
pub mod port;
pub mod process;
pub mod wait;

// The program under test.
pub mod proxy;

// What the machine does to it.
pub mod cgroup;
pub mod faketime;
pub mod mounts;

// Machines to deploy to.
pub mod cluster;

// What stands in front of it: clients.
pub mod chromium;
pub mod client;
pub mod load;
pub mod raw;
pub mod served;
pub mod websocket;

// Who gives it certificates, and what they rely on: a DNS, and a store that proxies share.
pub mod broken_ca;
pub mod challtest;
pub mod etcd;
pub mod knot;
pub mod pebble;

// What stands behind it: real applications, and origins that misbehave as no real one can be made to.
pub mod date;
pub mod ghost;
pub mod git;
pub mod mariadb;
pub mod nostr;
pub mod origin;
pub mod radicale;
pub mod script;
pub mod truth;

pub use broken_ca::BrokenCa;
pub use challtest::ChallTest;
pub use chromium::Chromium;
pub use client::{Answer, Client, Target};
pub use cluster::{Cluster, Image};
pub use etcd::Etcd;
pub use ghost::Ghost;
pub use knot::Knot;
pub use lab::Lab;
pub use load::Load;
pub use mariadb::MariaDb;
pub use nostr::NostrRelay;
pub use origin::Origin;
pub use pebble::Pebble;
pub use proxy::Proxy;
pub use radicale::Radicale;
pub use truth::Truth;
pub use wait::eventually;
