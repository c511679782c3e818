//! What the benchmarks have in common: the whole daemon in this process, and a client that speaks
//! to it over a socket, so that what is measured is the handler that ships.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use sovereign_proxy::app::App;
use sovereign_proxy::handover::Handover;
use sovereign_proxy::tls;
use tokio::net::{TcpListener, TcpStream};

/// The daemon with one plain-HTTP site over an origin in this process.
pub struct Bench {
    _app: Arc<App>,
    _state: tempfile::TempDir,
    address: SocketAddr,
    /// Requests that reached the origin.
    pub origin_requests: Arc<AtomicU64>,
}

/// One kept connection to the daemon.
pub struct Client(SendRequest<Empty<Bytes>>);

impl Bench {
    /// Starts both.
    pub async fn start() -> anyhow::Result<Self> {
        tls::install();
        let (origin, origin_requests) = origin().await?;
        let state = tempfile::tempdir()?;
        let text = format!(
            "state = \"{}\"\n[listen]\nhttp = \"127.0.0.1:0\"\n[log]\naccess = \"off\"\nlevel = \"error\"\n\
             [[site]]\nnames = [\"bench.test\"]\ntls = \"off\"\nupstream = \"http://{origin}\"\n",
            state.path().display()
        );
        let config = sovereign_config::parse("bench.toml", &text, state.path())?;
        let (app, bound) = App::build(None, config, Vec::new(), Handover::default()).await?;
        Ok(Self {
            _app: app,
            _state: state,
            address: *bound.http.first().context("no address was bound")?,
            origin_requests,
        })
    }

    /// Opens a connection.
    pub async fn client(&self) -> anyhow::Result<Client> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // It ends with the client.
        tokio::spawn(connection);
        Ok(Client(sender))
    }
}

impl Client {
    /// Asks for a path and reads the whole answer; gives its status and its `Cache-Status`.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<(StatusCode, String)> {
        let request = Request::get(path)
            .header("host", "bench.test")
            .body(Empty::new())?;
        self.0.ready().await?;
        let response = self.0.send_request(request).await?;
        let status = response.status();
        let word = response
            .headers()
            .get("cache-status")
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .unwrap_or_default();
        response.into_body().collect().await?;
        Ok((status, word))
    }
}

/// An origin that answers `/fresh/...` for an hour, `/stale/...` with an ETag and nothing else to
/// go by, and counts what it is asked.
async fn origin() -> anyhow::Result<(SocketAddr, Arc<AtomicU64>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let requests = Arc::new(AtomicU64::new(0));
    let counted = requests.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let counted = counted.clone();
            let service = hyper::service::service_fn(move |request: Request<_>| {
                counted.fetch_add(1, Ordering::Relaxed);
                async move { answer(&request) }
            });
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    Ok((address, requests))
}

fn answer(request: &Request<hyper::body::Incoming>) -> hyper::http::Result<Response<Full<Bytes>>> {
    let response = Response::builder().header("content-type", "text/html; charset=utf-8");
    if request.uri().path().starts_with("/fresh/") {
        return response
            .header("cache-control", "max-age=3600")
            .body(Full::new(Bytes::from_static(&[b'x'; 1024])));
    }
    let response = response
        .header("cache-control", "no-cache")
        .header("etag", "\"same\"");
    if request.headers().contains_key("if-none-match") {
        return response
            .status(StatusCode::NOT_MODIFIED)
            .body(Full::default());
    }
    response.body(Full::new(Bytes::from_static(&[b'x'; 1024])))
}
