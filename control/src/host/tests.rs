use std::sync::Mutex;

use super::*;
use crate::desired::File;
use crate::observe::Slot;
use crate::ssh::double::{Double, Here};

fn here() -> (tempfile::TempDir, Host) {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("sovereign");
    let host = Host::new(Arc::new(Here)).at(Layout::at(&root.to_string_lossy()));
    (folder, host)
}

fn files(text: &str) -> Files {
    let file = |mode, secret| File {
        mode,
        content: text.into(),
        secret,
    };
    let long = format!("static/{}/index.html", "long".repeat(40));
    [
        ("compose.yaml".to_owned(), file(0o644, false)),
        ("secrets/pass".to_owned(), file(0o600, true)),
        (long, file(0o644, false)),
    ]
    .into()
}

fn revision(digits: &str) -> Revision {
    Revision(digits.repeat(12))
}

fn blog() -> Whose {
    Whose::Service("blog".to_owned())
}

fn current(digits: &str) -> Current {
    Current {
        revision: revision(digits),
        slot: Slot::B,
    }
}

fn deployment(blog: &str) -> Deployment {
    let services = [("blog".to_owned(), revision(blog))].into();
    Deployment {
        number: 0,
        at: "2026-01-01T00:00:00Z".to_owned(),
        by: "a@b".to_owned(),
        services,
        options: Default::default(),
        proxy: None,
    }
}

#[tokio::test]
async fn a_host_without_anything_is_empty() {
    let (_folder, host) = here();
    assert_eq!(host.read().await.expect("read"), Lying::default());
    assert!(host.disk().await.expect("a disk").size > 0);
    assert_eq!(host.holder().await.expect("asked"), None);
}

#[tokio::test]
async fn what_is_placed_is_read_back() {
    let (_folder, host) = here();
    host.place(&blog(), &revision("a"), &files("one"))
        .await
        .expect("placed");
    host.place(&Whose::Proxy, &revision("b"), &files("two"))
        .await
        .expect("placed");
    let lying = host.read().await.expect("read");
    assert_eq!(lying.services["blog"].current, None);
    assert!(lying.services["blog"].files.is_empty());
    host.set_current("blog", &current("a"))
        .await
        .expect("written");
    let proxy = DeployedProxy {
        revision: revision("b"),
        program: "c".repeat(12),
    };
    host.set_proxy(&proxy).await.expect("written");
    let lying = host.read().await.expect("read");
    assert_eq!(lying.services["blog"].current, Some(current("a")));
    assert_eq!(lying.services["blog"].files, files("one"));
    assert_eq!(lying.services["blog"].revisions, [revision("a")].into());
    assert_eq!(
        (lying.proxy, lying.proxy_files),
        (Some(proxy), files("two"))
    );
    // Once more over it, as after a file was changed by hand.
    host.place(&blog(), &revision("a"), &files("anew"))
        .await
        .expect("placed");
    assert_eq!(
        host.read().await.expect("read").services["blog"].files,
        files("anew")
    );
    host.remove_service("blog").await.expect("removed");
    assert!(host.read().await.expect("read").services.is_empty());
}

#[tokio::test]
async fn what_is_cut_off_while_it_is_placed_is_not_there_and_goes() {
    let (folder, host) = here();
    host.place(&blog(), &revision("a"), &files("one"))
        .await
        .expect("placed");
    let half = folder.path().join(format!(
        "sovereign/services/blog/.{}.new/secrets",
        revision("b")
    ));
    std::fs::create_dir_all(&half).expect("made");
    let lying = host.read().await.expect("read");
    assert_eq!(lying.services["blog"].revisions, [revision("a")].into());
    host.set_current("blog", &current("a"))
        .await
        .expect("written");
    assert_eq!(host.prune().await.expect("pruned"), 1);
    assert!(!half.exists());
}

