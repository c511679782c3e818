//! A proxy that is started in another way than before.

use super::*;
use crate::observe::DeployedProxy;
use crate::plan::ProxyChange;
use crate::ssh::Remote;
use crate::ssh::double::Double;

#[tokio::test]
async fn a_proxy_that_does_not_come_up_in_another_way_goes_on_in_the_one_before() {
    let now = |digit| DeployedProxy {
        revision: revision(digit),
        program: "1".repeat(12),
    };
    let change = ProxyChange {
        now: now('b'),
        runs: ProxyAs::Systemd,
        before: Some(now('a')),
        was: Some(ProxyAs::Container),
    };
    let double = Arc::new(Double::new("h1").fails("systemctl start", 1, "no such user"));
    let remote = Arc::clone(&double) as Arc<dyn Remote>;
    let ground = Ground {
        host: Host::new(Arc::clone(&remote)),
        engine: engine::of(model::Engine::Docker, remote),
    };
    let error = proxy::start(&ground, &change).await.expect_err("it fails");
    assert!(matches!(error, StepError::PutBack { .. }), "{error:?}");
    let done: Vec<String> = double.commands();
    let at = |sign: &str| {
        done.iter()
            .rposition(|command| command.contains(sign))
            .unwrap_or_else(|| panic!("{sign}: {done:#?}"))
    };
    let order = [
        "systemctl start",
        "systemctl disable",
        "ln -sfn -- aaaaaaaaaaaa",
        " up --detach",
    ];
    let order: Vec<usize> = order.iter().map(|sign| at(sign)).collect();
    assert!(order.is_sorted(), "{done:#?}");
}
