//! One order: a certificate for some names from one authority (RFC 8555 section 7.4).
//!
//! ```text
//! begin -> authorizations -> present -> ready -> poll -> finalize -> certificate
//! ```
//!
//! Whatever fails, the answers to challenges are taken away again, and what is pending at the authority is
//! ended.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, Identifier, NewOrder, Order, OrderStatus,
};
use sovereign_config::model::{Challenge, KeyKind};
use tokio::time::{Instant, sleep, timeout};

use super::account;
use super::ca::Ca;
use super::challenge::{Options, Prover};
use super::failure::{Failure, Outcome};
use super::http::Session;
use super::jws;
use super::proof::{Proof, authorizations, present, proofs, ready, why_invalid};
use crate::tls::kept::Facts;
use crate::tls::wanted::Wanted;

/// What is asked of an authority.
pub(super) struct Asked<'a> {
    pub ca: &'a Ca,
    pub wanted: &'a Wanted,
    /// The certificate that this one follows, where the same authority issued it.
    pub replaces: Option<&'a Facts>,
    /// The key that stays, PEM; `None`: a new one.
    pub pinned: Option<&'a str>,
    pub prover: &'a Arc<Prover>,
    /// What can be tried for each name.
    pub ways: &'a HashMap<String, Options>,
    /// What has been tried already, and did not work.
    pub tried: &'a HashSet<(String, Challenge)>,
    /// How long the authority may make no progress.
    pub patience: Duration,
}

/// What an authority issued; not looked at yet.
pub(super) struct Obtained {
    /// PEM, the leaf first.
    pub chain: String,
    /// PEM.
    pub key: String,
    /// How control was proved; `None`: the authority still knew.
    pub challenge: Option<Challenge>,
    /// The profile that was asked for.
    pub profile: Option<String>,
}

/// Asks for a certificate.
pub(super) async fn obtain(asked: &Asked<'_>) -> Result<Obtained, Failure> {
    let begun = timeout(BEGIN, begin(asked)).await;
    let silent = |_| Failure::new(Outcome::Hangs, "it did not begin an order within 20 s");
    let (session, account, mut order) = begun.map_err(silent)??;
    let went = timeout(ORDER, go_on(asked, &session, &account, &mut order)).await;
    let endless = |_| Failure::new(Outcome::Hangs, "the order came to no end within 5 minutes");
    let went = went.map_err(endless).and_then(|went| went);
    if let Err(failure) = &went
        && !failure.outcome.is_the_authoritys()
    {
        let _ = timeout(ABANDON, abandon(&mut order)).await;
    }
    went
}

/// Its session, the account's URL, and the order.
async fn begin(asked: &Asked<'_>) -> Result<(Session, String, Order), Failure> {
    let (session, directory) = asked.ca.open().await?;
    if let Some(profile) = profile(asked)
        && !directory.meta.profiles.contains_key(&profile)
    {
        let offered: Vec<_> = directory.meta.profiles.keys().cloned().collect();
        let offered = match offered.is_empty() {
            true => "none".to_owned(),
            false => offered.join(", "),
        };
        let text = format!("it has no profile {profile:?}; it offers {offered}");
        return Err(Failure::new(Outcome::Refused, text));
    }
    let account = account::account(asked.ca, &session, &directory).await?;
    let replaces = asked.replaces.filter(|_| directory.renewal_info.is_some());
    let begun = new_order(asked, &session, &account, replaces).await;
    let begun = match begun {
        Err(failure) if failure.kind.as_deref() == Some("accountDoesNotExist") => {
            account::forget(asked.ca).await;
            let account = account::account(asked.ca, &session, &directory).await?;
            new_order(asked, &session, &account, replaces).await
        }
        begun => begun,
    };
    Ok((session, account.id().to_owned(), begun?))
}

async fn new_order(
    asked: &Asked<'_>,
    session: &Session,
    account: &Account,
    replaces: Option<&Facts>,
) -> Result<Order, Failure> {
    let identifiers: Vec<Identifier> = asked.wanted.names.iter().map(|n| identifier(n)).collect();
    let profile = profile(asked);
    let order = || {
        let mut order = NewOrder::new(&identifiers);
        if let Some(profile) = &profile {
            order = order.profile(profile);
        }
        order
    };
    let follows = replaces.filter(|facts| !facts.authority_key_id.is_empty());
    if let Some(facts) = follows {
        let id = CertificateIdentifier {
            authority_key_identifier: jws::base64(&facts.authority_key_id).into(),
            serial: jws::base64(&facts.serial).into(),
        };
        let order = order().replaces(id);
        let begun = despite_nonces!(account.new_order(&order));
        let failure = match begun {
            Ok(order) => return Ok(order),
            Err(error) => Failure::of(error, ORDERING, session),
        };
        // It was replaced already, or the authority does not remember it, which some call an error of
        // their own: then it is a first one.
        let again = match failure.outcome {
            Outcome::Refused | Outcome::Garbled => true,
            Outcome::Down => failure.kind.is_some(),
            _ => false,
        };
        if !again || failure.kind.as_deref() == Some("accountDoesNotExist") {
            return Err(failure);
        }
        tracing::info!(
            authority = asked.ca.name,
            "ordering without `replaces`: {failure}"
        );
    }
    let order = order();
    let begun = despite_nonces!(account.new_order(&order));
    begun.map_err(|error| Failure::of(error, ORDERING, session))
}

