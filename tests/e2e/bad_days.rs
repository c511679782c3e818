//! The bad days of the cache: killed, damaged, full, poisoned, crowded, and with a wrong clock. What
//! every one of them must show is the same: no wrong byte, no error to a visitor, and afterwards all
//! is well again by itself.

use std::time::Duration;

use serde_json::Value;
use sovereign_tests::{Proxy, Truth, eventually};

// A thousand lives on one folder.
mod kills;
// What happens to the files, and to the disk below them.
mod damage;
mod disks;
// What strangers try.
mod crowd;
mod poison;
// What the machine does.
mod clock;

/// The name of the one site.
pub const HOST: &str = "app.test";
/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One site in front of the origin, with these bounds of the cache.
pub fn sites(truth: &Truth, bounds: &str) -> String {
    format!("[cache]\n{bounds}\n{}", truth.site(HOST, ""))
}

/// Waits for what the daemon says of its disk to be as `wanted`.
pub async fn disk_is(proxy: &Proxy, what: &str, wanted: impl Fn(&Value) -> bool) {
    eventually(what, PATIENCE, || async {
        let disk = proxy.admin("/status").await["cache"]["disk"].clone();
        wanted(&disk).then_some(()).ok_or(disk)
    })
    .await;
}

/// Waits until no fetch is under way and nothing waits to be written: whatever happens then, what was
/// stored before is on disk.
pub async fn settle(proxy: &Proxy) {
    eventually("all that was stored is on disk", PATIENCE, || async {
        let status = proxy.admin("/status").await;
        let waiting = status["cache"]["disk"]["waiting"].as_u64();
        // A fetch is under way until what it brought has been handed to the disk.
        let idle = fetches(&status) == 0 && waiting == Some(0);
        idle.then_some(()).ok_or(status)
    })
    .await;
}

/// Requests to upstreams that are under way.
pub fn fetches(status: &Value) -> u64 {
    let sites = status["sites"].as_array().into_iter().flatten();
    let upstreams = sites
        .filter_map(|site| site["upstreams"].as_array())
        .flatten();
    upstreams.filter_map(|one| one["active"].as_u64()).sum()
}

/// Fails the test where the daemon has panicked, or calls anything an error.
pub fn assert_calm(proxy: &Proxy) {
    proxy.assert_no_panic();
    let log = proxy.log();
    let error = log.lines().find(|line| line.contains("ERROR"));
    assert!(error.is_none(), "the proxy logged an error: {error:?}");
}
