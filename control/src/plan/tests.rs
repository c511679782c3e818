//! Plans as text: each scene is a file in `snapshots`. `SOVEREIGN_BLESS=1` writes them anew.

// A part of a stack.
mod filter;

use std::collections::BTreeSet;
use std::path::Path;

use sovereign_config::stack::model::{Engine, ProxyAs};

use super::stage::*;
use super::*;
use crate::desired::SLOT_B;
use crate::observe::{EngineState, Health, ObservedHost};
use crate::printer::Look;
use crate::show;

fn blog() -> DesiredService {
    service("blog", 'b', 20000).twice()
}

fn cloud() -> DesiredService {
    service("cloud", 'c', 20001)
}

fn before() -> Desired {
    stack([host("h1", vec![blog(), cloud()])])
}

fn after(services: Vec<DesiredService>) -> Desired {
    stack([host("h1", services)])
}

/// The plan from what was before to something else.
fn from_before(desired: &Desired) -> Plan {
    with(desired, |_| {})
}

/// The same, with a host that is not quite as it was left.
fn with(desired: &Desired, change: impl Fn(&mut ObservedHost)) -> Plan {
    let mut host = as_it_should(&before().hosts[0]);
    change(&mut host);
    plan(desired, &seen([("h1", host)]), &Filter::default())
}

fn snapshot(name: &str, plan: &Plan) {
    snapshot_of(name, &show::text(plan, Look::PLAIN));
}

fn snapshot_of(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/plan/snapshots/{name}.txt"));
    if std::env::var_os("SOVEREIGN_BLESS").is_some() {
        std::fs::write(&path, text).expect("the snapshot is written");
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, wanted, "{name}: SOVEREIGN_BLESS=1 writes it anew");
}

fn actions(plan: &Plan) -> Vec<String> {
    plan.hosts[0].steps.iter().map(show::line).collect()
}

#[test]
fn first_deployment() {
    let desired = stack([host("h1", vec![blog(), cloud()]), host("h2", vec![])]);
    let observed = seen([("h1", bare()), ("h2", bare())]);
    snapshot("first", &plan(&desired, &observed, &Filter::default()));
}

#[test]
fn a_port_that_a_swarm_opens_to_all_is_told_once() {
    let told = |engine, seen_host| {
        let desired = stack([DesiredHost {
            engine,
            ..host("h1", vec![cloud()])
        }]);
        let plan = plan(&desired, &seen([("h1", seen_host)]), &Filter::default());
        show::text(&plan, Look::PLAIN).contains("publishes port 20001 on all addresses")
    };
    assert!(told(Engine::Swarm, bare()));
    assert!(!told(Engine::Docker, bare()));
    let before = as_it_should(&host("h1", vec![cloud().at('d')]));
    assert!(!told(Engine::Swarm, before));
}

#[test]
fn nothing_to_do() {
    let plan = from_before(&before());
    assert!(plan.is_done());
    snapshot("nothing", &plan);
}

#[test]
fn an_image_that_may_stand_beside_the_old_one() {
    snapshot(
        "beside",
        &from_before(&after(vec![blog().imaged('d').at('d'), cloud()])),
    );
}

#[test]
fn an_option_and_a_secret() {
    let mut cloud = cloud()
        .with("compose.yaml", |text| {
            text.replace("always", "unless-stopped")
        })
        .with("secrets/password", |_| "two".to_owned());
    cloud
        .options
        .insert("database".to_owned(), "mysql".to_owned());
    let plan = from_before(&after(vec![blog(), cloud.at('e')]));
    let shown =
        format!("{plan:?}") + &show::text(&plan, Look::PLAIN) + &show::json(&plan).to_string();
    assert!(
        !shown.contains("one\"") && !shown.contains("two"),
        "a secret is shown: {shown}"
    );
    snapshot("option", &plan);
}

