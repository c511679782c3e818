use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use sovereign_config::stack;
use time::format_description::well_known::Rfc3339;

use super::*;
use crate::bitcoin::{Node, Seen};
use crate::catalogue::catalogue;
use crate::desired::Revision;
use crate::lock::Locked;
use crate::observe::{
    Container, Current, DeployedProxy, Deployment, Disk, Health, ObservedProxy, ObservedService,
    Slot, Unseen,
};
use crate::printer::Look as Terminal;

const STACK: &str = r#"
[stack]
name = "example"
recipients = ["age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqs3290gq"]
[[datacentre]]
name = "home"
role = "primary"
[[datacentre]]
name = "office"
role = "mirror"
[[host]]
name = "h1"
datacentre = "home"
ssh = "root@10.77.0.11"
[[host]]
name = "h2"
datacentre = "office"
ssh = "root@10.77.0.12"
[[site]]
names = ["www.example.org", "example.org"]
[[site.service]]
use = "ghost"
name = "blog"
[[service]]
use = "bitcoin"
name = "node"
"#;

/// As `sovereign-proxy status --json` prints it.
const PROXY: &str = r#"{
  "version": "0.1.0", "pid": 812, "started": "2026-02-01T10:00:00Z", "uptime_seconds": 2426400,
  "config": "/run/sovereign-proxy/proxy.toml", "draining": false, "connections": 3, "requests": 81234,
  "sites": [{"names": ["www.example.org", "example.org"], "preset": "ghost", "tls": "acme", "requests": 81234, "hit_ratio": 0.93,
    "upstreams": [{"address": "http://127.0.0.1:20016", "state": "up", "requests": 5000, "failures": 0, "last_error": null, "active": 0}]}],
  "certificates": [{"names": ["www.example.org", "example.org"], "source": "acme ca.example", "issuer": "CA", "not_after": "2026-05-01T10:00:00Z",
    "days_left": 61, "order": {"id": "www.example.org", "names": ["www.example.org", "example.org"], "state": "good", "text": "", "authority": null,
    "challenge": "http-01", "profile": null, "obtained": "2026-02-01T10:00:00Z", "due": "2026-04-01T10:00:00Z", "window": null, "explanation": null,
    "next_attempt": null, "failures": 0, "last_error": null}}],
  "acme": {"authorities": [{"directory": "https://ca.example/directory", "name": "ca.example", "agreed": true, "terms": null, "trouble": null, "until": null}],
    "clock_skew_seconds": 1, "store_trouble": null},
  "cache": {"memory_bytes": 1000, "memory_limit": 268435456, "objects": 12, "hits": 70000, "misses": 5000, "stale": 3, "bypass": 100, "hit_ratio": 0.93,
    "disk": {"health": "good", "bytes": 1000, "limit": 10737418240, "objects": 12, "waiting": 0, "not_stored": 0, "corrupt": 0, "error": null}},
  "listeners": ["http [::]:80", "https [::]:443"], "last_reload": {"time": "2026-02-20T10:00:00Z", "ok": true, "message": "nothing changed"}
}"#;

const IDS: [(&str, &str); 3] = [
    ("ghost:5-alpine", "sha256:aa"),
    ("mariadb:11.4", "sha256:bb"),
    ("bitcoin/bitcoin:29", "sha256:cc"),
];

/// When the tags were looked up.
const RESOLVED: &str = "2026-02-20T09:00:00Z";

fn now() -> OffsetDateTime {
    OffsetDateTime::parse("2026-03-01T12:00:00Z", &Rfc3339).unwrap()
}

fn container(part: &str, image: &str, revision: &str, health: Health) -> Container {
    Container {
        part: part.to_owned(),
        image: image.to_owned(),
        revision: Some(Revision(revision.repeat(12))),
        health,
        restarts: 0,
        since: "2026-03-01T09:57:00.123456789Z".to_owned(),
    }
}

fn service(revision: &str, containers: Vec<Container>) -> ObservedService {
    let revision = Revision(revision.repeat(12));
    ObservedService {
        current: Some(Current {
            revision: revision.clone(),
            slot: Slot::A,
        }),
        files: Default::default(),
        revisions: [revision].into(),
        running: [(Slot::A, containers)].into(),
    }
}

