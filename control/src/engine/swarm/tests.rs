use super::*;
use crate::observe::Slot;
use crate::ssh::double::Double;

const FILE: &str = "/var/lib/sovereign/services/blog/0123456789ab/compose.yaml";
const CONFIG: &str = r#"{ "services": { "app": { "image": "sovereign.local/blog:aaaa", "deploy": {} } },
    "secrets": { "password": { "file": "/x/password" } } }"#;
const SERVICES: &str = r#"[{ "Spec": { "Name": "sovereign-blog_app", "Mode": { "Replicated": { "Replicas": 1 } } } }]"#;
const CHANGED_BACK: &str = r#"[{ "Spec": { "Name": "sovereign-blog_app", "Mode": { "Replicated": { "Replicas": 1 } } },
    "UpdateStatus": { "State": "rollback_completed", "Message": "rollback completed" } }]"#;
const TASK: &str = r#"{"CurrentState":"Running 3 seconds ago","DesiredState":"Running","Error":"","Name":"sovereign-blog_app.1"}"#;
const COMPOSE: &str =
    "env SOVEREIGN_REVISION=0123456789ab docker compose --project-name sovereign-blog";

fn manager() -> Double {
    Double::new("h1")
        .on(COMPOSE, CONFIG)
        .on(
            "docker info",
            r#"{"NodeID":"n1","LocalNodeState":"active","ControlAvailable":true}"#,
        )
        .on("docker image inspect", "sha256:aaaa\n")
        .on("docker service ls", "sovereign-blog_app\n")
        .on("docker service inspect", SERVICES)
        .on("docker service ps", TASK)
}

fn with(double: Double) -> (Arc<Double>, Swarm) {
    let double = Arc::new(double);
    (Arc::clone(&double), Swarm::new(double))
}

fn blog() -> Project {
    Project::service("blog", Slot::A)
}

#[tokio::test(start_paused = true)]
async fn a_stack_is_told_on_its_standard_input_and_forgets_secrets_of_before() {
    let secrets = "sovereign-blog-password-0123456789ab\nsovereign-blog-password-aaaaaaaaaaaa\n";
    let (double, swarm) = with(manager().on("docker secret ls", secrets));
    let up = swarm.up(&blog(), FILE, Duration::from_secs(60)).await;
    up.expect("it settles");
    let asked = double.asked();
    let told = asked
        .iter()
        .find(|asked| asked.argv.starts_with("docker stack deploy"))
        .expect("it is told");
    let stack: serde_json::Value = serde_json::from_slice(&told.input).expect("it is JSON");
    assert_eq!(
        stack.pointer("/services/app/deploy/placement/constraints/0"),
        Some(&"node.id == n1".into())
    );
    assert_eq!(
        stack.pointer("/services/app/image"),
        Some(&"sha256:aaaa".into())
    );
    let removed: Vec<String> = double.commands();
    let removed = removed.iter().filter(|argv| argv.contains(" rm "));
    assert_eq!(
        removed.collect::<Vec<_>>(),
        ["docker secret rm sovereign-blog-password-aaaaaaaaaaaa"]
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_changed_back_is_told_with_its_last_words() {
    let gone = r#"[{"Id":"dead","Image":"sha256:aaaa","State":{"Status":"exited","ExitCode":1,"StartedAt":"2026-01-01T00:00:00Z"},
        "Config":{"Labels":{"com.docker.stack.namespace":"sovereign-blog","com.docker.swarm.service.name":"sovereign-blog_app","sovereign.service":"blog"}}}]"#;
    let double = manager()
        .on("docker service inspect", CHANGED_BACK)
        .on("docker ps", "dead\n")
        .on("docker inspect", gone)
        .on("docker logs --tail 20 dead", "no database\n");
    let (_, swarm) = with(double);
    let up = swarm.up(&blog(), FILE, Duration::from_secs(60)).await;
    assert_eq!(
        up.expect_err("it is not well").to_string(),
        "h1: sovereign-blog did not get healthy, for which it has 60 s: \
         app was changed back: rollback completed\n  app | no database"
    );
}

#[tokio::test]
async fn the_proxy_of_a_host_is_no_matter_of_its_swarm() {
    let (double, swarm) = with(Double::new("h1"));
    swarm.remove(&Project::proxy()).await.expect("removed");
    let commands = double.commands();
    assert!(
        commands.iter().all(|argv| !argv.contains("stack")),
        "{commands:?}"
    );
}
