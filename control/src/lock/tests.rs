use super::*;

fn locked(reference: &str, digest: Option<char>, id: char) -> Locked {
    let hash = |c: char| format!("sha256:{}", c.to_string().repeat(64));
    Locked {
        reference: reference.to_owned(),
        digest: digest.map(hash),
        id: hash(id),
        resolved: "2026-01-31T12:00:00Z".to_owned(),
    }
}

fn lock(images: &[Locked]) -> Lock {
    let images = images
        .iter()
        .map(|locked| (locked.reference.clone(), locked.clone()));
    Lock {
        images: images.collect(),
    }
}

#[test]
fn the_file_comes_back_as_it_went() {
    let folder = tempfile::tempdir().unwrap();
    let path = Lock::path(&folder.path().join("stack.toml"));
    assert_eq!(path, folder.path().join("sovereign.lock"));
    assert_eq!(Lock::load(&path).unwrap(), Lock::default());
    let lock = lock(&[
        locked("ghost:5", Some('a'), 'b'),
        locked("own:1", None, 'c'),
    ]);
    lock.save(&path).unwrap();
    assert_eq!(Lock::load(&path).unwrap(), lock);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("# Written by `sovereign lock`"), "{text}");
    assert_eq!(text.matches("[[image]]").count(), 2, "{text}");
}

#[test]
fn the_file_of_nothing_is_read_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    Lock::default().save(&path).unwrap();
    assert_eq!(Lock::load(&path).unwrap(), Lock::default());
    std::fs::write(&path, "[[image]]\nreference = \"a\"\n").unwrap();
    let error = Lock::load(&path).unwrap_err();
    assert!(error.hint().unwrap().contains("sovereign lock"));
}

#[test]
fn images_are_pinned_by_digest_or_by_id() {
    let lock = lock(&[
        locked("ghost:5-alpine", Some('a'), 'b'),
        locked("reg:5000/a/own:1", None, 'c'),
    ]);
    let pulled = lock.images(ImageSource::Registry);
    assert_eq!(pulled.len(), 1);
    let ghost = &pulled["ghost:5-alpine"];
    assert_eq!(ghost.pinned, format!("ghost@sha256:{}", "a".repeat(64)));
    assert!(!ghost.sent && ghost.id.as_deref() == Some(&*format!("sha256:{}", "b".repeat(64))));
    let sent = lock.images(ImageSource::Local);
    let own = &sent["reg:5000/a/own:1"];
    assert_eq!(own.pinned, "sovereign.local/reg-5000/a/own:cccccccccccc");
    assert!(own.sent);
}

#[test]
fn names_of_references() {
    for (reference, wanted) in [
        ("ghost", "ghost"),
        ("ghost:5-alpine", "ghost"),
        ("a/b:1", "a/b"),
        ("reg.example:5000/a", "reg.example:5000/a"),
        ("reg.example:5000/a:1", "reg.example:5000/a"),
        ("a:1@sha256:00", "a"),
    ] {
        assert_eq!(name(reference), wanted, "{reference}");
    }
}

#[test]
fn what_changed_is_said() {
    let before = lock(&[
        locked("a:1", Some('a'), 'a'),
        locked("b:1", Some('b'), 'b'),
        locked("c:1", None, 'c'),
    ]);
    let mut same = locked("a:1", Some('a'), 'a');
    same.resolved = "2027-01-01T00:00:00Z".to_owned();
    let after = lock(&[
        same,
        locked("b:1", Some('d'), 'b'),
        locked("e:1", None, 'e'),
    ]);
    let changes = before.changes(&after);
    assert_eq!(
        changes,
        [
            Change::Moved {
                reference: "b:1".into(),
                before: "sha256:bbbbbbbbbbbb".into(),
                now: "sha256:dddddddddddd".into(),
            },
            Change::Added {
                reference: "e:1".into(),
                now: "sha256:eeeeeeeeeeee".into()
            },
            Change::Removed {
                reference: "c:1".into()
            },
        ]
    );
    assert!(before.changes(&before).is_empty());
}
