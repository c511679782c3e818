//! The daemon as a service: started and stopped by systemd's rules, and what it costs to keep.

use std::time::Duration;

use sovereign_tests::client::whole;
use sovereign_tests::lab::system_program;
use sovereign_tests::origin::reply;
use sovereign_tests::port::free_address;
use sovereign_tests::process::{Process, raise_open_files};
use sovereign_tests::proxy::{program, site};
use sovereign_tests::raw::receive_until;
use sovereign_tests::wait::within;
use sovereign_tests::{Client, Lab, Origin, Proxy, Target, eventually};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UnixDatagram};
use tokio::task::JoinSet;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the service manager is told, up to the message that has `wanted` in it.
async fn told(manager: &UnixDatagram, wanted: &str) -> Vec<String> {
    let mut messages = Vec::new();
    let mut buffer = [0; 4096];
    within(wanted, PATIENCE, async {
        loop {
            let length = manager.recv(&mut buffer).await.expect("a message");
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let last = message.lines().any(|line| line == wanted);
            messages.push(message);
            if last {
                return messages;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systemd_passes_a_socket_and_is_told_of_the_daemons_life() {
    let lab = Lab::open().await;
    let origin = Origin::start(|_| async { reply(200, [], whole("fine")) }).await;
    let folder = lab.folder("activated");
    let manager = UnixDatagram::bind(folder.join("notify")).expect("the folder is ours");
    // One socket comes from systemd; the other one the daemon binds itself.
    let (http, https) = (free_address(), free_address());
    let config = lab.file(
        "proxy.toml",
        format!(
            "state = \"{}\"\n[listen]\nhttp = [\"{http}\"]\nhttps = [\"{https}\"]\n{}",
            folder.join("state").display(),
            site("app.test", &origin.url(), "")
        ),
    );
    let activator = system_program("systemd-socket-activate");
    let mut process = Process::start(&lab, "activated", activator, |command| {
        command
            .arg(format!("--listen={http}"))
            .arg(format!(
                "--setenv=NOTIFY_SOCKET={}",
                folder.join("notify").display()
            ))
            .arg(program())
            .args(["run", "--config"])
            .arg(config);
    });

    // It is this connection that starts the daemon, and the daemon answers it. Had it not taken the
    // socket, the address would be in use, and it would have ended.
    let plain = Target::plain(http, "app.test");
    let mut wire = eventually("systemd listens", PATIENCE, || {
        process.assert_running();
        plain.connect("http/1.1")
    })
    .await;
    wire.write_all(b"GET /early HTTP/1.1\r\nHost: app.test\r\n\r\n")
        .await
        .expect("somebody listens");
    let messages = told(&manager, "READY=1").await;
    assert_eq!(
        messages.len(),
        1,
        "it said something before it was ready: {messages:?}"
    );
    let answer = receive_until(&mut wire, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 308"), "{answer}");
    let secure = Target::tls(https, "app.test", &folder.join("state/ca/root.pem"));
    assert_eq!(
        Client::h2(&secure).get("/").await.expect(200).text(),
        "fine"
    );

    process.signal(rustix::process::Signal::TERM);
    told(&manager, "STOPPING=1").await;
    let status = process.wait(PATIENCE).await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(
        TcpStream::connect(http).await.is_err(),
        "somebody still listens"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_idle_connections_take_little_memory() {
    let lab = Lab::alone().await;
    raise_open_files();
    let origin =
        Origin::start(|_| async { reply(200, [("cache-control", "max-age=60")], whole("x")) })
            .await;
    // Idle for longer than it takes to open them all.
    let sites = format!(
        "[limits]\nidle_timeout = \"10m\"\n{}",
        site("app.test", &origin.url(), "")
    );
    let proxy = Proxy::start(&lab, &sites).await;
    let target = proxy.https("app.test");
    Client::h2(&target).get("/").await.expect(200);
    let before = proxy.memory().await;

    // Half of them speak HTTP/2. Each has had an answer: it is past its handshake, and idle.
    let mut idle = Vec::new();
    let mut opening = JoinSet::new();
    for number in 0..1_000 {
        let target = target.clone();
        opening.spawn(async move {
            let client = match number % 2 {
                0 => Client::h1(&target),
                _ => Client::h2(&target),
            };
            client.get("/").await.expect(200);
            client
        });
        if opening.len() == 16 {
            idle.extend(opening.join_next().await.expect("one of 16"));
        }
    }
    idle.extend(opening.join_all().await);
    let status = proxy.status().await;
    assert!(
        status["connections"].as_u64() >= Some(1_000),
        "they are not open: {status}"
    );
    let memory = proxy.memory().await;
    let each = memory.saturating_sub(before) / idle.len() as u64;
    assert!(each < 32 << 10, "{} KiB for an idle connection", each >> 10);
    assert!(
        memory < 40 << 20,
        "{} MiB for {} idle connections",
        memory >> 20,
        idle.len()
    );
}
