//! The command as an operator meets it: each test is a session, held against a text beside it (`cli/*.txt`) with what
//! was typed, what came, and the exit codes. `SOVEREIGN_BLESS=1` writes the texts anew.
//!
//! - help and wrong usage
//! - a stack: none, a bad one, a new one
//! - secrets: set, listed, rotated, sealed; typed at a terminal; by a plugin
//! - the lock file, by the engine of this machine

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder in which an operator types.
struct Session {
    folder: tempfile::TempDir,
    told: String,
}

impl Session {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        Self {
            folder,
            told: String::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn program(&self, name: &str, script: &str) {
        self.write(name, script);
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.path(name), executable).unwrap();
    }

    /// Types a command; what comes is part of the text.
    fn run(&mut self, line: &str) -> Output {
        self.run_with(line, "")
    }

    /// The same, with this on standard input.
    fn run_with(&mut self, line: &str, input: &str) -> Output {
        let words: Vec<&str> = line.split(' ').collect();
        let output = self.spawn(self.command(sovereign()).args(&words), input);
        let _ = writeln!(self.told, "$ sovereign {line}");
        self.tell(&output);
        output
    }

    fn tell(&mut self, output: &Output) {
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        self.told.push_str(&out);
        for line in err.lines() {
            let _ = writeln!(self.told, "! {line}");
        }
        let _ = writeln!(self.told, "exit {}\n", output.status.code().unwrap_or(-1));
    }

    /// A program with an environment of the session's own.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", path)
            .env("LANG", "C.UTF-8");
        command.env("HOME", self.folder.path());
        command
    }

    fn spawn(&self, command: &mut Command, input: &str) -> Output {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that asks for no input may end before it is written.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// Holds the session against its text.
    fn is(&self, name: &str) {
        let told = self.masked(&self.told);
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/cli")
            .join(format!("{name}.txt"));
        if std::env::var_os("SOVEREIGN_BLESS").is_some() {
            std::fs::write(&file, &told).unwrap();
        }
        let wanted = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            told == wanted,
            "{} is another text now; SOVEREIGN_BLESS=1 writes it:\n{told}",
            file.display()
        );
    }

    /// Without what differs from run to run: the folder, keys, times.
    fn masked(&self, text: &str) -> String {
        let folder = self.folder.path().to_string_lossy().into_owned();
        let text = text.replace(&folder, "/home/op");
        let word = |word: &str| {
            let bare = word.trim_matches(['"', ',']);
            let is_time = bare.len() == 20 && bare.ends_with('Z') && bare.as_bytes()[10] == b'T';
            match bare {
                bare if bare.starts_with("age1") && bare.len() == 62 => {
                    word.replace(bare, "age1(KEY)")
                }
                bare if is_time => word.replace(bare, "(TIME.............)"),
                _ => word.to_owned(),
            }
        };
        let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
        text.lines().map(|text| line(text) + "\n").collect()
    }
}

fn sovereign() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_sovereign"))
}

const STACK: &str = r#"[stack]
recipients = ["RECIPIENT"]
images = "local"

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

/// A session with a stack and the identity that reads its secrets.
fn with_stack() -> Session {
    let session = Session::new();
    let made = session.spawn(
        session.command(sovereign()).args(["secret", "identity"]),
        "",
    );
    let recipient = String::from_utf8(made.stdout).unwrap();
    session.write("stack.toml", &STACK.replace("RECIPIENT", recipient.trim()));
    session
}

#[test]
fn help() {
    let mut session = Session::new();
    for line in [
        "-h",
        "--help",
        "secret --help",
        "deploy --help",
        "lock --help",
        "init --help",
        "plan --help",
        "logs --help",
        "exec --help",
        "down --help",
        "feed --help",
        "host add --help",
        "host remove --help",
    ] {
        assert_eq!(session.run(line).status.code(), Some(0), "{line}");
    }
    session.is("help");
}

#[test]
fn wrong_usage() {
    let mut session = Session::new();
    for line in [
        "deplyo",
        "secret set name value",
        "deploy --hots h1",
        "down",
        "exec blog ls",
        "feed",
        "lock --update a b",
        "check --schema --json",
    ] {
        assert_eq!(session.run(line).status.code(), Some(2), "{line}");
    }
    session.is("wrong_usage");
}

#[test]
fn no_stack() {
    let mut session = Session::new();
    for line in [
        "check",
        "plan",
        "secret list",
        "lock --stack other/stack.toml",
        "check --json",
    ] {
        assert_eq!(session.run(line).status.code(), Some(2), "{line}");
    }
    session.is("no_stack");
}

