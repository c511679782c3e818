//! Certificates of authorities, good and bad: what is kept of them, and what is thought of it.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256,
    SignatureAlgorithm,
};
use rustls::RootCertStore;
use sovereign_config::model::{KeyKind, Tls};
use time::OffsetDateTime;

use super::fixtures::{DAY, leaks, site};
use super::kept::{self, About, Kept, is_alone, is_of_a_root};
use super::{Unfit, Wanted, judge, wanted};

/// An authority with an intermediate.
struct Ca {
    root: Certificate,
    intermediate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn new(name: &str) -> Self {
        let params = |name: String| {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, name);
            params
        };
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root = params(format!("{name} root"));
        let root_cert = root.self_signed(&root_key).unwrap();
        let between = params(format!("{name} intermediate"));
        let root = Issuer::new(root, root_key);
        Self {
            root: root_cert,
            intermediate: between.signed_by(&key, &root).unwrap(),
            issuer: Issuer::new(between, key),
        }
    }

    /// A leaf for these names, with its key.
    fn leaf(&self, names: &[&str]) -> (String, String) {
        self.sign(names, &PKCS_ECDSA_P256_SHA256, |_| {})
    }

    fn sign(
        &self,
        names: &[&str],
        algorithm: &'static SignatureAlgorithm,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = OffsetDateTime::from(SystemTime::now() - DAY);
        params.not_after = OffsetDateTime::from(SystemTime::now() + 90 * DAY);
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let key = KeyPair::generate_for(algorithm).unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        (leaf.pem(), key.serialize_pem())
    }

    fn chain(&self, leaf: &str) -> String {
        format!("{leaf}{}", self.intermediate.pem())
    }
}

fn about() -> About {
    About {
        directory: "https://ca.example/directory".to_owned(),
        obtained: 1_790_000_000,
        profile: Some("shortlived".to_owned()),
        names: vec!["a.example".to_owned()],
        challenge: Some("http-01".to_owned()),
    }
}

fn wants(names: &[&str]) -> Wanted {
    wanted(&[site(names, Tls::Acme)]).remove(0)
}

fn judged(chain: String, key: &str, names: &[&str], now: SystemTime) -> Result<(), Unfit> {
    let kept = Kept::new(about(), chain, key.to_owned());
    judge(&kept, &wants(names), now).map(drop)
}

#[test]
fn a_good_certificate_says_what_it_is() {
    let ca = Ca::new("Good");
    for (algorithm, kind) in [
        (&PKCS_ECDSA_P256_SHA256, KeyKind::Ecdsa),
        (&PKCS_RSA_SHA256, KeyKind::Rsa),
    ] {
        let (leaf, key) = ca.sign(
            &["a.example", "*.a.example", "192.0.2.1"],
            algorithm,
            |_| {},
        );
        let kept = Kept::new(about(), ca.chain(&leaf), key);
        let mut wants = wants(&["a.example", "www.a.example", "192.0.2.1"]);
        wants.key = kind;

        let facts = judge(&kept, &wants, SystemTime::now()).unwrap();
        assert_eq!(facts.names, ["a.example", "*.a.example", "192.0.2.1"]);
        assert_eq!(facts.issuer, "Good intermediate");
        assert_eq!(facts.key, kind);
        assert!(facts.not_before < SystemTime::now() && facts.not_after > SystemTime::now());
        assert!(!facts.serial.is_empty() && facts.authority_key_id.len() == 20);
        assert!(facts.leaf.starts_with(&[0x30, 0x82]));
    }
}

#[test]
fn a_chain_up_to_the_root_is_as_good() {
    let ca = Ca::new("Good");
    let (leaf, key) = ca.leaf(&["a.example"]);
    let chain = ca.chain(&leaf) + &ca.root.pem();
    judged(chain, &key, &["a.example"], SystemTime::now()).unwrap();
}

