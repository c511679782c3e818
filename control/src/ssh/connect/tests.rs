use super::*;

fn host(ssh: &str) -> model::Host {
    model::Host {
        ssh: ssh.to_owned(),
        ..crate::ssh::double::host("h1")
    }
}

#[test]
fn what_openssh_would_do() {
    let plain = "user root\nhostname 10.77.0.11\nport 2222\nproxyjump none\nhostkeyalias none\n";
    let settings = Settings {
        hostname: "10.77.0.11".to_owned(),
        port: 2222,
        alias: None,
        indirect: false,
    };
    assert_eq!(Settings::read(plain), settings);
    for way in ["proxyjump gate.example,inner", "proxycommand nc %h %p"] {
        let told = Settings::read(&format!("{way}\nhostname 10.77.0.11\nport 2222\n"));
        assert!(told.indirect, "{way}");
    }
}

/// What `ssh -G` says of a host, by our configuration over this one of the operator's.
async fn told(folder: &Path, operators: &str, destination: &str) -> String {
    let (known, config) = (folder.join("100% known \\ hosts"), folder.join("config"));
    std::fs::write(&config, operators).expect("written");
    let access = Access::new(&known).with_config(&config);
    let host = host(destination);
    let arguments = access.way().arguments(&host).await.expect("written");
    let mut ssh = Command::new("ssh");
    ssh.arg("-G").args(arguments).arg(destination);
    let output = ssh.output().await.expect("there is an ssh");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn nothing_of_the_operators_makes_an_unknown_key_known() {
    let folder = tempfile::tempdir().expect("a folder");
    let lax = "StrictHostKeyChecking no\nVerifyHostKeyDNS yes\nUserKnownHostsFile /x/known\nConnectTimeout 99\n\
               Host box\n  HostName 192.0.2.7\n  User ann\n  ProxyJump gate\n";
    let told = told(folder.path(), lax, "box").await;
    let ours = format!(
        "globalknownhostsfile {}/100% known \\ hosts /etc/ssh/",
        folder.path().display()
    );
    for wanted in [
        "stricthostkeychecking true",
        "verifyhostkeydns false",
        "updatehostkeys false",
        "batchmode yes",
        "connecttimeout 5",
        // And what is the operator's to say.
        "userknownhostsfile /x/known",
        "hostname 192.0.2.7",
        "user ann",
        "proxyjump gate",
        &ours,
    ] {
        assert!(told.contains(&format!("\n{wanted}")), "{wanted}\n{told}");
    }
}

#[tokio::test]
async fn a_destination_is_never_an_option() {
    let access = Access::new(Path::new("known_hosts"));
    let error = access
        .session(&host("-oProxyCommand=touch /tmp/x"))
        .await
        .expect_err("it is refused");
    assert!(matches!(error, Error::Here { .. }), "{error}");
}

#[tokio::test]
async fn the_operators_configuration_is_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config");
    std::fs::write(&config, "Host box\n  HostName 192.0.2.7\n  Port 2200\n").expect("written");
    let access = Access::new(&folder.path().join("known_hosts")).with_config(&config);
    let settings = access
        .way()
        .settings(&host("box"))
        .await
        .expect("ssh -G answers");
    assert_eq!(
        (settings.hostname.as_str(), settings.port),
        ("192.0.2.7", 2200)
    );
}

#[tokio::test]
async fn a_closed_port_is_said_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config");
    std::fs::write(&config, "").expect("written");
    let access = Access::new(&folder.path().join("known_hosts")).with_config(&config);
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port");
    let host = model::Host {
        port: Some(closed.port()),
        ..host("root@127.0.0.1")
    };
    let error = access.session(&host).await.expect_err("nobody listens");
    assert!(
        matches!(
            error,
            Error::Refused {
                refusal: Refusal::Closed,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn of_a_changed_key_the_line_that_counts_is_quoted_and_not_how_to_forget_it() {
    let said = "@@@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n@@@@@@\n\
                IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\n\
                It is also possible that a host key has just been changed.\n\
                The fingerprint for the ED25519 key sent by the remote host is\nSHA256:abc.\n\
                Please contact your system administrator.\nAdd correct host key in /h to get rid of this message.\n\
                Offending ED25519 key in /k:1\n  remove with:\n  ssh-keygen -f \"/k\" -R \"10.77.0.11\"\n\
                Host key for 10.77.0.11 has changed and you have requested strict checking.\nHost key verification failed.";
    let error = refused("h1", openssh::Error::Connect(std::io::Error::other(said)));
    assert_eq!(
        error.to_string(),
        "h1: no SSH connection: it shows another host key than the known one: \
         The fingerprint for the ED25519 key sent by the remote host is\nSHA256:abc.\n\
         Host key for 10.77.0.11 has changed and you have requested strict checking."
    );
}
