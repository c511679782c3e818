//! An authority out of order, as no real one can be made to be: over real TLS, with any answer.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::client::{Body, whole};
use crate::lab::Lab;
use crate::pebble::{Identity, table};
use crate::port::free_address;

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It takes the connection and says nothing.
    Hangs,
    /// It is something else than an authority.
    Garbage,
    /// Every answer is this status.
    Status(u16),
    /// It limits, for so many seconds, once it is asked for an account.
    Limits(u64),
    /// Its directory is fine, and then it hangs.
    HangsLater,
    /// Its directory is fine, and nothing else is.
    GarbageLater,
}

/// A running one.
#[derive(Debug)]
pub struct BrokenCa {
    address: SocketAddr,
    roots: PathBuf,
    fault: Arc<Mutex<Fault>>,
    hits: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl BrokenCa {
    /// Starts one.
    pub async fn start(lab: &Lab, fault: Fault) -> Self {
        let identity = Identity::make(&lab.folder("broken-ca"));
        let address = free_address();
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let fault = Arc::new(Mutex::new(fault));
        let hits = Arc::new(AtomicUsize::new(0));
        let server = tokio::spawn(serve(
            listener,
            TlsAcceptor::from(Arc::new(config(&identity))),
            fault.clone(),
            hits.clone(),
        ));
        Self {
            address,
            roots: identity.ca,
            fault,
            hits,
            server,
        }
    }

    /// Its `[[acme]]` table.
    pub fn table(&self) -> String {
        table(self.address, &self.roots, "")
    }

    /// What is called its directory.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// How often it was asked for anything.
    pub fn hits(&self) -> usize {
        self.hits.load(Ordering::Relaxed)
    }

    /// Something else is wrong from now on.
    pub fn breaks(&self, fault: Fault) {
        *lock(&self.fault) = fault;
    }
}

impl Drop for BrokenCa {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(
    listener: TcpListener,
    tls: TlsAcceptor,
    fault: Arc<Mutex<Fault>>,
    hits: Arc<AtomicUsize>,
) {
    let address = listener.local_addr().expect("it is bound");
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (tls, fault, hits) = (tls.clone(), fault.clone(), hits.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let service = service_fn(move |request| {
                hits.fetch_add(1, Ordering::Relaxed);
                let fault = *lock(&fault);
                async move { Ok::<_, std::convert::Infallible>(answer(address, fault, request).await) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(address: SocketAddr, fault: Fault, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    let later = matches!(
        fault,
        Fault::Limits(_) | Fault::HangsLater | Fault::GarbageLater
    );
    if later && path == "/dir" {
        let at = |path: &str| format!("https://{address}/{path}");
        let directory = json!({
            "newNonce": at("nonce"), "newAccount": at("account"), "newOrder": at("order"),
            "revokeCert": at("revoke"), "keyChange": at("key"), "meta": {},
        });
        return reply(200, "application/json", directory.to_string());
    }
    if later && path == "/nonce" {
        return reply(200, "text/plain", String::new());
    }
    match fault {
        Fault::Hangs | Fault::HangsLater => std::future::pending().await,
        Fault::Garbage | Fault::GarbageLater => reply(
            200,
            "text/html",
            "<!doctype html><h1>Welcome</h1>".repeat(1000),
        ),
        Fault::Status(status) => reply(status, "text/plain", "out of order".to_owned()),
        Fault::Limits(seconds) => {
            let problem = json!({
                "type": "urn:ietf:params:acme:error:rateLimited",
                "detail": "too many of everything", "status": 429,
            });
            let mut limited = reply(429, "application/problem+json", problem.to_string());
            let fields = limited.headers_mut();
            fields.insert("retry-after", seconds.into());
            limited
        }
    }
}

fn reply(status: u16, kind: &'static str, text: String) -> Response<Body> {
    Response::builder()
        .status(status)
        .header("content-type", kind)
        .header("replay-nonce", "bm9uY2Utb2YtYS1icm9rZW4tY2E")
        .body(whole(text))
        .expect("a response")
}

fn config(identity: &Identity) -> ServerConfig {
    let chain = CertificateDer::pem_file_iter(&identity.cert)
        .expect("it was written")
        .collect::<Result<_, _>>()
        .expect("PEM");
    let key = PrivateKeyDer::from_pem_file(&identity.key).expect("PEM");
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("the key is that of the certificate")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