#[test]
fn a_password_that_a_database_keeps() {
    let rotated = || cloud().rotated("two").at('e');
    let plan = from_before(&after(vec![blog(), rotated()]));
    let shown =
        format!("{plan:?}") + &show::text(&plan, Look::PLAIN) + &show::json(&plan).to_string();
    assert!(
        !shown.contains("two") && !shown.contains("[116, 119, 111]"),
        "a secret is shown: {shown}"
    );
    let steps = &plan.hosts[0].steps;
    let back = steps.iter().find_map(|step| match &step.action {
        Action::Start { back, .. } => Some(back.clone()),
        _ => None,
    });
    assert_eq!(back.expect("it starts")[0].file.content, b"one");
    snapshot("rotated", &plan);
    // What has never been in force, and what stays as it is, has nothing to change.
    let rotates = |plan: &Plan| {
        let mut steps = plan.hosts[0].steps.iter();
        steps.any(|step| matches!(step.action, Action::Rotate { .. }))
    };
    let fresh = with(&after(vec![blog(), rotated()]), |seen| {
        seen.services.remove("cloud");
    });
    let same = from_before(&after(vec![blog(), cloud().rotated("one").at('e')]));
    assert!(rotates(&plan) && !rotates(&fresh) && !rotates(&same));
}

#[test]
fn what_waits_for_a_node_comes_last() {
    let node = || service("node", 'a', 20002).of_kind("bitcoin", &[]);
    let channels = |digit| service("channels", digit, 20003).of_kind("lightning", &["node"]);
    let till = |digit| service("till", digit, 20004).of_kind("btcpay", &["channels"]);
    let whole = |digit| host("h1", vec![node(), channels(digit), till(digit), cloud()]);
    let of = |desired: DesiredHost, seen_host: ObservedHost| {
        plan(
            &stack([desired]),
            &seen([("h1", seen_host)]),
            &Filter::default(),
        )
    };
    let there = as_it_should(&whole('b'));
    let cases = [
        ("from nothing", of(whole('b'), bare())),
        ("what needs it changes", of(whole('d'), there.clone())),
        (
            "it changes alone",
            of(
                host(
                    "h1",
                    vec![node().at('d'), channels('b'), till('b'), cloud()],
                ),
                there.clone(),
            ),
        ),
        ("nothing changes", of(whole('b'), there)),
    ];
    let text: String = cases
        .iter()
        .map(|(name, plan)| format!("# {name}\n{}\n", show::text(plan, Look::PLAIN)))
        .collect();
    snapshot_of("node", &text);
}

#[test]
fn services_that_go_and_move() {
    let desired = stack([host("h1", vec![blog()]), host("h2", vec![cloud()])]);
    let observed = seen([("h1", as_it_should(&before().hosts[0])), ("h2", bare())]);
    snapshot("moved", &plan(&desired, &observed, &Filter::default()));
}

#[test]
fn hosts_that_cannot_be_planned() {
    let hosts =
        ["h1", "h2", "h3", "h4", "h5"].map(|name| host(name, vec![service(name, 'b', 20000)]));
    let down = "Cannot connect to the Docker daemon".to_owned();
    let down = ObservedHost {
        engine: EngineState::Down(down),
        ..bare()
    };
    let mut observed = seen([
        ("h1", as_it_should(&hosts[0])),
        ("h3", down),
        (
            "h4",
            ObservedHost {
                engine: EngineState::Missing,
                ..bare()
            },
        ),
        (
            "h5",
            ObservedHost {
                compose: None,
                ..bare()
            },
        ),
    ]);
    observed.hosts.push(silent("h2"));
    let plan = plan(&stack(hosts), &observed, &Filter::default());
    assert!(!plan.is_done() && !plan.has_steps());
    snapshot("blocked", &plan);
}

#[test]
fn a_host_without_containers_needs_no_engine() {
    let desired = stack([host("h1", vec![])]);
    let observed = seen([(
        "h1",
        ObservedHost {
            engine: EngineState::Missing,
            ..bare()
        },
    )]);
    let plan = plan(&desired, &observed, &Filter::default());
    assert!(plan.hosts[0].blocked.is_none() && plan.has_steps());
}

