//! The proxy of Sovereign Stack.
//!
//! ```text
//! listener -> tls -> connection (http1, http2) -> request { route -> cache -> upstream -> response } -> log, metrics
//! ```
//!
//! The modules stand in the order in which a request meets them.

// Builds everything, keeps it, takes it down.
pub mod app;
// The first process of a container.
pub mod init;
// Sockets that come from, and go to, another process.
pub mod handover;
// What all connections share.
pub mod shared;
// An error in one line, for whoever shows it.
mod causes;
// Sockets and accept loops.
pub mod listener;
// Certificates, the local authority, the handshake.
pub mod tls;
// Certificates from authorities: when they are due, how they are had, what happened.
pub mod acme;
// The seam: any stream with its facts.
pub mod connection;
// The client's side of a request, whatever the protocol.
pub mod downstream;
pub mod fields;
pub mod http1;
pub mod http2;
// One request from its head to the log.
pub mod request;
// Requests of the daemon itself.
pub mod internal;
// Host and path to site and route.
pub mod route;
// What is stored, what may be, and what is on its way.
pub mod cache;
pub mod changes;
// The servers behind us, and the passage to them.
pub mod pool;
pub mod upstream;
// What we say ourselves, and what we add.
pub mod response;
// One line and one count for each request.
pub mod access_log;
pub mod metrics;
// What the operator sees and steers.
pub mod admin;
pub mod certs;
pub mod status;
// The site inside the daemon.
pub mod demo;
// What fills the cache before visitors come.
pub mod warm;

// Waiting, in unit tests.
#[cfg(test)]
mod eventually;
