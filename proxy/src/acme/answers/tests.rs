#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::*;
use crate::acme::store;

async fn answers(folder: &tempfile::TempDir) -> Arc<Answers> {
    Answers::new(store::open(folder.path(), None).await.unwrap())
}

fn http(token: &str, text: &str) -> Answer {
    Answer::Http {
        token: token.to_owned(),
        key_authorization: text.to_owned(),
    }
}

fn alpn(name: &str, byte: u8) -> Answer {
    Answer::Alpn {
        name: name.to_owned(),
        digest: [byte; 32],
    }
}

#[tokio::test]
async fn an_answer_is_there_for_as_long_as_it_is_held() {
    let folder = tempfile::tempdir().unwrap();
    let answers = answers(&folder).await;
    let path = format!("{PATH}tok_en-1");
    assert!(answers.is_idle());
    assert_eq!(answers.token(&path), None);

    let put = answers.put(http("tok_en-1", "tok_en-1.x")).await.unwrap();
    assert!(!answers.is_idle());
    assert_eq!(answers.token(&path), Some("tok_en-1"));
    for other in [
        "/",
        PATH,
        "/.well-known/acme-challenge/a/b",
        "/.well-known/acme-challenge/a.b",
    ] {
        assert_eq!(answers.token(other), None, "{other}");
    }
    assert_eq!(
        answers.http("tok_en-1").await.as_deref(),
        Some("tok_en-1.x")
    );
    assert_eq!(answers.http("other").await, None);

    drop(put);
    assert!(answers.is_idle());
    assert_eq!(answers.http("tok_en-1").await, None);
}

#[tokio::test]
async fn a_token_is_checked_and_the_number_of_answers_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let answers = answers(&folder).await;
    for token in ["", "a/b", "..", "a b", &"x".repeat(129)] {
        let refused = answers.put(http(token, "x")).await;
        assert!(matches!(refused, Err(PutError::Token(_))), "{token}");
    }
    let mut held = Vec::new();
    for number in 0..MOST {
        held.push(answers.put(http(&format!("t{number}"), "x")).await.unwrap());
    }
    let refused = answers.put(http("more", "x")).await;
    assert!(matches!(refused, Err(PutError::Full)));
    held.pop();
    let _one = answers.put(http("more", "x")).await.unwrap();
    held.clear();
    assert!(!answers.is_idle());
}

#[tokio::test]
async fn the_same_token_twice_goes_with_the_second() {
    let folder = tempfile::tempdir().unwrap();
    let answers = answers(&folder).await;
    let first = answers.put(http("t", "first")).await.unwrap();
    let second = answers.put(http("t", "second")).await.unwrap();
    drop(first);
    assert_eq!(answers.http("t").await.as_deref(), Some("second"));
    second.remove().await;
    assert!(answers.is_idle());
}

#[tokio::test]
async fn the_last_certificate_of_a_name_is_sent_and_all_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let answers = answers(&folder).await;
    let first = answers.put(alpn("A.example", 1)).await.unwrap();
    let second = answers.put(alpn("a.example", 2)).await.unwrap();
    assert!(answers.holds("a.example", &[1; 32]) && answers.holds("a.example", &[2; 32]));
    let sent = answers.certificate("a.example").await.unwrap();
    drop(second);
    let before = answers.certificate("a.example").await.unwrap();
    assert_ne!(sent.cert, before.cert);
    drop(first);
    assert!(answers.certificate("a.example").await.is_none());
    assert!(answers.is_idle());

    let _put = answers.put(alpn("192.0.2.9", 3)).await.unwrap();
    let key = answers.certificate("9.2.0.192.in-addr.arpa").await;
    assert!(key.is_some());
}

#[tokio::test]
async fn a_certificate_is_for_one_name_and_proves_one_challenge() {
    let folder = tempfile::tempdir().unwrap();
    let answers = answers(&folder).await;
    let _put = answers.put(alpn("a.example", 7)).await.unwrap();
    let key = answers.certificate("a.example").await.unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(key.end_entity_cert().unwrap()).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names.len(), 1);
    let extension = leaf
        .extensions()
        .iter()
        .find(|one| one.oid.to_id_string() == "1.3.6.1.5.5.7.1.31");
    let extension = extension.unwrap();
    assert!(extension.critical);
    assert_eq!(extension.value, [&[4, 32][..], &[7; 32]].concat());
}
