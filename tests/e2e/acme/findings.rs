//! What testssl.sh and sslscan say of the TLS: nothing above "low", and the same as last time.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use sovereign_tests::client::whole;
use sovereign_tests::lab::system_program;
use sovereign_tests::origin::reply;
use sovereign_tests::pebble::Manner;
use sovereign_tests::wait::within;
use sovereign_tests::{Lab, Origin, Target};
use tokio::io::AsyncWriteExt as _;

use super::{Stage, from_pebble, plain_site};

const MODERN: &str = "modern.example";
const BOTH: &str = "intermediate.example";
/// Longer than a whole examination takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// Both sites, with certificates of the authority.
async fn stage(lab: &Lab) -> (Stage, Origin) {
    // What the application says of its pages is examined as well.
    let origin = Origin::start(|_| async {
        let fields = [
            ("content-security-policy", "default-src 'self'"),
            ("referrer-policy", "same-origin"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
        ];
        reply(200, fields, whole("fine"))
    })
    .await;
    let mut stage = Stage::set(lab, &Manner::default()).await;
    let policy = |policy: &str| format!("hsts = true\ntls_policy = \"{policy}\"\n");
    stage.write(
        &(plain_site(MODERN, &origin.url(), &policy("modern"))
            + &plain_site(BOTH, &origin.url(), &policy("intermediate"))),
    );
    stage.proxy.start_again(lab).await;
    for name in [MODERN, BOTH] {
        from_pebble(&stage.proxy, name).await;
    }
    (stage, origin)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn testssl_finds_nothing_above_low() {
    // testssl has short patience of its own, and takes a connection that is late for a finding.
    let lab = Lab::alone().await;
    let (stage, _origin) = stage(&lab).await;
    let (modern, both) = tokio::join!(testssl(&lab, &stage, MODERN), testssl(&lab, &stage, BOTH));
    same("testssl-modern.txt", &modern);
    same("testssl-intermediate.txt", &both);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sslscan_sees_what_the_policies_say() {
    let lab = Lab::open().await;
    let (stage, _origin) = stage(&lab).await;
    for (name, file) in [
        (MODERN, "sslscan-modern.txt"),
        (BOTH, "sslscan-intermediate.txt"),
    ] {
        let target = stage.target(name);
        let mut command = Command::new(system_program("sslscan"));
        command.args(["--no-colour", "--no-check-certificate"]);
        command
            .arg(format!("--sni-name={name}"))
            .arg(target.address.to_string());
        let text = run(command).await;
        let kept = text.lines().map(str::trim_end).filter(|line| {
            let varies = ["Version:", "Connected to", "Testing SSL server", "OpenSSL "];
            !line.is_empty() && !varies.iter().any(|word| line.starts_with(word))
        });
        let kept: Vec<_> = kept.collect();
        same(file, &(kept.join("\n") + "\n"));
    }
}

/// A scanner may hang up before it has its ticket, so it is asked for by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_is_good_for_twelve_hours() {
    let lab = Lab::open().await;
    let (stage, _origin) = stage(&lab).await;
    for (name, version) in [(MODERN, "-tls1_3"), (BOTH, "-tls1_3"), (BOTH, "-tls1_2")] {
        let mut command = Command::new(system_program("openssl"));
        command.args(["s_client", "-ign_eof", version, "-servername", name]);
        command.arg("-CAfile").arg(stage.pebble.root());
        command.args(["-connect", &stage.target(name).address.to_string()]);
        let ask = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        let text = run_with(command, ask.as_bytes()).await;
        let hint = "TLS session ticket lifetime hint: 43200 (seconds)";
        assert!(text.contains(hint), "{name} {version}: {text}");
    }
}

/// One line for each finding: its severity, what was looked at, and what was found, without what varies.
async fn testssl(lab: &Lab, stage: &Stage, name: &str) -> String {
    let Target { address, .. } = stage.target(name);
    let report = lab.folder("testssl").join("report.json");
    let mut command = Command::new(system_program("testssl"));
    command
        .args([
            "--quiet",
            "--color",
            "0",
            "--warnings",
            "off",
            "--nodns",
            "none",
        ])
        .args([
            "--protocols",
            "--std",
            "--fs",
            "--server-preference",
            "--server-defaults",
        ])
        .args(["--header", "--vulnerable"])
        .arg("--add-ca")
        .arg(stage.pebble.root())
        .arg("--jsonfile")
        .arg(&report)
        .arg(format!("--ip={}", address.ip()))
        .arg(format!("{name}:{}", address.port()))
        .env("HOME", lab.path());
    let said = run(command).await;
    let json = fs::read_to_string(&report).unwrap_or_else(|error| panic!("{error}: {said}"));
    let findings: Value = serde_json::from_str(&json).expect("JSON");
    let mut lines = Vec::new();
    for finding in findings.as_array().expect("a list") {
        let text = |key: &str| finding[key].as_str().unwrap_or_default();
        let (id, severity) = (text("id"), text("severity"));
        let above = ["MEDIUM", "HIGH", "CRITICAL", "FATAL"].contains(&severity);
        let excused = EXCUSED.iter().any(|(known, _)| *known == id);
        assert!(
            !above || excused,
            "{name}: {severity}: {id}: {}",
            text("finding")
        );
        if !VARIES.contains(&id) {
            lines.push(format!("{severity} {id}: {}", text("finding").trim()));
        }
    }
    lines.join("\n") + "\n"
}

async fn run(command: Command) -> String {
    run_with(command, b"").await
}

/// Gives it this on its standard input, and what it says.
async fn run_with(command: Command, input: &[u8]) -> String {
    let what = format!("{command:?}");
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(Stdio::null()).kill_on_drop(true);
    let mut process = command.spawn().expect("it starts");
    let mut stdin = process.stdin.take().expect("it is piped");
    // What does not read its input may have closed it.
    let _ = stdin.write_all(input).await;
    drop(stdin);
    let output = within(&what, PATIENCE, process.wait_with_output()).await;
    String::from_utf8_lossy(&output.expect("it ends").stdout).into_owned()
}

/// Compares with the file of last time; written anew where `SOVEREIGN_BLESS` is set.
fn same(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("e2e/acme")
        .join(file);
    if std::env::var_os("SOVEREIGN_BLESS").is_some() {
        fs::write(&path, text).expect("the file can be written");
    }
    let before = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text, before,
        "{file} has changed; SOVEREIGN_BLESS=1 takes what is found"
    );
}

/// What differs from run to run.
const VARIES: &[&str] = &[
    "cert",
    "cert_caIssuers",
    "cert_expirationStatus",
    "cert_fingerprintSHA1",
    "cert_fingerprintSHA256",
    "cert_notAfter",
    "cert_notBefore",
    "cert_serialNumber",
    "cert_serialNumberLen",
    "engine_problem",
    "HTTP_clock_skew",
    "HTTP_headerAge",
    "HTTP_headerTime",
    "scanTime",
    "secure_client_renego",
    "sessionresumption_ID",
    "sessionresumption_ticket",
    "TLS_session_ticket",
];
/// What stands above "low" for a reason that is not the daemon's, and the reason.
const EXCUSED: &[(&str, &str)] = &[(
    "cert_revocation",
    "the authority's part: pebble names no list of what it revoked, and nobody names OCSP any more",
)];
