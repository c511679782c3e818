#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::acme::store;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

async fn answers(folder: &tempfile::TempDir) -> Arc<Answers> {
    Answers::new(store::open(folder.path(), None).await.unwrap())
}

/// Answers every connection: `{answer}` is what `answers` have for the token, if anything.
async fn server(answers: Arc<Answers>, template: &'static str) -> u16 {
    let listener = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 2048];
            let read = stream.read(&mut request).await.unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..read]).into_owned();
            let path = text.split(' ').nth(1).unwrap_or_default();
            let token = answers.token(path).unwrap_or_default().to_owned();
            let answer = answers.http(&token).await.unwrap_or_default();
            let whole = template
                .replace("{answer}", &answer)
                .replace("{token}", &token);
            let _ = stream.write_all(whole.as_bytes()).await;
        }
    });
    port
}

async fn seen(answers: &Arc<Answers>, template: &'static str) -> Seen {
    let port = server(answers.clone(), template).await;
    let probe = Probe::Http(http::Probe::new(answers, "a.example").await.unwrap());
    probe.look(SocketAddr::new(LOCAL, port)).await
}

#[tokio::test]
async fn our_own_answer_is_told_from_others() {
    let folder = tempfile::tempdir().unwrap();
    let answers = answers(&folder).await;
    let other = |text: &str| Seen::Other(text.to_owned());
    for (template, wanted) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 32\r\n\r\n{answer}",
            Seen::Ours,
        ),
        (
            "HTTP/1.1 404 Not Found\r\nServer: nginx/1.22\r\n\r\n{token}",
            other("404 Not Found from a server called nginx/1.22"),
        ),
        ("HTTP/1.1 200 OK\r\n\r\n{token}", other("200 OK")),
        (
            "SSH-2.0-OpenSSH_9.2\r\n",
            other("something that is no HTTP"),
        ),
        (
            "",
            Seen::Silent("the connection was closed without an answer".to_owned()),
        ),
    ] {
        assert_eq!(seen(&answers, template).await, wanted, "{template}");
    }
    let redirect = "HTTP/1.1 301 Moved\r\nLocation: https://a.example/x/{token}\r\n\r\n";
    let got = seen(&answers, redirect).await;
    assert!(
        matches!(&got, Seen::Silent(why) if why.starts_with("a redirect to https://a.example/x/"))
    );
    assert!(answers.is_idle(), "no probe is left behind");
}

#[tokio::test]
async fn an_own_port_counts_where_the_usual_one_leads_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let answers = answers(&folder).await;
    let strange = server(answers.clone(), "HTTP/1.1 200 OK\r\n\r\n").await;
    let ours = server(answers.clone(), "HTTP/1.1 200 OK\r\n\r\n{answer}").await;
    let probe = Probe::Http(http::Probe::new(&answers, "a.example").await.unwrap());
    let at = (LOCAL, strange);
    assert_eq!(probe.at(at, &[strange, ours], false).await, Seen::Ours);
    let other = Seen::Other("200 OK".to_owned());
    assert_eq!(probe.at(at, &[strange], false).await, other);
    let silent = Seen::Silent(format!("200 OK; port {ours} leads here"));
    assert_eq!(probe.at(at, &[strange, ours], true).await, silent);
}

#[tokio::test]
async fn a_handshake_of_ours_is_told_from_others() {
    let folder = tempfile::tempdir().unwrap();
    let answers = answers(&folder).await;
    let port = server(answers.clone(), "HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let probe = Probe::Https(tls::Probe::new(&answers, "a.example").await.unwrap());
    let address = SocketAddr::new(LOCAL, port);
    assert_eq!(
        probe.look(address).await,
        Seen::Other("something that is no TLS".to_owned())
    );

    let ours = handshakes(answers.clone()).await;
    assert_eq!(probe.look(SocketAddr::new(LOCAL, ours)).await, Seen::Ours);
    let strange = Answers::new(store::open(folder.path(), None).await.unwrap());
    let _put = strange
        .put(crate::acme::answers::Answer::Alpn {
            name: "a.example".to_owned(),
            digest: [1; 32],
        })
        .await
        .unwrap();
    let theirs = handshakes(strange).await;
    let wanted = Seen::Other("the answer to another challenge".to_owned());
    assert_eq!(probe.look(SocketAddr::new(LOCAL, theirs)).await, wanted);
}

/// A listener with a site of its own that answers TLS-ALPN-01 out of `answers`.
async fn handshakes(answers: Arc<Answers>) -> u16 {
    let folder = tempfile::tempdir().unwrap();
    let set = crate::tls::Set::load(&[], folder.path()).unwrap();
    let certificates = Arc::new(crate::tls::Certificates::new(set).unwrap());
    certificates.challenged_by(answers);
    let listener = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let accepted = crate::tls::accept(stream, &certificates, LOCAL, EACH).await;
            assert!(matches!(accepted, Err(crate::tls::AcceptError::Challenge)));
        }
    });
    port
}

#[test]
fn one_address_that_leads_elsewhere_is_enough() {
    let v6: IpAddr = "2001:db8::9".parse().unwrap();
    let v4: IpAddr = "203.0.113.9".parse().unwrap();
    let silent = || Seen::Silent("Connection refused".to_owned());
    let other = || Seen::Other("404 Not Found".to_owned());
    let judge = |seen| judge("www.example.org", 80, seen);
    assert_eq!(judge(vec![(v6, silent()), (v4, Seen::Ours)]), Reach::Ours);
    assert_eq!(
        judge(vec![(v6, Seen::Ours), (v4, other())]),
        Reach::Blocked(
            "port 80 of www.example.org leads to another machine: asked 203.0.113.9, got 404 Not Found"
                .to_owned()
        )
    );
    assert_eq!(
        judge(vec![(v6, silent()), (v4, silent())]),
        Reach::Unknown(
            "port 80 of www.example.org cannot be reached from here: \
             asked 203.0.113.9: Connection refused; asked 2001:db8::9: Connection refused"
                .to_owned()
        )
    );
}

#[tokio::test]
async fn a_public_authority_needs_a_public_address() {
    let folder = tempfile::tempdir().unwrap();
    let resolver = Resolver::new(None);
    let reacher = Reacher::new(answers(&folder).await, resolver, &Listen::default());
    let Reach::Blocked(why) = reacher.reach(Door::Http, "192.168.1.2", true).await else {
        panic!("a private address cannot be reached from outside");
    };
    assert!(
        why.starts_with("192.168.1.2 leads to 192.168.1.2 only, where nobody"),
        "{why}"
    );
    for (ip, wanted) in [
        ("8.8.8.8", true),
        ("2606:4700::1", true),
        ("100.64.0.1", false),
        ("::ffff:10.0.0.1", false),
        ("fd00::1", false),
        ("fe80::1", false),
        ("127.0.0.1", false),
        ("0.0.0.0", false),
        ("203.0.113.9", false),
    ] {
        assert_eq!(is_public(&ip.parse().unwrap()), wanted, "{ip}");
    }
}
