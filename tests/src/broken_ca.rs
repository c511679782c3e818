//! An authority out of order, as no real one can be made to be: over real TLS, with any answer, or with
//! certificates that are not what was asked for.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::client::{Body, whole};
use crate::faketime;
use crate::lab::{Lab, system_program};
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
    /// It issues at once to whoever asks, and what it issues is wrong.
    Issues(Wrong),
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// Nothing.
    Nothing,
    /// It is for `other.example`.
    Name,
    /// It is for the key of the first order.
    Key,
    /// It lapsed ten days ago.
    Lapsed,
    /// It begins in ten days.
    Early,
    /// What follows it did not sign it.
    Chain,
    /// Nothing follows it, and what signed it is no root.
    Bare,
}

/// A running one.
#[derive(Debug)]
pub struct BrokenCa {
    desk: Arc<Desk>,
    server: JoinHandle<()>,
}

/// What answers.
#[derive(Debug)]
struct Desk {
    address: SocketAddr,
    identity: Identity,
    /// Where requests for certificates lie, and what was issued.
    folder: PathBuf,
    fault: Mutex<Fault>,
    hits: AtomicUsize,
    orders: AtomicUsize,
}

impl BrokenCa {
    /// Starts one.
    pub async fn start(lab: &Lab, fault: Fault) -> Self {
        let folder = lab.folder("broken-ca");
        let identity = Identity::make(&folder);
        let address = free_address();
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let tls = TlsAcceptor::from(Arc::new(config(&identity)));
        let desk = Arc::new(Desk {
            address,
            identity,
            folder,
            fault: Mutex::new(fault),
            hits: AtomicUsize::new(0),
            orders: AtomicUsize::new(0),
        });
        let server = tokio::spawn(serve(listener, tls, desk.clone()));
        Self { desk, server }
    }

    /// Its `[[acme]]` table.
    pub fn table(&self) -> String {
        table(self.desk.address, &self.desk.identity.ca, "")
    }

    /// What is called its directory.
    pub fn directory(&self) -> String {
        self.desk.at("dir")
    }

    /// The certificate that vouches for its server, and signs what it issues.
    pub fn root(&self) -> &Path {
        &self.desk.identity.ca
    }

    /// How often it was asked for anything.
    pub fn hits(&self) -> usize {
        self.desk.hits.load(Ordering::Relaxed)
    }

    /// Something else is wrong from now on.
    pub fn breaks(&self, fault: Fault) {
        *lock(&self.desk.fault) = fault;
    }
}

