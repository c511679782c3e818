use super::*;
use crate::args::Keys;
use crate::printer::Printer;

fn answers() -> Answers {
    Answers {
        name: "home".into(),
        ssh: "me@h1.example:2222".into(),
        site: "www.b.example".into(),
        kind: "ghost".into(),
        agreed: false,
    }
}

#[test]
fn every_example_of_the_template_is_filled_in() {
    let template = stack::template();
    for example in [NAME, RECIPIENTS, SSH, ADDRESS, SITE, USE, SERVICE] {
        assert_eq!(
            template.lines().filter(|line| *line == example).count(),
            1,
            "{example}"
        );
    }
}

#[test]
fn what_it_writes_has_no_problems() {
    let catalogue = catalogue().unwrap();
    let kinds = kinds(&catalogue);
    assert!(
        kinds.contains(&"ghost") && !kinds.contains(&"bitcoin"),
        "{kinds:?}"
    );
    for kind in kinds {
        let answers = Answers {
            kind: kind.to_owned(),
            ..answers()
        };
        let text = answers.fill(NOBODY);
        let stack = stack::parse("stack.toml", &text, Path::new(""), &catalogue);
        let stack = stack.unwrap_or_else(|report| panic!("{kind}: {report}"));
        assert_eq!(
            (&*stack.name, &*stack.hosts[0].ssh),
            ("home", "me@h1.example")
        );
        assert_eq!(stack.sites[0].names, ["www.b.example", "b.example"]);
        assert_eq!(stack.services[0].kind, kind);
    }
}

#[test]
fn an_authority_is_named_where_its_terms_are_agreed_to() {
    assert!(!answers().fill(NOBODY).contains("\n[[stack.proxy.acme]]\n"));
    let agreed = Answers {
        agreed: true,
        ..answers()
    };
    let text = agreed.fill(NOBODY);
    assert!(check(Path::new("stack.toml"), &text, &catalogue().unwrap()).is_ok());
    let table: toml::Table = text.parse().unwrap();
    let authority = &table["stack"]["proxy"]["acme"][0]["directory"];
    assert_eq!(
        authority.as_str(),
        Some("https://acme-v02.api.letsencrypt.org/directory")
    );
}

#[test]
fn what_is_typed_cannot_write_other_keys() {
    let answers = Answers {
        name: "a\"\nsecrets = \"b".into(),
        ..answers()
    };
    let text = answers.fill(NOBODY);
    assert!(check(Path::new("stack.toml"), &text, &catalogue().unwrap()).is_err());
    let table: toml::Table = text.parse().unwrap();
    assert_eq!(table["stack"]["name"].as_str(), Some("a\"\nsecrets = \"b"));
}

#[tokio::test]
async fn it_asks_for_what_is_not_given() {
    let folder = tempfile::tempdir().unwrap();
    let (file, key) = (
        folder.path().join("stack.toml"),
        folder.path().join("key.txt"),
    );
    let args = Init {
        file: file.clone(),
        name: Some("home".into()),
        ssh: None,
        site: None,
        kind: None,
        agree: false,
        passphrase: true,
        yes: false,
        keys: Keys {
            identity: Some(key.clone()),
        },
    };
    let command = crate::args::Command::Init(args);
    let answers = [
        "root@10.0.0.1",
        "a.example",
        "",
        "y",
        "hush hush",
        "hush hush",
    ];
    let ctx = Context::new(command.common(), Printer::caught(&answers));
    assert_eq!(
        super::super::perform(&command, &ctx).await.unwrap(),
        Outcome::Done
    );
    let (out, err) = ctx.printer.take();
    assert!(out.contains("sovereign host add h1 --stack "), "{out}");
    assert!(
        err.contains("What is the first site called? Such as www.example.org: "),
        "{err}"
    );
    let loaded = ctx.load().unwrap();
    assert_eq!(loaded.stack.sites[0].names, ["a.example"]);
    assert!(
        std::fs::read_to_string(&key)
            .unwrap()
            .starts_with("-----BEGIN AGE")
    );
    let again = super::super::perform(&command, &ctx).await.unwrap_err();
    assert!(
        again
            .to_string()
            .ends_with("stack.toml exists, and is not replaced"),
        "{again}"
    );
}
