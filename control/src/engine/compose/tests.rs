use super::*;
use crate::observe::Slot;
use crate::ssh::double::Double;

const FILE: &str = "/var/lib/sovereign/services/blog/0123456789ab/compose.yaml";

fn with(double: Double) -> (Arc<Double>, Compose) {
    let double = Arc::new(double);
    (Arc::clone(&double), Compose::new(double))
}

fn blog() -> Project {
    Project::service("blog", Slot::A)
}

#[tokio::test]
async fn up_waits_for_health_and_pulls_nothing() {
    let (double, compose) = with(Double::new("h1"));
    compose
        .up(&blog().at(Some(30000)), FILE, Duration::from_secs(300))
        .await
        .expect("up");
    let wanted = format!(
        "env SOVEREIGN_REVISION=0123456789ab SOVEREIGN_PORT=30000 docker compose --ansi never --project-name sovereign-blog --file {FILE} up --detach --wait --wait-timeout 300 \
         --remove-orphans --no-build --pull never"
    );
    assert_eq!(double.commands(), [wanted]);
}

#[tokio::test]
async fn what_does_not_get_healthy_is_quoted() {
    let inspected = r#"[{"Id":"f00d","Image":"sha256:1","RestartCount":0,
        "State":{"Status":"exited","ExitCode":1,"StartedAt":"2026-01-01T00:00:00Z"},
        "Config":{"Labels":{"com.docker.compose.project":"sovereign-blog","com.docker.compose.service":"app","sovereign.service":"blog"}}}]"#;
    let double = Double::new("h1")
        .fails(
            "env SOVEREIGN_REVISION=0123456789ab docker compose --ansi",
            1,
            "container sovereign-blog-app-1 exited (1)",
        )
        .on("docker ps", "f00d\n")
        .on("docker inspect", inspected)
        .on("docker logs --tail 20 f00d", "starting\nno database\n");
    let (_, compose) = with(double);
    let error = compose
        .up(&blog(), FILE, Duration::from_secs(300))
        .await
        .expect_err("it is not well");
    let text = "h1: sovereign-blog did not get healthy, for which it has 5 min: app ended with exit code 1\n  app | starting\n  app | no database";
    assert_eq!(error.to_string(), text);
}

#[tokio::test]
async fn what_compose_itself_refuses_is_said_in_its_words() {
    let (_, compose) = with(Double::new("h1").fails(
        "env SOVEREIGN_REVISION=0123456789ab docker compose",
        15,
        "service \"app\" has no image",
    ));
    let error = compose
        .up(&blog(), FILE, Duration::from_secs(300))
        .await
        .expect_err("it is refused");
    assert!(
        error
            .to_string()
            .ends_with("exit code 15: service \"app\" has no image"),
        "{error}"
    );
}

#[tokio::test]
async fn an_engine_that_is_missing_or_down_is_no_failure_to_look() {
    let (_, compose) = with(Double::new("h1").lacks("docker"));
    assert_eq!(
        compose.version().await.expect("looked"),
        (EngineState::Missing, None)
    );
    let down = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?";
    let (_, compose) = with(
        Double::new("h1")
            .fails("docker version", 1, down)
            .on("docker compose version", "2.26.1\n"),
    );
    let wanted = (
        EngineState::Down(down.to_owned()),
        Some("2.26.1".to_owned()),
    );
    assert_eq!(compose.version().await.expect("looked"), wanted);
}

#[tokio::test]
async fn what_is_asked_of_an_engine() {
    let (double, compose) = with(Double::new("h1").on("docker ps", "f00d\n"));
    let second = Project::service("blog", Slot::B);
    compose.remove(&second).await.expect("removed");
    compose
        .restart(&blog(), Some("app"))
        .await
        .expect("restarted");
    compose.purge(&[]).await.expect("nothing to do");
    compose
        .purge(&["sovereign-blog-content".to_owned()])
        .await
        .expect("purged");
    let which = Logs {
        part: Some("app"),
        tail: Some(5),
        ..Logs::default()
    };
    compose
        .logs(&blog(), &which, &mut |_| {})
        .await
        .expect("read");
    let argv = compose
        .exec_argv(&blog(), "app", &["sh"], true)
        .await
        .expect("it runs");
    assert_eq!(argv.join(" "), "docker exec --interactive --tty f00d sh");
    let commands = double.commands();
    assert_eq!(
        commands,
        [
            "env -C / docker compose --ansi never --project-name sovereign-blog-b down --remove-orphans",
            "env -C / docker compose --ansi never --project-name sovereign-blog restart app",
            "docker volume rm --force -- sovereign-blog-content",
            "env -C / docker compose --ansi never --project-name sovereign-blog logs --no-color --tail=5 app",
            "docker ps --quiet --no-trunc --filter label=com.docker.compose.project=sovereign-blog --filter label=com.docker.compose.service=app",
        ]
    );
}
