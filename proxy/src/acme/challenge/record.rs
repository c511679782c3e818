//! One TXT record that proves control of a name: where it goes, who puts it there, when the authority can
//! see it, and how it goes again. Several of one name stand side by side, as for `a.example` and
//! `*.a.example`, so only the own value is ever removed.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RData, RecordType};
use sovereign_config::model::Dns;

use super::hook::{self, HookError, Wish};
use super::persist;
use super::resolver::{self, AskError, Resolver};
use super::spread::{self, Seers};
use super::update::{self, Change, Key, UpdateError};
use crate::acme::answers::Put;

/// Why a record is not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A name that is none.
    #[error("{0} cannot be a name in the DNS")]
    Name(String),
    /// The server of the configuration has no address.
    #[error("the DNS server {host} has no address{}", cause(.source))]
    Server {
        /// Its name.
        host: String,
        /// Why.
        source: Option<AskError>,
    },
    /// A question was not answered.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The server does not know the name.
    #[error("the DNS server {server} is not responsible for {name}{}", alias(.by))]
    Zone {
        /// The server.
        server: SocketAddr,
        /// Where the record goes.
        name: Name,
        /// What leads there, where that is another name.
        by: Option<Name>,
    },
    /// Aliases that lead on and on.
    #[error("{0} leads through more than {ALIASES} aliases, or in a circle")]
    Aliases(Name),
    /// The server did not change the zone.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// The program did not do what it should.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The record cannot be seen.
    #[error("the record at {name} was put in place, but {} after {} s", missing(.servers), spread::LONGEST.as_secs())]
    Unseen {
        /// Where it is.
        name: Name,
        /// Who does not have it.
        servers: Vec<String>,
    },
}

/// Puts records into the DNS.
#[derive(Debug, Clone)]
pub(super) struct Records {
    way: Arc<Way>,
    resolver: Resolver,
}

#[derive(Debug)]
enum Way {
    Update {
        server: (String, u16),
        zone: Option<String>,
        key: Key,
    },
    Hook(Vec<String>),
}

/// A record in its place.
#[derive(Debug, Clone)]
struct Place {
    name: Name,
    /// Its zone and the zone's server, where it is put in by an update.
    zone: Option<(Name, SocketAddr)>,
}

impl Records {
    pub(super) fn new(dns: &Dns, resolver: Resolver) -> Self {
        let way = match dns {
            Dns::Hook(command) => Way::Hook(command.clone()),
            Dns::Update {
                server,
                zone,
                key_name,
                algorithm,
                key,
            } => Way::Update {
                server: server.clone(),
                zone: zone.clone(),
                key: Key {
                    name: key_name.clone(),
                    algorithm: *algorithm,
                    file: key.clone(),
                },
            },
        };
        Self {
            way: Arc::new(way),
            resolver,
        }
    }

    /// Puts `value` at `label` below `host`, and waits until it can be seen. `host` may be a wildcard.
    pub(super) async fn add(
        &self,
        label: &str,
        host: &str,
        value: &str,
    ) -> Result<Put, RecordError> {
        let place = self.place_of(label, host).await?;
        // First who takes it back: this may be dropped at any moment from here on.
        let put = self.put(&place, value);
        let seen = async {
            self.change(&place, value, Change::Add).await?;
            self.seen(&place, value).await
        };
        match seen.await {
            Ok(()) => Ok(put),
            Err(error) => {
                put.remove().await;
                Err(error)
            }
        }
    }

    /// Has a record that says at least `value` stay at `label` below `host`.
    pub(super) async fn keep(
        &self,
        label: &str,
        host: &str,
        value: &str,
    ) -> Result<(), RecordError> {
        let place = self.place_of(label, host).await?;
        let answer = match &place.zone {
            Some((_, server)) => resolver::ask(*server, &place.name, RecordType::TXT, false).await,
            None => self.resolver.ask(&place.name, RecordType::TXT).await,
        };
        let there = answer.map(|answer| resolver::texts(&answer, &place.name));
        if there
            .unwrap_or_default()
            .iter()
            .any(|text| persist::says(text, value))
        {
            return Ok(());
        }
        self.change(&place, value, Change::Add).await?;
        self.seen(&place, value).await
    }

    /// Waits until all who may be asked have it.
    async fn seen(&self, place: &Place, value: &str) -> Result<(), RecordError> {
        let seers = match &place.zone {
            Some((zone, server)) => Seers::of_zone(zone, *server, self.resolver).await,
            None => Seers::of_name(&place.name, self.resolver).await,
        };
        let unseen = |servers| RecordError::Unseen {
            name: place.name.clone(),
            servers,
        };
        seers.wait(&place.name, value).await.map_err(unseen)
    }

    fn put(&self, place: &Place, value: &str) -> Put {
        let (records, place, value) = (self.clone(), place.clone(), value.to_owned());
        Put::new(move || {
            Some(Box::pin(async move {
                if let Err(error) = records.change(&place, &value, Change::Remove).await {
                    tracing::warn!(name = %place.name, "a record of a challenge stays in the DNS: {error}");
                }
            }))
        })
    }