fn proxy(status: Result<serde_json::Value, String>) -> ObservedProxy {
    ObservedProxy {
        revision: Revision("b".repeat(12)),
        program: "c".repeat(12),
        files: Default::default(),
        status,
    }
}

/// A host as it should be.
fn host() -> ObservedHost {
    let blog = service(
        "a",
        vec![
            container("app", "sha256:aa", "a", Health::Healthy),
            container("db", "sha256:bb", "a", Health::Healthy),
        ],
    );
    let node = service(
        "d",
        vec![container("bitcoind", "sha256:cc", "d", Health::Healthy)],
    );
    ObservedHost {
        engine: EngineState::Up("26.1.5".to_owned()),
        compose: Some("2.26.1".to_owned()),
        services: [("blog".to_owned(), blog), ("node".to_owned(), node)].into(),
        proxy: Some(proxy(Ok(serde_json::from_str(PROXY).unwrap()))),
        disk: Disk {
            size: 80 << 30,
            free: 41 << 30,
        },
        deployments: vec![Deployment {
            number: 7,
            at: "2026-02-20T10:00:12Z".to_owned(),
            by: "ann@laptop".to_owned(),
            services: BTreeMap::new(),
            options: BTreeMap::new(),
            proxy: Some(DeployedProxy {
                revision: Revision("b".repeat(12)),
                program: "c".repeat(12),
            }),
        }],
        ..ObservedHost::default()
    }
}

fn node(blocks: u64, progress: f64) -> NodeLook {
    let synced = blocks == 880_123;
    let node = Node {
        chain: "main".to_owned(),
        blocks,
        headers: 880_123,
        progress,
        synced,
        pruned: false,
        size: 712 << 30,
        peers: 9,
        version: "/Satoshi:29.0.0/".to_owned(),
        warnings: Vec::new(),
    };
    NodeLook {
        seen: Ok(Seen::Answers(node)),
        left: (!synced).then_some(Duration::from_secs(183_600)),
    }
}

fn looks(home: ObservedHost, node: NodeLook) -> Vec<Look> {
    let mut office = host();
    office.services.clear();
    vec![
        Look {
            host: "h1".to_owned(),
            seen: Ok(home),
            nodes: [("node".to_owned(), node)].into(),
            updates: Some(Updates::default()),
        },
        Look {
            host: "h2".to_owned(),
            seen: Ok(office),
            nodes: BTreeMap::new(),
            updates: None,
        },
    ]
}

fn status(looks: &[Look]) -> Status {
    let catalogue = catalogue().unwrap();
    let stack = stack::parse("stack.toml", STACK, Path::new("/"), &catalogue)
        .unwrap_or_else(|report| panic!("{report}"));
    let locked = IDS.map(|(reference, id)| {
        let locked = Locked {
            reference: reference.to_owned(),
            digest: None,
            id: id.to_owned(),
            resolved: RESOLVED.to_owned(),
        };
        (reference.to_owned(), locked)
    });
    let lock = Lock {
        images: locked.into(),
    };
    let of = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<BTreeSet<_>>()
    };
    let images = [
        ("blog".to_owned(), of(&["ghost:5-alpine", "mariadb:11.4"])),
        ("node".to_owned(), of(&["bitcoin/bitcoin:29"])),
    ]
    .into();
    let loaded = Loaded { stack, catalogue };
    Status::of(
        Scope {
            loaded: &loaded,
            lock: &lock,
            images: &images,
            only: None,
        },
        looks,
        now(),
    )
}

/// Compares with what is checked in; `SOVEREIGN_BLESS=1` writes that.
fn snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/status/snapshots")
        .join(name);
    if std::env::var_os("SOVEREIGN_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == text,
        "{name} differs; SOVEREIGN_BLESS=1 writes it:\n{text}"
    );
}

fn shown(status: &Status) -> String {
    render(status, now(), Terminal::PLAIN)
}

#[test]
fn all_is_well() {
    let status = status(&looks(host(), node(880_123, 1.0)));
    assert_eq!(status.attention, []);
    snapshot("well.txt", &shown(&status));
    snapshot(
        "well.json",
        &(serde_json::to_string_pretty(&status).unwrap() + "\n"),
    );
}