#[test]
fn a_bad_stack_has_all_its_problems_said_at_once() {
    let mut session = Session::new();
    let bad = STACK
        .replace("home\"\nssh", "hme\"\nssh")
        .replace("bitcoin", "bitcon")
        .replace("images", "image");
    session.write("stack.toml", &bad.replace("RECIPIENT", "me@example.org"));
    assert_eq!(session.run("check").status.code(), Some(2));
    assert_eq!(session.run("check --json").status.code(), Some(2));
    assert_eq!(session.run("lock").status.code(), Some(2));
    session.is("bad_stack");
}

#[test]
fn a_new_stack() {
    let mut session = Session::new();
    session.run("init");
    assert!(!session.path("stack.toml").exists(), "it asked nobody");
    session.run("init --yes --site blog.example.org --ssh nobody@ --name Home");
    assert!(
        !session.path(".config").exists(),
        "a key was made for a stack that is not"
    );
    session.run("init --yes --ssh root@192.0.2.7 --site blog.example.org");
    session.run("check");
    session.run("init --yes");
    session.run("init --yes --use static other.toml");
    session.run("check --stack other.toml");
    session.run("init --yes --use nothing third.toml");
    session.is("new_stack");
    let key = session.path(".config/sovereign/identity.txt");
    let mode = std::fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_schema_is_json() {
    let mut session = Session::new();
    let output = session.run("check --schema");
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
}

#[test]
fn the_life_of_a_secret() {
    let mut session = with_stack();
    session.run("secret list");
    session.run_with("secret set smtp_password", "hush hush\n");
    session.run("secret list");
    session.run_with("secret set smtp_password", "another\n");
    session.run("secret rotate smtp_password");
    session.run("secret rotate smtp_pasword");
    session.run_with("secret set Bad/Name", "x\n");
    session.run_with("secret set empty", "");
    session.run("secret seal");
    session.run("secret list --json");
    session.run("secret get smtp_pasword");
    session.run("secret get node.rpc_password");
    session.is("secret");
    let get = ["secret", "get", "smtp_password"];
    let got = session.spawn(session.command(sovereign()).args(get), "");
    assert_eq!(
        (&got.stdout[..], &got.stderr[..]),
        (&b"another\n"[..], &b""[..])
    );
    let told = &session.told;
    assert!(
        !told.contains("hush hush") && !told.contains("another\n"),
        "{told}"
    );
    let file = std::fs::read_to_string(session.path("secrets.age")).unwrap();
    assert!(
        file.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"),
        "{file}"
    );
}

#[test]
fn files_lie_beside_the_stack_wherever_that_is() {
    let mut session = with_stack();
    std::fs::create_dir(session.path("home")).unwrap();
    std::fs::rename(session.path("stack.toml"), session.path("home/stack.toml")).unwrap();
    session.run_with("secret set a --stack home/stack.toml", "one\n");
    session.program("bin/docker", &DOCKER.replace("DIGITS", &"a".repeat(64)));
    session.run("lock --stack home/stack.toml");
    for file in ["home/secrets.age", "home/sovereign.lock"] {
        assert!(session.path(file).exists(), "{file}: {}", session.told);
    }
}

#[test]
fn who_cannot_read_the_secrets() {
    let mut session = with_stack();
    session.run_with("secret set a", "one\n");
    session.run("secret identity --identity other.txt");
    session.run("secret list --identity other.txt");
    session.run("secret list --identity none.txt");
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(session.path("other.txt"), open).unwrap();
    session.run("secret list --identity other.txt");
    let mut file = std::fs::read_to_string(session.path("secrets.age")).unwrap();
    file.truncate(200);
    session.write("secrets.age", &file);
    session.run_with("secret set b", "two\n");
    assert_eq!(
        std::fs::read_to_string(session.path("secrets.age")).unwrap(),
        file,
        "it was replaced"
    );
    session.is("secret_unreadable");
}

#[test]
fn a_passphrase_needs_a_terminal() {
    let mut session = Session::new();
    let mut command = session.command(Path::new("setsid"));
    command.args(["--wait", "--"]).arg(sovereign());
    let output = session.spawn(command.args(["secret", "identity", "--passphrase"]), "");
    session.tell(&output);
    assert!(!session.path(".config/sovereign/identity.txt").exists());
    session.is("passphrase");
}

/// Types at a terminal, once it was asked for: `script` makes one, and shows all that is shown there.
fn at_a_terminal(session: &Session, line: &str, typed: &str) -> String {
    let sovereign = sovereign().display();
    let script = format!(
        "(sleep 2; printf '{typed}'; sleep 1) | script --quiet --return --command '{sovereign} {line}; stty -a' /dev/null"
    );
    let output = session.spawn(session.command(Path::new("sh")).args(["-c", &script]), "");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn what_is_typed_is_not_shown() {
    let session = with_stack();
    let shown = at_a_terminal(&session, "secret set token", "typed-husk\\177h\\r");
    assert!(
        shown.contains("Value of token: ") && shown.contains("token is set"),
        "{shown}"
    );
    assert!(
        !shown.contains("typed-hus") && shown.contains(" echo "),
        "{shown}"
    );
}

#[test]
fn ctrl_c_leaves_the_terminal_as_it_was() {
    let session = with_stack();
    let shown = at_a_terminal(&session, "secret set token", "typed-hush\\003");
    assert!(
        shown.contains("broken off") && !shown.contains("typed-hush"),
        "{shown}"
    );
    assert!(
        shown.contains(" echo ") && shown.contains(" icanon ") && shown.contains("isig "),
        "{shown}"
    );
    assert!(!session.path("secrets.age").exists());
}

#[test]
fn questions_of_a_first_stack() {
    let session = Session::new();
    let typed = "\\r\\rroot@192.0.2.7\\rblog.example.org\\r\\ry\\r";
    let shown = at_a_terminal(&session, "init", typed);
    let asked = "Where does ssh find the first host? [user@]host[:port], such as root@192.0.2.1: ";
    assert_eq!(shown.matches(asked).count(), 2, "{shown}");
    assert!(
        shown.contains("wrote stack.toml. Look at it; then"),
        "{shown}"
    );
    let stack = std::fs::read_to_string(session.path("stack.toml")).unwrap();
    assert!(
        stack.contains("ssh = \"root@192.0.2.7\"") && stack.contains("\n[[stack.proxy.acme]]\n"),
        "{stack}"
    );
}

/// A plugin that keeps nothing secret: it wraps a key by writing it down.
const PLUGIN: &str = r#"#!/bin/sh
until_done() {
    while IFS= read -r line; do
        case "$line" in
            "-> done") IFS= read -r _; return ;;
            "-> $1"*) IFS= read -r body ;;
        esac
    done
}
answered() { IFS= read -r _; IFS= read -r _; }
case "$1" in
    --age-plugin=recipient-v1)
        until_done wrap-file-key
        printf -- '-> recipient-stanza 0 sovtest\n%s\n' "$body"; answered ;;
    --age-plugin=identity-v1)
        until_done 'recipient-stanza 0 sovtest'
        printf -- '-> msg\n%s\n' "$(printf 'touch the key' | base64 | tr -d =)"; answered
        printf -- '-> file-key 0\n%s\n' "$body"; answered ;;
