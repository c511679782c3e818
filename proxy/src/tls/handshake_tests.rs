//! Whole handshakes: the real accept, and a rustls client at the other end of a pipe.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use rustls::client::{Resumption, Tls12Resumption};
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sovereign_config::model::Tls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::fixtures::{Disk, Files, site};
use super::test_client::{
    LOCAL, SECOND, client, client_hello, client_with, connect, connect_at, connect_through,
    no_sites, only,
};
use super::{AcceptError, Alpn, Certificates, accept, answer_plain_http, root_pem};

#[tokio::test]
async fn a_client_that_trusts_the_root_is_served_in_both_versions() {
    let disk = Disk::new();
    let sites = [site(&["a.example", "192.0.2.1"], Tls::Local)];
    let certificates = Certificates::new(disk.load(&sites).unwrap()).unwrap();
    let mut roots = RootCertStore::empty();
    let root = root_pem(&disk.path("")).unwrap();
    roots
        .add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap())
        .unwrap();

    for (version, name, cipher) in [
        (&rustls::version::TLS13, "TLSv1.3", "TLS_AES_128_GCM_SHA256"),
        (
            &rustls::version::TLS12,
            "TLSv1.2",
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        ),
    ] {
        let client = ClientConfig::builder_with_provider(super::provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        for host in ["a.example", "192.0.2.1"] {
            let facts = connect(&certificates, &client, host).await.unwrap().facts;
            assert_eq!((facts.version, facts.cipher), (name, cipher));
            assert_eq!(facts.alpn, Alpn::H1, "nothing was asked for");
            assert!(!facts.resumed);
            assert!(facts.names.covers("a.example") && facts.names.covers("192.0.2.1"));
            assert!(!facts.names.covers("b.example"));
        }
    }
}

#[tokio::test]
async fn the_name_chooses_the_certificate_and_a_stranger_learns_nothing() {
    let disk = Disk::new();
    let sites = [
        disk.files("a", &["a.example", "*.a.example"])
            .named(&["a.example"]),
        site(&["b.example", "192.0.2.1"], Tls::Local),
        site(&["plain.example"], Tls::Off),
    ];
    let certificates = Certificates::new(disk.load(&sites).unwrap()).unwrap();
    for (host, wanted) in [
        ("a.example", "a.example"),
        ("A.Example", "a.example"),
        ("x.a.example", "a.example"),
        ("b.example", "b.example"),
        ("192.0.2.1", "b.example"),
        ("plain.example", "unknown.invalid"),
        ("x.y.a.example", "unknown.invalid"),
        ("c.example", "unknown.invalid"),
    ] {
        let done = connect(&certificates, &client(), host).await.unwrap();
        assert_eq!(done.names[0], wanted, "{host}");
        assert_eq!(
            done.facts.names.covers(host),
            wanted != "unknown.invalid",
            "{host}"
        );
        if wanted == "unknown.invalid" {
            assert_eq!(done.names.len(), 1);
            assert_eq!(done.subject, "CN=unknown.invalid");
            assert_eq!(done.issuer, "CN=unknown.invalid");
            assert!(!done.facts.names.covers("unknown.invalid"));
        }
        let sni = host.parse::<IpAddr>().is_err();
        let expected = sni.then(|| host.to_ascii_lowercase().into());
        assert_eq!(done.facts.sni, expected, "{host}");
    }
}

#[tokio::test]
async fn without_a_name_the_address_of_the_connection_chooses() {
    let disk = Disk::new();
    let sites = [
        site(&["192.0.2.1"], Tls::Local),
        site(&["2001:db8::1", "b.example"], Tls::Local),
    ];
    let certificates = Certificates::new(disk.load(&sites).unwrap()).unwrap();
    for (local, wanted) in [
        ("192.0.2.1", "192.0.2.1"),
        // A listener on [::] sees IPv4 clients so.
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("192.0.2.2", "unknown.invalid"),
    ] {
        let local = local.parse().unwrap();
        let done = connect_at(&certificates, &client(), "192.0.2.77", local)
            .await
            .unwrap();
        assert_eq!(done.names[0], wanted, "{local}");
        assert_eq!(done.facts.names.covers(wanted), wanted != "unknown.invalid");
        assert_eq!(done.facts.sni, None);
    }
}

#[tokio::test]
async fn the_site_of_all_hosts_gets_what_nobody_else_takes() {
    let disk = Disk::new();
    let sites = [
        site(&["a.example"], Tls::Local),
        disk.files("any", &["any.example", "a.example"])
            .named(&["*"]),
    ];
    let certificates = Certificates::new(disk.load(&sites).unwrap()).unwrap();
    for (host, wanted) in [
        ("a.example", "a.example"),
        ("any.example", "any.example"),
        ("nobody.example", "any.example"),
        ("203.0.113.1", "any.example"),
    ] {
        let done = connect(&certificates, &client(), host).await.unwrap();
        assert_eq!(done.names[0], wanted, "{host}");
        let covers_all = wanted == "any.example";
        assert_eq!(
            done.facts.names.covers("whatever.example"),
            covers_all,
            "{host}"
        );
    }
}