impl Drop for BrokenCa {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, desk: Arc<Desk>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (tls, desk) = (tls.clone(), desk.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let service = service_fn(move |request| {
                desk.hits.fetch_add(1, Ordering::Relaxed);
                let desk = desk.clone();
                async move { Ok::<_, std::convert::Infallible>(desk.answer(request).await) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl Desk {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let fault = *lock(&self.fault);
        let path = request.uri().path();
        let later = matches!(
            fault,
            Fault::Limits(_) | Fault::HangsLater | Fault::GarbageLater | Fault::Issues(_)
        );
        if later && path == "/dir" {
            let directory = json!({
                "newNonce": self.at("nonce"), "newAccount": self.at("account"),
                "newOrder": self.at("order"), "revokeCert": self.at("revoke"),
                "keyChange": self.at("key"), "meta": {},
            });
            return json_reply(200, &directory);
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
            Fault::Issues(wrong) => self.serve_order(wrong, request).await,
        }
    }

    /// Goes through an order in which nothing has to be proved. Signatures are not looked at.
    async fn serve_order(&self, wrong: Wrong, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().trim_start_matches('/').to_owned();
        let (step, number) = path.split_once('/').unwrap_or((&path, "0"));
        match step {
            "account" => self.made("account/0", &json!({ "status": "valid" })),
            "order" => {
                let number = self.orders.fetch_add(1, Ordering::Relaxed).to_string();
                self.made(&format!("order/{number}"), &self.order("ready", &number))
            }
            "finalize" => {
                let csr = csr(request).await;
                std::fs::write(self.file(number, "csr"), csr).expect("the folder is ours");
                self.issue(wrong, number).await;
                json_reply(200, &self.order("valid", number))
            }
            "certificate" => {
                let pem = std::fs::read_to_string(self.file(number, "pem"));
                let kind = "application/pem-certificate-chain";
                reply(200, kind, pem.expect("it was issued"))
            }
            _ => reply(404, "text/plain", "no such step".to_owned()),
        }
    }

    fn order(&self, status: &str, number: &str) -> Value {
        json!({
            "status": status, "authorizations": [],
            "finalize": self.at(&format!("finalize/{number}")),
            "certificate": self.at(&format!("certificate/{number}")),
        })
    }

    fn made(&self, path: &str, what: &Value) -> Response<Body> {
        let mut made = json_reply(201, what);
        let location = self.at(path).parse().expect("a URL");
        made.headers_mut().insert("location", location);
        made
    }

    /// Signs what an order asked for, or something else.
    async fn issue(&self, wrong: Wrong, number: &str) {
        let ca = match wrong {
            Wrong::Bare => self.stranger(),
            _ => self.identity.ca.clone(),
        };
        let asked = if wrong == Wrong::Key { "0" } else { number };
        let begins = match wrong {
            Wrong::Lapsed => "-40d",
            Wrong::Early => "+10d",
            _ => "-1d",
        };
        let mut command = Command::new(system_program("openssl"));
        command
            .args(["x509", "-req", "-inform", "DER", "-days", "30", "-in"])
            .arg(self.file(asked, "csr"))
            .args(["-CA".as_ref(), ca.as_os_str(), "-CAkey".as_ref()])
            .arg(ca.with_file_name("ca-key.pem"))
            .envs(faketime::environment(begins));
        if wrong == Wrong::Name {
            let names = self.file(number, "names");
            std::fs::write(&names, "subjectAltName=DNS:other.example\n")
                .expect("the folder is ours");
            command.arg("-extfile").arg(names);
        } else {
            command.args(["-copy_extensions", "copy"]);
        }
        let output = command.output().await.expect("openssl starts");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        let read = |path: &Path| std::fs::read(path).expect("it was made");
        let next = match wrong {
            Wrong::Chain => read(&self.identity.cert),
            Wrong::Bare => Vec::new(),
            _ => read(&ca),
        };
        let chain = [output.stdout, next].concat();
        std::fs::write(self.file(number, "pem"), chain).expect("the folder is ours");
    }

    /// The certificate of an authority of the same name, which nobody knows.
    fn stranger(&self) -> PathBuf {
        let folder = self.folder.join("stranger");
        std::fs::create_dir_all(&folder).expect("the folder is ours");
        Identity::make(&folder).ca
    }

    fn file(&self, number: &str, kind: &str) -> PathBuf {
        self.folder.join(format!("{number}.{kind}"))
    }

    fn at(&self, path: &str) -> String {
        format!("https://{}/{path}", self.address)
    }
}

/// The request for a certificate in what finalizes an order (RFC 8555 section 7.4).
async fn csr(request: Request<Incoming>) -> Vec<u8> {
    let decode = |text: &Value| {
        let text = text.as_str().expect("a text");
        BASE64_URL_SAFE_NO_PAD.decode(text).expect("base64url")
    };
    let body = request.into_body().collect().await.expect("a whole body");
    let signed: Value = serde_json::from_slice(&body.to_bytes()).expect("JSON");
    let payload: Value = serde_json::from_slice(&decode(&signed["payload"])).expect("JSON");
    decode(&payload["csr"])
}

fn json_reply(status: u16, value: &Value) -> Response<Body> {
    reply(status, "application/json", value.to_string())
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
