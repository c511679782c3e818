//! Taking a service down: what would be done, as a value, and doing just that.

use std::collections::BTreeSet;

use sovereign_config::stack::model::{self, Service};

use super::super::restart::locked;
use crate::context::{Context, Loaded};
use crate::engine::Project;
use crate::host::{Host, Whose};
use crate::running::{self, Running};
use crate::ssh::{Connect as _, Input, LOOK, Remote};

/// What is done to take a service down.
pub(super) struct Taking {
    /// Its name.
    pub(super) service: String,
    host: model::Host,
    /// Projects that have containers.
    projects: Vec<Project>,
    /// The containers, as the Compose file calls them.
    parts: Vec<String>,
    /// It is written down that it should run.
    in_force: bool,
    /// Volumes with its data, by name.
    volumes: Vec<String>,
    /// They are destroyed.
    purge: bool,
    /// Services on the same host that need it.
    needed_by: Vec<String>,
}

impl Taking {
    /// Looks what there is of a service.
    pub(super) async fn look(
        ctx: &Context,
        loaded: &Loaded,
        service: &Service,
        purge: bool,
    ) -> anyhow::Result<Self> {
        let host = loaded.host(&service.host)?.clone();
        let running = running::find(ctx.access().as_ref(), &host, &service.name).await?;
        Self::of(&running, loaded, service, host, purge).await
    }

    async fn of(
        running: &Running,
        loaded: &Loaded,
        service: &Service,
        host: model::Host,
        purge: bool,
    ) -> anyhow::Result<Self> {
        let remote = running.remote.as_ref();
        let current = Host::new(running.remote.clone())
            .layout()
            .current(&Whose::Service(service.name.clone()));
        let in_force = remote
            .output(&["test", "-e", &current], Input::nothing(), LOOK)
            .await?
            .code
            == 0;
        let parts: BTreeSet<String> = running
            .found
            .iter()
            .map(|one| one.container.part.clone())
            .collect();
        Ok(Self {
            projects: running.projects(),
            parts: parts.into_iter().collect(),
            in_force,
            volumes: volumes(remote, &service.name).await?,
            needed_by: needed_by(loaded, service),
            service: service.name.clone(),
            host,
            purge,
        })
    }

    /// There is nothing to do.
    pub(super) fn is_nothing(&self) -> bool {
        self.projects.is_empty() && !self.in_force && !self.destroys()
    }

    /// Data is destroyed.
    pub(super) fn destroys(&self) -> bool {
        self.purge && !self.volumes.is_empty()
    }

    /// What is done, for people.
    pub(super) fn text(&self) -> String {
        let mut lines = vec![format!("{} on {}", self.service, self.host.name)];
        if self.is_nothing() {
            lines.push("  is down already".to_owned());
        }
        if !self.parts.is_empty() {
            lines.push(format!(
                "  - stop and remove its containers: {}",
                self.parts.join(", ")
            ));
        }
        if !self.needed_by.is_empty() && !self.parts.is_empty() {
            lines.push(format!(
                "    {} on the same host needs it",
                self.needed_by.join(", ")
            ));
        }
        match (self.volumes.as_slice(), self.purge) {
            ([], _) => {}
            (volumes, true) => lines.push(format!("  - DESTROY its data: {}", volumes.join(", "))),
            (volumes, false) => lines.push(format!("    its data stays: {}", volumes.join(", "))),
        }
        lines.join("\n")
    }

    /// That it was done.
    pub(super) fn done(&self) -> String {
        let data = if self.destroys() {
            "its data is gone"
        } else {
            "its data is still there"
        };
        format!("{}: {} is down; {data}", self.host.name, self.service)
    }

    /// Does it.
    pub(super) async fn take(&self, ctx: &Context) -> anyhow::Result<()> {
        let remote = ctx.access().connect(&self.host).await?;
        let engine = crate::engine::of(self.host.engine, remote.clone());
        let host = Host::new(remote);
        let _lock = locked(&host, &self.host.name).await?;
        let _task = ctx
            .printer
            .task(format!("{}: stopping {}", self.host.name, self.service));
        // Written down first: a run that is cut off after this leaves nothing that would count as in force.
        let current = host.layout().current(&Whose::Service(self.service.clone()));
        host.remote()
            .run(&["rm", "-f", "--", &current], Input::nothing(), LOOK)
            .await?;
        for project in &self.projects {
            engine.remove(project).await?;
        }
        if self.destroys() {
            engine.purge(&self.volumes).await?;
        }
        Ok(())
    }
}

/// The volumes of a service, by the label of the project that made them: the first slot's, whichever runs now.
async fn volumes(remote: &dyn Remote, service: &str) -> anyhow::Result<Vec<String>> {
    let project = Project::service(service, crate::observe::Slot::A);
    let mut all = BTreeSet::new();
    for label in ["com.docker.compose.project", "com.docker.stack.namespace"] {
        let filter = format!("label={label}={project}");
        let argv = [
            "docker",
            "volume",
            "ls",
            "--filter",
            &filter,
            "--format",
            "{{.Name}}",
        ];
        let output = remote.run(&argv, Input::nothing(), LOOK).await?;
        all.extend(output.text().lines().map(str::to_owned));
    }
    Ok(all.into_iter().collect())
}

/// Services on the same host whose kind needs its kind.
fn needed_by(loaded: &Loaded, service: &Service) -> Vec<String> {
    let needs = |other: &&Service| {
        let kind = loaded.catalogue.get(&other.kind);
        other.host == service.host && kind.is_some_and(|kind| kind.needs.contains(&service.kind))
    };
    loaded
        .stack
        .services
        .iter()
        .filter(needs)
        .map(|other| other.name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::double::{Double, host};

    fn taking(parts: &[&str], volumes: &[&str], purge: bool) -> Taking {
        Taking {
            service: "node".to_owned(),
            host: host("h1"),
            projects: parts
                .iter()
                .take(1)
                .map(|_| Project::service("node", crate::observe::Slot::A))
                .collect(),
            parts: parts.iter().map(|part| (*part).to_owned()).collect(),
            in_force: !parts.is_empty(),
            volumes: volumes.iter().map(|volume| (*volume).to_owned()).collect(),
            purge,
            needed_by: vec!["channels".to_owned()],
        }
    }

    #[test]
    fn what_is_done_is_said() {
        let keeps = taking(&["bitcoind"], &["sovereign-node-data"], false);
        assert_eq!(
            keeps.text(),
            "node on h1\n  - stop and remove its containers: bitcoind\n    channels on the same host needs it\n    its data stays: sovereign-node-data"
        );
        assert!(!keeps.destroys() && !keeps.is_nothing());
        let destroys = taking(&[], &["sovereign-node-data"], true);
        assert_eq!(
            destroys.text(),
            "node on h1\n  - DESTROY its data: sovereign-node-data"
        );
        let nothing = taking(&[], &["sovereign-node-data"], false);
        assert_eq!(
            nothing.text(),
            "node on h1\n  is down already\n    its data stays: sovereign-node-data"
        );
        assert!(nothing.is_nothing());
    }

    #[tokio::test]
    async fn volumes_are_those_that_its_project_made() {
        let compose = "docker volume ls --filter label=com.docker.compose.project=sovereign-node ";
        let double = Double::new("h1").on(compose, "sovereign-node-data\nsovereign-node-wallets\n");
        assert_eq!(
            volumes(&double, "node").await.unwrap(),
            ["sovereign-node-data", "sovereign-node-wallets"]
        );
    }
}