/// One that came without its intermediate was served, and every visitor refused it.
#[test]
fn a_leaf_alone_is_good_where_a_root_signed_it() {
    let (ca, other) = (Ca::new("Good"), Ca::new("Good"));
    let (leaf, key) = ca.leaf(&["a.example"]);
    let roots = |of: &[&Certificate]| {
        let mut roots = RootCertStore::empty();
        let added = of.iter().try_for_each(|one| roots.add(one.der().clone()));
        added.unwrap();
        roots
    };
    let kept = |chain| Kept::new(about(), chain, key.clone());
    assert!(!is_alone(&kept(ca.chain(&leaf))));
    let kept = kept(leaf);
    assert!(is_alone(&kept));
    let facts = judge(&kept, &wants(&["a.example"]), SystemTime::now()).unwrap();
    // What signed it counts as a root where the operator names it as one.
    for (of, good) in [
        (&[][..], false),
        (&[&ca.root, &other.intermediate], false),
        (&[&other.root, &ca.intermediate], true),
    ] {
        let refused = is_of_a_root(&facts, &roots(of)).err();
        let alone = Unfit::Alone {
            issuer: "Good intermediate".to_owned(),
        };
        assert_eq!(refused, (!good).then_some(alone));
    }
}

#[test]
fn a_bad_certificate_is_told_from_a_good_one() {
    let (ca, other) = (Ca::new("Good"), Ca::new("Good"));
    let (leaf, key) = ca.leaf(&["a.example"]);
    let (_, stray) = ca.leaf(&["a.example"]);
    let (foreign, foreign_key) = ca.leaf(&["b.example"]);
    let sign =
        |algorithm, change: fn(&mut CertificateParams)| ca.sign(&["a.example"], algorithm, change);
    let p256 = &PKCS_ECDSA_P256_SHA256;
    let (rsa, rsa_key) = sign(&PKCS_RSA_SHA256, |_| {});
    let (p384, p384_key) = sign(&PKCS_ECDSA_P384_SHA384, |_| {});
    let (mail, mail_key) = sign(p256, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
    });
    let (authority, authority_key) = sign(p256, |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    let (bare, bare_key) = ca.sign(&[], p256, |_| {});
    let whole = ca.chain(&leaf);

    for (chain, key, wanted) in [
        (
            ca.chain(&foreign),
            &*foreign_key,
            "does not cover a.example; it covers b.example",
        ),
        (ca.chain(&bare), &bare_key, "it covers no name at all"),
        (
            whole.clone(),
            &stray,
            "the private key does not belong to the certificate",
        ),
        (
            ca.intermediate.pem() + &leaf,
            &key,
            "the private key does not belong",
        ),
        (
            leaf.clone() + &ca.root.pem(),
            &key,
            "certificate 1 is not signed by the next",
        ),
        (
            leaf.clone() + &other.intermediate.pem(),
            &key,
            "certificate 1 is not signed",
        ),
        (
            whole.clone() + &other.root.pem(),
            &key,
            "certificate 2 is not signed by the next",
        ),
        (
            whole.clone() + &leaf,
            &key,
            "certificate 2 is not signed by the next",
        ),
        (
            ca.chain(&rsa),
            &rsa_key,
            "key is RSA with 2048 bits; wanted ECDSA on P-256",
        ),
        (
            ca.chain(&p384),
            &p384_key,
            "key is of another kind; wanted ECDSA on P-256",
        ),
        (ca.chain(&mail), &mail_key, "lacks serverAuth"),
        (
            ca.chain(&authority),
            &authority_key,
            "it is an authority's own",
        ),
        (
            ca.intermediate.pem().repeat(11),
            &key,
            "more than 10 certificates",
        ),
        (String::new(), &key, "holds no certificate"),
        ("garbage".to_owned(), &key, "holds no certificate"),
        (whole.replace("MII", "!!!"), &key, "cannot be parsed"),
        (
            whole.clone(),
            "garbage",
            "private key is none that TLS uses",
        ),
        (whole.clone(), "", "private key is none that TLS uses"),
    ] {
        let unfit = judged(chain, key, &["a.example"], SystemTime::now()).unwrap_err();
        let text = format!("{unfit}");
        assert!(text.contains(wanted), "{text}; wanted {wanted}");
        assert!(!leaks(&format!("{text} {unfit:?}"), key) || !key.contains("BEGIN"));
    }
}

