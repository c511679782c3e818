use async_trait::async_trait;

use super::*;
use crate::ssh::double::{Double, host};
use crate::ssh::{Error, Refusal};

/// Hosts by name; one that nobody knows does not answer.
struct Hosts(Vec<Arc<Double>>);

#[async_trait]
impl Connect for Hosts {
    async fn connect(&self, host: &model::Host) -> Result<Arc<dyn Remote>, Error> {
        let found = self.0.iter().find(|double| double.name() == host.name);
        found
            .map(|double| Arc::clone(double) as Arc<dyn Remote>)
            .ok_or_else(|| Error::Refused {
                host: host.name.clone(),
                refusal: Refusal::Silent,
                said: "Connection timed out".to_owned(),
            })
    }
}

fn plain(name: &str) -> Double {
    Double::new(name)
        .fails(
            "find",
            1,
            "find: '/var/lib/sovereign': No such file or directory",
        )
        .on("df", "1B-blocks Avail\n100 50\n")
        .on("docker version", r#"{"Server":{"Version":"20.10.24"}}"#)
        .on("docker compose version", "2.26.1\n")
}

#[tokio::test]
async fn one_that_is_cut_off_does_not_keep_the_others() {
    let hosts = [host("h1"), host("h2")];
    let observed = observe(&hosts, Arc::new(Hosts(vec![Arc::new(plain("h2"))]))).await;
    let (name, first) = &observed.hosts[0];
    let unseen = first.as_ref().expect_err("it is cut off");
    assert_eq!(
        (name.as_str(), unseen.why.as_str()),
        (
            "h1",
            "h1: no SSH connection: it does not answer: Connection timed out"
        )
    );
    assert!(unseen.hint.is_some());
    let second = observed.hosts[1].1.as_ref().expect("it answers");
    assert_eq!(
        (&second.engine, second.disk.free),
        (&EngineState::Up("20.10.24".to_owned()), 50)
    );
    assert_eq!(second.compose.as_deref(), Some("2.26.1"));
    assert!(second.services.is_empty() && second.proxy.is_none());
}

#[tokio::test]
async fn what_is_placed_and_what_runs_come_together() {
    let inspected = r#"[{"Id":"f00d","Image":"sha256:1","RestartCount":0,
        "State":{"Status":"running","StartedAt":"2026-01-01T00:00:00Z","Health":{"Status":"healthy"}},
        "Config":{"Labels":{"com.docker.compose.project":"sovereign-blog-b","com.docker.compose.service":"app",
        "sovereign.service":"blog","sovereign.revision":"0123456789ab"}}}]"#;
    let double = plain("h1")
        .on(
            "find",
            "d services\0d services/blog\0d services/blog/0123456789ab\0",
        )
        .on("docker ps", "f00d\n")
        .on("docker inspect", inspected)
        .on(
            "docker image ls",
            "{\"ID\":\"sha256:1\",\"Repository\":\"ghost\",\"Tag\":\"5\",\"Digest\":\"<none>\"}\n",
        );
    let seen = look(Arc::new(double), model::Engine::Docker)
        .await
        .expect("seen");
    let blog = &seen.services["blog"];
    assert_eq!(blog.current, None);
    assert_eq!(blog.revisions.len(), 1);
    assert_eq!(
        blog.running[&crate::observe::Slot::B][0].health,
        crate::observe::Health::Healthy
    );
    assert!(seen.images.contains("ghost:5"));
}

#[tokio::test]
async fn an_engine_that_is_down_is_seen_and_nothing_else_is_asked_of_it() {
    let double =
        Arc::new(plain("h1").fails("docker version", 1, "Cannot connect to the Docker daemon"));
    let seen = look(double.clone(), model::Engine::Docker)
        .await
        .expect("seen");
    assert_eq!(
        seen.engine,
        EngineState::Down("Cannot connect to the Docker daemon".to_owned())
    );
    assert!(
        !double
            .commands()
            .iter()
            .any(|command| command.starts_with("docker ps"))
    );
}
