//! The daemon at one moment, for `status`.

use std::sync::Arc;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::App;
use crate::access_log::since;
use crate::cache::Usage;
use crate::certs;
use crate::pool::{Member, State};
use crate::route::Site;
use crate::status::{
    CacheStatus, DiskStatus, ReloadStatus, SiteStatus, Status, UpstreamState, UpstreamStatus,
};
use crate::tls::Certificates;
use sovereign_config::model::{Tls, Until};

impl App {
    pub(super) fn report(&self) -> Status {
        let live = self.shared.live();
        let [hits, misses, stale, bypass] = live
            .router
            .sites()
            .iter()
            .map(|site| site.metrics.cache())
            .fold([0; 4], |sum, one| {
                std::array::from_fn(|at| sum[at] + one[at])
            });
        let usage = self.shared.cache.usage();
        let (served, wanted) = (self.shared.certificates.list(), self.shared.acme.report());
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            program: self
                .program
                .path
                .as_ref()
                .map(|path| path.display().to_string()),
            digest: self.program.digest(),
            pid: std::process::id(),
            started: text(since(self.started)),
            uptime_seconds: self.started.elapsed().as_secs(),
            config: self
                .config_path
                .as_ref()
                .map(|path| path.display().to_string()),
            draining: self.stop.borrow().is_some(),
            connections: u64::try_from(self.shared.metrics.connections.get()).unwrap_or_default(),
            requests: self.shared.metrics.total.get(),
            sites: self.sites(),
            certificates: certs::certificates(&served, &wanted),
            acme: certs::acme(&wanted),
            cache: CacheStatus {
                memory_bytes: usage.memory,
                memory_limit: usage.memory_limit,
                objects: usage.objects,
                disk: of_disk(&usage),
                hits,
                misses,
                stale,
                bypass,
                hit_ratio: ratio(hits, misses, stale),
            },
            listeners: self
                .listeners
                .lock()
                .iter()
                .map(|listener| listener.name.clone())
                .collect(),
            last_reload: self.last_reload.lock().clone(),
        }
    }

    pub(super) fn sites(&self) -> Vec<SiteStatus> {
        let live = self.shared.live();
        let sites = live.router.sites().iter();
        let status = |site: &Arc<Site>| of_site(site, &self.shared.certificates);
        sites.map(status).collect()
    }

    /// Says in the log which authorities wait for a word: where no terminal is, nobody was asked.
    pub(super) fn tell_of_terms(&self) {
        for authority in certs::acme(&self.shared.acme.report()).authorities {
            if !authority.agreed {
                tracing::warn!(
                    "{} is asked for no certificate until its terms of service are agreed to: run \
                     `sovereign-proxy certs agree`; sites are served with temporary certificates",
                    authority.name
                );
            }
        }
    }

    pub(super) fn note_reload(&self, outcome: &Result<String, String>) {
        let (ok, message) = match outcome {
            Ok(message) => (true, message.clone()),
            Err(message) => (false, message.clone()),
        };
        *self.last_reload.lock() = Some(ReloadStatus {
            time: text(OffsetDateTime::now_utc()),
            ok,
            message,
        });
    }
}

fn of_site(site: &Site, certificates: &Certificates) -> SiteStatus {
    let until = site.config.certificates.until;
    let mut names = site.config.names.iter();
    let [hits, misses, stale, _] = site.metrics.cache();
    let members = site.pools().into_iter().flat_map(|pool| pool.members());
    SiteStatus {
        names: site.config.names.clone(),
        preset: site.config.preset.clone(),
        tls: match &site.config.tls {
            Tls::Acme => "acme",
            Tls::Local => "local",
            Tls::Off => "off",
            Tls::Files { .. } => "files",
        }
        .to_owned(),
        in_the_clear: until == Until::Http && names.any(|name| certificates.is_provisional(name)),
        requests: site.metrics.requests(),
        hit_ratio: ratio(hits, misses, stale),
        upstreams: members.map(of_member).collect(),
    }
}

fn of_disk(usage: &Usage) -> DiskStatus {
    let Some(disk) = &usage.disk else {
        return DiskStatus::default();
    };
    DiskStatus {
        health: disk.health.as_str().to_owned(),
        bytes: disk.bytes,
        limit: disk.limit,
        objects: disk.records,
        waiting: disk.waiting,
        not_stored: disk.not_stored,
        corrupt: disk.corrupt,
        error: disk.last_error.clone().or_else(|| usage.journal.clone()),
    }
}

fn of_member(member: &Member) -> UpstreamStatus {
    let (state, last_error) = member.state();
    let (requests, failures, active) = member.counts();
    UpstreamStatus {
        address: member.display(),
        state: match state {
            State::Up => UpstreamState::Up,
            State::Down => UpstreamState::Down,
            State::Unknown => UpstreamState::Unknown,
        },
        requests,
        failures,
        last_error,
        active,
    }
}

/// Hits among the requests that the cache took part in.
fn ratio(hits: u64, misses: u64, stale: u64) -> Option<f64> {
    let all = hits + misses + stale;
    (all > 0).then(|| hits as f64 / all as f64)
}

fn text(time: OffsetDateTime) -> String {
    let whole = time.replace_nanosecond(0).unwrap_or(time);
    whole.format(&Rfc3339).unwrap_or_default()
}
