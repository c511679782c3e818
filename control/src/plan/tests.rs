//! Plans as text: each scene is a file in `snapshots`. `SOVEREIGN_BLESS=1` writes them anew.

use std::collections::BTreeSet;
use std::path::Path;

use sovereign_config::stack::model::ProxyAs;

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
    let text = show::text(plan, Look::PLAIN);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/plan/snapshots/{name}.txt"));
    if std::env::var_os("SOVEREIGN_BLESS").is_some() {
        std::fs::write(&path, &text).expect("the snapshot is written");
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
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/plan/snapshots/cut-off.txt");
    if std::env::var_os("SOVEREIGN_BLESS").is_some() {
        std::fs::write(&whole, &text).expect("the snapshot is written");
    }
    assert_eq!(text, std::fs::read_to_string(&whole).unwrap_or_default());
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
        host.proxy = host.proxy_with(&BTreeMap::new());
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
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/plan/snapshots/proxy.txt");
    if std::env::var_os("SOVEREIGN_BLESS").is_some() {
        std::fs::write(&whole, &text).expect("the snapshot is written");
    }
    assert_eq!(text, std::fs::read_to_string(&whole).unwrap_or_default());
}

#[test]
fn filters() {
    let hosts = || {
        [
            host("h1", vec![blog(), cloud()]),
            host("h2", vec![service("wiki", 'f', 20000)]),
        ]
    };
    let set = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<BTreeSet<_>>()
    };
    let all = Filter::default();
    let cases: [(Filter, &[&str]); 5] = [
        (
            all.clone(),
            &["h1 blog", "h1 cloud", "h1 proxy", "h2 wiki", "h2 proxy"],
        ),
        (
            Filter {
                hosts: set(&["h2"]),
                ..all.clone()
            },
            &["h2 wiki", "h2 proxy"],
        ),
        (
            Filter {
                services: set(&["cloud"]),
                ..all.clone()
            },
            &["h1 cloud", "h1 proxy"],
        ),
        (
            Filter {
                sites: set(&["wiki.example"]),
                ..all.clone()
            },
            &["h2 wiki", "h2 proxy"],
        ),
        (
            Filter {
                hosts: set(&["h2"]),
                services: set(&["cloud"]),
                ..all
            },
            &[],
        ),
    ];
    for (filter, wanted) in cases {
        let plan = plan(
            &stack(hosts()),
            &seen([("h1", bare()), ("h2", bare())]),
            &filter,
        );
        let starts =
            |step: &&Step| matches!(step.action, Action::Start { .. } | Action::StartProxy(_));
        let found: Vec<String> = plan
            .hosts
            .iter()
            .flat_map(|host| {
                let starts = host
                    .steps
                    .iter()
                    .filter(starts)
                    .map(|step| match &step.subject {
                        Subject::Service(name) => format!("{} {name}", host.host),
                        _ => format!("{} proxy", host.host),
                    });
                starts.collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(found, wanted, "{filter:?}");
    }
}

#[test]
fn a_part_that_is_deployed_leaves_the_rest_in_the_record() {
    let filter = Filter {
        services: BTreeSet::from(["cloud".to_owned()]),
        ..Filter::default()
    };
    let desired = after(vec![blog().at('d'), cloud().at('e')]);
    let plan = plan(
        &desired,
        &seen([("h1", as_it_should(&before().hosts[0]))]),
        &filter,
    );
    let Some(Action::Record { services, .. }) = plan.hosts[0].steps.last().map(|step| &step.action)
    else {
        panic!("{plan:?}");
    };
    let wanted = [("blog", revision('b')), ("cloud", revision('e'))];
    assert_eq!(
        *services,
        wanted
            .map(|(name, revision)| (name.to_owned(), revision))
            .into()
    );
}
