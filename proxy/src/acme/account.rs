//! Our account at an authority. Its key is written before the authority hears of it: a process that is
//! killed between the two finds the account again by its key, since newAccount with a known key returns the
//! account that is there (RFC 8555 section 7.3.1).
//!
//! ```text
//! <state>/acme/accounts/HOST-HASH.json      0600, one for each directory and external account
//! ```

use std::hash::Hasher as _;
use std::time::UNIX_EPOCH;

use instant_acme::{Account, Problem};
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde::{Deserialize, Serialize};
use serde_json::json;
use twox_hash::XxHash3_64;

use super::ca::{Ca, Directory};
use super::failure::{self, Failure, Outcome};
use super::http::Session;
use super::jws::{self, AccountKey};
use crate::causes;

/// An account as it lies on disk.
#[derive(Serialize, Deserialize)]
struct File {
    /// The authority's directory.
    directory: String,
    /// Its URL at the authority; `None`: the authority has not said it yet.
    id: Option<String>,
    /// Its key, PKCS #8, base64url.
    key: String,
    /// When it was made, in seconds since 1970.
    made: u64,
}

/// The account at this authority; made where there is none.
pub(super) async fn account(
    ca: &Ca,
    session: &Session,
    directory: &Directory,
) -> Result<Account, Failure> {
    let id_and_key = known_or_made(ca, session, directory).await?;
    let builder = Account::builder_with_http(Box::new(session.clone()));
    let (id, key) = id_and_key;
    let key = PrivatePkcs8KeyDer::from(key.pkcs8().to_vec());
    let url = ca.config.directory.clone();
    let account = builder.from_parts(id, key, url).await;
    account.map_err(|error| Failure::of(error, "asking for its directory", session))
}

/// The authority does not know the account: the next time it is made again, with the same key.
pub(super) async fn forget(ca: &Ca) {
    let _one = ca.account.lock().await;
    if let Ok(Some((mut file, _))) = read(ca).await {
        tracing::warn!(
            authority = ca.name,
            "our account is unknown there, and is made again"
        );
        file.id = None;
        if let Err(failure) = write(ca, &file).await {
            tracing::warn!("{failure}");
        }
    }
}

async fn known_or_made(
    ca: &Ca,
    session: &Session,
    directory: &Directory,
) -> Result<(String, AccountKey), Failure> {
    let _one = ca.account.lock().await;
    let (mut file, key) = match read(ca).await? {
        Some(known) => known,
        None => {
            let made = new(ca)?;
            write(ca, &made.0).await?;
            made
        }
    };
    if let Some(id) = &file.id {
        return Ok((id.clone(), key));
    }
    let id = register(ca, session, directory, &key).await?;
    file.id = Some(id.clone());
    write(ca, &file).await?;
    tracing::info!(authority = ca.name, account = id, "there is an account now");
    Ok((id, key))
}

/// Tells the authority of the key, and returns the account's URL.
async fn register(
    ca: &Ca,
    session: &Session,
    directory: &Directory,
    key: &AccountKey,
) -> Result<String, Failure> {
    let step = "making an account";
    let url = &directory.new_account;
    // No contact: nobody's address is needed, or given.
    let mut payload = json!({"termsOfServiceAgreed": true});
    if let Some(eab) = &ca.config.eab {
        let mac = mac_key(&eab.key).await?;
        payload["externalAccountBinding"] = key.bound_to(&eab.kid, &mac, url);
    } else if directory.meta.external_account_required {
        return Err(Failure::new(
            Outcome::Refused,
            "it wants an account of its own kind first: get one there, and name it by `eab` in its [[acme]]",
        ));
    }
    let mut nonce = nonce(session, directory).await?;
    for _ in 0..MOST_NONCES {
        let signed = key.signed(url, &nonce, &payload);
        let signed = signed.ok_or_else(|| Failure::new(Outcome::Ours, "signing failed"))?;
        let answer = session.post(url, signed).await;
        let answer = answer.map_err(|error| Failure::of_http(&error, step))?;
        let status = answer.status();
        if status.is_success() {
            let id = answer.headers().get(http::header::LOCATION);
            let id = id.and_then(|id| id.to_str().ok()).map(str::to_owned);
            return id.ok_or_else(|| Failure::of_status(status.as_u16(), step));
        }
        let problem: Option<Problem> = serde_json::from_slice(answer.body()).ok();
        let mut failure = match &problem {
            Some(problem) if failure::kind(problem) == Some("badNonce") => {
                nonce = match fresh(answer.headers()) {
                    Some(fresh) => fresh,
                    None => self::nonce(session, directory).await?,
                };
                continue;
            }
            Some(problem) => Failure::of_problem(problem, status.as_u16(), step),
            None => Failure::of_status(status.as_u16(), step),
        };
        failure.retry_after = session.last().retry_after;
        return Err(failure);
    }
    let text = format!("{step}: it refused {MOST_NONCES} nonces of its own");
    Err(Failure::new(Outcome::Down, text))
}

