//! The command that deploys a stack: services and proxies, over SSH, from one file. The modules stand in the
//! order in which a deployment passes them.
//!
//! ```text
//! stack.toml -> catalogue -> secrets -> lock -> desired -> archive -> observe -> plan -> show -> apply -> verify
//! ```

// The kinds of service there are, as data.
pub mod catalogue;
// What nobody else may read.
pub mod secrets;
// Which images the tags mean.
pub mod lock;
// The program of the proxy that is installed.
pub mod program;
// What should be on each host: rendered files.
pub mod desired;
// What is copied before anything changes.
pub mod archive;
// A connection to a host, and what is done through it.
pub mod ssh;
// What lies on a host, and where.
pub mod host;
// What runs services on a host.
pub mod engine;
// What is on each host.
pub mod observe;
// What has to be done: a value, made without I/O.
pub mod plan;
// The plan, for people and for machines.
pub mod show;
// Does what the plan says, and nothing else.
pub mod apply;
// Looks again.
pub mod verify;
// Deployments of before, and the way back.
pub mod history;

// ---- what runs ----

// Where a service runs at this moment.
pub mod running;
// What a Bitcoin node says of itself.
pub mod bitcoin;
// How everything is: a value.
pub mod status;
// What needs attention, for readers and calendars.
pub mod feed;
// What a host needs before anything can be deployed to it.
pub mod prepare;

// ---- the command ----

// What can be asked.
pub mod args;
// What every command works with.
pub mod context;
// One file a command.
pub mod commands;
// A file beside stack.toml, replaced as a whole.
pub mod replace;
// Errors for people.
pub mod failure;
// The only place that prints.
pub mod printer;