#[tokio::test]
async fn a_swap_changes_new_connections_and_leaves_open_ones_alone() {
    let disk = Disk::new();
    let first = disk.files("one", &["a.example", "old.example"]);
    let second = disk.files("two", &["a.example", "new.example"]);
    let set = |files: &Files| disk.load(&[files.named(&["a.example"])]).unwrap();
    let certificates = Certificates::new(set(&first)).unwrap();

    let mut open = connect(&certificates, &client(), "a.example")
        .await
        .unwrap();
    certificates.swap(set(&second));
    let next = connect(&certificates, &client(), "a.example")
        .await
        .unwrap();

    assert_eq!(open.names, ["a.example", "old.example"]);
    assert_eq!(next.names, ["a.example", "new.example"]);
    assert!(open.facts.names.covers("old.example") && !open.facts.names.covers("new.example"));
    assert!(next.facts.names.covers("new.example") && !next.facts.names.covers("old.example"));
    assert_eq!(certificates.list()[0].names, next.names);
    open.echo().await;
}

#[tokio::test]
async fn sessions_are_resumed_also_after_a_swap() {
    let disk = Disk::new();
    let set = || {
        disk.load(&[site(&["a.example", "b.example"], Tls::Local)])
            .unwrap()
    };
    let certificates = Certificates::new(set()).unwrap();
    for (version, tickets) in [
        (&rustls::version::TLS13, true),
        (&rustls::version::TLS12, true),
        (&rustls::version::TLS12, false),
    ] {
        let mut client = client_with(super::provider(), &[version]);
        if !tickets {
            client.resumption =
                Resumption::in_memory_sessions(8).tls12_resumption(Tls12Resumption::SessionIdOnly);
        }
        let mut first = connect(&certificates, &client, "a.example").await.unwrap();
        assert!(!first.facts.resumed);
        first.echo().await;

        let mut second = connect(&certificates, &client, "a.example").await.unwrap();
        assert!(second.facts.resumed, "{version:?}, tickets: {tickets}");
        assert!(second.facts.names.covers("a.example"));
        second.echo().await;

        certificates.swap(set());
        let third = connect(&certificates, &client, "a.example").await.unwrap();
        assert!(
            third.facts.resumed,
            "after a swap: {version:?}, tickets: {tickets}"
        );

        let other = connect(&certificates, &client, "b.example").await.unwrap();
        assert!(!other.facts.resumed, "another name is another session");
    }
}

#[tokio::test]
async fn a_ticket_is_good_however_many_other_clients_come() {
    let disk = Disk::new();
    let set = disk.load(&[site(&["a.example"], Tls::Local)]).unwrap();
    let certificates = Certificates::new(set).unwrap();
    let returning = client();
    let mut first = connect(&certificates, &returning, "a.example")
        .await
        .unwrap();
    first.echo().await;
    // More than the server's session cache holds.
    for _ in 0..300 {
        let mut other = connect(&certificates, &client(), "a.example")
            .await
            .unwrap();
        other.echo().await;
    }
    let again = connect(&certificates, &returning, "a.example")
        .await
        .unwrap();
    assert!(again.facts.resumed);
}

#[tokio::test]
async fn the_protocol_is_negotiated() {
    let disk = Disk::new();
    let set = disk.load(&[site(&["a.example"], Tls::Local)]).unwrap();
    let certificates = Certificates::new(set).unwrap();
    for (offered, wanted) in [
        (vec!["h2", "http/1.1"], Alpn::H2),
        (vec!["http/1.1", "h2"], Alpn::H2),
        (vec!["http/1.1"], Alpn::H1),
        (vec!["h2"], Alpn::H2),
        (vec![], Alpn::H1),
    ] {
        let mut client = client();
        client.alpn_protocols = offered
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        let done = connect(&certificates, &client, "a.example").await.unwrap();
        assert_eq!(done.facts.alpn, wanted, "{offered:?}");
    }

    let mut client = client();
    client.alpn_protocols = vec![b"spdy/1".to_vec()];
    let error = connect(&certificates, &client, "a.example")
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "alpn");
}

