use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::ssh::double::Double;

const ID: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const DIGEST: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

fn inspected(repo_digests: &[&str]) -> String {
    serde_json::json!([{ "Id": ID, "RepoTags": [], "RepoDigests": repo_digests }]).to_string()
}

#[tokio::test]
async fn a_host_pulls_by_tag_and_says_the_digest() {
    let other = format!("mirror.example/ghost@{ID}");
    let its = format!("ghost@{DIGEST}");
    let host = Double::new("h1").on("docker image inspect", &inspected(&[&other, &its]));
    let printer = Printer::caught(&[]);
    let locked = Engine::Host(&host)
        .resolve("docker.io/library/ghost:5", &printer)
        .await
        .unwrap();
    assert_eq!((locked.digest.as_deref(), &*locked.id), (Some(DIGEST), ID));
    assert_eq!(
        host.commands(),
        [
            "docker pull --quiet -- docker.io/library/ghost:5",
            "docker image inspect -- docker.io/library/ghost:5",
        ]
    );
}

#[tokio::test]
async fn what_a_host_cannot_have_says_what_the_host_said() {
    let printer = Printer::caught(&[]);
    let host = Double::new("h1").fails("docker pull", 1, "manifest for ghost:7777 not found");
    let error = Engine::Host(&host)
        .resolve("ghost:7777", &printer)
        .await
        .unwrap_err();
    let said = crate::failure::chain(&error);
    assert!(
        said.starts_with("ghost:7777: finding out what it means: h1: "),
        "{said}"
    );
    assert!(said.contains("manifest for ghost:7777 not found"), "{said}");
    assert_eq!(error.hint().unwrap(), "is `ghost:7777` right?");

    let built = Double::new("h1").on("docker image inspect", &inspected(&[]));
    let error = Engine::Host(&built)
        .resolve("own:1", &printer)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NoDigest { .. }), "{error:?}");

    for garbled in ["", "[]", "{}", "[{\"Id\": \"x\"}]"] {
        let host = Double::new("h1").on("docker image inspect", garbled);
        assert!(
            Engine::Host(&host).resolve("a:1", &printer).await.is_err(),
            "{garbled}"
        );
    }
}

#[tokio::test]
async fn the_engine_of_this_machine_says_the_id() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("docker");
    let script = format!(
        "#!/bin/sh\n[ \"$4\" = own:1 ] || {{ echo \"No such image: $4\" >&2; exit 1; }}\ncat <<'END'\n{}\nEND\n",
        inspected(&[])
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let engine = Engine::Here(program.to_str().unwrap());
    let printer = Printer::caught(&[]);
    let locked = engine.resolve("own:1", &printer).await.unwrap();
    assert_eq!((locked.digest, &*locked.id), (None, ID));
    let error = engine.resolve("other:1", &printer).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "other:1: asking the engine of this machine: No such image: other:1"
    );
    let error = Engine::Here("/no/such/docker")
        .resolve("own:1", &printer)
        .await
        .unwrap_err();
    assert!(
        error.hint().unwrap().contains("images = \"registry\""),
        "{error:?}"
    );
}

#[test]
fn what_has_to_be_found_out() {
    let locked = |digest: Option<&str>| Locked {
        reference: String::new(),
        digest: digest.map(str::to_owned),
        id: ID.to_owned(),
        resolved: String::new(),
    };
    let images = [
        ("a:1".to_owned(), locked(Some(DIGEST))),
        ("b:1".to_owned(), locked(None)),
    ];
    let lock = Lock {
        images: images.into(),
    };
    let used: BTreeSet<String> = ["a:1", "b:1", "c:1"].map(str::to_owned).into();
    let missing = |source, again: Option<Option<&str>>| {
        let missing = lock.missing(&used, source, again).unwrap();
        missing.into_iter().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(missing(ImageSource::Registry, None), "b:1 c:1");
    assert_eq!(missing(ImageSource::Local, None), "a:1 c:1");
    assert_eq!(missing(ImageSource::Registry, Some(None)), "a:1 b:1 c:1");
    assert_eq!(
        missing(ImageSource::Local, Some(Some("b:1"))),
        "a:1 b:1 c:1"
    );
    let error = lock
        .missing(&used, ImageSource::Local, Some(Some("d:1")))
        .unwrap_err();
    assert_eq!(error.hint().unwrap(), "they run a:1, b:1, c:1");
}
