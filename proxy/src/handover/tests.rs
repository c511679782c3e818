//! Real sockets through real processes. A child is this test binary again, told to run one of
//! the `child_*` tests; those return at once where nobody started them as a child.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::Command;

use super::*;

#[test]
fn any_number_of_sockets_travels_in_order() {
    for number in [0, 1, BATCH, BATCH + 1, MAX_SOCKETS] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = UnixDatagram::unbound().unwrap();
        let mut sockets = Sockets::new();
        for index in 0..number {
            // The last one differs, so that a wrong order shows.
            let name = format!("http {index}");
            if index + 1 == number {
                sockets.add(name, &listener).unwrap();
            } else {
                sockets.add(name, &other).unwrap();
            }
        }
        let received = deliver(sockets).unwrap();
        assert_eq!(received.len(), number);
        for (index, (name, socket)) in received.iter().enumerate() {
            assert_eq!(*name, format!("http {index}"));
            let flags = rustix::io::fcntl_getfd(socket).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        }
        if let Some((_, last)) = received.into_iter().next_back() {
            let address = listener.local_addr().unwrap();
            assert_eq!(TcpListener::from(last).local_addr().unwrap(), address);
        }
    }
}

#[test]
fn a_peer_that_breaks_the_protocol_is_refused() {
    let garbage = |bytes: &[u8]| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let bytes = bytes.to_owned();
        let writer = std::thread::spawn(move || {
            let _ = (&theirs).write_all(&bytes);
        });
        let error = read_sockets(&ours).unwrap_err();
        drop(ours);
        writer.join().unwrap();
        error.to_string()
    };
    let closed = "the other process closed the handover before it was done";
    assert_eq!(garbage(b""), closed);
    assert_eq!(garbage(b"{\"version\":1,\"nam"), closed);
    assert_eq!(garbage(b"{\"version\":1,\"names\":[\"a\"]}\n"), closed);
    assert_eq!(garbage(b"{\"version\":1,\"names\":[\"a\"]}\n."), closed);
    let version =
        "the running sovereign-proxy hands over in version 2, this one takes over in version 1";
    assert_eq!(garbage(b"{\"version\":2,\"more\":true}\n"), version);
    assert!(garbage(b"\x16\x03\x01\n").contains("its header: "));
    assert!(garbage(b"{\"version\":1,\"names\":[\"a\"]}\nGET /").contains("5 bytes after them"));
    assert!(garbage(&vec![b'x'; MAX_HEADER + 4096]).contains("its header has no end"));
    let many = format!("{{\"version\":1,\"names\":{:?}}}\n", vec!["a"; 251]);
    assert!(garbage(many.as_bytes()).starts_with("251 listening sockets are more than"));
}

#[test]
fn more_sockets_than_names_are_refused() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (&theirs)
        .write_all(b"{\"version\":1,\"names\":[\"a\"]}\n")
        .unwrap();
    send_batch(theirs.as_fd(), &[theirs.as_fd(), theirs.as_fd()]).unwrap();
    let error = read_sockets(&ours).unwrap_err();
    assert!(error.to_string().contains("1 names, 2 sockets"), "{error}");
}

#[test]
fn a_socket_is_found_by_name_and_then_by_address() {
    let first = TcpListener::bind("127.0.0.1:0").unwrap();
    let second = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let admin = UnixListener::bind(&path).unwrap();
    let second_address = second.local_addr().unwrap();
    let mut handover = Handover {
        sockets: vec![
            ("systemd:web".into(), first.into()),
            ("http 127.0.0.1:0".into(), second.into()),
            ("systemd:".into(), admin.into()),
        ],
        peer: None,
    };
    assert!(handover.take("https 127.0.0.1:1").is_none());
    assert!(handover.take("admin /nowhere").is_none());
    assert!(handover.take("http").is_none());
    assert!(
        handover
            .take(&format!("admin {}", path.display()))
            .is_some()
    );
    assert!(handover.take("http 127.0.0.1:0").is_some());
    assert!(handover.take("http 127.0.0.1:0").is_none());
    assert!(handover.take(&format!("https {second_address}")).is_none());
    assert_eq!(handover.close_rest(), ["systemd:web"]);
    assert!(handover.close_rest().is_empty());
}