    async fn change(&self, place: &Place, value: &str, change: Change) -> Result<(), RecordError> {
        match (&*self.way, &place.zone) {
            (Way::Update { key, .. }, Some((zone, server))) => {
                let record = (&place.name, value);
                update::change(*server, key, zone, record, change).await?;
            }
            (Way::Hook(command), _) => {
                let wish = match change {
                    Change::Add => Wish::Present,
                    Change::Remove => Wish::Remove,
                };
                let name = place.name.to_ascii();
                hook::run(command, wish, name.trim_end_matches('.'), value).await?;
            }
            // A place for updates always has its zone.
            (Way::Update { .. }, None) => {}
        }
        Ok(())
    }

    /// Where the record goes that is asked for at `label` below `host`: aliases are followed.
    async fn place_of(&self, label: &str, host: &str) -> Result<Place, RecordError> {
        let asked = format!("{label}.{}", host.trim_start_matches("*."));
        let asked = &resolver::fqdn(&asked).map_err(|_| RecordError::Name(asked))?;
        let server = match &*self.way {
            Way::Update { server, .. } => Some(self.server(server).await?),
            Way::Hook(_) => None,
        };
        let mut name = asked.clone();
        for _ in 0..ALIASES {
            match self.alias(&name, server).await {
                Some(next) => name = next,
                None => return self.placed(asked, name, server).await,
            }
        }
        Err(RecordError::Aliases(asked.clone()))
    }

    async fn placed(
        &self,
        asked: &Name,
        name: Name,
        server: Option<SocketAddr>,
    ) -> Result<Place, RecordError> {
        let (Some(server), Way::Update { zone, .. }) = (server, &*self.way) else {
            return Ok(Place { name, zone: None });
        };
        let zone = match zone {
            Some(zone) => {
                let zone = resolver::fqdn(zone).map_err(|_| RecordError::Name(zone.clone()))?;
                Some(zone).filter(|zone| zone.zone_of(&name))
            }
            None => zone_at(server, &name).await?,
        };
        match zone {
            Some(zone) => Ok(Place {
                name,
                zone: Some((zone, server)),
            }),
            None => Err(RecordError::Zone {
                server,
                by: (name != *asked).then(|| asked.clone()),
                name,
            }),
        }
    }

    /// What stands in the place of `name`: as the zone's own server has it, else as the DNS has it.
    async fn alias(&self, name: &Name, server: Option<SocketAddr>) -> Option<Name> {
        if let Some(server) = server
            && let Ok(answer) = resolver::ask(server, name, RecordType::CNAME, false).await
            && answer.metadata.authoritative
        {
            return cname(&answer, name);
        }
        let answer = self.resolver.ask(name, RecordType::CNAME).await.ok()?;
        cname(&answer, name)
    }

    async fn server(&self, (host, port): &(String, u16)) -> Result<SocketAddr, RecordError> {
        let nowhere = |source| RecordError::Server {
            host: host.clone(),
            source,
        };
        let found = self.resolver.addresses(host).await;
        let found = found.map_err(|error| nowhere(Some(error)))?;
        let first = found.first().ok_or_else(|| nowhere(None))?;
        Ok(SocketAddr::new(*first, *port))
    }
}

/// The zone of a name, as a server that is responsible for it says; `None`: it is not.
pub(super) async fn zone_at(server: SocketAddr, name: &Name) -> Result<Option<Name>, AskError> {
    match resolver::ask(server, name, RecordType::SOA, false).await {
        Ok(answer) if answer.metadata.authoritative => Ok(zone_in(&answer, name)),
        Ok(_) | Err(AskError::Refused(..)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The zone that an answer to a question for the SOA record of `name` speaks of.
pub(super) fn zone_in(answer: &Message, name: &Name) -> Option<Name> {
    let mut records = answer.answers.iter().chain(&answer.authorities);
    let soa = records.find(|record| {
        matches!(record.data, RData::SOA(_)) && record.name.zone_of(name) && !record.name.is_root()
    });
    soa.map(|record| record.name.clone())
}

fn cname(answer: &Message, name: &Name) -> Option<Name> {
    let of_name = answer.answers.iter().find(|record| record.name == *name);
    match &of_name?.data {
        RData::CNAME(target) => Some(target.0.clone()),
        _ => None,
    }
}

fn cause(source: &Option<AskError>) -> String {
    source
        .as_ref()
        .map_or_else(String::new, |error| format!(": {error}"))
}

fn alias(by: &Option<Name>) -> String {
    by.as_ref()
        .map_or_else(String::new, |by| format!(", where {by} leads"))
}

fn missing(servers: &[String]) -> String {
    let verb = if servers.len() == 1 { "does" } else { "do" };
    format!("{} {verb} not answer with it", servers.join(", "))
}

/// Aliases that are followed.
const ALIASES: usize = 8;
