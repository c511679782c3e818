//! The daemon's end of the admin API: paths to calls, and bounds on what a client may take.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{RwLock, Semaphore, watch};
use tokio::task::JoinSet;

use super::fetch::{self, Wish};
use super::purge::MOST_BYTES;
use super::{Control, Done, DrainRequest, PurgeRequest, Refused, UpgradeRequest, certs};
use crate::certs::Form;

/// Answers the admin API until `stop` resolves; then accepts no more, and returns once answers
/// under way are sent.
pub async fn serve(
    listener: UnixListener,
    control: Arc<dyn Control>,
    stop: impl Future<Output = ()> + Send,
) {
    let admin = Arc::new(Admin {
        control,
        changes: Arc::new(Semaphore::new(1)),
        upgrading: Arc::default(),
        purges: Arc::new(Semaphore::new(PURGES)),
        fetches: Semaphore::new(FETCHES),
        orders: Arc::new(Semaphore::new(1)),
    });
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let accepting = async {
        loop {
            // Never closed, so that a slot always comes; without one there is nothing to do.
            let Ok(slot) = slots.clone().acquire_owned().await else {
                return;
            };
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, _)) => {
                    let connection = answer(stream, admin.clone(), stopped.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection to the admin API");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    // Once it is to end, whoever comes is a successor's: not one more is accepted.
    tokio::select! {
        biased;
        () = stop => {}
        () = accepting => {}
    }
    drop(listener);
    stopping.send_replace(true);
    while connections.join_next().await.is_some() {}
}

pub(super) struct Admin {
    pub(super) control: Arc<dyn Control>,
    /// One reload or upgrade at a time.
    changes: Arc<Semaphore>,
    /// Written by an upgrade, read by each purge: the new process must not miss one.
    upgrading: Arc<RwLock<()>>,
    /// Purges at once.
    purges: Arc<Semaphore>,
    /// Room for the bodies of responses that were fetched.
    fetches: Semaphore,
    /// One renewal that somebody asks for, or one dry run, at a time.
    pub(super) orders: Arc<Semaphore>,
}

/// One connection, to its end.
async fn answer(stream: UnixStream, admin: Arc<Admin>, mut stopped: watch::Receiver<bool>) {
    let service = service_fn(move |request| {
        let admin = admin.clone();
        async move { Ok::<_, Infallible>(respond(admin, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let done = tokio::select! {
        done = &mut connection => done,
        () = told_to_stop(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = done {
        tracing::debug!(%error, "a connection to the admin API");
    }
}

async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    // An error is a server that is gone, which is to stop as well.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn respond(admin: Arc<Admin>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    // The match is the table of paths; `INDEX` describes it to a reader.
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let result = match (&method, path.as_str()) {
        (&Method::GET, "/") => Ok(typed(StatusCode::OK, TEXT, INDEX)),
        (&Method::GET, "/status") => Ok(json(StatusCode::OK, &admin.control.status())),
        (&Method::GET, "/metrics") => {
            Ok(typed(StatusCode::OK, PROMETHEUS, admin.control.metrics()))
        }
        (&Method::GET, "/certs") => Ok(json(StatusCode::OK, &admin.control.certs())),
        (&Method::GET, "/certificates.atom") => Ok(feed(&admin, Form::Atom)),
        (&Method::GET, "/certificates.ics") => Ok(feed(&admin, Form::Calendar)),
        (&Method::POST, "/certs/renew") => certs::renew(&admin, request.into_body()).await,
        (&Method::POST, "/certs/dry-run") => certs::dry_run(&admin, request.into_body()).await,
        (&Method::POST, "/certs/agree") => certs::agree(&admin, request.into_body()).await,
        (&Method::POST, "/reload") => reload(&admin).await,
        (&Method::POST, "/upgrade") => upgrade(&admin, request.into_body()).await,
        (&Method::POST, "/drain") => drain(&admin, request.into_body()).await,
        (&Method::POST, "/purge") => purge(&admin, request.into_body()).await,
        (&Method::POST, "/fetch") => page(&admin, request.into_body()).await,
        (_, "/" | "/status" | "/metrics" | "/certs") => Err(Refusal::Method("GET")),
        (_, "/certificates.atom" | "/certificates.ics") => Err(Refusal::Method("GET")),
        (_, "/reload" | "/upgrade" | "/drain" | "/purge" | "/fetch") => {
            Err(Refusal::Method("POST"))
        }
        (_, "/certs/renew" | "/certs/dry-run" | "/certs/agree") => Err(Refusal::Method("POST")),
        _ => Err(Refusal::Path),
    };
    result.unwrap_or_else(Refusal::into_response)
}

fn feed(admin: &Admin, form: Form) -> Response<Full<Bytes>> {
    typed(StatusCode::OK, form.media_type(), admin.control.feed(form))
}

async fn reload(admin: &Arc<Admin>) -> Result<Response<Full<Bytes>>, Refusal> {
    change(admin, |control| async move { control.reload().await }).await
}

async fn upgrade(
    admin: &Arc<Admin>,
    body: impl Body<Data: Send, Error: Into<BoxError>>,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let what: UpgradeRequest = read(body, BODY_BYTES).await?;
    for (name, path) in [("program", &what.program), ("config", &what.config)] {
        if path.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err(Refusal::Body(format!("{name} must be an absolute path")));
        }
    }
    let upgrading = admin.upgrading.clone();
    change(admin, |control| async move {
        // Purges under way end first; others are refused from here on.
        let _alone = upgrading.write_owned().await;
        control.upgrade(what).await
    })
    .await
}

async fn drain(
    admin: &Arc<Admin>,
    body: impl Body<Data: Send, Error: Into<BoxError>>,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let DrainRequest { deadline_seconds } = read(body, BODY_BYTES).await?;
    let deadline = deadline_seconds
        .map(Duration::try_from_secs_f64)
        .transpose()
        .map_err(|error| Refusal::Body(format!("deadline_seconds: {error}")))?;
    // Never refused for another change under way: an operator who drains wants to stop now.
    let control = admin.control.clone();
    let draining = async move { control.drain(deadline).await.map(done) };
    finish(tokio::spawn(draining)).await
}

async fn purge(
    admin: &Arc<Admin>,
    body: impl Body<Data: Send, Error: Into<BoxError>>,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let wanted: PurgeRequest = read(body, PURGE_BYTES).await?;
    // Never closed, so that a turn always comes.
    let turn = admin.purges.clone().acquire_owned().await.ok();
    let what = wanted.check(&admin.control.sites());
    let what = what.map_err(Refusal::Control)?;
    let stays = admin.upgrading.clone().try_read_owned();
    let stays = stays.map_err(|_| Refusal::Upgrading)?;
    let control = admin.control.clone();
    finish(tokio::spawn(async move {
        let done = control.purge(what).await;
        drop((turn, stays));
        done
    }))
    .await
}

/// Ends with the client that asked: nothing changes that others would have to know of.
async fn page(
    admin: &Arc<Admin>,
    body: impl Body<Data: Send, Error: Into<BoxError>>,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let wish: Wish = read(body, BODY_BYTES).await?;
    // Never closed, so that a turn always comes.
    let _turn = admin.fetches.acquire().await;
    let fetched = admin.control.fetch(&wish).await;
    fetched
        .map(|fetched| fetch::response(&wish, fetched))
        .map_err(Refusal::Control)
}

/// Runs one change at a time, to its end even where the client goes away.
async fn change<F>(
    admin: &Arc<Admin>,
    run: impl FnOnce(Arc<dyn Control>) -> F,
) -> Result<Response<Full<Bytes>>, Refusal>
where
    F: Future<Output = Result<String, String>> + Send + 'static,
{
    let turn = admin
        .changes
        .clone()
        .try_acquire_owned()
        .map_err(|_| Refusal::Busy)?;
    let running = run(admin.control.clone());
    finish(tokio::spawn(async move {
        let outcome = running.await;
        drop(turn);
        outcome.map(done)
    }))
    .await
}

pub(super) fn done(message: String) -> Done {
    Done { message }
}

/// The answer to something that runs to its end even where the client goes away.
pub(super) async fn finish<T: Serialize>(
    task: tokio::task::JoinHandle<Result<T, String>>,
) -> Result<Response<Full<Bytes>>, Refusal> {
    match task.await {
        Ok(Ok(answer)) => Ok(json(StatusCode::OK, &answer)),
        Ok(Err(reason)) => Err(Refusal::Control(reason)),
        Err(error) => Err(Refusal::Broken(error.to_string())),
    }
}

/// The body as JSON, of so many bytes at the most; an empty one is the default.
pub(super) async fn read<T: DeserializeOwned + Default>(
    body: impl Body<Data: Send, Error: Into<BoxError>>,
    bytes: usize,
) -> Result<T, Refusal> {
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, bytes).collect());
    let body = match collected.await {
        Err(_) => return Err(Refusal::Slow),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(Refusal::TooLarge(bytes)),
        Ok(Err(error)) => return Err(Refusal::Body(error.to_string())),
        Ok(Ok(body)) => body.to_bytes(),
    };
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&body).map_err(|error| Refusal::Body(error.to_string()))
}

/// Why a request got no 200.
pub(super) enum Refusal {
    Path,
    Method(&'static str),
    Body(String),
    TooLarge(usize),
    Slow,
    Busy,
    Ordering,
    Upgrading,
    Control(String),
    Broken(String),
}

impl Refusal {
    fn into_response(self) -> Response<Full<Bytes>> {
        let (status, error) = match self {
            Self::Path => (
                StatusCode::NOT_FOUND,
                "no such path; GET / lists them".into(),
            ),
            Self::Method(allowed) => {
                let error = format!("this path wants {allowed}");
                let mut response = json(StatusCode::METHOD_NOT_ALLOWED, &Refused { error });
                let allowed = HeaderValue::from_static(allowed);
                response.headers_mut().insert(header::ALLOW, allowed);
                return response;
            }
            Self::Body(error) => (StatusCode::BAD_REQUEST, format!("the body: {error}")),
            Self::TooLarge(bytes) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body has more than {bytes} bytes"),
            ),
            Self::Slow => (
                StatusCode::REQUEST_TIMEOUT,
                format!("the body took longer than {} s", BODY_TIMEOUT.as_secs()),
            ),
            Self::Busy => (
                StatusCode::CONFLICT,
                "another reload or upgrade is under way".into(),
            ),
            Self::Ordering => (
                StatusCode::CONFLICT,
                "another renewal or dry run that was asked for is under way".into(),
            ),
            Self::Upgrading => (
                StatusCode::CONFLICT,
                "an upgrade is under way: purge again when it is done".into(),
            ),
            Self::Control(error) => (StatusCode::UNPROCESSABLE_ENTITY, error),
            Self::Broken(error) => (StatusCode::INTERNAL_SERVER_ERROR, error),
        };
        json(status, &Refused { error })
    }
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(value) {
        Ok(body) => typed(status, "application/json", body),
        Err(error) => typed(StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string()),
    }
}

fn typed(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

const INDEX: &str = "\
The admin API of sovereign-proxy. Answers are JSON; a failure is {\"error\": \"...\"}.

GET  /status    sites, upstreams, certificates, cache, last reload
GET  /metrics   every metric, in Prometheus' text format
GET  /certs     certificates, what is done to keep them up, what happened
GET  /certificates.atom, /certificates.ics
                the same, to be subscribed to
POST /certs/renew    order certificates anew, now; {\"names\": [\"www.a.example\"]} says which
POST /certs/dry-run  the same against the authorities' staging; nothing is kept
POST /certs/agree    agree to an authority's terms: {\"directory\": \"https://...\"}
POST /reload    read the configuration again; on a problem the old one stays
POST /upgrade   replace the running program; {\"program\": \"/path\"} names another one, and
                {\"config\": \"/path\"} the configuration that it reads
POST /drain     stop accepting and end; {\"deadline_seconds\": 30} bounds the wait
POST /purge     make stored responses stale: {\"urls\": [], \"prefixes\": [], \"tags\": [], \"sites\": []};
                with \"hard\": true they are not served once more; beside tags, sites say whose
POST /fetch     a page through the cache; {\"url\": \"https://...\", \"encoding\": \"br\", \"body\": false}
";

const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// A person, a script and a scraper at a time are three.
const CONNECTIONS: usize = 32;
pub(super) const BODY_BYTES: usize = 16 * 1024;
/// In JSON a line of one character takes twice the room; and there are tags and sites.
const PURGE_BYTES: usize = 2 * MOST_BYTES + BODY_BYTES;
/// Each may write to the disk.
const PURGES: usize = 8;
/// Each holds a body in memory.
const FETCHES: usize = 8;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Accepting fails when descriptors run out, which trying again at once does not mend.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
