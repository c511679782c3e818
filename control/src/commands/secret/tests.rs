use std::path::Path;

use sovereign_config::stack;

use super::*;
use crate::catalogue::catalogue;

const STACK: &str = r#"
[stack]
recipients = ["age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq"]
[[datacentre]]
name = "home"
role = "primary"
[[host]]
name = "h1"
datacentre = "home"
ssh = "root@192.0.2.1"
[[service]]
use = "bitcoin"
name = "node"
"#;

#[test]
fn the_list_has_what_is_there_what_is_made_and_what_is_missing() {
    let catalogue = catalogue().unwrap();
    let stack = stack::parse("stack.toml", STACK, Path::new(""), &catalogue).unwrap();
    let mut loaded = Loaded { stack, catalogue };
    let value = sovereign_config::stack::model::Value::Secret("token".to_owned());
    loaded.stack.services[0]
        .options
        .insert("an_option".to_owned(), value);
    let mut secrets = Secrets::default();
    secrets
        .set("old", SecretString::from("x".to_owned()))
        .unwrap();
    let list = |secrets: &Secrets| {
        let rows = rows(&loaded, secrets).into_iter();
        rows.map(|row| (row.name, row.how, row.used_by.join(" ")))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        list(&secrets),
        [
            (
                "node.rpc_password".to_owned(),
                How::ToBeMade,
                "node".to_owned()
            ),
            ("old".to_owned(), How::Given, String::new()),
            ("token".to_owned(), How::Missing, "node".to_owned()),
        ]
    );
    secrets.ensure(&loaded.needs()).unwrap();
    secrets
        .set("token", SecretString::from("x".to_owned()))
        .unwrap();
    let hows: Vec<How> = rows(&loaded, &secrets).iter().map(|row| row.how).collect();
    assert_eq!(hows, [How::Made, How::Given, How::Given]);
}

#[tokio::test]
async fn a_new_passphrase_is_typed_twice() {
    let ask = async |answers: &[&str]| new_passphrase(&Printer::caught(answers)).await;
    assert!(ask(&["a b c", "a b c"]).await.is_ok());
    assert!(ask(&["a b c", "a b"]).await.is_err());
    assert!(ask(&["", ""]).await.is_err());
    assert!(ask(&[]).await.is_err());
}
