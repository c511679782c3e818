use std::io::Read;
use std::process::{Command, Stdio as Local};
use std::time::{Duration, Instant};

use super::*;

#[test]
fn words_pass_a_shell_unchanged() {
    for word in [
        "plain",
        "two words",
        "it's",
        "$HOME `id` \\ \"x\"",
        "",
        "a\nb",
    ] {
        let script = format!("printf %s {}", quote(word));
        let output = Command::new("sh")
            .args(["-c", &script])
            .output()
            .expect("a shell");
        assert_eq!(String::from_utf8_lossy(&output.stdout), word);
    }
}

fn leashed(argv: &[&str]) -> std::process::Child {
    let mut command = Command::new("sh");
    command
        .args(["-c", LEASH, "sovereign"])
        .args(argv)
        .stdin(Local::piped())
        .stdout(Local::piped());
    command.spawn().expect("a shell")
}

#[test]
fn a_leashed_command_ends_with_its_input_and_keeps_its_code() {
    let mut done = leashed(&["sh", "-c", "echo hello; exit 3"]);
    let mut text = String::new();
    done.stdout
        .take()
        .expect("piped")
        .read_to_string(&mut text)
        .expect("read");
    assert_eq!(text, "hello\n");
    assert_eq!(done.wait().expect("it ends").code(), Some(3));

    let mut endless = leashed(&["sleep", "60"]);
    let since = Instant::now();
    drop(endless.stdin.take());
    assert_eq!(endless.wait().expect("it ends").code(), Some(143));
    assert!(since.elapsed() < Duration::from_secs(10));
}
