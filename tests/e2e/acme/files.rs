//! The operator's own certificates, which are files; and the root of the local authority.

use std::fs;
use std::path::Path;

use sovereign_tests::pebble::certify;
use sovereign_tests::proxy::said;
use sovereign_tests::served::{Served, served};
use sovereign_tests::{Client, Lab, Proxy, eventually};

use super::{SOON, origin, plain_site};

/// A pair of files for `own.example`, in place of those that are there.
fn put(folder: &Path, cert: &Path, key: &Path) {
    for (from, name) in [(key, "key.pem"), (cert, "cert.pem")] {
        let new = folder.join("new");
        fs::copy(from, &new).expect("the folder is ours");
        fs::rename(&new, folder.join(name)).expect("the folder is ours");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_files_are_read_again_when_they_change_and_a_bad_pair_is_not_used() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let folder = lab.folder("own");
    let (first, second) = (lab.folder("first"), lab.folder("second"));
    let of = |folder: &Path| certify(folder, "own.example");
    let (one, two) = (of(&first), of(&second));
    put(&folder, &one.cert, &one.key);
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let tls = format!(
        "tls = {{ cert = \"{}\", key = \"{}\" }}",
        cert.display(),
        key.display()
    );
    let proxy = Proxy::start(&lab, &plain_site("own.example", &origin.url(), &tls)).await;
    let shown = async || served(proxy.secure_address(), "own.example").await;
    let is = async |wanted: &Served| {
        eventually("the other certificate is served", SOON, || async {
            let shown = shown().await?;
            (shown == *wanted).then_some(()).ok_or(shown.serial)
        })
        .await;
    };
    let old = shown().await.expect("a handshake");

    // The second certificate with the key of the first: nothing changes, and it is said.
    put(&folder, &two.cert, &one.key);
    eventually("the bad pair is told of", SOON, || {
        let log = proxy.log();
        let told = log
            .lines()
            .any(|line| line.contains("cert.pem") && line.contains("\"WARN\""));
        std::future::ready(if told { Ok(()) } else { Err(log) })
    })
    .await;
    assert_eq!(shown().await.as_ref(), Ok(&old));
    // The whole pair.
    put(&folder, &two.cert, &two.key);
    let new = Served::of_file(&two.cert);
    is(&new).await;
    // What is damaged.
    fs::write(&cert, "nothing").expect("the folder is ours");
    put(&folder, &one.cert, &one.key);
    is(&old).await;
    proxy.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_of_the_local_authority_is_exported() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let site = plain_site("app.test", &origin.url(), "tls = \"local\"");
    let proxy = Proxy::start(&lab, &site).await;
    let root = lab.path().join("root.crt");
    let output = root.to_str().expect("text");
    let exported = proxy.command(&["ca", "export", "--output", output]).await;
    assert!(exported.status.success(), "{}", said(&exported));
    let target = sovereign_tests::Target::tls(proxy.secure_address(), "app.test", &root);
    Client::h2(&target).get("/").await.expect(200);
    let printed = proxy.command(&["ca", "export"]).await;
    let pem = fs::read(proxy.root_ca()).expect("it was made");
    assert_eq!(
        String::from_utf8_lossy(&printed.stdout),
        String::from_utf8_lossy(&pem)
    );
}
