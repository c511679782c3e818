//! Origins inside the test: well-behaved ones whose answers a closure gives, and scripted ones that
//! do with a connection what no real server can be made to do.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::client::Body;
use crate::port::free_address;

/// A request as an origin saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its method.
    pub method: Method,
    /// Its path and query.
    pub path: String,
    /// Its fields.
    pub headers: HeaderMap,
    /// The protocol it came in.
    pub version: http::Version,
}

impl Seen {
    /// A field's value, or the empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap_or("(not text)"))
    }
}

type Serve = dyn Fn(TcpStream, usize) -> JoinHandle<()> + Send + Sync;

/// An origin; it ends with its guard.
pub struct Origin {
    address: SocketAddr,
    scheme: &'static str,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<Mutex<usize>>,
    serve: Arc<Serve>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl Origin {
    /// An HTTP/1.1 origin that answers what `handler` says.
    pub async fn start<F>(handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::serving("http", handler).await
    }

    /// The same at an address that is the session's own. Ports below 1024 take root.
    pub async fn at<F>(
        address: SocketAddr,
        handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let (seen, serve) = Self::server("http", handler);
        Self::with(address, "http", seen, serve).await
    }

    /// The same in HTTP/2 without TLS.
    pub async fn h2c<F>(handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::serving("h2c", handler).await
    }

    /// An origin that does with its nth connection (from 0) what `script` says.
    pub async fn raw<F>(script: impl Fn(TcpStream, usize) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let serve = move |stream, number| tokio::spawn(script(stream, number));
        Self::with(free_address(), "http", Arc::default(), Arc::new(serve)).await
    }

    /// An origin that reads the head of a request, answers these bytes, and closes.
    pub async fn saying(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = Arc::new(bytes.into());
        Self::raw(move |mut stream, _| {
            let bytes = bytes.clone();
            async move {
                read_head(&mut stream).await;
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
            }
        })
        .await
    }

    async fn serving<F>(
        scheme: &'static str,
        handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let (seen, serve) = Self::server(scheme, handler);
        Self::with(free_address(), scheme, seen, serve).await
    }

    fn server<F>(
        scheme: &'static str,
        handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    ) -> (Arc<Mutex<Vec<Seen>>>, Arc<Serve>)
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = seen.clone();
        let serve = move |stream: TcpStream, _| {
            let (handler, record) = (handler.clone(), record.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                lock(&record).push(Seen {
                    method: request.method().clone(),
                    path: request
                        .uri()
                        .path_and_query()
                        .map_or(String::new(), ToString::to_string),
                    headers: request.headers().clone(),
                    version: request.version(),
                });
                let answer = handler(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let io = TokioIo::new(stream);
                // A client that goes away is no concern of the origin's.
                if scheme == "h2c" {
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(io, service).await;
                } else {
                    let server = hyper::server::conn::http1::Builder::new();
                    let _ = server.serve_connection(io, service).with_upgrades().await;
                }
            })
        };
        (seen, Arc::new(serve))
    }

    async fn with(
        address: SocketAddr,
        scheme: &'static str,
        seen: Arc<Mutex<Vec<Seen>>>,
        serve: Arc<Serve>,
    ) -> Self {
        let origin = Self {
            address,
            scheme,
            seen,
            connections: Arc::default(),
            serve,
            listening: Mutex::new(None),
        };
        origin.up().await;
        origin
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address, as an upstream is written.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// How many requests it has seen.
    pub fn hits(&self) -> usize {
        lock(&self.seen).len()
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        *lock(&self.connections)
    }

    /// The requests it has seen.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }

    /// The latest request it has seen.
    pub fn last(&self) -> Seen {
        lock(&self.seen)
            .last()
            .cloned()
            .expect("the origin has seen a request")
    }

    /// Stops listening and cuts every connection.
    pub async fn down(&self) {
        let listening = lock(&self.listening).take();
        if let Some(task) = listening {
            task.abort();
            let _ = task.await;
        }
    }

    /// Listens again, where it listened before.
    pub async fn up(&self) {
        let listener = TcpListener::bind(self.address)
            .await
            .unwrap_or_else(|error| panic!("the origin cannot listen: {error}"));
        let (serve, connections) = (self.serve.clone(), self.connections.clone());
        let task = tokio::spawn(async move {
            // Dropped with this task, and every connection with it.
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = {
                    let mut count = lock(&connections);
                    *count += 1;
                    *count - 1
                };
                let connection = AbortOnDrop(serve(stream, number));
                open.spawn(connection.done());
                while open.try_join_next().is_some() {}
            }
        });
        *lock(&self.listening) = Some(task);
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.listening).take() {
            task.abort();
        }
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl AbortOnDrop {
    async fn done(mut self) {
        let _ = (&mut self.0).await;
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer with fields.
pub fn reply<const N: usize>(
    status: u16,
    fields: [(&'static str, &str); N],
    body: Body,
) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    for (name, value) in fields {
        response.headers_mut().append(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).expect("a field's value"),
        );
    }
    response
}

/// Reads to the end of a request's head, and gives what was read.
pub async fn read_head(stream: &mut TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    let mut buffer = [0; 4096];
    while !got.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => got.extend_from_slice(&buffer[..count]),
        }
    }
    got
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
