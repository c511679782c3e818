//! Applying, on a host whose every operation can be the last one: whatever happens, looking and planning again leads
//! to the same end, and what was serving goes on.

// A Bitcoin node that is waited for.
mod node;
// A proxy that is started in another way.
mod other_way;

use std::collections::BTreeSet;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use sovereign_config::stack::model::ProxyAs;

use super::double::{Blow, World};
use super::*;
use crate::desired::{Desired, DesiredHost, DesiredService, Program};
use crate::failure::chain;
use crate::observe::Slot;
use crate::plan::stage::{file, host, revision, running, seen, service, stack};
use crate::plan::{Action, Filter, plan};

/// A stack of one host: a blog that may run twice, a cloud that may not, and a proxy in a container.
fn desired(folder: &Path, blog: DesiredService, cloud: DesiredService, program: &str) -> Desired {
    stack([contained(folder, host("h1", vec![blog, cloud]), program)])
}

fn contained(folder: &Path, mut host: DesiredHost, program: &str) -> DesiredHost {
    let path = folder.join(format!("program-{program}"));
    std::fs::write(&path, program).expect("the program is written");
    let digest = Sha256::digest(program.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    host.proxy.program = Program {
        path,
        version: program.to_owned(),
        digest,
    };
    host.proxy.runs = ProxyAs::Container;
    host.proxy.files.retain(|path, _| path == "proxy.toml");
    host.proxy
        .files
        .insert("compose.yaml".to_owned(), file("services: {}\n"));
    host.proxy = host.proxy_with(&BTreeSet::new());
    host
}

fn before(folder: &Path) -> Desired {
    desired(
        folder,
        service("blog", 'b', 20000).twice(),
        service("cloud", 'c', 20002),
        "one",
    )
}

/// Everything changes: both services, their images, a password that a database keeps, and the program and the
/// configuration of the proxy.
fn after(folder: &Path) -> Desired {
    let blog = service("blog", 'd', 20000).twice().imaged('d');
    let cloud = service("cloud", 'e', 20002).imaged('e').rotated("two");
    desired(folder, blog, cloud, "two")
}

async fn plan_of(world: &World, desired: &Desired) -> Plan {
    plan(
        desired,
        &seen([("h1", world.look().await)]),
        &Filter::default(),
    )
}

/// Looks, plans and applies.
async fn deploy(world: &World, desired: &Desired) -> Outcome {
    let looked = world.look().await;
    let plan = plan(desired, &seen([("h1", looked.clone())]), &Filter::default());
    on_host(&world.ground(), &plan.hosts[0], &looked, &world.tools()).await
}

/// The same, unless this program is killed meanwhile; then what it was doing is dropped.
async fn deploy_or_die(world: &World, desired: &Desired) -> Option<Outcome> {
    let killed = Arc::clone(&world.killed);
    tokio::select! {
        outcome = deploy(world, desired) => Some(outcome),
        () = killed.notified() => None,
    }
}

fn assert_done(outcome: &Outcome) {
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
}

fn failure(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

/// A host of its own, in a folder of its own.
struct Stage {
    folder: tempfile::TempDir,
    world: World,
}

impl Stage {
    fn bare() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let world = World::new(&folder.path().join("root"));
        Self { folder, world }
    }

    async fn deployed() -> Self {
        let stage = Self::bare();
        assert_done(&deploy(&stage.world, &before(stage.path())).await);
        stage.world.state().must_serve = vec![20000];
        stage.world.state().done.clear();
        stage
    }

    /// One that is just the same.
    async fn again(&self) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("root");
        let copied = tokio::process::Command::new("cp")
            .arg("-a")
            .arg(self.path().join("root"))
            .arg(&root)
            .status()
            .await;
        assert!(copied.expect("cp runs").success());
        let world = World::new(&root);
        let state = self.world.state().clone();
        *world.state() = state;
        Self { folder, world }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

#[tokio::test]
async fn a_deployment_leaves_nothing_to_do() {
    let stage = Stage::bare();
    let (world, desired) = (&stage.world, before(stage.path()));
    assert_done(&deploy(world, &desired).await);
    assert!(plan_of(world, &desired).await.is_done());
    let looked = world.look().await;
    assert_eq!(looked.deployments.len(), 1);
    assert_eq!(
        (
            looked.deployments[0].number,
            looked.deployments[0].by.as_str()
        ),
        (1, "ann@laptop")
    );
}

#[tokio::test]
async fn the_proxy_moves_to_the_new_one_before_the_old_one_goes() {
    let stage = Stage::deployed().await;
    let (world, after) = (&stage.world, after(stage.path()));
    assert_done(&deploy(world, &after).await);
    assert!(plan_of(world, &after).await.is_done());
    let state = world.state();
    let pull =
        |digit: char, name: &str| format!("pull {name}@sha256:{}", String::from(digit).repeat(64));
    let (blog, cloud) = (revision('d'), revision('e'));
    assert_eq!(
        state.done,
        [
            pull('d', "blog"),
            pull('e', "cloud"),
            format!("up sovereign-blog-b {blog}"),
            "set the password in db of sovereign-cloud".to_owned(),
            format!("up sovereign-cloud {cloud}"),
            "proxy check".to_owned(),
            "proxy upgrade".to_owned(),
            "remove sovereign-blog".to_owned(),
        ]
    );
    assert!(
        state
            .proxy
            .as_ref()
            .is_some_and(|text| text.contains("127.0.0.1:30000"))
    );
    assert!(
        state
            .program
            .starts_with("/var/lib/sovereign/proxy/bin/sovereign-proxy-"),
        "{}",
        state.program
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_the_last_operation_the_next_run_takes_it_up() {
    let deployed = Arc::new(Stage::deployed().await);
    let counting = deployed.again().await;
    counting.world.state().count = 0;
    assert_done(&deploy(&counting.world, &after(counting.path())).await);
    let operations = counting.world.state().count;
    assert!(operations > 30, "{operations}");
    // Every operation is the last one in one of these ways, and in the one that is likeliest always.
    let ways = [
        (Blow::KilledAfter, 1),
        (Blow::KilledBefore, 5),
        (Blow::Fails, 3),
        (Blow::Cut, 5),
    ];
    let cases = ways
        .into_iter()
        .flat_map(|(blow, every)| (0..operations).step_by(every).map(move |at| (at, blow)));
    let mut running = JoinSet::new();
    for (at, blow) in cases {
        if running.len() >= 4 {
            running
                .join_next()
                .await
                .expect("one runs")
                .expect("it is taken up");
        }
        let deployed = Arc::clone(&deployed);
        running.spawn(async move { taken_up(&deployed, at, blow).await });
    }
    while let Some(one) = running.join_next().await {
        one.expect("it is taken up");
    }
}

async fn taken_up(deployed: &Stage, at: usize, blow: Blow) {
    let stage = deployed.again().await;
    let (world, after) = (&stage.world, after(stage.path()));
    let looked = world.look().await;
    let plan = plan(&after, &seen([("h1", looked.clone())]), &Filter::default());
    world.lay_fuse(at, blow);
    let killed = Arc::clone(&world.killed);
    let (ground, tools) = (world.ground(), world.tools());
    tokio::select! {
        outcome = on_host(&ground, &plan.hosts[0], &looked, &tools) => {
            // What fails while something is only cleared away does not make a failure of it.
            assert!(matches!(outcome, Outcome::Failed(_) | Outcome::Done { .. }), "{at} {blow:?}: {outcome:?}");
        }
        () = killed.notified() => {}
    }
    world.without_fuse();
    assert_done(&deploy(world, &after).await);
    let left = plan_of(world, &after).await;
    assert!(left.is_done(), "{at} {blow:?}: {left:?}");
    let state = world.state();
    let of_blog = state
        .projects
        .keys()
        .filter(|name| name.starts_with("sovereign-blog"))
        .count();
    assert_eq!(of_blog, 1, "{at} {blow:?}: {:?}", state.projects);
}

#[tokio::test]
async fn a_first_deployment_that_is_killed_is_taken_up() {
    let counting = Stage::bare();
    assert_done(&deploy(&counting.world, &before(counting.path())).await);
    let operations = counting.world.state().count;
    for at in (0..operations).step_by(3) {
        let stage = Stage::bare();
        let (world, before) = (&stage.world, before(stage.path()));
        world.lay_fuse(at, Blow::KilledAfter);
        if let Some(outcome) = deploy_or_die(world, &before).await {
            assert_done(&outcome);
        }
        world.without_fuse();
        assert_done(&deploy(world, &before).await);
        assert!(plan_of(world, &before).await.is_done(), "{at}");
    }
}

#[tokio::test]
async fn one_that_never_gets_healthy_is_put_back() {
    let stage = Stage::deployed().await;
    let (world, after) = (&stage.world, after(stage.path()));
    world.state().sick.insert(revision('e'));
    let failure = failure(deploy(world, &after).await);
    let (at, step) = failure.at.expect("it is a step");
    assert!(matches!(step.action, Action::Start { .. }) && at.step < at.of);
    let text = chain(&failure.error);
    assert!(text.starts_with("cloud did not come up; the version before serves again:\n  h1: sovereign-cloud did not get healthy"), "{text}");
    assert!(
        text.contains("app is unhealthy") && text.contains("| no database"),
        "{text}"
    );
    assert_eq!(
        failure.error.hint().as_deref(),
        Some("`sovereign logs cloud` says more; mend it, then run it again")
    );
    let running = world.state().projects["sovereign-cloud"].clone();
    assert!(running.well && running.revision == revision('c'));
    assert_eq!(world.state().passwords["sovereign-cloud"], "one");
    assert_eq!(
        world.look().await.deployments.len(),
        1,
        "what failed is no deployment"
    );
    // It is planned again, and the old stack has nothing to say to what is put back.
    assert!(plan_of(world, &after).await.has_steps());
}

#[tokio::test]
async fn one_that_does_not_come_up_beside_the_old_one_is_taken_away() {
    let stage = Stage::deployed().await;
    let (world, after) = (&stage.world, after(stage.path()));
    world.state().sick.insert(revision('d'));
    let failure = failure(deploy(world, &after).await);
    assert!(
        matches!(failure.error, StepError::Kept { .. }),
        "{:?}",
        failure.error
    );
    let projects: Vec<String> = world.state().projects.keys().cloned().collect();
    assert_eq!(
        projects,
        ["sovereign-blog", "sovereign-cloud", "sovereign_proxy"]
    );
    assert!(world.state().projects["sovereign-blog"].revision == revision('b'));
}

#[tokio::test]
async fn a_first_one_that_never_gets_healthy_says_that_there_is_none_before() {
    let stage = Stage::bare();
    stage.world.state().sick.insert(revision('c'));
    let failure = failure(deploy(&stage.world, &before(stage.path())).await);
    assert!(
        matches!(failure.error, StepError::First { .. }),
        "{:?}",
        failure.error
    );
}

#[tokio::test]
async fn a_configuration_that_is_refused_leaves_the_proxy_as_it_was() {
    let stage = Stage::deployed().await;
    let (world, after) = (&stage.world, after(stage.path()));
    let before = world.look().await.proxy.map(|proxy| proxy.revision);
    world.state().refuses = Some("127.0.0.1:30000".to_owned());
    let failure = failure(deploy(world, &after).await);
    let text = chain(&failure.error);
    assert!(
        text.starts_with("the proxy did not come up; the version before goes on serving: h1: `"),
        "{text}"
    );
    assert!(text.ends_with("it is refused"), "{text}");
    assert_eq!(world.look().await.proxy.map(|proxy| proxy.revision), before);
    assert!(
        world
            .state()
            .proxy
            .as_ref()
            .is_some_and(|text| text.contains("127.0.0.1:20000"))
    );
}

#[tokio::test]
async fn the_operator_ends_it_between_two_steps() {
    let stage = Stage::bare();
    let (world, desired) = (&stage.world, before(stage.path()));
    let plan = plan_of(world, &desired).await;
    let stop = watch::channel(true).1;
    let tools = Tools {
        stop,
        ..world.tools()
    };
    let looked = world.look().await;
    let outcome = on_host(&world.ground(), &plan.hosts[0], &looked, &tools).await;
    assert!(
        matches!(outcome, Outcome::Stopped { done: 0, .. }),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn one_deployment_at_a_time() {
    let stage = Stage::bare();
    let (world, desired) = (&stage.world, before(stage.path()));
    let Ok(Locking::Ours(_lock)) = world.ground().host.lock("bob@desk").await else {
        panic!("it is free")
    };
    let failure = failure(deploy(world, &desired).await);
    let text = failure.error.to_string();
    assert!(
        text.starts_with("h1: another deployment runs: bob@desk since "),
        "{text}"
    );
}

#[tokio::test]
async fn a_plan_is_not_applied_after_somebody_else_deployed() {
    let stage = Stage::deployed().await;
    let (world, after) = (&stage.world, after(stage.path()));
    let (plan, before) = (plan_of(world, &after).await, world.look().await);
    // Somebody else deployed; somebody else deployed and did not come to an end; somebody else took one down.
    let mut deployed = before.clone();
    deployed.deployments.clear();
    let mut changed = before.clone();
    let blog = changed.services.get_mut("blog").expect("it is there");
    blog.current.as_mut().expect("it is in force").slot = Slot::B;
    let mut down = before.clone();
    down.services.get_mut("cloud").expect("it is there").current = None;
    for seen in [deployed, changed, down] {
        let outcome = on_host(&world.ground(), &plan.hosts[0], &seen, &world.tools()).await;
        let error = failure(outcome).error;
        assert!(matches!(error, StepError::Overtaken { .. }), "{error:?}");
    }
    let outcome = on_host(&world.ground(), &plan.hosts[0], &before, &world.tools()).await;
    assert_done(&outcome);
}

#[tokio::test]
async fn what_a_unit_is_told() {
    use crate::plan::ProxyChange;
    use crate::ssh::double::Double;
    let now = |digit| crate::observe::DeployedProxy {
        revision: revision(digit),
        program: "1".repeat(12),
    };
    let change = ProxyChange {
        now: now('b'),
        runs: ProxyAs::Systemd,
        before: Some(now('a')),
        was: None,
    };
    let double = Arc::new(Double::new("h1").fails(
        "/var/lib/sovereign/proxy/bin/sovereign-proxy-111111111111 reload",
        1,
        "no",
    ));
    let ground = Ground {
        host: Host::new(Arc::clone(&double) as Arc<dyn crate::ssh::Remote>),
        engine: engine::of(
            model::Engine::Docker,
            Arc::clone(&double) as Arc<dyn crate::ssh::Remote>,
        ),
    };
    let error = proxy::reload(&ground, &change)
        .await
        .expect_err("it is refused");
    assert!(matches!(error, StepError::Kept { .. }), "{error:?}");
    proxy::start(&ground, &change).await.expect("it starts");
    let folder = "/var/lib/sovereign/proxy";
    let text = double.commands().join("\n").replace(folder, "P");
    let (a, b) = (revision('a'), revision('b'));
    let wanted = format!(
        "\
P/bin/sovereign-proxy-111111111111 check --config P/{b}/proxy.toml
ln -sfn -- {b} P/live.new
mv -T -- P/live.new P/live
cp -r --remove-destination -- P/live/. /run/sovereign-proxy
chown -R --reference=/run/sovereign-proxy -- /run/sovereign-proxy
P/bin/sovereign-proxy-111111111111 reload --admin /run/sovereign-proxy/admin.sock
ln -sfn -- {a} P/live.new
mv -T -- P/live.new P/live
cp -r --remove-destination -- P/live/. /run/sovereign-proxy
chown -R --reference=/run/sovereign-proxy -- /run/sovereign-proxy
P/bin/sovereign-proxy-111111111111 check --config P/{b}/proxy.toml
ln -sfn -- sovereign-proxy-111111111111 P/bin/sovereign-proxy.new
mv -T -- P/bin/sovereign-proxy.new P/bin/sovereign-proxy
ln -sfn -- {b} P/live.new
mv -T -- P/live.new P/live
install -m 0644 -- P/{b}/sovereign-proxy.service P/{b}/sovereign-proxy.socket /etc/systemd/system/
systemctl daemon-reload
systemctl stop sovereign-proxy.service sovereign-proxy.socket
systemctl enable --quiet sovereign-proxy.service sovereign-proxy.socket
systemctl start sovereign-proxy.socket sovereign-proxy.service
dd of=P/current.new conv=fsync status=none
mv -T -- P/current.new P/current"
    );
    assert_eq!(text, wanted);
}

#[tokio::test]
async fn a_password_that_cannot_be_changed_leaves_everything_as_it_was() {
    let stage = Stage::deployed().await;
    let (world, after) = (&stage.world, after(stage.path()));
    world.state().projects.remove("sovereign-cloud");
    let mut looked = world.look().await;
    let cloud = looked.services.get_mut("cloud").expect("it is there");
    cloud.running = running(&before(stage.path()).hosts[0].services[1], Slot::A).running;
    let plan = plan(&after, &seen([("h1", looked.clone())]), &Filter::default());
    let outcome = on_host(&world.ground(), &plan.hosts[0], &looked, &world.tools()).await;
    let failure = failure(outcome);
    assert_eq!(
        chain(&failure.error),
        "password was not changed in db of cloud, which goes on as it is: h1: no container `db` of sovereign-cloud runs"
    );
    assert_eq!(
        failure.error.hint().as_deref(),
        Some("it has to run for that: `sovereign restart cloud`, then run it again")
    );
    assert!(
        !world
            .state()
            .done
            .iter()
            .any(|done| done.starts_with("up sovereign-cloud"))
    );
}
