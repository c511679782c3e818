//! Signed requests for accounts. instant-acme makes all others; it cannot make an account that is bound to
//! an external one with a key of ours, and a key that is only known after the account was made could be
//! lost with the process that made it.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// The key of an account: ECDSA on P-256.
pub(super) struct AccountKey {
    pair: EcdsaKeyPair,
    pkcs8: Vec<u8>,
}

impl AccountKey {
    /// A new one. `None`: the cryptography library refuses to work.
    pub fn generate() -> Option<Self> {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).ok()?;
        Self::read(pkcs8.as_ref())
    }

    /// From PKCS #8. `None`: it is none.
    pub fn read(pkcs8: &[u8]) -> Option<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).ok()?;
        Some(Self {
            pair,
            pkcs8: pkcs8.to_vec(),
        })
    }

    /// As PKCS #8.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public half as a JWK (RFC 7517).
    fn jwk(&self) -> Value {
        // An uncompressed point: 4, then 32 bytes each.
        let point = self.pair.public_key().as_ref();
        let (x, y) = (point.get(1..33), point.get(33..65));
        let encode = |half: Option<&[u8]>| base64(half.unwrap_or_default());
        json!({"crv": "P-256", "kty": "EC", "x": encode(x), "y": encode(y)})
    }

    /// A request signed with this key by itself, as newAccount is (RFC 8555 section 6.2).
    pub fn signed(&self, url: &str, nonce: &str, payload: &Value) -> Option<Vec<u8>> {
        let header = json!({"alg": "ES256", "jwk": self.jwk(), "nonce": nonce, "url": url});
        let (protected, payload) = (base64_json(&header), base64_json(payload));
        let input = format!("{protected}.{payload}");
        let signature = self
            .pair
            .sign(&SystemRandom::new(), input.as_bytes())
            .ok()?;
        Some(
            flattened(&protected, &payload, signature.as_ref())
                .to_string()
                .into_bytes(),
        )
    }

    /// The proof that the holder of an external account wants this key (RFC 8555 section 7.3.4).
    pub fn bound_to(&self, kid: &str, mac_key: &[u8], url: &str) -> Value {
        let header = json!({"alg": "HS256", "kid": kid, "url": url});
        let (protected, payload) = (base64_json(&header), base64_json(&self.jwk()));
        let input = format!("{protected}.{payload}");
        let key = hmac::Key::new(hmac::HMAC_SHA256, mac_key);
        flattened(
            &protected,
            &payload,
            hmac::sign(&key, input.as_bytes()).as_ref(),
        )
    }
}

fn flattened(protected: &str, payload: &str, signature: &[u8]) -> Value {
    json!({"protected": protected, "payload": payload, "signature": base64(signature)})
}

fn base64_json(value: &Value) -> String {
    base64(value.to_string().as_bytes())
}

pub(super) fn base64(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Base64url with or without padding: authorities hand out keys in both ways.
pub(super) fn unbase64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim().trim_end_matches('=');
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    #[test]
    fn a_signed_request_can_be_verified_by_its_own_jwk() {
        let key = AccountKey::generate().expect("a key");
        let again = AccountKey::read(key.pkcs8()).expect("the same key");
        assert_eq!(key.jwk(), again.jwk());
        let signed = key
            .signed("https://ca.example/new", "nonce", &json!({"a": 1}))
            .expect("signed");
        let signed: Value = serde_json::from_slice(&signed).expect("JSON");
        let part = |name: &str| signed[name].as_str().expect("text").to_owned();
        let input = format!("{}.{}", part("protected"), part("payload"));
        let public =
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.pair.public_key().as_ref());
        let signature = unbase64(&part("signature")).expect("base64");
        assert!(public.verify(input.as_bytes(), &signature).is_ok());
    }

    #[test]
    fn keys_are_read_with_and_without_padding() {
        assert_eq!(unbase64("Zg==\n").as_deref(), Some(&b"f"[..]));
        assert_eq!(unbase64("Zg").as_deref(), Some(&b"f"[..]));
        assert_eq!(unbase64("no base64!"), None);
    }
}
