//! Calls to an etcd through its JSON gateway, which every member offers beside gRPC: bounded answers,
//! one deadline, members in turn. A gRPC client would need `protoc` on every machine that builds this.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sovereign_config::model;

use super::connect::{Connection, Endpoint, Trust};
use crate::causes;

/// Why a call was in vain, in the operator's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(super) struct Trouble {
    pub(super) text: String,
    pub(super) kind: Kind,
}

/// What kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The member does not answer, or cannot: another may.
    Away,
    /// It says no.
    Refused,
    /// We are not let in with the word we have: a new one may help.
    Stranger,
    /// The answer is larger than anything of ours.
    TooLarge,
    /// Something is wrong on this side.
    Here,
}

/// The members of one etcd.
#[derive(Debug)]
pub(super) struct Gateway {
    endpoints: Vec<String>,
    trust: Trust,
    user: Option<(String, PathBuf)>,
    /// Which member is asked first: the one that answered last.
    first: AtomicUsize,
    /// A connection without a request, and whose it is.
    idle: Mutex<Option<(usize, Connection)>>,
    token: Mutex<Option<HeaderValue>>,
}

impl Gateway {
    /// Nothing is opened yet.
    pub(super) fn new(config: &model::Etcd) -> Self {
        Self {
            endpoints: config.endpoints.clone(),
            trust: Trust {
                roots: config.roots.clone(),
                identity: config.identity.clone(),
            },
            user: config.user.clone(),
            first: AtomicUsize::new(0),
            idle: Mutex::default(),
            token: Mutex::default(),
        }
    }

    /// The members, as the operator wrote them.
    pub(super) fn describe(&self) -> String {
        self.endpoints.join(", ")
    }

    /// One call, answered within [`DEADLINE`]. It may be made more than once: what is asked must
    /// stand that.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<T, Trouble> {
        let answer = tokio::time::timeout(DEADLINE, self.known(path, body)).await;
        answer.unwrap_or_else(|_| Err(Trouble::away(silent(DEADLINE))))
    }

    /// A call by a user that the etcd knows.
    async fn known<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, Trouble> {
        if self.user.is_some() && self.token.lock().is_none() {
            self.introduce().await?;
        }
        match self.in_turn(path, body).await {
            Err(trouble) if trouble.kind == Kind::Stranger && self.user.is_some() => {
                self.introduce().await?;
                self.in_turn(path, body).await
            }
            answer => answer,
        }
    }

    /// Gets the token of a session.
    async fn introduce(&self) -> Result<(), Trouble> {
        let Some((name, path)) = &self.user else {
            return Ok(());
        };
        self.token.lock().take();
        let password = tokio::fs::read_to_string(path)
            .await
            .map_err(|error| Trouble::here(format!("reading {}: {error}", path.display())))?;
        let body = json!({ "name": name, "password": password.trim_end_matches(['\r', '\n']) });
        let Token { token } = self.in_turn("/v3/auth/authenticate", &body).await?;
        let mut token = HeaderValue::try_from(token)
            .map_err(|_| Trouble::away("the token of the session is no field value".into()))?;
        token.set_sensitive(true);
        *self.token.lock() = Some(token);
        Ok(())
    }

    /// Asks the members until one answers.
    async fn in_turn<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, Trouble> {
        let members = self.endpoints.len();
        // Several share the deadline, so that one which is silent does not use it up.
        let each = DEADLINE / u32::try_from(members.clamp(1, 3)).unwrap_or(1);
        let mut last = Trouble::here("no member of the etcd is named".into());
        for _ in 0..members {
            let member = self.first.load(Ordering::Relaxed) % members;
            let answer = tokio::time::timeout(each, self.ask(member, path, body)).await;
            let answer = answer.unwrap_or_else(|_| Err(Trouble::away(silent(each))));
            let answer = answer.and_then(|answer| {
                let parsed = serde_json::from_slice(&answer);
                parsed.map_err(|_| Trouble::away("the answer is not what an etcd says".into()))
            });
            match answer.map_err(|trouble| trouble.of(&self.endpoints[member])) {
                Err(trouble) if matches!(trouble.kind, Kind::Away | Kind::TooLarge) => {
                    last = trouble;
                    self.first.store(member + 1, Ordering::Relaxed);
                }
                answer => return answer,
            }
        }
        Err(last)
    }

    /// One exchange with one member. A kept connection may have been closed meanwhile: then once
    /// more with a new one.
    async fn ask(&self, member: usize, path: &str, body: &Value) -> Result<Bytes, Trouble> {
        let endpoint = Endpoint::parse(&self.endpoints[member])?;
        let kept = self.idle.lock().take().filter(|(of, _)| *of == member);
        if let Some((_, mut connection)) = kept
            && connection.ready().await.is_ok()
        {
            match self.exchange(&endpoint, &mut connection, path, body).await {
                Err(trouble) if trouble.kind == Kind::Away => {}
                answer => return self.keep(member, connection, answer),
            }
        }
        let mut connection = endpoint.connect(&self.trust).await?;
        let answer = self.exchange(&endpoint, &mut connection, path, body).await;
        self.keep(member, connection, answer)
    }

    fn keep<T>(
        &self,
        member: usize,
        connection: Connection,
        answer: Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        if answer.is_ok() {
            *self.idle.lock() = Some((member, connection));
        }
        answer
    }

    async fn exchange(
        &self,
        endpoint: &Endpoint,
        connection: &mut Connection,
        path: &str,
        body: &Value,
    ) -> Result<Bytes, Trouble> {
        let mut request = Request::post(path)
            .header(HOST, endpoint.authority())
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = &*self.token.lock() {
            request = request.header(AUTHORIZATION, token.clone());
        }
        let request = request
            .body(Full::from(body.to_string()))
            .map_err(|error| Trouble::here(error.to_string()))?;
        let response = connection.send_request(request).await;
        let response = response.map_err(|error| Trouble::away(causes::chain(&error)))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MOST_ANSWER)
            .collect()
            .await;
        let body = body.map_err(
            |error| match error.is::<http_body_util::LengthLimitError>() {
                true => Trouble::new(
                    Kind::TooLarge,
                    format!("the answer has more than {MOST_ANSWER} bytes"),
                ),
                false => Trouble::away(error.to_string()),
            },
        )?;
        let body = body.to_bytes();
        match status {
            StatusCode::OK => Ok(body),
            status => Err(refusal(status, &body)),
        }
    }
}

