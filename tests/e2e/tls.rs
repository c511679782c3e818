//! Certificates: from files and from the local authority, chosen by name, replaced while running.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::HandshakeKind;
use sovereign_tests::client::{client_config, whole};
use sovereign_tests::lab::system_program;
use sovereign_tests::origin::reply;
use sovereign_tests::proxy::{said, site};
use sovereign_tests::{Client, Lab, Origin, Proxy, Target, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A certificate for `host` that signs itself, and its key: `FOLDER/cert.pem` and `key.pem`.
fn issue(folder: &Path, host: &str) -> (PathBuf, PathBuf) {
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let output = Command::new(system_program("openssl"))
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args(["-days", "30", "-subj", "/CN=test", "-addext"])
        .arg(format!("subjectAltName=DNS:{host}"))
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .expect("openssl starts");
    assert!(output.status.success(), "{}", said(&output));
    (cert, key)
}

/// The certificate that is served for this target, in DER.
async fn served(target: &Target) -> Vec<u8> {
    let output = tokio::process::Command::new(system_program("openssl"))
        .args(["s_client", "-servername", &target.host, "-connect"])
        .arg(target.address.to_string())
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .expect("openssl starts");
    let text = said(&output);
    let from = text
        .find("-----BEGIN CERTIFICATE-----")
        .unwrap_or_else(|| panic!("{text}"));
    let to = text
        .find("-----END CERTIFICATE-----")
        .unwrap_or_else(|| panic!("{text}"));
    text[from..to]
        .split_whitespace()
        .collect::<String>()
        .into_bytes()
}

/// What is in a PEM file, as [`served`] gives it.
fn on_disk(cert: &Path) -> Vec<u8> {
    let text = std::fs::read_to_string(cert).expect("it was written");
    let to = text
        .find("-----END CERTIFICATE-----")
        .expect("a certificate");
    text[..to]
        .split_whitespace()
        .collect::<String>()
        .into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_chosen_by_name_and_replaced_while_running() {
    let lab = Lab::open().await;
    let origin = Origin::start(|_| async { reply(200, [], whole("fine")) }).await;
    let folder = lab.folder("certificate");
    let (cert, key) = issue(&folder, "own.test");
    let own = format!(
        "[[site]]\nnames = [\"own.test\"]\ntls = {{ cert = \"{}\", key = \"{}\" }}\nupstream = [\"{}\"]\n",
        cert.display(),
        key.display(),
        origin.url()
    );
    let proxy = Proxy::start(&lab, &(site("local.test", &origin.url(), "") + &own)).await;

    let local = proxy.https("local.test");
    let own = Target::tls(local.address, "own.test", &cert);
    assert_eq!(served(&own).await, on_disk(&cert));
    assert_ne!(served(&local).await, on_disk(&cert));
    let status = proxy.status().await;
    let certificates = status["certificates"].as_array().expect("a list");
    assert!(
        certificates
            .iter()
            .any(|one| one["names"][0] == "own.test" && one["days_left"].as_i64() >= Some(28)),
        "{status}"
    );

    // A real certificate gets HSTS, one that no browser trusts does not.
    let answer = Client::h2(&local).get("/").await.expect(200);
    assert_eq!(answer.header("strict-transport-security"), "", "{answer}");
    let before = open_kept(&own).await;

    // Renewed, it is served after a reload; a connection that is open stays.
    issue(&folder, "own.test");
    proxy.reload().await;
    eventually(
        "the new certificate is served",
        std::time::Duration::from_secs(10),
        || async {
            if served(&own).await == on_disk(&cert) {
                Ok(())
            } else {
                Err("still the old one")
            }
        },
    )
    .await;
    still_answers(before).await;
}

/// A connection on which one request was answered. (What signs itself is no authority, so the
/// certificate is checked by [`served`] and not here.)
async fn open_kept(target: &Target) -> tokio::process::Child {
    let mut child = tokio::process::Command::new(system_program("openssl"))
        .args([
            "s_client",
            "-quiet",
            "-servername",
            &target.host,
            "-connect",
        ])
        .arg(target.address.to_string())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("openssl starts");
    ask(&mut child).await;
    child
}

async fn still_answers(mut child: tokio::process::Child) {
    ask(&mut child).await;
}

async fn ask(child: &mut tokio::process::Child) {
    let stdin = child.stdin.as_mut().expect("a pipe");
    stdin
        .write_all(b"GET / HTTP/1.1\r\nHost: own.test\r\n\r\n")
        .await
        .expect("the connection is open");
    let stdout = child.stdout.as_mut().expect("a pipe");
    let mut got = Vec::new();
    sovereign_tests::wait::within("an answer", std::time::Duration::from_secs(10), async {
        let mut buffer = [0; 4096];
        while !got.ends_with(b"fine") {
            let count = stdout.read(&mut buffer).await.expect("a pipe");
            assert!(
                count > 0,
                "the connection was closed: {}",
                String::from_utf8_lossy(&got)
            );
            got.extend_from_slice(&buffer[..count]);
        }
    })
    .await;
    let text = String::from_utf8_lossy(&got).to_ascii_lowercase();
    assert!(text.starts_with("http/1.1 200"), "{text}");
    assert!(
        text.contains("strict-transport-security: max-age="),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_visit_resumes_the_first() {
    let lab = Lab::open().await;
    let origin = Origin::start(|_| async { reply(200, [], whole("fine")) }).await;
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), "")).await;
    let target = proxy.https("app.test");
    let config = Arc::new(client_config(target.roots.as_ref().expect("a TLS target")));

    let visit = async || {
        let tcp = tokio::net::TcpStream::connect(target.address)
            .await
            .expect("it listens");
        let name = "app.test".try_into().expect("a name");
        let connector = tokio_rustls::TlsConnector::from(config.clone());
        let mut tls = connector.connect(name, tcp).await.expect("a handshake");
        tls.write_all(b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n")
            .await
            .expect("it listens");
        let mut answer = Vec::new();
        tls.read_to_end(&mut answer)
            .await
            .expect("it says that it closes");
        assert!(answer.starts_with(b"HTTP/1.1 200"));
        tls.get_ref()
            .1
            .handshake_kind()
            .expect("the handshake is done")
    };
    assert_eq!(visit().await, HandshakeKind::Full);
    assert_eq!(visit().await, HandshakeKind::Resumed);
    // A new program knows the old one's tickets, or makes a full handshake; it refuses nobody.
    proxy.upgrade().await;
    visit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_local_authority_lasts() {
    let lab = Lab::open().await;
    let origin = Origin::start(|_| async { reply(200, [], whole("fine")) }).await;
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), "")).await;
    let root = std::fs::read(proxy.root_ca()).expect("it was made");
    let target = proxy.https("app.test");
    proxy.upgrade().await;
    assert_eq!(std::fs::read(proxy.root_ca()).expect("it is there"), root);
    // Who trusted it before still does.
    Client::h2(&target).get("/").await.expect(200);
}
