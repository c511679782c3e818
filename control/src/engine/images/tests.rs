use std::sync::Arc;

use super::*;
use crate::ssh::double::Double;

#[tokio::test]
async fn what_was_loaded_has_to_be_what_the_lock_file_names() {
    let id = |digit: &str| format!("sha256:{}", digit.repeat(64));
    let image = Image {
        reference: "blog:1".to_owned(),
        pinned: "sovereign.local/blog:aaaaaaaaaaaa".to_owned(),
        id: Some(id("a")),
        sent: true,
    };
    for (came, taken) in [("a", true), ("b", false)] {
        let remote = Double::new("h1").on("docker image inspect", &(id(came) + "\n"));
        let docker = Docker {
            remote: Arc::new(remote),
            labels: parse::COMPOSE,
        };
        let said = docker.is_what_was_sent("blog:1", &image).await;
        assert_eq!(said.is_ok(), taken, "{said:?}");
        if let Err(error) = said {
            let text = error.to_string();
            assert!(
                text.starts_with("h1: what was loaded of blog:1 is sha256:bbbb"),
                "{text}"
            );
        }
    }
}
