use serde_json::json;

use super::*;

const ID: &str = "sha256:8f1a";

fn inspected(labels: serde_json::Value, state: serde_json::Value) -> serde_json::Value {
    json!({
        "Id": "f00d", "Created": "2026-01-01T00:00:00Z", "Path": "/bin/app", "Args": [], "Image": ID, "RestartCount": 2,
        "Name": "/sovereign-blog-app-1", "State": state, "Config": { "Hostname": "f00d", "Labels": labels },
        "HostConfig": { "NetworkMode": "sovereign-blog_default" }
    })
}

fn compose(project: &str, service: Option<&str>) -> serde_json::Value {
    let mut labels = json!({ "com.docker.compose.project": project, "com.docker.compose.service": "app", "sovereign.revision": "0123456789ab" });
    if let Some(service) = service {
        labels["sovereign.service"] = json!(service);
    }
    labels
}

fn running(health: Option<serde_json::Value>) -> serde_json::Value {
    let mut state = json!({ "Status": "running", "Running": true, "Restarting": false, "ExitCode": 0, "StartedAt": "2026-01-01T00:00:01.5Z" });
    if let Some(health) = health {
        state["Health"] = health;
    }
    state
}

fn all(values: &[serde_json::Value]) -> Vec<Found> {
    let text = serde_json::to_vec(values).expect("JSON");
    containers(&text, COMPOSE).expect("it is read")
}

#[test]
fn versions() {
    let old = r#"{"Client":{"Platform":{"Name":""},"Version":"20.10.24+dfsg1","ApiVersion":"1.41"},"Server":{"Platform":{"Name":""},"Components":[{"Name":"Engine","Version":"20.10.24+dfsg1"}],"Version":"20.10.24+dfsg1","ApiVersion":"1.41"}}"#;
    let new = r#"{"Client":{"Version":"28.2.2","Context":"default"},"Server":{"Platform":{"Name":"Docker Engine - Community"},"Version":"28.2.2"}}"#;
    let down = r#"{"Client":{"Version":"28.2.2"},"Server":null}"#;
    assert_eq!(version(old).as_deref(), Some("20.10.24+dfsg1"));
    assert_eq!(version(new).as_deref(), Some("28.2.2"));
    assert_eq!(version(down), None);
    assert_eq!(version(""), None);
    assert_eq!(compose_version("v2.26.1\n").as_deref(), Some("2.26.1"));
    assert_eq!(compose_version("2.39.1").as_deref(), Some("2.39.1"));
    assert_eq!(
        compose_version("docker: 'compose' is not a docker command."),
        None
    );
}

#[test]
fn whose_a_container_is() {
    let table = [
        ("sovereign-blog", Some("blog"), Some(("blog", Slot::A))),
        ("sovereign-blog-b", Some("blog"), Some(("blog", Slot::B))),
        (
            "sovereign-plan-b",
            Some("plan-b"),
            Some(("plan-b", Slot::A)),
        ),
        ("sovereign-own", None, Some(("own", Slot::A))),
        ("sovereign-own-b", None, Some(("own", Slot::B))),
        ("somebody-elses", None, None),
    ];
    for (project, service, wanted) in table {
        let found = all(&[inspected(compose(project, service), running(None))]);
        let got = found
            .first()
            .map(|found| (found.service.clone().unwrap_or_default(), found.slot));
        assert_eq!(
            got,
            wanted.map(|(name, slot)| (name.to_owned(), slot)),
            "{project}"
        );
    }
    let proxy = all(&[inspected(compose("sovereign_proxy", None), running(None))]);
    assert_eq!(proxy[0].service, None);
}