async fn go_on(
    asked: &Asked<'_>,
    session: &Session,
    account: &str,
    order: &mut Order,
) -> Result<Obtained, Failure> {
    let failed = |error| Failure::of(error, "asking what is to be proved", session);
    despite_nonces!(authorizations(order)).map_err(failed)?;
    let proofs = proofs(asked, session, order).await?;
    let challenge = proofs.first().map(|proof| proof.challenge);
    // Dropped at the end, which takes the answers away.
    let _puts = present(asked, account, &proofs).await?;
    ready(session, order, &proofs).await?;
    until_ready(asked, session, order, &proofs).await?;
    let (csr, key) = request(asked).await?;
    let failed = |error| Failure::of(error, "asking for the certificate", session);
    despite_nonces!(order.finalize_csr(&csr)).map_err(failed)?;
    let chain = certificate(asked, session, order).await?;
    Ok(Obtained {
        chain,
        key,
        challenge,
        profile: profile(asked),
    })
}

/// Waits until the authority is convinced, or is not.
async fn until_ready(
    asked: &Asked<'_>,
    session: &Session,
    order: &mut Order,
    proofs: &[Proof],
) -> Result<(), Failure> {
    let failed = |error| Failure::of(error, "asking how the order stands", session);
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match order.state().status {
            OrderStatus::Pending => {}
            OrderStatus::Invalid => return Err(why_invalid(asked, session, order, proofs).await),
            OrderStatus::Ready | OrderStatus::Processing | OrderStatus::Valid => return Ok(()),
        }
        if begun.elapsed() > asked.patience {
            let text = format!("it did not look within {} s", asked.patience.as_secs());
            return Err(Failure::new(Outcome::Hangs, text));
        }
        sleep(next_pause(&mut pause, session)).await;
        despite_nonces!(order.refresh()).map_err(failed)?;
    }
}

/// Waits for the certificate, and fetches it.
async fn certificate(
    asked: &Asked<'_>,
    session: &Session,
    order: &mut Order,
) -> Result<String, Failure> {
    let failed = |error| Failure::of(error, "fetching the certificate", session);
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        // Still "ready": an authority may take a moment to begin.
        if order.state().status == OrderStatus::Ready {
            despite_nonces!(order.refresh()).map_err(failed)?;
        }
        if order.state().status != OrderStatus::Ready
            && let Some(chain) = despite_nonces!(order.certificate()).map_err(failed)?
        {
            return Ok(chain);
        }
        if begun.elapsed() > asked.patience {
            let text = format!("it did not issue within {} s", asked.patience.as_secs());
            return Err(Failure::new(Outcome::Hangs, text));
        }
        sleep(next_pause(&mut pause, session)).await;
    }
}

/// A key and the request for its certificate, DER and PEM. RSA keys take a moment to make.
async fn request(asked: &Asked<'_>) -> Result<(Vec<u8>, String), Failure> {
    let (names, kind) = (asked.wanted.names.clone(), asked.wanted.key);
    let pinned = asked.pinned.map(str::to_owned);
    let made = tokio::task::spawn_blocking(move || {
        let algorithm = match kind {
            KeyKind::Ecdsa => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyKind::Rsa => &rcgen::PKCS_RSA_SHA256,
        };
        let pinned = pinned.and_then(|pem| rcgen::KeyPair::from_pem(&pem).ok());
        let key = match pinned.filter(|key| key.algorithm() == algorithm) {
            Some(key) => key,
            None => rcgen::KeyPair::generate_for(algorithm)?,
        };
        let mut params = rcgen::CertificateParams::new(names)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        let csr = params.serialize_request(&key)?;
        Ok::<_, rcgen::Error>((csr.der().to_vec(), key.serialize_pem()))
    });
    let ours = |text: String| Failure::new(Outcome::Ours, format!("making a key: {text}"));
    let made = made.await.map_err(|error| ours(error.to_string()))?;
    made.map_err(|error| ours(error.to_string()))
}

/// Ends what is pending at the authority: it counts them.
async fn abandon(order: &mut Order) {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else {
            return;
        };
        if authorization.status == AuthorizationStatus::Pending {
            let _ = despite_nonces!(authorization.deactivate());
        }
    }
}

/// The authority's own pace, within reason; else a little longer each time.
fn next_pause(pause: &mut Duration, session: &Session) -> Duration {
    let asked = session.last().retry_after;
    let next = asked.map_or(*pause, |asked| asked.clamp(FIRST_PAUSE, LONGEST_PAUSE));
    *pause = pause.mul_f32(1.5).min(LONGEST_OWN_PAUSE);
    next
}

fn profile(asked: &Asked<'_>) -> Option<String> {
    let own = asked.wanted.profile.clone();
    own.or_else(|| asked.ca.config.profile.clone())
}

fn identifier(name: &str) -> Identifier {
    match name.parse() {
        Ok(ip) => Identifier::Ip(ip),
        Err(_) => Identifier::Dns(name.to_owned()),
    }
}

const ORDERING: &str = "asking for an order";
/// Directory, account and order.
const BEGIN: Duration = Duration::from_secs(20);
const ORDER: Duration = Duration::from_secs(5 * 60);
const ABANDON: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_OWN_PAUSE: Duration = Duration::from_secs(3);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
