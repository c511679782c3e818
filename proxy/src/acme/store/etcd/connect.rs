//! Connections to the members of an etcd: TCP or TLS, HTTP/1.1. Files of certificates and passwords
//! are read for each new connection, so that new ones are used without a restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::gateway::Trouble;
use crate::tls;

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// As the operator wrote it.
    pub(super) url: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
}

/// By what both sides know each other.
#[derive(Debug, Clone, Default)]
pub(super) struct Trust {
    pub(super) roots: Option<PathBuf>,
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

/// A connection that takes one request after the other.
pub(super) type Connection = SendRequest<Full<Bytes>>;

impl Endpoint {
    /// `http://host:2379`, `https://[::1]:2379`.
    pub(super) fn parse(url: &str) -> Result<Self, Trouble> {
        let bad = || {
            Trouble::here(format!(
                "{url} is no address of an etcd; wanted http://HOST:PORT or https://HOST:PORT"
            ))
        };
        let uri: http::Uri = url.parse().map_err(|_| bad())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad()),
        };
        let host = uri.host().ok_or_else(bad)?;
        Ok(Self {
            url: url.trim_end_matches('/').into(),
            host: host.trim_matches(['[', ']']).into(),
            port: uri.port_u16().unwrap_or(2379),
            tls,
        })
    }

    /// The `Host` field.
    pub(super) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// A new connection.
    pub(super) async fn connect(&self, trust: &Trust) -> Result<Connection, Trouble> {
        let away = |what: &str, error: &dyn std::fmt::Display| {
            Trouble::away(format!("{what} {}: {error}", self.authority()))
        };
        let tcp = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| away("connecting to", &error))?;
        // A latency matter only.
        let _ = tcp.set_nodelay(true);
        if !self.tls {
            return open(tcp).await.map_err(|error| away("talking to", &error));
        }
        let config = trust.config().await?;
        let name =
            ServerName::try_from(self.host.clone()).map_err(|error| away("the name of", &error))?;
        let stream = TlsConnector::from(config)
            .connect(name, tcp)
            .await
            .map_err(|error| away("the TLS handshake with", &error))?;
        open(stream)
            .await
            .map_err(|error| away("talking to", &error))
    }
}

async fn open(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> hyper::Result<Connection> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // It ends when the sender is dropped; its error reaches the request that met it.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

impl Trust {
    async fn config(&self) -> Result<Arc<ClientConfig>, Trouble> {
        let trust = self.clone();
        let built = tokio::task::spawn_blocking(move || trust.build()).await;
        let built = built.unwrap_or_else(|error| Err(Trouble::here(error.to_string())));
        built.map(Arc::new)
    }

    fn build(&self) -> Result<ClientConfig, Trouble> {
        let here = |error: rustls::Error| Trouble::here(format!("setting up TLS: {error}"));
        let builder = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(here)?
            .with_root_certificates(self.root_store()?);
        let Some((cert, key)) = &self.identity else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = certificates(cert)?;
        // The error never holds any of the key.
        let key = PrivateKeyDer::from_pem_file(key).map_err(|_| {
            Trouble::here(format!(
                "{} holds no private key that can be read",
                key.display()
            ))
        })?;
        builder.with_client_auth_cert(chain, key).map_err(here)
    }

    fn root_store(&self) -> Result<RootCertStore, Trouble> {
        let mut store = RootCertStore::empty();
        match &self.roots {
            Some(path) => store.add_parsable_certificates(certificates(path)?),
            None => store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
        };
        match (store.is_empty(), &self.roots) {
            (false, _) => Ok(store),
            (true, Some(path)) => Err(Trouble::here(format!(
                "{} holds no authority that can be trusted",
                path.display()
            ))),
            (true, None) => Err(Trouble::here(
                "this system trusts no authority: install ca-certificates, or name `roots`".into(),
            )),
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<_, _>>);
    let read: Vec<_> =
        read.map_err(|error| Trouble::here(format!("reading {}: {error}", path.display())))?;
    match read.is_empty() {
        true => Err(Trouble::here(format!(
            "{} holds no certificate",
            path.display()
        ))),
        false => Ok(read),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (url, wanted) in [
            (
                "http://127.0.0.1:2379",
                Some(("127.0.0.1", 2379, false, "127.0.0.1:2379")),
            ),
            (
                "https://etcd.example",
                Some(("etcd.example", 2379, true, "etcd.example:2379")),
            ),
            ("https://[::1]:24/", Some(("::1", 24, true, "[::1]:24"))),
            ("127.0.0.1:2379", None),
            ("ftp://a:1", None),
            ("", None),
        ] {
            let found = Endpoint::parse(url).ok();
            let authority = found.as_ref().map(Endpoint::authority);
            let found = found.as_ref().map(|found| {
                (
                    found.host.as_str(),
                    found.port,
                    found.tls,
                    authority.as_deref().unwrap_or(""),
                )
            });
            assert_eq!(found, wanted, "{url}");
        }
    }
}
