//! What templates can ask for, beside values: quoting, volumes, secrets, the credentials of a Bitcoin node, the
//! names of a Nostr relay. Stands alone because each is a promise to whoever writes a template.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};
use sha2::{Digest as _, Sha256};

use super::{nip05, ports};
use crate::catalogue::secret_key;

/// The volumes that templates asked for.
pub(super) type Volumes = Arc<Mutex<BTreeSet<String>>>;

/// Filters and functions that every template has. `service` is the name of the service.
pub(super) fn add(environment: &mut Environment<'_>, service: &str, port: u16, volumes: &Volumes) {
    environment.add_filter("yaml", |value: Value| yaml(&value));
    environment.add_filter("json", |value: Value| json(&value));
    environment.add_filter("public_key", |key: String| {
        nip05::public_key(&key).ok_or_else(|| wrong(format!("{key:?} is not a public key")))
    });
    environment.add_function("refuse", |why: String| Err::<(), _>(wrong(why)));
    environment.add_function("port", move |number: Option<u16>| match number {
        Some(number) if number >= ports::EACH => {
            Err(wrong(format!("a service has {} ports", ports::EACH)))
        }
        number => Ok(port + number.unwrap_or(0)),
    });
    let (volumes, owner) = (volumes.clone(), service.to_owned());
    environment.add_function("volume", move |name: String| {
        let volume = format!("sovereign-{owner}-{name}");
        let mut seen = volumes.lock().unwrap_or_else(|held| held.into_inner());
        seen.insert(volume.clone());
        volume
    });
    environment.add_function("nip05", |names: Vec<String>, relay: String| {
        nip05::answer(&names, &relay).map_err(wrong)
    });
}

/// What needs secrets: a hash of one everywhere, the secret itself only where `open`, in a file that is secret.
pub(super) fn add_secrets(
    environment: &mut Environment<'_>,
    service: &str,
    secrets: &BTreeMap<String, String>,
    open: bool,
) {
    let secrets = Arc::new(secrets.clone());
    let (held, owner) = (secrets.clone(), service.to_owned());
    environment.add_function("rpcauth", move |user: String, name: String| {
        let password = find(&held, &secret_key(&owner, &name))?;
        Ok::<_, Error>(rpcauth(&user, &password))
    });
    let owner = service.to_owned();
    environment.add_function("secret", move |name: String, kwargs: Kwargs| {
        if !open {
            return Err(wrong("secrets go into files below secrets/".to_owned()));
        }
        let of: Option<String> = kwargs.get("of")?;
        kwargs.assert_all_used()?;
        find(
            &secrets,
            &secret_key(of.as_deref().unwrap_or(&owner), &name),
        )
    });
    environment.add_filter("env", env);
}

fn find(secrets: &BTreeMap<String, String>, key: &str) -> Result<String, Error> {
    let found = secrets.get(key).cloned();
    found.ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("there is no secret {key}"),
        )
    })
}

/// A value in YAML: JSON, which YAML takes, with `$` doubled, because Compose fills in variables.
fn yaml(value: &Value) -> Result<String, Error> {
    Ok(json(value)?.replace('$', "$$"))
}

fn json(value: &Value) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|_| wrong("a value that cannot be written".to_owned()))
}

/// A value in a file of variables. Compose and Swarm read such files in different ways, so what either would
/// change is refused.
fn env(value: String) -> Result<String, Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._~+/=@:,;-".contains(c);
    if value.chars().all(plain) {
        return Ok(value);
    }
    Err(wrong(
        "a secret with other characters than letters, digits and ._~+/=@:,;- cannot be passed on"
            .to_owned(),
    ))
}

/// What `bitcoind` takes as `rpcauth`: the user, a salt and a hash of the password. The salt follows from the
/// password, so that the same secret gives the same file.
fn rpcauth(user: &str, password: &str) -> String {
    let salt = hex(&Sha256::digest(format!("rpcauth {user} {password}")))[..32].to_owned();
    let hash = hex(&hmac(salt.as_bytes(), password.as_bytes()));
    format!("{user}:{salt}${hash}")
}

/// HMAC with SHA-256 (RFC 2104), for keys of at most 64 bytes.
fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let pad = |with: u8| {
        let mut block = [with; 64];
        for (byte, key) in block.iter_mut().zip(key) {
            *byte ^= key;
        }
        block
    };
    let inner = Sha256::new_with_prefix(pad(0x36))
        .chain_update(text)
        .finalize();
    let outer = Sha256::new_with_prefix(pad(0x5c)).chain_update(inner);
    outer.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn wrong(what: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_is_that_of_the_standard() {
        // RFC 4231, test case 2.
        let digest = hmac(b"Jefe", b"what do ya want for nothing?");
        let wanted = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex(&digest), wanted);
    }

    #[test]
    fn credentials_are_as_bitcoind_reads_them() {
        let line = rpcauth("sovereign", "correct horse");
        let (user, rest) = line.split_once(':').expect("a user");
        let (salt, hash) = rest.split_once('$').expect("a hash");
        assert_eq!((user, salt.len(), hash.len()), ("sovereign", 32, 64));
        assert_eq!(hash, hex(&hmac(salt.as_bytes(), b"correct horse")));
        assert_eq!(line, rpcauth("sovereign", "correct horse"));
        assert!(!line.contains("horse"));
    }

    #[test]
    fn values_are_quoted() {
        assert_eq!(
            yaml(&Value::from("a\"b$c\n")).expect("text"),
            r#""a\"b$$c\n""#
        );
        assert_eq!(
            yaml(&Value::from(vec!["a", "b"])).expect("list"),
            r#"["a","b"]"#
        );
        assert_eq!(env("aB9._".to_owned()).expect("plain"), "aB9._");
        for bad in ["a b", "a'b", "a\"b", "a$b", "a\nb", "a#b", "a\\b"] {
            assert!(env(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
