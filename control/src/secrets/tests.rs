use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::*;
use crate::printer::Printer;

/// A folder with an identity, and a file of secrets for it.
struct Place {
    folder: tempfile::TempDir,
    recipient: String,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::at(&folder.path().join("identity.txt"));
        let recipient = identity.make(None).unwrap();
        Self { folder, recipient }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn safe(&self) -> Safe {
        self.safe_of("identity.txt", &Printer::caught(&[]))
    }

    fn safe_of(&self, identity: &str, printer: &Printer) -> Safe {
        let recipients = [self.recipient.clone()];
        Safe::new(
            &self.path("secrets.age"),
            &recipients,
            Some(&self.path(identity)),
            printer,
        )
    }

    /// What `age --encrypt` would make of this text.
    fn write(&self, text: &str) {
        let key: age::x25519::Recipient = self.recipient.parse().unwrap();
        let content = age::encrypt(&key, text.as_bytes()).unwrap();
        fs::write(self.path("secrets.age"), content).unwrap();
    }
}

fn need(name: &str, length: usize) -> Need {
    Need {
        name: name.to_owned(),
        length,
    }
}

fn given(value: &str) -> SecretString {
    SecretString::from(value.to_owned())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_is_needed_is_made_once() {
    let mut secrets = Secrets::default();
    secrets.set("a.given", given("mine")).unwrap();
    let needs = [
        need("a.password", 32),
        need("a.given", 8),
        need("b.password", 1),
    ];
    assert_eq!(
        secrets.ensure(&needs).unwrap(),
        ["a.password", "b.password"]
    );
    let first = secrets.values();
    assert_eq!(
        (first["a.password"].len(), &*first["a.given"]),
        (32, "mine")
    );
    assert!(secrets.ensure(&needs).unwrap().is_empty());
    assert_eq!(secrets.values(), first);
}

#[test]
fn what_was_made_is_rotated_and_what_was_given_is_not() {
    let mut secrets = Secrets::default();
    secrets.ensure(&[need("a.password", 40)]).unwrap();
    secrets.set("mine", given("mine")).unwrap();
    let before = secrets.values()["a.password"].clone();
    secrets.rotate("a.password").unwrap();
    let after = secrets.values()["a.password"].clone();
    assert!(before != after && after.len() == 40);
    let refused = secrets.rotate("mine").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "mine was given, not made: nothing here can make a new one"
    );
    let unknown = secrets.rotate("a.pasword").unwrap_err();
    assert_eq!(unknown.hint().unwrap(), "did you mean a.password?");
}