impl Trouble {
    fn new(kind: Kind, text: String) -> Self {
        Self { text, kind }
    }

    /// The member does not answer.
    pub(super) fn away(text: String) -> Self {
        Self::new(Kind::Away, text)
    }

    /// Something is wrong on this side.
    pub(super) fn here(text: String) -> Self {
        Self::new(Kind::Here, text)
    }

    fn of(self, url: &str) -> Self {
        match self.kind {
            Kind::Here => self,
            _ => Self::new(self.kind, format!("{url}: {}", self.text)),
        }
    }
}

/// What an answer other than 200 means.
fn refusal(status: StatusCode, body: &[u8]) -> Trouble {
    let Ok(Refusal {
        error: Some(error),
        code,
    }) = serde_json::from_slice(body)
    else {
        let text = match status {
            // Its gateway would take the name for nobody's, and says so in words that help nobody.
            StatusCode::BAD_REQUEST if body.starts_with(b"CommonName") => "it refuses client certificates with a common name (CN) at its JSON gateway: give the proxies one whose subject has none, as O=proxy, and a user where users are told apart".into(),
            StatusCode::NOT_FOUND => "its JSON gateway does not answer: it must be turned on (--enable-grpc-gateway), version 3.4 or newer".into(),
            status => format!("it answers {status}, which no etcd does"),
        };
        return Trouble::away(text);
    };
    // A text of the other side, bounded and in one line.
    let said: String = error
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect();
    match code {
        // UNAVAILABLE, DEADLINE_EXCEEDED: no leader, no quorum, too slow.
        14 | 4 => Trouble::away(said),
        // UNAUTHENTICATED, and INVALID_ARGUMENT where no word was given at all.
        16 => Trouble::new(Kind::Stranger, said),
        3 if said.contains("user name") || said.contains("auth") => Trouble::new(
            Kind::Stranger,
            format!("{said}: name `user` and `password`, and see that they are right"),
        ),
        7 => Trouble::new(
            Kind::Refused,
            format!(
                "{said}: the user must be allowed to read and write everything below the prefix"
            ),
        ),
        _ => Trouble::new(Kind::Refused, said),
    }
}

fn silent(limit: Duration) -> String {
    format!("no answer within {} s", limit.as_secs())
}

/// Bytes as the gateway writes them.
pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// What the gateway wrote as bytes; `None`: it is no base64.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text).ok()
}

#[derive(Debug, Deserialize)]
struct Token {
    token: String,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    error: Option<String>,
    #[serde(default)]
    code: u32,
}

/// How long a call may take, over all members.
pub(super) const DEADLINE: Duration = Duration::from_secs(3);
/// A value of the most bytes, as base64, with what stands around it; or a page of keys.
const MOST_ANSWER: usize = 2 << 20;
