//! What the admin API does to certificates of authorities. Apart from the other paths, since orders
//! take minutes.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Body;

use super::server::{Admin, BODY_BYTES, BoxError, Refusal, done, finish, json, read};
use crate::certs::{AgreeRequest, NamesRequest};

/// Goes on where the client goes away: what was begun is finished.
pub(super) async fn renew(
    admin: &Arc<Admin>,
    body: impl Body<Data: Send, Error: Into<BoxError>>,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let NamesRequest { names } = read(body, BODY_BYTES).await?;
    let turn = admin.orders.clone().try_acquire_owned();
    let turn = turn.map_err(|_| Refusal::Ordering)?;
    let control = admin.control.clone();
    finish(tokio::spawn(async move {
        let outcome = control.renew(&names).await;
        drop(turn);
        outcome.map(done)
    }))
    .await
}

/// Ends with the client that asked: nothing of it is kept.
pub(super) async fn dry_run(
    admin: &Arc<Admin>,
    body: impl Body<Data: Send, Error: Into<BoxError>>,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let NamesRequest { names } = read(body, BODY_BYTES).await?;
    let turn = admin.orders.clone().try_acquire_owned();
    let _turn = turn.map_err(|_| Refusal::Ordering)?;
    let trials = admin.control.dry_run(&names).await;
    trials
        .map(|trials| json(StatusCode::OK, &trials))
        .map_err(Refusal::Control)
}

pub(super) async fn agree(
    admin: &Arc<Admin>,
    body: impl Body<Data: Send, Error: Into<BoxError>>,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let AgreeRequest { directory } = read(body, BODY_BYTES).await?;
    if directory.is_empty() {
        return Err(Refusal::Body(
            "directory says whose terms are agreed to".into(),
        ));
    }
    let control = admin.control.clone();
    finish(tokio::spawn(async move {
        control.agree(&directory).await.map(done)
    }))
    .await
}
