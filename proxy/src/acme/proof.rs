//! How control of an order's names is proved: a challenge for each, its answer in place, and why one did not
//! work.

use std::sync::Arc;

use instant_acme::{AuthorizationStatus, ChallengeType, Error, Order};
use sovereign_config::model::Challenge;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::answers::Put;
use super::challenge::{ProveError, Prover};
use super::failure::{Failure, Outcome, words};
use super::http::Session;
use super::order::Asked;
use crate::causes;

/// Has the state of every authorization fetched. What is there is not fetched again.
pub(super) async fn authorizations(order: &mut Order) -> Result<(), Error> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        authorization?;
    }
    Ok(())
}

/// How control of one name is proved.
#[derive(Clone)]
pub(super) struct Proof {
    pub name: String,
    pub challenge: Challenge,
    token: String,
    key_authorization: String,
    digest: Vec<u8>,
    /// The names of the authority, for dns-persist-01.
    issuers: Vec<String>,
}

/// A challenge for every name whose control is not proved yet.
pub(super) async fn proofs(
    asked: &Asked<'_>,
    session: &Session,
    order: &mut Order,
) -> Result<Vec<Proof>, Failure> {
    let mut proofs = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else {
            continue;
        };
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let name = authorization.identifier().to_string();
        let offered: Vec<Challenge> = authorization
            .challenges
            .iter()
            .filter_map(|challenge| known(&challenge.r#type))
            .collect();
        let challenge = choose(asked, &name, &offered)?;
        let Some(handle) = authorization.challenge(kind_of(challenge)) else {
            continue;
        };
        let answer = handle.key_authorization();
        proofs.push(Proof {
            issuers: session.issuers(&handle.url),
            token: handle.token.clone(),
            key_authorization: answer.as_str().to_owned(),
            digest: answer.digest().as_ref().to_vec(),
            challenge,
            name,
        });
    }
    Ok(proofs)
}

/// The first challenge that can work, that the authority offers, and that has not failed yet.
fn choose(asked: &Asked<'_>, name: &str, offered: &[Challenge]) -> Result<Challenge, Failure> {
    let options = asked.ways.get(name);
    let usable = options
        .map(|options| options.usable.as_slice())
        .unwrap_or_default();
    let fresh = |way: &&Challenge| {
        offered.contains(way) && !asked.tried.contains(&(name.to_owned(), **way))
    };
    usable.iter().find(fresh).copied().ok_or_else(|| {
        let of = |ways: &[Challenge]| {
            let names: Vec<_> = ways
                .iter()
                .map(|way| super::history::challenge_name(*way))
                .collect();
            match names.is_empty() {
                true => "nothing that is known here".to_owned(),
                false => names.join(", "),
            }
        };
        let text = format!(
            "for {name} it offers {}, and what can work here is {}",
            of(offered),
            of(usable)
        );
        Failure::new(Outcome::Refused, text)
    })
}

/// Puts every answer where the authority will look for it. What was put is taken away when it is dropped.
pub(super) async fn present(
    asked: &Asked<'_>,
    account: &str,
    proofs: &[Proof],
) -> Result<Vec<Put>, Failure> {
    let at_once = Arc::new(Semaphore::new(PRESENTED_AT_ONCE));
    let mut tasks = JoinSet::new();
    for proof in proofs {
        let (prover, at_once) = (asked.prover.clone(), at_once.clone());
        let (proof, account) = (proof.clone(), account.to_owned());
        tasks.spawn(async move {
            let _turn = at_once.acquire().await;
            let put = put(&prover, &account, &proof).await;
            put.map_err(|error| {
                let mut failure = Failure::new(Outcome::Unproved, causes::chain(&error));
                failure.challenge = Some((proof.name, proof.challenge));
                failure
            })
        });
    }
    let mut puts = Vec::with_capacity(proofs.len());
    while let Some(put) = tasks.join_next().await {
        puts.extend(put.map_err(|error| Failure::new(Outcome::Ours, error.to_string()))??);
    }
    Ok(puts)
}

/// Puts one answer in its place; `None`: it stays there.
async fn put(prover: &Prover, account: &str, proof: &Proof) -> Result<Option<Put>, ProveError> {
    let Proof {
        name, challenge, ..
    } = proof;
    if *challenge == Challenge::DnsPersist01 {
        prover.persist(name, &proof.issuers, account).await?;
        return Ok(None);
    }
    let (token, answer) = (&proof.token, &proof.key_authorization);
    let put = prover.present(name, *challenge, token, answer, &proof.digest);
    Ok(Some(put.await?))
}

/// Tells the authority to look.
pub(super) async fn ready(
    session: &Session,
    order: &mut Order,
    proofs: &[Proof],
) -> Result<(), Failure> {
    let failed = |error| Failure::of(error, "telling it to look", session);
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(failed)?;
        let name = authorization.identifier().to_string();
        let Some(proof) = proofs.iter().find(|proof| proof.name == name) else {
            continue;
        };
        if let Some(mut challenge) = authorization.challenge(kind_of(proof.challenge)) {
            despite_nonces!(challenge.set_ready()).map_err(failed)?;
        }
    }
    Ok(())
}

/// Which challenge did not work, in the operator's words.
pub(super) async fn why_invalid(
    asked: &Asked<'_>,
    session: &Session,
    order: &mut Order,
    proofs: &[Proof],
) -> Failure {
    let whole = order.state().error.as_ref().map(words);
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else {
            continue;
        };
        if let Err(error) = despite_nonces!(authorization.refresh()) {
            return Failure::of(error, "asking what did not work", session);
        }
        if authorization.status != AuthorizationStatus::Invalid {
            continue;
        }
        let name = authorization.identifier().to_string();
        let proof = proofs.iter().find(|proof| proof.name == name);
        let said = authorization
            .challenges
            .iter()
            .find_map(|one| one.error.as_ref());
        let said = said.map(words).unwrap_or_else(|| "no reason".to_owned());
        let Some(proof) = proof else { continue };
        let text = asked.prover.explain(&name, proof.challenge, &said).await;
        let mut failure = Failure::new(Outcome::Unproved, text);
        failure.challenge = Some((name, proof.challenge));
        return failure;
    }
    let text = whole.unwrap_or_else(|| "no reason".to_owned());
    Failure::new(
        Outcome::Refused,
        format!("it ended the order: it said {text:?}"),
    )
}

fn known(kind: &ChallengeType) -> Option<Challenge> {
    match kind {
        ChallengeType::Http01 => Some(Challenge::Http01),
        ChallengeType::TlsAlpn01 => Some(Challenge::TlsAlpn01),
        ChallengeType::Dns01 => Some(Challenge::Dns01),
        ChallengeType::Unknown(name) if name == PERSIST => Some(Challenge::DnsPersist01),
        _ => None,
    }
}

fn kind_of(challenge: Challenge) -> ChallengeType {
    match challenge {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        Challenge::Dns01 => ChallengeType::Dns01,
        Challenge::DnsPersist01 => ChallengeType::Unknown(PERSIST.to_owned()),
    }
}

const PERSIST: &str = "dns-persist-01";
const PRESENTED_AT_ONCE: usize = 16;
