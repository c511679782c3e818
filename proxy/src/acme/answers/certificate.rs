//! The certificate that answers TLS-ALPN-01: for one name alone, signed by itself, with the digest
//! of the key authorization in a critical extension (RFC 8737 section 3).

use std::net::IpAddr;
use std::sync::Arc;

use rcgen::{CertificateParams, CustomExtension, KeyPair, SanType};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// The name that a handshake for `name` asks for: the reverse form of an address (RFC 8738 section 6),
/// any other name as it is, in lower case.
pub fn server_name(name: &str) -> String {
    match name.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        Ok(IpAddr::V6(ip)) => {
            let mut reversed = String::with_capacity(72);
            for byte in ip.octets().iter().rev() {
                reversed.push_str(&format!("{:x}.{:x}.", byte & 15, byte >> 4));
            }
            reversed + "ip6.arpa"
        }
        Err(_) => name.to_ascii_lowercase(),
    }
}

/// The address of a reverse form, if it is a whole one.
fn address(name: &str) -> Option<IpAddr> {
    if let Ok(ip) = name.parse() {
        return Some(ip);
    }
    if let Some(reversed) = name.strip_suffix(".in-addr.arpa") {
        let forward: Vec<_> = reversed.rsplit('.').collect();
        return forward.join(".").parse().ok().map(IpAddr::V4);
    }
    let mut octets = [0; 16];
    let mut digits = name.strip_suffix(".ip6.arpa")?.rsplit('.');
    for octet in &mut octets {
        *octet = digit(digits.next()?)? << 4 | digit(digits.next()?)?;
    }
    digits.next().is_none().then(|| IpAddr::from(octets))
}

fn digit(text: &str) -> Option<u8> {
    (text.len() == 1).then(|| u8::from_str_radix(text, 16).ok())?
}

/// The certificate with its key. `name` is a host or an address, in either form.
pub(super) fn certificate(
    name: &str,
    digest: &[u8; 32],
) -> Result<Arc<CertifiedKey>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![match address(name) {
        Some(ip) => SanType::IpAddress(ip),
        None => SanType::DnsName(name.try_into()?),
    }];
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)
        .map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
    // Not `with_single_cert`: it refuses a critical extension that it does not know.
    Ok(Arc::new(CertifiedKey::new(
        vec![certificate.der().clone()],
        signer,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_asked_for_in_reverse() {
        for (name, wanted) in [
            ("203.0.113.9", "9.113.0.203.in-addr.arpa"),
            (
                "2001:db8::1",
                "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
            ),
        ] {
            assert_eq!(server_name(name), wanted);
            assert_eq!(address(wanted), name.parse().ok());
            assert_eq!(server_name(wanted), wanted);
        }
        assert_eq!(server_name("WWW.a.example"), "www.a.example");
        for name in ["a.example", "1.2.3.in-addr.arpa", "1.ip6.arpa", "ip6.arpa"] {
            assert_eq!(address(name), None, "{name}");
        }
    }
}
