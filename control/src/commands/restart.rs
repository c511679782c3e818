//! `sovereign restart`: services again, from what is in force. The proxy serves what it has kept meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sovereign_config::stack::model;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::args::Restart;
use crate::context::{Context, Loaded, Outcome};
use crate::engine::Found;
use crate::failure::{Hinted, tell};
use crate::host::{Host, Locking};
use crate::observe::Health;
use crate::printer::Printer;
use crate::running::{self, Running};
use crate::ssh::{Connect, seconds};

/// How often it is looked whether a service is well again.
const LOOKS: Duration = Duration::from_secs(2);
/// How long the operator's own Compose file may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs it.
pub async fn run(args: &Restart, ctx: &Context) -> Result<Outcome, anyhow::Error> {
    let loaded = ctx.load()?;
    let mut work = JoinSet::new();
    for (host, services) in by_host(&loaded, &args.services)? {
        let restart = Restarting {
            connect: ctx.access().clone(),
            host: loaded.host(&host)?.clone(),
            services,
            part: args.part.clone(),
            printer: ctx.printer.clone(),
        };
        work.spawn(restart.all());
    }
    let mut outcome = Outcome::Done;
    while let Some(done) = work.join_next().await {
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tell(&error, &ctx.printer);
                outcome = Outcome::Differs;
            }
            Err(_) => outcome = Outcome::Differs,
        }
    }
    Ok(outcome)
}

type Work = BTreeMap<String, Vec<(String, Duration)>>;

/// The services that are meant, with the patience of each, by their hosts.
fn by_host(loaded: &Loaded, names: &[String]) -> Result<Work, anyhow::Error> {
    let mut work = Work::new();
    for name in names {
        let service = loaded.service(name)?;
        let patience = loaded
            .catalogue
            .get(&service.kind)
            .map_or(PATIENCE, |kind| kind.patience);
        let on_host = work.entry(service.host.clone()).or_default();
        if on_host.iter().all(|(known, _)| known != name) {
            on_host.push((name.clone(), patience));
        }
    }
    Ok(work)
}

/// Restarts services of a host, one after the other.
struct Restarting {
    connect: Arc<dyn Connect>,
    host: model::Host,
    services: Vec<(String, Duration)>,
    part: Option<String>,
    printer: Printer,
}

impl Restarting {
    async fn all(self) -> anyhow::Result<()> {
        let remote = self.connect.connect(&self.host).await?;
        let _lock = locked(&Host::new(remote), &self.host.name).await?;
        for (service, patience) in &self.services {
            self.one(service, *patience).await?;
        }
        Ok(())
    }

    async fn one(&self, service: &str, patience: Duration) -> anyhow::Result<()> {
        let running = running::find(self.connect.as_ref(), &self.host, service).await?;
        if running.projects().is_empty() {
            return Err(running.not_running().into());
        }
        let part = match &self.part {
            Some(part) => Some(running.part(Some(part))?),
            None => None,
        };
        let since = Instant::now();
        let task = self
            .printer
            .task(format!("{}: restarting {service}", self.host.name));
        running
            .engine
            .restart(&running.project(), part.as_deref())
            .await?;
        self.well(&running, service, patience).await?;
        drop(task);
        self.printer.say(&format!(
            "{}: {service} was restarted, and is well after {}",
            self.host.name,
            seconds(&since.elapsed())
        ));
        Ok(())
    }

    /// Waits until all of it is well again.
    async fn well(
        &self,
        before: &Running,
        service: &str,
        patience: Duration,
    ) -> anyhow::Result<()> {
        let until = Instant::now() + patience;
        loop {
            let found = before.engine.containers().await?;
            let mine: Vec<Found> = found
                .into_iter()
                .filter(|one| one.service.as_deref() == Some(service) && one.slot == before.slot)
                .collect();
            let Some(unwell) = unwell(&mine) else {
                return Ok(());
            };
            if Instant::now() >= until {
                let text = format!(
                    "{}: {service} was restarted, and is not well after {}: {unwell}",
                    self.host.name,
                    seconds(&patience)
                );
                return Err(Hinted::new(
                    text,
                    format!("`sovereign logs {service}` shows what it says"),
                )
                .into());
            }
            sleep(LOOKS).await;
        }
    }
}

/// What of a service is not well: its name, and how it is.
fn unwell(found: &[Found]) -> Option<String> {
    if found.is_empty() {
        return Some("nothing of it runs".to_owned());
    }
    found.iter().find_map(|one| {
        let part = &one.container.part;
        match &one.container.health {
            Health::Healthy | Health::Running | Health::Exited(0) => None,
            Health::Starting => Some(format!("{part} starts")),
            Health::Unhealthy(words) => Some(format!("{part} is not healthy: {}", words.trim())),
            Health::Exited(code) => Some(format!("{part} ended with exit code {code}")),
        }
    })
}

/// The lock of a host, so that nothing is touched while it is deployed to.
pub(super) async fn locked(host: &Host, name: &str) -> anyhow::Result<crate::host::Lock> {
    match host.lock(&Context::who()).await? {
        Locking::Ours(lock) => Ok(lock),
        Locking::Theirs(who) => {
            let hint = "wait until that is done; its lock ends with it, also where it is killed";
            Err(Hinted::new(
                format!("{name}: somebody else is at work there: {who}"),
                hint,
            )
            .into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{Container, Slot};

    #[test]
    fn what_is_not_well_is_named() {
        let found = |health| Found {
            service: Some("blog".to_owned()),
            slot: Slot::A,
            id: String::new(),
            container: Container {
                part: "db".to_owned(),
                image: String::new(),
                revision: None,
                health,
                restarts: 0,
                since: String::new(),
            },
        };
        assert_eq!(unwell(&[]).unwrap(), "nothing of it runs");
        assert_eq!(
            unwell(&[found(Health::Healthy), found(Health::Exited(0))]),
            None
        );
        assert_eq!(
            unwell(&[found(Health::Healthy), found(Health::Starting)]).unwrap(),
            "db starts"
        );
        assert_eq!(
            unwell(&[found(Health::Exited(137))]).unwrap(),
            "db ended with exit code 137"
        );
    }
}
