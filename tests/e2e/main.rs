//! End to end: each test is a short session with the built program and real components.
//!
//! A session that only needs its own processes runs beside others (`Lab::open`); one that measures
//! has the machine to itself (`Lab::alone`). Nothing is skipped: a component that is missing is a
//! failure that says how to get it.

// The blog that several areas share.
mod blog;

// What everything else relies on.
mod components;

// A site that stays up.
mod ghost;
mod published;
mod reload;
mod restart;

// The daemon under a service manager and in a container, and what it costs to keep.
mod container;
mod life;

// What a visitor's program may expect.
mod apps;
mod aside;
mod cache;
mod client_certs;
mod letter;
mod protocols;
mod routing;
mod tls;

// What is stored: found again, purged, and inside its bounds.
mod budget;
mod durable;
mod purged;

// Certificates of authorities.
mod acme;

// What goes wrong outside.
mod bad_days;
mod bad_input;
mod faults;
mod upstream;

// What an operator does.
mod cli;
mod demo;
mod deploy;
// The services that there are, without a host.
mod templates;
