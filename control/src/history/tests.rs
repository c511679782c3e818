//! The way back: what a host's record and the files that lie there make of it.

use std::collections::BTreeSet;

use sovereign_config::stack;

use super::*;
use crate::observe::{Health, Slot};
use crate::plan::stage::{
    as_it_should, container, host, revision, running, seen, service, stack as desired_stack,
};
use crate::plan::{Action, Filter, plan};
use crate::printer::Look;
use crate::show;

const STACK: &str = r#"
[stack]
recipients = ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kudh72xfs2mn2vr"]
[[datacentre]]
name = "home"
role = "primary"
[[host]]
name = "h1"
datacentre = "home"
ssh = "root@h1"
[[site]]
names = ["blog.example"]
[[site.service]]
use = "ghost"
name = "blog"
"#;

fn loaded() -> (Stack, Catalogue) {
    let catalogue = crate::catalogue::catalogue().expect("a sound catalogue");
    let stack = stack::parse("stack.toml", STACK, "/".as_ref(), &catalogue).expect("a sound stack");
    (stack, catalogue)
}

/// A host that was deployed twice: with another blog, and as `now`.
fn twice(old: &DesiredHost, now: &DesiredHost) -> ObservedHost {
    let mut host = as_it_should(now);
    let first = as_it_should(old).deployments.remove(0);
    host.programs
        .extend(first.proxy.iter().map(|proxy| proxy.program.clone()));
    for (name, revision) in &first.services {
        host.services
            .get_mut(name)
            .expect("it is there")
            .revisions
            .insert(revision.clone());
    }
    host.images.extend(
        old.services
            .iter()
            .flat_map(|one| one.images.iter().map(|image| image.pinned.clone())),
    );
    host.deployments = vec![
        first,
        Deployment {
            number: 2,
            ..host.deployments.remove(0)
        },
    ];
    host
}

fn files(host: &DesiredHost) -> BTreeMap<Whose, Files> {
    let services = host
        .services
        .iter()
        .map(|one| (Whose::Service(one.name.clone()), one.files.clone()));
    services
        .chain([(Whose::Proxy, host.proxy.files.clone())])
        .collect()
}

fn blog(digit: char) -> DesiredService {
    let blog = service("blog", digit, 20000).imaged(digit);
    let ports =
        |text: &str| format!("{text}    ports: [\"127.0.0.1:${{SOVEREIGN_PORT:-20000}}:2368\"]\n");
    blog.with("compose.yaml", ports)
}

#[test]
fn the_way_back_is_a_plan_like_any_other() {
    let (old, now) = (host("h1", vec![blog('b')]), host("h1", vec![blog('d')]));
    let (seen_host, (stack, catalogue)) = (twice(&old, &now), loaded());
    let deployment = target("h1", &seen_host, None).expect("there is one");
    assert_eq!(deployment.number, 1);
    let files = files(&old);
    let back = Back {
        host: &stack.hosts[0],
        seen: &seen_host,
        deployment,
        files: &files,
        stack: &stack,
        catalogue: &catalogue,
    };
    let desired = back.desired().expect("it is all there");
    assert_eq!(
        (desired.services[0].port, &*desired.services[0].site),
        (Some(20000), "blog.example")
    );
    let plan = plan(
        &desired_stack([desired]),
        &seen([("h1", seen_host.clone())]),
        &Filter::default(),
    );
    let lines: Vec<String> = plan.hosts[0].steps.iter().map(show::line).collect();
    let start = if catalogue["ghost"].two {
        "blog: start the new one beside the old one"
    } else {
        "blog: change where it is"
    };
    assert!(lines.contains(&start.to_owned()), "{lines:?}");
    assert!(
        !lines
            .iter()
            .any(|line| line.contains("blog: place") || line.contains("image")),
        "{lines:?}"
    );
    assert!(
        show::text(&plan, Look::PLAIN)
            .contains("is another one (sha256:dddddddddddd -> sha256:bbbbbbbbbbbb)")
    );
}