#[test]
fn a_host_is_cut_off_and_a_node_is_on_its_way() {
    let mut looks = looks(host(), node(412_004, 0.1127));
    let why = "h2: no SSH connection: it does not answer: ssh: connect to host 10.77.0.12 port 22: Connection timed out".to_owned();
    looks[1].seen = Err(Unseen {
        why,
        hint: Some("is it on, and is its address right?".to_owned()),
    });
    snapshot("cut-off.txt", &shown(&status(&looks)));
}

#[test]
fn much_is_wrong() {
    let mut home = host();
    home.disk.free = 3 << 30;
    home.locked_by = Some("bob@desk since 2026-03-01T11:58:00Z".to_owned());
    let mut said: serde_json::Value = serde_json::from_str(PROXY).unwrap();
    said["certificates"][0]["days_left"] = 4.into();
    said["certificates"][0]["not_after"] = "2026-03-05T12:30:00Z".into();
    said["certificates"][0]["order"]["state"] = "failing".into();
    said["certificates"][0]["order"]["last_error"] = "ca.example: DNS problem".into();
    said["cache"]["disk"]["health"] = "full".into();
    home.proxy = Some(proxy(Ok(said)));
    let mut app = container(
        "app",
        "sha256:old",
        "a",
        Health::Unhealthy("connect ECONNREFUSED\n172.18.0.2:3306".to_owned()),
    );
    app.restarts = 3;
    home.services.insert(
        "blog".to_owned(),
        service(
            "a",
            vec![app, container("db", "sha256:bb", "a", Health::Exited(1))],
        ),
    );
    home.services.insert(
        "shop".to_owned(),
        service(
            "e",
            vec![container("app", "sha256:ee", "e", Health::Healthy)],
        ),
    );
    let silent = NodeLook {
        seen: Err("the Bitcoin node sovereign-node does not answer".to_owned()),
        left: None,
    };
    let mut looks = looks(home, silent);
    looks[0].updates = Some(Updates {
        security: ["libc6", "openssl"].map(str::to_owned).into(),
        restart: true,
    });
    looks[1].seen = Ok(ObservedHost {
        engine: EngineState::Down("Cannot connect to the Docker daemon".to_owned()),
        proxy: Some(proxy(Err("h2: there is no program".to_owned()))),
        ..looks[1].seen.clone().unwrap()
    });
    let status = status(&looks);
    snapshot("wrong.txt", &shown(&status));
    let ids: BTreeSet<&str> = status.attention.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids.len(), status.attention.len(), "ids are apart: {ids:?}");
    assert!(
        ids.contains("h1/certificate/www.example.org/2026-03-05"),
        "{ids:?}"
    );
}

#[test]
fn services_are_judged_by_what_runs() {
    use ServiceState::{Absent, Down, Ended, Healthy, Running, Starting, Unhealthy};
    let one = |health: Health| service("a", vec![container("app", "sha256:aa", "a", health)]);
    let cut = |revisions: &[&str]| ObservedService {
        current: None,
        files: Default::default(),
        revisions: revisions
            .iter()
            .map(|digit| Revision(digit.repeat(12)))
            .collect(),
        running: BTreeMap::new(),
    };
    let two = service(
        "a",
        vec![
            container("app", "sha256:aa", "a", Health::Healthy),
            container("db", "sha256:bb", "a", Health::Starting),
        ],
    );
    let done = service(
        "a",
        vec![
            container("app", "sha256:aa", "a", Health::Running),
            container("init", "sha256:bb", "a", Health::Exited(0)),
        ],
    );
    let ended = service(
        "a",
        vec![
            container("app", "sha256:aa", "a", Health::Healthy),
            container("db", "sha256:bb", "a", Health::Exited(2)),
        ],
    );
    let other = service(
        "a",
        vec![container("app", "sha256:aa", "f", Health::Healthy)],
    );
    for (observed, state, said) in [
        (one(Health::Healthy), Healthy, None),
        (one(Health::Running), Running, None),
        (one(Health::Starting), Starting, None),
        (
            one(Health::Unhealthy("no\nanswer".to_owned())),
            Unhealthy,
            Some("app: no answer"),
        ),
        (one(Health::Exited(137)), Down, Some("nothing of it runs")),
        (two, Starting, Some("db")),
        (done, Running, None),
        (ended, Ended, Some("db: with exit code 2")),
        (
            other,
            Healthy,
            Some("runs revision ffffffffffff instead of aaaaaaaaaaaa"),
        ),
        (service("a", Vec::new()), Down, Some("nothing of it runs")),
        (
            cut(&["a"]),
            Down,
            Some("taken down, or cut off before it was healthy"),
        ),
        (cut(&[]), Absent, None),
    ] {
        let mut home = host();
        home.services.insert("blog".to_owned(), observed);
        let status = status(&looks(home, node(880_123, 1.0)));
        let blog = &status.services[0];
        assert_eq!((blog.state, blog.said.as_deref()), (state, said));
    }
}

