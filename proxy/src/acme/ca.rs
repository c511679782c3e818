//! One authority: its directory, its account, its renewal information, and whether it is left alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use sovereign_config::model;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::clock::Clock;
use super::failure::{Failure, Outcome};
use super::http::{self, Session};
use super::jws;
use super::store::Store;
use super::trust::{self, HttpError};
use super::when::{self, Window};
use crate::tls::kept::Facts;

/// An authority.
pub(super) struct Ca {
    pub config: model::Ca,
    /// The host of its directory, with the port where it is not 443.
    pub name: String,
    pub store: Arc<dyn Store>,
    /// Its terms were agreed to by a word.
    agreed: AtomicBool,
    /// One account is made at a time.
    pub account: tokio::sync::Mutex<()>,
    clock: Arc<Clock>,
    /// Where the system says whom to trust.
    tls: OnceCell<Arc<ClientConfig>>,
    rest: Mutex<Rest>,
    terms: Mutex<Option<String>>,
}

/// How long it is left alone, and why.
#[derive(Debug, Clone, Default)]
pub(super) struct Rest {
    pub until: Option<Instant>,
    pub text: Option<String>,
    failures: u32,
}

/// What it offers (RFC 8555 section 7.1.1).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Directory {
    pub new_nonce: String,
    pub new_account: String,
    pub renewal_info: Option<String>,
    #[serde(default)]
    pub meta: Meta,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Meta {
    pub terms_of_service: Option<String>,
    #[serde(default)]
    pub profiles: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    pub external_account_required: bool,
}

/// When it wants a certificate renewed.
#[derive(Debug, Clone)]
pub(super) struct Renewal {
    pub window: Window,
    /// Where it says why.
    pub explanation: Option<String>,
    /// How long until it is asked again.
    pub again: Duration,
}

impl Ca {
    pub fn new(config: model::Ca, store: Arc<dyn Store>, clock: Arc<Clock>) -> Self {
        Self {
            name: name(&config.directory),
            config,
            store,
            clock,
            agreed: AtomicBool::new(false),
            account: tokio::sync::Mutex::default(),
            tls: OnceCell::new(),
            rest: Mutex::default(),
            terms: Mutex::default(),
        }
    }

    /// Where a dry run asks; `None`: it has no such place.
    pub fn staging(&self) -> Option<Self> {
        let config = model::Ca {
            directory: self.config.staging.clone()?,
            staging: None,
            ..self.config.clone()
        };
        let staging = Self::new(config, self.store.clone(), self.clock.clone());
        staging.set_agreed(self.agreed.load(Ordering::Relaxed));
        Some(staging)
    }

    /// Whether its terms are agreed to, in the configuration or by a word.
    pub fn is_agreed(&self) -> bool {
        self.config.agreed || self.agreed.load(Ordering::Relaxed)
    }

    /// Whether its terms were agreed to by a word: what lies on disk is not read again for each look.
    pub fn set_agreed(&self, agreed: bool) {
        self.agreed.store(agreed, Ordering::Relaxed);
    }

    /// Whether it sees names as the world does.
    pub fn is_public(&self) -> bool {
        !self.config.agreed || self.name.ends_with(".letsencrypt.org")
    }

    /// Where its terms lie, once it has said so.
    pub fn terms(&self) -> Option<String> {
        self.terms.lock().clone()
    }

    /// Asks it what it offers; the session goes on from there.
    pub async fn open(&self) -> Result<(Session, Directory), Failure> {
        let session = Session::new(self.tls().await?, self.clock.clone());
        let url = &self.config.directory;
        let step = "asking for its directory";
        let answer = session.get(url).await;
        let answer = answer.map_err(|error| Failure::of_http(&error, step))?;
        let status = answer.status().as_u16();
        let directory = (status == 200)
            .then(|| serde_json::from_slice::<Directory>(answer.body()).ok())
            .flatten();
        let Some(directory) = directory else {
            let mut failure = Failure::of_status(status, step);
            failure.retry_after = session.last().retry_after;
            return Err(failure);
        };
        self.terms
            .lock()
            .clone_from(&directory.meta.terms_of_service);
        session.remember_directory(url, answer.into_body());
        Ok((session, directory))
    }

    /// Whom its server is trusted by. The operator's file is read each time: it may have been replaced.
    async fn tls(&self) -> Result<Arc<ClientConfig>, Failure> {
        let read = || self.read_roots(trust::trust);
        match self.config.roots.is_some() {
            true => read().await,
            false => Ok(self.tls.get_or_try_init(read).await?.clone()),
        }
    }

    /// Whom visitors may trust to have signed what it issues.
    pub async fn signers(&self) -> Result<RootCertStore, Failure> {
        self.read_roots(trust::signers).await
    }

