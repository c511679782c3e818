//! Plans of a part of a stack.

use super::*;

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