#[tokio::test]
async fn deployments_are_counted_and_the_files_of_the_last_ten_are_kept() {
    let (_folder, host) = here();
    let all: Vec<String> = ('a'..='f').chain('0'..='7').map(String::from).collect();
    for digits in &all {
        host.place(&blog(), &revision(digits), &files(digits))
            .await
            .expect("placed");
        host.set_current("blog", &current(digits))
            .await
            .expect("written");
        let before = host.read().await.expect("read").deployments;
        host.record(&before, deployment(digits))
            .await
            .expect("written");
    }
    let went = host.prune().await.expect("pruned");
    let lying = host.read().await.expect("read");
    assert_eq!(went, 4);
    assert_eq!(lying.deployments.last().map(|last| last.number), Some(14));
    let kept: BTreeSet<Revision> = all[4..].iter().map(|digits| revision(digits)).collect();
    assert_eq!(lying.services["blog"].revisions, kept);
}

#[tokio::test]
async fn a_program_is_checked_before_it_gets_its_name() {
    let (folder, host) = here();
    let program = folder.path().join("program");
    std::fs::write(&program, "#!/bin/sh\n").expect("written");
    let digest = "a8076d3d28d21e02012b20eaf7dbf75409a6277134439025f282e368e3305abf";
    let told = Mutex::new(0);
    let progress = |sent| *told.lock().expect("unpoisoned") = sent;
    host.place_program(&program, digest, &progress)
        .await
        .expect("placed");
    assert_eq!(*told.lock().expect("unpoisoned"), 10);
    assert_eq!(
        host.read().await.expect("read").programs,
        [digest[..12].to_owned()].into()
    );
    let error = host
        .place_program(&program, &"0".repeat(64), &progress)
        .await
        .expect_err("another digest");
    assert!(error.to_string().contains("instead of 000"), "{error}");
    assert_eq!(host.read().await.expect("read").programs.len(), 1);
}

#[tokio::test]
async fn one_holds_the_lock_and_the_other_hears_who() {
    let (_folder, host) = here();
    let Locking::Ours(lock) = host.lock("ann@laptop").await.expect("asked") else {
        panic!("it is free")
    };
    assert!(lock.holds());
    let Locking::Theirs(who) = host.lock("bob@desk").await.expect("asked") else {
        panic!("it is held")
    };
    assert!(who.starts_with("ann@laptop since 20"), "{who}");
    assert_eq!(host.holder().await.expect("asked"), Some(who));
    drop(lock);
    let mut free = false;
    for _ in 0..50 {
        free = host.holder().await.expect("asked").is_none();
        if free {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(free, "it is let go");
    assert!(matches!(
        host.lock("bob@desk").await.expect("asked"),
        Locking::Ours(_)
    ));
}

#[tokio::test]
async fn a_holder_without_a_sign_of_life_loses_the_lock() {
    let (folder, host) = here();
    let Locking::Ours(_lock) = host.lock("ann@laptop").await.expect("asked") else {
        panic!("it is free")
    };
    // The line comes back a moment before it is in the file.
    while host.holder().await.expect("asked").as_deref() == Some("somebody") {}
    let file = std::fs::File::options()
        .append(true)
        .open(folder.path().join("sovereign/lock"))
        .expect("it is there");
    let before = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    file.set_modified(before).expect("set");
    assert_eq!(host.holder().await.expect("asked"), None);
    assert!(matches!(
        host.lock("bob@desk").await.expect("asked"),
        Locking::Ours(_)
    ));
}

#[tokio::test]
async fn a_cut_during_placing_never_reaches_the_place() {
    let double = Arc::new(Double::new("h1").cut("tar -x").fails("test -e", 1, ""));
    let host = Host::new(double.clone());
    let error = host
        .place(&blog(), &revision("a"), &files("one"))
        .await
        .expect_err("cut");
    assert!(error.is_cut_off(), "{error}");
    assert!(
        !double
            .commands()
            .iter()
            .any(|command| command.starts_with("mv")),
        "{:?}",
        double.commands()
    );
}
