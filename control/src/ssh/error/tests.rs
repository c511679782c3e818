use super::*;

#[test]
fn why_there_is_no_connection() {
    let table = [
        (
            "No ED25519 host key is known for 10.77.0.11 and you have requested strict checking.\nHost key verification failed.",
            Refusal::UnknownKey,
        ),
        (
            "@@@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n@@@@@@\nHost key verification failed.",
            Refusal::ChangedKey,
        ),
        (
            "connect to host 10.77.0.11 port 22: Connection timed out",
            Refusal::Silent,
        ),
        (
            "connect to host 10.77.0.11 port 22: No route to host",
            Refusal::Silent,
        ),
        (
            "connect to host 10.77.0.11 port 22: Connection refused",
            Refusal::Closed,
        ),
        (
            "Could not resolve hostname h9: Name or service not known",
            Refusal::NoName,
        ),
        (
            "root@10.77.0.11: Permission denied (publickey).",
            Refusal::Denied,
        ),
        (
            "kex_exchange_identification: Connection closed by remote host\nConnection closed by UNKNOWN port 65535",
            Refusal::Jump,
        ),
        (
            "No ED25519 host key is known for gate and you have requested strict checking.\nHost key verification failed.\nConnection closed by UNKNOWN port 65535",
            Refusal::Jump,
        ),
        (
            "kex_exchange_identification: read: Connection reset by peer",
            Refusal::Broken,
        ),
        ("Bad configuration option: speed", Refusal::Other),
    ];
    for (said, refusal) in table {
        assert_eq!(Refusal::of(said), refusal, "{said}");
    }
}

#[test]
fn a_failure_names_host_command_code_words_and_the_way_out() {
    let output = Output {
        code: 1,
        stdout: Vec::new(),
        stderr: "tar: x: Cannot write: No space left on device\n".to_owned(),
    };
    let error = Error::failed("h1", &["tar", "-x", "-f", "-"], &output);
    let text =
        "h1: `tar -x -f -` failed with exit code 1: tar: x: Cannot write: No space left on device";
    assert_eq!(error.to_string(), text);
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.starts_with("the host's disk is full"))
    );
    assert!(!error.is_cut_off());
}

#[test]
fn an_unknown_key_and_a_changed_one_have_their_own_way_out() {
    let refused = |refusal| Error::Refused {
        host: "h1".to_owned(),
        refusal,
        said: String::new(),
    };
    let error = refused(Refusal::UnknownKey);
    assert_eq!(
        error.to_string(),
        "h1: no SSH connection: its host key is not known here"
    );
    assert_eq!(
        error.hint().as_deref(),
        Some("`sovereign host add h1` shows its key and writes it down")
    );
    let hint = refused(Refusal::ChangedKey).hint().unwrap_or_default();
    assert!(
        hint.contains("another machine answers in its place"),
        "{hint}"
    );
}

#[test]
fn only_the_last_lines_are_quoted_and_long_commands_are_cut() {
    let long: String = (0..100).map(|n| format!("{n}\n")).collect();
    assert_eq!(last(&long, 2), "98\n99");
    let words = vec!["word"; 100];
    assert_eq!(command(&words).len(), 124);
}
