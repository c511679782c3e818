//! The operator's own certificate files, good and bad, and which site gets which.

#![allow(clippy::unwrap_used)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::SystemTime;

use sovereign_config::model::Tls;

use super::fixtures::{DAY, Disk, Files, chain_text, leaks, site};
use super::{Certificates, Set, Source, Warning, check};

#[test]
fn good_files_are_listed_as_they_are() {
    let disk = Disk::new();
    let site = disk.files("a", &["www.example.org", "*.example.org", "203.0.113.9"]);
    let set = disk
        .load(&[site.named(&["www.example.org", "203.0.113.9"])])
        .unwrap();

    assert!(set.warnings().is_empty(), "{:?}", set.warnings());
    let [info] = set.list() else {
        panic!("{:?}", set.list())
    };
    assert_eq!(
        info.names,
        ["www.example.org", "*.example.org", "203.0.113.9"]
    );
    assert_eq!(info.source, Source::Files(disk.path("a.pem")));
    assert_eq!(info.issuer, "rcgen self signed cert");
    assert!(info.not_before < SystemTime::now() && info.not_after > SystemTime::now());
    assert!(!disk.path("ca").exists(), "nobody asked for an authority");
}

#[test]
fn a_file_shared_by_two_sites_is_listed_once() {
    let disk = Disk::new();
    let site = disk.files("a", &["a.example", "b.example"]);
    // The key lies elsewhere for the third: it is read again, and is the same certificate.
    let key = fs::read_to_string(&site.1).unwrap();
    let again = Files(site.0.clone(), disk.write("copy.key", &key));
    let sites = [
        site.named(&["a.example"]),
        site.named(&["b.example"]),
        again.named(&["b.example"]),
    ];
    let set = disk.load(&sites).unwrap();
    assert_eq!(set.list().len(), 1);
}