#[tokio::test]
async fn the_key_exchange_withstands_quantum_computers_where_the_client_can() {
    let disk = Disk::new();
    let set = disk.load(&[site(&["a.example"], Tls::Local)]).unwrap();
    let certificates = Certificates::new(set).unwrap();

    let done = connect(&certificates, &client(), "a.example")
        .await
        .unwrap();
    assert_eq!(done.facts.group, "X25519MLKEM768");
    for (group, wanted) in [
        (kx_group::X25519, "X25519"),
        (kx_group::SECP256R1, "P-256"),
        (kx_group::SECP384R1, "P-384"),
    ] {
        let client = client_with(only(group), &[&rustls::version::TLS13]);
        let done = connect(&certificates, &client, "a.example").await.unwrap();
        assert_eq!(done.facts.group, wanted);
    }

    let alone = client_with(only(kx_group::MLKEM1024), &[&rustls::version::TLS13]);
    let error = connect(&certificates, &alone, "a.example")
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "incompatible");
}

#[tokio::test]
async fn a_client_that_distrusts_the_certificate_is_told_apart() {
    let disk = Disk::new();
    let set = disk.load(&[site(&["a.example"], Tls::Local)]).unwrap();
    let certificates = Certificates::new(set).unwrap();
    let client = ClientConfig::builder_with_provider(super::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let error = connect(&certificates, &client, "a.example")
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "refused");
}

#[tokio::test]
async fn plain_http_on_the_tls_port_is_answered() {
    for request in [
        "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "G",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let (mut client, server) = tokio::io::duplex(4096);
        client.write_all(request.as_bytes()).await.unwrap();
        let error = accept(server, &no_sites(), LOCAL, SECOND)
            .await
            .unwrap_err();
        assert_eq!(error.reason(), "plain-http", "{request:?}");
        let AcceptError::PlainHttp(stream) = error else {
            unreachable!()
        };
        let answering = tokio::spawn(answer_plain_http(stream));
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        drop(client);
        answering.await.unwrap();

        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        assert!(
            head.contains(&format!("Content-Length: {}\r\n", body.len())),
            "{head}"
        );
        assert!(body.contains("https://"), "{body}");
    }
}

#[tokio::test]
async fn what_is_not_a_handshake_is_refused_with_its_reason() {
    let hello = client_hello();
    for (sent, closes, reason) in [
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), false, "not-tls"),
        (b"get / http/1.1\r\n".to_vec(), false, "not-tls"),
        (vec![0x80, 0x2e, 0x01, 0x00, 0x02], false, "not-tls"),
        (vec![0], false, "not-tls"),
        (vec![], true, "eof"),
        (hello[..5].to_vec(), true, "eof"),
        (hello[..hello.len() - 1].to_vec(), true, "eof"),
        (hello.clone(), true, "eof"),
        (vec![], false, "timeout"),
        (hello[..hello.len() - 1].to_vec(), false, "timeout"),
        (hello.clone(), false, "timeout"),
        (vec![0x16, 3, 1, 0xff, 0xff, 1, 2, 3], false, "protocol"),
        (
            vec![0x16, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff],
            false,
            "protocol",
        ),
        (vec![0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0], false, "protocol"),
    ] {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        client.write_all(&sent).await.unwrap();
        if closes {
            client.shutdown().await.unwrap();
        }
        let error = accept(server, &no_sites(), LOCAL, SECOND / 20)
            .await
            .unwrap_err();
        assert_eq!(error.reason(), reason, "{sent:02x?}: {error}");
    }
}

#[tokio::test]
async fn a_hello_that_trickles_in_byte_by_byte_is_as_good_as_any() {
    let disk = Disk::new();
    let set = disk.load(&[site(&["a.example"], Tls::Local)]).unwrap();
    let certificates = Certificates::new(set).unwrap();
    let (near, relay_near) = tokio::io::duplex(1 << 16);
    let (relay_far, far) = tokio::io::duplex(1 << 16);
    let relay = async {
        let (mut from_client, mut to_client) = tokio::io::split(relay_near);
        let (mut from_server, mut to_server) = tokio::io::split(relay_far);
        let trickle = async {
            while let Ok(byte) = from_client.read_u8().await {
                to_server.write_u8(byte).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let _ = tokio::join!(trickle, tokio::io::copy(&mut from_server, &mut to_client));
    };
    let client = client();
    tokio::select! {
        () = relay => unreachable!("both ends are open"),
        done = connect_through(&certificates, &client, "a.example", LOCAL, near, far) => {
            assert_eq!(done.unwrap().facts.group, "X25519MLKEM768");
        }
    }
}

#[tokio::test]
async fn a_hello_without_end_is_refused() {
    let (client, server) = tokio::io::duplex(1 << 14);
    let flood = tokio::spawn(async move {
        let mut client = client;
        // Records of a handshake message that claims 16 MB.
        let mut record = vec![0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
        record.resize(5 + 0x4000, 0);
        let mut sent = 0;
        while client.write_all(&record).await.is_ok() {
            sent += record.len();
            record[5..9].fill(0);
        }
        sent
    });
    let error = accept(server, &no_sites(), LOCAL, SECOND * 10)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "protocol");
    assert!(flood.await.unwrap() < 256 * 1024, "bounded");
}
