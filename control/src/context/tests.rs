use super::*;

/// A recipient whose key nobody has.
const NOBODY: &str = "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq";

const STACK: &str = r#"
[stack]
recipients = ["NOBODY"]
[[datacentre]]
name = "home"
role = "primary"
[[host]]
name = "h1"
datacentre = "home"
ssh = "root@192.0.2.1"
[[host]]
name = "h2"
datacentre = "home"
ssh = "root@192.0.2.2"
[[site]]
names = ["www.example.org", "example.org"]
[[site.service]]
use = "ghost"
name = "blog"
[[service]]
use = "bitcoin"
host = "h2"
"#;

fn loaded() -> Loaded {
    let catalogue = catalogue().unwrap();
    let text = STACK.replace("NOBODY", NOBODY);
    let stack = stack::parse("stack.toml", &text, Path::new(""), &catalogue).unwrap();
    Loaded { stack, catalogue }
}

fn which(host: &[&str], site: &[&str], service: &[&str]) -> Which {
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Which {
        host: own(host),
        site: own(site),
        service: own(service),
    }
}

#[test]
fn parts_of_a_stack() {
    let loaded = loaded();
    let services = |which: Which| {
        loaded.check(&which).unwrap();
        let services = loaded
            .stack
            .services
            .iter()
            .filter(|service| loaded.has(&which, service));
        services
            .map(|service| service.name.as_str())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(services(Which::default()), "blog bitcoin");
    assert_eq!(services(which(&["h2"], &[], &[])), "bitcoin");
    assert_eq!(services(which(&["h1", "h2"], &[], &[])), "blog bitcoin");
    assert_eq!(services(which(&[], &["example.org"], &[])), "blog");
    assert_eq!(services(which(&["h2"], &[], &["blog"])), "");
}

#[test]
fn what_is_not_there_is_named_with_what_is() {
    let loaded = loaded();
    let hint = |which: Which| {
        let error = loaded.check(&which).unwrap_err();
        (error.to_string(), crate::failure::hint(&error).unwrap())
    };
    assert_eq!(
        hint(which(&["h12"], &[], &[])),
        ("there is no host h12".into(), "did you mean h1?".into())
    );
    assert_eq!(hint(which(&[], &[], &["shop"])).1, "there is blog, bitcoin");
    assert_eq!(
        hint(which(&[], &["www.example.com"], &[])).1,
        "did you mean www.example.org?"
    );
}

#[test]
fn secrets_and_who_uses_them() {
    let loaded = loaded();
    let needs = loaded.needs();
    let is_its = |need: &Need| need.name == "blog.database_password" && need.length >= 16;
    assert!(needs.iter().any(is_its), "{needs:?}");
    assert_eq!(loaded.users("blog.database_password"), ["blog"]);
    assert!(loaded.users("nobody").is_empty());
}

#[tokio::test]
async fn secrets_that_are_only_looked_at_are_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.txt");
    let recipient = crate::secrets::Identity::at(&key).make(None).unwrap();
    let stack = folder.path().join("stack.toml");
    std::fs::write(&stack, STACK.replace("NOBODY", &recipient)).unwrap();
    let common = Common {
        identity: Some(&key),
        ..Common::at(&stack)
    };
    let ctx = Context::new(common, Printer::caught(&[]));
    let loaded = ctx.load().unwrap();
    let looked = ctx.secrets(&loaded, false).await.unwrap();
    assert!(
        looked.contains("blog.database_password") && !folder.path().join("secrets.age").exists()
    );
    let kept = ctx.secrets(&loaded, true).await.unwrap();
    assert!(ctx.printer.take().1.starts_with("made "));
    let again = ctx.secrets(&loaded, true).await.unwrap();
    assert_eq!(again.values(), kept.values());
    assert_eq!(ctx.printer.take(), (String::new(), String::new()));
}

#[tokio::test]
async fn answers_that_were_given_beforehand() {
    let common = Common {
        yes: true,
        confirm: &["blog".to_owned()],
        ..Common::at(Path::new("a"))
    };
    let ctx = Context::new(common, Printer::caught(&[]));
    assert!(ctx.confirm("Go on?").await.is_ok());
    assert!(ctx.confirm_name("All gone.", "blog").await.is_ok());
    let error = ctx.confirm_name("All gone.", "shop").await.unwrap_err();
    assert_eq!(error.hint().unwrap(), "--confirm shop types it beforehand");
}

#[test]
fn who_runs_it_has_a_machine() {
    let who = Context::who();
    assert!(
        who.split_once('@')
            .is_some_and(|(user, machine)| !user.is_empty() && !machine.is_empty()),
        "{who}"
    );
}
