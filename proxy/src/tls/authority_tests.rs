//! The local authority, made once, and its certificates, kept or replaced.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::error::Error as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Barrier};
use std::time::SystemTime;

use rcgen::{CertificateParams, KeyPair};
use sovereign_config::model::Tls;

use super::disk::create_private_folder;
use super::fixtures::{DAY, Disk, chain_text, leaks, site};
use super::{Certificates, Set, TlsError, Warning, root_pem};

#[test]
fn the_authority_is_made_once_and_kept_private() {
    let disk = Disk::new();
    let state = disk.path("new/state");
    let sites = [site(&["a.example", "10.1.2.3", "2001:db8::1"], Tls::Local)];
    let first = Set::load(&sites, &state).unwrap();
    let root = root_pem(&state).unwrap();
    let second = Set::load(&sites, &state).unwrap();

    assert_eq!(root_pem(&state).unwrap(), root);
    assert_eq!(first.list(), second.list(), "kept, not signed again");
    let info = &first.list()[0];
    assert_eq!(info.names, ["a.example", "10.1.2.3", "2001:db8::1"]);
    assert!(
        info.issuer.starts_with("Sovereign Stack local authority "),
        "{}",
        info.issuer
    );
    let lifetime = info.not_after.duration_since(info.not_before).unwrap();
    assert!(lifetime > 89 * DAY && lifetime < 398 * DAY);

    for (path, mode) in [
        ("", 0o700),
        ("ca", 0o700),
        ("ca/root.pem", 0o600),
        ("ca/root.key", 0o600),
        ("certs", 0o700),
        ("certs/local", 0o700),
        ("certs/local/a.example", 0o700),
        ("certs/local/a.example/chain.pem", 0o600),
        ("certs/local/a.example/key.pem", 0o600),
    ] {
        let found = fs::metadata(state.join(path)).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{path}");
    }
    let left = |folder: &str| fs::read_dir(state.join(folder)).unwrap().count();
    assert_eq!(
        (left(""), left("ca"), left("certs/local/a.example")),
        (2, 2, 2)
    );
}

#[test]
fn two_processes_that_start_together_agree_on_one_authority() {
    let disk = Disk::new();
    let start = Arc::new(Barrier::new(8));
    let load = |name: String| {
        let (state, start) = (disk.path(""), Arc::clone(&start));
        move || {
            start.wait();
            Set::load(&[site(&[&name], Tls::Local)], &state).unwrap()
        }
    };
    let threads: Vec<_> = (0..8)
        .map(|n| std::thread::spawn(load(format!("{n}.example"))))
        .collect();
    let issuers: BTreeSet<_> = threads
        .into_iter()
        .map(|thread| thread.join().unwrap().list()[0].issuer.clone())
        .collect();
    assert_eq!(issuers.len(), 1, "{issuers:?}");
}

#[test]
fn the_slower_of_two_changes_nothing() {
    let disk = Disk::new();
    let make = |content: &[u8]| {
        create_private_folder(&disk.path(""), "ca", &[("root.pem", content)]).unwrap()
    };
    assert!(make(b"first"));
    assert!(!make(b"second"));
    assert_eq!(fs::read(disk.path("ca/root.pem")).unwrap(), b"first");
    let left = fs::read_dir(disk.path("")).unwrap().count();
    assert_eq!(left, 1, "no draft is left behind");
}

#[test]
fn a_local_certificate_is_replaced_when_it_does_not_fit_any_more() {
    let disk = Disk::new();
    let a = [site(&["a.example"], Tls::Local)];
    let chain = disk.path("certs/local/a.example/chain.pem");
    let leaf = || fs::read(&chain).unwrap();
    disk.load(&a).unwrap();
    let first = leaf();

    let more = [site(&["a.example", "b.example"], Tls::Local)];
    disk.load(&more).unwrap();
    let with_b = leaf();
    assert_ne!(first, with_b, "other names");

    let swapped = [site(&["a.example", "B.example"], Tls::Local)];
    disk.load(&swapped).unwrap();
    assert_eq!(with_b, leaf(), "the same names");

    let later = SystemTime::now() + 59 * DAY;
    Set::load_at(&more, &disk.path(""), later).unwrap();
    assert_eq!(with_b, leaf(), "31 days left");
    Set::load_at(&more, &disk.path(""), later + 2 * DAY).unwrap();
    assert_ne!(with_b, leaf(), "29 days left");

    let whole = leaf();
    fs::write(&chain, &whole[..whole.len() / 2]).unwrap();
    disk.load(&more).unwrap();
    assert!(leaf().ends_with(b"-----END CERTIFICATE-----\n"), "damaged");

    let old_root = leaf();
    fs::remove_dir_all(disk.path("ca")).unwrap();
    disk.load(&more).unwrap();
    assert_ne!(old_root, leaf(), "another root");
}

