//! Stacks and hosts for tests, in a few words.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use sovereign_config::stack::catalogue::Rotation;
use sovereign_config::stack::model::{Engine, ProxyAs};

use crate::desired::{
    Desired, DesiredHost, DesiredProxy, DesiredService, File, Files, Image, Program, Revision,
};
use crate::observe::{
    Container, Current, DeployedProxy, Deployment, EngineState, Health, Observed, ObservedHost,
    ObservedProxy, ObservedService, Slot, Unseen,
};
use crate::plan::proxy::deployed;

/// A revision of one digit: `bbbbbbbbbbbb`.
pub(crate) fn revision(digit: char) -> Revision {
    Revision(String::from(digit).repeat(12))
}

/// A file that everybody may read.
pub(crate) fn file(content: &str) -> File {
    File {
        mode: 0o644,
        content: content.into(),
        secret: false,
    }
}

/// An image whose digest is one digit.
pub(crate) fn image(reference: &str, digit: char) -> Image {
    let name = reference.split(':').next().unwrap_or(reference);
    let digest = String::from(digit).repeat(64);
    let pinned = format!("{name}@sha256:{digest}");
    Image {
        reference: reference.to_owned(),
        pinned,
        id: Some(format!("sha256:{digest}")),
        sent: false,
    }
}

/// A service of one container, at this revision.
pub(crate) fn service(name: &str, digit: char, port: u16) -> DesiredService {
    let image = image(&format!("{name}:1"), 'a');
    let compose = format!(
        "services:\n  app:\n    image: {}\n    restart: always\n",
        image.pinned
    );
    DesiredService {
        name: name.to_owned(),
        kind: name.to_owned(),
        site: format!("{name}.example"),
        files: Files::from([
            ("compose.yaml".to_owned(), file(&compose)),
            (
                "secrets/password".to_owned(),
                File {
                    secret: true,
                    mode: 0o600,
                    ..file("one")
                },
            ),
        ]),
        revision: revision(digit),
        options: BTreeMap::from([("database".to_owned(), "mariadb".to_owned())]),
        images: vec![image],
        port: Some(port),
        two: false,
        patience: Duration::from_secs(60),
        volumes: vec![format!("sovereign-{name}-data")],
        archives: vec![format!("volume sovereign-{name}-data")],
        needs: Vec::new(),
        rotations: Vec::new(),
    }
}

impl DesiredService {
    /// At another revision.
    pub(crate) fn at(self, digit: char) -> Self {
        Self {
            revision: revision(digit),
            ..self
        }
    }

    /// Two of it may run at once.
    pub(crate) fn twice(self) -> Self {
        Self { two: true, ..self }
    }

    /// With this password, which its database keeps by itself.
    pub(crate) fn rotated(mut self, password: &str) -> Self {
        self.with_text("secrets/password", |_| password.to_owned());
        self.rotations = vec![Rotation {
            secret: "password".to_owned(),
            service: "db".to_owned(),
            command: vec!["set-password".to_owned()],
            when: None,
        }];
        self
    }

    /// Of this kind, needing these services.
    pub(crate) fn of_kind(self, kind: &str, needs: &[&str]) -> Self {
        Self {
            kind: kind.to_owned(),
            needs: needs.iter().map(|name| (*name).to_owned()).collect(),
            ..self
        }
    }

    /// With another image of the same tag.
    pub(crate) fn imaged(mut self, digit: char) -> Self {
        let (old, new) = (
            self.images[0].clone(),
            image(&self.images[0].reference, digit),
        );
        self.with_text("compose.yaml", |text| {
            text.replace(&old.pinned, &new.pinned)
        });
        self.images = vec![new];
        self
    }

    /// With another text in a file.
    pub(crate) fn with(mut self, path: &str, change: impl Fn(&str) -> String) -> Self {
        self.with_text(path, change);
        self
    }

    fn with_text(&mut self, path: &str, change: impl Fn(&str) -> String) {
        let file = self.files.get_mut(path).expect("it is there");
        file.content = change(&String::from_utf8_lossy(&file.content)).into_bytes();
    }
}

