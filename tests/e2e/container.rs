//! The daemon in a container: `sovereign-proxy run` is the first process of a pid namespace, whose end
//! is the end of all in it.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sovereign_tests::client::whole;
use sovereign_tests::load::{Get, Load};
use sovereign_tests::origin::reply;
use sovereign_tests::proxy::{Launch, program, said, site};
use sovereign_tests::wait::within;
use sovereign_tests::{Client, Lab, Origin, Proxy, eventually};
use tokio::sync::Semaphore;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const RATE: u32 = 100;
/// How many upgrades there are under load.
const TIMES: usize = 10;

/// Makes what follows the first process of a pid namespace.
const LAUNCHER: [&str; 5] = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// An origin that answers `/slow` once it is told to.
async fn origin() -> (Origin, Arc<Semaphore>) {
    let go_on = Arc::new(Semaphore::new(0));
    let told = go_on.clone();
    let origin = Origin::start(move |request| {
        let told = told.clone();
        async move {
            if request.uri().path() == "/slow" {
                told.acquire().await.expect("it is never closed").forget();
            }
            reply(
                200,
                [("cache-control", "no-store")],
                whole(request.uri().path().to_owned()),
            )
        }
    })
    .await;
    (origin, go_on)
}

/// A proxy that is the first process of a pid namespace.
async fn contained(lab: &Lab, sites: &str) -> Proxy {
    let launch = Launch {
        launcher: LAUNCHER.map(Into::into).to_vec(),
        ..Launch::default()
    };
    let mut proxy = Proxy::prepare(lab, launch, "drain = \"20s\"", sites);
    proxy.start_again(lab).await;
    proxy
}

/// The children of a process, of all its threads.
fn children(of: Pid) -> Vec<Pid> {
    let of = of.as_raw_nonzero();
    let threads = fs::read_dir(format!("/proc/{of}/task"));
    let lists = threads.into_iter().flatten().flatten();
    let lists = lists.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let all = lists.collect::<Vec<_>>().concat();
    let pids = all.split_whitespace().filter_map(|pid| pid.parse().ok());
    pids.filter_map(Pid::from_raw).collect()
}

/// The first process, by its id outside.
fn first(proxy: &Proxy) -> Pid {
    match children(proxy.started())[..] {
        [first] => first,
        ref other => panic!("unshare has {} children", other.len()),
    }
}

/// Waits until the first process has one child: the daemon in force, and none that drains.
async fn only_child(proxy: &Proxy) -> Pid {
    let first = first(proxy);
    eventually("one daemon is left", PATIENCE, || {
        let found = children(first);
        std::future::ready(match found[..] {
            [one] => Ok(one),
            _ => Err(format!("{} daemons", found.len())),
        })
    })
    .await
}

