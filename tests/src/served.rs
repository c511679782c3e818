//! Which certificate a server shows, whoever signed it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The certificate.
    pub der: Vec<u8>,
    /// How many were sent, with it.
    pub chain: usize,
    /// Who signed it.
    pub issuer: String,
    /// Its number, in hexadecimal digits.
    pub serial: String,
    /// What it is for: names, and addresses as text.
    pub names: Vec<String>,
    /// Its key is RSA.
    pub rsa: bool,
    /// Its key.
    pub key: Vec<u8>,
    /// From when and until when it is valid, in seconds since 1970.
    pub valid: (i64, i64),
}

impl Served {
    /// Reads a certificate.
    pub fn read(der: &[u8], chain: usize) -> Self {
        let (_, certificate) = X509Certificate::from_der(der).expect("a certificate");
        let names = certificate
            .subject_alternative_name()
            .ok()
            .flatten()
            .map(|names| names.value.general_names.iter().filter_map(name).collect());
        let key = certificate.public_key();
        Self {
            der: der.to_vec(),
            chain,
            issuer: certificate.issuer().to_string(),
            serial: certificate
                .raw_serial()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            names: names.unwrap_or_default(),
            rsa: key.algorithm.algorithm.to_id_string() == "1.2.840.113549.1.1.1",
            key: key.raw.to_vec(),
            valid: (
                certificate.validity().not_before.timestamp(),
                certificate.validity().not_after.timestamp(),
            ),
        }
    }

    /// Reads the first certificate of a PEM file.
    pub fn of_file(path: &Path) -> Self {
        let chain: Vec<_> = CertificateDer::pem_file_iter(path)
            .expect("it was written")
            .collect::<Result<_, _>>()
            .expect("PEM");
        Self::read(&chain[0], chain.len())
    }

    /// As PEM.
    pub fn pem(&self) -> String {
        let text = BASE64_STANDARD.encode(&self.der);
        let lines: Vec<_> = text
            .as_bytes()
            .chunks(64)
            .map(String::from_utf8_lossy)
            .collect();
        let lines = lines.join("\n");
        format!("-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n")
    }

    /// Whether pebble issued it.
    pub fn is_pebbles(&self) -> bool {
        self.issuer.contains("Pebble")
    }
}

/// What a server shows to those who ask for `host`.
pub async fn served(address: SocketAddr, host: &str) -> Result<Served, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    let handshake = async {
        let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
        let tcp = TcpStream::connect(address).await?;
        TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
    };
    let tls = tokio::time::timeout(PATIENCE, handshake)
        .await
        .map_err(|_| format!("{host}: no handshake within {PATIENCE:?}"))?
        .map_err(|error| format!("{host}: {error}"))?;
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
    let first = chain.first().ok_or(format!("{host}: no certificate"))?;
    Ok(Served::read(first, chain.len()))
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => Some(std::net::IpAddr::from(<[u8; 4]>::try_from(*bytes).ok()?).to_string()),
            _ => Some(std::net::IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
        },
        _ => None,
    }
}

/// Takes any certificate, as long as the server has its key. Not the daemon's `tls::Anybody`: the harness looks at
/// the daemon from outside, and is not built anew whenever that changes.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