#[tokio::test]
async fn a_successor_waits_for_the_word() {
    for (word, wanted) in [
        (&b"go\n"[..], Ok(())),
        (
            b"no\n",
            Err("the running sovereign-proxy took its offer back"),
        ),
        (
            b"maybe\n",
            Err(
                "the other process does not follow the handover protocol: expected \"go\", found \"maybe\"",
            ),
        ),
        // The running daemon died: somebody has to serve.
        (b"", Ok(())),
    ] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let handover = Handover {
            sockets: Vec::new(),
            peer: Some(ours),
        };
        assert!(handover.is_upgrade());
        let daemon = std::thread::spawn(move || {
            let mut lines = BufReader::new(theirs);
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            lines.get_mut().write_all(word).unwrap();
            line
        });
        let outcome = handover.ready().await.map_err(|error| error.to_string());
        assert_eq!(outcome, wanted.map_err(str::to_owned));
        assert_eq!(daemon.join().unwrap(), "ready\n");
    }
}

#[tokio::test]
async fn a_child_takes_over_and_accepts() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut sockets = Sockets::new();
    sockets.add("http 127.0.0.1:0", &listener).unwrap();
    sockets
        .add("https unused", UnixDatagram::unbound().unwrap())
        .unwrap();
    // It waits in the queue, for whoever accepts next.
    let client = TcpStream::connect(address).unwrap();
    let pid = offer_to_child("child_takes_over", sockets).await.unwrap();
    drop(listener);
    assert_eq!(read_all(client), format!("served by {pid}"));
}

#[test]
fn child_takes_over() {
    if std::env::var_os(ENVIRONMENT).is_none() {
        return;
    }
    let mut handover = receive().unwrap();
    assert!(handover.is_upgrade());
    let listener = TcpListener::from(handover.take("http 127.0.0.1:0").unwrap());
    assert_eq!(handover.close_rest(), ["https unused"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(handover.ready()).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    write!(stream, "served by {}", std::process::id()).unwrap();
    // Before the harness counts it as a test of its own.
    std::process::exit(0);
}

#[tokio::test]
async fn a_child_that_cannot_says_why() {
    let error = offer_to_child("child_gives_up", Sockets::new())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the new program gave up: 2 problems:\nport \"80\" is taken"
    );
}

#[test]
fn child_gives_up() {
    if std::env::var_os(ENVIRONMENT).is_some() {
        give_up("2 problems:\nport \"80\" is taken");
        // The second word is one too many, and does no harm.
        give_up("again");
        std::process::exit(0);
    }
}

#[tokio::test]
async fn a_program_that_is_no_successor_leaves_all_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let pid_file = folder.path().join("pid");
    let shell = async |script: &str, limit: u64| {
        let script = format!("echo $$ > '{}'; {script}", pid_file.display());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sockets = Sockets::new();
        sockets.add("http", &listener).unwrap();
        let args = ["-c".into(), script.clone().into()];
        let limit = Duration::from_millis(limit);
        let error = offer(Path::new("/bin/sh"), &args, sockets, limit).await;
        let pid = std::fs::read_to_string(&pid_file).unwrap();
        let left = Path::new("/proc").join(pid.trim()).exists();
        assert!(!left, "{script} still runs");
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.accept().unwrap();
        drop(client);
        error.unwrap_err().to_string()
    };
    assert_eq!(
        shell("exit 3", 5000).await,
        "the new program ended before it was ready (exit status: 3)"
    );
    assert_eq!(
        shell("echo failed: because >&0; exit 1", 5000).await,
        "the new program gave up: because"
    );
    assert_eq!(
        shell("echo hello >&0; exec sleep 60", 5000).await,
        "the other process does not follow the handover protocol: expected \"ready\", found \"hello\""
    );
    assert_eq!(
        shell("exec sleep 60", 500).await,
        "the new program was not ready within 0 s"
    );
    assert!(
        shell("cat /dev/zero >&0; exec sleep 60", 5000)
            .await
            .contains("its line has no end")
    );
    let missing = folder.path().join("none");
    let missing = offer(&missing, &[], Sockets::new(), Duration::from_secs(5)).await;
    let missing = missing.unwrap_err().to_string();
    assert!(missing.starts_with("starting "), "{missing}");

    let mut sockets = Sockets::new();
    for _ in 0..=MAX_SOCKETS {
        sockets.add("http", io::stdin()).unwrap();
    }
    let many = offer(Path::new("/bin/sh"), &[], sockets, Duration::from_secs(5)).await;
    assert!(matches!(many, Err(HandoverError::TooMany(251))));
}

