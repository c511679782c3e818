//! Sites that differ in the versions they speak and in the clients they know.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sovereign_config::model::{Site, Tls, TlsPolicy};
use time::OffsetDateTime;

use super::fixtures::{DAY, Disk, site, with_clients};
use super::test_client::{client_with, connect, only};
use super::{Anybody, Certificates, client_is_of};

/// An authority of clients.
struct Club {
    root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A client's certificates and key.
struct Member {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

impl Club {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = authority(name);
        Self {
            root: params.self_signed(&key).unwrap().der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    fn member(&self, name: &str) -> Member {
        self.member_until(name, SystemTime::now() + DAY)
    }

    fn member_until(&self, name: &str, until: SystemTime) -> Member {
        let key = KeyPair::generate().unwrap();
        let leaf = leaf(name, until).signed_by(&key, &self.issuer).unwrap();
        let chain = vec![leaf.der().clone()];
        Member { chain, key }
    }

    /// One that another authority between has signed.
    fn distant_member(&self, name: &str) -> Member {
        let between_key = KeyPair::generate().unwrap();
        let params = authority("Between");
        let between = params.signed_by(&between_key, &self.issuer).unwrap();
        let issuer = Issuer::new(params, between_key);
        let key = KeyPair::generate().unwrap();
        let leaf = leaf(name, SystemTime::now() + DAY);
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let chain = vec![leaf.der().clone(), between.der().clone()];
        Member { chain, key }
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn leaf(name: &str, until: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = OffsetDateTime::from(SystemTime::now() - 9 * DAY);
    params.not_after = OffsetDateTime::from(until);
    params
}

/// A client that shows this certificate when it is asked.
fn client_of(member: &Member, version: &'static SupportedProtocolVersion) -> ClientConfig {
    let key = PrivateKeyDer::Pkcs8(member.key.serialize_der().into());
    ClientConfig::builder_with_provider(super::provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_client_auth_cert(member.chain.clone(), key)
        .unwrap()
}

fn modern(name: &str) -> Site {
    let mut site = site(&[name], Tls::Local);
    site.tls_policy = TlsPolicy::Modern;
    site
}

#[tokio::test]
async fn a_modern_site_speaks_the_newest_version_only_and_its_neighbour_both() {
    let disk = Disk::new();
    let sites = [modern("new.example"), site(&["old.example"], Tls::Local)];
    let certificates = Certificates::new(disk.load(&sites).unwrap()).unwrap();
    let old = client_with(super::provider(), &[&TLS12]);
    let new = client_with(super::provider(), &[&TLS13]);

    let refused = connect(&certificates, &old, "new.example")
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), "incompatible");
    for (client, name, version) in [
        (&new, "new.example", "TLSv1.3"),
        (&old, "old.example", "TLSv1.2"),
        (&new, "old.example", "TLSv1.3"),
        (&old, "unknown.example", "TLSv1.2"),
    ] {
        let done = connect(&certificates, client, name).await.unwrap();
        assert_eq!(done.facts.version, version, "{name}");
        assert_eq!(done.facts.client, None);
    }
}

#[tokio::test]
async fn where_all_sites_are_modern_a_stranger_is_met_no_other_way() {
    let disk = Disk::new();
    let sites = [modern("a.example"), modern("192.0.2.1")];
    let certificates = Certificates::new(disk.load(&sites).unwrap()).unwrap();
    let old = client_with(super::provider(), &[&TLS12]);
    for name in ["unknown.example", "a.example", "192.0.2.1", "192.0.2.99"] {
        let refused = connect(&certificates, &old, name).await.unwrap_err();
        assert_eq!(refused.reason(), "incompatible", "{name}");
    }
}

#[tokio::test]
async fn a_client_is_asked_who_it_is_and_may_stay_unknown() {
    let (disk, club) = (Disk::new(), Club::new("Club"));
    let sites = [
        with_clients(
            site(&["a.example", "192.0.2.1"], Tls::Local),
            "/private",
            &[&club.root],
        ),
        site(&["b.example"], Tls::Local),
    ];
    let certificates = Certificates::new(disk.load(&sites).unwrap()).unwrap();
    let member = club.distant_member("Ada");
    for version in [&TLS13, &TLS12] {
        for name in ["a.example", "192.0.2.1"] {
            let client = client_of(&member, version);
            let known = connect(&certificates, &client, name).await.unwrap();
            let known = known.facts.client.unwrap();
            assert_eq!(known.chain, member.chain);
            assert_eq!(known.leaf, member.chain[0]);
            let unknown = client_with(super::provider(), &[version]);
            let unknown = connect(&certificates, &unknown, name).await.unwrap();
            assert_eq!(unknown.facts.client, None);
        }
        // A site without such a route asks nobody.
        let client = client_of(&member, version);
        let done = connect(&certificates, &client, "b.example").await.unwrap();
        assert_eq!(done.facts.client, None);
    }
}

#[tokio::test]
async fn a_certificate_of_a_stranger_or_one_that_has_lapsed_is_refused() {
    let (disk, club) = (Disk::new(), Club::new("Club"));
    let sites = [with_clients(
        site(&["a.example"], Tls::Local),
        "/",
        &[&club.root],
    )];
    let certificates = Certificates::new(disk.load(&sites).unwrap()).unwrap();
    let namesake = Club::new("Club").member("Mallory");
    let lapsed = club.member_until("Ada", SystemTime::now() - DAY);
    for member in [namesake, lapsed] {
        let client = client_of(&member, &TLS13);
        let refused = connect(&certificates, &client, "a.example")
            .await
            .unwrap_err();
        assert_eq!(refused.reason(), "client-certificate");
    }
}

#[tokio::test]
async fn a_resumed_session_keeps_the_client_and_none_outlives_a_change_of_authorities() {
    let (disk, club, other) = (Disk::new(), Club::new("Club"), Club::new("Other"));
    let plain = || site(&["a.example"], Tls::Local);
    let asks = |roots: &[&[u8]]| disk.load(&[with_clients(plain(), "/", roots)]).unwrap();
    let one: &[&[u8]] = &[&club.root];
    let both: &[&[u8]] = &[&club.root, &other.root];
    let certificates = Certificates::new(asks(one)).unwrap();
    for version in [&TLS13, &TLS12] {
        certificates.swap(asks(one));
        let client = client_of(&club.member("Ada"), version);
        let mut first = connect(&certificates, &client, "a.example").await.unwrap();
        first.echo().await;
        certificates.swap(asks(one));
        let mut again = connect(&certificates, &client, "a.example").await.unwrap();
        assert!(again.facts.resumed, "{version:?}");
        assert_eq!(again.facts.client, first.facts.client);
        again.echo().await;

        for set in [asks(both), disk.load(&[plain()]).unwrap()] {
            certificates.swap(set);
            let mut changed = connect(&certificates, &client, "a.example").await.unwrap();
            assert!(!changed.facts.resumed, "{version:?}");
            changed.echo().await;
        }
    }
}

#[tokio::test]
async fn a_session_from_before_a_site_was_modern_is_not_taken_up() {
    let disk = Disk::new();
    let certificates = Certificates::new(disk.load(&[site(&["a.example"], Tls::Local)]).unwrap());
    let certificates = certificates.unwrap();
    let old = client_with(only(rustls::crypto::aws_lc_rs::kx_group::X25519), &[&TLS12]);
    let mut first = connect(&certificates, &old, "a.example").await.unwrap();
    first.echo().await;
    certificates.swap(disk.load(&[modern("a.example")]).unwrap());
    let refused = connect(&certificates, &old, "a.example").await.unwrap_err();
    assert_eq!(refused.reason(), "incompatible");
}

#[test]
fn a_client_is_of_the_authority_that_signed_it_and_of_no_other() {
    let (club, other) = (Club::new("Club"), Club::new("Other"));
    let (near, far) = (club.member("Ada"), club.distant_member("Ada"));
    let lapsed = club.member_until("Ada", SystemTime::now() - DAY);
    let none: [CertificateDer<'static>; 0] = [];
    for (chain, roots, wanted) in [
        (&*near.chain, &[&*club.root][..], true),
        (&*near.chain, &[&*other.root, &*club.root][..], true),
        (&*far.chain, &[&*club.root][..], true),
        (&far.chain[..1], &[&*club.root][..], false),
        (&*near.chain, &[&*other.root][..], false),
        (&*lapsed.chain, &[&*club.root][..], false),
        (&*near.chain, &[][..], false),
        (&*near.chain, &[&b"garbage"[..]][..], false),
        (&none[..], &[&*club.root][..], false),
    ] {
        assert_eq!(client_is_of(chain, roots), wanted);
    }
    assert!(!client_is_of(&[b"garbage"], &[&*club.root]));
}

#[test]
fn an_authority_of_clients_that_is_none_is_refused_when_it_is_loaded() {
    let disk = Disk::new();
    let sites = [with_clients(
        site(&["a.example"], Tls::Local),
        "/",
        &[b"garbage"],
    )];
    let text = disk.load(&sites).unwrap_err().to_string();
    assert!(text.contains("client_ca"), "{text}");
    assert_eq!(super::check(&sites).0.len(), 1);
}

#[tokio::test]
async fn the_server_chooses_the_suite_but_spares_who_would_not_compute_aes() {
    use rustls::crypto::aws_lc_rs::cipher_suite::{
        TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 as OLD_128,
        TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 as OLD_256,
        TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 as OLD_CHACHA,
        TLS13_AES_128_GCM_SHA256 as AES_128, TLS13_AES_256_GCM_SHA384 as AES_256,
        TLS13_CHACHA20_POLY1305_SHA256 as CHACHA,
    };
    let disk = Disk::new();
    let certificates = disk.load(&[site(&["a.example"], Tls::Local)]).unwrap();
    let certificates = Certificates::new(certificates).unwrap();
    for (offered, version, wanted) in [
        (
            vec![AES_256, CHACHA, AES_128],
            &TLS13,
            "TLS_AES_128_GCM_SHA256",
        ),
        (vec![AES_256, CHACHA], &TLS13, "TLS_AES_256_GCM_SHA384"),
        (
            vec![CHACHA, AES_256, AES_128],
            &TLS13,
            "TLS_CHACHA20_POLY1305_SHA256",
        ),
        (
            vec![OLD_256, OLD_CHACHA, OLD_128],
            &TLS12,
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        ),
        (
            vec![OLD_CHACHA, OLD_128],
            &TLS12,
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        ),
    ] {
        let provider = rustls::crypto::CryptoProvider {
            cipher_suites: offered,
            ..super::provider().as_ref().clone()
        };
        let client = client_with(Arc::new(provider), &[version]);
        let done = connect(&certificates, &client, "a.example").await.unwrap();
        assert_eq!(done.facts.cipher, wanted);
    }
}