#[test]
fn a_service_that_may_run_twice_is_found_in_either_slot() {
    let twice_may = |digit| host("h1", vec![blog(digit).twice()]);
    let mut old = twice_may('b');
    let (mut seen_host, (stack, mut catalogue)) = (twice(&old, &twice_may('d')), loaded());
    catalogue.get_mut("ghost").expect("it is there").two = true;
    // Then it ran in slot b; now it runs in slot a.
    old.proxy = old.proxy_with(&BTreeSet::from(["blog".to_owned()]));
    seen_host.services.insert("blog".to_owned(), {
        let mut blog = running(&blog('d').twice(), Slot::A);
        blog.revisions = BTreeSet::from([revision('b'), revision('d')]);
        blog.running
            .insert(Slot::A, vec![container(&self::blog('d'), Health::Healthy)]);
        blog
    });
    let deployment = &seen_host.deployments[0];
    let files = files(&old);
    let back = Back {
        host: &stack.hosts[0],
        seen: &seen_host,
        deployment,
        files: &files,
        stack: &stack,
        catalogue: &catalogue,
    };
    let desired = back.desired().expect("it is all there");
    let plan = plan(
        &desired_stack([desired]),
        &seen([("h1", seen_host.clone())]),
        &Filter::default(),
    );
    let placed = plan.hosts[0]
        .steps
        .iter()
        .find_map(|step| match &step.action {
            Action::Place { files, .. } => files
                .get("proxy.toml")
                .map(|file| String::from_utf8_lossy(&file.content).into_owned()),
            _ => None,
        });
    assert!(placed.is_some_and(|text| text.contains("127.0.0.1:30000")));
}

#[test]
fn what_there_is_no_way_back_to() {
    let (old, now) = (host("h1", vec![blog('b')]), host("h1", vec![blog('d')]));
    let both = twice(&old, &now);
    let one = as_it_should(&now);
    let text = |error: Error| format!("{error}; {}", error.hint().unwrap_or_default());
    let none = target("h1", &one, None).expect_err("there is none");
    assert_eq!(
        text(none),
        "h1: there is no deployment before the last one; `sovereign deploy` goes by stack.toml"
    );
    let gone = target("h1", &both, Some(7)).expect_err("there is none");
    assert_eq!(
        text(gone),
        "h1: there is no way back to deployment 7; there is one to 1, 2"
    );
    let (stack, catalogue) = loaded();
    let empty = BTreeMap::new();
    let deployment = &both.deployments[0];
    let back = Back {
        host: &stack.hosts[0],
        seen: &both,
        deployment,
        files: &empty,
        stack: &stack,
        catalogue: &catalogue,
    };
    let lost = back.desired().expect_err("nothing is there");
    assert_eq!(
        text(lost),
        "h1: the files of blog of deployment 1 are not there any more; `sovereign rollback --list` shows the others"
    );
}

#[test]
fn an_image_that_was_sent_is_sent_again_where_it_has_gone() {
    let local = |digit: char| {
        let pinned = format!("sovereign.local/ghost:{}", String::from(digit).repeat(12));
        let image = blog(digit).images[0].pinned.clone();
        let mut blog = blog(digit).with("compose.yaml", |text| text.replace(&image, &pinned));
        blog.images = vec![self::image(pinned)];
        host("h1", vec![blog])
    };
    let (old, now) = (local('b'), local('d'));
    let (mut seen_host, (stack, catalogue)) = (twice(&old, &now), loaded());
    let files = files(&old);
    let desired = |seen: &ObservedHost| {
        let back = Back {
            host: &stack.hosts[0],
            seen,
            deployment: &seen.deployments[0],
            files: &files,
            stack: &stack,
            catalogue: &catalogue,
        };
        back.desired().expect("it is all there")
    };
    assert_eq!(unsent(&desired(&seen_host), &seen_host).count(), 0);
    seen_host.images.clear();
    let desired = desired(&seen_host);
    let gone: Vec<&Image> = unsent(&desired, &seen_host).collect();
    assert_eq!(
        (gone.len(), gone[0].id.as_deref()),
        (1, Some("bbbbbbbbbbbb"))
    );
    let observed = seen([("h1", seen_host.clone())]);
    let plan = plan(
        &desired_stack([desired.clone()]),
        &observed,
        &Filter::default(),
    );
    let lines: Vec<String> = plan.hosts[0].steps.iter().map(show::line).collect();
    assert_eq!(
        lines[1],
        "blog: send image sovereign.local/ghost:bbbbbbbbbbbb"
    );
    let source = engine::Error::NoImage {
        image: "bbbbbbbbbbbb".to_owned(),
        said: "No such image: bbbbbbbbbbbb".to_owned(),
    };
    let error = Error::NoImage {
        host: "h1".to_owned(),
        number: 1,
        image: gone[0].pinned.clone(),
        source: Box::new(source),
    };
    assert_eq!(
        crate::failure::chain(&error),
        "h1: sovereign.local/ghost:bbbbbbbbbbbb of deployment 1 is not on the host any more, and cannot be sent: \
         the engine of this machine has no image `bbbbbbbbbbbb`: No such image: bbbbbbbbbbbb"
    );
}
