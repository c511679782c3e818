//! Waits until what was put into a zone is seen by all its servers: an authority asks any of them, and
//! one that has not got it yet fails the challenge.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::rr::{Name, RData, RecordType};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::record::zone_in;
use super::resolver::{self, AskError, Resolver};

/// Who has to see a record.
#[derive(Debug)]
pub(super) struct Seers {
    /// The servers of the zone, each with what it is called.
    servers: Vec<(SocketAddr, String)>,
    /// Asked where no server of the zone is known.
    resolver: Option<Resolver>,
}

/// What one server says.
enum Said {
    /// It has the record.
    Here,
    /// It has not.
    NotYet,
    /// It does not answer.
    Nothing,
}

impl Seers {
    /// The servers that a zone names, as its primary server tells, and that one.
    pub(super) async fn of_zone(zone: &Name, primary: SocketAddr, resolver: Resolver) -> Self {
        let mut servers = match resolver::ask(primary, zone, RecordType::NS, false).await {
            Ok(answer) => addresses(&names(&answer.answers), resolver).await,
            Err(_) => Vec::new(),
        };
        if !servers.iter().any(|(address, _)| *address == primary) {
            servers.push((primary, primary.to_string()));
        }
        Self {
            servers,
            resolver: None,
        }
    }

    /// The servers of the zone of a name, as the resolver tells; where it does not, the resolver itself.
    pub(super) async fn of_name(name: &Name, resolver: Resolver) -> Self {
        let servers = match zone(name, resolver).await {
            Some(zone) => match resolver.ask(&zone, RecordType::NS).await {
                Ok(answer) => addresses(&names(&answer.answers), resolver).await,
                Err(_) => Vec::new(),
            },
            None => Vec::new(),
        };
        let resolver = servers.is_empty().then_some(resolver);
        Self { servers, resolver }
    }

    /// Returns when all of them answer with the value at `name`, or says which do not. A server that does not
    /// answer at all is not waited for: the authority passes over it as well.
    pub(super) async fn wait(&self, name: &Name, value: &str) -> Result<(), Vec<String>> {
        let deadline = Instant::now() + LONGEST;
        let mut left = self.servers.clone();
        let mut silent = 0;
        loop {
            if let Some(resolver) = self.resolver {
                match said(&resolver.ask(name, RecordType::TXT).await, name, value) {
                    Said::Here => return Ok(()),
                    Said::NotYet => {}
                    Said::Nothing if silent == SILENT => return Ok(()),
                    Said::Nothing => silent += 1,
                }
            } else {
                left = round(left, name, value).await;
                if left.is_empty() {
                    return Ok(());
                }
            }
            if Instant::now() >= deadline {
                return Err(self.called(left));
            }
            sleep(AGAIN).await;
        }
    }

    fn called(&self, left: Vec<(SocketAddr, String)>) -> Vec<String> {
        if self.resolver.is_some() {
            return vec!["the resolver".to_owned()];
        }
        left.into_iter().map(|(_, called)| called).collect()
    }
}

/// The servers that answer, but not with it.
async fn round(
    servers: Vec<(SocketAddr, String)>,
    name: &Name,
    value: &str,
) -> Vec<(SocketAddr, String)> {
    let mut asked = JoinSet::new();
    for (server, called) in servers {
        let (name, value) = (name.clone(), value.to_owned());
        asked.spawn(async move {
            let answer = resolver::ask(server, &name, RecordType::TXT, false).await;
            match said(&answer, &name, &value) {
                Said::NotYet => Some((server, called)),
                Said::Here => None,
                Said::Nothing => {
                    tracing::debug!(%server, %name, "a server of the zone does not answer");
                    None
                }
            }
        });
    }
    asked.join_all().await.into_iter().flatten().collect()
}

fn said(answer: &Result<hickory_proto::op::Message, AskError>, name: &Name, value: &str) -> Said {
    match answer {
        Ok(answer)
            if resolver::texts(answer, name)
                .iter()
                .any(|text| text == value) =>
        {
            Said::Here
        }
        Ok(_) => Said::NotYet,
        Err(_) => Said::Nothing,
    }
}

/// The zone of a name, as the resolver tells.
async fn zone(name: &Name, resolver: Resolver) -> Option<Name> {
    let answer = resolver.ask(name, RecordType::SOA).await.ok()?;
    zone_in(&answer, name)
}

fn names(records: &[hickory_proto::rr::Record]) -> Vec<Name> {
    let servers = records.iter().filter_map(|record| match &record.data {
        RData::NS(server) => Some(server.0.clone()),
        _ => None,
    });
    servers.take(SERVERS).collect()
}

/// Each address of each server, once.
async fn addresses(names: &[Name], resolver: Resolver) -> Vec<(SocketAddr, String)> {
    let mut known = BTreeSet::new();
    let mut found = Vec::new();
    for name in names {
        let mut called = name.to_ascii();
        called.truncate(called.trim_end_matches('.').len());
        let addresses = resolver.addresses(&called).await.unwrap_or_default();
        for ip in addresses.into_iter().take(ADDRESSES) {
            let mut called = called.clone();
            // Writing to a string does not fail.
            let _ = write!(called, " ({ip})");
            if known.insert(ip) {
                found.push((SocketAddr::new(ip, 53), called));
            }
        }
    }
    found
}

/// How long a zone may take to spread what is new.
pub(super) const LONGEST: Duration = Duration::from_secs(120);
/// How long the next round waits.
const AGAIN: Duration = Duration::from_secs(1);
/// Servers of one zone, and addresses of one server, that are asked.
const SERVERS: usize = 13;
const ADDRESSES: usize = 4;
/// Unanswered rounds after which a resolver is not waited for.
const SILENT: usize = 2;
