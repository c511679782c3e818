//! What a site of `tls = "acme"` gets before, while and after its certificates come.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use sovereign_config::model::{Site, Tls, Until};

use super::fixtures::{DAY, Disk, site};
use super::kept::{self, About, Kept};
use super::{Certificates, Set, Source};

const NAMES: [&str; 2] = ["www.a.example", "a.example"];

/// Keeps a certificate for these names under an id.
fn keep(disk: &Disk, id: &str, names: &[&str], from: SystemTime, to: SystemTime) {
    let path = disk.path(&kept::name(id));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, issued(disk, names, from, to).to_pem()).unwrap();
}

fn issued(disk: &Disk, names: &[&str], from: SystemTime, to: SystemTime) -> Kept {
    let (chain, key) = disk.signed(names, from, to);
    let about = About {
        directory: "https://ca.example/directory".to_owned(),
        obtained: 1_790_000_000,
        ..About::default()
    };
    Kept::new(about, chain, key)
}

fn keep_now(disk: &Disk, id: &str, names: &[&str]) {
    let now = SystemTime::now();
    keep(disk, id, names, now - DAY, now + 90 * DAY);
}

/// Where each name's certificate comes from: `acme`, `temporary`, `local`, or nothing.
fn sources(set: &Set, names: &[&str]) -> Vec<&'static str> {
    let source = |name: &&str| {
        let Some(chosen) = set.choose(Some(name), None) else {
            return "none";
        };
        let by =
            |info: &&super::CertificateInfo| super::CoveredNames::new(&info.names) == *chosen.names;
        match set.list().iter().find(by).map(|info| &info.source) {
            Some(Source::Acme { .. }) => "acme",
            Some(Source::Temporary) => "temporary",
            Some(Source::Local) => "local",
            _ => "other",
        }
    };
    names.iter().map(source).collect()
}

fn acme(names: &[&str]) -> Site {
    site(names, Tls::Acme)
}

#[test]
fn a_site_is_served_at_once_and_by_its_own_certificate_when_it_is_there() {
    let disk = Disk::new();
    let before = disk.load(&[acme(&NAMES)]).unwrap();
    assert_eq!(sources(&before, &NAMES), ["temporary"; 2]);
    assert!(!before.is_provisional("a.example"));

    keep_now(&disk, NAMES[0], &NAMES);
    let after = disk.load(&[acme(&NAMES)]).unwrap();
    assert_eq!(sources(&after, &NAMES), ["acme"; 2]);
    let [info] = after.list() else {
        panic!("{:?}", after.list())
    };
    let Source::Acme {
        directory,
        obtained,
    } = &info.source
    else {
        panic!("{info:?}")
    };
    assert_eq!(directory, "https://ca.example/directory");
    assert_eq!(
        *obtained,
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)
    );
}

#[test]
fn the_certificate_in_force_is_served_whatever_the_clock_says() {
    let disk = Disk::new();
    let now = SystemTime::now();
    keep(
        &disk,
        "a.example",
        &["a.example"],
        now - 9 * DAY,
        now - 2 * DAY,
    );
    keep(
        &disk,
        "b.example",
        &["b.example"],
        now + 2 * DAY,
        now + 9 * DAY,
    );
    let set = disk
        .load(&[acme(&["a.example"]), acme(&["b.example"])])
        .unwrap();
    assert_eq!(sources(&set, &["a.example", "b.example"]), ["acme"; 2]);
}

