use std::sync::Mutex;

use super::*;

#[tokio::test]
async fn lines_of_both_streams_come_whole() {
    let long = "x".repeat(LINE + 10);
    let text = format!("one\ntwo\r\n{long}\nlast");
    let mut seen = Vec::new();
    lines(Some(text.as_bytes()), Some(&b"err\n"[..]), &mut |line| {
        seen.push(line.to_owned())
    })
    .await
    .expect("read");
    seen.sort_by_key(|line| (line.len() > 10, line.clone()));
    assert_eq!(seen[..4], ["err", "last", "one", "two"]);
    assert_eq!(seen[4..].iter().map(String::len).sum::<usize>(), LINE + 10);
}

#[tokio::test]
async fn nothing_is_read_without_bound() {
    assert_eq!(
        whole(Some(&b"12345"[..]), 5).await.expect("read"),
        Some(b"12345".to_vec())
    );
    assert_eq!(whole(Some(&b"123456"[..]), 5).await.expect("read"), None);
    let much = "a".repeat(TOLD) + "the end";
    let kept = end(Some(much.as_bytes())).await.expect("read");
    assert_eq!(kept.len(), TOLD);
    assert!(kept.ends_with("the end"));
}

#[tokio::test]
async fn input_is_sent_whole_and_told_of() {
    let told = Mutex::new(Vec::new());
    let progress = |sent| told.lock().expect("unpoisoned").push(sent);
    let data = vec![7; CHUNK + 1];
    let mut sent = Vec::new();
    feed(Some(&mut sent), Input::bytes(&data).watched(&progress))
        .await
        .expect("sent");
    assert_eq!(sent, data);
    assert_eq!(
        *told.lock().expect("unpoisoned"),
        [CHUNK as u64, CHUNK as u64 + 1]
    );
}

#[tokio::test]
async fn a_command_that_does_not_read_is_no_failure_and_a_missing_file_is() {
    let (reader, writer) = tokio::io::duplex(8);
    drop(reader);
    feed(Some(writer), Input::bytes(&[0; 64]))
        .await
        .expect("the command's code says what is wrong");
    let (_reader, writer) = tokio::io::duplex(8);
    assert!(
        feed(
            Some(writer),
            Input::file(std::path::Path::new("/nowhere/file"))
        )
        .await
        .is_err()
    );
}