/// A proxy in front of services.
pub(crate) fn proxy(services: &[DesiredService], program: char) -> DesiredProxy {
    let site = |service: &DesiredService| {
        let port = service.port.expect("a port");
        format!(
            "[[site]]\nnames = [\"{}\"]\nupstream = [\"http://127.0.0.1:{port}\"]\n",
            service.site
        )
    };
    let text: String = services.iter().map(site).collect();
    let files = Files::from([
        ("proxy.toml".to_owned(), file(&text)),
        ("sovereign-proxy.service".to_owned(), file("[Service]\n")),
        ("sovereign-proxy.socket".to_owned(), file("[Socket]\n")),
    ]);
    DesiredProxy {
        runs: ProxyAs::Systemd,
        program: Program {
            path: PathBuf::from("sovereign-proxy"),
            version: "0.4.0".to_owned(),
            digest: String::from(program).repeat(64),
        },
        revision: revision('0'),
        files,
        image: None,
    }
}

/// A host with these services and a proxy in front of them.
pub(crate) fn host(name: &str, services: Vec<DesiredService>) -> DesiredHost {
    let mut host = DesiredHost {
        name: name.to_owned(),
        engine: Engine::Docker,
        proxy: proxy(&services, '1'),
        services,
    };
    host.proxy = host.proxy_with(&BTreeSet::new());
    host
}

/// A stack of these hosts.
pub(crate) fn stack(hosts: impl IntoIterator<Item = DesiredHost>) -> Desired {
    Desired {
        hosts: hosts.into_iter().collect(),
    }
}

/// A host that was prepared, and nothing else.
pub(crate) fn bare() -> ObservedHost {
    ObservedHost {
        engine: EngineState::Up("27.0.0".to_owned()),
        compose: Some("2.29.0".to_owned()),
        ..ObservedHost::default()
    }
}

/// A host that is as it should be.
pub(crate) fn as_it_should(host: &DesiredHost) -> ObservedHost {
    let mut seen = bare();
    let deployment = Deployment {
        number: 1,
        at: "2026-01-01T00:00:00Z".to_owned(),
        by: "ann@laptop".to_owned(),
        services: host
            .services
            .iter()
            .map(|one| (one.name.clone(), one.revision.clone()))
            .collect(),
        options: host
            .services
            .iter()
            .map(|one| (one.name.clone(), one.options.clone()))
            .collect(),
        proxy: Some(deployed(&host.proxy)),
    };
    let DeployedProxy { revision, program } = deployed(&host.proxy);
    seen.programs.insert(program.clone());
    let files = host.proxy.files.clone();
    seen.proxy = Some(ObservedProxy {
        revision,
        program,
        files,
        status: Ok(serde_json::json!({})),
    });
    for service in &host.services {
        seen.images
            .extend(service.images.iter().map(|image| image.pinned.clone()));
        seen.services
            .insert(service.name.clone(), running(service, Slot::A));
    }
    seen.images
        .extend(host.proxy.image.iter().map(|image| image.pinned.clone()));
    seen.deployments = vec![deployment];
    seen
}

/// A service that runs as it should, in this slot.
pub(crate) fn running(service: &DesiredService, slot: Slot) -> ObservedService {
    ObservedService {
        current: Some(Current {
            revision: service.revision.clone(),
            slot,
        }),
        files: service.files.clone(),
        revisions: BTreeSet::from([service.revision.clone()]),
        running: BTreeMap::from([(slot, vec![container(service, Health::Healthy)])]),
    }
}

/// Its container.
pub(crate) fn container(service: &DesiredService, health: Health) -> Container {
    Container {
        part: "app".to_owned(),
        image: service.images[0].id.clone().unwrap_or_default(),
        revision: Some(service.revision.clone()),
        health,
        restarts: 0,
        since: "2026-01-01T00:00:00Z".to_owned(),
    }
}

/// Hosts that were looked at.
pub(crate) fn seen(hosts: impl IntoIterator<Item = (&'static str, ObservedHost)>) -> Observed {
    let hosts = hosts
        .into_iter()
        .map(|(name, host)| (name.to_owned(), Ok(host)));
    Observed {
        hosts: hosts.collect(),
    }
}

/// A host that does not answer.
pub(crate) fn silent(name: &str) -> (String, Result<ObservedHost, Unseen>) {
    let unseen = Unseen {
        why: format!("{name}: no SSH connection: it does not answer"),
        hint: Some(
            "is it on, and is its address right? The other hosts go on without it".to_owned(),
        ),
    };
    (name.to_owned(), Err(unseen))
}