async fn status(proxy: &Proxy, key: &str) -> Value {
    proxy.status().await[key].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrades_of_a_container_under_load() {
    let lab = Lab::open().await;
    let (origin, go_on) = origin().await;
    let mut proxy = contained(&lab, &site("app.test", &origin.url(), "")).await;
    assert_ne!(
        status(&proxy, "pid").await,
        1,
        "the daemon is not process 1"
    );

    let target = proxy.https("app.test");
    let load = Load::new(&target, RATE, |number| Get::path(format!("/{number}"))).start();
    // To other paths, as a deployment does it; arguments stay.
    let programs = lab.folder("programs");
    for number in 0..TIMES {
        let path = programs.join(format!("sovereign-proxy-{number}"));
        fs::hard_link(program(), &path)
            .or_else(|_| fs::copy(program(), &path).map(drop))
            .expect("the folder is ours");
        let path = path.to_str().expect("the path is text");
        let before = status(&proxy, "pid").await;
        let upgraded = proxy.command(&["upgrade", "--program", path]).await;
        assert!(upgraded.status.success(), "{}", said(&upgraded));
        assert_ne!(status(&proxy, "pid").await, before);
        assert_eq!(status(&proxy, "program").await, path);
    }
    let report = load.stop().await;
    println!("{TIMES} upgrades: {}", report.summary());
    report.assert_none_failed();

    // Those that drained are gone, and nothing that ended is left unburied.
    only_child(&proxy).await;
    // The signal reaches the last one: a request under way is answered, then all ends well.
    let slow = tokio::spawn({
        let target = target.clone();
        async move { Client::h1(&target).get("/slow").await }
    });
    proxy_has_requests(&proxy).await;
    kill_process(first(&proxy), Signal::TERM).expect("it runs");
    eventually("nobody new is let in", PATIENCE, || async {
        match target.connect("http/1.1").await {
            Ok(_) => Err("somebody is"),
            Err(_) => Ok(()),
        }
    })
    .await;
    go_on.add_permits(1);
    assert_eq!(slow.await.expect("it ends").expect(200).text(), "/slow");
    assert_eq!(proxy.ended(PATIENCE).await, 0);
    proxy.assert_no_panic();
}

/// Waits until an upstream works on a request.
async fn proxy_has_requests(proxy: &Proxy) {
    eventually("a request is under way", PATIENCE, || async {
        let status = proxy.status().await;
        let active = &status["sites"][0]["upstreams"][0]["active"];
        (active == 1).then_some(()).ok_or_else(|| active.clone())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_ends_with_its_daemon() {
    let lab = Lab::open().await;
    let (origin, _go_on) = origin().await;
    let sites = site("app.test", &origin.url(), "");

    // Killed: a failure, by which an engine knows to start it again.
    let mut proxy = contained(&lab, &sites).await;
    let daemon = only_child(&proxy).await;
    kill_process(daemon, Signal::KILL).expect("it runs");
    assert_eq!(proxy.ended(PATIENCE).await, 137);
    assert!(
        !proxy.log().contains("another process is left"),
        "it waited for nobody"
    );

    // What was left behind does not keep the next one from starting.
    proxy.start_again(&lab).await;
    let target = proxy.https("app.test");
    Client::h1(&target).get("/").await.expect(200);

    // Killed while an earlier one still drains, which is its parent.
    let slow = tokio::spawn({
        let target = target.clone();
        async move { Client::h1(&target).get("/slow").await }
    });
    proxy_has_requests(&proxy).await;
    let earlier = only_child(&proxy).await;
    proxy.upgrade().await;
    let [successor] = children(earlier)[..] else {
        panic!("the successor is no child of the one that drains");
    };
    kill_process(successor, Signal::KILL).expect("it runs");
    assert_ne!(proxy.ended(PATIENCE).await, 0);
    let _ = slow.await;

    // A reload, and an end, by signals to the first process.
    proxy.start_again(&lab).await;
    let before = status(&proxy, "last_reload").await;
    kill_process(first(&proxy), Signal::HUP).expect("it runs");
    eventually("the configuration is read again", PATIENCE, || async {
        let now = status(&proxy, "last_reload").await;
        (now != before).then_some(()).ok_or(now)
    })
    .await;
    kill_process(first(&proxy), Signal::INT).expect("it runs");
    assert_eq!(proxy.ended(PATIENCE).await, 0);
    assert!(
        !proxy.state().join("init.sock").exists(),
        "its socket is left"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_whose_configuration_has_a_problem_ends_with_2() {
    let lab = Lab::open().await;
    let config = lab.file("bad.toml", "[[site]]\nnames = \"app.test\"\n");
    let mut command = tokio::process::Command::new(LAUNCHER[0]);
    command
        .args(&LAUNCHER[1..])
        .arg(program())
        .args(["run", "--config"])
        .arg(config);
    let output = within("it ends", PATIENCE, command.output()).await;
    let output = output.expect("unshare is there");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(
        said(&output).contains("site[0].upstream"),
        "{}",
        said(&output)
    );
}