#[test]
fn letters_and_digits_are_as_likely_as_each_other() {
    let text = alphanumeric(62 * 1000).unwrap();
    let mut counts = BTreeMap::new();
    for letter in text.expose_secret().chars() {
        *counts.entry(letter).or_insert(0_u32) += 1;
    }
    assert_eq!(counts.len(), 62);
    // Each is expected 1000 times; less than 800 is more than six standard deviations away.
    assert!(
        counts.values().all(|count| (800..1200).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn names_and_values_that_cannot_be() {
    let mut secrets = Secrets::default();
    for name in ["", "A", "a b", "a/b", "ä", "a\n", &"a".repeat(129)] {
        assert!(
            matches!(secrets.set(name, given("x")), Err(Error::Name { .. })),
            "{name:?}"
        );
    }
    for value in ["", "a\0b", &"x".repeat(65_537)] {
        let error = secrets.set("a", given(value)).unwrap_err();
        assert!(matches!(error, Error::Value { .. }));
        assert!(value.is_empty() || !error.to_string().contains(value));
    }
    assert!(
        !secrets
            .set("a.b-c_1", given("two\nlines \"and\" more ä"))
            .unwrap()
    );
    assert!(secrets.set("a.b-c_1", given("again")).unwrap());
}

#[test]
fn no_value_is_shown() {
    let mut secrets = Secrets::default();
    secrets.set("name", given("hush")).unwrap();
    let shown = format!("{secrets:?} {:?}", secrets.shown());
    assert!(shown.contains("name") && !shown.contains("hush"), "{shown}");
}

#[test]
fn the_file_comes_back_as_it_went() {
    let place = Place::new();
    let mut secrets = place.safe().load().unwrap();
    assert!(secrets.shown().is_empty());
    secrets.ensure(&[need("blog.password", 32)]).unwrap();
    secrets
        .set("key", given("two\nlines, \"quotes\", '''more''' and \\ ä"))
        .unwrap();
    place.safe().save(&secrets).unwrap();
    assert_eq!(mode(&place.path("secrets.age")), 0o600);
    let content = fs::read_to_string(place.path("secrets.age")).unwrap();
    assert!(
        content.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"),
        "{content}"
    );
    let back = place.safe().load().unwrap();
    assert_eq!(
        (back.values(), back.shown()),
        (secrets.values(), secrets.shown())
    );
    let left = fs::read_dir(place.folder.path()).unwrap().count();
    assert_eq!(
        left, 2,
        "something was left beside the identity and the file"
    );
}

#[test]
fn a_file_that_was_written_by_hand_is_read() {
    let place = Place::new();
    place.write("# mine\nplain = \"one\"\n\"a.b\" = { value = \"two\", made = true }\n");
    let secrets = place.safe().load().unwrap();
    assert_eq!(secrets.values()["plain"], "one");
    let shown = secrets.shown();
    assert!(shown[0].made && !shown[1].made, "{shown:?}");
}

#[test]
fn a_file_that_is_wrong_says_where_and_not_what() {
    let place = Place::new();
    for (text, line) in [
        ("a = \"hush\"\nb = hush\n", "line 2"),
        ("a = 7777\n", "line 1"),
        ("a = { value = \"hush\", hash = \"hush\" }\n", "line 1"),
        ("a = \"hush\n", "line 1"),
    ] {
        place.write(text);
        let error = place.safe().load().unwrap_err();
        let said = crate::failure::chain(&error);
        assert!(
            said.contains(line) && !said.contains("hush") && !said.contains("7777"),
            "{said}"
        );
    }
}

#[test]
fn who_has_another_identity_is_told_what_to_do() {
    let place = Place::new();
    place.safe().save(&Secrets::default()).unwrap();
    Identity::at(&place.path("other.txt")).make(None).unwrap();
    let error = place
        .safe_of("other.txt", &Printer::caught(&[]))
        .load()
        .unwrap_err();
    assert!(
        error.hint().unwrap().contains("sovereign secret seal"),
        "{error:?}"
    );
    let error = place
        .safe_of("none.txt", &Printer::caught(&[]))
        .load()
        .unwrap_err();
    assert!(
        error.hint().unwrap().contains("sovereign secret identity"),
        "{error:?}"
    );
}

#[test]
fn a_damaged_file_is_not_half_read() {
    let place = Place::new();
    place.write("a = \"one\"\n");
    let mut content = fs::read(place.path("secrets.age")).unwrap();
    let last = content.len() - 1;
    content[last] ^= 1;
    fs::write(place.path("secrets.age"), &content).unwrap();
    let error = place.safe().load().unwrap_err();
    assert!(
        error.hint().unwrap().contains("version control"),
        "{error:?}"
    );
    fs::write(place.path("secrets.age"), "nothing of age\n").unwrap();
    assert!(matches!(place.safe().load(), Err(Error::Decrypt { .. })));
}

#[test]
fn nothing_is_written_for_nobody() {
    let place = Place::new();
    let printer = Printer::caught(&[]);
    let safe = |recipients: &[&str]| {
        let recipients: Vec<String> = recipients.iter().map(|text| (*text).to_owned()).collect();
        let safe = Safe::new(&place.path("secrets.age"), &recipients, None, &printer);
        safe.save(&Secrets::default())
    };
    assert!(matches!(safe(&[]), Err(Error::NoRecipients)));
    assert!(matches!(
        safe(&["age1nobody"]),
        Err(Error::BadRecipient { .. })
    ));
    let plugin = safe(&["age1sovtest1qqqsyqcyq5rqwzqfpg9scrgwpuxax9f6"]).unwrap_err();
    assert!(plugin.hint().unwrap().contains("plugin"), "{plugin:?}");
    assert!(!place.path("secrets.age").exists());
}

#[test]
fn a_passphrase_protects_an_identity() {
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity::at(&folder.path().join("deep/er/identity.txt"));
    let recipient = identity.make(Some(given("correct horse"))).unwrap();
    let content = fs::read_to_string(identity.path()).unwrap();
    assert!(!content.contains("AGE-SECRET-KEY") && content.starts_with("-----BEGIN AGE"));
    assert_eq!(mode(identity.path()), 0o600);
    assert_eq!(
        identity
            .recipient(&Printer::caught(&["correct horse"]))
            .unwrap(),
        recipient
    );
    let wrong = identity
        .recipient(&Printer::caught(&["wrong"]))
        .unwrap_err();
    assert!(
        wrong
            .hint()
            .unwrap()
            .starts_with("is that the passphrase of "),
        "{wrong:?}"
    );
    let nobody = identity.recipient(&Printer::caught(&[])).unwrap_err();
    assert!(
        nobody
            .to_string()
            .starts_with("there is no terminal to ask at"),
        "{nobody:?}"
    );

    let safe = |answers: &[&str]| {
        let path = folder.path().join("secrets.age");
        Safe::new(
            &path,
            std::slice::from_ref(&recipient),
            Some(identity.path()),
            &Printer::caught(answers),
        )
    };
    let mut secrets = Secrets::default();
    secrets.set("a", given("one")).unwrap();
    safe(&[]).save(&secrets).unwrap();
    assert_eq!(
        safe(&["correct horse"]).load().unwrap().values()["a"],
        "one"
    );
}

#[test]
fn an_identity_is_never_replaced_and_never_read_where_others_can() {
    let place = Place::new();
    let identity = Identity::at(&place.path("identity.txt"));
    assert!(matches!(
        identity.make(None),
        Err(Error::IdentityExists { .. })
    ));
    assert_eq!(mode(identity.path()), 0o600);
    fs::set_permissions(identity.path(), fs::Permissions::from_mode(0o644)).unwrap();
    place.safe().save(&Secrets::default()).unwrap();
    let error = place.safe().load().unwrap_err();
    assert_eq!(
        error.hint().unwrap(),
        format!("chmod 600 {}", identity.path().display())
    );
}

#[test]
fn the_recipient_is_read_or_worked_out() {
    let place = Place::new();
    let path = place.path("identity.txt");
    let identity = Identity::at(&path);
    let printer = Printer::caught(&[]);
    assert_eq!(identity.recipient(&printer).unwrap(), place.recipient);
    let text = fs::read_to_string(&path).unwrap();
    let bare: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    fs::write(&path, bare).unwrap();
    assert_eq!(identity.recipient(&printer).unwrap(), place.recipient);
    let hardware = "#    Recipient: age1yubikey1qsomething\nAGE-PLUGIN-YUBIKEY-1QQQ\n";
    fs::write(&path, hardware).unwrap();
    assert_eq!(
        identity.recipient(&printer).unwrap(),
        "age1yubikey1qsomething"
    );
    fs::write(&path, "nothing\n").unwrap();
    assert!(matches!(
        identity.recipient(&printer),
        Err(Error::NoRecipient { .. })
    ));
    assert!(
        matches!(place.safe().load().map(drop), Ok(())),
        "without a file nothing is decrypted"
    );
}