    async fn read_roots<T: Send + 'static>(
        &self,
        read: fn(Option<&Path>) -> Result<T, HttpError>,
    ) -> Result<T, Failure> {
        let roots = self.config.roots.clone();
        let read = tokio::task::spawn_blocking(move || read(roots.as_deref())).await;
        let read = read.map_err(|error| Failure::new(Outcome::Ours, error.to_string()))?;
        read.map_err(|error| Failure::of_http(&error, "reading its roots"))
    }

    /// When it wants a certificate renewed (RFC 9773). `None`: it does not say.
    pub async fn renewal(&self, facts: &Facts) -> Result<Option<Renewal>, Failure> {
        let (session, directory) = self.open().await?;
        let (Some(url), Some(id)) = (directory.renewal_info, renewal_id(facts)) else {
            return Ok(None);
        };
        let step = "asking when to renew";
        let answer = session.get(&format!("{url}/{id}")).await;
        let answer = answer.map_err(|error| Failure::of_http(&error, step))?;
        let status = answer.status().as_u16();
        if status == 404 {
            return Ok(None);
        }
        let again = when::look_again(session.last().retry_after);
        let read = (status == 200).then(|| window(answer.body())).flatten();
        let (window, explanation) = read.ok_or_else(|| Failure::of_status(status, step))?;
        Ok(Some(Renewal {
            window,
            explanation,
            again,
        }))
    }

    /// Until when it is left alone, and why.
    pub fn rest(&self) -> Rest {
        let rest = self.rest.lock().clone();
        match rest.until {
            Some(until) if until > Instant::now() => rest,
            _ => Rest::default(),
        }
    }

    /// It did something for us.
    pub fn worked(&self) {
        *self.rest.lock() = Rest::default();
    }

    /// It is left alone for a while, where it is out of order for all certificates alike.
    pub fn failed(&self, failure: &Failure) {
        let limited = failure.outcome == Outcome::Limited;
        if !limited && !failure.outcome.is_the_authoritys() {
            return;
        }
        let mut rest = self.rest.lock();
        let now = Instant::now();
        // Orders that were under way together count once.
        if rest.until.is_some_and(|until| until > now) {
            return;
        }
        rest.failures += 1;
        rest.text = Some(failure.text.clone());
        let asked = failure.retry_after;
        // A limit may be one name's alone; its own certificate waits for all of it.
        let asked = asked.map(|asked| if limited { asked.min(LIMITED) } else { asked });
        let failures = if limited { 1 } else { rest.failures };
        let wait = when::backoff(when::FIRST_OF_AUTHORITY, failures, asked, when::throw());
        rest.until = Some(now + wait);
    }

    /// Forgets what went wrong: the operator wants it asked now.
    pub fn forgive(&self) {
        self.rest.lock().until = None;
    }
}

/// How an authority is called in messages, metrics and the names of files.
pub(super) fn name(directory: &str) -> String {
    let url: Option<::http::Uri> = directory.parse().ok();
    let parts = url.as_ref().and_then(|url| http::authority(url).ok());
    match parts {
        Some((host, 443)) => host,
        Some((host, port)) => format!("{host}:{port}"),
        None => directory.to_owned(),
    }
}

/// What a certificate is called in renewal information (RFC 9773 section 4.1).
pub(super) fn renewal_id(facts: &Facts) -> Option<String> {
    let (key, serial) = (&facts.authority_key_id, &facts.serial);
    let whole = !key.is_empty() && !serial.is_empty();
    whole.then(|| format!("{}.{}", jws::base64(key), jws::base64(serial)))
}

/// The window of a renewal information object (RFC 9773 section 4.2), and where it is explained.
fn window(body: &[u8]) -> Option<(Window, Option<String>)> {
    #[derive(Deserialize)]
    struct Info {
        #[serde(rename = "suggestedWindow")]
        window: Bounds,
        #[serde(rename = "explanationURL")]
        explanation: Option<String>,
    }
    #[derive(Deserialize)]
    struct Bounds {
        start: String,
        end: String,
    }
    let info: Info = serde_json::from_slice(body).ok()?;
    let time = |text: &str| {
        OffsetDateTime::parse(text, &Rfc3339)
            .ok()
            .map(SystemTime::from)
    };
    let window = Window {
        start: time(&info.window.start)?,
        end: time(&info.window.end)?,
    };
    let web = |url: &String| url.starts_with("https://") || url.starts_with("http://");
    let explanation = info.explanation.filter(|url| url.len() < 1000 && web(url));
    // RFC 9773 section 4.2: a window that ends before it starts is no window.
    (window.start < window.end).then_some((window, explanation))
}

const LIMITED: Duration = Duration::from_secs(10 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_read_or_refused() {
        let read = |text: &str| window(text.as_bytes());
        let good = r#"{"suggestedWindow":{"start":"2025-01-02T04:00:00Z","end":"2025-01-03T04:00:00Z"},"explanationURL":"https://ca.example/why"}"#;
        let (window, why) = read(good).expect("a window");
        let width = window.end.duration_since(window.start);
        assert_eq!(width.ok(), Some(Duration::from_secs(24 * 60 * 60)));
        assert_eq!(why.as_deref(), Some("https://ca.example/why"));
        let script = good.replace("https:", "javascript:");
        assert_eq!(read(&script).map(|(_, why)| why), Some(None));
        assert!(read(&good.replace("-03T", "-01T")).is_none(), "upside down");
        assert!(read("{}").is_none() && read("<html>").is_none());
    }

    /// A new root was seen at the next start only.
    #[tokio::test]
    async fn a_file_of_roots_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let roots = folder.path().join("roots.pem");
        let signed = rcgen::generate_simple_self_signed(vec!["ca.example".to_owned()]);
        std::fs::write(&roots, signed.expect("signed").cert.pem()).expect("written");
        let store = crate::acme::store::open(folder.path(), None);
        let config = model::Ca {
            directory: "https://127.0.0.1:1/directory".to_owned(),
            roots: Some(roots.clone()),
            staging: None,
            profile: None,
            eab: None,
            agreed: true,
        };
        let ca = Ca::new(config, store.await.expect("opens"), Arc::new(Clock::new()));
        ca.tls().await.expect("a root");
        std::fs::write(&roots, "damaged").expect("written");
        assert!(ca.tls().await.is_err());
    }

    #[test]
    fn an_authority_is_called_by_its_host() {
        assert_eq!(name("https://ca.example/directory"), "ca.example");
        assert_eq!(name("https://127.0.0.1:14000/dir"), "127.0.0.1:14000");
        assert_eq!(name("nonsense"), "nonsense");
    }
}