#[test]
fn bad_files_are_refused_in_words_that_name_the_file() {
    let disk = Disk::new();
    disk.files("good", &["a.example"]);
    disk.files("other", &["a.example"]);
    let good = fs::read_to_string(disk.path("good.pem")).unwrap();
    let key = fs::read_to_string(disk.path("good.key")).unwrap();
    disk.write("empty", "");
    disk.write("prose", "This is not PEM.\n");
    disk.write("cut", &good[..good.len() / 2]);
    disk.write("garbled", &good.replace("MII", "!!!"));
    disk.write(
        "no-certificate-inside",
        "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n",
    );
    disk.write(
        "bad-intermediate",
        &format!(
            "{good}{}",
            "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"
        ),
    );
    disk.write(
        "no-key-inside",
        "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n",
    );
    disk.write(
        "encrypted",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\naGVsbG8=\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    fs::write(disk.path("der"), [0x30, 0x82, 0x01]).unwrap();

    for (cert, key_file, wanted) in [
        ("missing", "good.key", vec!["cannot read", "missing"]),
        ("good.pem", "missing", vec!["cannot read", "missing"]),
        ("empty", "good.key", vec!["empty", "it is empty"]),
        ("prose", "good.key", vec!["prose", "not PEM"]),
        ("der", "good.key", vec!["der", "looks like DER"]),
        ("good.key", "good.key", vec!["good.key", "wrong way round"]),
        ("cut", "good.key", vec!["certificate 1 in", "cut"]),
        ("garbled", "good.key", vec!["certificate 1 in", "garbled"]),
        (
            "no-certificate-inside",
            "good.key",
            vec!["certificate 1 in"],
        ),
        ("bad-intermediate", "good.key", vec!["certificate 2 in"]),
        ("good.pem", "empty", vec!["empty", "it is empty"]),
        ("good.pem", "prose", vec!["prose", "wanted a PEM block"]),
        ("good.pem", "der", vec!["der", "looks like DER"]),
        ("good.pem", "good.pem", vec!["good.pem", "wrong way round"]),
        ("good.pem", "encrypted", vec!["encrypted", "passphrase"]),
        (
            "good.pem",
            "no-key-inside",
            vec!["no-key-inside", "damaged"],
        ),
        (
            "good.pem",
            "other.key",
            vec!["other.key", "does not belong"],
        ),
    ] {
        let sites = [Files(disk.path(cert), disk.path(key_file)).named(&["a.example"])];
        let error = disk.load(&sites).unwrap_err();
        let message = chain_text(&error);
        for part in wanted {
            assert!(message.contains(part), "{cert} with {key_file}: {message}");
        }
        assert!(!leaks(&message, &key), "{message}");
        assert_eq!(check(&sites).0.len(), 1, "{cert} with {key_file}");
    }
}

#[test]
fn check_names_every_bad_file_and_writes_nothing() {
    let disk = Disk::new();
    let sites = [
        Files(disk.path("one"), disk.path("one.key")).named(&["one.example"]),
        site(&["two.example"], Tls::Local),
        Files(disk.path("three"), disk.path("three.key")).named(&["three.example"]),
        disk.files("four", &["four.example"])
            .named(&["five.example"]),
    ];
    let (errors, warnings) = check(&sites);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(!disk.path("ca").exists());
}

#[test]
fn what_browsers_refuse_is_served_with_a_warning() {
    let disk = Disk::new();
    let now = SystemTime::now();
    let lapsed = disk.dated("lapsed", "a.example", now - 90 * DAY, now - DAY);
    let early = disk.dated("early", "b.example", now + DAY, now + 90 * DAY);
    let short = disk.files("short", &["c.example"]);
    let open = disk.files("open", &["e.example"]);
    fs::set_permissions(disk.path("open.key"), Permissions::from_mode(0o644)).unwrap();

    let set = disk
        .load(&[
            lapsed.named(&["a.example"]),
            early.named(&["b.example"]),
            short.named(&["c.example", "d.example", "*.c.example"]),
            open.named(&["e.example"]),
        ])
        .unwrap();
    let [
        Warning::Expired { path: expired, .. },
        Warning::NotYetValid { path: not_yet, .. },
        Warning::Uncovered { missing, .. },
        Warning::ReadableKey { path: readable },
    ] = set.warnings()
    else {
        panic!("{:?}", set.warnings())
    };
    assert_eq!(*expired, disk.path("lapsed.pem"));
    assert_eq!(*not_yet, disk.path("early.pem"));
    assert_eq!(*missing, ["d.example", "*.c.example"]);
    assert_eq!(*readable, disk.path("open.key"));
    for warning in set.warnings() {
        assert!(
            warning
                .to_string()
                .contains(disk.0.path().to_str().unwrap())
        );
    }
    assert_eq!(set.list().len(), 4);
    // The name that the certificate lacks is served under it; its other names go by the certificate.
    let chosen = set.choose(Some("d.example"), None).unwrap();
    assert!(chosen.names.covers("d.example") && chosen.names.covers("c.example"));
    assert!(
        !set.choose(Some("c.example"), None)
            .unwrap()
            .names
            .covers("d.example")
    );
}

#[test]
fn a_site_gets_its_own_certificate_before_anothers_that_covers_its_name() {
    let disk = Disk::new();
    let wide = disk.files("wide", &["a.example", "b.example", "*.a.example"]);
    let own = disk.files("own", &["b.example"]);
    let set = disk
        .load(&[
            wide.named(&["a.example"]),
            own.named(&["b.example"]),
            site(&["plain.example"], Tls::Off),
        ])
        .unwrap();
    let leaf = |name| {
        set.choose(Some(name), None)
            .map(|chosen| chosen.key.cert[0].clone())
    };
    let file = |name: &str| {
        super::certificate::chain(&disk.path(name), &fs::read(disk.path(name)).unwrap())
            .unwrap()
            .swap_remove(0)
    };
    assert_eq!(leaf("b.example"), Some(file("own.pem")));
    for name in ["a.example", "A.EXAMPLE", "a.example.", "x.a.example"] {
        assert_eq!(leaf(name), Some(file("wide.pem")), "{name}");
    }
    for name in ["plain.example", "x.b.example", "x.y.a.example", "example"] {
        assert_eq!(leaf(name), None, "{name}");
    }
}

#[test]
fn files_that_do_not_fit_any_more_leave_the_old_pair_in_force() {
    let disk = Disk::new();
    let sites = [disk.files("a", &["a.example"]).named(&["a.example"])];
    let certificates = Certificates::new(disk.load(&sites).unwrap()).unwrap();
    let state = disk.0.path();
    let key_of = |set: &Set| set.choose(Some("a.example"), None).unwrap().key.clone();
    let before = key_of(&certificates.load(&sites, state, &[]).unwrap());
    let seen = certificates.watched();
    assert!(!seen.is_empty());
    assert_eq!(seen, seen.again(), "nothing has changed");

    // The chain is replaced first; the key is still the old one's.
    let key = fs::read(disk.path("a.key")).unwrap();
    disk.files("a", &["a.example"]);
    let new_key = fs::read(disk.path("a.key")).unwrap();
    fs::write(disk.path("a.key"), key).unwrap();
    assert_ne!(seen, seen.again());
    let refused = certificates.load(&sites, state, &[]).unwrap_err();
    assert!(refused.to_string().contains("does not belong"), "{refused}");
    let held = certificates.load_holding(&sites, state, &[]).unwrap();
    assert_eq!(key_of(&held).cert, before.cert);
    let [warning @ Warning::Held { .. }] = held.warnings() else {
        panic!("{:?}", held.warnings())
    };
    let text = warning.to_string();
    assert!(
        text.contains("held before stays in force: the key in"),
        "{text}"
    );
    certificates.swap(held);
    assert_eq!(
        certificates.watched(),
        certificates.watched().again(),
        "said once"
    );

    // Gone altogether, and held by what is held already.
    fs::remove_file(disk.path("a.pem")).unwrap();
    let held = certificates.load_holding(&sites, state, &[]).unwrap();
    assert_eq!(key_of(&held).cert, before.cert);
    certificates.swap(held);

    // Both fit.
    let (chain, key) = (disk.files("b", &["a.example"]), disk.path("a.key"));
    fs::rename(chain.0, disk.path("a.pem")).unwrap();
    fs::rename(chain.1, &key).unwrap();
    assert_ne!(fs::read(&key).unwrap(), new_key);
    assert_ne!(certificates.watched(), certificates.watched().again());
    let good = certificates.load_holding(&sites, state, &[]).unwrap();
    assert!(good.warnings().is_empty(), "{:?}", good.warnings());
    assert_ne!(key_of(&good).cert, before.cert);
}

#[test]
fn a_link_that_leads_elsewhere_is_a_change() {
    let disk = Disk::new();
    disk.files("one", &["a.example"]);
    disk.files("two", &["a.example"]);
    let link = |to: &str| {
        for kind in ["pem", "key"] {
            let (path, draft) = (disk.path(&format!("live.{kind}")), disk.path("draft"));
            symlink(disk.path(&format!("{to}.{kind}")), &draft).unwrap();
            fs::rename(draft, path).unwrap();
        }
    };
    link("one");
    let sites = [Files(disk.path("live.pem"), disk.path("live.key")).named(&["a.example"])];
    let certificates = Certificates::new(disk.load(&sites).unwrap()).unwrap();
    let seen = certificates.watched();
    link("two");
    assert_ne!(seen, seen.again());
    link("one");
    assert_eq!(seen, seen.again());
}

#[test]
fn a_first_start_with_files_that_do_not_fit_is_an_error_also_for_who_would_hold() {
    let disk = Disk::new();
    let good = disk.files("good", &["a.example"]);
    let other = disk.files("other", &["b.example"]);
    let certificates = Certificates::new(disk.load(&[good.named(&["a.example"])]).unwrap());
    let new = [Files(other.0, good.1).named(&["b.example"])];
    assert!(
        certificates
            .unwrap()
            .load_holding(&new, disk.0.path(), &[])
            .is_err()
    );
}
