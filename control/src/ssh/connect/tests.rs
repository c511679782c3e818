use super::*;

fn host(ssh: &str) -> model::Host {
    model::Host {
        ssh: ssh.to_owned(),
        ..crate::ssh::double::host("h1")
    }
}

#[test]
fn what_openssh_would_do() {
    let text = "user root\nhostname 10.77.0.11\nport 2222\nproxyjump gate.example,inner\nhostkeyalias none\n\
                userknownhostsfile /root/.ssh/known_hosts /root/.ssh/known_hosts2\n";
    let settings = Settings::read(text);
    let known = vec![
        "/root/.ssh/known_hosts".to_owned(),
        "/root/.ssh/known_hosts2".to_owned(),
    ];
    let jump = Some("gate.example,inner".to_owned());
    assert_eq!(
        settings,
        Settings {
            hostname: "10.77.0.11".to_owned(),
            port: 2222,
            alias: None,
            jump,
            known
        }
    );
}

#[test]
fn ours_come_before_the_operators_known_hosts_and_no_path_is_taken_apart() {
    let access = Access::new(Path::new("/home/a b/100%/known_hosts"));
    let settings = Settings {
        known: vec!["~/.ssh/known_hosts".to_owned()],
        ..Settings::default()
    };
    assert_eq!(
        access.way().known_files(&settings),
        "\"/home/a b/100%%/known_hosts\" \"~/.ssh/known_hosts\""
    );
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
    std::fs::write(
        &config,
        "Host box\n  HostName 192.0.2.7\n  Port 2200\n  UserKnownHostsFile /x/known\n",
    )
    .expect("written");
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
    assert_eq!(settings.known, ["/x/known"]);
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
                Offending ED25519 key in /k:1\n  remove with:\n  ssh-keygen -f \"/k\" -R \"10.77.0.11\"\n\
                Host key for 10.77.0.11 has changed and you have requested strict checking.\nHost key verification failed.";
    let error = refused("h1", openssh::Error::Connect(std::io::Error::other(said)));
    assert_eq!(
        error.to_string(),
        "h1: no SSH connection: it shows another host key than the known one: \
         Host key for 10.77.0.11 has changed and you have requested strict checking."
    );
}
