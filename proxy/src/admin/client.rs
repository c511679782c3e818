//! The commands' end of the admin API.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::fetch::{Answer, Wish};
use super::{Done, DrainRequest, PurgeRequest, Purged, Refused, UpgradeRequest};
use crate::certs::{AgreeRequest, Form, NamesRequest, Overview, Trial};
use crate::status::Status;

/// Why a command got no answer, or not the one it wanted.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "no sovereign-proxy answers on {}: is it running? Start it with `sovereign-proxy run`, \
         or name its socket with --admin",
        path.display()
    )]
    Absent {
        /// The socket.
        path: PathBuf,
    },
    /// The socket belongs to another user.
    #[error(
        "{} may not be opened by this user: run the command as the user that runs sovereign-proxy",
        path.display()
    )]
    Forbidden {
        /// The socket.
        path: PathBuf,
    },
    /// The connection could not be made, for another reason.
    #[error("connecting to {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// What answers does not speak the admin API.
    #[error("talking to {}", path.display())]
    Exchange {
        /// The socket.
        path: PathBuf,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The daemon did not answer in time.
    #[error("{} did not answer within {} s", path.display(), limit.as_secs())]
    Silent {
        /// The socket.
        path: PathBuf,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The daemon said no; the text is its own.
    #[error("{0}")]
    Refused(String),
}

/// A daemon to talk to. Each call is a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    /// How long an answer is waited for.
    limit: Duration,
}

impl Client {
    /// The daemon behind that socket; nothing is opened yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            limit: LIMIT,
        }
    }

    fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET /status`.
    pub async fn status(&self) -> Result<Status, ClientError> {
        let body = self.call(Method::GET, "/status", Bytes::new()).await?;
        self.parse(&body)
    }

    /// `GET /metrics`.
    pub async fn metrics(&self) -> Result<String, ClientError> {
        let body = self.call(Method::GET, "/metrics", Bytes::new()).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// `POST /reload`; what was done, in words.
    pub async fn reload(&self) -> Result<String, ClientError> {
        self.change("/reload", &()).await
    }

    /// `POST /upgrade`; what was done, in words.
    pub async fn upgrade(&self, what: &UpgradeRequest) -> Result<String, ClientError> {
        self.change("/upgrade", what).await
    }

    /// `POST /drain`; what was done, in words.
    pub async fn drain(&self, deadline: Option<Duration>) -> Result<String, ClientError> {
        let deadline_seconds = deadline.map(|deadline| deadline.as_secs_f64());
        self.change("/drain", &DrainRequest { deadline_seconds })
            .await
    }

    /// `POST /purge`; how much was purged, also in words.
    pub async fn purge(&self, what: &PurgeRequest) -> Result<Purged, ClientError> {
        self.post("/purge", what).await
    }

    /// `GET /certs`.
    pub async fn certs(&self) -> Result<Overview, ClientError> {
        let body = self.call(Method::GET, "/certs", Bytes::new()).await?;
        self.parse(&body)
    }

    /// `POST /certs/renew`; what was done, in words. Takes as long as the orders do.
    pub async fn renew(&self, names: Vec<String>) -> Result<String, ClientError> {
        let patient = self.clone().within(ORDERS);
        patient
            .change("/certs/renew", &NamesRequest { names })
            .await
    }

    /// `POST /certs/dry-run`; how each went. Takes as long as the orders do.
    pub async fn dry_run(&self, names: Vec<String>) -> Result<Vec<Trial>, ClientError> {
        let patient = self.clone().within(ORDERS);
        patient
            .post("/certs/dry-run", &NamesRequest { names })
            .await
    }

    /// `POST /certs/agree`; what was done, in words.
    pub async fn agree(&self, directory: String) -> Result<String, ClientError> {
        self.change("/certs/agree", &AgreeRequest { directory })
            .await
    }

    /// `GET /certificates.atom`, or `.ics`.
    pub async fn feed(&self, form: Form) -> Result<String, ClientError> {
        let path = format!("/{}", form.file());
        let body = self.call(Method::GET, &path, Bytes::new()).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// `POST /fetch`; what came.
    pub async fn fetch(&self, wish: &Wish) -> Result<Answer, ClientError> {
        let wish = serde_json::to_vec(wish).map_err(|error| self.exchange(error))?;
        let response = self.call_whole(Method::POST, "/fetch", wish.into()).await?;
        let (parts, body) = response.into_parts();
        Answer::read(parts.headers, body)
            .ok_or_else(|| self.exchange("the answer has no x-fetch-status"))
    }

    async fn change(&self, path: &str, body: &impl Serialize) -> Result<String, ClientError> {
        self.post(path, body).await.map(|Done { message }| message)
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = match serde_json::to_vec(body) {
            Ok(body) if body == b"null" => Bytes::new(),
            Ok(body) => body.into(),
            Err(error) => return Err(self.exchange(error)),
        };
        let answer = self.call(Method::POST, path, body).await?;
        self.parse(&answer)
    }

    async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let response = self.call_whole(method, path, body).await?;
        Ok(response.into_body())
    }

    async fn call_whole(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Bytes>, ClientError> {
        let silent = |_| ClientError::Silent {
            path: self.socket.clone(),
            limit: self.limit,
        };
        tokio::time::timeout(self.limit, self.exchange_one(method, path, body))
            .await
            .map_err(silent)?
    }

    async fn exchange_one(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Bytes>, ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| self.unreachable(error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.exchange(error))?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "sovereign-proxy")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.exchange(error))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| self.exchange(error))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES)
            .collect()
            .await
            .map_err(|error| self.exchange(error))?
            .to_bytes();
        connection.abort();
        if parts.status == StatusCode::OK {
            return Ok(Response::from_parts(parts, body));
        }
        match serde_json::from_slice(&body) {
            Ok(Refused { error }) => Err(ClientError::Refused(error)),
            Err(_) => Err(self.exchange(format!("it answered {}", parts.status))),
        }
    }

    fn parse<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| self.exchange(error))
    }

    fn exchange(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Exchange {
            path: self.socket.clone(),
            source: source.into(),
        }
    }

    fn unreachable(&self, source: io::Error) -> ClientError {
        let path = self.socket.clone();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::Absent { path }
            }
            io::ErrorKind::PermissionDenied => ClientError::Forbidden { path },
            _ => ClientError::Connect { path, source },
        }
    }
}

/// Longer than an upgrade takes that fails at its own deadline.
const LIMIT: Duration = Duration::from_secs(60);
/// Many orders, of five minutes each at the most, some at a time.
const ORDERS: Duration = Duration::from_secs(60 * 60);
/// Far over the metrics of a proxy with thousands of sites.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;