#[test]
fn a_damaged_file_is_set_aside_and_the_site_is_served() {
    for damage in ["", "garbage", "{\"directory\":\"\",\"obtained\":1}\n", "\0"] {
        let disk = Disk::new();
        let path = disk.path(&kept::name("a.example"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, damage).unwrap();
        let set = disk.load(&[acme(&["a.example"])]).unwrap();
        assert_eq!(sources(&set, &["a.example"]), ["temporary"]);
        assert!(!path.exists());
        let bad = disk.path(&format!("{}.bad", kept::name("a.example")));
        assert_eq!(fs::read_to_string(bad).unwrap(), damage);
    }
}

#[test]
fn half_a_file_and_a_file_with_another_key_are_set_aside() {
    let disk = Disk::new();
    let path = disk.path(&kept::name("a.example"));
    keep_now(&disk, "a.example", &["a.example"]);
    let one = fs::read_to_string(&path).unwrap();
    keep_now(&disk, "a.example", &["a.example"]);
    let two = fs::read_to_string(&path).unwrap();
    let key = two.find("-----BEGIN PRIVATE KEY").unwrap();
    let mixed = one[..one.find("-----BEGIN PRIVATE KEY").unwrap()].to_owned() + &two[key..];
    for damaged in [&one[..one.len() / 2], &mixed] {
        fs::write(&path, damaged).unwrap();
        let set = disk.load(&[acme(&["a.example"])]).unwrap();
        assert_eq!(sources(&set, &["a.example"]), ["temporary"]);
        assert!(!path.exists());
    }
}

#[test]
fn a_site_with_more_names_keeps_the_old_certificate_for_those_it_covers() {
    let disk = Disk::new();
    keep_now(&disk, NAMES[0], &NAMES);
    let names = ["www.a.example", "a.example", "new.example"];
    let set = disk.load(&[acme(&names)]).unwrap();
    assert_eq!(sources(&set, &names), ["acme", "acme", "temporary"]);
}

#[test]
fn a_certificate_of_another_id_serves_on_when_names_move() {
    let disk = Disk::new();
    keep_now(&disk, NAMES[0], &NAMES);
    // Another name comes first now.
    let turned = disk.load(&[acme(&["a.example", "www.a.example"])]).unwrap();
    assert_eq!(sources(&turned, &NAMES), ["acme"; 2]);
    // From one certificate to one for each name.
    let mut each = acme(&NAMES);
    each.certificates.each = true;
    assert_eq!(sources(&disk.load(&[each]).unwrap(), &NAMES), ["acme"; 2]);
    // One that has lapsed is no help.
    let now = SystemTime::now();
    keep(&disk, NAMES[0], &NAMES, now - 9 * DAY, now - DAY);
    let lapsed = disk.load(&[acme(&["a.example"])]).unwrap();
    assert_eq!(sources(&lapsed, &["a.example"]), ["temporary"]);
}

#[test]
fn until_http_only_names_without_a_certificate_are_provisional() {
    let disk = Disk::new();
    keep_now(&disk, "a.example", &["a.example"]);
    let mut waiting = acme(&["a.example", "new.example"]);
    waiting.certificates.until = Until::Http;
    let set = disk.load(&[waiting, acme(&["b.example"])]).unwrap();
    assert!(set.is_provisional("new.example"));
    assert!(!set.is_provisional("a.example"));
    assert!(
        !set.is_provisional("b.example"),
        "served over the local authority"
    );
    // A client that comes over TLS all the same is not turned away.
    assert_eq!(sources(&set, &["new.example"]), ["temporary"]);
}

#[test]
fn the_temporary_certificate_stays_the_same_and_is_for_the_owner_alone() {
    let disk = Disk::new();
    let one = disk.load(&[acme(&NAMES)]).unwrap();
    let two = disk.load(&[acme(&NAMES)]).unwrap();
    assert_eq!(one.list(), two.list());
    let key = disk.path("certs/local/www.a.example/key.pem");
    assert_eq!(
        fs::metadata(key).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn temporary_certificates_are_not_read_again_while_the_daemon_serves() {
    let disk = Disk::new();
    let sites = [acme(&["a.example"]), acme(&["b.example"])];
    let certificates = Certificates::new(disk.load(&sites).unwrap()).unwrap();
    let of = |set: &Set, name| set.choose(Some(name), None).unwrap().key.clone();
    let one = certificates
        .load_holding(&sites, disk.0.path(), &[])
        .unwrap();
    keep_now(&disk, "b.example", &["b.example"]);
    let two = certificates
        .load_holding(&sites, disk.0.path(), &[])
        .unwrap();
    assert!(std::sync::Arc::ptr_eq(
        &of(&one, "a.example"),
        &of(&two, "a.example")
    ));
    assert_eq!(
        sources(&two, &["a.example", "b.example"]),
        ["temporary", "acme"]
    );
    // Other names of a site are another certificate.
    let more = [acme(&["a.example", "c.example"])];
    let three = certificates
        .load_holding(&more, disk.0.path(), &[])
        .unwrap();
    assert_eq!(
        sources(&three, &["a.example", "c.example"]),
        ["temporary"; 2]
    );
    assert!(!std::sync::Arc::ptr_eq(
        &of(&one, "a.example"),
        &of(&three, "a.example")
    ));
}

#[test]
fn what_has_not_changed_is_not_read_again() {
    let disk = Disk::new();
    keep_now(&disk, "a.example", &["a.example"]);
    let sites = [acme(&["a.example"])];
    let certificates = Certificates::new(disk.load(&sites).unwrap()).unwrap();
    let of = |set: &Set| set.choose(Some("a.example"), None).unwrap().key.clone();
    let before = of(&disk.load(&sites).unwrap());
    let same = certificates.load(&sites, disk.0.path(), &[]).unwrap();
    let again = certificates.load(&sites, disk.0.path(), &[]).unwrap();
    assert!(std::sync::Arc::ptr_eq(&of(&same), &of(&again)));

    keep_now(&disk, "a.example", &["a.example"]);
    let renewed = certificates.load(&sites, disk.0.path(), &[]).unwrap();
    assert_ne!(of(&renewed).cert, before.cert);
}

/// What a full disk did not take was held, and the old certificate served until it lapsed.
#[test]
fn what_could_not_be_written_goes_before_what_lies_on_disk() {
    let disk = Disk::new();
    let now = SystemTime::now();
    keep(&disk, "a.example", &["a.example"], now - 9 * DAY, now - DAY);
    let sites = [acme(&["a.example"]), acme(&["b.example"])];
    let certificates = Certificates::new(disk.load(&sites).unwrap()).unwrap();
    let end = |unwritten: &[(Box<str>, Kept)]| {
        let set = certificates.load(&sites, disk.0.path(), unwritten).unwrap();
        let ends = set.list().iter().map(|info| info.not_after > now);
        (sources(&set, &["a.example", "b.example"]), ends.collect())
    };
    let new = |name: &str| {
        (
            name.into(),
            issued(&disk, &[name], now - DAY, now + 9 * DAY),
        )
    };
    let unwritten = [new("a.example"), new("b.example")];
    assert_eq!(end(&unwritten), (vec!["acme"; 2], vec![true; 2]));
    // Once it is let go, what lies on disk counts again.
    assert_eq!(end(&[]), (vec!["acme", "temporary"], vec![false, true]));
    assert_eq!(
        end(&unwritten[..1]),
        (vec!["acme", "temporary"], vec![true; 2])
    );
}