#[test]
fn what_a_run_that_was_cut_off_has_left() {
    let run = |health: Health| {
        move |seen: &mut ObservedHost| {
            let parts = seen.services.get_mut("cloud").expect("it is there");
            parts.running.get_mut(&Slot::A).expect("it runs")[0].health = health.clone();
        }
    };
    let cases: Vec<(&str, Plan)> = vec![
        (
            "was never in force",
            with(&before(), |seen| {
                let cloud = seen.services.get_mut("cloud").expect("it is there");
                cloud.current = None;
                cloud.files.clear();
            }),
        ),
        (
            "was taken down",
            with(&before(), |seen| {
                let cloud = seen.services.get_mut("cloud").expect("it is there");
                cloud.current = None;
                cloud.files.clear();
                cloud.running.clear();
            }),
        ),
        (
            "is changed by somebody else at this moment",
            with(&before(), |seen| {
                let cloud = seen.services.get_mut("cloud").expect("it is there");
                cloud.running.get_mut(&Slot::A).expect("it runs")[0].revision = Some(revision('9'));
                seen.locked_by = Some("bob@desk since 2026-01-01T00:00:00Z".to_owned());
            }),
        ),
        (
            "does not run",
            with(&before(), |seen| {
                seen.services
                    .get_mut("cloud")
                    .expect("it is there")
                    .running
                    .clear();
            }),
        ),
        ("ended", with(&before(), run(Health::Exited(137)))),
        (
            "is ill",
            with(
                &before(),
                run(Health::Unhealthy("no\n\tdatabase \u{1b}[2J".to_owned())),
            ),
        ),
        (
            "runs another revision",
            with(&before(), |seen| {
                let cloud = seen.services.get_mut("cloud").expect("it is there");
                cloud.running.get_mut(&Slot::A).expect("it runs")[0].revision = Some(revision('9'));
            }),
        ),
        (
            "files were changed on the host",
            with(&before(), |seen| {
                let cloud = seen.services.get_mut("cloud").expect("it is there");
                cloud
                    .files
                    .insert("compose.yaml".to_owned(), file("services: {}\n"));
            }),
        ),
        (
            "one is left beside the other",
            with(&before(), |seen| {
                let parts = vec![container(&blog(), Health::Healthy)];
                seen.services
                    .get_mut("blog")
                    .expect("it is there")
                    .running
                    .insert(Slot::B, parts);
            }),
        ),
        (
            "was not written down",
            with(&before(), |seen| seen.deployments.clear()),
        ),
    ];
    let text: String = cases
        .iter()
        .map(|(name, plan)| format!("# {name}\n{}\n", show::text(plan, Look::PLAIN)))
        .collect();
    snapshot_of("cut-off", &text);
}

#[test]
fn the_new_one_stands_in_the_slot_that_is_free_and_the_proxy_moves_to_it() {
    let desired = after(vec![blog().at('d'), cloud()]);
    for (old, new, port) in [
        (Slot::A, Slot::B, 20000 + SLOT_B),
        (Slot::B, Slot::A, 20000),
    ] {
        let plan = with(&desired, |seen| {
            seen.services
                .insert("blog".to_owned(), running(&blog(), old));
        });
        let steps = &plan.hosts[0].steps;
        let at = |wanted: &dyn Fn(&Action) -> bool| {
            steps
                .iter()
                .position(|step| wanted(&step.action))
                .unwrap_or_else(|| panic!("{steps:?}"))
        };
        let start = at(
            &|action| matches!(action, Action::StartBeside { slot, run, .. } if *slot == new && run.port == Some(port)),
        );
        let stop = at(&|action| matches!(action, Action::StopBeside { slot } if *slot == old));
        assert!(start < stop);
        // Only where its port is another one does the proxy have to know of it.
        let reload = steps
            .iter()
            .position(|step| matches!(step.action, Action::ReloadProxy(_)));
        match new {
            Slot::B => assert!(reload.is_some_and(|reload| start < reload && reload < stop)),
            Slot::A => assert_eq!(reload, None),
        }
    }
}

