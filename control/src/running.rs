//! Where a service runs at this moment: the connection, the engine, its project and its containers. Stands alone because
//! every command that touches what runs begins with this question.

use std::sync::Arc;

use sovereign_config::stack::model;

use crate::engine::{self, Engine, Found, Project};
use crate::failure::Hinted;
use crate::host::{Layout, Whose};
use crate::observe::{Current, Health, Slot};
use crate::ssh::{Connect, Input, LOOK, Remote};

/// A service on its host.
pub struct Running {
    /// Its name.
    pub service: String,
    /// The way to its host.
    pub remote: Arc<dyn Remote>,
    /// What runs it.
    pub engine: Box<dyn Engine>,
    /// In which slot it is in force.
    pub slot: Slot,
    /// Its containers, in both slots, also those that have ended.
    pub found: Vec<Found>,
}

/// Looks where a service runs.
pub async fn find(
    connect: &dyn Connect,
    host: &model::Host,
    service: &str,
) -> Result<Running, engine::Error> {
    let remote = connect.connect(host).await?;
    let engine = engine::of(host.engine, Arc::clone(&remote));
    let mut found = engine.containers().await?;
    found.retain(|one| one.service.as_deref() == Some(service));
    let slot = slot(remote.as_ref(), service, &found).await?;
    Ok(Running {
        service: service.to_owned(),
        remote,
        engine,
        slot,
        found,
    })
}

/// The slot with containers; where both have some, what was written down last decides.
async fn slot(remote: &dyn Remote, service: &str, found: &[Found]) -> Result<Slot, engine::Error> {
    let has = |slot| found.iter().any(|one| one.slot == slot);
    match (has(Slot::A), has(Slot::B)) {
        (false, true) => return Ok(Slot::B),
        (_, false) => return Ok(Slot::A),
        (true, true) => {}
    }
    let path = Layout::default().current(&Whose::Service(service.to_owned()));
    let output = remote
        .output(&["cat", "--", &path], Input::nothing(), LOOK)
        .await?;
    let current: Option<Current> = serde_json::from_slice(&output.stdout).ok();
    Ok(current.map_or(Slot::A, |current| current.slot))
}

impl Running {
    /// The project that is in force.
    pub fn project(&self) -> Project {
        Project::service(&self.service, self.slot)
    }

    /// Its containers that are in force.
    pub fn in_force(&self) -> impl Iterator<Item = &Found> {
        self.found.iter().filter(|one| one.slot == self.slot)
    }

    /// The projects that have containers, whichever is in force.
    pub fn projects(&self) -> Vec<Project> {
        let has = |slot: &Slot| self.found.iter().any(|one| one.slot == *slot);
        let slots = [Slot::A, Slot::B].into_iter().filter(has);
        slots
            .map(|slot| Project::service(&self.service, slot))
            .collect()
    }

    /// The names of its containers that run, as its Compose file calls them.
    pub fn parts(&self) -> Vec<&str> {
        let running = self
            .in_force()
            .filter(|one| !matches!(one.container.health, Health::Exited(_)));
        let mut parts: Vec<&str> = running.map(|one| one.container.part.as_str()).collect();
        parts.dedup();
        parts
    }

    /// The container that is meant: the one that is named; else `app`, or the only one.
    pub fn part(&self, named: Option<&str>) -> Result<String, Hinted> {
        let (service, host) = (&self.service, self.remote.name());
        let parts = self.parts();
        let listed = || format!("--part names one: {}", parts.join(", "));
        match (named, parts.as_slice()) {
            (_, []) => Err(self.not_running()),
            (Some(part), all) if all.contains(&part) => Ok(part.to_owned()),
            (Some(part), _) => Err(Hinted::new(
                format!("{service} on {host} has no running part {part}"),
                listed(),
            )),
            (None, [only]) => Ok((*only).to_owned()),
            (None, all) if all.contains(&USUAL) => Ok(USUAL.to_owned()),
            (None, _) => Err(Hinted::new(
                format!("{service} on {host} has several parts, and none is called {USUAL}"),
                listed(),
            )),
        }
    }

    /// That it does not run, and the way out.
    pub fn not_running(&self) -> Hinted {
        let (service, host) = (&self.service, self.remote.name());
        let hint = format!(
            "`sovereign deploy --service {service}` starts it; `sovereign status` shows what runs"
        );
        Hinted::new(format!("{service} does not run on {host}"), hint)
    }
}

/// What most templates call the container that visitors reach.
const USUAL: &str = "app";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Container;
    use crate::ssh::double::Double;

    fn running(parts: &[(&str, Slot, Health)]) -> Running {
        let found = parts.iter().map(|(part, slot, health)| Found {
            service: Some("blog".to_owned()),
            slot: *slot,
            id: format!("id-{part}"),
            container: Container {
                part: (*part).to_owned(),
                image: String::new(),
                revision: None,
                health: health.clone(),
                restarts: 0,
                since: String::new(),
            },
        });
        let remote: Arc<dyn Remote> = Arc::new(Double::new("h1"));
        let engine = engine::of(model::Engine::Docker, Arc::clone(&remote));
        Running {
            service: "blog".to_owned(),
            remote,
            engine,
            slot: Slot::A,
            found: found.collect(),
        }
    }

    #[test]
    fn the_part_that_is_meant() {
        use Health::{Exited, Healthy};
        let two = running(&[("app", Slot::A, Healthy), ("db", Slot::A, Healthy)]);
        assert_eq!(two.part(None).unwrap(), "app");
        assert_eq!(two.part(Some("db")).unwrap(), "db");
        assert_eq!(
            two.part(Some("web")).unwrap_err().to_string(),
            "blog on h1 has no running part web"
        );
        let one = running(&[("bitcoind", Slot::A, Healthy)]);
        assert_eq!(one.part(None).unwrap(), "bitcoind");
        let several = running(&[("app-de", Slot::A, Healthy), ("db", Slot::A, Healthy)]);
        assert!(several.part(None).is_err());
        let none = running(&[("app", Slot::A, Exited(1)), ("app", Slot::B, Healthy)]);
        assert_eq!(
            none.part(None).unwrap_err().to_string(),
            "blog does not run on h1"
        );
        assert_eq!(
            none.projects()
                .iter()
                .map(|project| project.name())
                .collect::<Vec<_>>(),
            ["sovereign-blog", "sovereign-blog-b"]
        );
    }

    #[tokio::test]
    async fn where_both_slots_have_containers_what_was_written_down_decides() {
        let both = running(&[
            ("app", Slot::A, Health::Healthy),
            ("app", Slot::B, Health::Healthy),
        ])
        .found;
        let says = Double::new("h1").on(
            "cat -- /var/lib/sovereign/services/blog/current",
            r#"{"revision":"0123456789ab","slot":"b"}"#,
        );
        assert_eq!(slot(&says, "blog", &both).await.unwrap(), Slot::B);
        assert_eq!(
            slot(&Double::new("h1"), "blog", &both).await.unwrap(),
            Slot::A
        );
        assert_eq!(slot(&says, "blog", &both[1..]).await.unwrap(), Slot::B);
    }
}
