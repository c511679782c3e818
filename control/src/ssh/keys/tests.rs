use super::*;

const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

fn settings(port: u16) -> Settings {
    Settings {
        hostname: "10.77.0.11".to_owned(),
        port,
        ..Settings::default()
    }
}

fn key(name: &str, fingerprint: &str) -> HostKey {
    HostKey {
        name: name.to_owned(),
        kind: "ssh-ed25519".to_owned(),
        key: KEY.to_owned(),
        fingerprint: fingerprint.to_owned(),
    }
}

#[test]
fn keys_that_a_host_shows() {
    let scan = format!("# 10.77.0.11:22 SSH-2.0-OpenSSH_9.2p1\n10.77.0.11 ssh-ed25519 {KEY}\n");
    let keys = read_scan(&scan, &settings(22));
    assert_eq!(keys, [key("10.77.0.11", "")]);
    let listed = "256 SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU 10.77.0.11 (ED25519)\n";
    let keys = with_fingerprints(keys, listed);
    assert_eq!(
        keys[0].fingerprint,
        "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"
    );
    assert_eq!(with_fingerprints(vec![key("a", "")], "garbage\n"), []);
}

#[test]
fn the_name_that_a_key_is_looked_up_by() {
    let alias = Settings {
        alias: Some("box".to_owned()),
        ..settings(2222)
    };
    assert_eq!(known_name(&settings(22)), "10.77.0.11");
    assert_eq!(known_name(&settings(2222)), "[10.77.0.11]:2222");
    assert_eq!(known_name(&alias), "box");
}

#[test]
fn a_pinned_key_takes_the_place_of_the_one_before() {
    let before = "other ssh-ed25519 AAAA\n10.77.0.11 ssh-rsa OLD\n";
    let text = pinned(before, "10.77.0.11", &[key("10.77.0.11", "")]);
    assert_eq!(
        text,
        format!("other ssh-ed25519 AAAA\n10.77.0.11 ssh-ed25519 {KEY}\n")
    );
    assert_eq!(pinned(&text, "10.77.0.11", &[]), "other ssh-ed25519 AAAA\n");
}

#[tokio::test]
async fn keygen_says_the_fingerprint() {
    let host = crate::ssh::double::host("h1");
    let lines = key("10.77.0.11", "").line() + "\n";
    let listed = local(
        &host,
        &words(&["ssh-keygen", "-l", "-f", "-"]),
        Some(&lines),
    )
    .await
    .expect("it lists");
    let keys = with_fingerprints(vec![key("10.77.0.11", "")], &listed);
    assert!(keys[0].fingerprint.starts_with("SHA256:"), "{listed}");
}