esac
printf -- '-> done\n\n'
"#;

#[test]
fn a_key_in_hardware_speaks_through_its_plugin() {
    let mut session = Session::new();
    let recipient = "age1sovtest1qqqsyqcyq5rqwzqfpg9scrgwpuxax9f6";
    session.write("stack.toml", &STACK.replace("RECIPIENT", recipient));
    session.write(
        "key.txt",
        "AGE-PLUGIN-SOVTEST-1QQQSYQCYQ5RQWZQFPG9SCRGWPU2G2U3Z\n",
    );
    let own = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(session.path("key.txt"), own).unwrap();
    session.run_with("secret set token --identity key.txt", "hush\n");
    session.program("bin/age-plugin-sovtest", PLUGIN);
    session.run_with("secret set token --identity key.txt", "hush\n");
    session.run("secret list --identity key.txt");
    session.run("secret identity --identity key.txt");
    session.is("plugin");
}

/// An engine that knows one image.
const DOCKER: &str = r#"#!/bin/sh
if [ "$*" != "image inspect -- bitcoin/bitcoin:29" ]; then
    echo "Error: No such image: $4" >&2
    exit 1
fi
echo '[{"Id": "sha256:DIGITS"}]'
"#;

#[test]
fn the_lock_file() {
    let mut session = with_stack();
    session.run("lock");
    let engine = |digit: &str| DOCKER.replace("DIGITS", &digit.repeat(64));
    session.program("bin/docker", &engine("a"));
    session.run("check");
    session.run("lock");
    session.run("lock");
    session.program("bin/docker", &engine("b"));
    session.run("lock");
    session.run("lock --update bitcoin/bitcoin:30");
    session.run("lock --update bitcoin/bitcoin:29");
    session.run("lock --json");
    session.run("check");
    session.is("lock");
}
