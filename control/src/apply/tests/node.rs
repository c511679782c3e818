//! A Bitcoin node that is waited for: what needs it comes last, and later.

use std::time::Duration;

use super::*;

/// A host with a node, what needs it, and what does not.
fn with_node(folder: &Path) -> Desired {
    let node = service("node", 'b', 20004).of_kind("bitcoin", &[]);
    let node = DesiredService {
        // It is looked at once.
        patience: Duration::from_secs(1),
        ..node
    };
    let till = service("till", 'c', 20006).of_kind("btcpay", &["node"]);
    let services = vec![node, till, service("wiki", 'd', 20008)];
    stack([contained(folder, host("h1", services), "one")])
}

const BEHIND: &str = r#"{"chain":"main","blocks":412004,"headers":880123,"verificationprogress":0.1127,"initialblockdownload":true}"#;
const WHOLE: &str =
    r#"{"chain":"main","blocks":880123,"headers":880123,"verificationprogress":0.99999}"#;

#[tokio::test]
async fn a_node_that_is_behind_keeps_back_only_what_needs_it() {
    let stage = Stage::bare();
    let (world, desired) = (&stage.world, with_node(stage.path()));
    world.state().chain = BEHIND.to_owned();
    for run in 1..=2 {
        let failure = failure(deploy(world, &desired).await);
        assert_eq!(
            failure.error.to_string(),
            "node does not have the whole chain yet: it is at block 412004 of 880123, 11.2 %"
        );
        let hint = failure.error.hint().unwrap_or_default();
        assert!(hint.ends_with("Once it is there, run it again"), "{hint}");
        let names: Vec<String> = world.state().projects.keys().cloned().collect();
        assert_eq!(
            names,
            ["sovereign-node", "sovereign-wiki", "sovereign_proxy"],
            "{run}"
        );
        let looked = world.look().await;
        let written: Vec<&String> = looked.deployments[0].services.keys().collect();
        assert_eq!(
            (looked.deployments.len(), written),
            (1, vec![&"node".to_owned(), &"wiki".to_owned()])
        );
    }
    world.state().chain = WHOLE.to_owned();
    assert_done(&deploy(world, &desired).await);
    assert!(plan_of(world, &desired).await.is_done());
    assert_eq!(world.look().await.deployments[1].services.len(), 3);
}

#[tokio::test]
async fn a_deployment_that_has_not_to_wait_is_one_deployment() {
    let stage = Stage::bare();
    let (world, desired) = (&stage.world, with_node(stage.path()));
    world.state().chain = WHOLE.to_owned();
    assert_done(&deploy(world, &desired).await);
    assert!(plan_of(world, &desired).await.is_done());
    let looked = world.look().await;
    assert_eq!(
        (
            looked.deployments.len(),
            looked.deployments[0].services.len()
        ),
        (1, 3)
    );
}

/// Ends it as soon as a node is waited for.
struct Impatient(watch::Sender<bool>);

impl Watch for Impatient {
    fn begins(&self, _: &str, _: At, _: &Step) {}
    fn moved(&self, _: &str, _: u64, _: u64) {}
    fn waits(&self, _: &str, _: Option<(u64, u64)>, _: &str) {
        let _ = self.0.send(true);
    }
    fn ends(&self, _: &str, _: &Step, _: bool) {}
}

#[tokio::test]
async fn the_operator_need_not_wait_for_a_node() {
    let stage = Stage::bare();
    let (world, mut desired) = (&stage.world, with_node(stage.path()));
    desired.hosts[0].services[0].patience = Duration::from_secs(3600);
    world.state().chain = BEHIND.to_owned();
    let (sender, stop) = watch::channel(false);
    let tools = Tools {
        stop,
        watch: Arc::new(Impatient(sender)),
        ..world.tools()
    };
    let (plan, looked) = (plan_of(world, &desired).await, world.look().await);
    let outcome = on_host(&world.ground(), &plan.hosts[0], &looked, &tools).await;
    let error = failure(outcome).error;
    assert!(matches!(error, StepError::Behind { .. }), "{error:?}");
}