#[test]
fn how_a_container_is() {
    let words = json!({ "Status": "unhealthy", "FailingStreak": 3, "Log": [
        { "Start": "2026-01-01T00:00:02Z", "End": "2026-01-01T00:00:02Z", "ExitCode": 1, "Output": "first" },
        { "Start": "2026-01-01T00:00:03Z", "End": "2026-01-01T00:00:03Z", "ExitCode": 1, "Output": "connection refused\n" }] });
    let table = [
        (running(None), Health::Running),
        (running(Some(json!({ "Status": "none" }))), Health::Running),
        (
            running(Some(
                json!({ "Status": "healthy", "FailingStreak": 0, "Log": null }),
            )),
            Health::Healthy,
        ),
        (
            running(Some(
                json!({ "Status": "starting", "FailingStreak": 0, "Log": [] }),
            )),
            Health::Starting,
        ),
        (
            running(Some(words)),
            Health::Unhealthy("connection refused".to_owned()),
        ),
        (
            json!({ "Status": "exited", "ExitCode": 137 }),
            Health::Exited(137),
        ),
        (
            json!({ "Status": "restarting", "ExitCode": 1 }),
            Health::Unhealthy("it ended with code 1 and is started again".to_owned()),
        ),
        (
            json!({ "Status": "created", "ExitCode": 0 }),
            Health::Unhealthy("it was made and never started".to_owned()),
        ),
    ];
    for (state, health) in table {
        let found = all(&[inspected(compose("sovereign-blog", Some("blog")), state)]);
        assert_eq!(found[0].container.health, health);
    }
    let found = all(&[inspected(
        compose("sovereign-blog", Some("blog")),
        running(None),
    )]);
    let container = &found[0].container;
    assert_eq!(
        (
            container.part.as_str(),
            container.image.as_str(),
            container.restarts
        ),
        ("app", ID, 2)
    );
    assert_eq!(
        container.revision,
        Some(Revision("0123456789ab".to_owned()))
    );
}

#[test]
fn of_a_swarms_containers_the_living_count_and_else_the_last_dead() {
    let labels = json!({ "com.docker.stack.namespace": "sovereign-blog", "com.docker.swarm.service.name": "sovereign-blog_app", "sovereign.service": "blog" });
    let dead = |at: &str| {
        inspected(
            labels.clone(),
            json!({ "Status": "exited", "ExitCode": 1, "StartedAt": at }),
        )
    };
    let read = |values: &[serde_json::Value]| {
        last_of_each(containers(&serde_json::to_vec(values).expect("JSON"), STACK).expect("read"))
    };
    let found = read(&[
        dead("2026-01-01"),
        inspected(labels.clone(), running(None)),
        dead("2026-01-02"),
    ]);
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].container.part.as_str(), &found[0].container.health),
        ("app", &Health::Running)
    );
    let found = read(&[dead("2026-01-01"), dead("2026-01-02")]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].container.since, "2026-01-02");
}

#[test]
fn what_images_are_called() {
    let lines = r#"{"Containers":"N/A","CreatedAt":"2026-01-01","Digest":"sha256:aaaa","ID":"sha256:1111","Repository":"ghost","Tag":"<none>","Size":"500MB"}
{"Containers":"N/A","Digest":"<none>","ID":"sha256:2222","Repository":"10.77.0.1:5000/mariadb","Tag":"11","Size":"1MB"}
{"Containers":"N/A","Digest":"<none>","ID":"sha256:3333","Repository":"<none>","Tag":"<none>","Size":"1MB"}
"#;
    let all = images(lines).expect("read");
    for (pinned, there) in [
        ("ghost@sha256:aaaa", true),
        ("docker.io/library/ghost@sha256:aaaa", true),
        ("ghost@sha256:bbbb", false),
        ("10.77.0.1:5000/mariadb:11", true),
        ("10.77.0.1:5000/mariadb:12", false),
        ("sha256:3333", true),
    ] {
        assert_eq!(all.contains(pinned), there, "{pinned}");
    }
    assert!(!all.iter().any(|name| name.contains("<none>")), "{all:?}");
}

#[test]
fn what_load_says() {
    assert_eq!(
        loaded("Loaded image: ghost:5-alpine\n").as_deref(),
        Some("ghost:5-alpine")
    );
    assert_eq!(
        loaded("Loading layer\nLoaded image ID: sha256:8f1a\n").as_deref(),
        Some("sha256:8f1a")
    );
    assert_eq!(loaded(""), None);
}