#[tokio::test]
async fn an_offer_that_is_dropped_kills_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let pid_file = folder.path().join("pid");
    let script = format!("echo $$ > '{}'; exec sleep 60", pid_file.display());
    let args = ["-c".into(), script.into()];
    let offering = offer(
        Path::new("/bin/sh"),
        &args,
        Sockets::new(),
        Duration::from_secs(60),
    );
    tokio::select! {
        _ = offering => panic!("nobody was ready"),
        () = async {
            while !std::fs::read_to_string(&pid_file).is_ok_and(|pid| pid.ends_with('\n')) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } => {}
    }
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    let process = Path::new("/proc").join(pid.trim());
    let ended = async {
        while process.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended)
        .await
        .unwrap();
}

#[test]
fn systemd_passes_sockets_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();

    // A shell puts the socket where systemd would: at descriptor 3.
    let mut child = Command::new("/bin/sh")
        .args([
            "-c",
            "exec 3<&0 </dev/null; export LISTEN_PID=$$; exec \"$0\" \"$@\"",
        ])
        .arg(std::env::current_exe().unwrap())
        .args(child_args("child_of_systemd"))
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::null())
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", "sovereign-proxy.socket")
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "40000")
        .env("CHILD_LISTENS_ON", address.to_string())
        .spawn()
        .unwrap();
    let mut told = [0; 1024];
    let mut next = || {
        // A child that ends interrupts the wait.
        let length = loop {
            match manager.recv(&mut told) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => break received.unwrap(),
            }
        };
        String::from_utf8_lossy(&told[..length]).into_owned()
    };
    assert_eq!(next(), "READY=1\n");
    assert!(next().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(next(), "STATUS=all well EVIL=1\n");
    assert_eq!(next(), "MAINPID=1\n");
    assert_eq!(next(), "STOPPING=1\n");
    assert_eq!(next(), "WATCHDOG=1\n");
    assert_eq!(next(), "WATCHDOG=1\n");
    assert_eq!(read_all(TcpStream::connect(address).unwrap()), "activated");
    assert!(child.wait().unwrap().success());
}

#[test]
fn child_of_systemd() {
    let Ok(address) = std::env::var("CHILD_LISTENS_ON") else {
        return;
    };
    let mut handover = receive().unwrap();
    assert!(!handover.is_upgrade());
    let listener = TcpListener::from(handover.take(&format!("https {address}")).unwrap());
    assert!(handover.close_rest().is_empty());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        handover.ready().await.unwrap();
        announce(News::Reloading);
        announce(News::Status("all well\nEVIL=1"));
        announce(News::MainPid(1));
        announce(News::Stopping);
        let _ = tokio::time::timeout(Duration::from_millis(100), watchdog()).await;
    });
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(b"activated").unwrap();
    std::process::exit(0);
}

#[test]
fn the_program_is_found_as_it_was_started() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("current");
    std::os::unix::fs::symlink("/bin/sh", &link).unwrap();
    assert_eq!(find_program(Some(link.as_os_str())).unwrap(), link);
    assert!(
        find_program(Some(OsStr::new("sh")))
            .unwrap()
            .ends_with("sh")
    );
    let own = std::env::current_exe().unwrap();
    for odd in [
        None,
        Some(OsStr::new("")),
        Some(OsStr::new("/no/such/file")),
    ] {
        assert_eq!(find_program(odd).unwrap(), own);
    }
}

/// From one end of a pair to the other, as between two processes.
fn deliver(sockets: Sockets) -> Result<Vec<(String, OwnedFd)>, HandoverError> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let sender = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            theirs.set_nonblocking(true).unwrap();
            let mut theirs = tokio::net::UnixStream::from_std(theirs).unwrap();
            send_sockets(&mut theirs, &sockets.0).await.unwrap();
        });
    });
    let received = read_sockets(&ours);
    sender.join().unwrap();
    received
}

async fn offer_to_child(test: &str, sockets: Sockets) -> Result<u32, HandoverError> {
    let program = std::env::current_exe().unwrap();
    offer(
        &program,
        &child_args(test),
        sockets,
        Duration::from_secs(20),
    )
    .await
}

fn child_args(test: &str) -> Vec<OsString> {
    let (_, module) = module_path!().split_once("::").unwrap();
    vec![
        format!("{module}::{test}").into(),
        "--exact".into(),
        "--nocapture".into(),
    ]
}

fn read_all(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