#[test]
fn what_may_run_once_is_never_started_beside_another() {
    // It could run twice once, and did: in slot b.
    let desired = after(vec![service("blog", 'd', 20000), cloud()]);
    let plan = with(&desired, |seen| {
        seen.services
            .insert("blog".to_owned(), running(&blog(), Slot::B));
    });
    let of_blog: Vec<_> = actions(&plan)
        .into_iter()
        .filter(|line| line.starts_with("blog: st") || line.starts_with("blog: ch"))
        .collect();
    assert_eq!(
        of_blog,
        [
            "blog: stop the other one, in slot b",
            "blog: change where it is"
        ]
    );
}

#[test]
fn one_that_does_not_serve_is_changed_where_it_is() {
    let plan = with(&after(vec![blog().at('d'), cloud()]), |seen| {
        let blog = seen.services.get_mut("blog").expect("it is there");
        blog.running.get_mut(&Slot::A).expect("it runs")[0].health = Health::Exited(1);
    });
    assert!(
        actions(&plan).contains(&"blog: change where it is".to_owned()),
        "{:?}",
        actions(&plan)
    );
}

#[test]
fn the_proxy() {
    let desired = |change: &dyn Fn(&mut DesiredHost)| {
        let mut host = before().hosts.remove(0);
        change(&mut host);
        host.proxy = host.proxy_with(&BTreeSet::new());
        stack([host])
    };
    let other_program = |host: &mut DesiredHost| host.proxy.program.digest = "2".repeat(64);
    let other_config = |host: &mut DesiredHost| {
        let file = host.proxy.files.get_mut("proxy.toml").expect("it is there");
        file.content.extend_from_slice(b"preset = \"ghost\"\n");
    };
    let contained = |host: &mut DesiredHost| {
        host.proxy.runs = ProxyAs::Container;
        host.proxy.files.retain(|path, _| path == "proxy.toml");
        host.proxy
            .files
            .insert("compose.yaml".to_owned(), file("services: {}\n"));
    };
    let silent = |seen: &mut ObservedHost| {
        seen.proxy.as_mut().expect("it is there").status = Err("connection refused".to_owned());
    };
    let cases = [
        ("a new configuration", from_before(&desired(&other_config))),
        ("a new program", from_before(&desired(&other_program))),
        (
            "both",
            from_before(&desired(&|host| {
                other_program(host);
                other_config(host);
            })),
        ),
        ("it does not answer", with(&before(), silent)),
        (
            "it runs another program",
            with(&before(), |seen| {
                let says = serde_json::json!({ "digest": "3".repeat(64) });
                seen.proxy.as_mut().expect("it is there").status = Ok(says);
            }),
        ),
        (
            "from a unit to a container",
            from_before(&desired(&contained)),
        ),
        (
            "its files are lost",
            with(&before(), |seen| {
                seen.proxy.as_mut().expect("it is there").files.clear();
            }),
        ),
    ];
    let text: String = cases
        .iter()
        .map(|(name, plan)| format!("# {name}\n{}\n", show::text(plan, Look::PLAIN)))
        .collect();
    snapshot_of("proxy", &text);
}

#[test]
fn a_proxy_that_is_to_listen_at_other_addresses_is_started_anew() {
    let mut host = before().hosts.remove(0);
    let socket = host.proxy.files.get_mut("sovereign-proxy.socket");
    socket.expect("it is there").content = b"[Socket]\nListenStream=8443\n".to_vec();
    host.proxy = host.proxy_with(&BTreeSet::new());
    let plan = from_before(&stack([host]));
    let start = plan.hosts[0]
        .steps
        .iter()
        .find(|step| matches!(step.action, Action::StartProxy(_)))
        .expect("it is started");
    let why = "listens at other addresses: sites are away for a moment";
    assert!(start.why.iter().any(|one| one == why), "{:?}", start.why);
}