#[test]
fn certificates_are_judged_by_what_is_done_for_them() {
    let trouble = |days: Option<i64>, state: Option<&str>| {
        let mut said: serde_json::Value = serde_json::from_str(PROXY).unwrap();
        let certificate = &mut said["certificates"][0];
        match days {
            Some(days) => certificate["days_left"] = days.into(),
            None => certificate["not_after"] = "".into(),
        }
        match state {
            Some(state) => certificate["order"]["state"] = state.into(),
            None => certificate["order"] = serde_json::Value::Null,
        }
        proxy::status("h1", Some(&proxy(Ok(said)))).certificates[0]
            .trouble
            .clone()
    };
    #[rustfmt::skip]
    let table = [
        (Some(61), Some("good"),     None),
        (Some(2),  Some("good"),     None),        // it lives for a few days only
        (Some(2),  Some("ordering"), None),
        (Some(2),  Some("failing"),  Some("lapses in 2 days")),
        (Some(1),  Some("due"),      Some("lapses in 1 day")),
        (Some(40), Some("failing"),  None),
        (Some(40), Some("waiting"),  Some("is not renewed: something has to be done")),
        (Some(-3), Some("lapsed"),   Some("has lapsed")),
        (Some(-3), Some("doubtful"), Some("has lapsed by a clock that nobody has confirmed")),
        (None,     Some("missing"),  Some("cannot be had so far")),
        (None,     Some("ordering"), None),
        (Some(5),  None,             Some("lapses in 5 days")),
        (Some(90), None,             None),
    ];
    for (days, state, expected) in table {
        assert_eq!(
            trouble(days, state).as_deref(),
            expected,
            "{days:?} {state:?}"
        );
    }
}

#[test]
fn a_proxy_of_another_version_may_say_less() {
    let status = proxy::status(
        "h1",
        Some(&proxy(Ok(serde_json::json!({ "version": "9.0.0" })))),
    );
    assert_eq!(
        (status.state, status.version.as_deref(), status.sites),
        (ProxyState::Serving, Some("9.0.0"), 0)
    );
    assert_eq!(proxy::status("h1", None).state, ProxyState::Missing);
}

/// No registry is asked: what is known is when it was asked last.
#[test]
fn tags_that_nobody_looked_up_for_a_month_are_told() {
    let told = |resolved: &str| {
        let mut status = status(&looks(host(), node(880_123, 1.0)));
        status.services[0].looked_up = Some(resolved.to_owned());
        let all = attention::of(&status, &[], now());
        all.into_iter()
            .map(|one| (one.id, one.what))
            .collect::<Vec<_>>()
    };
    assert_eq!(told("2026-01-31T12:00:00Z"), []);
    let old = (
        "h1/updates/blog".to_owned(),
        "blog: its images were looked up 30 days ago".to_owned(),
    );
    assert_eq!(told("2026-01-30T12:00:00Z"), [old]);
}

#[test]
fn a_screen_begins_with_what_needs_attention_and_wraps_it() {
    let mut looks = looks(host(), node(412_004, 0.1127));
    let why = "h2: no SSH connection: it does not answer: ssh: connect to host 10.77.0.12 port 22: Connection timed out".to_owned();
    looks[1].seen = Err(Unseen { why, hint: None });
    let look = Terminal {
        width: Some(50),
        colour: false,
    };
    let text = screen(&status(&looks), now(), look);
    let begins = "1 thing needs attention
  h2: no SSH connection: it does not answer: ssh:
    connect to host 10.77.0.12 port 22: Connection
    timed out
";
    assert!(text.starts_with(begins), "{text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 50),
        "{text}"
    );
}