async fn nonce(session: &Session, directory: &Directory) -> Result<String, Failure> {
    let step = "asking for a nonce";
    let answer = session.head(&directory.new_nonce).await;
    let answer = answer.map_err(|error| Failure::of_http(&error, step))?;
    let status = answer.status().as_u16();
    fresh(answer.headers()).ok_or_else(|| Failure::of_status(status, step))
}

fn fresh(headers: &http::HeaderMap) -> Option<String> {
    let nonce = headers.get("replay-nonce")?.to_str().ok()?;
    Some(nonce.to_owned())
}

/// The MAC key of an external account.
async fn mac_key(path: &std::path::Path) -> Result<Vec<u8>, Failure> {
    let shown = path.display();
    let text = tokio::fs::read_to_string(path).await.map_err(|error| {
        let text = format!("cannot read {shown}, the key of the external account: {error}");
        Failure::new(Outcome::Ours, text)
    })?;
    let key = jws::unbase64(&text).filter(|key| !key.is_empty());
    key.ok_or_else(|| {
        let text = format!("{shown} is no key of an external account: wanted base64url");
        Failure::new(Outcome::Ours, text)
    })
}

fn new(ca: &Ca) -> Result<(File, AccountKey), Failure> {
    let key = AccountKey::generate();
    let key = key.ok_or_else(|| Failure::new(Outcome::Ours, "no account key could be made"))?;
    let now = std::time::SystemTime::now().duration_since(UNIX_EPOCH);
    let file = File {
        directory: ca.config.directory.clone(),
        id: None,
        key: jws::base64(key.pkcs8()),
        made: now.unwrap_or_default().as_secs(),
    };
    Ok((file, key))
}

async fn read(ca: &Ca) -> Result<Option<(File, AccountKey)>, Failure> {
    let name = file_name(ca);
    let content = ca.store.read(&name).await.map_err(|error| ours(&error))?;
    let Some(content) = content else {
        return Ok(None);
    };
    let file = serde_json::from_slice::<File>(&content).ok();
    let both = file.and_then(|file| {
        let key = jws::unbase64(&file.key)?;
        Some((file, AccountKey::read(&key)?))
    });
    if both.is_none() {
        tracing::error!(
            file = name,
            "the account is damaged: it is set aside, and another is made"
        );
        let aside = format!("{name}.bad");
        ca.store
            .write(&aside, &content)
            .await
            .map_err(|error| ours(&error))?;
    }
    Ok(both)
}

async fn write(ca: &Ca, file: &File) -> Result<(), Failure> {
    // Strings and numbers always become JSON.
    let text = serde_json::to_vec_pretty(file).unwrap_or_default();
    let written = ca.store.write(&file_name(ca), &text).await;
    written.map_err(|error| ours(&error))
}

fn ours(error: &dyn std::error::Error) -> Failure {
    Failure::new(Outcome::Ours, causes::chain(error))
}

fn file_name(ca: &Ca) -> String {
    let mut hash = XxHash3_64::new();
    hash.write(ca.config.directory.as_bytes());
    if let Some(eab) = &ca.config.eab {
        hash.write_u8(0xff);
        hash.write(eab.kid.as_bytes());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let host: String = ca
        .name
        .chars()
        .map(|c| if plain(c) { c } else { '_' })
        .take(100)
        .collect();
    format!("acme/accounts/{host}-{:016x}.json", hash.finish())
}

/// An authority that rejects one nonce in five is to be lived with.
const MOST_NONCES: usize = 16;
