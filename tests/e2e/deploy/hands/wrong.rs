//! Mistyped names, files that are not there, and a host that does not answer: what each command says, word by word.

use std::time::{Duration, Instant};

use super::super::stage::Stage;
use super::super::trouble::Book;

/// Each command, with what cannot be.
pub(super) async fn names(stage: &Stage) {
    let mut book = Book::default();
    for line in [
        "plan --host h9",
        "deploy --service calender",
        "rollback --host h9",
        "status --site other.example",
        "logs calender",
        "logs calendar --part db",
        "logs --since yesterday",
        "exec calender -- true",
        "exec calendar --part db -- true",
        "restart fils",
        "restart files --part db",
        "down nothing",
        "open calender",
        "host add h9",
        "host add h1 root@10.77.0.99",
        "host add h9 root@10.77.0.99",
        "host remove h9",
        "host prepare h9",
        "secret get calendar.pasword",
        "secret rotate nothing",
        "lock --host h9",
        "feed --atom nowhere/stack.xml",
        "status --stack nowhere.toml",
        "host remove h1 --stack nowhere.toml",
        "host add h1 --stack nowhere.toml",
        "secret list --identity nowhere.txt",
        "plan --identity nowhere.txt",
    ] {
        is_told(stage, &mut book, line).await;
    }
    stage.cluster.cut("h2");
    for line in [
        "status --host h2",
        "logs calendar",
        "exec calendar -- true",
        "restart calendar",
        "down calendar --yes",
        "open calendar",
        "rollback --list --host h2",
    ] {
        let begun = Instant::now();
        is_told(stage, &mut book, line).await;
        assert!(begun.elapsed() < Duration::from_secs(30), "{line}");
    }
    stage.cluster.heal("h2");
    book.is_expected("hands");
}

async fn is_told(stage: &Stage, book: &mut Book, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let mut ended = stage.cluster.sovereign(&words).await;
    // Which of the two it is depends on when its network asked for it last.
    let (one, other) = ("No route to host", "Connection timed out");
    ended.stderr = ended.stderr.replace(one, other);
    ended.stdout = ended.stdout.replace(one, other);
    assert_ne!(ended.code, 0, "{line}");
    book.write(line, &ended);
}