#[test]
fn renewal_is_due_30_days_before_the_end() {
    let disk = Disk::new();
    let local = [site(&["a.example"], Tls::Local)];
    let now = SystemTime::now();
    let set = disk.load(&local).unwrap();
    assert!(!set.renew_due(now + 59 * DAY));
    assert!(set.renew_due(now + 61 * DAY));
    assert!(!Certificates::new(set).unwrap().renew_due());

    let file = disk.dated("file", "b.example", now - DAY, now + DAY);
    let set = disk.load(&[file.named(&["b.example"])]).unwrap();
    assert!(!set.renew_due(now), "a file's renewal is its owner's");
}

#[test]
fn a_damaged_authority_is_an_error_and_stays_as_it_is() {
    let foreign = CertificateParams::new(["x.example".to_owned()]).unwrap();
    let foreign_key = KeyPair::generate().unwrap();
    let foreign_pem = foreign.self_signed(&foreign_key).unwrap().pem();
    for (file, content, wanted) in [
        ("root.key", None, "root.key is missing"),
        ("root.pem", None, "root.pem is missing"),
        (
            "root.key",
            Some(String::new()),
            "root.key holds no private key",
        ),
        (
            "root.pem",
            Some("garbage".into()),
            "root.pem holds no certificate",
        ),
        (
            "root.pem",
            Some(foreign_pem),
            "not an authority's certificate",
        ),
        (
            "root.key",
            Some(foreign_key.serialize_pem()),
            "does not belong to root.pem",
        ),
    ] {
        let disk = Disk::new();
        let sites = [site(&["a.example"], Tls::Local)];
        disk.load(&sites).unwrap();
        let path = disk.path("ca").join(file);
        match &content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }

        let error = disk.load(&sites).unwrap_err();
        let message = chain_text(&error);
        assert!(message.contains(wanted), "{message}");
        assert!(
            message.contains(disk.path("ca").to_str().unwrap()),
            "{message}"
        );
        assert!(message.contains("from an archive"), "{message}");
        assert!(!leaks(&message, &foreign_key.serialize_pem()), "{message}");
        assert_eq!(fs::read_to_string(&path).ok(), content, "left as it was");
        if file == "root.pem" {
            assert!(root_pem(&disk.path("")).is_err());
        }
    }
}

#[test]
fn a_root_of_other_make_is_refused_before_it_signs_what_nobody_accepts() {
    let disk = Disk::new();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, "Another");
    let key = KeyPair::generate().unwrap();
    fs::create_dir(disk.path("ca")).unwrap();
    disk.write("ca/root.pem", &params.self_signed(&key).unwrap().pem());
    disk.write("ca/root.key", &key.serialize_pem());

    let error = disk.load(&[site(&["a.example"], Tls::Local)]).unwrap_err();
    assert!(
        error.to_string().contains("not made by this program"),
        "{error}"
    );
}

#[test]
fn an_authority_that_ends_soon_is_warned_of_and_goes_on_signing() {
    let disk = Disk::new();
    let sites = [site(&["a.example"], Tls::Local)];
    disk.load(&sites).unwrap();
    let load_in = |days: u32| Set::load_at(&sites, &disk.path(""), SystemTime::now() + days * DAY);
    assert!(load_in(3400).unwrap().warnings().is_empty());
    for days in [3500, 3640, 3700] {
        let set = load_in(days).unwrap();
        assert!(
            matches!(set.warnings(), [Warning::AuthorityEnds { .. }]),
            "{days}"
        );
        assert_eq!(set.list().len(), 1);
    }
}

#[test]
fn without_an_authority_there_is_no_root_to_export() {
    let disk = Disk::new();
    let error = root_pem(&disk.path("")).unwrap_err();
    assert!(matches!(error, TlsError::NoAuthority { .. }), "{error}");
    assert!(!disk.path("ca").exists());
}

#[test]
fn a_state_folder_that_cannot_be_written_is_named() {
    let disk = Disk::new();
    disk.write("state", "a file, where a folder should be");
    let error = Set::load(&[site(&["a.example"], Tls::Local)], &disk.path("state")).unwrap_err();
    assert!(chain_text(&error).contains("state"), "{error}");
    assert!(error.source().is_some());
}