#[test]
fn dates_are_judged_by_the_clock_that_is_given() {
    let ca = Ca::new("Good");
    let (leaf, key) = ca.leaf(&["a.example"]);
    let now = SystemTime::now();
    let at = |now| judged(ca.chain(&leaf), &key, &["a.example"], now);
    assert!(at(now).is_ok());
    assert!(
        at(now - DAY - Duration::from_secs(60)).is_ok(),
        "a clock a minute late"
    );
    assert!(matches!(
        at(now - 2 * DAY),
        Err(Unfit::NotYetValid { number: 1, .. })
    ));
    assert!(matches!(
        at(now + 91 * DAY),
        Err(Unfit::Lapsed { number: 1, .. })
    ));
}

#[test]
fn a_flipped_bit_breaks_the_chain() {
    let ca = Ca::new("Good");
    let (leaf, key) = ca.leaf(&["a.example"]);
    let chain = ca.chain(&leaf);
    let middle = leaf.len() / 2;
    let mut flipped = chain.clone().into_bytes();
    flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    assert!(judged(flipped, &key, &["a.example"], SystemTime::now()).is_err());
}

#[test]
fn what_is_kept_is_read_as_it_was_written() {
    let ca = Ca::new("Good");
    let (leaf, key) = ca.leaf(&["a.example"]);
    let kept = Kept::new(about(), ca.chain(&leaf), key.clone());
    let text = kept.to_pem();
    assert!(
        text.starts_with(r#"{"directory":"https://ca.example/directory","#),
        "{text}"
    );

    let read = Kept::parse(&text).unwrap();
    assert_eq!(read.about, about());
    assert_eq!(read.key_pem().trim(), key.trim());
    judge(&read, &wants(&["a.example"]), SystemTime::now()).unwrap();
    assert!(!leaks(&format!("{read:?}"), &key), "{read:?}");
    assert_eq!(kept::name("a.example"), "certs/acme/a.example.pem");
    assert_eq!(read.to_pem(), Kept::parse(&read.to_pem()).unwrap().to_pem());

    // A later version may say more of where it comes from, an earlier one less.
    let (_, blocks) = text.split_once('\n').unwrap();
    for about in [
        r#"{"directory":"d","obtained":1,"later":[]}"#,
        r#"{"directory":"d","obtained":1}"#,
    ] {
        assert_eq!(
            Kept::parse(&format!("{about}\n{blocks}"))
                .unwrap()
                .about
                .obtained,
            1
        );
    }
}

#[test]
fn what_is_no_kept_certificate_is_refused() {
    let ca = Ca::new("Good");
    let (leaf, key) = ca.leaf(&["a.example"]);
    let text = Kept::new(about(), ca.chain(&leaf), key.clone()).to_pem();
    let (first, blocks) = text.split_once('\n').unwrap();
    for (content, wanted) in [
        (String::new(), "first line"),
        ("\0\0\0\0".to_owned(), "first line"),
        (blocks.to_owned(), "first line"),
        ("{}\n".to_owned() + blocks, "first line"),
        (first.to_owned(), "no certificate"),
        (format!("{first}\n{leaf}"), "no private key"),
        (format!("{first}\n{key}"), "no certificate"),
        (format!("{text}{key}"), "more than one private key"),
        (
            format!(
                "{text}{}",
                "-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n"
            ),
            "more than",
        ),
        (text[..text.len() - 10].to_owned(), "no end"),
        (format!("{first}\n-----BEGIN "), "no end"),
        (text.clone() + &" ".repeat(1 << 20), "larger than 1 MiB"),
    ] {
        let unfit = Kept::parse(&content).unwrap_err().to_string();
        assert!(unfit.contains(wanted), "{unfit}; wanted {wanted}");
        assert!(!leaks(&unfit, &key));
    }
}
